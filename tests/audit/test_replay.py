"""An auditor who knows only addresses finds each tampering, by its step and by name."""

from dataclasses import replace
from pathlib import Path

import pytest

from aggregator.replay import judge_and_aggregate
from audit.reading import read_evidence
from audit.replay import audit_task
from audit.verify import (
    BLOBS,
    BUNDLE,
    EVENTS,
    HEAD,
    HEADS,
    INDEX,
    MODELS,
    REPLAY,
    WITNESSES,
    AuditReport,
    verify_task,
)
from chain.cid import Cid, leaves
from chain.digests import content_digest
from chain.errors import LedgerError, UnknownRoundError
from chain.reader import LedgerReader
from chain.tensors import save_tensors, tensor_bytes
from chain.types import Phase, Proposal, Reason, RecordedUpdate, Verdict
from tests.aggregator.training import Training, tensors_of
from tests.federation import HOSPITALS, TASK, digest

# The steps of those who have an index, a bundle or heads that were seen before.
ELSEWHERE = {INDEX, BUNDLE, HEAD, EVENTS, HEADS}


def audit(training: Training, key: str | None = "auditor") -> AuditReport:
    """Audit as somebody else would: with a reader, blobs and a folder of his own."""
    federation = training.federation
    private_key = federation.identities[key].encryption_private_key if key else None
    return audit_task(
        LedgerReader(federation.rpc_url, federation.deployment.ledger),
        training.blobs,
        TASK,
        private_key,
        workdir=training.folder / "auditor",
    )


def told(report: AuditReport) -> set[tuple[int, str]]:
    return {(finding.step, finding.subject) for finding in report.findings}


def finish(training: Training, rounds: int = 1) -> int:
    for _ in range(rounds):
        number = training.open_round()
        training.finish(number)
    return number


def proposal_of(training: Training, number: int) -> Proposal:
    proposal = training.federation.reader.round(number).proposal
    assert proposal is not None
    return proposal


def judge(training: Training, number: int) -> tuple[Path, tuple[Verdict, ...]]:
    """Do what an honest aggregator would do, for a lying one to change."""
    result = judge_and_aggregate(
        training.federation.reader,
        training.blobs,
        number,
        private_key=training.private_key,
        workdir=training.folder / "liar",
        target=training.folder / "model",
        threads=1,
    )
    return result.model_path, result.verdicts


def envelope_of(training: Training, number: int, hospital: str) -> Cid:
    address = training.federation.address(hospital)
    records = training.federation.reader.records(number)
    return next(
        Cid.from_blob_digest(one.record.blob) for one in records if one.record.hospital == address
    )


def flip_a_byte(training: Training, cid: Cid) -> None:
    """Change one byte of a blob where it lies: in its first leaf."""
    blocks = training.blobs.blocks
    leaf = next(leaves(cid, blocks.__getitem__, 1 << 30)).cid
    block = bytearray(blocks[leaf])
    block[len(block) // 2] ^= 1
    blocks[leaf] = bytes(block)


def test_a_clean_task_passes_every_step(training: Training) -> None:
    finish(training, rounds=2)
    training.open_round()
    report = audit(training)
    assert report.findings == ()
    assert report.ok
    assert {step.number for step in report.steps if not step.ok} == ELSEWHERE
    assert not (training.folder / "auditor" / "audit").exists()


def test_without_a_key_all_but_the_replay_is_done(training: Training) -> None:
    finish(training)
    report = audit(training, key=None)
    assert report.ok
    not_run = {step.number for step in report.steps if step.ok is None}
    assert not_run == {REPLAY, *ELSEWHERE}


def test_a_round_before_the_auditors_time_is_not_replayed(training: Training) -> None:
    finish(training)
    report = audit(training, key="researcher")
    assert report.ok
    assert {step.number for step in report.steps if step.ok is None} == {REPLAY, *ELSEWHERE}


def test_a_flipped_byte_in_an_envelope_is_found_and_named(training: Training) -> None:
    number = finish(training, rounds=2)
    cid = envelope_of(training, number, "hospital-2")
    flip_a_byte(training, cid)
    report = audit(training)
    address = training.federation.address("hospital-2")
    assert told(report) == {(BLOBS, f"round 2, envelope of {address}, blob {cid}")}
    assert not report.ok


def test_a_lost_envelope_is_found_and_named(training: Training) -> None:
    number = finish(training)
    cid = envelope_of(training, number, "hospital-1")
    del training.blobs.blocks[cid]
    address = training.federation.address("hospital-1")
    report = audit(training)
    assert told(report) == {(BLOBS, f"round 1, envelope of {address}, blob {cid}")}
    assert report.findings[0].message == "the blob cannot be had"


def test_a_flipped_byte_in_a_model_is_found_in_each_round_that_stands_on_it(
    training: Training,
) -> None:
    finish(training, rounds=2)
    cid = Cid.from_blob_digest(proposal_of(training, 1).model_blob)
    flip_a_byte(training, cid)
    assert told(audit(training)) == {
        (BLOBS, f"round 1, model of proposal 1, blob {cid}"),
        (BLOBS, f"round 2, base model, blob {cid}"),
    }


def test_what_an_earlier_audit_fetched_is_not_believed(training: Training) -> None:
    number = finish(training)
    assert audit(training).ok
    flip_a_byte(training, Cid.from_blob_digest(proposal_of(training, number).model_blob))
    assert not audit(training).ok


def test_a_swapped_model_is_found_by_its_digest(training: Training) -> None:
    """The aggregator names the right digest and hands out another model."""
    number = training.open_round()
    training.send_all(number)
    model, verdicts = judge(training, number)
    right = content_digest(model)
    save_tensors(model, tensors_of(666))
    blob = training.blobs.put(model)
    ledger = training.federation.ledgers["aggregator"]
    ledger.propose(number, right, blob.digest, verdicts)
    training.attest(number)
    assert told(audit(training)) == {(MODELS, "round 1, model of proposal 1")}


@pytest.mark.parametrize("is_final", [False, True])
def test_a_wrong_model_is_found_by_the_replay(training: Training, is_final: bool) -> None:
    """A lying aggregator proposes another model, and lazy witnesses may even sign it."""
    number = training.open_round()
    training.send_all(number)
    model, verdicts = judge(training, number)
    save_tensors(model, tensors_of(666))
    blob = training.blobs.put(model)
    ledger = training.federation.ledgers["aggregator"]
    ledger.propose(number, content_digest(model), blob.digest, verdicts)
    if is_final:
        training.attest(number)
    report = audit(training)
    assert told(report) == {(REPLAY, "round 1, model of proposal 1")}
    assert report.findings[0].found == content_digest(model).hex()


def test_a_model_of_other_tensors_is_found(training: Training) -> None:
    number = training.open_round()
    training.send_all(number)
    model, verdicts = judge(training, number)
    save_tensors(model, {"weight": tensors_of(1)["weight"]})
    blob = training.blobs.put(model)
    ledger = training.federation.ledgers["aggregator"]
    ledger.propose(number, content_digest(model), blob.digest, verdicts)
    assert told(audit(training)) == {(MODELS, "round 1, model of proposal 1")}


@pytest.mark.parametrize(
    ("state", "is_found"),
    [
        (("server.m.weight", "server.m.bias"), False),
        (("server.m.weight",), True),
        (("server.x.weight", "server.x.bias"), True),
        (("momentum.weight", "momentum.bias"), True),
    ],
)
def test_a_model_may_have_the_state_of_an_optimiser_and_no_other_tensors(
    training: Training, state: tuple[str, ...], is_found: bool
) -> None:
    """Which of the possible states it has to be is the replay's question."""
    number = training.open_round()
    training.send_all(number)
    model, verdicts = judge(training, number)
    tensors = tensors_of(1)
    save_tensors(model, tensors | {name: tensors[name.split(".")[-1]] for name in state})
    blob = training.blobs.put(model)
    ledger = training.federation.ledgers["aggregator"]
    ledger.propose(number, content_digest(model), blob.digest, verdicts)
    subject = "round 1, model of proposal 1"
    assert told(audit(training, key=None)) == ({(MODELS, subject)} if is_found else set())
    assert told(audit(training)) == {(MODELS if is_found else REPLAY, subject)}


def test_a_wrong_verdict_is_found_by_the_replay(training: Training) -> None:
    number = training.open_round()
    training.send_all(number)
    model, verdicts = judge(training, number)
    wrong = (replace(verdicts[0], content=digest("other")), *verdicts[1:])
    blob = training.blobs.put(model)
    ledger = training.federation.ledgers["aggregator"]
    ledger.propose(number, content_digest(model), blob.digest, wrong)
    report = audit(training)
    assert told(report) == {(REPLAY, f"round 1, verdict on {verdicts[0].hospital}")}
    assert digest("other").hex() in report.findings[0].found


def test_a_dispute_that_stands_is_found(training: Training) -> None:
    number = training.open_round()
    training.send_all(number)
    training.advance(number)
    witness = training.federation.ledgers["witness-1"]
    witness.dispute(number, 1, digest("other"), digest("other"), digest("evidence"))
    report = audit(training)
    assert told(report) == {(WITNESSES, "round 1, proposal 1")}
    assert training.federation.address("witness-1") in report.findings[0].found


def test_a_fault_in_one_round_does_not_stop_the_others(training: Training) -> None:
    finish(training, rounds=2)
    for number, hospital in ((1, "hospital-1"), (2, "hospital-3")):
        flip_a_byte(training, envelope_of(training, number, hospital))
    assert [finding.subject[:7] for finding in audit(training).findings] == ["round 1", "round 2"]


def test_a_refused_update_is_no_finding(training: Training) -> None:
    number = training.open_round()
    training.send("hospital-1", number, b"no tensors")
    training.send("hospital-2", number, tensor_bytes(tensors_of(1)))
    training.send("hospital-3", number, tensor_bytes(tensors_of(2)))
    training.advance(number)
    training.attest(number)
    assert audit(training).ok


@pytest.mark.parametrize("comes_late", [False, True])
def test_a_blob_that_the_witnesses_could_not_get_is_no_finding(
    training: Training, comes_late: bool
) -> None:
    """Nor can its hospital make one by handing the blob in when the round is final."""
    number = training.open_round()
    training.send_all(number)
    cid = envelope_of(training, number, "hospital-1")
    block = training.blobs.blocks.pop(cid)
    training.advance(number)
    training.attest(number)
    if comes_late:
        training.blobs.blocks[cid] = block
    address = training.federation.address("hospital-1")
    verdicts = training.federation.reader.verdicts(number, 1)
    assert {one.hospital: one.reason for one in verdicts}[address] is Reason.BLOB_UNAVAILABLE
    assert audit(training).findings == ()


@pytest.mark.parametrize("is_gone", [False, True])
def test_a_hospital_that_takes_its_too_large_blob_away_makes_no_finding(
    training: Training, is_gone: bool
) -> None:
    number = training.open_round()
    for seed, hospital in enumerate(HOSPITALS[1:], 1):
        training.send(hospital, number, tensor_bytes(tensors_of(seed)))
    training.send(HOSPITALS[0], number, bytes(100_000))
    training.advance(number)
    training.attest(number)
    reasons = {one.reason for one in training.federation.reader.verdicts(number, 1)}
    assert reasons == {Reason.NONE, Reason.BLOB_TOO_LARGE}
    if is_gone:
        del training.blobs.blocks[envelope_of(training, number, HOSPITALS[0])]
    assert audit(training).findings == ()


def test_a_proposal_that_denies_a_blob_that_is_there_is_found(training: Training) -> None:
    number = training.open_round()
    training.send_all(number)
    cid = envelope_of(training, number, "hospital-1")
    block = training.blobs.blocks.pop(cid)
    training.advance(number)
    training.blobs.blocks[cid] = block
    address = training.federation.address("hospital-1")
    assert training.federation.reader.round(number).phase is Phase.PROPOSED
    assert (REPLAY, f"round 1, verdict on {address}") in told(audit(training))


def test_data_that_were_withdrawn_later_are_no_finding(training: Training) -> None:
    number = finish(training)
    federation = training.federation
    federation.ledgers["hospital-1"].withdraw(federation.versions["hospital-1"], "erasure")
    federation.ledgers["hospital-2"].permit_purposes(
        federation.versions["hospital-2"], frozenset({42})
    )
    federation.ledgers["steward"].suspend(federation.address("hospital-3"), "unpaid bills")
    assert number == 1
    assert audit(training).findings == ()


def test_a_record_that_comes_in_while_the_round_is_read_is_no_finding(
    training: Training, monkeypatch: pytest.MonkeyPatch
) -> None:
    number = training.open_round()
    training.send("hospital-1", number, tensor_bytes(tensors_of(1)))
    reader = LedgerReader(training.federation.rpc_url, training.federation.deployment.ledger)
    read, late = reader.records, iter(["hospital-2"])

    def records(round_number: int) -> tuple[RecordedUpdate, ...]:
        for hospital in late:
            training.send(hospital, round_number, tensor_bytes(tensors_of(2)))
        return read(round_number)

    monkeypatch.setattr(reader, "records", records)
    (evidence,) = read_evidence(reader, TASK)
    assert len(evidence.records) == evidence.round.updates == 2
    assert verify_task([evidence]) == []


def test_an_unknown_task_and_an_unreachable_chain_are_errors(training: Training) -> None:
    with pytest.raises(UnknownRoundError, match="has no round"):
        audit(training)
    finish(training)
    reader = LedgerReader("http://127.0.0.1:9", training.federation.deployment.ledger)
    with pytest.raises(LedgerError):
        audit_task(reader, training.blobs, TASK, workdir=training.folder / "auditor")
