"""A de-identified instance, a ledger of readings that behaves, and desks at two hospitals."""

import hashlib
import itertools
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import pydicom
from eth_account import Account
from pydicom.dataset import FileDataset

from chain.errors import ContractRevertedError, InvalidInputError
from chain.keystore import Identity
from chain.readings import Reading, ReadingRequest, ReadingTerms, RequestState, RequestTerms
from chain.types import DatasetState, DatasetVersion, LogPosition, Participant, Role
from node.deidentify import OPTIONS, declare, deidentify
from node.dicom import read_instance
from node.pseudonyms import Pseudonyms
from node.readings.desk import Desk
from node.readings.documents import Document, Form, make_document
from node.readings.subject import UNKNOWN, Image
from node.readings.words import Words
from tests.memory_blobs import MemoryBlobStore

SOURCE = Path(pydicom.__file__).parent / "data" / "test_files" / "MR_small.dcm"
NOW = 1_795_000_000
WORDS = Words("No acute abnormality.", "Größe unverändert.", "Roe^Richard", "St Mary")
VERSION, COMMITMENT = b"\x01" * 32, b"\x02" * 32
IMAGE = Image(VERSION, COMMITMENT, (b"\x03" * 32,), b"\x04" * 32)


def de_identified(patient: str = "") -> FileDataset:
    """An instance as an ingest leaves it."""
    dataset = read_instance(SOURCE)
    if patient:
        dataset.PatientName = patient
    deidentify(dataset, Pseudonyms(b"k" * 32))
    declare(dataset, OPTIONS)
    return dataset


def spoken(impression: str = "No acute abnormality.") -> Document:
    """A document of a few words."""
    return make_document(Words(impression), Form.FHIR, UNKNOWN, NOW)


def identity(number: int) -> Identity:
    return Identity(Account.from_key(bytes([number]) * 32), bytes([number + 100]) * 32)


OWNER, READER, STRANGER, CLINICIAN = (identity(number) for number in range(1, 5))


@dataclass
class FakeReadings:
    """The contract's rules as far as desks depend on them, in memory.

    ``sender`` is whoever calls; ``before`` and ``after`` run around each write, for tests that
    interrupt it.
    """

    ledger: "FakeLedger"
    sender: str = OWNER.address
    known: dict[bytes, Reading] = field(default_factory=dict)
    asked: dict[bytes, ReadingRequest] = field(default_factory=dict)
    appointed: dict[tuple[str, str], int] = field(default_factory=dict)
    before: Callable[[], None] = lambda: None
    after: Callable[[], None] = lambda: None
    address: str = "0x" + "11" * 20

    def readings(self, image: bytes | None = None) -> tuple[Reading, ...]:
        return tuple(one for one in self.known.values() if image in {None, one.terms.image})

    def reading(self, reading: bytes) -> Reading:
        if reading not in self.known:
            raise InvalidInputError("there is no such reading")
        return self.known[reading]

    def requests(
        self, hospital: str | None = None, state: RequestState | None = None
    ) -> tuple[ReadingRequest, ...]:
        return tuple(
            one
            for one in self.asked.values()
            if hospital in {None, one.terms.hospital} and state in {None, one.state}
        )

    def request(self, request: bytes) -> ReadingRequest:
        if request not in self.asked:
            raise InvalidInputError("there is no such request")
        return self.asked[request]

    def appointed_until(self, hospital: str, clinician: str) -> int:
        return self.appointed.get((hospital, clinician), 0)

    def record(self, terms: ReadingTerms, proof: Sequence[bytes]) -> bytes:
        self._check("ReadingsNotInVersion", proof == IMAGE.proof)
        return self._recorded(terms, None)

    def fulfil(self, request: bytes, terms: ReadingTerms) -> bytes:
        found = self.request(request)
        self._check("ReadingsUnexpectedState", found.state is RequestState.TAKEN)
        self._check("ReadingsTooLate", self.ledger.now <= found.terms.fulfil_by)
        wanted = found.terms.opinion_on
        self._check("ReadingsOtherOpinion", wanted in {bytes(32), terms.opinion_on})
        reading = self._recorded(terms, request)
        self.asked[request] = replace(found, state=RequestState.FULFILLED, reading=reading)
        return reading

    def correct(self, reading: bytes, document: bytes, blob: bytes, reason: str) -> bytes:
        corrected = self.reading(reading)
        self._check("ReadingsAlreadyCorrected", corrected.corrected_by is None)
        terms = replace(corrected.terms, document=document, blob=blob)
        correction = self._recorded(terms, None, corrects=reading, reason=reason)
        self.known[reading] = replace(corrected, corrected_by=correction)
        return correction

    def ask(self, terms: RequestTerms, proof: Sequence[bytes]) -> bytes:
        self.before()
        self._check("ReadingsNotInVersion", proof == IMAGE.proof)
        self._check("ReadingsInvalidTimes", self.ledger.now < terms.take_by <= terms.fulfil_by)
        request = hashlib.sha256(repr(terms).encode()).digest()
        self._check("ReadingsAlreadyAsked", request not in self.asked)
        self.asked[request] = ReadingRequest(
            request, terms, RequestState.OPEN, None, None, self.ledger.now, self._position()
        )
        self.after()
        return request

    def take(self, request: bytes, hospital: str) -> None:
        taken = replace(self.request(request), state=RequestState.TAKEN, taker=hospital)
        self.asked[request] = taken

    def cancel(self, request: bytes) -> None:
        self.asked[request] = replace(self.request(request), state=RequestState.CANCELLED)

    def _recorded(
        self,
        terms: ReadingTerms,
        request: bytes | None,
        corrects: bytes | None = None,
        reason: str | None = None,
    ) -> bytes:
        self.before()
        reading = hashlib.sha256(f"{self.sender}{terms}{corrects!r}".encode()).digest()
        self._check("ReadingsAlreadyRecorded", reading not in self.known)
        self.known[reading] = Reading(
            reading,
            terms,
            self.sender,
            request,
            corrects,
            None,
            reason,
            self.ledger.now,
            self._position(),
        )
        self.after()
        return reading

    def _position(self) -> LogPosition:
        return LogPosition(next(self.ledger.blocks), 0, bytes(32))

    def _check(self, error: str, holds: bool) -> None:
        if not holds:
            raise ContractRevertedError(error, {})


class FakeLedger:
    """Two hospitals, one of which has the image, and a third."""

    chain_id = 31337

    def __init__(self) -> None:
        self.now = NOW
        self.blocks = itertools.count(1)
        self.readings = FakeReadings(self)
        hospital = frozenset({Role.HOSPITAL})
        self.parties = {
            one.address: Participant(one.address, hospital, one.encryption_key, name, False)
            for one, name in ((OWNER, "owner"), (READER, "reader"), (STRANGER, "stranger"))
        }

    def participant(self, address: str) -> Participant | None:
        return self.parties.get(address)

    def participants(self, role: Role | None = None) -> tuple[Participant, ...]:
        return tuple(one for one in self.parties.values() if role is None or role in one.roles)

    def dataset_version(self, version: bytes) -> DatasetVersion:
        assert version == VERSION
        names = (bytes(32), OWNER.address, DatasetState.ACTIVE, bytes(32), 1, "MR")
        return DatasetVersion(version, *names, frozenset({43}), 1, bytes(32), bytes(32))

    def dataset_versions(self, hospital: str | None = None) -> tuple[DatasetVersion, ...]:
        return (self.dataset_version(VERSION),) if hospital in {None, OWNER.address} else ()

    def next_timestamp(self) -> int:
        return self.now


@dataclass
class Town:
    """The ledger and the blobs that everybody shares, and each one's desk."""

    folder: Path
    ledger: FakeLedger = field(default_factory=FakeLedger)
    blobs: MemoryBlobStore = field(default_factory=MemoryBlobStore)

    def desk(self, who: Identity, hospital: str | None = None, *to: str) -> Desk:
        """Someone's desk; whatever is written next is sent by them."""
        self.ledger.readings.sender = who.address
        folder = self.folder / who.address
        return Desk(who, hospital or who.address, folder, self.ledger, self.blobs, to)
