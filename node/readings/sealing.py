"""Documents in envelopes, and envelopes on IPFS: docs/protocol.md, sections 6 and 16.

A fresh salt goes before each document. Without it, whoever guesses a short report could try the
guess against its digest, which is on the ledger.
"""

import hashlib
import io
import os
import shutil
import time
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

from chain.blob_store import BlobReader, BlobStore
from chain.cid import Cid, blob_cid
from chain.envelope import (
    MAX_RECIPIENTS,
    EnvelopeContext,
    envelope_size,
    is_usable_key,
    open_envelope,
    public_key,
    read_header,
    seal,
)
from chain.errors import DigestMismatchError, InvalidInputError
from chain.files import pieces
from node.readings.documents import MAX_DOCUMENT

SALT = 32  # bytes
_OPENING = "opening-"
_STALE_SECONDS = 3600.0  # no process takes as long to open one envelope
MAX_ENVELOPE = envelope_size(SALT + MAX_DOCUMENT, MAX_RECIPIENTS)


class SealedToOthersError(InvalidInputError):
    """An envelope is not for the key that is to open it."""


@dataclass(frozen=True, slots=True)
class Sealed:
    """What names a document that was sealed.

    Attributes:
        document: SHA-256 of salt and document, 32 bytes.
        blob: What names the envelope's blob, 32 bytes.
    """

    document: bytes
    blob: bytes


def reading_context(chain_id: int, readings: str, image: bytes, hospital: str) -> EnvelopeContext:
    """Return the place that a reading's or a question's envelope is made for.

    Args:
        chain_id: The chain.
        readings: The Readings contract.
        image: The image's commitment.
        hospital: Whose reading it is, or who asks.
    """
    return EnvelopeContext(chain_id, readings, int.from_bytes(image, "big"), hospital)


def recipients_of(keys: Iterable[bytes]) -> tuple[bytes, ...]:
    """Put X25519 keys into the order that an envelope has them in.

    Raises:
        InvalidInputError: If nothing can be sealed to one of them, or they are too many.
    """
    ordered = tuple(sorted(set(keys)))
    for key in ordered:
        if not is_usable_key(key):
            raise InvalidInputError(
                f"expected X25519 keys that can be sealed to, found {key.hex()}: its owner has to "
                "publish another"
            )
    if len(ordered) > MAX_RECIPIENTS:
        raise InvalidInputError(
            f"expected at most {MAX_RECIPIENTS} recipients, found {len(ordered)}: name one hospital"
        )
    return ordered


def seal_document(
    raw: bytes, context: EnvelopeContext, recipients: tuple[bytes, ...], target: Path
) -> Sealed:
    """Seal a document under a fresh salt.

    Args:
        raw: The document.
        context: What `reading_context` gave.
        recipients: What `recipients_of` gave.
        target: Where the envelope goes.

    Raises:
        OSError: If it cannot be written.
    """
    return seal_payload(os.urandom(SALT) + raw, context, recipients, target)


def seal_payload(
    payload: bytes, context: EnvelopeContext, recipients: tuple[bytes, ...], target: Path
) -> Sealed:
    """Seal a document with the salt that it has already, as a copy for others is made."""
    seal(io.BytesIO(payload), len(payload), context, recipients, target)
    return Sealed(hashlib.sha256(payload).digest(), blob_cid(pieces(target)).digest)


def store(envelope: Path, blob: bytes, blobs: BlobStore) -> Cid:
    """Put an envelope on IPFS, and read it back before anything is said of it on the ledger.

    Raises:
        BlobUnavailableError: If it cannot be stored or read back.
        DigestMismatchError: If it is another blob than it should be.
    """
    cid = blobs.put(envelope)
    if cid.digest != blob:
        raise DigestMismatchError("envelope", Cid.from_blob_digest(blob), cid)
    for _ in blobs.stream(cid, MAX_ENVELOPE):
        pass  # each block is held against its CID
    return cid


def open_payload(
    blob: bytes, context: EnvelopeContext, private_key: bytes, blobs: BlobReader, folder: Path
) -> bytes:
    """Fetch an envelope and open it as one of its recipients.

    (1) The blob is what its name says, of bounded size.
    (2) It is an envelope, made for this place, and for this key among others.
    (3) Its key opens, and all recipients have the same.

    Args:
        blob: What names the envelope's blob.
        context: What it should have been made for.
        private_key: The reader's X25519 key.
        blobs: Where the blob lies.
        folder: A private folder to work in; nothing is left there.

    Returns:
        Salt and document.

    Raises:
        BlobUnavailableError: If it cannot be had.
        DigestMismatchError: If other bytes came.
        EnvelopeError: If it is no envelope, another place's, or does not open.
        SealedToOthersError: If it is not for this key.
        InvalidInputError: If it is too large.
    """
    _forget_stale(folder)
    with TemporaryDirectory(prefix=_OPENING, dir=folder) as work:
        envelope, plain = Path(work) / "envelope", Path(work) / "payload"
        blobs.fetch(Cid.from_blob_digest(blob), envelope, MAX_ENVELOPE)
        with envelope.open("rb") as file:
            recipients = [one.key for one in read_header(file).recipients]
        own = public_key(private_key)
        if own not in recipients:
            raise SealedToOthersError(
                f"it is sealed to others and not to your key {own.hex()}: ask the hospital that "
                "wrote it for a copy, which it makes with `fedwitness readings share`"
            )
        open_envelope(envelope, context, recipients, private_key, plain)
        return plain.read_bytes()


def _forget_stale(folder: Path) -> None:
    """Delete what processes left that were killed while they opened something."""
    for path in folder.glob(f"{_OPENING}*"):
        with suppress(OSError):  # another process may have deleted its own just now
            if path.stat().st_mtime < time.time() - _STALE_SECONDS:
                shutil.rmtree(path)


def document_in(payload: bytes, digest: bytes | None) -> bytes:
    """Return the document behind the salt.

    Args:
        payload: Salt and document.
        digest: What the ledger has of it, or None where it has nothing.

    Raises:
        DigestMismatchError: If the ledger has another digest.
        InvalidInputError: If there is no document.
    """
    if digest is not None:
        found = hashlib.sha256(payload).digest()
        if found != digest:
            raise DigestMismatchError(
                "salt and document, against the ledger", digest.hex(), found.hex()
            )
    if not SALT < len(payload) <= SALT + MAX_DOCUMENT:
        raise InvalidInputError(
            f"expected {SALT} bytes of salt and a document, found {len(payload)} bytes"
        )
    return payload[SALT:]
