"""Readings and requests for them on the ledger: docs/protocol.md, section 16.

The order is always: check, seal, keep the draft, store the envelope on IPFS and read it back, and
only then the ledger. Interrupted anywhere and called again with the same, it goes on where it
stopped, and says nothing twice.
"""

import hashlib
import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Protocol

from chain.blob_store import BlobStore
from chain.cid import Cid
from chain.envelope import EnvelopeContext, is_usable_key, read_header
from chain.errors import (
    BlobUnavailableError,
    ContractRevertedError,
    FedWitnessError,
    InvalidInputError,
    VerificationError,
)
from chain.files import private_folder
from chain.keystore import Identity
from chain.readings import (
    NONE,
    Reading,
    ReadingRequest,
    ReadingTerms,
    RequestState,
    RequestTerms,
    has_lapsed,
)
from chain.types import Participant, Role
from chain.wire import from_hex, to_hex
from node.readings import fhir_report
from node.readings.documents import Document
from node.readings.drafts import Draft, draft_of
from node.readings.fhir_report import Question
from node.readings.sealing import (
    MAX_ENVELOPE,
    SealedToOthersError,
    document_in,
    open_payload,
    reading_context,
    recipients_of,
    seal_document,
    seal_payload,
    store,
)
from node.readings.subject import Image, Versions

_KEY_DIGITS = 66  # of a key in hexadecimal, with its 0x
_STANDING = frozenset({RequestState.OPEN, RequestState.TAKEN})


class Readings(Protocol):
    """The part of `chain.readings_ledger.ReadingsWriter` that is needed here."""

    @property
    def address(self) -> str:
        """The contract's address."""

    def readings(self, image: bytes | None = None) -> tuple[Reading, ...]:
        """List readings, all or an image's."""

    def reading(self, reading: bytes) -> Reading:
        """Look a reading up."""

    def requests(
        self, hospital: str | None = None, state: RequestState | None = None
    ) -> tuple[ReadingRequest, ...]:
        """List requests."""

    def request(self, request: bytes) -> ReadingRequest:
        """Look a request up."""

    def appointed_until(self, hospital: str, clinician: str) -> int:
        """Tell until when somebody reads in a hospital's name."""

    def record(self, terms: ReadingTerms, proof: Sequence[bytes]) -> bytes:
        """Record a reading."""

    def fulfil(self, request: bytes, terms: ReadingTerms) -> bytes:
        """Record a reading that was asked for."""

    def correct(self, reading: bytes, document: bytes, blob: bytes, reason: str) -> bytes:
        """Record a correction."""

    def ask(self, terms: RequestTerms, proof: Sequence[bytes]) -> bytes:
        """Ask for a reading."""


class ReadingLedger(Versions, Protocol):
    """The part of `chain.ledger.Ledger` that is needed here."""

    @property
    def chain_id(self) -> int:
        """The chain's number."""

    @property
    def readings(self) -> Readings:
        """The readings."""

    def participant(self, address: str) -> Participant | None:
        """Look a party up."""

    def participants(self, role: Role | None = None) -> tuple[Participant, ...]:
        """List the parties that hold a role."""

    def next_timestamp(self) -> int:
        """Tell the time that a block made now would have."""


@dataclass(frozen=True, slots=True)
class Desk:
    """Where a clinician reads, in a hospital's name.

    Attributes:
        identity: The clinician's keys, or the hospital's own.
        hospital: In whose name.
        folder: The clinician's private folder.
        ledger: The ledger, which the clinician's account signs for.
        blobs: The IPFS node.
        to: Who may open it besides the image's hospital, the reading one and the author: addresses
            of parties, or X25519 keys (0x and 64 digits).
    """

    identity: Identity
    hospital: str
    folder: Path
    ledger: ReadingLedger
    blobs: BlobStore
    to: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Said:
    """What the ledger calls it, and whether it was there before."""

    id: bytes
    before: bool


@dataclass(frozen=True, slots=True)
class Opened:
    """A reading that was opened: what the ledger has of it, and its document."""

    reading: Reading
    document: bytes


def is_key(recipient: str) -> bool:
    """Tell whether who is to open something is named by a key and not by an address."""
    return len(recipient) == _KEY_DIGITS


def record(desk: Desk, image: Image, document: Document, opinion_on: bytes = NONE) -> Said:
    """Record a reading of the hospital's own image, for the first time or as a second opinion.

    Args:
        desk: Whose reading.
        image: What of.
        document: A document that was checked.
        opinion_on: Another author's reading of the image on which this is an opinion.

    Raises:
        InvalidInputError: If the sender may not read for the hospital.
        BlobUnavailableError: If the envelope cannot be stored.
        ContractRevertedError: If the ledger refuses.
        LedgerError: If the chain cannot be reached.
    """
    _check_appointed(desk)
    wanted = {
        "kind": "record",
        "image": to_hex(image.commitment),
        "version": to_hex(image.version),
        "opinion_on": to_hex(opinion_on),
    }
    terms = ReadingTerms(image.version, image.commitment, desk.hospital, opinion_on, NONE, NONE)
    return _write(
        desk,
        wanted,
        document,
        terms,
        lambda sealed: desk.ledger.readings.record(sealed, image.proof),
    )


def fulfil(desk: Desk, request: bytes, document: Document) -> Said:
    """Record the reading that a hospital asked for and this one took.

    Raises:
        InvalidInputError: If the hospital has not taken the request, or its time is over.
        BlobUnavailableError: If the envelope cannot be stored.
        ContractRevertedError: If the ledger refuses.
        LedgerError: If the chain cannot be reached.
    """
    _check_appointed(desk)
    found = desk.ledger.readings.request(request)
    asked = found.terms
    wanted = {"kind": "fulfil", "request": to_hex(request)}
    if found.state is not RequestState.FULFILLED:
        _check_taken(desk, found)
    terms = ReadingTerms(asked.version, asked.image, desk.hospital, asked.opinion_on, NONE, NONE)
    return _write(
        desk,
        wanted,
        document,
        terms,
        lambda sealed: desk.ledger.readings.fulfil(request, sealed),
        (asked.hospital,),
    )


def correct(desk: Desk, reading: bytes, document: Document, reason: str) -> Said:
    """Put a corrected document in the place of a reading, which stays to be seen.

    Raises:
        InvalidInputError: If the reading is another hospital's, or was corrected before.
        BlobUnavailableError: If the envelope cannot be stored.
        ContractRevertedError: If the ledger refuses.
        LedgerError: If the chain cannot be reached.
    """
    found = desk.ledger.readings.reading(reading)
    desk = replace(desk, hospital=found.terms.hospital)
    _check_appointed(desk)
    wanted = {"kind": "correct", "reading": to_hex(reading), "reason": reason}

    def send(sealed: ReadingTerms) -> bytes:
        newest = desk.ledger.readings.reading(reading).corrected_by
        if newest is not None:
            raise InvalidInputError(
                f"the reading was corrected before: correct its correction, {to_hex(newest)}"
            )
        readings = desk.ledger.readings
        return readings.correct(reading, sealed.document, sealed.blob, reason)

    others = _readers(desk, found)
    owner = desk.ledger.participant(desk.ledger.dataset_version(found.terms.version).hospital)
    # Nobody makes a wrong reading stand by publishing a key that opens nothing.
    if owner is not None and is_usable_key(owner.encryption_key):
        others = (owner.address, *others)
    return _write(desk, wanted, document, found.terms, send, others)


def ask(
    desk: Desk,
    image: Image,
    question: str,
    *,
    take_within: int,
    fulfil_within: int,
    reader: str | None = None,
    opinion_on: bytes = NONE,
    shown: bool = False,
    check: Callable[[bytes], None] = lambda _: None,
) -> Said:
    """Ask other hospitals for a reading of the hospital's own image.

    Args:
        desk: Who asks.
        image: What of.
        question: What it wants to know, sealed to whoever may take it; empty for no question.
        take_within: Seconds from now until which it can be taken.
        fulfil_within: Seconds from now until which the reading has to be there.
        reader: The one hospital that may take it, or None for any.
        opinion_on: The reading on which an opinion is asked.
        shown: Whether that reading is shown to whoever may take the request.
        check: Raises where the question tells who the patient is.

    Raises:
        InvalidInputError: If the sender may not ask for the hospital, or the times do not fit.
        BlobUnavailableError: If the question cannot be stored.
        ContractRevertedError: If the ledger refuses.
        LedgerError: If the chain cannot be reached.
    """
    _check_appointed(desk)
    _check_times(take_within, fulfil_within)
    if shown and (opinion_on == NONE or not question.strip()):
        raise InvalidInputError(
            "a reading is shown within a question about it: give both, --opinion-on and --question"
        )
    readings, now = desk.ledger.readings, desk.ledger.next_timestamp()
    wanted: dict[str, object] = {
        "kind": "ask",
        "image": to_hex(image.commitment),
        "version": to_hex(image.version),
        "opinion_on": to_hex(opinion_on),
        "question": hashlib.sha256(question.encode()).hexdigest(),
        "reader": reader,
        "shown": shown,
        "within": [take_within, fulfil_within],
    }

    undated = RequestTerms(
        image.version, image.commitment, desk.hospital, reader, opinion_on, 0, 0, NONE
    )
    with draft_of(_drafts(desk), _wanted_by(desk, wanted)) as draft:
        done = draft.done()
        if done is not None and _stands(readings, done, now):
            return Said(done, before=True)
        kept = None if done is not None else draft.terms()
        if kept is None or _dated(undated, kept).take_by <= now or _lacks(draft, kept["question"]):
            draft.discard()
            # The same terms are one request, and an earlier one may have been cancelled just now.
            now = max([now, *(one.asked_at + 1 for one in readings.requests(desk.hospital))])
            kept = {"take_by": now + take_within, "fulfil_by": now + fulfil_within}
            sealed = NONE
            if question.strip():
                told = Question(question, now, now + fulfil_within)
                reading = opinion_on if shown else None
                sealed = _seal_question(desk, image, told, reader, reading, check, draft)
            kept["question"] = to_hex(sealed)
            draft.keep(kept)
        terms = _dated(undated, kept)

        def find() -> bytes | None:
            asked = readings.requests(desk.hospital)
            return next((one.request for one in asked if one.terms == terms), None)

        def send() -> bytes:
            if terms.question != NONE:
                store(draft.envelope, terms.question, desk.blobs)
            return readings.ask(terms, image.proof)

        return _sent(draft, find, send)


def share(desk: Desk, reading: bytes) -> Cid:
    """Put a copy of a reading on IPFS that others can open, and nothing on the ledger.

    Salt and document are the same, so whoever opens the copy holds it against the ledger.

    Args:
        desk: Who can open it; ``to`` says who else is to.
        reading: The reading.

    Returns:
        What names the copy.

    Raises:
        InvalidInputError: If nobody was named, or it is not for this key.
        FedWitnessError: As `open_reading`, or if the copy cannot be stored.
    """
    if not desk.to:
        raise InvalidInputError("expected somebody to share it with, found nobody: give --to")
    found, payload = _opened(desk, reading, None)
    return _store_copy(desk, found, payload, _keys(desk, ()))


def open_reading(desk: Desk, reading: bytes, copy: Cid | None = None) -> Opened:
    """Fetch a reading, open it and hold it against the ledger.

    Where it is not sealed to this key, the questions are looked through for a copy.

    Args:
        desk: Who opens it.
        reading: The reading.
        copy: A copy of it that its hospital has shared.

    Raises:
        SealedToOthersError: If it is not for this key, and no copy is.
        DigestMismatchError: If salt and document are not those that the ledger has.
        FedWitnessError: If it cannot be had, or is no envelope for this place.
    """
    found, payload = _opened(desk, reading, copy)
    return Opened(found, document_in(payload, found.terms.document))


def open_question(desk: Desk, request: bytes) -> bytes:
    """Fetch the question of a request and open it.

    Raises:
        InvalidInputError: If the request has none.
        FedWitnessError: If it cannot be had or opened.
    """
    found = desk.ledger.readings.request(request)
    if found.terms.question == NONE:
        raise InvalidInputError(f"the request {to_hex(request)} comes without a question")
    return _question(desk, found)


def _write(
    desk: Desk,
    wanted: Mapping[str, object],
    document: Document,
    terms: ReadingTerms,
    send: Callable[[ReadingTerms], bytes],
    others: Iterable[str] = (),
) -> Said:
    """Seal, store and record one document, once."""
    readings = desk.ledger.readings
    context = _context(desk, terms.image, terms.hospital)
    said = {**wanted, "said": to_hex(document.said)}
    with draft_of(_drafts(desk), _wanted_by(desk, said)) as draft:
        done = draft.done()
        if done is not None and any(one.reading == done for one in readings.readings(terms.image)):
            return Said(done, before=True)
        kept = None if done is not None else draft.terms()
        if kept is None or _lacks(draft, kept["blob"]):
            draft.discard()
            keys = _keys(desk, (desk.hospital, *others))
            sealed = seal_document(document.raw, context, keys, draft.envelope)
            kept = {"document": to_hex(sealed.document), "blob": to_hex(sealed.blob)}
            draft.keep(kept)
        whole = replace(
            terms,
            document=from_hex(kept["document"], "document"),
            blob=from_hex(kept["blob"], "blob"),
        )

        def find() -> bytes | None:
            author = desk.identity.address
            return next(
                (
                    one.reading
                    for one in readings.readings(whole.image)
                    if (one.terms.document, one.author) == (whole.document, author)
                ),
                None,
            )

        def stored() -> bytes:
            store(draft.envelope, whole.blob, desk.blobs)
            return send(whole)

        return _sent(draft, find, stored)


def _sent(draft: Draft, find: Callable[[], bytes | None], send: Callable[[], bytes]) -> Said:
    """Say it on the ledger, unless that knows it from an earlier attempt."""
    known = find()
    before = known is not None
    if known is None:
        try:
            known = send()
        except ContractRevertedError:
            # An earlier attempt may have been on its way, and be there by now.
            known, before = find(), True
            if known is None:
                raise
    draft.finish(known)
    return Said(known, before)


def _seal_question(
    desk: Desk,
    image: Image,
    question: Question,
    reader: str | None,
    shown: bytes | None,
    check: Callable[[bytes], None],
    draft: Draft,
) -> bytes:
    """Seal a question to whoever may take it, with a copy of the reading that it shows, if any."""
    readers = (reader,) if reader is not None else _active_hospitals(desk)
    keys = _keys(desk, (desk.hospital, *readers))
    check(fhir_report.make_question(question))
    if shown is not None:
        found, payload = _opened(desk, shown, None)
        question = replace(question, reading=_store_copy(desk, found, payload, keys))
    raw = fhir_report.make_question(question)
    context = _context(desk, image.commitment, desk.hospital)
    return seal_document(raw, context, keys, draft.envelope).blob


def _opened(desk: Desk, reading: bytes, copy: Cid | None) -> tuple[Reading, bytes]:
    found = desk.ledger.readings.reading(reading)
    context = _context(desk, found.terms.image, found.terms.hospital)
    folder = private_folder(desk.folder)
    opens = (context, desk.identity.encryption_private_key, desk.blobs, folder)
    try:
        payload = open_payload(found.terms.blob if copy is None else copy.digest, *opens)
        document_in(payload, found.terms.document)
    except SealedToOthersError:
        shown = None if copy is not None else _shown(desk, found, opens)
        if shown is None:
            raise
        payload = shown
    return found, payload


def _shown(
    desk: Desk, reading: Reading, opens: tuple[EnvelopeContext, bytes, BlobStore, Path]
) -> bytes | None:
    """Open a copy of a reading that a question for this key shows, newest first.

    Only the image's hospital asks about it: others that registered its commitment could ask, too,
    and show what is none.
    """
    owner = desk.ledger.dataset_version(reading.terms.version).hospital
    for one in reversed(desk.ledger.readings.requests(owner)):
        if one.terms.opinion_on == reading.reading and one.terms.question != NONE:
            try:
                copy = fhir_report.copy_in(_question(desk, one))
                payload = None if copy is None else open_payload(copy.digest, *opens)
                if payload is not None:
                    document_in(payload, reading.terms.document)
                    return payload
            except FedWitnessError:
                continue  # for another, gone, or not this reading
    return None


def _question(desk: Desk, request: ReadingRequest) -> bytes:
    context = _context(desk, request.terms.image, request.terms.hospital)
    key = desk.identity.encryption_private_key
    folder = private_folder(desk.folder)
    payload = open_payload(request.terms.question, context, key, desk.blobs, folder)
    return document_in(payload, None)


def _store_copy(desk: Desk, reading: Reading, payload: bytes, keys: tuple[bytes, ...]) -> Cid:
    context = _context(desk, reading.terms.image, reading.terms.hospital)
    envelope = private_folder(_drafts(desk)) / f"copy-{os.urandom(8).hex()}"
    try:
        sealed = seal_payload(payload, context, keys, envelope)
        return store(envelope, sealed.blob, desk.blobs)
    finally:
        envelope.unlink(missing_ok=True)


def _context(desk: Desk, image: bytes, hospital: str) -> EnvelopeContext:
    return reading_context(desk.ledger.chain_id, desk.ledger.readings.address, image, hospital)


def _keys(desk: Desk, parties: Iterable[str]) -> tuple[bytes, ...]:
    """Find the keys to seal to, as the ledger publishes them; the author's own among them."""
    keys = [desk.identity.encryption_key]
    for one in (*parties, *desk.to):
        if is_key(one):
            keys.append(from_hex(one, "key"))
            continue
        party = desk.ledger.participant(one)
        if party is None:
            raise InvalidInputError(
                f"{one} is nobody in this federation, and so has no key to seal to; give the key "
                "itself, 0x and 64 digits"
            )
        keys.append(party.encryption_key)
    return recipients_of(keys)


def _readers(desk: Desk, reading: Reading) -> tuple[str, ...]:
    """List who else could open a reading, by the keys that they publish now."""
    with TemporaryDirectory(dir=private_folder(desk.folder)) as work:
        envelope = Path(work) / "envelope"
        try:
            desk.blobs.fetch(Cid.from_blob_digest(reading.terms.blob), envelope, MAX_ENVELOPE)
            with envelope.open("rb") as file:
                keys = {one.key for one in read_header(file).recipients}
        except (BlobUnavailableError, VerificationError):
            return ()  # what cannot be had is to be corrected all the same
    parties = desk.ledger.participants()
    return tuple(one.address for one in parties if one.encryption_key in keys and not one.suspended)


def _active_hospitals(desk: Desk) -> tuple[str, ...]:
    """List who may take what any may take, but for who published a key that opens nothing.

    Else one hospital could keep all others from asking.
    """
    parties = desk.ledger.participants(Role.HOSPITAL)
    able = (one for one in parties if not one.suspended and is_usable_key(one.encryption_key))
    return tuple(one.address for one in able)


def _check_appointed(desk: Desk) -> None:
    """Refuse early what the contract would refuse once the envelope is stored."""
    own = desk.identity.address
    if own == desk.hospital:
        return
    until = desk.ledger.readings.appointed_until(desk.hospital, own)
    if until < desk.ledger.next_timestamp():
        raise InvalidInputError(
            f"{own} does not read in the name of {desk.hospital} now: that hospital appoints with "
            f"`fedwitness readings appoint {own}`; for another hospital, name it with --hospital"
        )


def _check_times(take_within: int, fulfil_within: int) -> None:
    if not 0 < take_within <= fulfil_within:
        raise InvalidInputError(
            "expected a time to take the request, and at least as long a time to fulfil it, found "
            f"{take_within} and {fulfil_within} seconds"
        )


def _check_taken(desk: Desk, found: ReadingRequest) -> None:
    if found.state is not RequestState.TAKEN or found.taker != desk.hospital:
        raise InvalidInputError(
            f"expected a request that {desk.hospital} has taken, found one that is "
            f"{found.state.name.lower()}"
            + (f" by {found.taker}" if found.state is RequestState.TAKEN else "")
            + f": take it first with `fedwitness readings take {to_hex(found.request)}`"
        )
    if desk.ledger.next_timestamp() > found.terms.fulfil_by:
        raise InvalidInputError(
            "the request's time to be fulfilled is over: ask its hospital to cancel it and to ask "
            "anew"
        )


def _dated(terms: RequestTerms, kept: Mapping[str, object]) -> RequestTerms:
    """Return terms with the times and the question that a draft keeps."""
    return replace(
        terms,
        take_by=int(str(kept["take_by"])),
        fulfil_by=int(str(kept["fulfil_by"])),
        question=from_hex(kept["question"], "question"),
    )


def _stands(readings: Readings, request: bytes, now: int) -> bool:
    """Tell whether a request is still to be fulfilled, so that it need not be made again."""
    for one in readings.requests():
        if one.request == request and one.state in _STANDING:
            return not has_lapsed(one.state, one.terms.take_by, one.terms.fulfil_by, now)
    return False


def _lacks(draft: Draft, blob: object) -> bool:
    return blob != to_hex(NONE) and not draft.envelope.is_file()


def _drafts(desk: Desk) -> Path:
    return private_folder(desk.folder) / "drafts"


def _wanted_by(desk: Desk, wanted: Mapping[str, object]) -> dict[str, object]:
    """Return what is wanted with who wants it, and where: what a draft is named by."""
    return {
        **wanted,
        "author": desk.identity.address,
        "chain_id": str(desk.ledger.chain_id),
        "hospital": desk.hospital,
        "readings": desk.ledger.readings.address,
        "to": sorted(desk.to),
    }
