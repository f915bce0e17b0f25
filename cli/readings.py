"""`fedwitness readings`: what clinicians say about images, sealed to whoever may know it.

What brings pydicom and the models of FHIR along is imported by the commands that need it.
"""

import time
from collections.abc import Iterable, Mapping
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from chain.addresses import checked_address
from chain.cid import Cid
from chain.errors import InvalidInputError
from chain.federation import Federation
from chain.files import replacing
from chain.keyring import Keyring
from chain.keystore import Identity
from chain.readings import (
    NONE,
    Agreement,
    Reading,
    ReadingRequest,
    RequestState,
    has_lapsed,
)
from chain.wire import from_hex, to_hex, to_json_dict
from cli.command import command
from cli.connect import blobs, reader, writer
from cli.hospital import IngestKey
from cli.screen import Screen, as_lines, moment
from node.readings.words import MAX_TEXT, Words

if TYPE_CHECKING:
    from node.readings.desk import Desk
    from node.readings.documents import Document
    from node.readings.subject import Subject

SECONDS_PER_DAY, SECONDS_PER_HOUR = 86_400, 3_600

app = typer.Typer(
    no_args_is_help=True,
    help="Write, correct, compare and open readings of images, and ask other hospitals for theirs "
    "(clinicians).\n\n"
    "A reading is sealed to the image's hospital and the reading one, lies on IPFS, and stands on "
    "the ledger by its digest, author and time. Nothing is ever erased there: a correction stands "
    "beside what it corrects.",
)


class Form(StrEnum):
    """What a reading that is made here becomes."""

    FHIR = "fhir"
    DICOM = "dicom"


class Agreeing(StrEnum):
    """How far two readings agree, after ACR RADPEER, as an argument."""

    AGREE = "agree"
    MINOR = "minor"
    MAJOR = "major"


class State(StrEnum):
    """Where a request stands, as an option."""

    OPEN = "open"
    TAKEN = "taken"
    FULFILLED = "fulfilled"
    CANCELLED = "cancelled"


_AGREEMENTS: Mapping[Agreeing, Agreement] = {
    Agreeing.AGREE: Agreement.AGREES,
    Agreeing.MINOR: Agreement.MINOR_DISCREPANCY,
    Agreeing.MAJOR: Agreement.MAJOR_DISCREPANCY,
}

_ReadingId = Annotated[
    str, typer.Argument(metavar="READING", help="The reading, 0x and 64 digits.")
]
_RequestId = Annotated[
    str, typer.Argument(metavar="REQUEST", help="The request, 0x and 64 digits.")
]
_Dataset = Annotated[Path, typer.Option(help="The committed data set, KEY.work/datasets/NAME.npz.")]
_Number = Annotated[int, typer.Option("--image", help="The image's number in it, from 0.")]
_File = Annotated[
    Path | None,
    typer.Option(
        "--document",
        help="What your reporting system wrote: a DICOM structured report, or a FHIR "
        "DiagnosticReport (R5 or R4) in JSON.",
        show_default=False,
    ),
]
_Impression = Annotated[
    str | None,
    typer.Option(
        help="Without --document: what it comes to; a text, or @FILE with it.", show_default=False
    ),
]
_Findings = Annotated[
    str, typer.Option(help="What is seen; a text, or @FILE with it.", show_default=False)
]
_Form = Annotated[Form, typer.Option(help="What is made of the words.")]
_Clinician = Annotated[
    str,
    typer.Option(
        help="Who reads, as DICOM writes names: Doe^Jane. Stands in the sealed document alone.",
        show_default=False,
    ),
]
_Organization = Annotated[str, typer.Option(help="Whose clinician that is.", show_default=False)]
_Preliminary = Annotated[bool, typer.Option("--preliminary", help="More is to come.")]
_Instance = Annotated[
    Path | None,
    typer.Option(
        help="The image's de-identified DICOM file, or what `hospital ingest` wrote, in which it "
        "is found. The document is held against it.",
        show_default=False,
    ),
]
_LookedAt = Annotated[
    bool,
    typer.Option("--looked-at", help="You have looked at what may name the patient: it does not."),
]
_To = Annotated[
    list[str] | None,
    typer.Option(
        "--to",
        help="Who may open it as well: a party's address, or an X25519 key; repeat for more.",
        show_default=False,
    ),
]
_Hospital = Annotated[
    str | None,
    typer.Option(
        help="In whose name, for its appointed clinician; yours if not given.", show_default=False
    ),
]


@app.command()
@command
def record(
    *,
    dataset: _Dataset,
    image: _Number,
    federation: Federation,
    keyring: Keyring,
    identity: Identity,
    screen: Screen,
    document: _File = None,
    impression: _Impression = None,
    findings: _Findings = "",
    form: _Form = Form.FHIR,
    clinician: _Clinician = "",
    organization: _Organization = "",
    preliminary: _Preliminary = False,
    opinion_on: Annotated[
        str | None,
        typer.Option(help="Another author's reading on which this is a second opinion."),
    ] = None,
    instance: _Instance = None,
    ingest_key: IngestKey = None,
    looked_at: _LookedAt = False,
    to: _To = None,
    hospital: _Hospital = None,
) -> None:
    """Record a reading of an image of your hospital, or a second opinion on one.

    The document is checked, sealed, stored on IPFS and read back; then its digest goes to the
    ledger. Interrupted anywhere and called again with the same words, it goes on, and records
    nothing twice.

    Example: fedwitness readings record --dataset keys/st-mary.work/datasets/head-mri.npz --image 17
    --instance scans --findings @findings.txt --impression "No acute abnormality." --key
    keys/st-mary.json
    """
    from node.readings.desk import record as record_reading
    from node.readings.subject import find_image

    desk = _desk(federation, keyring, identity, hospital, to)
    shown = find_image(desk.ledger, desk.hospital, dataset, image)
    subject = _subject(instance, shown.digest, ingest_key, keyring, screen)
    words = _words(impression, findings, clinician, organization, preliminary=preliminary)
    written = _document(document, words, form, subject, looked_at=looked_at)
    opinion = NONE if opinion_on is None else from_hex(opinion_on, "opinion-on")
    said = record_reading(desk, shown, written, opinion)
    _tell(screen, "reading", said.id, said.before, image=to_hex(shown.commitment))


@app.command()
@command
def correct(
    *,
    reading: _ReadingId,
    reason: Annotated[str, typer.Option(help="Why; everyone can read it, so name nobody.")],
    federation: Federation,
    keyring: Keyring,
    identity: Identity,
    screen: Screen,
    document: _File = None,
    impression: _Impression = None,
    findings: _Findings = "",
    form: _Form = Form.FHIR,
    clinician: _Clinician = "",
    organization: _Organization = "",
    preliminary: _Preliminary = False,
    instance: _Instance = None,
    ingest_key: IngestKey = None,
    dataset: Annotated[
        Path | None,
        typer.Option(help="The committed data set that the image is in, to find --instance by."),
    ] = None,
    proof: Annotated[
        Path | None, typer.Option(help="What `hospital prove` wrote about another's image.")
    ] = None,
    looked_at: _LookedAt = False,
    to: _To = None,
) -> None:
    """Put a corrected document in the place of your hospital's reading, which stays to be seen.

    It is sealed to whoever could open the reading before. Only the newest of a line can be
    corrected.

    Example: fedwitness readings correct 0x7c… --reason "wrong side" --impression "Left, not right:
    …" --key keys/st-mary.json
    """
    from node.readings.desk import correct as correct_reading
    from node.readings.documents import refuse_in_public
    from node.readings.subject import digest_in, proven_digest

    desk = _desk(federation, keyring, identity, None, to)
    found = desk.ledger.readings.reading(from_hex(reading, "reading"))
    digest = proven_digest(desk.ledger, proof, found.terms.image)
    if dataset is not None:
        digest = digest_in(dataset, found.terms.image)
    subject = _subject(instance, digest, ingest_key, keyring, screen)
    refuse_in_public(reason, subject)
    words = _words(impression, findings, clinician, organization, preliminary=preliminary)
    written = _document(document, words, form, subject, looked_at=looked_at)
    said = correct_reading(desk, found.reading, written, reason)
    _tell(screen, "correction", said.id, said.before, corrects=reading)


@app.command()
@command
def compare(
    *,
    own: Annotated[str, typer.Argument(metavar="OWN", help="Your reading, 0x and 64 digits.")],
    other: Annotated[str, typer.Argument(metavar="OTHER", help="The other author's.")],
    agreement: Annotated[Agreeing, typer.Argument(help="How far they agree, after ACR RADPEER.")],
    federation: Federation,
    keyring: Keyring,
    identity: Identity,
    screen: Screen,
) -> None:
    """Say how far your reading and another of the same image agree; the last word counts.

    `minor`: they differ in what makes no difference to the patient. `major`: in what does. Name the
    newest of each line, as `readings list` shows them.

    Example: fedwitness readings compare 0x9d… 0x7c… minor --key keys/clinic.json
    """
    federation.needs("image_access")
    readings = writer(federation, keyring, identity).readings
    ids = from_hex(own, "own"), from_hex(other, "other")
    readings.compare(*ids, _AGREEMENTS[agreement])
    screen.show({"own": own, "other": other, "agreement": _AGREEMENTS[agreement].name})


@app.command("list")
@command
def list_readings(
    *,
    image: Annotated[
        str, typer.Option(help="The image's commitment, or with --dataset its number from 0.")
    ],
    federation: Federation,
    screen: Screen,
    dataset: Annotated[
        Path | None, typer.Option(help="The committed data set, KEY.work/datasets/NAME.npz.")
    ] = None,
) -> None:
    """List an image's readings with their corrections, and how far their authors agree.

    Of each line the last reading counts. What they say only `readings open` tells.

    Example: fedwitness readings list --image 0x1a… --federation federation.json
    """
    from node.readings.lines import copies_among, lines_of

    federation.needs("image_access")
    readings = reader(federation).readings
    commitment = _commitment(image, dataset)
    found = readings.readings(commitment)
    lines, copies = lines_of(found), copies_among(found)
    for same in copies:
        screen.say(_one_document(same))
    comparisons = readings.comparisons(commitment)
    data: dict[str, Any] = {
        "image": to_hex(commitment),
        "lines": [
            {
                "newest": to_hex(line.newest.reading),
                "readings": [_reading_json(one) for one in line.readings],
            }
            for line in lines
        ],
        "comparisons": [to_json_dict(one) for one in comparisons],
        "copies": [[to_hex(one.reading) for one in same] for same in copies],
    }
    shown = {
        "image": data["image"],
        "readings": _numbered([_for_people(one) for line in lines for one in line.readings]),
        "comparisons": _numbered(
            [
                {
                    "own": to_hex(one.own),
                    "other": to_hex(one.other),
                    "agreement": one.agreement.name.lower().replace("_", " "),
                    "at": moment(one.compared_at),
                }
                for one in comparisons
            ]
        ),
    }
    screen.show(data, as_lines(shown))


@app.command("open")
@command
def open_document(
    *,
    reading: _ReadingId,
    out: Annotated[
        Path, typer.Option(help="Receives the document, for your eyes alone (mode 0600).")
    ],
    federation: Federation,
    keyring: Keyring,
    identity: Identity,
    screen: Screen,
    copy: Annotated[
        str | None, typer.Option(help="The CID of a copy that its hospital shared.")
    ] = None,
    show: Annotated[bool, typer.Option("--show", help="Print what it says as well.")] = False,
) -> None:
    """Fetch a reading, open it, and hold it against the ledger.

    What is not sealed to you cannot be opened: ask its hospital for a copy (`readings share`).
    A copy that came with a request's question is found by itself.

    Example: fedwitness readings open 0x7c… --out reading.json --key keys/st-mary.json
    """
    from node.readings.desk import open_reading
    from node.readings.documents import form_of, look_through, words_of
    from node.readings.lines import copies_among

    desk = _desk(federation, keyring, identity, None, None)
    named = None if copy is None else Cid.parse(copy)
    found = open_reading(desk, from_hex(reading, "reading"), named)
    finds = look_through(found.document)
    if finds.certain:
        screen.say("take care: this document tells who the patient is; tell its author")
    with replacing(out) as file:
        file.write(found.document)
    for same in copies_among(desk.ledger.readings.readings(found.reading.terms.image)):
        if found.reading in same:
            screen.say(_one_document(same))
    newer = found.reading.corrected_by
    if newer is not None:
        screen.say(f"this reading was corrected: what counts is after it, {to_hex(newer)}")
    told = {"says": words_of(found.document)} if show else {}
    data = {"out": str(out), "form": form_of(found.document).value, **told}
    shown = {**data, **_for_people(found.reading)}
    screen.show({**data, **_reading_json(found.reading)}, as_lines(_without_none(shown)))


@app.command()
@command
def share(
    *,
    reading: _ReadingId,
    to: Annotated[
        list[str], typer.Option("--to", help="Who may open it: an address, or an X25519 key.")
    ],
    federation: Federation,
    keyring: Keyring,
    identity: Identity,
    screen: Screen,
) -> None:
    """Make a copy of a reading that others can open, and print its CID, which you send them.

    Nothing goes to the ledger. They open it with `readings open READING --copy CID`, which holds it
    against the ledger.

    Example: fedwitness readings share 0x7c… --to 0xAb…12 --key keys/st-mary.json
    """
    from node.readings.desk import share as share_reading

    desk = _desk(federation, keyring, identity, None, to)
    cid = share_reading(desk, from_hex(reading, "reading"))
    screen.show({"reading": reading, "copy": str(cid), "to": list(desk.to)})


@app.command()
@command
def ask(
    *,
    dataset: _Dataset,
    image: _Number,
    federation: Federation,
    keyring: Keyring,
    identity: Identity,
    screen: Screen,
    question: Annotated[
        str,
        typer.Option(
            help="What you want to know, sealed to whoever may take it; a text, or @FILE with it.",
            show_default=False,
        ),
    ] = "",
    reader_: Annotated[
        str | None,
        typer.Option("--reader", help="The one hospital that may take it; any if not given."),
    ] = None,
    opinion_on: Annotated[
        str | None, typer.Option(help="The reading on which you want a second opinion.")
    ] = None,
    show_reading: Annotated[
        bool,
        typer.Option("--show-reading", help="Let whoever may take it open that reading at once."),
    ] = False,
    take_hours: Annotated[
        float, typer.Option(help="Within how many hours it can be taken.")
    ] = 24.0,
    fulfil_hours: Annotated[
        float, typer.Option(help="Within how many hours the reading has to be there.")
    ] = 72.0,
    instance: _Instance = None,
    ingest_key: IngestKey = None,
    looked_at: _LookedAt = False,
    hospital: _Hospital = None,
) -> None:
    """Ask other hospitals for a reading of an image of yours, or for a second opinion.

    Whoever takes it has to see the image: give that hospital's account a grant, for the purpose 43
    (clinical care), with `grants give`.

    Example: fedwitness readings ask --dataset keys/st-mary.work/datasets/head-mri.npz --image 17
    --opinion-on 0x7c… --question "Is the lesion new?" --reader 0xAb…12 --key keys/st-mary.json
    """
    from node.readings.desk import ask as ask_for_reading
    from node.readings.documents import refuse_identity
    from node.readings.fhir_report import look_through_question
    from node.readings.subject import find_image

    desk = _desk(federation, keyring, identity, hospital, None)
    shown = find_image(desk.ledger, desk.hospital, dataset, image)
    subject = _subject(instance, shown.digest, ingest_key, keyring, screen)
    said = ask_for_reading(
        desk,
        shown,
        _text(question),
        take_within=int(take_hours * SECONDS_PER_HOUR),
        fulfil_within=int(fulfil_hours * SECONDS_PER_HOUR),
        reader=None if reader_ is None else checked_address(reader_),
        opinion_on=NONE if opinion_on is None else from_hex(opinion_on, "opinion-on"),
        shown=show_reading,
        check=lambda raw: refuse_identity(look_through_question(raw, subject), looked_at=looked_at),
    )
    _tell(screen, "request", said.id, said.before, image=to_hex(shown.commitment))


@app.command()
@command
def requests(
    *,
    federation: Federation,
    screen: Screen,
    state: Annotated[
        State | None, typer.Option(help="Only those that are in this state.", show_default=False)
    ] = None,
    hospital: Annotated[
        str | None, typer.Option(help="Only those of this hospital.", show_default=False)
    ] = None,
) -> None:
    """Show the board of requests: what is open, taken, fulfilled and cancelled.

    Example: fedwitness readings requests --state open --federation federation.json
    """
    federation.needs("image_access")
    ledger = reader(federation)
    wanted = None if state is None else RequestState[state.name]
    asking = None if hospital is None else checked_address(hospital)
    found = ledger.readings.requests(asking, wanted)
    now = ledger.next_timestamp()
    data = {"now": now, "requests": [_request_json(one, now) for one in found]}
    screen.show(data, as_lines(_numbered([_request_for_people(one, now) for one in found])))


@app.command()
@command
def question(
    *,
    request: _RequestId,
    federation: Federation,
    keyring: Keyring,
    identity: Identity,
    screen: Screen,
    out: Annotated[
        Path | None, typer.Option(help="Receives it as a FHIR ServiceRequest.", show_default=False)
    ] = None,
) -> None:
    """Open what a request asks.

    Example: fedwitness readings question 0x3e… --key keys/clinic.json
    """
    from node.readings.desk import open_question
    from node.readings.fhir_report import look_through_question, words_of

    desk = _desk(federation, keyring, identity, None, None)
    raw = open_question(desk, from_hex(request, "request"))
    look_through_question(raw)
    if out is not None:
        with replacing(out) as file:
            file.write(raw)
    screen.show(
        {"request": request, "asks": words_of(raw), "out": None if out is None else str(out)}
    )


@app.command()
@command
def take(
    *,
    request: _RequestId,
    federation: Federation,
    keyring: Keyring,
    identity: Identity,
    screen: Screen,
    hospital: _Hospital = None,
) -> None:
    """Take an open request of another hospital, which then waits for your reading.

    Example: fedwitness readings take 0x3e… --key keys/clinic.json
    """
    federation.needs("image_access")
    readings = writer(federation, keyring, identity).readings
    named = from_hex(request, "request")
    readings.take(named, None if hospital is None else checked_address(hospital))
    until = readings.request(named).terms.fulfil_by
    screen.show({"taken": request, "fulfil_by": until, "until": moment(until)})


@app.command()
@command
def release(
    *,
    request: _RequestId,
    federation: Federation,
    keyring: Keyring,
    identity: Identity,
    screen: Screen,
) -> None:
    """Give back a request that your hospital has taken; it is open again.

    Example: fedwitness readings release 0x3e… --key keys/clinic.json
    """
    federation.needs("image_access")
    writer(federation, keyring, identity).readings.release(from_hex(request, "request"))
    screen.show({"released": request})


@app.command()
@command
def cancel(
    *,
    request: _RequestId,
    federation: Federation,
    keyring: Keyring,
    identity: Identity,
    screen: Screen,
) -> None:
    """Cancel a request of your hospital: while it is open, or once its time is over.

    Example: fedwitness readings cancel 0x3e… --key keys/st-mary.json
    """
    federation.needs("image_access")
    writer(federation, keyring, identity).readings.cancel(from_hex(request, "request"))
    screen.show({"cancelled": request})


@app.command()
@command
def fulfil(
    *,
    request: _RequestId,
    federation: Federation,
    keyring: Keyring,
    identity: Identity,
    screen: Screen,
    document: _File = None,
    impression: _Impression = None,
    findings: _Findings = "",
    form: _Form = Form.FHIR,
    clinician: _Clinician = "",
    organization: _Organization = "",
    preliminary: _Preliminary = False,
    instance: _Instance = None,
    proof: Annotated[
        Path | None,
        typer.Option(
            help="What `hospital prove` wrote about the image: --instance is then held against it."
        ),
    ] = None,
    looked_at: _LookedAt = False,
    to: _To = None,
    hospital: _Hospital = None,
) -> None:
    """Record the reading that another hospital asked for and yours took.

    --instance is the file that you fetched from that hospital's gateway.

    Example: fedwitness readings fulfil 0x3e… --instance image.dcm --form dicom --clinician Doe^Jane
    --impression "The lesion is new." --key keys/clinic.json
    """
    from node.readings.desk import fulfil as fulfil_request
    from node.readings.subject import proven_digest

    desk = _desk(federation, keyring, identity, hospital, to)
    found = desk.ledger.readings.request(from_hex(request, "request"))
    digest = proven_digest(desk.ledger, proof, found.terms.image)
    subject = _subject(instance, digest, None, keyring, screen)
    words = _words(impression, findings, clinician, organization, preliminary=preliminary)
    written = _document(document, words, form, subject, looked_at=looked_at)
    said = fulfil_request(desk, found.request, written)
    _tell(screen, "reading", said.id, said.before, request=request)


@app.command()
@command
def appoint(
    *,
    clinician: Annotated[str, typer.Argument(metavar="ADDRESS", help="The clinician's address.")],
    federation: Federation,
    keyring: Keyring,
    identity: Identity,
    screen: Screen,
    days: Annotated[float, typer.Option(help="For how long; 0 ends it now.")] = 365.0,
) -> None:
    """Let a clinician read, ask and take requests in your hospital's name.

    The clinician makes keys with `hospital keygen`. What others wrote is sealed to your hospital's
    key: let them seal it to the clinician's as well, with --to.

    Example: fedwitness readings appoint 0xAb…12 --days 90 --key keys/st-mary.json
    """
    federation.needs("image_access")
    until = int(time.time() + days * SECONDS_PER_DAY) if days > 0 else 0
    writer(federation, keyring, identity).readings.appoint(checked_address(clinician), until)
    screen.show({"clinician": clinician, "until": until})


def _desk(
    federation: Federation,
    keyring: Keyring,
    identity: Identity,
    hospital: str | None,
    to: list[str] | None,
) -> "Desk":
    from node.readings.desk import Desk, is_key

    federation.needs("image_access", "ipfs")
    return Desk(
        identity,
        identity.address if hospital is None else checked_address(hospital),
        keyring.work / "readings",
        writer(federation, keyring, identity),
        blobs(federation),
        tuple(one if is_key(one) else checked_address(one) for one in to or ()),
    )


def _commitment(image: str, dataset: Path | None) -> bytes:
    from node.dataset import load_dataset

    if dataset is None:
        return from_hex(image, "image")
    commitments = load_dataset(dataset).commitments
    if not image.isdecimal() or int(image) >= len(commitments):
        raise InvalidInputError(
            f"expected the number of an image, from 0 to {len(commitments) - 1}, found {image!r}"
        )
    return commitments[int(image)]


def _subject(
    instance: Path | None,
    digest: bytes | None,
    ingest_key: Path | None,
    keyring: Keyring,
    screen: Screen,
) -> "Subject":
    from node.readings.subject import UNKNOWN, subject_of

    if instance is None:
        screen.say(
            "without --instance the document is not held against the image, nor looked through for "
            "what its patient is called"
        )
        return UNKNOWN
    if digest is None:
        screen.say("without --proof the file is not held against the image that the ledger has")
    return subject_of(instance, digest, ingest_key or keyring.pseudonym_key)


def _words(
    impression: str | None, findings: str, clinician: str, organization: str, *, preliminary: bool
) -> Words | None:
    """Return what a clinician says by options, None without an impression."""
    if impression is None:
        return None
    told = _text(impression), _text(findings)
    return Words(*told, clinician, organization, is_final=not preliminary)


def _document(
    file: Path | None, words: Words | None, form: Form, subject: "Subject", *, looked_at: bool
) -> "Document":
    """Read the document or make it, and check it."""
    from node.readings import documents

    if file is not None and words is None:
        written = documents.read_document(file)
    elif file is None and words is not None:
        made = documents.Form(form.value)
        written = documents.make_document(words, made, subject, int(time.time()))
    else:
        raise InvalidInputError(
            "expected either what your reporting system wrote, by --document, or what you say, by "
            "--impression (and --findings)"
        )
    documents.refuse_identity(documents.look_through(written.raw, subject), looked_at=looked_at)
    return written


def _text(given: str) -> str:
    """Return a text that was given, or that stands in a file, so that no shell remembers it."""
    if not given.startswith("@"):
        return given
    with Path(given[1:]).open(encoding="utf-8", errors="replace") as file:
        return file.read(MAX_TEXT + 1).strip()


def _tell(screen: Screen, what: str, found: bytes, before: bool, **others: object) -> None:
    if before:
        screen.say(f"the ledger had this {what} already: nothing was recorded a second time")
    screen.show({what: to_hex(found), "before": before, **others})


def _reading_json(one: Reading) -> dict[str, Any]:
    found = to_json_dict(one)
    terms = found.pop("terms")
    terms["opinion_on"] = None if one.terms.opinion_on == NONE else terms["opinion_on"]
    return {**found, **terms}


def _request_json(one: ReadingRequest, now: int) -> dict[str, Any]:
    found = to_json_dict(one)
    terms = found.pop("terms")
    for name in ("opinion_on", "question"):
        terms[name] = None if getattr(one.terms, name) == NONE else terms[name]
    lapsed = has_lapsed(one.state, one.terms.take_by, one.terms.fulfil_by, now)
    return {**found, **terms, "lapsed": lapsed}


def _one_document(same: Iterable[Reading]) -> str:
    told = ", ".join(f"{to_hex(one.reading)} of {one.author}" for one in same)
    return f"take care: these readings hold one document, and all but one are copies: {told}"


def _for_people(one: Reading) -> dict[str, object]:
    found = _reading_json(one)
    names = ("reading", "author", "hospital", "opinion_on", "corrects", "reason", "corrected_by")
    return {"at": moment(one.recorded_at)} | {name: found[name] for name in names}


def _request_for_people(one: ReadingRequest, now: int) -> dict[str, object]:
    found = _request_json(one, now)
    state = one.state.name.lower() + (", lapsed" if found["lapsed"] else "")
    names = ("request", "image", "hospital", "reader", "opinion_on", "taker", "reading")
    times = {"take by": moment(one.terms.take_by), "fulfil by": moment(one.terms.fulfil_by)}
    asks = "sealed" if found["question"] else None
    return {"state": state} | {name: found[name] for name in names} | times | {"question": asks}


def _numbered(rows: list[dict[str, object]]) -> dict[str, object]:
    """Put rows below each other, for identifiers are too long for tables."""
    return {str(number): _without_none(row) for number, row in enumerate(rows, 1)}


def _without_none(row: dict[str, object]) -> dict[str, object]:
    return {name: value for name, value in row.items() if value is not None}
