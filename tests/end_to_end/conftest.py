"""One federation of real processes for all end-to-end tests."""

from collections.abc import Iterator

import pytest

from chain.types import Round
from demo.local import stop
from tests.end_to_end.local import Runner, play


@pytest.fixture(scope="session")
def runner(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Runner]:
    folder = tmp_path_factory.mktemp("federation")
    try:
        yield Runner.started(folder, tmp_path_factory.mktemp("files"))
    finally:
        stop(folder)


@pytest.fixture(scope="session")
def undisturbed(runner: Runner) -> Round:
    """A round that nobody disturbed."""
    return play(runner, "undisturbed", victim=None, point=None)
