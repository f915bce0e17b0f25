"""Receipts against what a hospital anchored: whatever it hides is a finding."""

import base64
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import pytest
from eth_account import Account

from chain.errors import InvalidInputError
from chain.look_receipts import (
    DAY,
    Fault,
    LookAnchor,
    LookReceipt,
    from_header,
    from_json,
    issue_receipt,
    judge,
    read_receipt,
    to_header,
    to_json,
    to_short_header,
    write_receipt,
)
from chain.looks import looks_root, prove_look
from chain.rpc import Head
from chain.types import AnchoredBatch, LogPosition, Look

HOSPITAL = Account.from_key(b"\x01" * 32)
ACCESS_LOGS = Account.from_key(b"\x02" * 32).address
CHAIN = 31337
NOW = 1_800_000_000


def receipt(number: int, image: bytes = b"\x1a" * 32, signer: bytes = b"\x01") -> LookReceipt:
    look = Look(
        hospital=HOSPITAL.address,
        number=number,
        researcher=Account.from_key(b"\x03" * 32).address,
        grant=b"\x7c" * 32,
        version=b"\xda" * 32,
        image=image,
        time=NOW,
        request=b"\x4e" * 32,
    )
    account = Account.from_key(signer * 32)
    return issue_receipt(CHAIN, ACCESS_LOGS, look, b"\x5a" * 32, account)


RECEIPTS = [receipt(number) for number in range(5)]
OTHER = receipt(3, image=b"\x2b" * 32)


@dataclass
class Ledger:
    """The ledger, after a hospital anchored these looks."""

    anchored_looks: tuple[LookReceipt, ...] = ()
    time: int = NOW + 60
    chain_id: int = CHAIN
    access_logs: str = ACCESS_LOGS

    def head(self) -> Head:
        return Head(1, bytes(32), self.time)

    def anchored_batches(self, hospital: str | None = None) -> tuple[AnchoredBatch, ...]:
        if not self.anchored_looks or hospital != HOSPITAL.address:
            return ()
        root = looks_root([one.look for one in self.anchored_looks])
        entries, position = len(self.anchored_looks), LogPosition(1, 0, bytes(32))
        return (AnchoredBatch(HOSPITAL.address, 1, root, 0, entries, position),)


def proof(anchored: tuple[LookReceipt, ...], place: int) -> LookReceipt:
    looks = [one.look for one in anchored]
    nodes = prove_look(looks, place, 1).proof
    anchor = LookAnchor(1, looks_root(looks), 0, len(looks), nodes)
    return replace(anchored[place], anchor=anchor)


def faults(*shown: LookReceipt, ledger: Ledger | None) -> list[Fault]:
    return [one.fault for one in judge(shown, ledger).findings]


def test_an_anchored_look_is_proven_with_and_without_the_chain() -> None:
    shown = [proof(tuple(RECEIPTS), place) for place in range(5)]
    for ledger in (None, Ledger(tuple(RECEIPTS))):
        found = judge([*shown, *RECEIPTS], ledger)
        assert (found.proven, found.pending, found.findings) == (5, 0, ())


def test_a_look_that_is_not_anchored_yet_waits_for_a_day() -> None:
    found = judge([RECEIPTS[3]], Ledger(time=NOW + DAY))
    assert (found.proven, found.pending, found.findings) == (0, 1, ())
    assert faults(RECEIPTS[3], ledger=Ledger(time=NOW + DAY + 1)) == [Fault.SHORT_LOG]
    shorter = Ledger(tuple(RECEIPTS[:3]), time=NOW + DAY + 1)
    assert faults(RECEIPTS[3], ledger=shorter) == [Fault.SHORT_LOG]


def test_a_hidden_look_is_caught_by_its_receipt_and_what_is_anchored_in_its_place() -> None:
    forged = (*RECEIPTS[:3], OTHER, RECEIPTS[4])
    found = faults(RECEIPTS[3], proof(forged, 3), ledger=Ledger(forged))
    assert found == [Fault.TWO_LOOKS, Fault.HIDDEN]
    assert faults(RECEIPTS[3], proof(forged, 3), ledger=None) == [Fault.TWO_LOOKS, Fault.HIDDEN]
    assert faults(RECEIPTS[3], ledger=Ledger(forged)) == [Fault.UNPROVEN]


def test_a_proof_of_the_receipt_in_a_batch_that_was_never_anchored_is_caught() -> None:
    forged = (*RECEIPTS[:3], OTHER, RECEIPTS[4])
    invented = proof(tuple(RECEIPTS), 3)
    assert faults(invented, ledger=Ledger(forged)) == [Fault.NOT_ON_LEDGER]
    assert faults(invented, ledger=Ledger()) == [Fault.NOT_ON_LEDGER]
    assert invented.anchor is not None
    longer = replace(invented, anchor=replace(invented.anchor, entries=6))
    assert faults(longer, ledger=Ledger(tuple(RECEIPTS))) == [Fault.NOT_ON_LEDGER]


CHANGES: list[tuple[Fault, Callable[[LookReceipt], LookReceipt]]] = [
    (Fault.NOT_SIGNED, lambda one: replace(one, look=replace(one.look, image=bytes(32)))),
    (Fault.NOT_SIGNED, lambda one: replace(one, look=replace(one.look, hospital=ACCESS_LOGS))),
    (Fault.NOT_SIGNED, lambda one: replace(one, signature=bytes(65))),
    (Fault.NOT_SIGNED, lambda _: receipt(3, signer=b"\x02")),
    (Fault.ANOTHER_LOG, lambda one: replace(one, chain_id=1)),
    (Fault.ANOTHER_LOG, lambda one: replace(one, access_logs=HOSPITAL.address)),
    (Fault.BAD_PROOF, lambda one: replace(one, anchor=_with(one, proof=()))),
    (Fault.BAD_PROOF, lambda one: replace(one, anchor=_with(one, root=bytes(32)))),
    (Fault.BAD_PROOF, lambda one: replace(one, anchor=_with(one, first=4))),
    (Fault.BAD_PROOF, lambda one: replace(one, anchor=_with(one, proof=(b"\x00" * 32,) * 65))),
]


def _with(one: LookReceipt, **changes: object) -> LookAnchor:
    assert one.anchor is not None
    return replace(one.anchor, **changes)  # type: ignore[arg-type]


@pytest.mark.parametrize(("fault", "change"), CHANGES)
def test_whatever_is_changed_of_a_proof_is_a_finding(
    fault: Fault, change: Callable[[LookReceipt], LookReceipt]
) -> None:
    shown = change(proof(tuple(RECEIPTS), 3))
    assert faults(shown, ledger=Ledger(tuple(RECEIPTS))) == [fault]


def test_a_receipt_is_read_as_it_was_written(tmp_path: Path) -> None:
    for one in (RECEIPTS[0], proof(tuple(RECEIPTS), 2)):
        write_receipt(tmp_path / "look.json", one)
        assert read_receipt(tmp_path / "look.json") == one
        assert from_header(to_header(one)) == one
    short = to_short_header(RECEIPTS[0])
    assert len(short) == 412
    assert from_header(short) == RECEIPTS[0]
    # As somebody saves it who knows nothing of its form.
    (tmp_path / "short").write_bytes(base64.urlsafe_b64decode(short))
    assert read_receipt(tmp_path / "short") == RECEIPTS[0]


@pytest.mark.parametrize(
    "raw",
    [
        b"",
        b"[]",
        b"{}",
        b'{"a":' * 3000,
        to_json(RECEIPTS[0]).replace(b'"number":0', b'"number":"18446744073709551616"'),
        to_json(RECEIPTS[0]).replace(b'"number":0', b'"number":-1'),
        to_json(RECEIPTS[0]).replace(b'"chain_id":31337', b'"chain_id":true'),
        to_json(RECEIPTS[0]).replace(b'"signature":"0x', b'"signature":"0y'),
        to_json(RECEIPTS[0]).replace(b'"anchor":null', b'"anchor":{}'),
        to_json(RECEIPTS[0]) + b" " * 20_000,
    ],
)
def test_what_is_no_receipt_is_refused(raw: bytes) -> None:
    with pytest.raises(InvalidInputError):
        from_json(raw)


def test_a_header_that_is_no_receipt_is_refused() -> None:
    for value in ("", "%%%", "e30", "ä", to_short_header(RECEIPTS[0])[:-4]):
        with pytest.raises(InvalidInputError):
            from_header(value)
