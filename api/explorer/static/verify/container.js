/** The file form of a bundle: see docs/protocol.md, section 14. */
import { byAddress, readAddress } from "./addresses.js";
import { fromHex, isEqual, sha256, shorten, toHex, utf8 } from "./bytes.js";
import { Malformed } from "./malformed.js";

const MAGIC = utf8("FWBUNDL1");
const DIGEST_BYTES = 32;
const MAX_HEADER = 1024 * 1024;
const MAX_COSIGNATURES = 32;
const MAX_PARTS = 16_384;
/** A browser holds the file in memory. */
export const MAX_FILE = 1024 * 1024 * 1024;

/**
 * @typedef {object} Head The ledger's head that witnesses sign (protocol 13).
 * @property {number} round
 * @property {number} number Of the block.
 * @property {string} hash Of the block.
 * @property {number} blocks How many blocks hold logs of the federation.
 * @property {string} history
 *
 * @typedef {object} Part
 * @property {string} name
 * @property {string} sha256
 * @property {Uint8Array} bytes
 *
 * @typedef {object} Bundle
 * @property {bigint} chainId
 * @property {string} ledger
 * @property {string} participants
 * @property {string} datasets
 * @property {string} model The model that the bundle is about.
 * @property {"light" | "full"} mode
 * @property {Head} head
 * @property {{witness: string, signature: Uint8Array}[]} cosignatures
 * @property {Part[]} parts
 */

/**
 * Read a bundle.
 * @param {Uint8Array} file
 * @returns {Bundle} Its parts have the digests that the header gives.
 */
export function readBundle(file) {
  if (file.length > MAX_FILE) {
    throw new Malformed("file", `at most ${MAX_FILE} bytes in a browser`, `${file.length}`);
  }
  const start = MAGIC.length + 4;
  if (file.length < start + DIGEST_BYTES || !isEqual(file.subarray(0, MAGIC.length), MAGIC)) {
    const found = shorten(toHex(file.subarray(0, MAGIC.length)));
    throw new Malformed("file", "a bundle, which begins with FWBUNDL1", `0x${found}`);
  }
  const end = file.length - DIGEST_BYTES;
  const digest = sha256(file.subarray(0, end));
  if (!isEqual(digest, file.subarray(end))) {
    const told = toHex(file.subarray(end));
    throw new Malformed("file", `the SHA-256 that it ends with, ${told}`, toHex(digest));
  }
  const size = new DataView(file.buffer, file.byteOffset + MAGIC.length, 4).getUint32(0);
  if (size > MAX_HEADER || start + size > end) {
    throw new Malformed("header", `at most ${Math.min(MAX_HEADER, end - start)} bytes`, `${size}`);
  }
  const { parts, ...header } = readHeader(file.subarray(start, start + size));
  return { ...header, parts: cutParts(file.subarray(start + size, end), parts) };
}

/**
 * Find a part by its name.
 * @param {Bundle} bundle
 * @param {string} name
 * @returns {Uint8Array | undefined}
 */
export const partNamed = (bundle, name) => bundle.parts.find((part) => part.name === name)?.bytes;

function readHeader(bytes) {
  let members;
  let text;
  try {
    text = new TextDecoder("utf-8", { fatal: true, ignoreBOM: true }).decode(bytes);
    members = JSON.parse(text);
  } catch (error) {
    throw new Malformed("header", "JSON in UTF-8", shorten(String(error)));
  }
  const names =
    "chain_id cosignatures datasets head ledger mode model participants parts round version";
  takeMembers(members, names, "header");
  if (members.version !== 1) throw new Malformed("version", "1", shorten(members.version));
  if (members.mode !== "light" && members.mode !== "full") {
    throw new Malformed("mode", "light or full", shorten(members.mode));
  }
  takeMembers(members.head, "blocks hash history number", "head");
  const header = {
    chainId: chainNumber(members.chain_id),
    ledger: readAddress(members.ledger, "ledger"),
    participants: readAddress(members.participants, "participants"),
    datasets: readAddress(members.datasets, "datasets"),
    model: hex(members.model, 32, "model"),
    mode: members.mode,
    head: {
      round: Number(decimal(members.round, "round")),
      number: Number(decimal(members.head.number, "number of the head")),
      hash: hex(members.head.hash, 32, "hash of the head"),
      blocks: Number(decimal(members.head.blocks, "blocks of the head")),
      history: hex(members.head.history, 32, "history of the head"),
    },
    cosignatures: list(members.cosignatures, MAX_COSIGNATURES, "cosignatures").map(cosignature),
    parts: list(members.parts, MAX_PARTS, "parts").map(partOfHeader),
  };
  const order = header.cosignatures.map(({ witness }) => witness);
  if (order.some((witness, at) => at > 0 && byAddress(order[at - 1], witness) >= 0)) {
    throw new Malformed("cosignatures", "witnesses ascending without repetition", order.join(", "));
  }
  checkNames(header);
  // What was read, written again in the one canonical form (RFC 8785): a member that occurs twice,
  // white space or another way to write a value would show here.
  if (canonical(header) !== text) {
    throw new Malformed("header", "canonical JSON (RFC 8785)", "another way to write it");
  }
  return header;
}

function chainNumber(text) {
  const found = BigInt(decimal(text, "chain_id", 20));
  if (found >= 2n ** 64n) throw new Malformed("chain_id", "a number below 2^64", `${found}`);
  return found;
}

function cosignature(member) {
  takeMembers(member, "signature witness", "cosignature");
  return {
    witness: readAddress(member.witness, "witness"),
    signature: fromHex(member.signature, 65, "cosignature"),
  };
}

function partOfHeader(member) {
  takeMembers(member, "name sha256 size", "part");
  if (typeof member.name !== "string" || member.name.length > 128) {
    throw new Malformed("part", "a name", shorten(member.name));
  }
  return {
    name: member.name,
    sha256: hex(member.sha256, 32, `part ${member.name}`),
    size: Number(decimal(member.size, `size of ${member.name}`)),
  };
}

function checkNames({ mode, parts }) {
  const names = parts.map(({ name }) => name);
  const blobs = names.filter((name) => /^blob\/b[a-z2-7]{58}$/.test(name));
  const isSorted = blobs.every((name, at) => at === 0 || blobs[at - 1] < name);
  const keys = names.at(-1) === "keys" ? ["keys"] : [];
  const expected = mode === "light" ? ["ledger"] : ["ledger", ...blobs, ...keys];
  if (!isSorted || names.length !== expected.length || names.some((n, at) => n !== expected[at])) {
    const form = mode === "light" ? "ledger alone" : "ledger, blobs ascending, keys";
    throw new Malformed("parts", form, shorten(names.join(", ")));
  }
}

function cutParts(bytes, described) {
  let at = 0;
  const parts = described.map(({ name, sha256: expected, size }) => {
    const part = bytes.subarray(at, at + size);
    if (part.length !== size) throw new Malformed(name, `${size} bytes`, `${part.length}`);
    const found = toHex(sha256(part));
    if (found !== expected) throw new Malformed(name, `the SHA-256 ${expected}`, found);
    at += size;
    return { name, sha256: expected, bytes: part };
  });
  if (at !== bytes.length) throw new Malformed("file", `${at} bytes of parts`, `${bytes.length}`);
  return parts;
}

function canonical(header) {
  const { head } = header;
  return JSON.stringify({
    chain_id: `${header.chainId}`,
    cosignatures: header.cosignatures.map(({ witness, signature }) => ({
      signature: toHex(signature),
      witness,
    })),
    datasets: header.datasets,
    head: {
      blocks: `${head.blocks}`,
      hash: head.hash,
      history: head.history,
      number: `${head.number}`,
    },
    ledger: header.ledger,
    mode: header.mode,
    model: header.model,
    participants: header.participants,
    parts: header.parts.map(({ name, sha256: digest, size }) => ({
      name,
      sha256: digest,
      size: `${size}`,
    })),
    round: `${head.round}`,
    version: 1,
  });
}

function takeMembers(members, names, subject) {
  const found =
    typeof members === "object" && members !== null && !Array.isArray(members)
      ? Object.keys(members).sort().join(" ")
      : "no object";
  if (found !== names) throw new Malformed(subject, `the members ${names}`, shorten(found));
}

function list(members, most, subject) {
  if (!Array.isArray(members) || members.length > most) {
    throw new Malformed(subject, `a list of at most ${most}`, shorten(members));
  }
  return members;
}

function decimal(text, subject, digits = 15) {
  if (typeof text !== "string" || !/^(0|[1-9][0-9]*)$/.test(text) || text.length > digits) {
    throw new Malformed(subject, `a decimal number of at most ${digits} digits`, shorten(text));
  }
  return text;
}

function hex(text, size, subject) {
  return toHex(fromHex(text, size, subject));
}
