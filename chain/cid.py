"""How a blob becomes a CID (docs/protocol.md, section 5).

A blob is a UnixFS file. Its leaves are raw blocks of exactly 1 MiB (the last one shorter), its
inner nodes are dag-pb blocks with at most 1,024 links, and the tree is balanced and filled from
the left, as Kubo's balanced importer builds it. The root is always a dag-pb node, so the SHA-256
of the root block alone names a blob. Since the size of a blob fixes the whole shape of its tree,
each node can be checked against the one shape that it may have.

Specifications: CIDv1 (https://github.com/multiformats/cid), multihash
(https://github.com/multiformats/multihash), multibase base32 (RFC 4648 section 6, lower case,
without padding), dag-pb (https://ipld.io/specs/codecs/dag-pb/spec/) and UnixFS
(https://specs.ipfs.tech/unixfs/). Chunk and fan-out are those of the UnixFS profile
`unixfs-v1-2025` (IPIP-499).
"""

import base64
import re
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from hashlib import sha256
from typing import Self

from chain.errors import DigestMismatchError, InvalidInputError, VerificationError

RAW = 0x55
DAG_PB = 0x70
MAX_BLOCK_BYTES = 2 * 1024 * 1024

# CID version 1, then codec, then the multihash header: sha2-256 (0x12) of 32 (0x20) bytes.
_BINARY_LENGTH = 36
_TEXT = re.compile(r"b[a-z2-7]{58}", re.ASCII)
_CODEC_NAMES = {RAW: "raw", DAG_PB: "dag-pb"}


@dataclass(frozen=True, slots=True)
class Cid:
    """A content identifier: version 1, SHA-256, raw or dag-pb.

    Attributes:
        codec: `RAW` or `DAG_PB`.
        digest: SHA-256 of the block, 32 bytes.

    Raises:
        InvalidInputError: If the codec is another or the digest has another length.
    """

    codec: int
    digest: bytes

    def __post_init__(self) -> None:
        """Refuse codecs and digests that a blob cannot have."""
        if self.codec not in _CODEC_NAMES:
            raise InvalidInputError(
                f"expected a CID of codec raw (0x55) or dag-pb (0x70), found {self.codec:#x}"
            )
        if len(self.digest) != 32:  # noqa: PLR2004 - the length of a SHA-256
            raise InvalidInputError(f"expected a SHA-256 of 32 bytes, found {len(self.digest)}")

    @classmethod
    def of_block(cls, codec: int, block: bytes) -> Self:
        """Return the CID of a block."""
        return cls(codec, sha256(block).digest())

    @classmethod
    def from_blob_digest(cls, digest: bytes) -> Self:
        """Return the CID of the blob that the ledger names by the SHA-256 of its root block."""
        return cls(DAG_PB, digest)

    @classmethod
    def from_bytes(cls, binary: bytes) -> Self:
        """Read the binary form, 36 bytes.

        Raises:
            InvalidInputError: If it is not a CIDv1 of raw or dag-pb with SHA-256.
        """
        if len(binary) != _BINARY_LENGTH or binary[0] != 1 or binary[2:4] != b"\x12\x20":
            raise InvalidInputError(
                f"expected a CIDv1 with sha2-256 of 36 bytes, found {binary[:40].hex()}"
            )
        return cls(binary[1], binary[4:])

    @classmethod
    def parse(cls, text: str) -> Self:
        """Read the text form: multibase base32 in lower case, 59 characters beginning with b.

        Raises:
            InvalidInputError: If the text is anything else.
        """
        if not _TEXT.fullmatch(text):
            raise InvalidInputError(
                "expected a CIDv1 in lower-case base32 (59 characters beginning with b), "
                f"found {len(text)} characters: {text[:64]!r}"
            )
        cid = cls.from_bytes(base64.b32decode(text[1:].upper() + "======"))
        if str(cid) != text:
            raise InvalidInputError(
                f"the last characters of the CID are not canonical: expected {cid}"
            )
        return cid

    @property
    def codec_name(self) -> str:
        """The codec's name in the multicodec table: raw or dag-pb."""
        return _CODEC_NAMES[self.codec]

    def __bytes__(self) -> bytes:
        """Return the binary form, 36 bytes."""
        return bytes((1, self.codec, 0x12, 0x20)) + self.digest

    def __str__(self) -> str:
        """Return the text form, 59 characters."""
        return "b" + base64.b32encode(bytes(self)).decode().rstrip("=").lower()


@dataclass(frozen=True, slots=True)
class Link:
    """One child of an inner node.

    Attributes:
        cid: The child's CID.
        file_bytes: Bytes of the file below the child.
        tree_bytes: Bytes of all blocks of the child's tree, itself included (`Tsize`).
    """

    cid: Cid
    file_bytes: int
    tree_bytes: int


@dataclass(frozen=True, slots=True)
class Layout:
    """How a blob is cut and stacked. Every blob uses `LAYOUT`; tests use smaller ones.

    Attributes:
        leaf_bytes: Size of every leaf but the last, in bytes.
        max_links: Greatest number of children of a node.
    """

    leaf_bytes: int
    max_links: int

    def levels(self, file_bytes: int) -> int:
        """Return how many levels of inner nodes a file of this size has, at least one."""
        levels = 1
        while self.leaf_bytes * self.max_links**levels < file_bytes:
            levels += 1
        return levels

    def children(self, file_bytes: int, level: int) -> list[int]:
        """Return the file sizes of a node's children, in bytes, from left to right.

        Args:
            file_bytes: Bytes of the file below the node, at least one.
            level: 1 for a node above leaves, 2 for a node above such nodes, and so on.
        """
        full = self.leaf_bytes * self.max_links ** (level - 1)
        whole, rest = divmod(file_bytes, full)
        return [full] * whole + [rest] * bool(rest)


LAYOUT = Layout(leaf_bytes=1024 * 1024, max_links=1024)


class BlobBuilder:
    """Cuts bytes into the blocks of a blob, as they arrive.

    It holds less than one leaf of bytes and, for each level of the tree, at most `max_links`
    links: about 200 KB for a blob of a terabyte.
    """

    def __init__(self, layout: Layout = LAYOUT) -> None:
        """Begin an empty blob."""
        self._layout = layout
        self._pending = bytearray()
        self._levels: list[list[Link]] = [[]]

    def feed(self, data: bytes) -> Iterator[tuple[Cid, bytes]]:
        """Take the next bytes of the blob and yield the blocks that they complete."""
        size = self._layout.leaf_bytes
        if not self._pending and len(data) == size:
            yield from self._leaf(bytes(data))
            return
        view = memoryview(data)
        while len(self._pending) + len(view) >= size:
            wanted = size - len(self._pending)
            leaf = bytes(self._pending) + view[:wanted]
            self._pending.clear()
            view = view[wanted:]
            yield from self._leaf(leaf)
        self._pending += view

    def finish(self) -> Iterator[tuple[Cid, bytes]]:
        """End the blob and yield its remaining blocks, the root last.

        Raises:
            InvalidInputError: If the blob is empty.
        """
        if self._pending:
            yield from self._leaf(bytes(self._pending))
            self._pending.clear()
        if not any(self._levels):
            raise InvalidInputError("expected a blob of at least one byte, found an empty one")
        level = 0
        while level == 0 or level < len(self._levels) - 1 or len(self._levels[level]) > 1:
            if self._levels[level]:
                yield self._close(level)
            level += 1

    def _leaf(self, block: bytes) -> Iterator[tuple[Cid, bytes]]:
        cid = Cid.of_block(RAW, block)
        self._levels[0].append(Link(cid, len(block), len(block)))
        yield cid, block
        level = 0
        while len(self._levels[level]) == self._layout.max_links:
            yield self._close(level)
            level += 1

    def _close(self, level: int) -> tuple[Cid, bytes]:
        """Put the links of one level under a new node of the next."""
        links = self._levels[level]
        block = encode_node(links)
        cid = Cid.of_block(DAG_PB, block)
        if level + 1 == len(self._levels):
            self._levels.append([])
        self._levels[level + 1].append(
            Link(
                cid,
                sum(link.file_bytes for link in links),
                len(block) + sum(link.tree_bytes for link in links),
            )
        )
        self._levels[level] = []
        return cid, block


def blob_blocks(chunks: Iterable[bytes], layout: Layout = LAYOUT) -> Iterator[tuple[Cid, bytes]]:
    """Yield all blocks of a blob, children before parents and the root last.

    Args:
        chunks: The blob's bytes, cut anyhow.
        layout: `LAYOUT` for every blob of the protocol.

    Raises:
        InvalidInputError: If the blob is empty.
    """
    builder = BlobBuilder(layout)
    for chunk in chunks:
        yield from builder.feed(chunk)
    yield from builder.finish()


def blob_cid(chunks: Iterable[bytes], layout: Layout = LAYOUT) -> Cid:
    """Return the CID of a blob without storing it.

    Raises:
        InvalidInputError: If the blob is empty.
    """
    for last, _ in blob_blocks(chunks, layout):
        cid = last
    return cid


def encode_node(links: Iterable[Link]) -> bytes:
    """Encode an inner node: dag-pb links, then the UnixFS data that tells the sizes.

    The one permitted encoding: links before data (dag-pb, "Serial Format"), an empty name in each
    link, sizes unpacked, no other field.
    """
    links = tuple(links)
    encoded = bytearray()
    for link in links:
        body = _bytes_field(1, bytes(link.cid)) + _bytes_field(2, b"")
        encoded += _bytes_field(2, body + _integer_field(3, link.tree_bytes))
    data = _integer_field(1, 2) + _integer_field(3, sum(link.file_bytes for link in links))
    data += b"".join(_integer_field(4, link.file_bytes) for link in links)
    return bytes(encoded) + _bytes_field(1, data)


def decode_node(block: bytes, layout: Layout = LAYOUT) -> tuple[Link, ...]:
    """Decode an inner node, in the one encoding that `encode_node` gives.

    Raises:
        VerificationError: If the block is too large, holds too many links or is anything but
            what `encode_node` would give.
    """
    if len(block) > MAX_BLOCK_BYTES:
        raise VerificationError(
            f"expected a block of at most {MAX_BLOCK_BYTES} bytes, found {len(block)}"
        )
    try:
        links = _read_links(block, layout.max_links)
    except (ValueError, InvalidInputError) as error:
        raise VerificationError(f"the block is not a UnixFS file node: {error}") from error
    if encode_node(links) != block:
        raise VerificationError(
            "the block is a UnixFS file node, but not in its canonical encoding"
        )
    return links


def leaves(
    cid: Cid, fetch: Callable[[Cid], bytes], max_bytes: int, layout: Layout = LAYOUT
) -> Iterator[Link]:
    """Yield the leaves of a blob from left to right, fetching and checking its inner nodes.

    Every node is checked against its CID and against the one shape that a blob of its size has,
    so neither depth, number of blocks nor sizes are a stranger's choice.

    Args:
        cid: The blob's CID.
        fetch: Returns the block of a CID; what it returns is checked here.
        max_bytes: Greatest permitted size of the blob, in bytes.
        layout: `LAYOUT` for every blob of the protocol.

    Raises:
        InvalidInputError: If the CID is that of a leaf, or the blob is larger than permitted.
        DigestMismatchError: If a node's bytes are not those of its CID.
        VerificationError: If the nodes are not those of a blob.
    """
    if cid.codec != DAG_PB:
        raise InvalidInputError(f"expected the CID of a blob (dag-pb), found {cid}")
    links = decode_node(checked_block(cid, fetch(cid)), layout)
    file_bytes = sum(link.file_bytes for link in links)
    if file_bytes > max_bytes:
        raise InvalidInputError(
            f"expected a blob of at most {max_bytes} bytes, found {cid} of {file_bytes}"
        )
    level = layout.levels(file_bytes)
    yield from _leaves_below(links, file_bytes, level, fetch, layout)


def checked_block(cid: Cid, block: bytes) -> bytes:
    """Return a block that was said to have this CID.

    Raises:
        DigestMismatchError: If it has another.
    """
    found = Cid.of_block(cid.codec, block)
    if found != cid:
        raise DigestMismatchError("block of a blob", cid, found)
    return block


def checked_leaf(link: Link, block: bytes) -> bytes:
    """Return a leaf's bytes.

    Raises:
        DigestMismatchError: If they are not those of the CID.
        VerificationError: If they are more or fewer than the node above them says.
    """
    checked_block(link.cid, block)
    if len(block) != link.file_bytes:
        raise VerificationError(
            f"expected a leaf of {link.file_bytes} bytes, found {link.cid} of {len(block)}"
        )
    return block


def _leaves_below(
    links: tuple[Link, ...],
    file_bytes: int,
    level: int,
    fetch: Callable[[Cid], bytes],
    layout: Layout,
) -> Iterator[Link]:
    sizes = [link.file_bytes for link in links]
    if sizes != layout.children(file_bytes, level):
        raise VerificationError(f"the tree of a blob of {file_bytes} bytes is not cut like this")
    codec = RAW if level == 1 else DAG_PB
    for link in links:
        if link.cid.codec != codec:
            raise VerificationError(f"expected a {_CODEC_NAMES[codec]} block, found {link.cid}")
        if level == 1:
            _check_tree_bytes(link, link.file_bytes)
            yield link
            continue
        block = checked_block(link.cid, fetch(link.cid))
        below = decode_node(block, layout)
        _check_tree_bytes(link, len(block) + sum(each.tree_bytes for each in below))
        yield from _leaves_below(below, link.file_bytes, level - 1, fetch, layout)


def _check_tree_bytes(link: Link, found: int) -> None:
    if link.tree_bytes != found:
        raise VerificationError(
            f"expected a tree of {link.tree_bytes} bytes below {link.cid}, found {found}"
        )


def _read_links(block: bytes, max_links: int) -> tuple[Link, ...]:
    """Read what `encode_node` wrote; sloppy reading is caught by encoding again."""
    named: list[tuple[Cid, int]] = []
    sizes: list[int] = []
    for number, value in _fields(block):
        if number == 2 and len(named) < max_links:  # noqa: PLR2004 - PBNode.Links
            link = dict(_fields(_as_bytes(value)))
            named.append((Cid.from_bytes(_as_bytes(link.get(1))), _as_integer(link.get(3))))
        elif number == 1 and not sizes:
            sizes = [_as_integer(size) for key, size in _fields(_as_bytes(value)) if key == 4]  # noqa: PLR2004 - UnixFS.blocksizes
        else:
            raise ValueError(f"expected at most {max_links} links and one data field")
    if not named or len(named) != len(sizes):
        raise ValueError(f"expected as many sizes as links, found {len(sizes)} and {len(named)}")
    return tuple(Link(cid, size, tree) for (cid, tree), size in zip(named, sizes, strict=True))


def _fields(message: bytes) -> Iterator[tuple[int, int | bytes]]:
    """Yield the fields of a protobuf message that are integers or bytes.

    Raises:
        ValueError: If the message is cut short or holds fields of another kind.
    """
    position = 0
    while position < len(message):
        key, position = _read_varint(message, position)
        value, position = _read_varint(message, position)
        if key & 7 == 0:
            yield key >> 3, value
        elif key & 7 == 2 and position + value <= len(message):  # noqa: PLR2004 - length-delimited
            yield key >> 3, message[position : position + value]
            position += value
        else:
            raise ValueError(f"unexpected protobuf field {key:#x} before byte {position}")


def _read_varint(message: bytes, position: int) -> tuple[int, int]:
    value = 0
    for index, byte in enumerate(message[position : position + 9]):
        value |= (byte & 0x7F) << (7 * index)
        if byte < 0x80:  # noqa: PLR2004 - the continuation bit
            return value, position + index + 1
    raise ValueError(f"a varint at byte {position} has no end")


def _varint(value: int) -> bytes:
    encoded = bytearray()
    while value >= 0x80:  # noqa: PLR2004 - the continuation bit
        encoded.append(value & 0x7F | 0x80)
        value >>= 7
    encoded.append(value)
    return bytes(encoded)


def _integer_field(number: int, value: int) -> bytes:
    return _varint(number << 3) + _varint(value)


def _bytes_field(number: int, value: bytes) -> bytes:
    return _varint(number << 3 | 2) + _varint(len(value)) + value


def _as_bytes(value: int | bytes | None) -> bytes:
    if not isinstance(value, bytes):
        raise ValueError(f"expected bytes, found {value!r}")  # noqa: TRY004 - one kind of error for a malformed block
    return value


def _as_integer(value: int | bytes | None) -> int:
    if not isinstance(value, int):
        raise ValueError("expected an integer")  # noqa: TRY004 - one kind of error for a malformed block
    return value
