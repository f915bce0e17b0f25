"""Questions to an index of the chain, each answered as of one block.

Whoever trusts nobody's index asks one of its own: `own_index` builds it from the chain.
"""

import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol, TypeVar

from aggregator.index import (
    IndexedBlock,
    indexed_block,
    open_index,
    reading,
    rebuild,
)
from aggregator.progress import ProgressCallback
from chain.errors import IndexDatabaseError
from chain.reader import LedgerReader

T = TypeVar("T")

ATTEMPTS = 5


class Index(Protocol):
    """Something that answers questions of `aggregator.queries`."""

    def ask(self, question: Callable[[Any], T]) -> tuple[T, IndexedBlock]:
        """Return the answer, and the block that it is as of."""


@dataclass(frozen=True, slots=True)
class OpenIndex:
    """An index whose database is open.

    Args:
        engine: What `aggregator.index.open_index` returned.
    """

    engine: Any

    def ask(self, question: Callable[[Any], T]) -> tuple[T, IndexedBlock]:
        """Put a question of `aggregator.queries` to the index.

        Args:
            question: Called with a session of the index.

        Returns:
            The answer, and the block that it is as of.

        Raises:
            IndexDatabaseError: If the database cannot be used, is empty, or is being filled too
                fast.
            InvalidInputError: If the question has no answer.
        """
        for _ in range(ATTEMPTS):
            before = indexed_block(self.engine)
            with reading(self.engine) as session:
                answer = question(session)
            # Block and answer are read apart: they belong together if nothing came in between.
            if before is not None and indexed_block(self.engine) == before:
                return answer, before
        raise IndexDatabaseError("the index is being filled; ask again in a moment")


@contextmanager
def own_index(reader: LedgerReader, progress: ProgressCallback) -> Iterator[OpenIndex]:
    """Build an index from the chain alone, in a file that goes when the block ends.

    Args:
        reader: The chain.
        progress: Called as blocks are read.

    Raises:
        LedgerError: If the chain cannot be read.
    """
    with tempfile.TemporaryDirectory(prefix="fedwitness-index-") as folder:
        # A file and not memory: a long chain's index may be larger than that.
        engine = open_index(f"sqlite:///{Path(folder) / 'index.db'}")
        try:
            rebuild(engine, reader, progress)
            yield OpenIndex(engine)
        finally:
            engine.dispose()
