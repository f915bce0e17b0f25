"""What a finished federation keeps: for an auditor in another folder, and over a restart."""

import json
import sqlite3
import subprocess
from pathlib import Path
from typing import Any

import pytest

from chain.cid import Cid
from chain.digests import content_digest
from chain.types import Round
from demo.local import fedwitness, stop
from demo.tampering import flipped_byte
from tests.end_to_end.local import Runner

ROOT = Path(__file__).resolve().parents[2]


def run(folder: Path, *arguments: str) -> tuple[int, Any]:
    """Run a command in another folder and return its exit code and JSON."""
    done = subprocess.run(
        fedwitness(*arguments, "--json"),
        cwd=folder,
        env={"PATH": "/usr/bin:/bin", "PYTHONPATH": str(ROOT), "HOME": str(folder)},
        capture_output=True,
        timeout=300,
        check=False,
    )
    assert done.stdout, done.stderr.decode()
    return done.returncode, json.loads(done.stdout)


def audit(runner: Runner, folder: Path, task: str, *more: str) -> tuple[int, Any]:
    """Audit a task as somebody who knows only addresses, and holds an auditor's key."""
    where = runner.local.addresses
    keys = runner.local.cast["auditor"].keyring.options()
    addresses = ("--rpc", where.rpc_url, "--ipfs", where.ipfs, "--ledger", where.ledger)
    return run(folder, "audit", *addresses, "--task", task, *keys, *more)


@pytest.fixture
def database(runner: Runner, undisturbed: Round, tmp_path: Path) -> str:
    """An index of the chain that was built from nothing, and holds an undisturbed round."""
    assert undisturbed.proposal is not None
    url = f"sqlite:///{tmp_path / 'own.db'}"
    code, _ = run(tmp_path, "index", "rebuild", *addresses_of(runner), "--database", url)
    assert code == 0
    return url


def addresses_of(runner: Runner) -> tuple[str, ...]:
    """Name the federation to a command that needs its contracts only."""
    where = runner.local.addresses
    rest = ("--image-access", where.image_access)
    return ("--rpc", where.rpc_url, "--ledger", where.ledger, *rest)


def test_an_audit_that_knows_only_addresses_passes(
    runner: Runner, undisturbed: Round, tmp_path: Path
) -> None:
    code, report = audit(runner, tmp_path, undisturbed.terms.task)
    assert code == 0, report
    assert report["ok"]
    assert report["findings"] == []
    assert all(step["ok"] is not False for step in report["steps"])


def test_an_audit_finds_a_flipped_byte_in_a_blob_and_a_changed_row(
    runner: Runner, undisturbed: Round, database: str, tmp_path: Path
) -> None:
    record = runner.reader.records(undisturbed.number)[0]
    with sqlite3.connect(database.removeprefix("sqlite:///")) as rows:
        rows.execute(
            "UPDATE records SET examples = examples + 1 WHERE round = ?", (undisturbed.number,)
        )
    rows.close()
    with flipped_byte(runner.local, record) as cid:
        index = ("--database", database, "--image-access", runner.local.addresses.image_access)
        code, report = audit(runner, tmp_path, undisturbed.terms.task, *index)
    assert code == 1
    found = json.dumps(report["findings"])
    assert cid in found
    assert "records" in found
    assert "examples" in found


def test_a_database_that_was_deleted_is_rebuilt_equal(
    runner: Runner, database: str, tmp_path: Path
) -> None:
    file = Path(database.removeprefix("sqlite:///"))
    code, check = run(tmp_path, "index", "check", *addresses_of(runner), "--database", database)
    assert code == 0, check
    before = _rows(file)
    assert before["records"]
    file.unlink()
    code, _ = run(tmp_path, "index", "rebuild", *addresses_of(runner), "--database", database)
    assert code == 0
    assert _rows(file) == before


def test_stopped_and_started_again_chain_blobs_and_rounds_are_there(
    runner: Runner, undisturbed: Round, tmp_path: Path
) -> None:
    assert undisturbed.proposal is not None
    before = [runner.reader.round(n) for n in range(1, runner.reader.round_count() + 1)]
    records = runner.reader.records(undisturbed.number)
    stop(runner.local.folder)
    again = Runner.started(runner.local.folder, runner.files)
    assert again.local.addresses == runner.local.addresses
    assert [again.reader.round(one.number) for one in before] == before
    assert again.reader.records(undisturbed.number) == records
    model = tmp_path / "model.safetensors"
    blobs = again.local.blobs()
    blobs.fetch(Cid.from_blob_digest(undisturbed.proposal.model_blob), model, 1 << 30)
    assert content_digest(model) == undisturbed.proposal.model
    for recorded in records:
        assert blobs.get(Cid.from_blob_digest(recorded.record.blob), 1 << 30)
    blobs.close()


def _rows(file: Path) -> dict[str, list[tuple[Any, ...]]]:
    """Read every row of every table."""
    with sqlite3.connect(file) as database:
        names = [
            name
            for (name,) in database.execute("SELECT name FROM sqlite_master WHERE type='table'")
        ]
        rows = {
            name: sorted(database.execute(f"SELECT * FROM {name}").fetchall(), key=repr)  # noqa: S608
            for name in names
        }
    database.close()
    return rows
