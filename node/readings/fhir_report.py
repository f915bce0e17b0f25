"""Readings as FHIR DiagnosticReport in JSON, and questions as ServiceRequest, made and checked.

What is made here is of release 5, and what DiagnosticReport uses of it is the same in release 4.
What comes from elsewhere may be of either. The models of `fhir.resources` check its structure;
codes that are required, and what a reading needs, are checked here.
"""

import uuid
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from pydantic import ValidationError

from chain.canonical import canonical_json, parse_json
from chain.cid import Cid
from chain.errors import InvalidInputError
from node.readings.identity import Finds, finds_in_json
from node.readings.subject import UNKNOWN, Subject
from node.readings.words import Words, check_text

# Of DiagnosticReport.status, those of a reading that stands.
STATUSES = frozenset(
    ("amended", "appended", "corrected", "final", "modified", "partial", "preliminary")
)
_ASKED = frozenset({"active", "draft"})  # of ServiceRequest.status
_TOLD = 3  # faults that a refusal lists
MAX_PARTS = 1 << 15  # members and values; texts in base64 have none
_UIDS = "urn:dicom:uid"
_LOINC = "http://loinc.org"
_FINDINGS, _PATIENT = "findings", "patient"


@dataclass(frozen=True, slots=True)
class Question:
    """What a hospital asks another.

    Attributes:
        text: What it wants to know.
        asked_at: When, in Unix seconds.
        answer_by: Until when, in Unix seconds.
        reading: A copy of the reading on which an opinion is asked, if it is shown.
    """

    text: str
    asked_at: int
    answer_by: int
    reading: Cid | None = None


def make_report(words: Words, subject: Subject, at: int) -> bytes:
    """Write a DiagnosticReport.

    Args:
        words: What the clinician says.
        subject: The image; if its instance is known, the report references it.
        at: Now, in Unix seconds.
    """
    members: dict[str, Any] = {
        "resourceType": "DiagnosticReport",
        "identifier": [{"system": "urn:ietf:rfc:3986", "value": uuid.uuid4().urn}],
        "status": "final" if words.is_final else "preliminary",
        "category": [{"coding": [_coding("http://terminology.hl7.org/CodeSystem/v2-0074", "RAD")]}],
        "code": {"coding": [_coding(_LOINC, "18748-4", "Diagnostic imaging study")]},
        "issued": _time(at),
        "conclusion": words.impression,
    }
    if words.findings:
        members["contained"] = [
            {
                "resourceType": "Observation",
                "id": _FINDINGS,
                "status": members["status"],
                "code": {
                    "coding": [_coding(_LOINC, "59776-5", "Procedure findings Narrative")],
                    "text": "Findings",
                },
                "valueString": words.findings,
            }
        ]
        members["result"] = [{"reference": f"#{_FINDINGS}"}]
    told = ", ".join(one for one in (words.clinician, words.organization) if one)
    if told:
        members["performer"] = [{"display": told}]
    if subject.instance is not None:
        uid = str(subject.instance.SOPInstanceUID)
        members["media"] = [{"link": {"identifier": {"system": _UIDS, "value": f"urn:oid:{uid}"}}}]
    return canonical_json(members)


def check_report(raw: bytes, subject: Subject) -> Finds:
    """Check that bytes are a DiagnosticReport with a reading in it, and look for identity in it.

    Returns:
        What was found of the patient's identity.

    Raises:
        InvalidInputError: If it is another thing, malformed, or about another image.
    """
    members = _read(raw, "DiagnosticReport")
    status = members.get("status")
    if status not in STATUSES:
        raise InvalidInputError(
            f"expected a DiagnosticReport whose status is {' or '.join(sorted(STATUSES))}, found "
            f"{str(status)[:32]!r}"
        )
    forms = members.get("presentedForm") or []
    if not str(members.get("conclusion") or "").strip() and not forms:
        raise InvalidInputError(
            "expected a DiagnosticReport with a conclusion or a presentedForm, found neither"
        )
    for form in forms:
        if not isinstance(form.get("data"), str):
            raise InvalidInputError(
                "expected a presentedForm that holds its data, found one that only points to them"
            )
    _check_reference(members, subject)
    return finds_in_json(members, subject)


def make_question(question: Question) -> bytes:
    """Write a ServiceRequest.

    Raises:
        InvalidInputError: If there is no question, or it is too long.
    """
    if not question.text.strip():
        raise InvalidInputError("expected a question, found an empty one")
    check_text(question.text, "question")
    members: dict[str, Any] = {
        "resourceType": "ServiceRequest",
        "status": "active",
        "intent": "order",
        # The resource has to have a subject, of whom nothing is told.
        "contained": [{"resourceType": "Patient", "id": _PATIENT}],
        "subject": {"reference": f"#{_PATIENT}"},
        "code": {"concept": {"coding": [_coding(_LOINC, "18748-4", "Diagnostic imaging study")]}},
        "authoredOn": _time(question.asked_at),
        "occurrencePeriod": {"end": _time(question.answer_by)},
        "note": [{"text": question.text}],
    }
    if question.reading is not None:
        copy = {"system": "urn:ietf:rfc:3986", "value": f"ipfs://{question.reading}"}
        members["supportingInfo"] = [{"reference": {"identifier": copy}}]
    return canonical_json(members)


def look_through_question(raw: bytes, subject: Subject = UNKNOWN) -> Finds:
    """Check that bytes are a ServiceRequest, and look for identity in it.

    Raises:
        InvalidInputError: If it is another thing, or malformed.
    """
    members = _read(raw, "ServiceRequest")
    if members.get("status") not in _ASKED:
        raise InvalidInputError(
            f"expected a ServiceRequest that is active, found {str(members.get('status'))[:32]!r}"
        )
    return finds_in_json(members, subject)


def copy_in(raw: bytes) -> Cid | None:
    """Find the copy of a reading that a question shows, if it shows one."""
    infos = _read(raw, "ServiceRequest").get("supportingInfo") or []
    for one in infos:
        reference = one.get("reference")
        identifier = reference.get("identifier") if isinstance(reference, dict) else None
        value = identifier.get("value") if isinstance(identifier, dict) else None
        if isinstance(value, str) and value.startswith("ipfs://"):
            return Cid.parse(value.removeprefix("ipfs://"))
    return None


def words_of(raw: bytes) -> str:
    """Return what a DiagnosticReport or ServiceRequest says, for people to read."""
    members = parse_json(raw, len(raw))
    told = []
    if isinstance(members, dict):
        told += [
            f"Findings: {one['valueString']}"
            for one in members.get("contained") or ()
            if isinstance(one, dict) and isinstance(one.get("valueString"), str)
        ]
        if isinstance(members.get("conclusion"), str):
            told.append(f"Impression: {members['conclusion']}")
        told += [str(one["text"]) for one in members.get("note") or () if "text" in one]
    return "\n".join(told)


def _read(raw: bytes, kind: str) -> dict[str, Any]:
    """Read a resource that somebody else wrote, of release 5 or 4."""
    # A fault of three bytes becomes an object of two thousand.
    if sum(map(raw.count, (b",", b"{", b"["))) > MAX_PARTS:
        raise InvalidInputError(
            f"expected a FHIR {kind} of at most {MAX_PARTS} values, found a larger one"
        )
    members = parse_json(raw, len(raw))
    found = members.get("resourceType") if isinstance(members, dict) else None
    if not isinstance(members, dict) or found != kind:
        raise InvalidInputError(f"expected a FHIR {kind}, found {str(found)[:32]!r}")
    faults = min((_faults(model, members) for model in _models(kind)), key=len)
    if faults:
        raise InvalidInputError(
            f"expected a FHIR {kind} of release 5 or 4, found faults in {len(faults)} places: "
            f"{', '.join(faults[:_TOLD])}"
        )
    return members


def _models(kind: str) -> Sequence[Any]:
    from fhir.resources import get_fhir_model_class
    from fhir.resources.R4B import get_fhir_model_class as get_r4_model_class

    return get_fhir_model_class(kind), get_r4_model_class(kind)


def _faults(model: Any, members: Mapping[str, Any]) -> list[str]:
    """Tell what is wrong by place and kind; the library's own words quote values."""
    try:
        model.model_validate(members)
    except ValidationError as error:
        return [
            f"{'.'.join(map(str, one['loc']))[:100]} ({one['type']})"
            for one in error.errors(include_url=False, include_input=False, include_context=False)
        ]
    except Exception as error:  # noqa: BLE001 - on what it does not expect it raises any kind
        return [f"the resource ({type(error).__name__})"]
    return []


def _check_reference(members: Mapping[str, Any], subject: Subject) -> None:
    """Check that a report which names DICOM objects names the image, where that is known."""
    instance = subject.instance
    named = set(_uids(members))
    if instance is None or not named:
        return
    own = {
        str(instance.get(keyword))
        for keyword in ("SOPInstanceUID", "SeriesInstanceUID", "StudyInstanceUID")
    }
    if not named <= own:
        raise InvalidInputError(
            "expected a DiagnosticReport whose DICOM UIDs are those of the de-identified image, "
            "found others: it is about another image, or about the original, whose UIDs identify "
            "the patient"
        )


def _uids(value: object) -> Iterator[str]:
    if isinstance(value, dict):
        told = value.get("value")
        if value.get("system") == _UIDS and isinstance(told, str):
            yield told.removeprefix("urn:oid:")
        for one in value.values():
            yield from _uids(one)
    elif isinstance(value, list):
        for one in value:
            yield from _uids(one)


def _coding(system: str, code: str, display: str = "") -> dict[str, str]:
    shown = {"display": display} if display else {}
    return {"system": system, "code": code, **shown}


def _time(seconds: int) -> str:
    return datetime.fromtimestamp(seconds, UTC).isoformat().replace("+00:00", "Z")
