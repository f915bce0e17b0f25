"""A witness attests what it recomputed, disputes what it did not, and waits for what is away."""

import json
import math
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from errno import ENOSPC
from pathlib import Path
from threading import Event
from typing import Any

import pytest

from aggregator.replay import judge_and_aggregate
from audit.settings import WitnessSettings
from audit.witness import NOTHING, Said, Witness, Word
from chain.cid import Cid
from chain.digests import content_digest
from chain.errors import (
    BlobUnavailableError,
    DigestMismatchError,
    InvalidInputError,
    LedgerError,
)
from chain.merkle import verdicts_root
from chain.structs import Dispute
from chain.tensors import save_tensors, schema_of, tensor_bytes
from chain.types import Phase, Reason, Verdict
from chain.wire import to_hex
from tests.aggregator.training import Training, tensors_of
from tests.federation import digest

PATIENCE = 100.0


@dataclass
class Watch:
    """A witness and what it needs, with a clock that tests turn."""

    training: Training
    name: str = "witness-1"
    now: float = 0.0
    witness: Witness = field(init=False)

    def __post_init__(self) -> None:
        self.restart()

    def restart(self) -> None:
        """Start anew, as after kill -9: nothing but the chain and the folder is left."""
        self.witness = Witness(
            self.training.federation.ledgers[self.name],
            self.training.blobs,
            self.training.federation.identities[self.name],
            WitnessSettings(
                self.training.folder / self.name,
                threads=1,
                poll_seconds=0.01,
                patience_seconds=PATIENCE,
            ),
            clock=lambda: self.now,
        )

    def said(self) -> list[Said]:
        return [word.said for word in self.witness.watch()]

    def dispute(self) -> Dispute:
        (dispute,) = self.training.federation.reader.disputes(1)
        assert dispute.witness == self.training.federation.address(self.name)
        return dispute

    def evidence(self) -> dict[str, Any]:
        cid = Cid.from_blob_digest(self.dispute().evidence)
        evidence: dict[str, Any] = json.loads(self.training.blobs.get(cid, 1 << 20))
        return evidence


@pytest.fixture
def watch(training: Training) -> Watch:
    return Watch(training)


def proposed(training: Training) -> int:
    """Bring a round to its honest proposal."""
    number = training.open_round()
    training.send_all(number)
    training.advance(number)
    return number


def judge(training: Training, number: int) -> tuple[Path, tuple[Verdict, ...]]:
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


def test_a_true_proposal_is_attested_by_all_and_final(training: Training, watch: Watch) -> None:
    number = proposed(training)
    other = Watch(training, "witness-2")
    assert watch.said() == [Said.ATTESTED]
    assert training.federation.reader.round(number).phase is Phase.PROPOSED
    assert other.said() == [Said.ATTESTED]
    assert training.federation.reader.round(number).phase is Phase.FINAL
    assert watch.said() == other.said() == []
    assert not list((training.folder / "witness-1").glob("round-*"))


def test_a_witness_speaks_once_whenever_it_was_killed(training: Training, watch: Watch) -> None:
    number = proposed(training)
    assert watch.said() == [Said.ATTESTED]
    watch.restart()
    assert watch.said() == []
    assert training.federation.reader.round(number).attestations == 1


def test_a_witness_that_was_killed_before_it_spoke_speaks_then(
    training: Training, watch: Watch, monkeypatch: pytest.MonkeyPatch
) -> None:
    proposed(training)

    def killed(*_: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(training.federation.ledgers["witness-1"], "attest", killed)
        with pytest.raises(KeyboardInterrupt):
            watch.witness.watch()
    watch.restart()
    assert watch.said() == [Said.ATTESTED]


def test_open_and_foreign_rounds_are_left_alone(training: Training, watch: Watch) -> None:
    training.open_round()
    assert watch.said() == []
    watch = Watch(training, "auditor")
    training.send_all(1)
    training.advance(1)
    assert watch.said() == []


def test_a_wrong_model_is_disputed_with_evidence(training: Training, watch: Watch) -> None:
    number = training.open_round()
    training.send_all(number)
    model, verdicts = judge(training, number)
    true_model = content_digest(model)
    save_tensors(model, tensors_of(666))
    ledger = training.federation.ledgers["aggregator"]
    ledger.propose(number, content_digest(model), training.blobs.put(model).digest, verdicts)
    assert watch.said() == [Said.DISPUTED]
    dispute = watch.dispute()
    root = verdicts_root(number, verdicts)
    assert (dispute.proposal, dispute.model, dispute.verdicts) == (1, true_model, root)
    evidence = watch.evidence()
    assert evidence["model"] == to_hex(true_model)
    assert len(evidence["verdicts"]) == 3
    assert watch.said() == []


def test_a_wrong_verdict_is_disputed(training: Training, watch: Watch) -> None:
    number = training.open_round()
    training.send_all(number)
    model, verdicts = judge(training, number)
    wrong = (replace(verdicts[0], content=digest("other")), *verdicts[1:])
    ledger = training.federation.ledgers["aggregator"]
    ledger.propose(number, content_digest(model), training.blobs.put(model).digest, wrong)
    assert watch.said() == [Said.DISPUTED]
    assert watch.dispute().model == content_digest(model)


def test_a_model_blob_with_other_bytes_is_disputed(training: Training, watch: Watch) -> None:
    number = training.open_round()
    training.send_all(number)
    model, verdicts = judge(training, number)
    right = content_digest(model)
    save_tensors(model, tensors_of(666))
    ledger = training.federation.ledgers["aggregator"]
    ledger.propose(number, right, training.blobs.put(model).digest, verdicts)
    assert watch.said() == [Said.DISPUTED]
    assert watch.dispute().model == NOTHING


def test_a_proposal_of_a_round_that_makes_no_model_is_disputed(
    training: Training, watch: Watch
) -> None:
    number = training.open_round()
    for hospital in ("hospital-1", "hospital-2", "hospital-3"):
        training.send(hospital, number, tensor_bytes({"weight": tensors_of(1)["weight"]}))
    training.federation.propose(number)
    assert watch.said() == [Said.DISPUTED]
    assert watch.dispute().model == NOTHING
    reasons = {one["reason"] for one in watch.evidence()["verdicts"]}
    assert reasons == {Reason.TENSOR_NAME_MISMATCH.name}


def test_a_proposal_of_a_round_without_a_pipeline_is_disputed_at_once(
    training: Training, watch: Watch
) -> None:
    base = training.genesis()
    number = training.federation.open_round(
        rule="\ufffd no pipeline",
        base_model=content_digest(base),
        base_blob=training.blobs.put(base).digest,
        schema=schema_of(tensors_of(0)).digest(),
    )
    training.send_all(number)
    training.federation.propose(number)
    assert watch.said() == [Said.DISPUTED]
    assert watch.dispute().model == NOTHING
    evidence = watch.evidence()
    assert evidence["step"] == "screens_and_rule"
    assert evidence["findings"][0]["subject"] == "round 1, pipeline"
    assert evidence["inputs"]["pipeline"] == "\ufffd no pipeline"
    assert len(evidence["inputs"]["records"]) == 3


def test_a_renewed_true_proposal_is_attested_after_the_dispute(
    training: Training, watch: Watch
) -> None:
    number = training.open_round()
    training.send_all(number)
    training.federation.propose(number)
    assert watch.said() == [Said.DISPUTED]
    training.advance(number)
    assert watch.said() == [Said.ATTESTED]


def envelope_of(training: Training, hospital: str) -> Cid:
    address = training.federation.address(hospital)
    records = training.federation.reader.records(1)
    return next(
        Cid.from_blob_digest(one.record.blob) for one in records if one.record.hospital == address
    )


def model_blob(training: Training) -> Cid:
    proposal = training.federation.reader.round(1).proposal
    assert proposal is not None
    return Cid.from_blob_digest(proposal.model_blob)


def base_blob(training: Training) -> Cid:
    return Cid.from_blob_digest(training.federation.reader.round(1).terms.base_blob)


@pytest.mark.parametrize(
    "lost", [lambda training: envelope_of(training, "hospital-1"), model_blob, base_blob]
)
def test_a_blob_that_is_late_is_waited_for(
    training: Training, watch: Watch, lost: Callable[[Training], Cid]
) -> None:
    proposed(training)
    cid = lost(training)
    block = training.blobs.blocks.pop(cid)
    assert watch.said() == [Said.WAITED]
    watch.now += PATIENCE - 1
    assert watch.said() == [Said.WAITED]
    training.blobs.blocks[cid] = block
    assert watch.said() == [Said.ATTESTED]
    assert training.federation.reader.disputes(1) == ()


@pytest.mark.parametrize(
    "lost", [lambda training: envelope_of(training, "hospital-1"), model_blob, base_blob]
)
def test_a_blob_that_stays_away_is_disputed_when_patience_ends(
    training: Training, watch: Watch, lost: Callable[[Training], Cid]
) -> None:
    proposed(training)
    del training.blobs.blocks[lost(training)]
    assert watch.said() == [Said.WAITED]
    watch.now += PATIENCE
    assert watch.said() == [Said.DISPUTED]
    step = {"base_blob": "base_model", "model_blob": "model_blob"}.get(lost.__name__, "admission")
    assert watch.evidence()["step"] == step


def test_an_ipfs_node_that_does_not_answer_is_never_a_reason_to_dispute(
    training: Training, watch: Watch, monkeypatch: pytest.MonkeyPatch
) -> None:
    proposed(training)

    def unreachable(*_: object) -> None:
        raise BlobUnavailableError("no IPFS node answers")

    with monkeypatch.context() as patch:
        for method in ("has", "fetch", "stream", "get", "put"):
            patch.setattr(training.blobs, method, unreachable)
        for _ in range(3):
            assert watch.said() == [Said.WAITED]
            watch.now += 10 * PATIENCE
    assert watch.said() == [Said.ATTESTED]


def test_an_ipfs_node_that_goes_away_before_the_model_is_fetched_is_no_reason_either(
    training: Training, watch: Watch, monkeypatch: pytest.MonkeyPatch
) -> None:
    proposed(training)
    model, has = model_blob(training), training.blobs.has
    block = training.blobs.blocks.pop(model)

    def gone_by_then(cid: Cid) -> bool:
        if cid == model:
            raise BlobUnavailableError("no IPFS node answers")
        return has(cid)

    with monkeypatch.context() as patch:
        patch.setattr(training.blobs, "has", gone_by_then)
        for _ in range(2):
            assert watch.said() == [Said.WAITED]
            watch.now += 10 * PATIENCE
    training.blobs.blocks[model] = block
    assert watch.said() == [Said.ATTESTED]


def test_evidence_that_cannot_be_stored_yet_delays_the_dispute(
    training: Training, watch: Watch, monkeypatch: pytest.MonkeyPatch
) -> None:
    number = training.open_round()
    training.send_all(number)
    training.federation.propose(number)

    def unreachable(*_: object) -> None:
        raise BlobUnavailableError("no IPFS node answers")

    with monkeypatch.context() as patch:
        patch.setattr(training.blobs, "put", unreachable)
        assert watch.said() == [Said.WAITED]
    assert watch.said() == [Said.DISPUTED]


def test_a_node_that_does_not_keep_the_evidence_delays_the_dispute(
    training: Training, watch: Watch, monkeypatch: pytest.MonkeyPatch
) -> None:
    number = training.open_round()
    training.send_all(number)
    training.federation.propose(number)

    def lying(*_: object) -> None:
        raise DigestMismatchError("block stored", "one", "another")

    with monkeypatch.context() as patch:
        patch.setattr(training.blobs, "put", lying)
        assert watch.said() == [Said.WAITED]
    assert watch.said() == [Said.DISPUTED]


def test_a_round_too_large_for_the_disk_holds_no_other_round_up(
    training: Training, watch: Watch, monkeypatch: pytest.MonkeyPatch
) -> None:
    for each in (training, replace(training, task="another")):
        number = each.open_round()
        each.send_all(number)
        each.advance(number)
    fetch = training.blobs.fetch

    def full(cid: Cid, path: Path, max_bytes: int) -> None:
        if path.parent.name == "round-1":
            raise OSError(ENOSPC, "No space left on device")
        fetch(cid, path, max_bytes)

    monkeypatch.setattr(training.blobs, "fetch", full)
    words = watch.witness.watch()
    assert [(word.round, word.said) for word in words] == [(1, Said.WAITED), (2, Said.ATTESTED)]


def test_a_witness_with_another_encryption_key_says_so(training: Training, watch: Watch) -> None:
    proposed(training)
    identity = training.federation.identities["witness-1"]
    stranger = replace(identity, encryption_private_key=digest("new key"))
    training.federation.identities["witness-1"] = stranger
    watch.restart()
    (word,) = watch.witness.watch()
    training.federation.identities["witness-1"] = identity
    assert word.said is Said.WAITED
    assert "another X25519 key" in word.told


def test_the_watch_goes_on_when_the_chain_is_away(
    training: Training, watch: Watch, monkeypatch: pytest.MonkeyPatch
) -> None:
    proposed(training)
    ledger, stop, words = training.federation.ledgers["witness-1"], Event(), list[Word]()
    resend = ledger.resend_lost
    failures = iter([LedgerError("no chain answers")] * 2)

    def away() -> int:
        for failure in failures:
            raise failure
        return resend()

    def told(word: Word) -> None:
        words.append(word)
        if word.said is Said.ATTESTED:
            stop.set()

    monkeypatch.setattr(ledger, "resend_lost", away)
    watch.witness.run(stop, told)
    assert [word.said for word in words] == [Said.WAITED, Said.ATTESTED]
    assert words[0].told == "no chain answers"


@pytest.mark.parametrize(
    ("threads", "poll_seconds", "patience_seconds"),
    [(0, 1.0, 1.0), (1, 0.0, 1.0), (1, 3601.0, 1.0), (1, 1.0, -1.0), (1, 1.0, math.nan)],
)
def test_impossible_settings_are_refused(
    threads: int, poll_seconds: float, patience_seconds: float
) -> None:
    with pytest.raises(InvalidInputError, match=f"found {threads}, {poll_seconds}, "):
        WitnessSettings(Path("work"), threads, poll_seconds, patience_seconds)
