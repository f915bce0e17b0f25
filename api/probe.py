"""Asks whether the server's parts answer, at most once a second whoever asks."""

from collections.abc import Callable
from threading import Lock
from time import monotonic

from api.freshness import Freshness
from chain.blob_store import BlobStore
from chain.errors import FedWitnessError
from chain.reader import LedgerReader

KEEP_SECONDS = 1.0

_BLOB = b"FedWitness asks whether this IPFS node stores blobs."


class Probe:
    """Looks at chain, IPFS and index, and remembers for a second what it saw.

    Anybody may ask for the server's readiness: that must not become work for chain and IPFS.

    Args:
        ledger: The chain.
        blobs: IPFS.
        index: The index.
        max_lag: Blocks that the index may be behind.
    """

    def __init__(
        self, ledger: LedgerReader, blobs: BlobStore, index: Freshness, max_lag: int
    ) -> None:
        self._ledger = ledger
        self._blobs = blobs
        self._index = index
        self._max_lag = max_lag
        self._lock = Lock()
        self._seen: dict[str, str] = {}
        self._until = 0.0

    def checks(self) -> dict[str, str]:
        """Return ``ok`` or what is wrong for each part."""
        with self._lock:
            if monotonic() >= self._until:
                self._seen = {
                    "chain": _answers(self._ledger.head),
                    "ipfs": _answers(lambda: self._blobs.put(iter((_BLOB,)))),
                    "index": self._freshness(),
                }
                self._until = monotonic() + KEEP_SECONDS
            return dict(self._seen)

    def _freshness(self) -> str:
        if self._index.lag is None:
            return "not read"
        return "ok" if self._index.lag <= self._max_lag else "behind"


def _answers(ask: Callable[[], object]) -> str:
    try:
        ask()
    except FedWitnessError:
        return "unreachable"
    return "ok"
