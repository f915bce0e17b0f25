"""The access log on disk: numbered without a gap, never shorter, caught when it was changed."""

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from pathlib import Path

import pytest
from eth_account import Account

from chain.errors import ContractRevertedError, InvalidInputError, VerificationError
from chain.look_receipts import request_digest, verify_receipt
from chain.looks import looks_root
from chain.rpc import Head
from chain.sending import Receipt
from chain.types import AnchoredBatch, LogPosition
from node.look_anchors import Pace, anchor_waiting, check_against_ledger, prove
from node.look_log import RECORD, LookLog, LookLogError, LookWriter, Sight

ROOT = Path(__file__).resolve().parents[2]
HOSPITAL = Account.from_key(b"\x01" * 32)
RESEARCHER = Account.from_key(b"\x03" * 32).address
ACCESS_LOGS = Account.from_key(b"\x02" * 32).address
CHAIN = 31337
NOW = 1_800_000_000
SIGHT = Sight(RESEARCHER, b"\x7c" * 32, b"\xda" * 32, b"\x1a" * 32)


@dataclass
class Ledger:
    """Takes batches as the contract does."""

    time: int = NOW
    batches: list[AnchoredBatch] = field(default_factory=list)
    is_lossy: bool = False  # the transaction comes through, and its answer does not

    def head(self) -> Head:
        return Head(1, bytes(32), self.time)

    def anchored(self, hospital: str) -> tuple[int, int]:
        assert hospital == HOSPITAL.address
        return len(self.batches), sum(one.entries for one in self.batches)

    def anchored_batches(self, hospital: str | None = None) -> tuple[AnchoredBatch, ...]:
        assert hospital == HOSPITAL.address
        return tuple(self.batches)

    def anchor_looks(self, root: bytes, first: int, entries: int) -> Receipt:
        _, had = self.anchored(HOSPITAL.address)
        if first != had:
            raise ContractRevertedError("AccessLogsOutOfOrder", {"expected": had, "found": first})
        number = len(self.batches) + 1
        position = LogPosition(number, 0, bytes(32))
        batch = AnchoredBatch(HOSPITAL.address, number, root, first, entries, position)
        self.batches.append(batch)
        if self.is_lossy:
            self.is_lossy = False
            raise ContractRevertedError("AccessLogsOutOfOrder", {})
        return Receipt(bytes(32), number, 60_000)


@pytest.fixture
def log(tmp_path: Path) -> LookLog:
    return LookLog.beside(tmp_path, CHAIN, ACCESS_LOGS, HOSPITAL.address)


@pytest.fixture
def writer(log: LookLog) -> Iterator[LookWriter]:
    opened = LookWriter(log, HOSPITAL)
    yield opened
    opened.close()


def look(writer: LookWriter, count: int = 1, time: int = NOW) -> None:
    writer.append([SIGHT] * count, time, "GET", "/dicomweb/studies/1.2")


def test_looks_are_numbered_on_the_disk_and_signed_for(log: LookLog, writer: LookWriter) -> None:
    first = writer.append([SIGHT, SIGHT], NOW, "GET", "/dicomweb/studies/1.2?x=y")
    (third,) = writer.append([replace(SIGHT, image=b"\x2b" * 32)], NOW + 1, "GET", "/")
    assert [one.look.number for one in (*first, third)] == [0, 1, 2]
    assert log.read(0, 3) == (*first, third)
    assert len(log) == 3
    for one in first:
        verify_receipt(one)
        expected = request_digest(one.salt, "GET", "/dicomweb/studies/1.2?x=y")
        assert one.look.request == expected
    assert first[0].salt != first[1].salt
    assert oct(log.path.stat().st_mode & 0o777) == "0o600"


def test_a_record_is_on_the_disk_before_its_receipt_is_out(
    writer: LookWriter, monkeypatch: pytest.MonkeyPatch
) -> None:
    synced: list[int] = []
    monkeypatch.setattr(
        "node.look_log.os.fsync", lambda file: synced.append(os.fstat(file).st_size)
    )
    look(writer, 2)
    assert synced == [2 * RECORD]


def test_looks_at_the_same_time_have_different_numbers(log: LookLog, writer: LookWriter) -> None:
    with ThreadPoolExecutor(8) as pool:
        told = list(pool.map(lambda _: writer.append([SIGHT], NOW, "GET", "/"), range(24)))
    assert sorted(one.look.number for (one,) in told) == list(range(24))
    log.check()


def test_a_killed_gateway_has_logged_what_it_gave_a_receipt_for(log: LookLog) -> None:
    code = (
        "import os, signal, sys\n"
        "from pathlib import Path\n"
        "from eth_account import Account\n"
        "from node.look_log import *\n"
        "a = Account.from_key(b'\\x01' * 32)\n"
        f"w = LookWriter(LookLog(Path(sys.argv[1]), {CHAIN}, {ACCESS_LOGS!r}, a.address), a)\n"
        f"(r,) = w.append([Sight({RESEARCHER!r}, *[b'x' * 32] * 3)], {NOW}, 'GET', '/')\n"
        "print(r.signature.hex(), flush=True)\n"
        "os.kill(os.getpid(), signal.SIGKILL)\n"
    )
    for number in range(2):
        done = subprocess.run(
            (sys.executable, "-c", code, str(log.path)),
            cwd=ROOT,
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == -signal.SIGKILL, done.stderr
        (found,) = log.read(number, 1)
        assert found.signature.hex() == done.stdout.strip()
        assert len(log) == number + 1


@pytest.mark.parametrize("left", [b"\x01" * 40, bytes(RECORD), bytes(RECORD + 40), b"\x01" * 287])
def test_what_a_crash_left_of_a_record_is_cut_off(log: LookLog, left: bytes) -> None:
    writer = LookWriter(log, HOSPITAL)
    look(writer, 2)
    writer.close()
    whole = log.path.read_bytes()
    log.path.write_bytes(whole + left)
    writer = LookWriter(log, HOSPITAL)
    assert log.path.read_bytes() == whole
    (third,) = writer.append([SIGHT], NOW, "GET", "/")
    assert third.look.number == 2
    writer.close()


@pytest.mark.parametrize("place", [0, 25, RECORD - 1, RECORD + 3, 2 * RECORD - 1])
def test_a_changed_record_stops_the_gateway(log: LookLog, place: int) -> None:
    writer = LookWriter(log, HOSPITAL)
    look(writer, 2)
    writer.close()
    raw = bytearray(log.path.read_bytes())
    raw[place] ^= 1
    log.path.write_bytes(raw)
    with pytest.raises(LookLogError, match="not what was written"):
        LookWriter(log, HOSPITAL)
    assert log.path.read_bytes() == raw


def test_a_log_with_exchanged_records_stops_the_gateway(log: LookLog) -> None:
    writer = LookWriter(log, HOSPITAL)
    look(writer, 2)
    writer.close()
    raw = log.path.read_bytes()
    log.path.write_bytes(raw[RECORD:] + raw[:RECORD])
    with pytest.raises(LookLogError, match="record 0"):
        LookWriter(log, HOSPITAL)


def test_one_gateway_writes_at_a_time(log: LookLog, writer: LookWriter) -> None:
    assert writer.log is log
    with pytest.raises(InvalidInputError, match="another gateway"):
        LookWriter(log, HOSPITAL)


def test_nothing_is_shown_once_the_log_cannot_be_written(
    writer: LookWriter, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(_: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("node.look_log.os.fsync", full)
    with pytest.raises(LookLogError, match="No space left"):
        look(writer)
    monkeypatch.undo()
    with pytest.raises(LookLogError, match="anew"):
        look(writer)


def test_looks_are_anchored_by_number_and_by_age(log: LookLog, writer: LookWriter) -> None:
    ledger, pace = Ledger(), Pace(batch=3, age=100)
    assert anchor_waiting(log, ledger, pace) == ()
    look(writer, 2)
    assert anchor_waiting(log, ledger, pace) == ()
    look(writer, 5)
    assert anchor_waiting(log, ledger, pace) == ((0, 3), (3, 3))
    ledger.time = NOW + 100
    steps: list[tuple[int, int]] = []
    told = anchor_waiting(log, ledger, pace, on_progress=lambda *step: steps.append(step))
    assert told == ((6, 1),)
    assert steps == [(6, 7), (7, 7)]
    assert anchor_waiting(log, ledger, pace, now=True) == ()
    for number in range(7):
        shown = prove(log, ledger, number)
        assert shown.anchor is not None
        assert shown.look.number == number
        verify_receipt(shown)
    look(writer)
    assert prove(log, ledger, 7).anchor is None
    with pytest.raises(InvalidInputError, match="from 0 to 7, found 8"):
        prove(log, ledger, 8)


def test_looks_are_on_the_disk_before_they_are_anchored(
    log: LookLog, writer: LookWriter, monkeypatch: pytest.MonkeyPatch
) -> None:
    ledger = Ledger()
    look(writer, 2)
    seen: list[int] = []
    monkeypatch.setattr(LookLog, "sync", lambda _: seen.append(len(ledger.batches)))
    anchor_waiting(log, ledger, now=True)
    assert seen == [0]
    assert len(ledger.batches) == 1


def test_a_batch_whose_answer_got_lost_is_not_anchored_twice(
    log: LookLog, writer: LookWriter
) -> None:
    ledger = Ledger(is_lossy=True)
    look(writer, 3)
    assert anchor_waiting(log, ledger, now=True) == ()
    look(writer, 1)
    assert anchor_waiting(log, ledger, now=True) == ((3, 1),)
    assert [(one.first, one.entries) for one in ledger.batches] == [(0, 3), (3, 1)]
    expected = looks_root([one.look for one in log.read(0, 3)])
    assert ledger.batches[0].root == expected


def test_a_log_that_is_shorter_than_what_is_anchored_stops_everything(
    log: LookLog, writer: LookWriter
) -> None:
    ledger = Ledger()
    look(writer, 3)
    anchor_waiting(log, ledger, now=True)
    check_against_ledger(log, ledger)
    os.truncate(log.path, 2 * RECORD)
    with pytest.raises(LookLogError, match="3 looks that are anchored, found 2"):
        check_against_ledger(log, ledger)
    with pytest.raises(LookLogError, match="3 looks that are anchored, found 2"):
        anchor_waiting(log, ledger, now=True)


def test_a_log_that_was_written_anew_is_not_what_was_anchored(
    log: LookLog, writer: LookWriter
) -> None:
    ledger = Ledger()
    look(writer, 3)
    anchor_waiting(log, ledger, now=True)
    writer.close()
    log.path.unlink()
    again = LookWriter(log, HOSPITAL)
    look(again, 3)
    with pytest.raises(LookLogError, match="not those that were anchored"):
        check_against_ledger(log, ledger)
    with pytest.raises(LookLogError, match="not those that were anchored"):
        prove(log, ledger, 1)
    again.close()


def test_a_receipt_with_another_salt_or_signature_is_no_receipt(writer: LookWriter) -> None:
    (receipt,) = writer.append([SIGHT], NOW, "GET", "/a")
    assert receipt.look.request != request_digest(bytes(32), "GET", "/a")
    with pytest.raises(VerificationError):
        verify_receipt(replace(receipt, signature=bytes(65)))
    with pytest.raises(VerificationError, match="expected a signature of"):
        verify_receipt(replace(receipt, look=replace(receipt.look, number=1)))
