"""Evidence of a dispute names the first step that differs, and is read as a stranger's words."""

import json
from dataclasses import replace
from typing import Any

import pytest

from audit.evidence import (
    MAX_EVIDENCE,
    VERSION,
    Evidence,
    Inputs,
    KnownModel,
    RecordInput,
    ReplayStep,
    first_difference,
    known_model,
    parse_evidence,
)
from audit.verify import REPLAY, Finding
from chain.canonical import canonical_json
from chain.errors import InvalidInputError
from chain.types import (
    LogPosition,
    Outcome,
    Phase,
    Proposal,
    Reason,
    Round,
    RoundTerms,
    Verdict,
)
from tests.federation import digest

HOSPITAL = "0x5FbDB2315678afecb367f032d93F642f64180aa3"
ACCEPTED = Verdict(HOSPITAL, Outcome.ACCEPTED, Reason.NONE, 3, 500_000, digest("content"))
EVIDENCE = Evidence(
    version=VERSION,
    chain_id=31337,
    ledger=HOSPITAL,
    round=2,
    proposal=Proposal(1, digest("wrong"), digest("blob"), digest("root")),
    step=ReplayStep.SCREENS_AND_RULE,
    inputs=Inputs(
        digest("base"),
        digest("base blob"),
        '[{"name":"fed_avg","params":{}}]',
        (RecordInput(HOSPITAL, digest("update"), digest("envelope"), 7, digest("content")),),
    ),
    known_as=KnownModel(1, is_base=True),
    model=digest("model"),
    verdicts_root=digest("own root"),
    verdicts=(replace(ACCEPTED, threshold=1 << 60),),
    findings=(Finding(REPLAY, "round 2", "one", "other", "they differ"),),
)


def test_what_is_written_is_read_again() -> None:
    assert parse_evidence(EVIDENCE.to_json()) == EVIDENCE
    without = replace(EVIDENCE, known_as=None)
    assert parse_evidence(without.to_json()) == without


def test_the_form_is_the_protocols() -> None:
    members = json.loads(EVIDENCE.to_json())
    assert members["step"] == "screens_and_rule"
    assert members["known_as"] == {"round": 1, "is_base": True}
    assert set(members["inputs"]) == {"base_model", "base_blob", "pipeline", "records"}
    assert set(members["inputs"]["records"][0]) == {
        "hospital",
        "update",
        "blob",
        "examples",
        "content",
    }


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"version": 2}, "version 1, found 2"),
        ({"version": None}, "version 1, found None"),
        ({"step": "BASE_MODEL"}, "step: expected one of base_model"),
        ({"step": ["admission"]}, "step: expected one of base_model"),
        ({"ledger": "0x00"}, "ledger: expected a checksummed address"),
        ({"model": "0x00"}, "model: expected 0x and 64"),
        ({"round": -1}, "round: expected an integer"),
        ({"round": 1.5}, "round: expected an integer"),
        ({"verdicts": "none"}, "verdicts: expected a list"),
        ({"findings": [{}]}, "Finding: expected the members"),
        ({"known_as": {"round": 1}}, "KnownModel: expected the members"),
        ({"more": 1}, "Evidence: expected the members"),
    ],
)
def test_evidence_of_another_form_is_refused(changes: dict[str, Any], told: str) -> None:
    members = EVIDENCE.to_dict() | changes
    with pytest.raises(InvalidInputError, match=told):
        parse_evidence(json.dumps(members).encode())


@pytest.mark.parametrize("data", [b"", b"[]", b"\xff", b'{"version":1,"version":1}', b"[" * 9_999])
def test_what_is_no_evidence_at_all_is_refused(data: bytes) -> None:
    with pytest.raises(InvalidInputError):
        parse_evidence(data)


def test_evidence_beyond_the_bound_is_refused() -> None:
    with pytest.raises(InvalidInputError, match=f"at most {MAX_EVIDENCE} bytes"):
        parse_evidence(canonical_json("x" * MAX_EVIDENCE))


def test_a_nodes_endless_words_are_shortened_to_what_readers_take() -> None:
    endless = Finding(REPLAY, "round 2", "a model", "x" * 100_000, "it cannot be had")
    written = replace(EVIDENCE, findings=(endless,)).to_json()
    assert parse_evidence(written).findings[0].found == "x" * 4_096


def rejected(reason: Reason, content: bytes = ACCEPTED.content) -> Verdict:
    return Verdict(HOSPITAL, Outcome.REJECTED, reason, 0, 0, content)


@pytest.mark.parametrize(
    ("stated", "step"),
    [
        (None, ReplayStep.ADMISSION),
        (replace(ACCEPTED, content=digest("other")), ReplayStep.ADMISSION),
        (rejected(Reason.BLOB_UNAVAILABLE, bytes(32)), ReplayStep.ADMISSION),
        (rejected(Reason.REPLAYED_UPDATE), ReplayStep.ADMISSION),
        (rejected(Reason.QUARANTINED), ReplayStep.QUARANTINE),
        (rejected(Reason.NORM_OUT_OF_RANGE), ReplayStep.SCREENS_AND_RULE),
        (rejected(Reason.AGAINST_ROOT_UPDATE), ReplayStep.SCREENS_AND_RULE),
        (rejected(Reason.UNKNOWN), ReplayStep.SCREENS_AND_RULE),
        (replace(ACCEPTED, score=4), ReplayStep.SCREENS_AND_RULE),
        (replace(ACCEPTED, threshold=4), ReplayStep.SCREENS_AND_RULE),
        (ACCEPTED, ReplayStep.AGGREGATION),
    ],
)
def test_the_step_is_the_one_that_gives_the_verdict(
    stated: Verdict | None, step: ReplayStep
) -> None:
    theirs = () if stated is None else (stated,)
    assert first_difference(theirs, [ACCEPTED]) is step
    assert first_difference([ACCEPTED], theirs) is step


def test_of_several_differences_the_first_step_counts() -> None:
    other = replace(ACCEPTED, hospital="0x000000000000000000000000000000000000dEaD")
    stated = [replace(ACCEPTED, score=9), rejected(Reason.QUARANTINED)]
    stated[1] = replace(stated[1], hospital=other.hospital)
    assert first_difference(stated, [ACCEPTED, other]) is ReplayStep.QUARANTINE


def a_round(number: int, base: str, final: str | None) -> Round:
    terms = RoundTerms(
        "task", 6, digest(base), digest("blob"), digest("schema"), "[]", 1, 3, 1, 0, (HOSPITAL,)
    )
    proposal = Proposal(1, digest(final or "disputed"), digest("blob"), digest("root"))
    phase = Phase.ABORTED if final is None else Phase.FINAL
    position = LogPosition(number, 0, digest("transaction"))
    return Round(number, phase, terms, HOSPITAL, position, 3, 1, False, proposal)


@pytest.mark.parametrize(
    ("model", "known"),
    [
        ("first", KnownModel(0, is_base=False)),
        ("one", KnownModel(1, is_base=False)),
        ("two", KnownModel(3, is_base=True)),
        ("disputed", None),
        ("new", None),
    ],
)
def test_an_earlier_model_is_known(model: str, known: KnownModel | None) -> None:
    earlier = [a_round(1, "first", "one"), a_round(2, "one", None), a_round(3, "one", "two")]
    assert known_model(digest(model), a_round(4, "two", "new"), earlier) == known
