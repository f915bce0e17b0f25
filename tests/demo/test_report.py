"""What the story reports."""

import json
from dataclasses import replace
from pathlib import Path

from rich.console import Console

from demo.plots import plot_rounds
from demo.report import (
    Attempt,
    AuditSummary,
    Baselines,
    BundleSummary,
    DataReport,
    Gas,
    Rejection,
    Report,
    RoundReport,
    Score,
    Tampering,
    as_tables,
)

DATA = DataReport("drawn heads", simulated=True, hospitals=8, images=760, test_images=320)
ROUND = RoundReport(
    round=1,
    model_digest="0x" + "ab" * 32,
    accuracy=0.9,
    auc=0.95,
    accepted=5,
    rejected=(Rejection("fjord", "TRIMMED_BY_RULE", "rule"),),
    seconds={"open": 0.5, "train_and_send": 20.0},
)

BUNDLE = BundleSummary(
    file="model-light.bundle",
    bytes=40_000,
    ok=True,
    steps=9,
    signers=2,
    replayed=False,
    seconds=1.0,
)


def a_report() -> Report:
    return Report(
        dataset=DATA,
        rounds=[ROUND],
        attempts=[Attempt(1, "fjord", "poison", "TRIMMED_BY_RULE", "rule")],
        baselines=Baselines(Score(0.92, 0.97), Score(0.7, 0.8)),
        gas=Gas(83_000, 60_000, 4),
        audit=AuditSummary(ok=True, steps=9, findings=()),
        bundles=[BUNDLE],
        tampering=[Tampering("one bit of an envelope", found=True, finding="step 7: its blob")],
    )


def test_the_file_has_every_key_that_was_promised(tmp_path: Path) -> None:
    a_report().write(tmp_path / "report.json")
    report = json.loads((tmp_path / "report.json").read_text())
    assert report["dataset"].keys() >= {"name", "simulated", "hospitals", "images"}
    (round_,) = report["rounds"]
    wanted = {"round", "model_digest", "accuracy", "auc", "accepted", "rejected", "seconds"}
    assert round_.keys() >= wanted
    assert round_["rejected"] == [
        {"hospital": "fjord", "reason": "TRIMMED_BY_RULE", "by": "rule"},
    ]
    assert report["baselines"].keys() == {"pooled", "local_mean"}
    assert report["gas"].keys() >= {"record_single", "record_batched"}
    assert report["audit"].keys() == {"ok", "steps", "findings"}
    assert report["tampering"][0].keys() == {"what", "found", "finding"}


def test_a_missed_tampering_does_not_pass_for_a_good_end() -> None:
    report = a_report()
    assert report.held()
    report.tampering.append(Tampering("one row", found=False, finding=""))
    assert not report.held()


def test_a_failed_audit_does_not_pass_for_a_good_end() -> None:
    report = a_report()
    report.audit = AuditSummary(ok=False, steps=9, findings=("step 9: another model",))
    assert not report.held()


def test_a_bundle_that_fails_does_not_pass_for_a_good_end() -> None:
    report = a_report()
    report.bundles = [replace(BUNDLE, ok=False)]
    assert not report.held()


def test_the_tables_say_that_lesions_are_simulated() -> None:
    console = Console(width=200, record=True, quiet=False, file=Path("/dev/null").open("w"))  # noqa: SIM115
    with console.file:
        console.print(as_tables(a_report()))
        told = console.export_text()
    assert "SIMULATED" in told
    assert "83000 alone, 60000 each in a batch of 4" in told
    assert "all data in one place" in told


def test_the_plot_is_a_picture(tmp_path: Path) -> None:
    baselines = Baselines(Score(0.92, 0.97), Score(0.7, 0.8))
    plot_rounds(tmp_path / "rounds.png", [ROUND], baselines, DATA)
    assert (tmp_path / "rounds.png").read_bytes().startswith(b"\x89PNG")
