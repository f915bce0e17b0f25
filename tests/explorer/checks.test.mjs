import assert from "node:assert/strict";
import { test } from "node:test";
import { toHex } from "../../api/explorer/static/verify/bytes.js";
import { verifyBundle } from "../../api/explorer/static/verify/checks.js";
import { verdictsRoot } from "../../api/explorer/static/verify/merkle.js";
import {
  LEDGER,
  WITNESSES,
  address,
  attested,
  bundleOf,
  digest,
  eventsOf,
  story,
  versionOf,
} from "./ledgers.mjs";

const failed = (report) => report.checks.filter(({ ok }) => ok === false).map((one) => one.number);

/** Tell a story with a change that its ledger and its witnesses vouch for. */
function verified(change, changes) {
  const blocks = story();
  change(blocks);
  return verifyBundle(bundleOf(blocks, changes));
}

test("a whole bundle passes every step", () => {
  const report = verifyBundle(bundleOf(story()));
  assert.deepEqual(report.findings, []);
  assert.equal(report.ok, true);
  assert.deepEqual(
    report.checks.map(({ number }) => number),
    [11, 12, 13, 1, 2, 3, 4, 5, 6],
  );
  assert.ok(report.checks.every(({ ok, told }) => ok === true && told.length > 0));
  assert.equal(report.model.digest, digest("model 2"));
});

test("progress is told for every step", () => {
  const seen = new Set();
  verifyBundle(bundleOf(story()), {}, (step) => seen.add(step));
  assert.deepEqual(
    [...seen].sort((one, two) => one - two),
    [1, 2, 3, 4, 5, 6, 11, 12, 13],
  );
});

test("trust is anchored only where the reader names a witness", () => {
  const bundle = bundleOf(story());
  assert.equal(verifyBundle(bundle).trust.anchored, false);
  assert.equal(verifyBundle(bundle, { ledger: LEDGER }).trust.anchored, false);
  assert.equal(verifyBundle(bundle, { witnesses: [WITNESSES[0]] }).trust.anchored, true);
});

test("a witness that the reader knows has to have signed", () => {
  const known = { witnesses: [WITNESSES[0], address("witness-3")] };
  const report = verifyBundle(bundleOf(story()), known);
  assert.deepEqual(failed(report), [12]);
  assert.match(report.findings[0].subject, new RegExp(address("witness-3")));
});

for (const [what, step, known] of [
  ["ledger", 12, { ledger: address("other ledger") }],
  ["chain", 12, { chainId: "1" }],
  ["model", 11, { model: digest("model 1") }],
]) {
  test(`another ${what} than was asked for is refused`, () => {
    const report = verifyBundle(bundleOf(story()), known);
    assert.deepEqual(failed(report), [step]);
    assert.equal(report.findings[0].subject, what);
  });
}

test("fewer cosignatures than the quorum are found", () => {
  assert.deepEqual(failed(verified(() => {}, { signers: ["witness-1"] })), [12]);
});

test("a cosignature of a stranger is found, and counts for nothing", () => {
  const report = verified(() => {}, { signers: ["witness-1", "stranger"] });
  assert.deepEqual(failed(report), [12]);
  assert.ok(report.findings.some(({ found }) => found === "no witness of the round"));
});

for (const [what, headTamper] of [
  ["another block hash", (head) => (head.hash = digest("other"))],
  ["another history", (head) => (head.history = digest("other"))],
  ["more blocks", (head) => (head.blocks += 1)],
  ["another block number", (head) => (head.number += 1)],
  ["another round", (head) => (head.round -= 1)],
]) {
  test(`a signed head with ${what} is not what the events lead to`, () => {
    assert.deepEqual(failed(verified(() => {}, { headTamper })), [13]);
  });
}

test("a block that is left out is found", () => {
  const tamper = (blocks) => blocks.splice(1, 1);
  const report = verified(() => {}, { tamper });
  assert.deepEqual(failed(report), [13]);
  assert.equal(report.checks.find(({ number }) => number === 12).ok, null);
});

test("a receipt that is left out is found", () => {
  const tamper = (blocks) => blocks[1].receipts.pop();
  const report = verified(() => {}, { tamper });
  assert.deepEqual(failed(report), [13]);
  assert.equal(report.findings.find(({ step }) => step === 13).subject, "history");
});

test("blocks out of order are found", () => {
  const report = verified(() => {}, { tamper: (blocks) => blocks.reverse() });
  assert.deepEqual(failed(report), [13]);
});

test("blocks whose numbers do not ascend are refused, whoever signed them", () => {
  for (const numberOf of [() => 10, (at) => 100 - at]) {
    const report = verified(() => {}, { numberOf });
    assert.match(report.findings[0].expected, /^a number above/);
    assert.deepEqual(failed(report), [13]);
  }
});

test("a receipt without a log of the federation is refused beside the others", () => {
  const tamper = (blocks) => blocks[0].receipts.unshift(blocks[0].foreign);
  const report = verified(() => {}, { tamper });
  assert.equal(report.findings[0].expected, "a log of the federation");
});

test("receipts that do not ascend, or come twice, are refused", () => {
  for (const tamper of [
    (blocks) => blocks[1].receipts.reverse(),
    (blocks) => blocks[1].receipts.push(blocks[1].receipts[1]),
  ]) {
    assert.match(verified(() => {}, { tamper }).findings[0].expected, /^a transaction above/);
  }
});

test("a receipt under another transaction's index is found", () => {
  const tamper = (blocks) => (blocks[0].receipts[0][0] = Uint8Array.of(3));
  assert.deepEqual(failed(verified(() => {}, { tamper })), [13]);
});

test("a receipt of somebody else's transaction is refused", () => {
  const tamper = (blocks) => (blocks[0].receipts[0] = blocks[0].foreign);
  assert.deepEqual(failed(verified(() => {}, { tamper })), [13]);
});

test("a trie node that is not needed is refused", () => {
  const tamper = (blocks) => blocks[0].receipts[0][1].push(Uint8Array.of(0xc0));
  assert.deepEqual(failed(verified(() => {}, { tamper })), [13]);
});

test("a header with another timestamp is found", () => {
  const tamper = (blocks) => (blocks[3].header[11] = Uint8Array.of(1));
  assert.deepEqual(failed(verified(() => {}, { tamper })), [13]);
});

test("a bundle about another model than its round made is refused", () => {
  const report = verified(() => {}, { header: { model: digest("model 1") } });
  assert.deepEqual(failed(report), [13]);
});

test("a bundle for a round that is not final is refused", () => {
  assert.deepEqual(failed(verified((blocks) => blocks.at(-1).pop())), [13]);
});

test("a name that would turn the text around it is spelled out", () => {
  const report = verified((blocks) => {
    const [{ args }] = eventsOf(blocks, "VersionRegistered");
    args.terms.name = "chest\u202e\nxyz\u0000";
  });
  assert.equal(report.ok, true);
  assert.equal(report.versions[0].name, "chest\\u202e\\u000axyz\\u0000");
});

test("every step that fails is told, also where too few signed", () => {
  const change = (blocks) => (eventsOf(blocks, "UpdateRecorded")[0].args.code = digest("other"));
  assert.deepEqual(failed(verified(change, { signers: [] })), [12, 2]);
});

test("steps on a ledger that cannot be read are not run", () => {
  const report = verified(() => {}, { tamper: (blocks) => blocks.pop() });
  const notRun = report.checks.filter(({ ok }) => ok === null).map(({ number }) => number);
  assert.deepEqual([notRun, failed(report)], [[12, 1, 2, 3, 4, 5, 6], [13]]);
  assert.deepEqual([report.ok, report.rounds, report.versions], [false, [], []]);
});

test("a round from another base model is found", () => {
  const report = verified((blocks) => {
    eventsOf(blocks, "RoundOpened")[1].args.terms.baseModel = digest("other model");
  });
  assert.ok(failed(report).includes(1));
  assert.equal(report.findings[0].expected, digest("model 1"));
});

for (const [field, value] of [
  ["examples", 51],
  ["update", digest("other")],
  ["blob", digest("other")],
  ["code", digest("other")],
  ["epsilon", 1n],
  ["delta", 1n],
  ["recordDigest", digest("other")],
]) {
  test(`a record with another ${field} does not hash to its digest`, () => {
    const report = verified((blocks) => {
      eventsOf(blocks, "UpdateRecorded")[2].args[field] = value;
    });
    assert.deepEqual(failed(report), [2]);
    assert.match(report.findings[0].subject, /^round 2, record of 0x/);
  });
}

test("a second record of a hospital is found", () => {
  const report = verified((blocks) => {
    const [one, two] = eventsOf(blocks, "UpdateRecorded");
    two.args = structuredClone(one.args);
  });
  assert.ok(failed(report).includes(2));
});

test("a record of a suspended hospital is found, one before the suspension is not", () => {
  const account = address("hospital-1");
  const suspension = {
    contract: "ParticipantRegistry",
    name: "ParticipantSuspended",
    args: { account, reason: "" },
  };
  assert.deepEqual(failed(verified((blocks) => blocks.splice(6, 0, [[suspension]]))), [2]);
  assert.deepEqual(failed(verified((blocks) => blocks.splice(9, 0, [[suspension]]))), []);
});

test("a record of someone who is no hospital is found", () => {
  const report = verified((blocks) => {
    const [granted] = eventsOf(blocks, "RoleGranted");
    granted.args.role = digest("other role");
  });
  assert.deepEqual(failed(report), [2]);
});

for (const [what, change] of [
  ["is another hospital's", (args) => (args.hospital = address("hospital-3"))],
  ["was never registered", (args) => (args.version = digest("other"))],
  ["is not de-identified", (args) => (args.terms.profile = 6)],
  ["is not for this purpose", (args) => (args.terms.purposes = 128)],
  ["has fewer images than examples", (args) => (args.terms.images = 49)],
]) {
  test(`a record on data that ${what} is found`, () => {
    const report = verified((blocks) => change(eventsOf(blocks, "VersionRegistered")[0].args));
    assert.deepEqual(failed(report), [3]);
  });
}

for (const [name, args] of [
  ["VersionWithdrawn", { reason: "consent" }],
  ["VersionSuperseded", { successor: digest("next") }],
  ["PurposesChanged", { purposes: 16 }],
]) {
  test(`a record after ${name} is found, one before is not`, () => {
    const event = {
      contract: "DatasetRegistry",
      name,
      args: { version: versionOf("hospital-1"), ...args },
    };
    const report = verified((blocks) => blocks.splice(6, 0, [[event]]));
    assert.deepEqual(failed(report), [3]);
    assert.ok(report.findings.every(({ subject }) => subject.startsWith("round 2")));
  });
}

for (const [field, value] of [
  ["outcome", 1],
  ["reason", 40],
  ["score", 1n],
  ["threshold", 1n],
  ["content", digest("other")],
]) {
  test(`a verdict with another ${field} does not have the signed root`, () => {
    const report = verified((blocks) => {
      eventsOf(blocks, "VerdictRecorded")[0].args[field] = value;
    });
    assert.deepEqual(failed(report), [4]);
  });
}

test("a reason that the protocol does not have is found, as Python finds it", () => {
  const report = verified((blocks) => {
    const [{ args: proposed }] = eventsOf(blocks, "ModelProposed");
    const verdicts = eventsOf(blocks, "VerdictRecorded").slice(0, 2);
    Object.assign(verdicts[0].args, { outcome: 1, reason: 40 });
    proposed.verdicts = toHex(
      verdictsRoot(
        1,
        verdicts.map(({ args }) => args),
      ),
    );
    const proposal = { number: 1, ...oneProposal(blocks) };
    for (const [at, { args }] of eventsOf(blocks, "ProposalAttested").slice(0, 2).entries()) {
      args.signature = attested(`witness-${at + 1}`, 1, proposal);
    }
  });
  assert.deepEqual(failed(report), [4]);
});

test("a record without a verdict is found", () => {
  const report = verified((blocks) => {
    const judged = blocks.flat().find((events) => events[0].name === "ModelProposed");
    judged.pop();
  });
  assert.deepEqual(failed(report), [4]);
});

test("a model of too few updates is found", () => {
  const report = verified((blocks) => {
    eventsOf(blocks, "RoundOpened")[0].args.terms.minUpdates = 3;
  });
  assert.deepEqual(failed(report), [5]);
});

test("a dispute of a final proposal is found", () => {
  const report = verified((blocks) => {
    const dispute = {
      contract: "RoundLedger",
      name: "ProposalDisputed",
      args: {
        round: 1n,
        proposal: 1,
        witness: WITNESSES[0],
        model: digest("other"),
        verdicts: digest("other"),
        evidence: digest("evidence"),
      },
    };
    blocks[5].unshift([dispute]);
  });
  assert.deepEqual(failed(report), [6]);
});

test("an attestation by another's signature is found", () => {
  const report = verified((blocks) => {
    const [one] = eventsOf(blocks, "ProposalAttested");
    one.args.signature = attested("stranger", 1, { number: 1, ...oneProposal(blocks) });
  });
  assert.deepEqual(failed(report), [6]);
  assert.equal(report.findings[0].found, `the signature of ${address("stranger")}`);
});

function oneProposal(blocks) {
  const { model, modelBlob, verdicts } = eventsOf(blocks, "ModelProposed")[0].args;
  return { model, modelBlob, verdicts };
}

test("a model that was exchanged after the witnesses signed is found", () => {
  const report = verified((blocks) => {
    eventsOf(blocks, "ModelProposed")[1].args.model = digest("other model");
    eventsOf(blocks, "RoundFinalized")[1].args.model = digest("other model");
  });
  assert.deepEqual(failed(report), [6]);
});

test("a quorum of witnesses that are none of the round's is found", () => {
  const report = verified((blocks) => {
    eventsOf(blocks, "RoundOpened")[0].args.terms.witnesses = [address("witness-3")];
  });
  assert.deepEqual(failed(report), [6]);
});

test("another task's round and an aborted round are no part of the model", () => {
  const report = verified((blocks) => {
    const aborted = { round: 1n, task: eventsOf(blocks, "RoundOpened")[0].args.task };
    eventsOf(blocks, "RoundFinalized")[0].name = "RoundAborted";
    blocks[5].at(-1)[0].args = { ...aborted, by: address("steward"), reason: "late" };
  });
  assert.deepEqual(failed(report), []);
  assert.deepEqual(
    report.rounds.map(({ phase }) => phase),
    ["ABORTED", "FINAL"],
  );
  const [version] = report.versions;
  assert.deepEqual(
    version.uses.map(({ round }) => round),
    [2],
  );
});

test("a proposal anew clears verdicts and attestations of the one before", () => {
  const report = verified((blocks) => {
    const judged = blocks[4][0];
    const first = structuredClone(judged);
    first[0].args.model = digest("disputed model");
    first[1].args.reason = 9;
    blocks.splice(4, 0, [first]);
    for (const event of [...judged, ...blocks[6].flat()]) {
      if (event.args.proposal !== undefined) event.args.proposal = 2;
    }
    const proposal = { number: 2, ...oneProposal([[judged]]) };
    blocks[6].slice(0, 2).forEach(([event], at) => {
      event.args.signature = attested(`witness-${at + 1}`, 1, proposal);
    });
  });
  assert.deepEqual(failed(report), []);
});
