"""A reading's envelope: for one place, for its recipients, and held against the ledger."""

import hashlib
import os
from pathlib import Path

import pytest

from chain.cid import Cid
from chain.errors import (
    BlobUnavailableError,
    DigestMismatchError,
    EnvelopeError,
    InvalidInputError,
)
from chain.types import Reason
from node.readings.sealing import (
    SALT,
    Sealed,
    SealedToOthersError,
    document_in,
    open_payload,
    reading_context,
    recipients_of,
    seal_document,
    store,
)
from tests.memory_blobs import MemoryBlobStore
from tests.node.readings import COMMITMENT, OWNER, READER, STRANGER

READINGS = "0x" + "11" * 20
PLACE = reading_context(31337, READINGS, COMMITMENT, OWNER.address)
DOCUMENT = b"No acute abnormality."


@pytest.fixture
def blobs() -> MemoryBlobStore:
    return MemoryBlobStore()


@pytest.fixture
def sealed(blobs: MemoryBlobStore, tmp_path: Path) -> Sealed:
    """A document for two hospitals, stored."""
    keys = recipients_of([READER.encryption_key, OWNER.encryption_key, READER.encryption_key])
    found = seal_document(DOCUMENT, PLACE, keys, tmp_path / "envelope")
    assert store(tmp_path / "envelope", found.blob, blobs).digest == found.blob
    return found


def test_a_reading_is_opened_by_both_hospitals_and_nobody_else(
    sealed: Sealed, blobs: MemoryBlobStore, tmp_path: Path
) -> None:
    for who in (OWNER, READER):
        key = who.encryption_private_key
        payload = open_payload(sealed.blob, PLACE, key, blobs, tmp_path)
        assert document_in(payload, sealed.document) == DOCUMENT
    with pytest.raises(SealedToOthersError, match="readings share"):
        open_payload(sealed.blob, PLACE, STRANGER.encryption_private_key, blobs, tmp_path)
    assert [one.name for one in tmp_path.iterdir()] == ["envelope"]


def test_what_a_killed_process_had_opened_is_deleted_by_the_next(
    sealed: Sealed, blobs: MemoryBlobStore, tmp_path: Path
) -> None:
    old, new = tmp_path / "opening-old", tmp_path / "opening-new"
    for left in (old, new):
        left.mkdir()
        (left / "payload").write_bytes(DOCUMENT)
    os.utime(old, (0, 0))
    open_payload(sealed.blob, PLACE, OWNER.encryption_private_key, blobs, tmp_path)
    assert (old.exists(), new.exists()) == (False, True)


def test_the_same_words_have_another_digest_each_time(
    sealed: Sealed, blobs: MemoryBlobStore, tmp_path: Path
) -> None:
    again = seal_document(DOCUMENT, PLACE, (OWNER.encryption_key,), tmp_path / "again")
    assert again.document != sealed.document
    payload = open_payload(sealed.blob, PLACE, OWNER.encryption_private_key, blobs, tmp_path)
    assert len(payload) == SALT + len(DOCUMENT)
    assert hashlib.sha256(DOCUMENT).digest() not in {sealed.document, again.document}


def test_another_salt_or_document_than_the_ledgers_is_refused(
    sealed: Sealed, blobs: MemoryBlobStore, tmp_path: Path
) -> None:
    payload = open_payload(sealed.blob, PLACE, OWNER.encryption_private_key, blobs, tmp_path)
    for wrong in (bytes(SALT) + DOCUMENT, payload[:-1], payload + b"x"):
        with pytest.raises(DigestMismatchError, match="salt and document, against the ledger"):
            document_in(wrong, sealed.document)
    with pytest.raises(InvalidInputError, match="salt and a document"):
        document_in(bytes(SALT), None)


@pytest.mark.parametrize(
    "place",
    [
        reading_context(1, READINGS, COMMITMENT, OWNER.address),
        reading_context(31337, OWNER.address, COMMITMENT, OWNER.address),
        reading_context(31337, READINGS, b"\x09" * 32, OWNER.address),
        reading_context(31337, READINGS, COMMITMENT, READER.address),
    ],
)
def test_an_envelope_of_another_chain_contract_image_or_hospital_is_refused(
    place: object, sealed: Sealed, blobs: MemoryBlobStore, tmp_path: Path
) -> None:
    with pytest.raises(EnvelopeError) as refused:
        open_payload(sealed.blob, place, OWNER.encryption_private_key, blobs, tmp_path)  # type: ignore[arg-type]
    assert refused.value.reason is Reason.ENVELOPE_CONTEXT_MISMATCH


def test_a_blob_that_is_gone_or_was_swapped_is_refused(
    sealed: Sealed, blobs: MemoryBlobStore, tmp_path: Path
) -> None:
    root = Cid.from_blob_digest(sealed.blob)
    key = OWNER.encryption_private_key
    content = blobs.blocks.pop(root)
    with pytest.raises(BlobUnavailableError):
        open_payload(sealed.blob, PLACE, key, blobs, tmp_path)
    blobs.blocks[root] = content[:-1] + b"x"
    with pytest.raises(DigestMismatchError):
        open_payload(sealed.blob, PLACE, key, blobs, tmp_path)


def test_what_is_stored_is_read_back_before_it_is_called_stored(tmp_path: Path) -> None:
    class Forgetful(MemoryBlobStore):
        def put(self, source: object) -> Cid:
            cid = super().put(source)  # type: ignore[arg-type]
            self.blocks.clear()
            return cid

    found = seal_document(DOCUMENT, PLACE, (OWNER.encryption_key,), tmp_path / "envelope")
    with pytest.raises(BlobUnavailableError):
        store(tmp_path / "envelope", found.blob, Forgetful())
    with pytest.raises(DigestMismatchError):
        store(tmp_path / "envelope", bytes(32), MemoryBlobStore())


def test_nothing_is_sealed_to_keys_that_open_for_everybody() -> None:
    with pytest.raises(InvalidInputError, match="publish another"):
        recipients_of([OWNER.encryption_key, bytes(32)])
    with pytest.raises(InvalidInputError, match="at most 64"):
        recipients_of(bytes([1, number]) + bytes([9]) * 30 for number in range(65))
