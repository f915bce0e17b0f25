// The values of tests/vectors/verifier.json are Python's: tests/explorer/test_vectors.py holds
// Python to them, this file the browser.
import assert from "node:assert/strict";
import { readFile } from "node:fs/promises";
import { test } from "node:test";
import * as abi from "../../api/explorer/static/verify/abi.js";
import { toAddress } from "../../api/explorer/static/verify/addresses.js";
import { fromHex, keccak, sha256, toHex } from "../../api/explorer/static/verify/bytes.js";
import * as eip712 from "../../api/explorer/static/verify/eip712.js";
import { genesisHistory, nextHistory } from "../../api/explorer/static/verify/heads.js";
import { imageLeaf, merkleRoot, verdictsRoot } from "../../api/explorer/static/verify/merkle.js";
import { BlobHasher, blobCid } from "../../api/explorer/static/verify/models.js";
import { Malformed } from "../../api/explorer/static/verify/malformed.js";
import { readItem, readWhole } from "../../api/explorer/static/verify/rlp.js";
import { provenValue } from "../../api/explorer/static/verify/trie.js";

const path = new URL("../vectors/verifier.json", import.meta.url);
const vectors = JSON.parse(await readFile(path, "utf8"));
const bytes = (hex) => fromHex(hex, hex.length / 2, "vector");

/** A vector's record as `rounds.js` has it. */
const recordOf = (vector) => ({
  ...vector,
  chainId: BigInt(vector.chainId),
  round: BigInt(vector.round),
  epsilon: BigInt(vector.epsilon),
  delta: BigInt(vector.delta),
});

test("hashes are Python's", () => {
  for (const { data, sha256: one, keccak: other } of vectors.hashes) {
    assert.equal(toHex(sha256(bytes(data))), one);
    assert.equal(toHex(keccak(bytes(data))), other);
  }
});

test("addresses have the capitals of EIP-55", () => {
  for (const { bytes: digits, address } of vectors.addresses) {
    assert.equal(toAddress(bytes(digits)), address);
  }
});

test("records hash to Python's digests", () => {
  for (const { record, digest } of vectors.records) {
    assert.equal(toHex(eip712.recordHash(recordOf(record))), digest);
  }
});

test("signers of attestations are Python's, or nobody", () => {
  for (const { chainId, ledger, round, proposal, signature, signer } of vectors.attestations) {
    const hash = eip712.attestationHash(BigInt(round), proposal);
    const signed = eip712.signedDigest(BigInt(chainId), ledger, hash);
    assert.equal(eip712.recoverSigner(signed, bytes(signature)), signer);
  }
});

test("signers of heads are Python's", () => {
  for (const { chainId, ledger, head, signature, signer } of vectors.heads) {
    const signed = eip712.signedDigest(BigInt(chainId), ledger, eip712.headHash(head));
    assert.equal(eip712.recoverSigner(signed, bytes(signature)), signer);
  }
});

test("a history is Python's after each block", () => {
  for (const { chainId, ledger, participants, datasets, genesis, blocks } of vectors.histories) {
    let history = genesisHistory(BigInt(chainId), ledger, participants, datasets);
    assert.equal(toHex(history), genesis);
    for (const { number, hash, logs, after } of blocks) {
      history = nextHistory(history, number, bytes(hash), logs);
      assert.equal(toHex(history), after);
    }
  }
});

test("verdict roots are Python's", () => {
  for (const { round, verdicts, root } of vectors.verdicts) {
    const read = verdicts.map((one) => ({
      ...one,
      score: BigInt(one.score),
      threshold: BigInt(one.threshold),
    }));
    assert.equal(toHex(verdictsRoot(round, read)), root);
  }
});

test("image leaves and roots are Python's", () => {
  for (const { commitments, leaves, root } of vectors.images) {
    const found = commitments.map((one) => toHex(imageLeaf(bytes(one)))).sort();
    assert.deepEqual(found, leaves);
    assert.equal(toHex(merkleRoot(found.map(bytes))), root);
  }
});

test("CIDs of blobs are Python's", () => {
  for (const { leafBytes, maxLinks, size, digest, cid } of vectors.blobs) {
    const content = Uint8Array.from({ length: size }, (_, at) => (at * 31 + (at >> 8)) & 255);
    for (const piece of [1, 7, 1000, 1 << 20]) {
      if (size / piece > 10_000) continue;
      const hasher = new BlobHasher({ leafBytes, maxLinks });
      for (let at = 0; at < size; at += piece) hasher.update(content.subarray(at, at + piece));
      const root = hasher.digest();
      assert.deepEqual([toHex(root), blobCid(root)], [digest, cid], `${size} by ${piece}`);
    }
  }
});

test("logs are decoded as Python decodes them", () => {
  for (const { contract, topics, data, name, args } of vectors.logs) {
    const found = abi.decodeLog(contract, topics.map(bytes), bytes(data), "log");
    assert.equal(found.name, name);
    assert.deepEqual(plain(found.args), args);
  }
});

/** As the vectors write it: integers in decimal, bytes in digits. */
function plain(value) {
  if (value instanceof Uint8Array) return toHex(value);
  if (typeof value === "bigint" || typeof value === "number") return `${value}`;
  if (Array.isArray(value)) return value.map(plain);
  if (typeof value !== "object") return value;
  return Object.fromEntries(Object.entries(value).map(([key, one]) => [key, plain(one)]));
}

test("proofs of another implementation's tries hold", () => {
  for (const { root, key, nodes, value } of vectors.tries) {
    const found = provenValue(bytes(root), bytes(key), nodes.map(bytes), "trie");
    assert.equal(toHex(found), value);
  }
});

test("RLP that is not canonical is refused", () => {
  for (const encoded of vectors.badRlp) {
    assert.throws(() => readAll(bytes(encoded)), Malformed, encoded);
  }
});

/** Read all levels of a small item. */
function readAll(encoded) {
  const unread = [readWhole(encoded, "item")];
  while (unread.length > 0) {
    const item = unread.pop();
    for (let rest = item.isList ? item.bytes : encoded.subarray(0, 0); rest.length > 0;) {
      const next = readItem(rest, "item");
      unread.push(next);
      rest = rest.subarray(next.whole.length);
    }
  }
}
