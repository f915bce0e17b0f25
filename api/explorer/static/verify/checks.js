/**
 * The checks of a bundle, step by step: those of `audit/verify.py`, with the same numbers and
 * titles. Nothing here asks anybody anything.
 */
import { byAddress } from "./addresses.js";
import { toHex } from "./bytes.js";
import { partNamed, readBundle } from "./container.js";
import {
  attestationHash,
  headHash,
  recordHash,
  recoverSigner,
  signedDigest,
  toldSignature,
} from "./eip712.js";
import { BLOBS, MODELS, TITLES as HOLDINGS, verifyHoldings } from "./holdings.js";
import { readLedger } from "./ledger.js";
import { Malformed } from "./malformed.js";
import { verdictsRoot } from "./merkle.js";
import { foldEvents } from "./rounds.js";

export const CHAIN_OF_MODELS = 1;
export const RECORDS = 2;
export const DATA_SETS = 3;
export const VERDICTS = 4;
export const KEPT_UPDATES = 5;
export const WITNESSES = 6;
export const BUNDLE = 11;
export const HEAD = 12;
export const EVENTS = 13;

/** Titles by number, in the order in which the steps are run. */
export const TITLES = new Map([
  [BUNDLE, "The file is whole and of a known form"],
  [HEAD, "The quorum of the round's witnesses signed the ledger's head"],
  [EVENTS, "Each event stands in a block that leads to that head, and none is left out"],
  [CHAIN_OF_MODELS, "Each round starts from the task's last final model"],
  [RECORDS, "Each record hashes to its digest on the ledger"],
  [DATA_SETS, "Each record stands on registered, de-identified, permitted data"],
  [VERDICTS, "Each record has one verdict, and the verdicts have the ledger's root"],
  [KEPT_UPDATES, "Each proposal keeps as many updates as the round asks for"],
  [WITNESSES, "Each final model is attested by its quorum and disputed by nobody"],
]);

/**
 * @typedef {object} Finding Something that is not as it should be.
 * @property {number} step
 * @property {string} subject
 * @property {string} expected
 * @property {string} found
 * @property {string} message
 *
 * @typedef {object} Check
 * @property {number} number
 * @property {string} title
 * @property {boolean | null} ok Null where it could not be run.
 * @property {string} told What was held against what.
 * @property {Finding[]} findings
 *
 * @typedef {object} Known What the reader knows from elsewhere; all of it may be missing.
 * @property {string} [chainId] Decimal.
 * @property {string} [ledger]
 * @property {string[]} [witnesses] Each of them has to have signed the head.
 * @property {string} [model] The model that was asked for.
 *
 * @typedef {object} Report
 * @property {boolean} ok Whether all steps were run and nothing was found.
 * @property {Check[]} checks In the order of `TITLES`; a full bundle's blobs behind them.
 * @property {Finding[]} findings
 * @property {object | null} trust Whose word the answer rests on: see `trustOf`.
 * @property {object | null} model The model: `digest`, `blob`, `round`, `task`.
 * @property {object[]} rounds The task's rounds, in short.
 * @property {object[]} versions Every data-set version, with the uses that the model made of it.
 */

/**
 * Verify a bundle; see docs/protocol.md, section 14.
 *
 * (11) The container is whole, strict and about the model that was asked for.
 * (12) The quorum of the round's witnesses signed the head of the ledger that the reader knows, and
 *      so did every witness that the reader knows.
 * (13) Headers, receipts and logs lead to that head, and none is left out.
 * (1) to (6) What the ledger says of each of the task's rounds up to the model's: see
 *      `audit/verify.py`.
 * (7), (8) In a full bundle, the blobs that these rounds stand on: see `holdings.js`.
 *
 * Steps whose ground could not be read are not run; every other that fails is told.
 *
 * @param {Uint8Array} file
 * @param {Known} [known]
 * @param {(step: number, done: number, total: number) => void} [progress]
 * @returns {Report}
 */
export function verifyBundle(file, known = {}, progress = () => {}) {
  /** @type {Finding[]} */
  const findings = [];
  /** @type {Map<number, string>} */
  const told = new Map();
  const report = { trust: null, model: null, rounds: [], versions: [] };
  const titles = new Map(TITLES);
  const collect = (found) => {
    for (const one of found) findings.push(one);
  };
  const attempt = (step, message, run) => {
    progress(step, 0, 1);
    try {
      return run();
    } catch (error) {
      findings.push(faultOf(step, message, error));
      return undefined;
    } finally {
      progress(step, 1, 1);
    }
  };

  // (11) The file.
  const bundle = attempt(BUNDLE, "the file is not a bundle that can be relied on", () => {
    const read = readBundle(file);
    const parts = read.parts.length === 1 ? "1 part" : `${read.parts.length} parts`;
    const keys = partNamed(read, "keys") ? "; the keys in it are not looked at here" : "";
    told.set(BUNDLE, `${file.length} bytes, ${parts}, their SHA-256 and canonical header${keys}`);
    return read;
  });
  if (bundle === undefined) return summed(report, findings, told, titles);
  collect(verifyPlace(bundle, known));

  // (13) The events, which tell who the round's witnesses are: so before (12).
  const federation = attempt(EVENTS, "the ledger's part does not lead to the signed head", () => {
    const count = (done, total) => progress(EVENTS, done, total);
    const ledger = readLedger(bundle, partNamed(bundle, "ledger"), count);
    const { blocks, receipts, events } = ledger;
    told.set(
      EVENTS,
      `${blocks} headers hashed, ${receipts} receipts proven in them, ${events.length} logs ` +
        "decoded and counted, and the history of them all",
    );
    const folded = foldEvents(bundle, events);
    checkFinal(bundle, folded);
    return folded;
  });
  const round = federation?.rounds.get(bundle.head.round);

  // (12) The head.
  progress(HEAD, 0, 1);
  const signers = signersOf(bundle);
  collect(verifyHead(bundle, round, signers, known));
  if (round !== undefined) told.set(HEAD, toldHead(bundle, round, signers));
  progress(HEAD, 1, 1);
  report.trust = trustOf(bundle, round, signers, known);
  if (bundle.mode === "full") HOLDINGS.forEach((title, number) => titles.set(number, title));
  if (round === undefined) return summed(report, findings, told, titles);

  // (1) to (6) The task's rounds up to the model's; a later one may begin in the same block.
  const rounds = [...federation.rounds.values()].filter(
    ({ taskId, number }) => taskId === round.taskId && number <= round.number,
  );
  collect(verifyTask(bundle, rounds, progress));
  tellTask(rounds, told);

  // (7), (8) What they stand on.
  if (bundle.mode === "full") {
    const count = (done, total) => progress(BLOBS, done, total);
    collect(verifyHoldings(bundle, rounds, finding, count));
    told.set(BLOBS, "models and sealed updates, cut into blocks and hashed");
    told.set(MODELS, "SHA-256 of each model's file; its tensors are not looked at");
  }
  report.model = {
    digest: bundle.model,
    blob: round.proposal.modelBlob,
    round: round.number,
    task: round.task,
  };
  report.rounds = rounds.map(shortRound);
  report.versions = usedVersions(federation, rounds);
  return summed(report, findings, told, titles);
}

/** Hold the header against what the reader asked for and knows (parts of steps 11 and 12). */
function* verifyPlace(bundle, known) {
  const places = [
    [BUNDLE, "model", known.model, bundle.model],
    [HEAD, "chain", known.chainId, `${bundle.chainId}`],
    [HEAD, "ledger", known.ledger, bundle.ledger],
  ];
  for (const [step, what, expected, found] of places) {
    if (expected !== undefined && expected !== found) {
      const message = `the bundle is about another ${what} than the one that was asked for`;
      yield finding(step, what, expected, found, message);
    }
  }
}

/** The head's block holds the round's end, with the bundle's model (a part of step 13). */
function checkFinal(bundle, { rounds }) {
  const { head, model } = bundle;
  const round = rounds.get(head.round);
  const subject = `round ${head.round}`;
  const expected = `final in block ${head.number} with model ${model}`;
  if (round === undefined) throw new Malformed(subject, expected, "no such round");
  const found = `${round.phase.toLowerCase()} in block ${round.finalBlock ?? "none"} with model ${
    round.proposal?.model ?? "none"
  }`;
  const isFinal = round.phase === "FINAL" && round.finalBlock === head.number;
  if (!isFinal || round.proposal?.model !== model) throw new Malformed(subject, expected, found);
}

function signersOf(bundle) {
  const signed = signedDigest(bundle.chainId, bundle.ledger, headHash(bundle.head));
  return bundle.cosignatures.map(({ witness, signature }) => ({
    witness,
    signature,
    signer: recoverSigner(signed, signature),
  }));
}

function* verifyHead(bundle, round, signers, known) {
  const subject = `head of round ${bundle.head.round}`;
  const valid = new Set();
  for (const { witness, signature, signer } of signers) {
    const isSeated = round === undefined || round.terms.witnesses.includes(witness);
    if (signer === witness && isSeated) {
      valid.add(witness);
      continue;
    }
    const stranger = isSeated ? undefined : "no witness of the round";
    const other = signer === null ? toldSignature(signature) : `the signature of ${signer}`;
    const message = "a cosignature is not one of a witness of the round over this head";
    yield finding(HEAD, `${subject}, ${witness}`, witness, stranger ?? other, message);
  }
  // Without the round's events nobody can tell who its witnesses are: step 13 says so.
  if (round !== undefined && valid.size < round.terms.quorum) {
    const message = "the head is not signed by the quorum of the round's witnesses";
    yield finding(HEAD, subject, `${round.terms.quorum} witnesses`, `${valid.size}`, message);
  }
  for (const witness of known.witnesses ?? []) {
    if (!valid.has(witness)) {
      const message = "a witness that you know did not sign this head";
      yield finding(HEAD, `${subject}, ${witness}`, `a signature of ${witness}`, "none", message);
    }
  }
}

function toldHead({ head }, round, signers) {
  return (
    `${signers.length} cosignatures, ${round.terms.quorum} are needed, over block ${head.number}, ` +
    `its hash, ${head.blocks} blocks and their history (EIP-712)`
  );
}

/**
 * Say whose word it all rests on.
 * @returns {object} `anchored` tells whether the reader named what the ledger is known by: without
 *   that, everything may hold together and still be a ledger that somebody made up.
 */
function trustOf(bundle, round, signers, known) {
  const valid = signers.filter(({ witness, signer }) => signer === witness);
  const names = known.witnesses ?? [];
  return {
    chainId: `${bundle.chainId}`,
    ledger: bundle.ledger,
    participants: bundle.participants,
    datasets: bundle.datasets,
    block: bundle.head.number,
    blockHash: bundle.head.hash,
    history: bundle.head.history,
    blocks: bundle.head.blocks,
    round: bundle.head.round,
    quorum: round?.terms.quorum ?? null,
    witnesses: round?.terms.witnesses ?? [],
    signers: valid.map(({ witness }) => witness),
    knownLedger: known.ledger ?? null,
    knownWitnesses: [...names].sort(byAddress),
    anchored: names.length > 0,
  };
}

function* verifyTask(bundle, rounds, progress) {
  const steps = [
    [CHAIN_OF_MODELS, verifyChainOfModels],
    [RECORDS, each(verifyRecords)],
    [DATA_SETS, each(verifyDataSets)],
    [VERDICTS, each(verifyVerdicts)],
    [KEPT_UPDATES, each(verifyKept)],
    [WITNESSES, each(verifyWitnesses)],
  ];
  for (const [step, verify] of steps) {
    progress(step, 0, rounds.length);
    yield* verify(bundle, rounds, (done) => progress(step, done, rounds.length));
    progress(step, rounds.length, rounds.length);
  }
}

const each = (verify) =>
  function* verifyEach(bundle, rounds, progress) {
    for (const [done, round] of rounds.entries()) {
      yield* verify(bundle, round);
      progress(done + 1);
    }
  };

/** (1) Each round's base model, and its blob, are the task's last final ones. */
function* verifyChainOfModels(_, rounds) {
  let last = null;
  const message = "the round did not start from the task's last final model";
  for (const { number, terms, phase, proposal } of rounds) {
    const pairs = [
      ["base model", last?.model, terms.baseModel],
      ["blob of the base model", last?.modelBlob, terms.baseBlob],
    ];
    for (const [what, expected, found] of last === null ? [] : pairs) {
      if (found !== expected) {
        yield finding(CHAIN_OF_MODELS, `round ${number}, ${what}`, expected, found, message);
      }
    }
    if (phase === "FINAL") last = proposal;
  }
}

/** (2) Each record hashes to its digest, and is its active hospital's only one. */
function* verifyRecords(_, { records }) {
  // Counted once: a forged ledger may hold any number of records.
  const recorded = counted(records.map(({ record }) => record.hospital));
  for (const { record, digest, isActive } of records) {
    const subject = recordName(record);
    const hash = toHex(recordHash(record));
    if (hash !== digest) {
      const message = "the record's content does not hash to the digest on the ledger";
      yield finding(RECORDS, subject, digest, hash, message);
    }
    const times = recorded.get(record.hospital);
    if (times > 1) {
      const message = "a hospital has more than one record in the round";
      yield finding(RECORDS, subject, "1 record", `${times}`, message);
    }
    if (!isActive) {
      const message = "the hospital was not enrolled, or suspended, when it recorded";
      yield finding(RECORDS, subject, "an active hospital", "none", message);
    }
  }
}

/** (3) Each record stands on its hospital's data sets, usable for the purpose then. */
function* verifyDataSets(_, { records, terms }) {
  for (const { record, versions } of records) {
    const subject = recordName(record);
    const { datasets } = record;
    if (datasets.length === 0 || datasets.some((name, at) => at > 0 && datasets[at - 1] >= name)) {
      const message = "the record names no data sets, or not in ascending order without repetition";
      const found = datasets.join(", ") || "none";
      yield finding(DATA_SETS, subject, "ascending versions", found, message);
    }
    let images = 0;
    for (const name of datasets) {
      const version = versions.get(name);
      if (version === undefined) {
        const message = "the record stands on a data set that nobody had registered";
        yield finding(DATA_SETS, subject, "a registered version", name, message);
      } else {
        yield* verifyVersion(subject, version, record.hospital, terms.purpose);
      }
    }
    for (const version of versions.values()) images += version.images;
    if (record.examples < 1 || record.examples > images) {
      const message = "the record counts no examples, or more than its data sets have images";
      yield finding(DATA_SETS, subject, `1 to ${images}`, `${record.examples}`, message);
    }
  }
}

function* verifyVersion(record, version, hospital, purpose) {
  const subject = `${record}, data set ${version.version}`;
  if (version.hospital !== hospital) {
    const message = "the data set is another hospital's";
    yield finding(DATA_SETS, subject, hospital, version.hospital, message);
  }
  if (version.state !== "ACTIVE") {
    const message = "the data set had been withdrawn or superseded";
    yield finding(DATA_SETS, subject, "ACTIVE", version.state, message);
  }
  if (version.profile % 2 !== 1) {
    const message = "the data set was not de-identified (DICOM 113100)";
    const found = `0b${version.profile.toString(2)}`;
    yield finding(DATA_SETS, subject, "profile bit 0", found, message);
  }
  const permitted = purposeNumbers(version.purposes);
  if (!permitted.includes(purpose)) {
    const message = "the hospital had not permitted this purpose";
    const found = permitted.join(", ") || "none";
    yield finding(DATA_SETS, subject, `purpose ${purpose}`, found, message);
  }
}

/** (4) Each record has one verdict, and the verdicts have the root on the ledger. */
function* verifyVerdicts(_, round) {
  const proposal = standing(round);
  if (proposal === null) return;
  const { number, records, verdicts } = round;
  const subject = `round ${number}, verdicts of proposal ${proposal.number}`;
  const root = toHex(verdictsRoot(number, verdicts));
  if (root !== proposal.verdicts) {
    const message = "the verdicts in the log do not have the root that the witnesses signed";
    yield finding(VERDICTS, subject, proposal.verdicts, root, message);
  }
  const recorded = counted(records.map(({ record }) => record.hospital));
  const judged = counted(verdicts.map(({ hospital }) => hospital));
  const hospitals = [...new Set([...recorded.keys(), ...judged.keys()])].sort(byAddress);
  for (const hospital of hospitals) {
    const [of, on] = [recorded.get(hospital) ?? 0, judged.get(hospital) ?? 0];
    if (of === 0 || on !== 1) {
      const message = "a record has no verdict or several, or a verdict has no record";
      const found = `${of} records, ${on} verdicts`;
      yield finding(VERDICTS, `${subject}, ${hospital}`, "1 record, 1 verdict", found, message);
    }
  }
}

/** (5) At least `minUpdates` updates were kept. */
function* verifyKept(_, round) {
  if (standing(round) === null) return;
  const least = round.terms.minUpdates;
  const kept = round.verdicts.filter(({ outcome }) => outcome !== REJECTED).length;
  if (kept < least) {
    const message = "the model was made of fewer updates than the round asks for";
    const subject = `round ${round.number}, updates kept`;
    yield finding(KEPT_UPDATES, subject, `at least ${least}`, `${kept}`, message);
  }
}

/** (6) The quorum attested a final model, and nobody disputes a proposal that stands. */
function* verifyWitnesses(bundle, round) {
  const proposal = standing(round);
  if (proposal === null) return;
  const { number, terms, attestations, disputants, phase } = round;
  const subject = `round ${number}, proposal ${proposal.number}`;
  for (const witness of disputants) {
    const message = "a witness of the round came to another result";
    yield finding(WITNESSES, subject, "no dispute", `one by ${witness}`, message);
  }
  const signed = signedDigest(bundle.chainId, bundle.ledger, attestationHash(number, proposal));
  const valid = new Set();
  const seated = new Set(terms.witnesses);
  for (const { witness, signature } of attestations) {
    const fault = attestationFault(seated, signed, witness, signature);
    if (fault === null) {
      valid.add(witness);
    } else {
      const message = "an attestation is not a signature of a witness of the round over this";
      yield finding(WITNESSES, `${subject}, ${witness}`, witness, fault, message);
    }
  }
  if (phase === "FINAL" && valid.size < terms.quorum) {
    const message = "the model is final without enough valid attestations";
    yield finding(WITNESSES, subject, `${terms.quorum} witnesses`, `${valid.size}`, message);
  }
}

function attestationFault(seated, signed, witness, signature) {
  if (!seated.has(witness)) return "no witness of the round";
  const signer = recoverSigner(signed, signature);
  if (signer === null) return toldSignature(signature);
  return signer === witness ? null : `the signature of ${signer}`;
}

const REJECTED = 2;
const OUTCOMES = ["ACCEPTED", "CLIPPED", "REJECTED"];

/** The proposal that still claims something: none in an aborted round. */
function standing({ phase, proposal }) {
  return phase === "PROPOSED" || phase === "FINAL" ? proposal : null;
}

function tellTask(rounds, told) {
  const count = (of) => rounds.reduce((sum, round) => sum + of(round), 0);
  const records = count((round) => round.records.length);
  const verdicts = count((round) => round.verdicts.length);
  const attestations = count((round) => round.attestations.length);
  const data = new Set(rounds.flatMap((round) => round.records.flatMap((r) => r.record.datasets)));
  told.set(CHAIN_OF_MODELS, `${rounds.length} rounds of the task, base models and their blobs`);
  told.set(RECORDS, `${records} records, hashed again (EIP-712); each hospital's enrolment then`);
  told.set(DATA_SETS, `${records} records on ${data.size} data-set versions, as they stood then`);
  told.set(VERDICTS, `${verdicts} verdicts, and the Merkle root above them`);
  told.set(KEPT_UPDATES, `${verdicts} verdicts against the least that each round asks for`);
  told.set(WITNESSES, `${attestations} signatures of witnesses over model, blob and verdicts`);
}

function shortRound(round) {
  const { number, phase, proposal, records, verdicts, terms } = round;
  return {
    number,
    phase,
    model: proposal?.model ?? null,
    records: records.length,
    kept: verdicts.filter(({ outcome }) => outcome !== REJECTED).length,
    quorum: terms.quorum,
    witnesses: terms.witnesses,
  };
}

/**
 * List the registered data-set versions with what the model made of them: every update on one in
 * a final round, each of which the next builds on.
 */
function usedVersions({ versions, names }, rounds) {
  const uses = new Map();
  for (const round of rounds.filter(({ phase }) => phase === "FINAL")) {
    const outcomes = new Map(round.verdicts.map(({ hospital, outcome }) => [hospital, outcome]));
    for (const { record } of round.records) {
      const use = {
        round: round.number,
        update: record.update,
        outcome: OUTCOMES[outcomes.get(record.hospital)] ?? "UNKNOWN",
      };
      for (const name of record.datasets) {
        if (!uses.has(name)) uses.set(name, []);
        uses.get(name).push(use);
      }
    }
  }
  return [...versions.values()].map((version) => ({
    version: version.version,
    dataset: version.dataset,
    name: version.name,
    hospital: version.hospital,
    hospitalName: names.get(version.hospital) ?? "",
    state: version.state,
    images: version.images,
    merkleRoot: version.merkleRoot,
    uses: uses.get(version.version) ?? [],
  }));
}

function summed(report, findings, told, titles) {
  const failed = new Set(findings.map(({ step }) => step));
  const checks = [...titles].map(([number, title]) => {
    const own = findings.filter(({ step }) => step === number);
    const isRun = told.has(number) || failed.has(number);
    return {
      number,
      title,
      ok: isRun ? !failed.has(number) : null,
      told: told.get(number) ?? (isRun ? "" : "not run: what it stands on has failed"),
      findings: own,
    };
  });
  return { ok: checks.every(({ ok }) => ok === true), checks, findings, ...report };
}

function faultOf(step, message, error) {
  if (error instanceof Malformed) {
    return finding(step, error.subject, error.expected, error.found, message);
  }
  return finding(step, "verifier", "values that can be read", String(error), message);
}

function finding(step, subject, expected, found, message) {
  return { step, subject, expected, found, message };
}

function counted(names) {
  const counts = new Map();
  for (const name of names) counts.set(name, (counts.get(name) ?? 0) + 1);
  return counts;
}

function purposeNumbers(bits) {
  const found = [];
  for (let number = 0; number < 48; number++) {
    if (Math.floor(bits / 2 ** number) % 2 === 1) found.push(number);
  }
  return found;
}

const recordName = ({ round, hospital }) => `round ${round}, record of ${hospital}`;
