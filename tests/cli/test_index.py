"""`fedwitness index`: what it says of an index that is right, wrong or not there."""

import sqlite3
from pathlib import Path
from typing import Any

import pytest

from tests.cli.conftest import run
from tests.federation import Federation


def on_index(federation: Federation, what: str, database: Path) -> tuple[int, Any]:
    """Run a command on an index."""
    return run(federation, "index", what, "--database", f"sqlite:///{database}")


@pytest.fixture
def database(federation: Federation, tmp_path: Path) -> Path:
    path = tmp_path / "index.db"
    assert on_index(federation, "rebuild", path)[0] == 0
    return path


def test_an_index_that_was_never_filled_is_not_called_right_and_not_made(
    federation: Federation, tmp_path: Path
) -> None:
    path = tmp_path / "index.db"
    code, told = on_index(federation, "check", path)
    assert code == 2
    assert "fedwitness index rebuild" in told["error"]["message"]
    assert list(tmp_path.glob("index.db*")) == []
    path.touch()
    code, told = on_index(federation, "check", path)
    assert code == 2
    assert "never filled" in told["error"]["message"]


def test_a_right_index_passes_and_says_as_of_which_block(
    federation: Federation, database: Path
) -> None:
    code, told = on_index(federation, "check", database)
    assert (code, told["ok"], told["differences"]) == (0, True, [])
    assert told["block"] == federation.reader.head().number


def test_a_changed_row_is_named(federation: Federation, database: Path) -> None:
    with sqlite3.connect(database) as rows:
        rows.execute("UPDATE dataset_versions SET images = 7 WHERE images = 100")
    rows.close()
    code, told = on_index(federation, "check", database)
    assert (code, told["ok"]) == (1, False)
    assert {one["column"] for one in told["differences"]} == {"images"}
    assert {(one["expected"], one["found"]) for one in told["differences"]} == {("100", "7")}
