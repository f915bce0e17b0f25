import assert from "node:assert/strict";
import { test } from "node:test";
import { sha256, toHex, utf8 } from "../../api/explorer/static/verify/bytes.js";
import { verifyBundle } from "../../api/explorer/static/verify/checks.js";
import { verifyImageProof } from "../../api/explorer/static/verify/images.js";
import { imageLeaf } from "../../api/explorer/static/verify/merkle.js";
import { verifyModelFile } from "../../api/explorer/static/verify/models.js";
import { IMAGES, bundleOf, digest, imageTree, merkleProof, story, versionOf } from "./ledgers.mjs";

const REPORT = verifyBundle(bundleOf(story()));
const hex = (bytes) => `0x${toHex(bytes)}`;

function proofOf(which, changes = {}) {
  const { salt, image, commitment } = IMAGES[which];
  const { leaves, root } = imageTree();
  const proof = merkleProof(leaves, imageLeaf(commitment));
  return {
    commitment: hex(commitment),
    image_digest: hex(image),
    proof: proof.map(hex),
    root: hex(root),
    salt: hex(salt),
    version: `0x${versionOf("hospital-1")}`,
    ...changes,
  };
}

const verified = (members, report = REPORT) => verifyImageProof(JSON.stringify(members), report);
const failedAt = (answer) => answer.checks.findIndex(({ ok }) => ok === false) + 1;

test("each image of a version is proven, with the updates and the model it went into", () => {
  for (const which of IMAGES.keys()) {
    const answer = verified(proofOf(which));
    assert.deepEqual(answer.findings, []);
    assert.equal(answer.ok, true);
    assert.match(answer.sentence, /in data set “chest of hospital-1”, version 0x/);
    assert.match(
      answer.sentence,
      /update 0x[0-9a-f]{64} in round 1 and update 0x[0-9a-f]{64} in round 2/,
    );
    assert.match(answer.sentence, new RegExp(`model 0x${digest("model 2")} of round 2`));
  }
});

for (const [member, at] of [
  ["version", 2],
  ["root", 2],
  ["salt", 3],
  ["image_digest", 3],
  ["commitment", 3],
]) {
  test(`a proof with another ${member} fails at check ${at}`, () => {
    const answer = verified(proofOf(0, { [member]: `0x${digest("other")}` }));
    assert.deepEqual([answer.ok, failedAt(answer), answer.sentence], [false, at, ""]);
  });
}

test("a proof with another node, a node less or a node more fails at check 4", () => {
  const { proof } = proofOf(0);
  for (const other of [
    [`0x${digest("other")}`, ...proof.slice(1)],
    proof.slice(1),
    [...proof, proof[0]],
  ]) {
    assert.equal(failedAt(verified(proofOf(0, { proof: other }))), 4);
  }
});

test("an inner node does not pass for an image", () => {
  const { leaves, root } = imageTree();
  const shown = proofOf(0, { commitment: hex(leaves[0]), root: hex(root), proof: [] });
  assert.equal(verified(shown).ok, false);
});

test("every change of a digit in a proof is found", () => {
  const text = JSON.stringify(proofOf(2));
  for (const [at, digit] of [...text].entries()) {
    if (!/[0-9a-f]/.test(digit) || !/^[0-9a-fx]$/.test(text[at + 1] ?? "")) continue;
    const other = digit === "0" ? "1" : "0";
    const answer = verifyImageProof(text.slice(0, at) + other + text.slice(at + 1), REPORT);
    assert.equal(answer.ok, false, `character ${at}`);
  }
});

for (const [what, text] of [
  ["no JSON", "{"],
  ["no object", "[]"],
  ["nothing", "null"],
  ["a member less", JSON.stringify({ ...proofOf(0), salt: undefined })],
  ["a member more", JSON.stringify({ ...proofOf(0), more: "" })],
  ["a member twice", JSON.stringify(proofOf(0)).replace("{", `{"root":"0x${digest("other")}",`)],
  ["a number for a digest", JSON.stringify(proofOf(0, { salt: 7 }))],
  ["digits in capitals", JSON.stringify(proofOf(0, { salt: proofOf(0).salt.toUpperCase() }))],
  ["a proof that is no list", JSON.stringify(proofOf(0, { proof: { length: 1 } }))],
  ["a proof of 65 nodes", JSON.stringify(proofOf(0, { proof: Array(65).fill(proofOf(0).root) }))],
  ["more than 16 KiB", JSON.stringify(proofOf(0)) + " ".repeat(16_384)],
  ["nested lists", `${"[".repeat(8000)}${"]".repeat(8000)}`],
]) {
  test(`a proof that is ${what} fails at check 1`, () => {
    assert.equal(failedAt(verifyImageProof(text, REPORT)), 1);
  });
}

test("nothing is proven against a bundle that failed", () => {
  const report = verifyBundle(bundleOf(story(), { signers: ["witness-1"] }));
  assert.deepEqual([report.ok, verified(proofOf(0), report).ok], [false, false]);
});

test("an image of data that no update of the model names is said to be so", () => {
  const report = { ...REPORT, versions: REPORT.versions.map((one) => ({ ...one, uses: [] })) };
  assert.match(verified(proofOf(0), report).sentence, /which no update that went into model 0x/);
});

test("a model's file is held against its digest and its CID", async () => {
  const file = utf8("a model's bytes");
  const model = { digest: toHex(sha256(file)), blob: digest("other") };
  const [content, blob] = await verifyModelFile([file], model);
  assert.deepEqual([content.number, content.ok, blob.number, blob.ok], [8, true, 7, false]);
  const [other] = await verifyModelFile([utf8("other bytes")], model);
  assert.equal(other.ok, false);
  assert.equal(other.findings[0].expected, model.digest);
});

test("an empty model file fails, and none is made of it", async () => {
  const checks = await verifyModelFile([], { digest: digest("x"), blob: digest("y") });
  assert.deepEqual(
    checks.map(({ ok }) => ok),
    [false, false],
  );
});
