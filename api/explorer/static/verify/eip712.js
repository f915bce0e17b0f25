/** Typed data that parties sign (EIP-712): see docs/protocol.md, sections 7.1, 10 and 13. */
import { secp256k1 } from "../vendor/noble-curves.js";
import { addressBytes, toAddress } from "./addresses.js";
import { concat, fromBigEndian, fromHex, keccak, toBigEndian, toHex, utf8 } from "./bytes.js";

// EIP-2 and OpenZeppelin's ECDSA take no greater `s`: a signature has no second form.
const GREATEST_S = 0x7fffffffffffffffffffffffffffffff5d576e7357a4501ddfe92f46681b20a0n;

const DOMAIN = "EIP712Domain(string name,string version,uint256 chainId,address verifyingContract)";
const RECORD =
  "UpdateRecord(uint64 chainId,address ledger,uint256 round,address hospital,bytes32[] datasets," +
  "uint8 purpose,uint32 examples,bytes32 baseModel,bytes32 update,bytes32 blob,bytes32 code," +
  "uint64 epsilon,uint64 delta)";
const ATTESTATION =
  "Attestation(uint256 round,uint32 proposal,bytes32 model,bytes32 modelBlob,bytes32 verdicts)";
const HEAD = "LedgerHead(uint256 round,uint64 number,bytes32 hash,uint64 blocks,bytes32 history)";

/**
 * @param {import("./rounds.js").UpdateRecord} record
 * @returns {Uint8Array} The struct hash, which the ledger keeps as the record's digest.
 */
export function recordHash(record) {
  return struct(RECORD, [
    uint(record.chainId),
    address(record.ledger),
    uint(record.round),
    address(record.hospital),
    keccak(concat(...record.datasets.map(digest))),
    uint(record.purpose),
    uint(record.examples),
    digest(record.baseModel),
    digest(record.update),
    digest(record.blob),
    digest(record.code),
    uint(record.epsilon),
    uint(record.delta),
  ]);
}

/** @param {number} round @param {import("./rounds.js").Proposal} proposal @returns {Uint8Array} */
export function attestationHash(round, proposal) {
  return struct(ATTESTATION, [
    uint(round),
    uint(proposal.number),
    digest(proposal.model),
    digest(proposal.modelBlob),
    digest(proposal.verdicts),
  ]);
}

/** @param {import("./container.js").Head} head @returns {Uint8Array} */
export function headHash(head) {
  return struct(HEAD, [
    uint(head.round),
    uint(head.number),
    digest(head.hash),
    uint(head.blocks),
    digest(head.history),
  ]);
}

/**
 * Say what is signed for a struct in a federation.
 * @param {bigint} chainId
 * @param {string} ledger
 * @param {Uint8Array} structHash
 * @returns {Uint8Array} 32 bytes.
 */
export function signedDigest(chainId, ledger, structHash) {
  const name = keccak(utf8("FedWitness"));
  const version = keccak(utf8("1"));
  const domain = struct(DOMAIN, [name, version, uint(chainId), address(ledger)]);
  return keccak(concat(Uint8Array.of(0x19, 0x01), domain, structHash));
}

/**
 * Find out who signed.
 * @param {Uint8Array} signed 32 bytes.
 * @param {Uint8Array} signature 65 bytes: r, s, v.
 * @returns {string | null} The address; null where these bytes are nobody's signature.
 */
export function recoverSigner(signed, signature) {
  if (signature.length !== 65) return null;
  const [r, s, v] = [signature.subarray(0, 32), signature.subarray(32, 64), signature[64]];
  if ((v !== 27 && v !== 28) || fromBigEndian(s) > GREATEST_S) return null;
  let key;
  try {
    key = new secp256k1.Signature(fromBigEndian(r), fromBigEndian(s), v - 27)
      .recoverPublicKey(signed)
      .toBytes(false);
  } catch {
    return null; // no point of the curve
  }
  return toAddress(keccak(key.subarray(1)).subarray(12));
}

/** @param {Uint8Array} signature @returns {string} What a message says of a bad one. */
export function toldSignature(signature) {
  return `nobody's signature: 0x${toHex(signature.subarray(0, 65))}`;
}

function struct(type, words) {
  return keccak(concat(keccak(utf8(type)), ...words));
}

const uint = (value) => toBigEndian(value, 32);
const digest = (text) => fromHex(text, 32, "digest");
const address = (text) => concat(new Uint8Array(12), addressBytes(text));
