/**
 * A model's file against what the ledger says of it: its content digest (docs/protocol.md,
 * section 3.2) and the CID of its blob (section 5).
 */
import { concat, newSha256, sha256, toHex } from "./bytes.js";

const RAW = 0x55;
const DAG_PB = 0x70;
/** How every blob is cut; tests use smaller ones. */
export const LAYOUT = { leafBytes: 1024 * 1024, maxLinks: 1024 };
const BASE32 = "abcdefghijklmnopqrstuvwxyz234567";

/** @typedef {{cid: Uint8Array, fileBytes: number, treeBytes: number}} Link */

/** Cuts bytes into the leaves of a blob as they arrive, and stacks nodes above them. */
export class BlobHasher {
  #layout;
  /** @type {Uint8Array[]} */
  #pending = [];
  #pendingBytes = 0;
  /** @type {Link[][]} */
  #levels = [[]];
  /** @type {Uint8Array | null} The SHA-256 of the node that was written last: at the end, the root. */
  #last = null;

  constructor(layout = LAYOUT) {
    this.#layout = layout;
  }

  /** @param {Uint8Array} bytes The next bytes of the blob. */
  update(bytes) {
    let rest = bytes;
    while (this.#pendingBytes + rest.length >= this.#layout.leafBytes) {
      const wanted = this.#layout.leafBytes - this.#pendingBytes;
      this.#pending.push(rest.subarray(0, wanted));
      rest = rest.subarray(wanted);
      this.#leaf();
    }
    if (rest.length > 0) {
      this.#pending.push(rest.slice());
      this.#pendingBytes += rest.length;
    }
  }

  /** @returns {Uint8Array | null} The root block's SHA-256, as on the ledger; null for no bytes. */
  digest() {
    if (this.#pendingBytes > 0) this.#leaf();
    const levels = this.#levels;
    if (levels.length === 1 && levels[0].length === 0) return null;
    // Up to the top: the level of one link, above which is nothing.
    for (
      let level = 0;
      level < levels.length - 1 || level === 0 || levels[level].length > 1;
      level++
    ) {
      if (levels[level].length > 0) this.#close(level);
    }
    return this.#last;
  }

  #leaf() {
    const block = concat(...this.#pending);
    this.#pending = [];
    this.#pendingBytes = 0;
    const size = block.length;
    this.#levels[0].push({ cid: cidBytes(RAW, sha256(block)), fileBytes: size, treeBytes: size });
    for (let level = 0; this.#levels[level].length === this.#layout.maxLinks; level++) {
      this.#close(level);
    }
  }

  /** Put the links of one level under a new node of the next. */
  #close(level) {
    const links = this.#levels[level];
    const block = encodeNode(links);
    this.#last = sha256(block);
    if (level + 1 === this.#levels.length) this.#levels.push([]);
    this.#levels[level + 1].push({
      cid: cidBytes(DAG_PB, this.#last),
      fileBytes: links.reduce((sum, link) => sum + link.fileBytes, 0),
      treeBytes: links.reduce((sum, link) => sum + link.treeBytes, block.length),
    });
    this.#levels[level] = [];
  }
}

/** @param {Uint8Array} digest Of a blob's root block. @returns {string} Its CID, 59 characters. */
export function blobCid(digest) {
  let text = "b";
  let bits = 0;
  let held = 0;
  for (const byte of cidBytes(DAG_PB, digest)) {
    held = ((held << 8) | byte) & 0xfff;
    bits += 8;
    for (; bits >= 5; bits -= 5) text += BASE32[(held >> (bits - 5)) & 31];
  }
  return bits > 0 ? text + BASE32[(held << (5 - bits)) & 31] : text;
}

/**
 * Hold a model's file against the digests on the ledger, without holding it whole in memory.
 * @param {AsyncIterable<Uint8Array> | Iterable<Uint8Array>} pieces The file.
 * @param {{digest: string, blob: string}} model What the ledger says of it.
 * @param {(bytes: number) => void} [progress]
 * @returns {Promise<import("./checks.js").Check[]>} The steps 8 and 7 of the audit.
 */
export async function verifyModelFile(pieces, model, progress = () => {}) {
  const content = newSha256();
  const blob = new BlobHasher();
  let size = 0;
  for await (const piece of pieces) {
    content.update(piece);
    blob.update(piece);
    size += piece.length;
    progress(size);
  }
  const root = blob.digest();
  const found = {
    digest: toHex(content.digest()),
    blob: root === null ? "an empty file" : blobCid(root),
  };
  const cid = blobCid(Uint8Array.from(model.blob.match(/../g), (digits) => parseInt(digits, 16)));
  return [
    check(8, "Each model hashes to its digest on the ledger", size, model.digest, found.digest),
    check(7, "Each blob is there and hashes to its CID", size, cid, found.blob),
  ];
}

function check(number, title, size, expected, found) {
  const ok = expected === found;
  const message = "this file is not the model that the ledger names";
  const findings = ok ? [] : [{ step: number, subject: "model file", expected, found, message }];
  return { number, title, ok, told: `${size} bytes, ${found}`, findings };
}

const cidBytes = (codec, digest) => concat(Uint8Array.of(1, codec, 0x12, 0x20), digest);

/** The one encoding of an inner node: dag-pb links, then the UnixFS data that tells the sizes. */
function encodeNode(links) {
  const encoded = links.map(({ cid, treeBytes }) =>
    bytesField(
      2,
      concat(bytesField(1, cid), bytesField(2, new Uint8Array(0)), integerField(3, treeBytes)),
    ),
  );
  const size = links.reduce((sum, { fileBytes }) => sum + fileBytes, 0);
  const sizes = links.map(({ fileBytes }) => integerField(4, fileBytes));
  const data = concat(integerField(1, 2), integerField(3, size), ...sizes);
  return concat(...encoded, bytesField(1, data));
}

function varint(value) {
  const bytes = [];
  let rest = value;
  for (; rest >= 0x80; rest = Math.floor(rest / 0x80)) bytes.push((rest % 0x80) | 0x80);
  return Uint8Array.of(...bytes, rest);
}

const integerField = (number, value) => concat(varint(number << 3), varint(value));
const bytesField = (number, value) =>
  concat(varint((number << 3) | 2), varint(value.length), value);
