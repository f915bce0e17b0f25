"""Each digest hashes the bytes that docs/protocol.md names."""

from hashlib import sha256
from pathlib import Path

import pytest

from chain.digests import (
    content_digest,
    keccak,
    sha256_stream,
    task_id,
    update_digest,
)

LEDGER = "0x5FbDB2315678afecb367f032d93F642f64180aa3"
HOSPITAL = "0x70997970C51812dc3A010C7d01b50e0d17dc79C8"
CONTENT = bytes(range(32))


def test_an_update_digest_is_the_sha256_of_the_documented_bytes() -> None:
    expected = sha256(
        b"fedwitness.update.v1"
        + (31337).to_bytes(32, "big")
        + bytes.fromhex(LEDGER[2:])
        + (7).to_bytes(32, "big")
        + bytes.fromhex(HOSPITAL[2:])
        + CONTENT
    ).digest()
    assert update_digest(31337, LEDGER, 7, HOSPITAL, CONTENT) == expected


@pytest.mark.parametrize(
    "other",
    [
        (1, LEDGER, 7, HOSPITAL, CONTENT),
        (31337, HOSPITAL, 7, HOSPITAL, CONTENT),
        (31337, LEDGER, 8, HOSPITAL, CONTENT),
        (31337, LEDGER, 7, LEDGER, CONTENT),
        (31337, LEDGER, 7, HOSPITAL, bytes(32)),
    ],
)
def test_an_update_digest_is_bound_to_every_field(
    other: tuple[int, str, int, str, bytes],
) -> None:
    assert update_digest(*other) != update_digest(31337, LEDGER, 7, HOSPITAL, CONTENT)


def test_a_file_and_its_bytes_have_one_content_digest(tmp_path: Path) -> None:
    path = tmp_path / "model"
    path.write_bytes(b"x" * 3_000_001)
    assert content_digest(path) == content_digest(b"x" * 3_000_001)
    assert content_digest(path) == sha256(b"x" * 3_000_001).digest()


def test_a_stream_is_hashed_as_its_concatenation() -> None:
    assert sha256_stream([b"a", b"", b"bc"]) == sha256(b"abc").digest()


def test_keccak_is_ethereums_hash() -> None:
    empty = "c5d2460186f7233c927e7db2dcc703c0e500b653ca82273b7bfad8045d85a470"
    assert keccak(b"").hex() == empty
    assert task_id("lesion") == keccak(b"lesion")
