// A log has one reading, and a value one encoding.
import assert from "node:assert/strict";
import { readFile } from "node:fs/promises";
import { test } from "node:test";
import { decodeLog } from "../../api/explorer/static/verify/abi.js";
import { concat, fromHex } from "../../api/explorer/static/verify/bytes.js";
import { Malformed } from "../../api/explorer/static/verify/malformed.js";

const path = new URL("../vectors/verifier.json", import.meta.url);
const bytes = (hex) => fromHex(hex, hex.length / 2, "vector");
const LOGS = JSON.parse(await readFile(path, "utf8")).logs.map((log) => ({
  ...log,
  topics: log.topics.map(bytes),
  data: bytes(log.data),
}));

const decoded = ({ contract, topics, data }) => decodeLog(contract, topics, data, "log");

test("no flipped bit leaves a log's values as they were", () => {
  for (const log of LOGS) {
    const before = decoded(log);
    const words = [...log.topics, log.data];
    for (const [which, word] of words.entries()) {
      for (let at = 0; at < word.length; at++) {
        const flipped = word.slice();
        flipped[at] ^= 1 << (at % 8);
        const changed = words.with(which, flipped);
        assert.notDeepEqual(attempted(log, changed), before, `${log.name}, ${which}, byte ${at}`);
      }
    }
  }
});

function attempted(log, words) {
  try {
    return decoded({ ...log, topics: words.slice(0, -1), data: words.at(-1) });
  } catch (error) {
    assert.ok(error instanceof Malformed, String(error));
    return null;
  }
}

test("a log with data or topics too many or too few is refused", () => {
  for (const log of LOGS) {
    const { topics, data } = log;
    const more = concat(data, new Uint8Array(32));
    assert.throws(() => decoded({ ...log, data: more }), Malformed);
    if (data.length > 0) {
      assert.throws(() => decoded({ ...log, data: data.slice(0, -32) }), Malformed);
    }
    assert.throws(() => decoded({ ...log, topics: [...topics, new Uint8Array(32)] }), Malformed);
    assert.throws(() => decoded({ ...log, topics: topics.slice(0, -1) }), Malformed);
  }
});

test("an event is its own contract's alone", () => {
  const log = LOGS.find(({ name }) => name === "VersionRegistered");
  assert.throws(() => decoded({ ...log, contract: "RoundLedger" }), Malformed);
  assert.throws(() => decoded({ ...log, contract: "Other" }), Malformed);
});

test("a length that the data cannot hold reserves nothing", () => {
  const log = LOGS.find(({ name, args }) => name === "UpdateRecorded" && args.datasets.length > 0);
  const data = log.data.slice();
  const place = Number(BigInt(`0x${Buffer.from(data.slice(32, 64)).toString("hex")}`));
  data.set([0, 31, 255, 255, 255, 255, 255, 255], place + 24);
  assert.throws(() => decoded({ ...log, data }), /a length of/);
});
