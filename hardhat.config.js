import { fileURLToPath } from "node:url";
import { defineConfig } from "hardhat/config";

export default defineConfig({
  solidity: {
    version: "0.8.37",
    // npm's compiler, so that nothing is downloaded.
    path: fileURLToPath(import.meta.resolve("solc/soljson.js")),
    settings: {
      viaIR: true,
      optimizer: { enabled: true, runs: 200 },
      // OpenZeppelin 5.7 uses mcopy.
      evmVersion: "cancun",
      metadata: { bytecodeHash: "none" },
    },
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
