"""What the commands of clinicians share: what they are given, and the desk that it goes to."""

import time
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from chain.addresses import checked_address
from chain.errors import InvalidInputError
from chain.federation import Federation
from chain.keyring import Keyring
from chain.keystore import Identity
from chain.wire import to_hex
from cli.connect import blobs, writer
from cli.screen import Screen, as_lines
from node.readings.words import MAX_TEXT, Words

if TYPE_CHECKING:
    from node.readings.desk import Desk
    from node.readings.documents import Document
    from node.readings.subject import Subject


class Form(StrEnum):
    """What a reading that is made here becomes."""

    FHIR = "fhir"
    DICOM = "dicom"


Dataset = Annotated[Path, typer.Option(help="The committed data set, KEY.work/datasets/NAME.npz.")]
Number = Annotated[int, typer.Option("--image", help="The image's number in it, from 0.")]
DocumentFile = Annotated[
    Path | None,
    typer.Option(
        "--document",
        help="What your reporting system wrote: a DICOM structured report, or a FHIR "
        "DiagnosticReport (R5 or R4) in JSON.",
        show_default=False,
    ),
]
Impression = Annotated[
    str | None,
    typer.Option(
        help="Without --document: what it comes to; a text, or @FILE with it.", show_default=False
    ),
]
Findings = Annotated[
    str, typer.Option(help="What is seen; a text, or @FILE with it.", show_default=False)
]
Making = Annotated[Form, typer.Option(help="What is made of the words.")]
Clinician = Annotated[
    str,
    typer.Option(
        help="Who reads, as DICOM writes names: Doe^Jane. Stands in the sealed document alone.",
        show_default=False,
    ),
]
Organization = Annotated[str, typer.Option(help="Whose clinician that is.", show_default=False)]
Preliminary = Annotated[bool, typer.Option("--preliminary", help="More is to come.")]
Instance = Annotated[
    Path | None,
    typer.Option(
        help="The image's de-identified DICOM file, or what `hospital ingest` wrote, in which it "
        "is found. The document is held against it.",
        show_default=False,
    ),
]
LookedAt = Annotated[
    bool,
    typer.Option("--looked-at", help="You have looked at what may name the patient: it does not."),
]
To = Annotated[
    list[str] | None,
    typer.Option(
        "--to",
        help="Who may open it as well: a party's address, or an X25519 key; repeat for more.",
        show_default=False,
    ),
]
Hospital = Annotated[
    str | None,
    typer.Option(
        help="In whose name, for its appointed clinician; yours if not given.", show_default=False
    ),
]


def desk_of(
    federation: Federation,
    keyring: Keyring,
    identity: Identity,
    hospital: str | None,
    to: list[str] | None,
) -> "Desk":
    """Return the desk of whoever's keys these are, in a hospital's name, its own if none is given.

    Raises:
        InvalidInputError: If the federation's addresses are not known, or an address is none.
    """
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


def subject_given(
    instance: Path | None,
    digest: bytes | None,
    ingest_key: Path | None,
    keyring: Keyring,
    screen: Screen,
) -> "Subject":
    """Find out what is known of an image, and say what its reading is not held against.

    Args:
        instance: Its DICOM file, or the folder that an ingest wrote.
        digest: The digest of its pixels, where that is known.
        ingest_key: The key that the ingest was made with, the keyring's own if none is given.
        keyring: The hospital's.
        screen: Is told what is not known.

    Raises:
        InvalidInputError: If there is no such instance, or it names its patient.
        DigestMismatchError: If it is another image.
    """
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


def words_given(
    impression: str | None, findings: str, clinician: str, organization: str, *, preliminary: bool
) -> Words | None:
    """Return what a clinician says by options, None without an impression."""
    if impression is None:
        return None
    told = text_given(impression), text_given(findings)
    return Words(*told, clinician, organization, is_final=not preliminary)


def document_given(
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


def text_given(given: str) -> str:
    """Return a text that was given, or that stands in a file, so that no shell remembers it."""
    if not given.startswith("@"):
        return given
    with Path(given[1:]).open(encoding="utf-8", errors="replace") as file:
        return file.read(MAX_TEXT + 1).strip()


def tell(screen: Screen, what: str, found: bytes, before: bool, **others: object) -> None:
    """Show what the ledger calls what was recorded, and say if it had that already."""
    if before:
        screen.say(f"the ledger had this {what} already: nothing was recorded a second time")
    data = {what: to_hex(found), "before": before, **others}
    screen.show(data, as_lines({name: value for name, value in data.items() if name != "before"}))
