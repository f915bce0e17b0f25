// Writes the contracts' ABIs to chain/abi, or with --check fails where what is there differs.
import { mkdir, readFile, writeFile } from "node:fs/promises";

const CONTRACTS = [
  "ParticipantRegistry",
  "DatasetRegistry",
  "RoundLedger",
  "ImageAccess",
  "AccessLogs",
  "Readings",
];
const ROOT = new URL("../../", import.meta.url);

async function abiOf(name) {
  const artifact = new URL(`artifacts/contracts/${name}.sol/${name}.json`, ROOT);
  const { abi } = JSON.parse(await readFile(artifact, "utf8"));
  return `${JSON.stringify(abi, null, 2)}\n`;
}

async function isFresh(file, abi) {
  return (await readFile(file, "utf8").catch(() => "")) === abi;
}

const isCheck = process.argv.includes("--check");
await mkdir(new URL("chain/abi/", ROOT), { recursive: true });
for (const name of CONTRACTS) {
  const path = `chain/abi/${name}.json`;
  const file = new URL(path, ROOT);
  const abi = await abiOf(name);
  if (await isFresh(file, abi)) continue;
  if (isCheck) {
    console.error(`${path} differs from contracts/${name}.sol: run "npm run abi"`);
    process.exitCode = 1;
  } else {
    await writeFile(file, abi);
    console.log(`wrote ${path}`);
  }
}
