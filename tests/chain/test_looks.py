from dataclasses import replace
from typing import Any

import pytest
from eth_account import Account

from chain.errors import InclusionProofError, InvalidInputError, VerificationError
from chain.looks import (
    look_leaf,
    looks_root,
    prove_look,
    recover_look_signer,
    sign_look,
    verify_look,
)
from chain.types import Look

HOSPITAL = Account.from_key(b"\x01" * 32)
ACCESS_LOGS = Account.from_key(b"\x02" * 32).address
CHAIN = 31337
LOOK = Look(
    hospital=HOSPITAL.address,
    number=40,
    researcher=Account.from_key(b"\x03" * 32).address,
    grant=b"\x7c" * 32,
    version=b"\xda" * 32,
    image=b"\x1a" * 32,
    time=1_800_000_000,
    request=b"\x4e" * 32,
)
LOOKS = [replace(LOOK, number=LOOK.number + i, time=LOOK.time + i) for i in range(5)]
CHANGES: list[dict[str, Any]] = [
    {"hospital": ACCESS_LOGS},
    {"number": 41},
    {"researcher": ACCESS_LOGS},
    {"grant": bytes(32)},
    {"version": bytes(32)},
    {"image": bytes(32)},
    {"time": 1},
    {"request": bytes(32)},
]


def test_each_look_of_a_batch_is_proved() -> None:
    root = looks_root(LOOKS)
    for place, look in enumerate(LOOKS):
        shown = prove_look(LOOKS, place, batch=3)
        assert (shown.look, shown.batch) == (look, 3)
        verify_look(shown, root, LOOK.number, len(LOOKS))


@pytest.mark.parametrize("change", CHANGES, ids=lambda change: next(iter(change)))
def test_another_look_has_no_proof(change: dict[str, Any]) -> None:
    root = looks_root(LOOKS)
    shown = prove_look(LOOKS, 0, batch=1)
    with pytest.raises(InclusionProofError):
        verify_look(replace(shown, look=replace(LOOK, **change)), root, LOOK.number, len(LOOKS))


def test_a_look_is_in_no_batch_of_other_numbers() -> None:
    shown = prove_look(LOOKS, 0, batch=1)
    with pytest.raises(InclusionProofError, match="expected a look from 41 to 45, found 40"):
        verify_look(shown, looks_root(LOOKS), 41, 5)


@pytest.mark.parametrize(
    ("looks", "told"),
    [
        ([], "found 0"),
        ([LOOKS[0], LOOKS[2]], "expected look 41"),
        ([LOOKS[0], LOOKS[0]], "expected look 41"),
        ([LOOKS[0], replace(LOOKS[1], hospital=ACCESS_LOGS)], f"found 41 of {ACCESS_LOGS}"),
    ],
)
def test_a_batch_is_one_hospitals_without_a_gap(looks: list[Look], told: str) -> None:
    with pytest.raises(InvalidInputError, match=told):
        looks_root(looks)


@pytest.mark.parametrize("change", CHANGES, ids=lambda change: next(iter(change)))
def test_a_receipt_binds_every_field(change: dict[str, Any]) -> None:
    receipt = sign_look(CHAIN, ACCESS_LOGS, LOOK, HOSPITAL)
    assert recover_look_signer(CHAIN, ACCESS_LOGS, LOOK, receipt) == HOSPITAL.address
    other = replace(LOOK, **change)
    assert look_leaf(other) != look_leaf(LOOK)
    assert recover_look_signer(CHAIN, ACCESS_LOGS, other, receipt) != HOSPITAL.address


def test_a_receipt_is_for_one_chain_and_one_log() -> None:
    receipt = sign_look(CHAIN, ACCESS_LOGS, LOOK, HOSPITAL)
    assert recover_look_signer(1, ACCESS_LOGS, LOOK, receipt) != HOSPITAL.address
    assert recover_look_signer(CHAIN, HOSPITAL.address, LOOK, receipt) != HOSPITAL.address
    with pytest.raises(VerificationError):
        recover_look_signer(CHAIN, ACCESS_LOGS, LOOK, b"")
