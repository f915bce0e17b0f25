"""Settings, read from the environment once."""

from pathlib import Path

import pytest

from api.settings import REQUIRED, read_settings
from chain.errors import InvalidInputError

ENOUGH = {f"FEDWITNESS_API_{name.upper()}": f"/{name}" for name in REQUIRED}


def test_what_is_not_set_has_a_cautious_default() -> None:
    settings = read_settings(ENOUGH)
    assert settings.host == "127.0.0.1"
    assert settings.spool == Path("/spool")
    assert (settings.uri, settings.domain) == ("http://127.0.0.1:8000", "127.0.0.1:8000")


def test_what_is_set_is_read_as_its_type() -> None:
    settings = read_settings(
        ENOUGH
        | {
            "FEDWITNESS_API_PORT": "81",
            "FEDWITNESS_API_POLL_SECONDS": "0.5",
            "FEDWITNESS_API_HOSTS": "a.example, B.example",
            "FEDWITNESS_API_ORIGIN": "https://fed.example",
        }
    )
    assert (settings.port, settings.poll_seconds) == (81, 0.5)
    assert settings.domain == "fed.example"
    assert settings.allowed_hosts == {"a.example", "b.example", "127.0.0.1", "fed.example"}


def test_missing_settings_are_all_named() -> None:
    with pytest.raises(InvalidInputError, match=r"RPC_URL.*FEDWITNESS_API_PASSWORD_FILE"):
        read_settings({})


def test_a_setting_that_is_no_number_is_named() -> None:
    with pytest.raises(InvalidInputError, match="FEDWITNESS_API_PORT: expected a number"):
        read_settings(ENOUGH | {"FEDWITNESS_API_PORT": "eighty"})
