"""Settings of the aggregator."""

import math
from pathlib import Path

import pytest

from aggregator.settings import AggregatorSettings
from chain.errors import InvalidInputError


@pytest.mark.parametrize(
    ("threads", "poll_seconds"), [(0, 1.0), (-1, 1.0), (1, 0.0), (1, math.nan), (1, 3601.0)]
)
def test_impossible_settings_are_refused(threads: int, poll_seconds: float) -> None:
    with pytest.raises(InvalidInputError, match=f"found {threads} and {poll_seconds}"):
        AggregatorSettings(Path("work"), threads, poll_seconds)
