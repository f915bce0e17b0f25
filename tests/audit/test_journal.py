"""A journal keeps what it was given, whoever is killed when, and takes nothing else for one."""

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from audit import journal as journals
from audit.journal import HeadJournal, read_heads
from chain.errors import InvalidInputError
from chain.types import CosignedHead, LedgerHead
from tests.federation import digest, identity

CHAIN = 31337
LEDGER = identity("some ledger").address
OTHER_LEDGER = identity("another ledger").address
HEAD = LedgerHead(3, 90, digest("block"), 17, digest("history"))
COSIGNED = CosignedHead(HEAD, identity("witness-1").address, bytes(range(65)))


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "party" / "heads.jsonl"


def test_what_was_seen_is_read_back_in_its_order_and_once(path: Path) -> None:
    assert HeadJournal(path, CHAIN, LEDGER).heads == ()
    journal = HeadJournal(path, CHAIN, LEDGER)
    far = replace(HEAD, number=2**64 - 1)
    for one in (COSIGNED, HEAD, COSIGNED, far):
        journal.append(one)
    assert journal.heads == (COSIGNED, HEAD, far)
    assert HeadJournal(path, CHAIN, LEDGER).heads == journal.heads
    assert read_heads(path, CHAIN, LEDGER) == journal.heads
    assert len(path.read_bytes().splitlines()) == 3


@pytest.mark.parametrize("kept", [1, 40, -1])
def test_a_line_that_was_not_finished_counts_for_nothing(path: Path, kept: int) -> None:
    journal = HeadJournal(path, CHAIN, LEDGER)
    journal.append(HEAD)
    whole = path.read_bytes()
    journal.append(COSIGNED)
    path.write_bytes(whole + path.read_bytes()[len(whole) :][:kept])
    again = HeadJournal(path, CHAIN, LEDGER)
    assert again.heads == (HEAD,)
    assert read_heads(path, CHAIN, LEDGER) == (HEAD,)
    again.append(COSIGNED)
    assert HeadJournal(path, CHAIN, LEDGER).heads == (HEAD, COSIGNED)


def test_two_writers_do_not_harm_each_other(path: Path) -> None:
    one, other = HeadJournal(path, CHAIN, LEDGER), HeadJournal(path, CHAIN, LEDGER)
    one.append(HEAD)
    other.append(COSIGNED)
    one.append(replace(HEAD, round=4))
    assert HeadJournal(path, CHAIN, LEDGER).heads == (HEAD, COSIGNED, replace(HEAD, round=4))


def test_heads_of_other_ledgers_are_passed_over(path: Path) -> None:
    HeadJournal(path, CHAIN, OTHER_LEDGER).append(HEAD)
    HeadJournal(path, 1, LEDGER).append(HEAD)
    assert HeadJournal(path, CHAIN, LEDGER).heads == ()
    with pytest.raises(InvalidInputError, match="found none"):
        read_heads(path, CHAIN, LEDGER)
    assert read_heads(path, 1, LEDGER) == (HEAD,)


def test_a_file_that_is_not_there_is_told(path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        read_heads(path, CHAIN, LEDGER)


def _changed(**changes: Any) -> Callable[[dict[str, Any]], dict[str, Any]]:
    return lambda members: members | changes


def _with_head(**changes: Any) -> Callable[[dict[str, Any]], dict[str, Any]]:
    return lambda members: members | {"head": members["head"] | changes}


@pytest.mark.parametrize(
    "change",
    [
        _changed(more=1),
        _changed(chain_id="31337"),
        _changed(chain_id=True),
        _changed(ledger=LEDGER.lower()),
        _changed(head=None),
        _changed(witness=None),
        _changed(signature=None),
        _changed(signature="0x" + "zz" * 65),
        _changed(signature="0x" + "00" * 64),
        _with_head(number=-1),
        _with_head(number=str(2**64)),
        _with_head(blocks=str(2**64)),
        _with_head(hash="0x00"),
        _with_head(more=1),
    ],
)
def test_other_lines_are_refused_with_their_number(
    path: Path, change: Callable[[dict[str, Any]], dict[str, Any]]
) -> None:
    HeadJournal(path, CHAIN, LEDGER).append(COSIGNED)
    members = change(json.loads(path.read_bytes()))
    path.write_bytes(path.read_bytes() + json.dumps(members).encode() + b"\n")
    with pytest.raises(InvalidInputError, match=r"heads\.jsonl, line 2: "):
        HeadJournal(path, CHAIN, LEDGER)


@pytest.mark.parametrize("line", [b"\n", b"[]\n", b"{\n", b"\xff\n", b"null\n"])
def test_what_is_no_line_of_a_journal_is_refused(path: Path, line: bytes) -> None:
    path.parent.mkdir()
    path.write_bytes(line)
    with pytest.raises(InvalidInputError, match="line 1"):
        read_heads(path, CHAIN, LEDGER)


def test_an_endless_line_and_an_endless_file_are_refused(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path.parent.mkdir()
    path.write_bytes(b" " * 5000)
    with pytest.raises(InvalidInputError, match="at most 4096 bytes"):
        read_heads(path, CHAIN, LEDGER)
    monkeypatch.setattr(journals, "MAX_JOURNAL", 100)
    with pytest.raises(InvalidInputError, match="at most 100 bytes"):
        HeadJournal(path, CHAIN, LEDGER)
