"""Uploads on their way to the ledger, on a disk that outlives the server.

Each upload has a row in an SQLite table and, until it is recorded or refused, a file with the
bytes that have arrived. The row's offset never runs ahead of bytes that are synced to disk: after
a crash the file is cut back to it, and the hospital goes on from there. docs/protocol.md,
section 12.
"""

import errno
import fcntl
import json
import os
import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from shutil import disk_usage
from threading import Lock
from types import TracebackType
from typing import IO, Any, Self

from eth_abi.exceptions import EncodingError

from api.problems import Problem, spool_full
from chain.cid import Cid
from chain.errors import InvalidInputError
from chain.signing import update_struct_hash
from chain.types import UpdateRecord
from chain.wire import from_json_dict, to_json_dict

CHECKPOINT_BYTES = 16 * 1024 * 1024
KEEP_REFUSED_SECONDS = 7 * 24 * 3600

_FULL = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}
_UNFINISHED = "('receiving', 'storing', 'recording')"
_SCHEMA = """
CREATE TABLE IF NOT EXISTS uploads (
    id TEXT PRIMARY KEY,
    hospital TEXT NOT NULL,
    record TEXT NOT NULL,
    signature BLOB NOT NULL,
    length INTEGER NOT NULL,
    offset INTEGER NOT NULL,
    state TEXT NOT NULL,
    expires INTEGER NOT NULL,
    sequence INTEGER NOT NULL,
    transaction_hash BLOB,
    gas INTEGER,
    problem TEXT
) STRICT;
CREATE INDEX IF NOT EXISTS uploads_by_state ON uploads (state, sequence);
"""


class UploadState(StrEnum):
    """Where an upload stands; the last two are ends."""

    RECEIVING = "receiving"
    STORING = "storing"
    RECORDING = "recording"
    RECORDED = "recorded"
    REFUSED = "refused"


@dataclass(frozen=True, slots=True)
class Quota:
    """How much the spool takes.

    Attributes:
        uploads: Most unfinished uploads of one hospital.
        bytes: Most bytes of them together.
        reserve_bytes: Free space on the disk that uploads leave alone.
    """

    uploads: int
    bytes: int
    reserve_bytes: int


@dataclass(frozen=True, slots=True)
class Upload:
    """An upload as the server has it now.

    Attributes:
        id: The record's EIP-712 struct hash in hex: the same record is the same upload.
        record: What the hospital signed.
        signature: Its signature, 65 bytes.
        length: Announced size of the envelope, in bytes.
        offset: How many of them are on disk.
        state: Where it stands.
        expires: The round's deadline, in Unix seconds.
        transaction: The transaction that recorded it.
        gas: Gas of that transaction, in all.
        problem: What keeps it from going on, or ended it, as problem details.
    """

    id: str
    record: UpdateRecord
    signature: bytes
    length: int
    offset: int
    state: UploadState
    expires: int
    transaction: bytes | None
    gas: int | None
    problem: dict[str, Any] | None

    @property
    def cid(self) -> Cid:
        """The CID of the blob that the record vouches for."""
        return Cid.from_blob_digest(self.record.blob)


def upload_id(record: UpdateRecord) -> str:
    """Return the id of a record's upload, 64 hex digits.

    Raises:
        InvalidInputError: If a number of the record does not fit the ledger's struct.
    """
    try:
        return update_struct_hash(record).hex()
    except (EncodingError, ValueError, TypeError) as error:
        raise InvalidInputError(f"the record does not fit the ledger's struct: {error}") from error


class Spool:
    """The table and the files, in one folder.

    Args:
        folder: Where they lie; made if it is not there.
        quota: How much it takes.

    Raises:
        InvalidInputError: If another server uses the folder.
    """

    def __init__(self, folder: Path, quota: Quota) -> None:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        self._claim = _claim(folder)
        self._folder = folder
        self._quota = quota
        self._lock = Lock()
        self._beginning = Lock()
        self._busy: set[str] = set()
        self._database = sqlite3.connect(
            folder / "uploads.sqlite", check_same_thread=False, isolation_level=None
        )
        self._database.row_factory = sqlite3.Row
        self._database.executescript(
            f"PRAGMA journal_mode = WAL; PRAGMA synchronous = FULL; {_SCHEMA}"
        )
        self._recover()

    def close(self) -> None:
        """Close the table."""
        with self._lock:
            self._database.close()
            self._claim.close()

    def path(self, upload: Upload) -> Path:
        """Return where an upload's bytes lie."""
        return self._folder / f"{upload.id}.part"

    def begin(self, record: UpdateRecord, signature: bytes, length: int, expires: int) -> Upload:
        """Begin an upload, or begin a refused one anew; one that is under way stays as it is.

        Args:
            record: What the hospital signed.
            signature: Its signature.
            length: Announced size, in bytes.
            expires: The round's deadline, in Unix seconds.

        Raises:
            Problem: If the hospital's quota is used up, or the disk has no room for it.
        """
        identity = upload_id(record)
        with self._beginning:
            present = self.find(identity)
            if present is not None and present.state is not UploadState.REFUSED:
                return present
            self._check_room(record.hospital, length)
            self._execute(
                "INSERT OR REPLACE INTO uploads"
                " (id, hospital, record, signature, length, offset, state, expires, sequence)"
                " VALUES (?, ?, ?, ?, ?, 0, 'receiving', ?,"
                " (SELECT coalesce(max(sequence), 0) + 1 FROM uploads))",
                identity,
                record.hospital,
                json.dumps(to_json_dict(record)),
                signature,
                length,
                expires,
            )
        return self._receiving(identity)

    def _check_room(self, hospital: str, length: int) -> None:
        unfinished = list(self._select(f"WHERE state IN {_UNFINISHED}"))
        own = [upload.length for upload in unfinished if upload.record.hospital == hospital]
        if len(own) >= self._quota.uploads or sum(own) + length > self._quota.bytes:
            raise Problem(
                429,
                "quota-used",
                "The hospital has too much under way",
                f"At most {self._quota.uploads} uploads of {self._quota.bytes} bytes together may "
                f"be unfinished, {len(own)} of {sum(own)} bytes are. Finish them, or wait for "
                "their rounds' deadlines.",
            )
        promised = sum(upload.length - upload.offset for upload in unfinished)
        if disk_usage(self._folder).free < promised + length + self._quota.reserve_bytes:
            raise spool_full()

    def find(self, identity: str) -> Upload | None:
        """Look an upload up by its id."""
        return next(self._select("WHERE id = ?", identity), None)

    def in_state(self, state: UploadState, limit: int) -> list[Upload]:
        """Return uploads of one state, first come first."""
        return list(self._select("WHERE state = ? ORDER BY sequence LIMIT ?", state, limit))

    def advance(self, upload: Upload, state: UploadState) -> None:
        """Take an upload one state further."""
        self._execute("UPDATE uploads SET state = ?, problem = NULL WHERE id = ?", state, upload.id)

    def hinder(self, upload: Upload, problem: Problem) -> None:
        """Note what keeps an upload from going on for now."""
        self._execute(
            "UPDATE uploads SET problem = ? WHERE id = ?", json.dumps(problem.to_dict()), upload.id
        )

    def refuse(self, upload: Upload, problem: Problem) -> None:
        """End an upload with a refusal and drop its bytes."""
        # Whoever begins it anew writes to a file of the same name: not before the old one is gone.
        with self._beginning:
            self._execute(
                "UPDATE uploads SET state = 'refused', problem = ? WHERE id = ?",
                json.dumps(problem.to_dict()),
                upload.id,
            )
            self.path(upload).unlink(missing_ok=True)

    def recorded(self, upload: Upload, transaction: bytes, gas: int | None) -> None:
        """End an upload whose record is on the ledger and drop its bytes."""
        self._execute(
            "UPDATE uploads SET state = 'recorded', transaction_hash = ?, gas = ?, problem = NULL"
            " WHERE id = ?",
            transaction,
            gas,
            upload.id,
        )
        self.path(upload).unlink(missing_ok=True)

    def expired(self, now: int) -> list[Upload]:
        """Return uploads that are still arriving though their round's deadline is past.

        Those that are being written to this moment are left for the next time.
        """
        found = self._select("WHERE state = 'receiving' AND expires < ?", now)
        return [upload for upload in found if upload.id not in self._busy]

    def forget_refused(self, now: int) -> None:
        """Drop the rows of refused uploads a week after their round's deadline."""
        self._execute(
            "DELETE FROM uploads WHERE state = 'refused' AND expires < ?",
            now - KEEP_REFUSED_SECONDS,
        )

    @contextmanager
    def appending(self, identity: str) -> Iterator["Appender"]:
        """Open an upload for further bytes; it is nobody else's until the block ends.

        Raises:
            Problem: If it is being written to already, or takes no bytes any more.
        """
        with self._lock:
            if identity in self._busy:
                raise Problem(
                    409,
                    "upload-busy",
                    "Another request is sending this upload",
                    "Wait for it to end, ask for the offset with HEAD and go on from there.",
                    headers={"Retry-After": "1", "Connection": "close"},
                )
            self._busy.add(identity)
        try:
            with Appender(self, self._receiving(identity)) as appender:
                yield appender
        finally:
            with self._lock:
                self._busy.discard(identity)

    def _receiving(self, identity: str) -> Upload:
        upload = self.find(identity)
        if upload is None or upload.state is not UploadState.RECEIVING:
            raise Problem(
                409,
                "upload-closed",
                "The upload takes no more bytes",
                "Look at its state; announce it anew with POST if it was refused.",
                headers={"Connection": "close"},
            )
        return upload

    def set_offset(self, upload: Upload, offset: int) -> None:
        """Note that so many bytes are synced to disk; all of them make the upload complete."""
        state = UploadState.STORING if offset == upload.length else UploadState.RECEIVING
        self._execute(
            "UPDATE uploads SET offset = ?, state = ? WHERE id = ? AND state = 'receiving'",
            offset,
            state,
            upload.id,
        )

    def _execute(self, statement: str, *values: object) -> None:
        try:
            with self._lock:
                self._database.execute(statement, values)
        except sqlite3.OperationalError as error:
            if error.sqlite_errorcode == sqlite3.SQLITE_FULL:
                raise spool_full() from error
            raise

    def _select(self, condition: str, *values: object) -> Iterator[Upload]:
        # The condition is always one of the constants above; values are bound.
        with self._lock:
            rows = self._database.execute(
                f"SELECT * FROM uploads {condition}",  # noqa: S608
                values,
            ).fetchall()
        return map(_upload, rows)

    def _recover(self) -> None:
        """Bring files and rows back in step after a crash, of the server or of its machine."""
        wanted = set()
        for upload in self._select(f"WHERE state IN {_UNFINISHED}"):
            path = self.path(upload)
            wanted.add(path)
            there = path.stat().st_size if path.exists() else 0
            if there < upload.offset and upload.state is not UploadState.RECORDING:
                self._execute(
                    "UPDATE uploads SET state = 'receiving', offset = ? WHERE id = ?",
                    there,
                    upload.id,
                )
        for path in set(self._folder.glob("*.part")) - wanted:
            path.unlink()


class Appender:
    """Appends to an upload's file; what it reports as taken is synced to disk.

    Args:
        spool: The upload's spool.
        upload: The upload, as it was just read.
    """

    def __init__(self, spool: Spool, upload: Upload) -> None:
        self._spool = spool
        self.upload = upload
        self._durable = upload.offset
        self.offset = upload.offset

    @property
    def missing(self) -> int:
        """How many bytes are still to come."""
        return self.upload.length - self.offset

    def __enter__(self) -> Self:
        self._file = os.open(self._spool.path(self.upload), os.O_RDWR | os.O_CREAT, 0o600)
        # Bytes behind the offset are of a request that was never told they were taken.
        os.ftruncate(self._file, self._durable)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        try:
            self._checkpoint()
        finally:
            os.close(self._file)

    def write(self, data: bytes) -> None:
        """Append bytes.

        Raises:
            Problem: If the disk is full; the upload is then as it was at its last checkpoint.
        """
        view = memoryview(data)
        try:
            while view:
                written = os.pwrite(self._file, view, self.offset)
                self.offset += written
                view = view[written:]
        except OSError as error:
            self.offset = self._durable
            os.ftruncate(self._file, self._durable)
            if error.errno in _FULL:
                raise spool_full() from error
            raise
        if self.offset - self._durable >= CHECKPOINT_BYTES:
            self._checkpoint()

    def _checkpoint(self) -> None:
        if self.offset == self._durable:
            return
        os.fsync(self._file)
        self._spool.set_offset(self.upload, self.offset)
        self._durable = self.offset


def _claim(folder: Path) -> IO[bytes]:
    """Lock a folder for as long as this process lives or the file is open."""
    claim = (folder / "lock").open("wb")
    try:
        fcntl.flock(claim, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        claim.close()
        raise InvalidInputError(
            f"another server uses {folder}: end it, or give this one a spool of its own"
        ) from None
    return claim


def _upload(row: sqlite3.Row) -> Upload:
    return Upload(
        id=row["id"],
        record=from_json_dict(UpdateRecord, json.loads(row["record"])),
        signature=row["signature"],
        length=row["length"],
        offset=row["offset"],
        state=UploadState(row["state"]),
        expires=row["expires"],
        transaction=row["transaction_hash"],
        gas=row["gas"],
        problem=json.loads(row["problem"]) if row["problem"] else None,
    )
