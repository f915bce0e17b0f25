"""The hospitals' folders of the demo."""

import csv
from pathlib import Path

import numpy as np
import pydicom
import pytest

from demo.anatomy import SIZE, Scanner, draw_scan, read_atlas
from demo.scans import SITES, write_hospital, write_test_set


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A hospital's folder of ten images."""
    folder = tmp_path_factory.mktemp("aurora")
    write_hospital(folder, site=0, images=10, seed=3)
    return folder


def labels(folder: Path) -> dict[str, int]:
    with (folder / "labels.csv").open(newline="") as table:
        return {row["file"]: int(row["label"]) for row in csv.DictReader(table)}


def test_every_file_is_valid_dicom_with_pixels(folder: Path) -> None:
    for path in sorted(folder.glob("*.dcm")):
        dataset = pydicom.dcmread(path)
        assert dataset.SOPClassUID.name == "MR Image Storage"
        assert dataset.file_meta.MediaStorageSOPInstanceUID == dataset.SOPInstanceUID
        assert dataset.pixel_array.shape == (SIZE, SIZE)
        assert dataset.pixel_array.max() > 0


def test_half_of_the_images_have_a_lesion_and_each_has_a_label(folder: Path) -> None:
    truth = labels(folder)
    assert set(truth) == {path.name for path in folder.glob("*.dcm")}
    assert sum(truth.values()) == len(truth) // 2


def test_every_file_names_a_patient_and_says_that_lesions_are_simulated(folder: Path) -> None:
    for path in folder.glob("*.dcm"):
        dataset = pydicom.dcmread(path)
        assert dataset.PatientName
        assert dataset.PatientBirthDate
        assert "Next of kin" in str(dataset[0x0045, 0x1001].value)
        assert "SIMULATED" in dataset.SeriesDescription


def test_the_same_seed_writes_the_same_bytes(folder: Path, tmp_path: Path) -> None:
    write_hospital(tmp_path, site=0, images=10, seed=3)
    for path in folder.iterdir():
        assert (tmp_path / path.name).read_bytes() == path.read_bytes()


def test_another_seed_writes_other_patients(folder: Path, tmp_path: Path) -> None:
    write_hospital(tmp_path, site=0, images=2, seed=4)
    assert (tmp_path / "0000.dcm").read_bytes() != (folder / "0000.dcm").read_bytes()


def test_the_test_set_has_each_scanner_with_and_without_lesions(tmp_path: Path) -> None:
    write_test_set(tmp_path, images=2 * len(SITES), seed=3)
    seen = {
        (pydicom.dcmread(tmp_path / name).InstitutionName, label)
        for name, label in labels(tmp_path).items()
    }
    assert seen == {(site.institution, label) for site in SITES for label in (0, 1)}


def test_a_lesion_is_brighter_than_the_tissue_around_it() -> None:
    atlas = read_atlas()
    plain = Scanner("None", bias=0.0, gamma=1.0, noise=0.0, blur=0.1, gain=1000)
    without, with_lesion = (
        draw_scan(atlas, plain, lesion, np.random.default_rng(11)).pixels.astype(int)
        for lesion in (False, True)
    )
    # The overall gain is drawn after the lesion: compare the brightest spot with the median.
    tissue = with_lesion[with_lesion > 100]
    assert with_lesion.max() / np.median(tissue) > without.max() / np.median(without[without > 100])
