"""kill -9 at several points of a round: started again, it ends with the undisturbed digests.

Every process is real. Each case is a round of its own task, with the same updates as the
undisturbed one; `trimmed_mean` gives the same bytes for them whatever addresses the hospitals
have.
"""

import pytest

from chain.types import Outcome, Phase, Round
from tests.end_to_end.local import HOSPITALS, Runner, play

KILLS = (
    ("aggregator", "opened"),
    ("aggregator", "collected"),
    ("aggregator", "proposed"),
    ("server", "uploading"),
    ("server", "acknowledged"),
    ("server", "collected"),
    ("ipfs", "uploading"),
    ("ipfs", "acknowledged"),
    ("ipfs", "collected"),
    ("chain", "opened"),
    ("chain", "acknowledged"),
    ("chain", "collected"),
    ("chain", "proposed"),
)


def test_an_undisturbed_round_is_final_with_every_update(
    runner: Runner, undisturbed: Round
) -> None:
    assert undisturbed.phase is Phase.FINAL
    assert undisturbed.proposal is not None
    verdicts = runner.reader.verdicts(undisturbed.number, undisturbed.proposal.number)
    assert len(verdicts) == len(HOSPITALS)
    assert all(verdict.outcome is not Outcome.REJECTED for verdict in verdicts)


@pytest.mark.parametrize(("victim", "point"), KILLS)
def test_a_round_survives_the_kill_of(
    runner: Runner, undisturbed: Round, victim: str, point: str
) -> None:
    ended = play(runner, f"{victim} killed when {point}", victim, point)
    assert ended.phase is Phase.FINAL
    assert ended.proposal is not None
    assert undisturbed.proposal is not None
    assert ended.proposal.model == undisturbed.proposal.model
    assert {recorded.record.hospital for recorded in runner.reader.records(ended.number)} == {
        runner.local.cast[name].address for name in HOSPITALS
    }
