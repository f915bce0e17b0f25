/** What the reader knows of a federation from elsewhere, as typed, and remembered here alone. */
import { typedAddress } from "./addresses.js";
import { Malformed } from "./malformed.js";

const KEY = "fedwitness.known";
const MAX_WITNESSES = 32;

/**
 * Read what was typed.
 * @param {{chainId: string, ledger: string, witnesses: string}} typed
 * @returns {import("./checks.js").Known}
 */
export function readKnown({ chainId, ledger, witnesses }) {
  const known = {};
  if (chainId.trim() !== "") {
    if (!/^[1-9][0-9]{0,76}$/.test(chainId.trim())) {
      throw new Malformed("chain", "its number, such as 1", chainId.trim());
    }
    known.chainId = chainId.trim();
  }
  if (ledger.trim() !== "") known.ledger = typedAddress(ledger.trim());
  const names = witnesses.split(/[\s,;]+/).filter((name) => name !== "");
  if (names.length > MAX_WITNESSES) {
    throw new Malformed("witnesses", `at most ${MAX_WITNESSES}`, `${names.length}`);
  }
  if (names.length > 0) known.witnesses = [...new Set(names.map(typedAddress))];
  return known;
}

/** @param {{chainId: string, ledger: string, witnesses: string}} typed */
export function remember(typed) {
  try {
    localStorage.setItem(KEY, JSON.stringify(typed));
    return true;
  } catch {
    return false; // a browser that keeps nothing
  }
}

/** @returns {{chainId: string, ledger: string, witnesses: string}} */
export function remembered() {
  const typed = { chainId: "", ledger: "", witnesses: "" };
  try {
    const kept = JSON.parse(localStorage.getItem(KEY) ?? "{}");
    for (const name of Object.keys(typed)) {
      if (typeof kept[name] === "string") typed[name] = kept[name];
    }
  } catch {
    // What cannot be read counts as nothing.
  }
  return typed;
}

/** @param {string} text @returns {string} A model's digest, 64 lower-case digits. */
export function readModel(text) {
  const found = /^(?:0x)?([0-9a-fA-F]{64})$/.exec(text.trim());
  if (found === null)
    throw new Malformed("model", "its digest: 64 hexadecimal digits", text.trim());
  return found[1].toLowerCase();
}
