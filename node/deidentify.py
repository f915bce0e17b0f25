"""De-identification of one DICOM instance: PS3.15, Annex E, as `node.profile` lays it down.

Three things go beyond the standard's table, because a table can only name what its authors thought
of:

- every attribute that the standard does not know is removed, and every private one but those that
  are safe, which stay only where they hold what they are to hold;
- so are attributes that the table does not name but whose kind can hold free text, a person or a
  place on a network;
- what is left is searched for words and numbers that were removed as identity, and gives way to a
  dummy where it holds one.

File meta information and preamble are written anew, and every text in UTF-8. What pixels show is
the business of `node.pixels`.
"""

import re
import unicodedata
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from datetime import timedelta
from types import MappingProxyType

from pydicom.datadict import dictionary_has_tag
from pydicom.dataelem import DataElement
from pydicom.dataset import Dataset, FileDataset, FileMetaDataset
from pydicom.multival import MultiValue
from pydicom.sequence import Sequence
from pydicom.tag import BaseTag, Tag
from pydicom.uid import UID, ExplicitVRLittleEndian

from chain.errors import InvalidInputError
from node.dicom import quoting_nothing
from node.moments import shifted_date, shifted_moment, shifted_time, spellings
from node.profile import (
    BASIC,
    CLEAN_DESCRIPTORS,
    CLEAN_STRUCTURE,
    FIRST_CODE,
    METHODS,
    SAFE_PRIVATE_KEPT,
    SHIFTED_DATES,
    action_for,
    descriptors,
    is_description,
    is_shifted,
    is_structure,
    safe_private_kind,
)
from node.pseudonyms import Pseudonyms

# What is done to every instance; pixels and faces come on top where they were seen to.
OPTIONS = frozenset({BASIC, CLEAN_STRUCTURE, CLEAN_DESCRIPTORS, SHIFTED_DATES, SAFE_PRIVATE_KEPT})

_IMPLEMENTATION = UID("2.25.190113100190113100190113100")
_STANDARD = "1.2.840.10008."  # UIDs of the standard itself: kinds, coding schemes, templates
_ANONYMIZED = "ANONYMIZED"
# Kinds of value that can hold a person, a moment, a place on a network or free text (PS3.5, 6.2).
_TELLING = frozenset({"AE", "DA", "DT", "LT", "PN", "ST", "TM", "UC", "UN", "UR", "UT"})
_TEXT = frozenset({"LO", "LT", "SH", "ST", "UC", "UT"})
_NUMBERS = frozenset({"DS", "IS"})
_WORDED = _TEXT | _NUMBERS | {"CS"}
_PIXEL_GROUP = 0x0028  # what tells how to read the pixels: numbers and fixed terms
_GRAPHIC_GROUPS = (0x5000, 0x6000)  # curves and overlays
_LEAST_WORD = 4  # characters; shorter ones would match by chance
_LEAST_NAME, _LEAST_FOREIGN_NAME = 3, 2  # of a person's name, in texts; "Li" would match a code
_LEAST_PART = 6  # of a word that is looked for inside others
_WORD = re.compile(r"[^\W_]+")
_LABEL = re.compile(r"[A-Za-z]+|\d{1,3}(?!\d)|\d+")
_LONGEST_NUMBER = 3  # digits in a description; more may be somebody's number
_FIXED_TERMS = frozenset(
    ("DIRECTIONAL", "BMATRIX", "ISOTROPIC", "NONE", *"IPMOSRLAFH", "AP", "FH", "RL")
)
# What readers cannot do without, and what it may be; somebody may be called Text.
_TERMS: Mapping[str, re.Pattern[str]] = MappingProxyType(
    {
        "Modality": re.compile("[A-Z]{2,4}|RT[A-Z]{4,6}"),
        "RelationshipType": re.compile("[A-Z]+ ?[A-Z]* ?[A-Z]*"),
        "ValueType": re.compile("[A-Z]{3,9}|[A-Z]?COORD(3D)?"),
    }
)
_DECIMAL = re.compile(r"[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?")

# Besides names of persons, what identifies somebody by words of its own. Removed comments do not
# count: they are full of words that mean nothing, such as the name of a body part.
_NAMING = frozenset(
    {
        "AccessionNumber",
        "AdmissionID",
        "DeviceSerialNumber",
        "FillerOrderNumberImagingServiceRequest",
        "InstitutionAddress",
        "InstitutionName",
        "InstitutionalDepartmentName",
        "InsurancePlanIdentification",
        "IssuerOfPatientID",
        "MedicalRecordLocator",
        "MilitaryRank",
        "OtherPatientIDs",
        "PatientAddress",
        "PatientID",
        "PatientInsurancePlanCodeSequence",
        "PatientTelephoneNumbers",
        "PerformedProcedureStepID",
        "PlacerOrderNumberImagingServiceRequest",
        "RequestedProcedureID",
        "ScheduledProcedureStepID",
        "StationName",
        "StudyID",
    }
)
_MANY_SHARE = frozenset(
    (
        *("and", "center", "centre", "clinic", "department", "diagnostic", "for", "general"),
        *("health", "hospital", "image", "imaging", "institute", "medical", "medicine", "national"),
        *("radiology", "regional", "research", "scanner", "school", "system", "systems", "the"),
        *("university", "anon", "anonymous", "anonymized", "anonymised", "none", "null", "test"),
        *("unknown", "patient"),
    )
)
_DUMMIES: Mapping[str, object] = MappingProxyType(
    {
        "AS": "000Y",
        "DA": "19000101",
        "DT": "19000101000000",
        "TM": "000000",
        "DS": "0",
        "IS": "0",
        "UR": "https://anonymized.invalid",
    }
    | dict.fromkeys(("AE", "CS", "LO", "LT", "PN", "SH", "ST", "UC", "UT"), _ANONYMIZED)
    | dict.fromkeys(("FD", "FL", "SL", "SS", "SV", "UL", "US", "UV"), 0)
    | dict.fromkeys(("OB", "OD", "OF", "OL", "OV", "OW", "UN"), b"\0" * 8)
)
_TEXT_VALUE = Tag(0x0040, 0xA160)  # of a structured report; must be there where its item is


@dataclass(slots=True)
class _Removal:
    """One instance's removal as it goes on.

    Attributes:
        pseudonyms: The hospital's.
        patient: By what the instance's patient is known.
        shift: By how much its moments are set back.
        counts: How many attributes each action took.
        words: What was removed as identity, word by word.
        names: The shorter words of persons' names.
    """

    pseudonyms: Pseudonyms
    patient: str
    shift: timedelta
    counts: Counter[str] = field(default_factory=Counter)
    words: set[str] = field(default_factory=set)
    names: set[str] = field(default_factory=set)


def deidentify(dataset: FileDataset, pseudonyms: Pseudonyms) -> Counter[str]:
    """Remove patient identity from one instance, in place.

    Args:
        dataset: A whole instance, as `node.dicom.read_instance` returns it.
        pseudonyms: The hospital's. The same secret replaces the same UID by the same UID, so that
            series stay together; without it nobody can lead one back.

    Returns:
        How many attributes each action took: the table's X, Z, D and U; C for what an option
        cleans; ``private``, ``unlisted`` and ``echo`` for what goes beyond the table.

    Raises:
        InvalidInputError: If the instance cannot be treated. It is then of no more use.
    """
    # pydicom warns of values by quoting them, which would name the patient.
    with quoting_nothing():
        patient = patient_of(dataset)
        removal = _Removal(pseudonyms, patient, pseudonyms.shift(patient))
        # Every text has to be read by its own characters before it is written in others.
        dataset.decode()
        _treat(dataset, removal)
        _remove_echoes(dataset, removal)
        dataset.PatientName = dataset.PatientID = pseudonyms.patient(patient)
        _write_meta(dataset, removal)
        declare(dataset, OPTIONS)
    return removal.counts


def patient_of(dataset: Dataset) -> str:
    """Return by what an instance's patient is known: number, or else name, or else study."""
    number = str(dataset.get("PatientID") or "").strip()
    if number:
        return number
    name = str(dataset.get("PatientName") or "").strip()
    if name.strip("^ "):
        return f"name {name} {dataset.get('PatientBirthDate') or ''}"
    return f"study {dataset.get('StudyInstanceUID') or dataset.get('SOPInstanceUID') or ''}"


def declare(dataset: Dataset, options: frozenset[int]) -> None:
    """Say in the instance what was done to it (PS3.15, E.1.1; PS3.3, C.12.1.1.1 and C.7.1.1)."""
    codes = []
    for option in sorted(options):
        code = Dataset()
        code.CodeValue = str(FIRST_CODE + option)
        code.CodingSchemeDesignator = "DCM"
        code.CodeMeaning = METHODS[option]
        codes.append(code)
    dataset.PatientIdentityRemoved = "YES"
    dataset.DeidentificationMethod = [METHODS[option] for option in sorted(options)]
    dataset.DeidentificationMethodCodeSequence = Sequence(codes)
    dataset.LongitudinalTemporalInformationModified = "MODIFIED"


def _treat(dataset: Dataset, removal: _Removal, *, strict: bool = False) -> None:
    """Treat a data set, and what is nested in it.

    Args:
        dataset: Changed in place.
        removal: Goes on.
        strict: Whether no text at all may stay, as in what the profile replaces by a dummy.
    """
    removed = _unsafe_private(dataset)
    times = _times_of_dates(dataset)
    for element in list(dataset):
        action = "private" if element.tag in removed else _action(element, strict=strict)
        if action is None or action == "U*":
            for item in _items(element):
                _treat(item, removal, strict=strict)
            continue
        _learn(element, removal)
        removal.counts["C" if action in {"shift", "words", "items"} else action] += 1
        if action == "shift":
            _shift(dataset, element, removal.shift, times)
        else:
            _apply(dataset, element, action, removal)
    _treat_local_codes(dataset)


def _action(element: DataElement, *, strict: bool) -> str | None:
    tag, kind = element.tag, str(element.VR)
    if tag.is_private:
        return None  # a safe one
    if tag.group & 0xFF00 in _GRAPHIC_GROUPS:
        return "X"  # the whole plane: what would be left of it says nothing
    if is_shifted(tag, kind):
        return "shift"
    if is_structure(tag):
        return "items"
    if strict and kind in _TELLING | _TEXT and dictionary_has_tag(tag):
        return "D"
    if is_description(tag, kind) and not strict:
        return "words"
    listed = action_for(tag)
    if listed is not None:
        return listed
    if tag == _TEXT_VALUE:
        return "D"
    if not dictionary_has_tag(tag) or kind in _TELLING:
        return "unlisted"
    if kind == "UI" and any(not uid.startswith(_STANDARD) for uid in _values(element)):
        return "U"
    return None


def _apply(dataset: Dataset, element: DataElement, action: str, removal: _Removal) -> None:
    if element.VR == "UI" and action in {"U", "D"}:
        element.value = _replaced_uids(element, removal.pseudonyms)
    elif action == "words":
        _clean_words(element)
    elif action == "items" or (action == "D" and element.VR == "SQ"):
        for item in _items(element):
            _treat(item, removal, strict=action == "D" or not is_structure_of_report(element.tag))
    elif action == "D":
        element.value = _dummy(element)
    elif action == "Z":
        element.value = Sequence() if element.VR == "SQ" else None
    elif action == "U":  # a UID that stands in a value of another kind cannot be replaced by one
        element.value = None
    else:
        del dataset[element.tag]


def is_structure_of_report(tag: BaseTag) -> bool:
    """Tell whether a sequence holds a report's items, whose coded terms stay."""
    return tag in {Tag("ContentSequence"), Tag("AcquisitionContextSequence")}


def _shift(
    dataset: Dataset, element: DataElement, shift: timedelta, times: Mapping[str, str]
) -> None:
    written = _values(element)
    if element.VR == "DA":
        moved = [shifted_date(one, shift, times.get(element.keyword, "")) for one in written]
    elif element.VR == "TM":
        moved = [shifted_time(one, shift) for one in written]
    else:
        moved = [shifted_moment(one, shift) for one in written]
    kept = [one for one in moved if one]
    if kept and len(kept) == len(written):
        element.value = kept if len(kept) > 1 else kept[0]
    elif action_for(element.tag) == "D" and written:
        element.value = _DUMMIES[str(element.VR)]
    elif action_for(element.tag) in {"Z", "D"}:
        element.value = None
    else:
        del dataset[element.tag]


def _times_of_dates(dataset: Dataset) -> Mapping[str, str]:
    """Find the time that stands beside each date, such as SeriesTime beside SeriesDate."""
    times = {}
    for element in dataset:
        if element.VR == "DA" and element.keyword.endswith("Date"):
            time = dataset.get(element.keyword.removesuffix("Date") + "Time")
            if isinstance(time, str):
                times[element.keyword] = time
    return times


def _clean_words(element: DataElement) -> None:
    """Leave of a description the words of images, and short numbers."""
    known = descriptors()
    kept = [
        " ".join(
            word
            for word in _LABEL.findall(value)
            if word.casefold() in known or (word.isdigit() and len(word) <= _LONGEST_NUMBER)
        )
        for value in _values(element)
    ]
    if any(kept):
        element.value = kept if len(kept) > 1 else kept[0]
    elif element.value:  # of no other word, yet perhaps one that has to be there
        element.value = _ANONYMIZED


def _replaced_uids(element: DataElement, pseudonyms: Pseudonyms) -> object:
    replaced = [
        uid if uid.startswith(_STANDARD) else pseudonyms.uid(uid) for uid in _values(element)
    ]
    return replaced if len(replaced) > 1 else "".join(replaced)


def _dummy(element: DataElement) -> object:
    kind = str(element.VR)
    if kind not in _DUMMIES:
        raise InvalidInputError(f"{element.tag}: there is no dummy for a value of kind {kind}")
    return _DUMMIES[kind]


def _treat_local_codes(dataset: Dataset) -> None:
    """Clean the meaning of a code of somebody's own (PS3.3, section 8.2): it is free text."""
    scheme = str(dataset.get("CodingSchemeDesignator") or "")
    if scheme.startswith("99") or scheme == "L":
        meaning = str(dataset.get("CodeMeaning") or "")
        words = [word for word in _LABEL.findall(meaning) if word.casefold() in descriptors()]
        dataset.CodeMeaning = " ".join(words) or _ANONYMIZED


def _unsafe_private(dataset: Dataset) -> frozenset[BaseTag]:
    """Find the private attributes that go, and the names of the blocks that hold nothing else."""
    private = [element for element in dataset if element.tag.is_private]
    creators = {
        (element.tag.group, element.tag.element): str(element.value).strip()
        for element in private
        if 0x10 <= element.tag.element <= 0xFF  # noqa: PLR2004 - PS3.5, section 7.8.1
    }
    kept: set[BaseTag] = set()
    for element in private:
        block = (element.tag.group, element.tag.element >> 8)
        kind = safe_private_kind(creators.get(block, ""), element.tag)
        if kind is not None and kind == element.VR and _holds_kind(element, kind):
            kept |= {element.tag, Tag(*block)}
    return frozenset(element.tag for element in private if element.tag not in kept)


def _holds_kind(element: DataElement, kind: str) -> bool:
    if kind == "CS":
        return all(value.strip() in _FIXED_TERMS for value in _values(element))
    if kind in _NUMBERS:
        return all(_DECIMAL.fullmatch(value.strip()) for value in _values(element))
    return kind in {"FD", "FL", "SL", "SS"}


def _learn(element: DataElement, removal: _Removal) -> None:
    """Remember the words by which an element that goes names somebody."""
    for item in _items(element):
        for inner in item:
            _learn(inner, removal)
    if element.VR == "PN":
        for value in _values(element):
            # Prefix and suffix are no names: "Mr" would match the modality.
            parts = [part for group in value.split("=") for part in group.split("^")[:3]]
            for word in _words(" ".join(parts)):
                least = _LEAST_NAME if word.isascii() else _LEAST_FOREIGN_NAME
                if len(word) >= _LEAST_WORD:
                    removal.words.add(word)
                elif len(word) >= least:
                    removal.names.add(word)
    elif element.keyword in _NAMING:
        for value in _values(element):
            removal.words |= {word for word in _words(value) if len(word) >= _LEAST_WORD}
            joined = "".join(_words(value))
            if len(joined) >= _LEAST_PART or any(
                char.isdigit() for char in joined[_LEAST_WORD - 1 :]
            ):
                removal.words.add(joined)
    elif element.VR in {"DA", "DT"}:
        for value in _values(element):
            removal.words |= spellings(value)
    removal.words -= _MANY_SHARE
    removal.names -= _MANY_SHARE


def _remove_echoes(dataset: Dataset, removal: _Removal) -> None:
    for element in list(dataset):
        for item in _items(element):
            _remove_echoes(item, removal)
        kind = str(element.VR)
        if kind not in _WORDED or (element.tag.group == _PIXEL_GROUP and kind not in _TEXT):
            continue
        if element.keyword in _TERMS and _is_term(element):
            continue
        if _echoes(_values(element), kind, removal):
            removal.counts["echo"] += 1
            if element.tag.is_private:
                del dataset[element.tag]
            elif kind in _NUMBERS:
                element.value = None
            else:
                element.value = _ANONYMIZED


def _is_term(element: DataElement) -> bool:
    terms = _TERMS[element.keyword]
    return all(terms.fullmatch(value) for value in _values(element))


def _echoes(values: list[str], kind: str, removal: _Removal) -> bool:
    for value in values:
        words = _words(value)
        joined = "".join(words)
        if removal.words.intersection(words) or joined in removal.words:
            return True
        if kind in _TEXT and removal.names.intersection(words):
            return True
        if kind not in _NUMBERS and any(
            len(word) >= _LEAST_PART and word in joined for word in removal.words
        ):
            return True
    return False


def _words(text: str) -> list[str]:
    """Cut a text into words, without regard to case and accents."""
    bare = unicodedata.normalize("NFKD", text)
    bare = "".join(char for char in bare if not unicodedata.combining(char))
    return [word.casefold() for word in _WORD.findall(bare)]


def _values(element: DataElement) -> list[str]:
    value = element.value
    if isinstance(value, (MultiValue, list, tuple)):
        return [str(one) for one in value if one is not None]
    return [] if value is None or value == "" else [str(value)]


def _items(element: DataElement) -> Iterator[Dataset]:
    if element.VR == "SQ":
        yield from element.value


def _write_meta(dataset: FileDataset, removal: _Removal) -> None:
    """Write file meta information and preamble with nothing of the old ones but the kind."""
    old = dataset.file_meta
    kind = dataset.get("SOPClassUID") or old.get("MediaStorageSOPClassUID")
    if not kind:
        raise InvalidInputError("expected an instance of some kind, found no SOP Class UID")
    instance = dataset.get("SOPInstanceUID")
    if not instance:
        former = str(old.get("MediaStorageSOPInstanceUID") or removal.patient)
        instance = removal.pseudonyms.uid(former)
        dataset.SOPInstanceUID = instance
    meta = FileMetaDataset()
    meta.FileMetaInformationVersion = b"\0\1"
    meta.TransferSyntaxUID = ExplicitVRLittleEndian
    meta.MediaStorageSOPClassUID = dataset.SOPClassUID = UID(str(kind))
    meta.MediaStorageSOPInstanceUID = UID(str(instance))
    meta.ImplementationClassUID = _IMPLEMENTATION
    dataset.file_meta = meta
    dataset.preamble = b"\0" * 128
    dataset.SpecificCharacterSet = "ISO_IR 192"
