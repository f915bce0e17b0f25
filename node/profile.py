"""The confidentiality profile that is applied: DICOM PS3.15, Annex E, with its options.

Table E.1-1 lies in ``profile.csv``, one attribute a line with the standard's own action codes;
``xx`` in a tag stands for the repeating groups of curves and overlays. Where the code leaves a
choice (``X/Z``, ``X/D``, ``Z/D``, ``X/Z/D``) the last letter is taken: that keeps every instance
valid whatever its kind, and removes the value all the same.

Options (section E.3) change what happens to some of the attributes, to ``C``, clean:

- moments, but those of the patient module such as a date of birth, are shifted;
- descriptions keep the words of ``descriptors.txt``;
- structured content and graphics are gone through, item by item;
- private attributes in ``safe_private.csv`` stay. That is the part of table E.3.10-1 that holds
  numbers and fixed terms; attributes that hold text are left out of it.
"""

import csv
import hashlib
from collections.abc import Mapping
from functools import cache
from pathlib import Path

from pydicom.datadict import dictionary_VR, keyword_for_tag
from pydicom.tag import BaseTag

_FOLDER = Path(__file__).parent
TABLE = _FOLDER / "profile.csv"
SAFE_PRIVATE = _FOLDER / "safe_private.csv"
DESCRIPTORS = _FOLDER / "descriptors.txt"

# CID 7050: the method of code 113100 + n is bit n of a version's profile (protocol 4.3).
BASIC, CLEAN_PIXELS, CLEAN_FACES, CLEAN_STRUCTURE, CLEAN_DESCRIPTORS = 0, 1, 2, 4, 5
SHIFTED_DATES, SAFE_PRIVATE_KEPT = 7, 11
METHODS: Mapping[int, str] = {
    BASIC: "Basic Application Confidentiality Profile",
    CLEAN_PIXELS: "Clean Pixel Data Option",
    CLEAN_FACES: "Clean Recognizable Visual Features Option",
    CLEAN_STRUCTURE: "Clean Structured Content Option",
    CLEAN_DESCRIPTORS: "Clean Descriptors Option",
    SHIFTED_DATES: "Retain Longitudinal Temporal Information Modified Dates Option",
    SAFE_PRIVATE_KEPT: "Retain Safe Private Option",
}
FIRST_CODE = 113100

_MOMENTS = frozenset({"DA", "DT", "TM"})
_PATIENT_GROUP = 0x0010
_DESCRIBING = ("Description", "ProtocolName", "ContrastAgent", "ContrastBolusAgent", "Label")
_TEXT = frozenset({"LO", "LT", "SH", "ST", "UC", "UT"})
# Prose about the patient and not about the images stays out, whatever words it is made of.
_PATIENT_PROSE = ("Diagnos", "Visit", "History", "Interpretation", "Ethics", "Confidentiality")
_CLEANED_STRUCTURE = frozenset(
    {"ContentSequence", "AcquisitionContextSequence", "GraphicAnnotationSequence"}
)


def action_for(tag: BaseTag) -> str | None:
    """Return the action that the basic profile lays down for a tag, or None.

    One of ``X`` (remove), ``Z`` (empty), ``D`` (replace by a dummy), ``U`` (replace a UID) and
    ``U*`` (keep the sequence, replace the UIDs in it).
    """
    table = _table()
    exact = table.get(f"{tag:08X}")
    if exact is not None:
        return exact
    # Repeating groups: 50xx curves, 60xx overlays (PS3.5, section 7.6).
    group = f"{tag.group:04X}"[:2]
    return table.get(f"{group}xx{tag.element:04X}") or table.get(f"{group}xxxxxx")


def is_shifted(tag: BaseTag, kind: str) -> bool:
    """Tell whether an attribute is a moment that the longitudinal option keeps, shifted."""
    return kind in _MOMENTS and tag.group != _PATIENT_GROUP


def is_description(tag: BaseTag, kind: str) -> bool:
    """Tell whether an attribute is one whose words are cleaned instead of removed."""
    keyword = keyword_for_tag(tag)
    return (
        kind in _TEXT
        and keyword.endswith(_DESCRIBING)
        and tag.group != _PATIENT_GROUP
        and not any(part in keyword for part in _PATIENT_PROSE)
    )


def is_structure(tag: BaseTag) -> bool:
    """Tell whether an attribute is content that is gone through item by item."""
    return keyword_for_tag(tag) in _CLEANED_STRUCTURE


def safe_private_kind(creator: str, tag: BaseTag) -> str | None:
    """Return the kind of value of a private attribute that may stay, or None."""
    return _safe_private().get((creator, tag.group, tag.element & 0xFF))


@cache
def descriptors() -> frozenset[str]:
    """Return the words that may stay in a description, in small letters."""
    lines = DESCRIPTORS.read_text(encoding="ascii").splitlines()
    return frozenset(word for line in lines if not line.startswith("#") for word in line.split())


@cache
def profile_digest() -> bytes:
    """Return the SHA-256 of the three files that say what is removed, one after the other."""
    hasher = hashlib.sha256()
    for path in (TABLE, SAFE_PRIVATE, DESCRIPTORS):
        hasher.update(path.read_bytes())
    return hasher.digest()


def standard_kind(tag: BaseTag) -> str | None:
    """Return the kind of value that the standard gives an attribute, or None if it has none."""
    try:
        return dictionary_VR(tag)
    except KeyError:
        return None


@cache
def _table() -> Mapping[str, str]:
    with TABLE.open(encoding="ascii", newline="") as file:
        return {row["tag"]: row["action"].split("/")[-1] for row in csv.DictReader(file)}


@cache
def _safe_private() -> Mapping[tuple[str, int, int], str]:
    with SAFE_PRIVATE.open(encoding="ascii", newline="") as file:
        return {
            (row["creator"], int(row["group"], 16), int(row["element"], 16)): row["kind"]
            for row in csv.DictReader(file)
        }
