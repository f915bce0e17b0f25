"""Ending a round from the command line."""

from chain.types import Phase
from tests.cli.conftest import Party
from tests.federation import Federation


def test_a_steward_ends_a_round(federation: Federation, steward: Party) -> None:
    number = federation.open_round()
    code, told = steward.run("aggregator", "abort", str(number), "--reason", "disputed for good")
    assert code == 0, told
    assert told["aborted"] == number
    assert federation.reader.round(number).phase is Phase.ABORTED


def test_a_hospital_ends_no_round(federation: Federation, hospital: Party) -> None:
    number = federation.open_round()
    code, told = hospital.run("aggregator", "abort", str(number), "--reason", "no")
    assert code == 2
    assert "RoundLedgerNotAggregator" in told["error"]["message"]
    assert federation.reader.round(number).phase is Phase.OPEN
