"""Settings of the aggregator."""

from pathlib import Path

import pytest

from aggregator.settings import AggregatorSettings
from chain.errors import InvalidInputError


def test_settings_are_read_from_the_environment() -> None:
    environment = {"FEDWITNESS_WORKDIR": "/w", "FEDWITNESS_THREADS": "3"}
    settings = AggregatorSettings.from_environment(environment)
    assert (settings.workdir, settings.threads) == (Path("/w"), 3)
    assert settings.poll_seconds == AggregatorSettings().poll_seconds


@pytest.mark.parametrize(
    "environment",
    [
        {"FEDWITNESS_THREADS": "many"},
        {"FEDWITNESS_THREADS": "0"},
        {"FEDWITNESS_POLL_SECONDS": "nan"},
        {"FEDWITNESS_POLL_SECONDS": "0"},
    ],
)
def test_impossible_settings_are_refused(environment: dict[str, str]) -> None:
    with pytest.raises(InvalidInputError):
        AggregatorSettings.from_environment(environment)
