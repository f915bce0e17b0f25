/**
 * RLP (Ethereum yellow paper, appendix B), read in place and strictly: one encoding for each
 * value, nothing beyond the end. Nothing here descends by itself, so nesting costs no stack.
 */
import { Malformed } from "./malformed.js";

/**
 * @typedef {object} Item
 * @property {boolean} isList
 * @property {Uint8Array} bytes The payload, without its prefix.
 * @property {Uint8Array} whole Prefix and payload: what is hashed.
 */

/**
 * Read the item that bytes begin with.
 * @param {Uint8Array} bytes
 * @param {string} subject What it is, for messages.
 * @returns {Item}
 */
export function readItem(bytes, subject) {
  if (bytes.length === 0) throw new Malformed(subject, "an RLP item", "no bytes");
  const first = bytes[0];
  if (first < 0x80) return item(bytes, false, 0, 1, subject);
  if (first < 0xb8) {
    const size = first - 0x80;
    if (size === 1 && bytes.length > 1 && bytes[1] < 0x80) {
      throw new Malformed(subject, "a small byte as itself (RLP)", "a string of one byte");
    }
    return item(bytes, false, 1, size, subject);
  }
  if (first < 0xc0) return long(bytes, false, first - 0xb7, subject);
  if (first < 0xf8) return item(bytes, true, 1, first - 0xc0, subject);
  return long(bytes, true, first - 0xf7, subject);
}

/**
 * Read bytes that are one item and nothing else.
 * @param {Uint8Array} bytes
 * @param {string} subject
 * @returns {Item}
 */
export function readWhole(bytes, subject) {
  const found = readItem(bytes, subject);
  if (found.whole.length !== bytes.length) {
    const rest = bytes.length - found.whole.length;
    throw new Malformed(subject, "one RLP item", `${rest} bytes behind it`);
  }
  return found;
}

/**
 * Read the members of a list one by one, so that a list of a billion costs no memory.
 * @param {Item} list
 * @param {string} subject
 * @returns {Generator<Item>}
 */
export function* each(list, subject) {
  if (!list.isList) throw new Malformed(subject, "an RLP list", "a byte string");
  for (let at = 0; at < list.bytes.length;) {
    const next = readItem(list.bytes.subarray(at), subject);
    yield next;
    at += next.whole.length;
  }
}

/**
 * List the members of a list.
 * @param {Item} list
 * @param {string} subject
 * @param {number} most The greatest permitted number of them.
 * @returns {Item[]}
 */
export function members(list, subject, most) {
  const found = [];
  for (const next of each(list, subject)) {
    if (found.length === most) throw new Malformed(subject, `at most ${most} members`, "more");
    found.push(next);
  }
  return found;
}

/**
 * List the members of a list that has to have a certain number of them.
 * @param {Item} list
 * @param {number} count
 * @param {string} subject
 * @returns {Item[]}
 */
export function exactly(list, count, subject) {
  const found = members(list, subject, count);
  if (found.length !== count) {
    throw new Malformed(subject, `${count} members`, `${found.length}`);
  }
  return found;
}

/** @param {Item} found @param {string} subject @returns {Uint8Array} The bytes of a string. */
export function string(found, subject) {
  if (found.isList) throw new Malformed(subject, "a byte string", "an RLP list");
  return found.bytes;
}

/** @param {Item} found @param {number} size @param {string} subject @returns {Uint8Array} */
export function sized(found, size, subject) {
  const bytes = string(found, subject);
  if (bytes.length !== size) throw new Malformed(subject, `${size} bytes`, `${bytes.length}`);
  return bytes;
}

/** @param {Item} found @param {string} subject @returns {Uint8Array} Without leading zeros. */
export function integer(found, subject) {
  const bytes = string(found, subject);
  if (bytes.length > 0 && bytes[0] === 0) {
    throw new Malformed(subject, "an integer without leading zeros", "a leading zero");
  }
  return bytes;
}

/**
 * Write a byte string.
 * @param {Uint8Array} bytes At most 55 of them.
 * @returns {Uint8Array}
 */
export function encodeShort(bytes) {
  if (bytes.length === 1 && bytes[0] < 0x80) return bytes;
  if (bytes.length > 55) throw new RangeError("a short RLP string has at most 55 bytes");
  return Uint8Array.of(0x80 + bytes.length, ...bytes);
}

function long(bytes, isList, sizeBytes, subject) {
  // Six bytes count 256 TiB: whatever says more is longer than the file that it is in.
  if (sizeBytes > 6 || bytes.length < 1 + sizeBytes || bytes[1] === 0) {
    throw new Malformed(subject, "a size without leading zeros (RLP)", "none that fits");
  }
  let size = 0;
  for (let at = 1; at <= sizeBytes; at++) size = size * 256 + bytes[at];
  if (size < 56) throw new Malformed(subject, "a short size in one byte (RLP)", `${size} in more`);
  return item(bytes, isList, 1 + sizeBytes, size, subject);
}

function item(bytes, isList, prefix, size, subject) {
  if (prefix + size > bytes.length) {
    throw new Malformed(subject, `${prefix + size} bytes of RLP`, `${bytes.length}`);
  }
  const whole = bytes.subarray(0, prefix + size);
  return { isList, bytes: whole.subarray(prefix), whole };
}
