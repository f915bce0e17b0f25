"""Admission: may this recorded update enter the aggregate? (docs/protocol.md, section 8)."""

from collections.abc import Iterator, Mapping
from collections.abc import Set as AbstractSet
from dataclasses import dataclass
from pathlib import Path
from typing import TypeAlias

import numpy as np

from chain.blob_store import BlobReader
from chain.cid import Cid, blob_cid
from chain.digests import update_digest
from chain.envelope import (
    ContentKeys,
    EnvelopeContext,
    envelope_size,
    open_disclosed,
    open_envelope,
)
from chain.errors import (
    BlobUnavailableError,
    EnvelopeError,
    InvalidInputError,
    VerificationError,
)
from chain.files import pieces
from chain.schema import Schema, TensorSpec
from chain.tensors import Array, TensorFile, open_tensors
from chain.types import Outcome, Reason, UpdateRecord, Verdict

NO_CONTENT = bytes(32)
_BLOCK = 1 << 18  # values looked at in one go


@dataclass(frozen=True, slots=True)
class AdmissionTerms:
    """What the records of one round are held against.

    Args:
        chain_id: The chain.
        ledger: The RoundLedger's address.
        round: The round's number.
        schema: The schema that the round fixes.
        recipients: The X25519 keys that envelopes must be wrapped to, ascending.
        earlier: Content digests of the task's earlier updates and models.
    """

    chain_id: int
    ledger: str
    round: int
    schema: Schema
    recipients: tuple[bytes, ...]
    earlier: frozenset[bytes]

    def context(self, hospital: str) -> EnvelopeContext:
        """Return what a hospital's envelope must be made for."""
        return EnvelopeContext(self.chain_id, self.ledger, self.round, hospital)

    def most_bytes(self) -> int:
        """Return how large an envelope of the schema can be, in bytes."""
        return envelope_size(self.schema.file_size(), len(self.recipients))


@dataclass(frozen=True, slots=True)
class Admitted:
    """An update that passed: its record, content digest, and plaintext file."""

    record: UpdateRecord
    content: bytes
    path: Path


@dataclass(frozen=True, slots=True)
class Fault:
    """Why tensors may not enter an aggregate, and what was expected and found in which tensor."""

    reason: Reason
    told: str


class _RefusedError(Exception):
    """A step failed; kept to this module, where it becomes a verdict."""

    def __init__(self, reason: Reason) -> None:
        self.reason = reason
        super().__init__(reason.name)


def admit(
    record: UpdateRecord,
    terms: AdmissionTerms,
    *,
    peers: AbstractSet[bytes],
    blobs: BlobReader,
    private_key: bytes | ContentKeys,
    envelopes: Path,
    plaintexts: Path,
) -> Admitted | Verdict:
    """Judge one record by the steps of docs/protocol.md, section 8, in their order.

    1. to 3. Fetch the blob, no more of it than an envelope of the schema can have.
    4. to 7. Open the envelope, which was made for this place and exactly these recipients.
    8. Hold the plaintext against the recorded update digest.
    9. to 12. Read it as tensors of the schema.
    13. and 14. Look for a value that is not finite.
    15. and 16. Look for the same content in this round and before it.

    Memory is bounded by a few blocks, whatever the update's size.

    Args:
        record: The record on the ledger.
        terms: What it is held against.
        peers: Contents recorded earlier in this round.
        blobs: Where the envelope lies.
        private_key: The X25519 key of one of the recipients, or the envelopes' own keys.
        envelopes: A folder that keeps the envelope; one that is there already is used again.
        plaintexts: A private folder that keeps the plaintext of an admitted update.

    Returns:
        The admitted update, or a rejecting verdict with the first failure as its reason.

    Raises:
        BlobUnavailableError: If the blob store itself cannot be reached.
        OSError: If a folder cannot be written to, such as on a full disk.
    """
    content = NO_CONTENT
    plaintext = plaintexts / f"{record.hospital}.safetensors"
    try:
        envelope = _fetch(record, terms.most_bytes(), blobs, envelopes)
        found = _open(envelope, plaintext, record, terms, private_key)
        _require(_bound(found, record, terms) == record.update, Reason.UPDATE_DIGEST_MISMATCH)
        content = found
        _check_tensors(plaintext, terms.schema)
        _require(content not in peers, Reason.COPIED_FROM_PEER)
        _require(content not in terms.earlier, Reason.REPLAYED_UPDATE)
    except _RefusedError as refused:
        plaintext.unlink(missing_ok=True)
        return Verdict(record.hospital, Outcome.REJECTED, refused.reason, 0, 0, content)
    return Admitted(record, content, plaintext)


def _require(holds: bool, reason: Reason) -> None:
    if not holds:
        raise _RefusedError(reason)


def _fetch(record: UpdateRecord, most_bytes: int, blobs: BlobReader, folder: Path) -> Path:
    path = folder / f"{record.blob.hex()}.envelope"
    cid = Cid.from_blob_digest(record.blob)
    if _is_blob(path, cid) and path.stat().st_size <= most_bytes:
        return path
    try:
        blobs.fetch(cid, path, most_bytes)
    except BlobUnavailableError as error:
        # A store that answers nobody condemns nobody: then this raises, and the round waits.
        blobs.has(cid)
        raise _RefusedError(Reason.BLOB_UNAVAILABLE) from error
    except VerificationError as error:
        raise _RefusedError(Reason.BLOB_DIGEST_MISMATCH) from error
    except InvalidInputError as error:
        raise _RefusedError(Reason.BLOB_TOO_LARGE) from error
    return path


def _is_blob(path: Path, cid: Cid) -> bool:
    """Tell whether an earlier run left this very blob at the path."""
    return path.is_file() and path.stat().st_size > 0 and blob_cid(pieces(path)) == cid


def _open(
    envelope: Path,
    plaintext: Path,
    record: UpdateRecord,
    terms: AdmissionTerms,
    private_key: bytes | ContentKeys,
) -> bytes:
    sealed = (envelope, terms.context(record.hospital), terms.recipients)
    try:
        if isinstance(private_key, bytes):
            return open_envelope(*sealed, private_key, plaintext)
        return open_disclosed(*sealed, private_key.get(record.blob), plaintext)
    except EnvelopeError as error:
        raise _RefusedError(error.reason) from error


def _bound(content: bytes, record: UpdateRecord, terms: AdmissionTerms) -> bytes:
    return update_digest(terms.chain_id, terms.ledger, terms.round, record.hospital, content)


def find_fault(tensors: TensorFile, schema: Schema) -> Fault | None:
    """Hold tensors against a schema and look for a value that is not finite: steps 10. to 14.

    Args:
        tensors: An open canonical file.
        schema: What it should have.

    Returns:
        The first fault in the order of the steps, or None.
    """
    return _find_difference(_by_name(schema), _by_name(tensors.schema)) or _find_not_finite(tensors)


def require_finite(what: str, tensors: TensorFile) -> None:
    """Refuse a model with a value that is not finite.

    Raises:
        InvalidInputError: If there is one.
    """
    fault = _find_not_finite(tensors)
    if fault is not None:
        raise InvalidInputError(f"{what}: expected finite values, found others: {fault.told}")


def _check_tensors(path: Path, schema: Schema) -> None:
    try:
        tensors = open_tensors(path)
    except InvalidInputError as error:
        raise _RefusedError(Reason.TENSORS_MALFORMED) from error
    with tensors:
        fault = find_fault(tensors, schema)
    if fault is not None:
        raise _RefusedError(fault.reason)


_Specs: TypeAlias = Mapping[str, TensorSpec]


def _by_name(schema: Schema) -> _Specs:
    return {spec.name: spec for spec in schema.tensors}


def _find_difference(expected: _Specs, found: _Specs) -> Fault | None:
    for name in sorted(expected.keys() ^ found.keys()):
        told = "expected none of this name, found one" if name in found else "not found"
        return Fault(Reason.TENSOR_NAME_MISMATCH, f"tensor {name}: {told}")
    for name, spec in expected.items():
        if found[name].dtype != spec.dtype:
            told = f"expected {spec.dtype}, found {found[name].dtype}"
            return Fault(Reason.TENSOR_DTYPE_MISMATCH, f"tensor {name}: {told}")
    for name, spec in expected.items():
        if found[name].shape != spec.shape:
            told = f"expected the shape {list(spec.shape)}, found {list(found[name].shape)}"
            return Fault(Reason.TENSOR_SHAPE_MISMATCH, f"tensor {name}: {told}")
    return None


def _find_not_finite(tensors: TensorFile) -> Fault | None:
    infinite: Fault | None = None
    for name, array in tensors.arrays.items():
        for block in _blocks(array):
            if not np.isfinite(block).all():
                if np.isnan(block).any():
                    told = f"tensor {name}: expected numbers, found a NaN"
                    return Fault(Reason.NOT_A_NUMBER, told)
                told = f"tensor {name}: expected finite values, found an infinity"
                infinite = infinite or Fault(Reason.INFINITE_VALUE, told)
    # A NaN anywhere comes before an infinity anywhere, so this waits for the last block.
    return infinite


def _blocks(array: Array) -> Iterator[Array]:
    flat = array.reshape(-1)
    for start in range(0, flat.size, _BLOCK):
        yield flat[start : start + _BLOCK]
