/** Bytes as text and numbers, and the two hashes. Digests in text are 64 lower-case digits. */
import { keccak_256, sha256 as nobleSha256 } from "../vendor/noble-hashes.js";
import { Malformed } from "./malformed.js";

const TEXT = new TextEncoder();
const LENIENT = new TextDecoder("utf-8", { ignoreBOM: true });
const HEX = Array.from({ length: 256 }, (_, byte) => byte.toString(16).padStart(2, "0"));

/** Keccak-256, Ethereum's hash. @param {Uint8Array} bytes @returns {Uint8Array} */
export const keccak = (bytes) => keccak_256(bytes);

/** SHA-256 (FIPS 180-4). @param {Uint8Array} bytes @returns {Uint8Array} */
export const sha256 = (bytes) => nobleSha256(bytes);

/** SHA-256 of bytes that come in pieces: `.update(bytes)`, then `.digest()`. */
export const newSha256 = () => nobleSha256.create();

/** @param {string} text @returns {Uint8Array} UTF-8. */
export const utf8 = (text) => TEXT.encode(text);

/**
 * Decode a text that anyone may have put on the ledger, and that is only to be shown.
 * @param {Uint8Array} bytes
 * @returns {string} What is no UTF-8 is replaced; what would steer the page's text, such as a mark
 *   that turns its direction, is spelled out.
 */
export function shownText(bytes) {
  return LENIENT.decode(bytes).replace(
    /[\p{C}\p{Zl}\p{Zp}]/gu,
    (mark) => `\\u${mark.codePointAt(0).toString(16).padStart(4, "0")}`,
  );
}

/** @param {Uint8Array} bytes @returns {string} Lower-case digits without 0x. */
export function toHex(bytes) {
  let text = "";
  for (const byte of bytes) text += HEX[byte];
  return text;
}

/**
 * @param {unknown} text Lower-case digits without 0x.
 * @param {number} size How many bytes it has to be.
 * @param {string} subject What it is, for the message.
 * @returns {Uint8Array}
 */
export function fromHex(text, size, subject) {
  if (typeof text !== "string" || text.length !== 2 * size || !/^[0-9a-f]*$/.test(text)) {
    throw new Malformed(subject, `${2 * size} lower-case hexadecimal digits`, shorten(text));
  }
  const bytes = new Uint8Array(size);
  for (let at = 0; at < size; at++) bytes[at] = parseInt(text.slice(2 * at, 2 * at + 2), 16);
  return bytes;
}

/** @param {...Uint8Array} parts @returns {Uint8Array} */
export function concat(...parts) {
  const whole = new Uint8Array(parts.reduce((size, part) => size + part.length, 0));
  let at = 0;
  for (const part of parts) {
    whole.set(part, at);
    at += part.length;
  }
  return whole;
}

/** @param {Uint8Array} one @param {Uint8Array} two @returns {boolean} */
export function isEqual(one, two) {
  return one.length === two.length && one.every((byte, at) => byte === two[at]);
}

/** @param {Uint8Array} one @param {Uint8Array} two @returns {number} Below 0 if one is first. */
export function compare(one, two) {
  for (let at = 0; at < Math.min(one.length, two.length); at++) {
    if (one[at] !== two[at]) return one[at] - two[at];
  }
  return one.length - two.length;
}

/**
 * Write an unsigned integer, big-endian.
 * @param {number | bigint} value From 0 to below 256^size.
 * @param {number} size Bytes.
 * @returns {Uint8Array}
 */
export function toBigEndian(value, size) {
  const bytes = new Uint8Array(size);
  let rest = BigInt(value);
  for (let at = size - 1; at >= 0; at--) {
    bytes[at] = Number(rest & 255n);
    rest >>= 8n;
  }
  if (rest !== 0n) throw new Malformed("integer", `at most ${8 * size} bits`, `${value}`);
  return bytes;
}

/** @param {Uint8Array} bytes @returns {bigint} */
export function fromBigEndian(bytes) {
  return bytes.length === 0 ? 0n : BigInt(`0x${toHex(bytes)}`);
}

/**
 * Read an integer that counts something.
 * @param {Uint8Array} bytes Big-endian.
 * @param {string} subject What it counts.
 * @returns {number} At most 2^53 - 1.
 */
export function toCount(bytes, subject) {
  const value = fromBigEndian(bytes);
  if (value > BigInt(Number.MAX_SAFE_INTEGER)) {
    throw new Malformed(subject, "an integer below 2^53", `${value}`);
  }
  return Number(value);
}

/** @param {unknown} value @returns {string} At most 80 characters, for a message. */
export function shorten(value) {
  const isText = typeof value === "string";
  if (!isText && typeof value === "object" && value !== null) {
    return Array.isArray(value) ? `a list of ${value.length}` : "an object";
  }
  const text = isText ? value : String(value);
  return text.length > 80 ? `${text.slice(0, 77)}…` : text;
}
