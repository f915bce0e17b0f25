"""Which blobs are models that the ledger knows: the only ones that the server hands out."""

from threading import Lock

from chain.reader import LedgerReader
from chain.types import Phase, Round

SETTLED = {Phase.FINAL, Phase.ABORTED}


class ModelBlobs:
    """Base and final models of all rounds, read from the ledger as they are asked for.

    A settled round never changes, so it is read once.

    Args:
        ledger: The chain.
    """

    def __init__(self, ledger: LedgerReader) -> None:
        self._ledger = ledger
        self._lock = Lock()
        self._blobs: set[bytes] = set()
        self._unsettled: set[int] = set()
        self._seen = 0

    def holds(self, blob: bytes) -> bool:
        """Tell whether the blob of this digest is a base model or a final model."""
        with self._lock:
            if blob not in self._blobs:
                self._read_new()
            return blob in self._blobs

    def _read_new(self) -> None:
        count = self._ledger.round_count()
        self._unsettled |= set(range(self._seen + 1, count + 1))
        self._seen = count
        for number in sorted(self._unsettled):
            found = self._ledger.round(number)
            self._blobs |= _models(found)
            if found.phase in SETTLED:
                self._unsettled.discard(number)


def _models(found: Round) -> set[bytes]:
    models = {found.terms.base_blob}
    if found.phase is Phase.FINAL and found.proposal is not None:
        models.add(found.proposal.model_blob)
    return models
