// Bundles that somebody tampered with: with flipped bits, and with the checksums made anew.
import { concat, sha256, toHex, utf8 } from "../../api/explorer/static/verify/bytes.js";

/** Random numbers that are the same in every run (Park and Miller's generator). */
export function drawn(seed) {
  let state = seed;
  return (below) => {
    state = (state * 48_271) % 2_147_483_647;
    return state % below;
  };
}

/** @returns {number} Where a bundle's parts begin. */
export function startOfParts(file) {
  return 12 + new DataView(file.buffer, file.byteOffset + 8, 4).getUint32(0);
}

/** Write the checksums of a light bundle anew, as whoever tampers with it would. */
export function resealed(file) {
  const start = startOfParts(file);
  const parts = file.subarray(start, file.length - 32);
  const text = new TextDecoder().decode(file.subarray(12, start));
  const digest = `"sha256":"${toHex(sha256(parts))}"`;
  const header = utf8(text.replace(/"sha256":"[0-9a-f]{64}"/, digest));
  const before = concat(file.subarray(0, 12), header, parts);
  return concat(before, sha256(before));
}

/** Yield a light bundle with one bit of its ledger flipped, and its checksums made anew. */
export function* flipped(file, count, seed = 11) {
  const draw = drawn(seed);
  const start = startOfParts(file);
  for (let flip = 0; flip < count; flip++) {
    const bytes = file.slice();
    const at = start + draw(file.length - 32 - start);
    bytes[at] ^= 1 << draw(8);
    yield { at, bytes: resealed(bytes) };
  }
}
