import assert from "node:assert/strict";
import { test } from "node:test";
import { readKnown, readModel, remembered } from "../../api/explorer/static/verify/known.js";
import { Malformed } from "../../api/explorer/static/verify/malformed.js";
import { LEDGER, WITNESSES, digest } from "./ledgers.mjs";

const known = (typed) => readKnown({ chainId: "", ledger: "", witnesses: "", ...typed });

test("what was not typed is not insisted on", () => {
  assert.deepEqual(known({ witnesses: " \n " }), {});
});

test("addresses are taken in any case, each once, however they are set apart", () => {
  const [one, two] = WITNESSES;
  const witnesses = `${one.toLowerCase()},${two}; ${one}\n0x${two.slice(2).toUpperCase()}`;
  assert.deepEqual(known({ witnesses }).witnesses, [one, two]);
  assert.equal(known({ ledger: ` ${LEDGER.toLowerCase()} ` }).ledger, LEDGER);
});

test("a mistyped address is refused: its capitals are a checksum", () => {
  const letter = LEDGER.search(/[a-fA-F]/);
  const swapped = LEDGER[letter] === LEDGER[letter].toLowerCase() ? "toUpperCase" : "toLowerCase";
  const mistyped = LEDGER.slice(0, letter) + LEDGER[letter][swapped]() + LEDGER.slice(letter + 1);
  for (const ledger of [mistyped, LEDGER.slice(0, -1), `${LEDGER}0`, LEDGER.slice(2), "0x"]) {
    assert.throws(() => known({ ledger }), Malformed, ledger);
  }
  assert.throws(() => known({ witnesses: `${WITNESSES[0]} witness-2` }), Malformed);
});

test("a chain is a decimal number", () => {
  assert.equal(known({ chainId: " 31337 " }).chainId, "31337");
  for (const chainId of ["0", "-1", "0x1", "1.0", "one"]) {
    assert.throws(() => known({ chainId }), Malformed, chainId);
  }
});

test("more witnesses than a round can have are refused", () => {
  assert.throws(() => known({ witnesses: `${WITNESSES[0]} `.repeat(33) }), Malformed);
});

test("a model is named by 64 digits, with 0x or without", () => {
  const model = digest("model");
  for (const text of [model, `0x${model}`, ` 0x${model.toUpperCase()} `]) {
    assert.equal(readModel(text), model);
  }
  for (const text of ["", "0x", model.slice(1), `${model}0`, `x${model.slice(1)}`]) {
    assert.throws(() => readModel(text), Malformed, text);
  }
});

test("a browser that keeps nothing remembers nothing", () => {
  assert.deepEqual(remembered(), { chainId: "", ledger: "", witnesses: "" });
});
