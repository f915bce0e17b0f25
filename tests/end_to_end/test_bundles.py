"""A bundle of a real federation: cosigned by witness processes, verified by whoever gets it."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

from chain.types import Round
from demo.local import fedwitness
from tests.end_to_end.local import HOSPITALS, Runner

ROOT = Path(__file__).resolve().parents[2]
SECONDS = 300


def run(folder: Path, *command: str) -> tuple[int, Any]:
    """Run a command in a folder where nothing is, and return its exit code and JSON."""
    done = subprocess.run(
        (*command, "--json"),
        cwd=folder,
        env={"PATH": "/usr/bin:/bin", "PYTHONPATH": str(ROOT), "HOME": str(folder)},
        capture_output=True,
        timeout=SECONDS,
        check=False,
    )
    assert done.stdout, done.stderr.decode()
    return done.returncode, json.loads(done.stdout)


def test_a_bundle_of_a_real_round_is_verified_and_replayed_elsewhere(
    runner: Runner, undisturbed: Round, tmp_path: Path
) -> None:
    assert undisturbed.proposal is not None
    where, cast = runner.local.addresses, runner.local.cast
    model = f"0x{undisturbed.proposal.model.hex()}"
    chain = ("--rpc", where.rpc_url, "--ledger", where.ledger, "--wait", str(SECONDS))
    code, light = run(tmp_path, *fedwitness("bundle", model, "-o", "light", *chain))
    assert code == 0, light
    full = ("--full", "--ipfs", where.ipfs, *cast["auditor"].keyring.options())
    code, opened = run(tmp_path, *fedwitness("bundle", model, "-o", "full", *chain, *full))
    assert code == 0, opened
    assert opened["keys"] == len(HOSPITALS)
    assert len(opened["cosigners"]) >= opened["quorum"] == undisturbed.terms.quorum
    audit = (sys.executable, "-m", "audit")
    witnesses = [part for one in light["cosigners"] for part in ("--witness", one)]
    trust = ("--ledger", where.ledger, *witnesses)
    code, report = run(tmp_path, *audit, "light", *trust)
    assert (code, report["findings"]) == (0, [])
    assert set(report["signers"]) <= set(undisturbed.terms.witnesses)
    code, report = run(tmp_path, *audit, "full", "--replay", *trust)
    assert (code, report["findings"], report["notes"]) == (0, [], [])
    assert {step["number"]: step["ok"] for step in report["steps"]}[9]
    code, report = run(tmp_path, *audit, "full", "--witness", cast["auditor"].address)
    assert code == 1
    assert "did not sign" in report["findings"][0]["message"]
