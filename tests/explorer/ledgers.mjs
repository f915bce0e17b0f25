// A federation's story as a bundle, with real headers, receipts, tries and signatures: what a test
// changes in the story is signed and proven like the rest, as only colluding witnesses could do.
import { EVENTS } from "../../api/explorer/static/verify/events.js";
import { topicOf } from "../../api/explorer/static/verify/abi.js";
import { addressBytes, byAddress, toAddress } from "../../api/explorer/static/verify/addresses.js";
import * as eip712 from "../../api/explorer/static/verify/eip712.js";
import { genesisHistory, nextHistory } from "../../api/explorer/static/verify/heads.js";
import { imageLeaf, merkleRoot, verdictsRoot } from "../../api/explorer/static/verify/merkle.js";
import {
  concat,
  fromHex,
  keccak,
  sha256,
  toBigEndian,
  toHex,
  utf8,
} from "../../api/explorer/static/verify/bytes.js";
import { secp256k1 } from "../../api/explorer/static/vendor/noble-curves.js";

export const CHAIN_ID = 31337n;
export const digest = (text) => toHex(sha256(utf8(text)));
const keyOf = (name) => sha256(utf8(`account of ${name}`));

export function address(name) {
  const key = secp256k1.getPublicKey(keyOf(name), false);
  return toAddress(keccak(key.subarray(1)).subarray(12));
}

export const LEDGER = address("ledger");
export const PARTICIPANTS = address("participants");
export const DATASETS = address("datasets");
export const WITNESSES = [address("witness-1"), address("witness-2")].sort(byAddress);
const ADDRESSES = {
  RoundLedger: LEDGER,
  ParticipantRegistry: PARTICIPANTS,
  DatasetRegistry: DATASETS,
};

export function sign(name, hash) {
  const recovered = secp256k1.sign(hash, keyOf(name), { prehash: false, format: "recovered" });
  return concat(recovered.subarray(1), Uint8Array.of(27 + recovered[0]));
}

const event = (contract, name, args) => ({ contract, name, args });

/** The images of hospital-1: 5 of them, so that a proof has a node that moved up. */
export const IMAGES = Array.from({ length: 5 }, (_, at) => {
  const [salt, image] = [sha256(utf8(`salt ${at}`)), sha256(utf8(`image ${at}`))];
  return { salt, image, commitment: sha256(concat(salt, image)) };
});

export function imageTree() {
  const leaves = IMAGES.map(({ commitment }) => imageLeaf(commitment));
  const sorted = leaves.sort((one, two) => (toHex(one) < toHex(two) ? -1 : 1));
  return { leaves: sorted, root: merkleRoot(sorted) };
}

/** The nodes from a leaf to the root, as `chain/merkle.py` collects them. */
export function merkleProof(leaves, leaf) {
  let at = leaves.findIndex((one) => toHex(one) === toHex(leaf));
  const proof = [];
  for (let level = leaves; level.length > 1; at >>= 1) {
    if ((at ^ 1) < level.length) proof.push(level[at ^ 1]);
    const pairs = Array.from({ length: Math.ceil(level.length / 2) }, (_, pair) => pair);
    level = pairs.map((pair) => merkleRoot(level.slice(2 * pair, 2 * pair + 2)));
  }
  return proof;
}

export function versionOf(hospital) {
  return toHex(keccak(utf8(`version of ${hospital}`)));
}

function enrolment(name, role) {
  const account = address(name);
  const id = toHex(keccak(utf8(role)));
  return [
    event("ParticipantRegistry", "RoleGranted", { role: id, account, sender: LEDGER }),
    event("ParticipantRegistry", "ParticipantEnrolled", {
      account,
      role: id,
      encryptionKey: digest(`x25519 of ${name}`),
      name: `Hospital of ${name}`,
    }),
  ];
}

function registration(name) {
  const root = name === "hospital-1" ? toHex(imageTree().root) : digest(`root of ${name}`);
  return event("DatasetRegistry", "VersionRegistered", {
    version: versionOf(name),
    dataset: digest(`data set of ${name}`),
    hospital: address(name),
    terms: {
      name: `chest of ${name}`,
      merkleRoot: root,
      images: 100,
      modality: "43540000000000000000000000000000",
      purposes: 64,
      profile: 1,
      attestation: digest("report"),
      previous: digest("none"),
    },
  });
}

function record(round, name, terms) {
  const values = {
    round: BigInt(round),
    hospital: address(name),
    datasets: [versionOf(name)],
    examples: 50,
    update: digest(`update of ${name} in round ${round}`),
    blob: digest(`envelope of ${name} in round ${round}`),
    code: digest("code"),
    epsilon: 0n,
    delta: 0n,
  };
  const { purpose, baseModel } = terms;
  const whole = { ...values, round, chainId: CHAIN_ID, ledger: LEDGER, purpose, baseModel };
  const recordDigest = toHex(eip712.recordHash(whole));
  return event("RoundLedger", "UpdateRecorded", { ...values, recordDigest });
}

/** The transactions of a whole round, a block each. */
export function roundOf(number, base, changes = {}) {
  const terms = {
    task: "chest-x-ray",
    purpose: 6,
    baseModel: digest(base),
    baseBlob: digest(`blob of ${base}`),
    schema: digest("schema"),
    rule: '[{"name":"fed_avg","params":{}}]',
    minUpdates: 1,
    maxUpdates: 2,
    quorum: 2,
    deadline: 2_000_000_000n,
    witnesses: WITNESSES,
    ...changes,
  };
  const round = BigInt(number);
  const task = toHex(keccak(utf8(terms.task)));
  const hospitals = ["hospital-1", "hospital-2"];
  const verdicts = hospitals.map((name) => ({
    hospital: address(name),
    outcome: 0,
    reason: 0,
    score: 0n,
    threshold: 0n,
    content: digest(`content of ${name}`),
  }));
  const proposal = {
    number: 1,
    model: digest(`model ${number}`),
    modelBlob: digest(`blob of model ${number}`),
    verdicts: toHex(verdictsRoot(number, verdicts)),
  };
  const ledger = (name, args) => event("RoundLedger", name, args);
  const aggregator = address("aggregator");
  const { model, modelBlob } = proposal;
  return [
    [[ledger("RoundOpened", { round, task, aggregator, terms })]],
    hospitals.map((name) => [record(number, name, terms)]),
    [
      [
        ledger("ModelProposed", {
          round,
          proposal: 1,
          model,
          modelBlob,
          verdicts: proposal.verdicts,
        }),
        ...verdicts.map((verdict) => ledger("VerdictRecorded", { round, proposal: 1, ...verdict })),
      ],
    ],
    [
      ...["witness-1", "witness-2"].map((name) => [
        ledger("ProposalAttested", {
          round,
          proposal: 1,
          witness: address(name),
          signature: attested(name, number, proposal),
        }),
      ]),
      [ledger("RoundFinalized", { round, task, model, modelBlob })],
    ],
  ];
}

export function attested(name, round, proposal) {
  return sign(name, eip712.signedDigest(CHAIN_ID, LEDGER, eip712.attestationHash(round, proposal)));
}

/** Blocks of transactions of events: two rounds of a task, final. */
export function story() {
  return [
    [[...enrolment("hospital-1", "HOSPITAL"), ...enrolment("hospital-2", "HOSPITAL")]],
    [[registration("hospital-1")], [registration("hospital-2")]],
    ...roundOf(1, "base model"),
    ...roundOf(2, "model 1", { baseBlob: digest("blob of model 1") }),
  ];
}

/** All events of a story that have a name. */
export const eventsOf = (blocks, name) => blocks.flat(2).filter((each) => each.name === name);

/**
 * Write a story as the bundle of its last final round.
 * @param {object[][][]} blocks
 * @param {{signers?: string[], tamper?: (blocks: object[]) => void, header?: object,
 *   headTamper?: (head: object) => void, numberOf?: (at: number) => number}} [changes] What to do otherwise than an honest server.
 */
export function bundleOf(blocks, changes = {}) {
  const numberOf = changes.numberOf ?? ((at) => 10 + 3 * at);
  const built = blocks.map((transactions, at) => builtBlock(numberOf(at), transactions));
  let history = genesisHistory(CHAIN_ID, LEDGER, PARTICIPANTS, DATASETS);
  for (const { number, hash, logs } of built) history = nextHistory(history, number, hash, logs);
  const last = built.at(-1);
  const final = eventsOf(blocks, "RoundFinalized").at(-1)?.args;
  const head = {
    round: Number(final?.round ?? 1n),
    number: last.number,
    hash: toHex(last.hash),
    blocks: built.length,
    history: toHex(history),
  };
  changes.headTamper?.(head);
  const hash = eip712.signedDigest(CHAIN_ID, LEDGER, eip712.headHash(head));
  const signers = changes.signers ?? ["witness-1", "witness-2"];
  const cosignatures = signers
    .map((name) => ({ signature: toHex(sign(name, hash)), witness: address(name) }))
    .sort((one, two) => byAddress(one.witness, two.witness));
  changes.tamper?.(built);
  const ledger = rlp(built.map(({ header, receipts }) => [header, receipts]));
  return container(
    {
      chain_id: `${CHAIN_ID}`,
      cosignatures,
      datasets: DATASETS,
      head: {
        blocks: `${head.blocks}`,
        hash: head.hash,
        history: head.history,
        number: `${head.number}`,
      },
      ledger: LEDGER,
      mode: "light",
      model: final?.model ?? digest("none"),
      participants: PARTICIPANTS,
      round: `${head.round}`,
      version: 1,
      ...changes.header,
    },
    { ledger },
  );
}

/** Write a bundle's file; `parts` by name. A header that is a text is taken as it is. */
export function container(header, parts) {
  const described = Object.entries(parts).map(([name, bytes]) => ({
    name,
    sha256: toHex(sha256(bytes)),
    size: `${bytes.length}`,
  }));
  const json =
    typeof header === "string" ? header : JSON.stringify(sorted({ parts: described, ...header }));
  const text = utf8(json);
  const before = concat(
    utf8("FWBUNDL1"),
    toBigEndian(text.length, 4),
    text,
    ...Object.values(parts),
  );
  return concat(before, sha256(before));
}

const sorted = (members) =>
  Object.fromEntries(Object.entries(members).sort(([one], [two]) => (one < two ? -1 : 1)));

function builtBlock(number, transactions) {
  const others = builtReceipt([{ address: address("somebody else"), topics: [], data: "" }]);
  // Other people's transactions stand between the federation's.
  const receipts = transactions.flatMap((events) => [others, builtReceipt(events.map(builtLog))]);
  const trie = builtTrie(receipts.map((bytes, at) => [rlp(index(at)), bytes]));
  const zeros = (size) => new Uint8Array(size);
  const header = [
    zeros(32),
    zeros(32),
    zeros(20),
    zeros(32),
    zeros(32),
    trie.root,
    zeros(256),
    index(0),
    index(number),
    index(30_000_000),
    index(21_000),
    index(1_800_000_000 + number),
    zeros(0),
    zeros(32),
    zeros(8),
    index(7),
  ];
  const ours = transactions.map((_, at) => 2 * at + 1);
  return {
    number,
    hash: keccak(rlp(header)),
    logs: transactions.flat().length,
    header,
    receipts: ours.map((at) => [index(at), trie.proof(rlp(index(at)))]),
    foreign: [index(0), trie.proof(rlp(index(0)))],
  };
}

/** A receipt of a transaction of type 2 (EIP-2718). */
export function builtReceipt(logs) {
  const body = [
    index(1),
    index(21_000),
    new Uint8Array(256),
    logs.map((log) => [
      addressBytes(log.address),
      log.topics,
      typeof log.data === "string" ? utf8(log.data) : log.data,
    ]),
  ];
  return concat(Uint8Array.of(2), rlp(body));
}

function builtLog({ contract, name, args }) {
  const described = EVENTS[contract].find((one) => one.name === name);
  const indexed = described.inputs.filter((input) => input.indexed);
  const plain = described.inputs.filter((input) => !input.indexed);
  return {
    address: ADDRESSES[contract],
    topics: [topicOf(described), ...indexed.map(({ name: n, type }) => encoded(type, args[n]))],
    data: encodedTuple(plain, args),
  };
}

export function encodedTuple(components, values) {
  const dynamic = components.map((one) => isDynamic(one, one.type));
  const tails = components.map((one) => encodedValue(one, one.type, values[one.name]));
  let offset = tails.reduce((sum, tail, at) => sum + (dynamic[at] ? 32 : tail.length), 0);
  const heads = tails.map((tail, at) => {
    if (!dynamic[at]) return tail;
    const head = toBigEndian(offset, 32);
    offset += tail.length;
    return head;
  });
  return concat(...heads, ...tails.filter((_, at) => dynamic[at]));
}

function encodedValue(component, type, value) {
  if (type === "tuple") return encodedTuple(component.components, value);
  if (type.endsWith("[]")) {
    const items = value.map((one) => encodedValue(component, type.slice(0, -2), one));
    return concat(toBigEndian(value.length, 32), ...items);
  }
  if (type === "string" || type === "bytes") {
    const bytes = typeof value === "string" ? utf8(value) : value;
    const padding = new Uint8Array((32 - (bytes.length % 32)) % 32);
    return concat(toBigEndian(bytes.length, 32), bytes, padding);
  }
  return encoded(type, value);
}

function encoded(type, value) {
  if (type === "address") return concat(new Uint8Array(12), addressBytes(value));
  if (type.startsWith("uint")) return toBigEndian(value, 32);
  const bytes = fromHex(value, value.length / 2, type);
  return concat(bytes, new Uint8Array(32 - bytes.length));
}

const isDynamic = ({ components }, type) =>
  type.endsWith("[]") ||
  type === "string" ||
  type === "bytes" ||
  (type === "tuple" && components.some((one) => isDynamic(one, one.type)));

/** An integer as RLP has it: without leading zeros. */
export function index(value) {
  if (value === 0) return new Uint8Array(0);
  const digits = value.toString(16);
  const even = digits.length % 2 === 0 ? digits : `0${digits}`;
  return fromHex(even, even.length / 2, "integer");
}

export function rlp(value) {
  if (value instanceof Uint8Array) {
    if (value.length === 1 && value[0] < 0x80) return value;
    return concat(prefix(0x80, value.length), value);
  }
  const body = concat(...value.map(rlp));
  return concat(prefix(0xc0, body.length), body);
}

function prefix(base, size) {
  if (size < 56) return Uint8Array.of(base + size);
  const digits = index(size);
  return concat(Uint8Array.of(base + 55 + digits.length), digits);
}

/** A Merkle-Patricia trie over keys, none of which begins with another. */
export function builtTrie(pairs) {
  const entries = pairs.map(([key, value]) => [nibbles(key), value]);
  return {
    root: keccak(rlp(node(entries))),
    proof: (key) => [rlp(node(entries)), ...below(entries, nibbles(key))],
  };
}

function node(entries) {
  if (entries.length === 1) return [compact(entries[0][0], true), entries[0][1]];
  const shared = sharedLength(entries.map(([path]) => path));
  if (shared > 0) {
    return [compact(entries[0][0].slice(0, shared), false), reference(cut(entries, shared))];
  }
  const children = Array.from({ length: 16 }, (_, nibble) => {
    const own = entries.filter(([path]) => path[0] === nibble);
    return own.length === 0 ? new Uint8Array(0) : reference(cut(own, 1));
  });
  return [...children, new Uint8Array(0)];
}

/** A short node is embedded in its parent, a long one named by its hash. */
function reference(entries) {
  const found = node(entries);
  const bytes = rlp(found);
  return bytes.length < 32 ? found : keccak(bytes);
}

function below(entries, path) {
  if (entries.length === 1) return [];
  const shared = sharedLength(entries.map(([each]) => each));
  const own = shared > 0 ? entries : entries.filter(([each]) => each[0] === path[0]);
  const skip = Math.max(shared, 1);
  const next = rlp(node(cut(own, skip)));
  return [...(next.length < 32 ? [] : [next]), ...below(cut(own, skip), path.slice(skip))];
}

const cut = (entries, size) => entries.map(([path, value]) => [path.slice(size), value]);

const nibbles = (bytes) => [...bytes].flatMap((byte) => [byte >> 4, byte & 15]);

function sharedLength(paths) {
  let shared = 0;
  while (paths.every((path) => shared < path.length && path[shared] === paths[0][shared])) shared++;
  return shared;
}

function compact(path, isLeaf) {
  const flag = (isLeaf ? 2 : 0) + (path.length % 2);
  const all = path.length % 2 === 1 ? [flag, ...path] : [flag, 0, ...path];
  return Uint8Array.from({ length: all.length / 2 }, (_, at) => all[2 * at] * 16 + all[2 * at + 1]);
}
