"""Which blobs are models, without asking the chain more than is needed."""

from typing import cast

from api.models import ModelBlobs
from chain.reader import LedgerReader
from chain.types import Phase, Round
from tests.api.fake_ledger import FakeLedger


class CountingLedger(FakeLedger):
    asked = 0

    def round(self, number: int) -> Round:
        self.asked += 1
        return super().round(number)


def test_a_settled_round_is_read_once() -> None:
    ledger = CountingLedger()
    ledger.change(ledger.open(), phase=Phase.ABORTED)
    ledger.open()
    models = ModelBlobs(cast("LedgerReader", ledger))
    for asked in (2, 3, 4):
        assert not models.holds(b"\x00" * 32)
        assert ledger.asked == asked
    assert models.holds(ledger.rounds[1].terms.base_blob)
    assert ledger.asked == asked
