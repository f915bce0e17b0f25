/** The history that a ledger's head sums up: see docs/protocol.md, section 13. */
import { addressBytes } from "./addresses.js";
import { concat, keccak, toBigEndian, utf8 } from "./bytes.js";

const TAG = utf8("fedwitness.history.v1");

/**
 * Give the history before the first block.
 * @param {bigint} chainId
 * @param {string} ledger
 * @param {string} participants
 * @param {string} datasets
 * @returns {Uint8Array}
 */
export function genesisHistory(chainId, ledger, participants, datasets) {
  const addresses = [ledger, participants, datasets].map(addressBytes);
  return keccak(concat(TAG, toBigEndian(chainId, 32), ...addresses));
}

/**
 * Add a block.
 * @param {Uint8Array} history What came before.
 * @param {number} number The block's number.
 * @param {Uint8Array} hash The block's hash.
 * @param {number} logs How many logs of the three contracts it holds.
 * @returns {Uint8Array}
 */
export function nextHistory(history, number, hash, logs) {
  return keccak(concat(history, toBigEndian(number, 8), hash, toBigEndian(logs, 4)));
}
