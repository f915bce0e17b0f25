/** What rounds stand on: the blobs of a full bundle (steps 7, 8 and a part of 11). */
import { fromHex } from "./bytes.js";
import { BlobHasher, blobCid } from "./models.js";

export const BLOBS = 7;
export const MODELS = 8;
export const TITLES = new Map([
  [BLOBS, "Each blob is there and hashes to its CID"],
  [MODELS, "Each model hashes to its digest on the ledger"],
]);

const BLOB = "blob/";
// Verdicts that say themselves that the blob was not there, not whole or too large to look at.
const WITHOUT_BLOB = [1, 2, 3];

/**
 * Check the blobs that rounds stand on.
 *
 * (7) Every one is in the bundle, and its bytes have its CID.
 * (8) Every model has its digest on the ledger.
 * (11) Nothing else is in the bundle.
 *
 * Not checked here, but by `python -m audit`: the models' tensors, and the keys of envelopes.
 *
 * @param {import("./container.js").Bundle} bundle
 * @param {import("./rounds.js").Round[]} rounds
 * @param {(step: number, subject: string, expected: string, found: string, message: string) =>
 *   import("./checks.js").Finding} finding
 * @param {(done: number, total: number) => void} progress
 * @returns {Generator<import("./checks.js").Finding>}
 */
export function* verifyHoldings(bundle, rounds, finding, progress) {
  const wanted = new Map(rounds.flatMap(blobsOf).map((blob) => [cidOf(blob.digest), blob]));
  const parts = bundle.parts.filter(({ name }) => name.startsWith(BLOB));
  const there = new Set();
  const whole = new Map(); // SHA-256 by CID
  for (const [done, { name, bytes, sha256 }] of parts.entries()) {
    const cid = name.slice(BLOB.length);
    there.add(cid);
    if (!wanted.has(cid)) {
      const message = "no round stands on this blob";
      yield finding(11, `part ${name}`, "a blob of a round", cid, message);
      continue;
    }
    const hasher = new BlobHasher();
    hasher.update(bytes);
    const root = hasher.digest();
    const found = root === null ? "an empty blob" : blobCid(root);
    if (found === cid) {
      whole.set(cid, sha256);
    } else {
      const message = "the stored bytes are not those that the ledger names";
      yield finding(BLOBS, `${wanted.get(cid).subject}, blob ${cid}`, cid, found, message);
    }
    progress(done + 1, parts.length);
  }
  for (const [cid, { subject }] of wanted) {
    if (!there.has(cid)) {
      const message = "the blob cannot be had";
      yield finding(BLOBS, `${subject}, blob ${cid}`, cid, "none in the bundle", message);
    }
  }
  for (const { digest, subject, model } of rounds.flatMap(blobsOf)) {
    const found = whole.get(cidOf(digest));
    if (model !== undefined && found !== undefined && found !== model) {
      const message = "the stored model is not the one that the ledger names";
      yield finding(MODELS, subject, model, found, message);
    }
  }
}

function blobsOf({ number, terms, phase, proposal, records, verdicts }) {
  const name = `round ${number}`;
  const base = { digest: terms.baseBlob, subject: `${name}, base model`, model: terms.baseModel };
  if (proposal === null || (phase !== "PROPOSED" && phase !== "FINAL")) return [base];
  const made = {
    digest: proposal.modelBlob,
    subject: `${name}, model of proposal ${proposal.number}`,
    model: proposal.model,
  };
  const reasons = new Map(verdicts.map(({ hospital, reason }) => [hospital, reason]));
  const envelopes = records
    .map(({ record }) => record)
    .filter(({ hospital }) => !WITHOUT_BLOB.includes(reasons.get(hospital)))
    .map(({ hospital, blob }) => ({ digest: blob, subject: `${name}, envelope of ${hospital}` }));
  return [base, made, ...envelopes];
}

const cidOf = (digest) => blobCid(fromHex(digest, 32, "blob"));
