// Verifies bundles for tests that are written in Python: one question in JSON on standard input,
// `{"files": [paths], "known": {…}, "flips": count}`, and one answer on standard output.
import { readFile } from "node:fs/promises";
import { text } from "node:stream/consumers";
import { verifyBundle } from "../../api/explorer/static/verify/checks.js";
import { flipped } from "./tampering.mjs";

const { files, known = {}, flips = 0 } = JSON.parse(await text(process.stdin));
const reports = [];
for (const file of files) {
  const bytes = new Uint8Array(await readFile(file));
  const unfound = [];
  for (const { bytes: tampered, at } of flipped(bytes, flips)) {
    if (verifyBundle(tampered, known).ok) unfound.push(at);
  }
  reports.push({ ...verifyBundle(bytes, known), unfound });
}
process.stdout.write(JSON.stringify(reports));
