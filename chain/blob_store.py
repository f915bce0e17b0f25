"""What a store of blobs promises, whichever it is: an IPFS node, or a bundle (protocol 5)."""

from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import BinaryIO, Protocol

from chain.cid import LAYOUT, Cid
from chain.files import pieces

Source = Path | BinaryIO | Iterable[bytes]


class BlobReader(Protocol):
    """Where blobs can be had, named by their CID."""

    def has(self, cid: Cid) -> bool:
        """Tell whether the root block of a blob can be had.

        Only reading a blob tells whether all of it can be had.

        Raises:
            BlobUnavailableError: If the store does not answer.
        """
        ...

    def stream(self, cid: Cid, max_bytes: int) -> Iterator[bytes]:
        """Yield a blob's bytes in order, each block checked before any of it is yielded.

        Args:
            cid: The blob's CID.
            max_bytes: Greatest permitted size of the blob, in bytes.

        Raises:
            BlobUnavailableError: If a block cannot be had in time.
            DigestMismatchError: If bytes are not those of their CID.
            VerificationError: If the blocks are not those of a blob.
            InvalidInputError: If the blob is larger than permitted, or the CID names no blob.
        """
        ...

    def get(self, cid: Cid, max_bytes: int) -> bytes:
        """Return a whole blob. Raises what `stream` raises."""
        ...

    def fetch(self, cid: Cid, path: Path, max_bytes: int) -> None:
        """Write a whole blob to a file, which appears complete or not at all.

        Raises what `stream` raises, and OSError if the file cannot be written.
        """
        ...


class BlobStore(BlobReader, Protocol):
    """Where blobs lie, and new ones can be put."""

    def put(self, source: Source) -> Cid:
        """Store a blob and pin it.

        Args:
            source: The blob's bytes: a file, an open file or pieces of any size.

        Raises:
            InvalidInputError: If the blob is empty.
            BlobUnavailableError: If it could not be stored as a whole.
        """
        ...


def read_chunks(source: Source) -> Iterator[bytes]:
    """Yield a blob's bytes in pieces, from whatever holds them."""
    if isinstance(source, Path):
        yield from pieces(source)
    elif hasattr(source, "read"):
        while chunk := source.read(LAYOUT.leaf_bytes):
            yield chunk
    else:
        yield from source
