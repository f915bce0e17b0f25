"""An account's signed transactions, kept on disk until the chain has surely kept them.

A chain can forget: a local network that is killed loses its last second, a real one drops
transactions from its pool. So a transaction is durable here before it is sent, and leaves only
when its receipt has stood on the chain for a while. `chain.sending` decides what is sent when.
"""

import contextlib
import fcntl
import os
import sqlite3
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from chain.errors import LedgerError

LOCK_SECONDS = 120.0
_POLL_SECONDS = 0.02

_TABLE = """
CREATE TABLE IF NOT EXISTS transactions (
    id INTEGER PRIMARY KEY,
    nonce INTEGER NOT NULL,
    hash BLOB NOT NULL,
    raw BLOB NOT NULL,
    recipient TEXT,
    data BLOB NOT NULL,
    purpose TEXT NOT NULL,
    seen_at REAL,
    refused_at REAL,
    refusal TEXT,
    given_up INTEGER NOT NULL DEFAULT 0
) STRICT
"""
_COLUMNS = "id, nonce, hash, raw, recipient, data, purpose, seen_at, refused_at, refusal"


@dataclass(frozen=True, slots=True)
class SignedTransaction:
    """A transaction as it is sent. ``hash`` names it; ``raw`` is its signed encoding."""

    nonce: int
    hash: bytes
    raw: bytes


@dataclass(frozen=True, slots=True)
class OutboxEntry:
    """A transaction that was meant to reach the chain.

    Attributes:
        number: Its place in the order of writing.
        transaction: As it was signed last.
        to: The contract, None for a deployment.
        data: The encoded call.
        purpose: What it is for, in words.
        seen_at: Unix time when its receipt was first seen on chain, None while it is not there.
        refused_at: Unix time when the contract first refused it after it was lost, else None.
        refusal: What the contract said then.
    """

    number: int
    transaction: SignedTransaction
    to: str | None
    data: bytes
    purpose: str
    seen_at: float | None
    refused_at: float | None
    refusal: str | None


class Outbox:
    """The outbox of one account on one chain, shared by all processes that send for it.

    Args:
        folder: Made, for its owner alone, if missing.
        chain_id: The chain.
        account: The account's address.

    Raises:
        LedgerError: If the folder cannot be used.
    """

    def __init__(self, folder: Path, chain_id: int, account: str) -> None:
        self._database = folder / f"{account}-{chain_id}.sqlite"
        self._lock = folder / f"{account}-{chain_id}.lock"
        try:
            folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        except OSError as error:
            raise self._unusable(error) from error
        with self._open() as database:
            database.execute(_TABLE)

    @contextlib.contextmanager
    def locked(self) -> Iterator[None]:
        """Be the only one, among threads and processes, who signs for this account.

        Raises:
            LedgerError: If another writer does not finish within two minutes.
        """
        descriptor = os.open(self._lock, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            self._wait_for(descriptor)
            yield
        finally:
            os.close(descriptor)

    def add(
        self, transaction: SignedTransaction, to: str | None, data: bytes, purpose: str
    ) -> OutboxEntry:
        """Keep a signed transaction; it is on the disk (fsync) when this returns."""
        with self._open() as database:
            number = database.execute(
                "INSERT INTO transactions (nonce, hash, raw, recipient, data, purpose)"
                " VALUES (?, ?, ?, ?, ?, ?)",
                (transaction.nonce, transaction.hash, transaction.raw, to, data, purpose),
            ).lastrowid
        return OutboxEntry(number or 0, transaction, to, data, purpose, None, None, None)

    def sign_anew(self, number: int, transaction: SignedTransaction) -> None:
        """Exchange a transaction that can no longer be mined for one that can."""
        self._change(
            "UPDATE transactions SET nonce = ?, hash = ?, raw = ?,"
            " seen_at = NULL, refused_at = NULL, refusal = NULL WHERE id = ?",
            (transaction.nonce, transaction.hash, transaction.raw, number),
        )

    def entry(self, number: int) -> OutboxEntry | None:
        """Look an entry up, None where it has left."""
        return next(iter(self._select("id = ?", number)), None)

    def entries(self) -> tuple[OutboxEntry, ...]:
        """List what has not left, by nonce."""
        return self._select("NOT given_up")

    def given_up(self) -> tuple[OutboxEntry, ...]:
        """List what was lost and then refused for so long that it is not tried any more."""
        return self._select("given_up")

    def mark_seen(self, number: int, is_seen: bool) -> None:
        """Note that an entry's receipt was seen on chain, or is no longer there."""
        self._change(
            "UPDATE transactions SET refused_at = NULL, refusal = NULL,"
            " seen_at = CASE WHEN ? THEN coalesce(seen_at, ?) END WHERE id = ?",
            (is_seen, time.time(), number),
        )

    def mark_refused(self, number: int, refusal: str) -> None:
        """Note that the contract refuses an entry that the chain has lost."""
        self._change(
            "UPDATE transactions SET refused_at = coalesce(refused_at, ?), refusal = ?,"
            " seen_at = NULL WHERE id = ?",
            (time.time(), refusal, number),
        )

    def give_up(self, number: int) -> None:
        """Stop trying an entry; it stays to be looked at."""
        self._change("UPDATE transactions SET given_up = 1 WHERE id = ?", (number,))

    def remove(self, number: int) -> None:
        """Drop an entry that the chain's node did not take."""
        self._change("DELETE FROM transactions WHERE id = ?", (number,))

    def settle(self, seconds: float) -> None:
        """Drop what has stood on the chain for this long."""
        self._change(
            "DELETE FROM transactions WHERE seen_at <= ? AND NOT given_up",
            (time.time() - seconds,),
        )

    def _select(self, condition: str, *values: object) -> tuple[OutboxEntry, ...]:
        query = f"SELECT {_COLUMNS} FROM transactions WHERE {condition} ORDER BY nonce, id"  # noqa: S608 - both parts are constants of this module
        with self._open() as database:
            return tuple(_entry(row) for row in database.execute(query, values))

    def _change(self, statement: str, values: tuple[object, ...]) -> None:
        with self._open() as database:
            database.execute(statement, values)

    @contextlib.contextmanager
    def _open(self) -> Iterator[sqlite3.Connection]:
        # A connection for each use: SQLite's may not pass from thread to thread.
        try:
            with contextlib.closing(sqlite3.connect(self._database, timeout=30.0)) as database:
                database.execute("PRAGMA journal_mode = WAL")
                database.execute("PRAGMA synchronous = FULL")
                with database:
                    yield database
        except sqlite3.Error as error:
            raise self._unusable(error) from error

    def _wait_for(self, descriptor: int) -> None:
        deadline = time.monotonic() + LOCK_SECONDS
        while True:
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                if time.monotonic() > deadline:
                    raise LedgerError(
                        f"another process has held {self._lock} for {LOCK_SECONDS:.0f} s; "
                        "find out what it waits for, or end it, and try again"
                    ) from None
                time.sleep(_POLL_SECONDS)
            else:
                return

    def _unusable(self, error: Exception) -> LedgerError:
        return LedgerError(
            f"the outbox {self._database} cannot be used: {error}. Nothing was sent; "
            "is the disk full, or the folder another user's?"
        )


def _entry(
    row: tuple[int, int, bytes, bytes, str | None, bytes, str, float, float, str],
) -> OutboxEntry:
    number, nonce, digest, raw, to, data, purpose, seen_at, refused_at, refusal = row
    transaction = SignedTransaction(nonce, digest, raw)
    return OutboxEntry(number, transaction, to, data, purpose, seen_at, refused_at, refusal)
