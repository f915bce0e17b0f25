"""No signed transaction is lost, none counts twice, whatever the chain forgets."""

import os
import signal
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

import pytest

from chain import outbox as outbox_module
from chain import sending
from chain.devnet.anvil import start_anvil, stop_anvil
from chain.devnet.ports import free_port
from chain.devnet.process import remembered
from chain.errors import ContractRevertedError, LedgerError, RefusedRequestError
from chain.ledger import Ledger
from chain.outbox import Outbox, SignedTransaction
from chain.rpc import RawReceipt
from chain.types import Phase
from tests.federation import HOSPITALS, TASK, Federation, connect, digest, found_federation
from tests.waiting import PATIENCE_SECONDS, eventually

ACCOUNT = "0x" + "11" * 20


@contextmanager
def forgotten(federation: Federation) -> Iterator[None]:
    """Let the chain forget what happens within, as one does that is killed."""
    snapshot = federation.rpc("evm_snapshot")
    yield
    federation.rpc("evm_revert", snapshot)


def outbox_of(ledger: Ledger) -> Outbox:
    return ledger._sender.outbox


def resend_lost(ledger: Ledger) -> int:
    """Send again what the chain forgot, and wait until it is mined: sending does not."""
    resent = ledger.resend_lost()
    rpc, address = ledger._sender._rpc, ledger.account_address

    def mined() -> bool:
        counts = {rpc.transaction_count(address, block) for block in ("latest", "pending")}
        return len(counts) == 1

    eventually(mined)
    return resent


def signed(nonce: int) -> SignedTransaction:
    return SignedTransaction(nonce, digest(f"transaction {nonce}"), b"raw")


def test_after_kill_9_everything_is_sent_again(tmp_path: Path) -> None:
    port = free_port()
    rpc_url = start_anvil(tmp_path / "anvil", port)
    try:
        federation = found_federation(rpc_url, tmp_path / "outboxes")
        before = state_on_disk(federation, tmp_path / "anvil")
        number = federation.open_round()
        federation.record_all(number)
        records = federation.reader.records(number)

        kill_at_once(tmp_path / "anvil")
        # What anvil wrote in its last second is left to chance: go back to what is known.
        (tmp_path / "anvil" / "state.json").write_bytes(before)
        start_anvil(tmp_path / "anvil", port)

        restarted = connect(rpc_url, federation.deployment, tmp_path / "outboxes", {})
        assert restarted.reader.round_count() == 0
        # A hospital comes back before the aggregator whose round its record is for.
        assert resend_lost(restarted.ledgers[HOSPITALS[0]]) == 0
        assert resend_lost(restarted.ledgers["aggregator"]) == 1
        assert [resend_lost(restarted.ledgers[name]) for name in HOSPITALS] == [1, 1, 1]
        found = restarted.reader.records(number)
        assert [item.position.transaction for item in found] == [
            item.position.transaction for item in records
        ]
        assert [item.record for item in found] == [item.record for item in records]
    finally:
        stop_anvil(tmp_path / "anvil")


def state_on_disk(federation: Federation, folder: Path) -> bytes:
    """Wait until anvil has written its present state, and read it."""
    state, since = folder / "state.json", time.time()
    eventually(
        lambda: state.exists() and state.stat().st_mtime > since + 1.1,
        lambda: f"anvil wrote no state after block {federation.reader.head().number}",
    )
    stop_anvil(folder)
    content = state.read_bytes()
    start_anvil(folder, int(federation.rpc_url.rsplit(":", 1)[1]))
    return content


def kill_at_once(folder: Path) -> None:
    for name in ("keeper.pid", "anvil.pid"):
        process = remembered(folder / name)
        assert process is not None
        os.kill(process.pid, signal.SIGKILL)
        eventually(lambda name=name: remembered(folder / name) is None)  # type: ignore[misc]


def test_a_write_first_sends_again_what_was_lost(federation: Federation) -> None:
    aggregator = federation.ledgers["aggregator"]
    with forgotten(federation):
        number = federation.open_round()
    aggregator.set_encryption_key(digest("new key"))
    assert federation.reader.round(number).phase is Phase.OPEN


def test_what_the_chain_has_is_not_sent_again(federation: Federation) -> None:
    federation.open_round()
    assert resend_lost(federation.ledgers["aggregator"]) == 0
    assert federation.reader.round_count() == 1


def test_a_lost_transaction_that_is_refused_gives_way_and_comes_back(
    federation: Federation,
) -> None:
    hospital = federation.ledgers[HOSPITALS[0]]
    with forgotten(federation):
        number = federation.open_round()
        hospital.record_update(federation.record(HOSPITALS[0], number))
        hospital.set_encryption_key(digest("new key"))

    # Without the round the record is refused; the new key does not wait for it.
    assert resend_lost(hospital) == 1
    party = federation.reader.participant(hospital.account_address)
    assert party is not None
    assert party.encryption_key == digest("new key")
    (waiting,) = [e for e in outbox_of(hospital).entries() if e.refusal is not None]
    assert "RoundLedgerUnknownRound" in str(waiting.refusal)

    resend_lost(federation.ledgers["aggregator"])
    assert resend_lost(hospital) == 1
    assert federation.reader.round(number).updates == 1
    assert resend_lost(hospital) == 0


def test_a_lost_transaction_whose_nonce_is_taken_is_signed_anew(
    federation: Federation, tmp_path: Path
) -> None:
    with forgotten(federation):
        number = federation.open_round()
    outboxes = tmp_path / "another machine's outboxes"
    stranger = connect(federation.rpc_url, federation.deployment, outboxes, {})
    stranger.ledgers["aggregator"].set_encryption_key(digest("new key"))

    assert resend_lost(federation.ledgers["aggregator"]) == 1
    assert federation.reader.round(number).phase is Phase.OPEN
    assert federation.reader.active_round(TASK) is not None


def test_a_nonce_gap_does_not_block_the_account(federation: Federation) -> None:
    hospital = federation.ledgers[HOSPITALS[0]]
    with forgotten(federation):
        hospital.set_encryption_key(digest("forgotten here as well"))
        (first,) = outbox_of(hospital).entries()
        hospital.set_encryption_key(digest("last key"))
        outbox_of(hospital).remove(first.number)

    assert resend_lost(hospital) == 1
    party = federation.reader.participant(hospital.account_address)
    assert party is not None
    assert party.encryption_key == digest("last key")
    hospital.set_encryption_key(digest("and on it goes"))


def test_what_is_refused_for_too_long_is_given_up_and_listed(
    federation: Federation, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(sending, "GIVE_UP_SECONDS", 0.0)
    hospital = federation.ledgers[HOSPITALS[0]]
    with forgotten(federation):
        number = federation.open_round()
        hospital.record_update(federation.record(HOSPITALS[0], number))
    for _ in range(3):
        assert resend_lost(hospital) == 0
    (entry,) = hospital.given_up()
    assert entry.purpose == f"record an update for round {number}"
    assert outbox_of(hospital).entries() == ()
    assert [record.message for record in caplog.records if record.levelname == "ERROR"] == [
        f"given up: {entry.purpose}"
    ]


def test_a_refused_write_leaves_nothing_in_the_outbox(federation: Federation) -> None:
    aggregator = federation.ledgers["aggregator"]
    with pytest.raises(ContractRevertedError):
        aggregator.abort(1, "there is no such round")
    assert outbox_of(aggregator).entries() == ()


def test_what_no_block_has_gas_for_is_told_from_a_chain_that_is_away(
    federation: Federation,
) -> None:
    ledger = federation.ledgers["aggregator"]
    endless = bytes.fromhex("5b600056")  # JUMPDEST, PUSH1 0, JUMP
    with pytest.raises(RefusedRequestError, match="deploy a loop"):
        ledger._sender.send(None, endless, "deploy a loop")
    assert outbox_of(ledger).entries() == ()


def test_what_stood_on_the_chain_for_a_while_leaves_the_outbox(tmp_path: Path) -> None:
    outbox = Outbox(tmp_path, 1, ACCOUNT)
    entry = outbox.add(signed(0), None, b"", "deploy")
    outbox.settle(0.0)
    assert len(outbox.entries()) == 1, "its receipt was never seen"
    outbox.mark_seen(entry.number, True)
    outbox.settle(30.0)
    assert len(outbox.entries()) == 1, "its receipt was seen just now"
    outbox.settle(0.0)
    assert outbox.entries() == ()


def test_a_receipt_that_vanished_starts_the_wait_anew(tmp_path: Path) -> None:
    outbox = Outbox(tmp_path, 1, ACCOUNT)
    entry = outbox.add(signed(0), None, b"", "deploy")
    outbox.mark_seen(entry.number, True)
    outbox.mark_seen(entry.number, False)
    outbox.settle(0.0)
    assert outbox.entries() == (entry,)


def test_a_transaction_is_on_disk_before_it_is_sent(
    federation: Federation, monkeypatch: pytest.MonkeyPatch
) -> None:
    aggregator = federation.ledgers["aggregator"]
    kept: list[str] = []

    def dies(_raw: bytes) -> None:
        kept.extend(entry.purpose for entry in outbox_of(aggregator).entries())
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(aggregator._sender._rpc, "send", dies)
        with pytest.raises(KeyboardInterrupt):
            federation.open_round()
    assert kept == [f"open a round of {TASK}"]
    assert federation.reader.round_count() == 0
    assert resend_lost(aggregator) == 1
    assert federation.reader.round_count() == 1


def test_writers_of_one_account_take_turns(federation: Federation) -> None:
    keys = [digest(f"key {number}") for number in range(8)]
    outboxes = federation.ledgers["auditor"]._sender._folder
    failures: list[BaseException] = []

    def write(key: bytes) -> None:
        try:
            own = connect(federation.rpc_url, federation.deployment, outboxes, {})
            own.ledgers["auditor"].set_encryption_key(key)
        except BaseException as failure:  # noqa: BLE001 - a thread's failure is asserted below
            failures.append(failure)

    threads = [threading.Thread(target=write, args=(key,)) for key in keys]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert failures == []
    head = federation.reader.head().number
    changed = [
        event.args["encryptionKey"]
        for event in federation.reader.events(0, head)
        if event.name == "EncryptionKeyChanged"
    ]
    assert sorted(changed) == sorted(keys)


def test_an_outbox_that_cannot_be_used_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("no folder")
    with pytest.raises(LedgerError, match="Nothing was sent"):
        Outbox(tmp_path / "file" / "outbox", 1, ACCOUNT)
    (tmp_path / f"{ACCOUNT}-1.sqlite").write_bytes(b"this is no database" * 100)
    with pytest.raises(LedgerError, match="cannot be used"):
        Outbox(tmp_path, 1, ACCOUNT)


# What happens between sending and the receipt


@contextmanager
def no_blocks(federation: Federation) -> Iterator[None]:
    """Let transactions wait until someone mines a block."""
    federation.rpc("evm_setAutomine", False)
    try:
        yield
    finally:
        federation.rpc("anvil_dropAllTransactions")
        federation.rpc("evm_setAutomine", True)


def waiting_transactions(federation: Federation) -> int:
    return int(federation.rpc("txpool_status")["pending"], 16)


def test_a_transaction_that_the_pool_drops_is_sent_again_by_its_writer(
    federation: Federation,
) -> None:
    with no_blocks(federation), ThreadPoolExecutor(1) as writer:
        opened = writer.submit(federation.open_round)
        eventually(lambda: waiting_transactions(federation) == 1)
        federation.rpc("anvil_dropAllTransactions")
        eventually(lambda: waiting_transactions(federation) == 1)
        federation.rpc("evm_mine")
        assert federation.reader.round(opened.result(PATIENCE_SECONDS)).phase is Phase.OPEN


def test_a_transaction_that_fails_when_it_is_mined_tells_why(federation: Federation) -> None:
    number = federation.open_round()
    record = federation.record(HOSPITALS[0], number)
    with no_blocks(federation), ThreadPoolExecutor(1) as writer:
        recorded = writer.submit(federation.ledgers[HOSPITALS[0]].record_update, record)
        eventually(lambda: waiting_transactions(federation) == 1)
        federation.pass_time(7200)
        with pytest.raises(ContractRevertedError, match="RoundLedgerLateRecord"):
            recorded.result(PATIENCE_SECONDS)


def test_a_transaction_that_fails_without_a_reason_says_so_at_once(
    federation: Federation, monkeypatch: pytest.MonkeyPatch
) -> None:
    number, ledger = federation.open_round(), federation.ledgers[HOSPITALS[0]]
    record = federation.record(HOSPITALS[0], number)
    monkeypatch.setattr(ledger._rpc, "call", lambda *_, **__: b"")
    with no_blocks(federation), ThreadPoolExecutor(1) as writer:
        recorded = writer.submit(ledger.record_update, record)
        eventually(lambda: waiting_transactions(federation) == 1)
        federation.pass_time(7200)
        with pytest.raises(LedgerError, match="took the fee and failed in block"):
            recorded.result(PATIENCE_SECONDS)


def test_a_transaction_that_is_not_mined_in_time_is_kept(federation: Federation) -> None:
    aggregator = federation.ledgers["aggregator"]
    aggregator._sender._receipt_seconds = 0.2
    with no_blocks(federation):
        with pytest.raises(LedgerError, match="kept in the outbox and will be sent again"):
            federation.open_round()
        (entry,) = outbox_of(aggregator).entries()
        assert entry.seen_at is None
    assert resend_lost(aggregator) == 1
    assert federation.reader.round_count() == 1


def test_a_chain_that_goes_away_while_a_receipt_is_awaited_may_come_back(
    federation: Federation, monkeypatch: pytest.MonkeyPatch
) -> None:
    aggregator = federation.ledgers["aggregator"]
    receipt_of, absences = aggregator._rpc.receipt, iter(range(3))

    def away(transaction: bytes) -> RawReceipt | None:
        if next(absences, None) is not None:
            raise LedgerError("no chain answers")
        return receipt_of(transaction)

    monkeypatch.setattr(aggregator._rpc, "receipt", away)
    assert federation.open_round() == 1
    assert next(absences, None) is None


def test_a_nonce_that_was_taken_meanwhile_is_replaced(
    federation: Federation, monkeypatch: pytest.MonkeyPatch
) -> None:
    aggregator = federation.ledgers["aggregator"]
    aggregator.set_encryption_key(digest("first"))
    next_nonce, taken = aggregator._sender._next_nonce, iter([0])
    monkeypatch.setattr(aggregator._sender, "_next_nonce", lambda: next(taken, next_nonce()))
    aggregator.set_encryption_key(digest("second"))
    assert next(taken, None) is None
    party = federation.reader.participant(aggregator.account_address)
    assert party is not None
    assert party.encryption_key == digest("second")
    assert len(outbox_of(aggregator).entries()) == 2


def test_a_writer_that_keeps_the_account_too_long_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(outbox_module, "LOCK_SECONDS", 0.1)
    first, second = (Outbox(tmp_path, 1, ACCOUNT) for _ in range(2))
    held = pytest.raises(LedgerError, match=f"another process has held .*{ACCOUNT}")
    with first.locked(), held, second.locked():
        pass
    with second.locked():
        pass


def test_the_outbox_is_its_owner_s_alone(tmp_path: Path) -> None:
    Outbox(tmp_path / "outbox", 1, ACCOUNT)
    assert (tmp_path / "outbox").stat().st_mode & 0o777 == 0o700
