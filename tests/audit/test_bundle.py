"""A bundle proves a model without a network."""

from pathlib import Path

from audit.__main__ import main
from audit.bundle import verify_bundle
from audit.replay import replay_disclosed
from tests.aggregator.training import Training
from tests.audit.bundles import bundle_of


def test_a_light_bundle_verifies(training: Training, tmp_path: Path) -> None:
    for _ in range(2):
        training.finish(training.open_round())
    bundle_of(training, 2, tmp_path / "light.bundle")
    report = verify_bundle(tmp_path / "light.bundle", workdir=tmp_path / "work")
    assert report.audit.findings == ()
    assert {step.number for step in report.audit.steps if step.ok} == {1, 2, 3, 4, 5, 6, 11, 12, 13}


def test_a_full_bundle_is_replayed(training: Training, tmp_path: Path) -> None:
    for _ in range(2):
        training.finish(training.open_round())
    path = tmp_path / "full.bundle"
    bundle_of(training, 2, path, full=True, key="auditor")
    report = verify_bundle(path, workdir=tmp_path / "work", replay=replay_disclosed)
    assert report.audit.findings == ()
    assert {step.number for step in report.audit.steps if step.ok} == {*range(1, 10), 11, 12, 13}
    assert main([str(path), "--replay"]) == 0
