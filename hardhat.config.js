import { readdirSync } from "node:fs";
import { fileURLToPath } from "node:url";
import { defineConfig } from "hardhat/config";

const compiler = {
  version: "0.8.37",
  // npm's compiler, so that nothing is downloaded.
  path: fileURLToPath(import.meta.resolve("solc/soljson.js")),
};
// OpenZeppelin 5.7 uses mcopy.
const settings = { evmVersion: "cancun", metadata: { bytecodeHash: "none" } };

// Tests deploy the contracts' own artifacts, so nothing is lost by compiling the tests the quick
// way: through the IR they take four times as long as the contracts themselves.
const testFiles = readdirSync(new URL("contracts/test/", import.meta.url))
  .filter((name) => name.endsWith(".sol"))
  .map((name) => [`contracts/test/${name}`, { ...compiler, settings }]);

export default defineConfig({
  solidity: {
    compilers: [
      {
        ...compiler,
        settings: { ...settings, viaIR: true, optimizer: { enabled: true, runs: 200 } },
      },
    ],
    overrides: Object.fromEntries(testFiles),
  },
  paths: {
    sources: "contracts",
    tests: { solidity: "contracts/test" },
  },
  test: {
    solidity: {
      fuzz: { runs: 64, seed: "0xfed" },
      invariant: { runs: 16, depth: 64, failOnRevert: false },
    },
  },
});
