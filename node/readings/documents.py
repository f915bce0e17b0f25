"""A reading's document, whichever of its two forms it has: made, taken from elsewhere, checked.

Whoever gets a document tells the form by its bytes (docs/protocol.md, section 16). Nothing in a
document is run, unpacked or fetched.
"""

import hashlib
import stat
from dataclasses import asdict, dataclass
from enum import Enum
from pathlib import Path

from chain.canonical import canonical_json
from chain.errors import InvalidInputError
from node.leaks import Leak
from node.readings import dicom_report, fhir_report
from node.readings.identity import Finds
from node.readings.subject import UNKNOWN, Subject
from node.readings.words import Words

MAX_DOCUMENT = 1 << 24  # bytes
_TOLD = 5  # finds that a refusal lists


class Form(Enum):
    """What a reading's document can be."""

    FHIR = "fhir"
    DICOM = "dicom"


@dataclass(frozen=True, slots=True)
class Document:
    """A reading's document, on its way to the ledger.

    Attributes:
        raw: Its bytes.
        said: What it was made of, 32 bytes: whoever says the same again has the same, although the
            bytes differ, since they hold the time.
    """

    raw: bytes
    said: bytes


def form_of(raw: bytes) -> Form:
    """Tell which form a document has."""
    behind = dicom_report.PREAMBLE
    return Form.DICOM if raw[behind : behind + 4] == b"DICM" else Form.FHIR


def read_document(path: Path) -> Document:
    """Read a document from a file, which is still to be checked.

    Raises:
        InvalidInputError: If it is no file, empty or too large.
        OSError: If it cannot be read.
    """
    if not stat.S_ISREG(path.stat().st_mode):
        raise InvalidInputError(f"{path}: expected a file, found something else")
    with path.open("rb") as file:
        raw = file.read(MAX_DOCUMENT + 1)
    if not 0 < len(raw) <= MAX_DOCUMENT:
        raise InvalidInputError(
            f"{path}: expected a document of 1 to {MAX_DOCUMENT} bytes, found "
            f"{'more' if raw else 'none'}; images belong into the data set, not into a reading"
        )
    return Document(raw, hashlib.sha256(raw).digest())


def make_document(words: Words, form: Form, subject: Subject, at: int) -> Document:
    """Write a document from what a clinician says.

    Args:
        words: What the clinician says.
        form: The form.
        subject: The image; a DICOM report needs its instance.
        at: Now, in Unix seconds.

    Raises:
        InvalidInputError: If the form cannot hold it.
    """
    instance = subject.instance
    about = None if instance is None else str(instance.SOPInstanceUID)
    said = canonical_json({"about": about, "form": form.value, "words": asdict(words)})
    digest = hashlib.sha256(said).digest()
    if form is Form.FHIR:
        return Document(fhir_report.make_report(words, subject, at), digest)
    if instance is None:
        raise InvalidInputError(
            "a DICOM structured report is about a DICOM instance: give the image's with "
            "--instance, or make a FHIR report with --form fhir"
        )
    return Document(dicom_report.make_report(words, instance), digest)


def look_through(raw: bytes, subject: Subject = UNKNOWN) -> Finds:
    """Check that a document is a reading, and look for whose image it is about.

    Args:
        raw: The document.
        subject: The image, as far as it is known here.

    Raises:
        InvalidInputError: If it is no reading, or about another image.
    """
    if form_of(raw) is Form.DICOM:
        return dicom_report.check_report(raw, subject)
    return fhir_report.check_report(raw, subject)


def refuse_identity(finds: Finds, *, looked_at: bool) -> None:
    """Refuse what identifies the patient, or may do so and was not looked at.

    Raises:
        InvalidInputError: If there is any; the message tells places and kinds.
    """
    if finds.certain:
        raise InvalidInputError(
            f"the document tells who the patient is: {_listed(finds.certain)}. A reading of a "
            "de-identified image may name its patient only as the image does: take that out, and "
            "try again"
        )
    if finds.doubtful and not looked_at:
        raise InvalidInputError(
            f"the document may tell who the patient is: {_listed(finds.doubtful)}. Look at it; if "
            "it identifies nobody, say so with --looked-at"
        )


def refuse_in_public(text: str, subject: Subject) -> None:
    """Refuse a text for the ledger that tells who the patient is.

    Raises:
        InvalidInputError: If it does; there is no way past this, for nothing is erased there.
    """
    kinds = subject.leaks_in(text)
    if kinds:
        raise InvalidInputError(
            f"the reason may tell who the patient is ({', '.join(kinds)}), and everybody can read "
            "it for ever: say it without"
        )


def words_of(raw: bytes) -> str:
    """Return what a document that was checked says, for people to read."""
    return (dicom_report.words_of if form_of(raw) is Form.DICOM else fhir_report.words_of)(raw)


def _listed(leaks: dict[Leak, None]) -> str:
    told = [f"{one.kind} in {one.place[:80]}" for one in leaks][:_TOLD]
    more = len(leaks) - len(told)
    return ", ".join(told) + (f", and {more} more" if more else "")
