"""The attributes that searches tell and match: DICOM PS3.18, section 10.6.

Those that the standard asks of every server, and what else a researcher searches by and
de-identification leaves in place.
"""

from pydicom.datadict import tag_for_keyword
from pydicom.tag import Tag

_OF_STUDIES = (
    "StudyDate",
    "StudyTime",
    "AccessionNumber",
    "ReferringPhysicianName",
    "PatientName",
    "PatientID",
    "PatientBirthDate",
    "PatientSex",
    "StudyInstanceUID",
    "StudyID",
    "StudyDescription",
)
_OF_SERIES = (
    "Modality",
    "SeriesDescription",
    "SeriesInstanceUID",
    "SeriesNumber",
    "SeriesDate",
    "PerformedProcedureStepStartDate",
    "PerformedProcedureStepStartTime",
    "BodyPartExamined",
    "Laterality",
    "ProtocolName",
    "Manufacturer",
    "ManufacturerModelName",
)
_OF_INSTANCES = (
    "SOPClassUID",
    "SOPInstanceUID",
    "InstanceNumber",
    "Rows",
    "Columns",
    "BitsAllocated",
    "NumberOfFrames",
    "ImageType",
    "PhotometricInterpretation",
    "ContentDate",
    "ContentTime",
)
KEYWORDS = (*_OF_STUDIES, *_OF_SERIES, *_OF_INSTANCES)


def _tags(keywords: tuple[str, ...]) -> frozenset[str]:
    return frozenset(f"{Tag(keyword):08X}" for keyword in keywords)


STUDY, SERIES, INSTANCE = map(_tags, (_OF_STUDIES, _OF_SERIES, _OF_INSTANCES))


def tag_of(name: str) -> str:
    """Return the tag, as eight digits, of a keyword or a tag; empty for anything else."""
    if len(name) == 8 and all(digit in "0123456789abcdefABCDEF" for digit in name):  # noqa: PLR2004
        return name.upper()
    tag = tag_for_keyword(name)
    return "" if tag is None else f"{tag:08X}"
