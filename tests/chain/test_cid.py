"""A blob's CID depends on its bytes alone, and only well-formed CIDs and trees are read."""

import io
from hashlib import sha256

import httpx
import pytest
from hypothesis import given
from hypothesis import strategies as st

from chain.cid import (
    DAG_PB,
    LAYOUT,
    MAX_BLOCK_BYTES,
    RAW,
    BlobBuilder,
    Cid,
    Layout,
    Link,
    blob_blocks,
    blob_cid,
    checked_leaf,
    decode_node,
    encode_node,
    leaves,
)
from chain.errors import DigestMismatchError, InvalidInputError, VerificationError

SMALL = Layout(leaf_bytes=4, max_links=3)
MIB = 1024 * 1024

# The CID that every IPFS implementation gives the raw block "hello world".
HELLO = "bafkreifzjut3te2nhyekklss27nh3k72ysco7y32koao5eei66wof36n5e"

digests = st.binary(min_size=32, max_size=32)
cids = st.builds(Cid, st.sampled_from([RAW, DAG_PB]), digests)
links = st.builds(Link, cids, st.integers(0, 2**60), st.integers(0, 2**60))


def read(store: dict[Cid, bytes], cid: Cid, max_bytes: int = 1000) -> bytes:
    found = leaves(cid, store.__getitem__, max_bytes, SMALL)
    return b"".join(checked_leaf(link, store[link.cid]) for link in found)


def test_a_known_block_has_its_known_cid() -> None:
    assert str(Cid.of_block(RAW, b"hello world")) == HELLO


def test_a_blob_of_one_chunk_still_has_a_node_for_its_root() -> None:
    leaf, root = blob_blocks([b"hello world"])

    assert str(leaf[0]) == HELLO
    assert root[0].codec == DAG_PB
    # dag-pb by hand: one link (36-byte CID, empty name, Tsize 11), then UnixFS file data.
    link = b"\x0a\x24" + bytes(leaf[0]) + b"\x12\x00\x18\x0b"
    assert root[1] == b"\x12" + bytes([len(link)]) + link + b"\x0a\x06\x08\x02\x18\x0b\x20\x0b"


def test_the_ledger_names_a_blob_by_the_digest_of_its_root() -> None:
    *_, (cid, root) = blob_blocks([b"an update"])

    assert Cid.from_blob_digest(sha256(root).digest()) == cid


def test_an_empty_blob_is_refused() -> None:
    with pytest.raises(InvalidInputError, match="at least one byte"):
        blob_cid([b"", b""])


@given(cids)
def test_a_cid_survives_its_text_and_binary_forms(cid: Cid) -> None:
    assert Cid.parse(str(cid)) == cid
    assert Cid.from_bytes(bytes(cid)) == cid


@pytest.mark.parametrize(
    "text",
    [
        "",
        "b",
        HELLO.upper(),
        HELLO[:-1],
        HELLO + "a",
        HELLO + "\n",
        "z" + HELLO[1:],
        HELLO[:-1] + "f",  # the spare bits at the end are not zero
        HELLO.replace("fkrei", "fkrej", 1),  # another multihash
        "QmYwAPJzv5CZsnA625s3Xf2nemtYgPpHdWEz79ojWnPbdG",  # CIDv0
        "bafyreifzjut3te2nhyekklss27nh3k72ysco7y32koao5eei66wof36n5e",  # dag-cbor
        "b" + "٣" * 58,
        "b" + "a" * 1_000_000,
        "../../../../etc/passwd",
    ],
)
def test_a_malformed_cid_is_refused(text: str) -> None:
    with pytest.raises(InvalidInputError, match="CID"):
        Cid.parse(text)


@given(st.text(max_size=80))
def test_any_text_is_a_cid_or_refused(text: str) -> None:
    try:
        cid = Cid.parse(text)
    except InvalidInputError:
        return
    assert str(cid) == text


@pytest.mark.parametrize("digest", [b"", bytes(31), bytes(33)])
def test_a_digest_of_another_length_names_no_blob(digest: bytes) -> None:
    with pytest.raises(InvalidInputError, match="32 bytes"):
        Cid.from_blob_digest(digest)


@given(st.lists(st.binary(max_size=30), max_size=12), st.binary(min_size=1, max_size=300))
def test_a_cid_does_not_depend_on_how_the_bytes_arrive(pieces: list[bytes], last: bytes) -> None:
    whole = b"".join([*pieces, last])

    assert blob_cid([*pieces, last], SMALL) == blob_cid([whole], SMALL)
    assert blob_cid(io.BytesIO(whole), SMALL) == blob_cid([whole], SMALL)


@given(st.binary(min_size=1, max_size=300))
def test_a_blob_is_read_as_it_was_built(blob: bytes) -> None:
    *blocks, (root, node) = blob_blocks([blob], SMALL)

    assert read(dict([*blocks, (root, node)]), root) == blob


@given(st.binary(min_size=2, max_size=120), st.data())
def test_a_blob_with_one_bit_changed_anywhere_is_not_read(blob: bytes, data: st.DataObject) -> None:
    store = dict(blob_blocks([blob], SMALL))
    root = blob_cid([blob], SMALL)
    victim = data.draw(st.sampled_from(sorted(store, key=bytes)))
    position = data.draw(st.integers(0, len(store[victim]) - 1))
    changed = bytearray(store[victim])
    changed[position] ^= 1 << data.draw(st.integers(0, 7))
    store[victim] = bytes(changed)

    with pytest.raises(DigestMismatchError):
        read(store, root)


def test_the_builder_keeps_no_more_than_a_leaf_and_a_row_of_links() -> None:
    builder = BlobBuilder(SMALL)
    for _ in range(1000):
        for _ in builder.feed(b"12345"):
            pass
        assert len(builder._pending) < SMALL.leaf_bytes
        assert all(len(row) < SMALL.max_links for row in builder._levels)
    assert len(builder._levels) < 9


@given(st.lists(links, min_size=1, max_size=20))
def test_a_node_is_decoded_as_it_was_encoded(children: list[Link]) -> None:
    assert decode_node(encode_node(children)) == tuple(children)


@given(st.binary(max_size=300))
def test_any_bytes_are_a_canonical_node_or_refused(block: bytes) -> None:
    try:
        children = decode_node(block)
    except VerificationError:
        return
    assert encode_node(children) == block


def node() -> bytes:
    return encode_node([Link(Cid(RAW, bytes(32)), 4, 4), Link(Cid(RAW, bytes(32)), 3, 3)])


@pytest.mark.parametrize(
    "block",
    [
        b"",
        node()[:-1],
        node() + b"\x0a\x00",  # a second data field
        node() + b"\x1a\x00",  # a field of no meaning
        node()[50:],
        node().replace(b"\x12\x00\x18", b"\x12\x01\x18", 1),
        b"\x12" + b"\xff" * 9 + b"\x01" + b"a" * 50,  # a length beyond all bounds
        b"\x80" * 100,
        bytes(MAX_BLOCK_BYTES + 1),
        encode_node([Link(Cid(RAW, bytes(32)), 1, 1)] * (LAYOUT.max_links + 1)),
    ],
)
def test_a_malformed_node_is_refused(block: bytes) -> None:
    with pytest.raises(VerificationError):
        decode_node(block)


@pytest.mark.parametrize(
    "block",
    [
        node()[-10:] + node()[:-10],  # data before links
        node().replace(b"\x12\x2a", b"\x12\x28").replace(b"\x12\x00\x18", b"\x18"),  # no names
        node()[:-10] + b"\x0a\x0a" + node()[-8:] + b"\x38\x01",  # a UnixFS mode
        node()[:-10] + b"\x0a\x09" + node()[-8:-1] + b"\x83\x00",  # a varint longer than needed
        node()[:-10] + b"\x0a\x08\x08\x01" + node()[-6:],  # a directory
        node()[:-10] + b"\x0a\x08\x08\x02\x18\x09" + node()[-4:],  # a size that is not the sum
    ],
)
def test_a_node_in_another_encoding_is_refused(block: bytes) -> None:
    with pytest.raises(VerificationError, match="canonical"):
        decode_node(block)


def tree(children: list[Link], store: dict[Cid, bytes]) -> Cid:
    block = encode_node(children)
    cid = Cid.of_block(DAG_PB, block)
    store[cid] = block
    return cid


def leaf(content: bytes, store: dict[Cid, bytes]) -> Link:
    cid = Cid.of_block(RAW, content)
    store[cid] = content
    return Link(cid, len(content), len(content))


@pytest.mark.parametrize(
    ("sizes", "reason"),
    [
        ([3, 4], "not cut like this"),
        ([4, 0], "not cut like this"),
        ([0], "not cut like this"),
        ([5], "not cut like this"),
        ([2, 2], "not cut like this"),
    ],
)
def test_a_tree_cut_differently_is_refused(sizes: list[int], reason: str) -> None:
    store: dict[Cid, bytes] = {}
    root = tree([leaf(bytes(size), store) for size in sizes], store)

    with pytest.raises(VerificationError, match=reason):
        read(store, root)


def test_a_leaf_that_is_shorter_than_its_node_says_is_refused() -> None:
    store: dict[Cid, bytes] = {}
    short = leaf(b"123", store)
    root = tree([Link(short.cid, 4, 4)], store)

    with pytest.raises(VerificationError, match="a leaf of 4 bytes"):
        read(store, root)


def test_a_node_that_lies_about_its_tree_is_refused() -> None:
    store: dict[Cid, bytes] = {}
    honest = leaf(b"1234", store)
    root = tree([Link(honest.cid, 4, 5)], store)

    with pytest.raises(VerificationError, match="a tree of 5 bytes"):
        read(store, root)


def test_a_node_in_the_place_of_a_leaf_is_refused() -> None:
    store: dict[Cid, bytes] = {}
    inner = tree([leaf(b"1234", store)], store)
    root = tree([Link(inner, 4, 4)], store)

    with pytest.raises(VerificationError, match="expected a raw block"):
        read(store, root)


def test_a_blob_that_claims_to_be_huge_is_refused_at_its_root() -> None:
    store: dict[Cid, bytes] = {}
    root = tree([Link(Cid(RAW, bytes(32)), 2**60, 2**60)], store)

    with pytest.raises(InvalidInputError, match="at most 1000 bytes"):
        read(store, root)


def test_a_leaf_is_no_blob() -> None:
    with pytest.raises(InvalidInputError, match="dag-pb"):
        read({}, Cid(RAW, bytes(32)))


@pytest.mark.parametrize("size", [1, 3, 4, 5, 12, 13, 36, 37, 40, 108, 109, 200])
def test_helia_gives_a_blob_of_several_levels_the_same_cid(ipfs_http: str, size: int) -> None:
    blob = bytes(range(size))

    assert str(blob_cid([blob], SMALL)) == add(ipfs_http, blob, SMALL)


@pytest.mark.parametrize("size", [11, MIB, MIB + 1, 3 * MIB - 1])
def test_helia_gives_a_real_blob_the_same_cid_and_reads_it(ipfs_http: str, size: int) -> None:
    blob = bytes(byte % 251 for byte in range(4096)) * (size // 4096 + 1)
    blob = blob[:size]

    cid = add(ipfs_http, blob, LAYOUT)
    answer = httpx.post(f"{ipfs_http}/api/v0/cat", params={"arg": cid}, trust_env=False)

    assert str(blob_cid([blob])) == cid
    assert answer.content == blob


def add(ipfs_http: str, blob: bytes, layout: Layout) -> str:
    answer = httpx.post(
        f"{ipfs_http}/api/v0/add",
        params={"chunker": f"size-{layout.leaf_bytes}", "max-file-links": str(layout.max_links)},
        files={"file": blob},
        trust_env=False,
    )
    return str(answer.raise_for_status().json()["Hash"])
