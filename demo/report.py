"""What the story came to: `report.json`, and the same as a table."""

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Literal

from rich.console import Group, RenderableType
from rich.table import Table

from chain.files import replacing


@dataclass(frozen=True, slots=True)
class Score:
    """How well a model does on the test images."""

    accuracy: float
    auc: float


@dataclass(frozen=True, slots=True)
class DataReport:
    """What was trained on. ``images`` counts the hospitals' images, ``test_images`` the others."""

    name: str
    simulated: bool
    hospitals: int
    images: int
    test_images: int


@dataclass(frozen=True, slots=True)
class Rejection:
    """One update that did not enter a model as it was, why, and who said so."""

    hospital: str
    reason: str
    by: Literal["contract", "admission", "rule"]


@dataclass(frozen=True, slots=True)
class RoundReport:
    """One final round. ``seconds`` is by stage; ``model_digest`` is 0x-hex."""

    round: int
    model_digest: str
    accuracy: float
    auc: float
    accepted: int
    rejected: tuple[Rejection, ...]
    seconds: Mapping[str, float]


@dataclass(frozen=True, slots=True)
class Attempt:
    """One attempt to cheat: what was tried, and what stopped it."""

    round: int
    hospital: str
    attempt: str
    reason: str
    by: Literal["contract", "admission", "rule", "server"]


@dataclass(frozen=True, slots=True)
class Baselines:
    """What the same training gives on all data in one place, and in each hospital alone."""

    pooled: Score
    local_mean: Score


@dataclass(frozen=True, slots=True)
class Gas:
    """Gas for one update's record; ``batch`` is the batch size of ``record_batched``."""

    record_single: int
    record_batched: int
    batch: int


@dataclass(frozen=True, slots=True)
class AuditSummary:
    """What the audit in a process of its own said of the untouched federation."""

    ok: bool
    steps: int
    findings: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class BundleSummary:
    """A bundle of the last model, as it was verified without chain, IPFS and network.

    ``signers`` counts the witnesses that signed the ledger's head, ``seconds`` is what the whole
    process took, and ``replayed`` tells whether it repeated every round.
    """

    file: str
    bytes: int
    ok: bool
    steps: int
    signers: int
    replayed: bool
    seconds: float


@dataclass(frozen=True, slots=True)
class Tampering:
    """What was tampered with, and whether and as what it was found."""

    what: str
    found: bool
    finding: str


@dataclass(slots=True)
class Report:
    """What the story came to, filled in as it goes."""

    dataset: DataReport | None = None
    rounds: list[RoundReport] = field(default_factory=list)
    attempts: list[Attempt] = field(default_factory=list)
    baselines: Baselines | None = None
    gas: Gas | None = None
    audit: AuditSummary | None = None
    bundles: list[BundleSummary] = field(default_factory=list)
    tampering: list[Tampering] = field(default_factory=list)
    seconds: dict[str, float] = field(default_factory=dict)

    def to_dict(self) -> dict[str, Any]:
        """Give the JSON form."""
        return asdict(self)

    def write(self, path: Path) -> None:
        """Write the report as JSON."""
        with replacing(path) as file:
            file.write(json.dumps(self.to_dict(), indent=2, ensure_ascii=False).encode() + b"\n")

    def held(self) -> bool:
        """Tell whether audit and bundles passed and every tampering was found."""
        passed = self.audit is not None and self.audit.ok
        passed = passed and all(one.ok for one in self.bundles)
        return passed and all(one.found for one in self.tampering)


def as_tables(report: Report) -> RenderableType:
    """Render the report for people."""
    return Group(
        _rounds_table(report), _attempts_table(report), _tampering_table(report), _figures(report)
    )


def _rounds_table(report: Report) -> Table:
    table = Table("model", "accuracy", "AUC", "accepted", "seconds", title="The shared model")
    for one in report.rounds:
        seconds = f"{sum(one.seconds.values()):.0f}"
        figures = (f"{one.accuracy:.3f}", f"{one.auc:.3f}", str(one.accepted))
        table.add_row(f"round {one.round}", *figures, seconds)
    if report.baselines is not None:
        baselines = {
            "all data in one place": report.baselines.pooled,
            "each hospital alone (mean)": report.baselines.local_mean,
        }
        for name, score in baselines.items():
            table.add_row(name, f"{score.accuracy:.3f}", f"{score.auc:.3f}", "", "")
    return table


def _attempts_table(report: Report) -> Table:
    table = Table("round", "who", "what", "stopped by", "reason", title="Those who cheat")
    for one in report.attempts:
        table.add_row(str(one.round), one.hospital, one.attempt, one.by, one.reason)
    return table


def _tampering_table(report: Report) -> Table:
    table = Table("what", "found", "finding", title="Tampering afterwards")
    for one in report.tampering:
        table.add_row(one.what, "[green]yes[/]" if one.found else "[red]no[/]", one.finding)
    return table


def _figures(report: Report) -> Table:
    table = Table(show_header=False, box=None, title="Figures")
    if report.dataset is not None:
        data = report.dataset
        lesions = "; lesions are SIMULATED" if data.simulated else ""
        table.add_row("data", f"{data.images} images of {data.hospitals} hospitals{lesions}")
    if report.gas is not None:
        gas = report.gas
        batched = f"{gas.record_batched} each in a batch of {gas.batch}"
        table.add_row("gas for a record", f"{gas.record_single} alone, {batched}")
    if report.audit is not None:
        word = "passed" if report.audit.ok else "FAILED"
        findings = len(report.audit.findings)
        table.add_row("audit", f"{word}: {report.audit.steps} steps, {findings} findings")
    for one in report.bundles:
        word = "passed" if one.ok else "FAILED"
        told = f"{word}: {one.steps} steps in {one.seconds} s, {one.bytes:,} bytes"
        table.add_row(one.file, told)
    return table
