import assert from "node:assert/strict";
import { test } from "node:test";
import { sha256, toHex, utf8 } from "../../api/explorer/static/verify/bytes.js";
import { verifyHoldings } from "../../api/explorer/static/verify/holdings.js";
import { BlobHasher, blobCid } from "../../api/explorer/static/verify/models.js";

function blobOf(text) {
  const bytes = utf8(text);
  const hasher = new BlobHasher();
  hasher.update(bytes);
  const root = hasher.digest();
  const name = `blob/${blobCid(root)}`;
  return { part: { name, bytes, sha256: toHex(sha256(bytes)) }, digest: toHex(root) };
}

const [BASE, MODEL, ONE, TWO] = ["base", "model", "envelope 1", "envelope 2"].map(blobOf);

function roundOf(changes = {}) {
  return {
    number: 1,
    phase: "FINAL",
    terms: { baseBlob: BASE.digest, baseModel: BASE.part.sha256 },
    proposal: { number: 1, model: MODEL.part.sha256, modelBlob: MODEL.digest },
    records: [ONE, TWO].map(({ digest }, at) => ({ record: { hospital: `h${at}`, blob: digest } })),
    verdicts: [0, 1].map((at) => ({ hospital: `h${at}`, reason: 0 })),
    ...changes,
  };
}

function found(round, ...blobs) {
  const bundle = { parts: [{ name: "ledger" }, ...blobs.map(({ part }) => part)] };
  const finding = (step, subject) => [step, subject.replace(/, blob b[a-z2-7]{58}$/, "")];
  return [...verifyHoldings(bundle, [round], finding, () => {})];
}

test("the blobs of a round are found whole", () => {
  assert.deepEqual(found(roundOf(), BASE, MODEL, ONE, TWO), []);
});

test("a missing blob is found, but one that the verdict itself calls unavailable", () => {
  assert.deepEqual(found(roundOf(), BASE, MODEL, ONE), [[7, "round 1, envelope of h1"]]);
  assert.deepEqual(found(roundOf(), MODEL, ONE, TWO), [[7, "round 1, base model"]]);
  const verdicts = [
    { hospital: "h0", reason: 0 },
    { hospital: "h1", reason: 1 },
  ];
  assert.deepEqual(found(roundOf({ verdicts }), BASE, MODEL, ONE), []);
});

test("a blob of a round that came to nothing is not asked for", () => {
  assert.deepEqual(found(roundOf({ phase: "ABORTED" }), BASE), []);
});

test("other bytes under a blob's name are found", () => {
  const exchanged = { part: { ...ONE.part, bytes: utf8("other") } };
  assert.deepEqual(found(roundOf(), BASE, MODEL, exchanged, TWO), [[7, "round 1, envelope of h0"]]);
});

test("a blob that the ledger names as another model is found", () => {
  const proposal = { number: 1, model: ONE.part.sha256, modelBlob: MODEL.digest };
  const wrong = [[8, "round 1, model of proposal 1"]];
  assert.deepEqual(found(roundOf({ proposal }), BASE, MODEL, ONE, TWO), wrong);
});

test("a blob that no round stands on is found", () => {
  const more = blobOf("more");
  assert.deepEqual(found(roundOf(), BASE, MODEL, ONE, TWO, more), [[11, `part ${more.part.name}`]]);
});
