"""Digests: which bytes are hashed for what.

SHA-256 names contents (docs/protocol.md, section 3), Keccak-256 names what contracts look up.
Every digest is 32 raw bytes.
"""

import hashlib
from collections.abc import Iterable
from pathlib import Path

from eth_utils.address import to_canonical_address
from eth_utils.crypto import keccak as _keccak

from chain.files import pieces

_UPDATE_TAG = b"fedwitness.update.v1"


def keccak(data: bytes) -> bytes:
    """Hash with Keccak-256, Ethereum's hash."""
    return _keccak(data)


def sha256(data: bytes) -> bytes:
    """Hash with SHA-256 (FIPS 180-4)."""
    return hashlib.sha256(data).digest()


def sha256_stream(pieces: Iterable[bytes]) -> bytes:
    """Hash the concatenation of the pieces with SHA-256 without holding it."""
    hasher = hashlib.sha256()
    for piece in pieces:
        hasher.update(piece)
    return hasher.digest()


def content_digest(content: Path | bytes) -> bytes:
    """Compute the content digest of a model or update: the SHA-256 of its canonical bytes.

    See docs/protocol.md, section 3.2. A file is read a piece at a time.
    """
    if isinstance(content, bytes):
        return sha256(content)
    return sha256_stream(pieces(content))


def update_digest(
    chain_id: int, ledger: str, round_number: int, hospital: str, content: bytes
) -> bytes:
    """Bind a content digest to one place on one ledger (docs/protocol.md, section 3.3)."""
    return sha256(
        _UPDATE_TAG
        + chain_id.to_bytes(32, "big")
        + to_canonical_address(ledger)
        + round_number.to_bytes(32, "big")
        + to_canonical_address(hospital)
        + content
    )


def task_id(name: str) -> bytes:
    """Compute the identifier of a task on chain: the Keccak-256 of its name."""
    return keccak(name.encode())
