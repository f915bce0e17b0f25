"""An aggregator that lies is disputed: the evidence names the step that differs, and the inputs.

Chain, IPFS node and witness are processes of their own; the aggregator judges by the project's own
code and proposes something else. Where the ledger itself refuses a lie, that is shown, too.
"""

import json
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path

import pytest
from typer.testing import CliRunner

from audit.disputes import TracedDispute
from audit.evidence import KnownModel, RecordInput, ReplayStep
from chain.digests import content_digest
from chain.errors import ContractRevertedError
from chain.tensors import tensor_bytes
from chain.types import Outcome, Phase, Reason, Verdict
from cli.main import command_line
from tests.attacks.devnet import (
    EXAMPLES,
    OTHER_WITNESS,
    VALUES,
    WITNESS,
    Devnet,
)
from tests.attacks.liar import STRANGER, Claim, Liar
from tests.attacks.rounds import AttackedRound, model
from tests.federation import FED_AVG, HOSPITALS, Federation, digest
from tests.memory_blobs import MemoryBlobStore

TRIMMED = '[{"name":"trimmed_mean","params":{"f":1}}]'
GUARDED = (
    '[{"name":"quarantine","params":{"rounds":2,"strikes":1,"window":3}},'
    '{"name":"fed_avg","params":{}}]'
)
# Under the trimmed mean the first and the last are clipped, and the second one is accepted.
CLIPPED, ACCEPTED, _ = HOSPITALS


@dataclass(frozen=True, slots=True)
class Lie:
    """What is claimed, of a round with which pipeline, and the step that gives it away."""

    claim: Callable[[Liar], Claim]
    step: ReplayStep
    pipeline: str = TRIMMED


def rejecting(reason: Reason, content: bytes | None = None) -> Callable[[Liar], Claim]:
    """Leave an accepted update out, and give a reason that is none."""

    def claim(liar: Liar) -> Claim:
        changes = {} if content is None else {"content": content}
        verdicts = liar.edited(ACCEPTED, outcome=Outcome.REJECTED, reason=reason, **changes)
        return liar.claim(liar.aggregate(without={ACCEPTED}), verdicts)

    return claim


def another_blob(liar: Liar) -> Claim:
    """Name the true model, and store another one for whoever fetches it."""
    other = liar.round.blobs.put(liar.save(model(666.0)))
    return replace(liar.claim(), blob=other.digest)


def verdicts_of_another_rule(liar: Liar) -> Claim:
    """Weigh by a mean, and say of every update that it was accepted by it."""
    verdicts = liar.edited(CLIPPED, outcome=Outcome.ACCEPTED, reason=Reason.NONE)
    return liar.claim(liar.aggregate(pipeline=FED_AVG), verdicts)


NOTHING_KNOWN = bytes(32)
LIES: dict[str, Lie] = {
    "drops an accepted update, and keeps its verdict": Lie(
        lambda liar: liar.claim(liar.aggregate(without={ACCEPTED})),
        ReplayStep.AGGREGATION,
        FED_AVG,
    ),
    "drops an accepted update as unavailable": Lie(
        rejecting(Reason.BLOB_UNAVAILABLE, NOTHING_KNOWN), ReplayStep.ADMISSION, FED_AVG
    ),
    "drops an accepted update as not a number": Lie(
        rejecting(Reason.NOT_A_NUMBER), ReplayStep.ADMISSION, FED_AVG
    ),
    "drops an accepted update as quarantined": Lie(
        rejecting(Reason.QUARANTINED), ReplayStep.QUARANTINE, GUARDED
    ),
    "drops an accepted update as too long": Lie(
        rejecting(Reason.NORM_OUT_OF_RANGE), ReplayStep.SCREENS_AND_RULE, FED_AVG
    ),
    "adds an update that was never recorded": Lie(
        lambda liar: liar.claim(liar.aggregate(more=model(9.0))), ReplayStep.AGGREGATION, FED_AVG
    ),
    "changes a weight": Lie(
        lambda liar: liar.claim(liar.aggregate(examples=EXAMPLES | {ACCEPTED: 100})),
        ReplayStep.AGGREGATION,
        FED_AVG,
    ),
    "swaps the rule, and keeps the declared one's verdicts": Lie(
        lambda liar: liar.claim(liar.aggregate(pipeline=FED_AVG)), ReplayStep.AGGREGATION
    ),
    "swaps the rule, and the verdicts with it": Lie(
        verdicts_of_another_rule, ReplayStep.SCREENS_AND_RULE
    ),
    "edits a score": Lie(
        lambda liar: liar.claim(verdicts=liar.edited(CLIPPED, score=123)),
        ReplayStep.SCREENS_AND_RULE,
    ),
    "edits a threshold": Lie(
        lambda liar: liar.claim(verdicts=liar.edited(CLIPPED, threshold=123)),
        ReplayStep.SCREENS_AND_RULE,
    ),
    "edits a reason": Lie(
        lambda liar: liar.claim(verdicts=liar.edited(CLIPPED, reason=Reason.CLIPPED_BY_RULE)),
        ReplayStep.SCREENS_AND_RULE,
    ),
    "gives a reason that nobody knows": Lie(
        lambda liar: liar.claim(verdicts=liar.edited(CLIPPED, reason=Reason.UNKNOWN)),
        ReplayStep.SCREENS_AND_RULE,
    ),
    "edits an outcome": Lie(
        lambda liar: liar.claim(verdicts=liar.edited(CLIPPED, outcome=Outcome.REJECTED)),
        ReplayStep.SCREENS_AND_RULE,
    ),
    "edits a content digest": Lie(
        lambda liar: liar.claim(verdicts=liar.edited(CLIPPED, content=digest("other"))),
        ReplayStep.ADMISSION,
    ),
    "stores another model than it proposes": Lie(another_blob, ReplayStep.MODEL_BLOB),
    "proposes a model and stores none": Lie(
        lambda liar: replace(liar.claim(), blob=digest("nowhere")), ReplayStep.MODEL_BLOB
    ),
}


Liars = Callable[[str], Liar]


@pytest.fixture(scope="module")
def liars(devnet: Devnet) -> Liars:
    """One round for each pipeline, in which every lie is followed by the next one."""

    @cache
    def liar(pipeline: str) -> Liar:
        return Liar.of(devnet.collected(f"lies under {digest(pipeline).hex()[:8]}", rule=pipeline))

    return liar


@pytest.mark.parametrize("lie", LIES)
def test_it_is_disputed_when_it(devnet: Devnet, liars: Liars, lie: str) -> None:
    liar = liars(LIES[lie].pipeline)
    claim = LIES[lie].claim(liar)
    assert claim != liar.claim()
    disputed = devnet.disputed(liar.round.number, liar.propose(claim))
    assert_evidence(devnet, liar, claim, disputed, LIES[lie].step)
    found = devnet.federation.reader.round(liar.round.number)
    assert (found.phase, found.disputed) == (Phase.PROPOSED, True)


@pytest.mark.parametrize("claim", [another_blob, rejecting(Reason.NOT_A_NUMBER)])
def test_the_truth_becomes_final_after_a_lie_and_nothing_before(
    devnet: Devnet, claim: Callable[[Liar], Claim]
) -> None:
    task = claim.__name__
    liar = Liar.of(devnet.collected(task, rule=FED_AVG))
    number, reader = liar.round.number, devnet.federation.reader
    devnet.disputed(number, liar.propose(claim(liar)))
    assert reader.last_final(task) is None
    devnet.propose_honestly(liar.round)
    final = devnet.final(number)
    assert final.proposal is not None
    assert (final.proposal.number, final.proposal.model) == (2, liar.truth.model_digest)
    assert reader.verdicts(number, 2) == liar.truth.verdicts
    last = reader.last_final(task)
    assert last is not None
    assert last[0] == liar.truth.model_digest


def assert_evidence(
    devnet: Devnet, liar: Liar, claim: Claim, disputed: TracedDispute, step: ReplayStep
) -> None:
    """Check that evidence names the step, and all that a replay begins with."""
    evidence, number = disputed.evidence, liar.round.number
    assert disputed.faults == ()
    assert disputed.dispute.witness == devnet.address(WITNESS)
    assert evidence is not None
    assert evidence.step is step
    assert evidence.findings
    assert evidence.known_as is None
    assert (evidence.proposal.model, evidence.proposal.model_blob) == (claim.model, claim.blob)
    assert (evidence.model, evidence.verdicts) == (liar.truth.model_digest, liar.truth.verdicts)
    terms = devnet.federation.reader.round(number).terms
    inputs = evidence.inputs
    assert (inputs.base_model, inputs.base_blob) == (terms.base_model, terms.base_blob)
    assert inputs.pipeline == terms.rule
    recorded = [one.record for one in devnet.federation.reader.records(number)]
    contents = [content_digest(tensor_bytes(model(VALUES[name]))) for name in HOSPITALS]
    assert inputs.records == tuple(
        RecordInput(record.hospital, record.update, record.blob, EXAMPLES[name], content)
        for record, name, content in zip(recorded, HOSPITALS, contents, strict=True)
    )


def test_an_older_model_is_called_by_its_name(devnet: Devnet) -> None:
    task, base = "older", 0.5
    models = {base: content_digest(tensor_bytes(model(base)))}
    for times in (1.0, 3.0):
        round_ = devnet.collected(task, times, rule=TRIMMED, base=base)
        devnet.propose_honestly(round_)
        final, base = devnet.final(round_.number).proposal, times * VALUES[ACCEPTED]
        assert final is not None
        models[base] = final.model
    first, second = devnet.federation.reader.task_rounds(task)
    round_ = devnet.collected(task, 5.0, rule=TRIMMED, base=base)
    liar = Liar.of(round_)
    known = [KnownModel(0, False), KnownModel(first, False), KnownModel(second, True)]
    for (value, older), known_as in zip(models.items(), known, strict=True):
        proposal = liar.propose(liar.claim(liar.save(model(value))))
        evidence = devnet.disputed(round_.number, proposal).evidence
        assert evidence is not None
        assert evidence.proposal.model == older
        assert evidence.step is ReplayStep.AGGREGATION
        assert evidence.known_as == known_as
        last = devnet.federation.reader.last_final(task)
        assert last is not None
        assert (last[0], last[2]) == (models[base], second)
    devnet.propose_honestly(round_)
    devnet.final(round_.number)


def test_people_read_why_it_was_disputed(devnet: Devnet, liars: Liars) -> None:
    liar = liars(FED_AVG)
    number = liar.round.number
    proposal = liar.propose(liar.claim(liar.aggregate(without={ACCEPTED})))
    devnet.disputed(number, proposal)
    where = ["--rpc", devnet.federation.rpc_url, "--ledger", devnet.federation.deployment.ledger]
    words = ["disputes", str(number), "--ipfs", devnet.ipfs, *where]
    done = CliRunner().invoke(command_line(), words, env={"COLUMNS": "250"})
    assert done.exit_code == 0
    _, told = done.stdout.split(f"round {number}, proposal {proposal}, which cannot become final")
    assert f"disputed by {devnet.address(WITNESS)}" in told
    assert "aggregation: the verdicts are right, but the updates come to another" in told
    assert f"witness got model 0x{liar.truth.model_digest.hex()}" in " ".join(told.split())
    for name in HOSPITALS:
        assert f"{devnet.address(name)}, {EXAMPLES[name]} examples" in told
    found = json.loads(CliRunner().invoke(command_line(), [*words, "--json"]).stdout)
    assert found[-1]["evidence"]["step"] == "aggregation"
    assert (
        f"proposal {proposal}: disputed: at aggregation: round {number}" in devnet.log.read_text()
    )


def test_a_disputed_lie_takes_no_further_attestation(devnet: Devnet, liars: Liars) -> None:
    liar = liars(FED_AVG)
    proposal = liar.propose(liar.claim(liar.save(model(666.0))))
    devnet.disputed(liar.round.number, proposal)
    with pytest.raises(ContractRevertedError) as refused:
        devnet.federation.attest(liar.round.number, OTHER_WITNESS)
    assert refused.value.name == "RoundLedgerProposalDisputed"


# What the ledger refuses by itself: the lies above are the ways around it.

Refused = Callable[[AttackedRound, tuple[Verdict, ...]], None]


def propose(round_: AttackedRound, verdicts: tuple[Verdict, ...]) -> None:
    ledger = round_.federation.ledgers["aggregator"]
    ledger.propose(round_.number, digest("model"), digest("blob"), verdicts)


def for_a_stranger(round_: AttackedRound, verdicts: tuple[Verdict, ...]) -> None:
    last = replace(verdicts[-1], hospital=STRANGER)
    among = sorted((*verdicts[:-1], last), key=lambda verdict: int(verdict.hospital, 16))
    propose(round_, tuple(among))


def relayed_without_signature(round_: AttackedRound, _: tuple[Verdict, ...]) -> None:
    invented = round_.federation.record(ACCEPTED, round_.number)
    signature = round_.federation.sign(invented, "aggregator")
    round_.federation.ledgers["aggregator"].relay_update(invented, signature)


def with_another_weight(round_: AttackedRound, _: tuple[Verdict, ...]) -> None:
    signed = round_.federation.record(ACCEPTED, round_.number)
    signature = round_.federation.sign(signed, ACCEPTED)
    changed = replace(signed, examples=signed.examples + 1)
    round_.federation.ledgers["aggregator"].relay_update(changed, signature)


def opened_again_by_another_rule(round_: AttackedRound, _: tuple[Verdict, ...]) -> None:
    round_.federation.open_round(rule=FED_AVG)


REFUSED: dict[str, tuple[Refused, str]] = {
    "leave an update out": (
        lambda round_, verdicts: propose(round_, verdicts[1:]),
        "RoundLedgerVerdictMissing",
    ),
    "judge an update that was never recorded": (for_a_stranger, "RoundLedgerNoRecord"),
    "judge one update twice": (
        lambda round_, verdicts: propose(round_, (verdicts[0], *verdicts[:2])),
        "RoundLedgerVerdictsNotAscending",
    ),
    "reject without a reason": (
        lambda round_, verdicts: propose(
            round_, (replace(verdicts[0], outcome=Outcome.REJECTED), *verdicts[1:])
        ),
        "RoundLedgerInvalidVerdict",
    ),
    "accept with a reason to reject": (
        lambda round_, verdicts: propose(
            round_, (replace(verdicts[0], reason=Reason.NOT_A_NUMBER), *verdicts[1:])
        ),
        "RoundLedgerInvalidVerdict",
    ),
    "reject all": (
        lambda round_, verdicts: propose(
            round_,
            tuple(
                replace(verdict, outcome=Outcome.REJECTED, reason=Reason.NOT_A_NUMBER)
                for verdict in verdicts
            ),
        ),
        "RoundLedgerTooFewUpdates",
    ),
    "swap the rule of an open round": (opened_again_by_another_rule, "RoundLedgerRoundActive"),
}


@pytest.mark.parametrize("lie", REFUSED)
def test_the_ledger_lets_no_aggregator(federation: Federation, tmp_path: Path, lie: str) -> None:
    round_ = AttackedRound.opened(federation, MemoryBlobStore(), tmp_path, rule=TRIMMED)
    federation.record_all(round_.number)
    attempt, error = REFUSED[lie]
    with pytest.raises(ContractRevertedError) as refused:
        attempt(round_, federation.verdicts())
    assert refused.value.name == error
    assert federation.reader.round(round_.number).proposal is None


@pytest.mark.parametrize("attempt", [relayed_without_signature, with_another_weight])
def test_the_ledger_lets_no_aggregator_record_what_no_hospital_signed(
    federation: Federation, tmp_path: Path, attempt: Refused
) -> None:
    round_ = AttackedRound.opened(federation, MemoryBlobStore(), tmp_path)
    with pytest.raises(ContractRevertedError) as refused:
        attempt(round_, ())
    assert refused.value.name == "RoundLedgerBadSignature"
    assert federation.reader.records(round_.number) == ()


def test_the_ledger_lets_no_aggregator_shut_a_late_hospital_out(
    federation: Federation, tmp_path: Path
) -> None:
    round_ = AttackedRound.opened(federation, MemoryBlobStore(), tmp_path)
    for name in HOSPITALS[:2]:
        federation.ledgers[name].record_update(federation.record(name, round_.number))
    with pytest.raises(ContractRevertedError) as refused:
        propose(round_, federation.verdicts()[:2])
    assert refused.value.name == "RoundLedgerStillCollecting"


def test_the_ledger_lets_no_aggregator_exchange_a_proposal_that_nobody_disputed(
    federation: Federation, tmp_path: Path
) -> None:
    round_ = AttackedRound.opened(federation, MemoryBlobStore(), tmp_path)
    federation.record_all(round_.number)
    propose(round_, federation.verdicts())
    federation.attest(round_.number, WITNESS)
    with pytest.raises(ContractRevertedError) as refused:
        propose(round_, federation.verdicts())
    assert refused.value.name == "RoundLedgerUnexpectedPhase"


def test_the_ledger_lets_no_round_begin_from_an_older_model(
    federation: Federation, tmp_path: Path
) -> None:
    round_ = AttackedRound.opened(federation, MemoryBlobStore(), tmp_path)
    federation.finish(round_.number)
    with pytest.raises(ContractRevertedError) as refused:
        AttackedRound.opened(federation, MemoryBlobStore(), tmp_path)
    assert refused.value.name == "RoundLedgerBaseModelMismatch"
