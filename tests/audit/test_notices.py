"""An audit tells of data that were withdrawn since, which is no finding."""

import io
import json
from contextlib import redirect_stdout
from pathlib import Path

from aggregator.descent import Descent
from audit.__main__ import main
from audit.bundle import verify_bundle
from audit.notices import notices_of
from audit.replay import audit_task
from audit.verify import AuditReport, Notice
from chain.tensors import tensor_bytes
from tests.aggregator.listed_ledger import ListedLedger, register
from tests.aggregator.test_inheritance import X, Y, erase, permit, train, withdraw
from tests.aggregator.training import Training, tensors_of
from tests.audit.bundles import bundle_of
from tests.federation import TASK, Federation


def audited(training: Training) -> AuditReport:
    workdir = training.folder / "auditor"
    return audit_task(training.federation.reader, training.blobs, TASK, workdir=workdir)


def bundled(training: Training, number: int, target: Path) -> tuple[Notice, ...]:
    bundle_of(training, number, target)
    report = verify_bundle(target, workdir=target.parent / "work")
    assert report.audit.findings == ()
    return report.audit.notices


def withdrawn(federation: Federation, hospital: str, *, reason: str = "consent revoked") -> None:
    federation.ledgers[hospital].withdraw(federation.versions[hospital], reason)


def test_a_withdrawal_is_a_notice_and_the_audit_still_passes(
    training: Training, tmp_path: Path
) -> None:
    federation = training.federation
    training.finish(training.open_round())
    assert audited(training).notices == ()
    withdrawn(federation, "hospital-1")
    report = audited(training)
    assert report.ok
    (notice,) = report.notices
    assert (notice.kind, notice.first_round, notice.last_round) == ("WITHDRAWN", 1, 1)
    assert notice.version == federation.versions["hospital-1"].hex()
    assert notice.hospital == federation.address("hospital-1")
    assert notice.block == federation.reader.head().number
    assert "withdrawn on" in notice.message
    assert f"at block {notice.block}: 'consent revoked'" in notice.message
    assert AuditReport.together([report, AuditReport.of([], [])]).notices == report.notices
    # The bundle of that model ends with the block in which it became final.
    assert bundled(training, 1, tmp_path / "first.bundle") == ()


def test_the_bundle_of_a_later_model_tells_of_withdrawals_before_it(
    training: Training, tmp_path: Path
) -> None:
    training.finish(training.open_round())
    number = training.open_round()
    withdrawn(training.federation, "hospital-2", reason="\u202ewithdrawn")
    for seed, hospital in enumerate(("hospital-1", "hospital-3"), 7):
        training.send(hospital, number, tensor_bytes(tensors_of(seed)))
    training.federation.pass_time(4000)
    training.advance(number)
    training.attest(number)
    target = tmp_path / "second.bundle"
    (notice,) = bundled(training, number, target)
    assert (notice.kind, notice.first_round, notice.last_round) == ("WITHDRAWN", 1, 2)
    with redirect_stdout(io.StringIO()) as screen:
        assert main([str(target)]) == 0
    assert "notice: the models of rounds 1 to 2" in screen.getvalue()
    assert "\u202e" not in screen.getvalue()
    with redirect_stdout(io.StringIO()) as screen:
        assert main([str(target), "--json"]) == 0
    assert [one["block"] for one in json.loads(screen.getvalue())["notices"]] == [notice.block]


def test_one_notice_stands_for_all_models_of_a_line() -> None:
    ledger = ListedLedger()
    register(ledger, X, "A")
    register(ledger, Y, "B")
    permit(ledger, Y, 6, 42)
    train(ledger, 1, uses={"A": X})
    train(ledger, 2, base="model 1")
    train(ledger, 3, base="model 2")
    train(ledger, 4, task="b", base="model 2", uses={"A": X})
    withdraw(ledger, X)
    erase(ledger, Y, "B")
    erase(ledger, Y, "B", X)
    permit(ledger, Y, 6)
    descent = Descent(ledger.logged)
    assert [(one.kind, one.first_round, one.last_round) for one in notices_of(descent, "a")] == [
        ("WITHDRAWN", 1, 3),
        ("IMAGE_ERASED", 2, 3),
        ("PURPOSE_REVOKED", 2, 3),
    ]
    assert [(one.first_round, one.last_round) for one in notices_of(descent, "b")] == [(4, 4)] * 3
    assert list(notices_of(descent, "none")) == []
    told = [one.message for one in notices_of(descent, "a")]
    assert "the models of rounds 1 to 3 of 'a' descend from data set 'x-rays' of A" in told[0]
    assert "from which 2 images were erased" in told[1]
    assert "whose use for DUO:0000042 was revoked" in told[2]
