/** Merkle trees over image commitments and verdicts: see docs/protocol.md, sections 4.2 and 8. */
import { addressBytes, byAddress } from "./addresses.js";
import { compare, concat, fromHex, isEqual, keccak, toBigEndian, toHex, utf8 } from "./bytes.js";
import { Malformed } from "./malformed.js";

const IMAGE_TAG = keccak(utf8("fedwitness.image.v1"));
const VERDICT_TAG = keccak(utf8("fedwitness.verdict.v1"));
const MAX_PROOF = 64;

/** @param {Uint8Array} commitment @returns {Uint8Array} The leaf of an image. */
export const imageLeaf = (commitment) => leaf([IMAGE_TAG, commitment]);

/**
 * Compute the root of a proposal's verdicts, in whichever order they come.
 * @param {number} round
 * @param {import("./rounds.js").Verdict[]} verdicts
 * @returns {Uint8Array} Zeros where there are none.
 */
export function verdictsRoot(round, verdicts) {
  if (verdicts.length === 0) return new Uint8Array(32);
  const ascending = [...verdicts].sort((one, two) => byAddress(one.hospital, two.hospital));
  return merkleRoot(ascending.map((verdict) => verdictLeaf(round, verdict)));
}

/** @param {number} round @param {import("./rounds.js").Verdict} verdict @returns {Uint8Array} */
export function verdictLeaf(round, verdict) {
  return leaf([
    VERDICT_TAG,
    toBigEndian(round, 32),
    concat(new Uint8Array(12), addressBytes(verdict.hospital)),
    toBigEndian(verdict.outcome, 32),
    toBigEndian(verdict.reason, 32),
    toBigEndian(verdict.score, 32),
    toBigEndian(verdict.threshold, 32),
    fromHex(verdict.content, 32, "content"),
  ]);
}

/** @param {Uint8Array[]} leaves At least one, in their order. @returns {Uint8Array} */
export function merkleRoot(leaves) {
  let level = leaves;
  while (level.length > 1) {
    const above = [];
    for (let at = 0; at + 1 < level.length; at += 2) above.push(node(level[at], level[at + 1]));
    // A last node without a partner moves up unchanged.
    if (level.length % 2 === 1) above.push(level[level.length - 1]);
    level = above;
  }
  return level[0];
}

/**
 * Check that a proof leads from a leaf to a root.
 * @param {Uint8Array} root
 * @param {Uint8Array} start
 * @param {Uint8Array[]} proof
 */
export function verifyInclusion(root, start, proof) {
  if (proof.length > MAX_PROOF || proof.some((each) => each.length !== 32)) {
    throw new Malformed("proof", `at most ${MAX_PROOF} digests of 32 bytes`, `${proof.length}`);
  }
  const found = proof.reduce(node, start);
  if (!isEqual(found, root)) {
    throw new Malformed("proof", `a way to the root ${toHex(root)}`, `one to ${toHex(found)}`);
  }
}

function node(one, two) {
  return keccak(compare(one, two) < 0 ? concat(one, two) : concat(two, one));
}

function leaf(words) {
  return keccak(keccak(concat(...words)));
}
