"""`fedwitness index`: what it says of an index that is right, wrong or not there."""

import json
import sqlite3
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from cli.main import app
from tests.federation import Federation


def run(federation: Federation, what: str, database: Path) -> tuple[int, Any]:
    """Run a command on an index with ``--json``."""
    deployment = federation.deployment
    contracts = ("--ledger", deployment.ledger, "--image-access", deployment.image_access)
    where = ("--rpc", federation.rpc_url, *contracts, "--database", f"sqlite:///{database}")
    done = CliRunner().invoke(app, ["index", what, *where, "--json"])
    return done.exit_code, json.loads(done.stdout)


@pytest.fixture
def database(federation: Federation, tmp_path: Path) -> Path:
    path = tmp_path / "index.db"
    assert run(federation, "rebuild", path)[0] == 0
    return path


def test_an_index_that_was_never_filled_is_not_called_right_and_not_made(
    federation: Federation, tmp_path: Path
) -> None:
    path = tmp_path / "index.db"
    code, told = run(federation, "check", path)
    assert code == 2
    assert "fedwitness index rebuild" in told["error"]["message"]
    assert list(tmp_path.glob("index.db*")) == []
    path.touch()
    code, told = run(federation, "check", path)
    assert code == 2
    assert "never filled" in told["error"]["message"]


def test_a_right_index_passes_and_says_as_of_which_block(
    federation: Federation, database: Path
) -> None:
    code, told = run(federation, "check", database)
    assert (code, told["ok"], told["differences"]) == (0, True, [])
    assert told["block"] == federation.reader.head().number


def test_a_changed_row_is_named(federation: Federation, database: Path) -> None:
    with sqlite3.connect(database) as rows:
        rows.execute("UPDATE dataset_versions SET images = 7 WHERE images = 100")
    rows.close()
    code, told = run(federation, "check", database)
    assert (code, told["ok"]) == (1, False)
    assert {one["column"] for one in told["differences"]} == {"images"}
    assert {(one["expected"], one["found"]) for one in told["differences"]} == {("100", "7")}
