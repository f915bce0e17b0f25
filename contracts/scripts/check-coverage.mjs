// Prints how many of the contracts' lines their tests run, after `hardhat test --coverage`, and fails
// where a line is left out. The tests' own files do not count.
import { readFile } from "node:fs/promises";

const REPORT = new URL("../../coverage/lcov.info", import.meta.url);
const CONTRACT = /^contracts\/[^/]+\.sol$/;

/** Each contract's lines as [line, executions]; lcov's SF names a file, DA one of its lines. */
function linesByContract(report) {
  const files = new Map();
  for (const record of report.split("end_of_record")) {
    const [, file] = /^SF:(.+)$/m.exec(record) ?? [];
    if (file === undefined || !CONTRACT.test(file)) continue;
    const lines = [...record.matchAll(/^DA:(\d+),(\d+)/gm)];
    files.set(file, lines.map(([, line, executions]) => [Number(line), Number(executions)]));
  }
  return files;
}

const files = linesByContract(await readFile(REPORT, "utf8"));
const all = [...files.values()].flat().length;
const left = [...files].flatMap(([file, lines]) =>
  lines.filter(([, executions]) => executions === 0).map(([line]) => `${file}:${line}`),
);
if (all === 0) throw new Error(`${REPORT.pathname} names no line of the contracts`);
const percent = (Math.floor((10_000 * (all - left.length)) / all) / 100).toFixed(2);
console.log(`coverage: ${percent} % (${all - left.length} of ${all} lines of the contracts)`);
if (left.length > 0) {
  console.error(`no test runs ${left.join(", ")}`);
  process.exitCode = 1;
}
