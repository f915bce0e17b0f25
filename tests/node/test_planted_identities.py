"""Identities planted into every real file are in nothing that comes out."""

import gzip
import re
import shutil
import subprocess
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import nibabel
import numpy as np
import pydicom
import pytest
from PIL import Image, ImageDraw, ImageFont
from pydicom.dataset import Dataset, FileDataset
from pydicom.pixels.utils import pixel_array
from pydicom.sequence import Sequence

from chain.secret_file import kept_secret
from node.dicom import read_instance
from node.ingest import ingest
from node.journal import HELD, TAKEN, Entry, Journal
from node.leaks import identities_in, leaks_in
from node.pixels import clean_pixels, has_pixels

REAL = Path(pydicom.__file__).parent / "data"
NIBABEL = Path(nibabel.__file__).parent
NAME, NUMBER, BORN, STREET = "Quixotada^Dulcinea", "TBS7741902", "19470312", "Windmill Lane 17"
NESTED, PRIVATE, UID = "Sancho^Panzaverde", "ROCINANTE STABLE 4", "1.2.826.0.1.777.4242"
# Words of the planted identities, in every way of writing that is looked for.
WORDS = ("quixotada", "dulcinea", "tbs7741902", "windmill", "panzaverde", "rocinante", "toboso")
DATES = ("19470312", "1947-03-12", "12.03.1947", "03/12/1947")


def planted(path: Path) -> FileDataset | None:
    """Return a real file with identity planted wherever there is room, or None if it is none."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        dataset = pydicom.dcmread(path, force=True)
        if "SOPClassUID" not in dataset:
            return None
        dataset.decode()
        dataset.SpecificCharacterSet = "ISO_IR 192"
        dataset.PatientName, dataset.PatientID = NAME, NUMBER
        dataset.PatientBirthDate, dataset.PatientAddress = BORN, STREET
        dataset.AccessionNumber = NUMBER[3:]
        dataset.InstitutionName = "Hospital del Toboso"
        dataset.Manufacturer = "Made for Dulcinea Quixotada"
        dataset.StudyDescription = f"CHEST of Quixotada, born {DATES[2]}"
        dataset.ImageComments = f"{NAME} {DATES[1]}"
        dataset.PerformingPhysicianName = NESTED
        inner = Dataset()
        inner.CodeValue, inner.CodingSchemeDesignator = "T-D4000", "SRT"
        inner.CodeMeaning = "Abdomen of Dulcinea"
        inner.PersonName = NESTED
        inner.ReferencedSOPInstanceUID = UID
        block = inner.private_block(0x0049, "TOBOSO ADMISSIONS", create=True)
        block.add_new(0x01, "LO", PRIVATE)
        dataset.AnatomicRegionSequence = Sequence([inner])
        block = dataset.private_block(0x0049, "TOBOSO ADMISSIONS", create=True)
        block.add_new(0x01, "LO", PRIVATE)
        block.add_new(0x02, "UN", NAME.encode("utf-16-le"))
        block.add_new(0x03, "OB", PRIVATE.encode() + b"\0\0")
        dataset.add_new(0x60024000, "LT", NAME)
        dataset.preamble = NAME.encode().ljust(128, b"\0")
    return dataset


def write(dataset: FileDataset, path: Path) -> bool:
    """Write a planted file as it stands; tell whether pydicom can."""
    path.parent.mkdir(parents=True, exist_ok=True)
    try:
        with warnings.catch_warnings(), path.open("wb") as file:
            warnings.simplefilter("ignore")
            pydicom.dcmwrite(file, dataset, implicit_vr=None, enforce_file_format=False)
    except Exception:  # noqa: BLE001 - some real files cannot be written again at all
        path.unlink()
        return False
    return True


def entries(key: Path) -> list[Entry]:
    (path,) = key.with_name(f"{key.name}.private").glob("*.sqlite")
    journal = Journal(path)
    found = list(journal.entries())
    journal.close()
    return found


class Run:
    """An ingest of all real files with identities planted in them."""

    def __init__(self, folder: Path) -> None:
        self.source, self.out, self.key = folder / "in", folder / "out", folder / "hospital.key"
        self.planted = 0
        for path in sorted(REAL.rglob("*.dcm")):
            dataset = planted(path)
            name = f"Quixotada_Dulcinea_{BORN}/{path.stem}_{NUMBER}.dcm"
            if dataset is None or not write(dataset, self.source / path.parent.name / name):
                target = self.source / "as it is" / path.name
                target.parent.mkdir(parents=True, exist_ok=True)
                shutil.copyfile(path, target)
            else:
                self.planted += 1
        self.done = ingest(self.source, self.out, self.key, kept_secret(self.key))
        self.entries = entries(self.key)


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Run:
    return Run(tmp_path_factory.mktemp("planted"))


def test_every_file_is_accounted_for_and_nearly_all_are_taken(run: Run) -> None:
    assert run.planted >= 94
    assert len(run.entries) == 104
    counts = run.done.report["counts"]
    assert counts["taken"] + counts["skipped"] + counts["held"] == 104
    assert counts["taken"] >= 85


def test_no_planted_word_is_in_any_byte_that_comes_out(run: Run) -> None:
    for path in run.out.rglob("*"):
        if not path.is_file():
            continue
        content = path.read_bytes().lower()
        for word in (*WORDS, *DATES, UID, STREET.lower()):
            for encoding in ("utf-8", "utf-16-le", "utf-16-be"):
                assert word.encode(encoding) not in content, (word, encoding)
            assert word not in path.relative_to(run.out).as_posix().lower()


def test_the_scan_finds_the_identities_where_they_were_and_not_where_they_are_not(
    run: Run,
) -> None:
    looked = 0
    for entry in run.entries:
        source = run.source / entry.path.decode()
        if entry.outcome != TAKEN or NUMBER not in source.name:
            continue
        identities = identities_in(source)
        assert {leak.kind for leak in leaks_in(source, identities)} >= {"name", "uid", "date"}
        output = run.out / "files" / entry.id[:2] / f"{entry.id}.dcm"
        assert leaks_in(output, identities) == ()
        looked += 1
    assert looked >= 85


def taken(run: Run) -> Iterator[tuple[Path, Path]]:
    """Yield each file that was taken, and what it became."""
    for entry in run.entries:
        if entry.outcome == TAKEN:
            output = run.out / "files" / entry.id[:2] / f"{entry.id}.dcm"
            yield run.source / entry.path.decode(), output


def test_pixels_outside_blanked_boxes_are_as_they_were(run: Run) -> None:
    images, boxes = 0, 0
    for source, output in taken(run):
        dataset = read_instance(source)
        if not has_pixels(dataset):
            continue
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            before = np.array(pixel_array(dataset))
            after = pixel_array(pydicom.dcmread(output))
        same = before == after
        frames = same if same.ndim == 2 + (dataset.SamplesPerPixel > 1) + 1 else same[None]
        found = clean_pixels(dataset).boxes
        for number, box in found:
            frames[number, box.top : box.bottom, box.left : box.right] = True
        assert same.all(), source.name
        images, boxes = images + 1, boxes + len(found)
    assert images >= 60
    assert boxes == run.done.report["counts"]["blanked"]


@pytest.mark.skipif(shutil.which("dciodvfy") is None, reason="dicom3tools are not installed")
def test_no_file_has_an_error_that_it_did_not_have(run: Run) -> None:
    compared = 0
    for source, output in taken(run):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            is_whole = "SOPClassUID" in pydicom.dcmread(source, force=True)
        if is_whole:  # of what kind another is, and what it lacks, nobody can tell
            assert errors_of(output) - errors_of(source) == set(), source.name
            compared += 1
    assert compared >= 85


def test_uids_are_consistent_across_a_study(run: Run) -> None:
    pairs: dict[str, set[str]] = {}
    for entry in run.entries:
        if entry.outcome != TAKEN:
            continue
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            before = pydicom.dcmread(run.source / entry.path.decode(), force=True)
            after = pydicom.dcmread(run.out / "files" / entry.id[:2] / f"{entry.id}.dcm")
        assert after.file_meta.MediaStorageSOPInstanceUID == after.SOPInstanceUID
        for keyword in ("StudyInstanceUID", "SeriesInstanceUID", "FrameOfReferenceUID"):
            if before.get(keyword):
                pairs.setdefault(str(before[keyword].value), set()).add(str(after[keyword].value))
    assert len(pairs) > 40
    assert all(len(new) == 1 for new in pairs.values())
    news = [next(iter(new)) for new in pairs.values()]
    assert len(set(news)) == len(news)


def test_two_hospitals_pseudonyms_of_a_patient_differ_and_one_hospitals_agree(
    tmp_path: Path,
) -> None:
    def patients(out: Path) -> set[str]:
        read = (pydicom.dcmread(path, stop_before_pixels=True) for path in out.rglob("*.dcm"))
        return {f"{one.PatientID} {one.StudyInstanceUID}" for one in read}

    source = tmp_path / "in"
    (source / "second").mkdir(parents=True)
    first = planted(REAL / "test_files" / "CT_small.dcm")
    second = planted(REAL / "test_files" / "MR_small.dcm")
    assert first is not None
    assert second is not None
    second.StudyInstanceUID = first.StudyInstanceUID
    second.PatientID = f" {NUMBER.lower()} "
    assert write(first, source / "1.dcm")
    assert write(second, source / "second" / "2.dcm")
    told = []
    for hospital in ("here", "there"):
        key = tmp_path / f"{hospital}.key"
        ingest(source, tmp_path / hospital, key, kept_secret(key))
        told.append(patients(tmp_path / hospital))
    assert len(told[0]) == len(told[1]) == 1
    assert not told[0] & told[1]


def errors_of(path: Path) -> set[str]:
    """Return what dciodvfy says is wrong with a file, without values."""
    checked = subprocess.run(
        ["dciodvfy", "-new", str(path)],
        capture_output=True,
        check=False,
    )
    lines = (checked.stderr + checked.stdout).decode(errors="replace").splitlines()
    return {re.sub(r" = <[^>]*>|0x[0-9a-f]+", "", one) for one in lines if one.startswith("Error")}


@pytest.mark.skipif(shutil.which("dciodvfy") is None, reason="dicom3tools are not installed")
@pytest.mark.parametrize(
    "name",
    [
        *("CT_small.dcm", "MR_small.dcm", "MR_small_bigendian.dcm", "JPEG2000.dcm"),
        *("MR_small_jpeg_ls_lossless.dcm", "rtdose_1frame.dcm", "rtplan.dcm", "rtstruct.dcm"),
        *("SC_rgb_rle.dcm", "reportsi.dcm", "waveform_ecg.dcm", "liver_1frame.dcm"),
        *("693_J2KI.dcm", "chrFren.dcm", "pet.dcm"),
    ],
)
def test_a_valid_file_stays_valid(name: str, tmp_path: Path) -> None:
    (path,) = REAL.rglob(name)
    key = tmp_path / "hospital.key"
    ingest(path, tmp_path / "out", key, kept_secret(key))
    (output,) = (tmp_path / "out" / "files").rglob("*.dcm")
    assert errors_of(output) - errors_of(path) == set()


def with_text(dataset: FileDataset, text: str, size: int) -> tuple[FileDataset, Any, Any]:
    """Burn text into an uncompressed grey image, as bright as it can be."""
    pixels = dataset.pixel_array.copy()
    mask = Image.new("L", pixels.shape[::-1], 0)
    font = ImageFont.load_default(size)
    ImageDraw.Draw(mask).text((4, 4), text, fill=255, font=font)
    strokes = np.asarray(mask) > 127
    burned = pixels.copy()
    burned[strokes] = 255 if pixels.itemsize == 1 else pixels.max()
    dataset.PixelData = burned.tobytes()
    return dataset, burned, strokes


@pytest.mark.parametrize("size", [10, 12, 16])
@pytest.mark.parametrize("name", ["CT_small.dcm", "image_dfl.dcm", "693_J2KI.dcm"])
def test_burned_in_text_is_blanked_or_held_and_nothing_else_changes(name: str, size: int) -> None:
    dataset = read_instance(REAL / "test_files" / name)
    if dataset.file_meta.TransferSyntaxUID.is_compressed:
        dataset.decompress()
    if name == "image_dfl.dcm":
        dataset.PixelData = (dataset.pixel_array // 2).astype(np.uint8).tobytes()
    dataset, burned, strokes = with_text(dataset, "QUIXOTADA 12MAR1947", size)
    cleaned = clean_pixels(dataset)
    covered = np.zeros(burned.shape, dtype=bool)
    for _, box in cleaned.boxes:
        covered[box.top : box.bottom, box.left : box.right] = True
    assert np.array_equal(cleaned.pixels[~covered], burned[~covered])
    assert cleaned.doubtful or covered[strokes].all()
    assert not cleaned.doubtful or size < 16


def test_what_a_scanner_says_of_diffusion_is_kept_and_a_name_in_its_place_is_not(
    tmp_path: Path,
) -> None:
    for said in ("DIRECTIONAL", "QUIXOTADA"):
        dataset = pydicom.dcmread(REAL / "test_files" / "MR_small.dcm")
        block = dataset.private_block(0x0019, "SIEMENS MR HEADER", create=True)
        block.add_new(0x0C, "IS", "1000")
        block.add_new(0x0D, "CS", said)
        assert write(dataset, tmp_path / "in" / f"{said}.dcm")
    key = tmp_path / "hospital.key"
    ingest(tmp_path / "in", tmp_path / "out", key, kept_secret(key))
    kept = {}
    for entry in entries(key):
        assert entry.outcome == TAKEN, entry.result["leaks"]
        output = tmp_path / "out" / "files" / entry.id[:2] / f"{entry.id}.dcm"
        kept[entry.path.decode()] = (0x0019, 0x100D) in pydicom.dcmread(output)
    assert kept == {"DIRECTIONAL.dcm": True, "QUIXOTADA.dcm": False}


def test_nibabels_dicom_files_come_out_without_what_was_planted(tmp_path: Path) -> None:
    for path in sorted((NIBABEL / "nicom" / "tests" / "data").glob("*.dcm*")):
        raw = tmp_path / path.name.removesuffix(".gz")
        content = path.read_bytes()
        raw.write_bytes(gzip.decompress(content) if path.suffix == ".gz" else content)
        dataset = planted(raw)
        if dataset is not None:
            assert write(dataset, tmp_path / "in" / f"{NUMBER}_{raw.name}")
    key = tmp_path / "hospital.key"
    done = ingest(tmp_path / "in", tmp_path / "out", key, kept_secret(key))
    counts = done.report["counts"]
    # What stands of a gradient in bytes is taken for an identity in one of them.
    assert (counts["taken"], counts["held"]) == (6, 1)
    for path in (one for one in (tmp_path / "out").rglob("*") if one.is_file()):
        content = path.read_bytes().lower()
        assert not [one for one in (*WORDS, *DATES) if one.encode() in content], path.name


def test_declared_text_that_is_not_found_holds_the_image_back(tmp_path: Path) -> None:
    dataset = read_instance(REAL / "test_files" / "MR_small.dcm")
    dataset.BurnedInAnnotation = "YES"
    path = tmp_path / "in" / "1.dcm"
    assert write(dataset, path)
    key = tmp_path / "hospital.key"
    ingest(path.parent, tmp_path / "out", key, kept_secret(key))
    (entry,) = entries(key)
    assert (entry.outcome, entry.reason) == (HELD, "text in the pixels")
    assert not list((tmp_path / "out" / "files").rglob("*.dcm"))


def test_somebody_who_looked_can_release_what_was_held(tmp_path: Path) -> None:
    from node.ingest import Choices

    dataset = read_instance(REAL / "test_files" / "MR_small.dcm")
    dataset.BurnedInAnnotation = "YES"
    path = tmp_path / "in" / "1.dcm"
    assert write(dataset, path)
    key = tmp_path / "hospital.key"
    ingest(path.parent, tmp_path / "out", key, kept_secret(key))
    (held,) = entries(key)
    choices = Choices(looked_at=frozenset({held.id}))
    ingest(path.parent, tmp_path / "out", key, kept_secret(key), choices)
    (taken,) = entries(key)
    assert taken.outcome == TAKEN


def test_comments_and_bytes_behind_the_pixels_do_not_come_through(tmp_path: Path) -> None:
    dataset = pydicom.dcmread(REAL / "test_files" / "MR_small.dcm")
    dataset.PixelData += b"QUIXOTADA DULCINEA"
    path = tmp_path / "in.dcm"
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        dataset.save_as(path)
    key = tmp_path / "hospital.key"
    ingest(path, tmp_path / "out", key, kept_secret(key))
    (output,) = (tmp_path / "out" / "files").rglob("*.dcm")
    assert b"QUIXOTADA" in path.read_bytes()
    assert b"QUIXOTADA" not in output.read_bytes()


def test_an_overlay_in_the_bits_that_no_pixel_uses_does_not_come_through() -> None:
    dataset = read_instance(REAL / "test_files" / "MR_small.dcm")
    assert dataset.BitsStored == 16
    dataset.BitsStored, dataset.HighBit, dataset.PixelRepresentation = 12, 11, 0
    drawn = np.asarray(dataset.pixel_array) & 0x0FFF
    dataset.PixelData = (drawn | 0x8000).astype(np.uint16).tobytes()
    cleaned = clean_pixels(dataset)
    assert np.array_equal(np.frombuffer(dataset.PixelData, np.uint16).reshape(64, 64), drawn)
    assert cleaned.pixels.max() < 0x1000
