// Measures what one update's record, its verdict and a witness's signature under a head cost, in
// whole transactions on Hardhat's network, and fails above the limits. A fresh federation of 16 hospitals; each record names one
// data-set version.
import assert from "node:assert/strict";
import hre from "hardhat";
import { createContract, deployContract } from "micro-eth-signer/advanced/abi.js";
import { ethHex } from "micro-eth-signer/utils.js";

const LIMIT_ALONE = 90_000n;
const LIMIT_IN_BATCH = 55_000n;
// A hospital's first verdict in a task takes a slot for its tally; later ones change it.
const LIMIT_FIRST_VERDICT = 42_000n;
const LIMIT_VERDICT = 25_000n;
const LIMIT_GRANT = 60_000n;
const LIMIT_LOG_ENTRY = 100n;
const LOG_ENTRIES = 1024n;
const LIMIT_COSIGNED_HEAD = 52_000n;
const PROOF_NODES = 10; // of an image among a thousand
const BATCH = 16;
const PURPOSE = 6n;

const UPDATE_RECORD = [
  ["chainId", "uint64"],
  ["ledger", "address"],
  ["round", "uint256"],
  ["hospital", "address"],
  ["datasets", "bytes32[]"],
  ["purpose", "uint8"],
  ["examples", "uint32"],
  ["baseModel", "bytes32"],
  ["update", "bytes32"],
  ["blob", "bytes32"],
  ["code", "bytes32"],
  ["epsilon", "uint64"],
  ["delta", "uint64"],
].map(([name, type]) => ({ name, type }));

const ATTESTATION = [
  ["round", "uint256"],
  ["proposal", "uint32"],
  ["model", "bytes32"],
  ["modelBlob", "bytes32"],
  ["verdicts", "bytes32"],
].map(([name, type]) => ({ name, type }));

const LEDGER_HEAD = [
  ["round", "uint256"],
  ["number", "uint64"],
  ["hash", "bytes32"],
  ["blocks", "uint64"],
  ["history", "bytes32"],
].map(([name, type]) => ({ name, type }));

const { provider } = await hre.network.create();
const request = (method, ...params) => provider.request({ method, params });
const [steward, aggregator, witness, relayer, ...hospitals] = await request("eth_accounts");
assert.equal(hospitals.length, BATCH);
const chainId = BigInt(await request("eth_chainId"));
const keccak = async (text) => ethHex.decode(await request("web3_sha3", hexOf(text)));

function hexOf(text) {
  return ethHex.encode(new TextEncoder().encode(text));
}

async function send(transaction) {
  const hash = await request("eth_sendTransaction", transaction);
  return request("eth_getTransactionReceipt", hash);
}

async function deploy(name, args) {
  const { abi, bytecode } = await hre.artifacts.readArtifact(name);
  const data = deployContract(abi, bytecode, args);
  const { contractAddress: address } = await send({ from: steward, data });
  const methods = createContract(abi);
  const encode = (method, input) => ethHex.encode(methods[method].encodeInput(input));
  return {
    address,
    send: (from, method, input) => send({ from, to: address, data: encode(method, input) }),
    call: async (method, input) => {
      const data = encode(method, input);
      const output = await request("eth_call", { to: address, data }, "latest");
      return methods[method].decodeOutput(ethHex.decode(output));
    },
  };
}

const participants = await deploy("ParticipantRegistry", {
  steward,
  encryptionKey: await keccak("steward's key"),
  name: "Steward",
});
const datasets = await deploy("DatasetRegistry", participants.address);
const ledger = await deploy("RoundLedger", {
  participantRegistry: participants.address,
  datasetRegistry: datasets.address,
});
const accessLogs = await deploy("AccessLogs", participants.address);
const readings = await deploy("Readings", {
  participantRegistry: participants.address,
  datasetRegistry: datasets.address,
});
const access = await deploy("ImageAccess", {
  participantRegistry: participants.address,
  datasetRegistry: datasets.address,
  logs: accessLogs.address,
  imageReadings: readings.address,
});

async function enroll(account, role) {
  await participants.send(steward, "enroll", {
    account,
    role: await keccak(role),
    encryptionKey: await keccak(account),
    name: role,
  });
}

async function register(hospital, name = "brains", root = undefined) {
  await datasets.send(hospital, "registerVersion", {
    name,
    merkleRoot: root ?? (await keccak(`images of ${hospital}`)),
    images: 1000n,
    modality: new Uint8Array(16).fill(0x4d, 0, 2),
    purposes: 1n << PURPOSE,
    profile: 1n,
    attestation: await keccak("report"),
    previous: new Uint8Array(32),
  });
  const coder = createContract([
    {
      type: "function",
      name: "dataset",
      inputs: ["uint256", "address", "address", "string"].map((type) => ({ type })),
      outputs: [],
    },
  ]);
  const encoded = coder.dataset.encodeInput([chainId, datasets.address, hospital, name]);
  const dataset = await request("web3_sha3", ethHex.encode(encoded.slice(4)));
  return datasets.call("headOf", ethHex.decode(dataset));
}

async function open(task, base = "base model", baseBlob = "base blob") {
  const { timestamp } = await request("eth_getBlockByNumber", "latest", false);
  await ledger.send(aggregator, "openRound", {
    task,
    purpose: PURPOSE,
    baseModel: await keccak(base),
    baseBlob: await keccak(baseBlob),
    schema: await keccak("schema"),
    rule: '[{"name":"fed_avg","params":{}}]',
    minUpdates: 1n,
    maxUpdates: 128n,
    quorum: 1n,
    deadline: BigInt(timestamp) + 86_400n,
    witnesses: [witness],
  });
  return ledger.call("roundCount");
}

async function recordOf(hospital, round, base = "base model") {
  return {
    chainId,
    ledger: ledger.address,
    round,
    hospital,
    datasets: [versions.get(hospital)],
    purpose: PURPOSE,
    examples: 1000n,
    baseModel: await keccak(base),
    update: await keccak(`update of ${hospital}`),
    blob: await keccak(`blob of ${hospital}`),
    code: await keccak("code"),
    epsilon: 1_500_000n,
    delta: 10_000_000n,
  };
}

function jsonOf(value) {
  if (typeof value === "bigint") return value.toString();
  if (value instanceof Uint8Array) return ethHex.encode(value);
  return Array.isArray(value) ? value.map(jsonOf) : value;
}

async function signAs(account, primaryType, members, value) {
  const message = Object.fromEntries(Object.entries(value).map(([k, v]) => [k, jsonOf(v)]));
  const domain = {
    name: "FedWitness",
    version: "1",
    chainId: chainId.toString(),
    verifyingContract: ledger.address,
  };
  const types = {
    EIP712Domain: [
      { name: "name", type: "string" },
      { name: "version", type: "string" },
      { name: "chainId", type: "uint256" },
      { name: "verifyingContract", type: "address" },
    ],
    [primaryType]: members,
  };
  const data = { domain, types, primaryType, message };
  return ethHex.decode(await request("eth_signTypedData_v4", account, data));
}

async function sign(record) {
  return signAs(record.hospital, "UpdateRecord", UPDATE_RECORD, record);
}

async function relay(record) {
  const input = { record, signature: await sign(record) };
  return BigInt((await ledger.send(relayer, "relayUpdate", input)).gasUsed);
}

async function recordOwn(record) {
  return BigInt((await ledger.send(record.hospital, "recordUpdate", record)).gasUsed);
}

async function relayBatch(round, base) {
  const records = await Promise.all(hospitals.map((hospital) => recordOf(hospital, round, base)));
  const signatures = await Promise.all(records.map(sign));
  const { gasUsed } = await ledger.send(relayer, "relayUpdates", { records, signatures });
  return BigInt(gasUsed) / BigInt(BATCH);
}

/** Proposes a model with a verdict for each hospital; returns the gas of one of them. */
async function proposeAll(round) {
  await request("evm_increaseTime", 86_401);
  const byAddress = (a, b) => (BigInt(a) < BigInt(b) ? -1 : 1);
  const verdicts = await Promise.all(
    [...hospitals].sort(byAddress).map(async (hospital) => ({
      hospital,
      outcome: 0n,
      reason: 0n,
      score: 120_000n,
      threshold: 900_000n,
      content: await keccak(`content of ${hospital}`),
    })),
  );
  const model = await keccak("model");
  const modelBlob = await keccak("model blob");
  const input = { round, model, modelBlob, verdicts };
  const { gasUsed } = await ledger.send(aggregator, "propose", input);
  return BigInt(gasUsed) / BigInt(BATCH);
}

async function attest(round) {
  const { model, modelBlob, verdicts } = await ledger.call("roundOf", round);
  const attestation = { round, proposal: 1n, model, modelBlob, verdicts };
  const signature = await signAs(witness, "Attestation", ATTESTATION, attestation);
  const input = { round, proposal: 1n, witness, signature };
  const { status, blockNumber, blockHash } = await ledger.send(relayer, "attest", input);
  assert.equal(BigInt(status), 1n);
  return { number: BigInt(blockNumber), hash: ethHex.decode(blockHash) };
}

async function cosign(round, block) {
  const head = { round, ...block, blocks: 50n, history: await keccak("history") };
  const signature = await signAs(witness, "LedgerHead", LEDGER_HEAD, head);
  const { status, gasUsed } = await ledger.send(relayer, "cosign", { head, witness, signature });
  assert.equal(BigInt(status), 1n);
  return BigInt(gasUsed);
}

async function grant(hospital, expiry) {
  const terms = {
    version: versions.get(hospital),
    image: new Uint8Array(32),
    hospital,
    researcher: relayer,
    purpose: PURPOSE,
    expiry,
  };
  return BigInt((await access.send(hospital, "grant", { terms, proof: [] })).gasUsed);
}

async function anchor(hospital, first) {
  const root = await keccak(`looks from ${first}`);
  const input = { root, first, entries: LOG_ENTRIES };
  return BigInt((await accessLogs.send(hospital, "anchor", input)).gasUsed) / LOG_ENTRIES;
}

const keccakOf = async (bytes) => ethHex.decode(await request("web3_sha3", ethHex.encode(bytes)));
const joined = (...parts) => Uint8Array.from(parts.flatMap((part) => [...part]));

/** A version of a thousand images, as far as one of them can tell: its proof and their root. */
async function provenImage() {
  const image = await keccak("an image");
  let node = await keccakOf(await keccakOf(joined(await keccak("fedwitness.image.v1"), image)));
  const proof = [];
  for (let level = 0; level < PROOF_NODES; level += 1) {
    const sibling = await keccak(`sibling ${level}`);
    proof.push(sibling);
    const ordered = ethHex.encode(node) < ethHex.encode(sibling);
    node = await keccakOf(ordered ? joined(node, sibling) : joined(sibling, node));
  }
  return { image, proof, root: node };
}

/** Reads an image, has it read by another hospital, and erases it; the gas of each step. */
async function readImage(owner, reader) {
  const { image, proof, root } = await provenImage();
  const version = await register(owner, "scans", root);
  const none = new Uint8Array(32);
  const gas = {};
  const step = async (name, contract, from, input) => {
    const { status, gasUsed, logs } = await contract.send(from, name, input);
    assert.equal(BigInt(status), 1n);
    gas[name] = BigInt(gasUsed);
    return ethHex.decode(logs[0].topics[1]);
  };
  const document = await keccak("document");
  const blob = await keccak("blob");
  const own = { version, image, hospital: owner, opinionOn: none, document, blob };
  const first = await step("record", readings, owner, { reading: own, proof });
  const correction = { reading: first, document: blob, blob: document, reason: "wrong side" };
  await step("correct", readings, owner, correction);
  const { timestamp } = await request("eth_getBlockByNumber", "latest", false);
  const asked = {
    version,
    image,
    hospital: owner,
    reader,
    opinionOn: first,
    takeBy: BigInt(timestamp) + 3_600n,
    fulfilBy: BigInt(timestamp) + 86_400n,
    question: await keccak("question"),
  };
  await step("ask", readings, owner, { request: asked, proof });
  await step("take", readings, reader, { request: asked, hospital: reader });
  const reading = { ...own, hospital: reader, opinionOn: first };
  await step("fulfil", readings, reader, { request: asked, reading });
  await step("erase", datasets, owner, { version, image, proof });
  return gas;
}

await enroll(aggregator, "AGGREGATOR");
await enroll(witness, "WITNESS");
const versions = new Map();
for (const hospital of hospitals) {
  await enroll(hospital, "HOSPITAL");
  versions.set(hospital, await register(hospital));
}

const [first, second, third] = hospitals;
const relayedRound = await open("relayed");
const relayed = [
  await relay(await recordOf(first, relayedRound)),
  await relay(await recordOf(second, relayedRound)),
];
const ownRound = await open("own");
const own = [
  await recordOwn(await recordOf(first, ownRound)),
  await recordOwn(await recordOf(third, ownRound)),
];
const batchRound = await open("batch");
const inBatch = await relayBatch(batchRound);
const firstVerdict = await proposeAll(batchRound);
const cosigned = await cosign(batchRound, await attest(batchRound));
const nextRound = await open("batch", "model", "model blob");
await relayBatch(nextRound, "model");
const verdict = await proposeAll(nextRound);

const { timestamp: now } = await request("eth_getBlockByNumber", "latest", false);
const granted = [
  await grant(first, BigInt(now) + 86_400n),
  await grant(first, BigInt(now) + 172_800n),
].reduce((most, gas) => (gas > most ? gas : most));
const logEntry = [await anchor(first, 0n), await anchor(first, LOG_ENTRIES)].reduce(
  (most, gas) => (gas > most ? gas : most),
);

const reading = await readImage(second, third);

const alone = [...relayed, ...own].reduce((most, gas) => (gas > most ? gas : most));
console.log(`gas: relayed ${relayed.join(", then ")}; sent by the hospital ${own.join(", then ")}`);
console.log(
  `gas: record alone ${alone} (limit ${LIMIT_ALONE}), ` +
    `in a batch of ${BATCH} ${inBatch} each (limit ${LIMIT_IN_BATCH})`,
);
console.log(
  `gas: proposal of ${BATCH} verdicts, ${firstVerdict} each at first ` +
    `(limit ${LIMIT_FIRST_VERDICT}), ${verdict} later (limit ${LIMIT_VERDICT})`,
);
console.log(`gas: cosigned head ${cosigned} (limit ${LIMIT_COSIGNED_HEAD})`);
assert(alone <= LIMIT_ALONE, "a record alone costs more than its limit");
assert(inBatch <= LIMIT_IN_BATCH, "a record in a batch costs more than its limit");
assert(firstVerdict <= LIMIT_FIRST_VERDICT, "a first verdict costs more than its limit");
assert(verdict <= LIMIT_VERDICT, "a verdict costs more than its limit");
assert(cosigned <= LIMIT_COSIGNED_HEAD, "a cosigned head costs more than its limit");
console.log(
  `gas: grant ${granted} (limit ${LIMIT_GRANT}); anchored log entry ${logEntry} in batches of ` +
    `${LOG_ENTRIES} (limit ${LIMIT_LOG_ENTRY})`,
);
const steps = Object.entries(reading).map(([name, gas]) => `${name} ${gas}`);
console.log(`gas: readings with proofs of ${PROOF_NODES} nodes: ${steps.join(", ")}`);
assert(granted <= LIMIT_GRANT, "a grant costs more than its limit");
assert(logEntry <= LIMIT_LOG_ENTRY, "an anchored log entry costs more than its limit");
