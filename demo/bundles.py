"""The bundles of the story: one file that proves the last model, verified by whoever gets it."""

import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from chain.types import Role
from demo.commands import FINDINGS, SECONDS, CommandFailedError, run
from demo.headings import heading
from demo.local import AUDITOR, REPOSITORY
from demo.report import BundleSummary
from demo.stage import Stage, UnexpectedEndError

LIGHT, FULL = "model-light.bundle", "model-full.bundle"
WAIT_SECONDS = 120  # for the witnesses' signatures over the ledger's head


def bundle_and_verify(stage: Stage) -> None:
    """Write the last model's bundles as an auditor, and verify them as somebody else."""
    heading(stage.screen, "A bundle to take away")
    model = stage.report.rounds[-1].model_digest
    common = (model, "--wait", str(WAIT_SECONDS), "--federation", str(stage.local.file))
    auditor = ("--full", *stage.local.cast[AUDITOR].keyring.options())
    with stage.screen.status("  waiting for the witnesses to sign the ledger's head"):
        run("bundle", *common, "-o", str(stage.out / LIGHT))
        run("bundle", *common, *auditor, "-o", str(stage.out / FULL))
    for name, options in ((LIGHT, ()), (FULL, ("--replay",))):
        _verify(stage, name, *options)


def _verify(stage: Stage, name: str, *options: str) -> None:
    """Verify a bundle in a process that is told no address but the ledger's name."""
    begun = time.monotonic()
    answer = _audit(stage.out / name, "--ledger", stage.local.addresses.ledger, *options)
    seconds = time.monotonic() - begun
    known = {party.address for party in stage.local.cast.of_role(Role.WITNESS)}
    if not set(answer["signers"]) <= known:
        message = f"{name} is signed by others than this federation's witnesses"
        raise UnexpectedEndError(message)
    steps = sum(step["ok"] is not None for step in answer["steps"])
    summary = BundleSummary(
        file=name,
        bytes=(stage.out / name).stat().st_size,
        ok=answer["ok"],
        steps=steps,
        signers=len(answer["signers"]),
        replayed=bool(options),
        seconds=round(seconds, 2),
    )
    stage.report.bundles.append(summary)
    word = "[green]ok[/]" if summary.ok else "[red]no[/]"
    replayed = ", replayed" if summary.replayed else ""
    stage.say(
        f"{word}  {name}: {summary.bytes:,} bytes, {steps} steps{replayed}, head signed by "
        f"{summary.signers} witnesses, {seconds:.1f} s without chain, IPFS or network"
    )
    for note in answer["notes"]:
        stage.say(f"[dim]    {note}[/]")


def _audit(bundle: Path, *options: str) -> Any:
    """Run `python -m audit` in an empty folder, with nothing in its environment."""
    with tempfile.TemporaryDirectory(prefix="fedwitness-elsewhere-") as elsewhere:
        done = subprocess.run(
            (sys.executable, "-m", "audit", str(bundle), "--json", *options),
            cwd=elsewhere,
            env={"PYTHONPATH": str(REPOSITORY), "HOME": elsewhere},
            capture_output=True,
            text=True,
            timeout=SECONDS,
            check=False,
        )
    if done.returncode in (0, FINDINGS):
        return json.loads(done.stdout)
    told = done.stdout.strip() or done.stderr.strip()
    message = f"`python -m audit {bundle.name}` ended with {done.returncode}: {told[-500:]}"
    raise CommandFailedError(message)
