/**
 * Rounds, parties and data sets, put together from a ledger's events in the order of the chain
 * (docs/protocol.md, sections 2, 4, 7, 8 and 10).
 */
import { keccak, toHex, utf8 } from "./bytes.js";
import { Malformed } from "./malformed.js";

/**
 * @typedef {"OPEN" | "COLLECTING" | "PROPOSED" | "FINAL" | "ABORTED"} Phase
 *
 * @typedef {object} UpdateRecord What a hospital signs (protocol 7.1).
 * @property {bigint} chainId
 * @property {string} ledger
 * @property {number} round
 * @property {string} hospital
 * @property {string[]} datasets
 * @property {number} purpose
 * @property {number} examples
 * @property {string} baseModel
 * @property {string} update
 * @property {string} blob
 * @property {string} code
 * @property {bigint} epsilon
 * @property {bigint} delta
 *
 * @typedef {object} Recorded A record, and how things stood when it was made.
 * @property {UpdateRecord} record
 * @property {string} digest What the ledger hashed.
 * @property {boolean} isActive Whether the hospital was enrolled and not suspended.
 * @property {Map<string, Version>} versions Those data-set versions it names that were known.
 *
 * @typedef {object} Verdict
 * @property {string} hospital
 * @property {number} outcome
 * @property {number} reason
 * @property {bigint} score
 * @property {bigint} threshold
 * @property {string} content
 *
 * @typedef {object} Proposal
 * @property {number} number
 * @property {string} model
 * @property {string} modelBlob
 * @property {string} verdicts
 *
 * @typedef {object} Version A data-set version at some place of the chain.
 * @property {string} version
 * @property {string} dataset
 * @property {string} hospital
 * @property {string} name
 * @property {"ACTIVE" | "SUPERSEDED" | "WITHDRAWN"} state
 * @property {string} merkleRoot
 * @property {number} images
 * @property {number} purposes Bit n stands for DUO:000000n.
 * @property {number} profile
 *
 * @typedef {object} Round
 * @property {number} number
 * @property {string} task The task's name.
 * @property {string} taskId
 * @property {Phase} phase
 * @property {Record<string, any>} terms
 * @property {Recorded[]} records
 * @property {Proposal | null} proposal The newest one.
 * @property {Verdict[]} verdicts Those of the newest proposal.
 * @property {{witness: string, signature: Uint8Array}[]} attestations Of the newest proposal.
 * @property {string[]} disputants Of the newest proposal.
 * @property {number | null} finalBlock
 *
 * @typedef {object} Federation
 * @property {Map<number, Round>} rounds
 * @property {Map<string, Version>} versions As they stand at the head.
 * @property {Map<string, string>} names What parties were enrolled as.
 */

const HOSPITAL = toHex(keccak(utf8("HOSPITAL")));
/** A code that the protocol does not have counts as this one, as `chain.types.Reason` has it. */
const UNKNOWN_REASON = 255;
const isReason = (code) => code <= 22 || (code >= 32 && code <= 36);

/**
 * Fold events into what they come to.
 * @param {import("./container.js").Bundle} bundle
 * @param {import("./ledger.js").LedgerEvent[]} events
 * @returns {Federation}
 */
export function foldEvents(bundle, events) {
  const federation = { rounds: new Map(), versions: new Map(), names: new Map() };
  const parties = new Map();
  for (const event of events) {
    const { args } = event;
    switch (event.name) {
      case "RoleGranted":
      case "RoleRevoked":
        if (args.role === HOSPITAL) {
          party(parties, args.account).isHospital = event.name === "RoleGranted";
        }
        break;
      case "ParticipantEnrolled":
        federation.names.set(args.account, args.name);
        break;
      case "ParticipantSuspended":
      case "ParticipantReinstated":
        party(parties, args.account).isSuspended = event.name === "ParticipantSuspended";
        break;
      case "VersionRegistered":
        federation.versions.set(args.version, registered(args));
        break;
      case "VersionSuperseded":
        change(federation.versions, args.version, { state: "SUPERSEDED" });
        break;
      case "VersionWithdrawn":
        change(federation.versions, args.version, { state: "WITHDRAWN" });
        break;
      case "PurposesChanged":
        change(federation.versions, args.version, { purposes: args.purposes });
        break;
      default:
        if (event.contract === "RoundLedger") foldRound(bundle, federation, parties, event);
    }
  }
  return federation;
}

function foldRound(bundle, federation, parties, event) {
  const { args } = event;
  if (args.round === undefined) return; // the contract's own domain, which never changes
  const number = Number(args.round);
  if (event.name === "RoundOpened") {
    federation.rounds.set(number, opened(number, args));
    return;
  }
  const round = federation.rounds.get(number);
  if (round === undefined) {
    throw new Malformed(`${event.name} of round ${number}`, "an opened round", "none");
  }
  const isNewest = args.proposal === undefined || args.proposal === round.proposal?.number;
  switch (event.name) {
    case "UpdateRecorded":
      round.phase = "COLLECTING";
      round.records.push(recorded(bundle, federation, parties, round, args));
      break;
    case "ModelProposed":
      round.phase = "PROPOSED";
      round.proposal = {
        number: args.proposal,
        model: args.model,
        modelBlob: args.modelBlob,
        verdicts: args.verdicts,
      };
      Object.assign(round, { verdicts: [], attestations: [], disputants: [] });
      break;
    case "VerdictRecorded":
      if (isNewest) round.verdicts.push(verdict(args));
      break;
    case "ProposalAttested":
      if (isNewest) {
        round.attestations.push({ witness: args.witness, signature: args.signature });
      }
      break;
    case "ProposalDisputed":
      if (isNewest) round.disputants.push(args.witness);
      break;
    case "RoundFinalized":
      round.phase = "FINAL";
      round.finalBlock = event.position.block;
      break;
    case "RoundAborted":
      round.phase = "ABORTED";
      break;
    default: // heads that were cosigned: about rounds, and no part of them
  }
}

function opened(number, { task, terms }) {
  return {
    number,
    task: terms.task,
    taskId: task,
    phase: "OPEN",
    terms,
    records: [],
    proposal: null,
    verdicts: [],
    attestations: [],
    disputants: [],
    finalBlock: null,
  };
}

function recorded(bundle, federation, parties, { number, terms }, args) {
  const known = args.datasets.filter((name) => federation.versions.has(name));
  const { isHospital = false, isSuspended = false } = parties.get(args.hospital) ?? {};
  return {
    record: {
      chainId: bundle.chainId,
      ledger: bundle.ledger,
      round: number,
      hospital: args.hospital,
      datasets: args.datasets,
      purpose: terms.purpose,
      examples: args.examples,
      baseModel: terms.baseModel,
      update: args.update,
      blob: args.blob,
      code: args.code,
      epsilon: args.epsilon,
      delta: args.delta,
    },
    digest: args.recordDigest,
    isActive: isHospital && !isSuspended,
    versions: new Map(known.map((name) => [name, federation.versions.get(name)])),
  };
}

function verdict({ hospital, outcome, reason, score, threshold, content }) {
  const code = isReason(reason) ? reason : UNKNOWN_REASON;
  return { hospital, outcome, reason: code, score, threshold, content };
}

function registered({ version, dataset, hospital, terms }) {
  const { name, merkleRoot, images, purposes, profile } = terms;
  return {
    version,
    dataset,
    hospital,
    name,
    state: "ACTIVE",
    merkleRoot,
    images,
    purposes,
    profile,
  };
}

/** Versions are replaced, not changed: a record keeps them as they stood. */
function change(versions, name, changes) {
  const before = versions.get(name);
  if (before !== undefined) versions.set(name, { ...before, ...changes });
}

function party(parties, account) {
  if (!parties.has(account)) parties.set(account, { isHospital: false, isSuspended: false });
  return parties.get(account);
}
