"""kill -9 at several points of a round: started again, it ends with the undisturbed digests.

Every process is real. Each case is a round of its own task, with the same updates as the
undisturbed one; `trimmed_mean` gives the same bytes for them whatever addresses the hospitals
have.
"""

from collections.abc import Iterator

import pytest

from chain.types import Outcome, Phase, Round
from demo.local import stop
from tests.end_to_end.local import HOSPITALS, Runner

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


@pytest.fixture(scope="module")
def runner(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Runner]:
    folder = tmp_path_factory.mktemp("federation")
    try:
        yield Runner.started(folder, tmp_path_factory.mktemp("files"))
    finally:
        stop(folder)


@pytest.fixture(scope="module")
def undisturbed(runner: Runner) -> Round:
    return play(runner, "undisturbed", victim=None, point=None)


def play(runner: Runner, task: str, victim: str | None, point: str | None) -> Round:
    """Play one round, and at one point kill one process and start it again."""

    def pass_point(here: str) -> None:
        if victim is not None and here == point:
            runner.kill(victim)
            runner.start(task)

    runner.stop_aggregator()
    runner.start(task)
    runner.active_round(task)
    pass_point("opened")
    round_ = runner.active_round(task)
    first, *others = (runner.prepare(name, round_) for name in HOSPITALS)
    runner.upload_half(first)
    pass_point("uploading")
    runner.upload(first)
    pass_point("acknowledged")
    for prepared in others:
        runner.upload(prepared)
    runner.until(lambda: _has_all_records(runner, round_), "all updates are recorded")
    pass_point("collected")
    runner.until(lambda: runner.reader.round(round_.number).proposal, "the model is proposed")
    pass_point("proposed")
    return runner.finished(task)


def _has_all_records(runner: Runner, round_: Round) -> bool | None:
    return len(runner.reader.records(round_.number)) == len(HOSPITALS) or None


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
