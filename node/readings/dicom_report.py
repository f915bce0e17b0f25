"""Readings as DICOM structured reports (PS3.3, annex A.35), made and checked.

A report that is made here is an Enhanced SR after template TID 2000, Basic Diagnostic Imaging
Report (PS3.16), about one instance. One that comes from elsewhere is taken as it is, if it is a
report of a person about an image.
"""

import io
import logging
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from pydicom import dcmread
from pydicom.dataset import Dataset
from pydicom.sequence import Sequence as Items
from pydicom.sr.codedict import codes
from pydicom.uid import ExplicitVRLittleEndian, ImplicitVRLittleEndian, generate_uid

from chain.errors import InvalidInputError
from node.dicom import quoting_nothing
from node.readings.identity import MAX_DEPTH, Finds, finds_in_dataset
from node.readings.subject import Subject
from node.readings.whole_file import check_whole
from node.readings.words import Words

if TYPE_CHECKING:
    from highdicom.sr import ContentSequence

# SOP classes of reports in words. Those of measurements and doses are no person's reading.
SOP_CLASSES = {
    "1.2.840.10008.5.1.4.1.1.88.11": "Basic Text SR",
    "1.2.840.10008.5.1.4.1.1.88.22": "Enhanced SR",
    "1.2.840.10008.5.1.4.1.1.88.33": "Comprehensive SR",
    "1.2.840.10008.5.1.4.1.1.88.34": "Comprehensive 3D SR",
    "1.2.840.10008.5.1.4.1.1.88.35": "Extensible SR",
}
PREAMBLE = 128  # bytes before DICM (PS3.10, section 7.1)
_DEFLATED = b"1.2.840.10008.1.2.1.99"
# What a report in words is far below, and memory and minutes are still at hand for.
MAX_REPORT = 1 << 21  # bytes
MAX_PARTS = 1 << 15  # items of sequences
_ITEM = b"\xfe\xff\x00\xe0"
_SYNTAXES = frozenset({ExplicitVRLittleEndian, ImplicitVRLittleEndian})
_FLAGS = frozenset({"COMPLETE", "PARTIAL"})
_MANUFACTURER = "FedWitness"
# Of patient and study, what a report shares with its image and an image may lack.
_SHARED_ATTRIBUTES = (
    *("PatientID", "PatientName", "PatientBirthDate", "PatientSex", "AccessionNumber", "StudyID"),
    *("StudyDate", "StudyTime", "ReferringPhysicianName"),
)


def make_report(words: Words, instance: Dataset) -> bytes:
    """Write a structured report about an instance.

    Patient and study are the de-identified instance's own.

    Args:
        words: What the clinician says.
        instance: The de-identified DICOM instance.

    Raises:
        InvalidInputError: If the instance lacks what a report has to name, or the clinician's name
            is none that DICOM can hold.
    """
    from highdicom.sr import EnhancedSR

    evidence = Dataset()
    evidence.update(instance)
    for keyword in _SHARED_ATTRIBUTES:
        if keyword not in evidence:
            setattr(evidence, keyword, "")
    evidence.SpecificCharacterSet = "ISO_IR 192"
    with _silence(), quoting_nothing():
        report = EnhancedSR(
            evidence=[evidence],
            content=_content(words, instance),
            series_instance_uid=generate_uid(prefix=None),
            series_number=1,
            sop_instance_uid=generate_uid(prefix=None),
            instance_number=1,
            manufacturer=_MANUFACTURER,
            is_complete=words.is_final,
            is_final=words.is_final,
            is_verified=bool(words.clinician) and words.is_final,
            verifying_observer_name=words.clinician,
            verifying_organization=words.organization,
        )
        written = io.BytesIO()
        report.save_as(written, enforce_file_format=True)
    return written.getvalue()


def check_report(raw: bytes, subject: Subject) -> Finds:
    """Check that bytes are a structured report about an image, and look for identity in it.

    Returns:
        What was found of the patient's identity.

    Raises:
        InvalidInputError: If it is another thing, damaged, or about another image.
    """
    # What pydicom says at each access quotes values, and on damaged bytes it may say anything.
    with quoting_nothing():
        report = _read(raw)
        kind = str(report.get("SOPClassUID") or "")
        if kind not in SOP_CLASSES or report.file_meta.get("MediaStorageSOPClassUID") != kind:
            told = ", ".join(SOP_CLASSES.values())
            raise InvalidInputError(
                f"expected a structured report ({told}), found SOP class {kind}"
            )
        if report.get("CompletionFlag") not in _FLAGS or report.get("ValueType") != "CONTAINER":
            raise InvalidInputError(
                "expected a structured report with a completion flag and a root container, found "
                "none"
            )
        if not any(_has_content(item) for _, item in _items(report, "ContentSequence")):
            raise InvalidInputError("expected a structured report with content, found an empty one")
        pixels = [one for one in ("PixelData", "EncapsulatedDocument") if one in report]
        if pixels:
            raise InvalidInputError(
                f"expected a report without other files in it, found {pixels[0]}"
            )
        _check_reference(report, subject)
        return finds_in_dataset(report, subject)


def words_of(raw: bytes) -> str:
    """Return the texts of a structured report, a line for each, for people to read."""
    with quoting_nothing():
        report = _read(raw)
        told = []
        for depth, item in _items(report, "ContentSequence"):
            names = item.get("ConceptNameCodeSequence")
            name = str(names[0].get("CodeMeaning", "")) if names else ""
            codes_ = item.get("ConceptCodeSequence")
            meaning = codes_[0].get("CodeMeaning") if codes_ else None
            value = item.get("TextValue") or item.get("PersonName") or meaning
            if name or value:
                told.append(f"{'  ' * depth}{name}{': ' if value else ''}{value or ''}")
        return "\n".join(told)


def _read(raw: bytes) -> Dataset:
    """Read a report whole, with every value decoded."""
    # An item of eight bytes becomes an object of a thousand.
    if len(raw) > MAX_REPORT or raw.count(_ITEM) > MAX_PARTS:
        raise InvalidInputError(
            f"expected a structured report of at most {MAX_REPORT} bytes and {MAX_PARTS} parts, "
            "found a larger one"
        )
    # What is deflated may become a thousand times as large: not even the header is read of it.
    if _DEFLATED in raw:
        raise InvalidInputError(
            "expected a structured report that is not deflated; export it as Explicit VR Little "
            "Endian"
        )
    try:
        report = dcmread(io.BytesIO(raw))
        syntax = report.file_meta.get("TransferSyntaxUID")
        if syntax not in _SYNTAXES:
            raise InvalidInputError(
                "expected a structured report in Explicit or Implicit VR Little Endian, found "
                "another transfer syntax"
            )
        check_whole(raw, implicit=syntax == ImplicitVRLittleEndian)
        _decode(report, 0)
    except OSError:  # pydicom's word for a file that ends too early; this one is in memory
        raise InvalidInputError("the DICOM file is cut short: fetch or export it again") from None
    return report


def _decode(dataset: Dataset, depth: int) -> None:
    # pydicom decodes a value when it is first asked for: ask now, where errors are expected.
    if depth > MAX_DEPTH:
        raise InvalidInputError(f"expected sequences nested at most {MAX_DEPTH} deep, found more")
    for element in dataset:
        if isinstance(element.value, Items):
            for item in element.value:
                _decode(item, depth + 1)


def _check_reference(report: Dataset, subject: Subject) -> None:
    """Check that a report is about the image, where the image is known."""
    instance = subject.instance
    if instance is None:
        return
    referenced = {str(item.get("ReferencedSOPInstanceUID")) for item in _everything(report, 0)}
    if str(instance.SOPInstanceUID) not in referenced:
        raise InvalidInputError(
            f"expected a structured report that references the image {instance.SOPInstanceUID}, "
            "found none: it is about another image, or about the original with its own UID; write "
            "it about the de-identified instance"
        )
    study = str(report.get("StudyInstanceUID") or "")
    if study != str(instance.get("StudyInstanceUID")):
        raise InvalidInputError(
            "expected a structured report in the study of the de-identified image, found one in "
            "another: the original's study identifies the patient"
        )


def _items(dataset: Dataset, keyword: str, depth: int = 0) -> Iterator[tuple[int, Dataset]]:
    for item in dataset.get(keyword) or ():
        yield depth, item
        yield from _items(item, keyword, depth + 1)


def _everything(dataset: Dataset, depth: int) -> Iterator[Dataset]:
    yield dataset
    for element in dataset:
        if isinstance(element.value, Items):
            for item in element.value:
                yield from _everything(item, depth + 1)


def _has_content(item: Dataset) -> bool:
    return item.get("ValueType") in {"TEXT", "CODE", "NUM"} and (
        str(item.get("TextValue") or "").strip() != ""
        or bool(item.get("ConceptCodeSequence"))
        or bool(item.get("MeasuredValueSequence"))
    )


def _content(words: Words, instance: Dataset) -> Dataset:
    from highdicom.sr import (
        CodedConcept,
        ContainerContentItem,
        ContentSequence,
        ImageContentItem,
        RelationshipTypeValues,
        TextContentItem,
    )

    contains = RelationshipTypeValues.CONTAINS
    title = CodedConcept("18748-4", "LN", "Diagnostic imaging report")
    root = ContainerContentItem(title, is_content_continuous=False, template_id="2000")
    content = ContentSequence(_observer(words))
    content.append(
        ImageContentItem(
            codes.DCM.SourceImage,
            instance.SOPClassUID,
            instance.SOPInstanceUID,
            None,
            None,
            contains,
        )
    )
    for heading, concept, text in (
        (codes.DCM.Findings, codes.DCM.Finding, words.findings),
        (codes.DCM.Impressions, codes.DCM.Impression, words.impression),
    ):
        if text:
            section = ContainerContentItem(heading, False, None, contains)
            section.ContentSequence = ContentSequence([TextContentItem(concept, text, contains)])
            content.append(section)
    root.ContentSequence = content
    return root


def _observer(words: Words) -> "ContentSequence":
    from highdicom.sr import (
        DeviceObserverIdentifyingAttributes,
        ObserverContext,
        PersonObserverIdentifyingAttributes,
    )

    if words.clinician:
        person = PersonObserverIdentifyingAttributes(
            words.clinician, organization_name=words.organization or None
        )
        return ObserverContext(codes.DCM.Person, person)
    device = DeviceObserverIdentifyingAttributes(generate_uid(prefix=None), name=_MANUFACTURER)
    return ObserverContext(codes.DCM.Device, device)


@contextmanager
def _silence() -> Iterator[None]:
    """Keep from the log what highdicom says about values."""
    log = logging.getLogger("highdicom")
    level = log.level
    log.setLevel(logging.CRITICAL + 1)
    try:
        yield
    finally:
        log.setLevel(level)
