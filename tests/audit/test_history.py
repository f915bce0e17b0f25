"""How things stood when a record was made, whatever number of logs and records there is."""

import time
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import pytest

from audit.history import RegistryHistory
from chain.events import LedgerEvent
from chain.membership import ROLE_IDS
from chain.types import DatasetState, LogPosition, Role

HOSPITAL = "0x0000000000000000000000000000000000000001"
VERSION = b"\5" * 32
TERMS = {
    "name": "x-ray",
    "merkleRoot": b"\1" * 32,
    "images": 5,
    "modality": b"CT" + bytes(14),
    "purposes": 0b10,
    "profile": 1,
    "attestation": bytes(32),
    "previous": bytes(32),
}
MANY = 3_000


def at(place: int) -> LogPosition:
    return LogPosition(1, place, b"")


def history(contract: str, *logs: tuple[str, dict[str, Any]]) -> RegistryHistory:
    """Give the history of logs that follow one another, the first at place 0."""
    return RegistryHistory(
        LedgerEvent(name, args, at(place), contract, 0) for place, (name, args) in enumerate(logs)
    )


def of_party(name: str, role: Role | None = None) -> tuple[str, dict[str, Any]]:
    return name, {"account": HOSPITAL} | ({"role": ROLE_IDS[role]} if role else {})


def of_version(name: str, **args: object) -> tuple[str, dict[str, Any]]:
    return name, {"version": VERSION, **args}


REGISTERED = of_version("VersionRegistered", dataset=VERSION, hospital=HOSPITAL, terms=TERMS)


@pytest.mark.parametrize(
    ("logs", "active"),
    [
        ([], []),
        ([of_party("RoleGranted", Role.HOSPITAL)], [True]),
        ([of_party("RoleGranted", Role.WITNESS)], [False]),
        (
            [
                of_party("RoleGranted", Role.HOSPITAL),
                of_party("ParticipantEnrolled", Role.WITNESS),
                of_party("RoleRevoked", Role.WITNESS),
                of_party("ParticipantSuspended"),
                of_party("ParticipantReinstated"),
                of_party("RoleRevoked", Role.HOSPITAL),
            ],
            [True, True, True, False, True, False],
        ),
        ([of_party("ParticipantSuspended"), of_party("RoleGranted", Role.HOSPITAL)], [False] * 2),
    ],
)
def test_a_hospital_is_active_as_its_logs_say_before_a_place(
    logs: Sequence[tuple[str, dict[str, Any]]], active: Sequence[bool]
) -> None:
    found = history("ParticipantRegistry", *logs)
    places = range(len(logs) + 1)
    assert [found.is_active_hospital(HOSPITAL, at(place)) for place in places] == [False, *active]


def test_a_version_is_given_as_it_stood_before_a_place() -> None:
    found = history(
        "DatasetRegistry",
        of_version("VersionWithdrawn", reason="of nothing"),
        REGISTERED,
        of_version("PurposesChanged", purposes=0b101),
        of_version("VersionSuperseded", successor=bytes(32)),
        of_version("VersionWithdrawn", reason="asked for"),
    )
    stood = [found.version(VERSION, at(place)) for place in range(1, 6)]
    active = stood[1]
    assert active is not None
    assert (active.state, active.modality, active.images) == (DatasetState.ACTIVE, "CT", 5)
    permitted = replace(active, purposes=frozenset({0, 2}))
    assert stood == [
        None,
        active,
        permitted,
        replace(permitted, state=DatasetState.SUPERSEDED),
        replace(permitted, state=DatasetState.WITHDRAWN),
    ]
    assert found.version(bytes(32), at(9)) is None


def test_many_looks_at_a_version_that_changed_often_take_no_product_of_time() -> None:
    changed = [of_version("PurposesChanged", purposes=bits) for bits in range(MANY)]
    began = time.perf_counter()
    found = history("DatasetRegistry", REGISTERED, *changed)
    looks = [found.version(VERSION, at(MANY + 1)) for _ in range(MANY)]
    assert time.perf_counter() - began < 3
    # Nor memory for each: a record may name one version a hundred thousand times.
    assert len({id(one) for one in looks}) == 1


def test_many_looks_at_a_party_that_changed_often_take_no_product_of_time() -> None:
    changed = [of_party("RoleGranted", Role.HOSPITAL)] * MANY
    began = time.perf_counter()
    found = history("ParticipantRegistry", *changed)
    assert all(found.is_active_hospital(HOSPITAL, at(MANY)) for _ in range(MANY))
    assert time.perf_counter() - began < 3
