"""`fedwitness readings`: what clinicians say about images, sealed to whoever may know it.

What brings pydicom and the models of FHIR along is imported by the commands that need it.
"""

import time
from collections.abc import Iterable, Mapping
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any

import typer

from chain.addresses import checked_address
from chain.cid import Cid
from chain.errors import InvalidInputError
from chain.federation import Federation
from chain.files import replacing
from chain.keyring import Keyring
from chain.keystore import Identity
from chain.readings import NONE, Agreement, Reading
from chain.wire import from_hex, to_hex, to_json_dict
from cli.command import command
from cli.connect import reader, writer
from cli.desk import (
    Clinician,
    Dataset,
    DocumentFile,
    Findings,
    Form,
    Hospital,
    Impression,
    Instance,
    LookedAt,
    Making,
    Number,
    Organization,
    Preliminary,
    To,
    desk_of,
    document_given,
    subject_given,
    tell,
    words_given,
)
from cli.hospital import IngestKey
from cli.screen import Screen, as_lines, moment, numbered, without_none

SECONDS_PER_DAY = 86_400

app = typer.Typer(
    no_args_is_help=True,
    help="Write, correct, compare and open readings of images, and ask other hospitals for theirs "
    "(clinicians).\n\n"
    "A reading is sealed to the image's hospital and the reading one, lies on IPFS, and stands on "
    "the ledger by its digest, author and time. Nothing is ever erased there: a correction stands "
    "beside what it corrects.",
)


class Agreeing(StrEnum):
    """How far two readings agree, after ACR RADPEER, as an argument."""

    AGREE = "agree"
    MINOR = "minor"
    MAJOR = "major"


_AGREEMENTS: Mapping[Agreeing, Agreement] = {
    Agreeing.AGREE: Agreement.AGREES,
    Agreeing.MINOR: Agreement.MINOR_DISCREPANCY,
    Agreeing.MAJOR: Agreement.MAJOR_DISCREPANCY,
}

ReadingId = Annotated[str, typer.Argument(metavar="READING", help="The reading, 0x and 64 digits.")]


@app.command()
@command
def record(
    *,
    dataset: Dataset,
    image: Number,
    federation: Federation,
    keyring: Keyring,
    identity: Identity,
    screen: Screen,
    document: DocumentFile = None,
    impression: Impression = None,
    findings: Findings = "",
    form: Making = Form.FHIR,
    clinician: Clinician = "",
    organization: Organization = "",
    preliminary: Preliminary = False,
    opinion_on: Annotated[
        str | None,
        typer.Option(help="Another author's reading on which this is a second opinion."),
    ] = None,
    instance: Instance = None,
    ingest_key: IngestKey = None,
    looked_at: LookedAt = False,
    to: To = None,
    hospital: Hospital = None,
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

    desk = desk_of(federation, keyring, identity, hospital, to)
    shown = find_image(desk.ledger, desk.hospital, dataset, image)
    subject = subject_given(instance, shown.digest, ingest_key, keyring, screen)
    words = words_given(impression, findings, clinician, organization, preliminary=preliminary)
    written = document_given(document, words, form, subject, looked_at=looked_at)
    opinion = NONE if opinion_on is None else from_hex(opinion_on, "opinion-on")
    said = record_reading(desk, shown, written, opinion)
    tell(screen, "reading", said.id, said.before, image=to_hex(shown.commitment))


@app.command()
@command
def correct(
    *,
    reading: ReadingId,
    reason: Annotated[str, typer.Option(help="Why; everyone can read it, so name nobody.")],
    federation: Federation,
    keyring: Keyring,
    identity: Identity,
    screen: Screen,
    document: DocumentFile = None,
    impression: Impression = None,
    findings: Findings = "",
    form: Making = Form.FHIR,
    clinician: Clinician = "",
    organization: Organization = "",
    preliminary: Preliminary = False,
    instance: Instance = None,
    ingest_key: IngestKey = None,
    dataset: Annotated[
        Path | None,
        typer.Option(help="The committed data set that the image is in, to find --instance by."),
    ] = None,
    proof: Annotated[
        Path | None, typer.Option(help="What `hospital prove` wrote about another's image.")
    ] = None,
    looked_at: LookedAt = False,
    to: To = None,
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

    desk = desk_of(federation, keyring, identity, None, to)
    found = desk.ledger.readings.reading(from_hex(reading, "reading"))
    digest = proven_digest(desk.ledger, proof, found.terms.image)
    if dataset is not None:
        digest = digest_in(dataset, found.terms.image)
    subject = subject_given(instance, digest, ingest_key, keyring, screen)
    refuse_in_public(reason, subject)
    words = words_given(impression, findings, clinician, organization, preliminary=preliminary)
    written = document_given(document, words, form, subject, looked_at=looked_at)
    said = correct_reading(desk, found.reading, written, reason)
    tell(screen, "correction", said.id, said.before, corrects=reading)


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
        "readings": numbered([_for_people(one) for line in lines for one in line.readings]),
        "comparisons": numbered(
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
    reading: ReadingId,
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

    desk = desk_of(federation, keyring, identity, None, None)
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
    screen.show({**data, **_reading_json(found.reading)}, as_lines(without_none(shown)))


@app.command()
@command
def share(
    *,
    reading: ReadingId,
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

    desk = desk_of(federation, keyring, identity, None, to)
    cid = share_reading(desk, from_hex(reading, "reading"))
    screen.show({"reading": reading, "copy": str(cid), "to": list(desk.to)})


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
    data = {"clinician": clinician, "until": until}
    screen.show(data, as_lines({**data, "until": moment(until) if until else "ended"}))


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


def _one_document(same: Iterable[Reading]) -> str:
    told = ", ".join(f"{to_hex(one.reading)} of {one.author}" for one in same)
    return f"take care: these readings hold one document, and all but one are copies: {told}"


def _reading_json(one: Reading) -> dict[str, Any]:
    found = to_json_dict(one)
    terms = found.pop("terms")
    terms["opinion_on"] = None if one.terms.opinion_on == NONE else terms["opinion_on"]
    return {**found, **terms}


def _for_people(one: Reading) -> dict[str, object]:
    found = _reading_json(one)
    names = ("reading", "author", "hospital", "opinion_on", "corrects", "reason", "corrected_by")
    return {"at": moment(one.recorded_at)} | {name: found[name] for name in names}
