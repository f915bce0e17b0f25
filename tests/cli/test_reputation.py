"""`fedwitness reputation`: standings from the chain, for people and machines."""

from dataclasses import replace

from typer.testing import CliRunner

from chain.types import Outcome, Reason
from cli.main import command_line
from tests.cli.conftest import run
from tests.federation import TASK, WITNESSES, Federation, digest

PIPELINE = (
    '[{"name":"quarantine","params":{"rounds":2,"strikes":1,"window":3}},'
    '{"name":"fed_avg","params":{}}]'
)


def with_an_offender(federation: Federation) -> str:
    """Take a round to its end, in which one update was rejected; return its hospital."""
    number = federation.open_round(rule=PIPELINE)
    federation.record_all(number)
    first, *others = federation.verdicts()
    rejected = replace(first, outcome=Outcome.REJECTED, reason=Reason.NOT_A_NUMBER)
    federation.ledgers["aggregator"].propose(
        number, digest("model"), digest("blob"), [rejected, *others]
    )
    for witness in WITNESSES:
        federation.attest(number, witness)
    return first.hospital


def test_counts_and_standing_are_told_for_every_hospital(federation: Federation) -> None:
    offender = with_an_offender(federation)
    code, (found,) = run(federation, "reputation")
    assert code == 0
    assert (found["task"], found["rounds"]) == (TASK, 1)
    assert found["policy"] == {"strikes": 1, "window": 3, "rounds": 2}
    by_hospital = {one["hospital"]: one for one in found["hospitals"]}
    assert len(by_hospital) == 3
    assert by_hospital.pop(offender) == {
        "hospital": offender,
        "accepted": 0,
        "clipped": 0,
        "rejected": 1,
        "reasons": [{"outcome": "REJECTED", "reason": "NOT_A_NUMBER", "updates": 1}],
        "strikes": 1_000_000,
        "quarantined": True,
        "rounds_left": 2,
    }
    assert all(one["accepted"] == 1 and not one["quarantined"] for one in by_hospital.values())
    assert run(federation, "reputation", "--task", TASK) == (code, [found])


def test_a_federation_without_rounds_has_nobody_to_tell_of(federation: Federation) -> None:
    assert run(federation, "reputation") == (0, [])


def test_people_read_it_as_a_table(federation: Federation) -> None:
    offender = with_an_offender(federation)
    where = ["--rpc", federation.rpc_url, "--ledger", federation.deployment.ledger]
    told = CliRunner().invoke(command_line(), ["reputation", *where], env={"COLUMNS": "200"}).stdout
    assert "quarantine at 1 strikes in 3 records, for 2 rounds" in told
    (line,) = (line for line in told.splitlines() if offender in line)
    assert "NOT_A_NUMBER 1" in line
    assert "1 of 1" in line
    assert "quarantined for 2 more" in line


def test_a_task_that_is_not_there_is_an_error(federation: Federation) -> None:
    with_an_offender(federation)
    code, told = run(federation, "reputation", "--task", "another")
    assert code == 2
    assert "no round of the task" in told["error"]["message"]
