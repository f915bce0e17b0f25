"""The SQL index of the chain, kept fresh in the background for auditors' questions."""

from collections.abc import Callable, Sequence
from typing import Any, TypeVar

from aggregator.handed_over import hand_over
from aggregator.index import IndexedBlock, open_index, update_index
from aggregator.queries import LookBatch
from api.metrics import Metrics
from audit.asking import OpenIndex
from chain.errors import FedWitnessError
from chain.reader import LedgerReader
from chain.types import Look

T = TypeVar("T")


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
        """Answer as `audit.asking.OpenIndex` does."""
        return OpenIndex(self._engine).ask(question)

    def hand_over(self, batch: LookBatch, looks: Sequence[Look]) -> tuple[LookBatch, bool]:
        """Keep the looks of an anchored batch as `aggregator.handed_over.hand_over` does."""
        return hand_over(self._engine, batch, looks)

    def close(self) -> None:
        """Close the connections to the database."""
        self._engine.dispose()
