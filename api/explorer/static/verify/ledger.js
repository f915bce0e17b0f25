/**
 * The ledger part of a bundle (docs/protocol.md, section 14): headers, and the receipts that hold
 * the federation's logs, each with a proof in its block's receipts trie.
 */
import { decodeLog } from "./abi.js";
import { toAddress } from "./addresses.js";
import { fromHex, isEqual, keccak, toCount, toHex } from "./bytes.js";
import { genesisHistory, nextHistory } from "./heads.js";
import { Malformed } from "./malformed.js";
import { each, encodeShort, exactly, integer, members, readWhole, sized, string } from "./rlp.js";
import { provenValue } from "./trie.js";

// Members of a block header in their order (yellow paper, 4.3; later ones are appended).
const [RECEIPTS_ROOT, NUMBER, TIME] = [5, 8, 11];
const [LEAST_HEADER, MOST_HEADER] = [15, 40];
const [LONGEST_HEADER, MAX_TOPICS] = [16_384, 4];
const [RECEIPT_MEMBERS, LOGS_OF_RECEIPT] = [4, 3];
const BLOOM_BYTES = 256;
const MAX_BLOCK = 2 ** 25; // bytes of a block's header and receipts
const MAX_ITEMS = 2 ** 18; // receipts of a block, logs of a receipt

/**
 * @typedef {object} LedgerEvent Something that one of the three contracts logged.
 * @property {string} contract
 * @property {string} name
 * @property {Record<string, any>} args
 * @property {{block: number, transaction: number, log: number}} position Indices from 0: of the
 *   transaction in its block, of the log in its receipt.
 * @property {number} time Unix seconds of the block.
 *
 * @typedef {object} LedgerPart
 * @property {LedgerEvent[]} events In the order of the chain.
 * @property {number} blocks
 * @property {number} receipts
 */

/**
 * Read the blocks and hold them against the signed head.
 *
 * (1) Each header hashes to what the history says, and numbers ascend.
 * (2) Each receipt lies in its block's receipts trie, at its transaction's index.
 * (3) Each receipt holds a log of the three contracts, and each such log is a known event.
 * (4) The history over block numbers, hashes and counts of logs is the head's: nothing is left
 *     out, added or exchanged.
 *
 * @param {import("./container.js").Bundle} bundle
 * @param {Uint8Array} part
 * @param {(done: number, total: number) => void} [progress]
 * @returns {LedgerPart}
 */
export function readLedger(bundle, part, progress = () => {}) {
  const { head } = bundle;
  const contracts = new Map([
    [bundle.participants, "ParticipantRegistry"],
    [bundle.datasets, "DatasetRegistry"],
    [bundle.ledger, "RoundLedger"],
  ]);
  if (contracts.size !== 3) {
    throw new Malformed("contracts", "three addresses", [...contracts.keys()].join(", "));
  }
  const events = [];
  let [blocks, receipts] = [0, 0];
  let last = { number: -1, hash: new Uint8Array(32) };
  const { chainId, ledger, participants, datasets } = bundle;
  let history = genesisHistory(chainId, ledger, participants, datasets);
  for (const item of each(readWhole(part, "ledger"), "ledger")) {
    blocks += 1;
    const found = readBlock(item, contracts, `block ${blocks} of ${head.blocks}`);
    if (found.number <= last.number) {
      throw new Malformed(`block ${found.number}`, `a number above ${last.number}`, "none");
    }
    history = nextHistory(history, found.number, found.hash, found.events.length);
    for (const event of found.events) events.push(event);
    receipts += found.receipts;
    last = found;
    progress(blocks, head.blocks);
  }
  if (blocks !== head.blocks) {
    throw new Malformed("ledger", `${head.blocks} blocks, as the head says`, `${blocks}`);
  }
  if (last.number !== head.number || toHex(last.hash) !== head.hash) {
    const found = `block ${last.number}, hash ${toHex(last.hash)}`;
    throw new Malformed("last block", `block ${head.number}, hash ${head.hash}`, found);
  }
  if (!isEqual(history, fromHex(head.history, 32, "history"))) {
    throw new Malformed("history", head.history, toHex(history));
  }
  return { events, blocks, receipts };
}

function readBlock(item, contracts, place) {
  if (item.whole.length > MAX_BLOCK) {
    throw new Malformed(place, `at most ${MAX_BLOCK} bytes`, `${item.whole.length}`);
  }
  const [headerItem, receiptsItem] = exactly(item, 2, place);
  const header = readHeader(headerItem, place);
  const subject = `block ${header.number}`;
  const receipts = members(receiptsItem, subject, MAX_ITEMS);
  if (receipts.length === 0) throw new Malformed(subject, "at least one receipt", "none");
  const events = [];
  let before = -1;
  for (const one of receipts) {
    const [indexItem, nodesItem] = exactly(one, 2, subject);
    const index = integer(indexItem, subject);
    const transaction = toCount(index, subject);
    if (transaction <= before) {
      throw new Malformed(subject, `a transaction above ${before}`, `${transaction}`);
    }
    before = transaction;
    const told = `${subject}, receipt ${transaction}`;
    const nodes = members(nodesItem, told, 64).map((node) => string(node, told));
    const receipt = provenValue(header.receiptsRoot, encodeShort(index), nodes, told);
    const logged = readReceipt(receipt, contracts, header, transaction, told);
    for (const event of logged) events.push(event);
  }
  return { number: header.number, hash: header.hash, events, receipts: receipts.length };
}

function readHeader(item, place) {
  if (item.whole.length > LONGEST_HEADER) {
    throw new Malformed(place, `a header of at most ${LONGEST_HEADER} bytes`, "a longer one");
  }
  const fields = members(item, place, MOST_HEADER);
  if (fields.length < LEAST_HEADER) {
    throw new Malformed(place, `a header of at least ${LEAST_HEADER} members`, `${fields.length}`);
  }
  return {
    hash: keccak(item.whole),
    receiptsRoot: sized(fields[RECEIPTS_ROOT], 32, `${place}, receipts root`),
    number: toCount(integer(fields[NUMBER], place), `${place}, number`),
    time: toCount(integer(fields[TIME], place), `${place}, time`),
  };
}

/** Decode a receipt (EIP-2718: a type before the list in all but the oldest kind). */
function readReceipt(bytes, contracts, header, transaction, subject) {
  const body = bytes[0] < 0x80 ? bytes.subarray(1) : bytes;
  const fields = exactly(readWhole(body, subject), RECEIPT_MEMBERS, subject);
  sized(fields[2], BLOOM_BYTES, `${subject}, bloom`);
  const events = [];
  members(fields[LOGS_OF_RECEIPT], subject, MAX_ITEMS).forEach((item, log) => {
    const told = `${subject}, log ${log}`;
    const [addressItem, topicsItem, dataItem] = exactly(item, 3, told);
    const contract = contracts.get(toAddress(sized(addressItem, 20, told)));
    if (contract === undefined) return; // somebody else's log in the same transaction
    const topics = members(topicsItem, told, MAX_TOPICS).map((topic) => sized(topic, 32, told));
    const { name, args } = decodeLog(contract, topics, string(dataItem, told), told);
    const position = { block: header.number, transaction, log };
    events.push({ contract, name, args, position, time: header.time });
  });
  if (events.length === 0) {
    throw new Malformed(subject, "a log of the federation", "none");
  }
  return events;
}
