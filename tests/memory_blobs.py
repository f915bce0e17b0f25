"""A blob store in memory: the same CIDs, blocks and checks as on IPFS, without a network."""

from collections.abc import Iterator
from pathlib import Path

from chain.blob_store import Source, read_chunks
from chain.cid import Cid, blob_blocks, checked_leaf, leaves
from chain.errors import BlobUnavailableError
from chain.files import replacing


class MemoryBlobStore:
    """Keeps blocks in `blocks`, where tests may swap or delete them."""

    def __init__(self) -> None:
        self.blocks: dict[Cid, bytes] = {}

    def put(self, source: Source) -> Cid:
        stored = dict(blob_blocks(read_chunks(source)))
        self.blocks |= stored
        return list(stored)[-1]

    def has(self, cid: Cid) -> bool:
        return cid in self.blocks

    def stream(self, cid: Cid, max_bytes: int) -> Iterator[bytes]:
        for link in leaves(cid, self._block, max_bytes):
            yield checked_leaf(link, self._block(link.cid))

    def get(self, cid: Cid, max_bytes: int) -> bytes:
        return b"".join(self.stream(cid, max_bytes))

    def fetch(self, cid: Cid, path: Path, max_bytes: int) -> None:
        with replacing(path) as file:
            file.writelines(self.stream(cid, max_bytes))

    def _block(self, cid: Cid) -> bytes:
        if cid not in self.blocks:
            raise BlobUnavailableError(f"{cid} is not in this memory: put it there first")
        return self.blocks[cid]
