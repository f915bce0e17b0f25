"""A hospital's access log on disk: who looked at what, written before anything is shown.

The file is records of one size, and a look's number is its record's place. So numbers have no gap,
and any look is found without reading the others. A record is on the disk (fsync) before its
receipt leaves `LookWriter.append`; what a crash can leave behind is a record that nobody has a
receipt for, or a part of one. Parts are cut off when the log is opened, whole records never.

    20 hospital | 8 number | 20 researcher | 32 grant | 32 version | 32 image | 8 time
    | 32 request | 32 salt | 65 signature | 7 first bytes of the SHA-256 of the above
"""

import os
import secrets
import threading
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from fcntl import LOCK_EX, LOCK_NB, flock
from pathlib import Path
from typing import Self

from eth_account.signers.local import LocalAccount

from chain.addresses import checked_address
from chain.digests import sha256
from chain.errors import FedWitnessError, InvalidInputError
from chain.look_receipts import LookReceipt, issue_receipt, request_digest
from chain.types import Look

_FIELDS = (20, 8, 20, 32, 32, 32, 8, 32, 32, 65)
_BODY = sum(_FIELDS)
_CHECK = 7
RECORD = _BODY + _CHECK  # bytes
_AT_ONCE = 10_000  # looks that are read at once


class LookLogError(FedWitnessError):
    """The log cannot be written, or is not what was written; nothing may be shown."""


@dataclass(frozen=True, slots=True)
class Sight:
    """What is about to be shown: an image, to whom, under which grant."""

    researcher: str
    grant: bytes
    version: bytes
    image: bytes


@dataclass(frozen=True, slots=True)
class LookLog:
    """A hospital's log, to read; another process may be writing it.

    Attributes:
        path: The file.
        chain_id: The chain of the federation (EIP-155).
        access_logs: The contract that the looks are anchored with.
        hospital: Whose log it is.
    """

    path: Path
    chain_id: int
    access_logs: str
    hospital: str

    @classmethod
    def beside(cls, work: Path, chain_id: int, access_logs: str, hospital: str) -> Self:
        """Return a hospital's log in its own folder; each federation has a file of its own."""
        path = work / "looks" / f"{chain_id}-{access_logs.lower()}.looks"
        return cls(path, chain_id, access_logs, hospital)

    def __len__(self) -> int:
        """Count the whole records."""
        return self.path.stat().st_size // RECORD if self.path.exists() else 0

    def read(self, first: int, count: int) -> tuple[LookReceipt, ...]:
        """Read looks by their numbers.

        Raises:
            LookLogError: If there are fewer, or a record is not what was written.
        """
        with self.path.open("rb") as file:
            file.seek(first * RECORD)
            raw = file.read(count * RECORD)
        found = len(raw) // RECORD
        if found < count:
            raise LookLogError(
                f"{self.path}: expected looks {first} to {first + count - 1}, found {found}"
            )
        return tuple(
            self._receipt(first + place, raw[place * RECORD : (place + 1) * RECORD])
            for place in range(count)
        )

    def sync(self) -> None:
        """Put everything on the disk that the file shows.

        Raises:
            OSError: If that cannot be done.
        """
        descriptor = os.open(self.path, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)

    def check(self) -> None:
        """Read everything.

        Raises:
            LookLogError: If a record is not what was written.
        """
        if not self.path.exists():
            return
        with self.path.open("rb") as file:
            for number in range(len(self)):
                self._check_record(number, file.read(RECORD))

    def _receipt(self, number: int, record: bytes) -> LookReceipt:
        self._check_record(number, record)
        parts, place = [], 0
        for size in _FIELDS:
            parts.append(record[place : place + size])
            place += size
        look = Look(
            hospital=self.hospital,
            number=number,
            researcher=checked_address(f"0x{parts[2].hex()}"),
            grant=parts[3],
            version=parts[4],
            image=parts[5],
            time=int.from_bytes(parts[6], "big"),
            request=parts[7],
        )
        return LookReceipt(self.chain_id, self.access_logs, look, parts[8], parts[9])

    def _check_record(self, number: int, record: bytes) -> None:
        body, check = record[:_BODY], record[_BODY:]
        place = bytes.fromhex(self.hospital[2:]) + number.to_bytes(8, "big")
        if sha256(body)[:_CHECK] != check or not body.startswith(place):
            raise LookLogError(
                f"{self.path}: record {number} is not what was written: put the log back from a "
                "copy, and show nothing until then"
            )


def researchers_who_looked(work: Path, hospital: str, images: Collection[bytes]) -> frozenset[str]:
    """Find who looked at images, by the logs of all federations that a hospital was in.

    Args:
        work: The hospital's own folder.
        hospital: Its address.
        images: The images' commitments.

    Raises:
        LookLogError: If a log is not what was written.
    """
    found: set[str] = set()
    for path in (work / "looks").glob("*.looks"):
        chain_id, _, access_logs = path.stem.partition("-")
        log = LookLog(path, int(chain_id), checked_address(access_logs), hospital)
        for first in range(0, len(log), _AT_ONCE):
            receipts = log.read(first, min(_AT_ONCE, len(log) - first))
            found |= {one.look.researcher for one in receipts if one.look.image in images}
    return frozenset(found)


class LookWriter:
    """Writes a hospital's log; one process at a time.

    Args:
        log: Which log.
        account: The hospital's key, which signs the receipts.

    Raises:
        InvalidInputError: If another process writes it.
        LookLogError: If the log is not what was written.
        OSError: If it cannot be opened.
    """

    def __init__(self, log: LookLog, account: LocalAccount) -> None:
        self.log = log
        self._account = account
        self._lock = threading.Lock()
        log.path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        self._file = os.open(log.path, os.O_RDWR | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)
        try:
            self._take()
            self._next = self._repaired()
            log.check()
        except BaseException:
            os.close(self._file)
            raise
        self._is_broken = False

    def append(
        self, sights: Sequence[Sight], time: int, method: str, target: str
    ) -> tuple[LookReceipt, ...]:
        """Log what is about to be shown, and sign for it.

        Args:
            sights: One for each image.
            time: Timestamp of the block at which the grants were found live.
            method: The request's HTTP method.
            target: Its path and query.

        Returns:
            The receipts. When they are there the looks are on the disk.

        Raises:
            LookLogError: If the looks cannot be logged: then nothing may be shown.
        """
        with self._lock:
            if self._is_broken:
                raise LookLogError("the log could not be written before: start the gateway anew")
            receipts = tuple(
                self._sign(self._next + place, sight, time, method, target)
                for place, sight in enumerate(sights)
            )
            try:
                self._write(b"".join(map(_record, receipts)))
            except OSError as error:
                self._is_broken = True
                raise LookLogError(
                    f"{self.log.path}: the log cannot be written ({error.strerror}); nothing is "
                    "shown until there is room and the gateway is started anew"
                ) from error
            self._next += len(receipts)
        return receipts

    def close(self) -> None:
        """Let another process write."""
        with self._lock:
            self._is_broken = True
            if self._file >= 0:
                os.close(self._file)
                self._file = -1

    def _sign(self, number: int, sight: Sight, time: int, method: str, target: str) -> LookReceipt:
        salt = secrets.token_bytes(32)
        look = Look(
            hospital=self.log.hospital,
            number=number,
            researcher=sight.researcher,
            grant=sight.grant,
            version=sight.version,
            image=sight.image,
            time=time,
            request=request_digest(salt, method, target),
        )
        return issue_receipt(self.log.chain_id, self.log.access_logs, look, salt, self._account)

    def _write(self, raw: bytes) -> None:
        left = memoryview(raw)
        while left:
            left = left[os.write(self._file, left) :]
        os.fsync(self._file)

    def _take(self) -> None:
        try:
            flock(self._file, LOCK_EX | LOCK_NB)
        except OSError:
            raise InvalidInputError(
                f"{self.log.path}: another gateway of this hospital is writing the log"
            ) from None
        folder = os.open(self.log.path.parent, os.O_RDONLY)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)

    def _repaired(self) -> int:
        """Cut off what a crash left at the end, and return the number of whole records.

        That is a part of a record, or zeros: space that the file was given and no bytes came to.
        """
        size = os.fstat(self._file).st_size
        records = size // RECORD
        while records and not any(os.pread(self._file, RECORD, (records - 1) * RECORD)):
            records -= 1
        if records * RECORD != size:
            os.ftruncate(self._file, records * RECORD)
        os.fsync(self._file)
        return records


def _record(receipt: LookReceipt) -> bytes:
    look = receipt.look
    body = b"".join(
        (
            bytes.fromhex(look.hospital[2:]),
            look.number.to_bytes(8, "big"),
            bytes.fromhex(look.researcher[2:]),
            look.grant,
            look.version,
            look.image,
            look.time.to_bytes(8, "big"),
            look.request,
            receipt.salt,
            receipt.signature,
        )
    )
    return body + sha256(body)[:_CHECK]
