"""Each lie about a round is found by its step and named, whatever the ledger let pass."""

import time
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
from eth_account import Account

from audit.verify import (
    CHAIN_OF_MODELS,
    DATA_SETS,
    KEPT_UPDATES,
    RECORDS,
    TITLES,
    VERDICTS,
    WITNESSES,
    AuditReport,
    Finding,
    RoundEvidence,
    verify_task,
)
from chain.digests import sha256
from chain.merkle import verdicts_root
from chain.signing import sign_attestation, update_struct_hash
from chain.types import (
    Attestation,
    DatasetState,
    DatasetVersion,
    LogPosition,
    Outcome,
    Phase,
    Proposal,
    Reason,
    RecordedUpdate,
    Round,
    RoundTerms,
    UpdateRecord,
    Verdict,
)

CHAIN = 31337
LEDGER = "0x5FbDB2315678afecb367f032d93F642f64180aa3"


def digest(text: str) -> bytes:
    return sha256(text.encode())


WITNESS_ACCOUNTS = [Account.from_key(digest(f"witness {n}")) for n in (1, 2)]
WITNESS_ADDRESSES = tuple(account.address for account in WITNESS_ACCOUNTS)
NORTH, SOUTH = sorted((Account.from_key(digest(n)).address for n in ("n", "s")), key=str.lower)
STRANGER = Account.from_key(digest("stranger"))


def position(index: int) -> LogPosition:
    return LogPosition(block=10, log_index=index, transaction=digest("transaction"))


def version(hospital: str) -> DatasetVersion:
    return DatasetVersion(
        version=digest(f"version of {hospital}"),
        dataset=digest(f"data set of {hospital}"),
        hospital=hospital,
        state=DatasetState.ACTIVE,
        merkle_root=digest("root"),
        images=100,
        modality="MR",
        purposes=frozenset({6}),
        profile=1,
        attestation=digest("report"),
        previous=bytes(32),
    )


def recorded(number: int, hospital: str, base: bytes, index: int) -> RecordedUpdate:
    record = UpdateRecord(
        chain_id=CHAIN,
        ledger=LEDGER,
        round=number,
        hospital=hospital,
        datasets=(version(hospital).version,),
        purpose=6,
        examples=100,
        base_model=base,
        update=digest(f"update {hospital} {number}"),
        blob=digest("blob"),
        code=digest("code"),
    )
    return RecordedUpdate(record, update_struct_hash(record), position(index))


def verdict(hospital: str, outcome: Outcome = Outcome.ACCEPTED) -> Verdict:
    reason = Reason.NONE if outcome is Outcome.ACCEPTED else Reason.NOT_A_NUMBER
    return Verdict(hospital, outcome, reason, 0, 0, digest(hospital))


def signatures(number: int, proposal: Proposal) -> tuple[tuple[str, bytes], ...]:
    attestation = Attestation(
        number, proposal.number, proposal.model, proposal.model_blob, proposal.verdicts
    )
    return tuple(
        (account.address, sign_attestation(CHAIN, LEDGER, attestation, account))
        for account in WITNESS_ACCOUNTS
    )


def final_round(number: int) -> RoundEvidence:
    """A round of two hospitals and two witnesses in which all is well."""
    terms = RoundTerms(
        task="lesion",
        purpose=6,
        base_model=digest(f"model {number - 1}"),
        base_blob=digest(f"model blob {number - 1}"),
        schema=digest("schema"),
        rule='[{"name":"fed_avg","params":{}}]',
        min_updates=2,
        max_updates=2,
        quorum=2,
        deadline=1_900_000_000,
        witnesses=WITNESS_ADDRESSES,
    )
    verdicts = (verdict(NORTH), verdict(SOUTH))
    root = verdicts_root(number, verdicts)
    proposal = Proposal(1, digest(f"model {number}"), digest(f"model blob {number}"), root)
    round_ = Round(
        number=number,
        phase=Phase.FINAL,
        terms=terms,
        aggregator=STRANGER.address,
        opened_at=position(0),
        updates=2,
        attestations=2,
        disputed=False,
        proposal=proposal,
    )
    return RoundEvidence(
        chain_id=CHAIN,
        ledger=LEDGER,
        round=round_,
        records=(
            recorded(number, NORTH, terms.base_model, 1),
            recorded(number, SOUTH, terms.base_model, 2),
        ),
        versions=((version(NORTH),), (version(SOUTH),)),
        active=frozenset({NORTH, SOUTH}),
        verdicts=verdicts,
        attestations=signatures(number, proposal),
        disputants=(),
    )


GOOD = final_round(2)
PROPOSAL = Proposal(1, digest("model 2"), digest("model blob 2"), verdicts_root(2, GOOD.verdicts))
NORTHS = f"round 2, record of {NORTH}"
NORTHS_DATA = f"{NORTHS}, data set {version(NORTH).version.hex()}"


def with_record(**changes: Any) -> RoundEvidence:
    """Change the first record and its digest alike, as a broken ledger could."""
    record = replace(GOOD.records[0].record, **changes)
    first = replace(GOOD.records[0], record=record, record_digest=update_struct_hash(record))
    return replace(GOOD, records=(first, GOOD.records[1]))


def with_event(**changes: Any) -> RoundEvidence:
    """Change the first record but not its digest, as a lying chain node could."""
    first = replace(GOOD.records[0], record=replace(GOOD.records[0].record, **changes))
    return replace(GOOD, records=(first, GOOD.records[1]))


def with_version(**changes: Any) -> RoundEvidence:
    return replace(GOOD, versions=((replace(version(NORTH), **changes),), GOOD.versions[1]))


def with_round(**changes: Any) -> RoundEvidence:
    return replace(GOOD, round=replace(GOOD.round, **changes))


def with_terms(**changes: Any) -> RoundEvidence:
    return with_round(terms=replace(GOOD.round.terms, **changes))


def with_proposal(**changes: Any) -> RoundEvidence:
    return with_round(proposal=replace(PROPOSAL, **changes))


def with_verdicts(*verdicts: Verdict) -> RoundEvidence:
    """Change the verdicts, their root and the signatures alike."""
    proposal = replace(PROPOSAL, verdicts=verdicts_root(2, verdicts))
    evidence = with_round(proposal=proposal)
    return replace(evidence, verdicts=verdicts, attestations=signatures(2, proposal))


def told(findings: list[Finding]) -> set[tuple[int, str]]:
    return {(finding.step, finding.subject) for finding in findings}


def test_where_all_is_well_nothing_is_found() -> None:
    assert verify_task([final_round(number) for number in (1, 2, 3)]) == []


PROPOSED = "round 2, proposal 1"
LISTED = "round 2, verdicts of proposal 1"


@pytest.mark.parametrize(
    ("evidence", "expected"),
    [
        (with_event(examples=99), (RECORDS, NORTHS)),
        (with_event(code=digest("other")), (RECORDS, NORTHS)),
        (with_event(update=digest("other")), (RECORDS, NORTHS)),
        (with_event(blob=digest("other")), (RECORDS, NORTHS)),
        (with_record(chain_id=1), (RECORDS, NORTHS)),
        (with_record(ledger=NORTH), (RECORDS, NORTHS)),
        (with_record(base_model=digest("model 9")), (RECORDS, NORTHS)),
        (with_record(round=3), (RECORDS, f"round 3, record of {NORTH}")),
        (replace(GOOD, active=frozenset({SOUTH})), (RECORDS, NORTHS)),
        (with_round(updates=3), (RECORDS, "round 2, records")),
        (
            replace(GOOD, records=GOOD.records[::-1], versions=GOOD.versions[::-1]),
            (RECORDS, NORTHS),
        ),
        (with_record(purpose=42), (DATA_SETS, NORTHS)),
        (with_record(datasets=()), (DATA_SETS, NORTHS)),
        (with_record(datasets=(version(NORTH).version,) * 2), (DATA_SETS, NORTHS)),
        (with_record(datasets=(digest("unknown"),)), (DATA_SETS, NORTHS)),
        (with_record(examples=0), (DATA_SETS, NORTHS)),
        (with_record(examples=101), (DATA_SETS, NORTHS)),
        (with_version(hospital=SOUTH), (DATA_SETS, NORTHS_DATA)),
        (with_version(state=DatasetState.WITHDRAWN), (DATA_SETS, NORTHS_DATA)),
        (with_version(state=DatasetState.SUPERSEDED), (DATA_SETS, NORTHS_DATA)),
        (with_version(profile=2), (DATA_SETS, NORTHS_DATA)),
        (with_version(purposes=frozenset({42})), (DATA_SETS, NORTHS_DATA)),
        (with_version(images=99), (DATA_SETS, NORTHS)),
        (replace(GOOD, verdicts=(verdict(NORTH),)), (VERDICTS, LISTED)),
        (with_verdicts(verdict(NORTH)), (VERDICTS, f"{LISTED}, {SOUTH}")),
        (
            with_verdicts(verdict(NORTH), verdict(SOUTH), verdict(STRANGER.address)),
            (VERDICTS, f"{LISTED}, {STRANGER.address}"),
        ),
        (
            with_verdicts(verdict(NORTH), verdict(NORTH), verdict(SOUTH)),
            (VERDICTS, f"{LISTED}, {NORTH}"),
        ),
        (
            with_verdicts(verdict(NORTH, Outcome.REJECTED), verdict(SOUTH)),
            (KEPT_UPDATES, "round 2, updates kept"),
        ),
        (replace(GOOD, disputants=WITNESS_ADDRESSES[:1]), (WITNESSES, PROPOSED)),
        (replace(GOOD, attestations=GOOD.attestations[:1]), (WITNESSES, PROPOSED)),
        (replace(GOOD, attestations=GOOD.attestations[:1] * 2), (WITNESSES, PROPOSED)),
        (
            replace(GOOD, attestations=((WITNESS_ADDRESSES[0], bytes(65)), GOOD.attestations[1])),
            (WITNESSES, f"{PROPOSED}, {WITNESS_ADDRESSES[0]}"),
        ),
        (
            replace(GOOD, attestations=(*GOOD.attestations, (STRANGER.address, bytes(65)))),
            (WITNESSES, f"{PROPOSED}, {STRANGER.address}"),
        ),
        (
            with_proposal(model=digest("other")),
            (WITNESSES, f"{PROPOSED}, {WITNESS_ADDRESSES[0]}"),
        ),
        (
            with_proposal(model_blob=digest("other")),
            (WITNESSES, f"{PROPOSED}, {WITNESS_ADDRESSES[1]}"),
        ),
        (with_terms(quorum=3), (WITNESSES, PROPOSED)),
        (
            with_terms(witnesses=WITNESS_ADDRESSES[:1]),
            (WITNESSES, f"{PROPOSED}, {WITNESS_ADDRESSES[1]}"),
        ),
    ],
)
def test_a_lie_is_found_and_named(evidence: RoundEvidence, expected: tuple[int, str]) -> None:
    assert expected in told(verify_task([evidence]))


@pytest.mark.parametrize(
    "evidence",
    [
        with_version(state=DatasetState.WITHDRAWN),
        with_version(profile=0),
        with_event(code=digest("other")),
        replace(GOOD, disputants=WITNESS_ADDRESSES[:1]),
    ],
)
def test_one_lie_is_one_finding(evidence: RoundEvidence) -> None:
    assert len(verify_task([final_round(1), evidence, final_round(3)])) == 1


def test_a_second_record_of_a_hospital_is_found() -> None:
    again = replace(GOOD.records[1], position=position(3))
    evidence = replace(
        GOOD, records=(*GOOD.records, again), versions=(*GOOD.versions, GOOD.versions[1])
    )
    assert (RECORDS, f"round 2, record of {SOUTH}") in told(verify_task([evidence]))


def test_a_round_that_starts_from_another_model_is_found() -> None:
    findings = verify_task([final_round(1), final_round(3)])
    assert told(findings) == {
        (CHAIN_OF_MODELS, "round 3, base model"),
        (CHAIN_OF_MODELS, "round 3, blob of the base model"),
    }
    assert (findings[0].expected, findings[0].found) == (
        digest("model 1").hex(),
        digest("model 2").hex(),
    )


def test_many_words_of_many_witnesses_take_no_product_of_time() -> None:
    seats = tuple(f"0x{n:040x}" for n in range(1 << 15))
    strangers = tuple((f"0x{n:040x}", bytes(65)) for n in range(1 << 20, (1 << 20) + (1 << 15)))
    terms = replace(GOOD.round.terms, witnesses=(*WITNESS_ADDRESSES, *seats))
    crowded = replace(GOOD.round, terms=terms)
    began = time.process_time()
    findings = verify_task(
        [replace(GOOD, round=crowded, attestations=(*GOOD.attestations, *strangers))]
    )
    assert time.process_time() - began < 5
    assert {one.found for one in findings} == {"no witness of the round"}
    assert len(findings) == len(strangers)


def test_an_aborted_round_leaves_the_model_as_it_was() -> None:
    aborted = replace(GOOD, round=replace(GOOD.round, phase=Phase.ABORTED), attestations=())
    again = replace(final_round(2), round=replace(GOOD.round, number=2), records=GOOD.records)
    assert verify_task([final_round(1), aborted, again, final_round(3)]) == []


def test_a_proposal_in_work_needs_no_quorum_yet() -> None:
    waiting = replace(GOOD, round=replace(GOOD.round, phase=Phase.PROPOSED), attestations=())
    assert verify_task([waiting]) == []


def test_all_findings_are_returned() -> None:
    record = replace(GOOD.records[0].record, examples=1000, code=digest("other"))
    evidence = replace(
        GOOD,
        records=(replace(GOOD.records[0], record=record), GOOD.records[1]),
        versions=((replace(version(NORTH), profile=0),), GOOD.versions[1]),
        disputants=WITNESS_ADDRESSES[:1],
        attestations=(),
    )
    steps = [finding.step for finding in verify_task([evidence])]
    assert steps == [RECORDS, DATA_SETS, DATA_SETS, WITNESSES, WITNESSES]


def test_a_report_says_which_steps_were_run_and_failed() -> None:
    finding = Finding(WITNESSES, "round 2", "a", "b", "c")
    report = AuditReport.of([finding], [RECORDS, WITNESSES])
    assert not report.ok
    states = {step.number: step.ok for step in report.steps}
    assert states == dict.fromkeys(TITLES) | {RECORDS: True, WITNESSES: False}
    assert report.to_dict()["findings"] == (finding.to_dict(),)
    assert AuditReport.of([], TITLES).ok


def test_reports_together_have_every_finding_and_each_step_that_one_of_them_ran() -> None:
    finding = Finding(WITNESSES, "round 2", "a", "b", "c")
    together = AuditReport.together(
        [AuditReport.of([finding], [WITNESSES]), AuditReport.of([], [RECORDS])]
    )
    assert together == AuditReport.of([finding], [RECORDS, WITNESSES])


@pytest.mark.parametrize(
    "untouched",
    [with_record, with_event, with_version, with_round, with_terms, with_proposal],
)
def test_the_ways_of_lying_above_change_nothing_by_themselves(
    untouched: Callable[[], RoundEvidence],
) -> None:
    assert verify_task([untouched()]) == []
    assert verify_task([with_verdicts(*GOOD.verdicts)]) == []
