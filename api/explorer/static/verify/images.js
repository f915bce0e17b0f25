/** Proofs that an image is in a data-set version: see docs/protocol.md, sections 4.1 and 4.2. */
import { concat, fromHex, isEqual, sha256, shorten, toHex, utf8 } from "./bytes.js";
import { Malformed } from "./malformed.js";
import { imageLeaf, verifyInclusion } from "./merkle.js";

const MAX_FILE = 16_384;
const MEMBERS = ["commitment", "image_digest", "proof", "root", "salt", "version"];

/**
 * Verify an image's proof against the events of a bundle that was verified.
 *
 * (1) The file is a proof.
 * (2) The ledger has the version, with the proof's root.
 * (3) Salt and image digest give the commitment.
 * (4) The proof leads from the commitment's leaf to the root.
 *
 * @param {string} text The file, as `chain/image_proofs.py` writes it.
 * @param {import("./checks.js").Report} report Of `verifyBundle`.
 * @returns {{ok: boolean, checks: object[], findings: object[], version: object | null,
 *   commitment: string | null, sentence: string}} `version` is that of the report, with its uses.
 */
export function verifyImageProof(text, report) {
  const checks = [
    "The file is a proof of the known form",
    "The ledger has the data-set version, with this root",
    "Salt and image digest give the commitment",
    "The proof leads from the commitment to the root",
  ].map((title, at) => ({ number: at + 1, title, ok: null, told: "not run", findings: [] }));
  let shown = null;
  let version = null;
  let at = 0;
  try {
    // (1) The file is a proof.
    shown = readProof(text);
    pass(checks[at++], `${text.length} characters, ${shown.proof.length} nodes`);
    // (2) The ledger has the version, with this root.
    version = report.ok ? report.versions.find((one) => one.version === shown.version) : null;
    if (version === null || version === undefined) {
      const found = report.ok ? "no event that registers it" : "a bundle that was not verified";
      throw new Malformed("version", `a registered version ${shown.version}`, found);
    }
    if (version.merkleRoot !== toHex(shown.root)) {
      throw new Malformed("root", version.merkleRoot, toHex(shown.root));
    }
    pass(checks[at++], `version ${version.version}, root ${version.merkleRoot}`);
    // (3) The commitment is to this image.
    const commitment = sha256(concat(shown.salt, shown.imageDigest));
    if (!isEqual(commitment, shown.commitment)) {
      throw new Malformed("commitment", toHex(shown.commitment), toHex(commitment));
    }
    pass(checks[at++], `commitment ${toHex(commitment)}`);
    // (4) The commitment is in the version.
    verifyInclusion(shown.root, imageLeaf(shown.commitment), shown.proof);
    pass(checks[at++], `${shown.proof.length} nodes up to the root`);
  } catch (error) {
    if (!(error instanceof Malformed)) throw error;
    const { subject, expected, found } = error;
    const message = "the file does not prove that an image is in a data set of the ledger";
    const finding = { step: at + 1, subject, expected, found, message };
    checks[at] = { ...checks[at], ok: false, told: "", findings: [finding] };
  }
  const ok = checks.every((check) => check.ok === true);
  const findings = checks.flatMap((check) => check.findings);
  const commitment = shown === null ? null : toHex(shown.commitment);
  const sentence = ok ? told(version, commitment, report.model) : "";
  return { ok, checks, findings, version: ok ? version : null, commitment, sentence };
}

function readProof(text) {
  if (utf8(text).length > MAX_FILE) {
    throw new Malformed("proof", `at most ${MAX_FILE} bytes`, `${utf8(text).length}`);
  }
  let members;
  try {
    members = JSON.parse(text);
  } catch (error) {
    throw new Malformed("proof", "JSON", shorten(String(error)));
  }
  const isObject = typeof members === "object" && members !== null && !Array.isArray(members);
  const found = isObject ? Object.keys(members).sort().join(", ") : "no object";
  // All values are digits, so each colon stands behind a member's name: one that is repeated, of
  // which readers differ in what they take, shows in their number.
  const colons = text.split(":").length - 1;
  if (found !== MEMBERS.join(", ") || colons !== MEMBERS.length) {
    throw new Malformed("proof", `the members ${MEMBERS.join(", ")}, each once`, shorten(found));
  }
  const { proof } = members;
  if (!Array.isArray(proof) || proof.length > 64) {
    throw new Malformed("proof", "a list of at most 64 digests", shorten(proof));
  }
  return {
    version: toHex(digest(members.version, "version")),
    root: digest(members.root, "root"),
    commitment: digest(members.commitment, "commitment"),
    salt: digest(members.salt, "salt"),
    imageDigest: digest(members.image_digest, "image_digest"),
    proof: proof.map((node) => digest(node, "node of the proof")),
  };
}

function digest(text, subject) {
  if (typeof text !== "string" || !text.startsWith("0x")) {
    throw new Malformed(subject, "0x and 64 lower-case hexadecimal digits", shorten(text));
  }
  return fromHex(text.slice(2), 32, subject);
}

function pass(check, told) {
  Object.assign(check, { ok: true, told });
}

function told(version, commitment, model) {
  const whose = version.hospitalName
    ? `${version.hospital} (${version.hospitalName})`
    : version.hospital;
  const where =
    `This image's commitment 0x${commitment} is in data set “${version.name}”, version ` +
    `0x${version.version}, of hospital ${whose}`;
  const what = `model 0x${model.digest} of round ${model.round}`;
  const kept = version.uses.filter(({ outcome }) => outcome !== "REJECTED");
  if (kept.length === 0) return `${where}, which no update that went into ${what} names.`;
  const uses = kept.map(({ round, update }) => `update 0x${update} in round ${round}`);
  return `${where}, used by ${uses.join(" and ")}, which went into ${what}.`;
}
