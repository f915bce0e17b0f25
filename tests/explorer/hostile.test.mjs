// What a hostile server may send: flipped bits, false sizes, deep nesting, other forms.
import assert from "node:assert/strict";
import { test } from "node:test";
import { concat, sha256, toBigEndian, utf8 } from "../../api/explorer/static/verify/bytes.js";
import { verifyBundle } from "../../api/explorer/static/verify/checks.js";
import { readBundle } from "../../api/explorer/static/verify/container.js";
import { Malformed } from "../../api/explorer/static/verify/malformed.js";
import { exactly, readWhole } from "../../api/explorer/static/verify/rlp.js";
import { provenValue } from "../../api/explorer/static/verify/trie.js";
import { bundleOf, container, index, story } from "./ledgers.mjs";
import { drawn, flipped, startOfParts } from "./tampering.mjs";

const FLIPS = 600;
const BUNDLE = bundleOf(story());

test(`each of ${FLIPS} random bit flips is found in the file`, () => {
  const draw = drawn(7);
  for (let flip = 0; flip < FLIPS; flip++) {
    const file = BUNDLE.slice();
    file[draw(file.length)] ^= 1 << draw(8);
    const report = verifyBundle(file);
    assert.equal(report.ok, false, `flip ${flip}`);
    assert.deepEqual(
      report.findings.map(({ step }) => step),
      [11],
    );
  }
});

test(`each of ${FLIPS} random bit flips in the ledger is found though checksums are made anew`, () => {
  for (const { at, bytes } of flipped(BUNDLE, FLIPS)) {
    const report = verifyBundle(bytes);
    assert.equal(report.ok, false, `byte ${at}`);
    assert.deepEqual(
      report.findings.map(({ step }) => step),
      [13],
      `byte ${at}`,
    );
  }
});

test(`each of ${FLIPS} changes of a digit in the header is found though the checksum is made anew`, () => {
  const draw = drawn(13);
  const start = startOfParts(BUNDLE);
  const digits = [...BUNDLE.keys()].filter((at) => at >= 12 && at < start && isDigit(BUNDLE[at]));
  for (let change = 0; change < FLIPS; change++) {
    const file = BUNDLE.slice(0, -32);
    const at = digits[draw(digits.length)];
    file[at] = 48 + ((file[at] - 48 + 1 + draw(9)) % 10);
    assert.equal(verifyBundle(concat(file, sha256(file))).ok, false, `byte ${at}`);
  }
});

const isDigit = (byte) => byte >= 48 && byte < 58;

test("a file that ends with another digest is refused", () => {
  const file = BUNDLE.slice();
  file[file.length - 1] ^= 1;
  const { findings } = verifyBundle(file);
  assert.match(findings[0].expected, /^the SHA-256 that it ends with/);
});

test("a file that is cut anywhere is refused", () => {
  const draw = drawn(17);
  for (let cut = 0; cut < 200; cut++) {
    const file = BUNDLE.slice(0, draw(BUNDLE.length));
    assert.deepEqual(
      verifyBundle(file).findings.map(({ step }) => step),
      [11],
    );
  }
});

test("random bytes are refused", () => {
  const draw = drawn(19);
  for (let one = 0; one < 200; one++) {
    const bytes = Uint8Array.from({ length: draw(400) }, () => draw(256));
    const before = concat(utf8("FWBUNDL1"), bytes);
    for (const file of [bytes, before, concat(before, sha256(before))]) {
      assert.equal(verifyBundle(file).ok, false);
    }
  }
});

/** The header of a real bundle, with changes. */
function headerWith(change) {
  const text = new TextDecoder().decode(BUNDLE.subarray(12, startOfParts(BUNDLE)));
  const header = JSON.parse(text);
  change(header);
  return JSON.stringify(header);
}

const refused = (text) => {
  const file = container(text, { ledger: BUNDLE.subarray(startOfParts(BUNDLE), -32) });
  const report = verifyBundle(file);
  assert.deepEqual(
    report.findings.map(({ step }) => step),
    [11],
    text.slice(0, 200),
  );
  return report.findings[0];
};

for (const [what, change] of [
  ["another version", (header) => (header.version = 2)],
  ["a version that is a text", (header) => (header.version = "1")],
  ["another mode", (header) => (header.mode = "heavy")],
  ["a missing member", (header) => delete header.round],
  ["a member too many", (header) => (header.surplus = 1)],
  ["a negative number", (header) => (header.round = "-1")],
  ["a number with a leading zero", (header) => (header.round = "02")],
  ["a number beyond 2^53", (header) => (header.head.number = "9007199254740993")],
  ["a chain beyond 64 bits", (header) => (header.chain_id = `${2n ** 64n}`)],
  ["an address without its checksum", (header) => (header.ledger = header.ledger.toLowerCase())],
  ["digits in capitals", (header) => (header.model = header.model.toUpperCase())],
  ["cosignatures that descend", (header) => header.cosignatures.reverse()],
  ["a cosignature twice", (header) => header.cosignatures.push(header.cosignatures[1])],
  ["a short signature", (header) => (header.cosignatures[0].signature = "00")],
  ["no parts", (header) => (header.parts = [])],
  ["parts that are no list", (header) => (header.parts = { length: 1 })],
  ["another part", (header) => (header.parts[0].name = "blob/x")],
  ["another SHA-256 of a part", (header) => (header.parts[0].sha256 = "0".repeat(64))],
  ["a part that is larger than the file", (header) => (header.parts[0].size = "999999999999")],
  ["a part that is smaller", (header) => (header.parts[0].size = "1")],
  ["members in another order", (header) => Object.assign(header, reordered(header))],
]) {
  test(`a header with ${what} is refused`, () => {
    refused(headerWith(change));
  });
}

function reordered(header) {
  const { chain_id: chain } = header;
  delete header.chain_id;
  return { chain_id: chain };
}

test("a header with white space, or a member twice, is refused", () => {
  const text = headerWith(() => {});
  refused(` ${text}`);
  refused(text.replace("{", `{"version":1,`));
  refused(text.replace("light", "l\\u0069ght"));
});

test("a header that nests a hundred thousand lists is refused without a stack", () => {
  refused(`${"[".repeat(100_000)}${"]".repeat(100_000)}`);
  const deep = `${"[".repeat(100_000)}${"]".repeat(100_000)}`;
  refused(headerWith(() => {}).replace('"version":1', `"version":${deep}`));
  refused(headerWith(() => {}).replace('"round":"2"', `"round":${deep}`));
});

test("a header that is not UTF-8 is refused", () => {
  const bytes = Uint8Array.of(0x22, 0xff, 0x22);
  const before = concat(utf8("FWBUNDL1"), toBigEndian(3, 4), bytes);
  assert.throws(() => readBundle(concat(before, sha256(before))), Malformed);
});

test("a header that is longer than the file is refused", () => {
  for (const size of [1000, 2 ** 20, 2 ** 32 - 1]) {
    const before = concat(utf8("FWBUNDL1"), toBigEndian(size, 4), utf8("{}"));
    assert.throws(() => readBundle(concat(before, sha256(before))), /header/);
  }
});

test("lists in lists without end cost no stack", () => {
  const header = JSON.parse(headerWith(() => {}));
  delete header.parts;
  for (const depth of [10, 50_000]) {
    let size = 1;
    const prefixes = [Uint8Array.of(0xc0)];
    for (let level = 0; level < depth; level++) {
      const prefix = rlpPrefix(size);
      prefixes.push(prefix);
      size += prefix.length;
    }
    const report = verifyBundle(container(header, { ledger: concat(...prefixes.reverse()) }));
    assert.deepEqual(
      report.findings.map(({ step }) => step),
      [13],
    );
  }
});

test("countless blocks are not listed before the first of them is read", () => {
  const header = JSON.parse(headerWith(() => {}));
  delete header.parts;
  const many = new Uint8Array(2 ** 24).fill(0xc0);
  const before = process.memoryUsage().rss;
  const report = verifyBundle(container(header, { ledger: concat(rlpPrefix(many.length), many) }));
  assert.deepEqual(
    report.findings.map(({ step, subject }) => [step, subject]),
    [[13, `block 1 of ${header.head.blocks}`]],
  );
  assert.ok(process.memoryUsage().rss - before < 2 ** 29);
});

function rlpPrefix(size) {
  if (size < 56) return Uint8Array.of(0xc0 + size);
  const digits = index(size);
  return concat(Uint8Array.of(0xf7 + digits.length), digits);
}

for (const [what, encoded] of [
  ["a size in more bytes than needed", [0xb8, 0x01, 0x80]],
  ["a size with a leading zero", [0xb9, 0x00, 0x38]],
  ["a small byte as a string", [0x81, 0x7f]],
  ["a size beyond the end", [0x83, 0x01]],
  ["a size of eight bytes", [0xbf, 255, 255, 255, 255, 255, 255, 255, 255]],
  ["bytes behind the end", [0xc0, 0xc0]],
  ["nothing", []],
]) {
  test(`RLP with ${what} is refused`, () => {
    assert.throws(() => readWhole(Uint8Array.from(encoded), "item"), Malformed);
  });
}

test("a list of another length is refused", () => {
  const list = readWhole(Uint8Array.of(0xc2, 0x01, 0x02), "list");
  assert.equal(exactly(list, 2, "list").length, 2);
  assert.throws(() => exactly(list, 1, "list"), Malformed);
  assert.throws(() => exactly(list, 3, "list"), Malformed);
});

test("a proof of more nodes than a key can have is refused", () => {
  const nodes = Array.from({ length: 65 }, () => Uint8Array.of(0xc0));
  assert.throws(() => provenValue(new Uint8Array(32), Uint8Array.of(1), nodes, "trie"), Malformed);
});
