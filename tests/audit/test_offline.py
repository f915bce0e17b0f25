"""`python -m audit` is a process that needs nothing but the file and the project's own code."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.aggregator.training import Training
from tests.audit.bundles import bundle_of

ROOT = Path(__file__).resolve().parents[2]
HEAVY = {
    "web3",
    "torch",
    "fastapi",
    "sqlalchemy",
    "ipfshttpclient",
    "httpx",
    "requests",
    "aiohttp",
    "typer",
    "rich",
}
COMPILED = {"numba", "llvmlite", "numpy"}

# Runs the command, with every way to the network closed, and tells which modules it loaded.
CLOSED = """
import json, socket, sys
def closed(*_, **__):
    raise OSError("no network here")
socket.socket.connect = socket.socket.bind = socket.getaddrinfo = closed
from audit.__main__ import main
code = main(sys.argv[1:])
print(json.dumps({"code": code, "modules": sorted({one.split(".")[0] for one in sys.modules})}))
"""


def run(folder: Path, *arguments: str) -> tuple[dict[str, Any], int, set[str]]:
    """Verify in a process of its own, and give its answer, exit code and modules."""
    done = subprocess.run(
        [sys.executable, "-c", CLOSED, *arguments, "--json"],
        cwd=folder,
        env={"PYTHONPATH": str(ROOT), "PATH": os.environ["PATH"], "HOME": str(folder)},
        capture_output=True,
        text=True,
        timeout=300,
        check=True,
    )
    *answer, told = done.stdout.splitlines()
    found = json.loads(told)
    return json.loads("\n".join(answer)), found["code"], set(found["modules"])


@pytest.fixture
def folder(training: Training, tmp_path: Path) -> Path:
    training.finish(training.open_round())
    folder = tmp_path / "elsewhere"
    folder.mkdir()
    bundle_of(training, 1, folder / "light.bundle")
    bundle_of(training, 1, folder / "full.bundle", full=True, key="auditor")
    return folder


def test_verifying_needs_no_network_and_little_code(folder: Path) -> None:
    for name in ("light.bundle", "full.bundle"):
        answer, code, modules = run(folder, name)
        assert code == 0
        assert answer["ok"]
        assert not modules & (HEAVY | COMPILED)
    assert sorted(one.name for one in folder.iterdir()) == ["full.bundle", "light.bundle"]


def test_replaying_needs_no_network_and_compiled_code_alone(folder: Path) -> None:
    answer, code, modules = run(folder, "full.bundle", "--replay")
    assert code == 0
    assert answer["opened"]
    assert {"number": 9, "ok": True} in [
        {"number": one["number"], "ok": one["ok"]} for one in answer["steps"]
    ]
    assert not modules & HEAVY


def test_what_is_no_bundle_is_said_in_a_line(folder: Path) -> None:
    (folder / "other").write_text("hello")
    answer, code, _ = run(folder, "other")
    assert code == 2
    assert answer["error"] == "BundleError"
    assert "expected a file that begins FWBUNDL1" in answer["message"]
    answer, code, _ = run(folder, "absent")
    assert code == 2
    assert answer["error"] == "FileNotFoundError"


def test_the_answer_tells_whom_it_rests_on(folder: Path, training: Training) -> None:
    answer, _, _ = run(folder, "light.bundle")
    federation = training.federation
    assert answer["ledger"] == federation.reader.address
    assert answer["chain_id"] == str(federation.reader.chain_id)
    witnesses = {federation.address(name) for name in ("witness-1", "witness-2")}
    assert set(answer["signers"]) == set(answer["witnesses"]) == witnesses
    assert answer["quorum"] == 2
