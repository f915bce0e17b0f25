"""Patient identity is gone after de-identification: from real files, and wherever it is planted."""

import contextlib
import warnings
from collections.abc import Iterator
from pathlib import Path

import pydicom
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pydicom.datadict import dictionary_VR, keyword_for_tag, tag_for_keyword
from pydicom.dataelem import DataElement
from pydicom.dataset import Dataset, FileDataset
from pydicom.sequence import Sequence
from pydicom.tag import BaseTag, Tag
from pydicom.uid import UID, MRImageStorage

from chain.errors import InvalidInputError
from node.deidentify import deidentify, patient_of
from node.dicom import read_instance, write_instance
from node.profile import TABLE as PROFILE
from node.profile import action_for
from node.pseudonyms import Pseudonyms

REAL_FILES = Path(pydicom.__file__).parent / "data" / "test_files"
PSEUDONYMS = Pseudonyms(b"\x07" * 32)
PLANTED = "QUIXOTE"
TEXT_KINDS = {"AE", "CS", "LO", "LT", "PN", "SH", "ST", "UC", "UR", "UT"}

# What pydicom's own files may be refused for: no kind of instance, or no DICOM at all.
UNREADABLE = {
    "empty_charset_LEI.dcm",
    "meta_missing_tsyntax.dcm",
    "nested_priv_SQ.dcm",
    "no_meta.dcm",
}


def real_files() -> list[Path]:
    return sorted(p for p in REAL_FILES.rglob("*.dcm") if p.name not in UNREADABLE)


def quiet(path: Path) -> FileDataset:
    """Read a file with pydicom alone, decoding every value now."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        dataset = pydicom.dcmread(path, force=True)
        list(elements(dataset))
        return dataset


def elements(dataset: Dataset) -> Iterator[DataElement]:
    for element in dataset:
        yield element
        if element.VR == "SQ":
            for item in element.value:
                yield from elements(item)


def instance() -> FileDataset:
    return read_instance(REAL_FILES / "MR_small.dcm")


def written(dataset: FileDataset, folder: Path) -> bytes:
    with (folder / "out.dcm").open("wb") as file:
        write_instance(dataset, file)
    return (folder / "out.dcm").read_bytes()


def copied(path: Path, target: Path) -> None:
    """Write a de-identified copy of a file."""
    dataset = read_instance(path)
    deidentify(dataset, PSEUDONYMS)
    with target.open("wb") as file:
        write_instance(dataset, file)


@pytest.mark.parametrize("path", real_files(), ids=lambda path: path.name)
def test_no_identity_of_a_real_file_is_left(path: Path, tmp_path: Path) -> None:
    target = tmp_path / "out.dcm"
    copied(path, target)
    before, after = quiet(path), quiet(target)
    for element in elements(after):
        assert element.VR != "PN" or str(element.value)[:2] in {"", "No", "AN", "FW"}
    assert after.PatientIdentityRemoved == "YES"
    assert after.PatientID == after.PatientName == PSEUDONYMS.patient(patient_of(before))
    assert [code.CodeValue for code in after.DeidentificationMethodCodeSequence] == [
        *("113100", "113104", "113105", "113107", "113111")
    ]
    name = str(before.get("PatientName", ""))
    for word in name.replace("^", " ").split():
        if len(word) >= 4 and word != "Test":
            assert word.encode() not in target.read_bytes()
    old_uids = {
        str(element.value) for element in elements(before) if action_for(element.tag) == "U"
    }
    for uid in (uid for uid in old_uids if len(uid) >= 8):
        assert uid.encode() not in target.read_bytes()


def test_the_table_is_the_profile_of_hundreds_of_attributes() -> None:
    rows = PROFILE.read_text().splitlines()[1:]
    assert len(rows) > 600
    assert action_for(Tag("PatientName")) == "Z"
    assert action_for(Tag("PatientID")) == "D"
    assert action_for(Tag("PatientAddress")) == "X"
    assert action_for(Tag("StudyInstanceUID")) == "U"
    assert action_for(Tag(0x60023000)) == "X"
    assert action_for(Tag(0x50100020)) == "X"
    assert action_for(Tag("Rows")) is None


def test_the_names_in_the_table_are_those_of_the_dictionary() -> None:
    for row in PROFILE.read_text().splitlines()[1:]:
        tag, _, keyword = row.split(",")
        if "x" not in tag and keyword_for_tag(int(tag, 16)):
            assert tag_for_keyword(keyword) == int(tag, 16)


def plantable() -> list[BaseTag]:
    """Every attribute of the table that can hold a word."""
    rows = [row.split(",") for row in PROFILE.read_text().splitlines()[1:]]
    tags = [Tag(int(tag, 16)) for tag, _, _ in rows if "x" not in tag and tag > "0008"]
    return [t for t in tags if keyword_for_tag(t) and dictionary_VR(t) in TEXT_KINDS]


def test_a_word_planted_in_every_attribute_of_the_table_is_gone(tmp_path: Path) -> None:
    dataset = instance()
    tags = plantable()
    assert len(tags) > 300
    for tag in tags:
        dataset.add(DataElement(tag, dictionary_VR(tag), PLANTED))
    deidentify(dataset, PSEUDONYMS)
    assert PLANTED.encode() not in written(dataset, tmp_path)


@settings(
    max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(
    where=st.sampled_from(["PatientName", "OtherPatientNames", "PatientComments", "ImageComments"]),
    depth=st.integers(0, 6),
    word=st.text("ABCDEFGHIJKLMNOPQRSTUVWXYZ", min_size=12, max_size=12),
)
def test_a_word_planted_at_any_depth_is_gone(
    where: str, depth: int, word: str, tmp_path: Path
) -> None:
    dataset = instance()
    inner = Dataset()
    setattr(inner, where, word)
    for _ in range(depth):
        # A sequence that the profile keeps, so that its items have to be treated.
        outer = Dataset()
        outer.AnatomicRegionSequence = Sequence([inner])
        inner = outer
    dataset.AnatomicRegionSequence = Sequence([inner])
    deidentify(dataset, PSEUDONYMS)
    assert word.encode() not in written(dataset, tmp_path)


def test_private_and_unknown_attributes_are_removed(tmp_path: Path) -> None:
    dataset = instance()
    block = dataset.private_block(0x0045, "A SCANNER", create=True)
    block.add_new(0x01, "LO", PLANTED)
    dataset.add_new(0x00184FF0, "LO", PLANTED)
    counts = deidentify(dataset, PSEUDONYMS)
    assert counts["private"] >= 2
    assert counts["unlisted"] >= 1
    assert PLANTED.encode() not in written(dataset, tmp_path)


def test_overlays_curves_and_the_preamble_are_removed(tmp_path: Path) -> None:
    dataset = instance()
    dataset.preamble = PLANTED.encode().ljust(128, b"\0")
    dataset.add_new(0x60024000, "LT", PLANTED)
    dataset.add_new(0x60023000, "OW", PLANTED.encode().ljust(8, b"\0"))
    dataset.add_new(0x50100020, "CS", PLANTED)
    dataset.file_meta.SourceApplicationEntityTitle = PLANTED
    dataset.file_meta.PrivateInformationCreatorUID = UID("1.2.3.4.5")
    dataset.file_meta.PrivateInformation = PLANTED.encode().ljust(8, b"\0")
    deidentify(dataset, PSEUDONYMS)
    assert PLANTED.encode() not in written(dataset, tmp_path)


def test_an_echo_of_the_name_in_a_kept_attribute_is_removed(tmp_path: Path) -> None:
    dataset = instance()
    dataset.PatientName = "Quixote^Alonso"
    dataset.Manufacturer = "Built for Alonso"
    dataset.ManufacturerModelName = "Rocinante 3"
    counts = deidentify(dataset, PSEUDONYMS)
    assert counts["echo"] == 1
    assert dataset.Manufacturer == "ANONYMIZED"
    assert dataset.ManufacturerModelName == "Rocinante 3"
    assert b"Alonso" not in written(dataset, tmp_path)


def test_uids_are_replaced_alike_everywhere_and_only_with_the_secret() -> None:
    dataset = instance()
    old = str(dataset.SOPInstanceUID)
    reference = Dataset()
    reference.ReferencedSOPInstanceUID = old
    reference.ReferencedSOPClassUID = MRImageStorage
    dataset.ReferencedImageSequence = Sequence([reference])
    deidentify(dataset, PSEUDONYMS)
    new = str(dataset.SOPInstanceUID)
    assert new == PSEUDONYMS.uid(old) != Pseudonyms(b"\x08" * 32).uid(old)
    assert new.startswith("2.25.")
    assert len(new) <= 64
    assert dataset.ReferencedImageSequence[0].ReferencedSOPInstanceUID == new
    assert dataset.ReferencedImageSequence[0].ReferencedSOPClassUID == MRImageStorage
    assert dataset.file_meta.MediaStorageSOPInstanceUID == new


def test_the_pixels_stay_as_they_were() -> None:
    dataset = instance()
    before = dataset.PixelData
    deidentify(dataset, PSEUDONYMS)
    assert dataset.PixelData == before


def test_a_file_that_is_no_dicom_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "notes.txt"
    path.write_text("PATIENT QUIXOTE" * 100)
    with pytest.raises(InvalidInputError, match=r"expected a DICOM file") as refusal:
        read_instance(path)
    assert "QUIXOTE" not in str(refusal.value)


@settings(
    max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(data=st.data())
def test_a_damaged_file_is_refused_or_read_and_nothing_else(
    data: st.DataObject, tmp_path: Path
) -> None:
    raw = bytearray((REAL_FILES / "MR_small.dcm").read_bytes()[:2000])
    for _ in range(data.draw(st.integers(1, 5))):
        raw[data.draw(st.integers(132, len(raw) - 1))] = data.draw(st.integers(0, 255))
    path = tmp_path / "in.dcm"
    path.write_bytes(raw)
    with contextlib.suppress(InvalidInputError):
        copied(path, tmp_path / "out.dcm")


def test_a_deflated_file_that_could_burst_memory_is_refused(tmp_path: Path) -> None:
    raw = (REAL_FILES / "image_dfl.dcm").read_bytes()
    path = tmp_path / "bomb.dcm"
    path.write_bytes(raw + b"\0" * 600_000)
    with pytest.raises(InvalidInputError, match="without deflation"):
        read_instance(path)


def test_pydicoms_log_entries_and_warnings_that_quote_values_reach_nobody(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    # This file holds a UID that pydicom quotes in a warning and a log entry.
    copied(REAL_FILES / "badVR.dcm", tmp_path / "out.dcm")
    copied(REAL_FILES / "rtdose.dcm", tmp_path / "out.dcm")
    assert not caplog.records


def test_sequences_nested_without_end_are_refused(tmp_path: Path) -> None:
    dataset = instance()
    inner = Dataset()
    for _ in range(40):
        outer = Dataset()
        outer.AnatomicRegionSequence = Sequence([inner])
        inner = outer
    dataset.AnatomicRegionSequence = Sequence([inner])
    written(dataset, tmp_path)
    with pytest.raises(InvalidInputError, match="nested at most 32 deep"):
        read_instance(tmp_path / "out.dcm")
