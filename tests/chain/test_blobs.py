"""Blobs come back as they were stored, and a lying or silent IPFS node is found out."""

import io
import json
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from chain.blob_store import BlobStore
from chain.blobs import BLOCKS_AHEAD, IpfsBlobStore
from chain.cid import LAYOUT, RAW, Cid, blob_blocks, blob_cid
from chain.devnet.ports import free_port
from chain.errors import BlobUnavailableError, DigestMismatchError, InvalidInputError
from tests.hostile_ipfs import hostile_ipfs, send, send_for_ever
from tests.memory_blobs import MemoryBlobStore

MIB = 1024 * 1024
NOWHERE = Cid.from_blob_digest(bytes(32))


@pytest.fixture(params=["ipfs", "memory"])
def store(request: pytest.FixtureRequest) -> Iterator[BlobStore]:
    """Each store in turn: they must behave alike."""
    if request.param == "memory":
        yield MemoryBlobStore()
    else:
        with IpfsBlobStore(request.getfixturevalue("ipfs")) as blobs:
            yield blobs


def pattern(size: int) -> bytes:
    return (bytes(range(251)) * (size // 251 + 1))[:size]


@pytest.mark.parametrize("size", [1, MIB - 1, MIB, MIB + 1, 9 * MIB + 5])
def test_a_blob_comes_back_as_it_was_stored(store: BlobStore, size: int) -> None:
    cid = store.put([pattern(size)])

    assert cid == blob_cid([pattern(size)])
    assert store.has(cid)
    assert store.get(cid, size) == pattern(size)


def test_a_blob_can_come_from_a_path_a_file_or_pieces(store: BlobStore, tmp_path: Path) -> None:
    blob = pattern(2 * MIB + 7)
    path = tmp_path / "blob"
    path.write_bytes(blob)

    cids = {store.put(path), store.put(io.BytesIO(blob)), store.put([blob[:99], b"", blob[99:]])}

    assert cids == {blob_cid([blob])}


def test_an_empty_blob_is_not_stored(store: BlobStore) -> None:
    with pytest.raises(InvalidInputError, match="at least one byte"):
        store.put([])


def test_a_blob_is_streamed_leaf_by_leaf(store: BlobStore) -> None:
    cid = store.put([pattern(2 * MIB + 1)])

    assert [len(piece) for piece in store.stream(cid, 3 * MIB)] == [MIB, MIB, 1]


def test_a_blob_larger_than_permitted_is_refused(store: BlobStore) -> None:
    cid = store.put([pattern(1000)])

    with pytest.raises(InvalidInputError, match="at most 999 bytes"):
        store.get(cid, 999)


def test_a_missing_blob_is_named(store: BlobStore) -> None:
    assert not store.has(NOWHERE)
    with pytest.raises(BlobUnavailableError, match=str(NOWHERE)):
        store.get(NOWHERE, 1000)


def test_a_fetched_file_is_complete(store: BlobStore, tmp_path: Path) -> None:
    cid = store.put([pattern(3 * MIB)])

    store.fetch(cid, tmp_path / "model", 3 * MIB)

    assert (tmp_path / "model").read_bytes() == pattern(3 * MIB)
    assert list(tmp_path.iterdir()) == [tmp_path / "model"]


def test_a_failed_fetch_leaves_the_old_file(store: BlobStore, tmp_path: Path) -> None:
    (tmp_path / "model").write_bytes(b"old")

    with pytest.raises(BlobUnavailableError):
        store.fetch(NOWHERE, tmp_path / "model", 1000)

    assert (tmp_path / "model").read_bytes() == b"old"
    assert list(tmp_path.iterdir()) == [tmp_path / "model"]


def test_a_reader_may_stop_early(store: BlobStore) -> None:
    cid = store.put([pattern(12 * MIB)])
    stream = store.stream(cid, 12 * MIB)

    assert next(stream) == pattern(MIB)
    stream.close()  # type: ignore[attr-defined]


@settings(max_examples=15, deadline=None)
@given(st.binary(min_size=1, max_size=2000))
def test_any_blob_comes_back_from_ipfs(ipfs: str, blob: bytes) -> None:
    with IpfsBlobStore(ipfs) as blobs:
        assert blobs.get(blobs.put([blob]), len(blob)) == blob


def test_a_swapped_block_in_memory_is_found() -> None:
    store = MemoryBlobStore()
    cid = store.put([b"a good update"])
    store.blocks[Cid.of_block(RAW, b"a good update")] = b"a poor update"

    with pytest.raises(DigestMismatchError):
        store.get(cid, 100)


def test_both_forms_of_an_address_reach_the_node(ipfs: str, ipfs_http: str) -> None:
    with IpfsBlobStore(ipfs) as blobs, IpfsBlobStore(ipfs_http) as same:
        assert same.get(blobs.put([b"abc"]), 3) == b"abc"


@pytest.mark.parametrize(
    "address",
    [
        "",
        "127.0.0.1:5001",
        "/ip4/127.0.0.1",
        "/ip4/127.0.0.1/udp/5001",
        "/ip4/999.0.0.1/tcp/5001/http",
        "http://",
        "http://127.0.0.1:99999",
        "http://127.0.0.1:5001/api/v0",
        "http://user:word@127.0.0.1:5001",
        "ftp://127.0.0.1:5001",
    ],
)
def test_a_malformed_address_is_refused(address: str) -> None:
    with pytest.raises(InvalidInputError, match="address of an IPFS node"):
        IpfsBlobStore(address)


def test_an_unreachable_node_is_named() -> None:
    address = f"http://127.0.0.1:{free_port()}"
    with IpfsBlobStore(address) as blobs:
        with pytest.raises(BlobUnavailableError, match=address):
            blobs.get(NOWHERE, 1000)
        with pytest.raises(BlobUnavailableError, match=address):
            blobs.put([b"abc"])
        with pytest.raises(BlobUnavailableError, match=address):
            blobs.has(NOWHERE)


def test_at_most_eight_blocks_are_in_memory_while_storing(ipfs: str) -> None:
    waiting = 0

    def pieces() -> Iterator[bytes]:
        nonlocal waiting
        for _ in range(40):
            waiting += 1
            yield bytes(LAYOUT.leaf_bytes)
            assert waiting <= BLOCKS_AHEAD + 1

    class Counting(IpfsBlobStore):
        def _put_block(self, cid: Cid, block: bytes) -> Cid:
            nonlocal waiting
            try:
                return super()._put_block(cid, block)
            finally:
                waiting -= cid.codec == RAW

    with Counting(ipfs) as blobs:
        blobs.put(pieces())


# --- a hostile node ---


def serve(blocks: dict[Cid, bytes]) -> "dict[str, bytes]":
    return {str(cid): block for cid, block in blocks.items()}


def test_a_swapped_leaf_is_found_before_a_byte_of_it_is_used() -> None:
    blocks = serve(dict(blob_blocks([pattern(3 * MIB)])))
    second = str(Cid.of_block(RAW, pattern(3 * MIB)[MIB : 2 * MIB]))
    blocks[second] = bytes(MIB)

    def answer(request: BaseHTTPRequestHandler, _: str, cid: str) -> None:
        send(request, blocks[cid])

    with hostile_ipfs(answer) as address, IpfsBlobStore(address) as blobs:
        stream = blobs.stream(blob_cid([pattern(3 * MIB)]), 3 * MIB)
        assert next(stream) == pattern(3 * MIB)[:MIB]
        with pytest.raises(DigestMismatchError, match=second):
            next(stream)


def test_a_swapped_root_is_found() -> None:
    *_, (_, other_root) = blob_blocks([b"another blob"])

    def answer(request: BaseHTTPRequestHandler, _command: str, _cid: str) -> None:
        send(request, other_root)

    with (
        hostile_ipfs(answer) as address,
        IpfsBlobStore(address) as blobs,
        pytest.raises(DigestMismatchError),
    ):
        blobs.get(blob_cid([b"a blob"]), 100)


@pytest.mark.parametrize("status", [200, 500])
def test_an_endless_answer_is_cut_off(status: int) -> None:
    def answer(request: BaseHTTPRequestHandler, _command: str, _cid: str) -> None:
        send_for_ever(request, status)

    with hostile_ipfs(answer) as address, IpfsBlobStore(address) as blobs:
        with pytest.raises(BlobUnavailableError, match="more than 2097152 bytes"):
            blobs.get(NOWHERE, 10**12)
        with pytest.raises(BlobUnavailableError, match="more than 2097152 bytes"):
            blobs.put([b"abc"])


def test_an_answer_that_drips_is_cut_off() -> None:
    def answer(request: BaseHTTPRequestHandler, _command: str, _cid: str) -> None:
        request.send_response(200)
        request.end_headers()
        for _ in range(100):
            request.wfile.write(b".")
            time.sleep(0.05)

    with hostile_ipfs(answer) as address, IpfsBlobStore(address, request_seconds=0.3) as blobs:
        began = time.monotonic()
        with pytest.raises(BlobUnavailableError, match="too long"):
            blobs.get(NOWHERE, 100)
        assert time.monotonic() - began < 2


def test_a_silent_node_is_not_waited_for() -> None:
    def answer(_request: BaseHTTPRequestHandler, _command: str, _cid: str) -> None:
        time.sleep(2)

    with (
        hostile_ipfs(answer) as address,
        IpfsBlobStore(address, request_seconds=0.2) as blobs,
        pytest.raises(BlobUnavailableError, match="try again"),
    ):
        blobs.get(NOWHERE, 100)


def test_a_redirection_is_not_followed() -> None:
    def answer(request: BaseHTTPRequestHandler, _command: str, _cid: str) -> None:
        request.send_response(307)
        request.send_header("Location", "http://127.0.0.1:1/elsewhere")
        request.send_header("Content-Length", "0")
        request.end_headers()

    with (
        hostile_ipfs(answer) as address,
        IpfsBlobStore(address) as blobs,
        pytest.raises(BlobUnavailableError, match="redirection"),
    ):
        blobs.get(NOWHERE, 100)


@pytest.mark.parametrize("body", [b"", b"{", b"[]", b'{"Key": null}', b'{"Key": "b"}', b"\xff\n"])
def test_a_node_that_stores_under_another_name_is_not_believed(body: bytes) -> None:
    def answer(request: BaseHTTPRequestHandler, _command: str, _cid: str) -> None:
        request.rfile.read1(MIB)
        send(request, body)

    with (
        hostile_ipfs(answer) as address,
        IpfsBlobStore(address) as blobs,
        pytest.raises((DigestMismatchError, BlobUnavailableError)),
    ):
        blobs.put([b"abc"])


def test_a_node_that_cannot_pin_does_not_hold_the_blob() -> None:
    def answer(request: BaseHTTPRequestHandler, command: str, _cid: str) -> None:
        if command == "pin/add":
            send(request, b'{"Message": "the disk is full", "Code": 0, "Type": "error"}', 500)
            return
        request.rfile.read1(MIB)
        blocks = blob_blocks([b"abc"])
        codec = "dag-pb" if "dag-pb" in request.path else "raw"
        cid = next(cid for cid, _ in blocks if cid.codec_name == codec)
        send(request, json.dumps({"Key": str(cid), "Size": 3}).encode())

    with (
        hostile_ipfs(answer) as address,
        IpfsBlobStore(address) as blobs,
        pytest.raises(BlobUnavailableError, match="the disk is full"),
    ):
        blobs.put([b"abc"])
