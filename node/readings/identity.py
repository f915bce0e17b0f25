"""What would tell in a reading whose de-identified image it is about.

A reading is sealed, and yet it goes to other hospitals, which may not learn who the patient is. It
may say of the patient what the de-identified image says, and nothing else that identifies. Two
kinds of finds are told apart: those that are certain, such as a date of birth, and those that a
person has to look at, such as a word that is also somebody's name. Both are told by place and kind
and never by value.
"""

from collections.abc import Iterator
from dataclasses import dataclass, field

from pydicom.dataelem import DataElement
from pydicom.dataset import Dataset
from pydicom.sequence import Sequence as Items

from chain.errors import InvalidInputError
from node.leaks import Leak
from node.readings.subject import PSEUDONYM, Subject

MAX_DEPTH = 64  # of objects in objects, and of sequences in sequences
_PATIENT_GROUP = 0x0010
# Of the patient module, what many people share and a reader needs.
_SHARED = frozenset(
    ("PatientSex", "PatientAge", "PatientSize", "PatientWeight", "PregnancyStatus", "SmokingStatus")
)
# Numbers of visits and orders, by which a hospital's other systems know the patient.
_LINKS = frozenset(
    (
        "AccessionNumber",
        "AdmissionID",
        "FillerOrderNumberImagingServiceRequest",
        "PlacerOrderNumberImagingServiceRequest",
        "ReferringPhysicianName",
        "RequestedProcedureID",
        "ScheduledProcedureStepID",
        "StudyID",
    )
)
# Concepts of subject context (PS3.16, TID 1007 and 1008): name, number, birth date, mother.
_SUBJECT_CONCEPTS = frozenset({"121029", "121030", "121031", "121036"})
# Whoever wrote it is told by name, and may have treated the patient before.
_AUTHORS = frozenset(
    (
        "AuthorObserverSequence",
        "ContentCreatorName",
        "ParticipantSequence",
        "VerifyingObserverSequence",
        "OperatorsName",
    )
)
_OBSERVER_NAME = "121008"
_PERSONS = frozenset({"Patient", "Person", "RelatedPerson"})
_HARMLESS = frozenset({"active", "gender", "id", "identifier", "meta", "resourceType"})
_PATIENTS = frozenset({"subject", "patient"})
# Number types that stand for a person or a visit (HL7 v2, table 0203).
_NUMBERING = frozenset({"ACSN", "AN", "FILL", "MR", "PI", "PLAC", "PPN", "PT", "SS", "VN"})
_BY_AUTHORS = frozenset({"author", "performer", "recorder", "requester", "resultsInterpreter"})
_AUTHOR_KINDS = frozenset({"Organization", "Practitioner", "PractitionerRole"})


@dataclass(slots=True)
class Finds:
    """What was found, each once, in the order of the document.

    Attributes:
        certain: What identifies the patient.
        doubtful: What a person has to look at.
    """

    certain: dict[Leak, None] = field(default_factory=dict)
    doubtful: dict[Leak, None] = field(default_factory=dict)

    def note(self, place: str, kind: str) -> None:
        """Note what identifies."""
        self.certain[Leak(place, kind)] = None

    def doubt(self, place: str, kind: str) -> None:
        """Note what a person has to look at."""
        self.doubtful[Leak(place, kind)] = None


def finds_in_dataset(dataset: Dataset, subject: Subject) -> Finds:
    """Look through a structured report.

    Raises:
        InvalidInputError: If its sequences are nested too deep.
    """
    finds = Finds()
    _look(dataset, subject, finds, "", 0)
    return finds


def finds_in_json(members: dict[str, object], subject: Subject) -> Finds:
    """Look through a FHIR resource.

    Raises:
        InvalidInputError: If its objects are nested too deep.
    """
    finds = Finds()
    _look_at_object(members, subject, finds, "", 0)
    return finds


def _look(dataset: Dataset, subject: Subject, finds: Finds, above: str, depth: int) -> None:
    if depth > MAX_DEPTH:
        raise InvalidInputError(f"expected sequences nested at most {MAX_DEPTH} deep, found more")
    concept = _concept(dataset)
    if concept in _SUBJECT_CONCEPTS and not _is_allowed(_told_by(dataset), subject):
        finds.note(f"{above}{concept}", "the patient in the observation context")
    for element in dataset:
        place = f"{above}{element.keyword or f'{element.tag:08X}'}"
        if element.tag.is_private:
            finds.doubt(place, "a private attribute")
        elif isinstance(element.value, Items):
            if element.keyword not in _AUTHORS:
                for number, item in enumerate(element.value):
                    _look(item, subject, finds, f"{place}[{number}].", depth + 1)
        elif element.keyword not in _AUTHORS and concept != _OBSERVER_NAME:
            _look_at_element(element, subject, finds, place)


def _look_at_element(element: DataElement, subject: Subject, finds: Finds, place: str) -> None:
    values = [one for one in _values(element) if one.strip("^= ")]
    of_patient = element.tag.group == _PATIENT_GROUP and element.keyword not in _SHARED
    if (of_patient or element.keyword in _LINKS) and not all(
        one in _of_image(subject, element.keyword) or (of_patient and _is_allowed(one, subject))
        for one in values
    ):
        finds.note(place, "the patient" if of_patient else "a number or name of the visit")
    elif str(element.VR) not in {"DA", "DT", "TM", "UI"} and element.keyword not in _LINKS:
        for value in values:
            for kind in subject.leaks_in(value):
                finds.doubt(place, kind)


def _look_at_object(
    members: dict[str, object], subject: Subject, finds: Finds, above: str, depth: int
) -> None:
    if depth > MAX_DEPTH:
        raise InvalidInputError(f"expected objects nested at most {MAX_DEPTH} deep, found more")
    kind = members.get("resourceType")
    if kind in _AUTHOR_KINDS:
        return
    if kind in _PERSONS and members.keys() - _HARMLESS:
        finds.note(f"{above}{kind}", "the patient")
    if _numbers(members) & _NUMBERING and not _is_allowed(members.get("value"), subject):
        finds.note(above.rstrip("."), "a number of the patient or the visit")
    if isinstance(members.get("data"), str) and "contentType" in members:
        finds.doubt(above.rstrip("."), "an attachment")
    for name, value in members.items():
        place = f"{above}{name}"
        if name in _BY_AUTHORS:
            continue
        if name == "birthDate":
            finds.note(place, "a date of birth")
        if name in _PATIENTS or (kind in _PERSONS and name == "identifier"):
            _look_at_patient(value, subject, finds, place)
        if name == "encounter" and not _is_within(value):
            finds.note(place, "a visit")
        for at, one in enumerate(value if isinstance(value, list) else [value]):
            where = f"{place}[{at}]" if isinstance(value, list) else place
            if isinstance(one, dict):
                _look_at_object(one, subject, finds, f"{where}.", depth + 1)
            elif isinstance(one, str) and name != "data":
                for leak in subject.leaks_in(one):
                    finds.doubt(where, leak)


def _look_at_patient(value: object, subject: Subject, finds: Finds, place: str) -> None:
    """Note a reference to the patient that tells more than the de-identified image does."""
    for one in value if isinstance(value, list) else [value]:
        if not isinstance(one, dict):
            continue
        identifier = one.get("identifier")
        number = identifier.get("value") if isinstance(identifier, dict) else one.get("value")
        reference = one.get("reference")
        told = reference.rsplit("/", 1)[-1] if isinstance(reference, str) else None
        within = told is None or told.startswith("#")
        if not (
            _is_allowed(number, subject)
            and _is_allowed(one.get("display"), subject)
            and (within or _is_allowed(told, subject))
        ):
            finds.note(place, "the patient")


def _is_allowed(value: object, subject: Subject) -> bool:
    """Tell whether a name or number is none, or the de-identified image's own."""
    if not isinstance(value, str) or not value.strip("^= "):
        return value is None or isinstance(value, str)
    if subject.instance is None:
        return PSEUDONYM.fullmatch(value) is not None
    return value in _of_image(subject, "PatientID") | _of_image(subject, "PatientName")


def _is_within(value: object) -> bool:
    reference = value.get("reference") if isinstance(value, dict) else None
    return isinstance(reference, str) and reference.startswith("#")


def _numbers(members: dict[str, object]) -> set[str]:
    """Return which numbers an identifier says that it is."""
    kind = members.get("type")
    codings = kind.get("coding") if isinstance(kind, dict) else None
    told = codings if isinstance(codings, list) else []
    return {str(one.get("code")) for one in told if isinstance(one, dict)}


def _of_image(subject: Subject, keyword: str) -> set[str]:
    if subject.instance is None or keyword not in subject.instance:
        return set()
    return set(_values(subject.instance[keyword]))


def _concept(dataset: Dataset) -> str:
    names = dataset.get("ConceptNameCodeSequence")
    return str(names[0].get("CodeValue", "")) if names else ""


def _told_by(dataset: Dataset) -> str:
    return next(
        (
            str(dataset[keyword].value)
            for keyword in ("PersonName", "TextValue", "Date", "DateTime", "UID")
            if keyword in dataset
        ),
        "",
    )


def _values(element: DataElement) -> Iterator[str]:
    value = element.value
    if isinstance(value, bytes):
        yield value.decode("latin-1")
    elif isinstance(value, (list, tuple)) or hasattr(value, "typecode"):
        yield from map(str, value)
    elif value is not None:
        yield str(value)
