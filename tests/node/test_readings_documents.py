"""Documents of readings: made, taken from elsewhere, and never telling whose image it is."""

import base64
import io
import json
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pydicom
import pytest
from fhir.resources import get_fhir_model_class
from fhir.resources.R4B import get_fhir_model_class as get_r4_model_class
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pydicom.dataset import Dataset, FileDataset
from pydicom.uid import (
    UID,
    DeflatedExplicitVRLittleEndian,
    ExplicitVRBigEndian,
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
)

from chain.cid import Cid
from chain.errors import InvalidInputError
from node.leaks import Identities
from node.readings import dicom_report, fhir_report
from node.readings.documents import (
    MAX_DOCUMENT,
    Form,
    form_of,
    look_through,
    make_document,
    read_document,
    refuse_identity,
    words_of,
)
from node.readings.fhir_report import Question, copy_in, look_through_question, make_question
from node.readings.subject import UNKNOWN, Subject
from node.readings.words import MAX_TEXT, Words
from tests.node.readings import NOW, SOURCE, WORDS, de_identified


@pytest.fixture(scope="module")
def instance() -> FileDataset:
    return de_identified()


@pytest.fixture(scope="module")
def report(instance: FileDataset) -> bytes:
    return make_document(WORDS, Form.DICOM, Subject(instance), NOW).raw


def check(raw: bytes, subject: Subject = UNKNOWN, *, looked_at: bool = False) -> None:
    refuse_identity(look_through(raw, subject), looked_at=looked_at)


def fhir(**changes: Any) -> bytes:
    """What a reporting system may write, with changes; None leaves a member out."""
    members = json.loads(make_document(WORDS, Form.FHIR, UNKNOWN, NOW).raw) | changes
    return json.dumps({name: one for name, one in members.items() if one is not None}).encode()


def changed(report: bytes, **changes: Any) -> bytes:
    """A structured report with other attributes; None leaves one out."""
    dataset = pydicom.dcmread(io.BytesIO(report))
    for keyword, value in changes.items():
        if value is None:
            delattr(dataset, keyword)
        else:
            setattr(dataset, keyword, value)
    return written(dataset)


def written(dataset: Dataset) -> bytes:
    file = io.BytesIO()
    dataset.save_as(file, enforce_file_format=True)
    return file.getvalue()


def item(**attributes: Any) -> Dataset:
    dataset = Dataset()
    for keyword, value in attributes.items():
        setattr(dataset, keyword, value)
    return dataset


def concept(code: str) -> list[Dataset]:
    return [item(CodeValue=code, CodingSchemeDesignator="DCM", CodeMeaning="-")]


def context(code: str, **value: Any) -> Dataset:
    kind = {"RelationshipType": "HAS OBS CONTEXT", "ConceptNameCodeSequence": concept(code)}
    return item(**kind, **value)


@pytest.mark.parametrize("form", Form)
def test_what_is_made_is_read_as_it_was_said(form: Form, instance: FileDataset) -> None:
    made = make_document(WORDS, form, Subject(instance), NOW)
    check(made.raw, Subject(instance))
    check(made.raw)
    assert form_of(made.raw) is form
    told = words_of(made.raw)
    assert WORDS.findings in told
    assert WORDS.impression in told
    again = make_document(WORDS, form, Subject(instance), NOW + 1)
    assert again.said == made.said
    assert again.raw != made.raw
    assert make_document(Words("Other."), form, Subject(instance), NOW).said != made.said


@pytest.mark.skipif(shutil.which("dciodvfy") is None, reason="dicom3tools are not installed")
@pytest.mark.parametrize("words", [WORDS, Words("Normal.", is_final=False)])
def test_a_structured_report_is_valid_as_a_checker_of_the_standard_reads_it(
    words: Words, instance: FileDataset, tmp_path: Path
) -> None:
    path = tmp_path / "report.dcm"
    path.write_bytes(make_document(words, Form.DICOM, Subject(instance), NOW).raw)
    done = subprocess.run(
        ["dciodvfy", "-new", str(path)], capture_output=True, text=True, check=False
    )
    assert [line for line in done.stderr.splitlines() if line.startswith("Error")] == []


def test_a_structured_report_is_in_the_study_of_its_image_and_references_it(
    instance: FileDataset, report: bytes
) -> None:
    read = pydicom.dcmread(io.BytesIO(report))
    assert read.StudyInstanceUID == instance.StudyInstanceUID
    assert read.PatientName == instance.PatientName
    evidence = read.CurrentRequestedProcedureEvidenceSequence[0].ReferencedSeriesSequence[0]
    assert evidence.ReferencedSOPSequence[0].ReferencedSOPInstanceUID == instance.SOPInstanceUID
    assert read.VerifyingObserverSequence[0].VerifyingObserverName == "Roe^Richard"
    plain = make_document(Words("Normal."), Form.DICOM, Subject(instance), NOW).raw
    assert pydicom.dcmread(io.BytesIO(plain)).VerificationFlag == "UNVERIFIED"


def test_a_report_in_fhir_is_one_of_both_releases(instance: FileDataset) -> None:
    members = json.loads(make_document(WORDS, Form.FHIR, Subject(instance), NOW).raw)
    get_fhir_model_class("DiagnosticReport").model_validate(members)
    get_r4_model_class("DiagnosticReport").model_validate(members)
    assert (
        members["media"][0]["link"]["identifier"]["value"] == f"urn:oid:{instance.SOPInstanceUID}"
    )


def test_reports_of_either_release_and_of_all_kinds_of_text_are_taken(
    instance: FileDataset, report: bytes
) -> None:
    check(fhir(imagingStudy=[{"reference": "ImagingStudy/7"}]))  # release 4 alone has it
    check(fhir(study=[{"reference": "ImagingStudy/7"}]))  # release 5 alone has it
    text = base64.b64encode(b"Normal.").decode()
    form = [{"contentType": "text/plain", "data": text}]
    check(fhir(conclusion=None, presentedForm=form), looked_at=True)
    for kind in ("88.11", "88.33", "88.34", "88.35"):
        uid = f"1.2.840.10008.5.1.4.1.1.{kind}"
        other = pydicom.dcmread(io.BytesIO(report))
        other.SOPClassUID = other.file_meta.MediaStorageSOPClassUID = UID(uid)
        check(written(other), Subject(instance))


@pytest.mark.parametrize(
    ("raw", "told"),
    [
        (b"", "JSON"),
        (b"\x80\x04\x95.", "JSON"),
        (b"[]", "DiagnosticReport"),
        (fhir(resourceType="Patient"), "DiagnosticReport"),
        (fhir(status="cancelled"), "status"),
        (fhir(status="entered-in-error"), "status"),
        (fhir(status=None), "status"),
        (fhir(code=None), "code"),
        (fhir(conclusion=None), "conclusion or a presentedForm"),
        (fhir(conclusion="  "), "conclusion or a presentedForm"),
        (fhir(presentedForm=[{"url": "https://ris.example/7"}]), "only points"),
        (fhir(secret="Doe"), "secret"),
        (fhir(issued="John Doe, yesterday"), "issued"),
        (fhir(contained=[{"resourceType": "Evil"}]), "faults"),
        (fhir(contained=["Doe"]), "contained"),
        (b'{"resourceType":"DiagnosticReport","status":"final","status":"final"}', "twice"),
        (b'{"a":' * 5000 + b"1" + b"}" * 5000, "JSON"),
    ],
)
def test_what_is_no_report_in_fhir_is_refused_without_a_word_of_it(raw: bytes, told: str) -> None:
    with pytest.raises(InvalidInputError, match=told) as refused:
        check(raw)
    assert "Doe" not in str(refused.value)


def test_what_is_no_structured_report_is_refused(instance: FileDataset, report: bytes) -> None:
    def refused(raw: bytes, told: str) -> None:
        with pytest.raises(InvalidInputError, match=told):
            check(raw, Subject(instance))

    refused(SOURCE.read_bytes(), "structured report")
    for cut in (1, 40, 200, 900, len(report) - 200):
        refused(report[:-cut], "cut short|damaged|transfer syntax")
    refused(report + b"\0" * 7, "cut short|damaged")
    refused(changed(report, CompletionFlag=None), "completion flag")
    refused(changed(report, ContentSequence=[]), "content")
    refused(changed(report, EncapsulatedDocument=b"%PDF"), "EncapsulatedDocument")
    refused(changed(report, SOPClassUID="1.2.840.10008.5.1.4.1.1.88.67"), "SOP class")
    refused(changed(report, StudyInstanceUID="1.2.3"), "study")
    other = de_identified()
    other.SOPInstanceUID = "2.25.7"
    foreign = make_document(WORDS, Form.DICOM, Subject(other), NOW).raw
    refused(foreign, "references the image")
    check(foreign)
    for syntax in (DeflatedExplicitVRLittleEndian, ExplicitVRBigEndian):
        dataset = pydicom.dcmread(io.BytesIO(report))
        dataset.file_meta.TransferSyntaxUID = syntax
        file = io.BytesIO()
        little = syntax is DeflatedExplicitVRLittleEndian
        pydicom.dcmwrite(file, dataset, implicit_vr=False, little_endian=little)
        refused(file.getvalue(), "not deflated" if little else "another transfer syntax")
    deep = item(ValueType="CONTAINER")
    for _ in range(80):
        deep = item(ValueType="CONTAINER", ContentSequence=[deep])
    refused(changed(report, ContentSequence=[deep]), "deep|damaged")


def test_reports_of_every_encoding_are_whole(report: bytes) -> None:
    for implicit in (False, True):
        for undefined in (False, True):
            dataset = pydicom.dcmread(io.BytesIO(report))
            dataset.remove_private_tags()
            dataset.file_meta.TransferSyntaxUID = (
                ImplicitVRLittleEndian if implicit else ExplicitVRLittleEndian
            )
            for element in dataset.iterall():
                if element.VR == "SQ":
                    element.is_undefined_length = undefined
                    for one in element.value:
                        one.is_undefined_length_sequence_item = undefined
            file = io.BytesIO()
            pydicom.dcmwrite(file, dataset, implicit_vr=implicit, little_endian=True)
            check(file.getvalue())
            with pytest.raises(InvalidInputError):
                check(file.getvalue()[:-1])


def test_a_report_about_another_image_is_refused_in_fhir_too(instance: FileDataset) -> None:
    link = {"identifier": {"system": "urn:dicom:uid", "value": "urn:oid:1.2.3"}}
    check(fhir(media=[{"link": link}]))
    with pytest.raises(InvalidInputError, match="another image"):
        check(fhir(media=[{"link": link}]), Subject(instance))


@pytest.mark.parametrize(
    ("keyword", "value"),
    [
        ("PatientName", "Doe^John"),
        ("PatientID", "4711"),
        ("PatientBirthDate", "19600229"),
        ("OtherPatientIDs", ["4711", "4712"]),
        ("PatientAddress", "1 High Street"),
        ("AccessionNumber", "A4711"),
        ("ReferringPhysicianName", "Doe^John"),
        ("AdmissionID", "4711"),
        ("ReferencedRequestSequence", [item(AccessionNumber="A4711")]),
        (
            "ContentSequence",
            [
                context("121029", ValueType="PNAME", PersonName="Doe^John"),
                item(ValueType="CODE", ConceptCodeSequence=concept("1")),
            ],
        ),
    ],
)
def test_a_structured_report_that_names_the_patient_is_refused(
    keyword: str, value: Any, instance: FileDataset, report: bytes
) -> None:
    raw = changed(report, **{keyword: value})
    subject = Subject(instance) if keyword != "ContentSequence" else UNKNOWN
    for about in (subject, UNKNOWN):
        with pytest.raises(InvalidInputError, match="tells who the patient is") as refused:
            check(raw, about, looked_at=True)
        assert not {"Doe", "4711", "1960"} & set(str(refused.value).replace("^", " ").split())


def test_the_pseudonym_and_what_many_share_may_stand_in_a_report(
    instance: FileDataset, report: bytes
) -> None:
    check(changed(report, PatientSex="F", PatientAge="061Y"), Subject(instance))
    other = "FW" + "A" * 16
    check(changed(report, PatientID=other))
    with pytest.raises(InvalidInputError, match="PatientID"):
        check(changed(report, PatientID=other), Subject(instance))
    subject = {"identifier": {"value": str(instance.PatientID)}}
    check(fhir(subject=subject), Subject(instance))


@pytest.mark.parametrize(
    "changes",
    [
        {"subject": {"display": "John Doe"}},
        {"subject": {"reference": "Patient/4711"}},
        {"subject": {"identifier": {"value": "4711"}}},
        {"contained": [{"resourceType": "Patient", "id": "p", "name": [{"family": "Doe"}]}]},
        {"contained": [{"resourceType": "Patient", "id": "p", "birthDate": "1960-02-29"}]},
        {"contained": [{"resourceType": "Patient", "id": "p", "identifier": [{"value": "4711"}]}]},
        {"encounter": {"reference": "Encounter/4711"}},
        {"identifier": [{"type": {"coding": [{"code": "ACSN"}]}, "value": "A4711"}]},
    ],
)
def test_a_report_in_fhir_that_names_the_patient_is_refused(changes: dict[str, Any]) -> None:
    with pytest.raises(InvalidInputError, match="tells who the patient is") as refused:
        check(fhir(**changes), looked_at=True)
    assert "Doe" not in str(refused.value)
    assert "4711" not in str(refused.value)


def test_words_that_named_somebody_in_what_came_in_are_looked_at_by_a_person(
    instance: FileDataset,
) -> None:
    own = Identities(
        names=(("lovelace", "ada"),),
        births=frozenset({"18151210"}),
        numbers=frozenset({"47110815"}),
    )
    everybody = Identities(names=(("hopper", "grace"),))
    subject = Subject(instance, own, everybody)
    for told in (
        "Mrs Lovelace has improved.",
        "Born 10.12.1815.",
        "See report 4711-0815 of patient 47110815.",
        "As in Grace M. Hopper.",
    ):
        words = Words("Normal.", told)
        for form in Form:
            made = make_document(words, form, subject, NOW)
            with pytest.raises(InvalidInputError, match="may tell who the patient is") as refused:
                check(made.raw, subject)
            assert "ovelace" not in str(refused.value)
            check(made.raw, subject, looked_at=True)
    by = [{"resourceType": "Practitioner", "id": "by", "name": [{"text": "Grace Hopper"}]}]
    check(fhir(contained=by, performer=[{"reference": "#by"}], result=None), subject)
    # Whoever wrote it may be somebody whom a file named, and grace alone is a word.
    author = Words("Normal, with good grace.", clinician="Lovelace^Ada", organization="St Mary")
    for form in Form:
        check(make_document(author, form, subject, NOW).raw, subject)


def test_attachments_and_private_attributes_are_looked_at_by_a_person(report: bytes) -> None:
    pdf = [{"contentType": "application/pdf", "data": base64.b64encode(b"%PDF").decode()}]
    dataset = pydicom.dcmread(io.BytesIO(report))
    dataset.private_block(0x0011, "SOMEBODY", create=True).add_new(1, "LO", "Doe")
    for raw in (fhir(presentedForm=pdf), written(dataset)):
        with pytest.raises(InvalidInputError, match="--looked-at"):
            check(raw)
        check(raw, looked_at=True)


def test_a_report_needs_words_and_an_instance_where_it_is_about_one() -> None:
    with pytest.raises(InvalidInputError, match="--instance"):
        make_document(WORDS, Form.DICOM, UNKNOWN, NOW)
    for impression in (" ", "x" * (MAX_TEXT + 1), "\x1b["):
        with pytest.raises(InvalidInputError, match="impression"):
            Words(impression)
    with pytest.raises(InvalidInputError, match="clinician"):
        Words("x", clinician="a\\b")


def test_a_file_is_read_within_bounds(tmp_path: Path) -> None:
    path = tmp_path / "report"
    for size in (0, MAX_DOCUMENT + 1):
        with path.open("wb") as file:
            file.truncate(size)
        with pytest.raises(InvalidInputError, match="expected a document"):
            read_document(path)
    with pytest.raises(InvalidInputError, match="something else"):
        read_document(tmp_path)
    path.write_bytes(b"x")
    assert read_document(path).raw == b"x"


def test_a_question_says_what_is_asked_and_shows_a_copy() -> None:
    copy = Cid.from_blob_digest(b"\x07" * 32)
    raw = make_question(Question("Is it new?", NOW, NOW + 60, copy))
    refuse_identity(look_through_question(raw), looked_at=False)
    assert copy_in(raw) == copy
    assert fhir_report.words_of(raw) == "Is it new?"
    assert copy_in(make_question(Question("Is it new?", NOW, NOW + 60))) is None
    with pytest.raises(InvalidInputError, match="question"):
        make_question(Question(" ", NOW, NOW))
    with pytest.raises(InvalidInputError, match="ServiceRequest"):
        look_through_question(fhir())


@settings(max_examples=300, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.data())
def test_damaged_reports_are_refused_or_read_and_nothing_else(
    report: bytes, data: st.DataObject
) -> None:
    raw = bytearray(report if data.draw(st.booleans()) else fhir())
    for _ in range(data.draw(st.integers(1, 8))):
        place = data.draw(st.integers(0, len(raw) - 1))
        raw[place : place + data.draw(st.integers(0, 4))] = data.draw(st.binary(max_size=4))
    try:
        check(bytes(raw))
        words_of(bytes(raw))
    except InvalidInputError:
        pass


def test_a_report_of_countless_parts_is_refused_before_it_fills_the_memory(report: bytes) -> None:
    """Whoever has to open it would else build an object of a thousand bytes for each of eight."""
    item = b"\xfe\xff\x00\xe0\x00\x00\x00\x00"
    many = item * (dicom_report.MAX_PARTS + 1)
    sequence = b"\x40\x00\x3f\xa7SQ\x00\x00" + len(many).to_bytes(4, "little") + many
    with pytest.raises(InvalidInputError, match="of at most 2097152 bytes and 32768 parts"):
        look_through(report + sequence)
    long = dicom_report.MAX_REPORT.to_bytes(4, "little") + bytes(dicom_report.MAX_REPORT)
    with pytest.raises(InvalidInputError, match="of at most 2097152 bytes and 32768 parts"):
        look_through(report + b"\x40\x00\x60\xa1UT\x00\x00" + long)
    extensions: list[dict[str, Any]] = [{}] * (fhir_report.MAX_PARTS + 1)
    with pytest.raises(InvalidInputError, match="of at most 32768 values"):
        look_through(fhir(extension=extensions))
    # What is attached is one value, however long.
    form = {"contentType": "application/pdf", "data": base64.b64encode(bytes(1 << 20)).decode()}
    assert look_through(fhir(presentedForm=[form])).doubtful
