"""A ledger of logs answers what the chain itself answers."""

import pytest

from audit.logged import LoggedLedger
from audit.reading import read_evidence
from chain.errors import UnknownRoundError
from chain.reader import LedgerReader
from tests.aggregator.training import Training
from tests.federation import TASK


def logged(reader: LedgerReader) -> LoggedLedger:
    head = reader.head().number
    return LoggedLedger(reader.chain_id, reader.address, list(reader.events(0, head)), head)


def play(training: Training) -> None:
    """A final round, one that is aborted after a dispute, one that is proposed, one of a task."""
    training.finish(training.open_round())
    disputed = training.open_round()
    training.send_all(disputed)
    training.advance(disputed)
    ledgers = training.federation.ledgers
    ledgers["witness-1"].dispute(disputed, 1, bytes(32), bytes(32), bytes(32))
    ledgers["steward"].abort(disputed, "disputed")
    proposed = training.open_round()
    training.send_all(proposed)
    training.advance(proposed)
    training.federation.attest(proposed, "witness-1")
    training.federation.open_round(task="another")


def test_every_answer_is_the_chains_own(training: Training) -> None:
    play(training)
    reader = training.federation.reader
    ours = logged(reader)
    assert ours.round_count() == reader.round_count() == 4
    for number in range(1, 5):
        assert ours.round(number) == reader.round(number)
        assert ours.records(number) == reader.records(number)
        assert ours.disputes(number) == reader.disputes(number)
        assert ours.recipients(number) == reader.recipients(number)
        assert ours.verdicts(number, 1) == reader.verdicts(number, 1)
        assert ours.attestations(number, 1) == reader.attestations(number, 1)
    assert ours.task_rounds(TASK) == reader.task_rounds(TASK) == (1, 2, 3)
    assert ours.task_rounds("another") == (4,)
    assert read_evidence(ours, TASK) == read_evidence(reader, TASK)
    assert [ours.finalized_at(n) for n in (2, 3, 4)] == [None] * 3


def test_an_unknown_round_is_refused(training: Training) -> None:
    ours = logged(training.federation.reader)
    for ask in (ours.round, ours.records, ours.disputes, ours.recipients):
        with pytest.raises(UnknownRoundError, match="number 1"):
            ask(1)
