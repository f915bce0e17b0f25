"""Values survive JSON, and JSON in any other form is refused by the member's name."""

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from chain.canonical import canonical_json
from chain.errors import InvalidInputError
from chain.types import (
    AccessGrant,
    DatasetState,
    DatasetVersion,
    LogPosition,
    Outcome,
    Participant,
    Phase,
    Proposal,
    Reason,
    RecordedUpdate,
    Role,
    Round,
    RoundTerms,
    UpdateRecord,
    Verdict,
)
from chain.wire import from_json_dict, to_json_dict

LEDGER = "0x5FbDB2315678afecb367f032d93F642f64180aa3"
HOSPITAL = "0x70997970C51812dc3A010C7d01b50e0d17dc79C8"
DIGEST = bytes(range(32))
POSITION = LogPosition(block=12, log_index=3, transaction=DIGEST)
RECORD = UpdateRecord(
    chain_id=31337,
    ledger=LEDGER,
    round=1 << 60,
    hospital=HOSPITAL,
    datasets=(DIGEST, bytes(32)),
    purpose=6,
    examples=120,
    base_model=DIGEST,
    update=DIGEST,
    blob=DIGEST,
    code=DIGEST,
)
TERMS = RoundTerms(
    task="lesion",
    purpose=6,
    base_model=DIGEST,
    base_blob=DIGEST,
    schema=DIGEST,
    rule='[{"name":"fed_avg","params":{}}]',
    min_updates=2,
    max_updates=5,
    quorum=2,
    deadline=1_900_000_000,
    witnesses=(LEDGER, HOSPITAL),
)
VERDICT = Verdict(HOSPITAL, Outcome.REJECTED, Reason.NOT_A_NUMBER, 2**64 - 1, 900_000, DIGEST)
ROUND = Round(
    number=1,
    phase=Phase.PROPOSED,
    terms=TERMS,
    aggregator=HOSPITAL,
    opened_at=POSITION,
    updates=2,
    attestations=1,
    disputed=False,
    proposal=Proposal(1, DIGEST, DIGEST, DIGEST),
)
VALUES: list[Any] = [
    RECORD,
    TERMS,
    VERDICT,
    ROUND,
    RecordedUpdate(RECORD, DIGEST, POSITION),
    Participant(
        HOSPITAL, frozenset({Role.HOSPITAL, Role.AUDITOR}), DIGEST, "North", suspended=True
    ),
    DatasetVersion(
        version=DIGEST,
        dataset=DIGEST,
        hospital=HOSPITAL,
        state=DatasetState.ACTIVE,
        merkle_root=DIGEST,
        images=3,
        modality="MR",
        purposes=frozenset({42, 6}),
        profile=1,
        attestation=DIGEST,
        previous=bytes(32),
    ),
    AccessGrant(
        grant=DIGEST,
        version=DIGEST,
        image=None,
        hospital=HOSPITAL,
        researcher=LEDGER,
        purpose=6,
        expiry=1_900_000_000,
        revoked=False,
        live=True,
    ),
]


@pytest.mark.parametrize("value", VALUES, ids=lambda value: type(value).__name__)
def test_a_value_survives_json(value: Any) -> None:
    text = canonical_json(to_json_dict(value))
    assert from_json_dict(type(value), json.loads(text)) == value


@given(st.integers(0, 2**256 - 1))
def test_every_u256_survives_json(number: int) -> None:
    position = LogPosition(number, 0, DIGEST)
    assert (
        from_json_dict(LogPosition, json.loads(canonical_json(to_json_dict(position)))) == position
    )


def test_the_form_is_the_documented_one() -> None:
    members = to_json_dict(VERDICT)
    assert members == {
        "hospital": HOSPITAL,
        "outcome": "REJECTED",
        "reason": "NOT_A_NUMBER",
        "score": "18446744073709551615",
        "threshold": 900_000,
        "content": "0x" + DIGEST.hex(),
    }
    assert to_json_dict(VALUES[5])["roles"] == ["AUDITOR", "HOSPITAL"]
    assert to_json_dict(VALUES[6])["purposes"] == [6, 42]


@pytest.mark.parametrize(
    ("kind", "name", "value"),
    [
        (UpdateRecord, "hospital", HOSPITAL.lower()),
        (UpdateRecord, "hospital", None),
        (UpdateRecord, "ledger", "0x00"),
        (UpdateRecord, "update", DIGEST.hex()),
        (UpdateRecord, "update", "0x" + DIGEST.hex().upper()),
        (UpdateRecord, "update", "0x" + DIGEST.hex() + "00"),
        (UpdateRecord, "examples", -1),
        (UpdateRecord, "examples", True),
        (UpdateRecord, "examples", 1.0),
        (UpdateRecord, "examples", "120"),
        (UpdateRecord, "examples", 1 << 60),
        (UpdateRecord, "round", str(1 << 256)),
        (UpdateRecord, "datasets", "0x" + DIGEST.hex()),
        (UpdateRecord, "datasets", [1]),
        (UpdateRecord, "datasets", ["0x" + DIGEST.hex()] * 5000),
        (RoundTerms, "task", 7),
        (RoundTerms, "rule", "x" * 5000),
        (RoundTerms, "witnesses", [HOSPITAL.lower()]),
        (Verdict, "outcome", 2),
        (Verdict, "reason", "BECAUSE"),
        (Round, "disputed", 0),
        (Round, "proposal", 1),
        (Round, "terms", {}),
    ],
)
def test_a_member_in_another_form_is_refused(kind: type, name: str, value: object) -> None:
    members = to_json_dict(next(each for each in VALUES if type(each) is kind))
    with pytest.raises(InvalidInputError, match="expected"):
        from_json_dict(kind, members | {name: value})


def test_missing_and_unknown_members_are_refused() -> None:
    members = to_json_dict(VERDICT)
    with pytest.raises(InvalidInputError, match="expected the members"):
        from_json_dict(Verdict, members | {"comment": "x"})
    del members["reason"]
    with pytest.raises(InvalidInputError, match="expected the members"):
        from_json_dict(Verdict, members)
    with pytest.raises(InvalidInputError, match="found list"):
        from_json_dict(Verdict, [])
