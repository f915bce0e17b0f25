"""What is tampered with after the fact: a byte on disk, a row in the database, a model."""

import base64
import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from aggregator.replay import judge_and_aggregate
from chain.cid import LAYOUT, Cid
from chain.digests import content_digest, sha256
from chain.errors import DevnetError
from chain.tensors import open_tensors, save_tensors
from chain.types import RecordedUpdate
from demo.local import RELAYER, LocalFederation
from demo.parties import Party
from demo.scene import MAX_ENVELOPE

_SHA2_256 = bytes((0x12, 0x20))  # how a multihash of 32 bytes of SHA-256 begins


@contextmanager
def flipped_byte(local: LocalFederation, record: RecordedUpdate) -> Iterator[str]:
    """Flip one bit of an envelope in the IPFS node's files, and put it back in the end.

    Yields:
        The envelope's CID, which findings name.
    """
    cid = Cid.from_blob_digest(record.record.blob)
    with local.blobs() as blobs:
        block = blobs.get(cid, MAX_ENVELOPE)[: LAYOUT.leaf_bytes]
    file = _block_file(local.folder / "network" / "ipfs" / "blocks", block)
    damaged = bytearray(block)
    damaged[len(damaged) // 2] ^= 1
    file.write_bytes(damaged)
    try:
        yield str(cid)
    finally:
        file.write_bytes(block)


@contextmanager
def changed_row(local: LocalFederation, record: RecordedUpdate) -> Iterator[str]:
    """Give a hospital one example more in the database, and put it back in the end.

    Yields:
        The name of the table that was changed.
    """
    key = (record.record.round, record.record.hospital)
    _set_examples(local, record.record.examples + 1, key)
    try:
        yield "records"
    finally:
        _set_examples(local, record.record.examples, key)


def propose_wrong_model(local: LocalFederation, liar: Party, number: int) -> bytes:
    """Judge a round honestly, then propose twice the model that came out.

    Returns:
        The wrong model's digest.
    """
    folder = liar.keyring.work / "lie"
    honest, wrong = folder / "honest.safetensors", folder / "wrong.safetensors"
    folder.mkdir(mode=0o700, exist_ok=True)
    ledger = local.ledger(liar)
    with local.blobs() as blobs:
        key = liar.identity.encryption_private_key
        result = judge_and_aggregate(
            ledger, blobs, number, private_key=key, workdir=folder, target=honest, threads=1
        )
        with open_tensors(honest) as model:
            save_tensors(wrong, {name: 2 * array for name, array in model.arrays.items()})
        digest = content_digest(wrong)
        ledger.propose(number, digest, blobs.put(wrong).digest, result.verdicts)
    return digest


def _block_file(blocks: Path, block: bytes) -> Path:
    """Find the file of a block: it is called by its multihash in base32, with multibase `B`."""
    name = "B" + base64.b32encode(_SHA2_256 + sha256(block)).decode().rstrip("=")
    for file in blocks.rglob(f"{name}.data"):
        return file
    message = f"expected the file {name}.data below {blocks}, found none: is it another IPFS node?"
    raise DevnetError(message)


def _set_examples(local: LocalFederation, examples: int, key: tuple[int, str]) -> None:
    with sqlite3.connect(local.cast[RELAYER].keyring.work / "index.db", timeout=30) as database:
        database.execute(
            "UPDATE records SET examples = ? WHERE round = ? AND hospital = ?", (examples, *key)
        )
    database.close()
