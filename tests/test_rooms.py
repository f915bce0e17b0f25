"""The rooms are this repository's: `node` and `chain` are also names of unrelated packages."""

import importlib
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent


@pytest.mark.parametrize("room", ["chain", "node", "aggregator", "audit", "api", "demo", "cli"])
def test_a_room_is_imported_from_this_repository(room: str) -> None:
    module = importlib.import_module(room)
    assert module.__file__ is not None
    assert Path(module.__file__).resolve().is_relative_to(ROOT / room)
