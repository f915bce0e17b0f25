/** Proofs in Merkle-Patricia tries (Ethereum yellow paper, appendix D). */
import { compare, isEqual, keccak, toHex } from "./bytes.js";
import { Malformed } from "./malformed.js";
import { members, readWhole, string } from "./rlp.js";

const HASH_BYTES = 32;
const MAX_NODES = 64;

/**
 * Look up what a trie holds under a key.
 * @param {Uint8Array} root The trie's root, 32 bytes.
 * @param {Uint8Array} key
 * @param {Uint8Array[]} nodes From the root to the leaf; those embedded in a parent are left out.
 * @param {string} subject What is proven, for messages.
 * @returns {Uint8Array} The value; every node was used.
 */
export function provenValue(root, key, nodes, subject) {
  if (nodes.length > MAX_NODES) {
    throw new Malformed(subject, `at most ${MAX_NODES} trie nodes`, `${nodes.length}`);
  }
  const path = nibbles(key);
  let at = 0; // nibbles of the path that lie behind
  let used = 0;
  let node = hashed(root);
  // Every turn uses up a part of the path, so there are at most as many as it has nibbles.
  for (;;) {
    const parts = members(node, subject, 17);
    let next;
    if (parts.length === 17) {
      if (at === path.length) return found(string(parts[16], subject));
      next = parts[path[at]];
      at += 1;
    } else if (parts.length === 2) {
      const { isLeaf, piece } = compactPath(string(parts[0], subject), subject);
      if (compare(path.subarray(at, at + piece.length), piece) !== 0) throw absent();
      at += piece.length;
      if (isLeaf) {
        if (at !== path.length) throw absent();
        return found(string(parts[1], subject));
      }
      if (piece.length === 0)
        throw new Malformed(subject, "an extension of a path", "an empty one");
      next = parts[1];
    } else {
      throw new Malformed(subject, "a trie node of 2 or 17 members", `${parts.length}`);
    }
    if (next.isList) {
      if (next.whole.length >= HASH_BYTES) {
        throw new Malformed(subject, "a node that is embedded because it is short", "a long one");
      }
      node = next;
    } else if (next.bytes.length === HASH_BYTES) {
      node = hashed(next.bytes);
    } else {
      throw absent();
    }
  }

  function hashed(expected) {
    if (used === nodes.length) {
      throw new Malformed(subject, `the trie node ${toHex(expected)}`, "no more nodes");
    }
    const bytes = nodes[used];
    used += 1;
    const hash = keccak(bytes);
    if (!isEqual(hash, expected)) {
      throw new Malformed(
        subject,
        `the trie node ${toHex(expected)}`,
        `one of hash ${toHex(hash)}`,
      );
    }
    return readWhole(bytes, subject);
  }

  function found(value) {
    if (value.length === 0) throw absent();
    if (used !== nodes.length) {
      throw new Malformed(subject, `${used} trie nodes`, `${nodes.length}`);
    }
    return value;
  }

  function absent() {
    return new Malformed(subject, "a value under its key", "a trie that holds none there");
  }
}

function nibbles(bytes) {
  const found = new Uint8Array(2 * bytes.length);
  bytes.forEach((byte, at) => {
    found[2 * at] = byte >> 4;
    found[2 * at + 1] = byte & 15;
  });
  return found;
}

/** The hex-prefix encoding (appendix C). */
function compactPath(bytes, subject) {
  const all = nibbles(bytes);
  const flag = all[0];
  const isPadded = flag === 0 || flag === 2;
  if (all.length === 0 || flag > 3 || (isPadded && all[1] !== 0)) {
    throw new Malformed(subject, "a path in hex-prefix encoding", toHex(bytes.subarray(0, 8)));
  }
  return { isLeaf: flag >= 2, piece: all.subarray(isPadded ? 2 : 1) };
}
