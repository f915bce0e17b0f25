// Writes what the browser verifier is made of besides its source: the noble libraries of the lock
// file, one module each, and the contracts' events. With --check fails where what is there differs.
import { readFile, writeFile } from "node:fs/promises";
import { build } from "esbuild";

const ROOT = new URL("../../", import.meta.url);
const STATIC = "api/explorer/static";
const CONTRACTS = ["ParticipantRegistry", "DatasetRegistry", "RoundLedger"];
const LIBRARIES = {
  "noble-hashes": {
    npm: "@noble/hashes",
    source: `export { sha256 } from "@noble/hashes/sha2.js";
      export { keccak_256 } from "@noble/hashes/sha3.js";`,
  },
  "noble-curves": {
    npm: "@noble/curves",
    source: `export { secp256k1 } from "@noble/curves/secp256k1.js";`,
  },
};

const text = (path) => readFile(new URL(path, ROOT), "utf8");

async function library({ npm, source }) {
  const lock = JSON.parse(await text("package-lock.json"));
  const { version, integrity } = lock.packages[`node_modules/${npm}`];
  const installed = JSON.parse(await text(`node_modules/${npm}/package.json`)).version;
  if (installed !== version) {
    throw new Error(`expected ${npm} ${version} in node_modules, found ${installed}`);
  }
  const licence = (await text(`node_modules/${npm}/LICENSE`)).trimEnd();
  const { outputFiles } = await build({
    stdin: { contents: source, resolveDir: ROOT.pathname },
    bundle: true,
    format: "esm",
    target: "es2022",
    charset: "utf8",
    legalComments: "none",
    write: false,
  });
  // Where a module came from on this machine is of no interest.
  const code = outputFiles[0].text.replace(/^\s*\/\/ node_modules\//gm, "// ");
  return (
    `/*\n${npm} ${version} (npm, ${integrity}),\n` +
    `bundled unchanged by api/explorer/build.mjs\n\n${licence}\n*/\n${code}`
  );
}

function parameter({ name, type, indexed, components }) {
  return {
    name,
    type,
    ...(indexed ? { indexed } : {}),
    ...(components ? { components: components.map(parameter) } : {}),
  };
}

async function events() {
  const all = {};
  for (const contract of CONTRACTS) {
    const abi = JSON.parse(await text(`chain/abi/${contract}.json`));
    all[contract] = abi
      .filter(({ type }) => type === "event")
      .map(({ name, inputs }) => ({ name, inputs: inputs.map(parameter) }));
  }
  const head = "// The contracts' events, from chain/abi: written by api/explorer/build.mjs.\n";
  return `${head}export const EVENTS = ${JSON.stringify(all, null, 2)};\n`;
}

const files = { [`${STATIC}/verify/events.js`]: await events() };
for (const [name, described] of Object.entries(LIBRARIES)) {
  files[`${STATIC}/vendor/${name}.js`] = await library(described);
}
const isCheck = process.argv.includes("--check");
for (const [path, content] of Object.entries(files)) {
  if ((await text(path).catch(() => "")) === content) continue;
  if (isCheck) {
    console.error(`${path} is not what its sources give: run "npm run explorer"`);
    process.exitCode = 1;
  } else {
    await writeFile(new URL(path, ROOT), content);
    console.log(`wrote ${path}`);
  }
}
