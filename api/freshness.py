"""The SQL index of the chain, kept fresh in the background for auditors' questions."""

from collections.abc import Callable
from typing import Any, TypeVar

from aggregator.index import IndexedBlock, indexed_block, open_index, reading, update_index
from api.metrics import Metrics
from chain.errors import FedWitnessError, IndexDatabaseError
from chain.ledger import LedgerReader

T = TypeVar("T")

ATTEMPTS = 5


class Freshness:
    """Reads new blocks into the index, and knows how far it is behind the chain.

    Args:
        url: SQLAlchemy URL of the index.
        ledger: The chain.
        metrics: Where the lag is shown.
    """

    def __init__(self, url: str, ledger: LedgerReader, metrics: Metrics) -> None:
        self._engine = open_index(url)
        self._ledger = ledger
        self._metrics = metrics
        self.lag: int | None = None

    def step(self) -> bool:
        """Read all new blocks.

        Returns:
            False: there is no more of this work before the next pause.

        Raises:
            LedgerError: If the chain cannot be reached.
            IndexDatabaseError: If the database cannot be used.
        """
        try:
            indexed = update_index(self._engine, self._ledger)
            self.lag = self._ledger.head().number - indexed.number
        except FedWitnessError:
            self.lag = None
            raise
        self._metrics.index_lag.set(self.lag)
        return False

    def ask(self, question: Callable[[Any], T]) -> tuple[T, IndexedBlock]:
        """Put a question of `aggregator.queries` to the index.

        Args:
            question: Called with a session of the index.

        Returns:
            The answer, and the block that it is as of.

        Raises:
            IndexDatabaseError: If the database cannot be used, or is being filled too fast.
            InvalidInputError: If the question has no answer.
        """
        for _ in range(ATTEMPTS):
            before = indexed_block(self._engine)
            with reading(self._engine) as session:
                answer = question(session)
            # Block and answer are read apart: they belong together if nothing came in between.
            if before is not None and indexed_block(self._engine) == before:
                return answer, before
        raise IndexDatabaseError("the index is being filled; ask again in a moment")

    def close(self) -> None:
        """Close the connections to the database."""
        self._engine.dispose()
