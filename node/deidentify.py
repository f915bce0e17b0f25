"""De-identification: the Basic Application Confidentiality Profile of DICOM PS3.15, Annex E.

The profile's table (E.1-1) lies in ``profile.csv``, one attribute a line with the standard's own
action codes; ``xx`` in a tag stands for the repeating groups of curves and overlays. Where the
code leaves a choice (``X/Z``, ``X/D``, ``Z/D``, ``X/Z/D``) the last letter is taken: that keeps
every instance valid whatever its kind, and removes the value all the same.

Three things go beyond the table, because a table can only name what its authors thought of:

- every private attribute and every group that the standard does not know is removed;
- so are attributes that the table does not name but whose kind can hold free text, a person, a
  place on a network or a moment in time;
- what is left is searched for words that were removed as identity, and goes if it holds one.

File meta information and preamble are written anew. Pixels are not looked at: a file that declares
identity burned into them is refused, and one that does not declare it has to be known to its
hospital (methods 113101 and following of CID 7050 are not applied).
"""

import csv
import hashlib
import hmac
import logging
import re
import warnings
from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from types import MappingProxyType
from uuid import UUID

from pydicom import dcmread
from pydicom.datadict import dictionary_has_tag
from pydicom.dataelem import DataElement
from pydicom.dataset import Dataset, FileDataset, FileMetaDataset
from pydicom.errors import InvalidDicomError
from pydicom.filereader import read_file_meta_info
from pydicom.multival import MultiValue
from pydicom.sequence import Sequence
from pydicom.tag import BaseTag
from pydicom.uid import UID, DeflatedExplicitVRLittleEndian

from chain.canonical import canonical_json
from chain.digests import sha256
from chain.errors import InvalidInputError

PROFILE = Path(__file__).with_name("profile.csv")
BASIC_PROFILE = 1  # bit 0 of the profile set: DICOM code 113100 (docs/protocol.md, section 4.3)
SECRET_SIZE = 32  # bytes
MAX_FILE = 1 << 29  # bytes
MAX_DEPTH = 32  # sequences in sequences
_GREATEST_RATIO = 1032  # of inflated to deflated bytes (zlib, technical details)

_METHOD = "Basic Application Confidentiality Profile"
_IMPLEMENTATION = UID("2.25.190113100190113100190113100")
# Kinds of value that can hold a person, a moment, a place on a network or free text (PS3.5, 6.2).
_TELLING = frozenset({"AE", "DA", "DT", "LT", "PN", "ST", "TM", "UC", "UN", "UR", "UT"})
_WORDED = frozenset({"CS", "LO", "SH", "IS", "DS"})
_PIXEL_GROUP = 0x0028  # what tells how to read the pixels: numbers and fixed terms
_LEAST_WORD = 4  # characters; shorter ones would match by chance
_WORD = re.compile(r"[^\W_]+")
# Besides names of persons, what identifies somebody by words of its own. Removed dates and comments
# do not count: they are full of words that mean nothing, such as the name of a body part.
_NAMING = frozenset(
    {
        "AccessionNumber",
        "AdmissionID",
        "InstitutionName",
        "IssuerOfPatientID",
        "MedicalRecordLocator",
        "MilitaryRank",
        "OtherPatientIDs",
        "PatientAddress",
        "PatientBirthDate",
        "PatientID",
        "PatientTelephoneNumbers",
    }
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
    | dict.fromkeys(("AE", "CS", "LO", "LT", "PN", "SH", "ST", "UC", "UT"), "ANONYMIZED")
    | dict.fromkeys(("FD", "FL", "SL", "SS", "SV", "UL", "US", "UV"), 0)
    | dict.fromkeys(("OB", "OD", "OF", "OL", "OV", "OW", "UN"), b"\0" * 8)
)


@dataclass(frozen=True, slots=True)
class DeidentificationReport:
    """What de-identification did to a data set, without a value of any attribute.

    Attributes:
        instances: Images that went through it.
        actions: How many attributes were treated by each action: the table's X, Z, D and U, and
            ``private``, ``unlisted`` and ``echo`` for what goes beyond it.
        profile: SHA-256 of the table that was applied.
    """

    instances: int
    actions: Mapping[str, int]
    profile: bytes

    def to_dict(self) -> dict[str, object]:
        """Return the report as it is kept and hashed."""
        return {
            "method": _METHOD,
            "code": "113100",
            "instances": self.instances,
            "actions": dict(self.actions),
            "profile": self.profile.hex(),
        }

    def digest(self) -> bytes:
        """Return the attestation: the SHA-256 of the report's canonical JSON (protocol 4.3)."""
        return sha256(canonical_json(self.to_dict()))


def report(instances: int, actions: Mapping[str, int]) -> DeidentificationReport:
    """Sum up what was done to a data set; without actions for one that came without attributes."""
    return DeidentificationReport(
        instances, MappingProxyType(dict(sorted(actions.items()))), sha256(PROFILE.read_bytes())
    )


def read_instance(path: Path) -> FileDataset:
    """Read one DICOM file whole, with every value decoded.

    Raises:
        InvalidInputError: If it is too large, is not DICOM, or is damaged.
    """
    size = path.stat().st_size
    if size > MAX_FILE:
        raise InvalidInputError(f"{path}: expected at most {MAX_FILE} bytes, found {size}")
    with quoting_nothing(path):
        meta = read_file_meta_info(path)
        inflated = size * _GREATEST_RATIO
        if meta.get("TransferSyntaxUID") == DeflatedExplicitVRLittleEndian and inflated > MAX_FILE:
            raise InvalidInputError(
                f"expected a deflated file of at most {MAX_FILE // _GREATEST_RATIO} bytes, found "
                f"{size}; export it without deflation"
            )
        dataset = dcmread(path)
        # pydicom decodes a value when it is first asked for: ask now, where errors are expected.
        _depth(dataset)
        return dataset


def deidentify(dataset: FileDataset, secret: bytes) -> Counter[str]:
    """Remove patient identity from one instance, in place.

    Args:
        dataset: A whole instance, as `read_instance` returns it.
        secret: 32 bytes that only this hospital knows. The same secret replaces the same UID by
            the same UID, so that series stay together; without it nobody can lead one back.

    Returns:
        How many attributes each action took, under the keys of `DeidentificationReport.actions`.

    Raises:
        InvalidInputError: If the instance declares identity burned into its pixels, or cannot be
            treated. The dataset is then of no more use.
    """
    _check_secret(secret)
    if str(dataset.get("BurnedInAnnotation", "")).strip().upper() == "YES":
        raise InvalidInputError(
            "the instance declares patient identity burned into its pixels (BurnedInAnnotation "
            "YES), which this profile does not remove: leave it out or clean its pixels first"
        )
    counts: Counter[str] = Counter()
    words: set[str] = set()
    _treat(dataset, secret, counts, words)
    _remove_echoes(dataset, frozenset(words), counts)
    _write_meta(dataset, secret)
    _declare(dataset)
    return counts


def replaced_uid(uid: str, secret: bytes) -> str:
    """Return the UID that stands for another: 2.25 and a UUID (PS3.5, B.2) made with HMAC-SHA-256.

    The UUID is of version 8 (RFC 9562, section 5.8), whose bits are the maker's to choose.
    """
    raw = bytearray(hmac.digest(secret, b"fedwitness.uid.v1" + uid.encode(), hashlib.sha256)[:16])
    raw[6] = raw[6] & 0x0F | 0x80
    raw[8] = raw[8] & 0x3F | 0x80
    return f"2.25.{UUID(bytes=bytes(raw)).int}"


def action_for(tag: BaseTag) -> str | None:
    """Return the action that the profile's table lays down for a tag, or None.

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


@cache
def _table() -> Mapping[str, str]:
    with PROFILE.open(encoding="ascii", newline="") as file:
        return {row["tag"]: row["action"].split("/")[-1] for row in csv.DictReader(file)}


def _treat(dataset: Dataset, secret: bytes, counts: Counter[str], words: set[str]) -> None:
    for element in list(dataset):
        action = _action(element)
        if action is None or action == "U*":
            for item in _items(element):
                _treat(item, secret, counts, words)
            continue
        words.update(_identity_words(element))
        counts[action] += 1
        _apply(dataset, element, action, secret)


def _action(element: DataElement) -> str | None:
    if element.tag.is_private:
        return "private"
    listed = action_for(element.tag)
    if listed is not None:
        return listed
    if not dictionary_has_tag(element.tag) or element.VR in _TELLING:
        return "unlisted"
    return None


def _apply(dataset: Dataset, element: DataElement, action: str, secret: bytes) -> None:
    if element.VR == "UI" and action in {"U", "D"}:
        element.value = _replaced_uids(element.value, secret)
    elif action == "D":
        element.value = _dummy(element)
    elif action == "Z":
        element.value = Sequence() if element.VR == "SQ" else None
    elif action == "U":  # a UID that stands in a value of another kind cannot be replaced by one
        element.value = None
    else:
        del dataset[element.tag]


def _replaced_uids(value: object, secret: bytes) -> object:
    if isinstance(value, MultiValue):
        return [replaced_uid(str(uid), secret) for uid in value]
    return replaced_uid(str(value), secret) if value else value


def _dummy(element: DataElement) -> object:
    if element.VR == "SQ":
        return Sequence([Dataset()])
    if element.VR not in _DUMMIES:
        raise InvalidInputError(
            f"{element.tag}: there is no dummy for a value of kind {element.VR}"
        )
    return _DUMMIES[element.VR]


def _identity_words(element: DataElement) -> Iterator[str]:
    """Give the words of four characters or more by which an element that goes names somebody."""
    for item in _items(element):
        for inner in item:
            yield from _identity_words(inner)
    if element.VR == "PN" or element.keyword in _NAMING:
        for word in _WORD.findall(str(element.value)):
            if len(word) >= _LEAST_WORD:
                yield word.casefold()


def _remove_echoes(dataset: Dataset, words: frozenset[str], counts: Counter[str]) -> None:
    for element in list(dataset):
        for item in _items(element):
            _remove_echoes(item, words, counts)
        if (
            element.VR not in _WORDED
            or element.tag.group == _PIXEL_GROUP
            or action_for(element.tag)
        ):
            continue
        if any(word.casefold() in words for word in _WORD.findall(str(element.value))):
            counts["echo"] += 1
            del dataset[element.tag]


def _items(element: DataElement) -> Iterator[Dataset]:
    if element.VR == "SQ":
        yield from element.value


def _write_meta(dataset: FileDataset, secret: bytes) -> None:
    """Write file meta information with nothing of the old one but the form of the bytes."""
    old = dataset.file_meta
    meta = FileMetaDataset()
    meta.FileMetaInformationVersion = b"\0\1"
    meta.TransferSyntaxUID = old.TransferSyntaxUID
    meta.MediaStorageSOPClassUID = dataset.get("SOPClassUID") or old.MediaStorageSOPClassUID
    instance = dataset.get("SOPInstanceUID") or _replaced_uids(
        old.MediaStorageSOPInstanceUID, secret
    )
    meta.MediaStorageSOPInstanceUID = UID(str(instance))
    meta.ImplementationClassUID = _IMPLEMENTATION
    dataset.file_meta = meta
    dataset.preamble = b"\0" * 128


def _declare(dataset: Dataset) -> None:
    """Say in the instance what was done to it (PS3.15, E.1.1; PS3.3, C.12.1.1.1 and C.7.1.1)."""
    code = Dataset()
    code.CodeValue = "113100"
    code.CodingSchemeDesignator = "DCM"
    code.CodeMeaning = _METHOD
    dataset.PatientIdentityRemoved = "YES"
    dataset.DeidentificationMethod = _METHOD
    dataset.DeidentificationMethodCodeSequence = Sequence([code])
    dataset.LongitudinalTemporalInformationModified = "REMOVED"


def _depth(dataset: Dataset, depth: int = 0) -> None:
    if depth > MAX_DEPTH:
        raise InvalidInputError(f"expected sequences nested at most {MAX_DEPTH} deep, found more")
    for element in dataset:
        for item in _items(element):
            _depth(item, depth + 1)


def _check_secret(secret: bytes) -> None:
    if len(secret) != SECRET_SIZE:
        raise InvalidInputError(f"expected a secret of {SECRET_SIZE} bytes, found {len(secret)}")


@contextmanager
def quoting_nothing(path: Path) -> Iterator[None]:
    """Turn whatever pydicom says about a file into an error that quotes nothing.

    Its warnings, log entries and errors quote values, which may be a patient's name, so none of
    them is passed on.
    """
    log = logging.getLogger("pydicom")
    level = log.level
    log.setLevel(logging.CRITICAL + 1)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    except InvalidInputError as error:
        raise InvalidInputError(f"{path}: {error}") from None
    except OSError:
        raise
    except InvalidDicomError:
        raise InvalidInputError(f"{path}: expected a DICOM file, found something else") from None
    except Exception as error:  # noqa: BLE001 - on damaged bytes pydicom raises any kind of error
        raise InvalidInputError(
            f"{path}: the DICOM file is damaged or of a form that cannot be read "
            f"({type(error).__name__})"
        ) from None
    finally:
        log.setLevel(level)
