/** Ethereum addresses as text, with the checksum of EIP-55 in their capitals. */
import { fromHex, keccak, shorten, toHex, utf8 } from "./bytes.js";
import { Malformed } from "./malformed.js";

/** @type {Map<string, string>} */
const known = new Map();
const REMEMBERED = 4096;

/** @param {Uint8Array} bytes 20 of them. @returns {string} 0x and 40 digits (EIP-55). */
export function toAddress(bytes) {
  const digits = toHex(bytes);
  const before = known.get(digits);
  if (before !== undefined) return before;
  const checksum = toHex(keccak(utf8(digits)));
  let text = "0x";
  for (let at = 0; at < 40; at++) {
    text += checksum[at] >= "8" ? digits[at].toUpperCase() : digits[at];
  }
  if (known.size >= REMEMBERED) known.clear();
  known.set(digits, text);
  return text;
}

/** @param {string} address @returns {Uint8Array} 20 bytes. */
export const addressBytes = (address) => fromHex(address.slice(2).toLowerCase(), 20, "address");

/**
 * Take an address in the one form that files have.
 * @param {unknown} text
 * @param {string} subject
 * @returns {string}
 */
export function readAddress(text, subject) {
  const isShaped = typeof text === "string" && /^0x[0-9a-fA-F]{40}$/.test(text);
  if (!isShaped || toAddress(addressBytes(text)) !== text) {
    throw new Malformed(subject, "a checksummed address (EIP-55)", shorten(text));
  }
  return text;
}

/**
 * Take an address that a person typed: in one case, or checksummed.
 * @param {string} text
 * @returns {string}
 */
export function typedAddress(text) {
  if (!/^0x[0-9a-fA-F]{40}$/.test(text)) {
    throw new Malformed("address", "0x and 40 hexadecimal digits", shorten(text));
  }
  const digits = text.slice(2);
  const isMixed = digits !== digits.toLowerCase() && digits !== digits.toUpperCase();
  const address = toAddress(addressBytes(text));
  if (isMixed && address !== text) {
    throw new Malformed("address", `${address}, if no digit is mistyped`, text);
  }
  return address;
}

/** Order addresses by value: their capitals are only a checksum. */
export function byAddress(one, two) {
  const [left, right] = [one.toLowerCase(), two.toLowerCase()];
  return left < right ? -1 : Number(left > right);
}
