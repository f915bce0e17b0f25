"""The hospitals' folders: real DICOM files of simulated patients, with a `labels.csv` beside them.

The files carry what a hospital's files carry: names, birth dates, addresses, numbers, a private
tag. All of it is invented and planted here, so that the story can show that de-identification
removes it before anything leaves the hospital.
"""

import csv
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from pydicom.dataset import Dataset, FileDataset, FileMetaDataset
from pydicom.uid import UID, ExplicitVRLittleEndian, MRImageStorage, generate_uid

from demo.anatomy import PIXEL_MM, Atlas, Scan, Scanner, draw_scan, read_atlas

LABELS = "labels.csv"
SERIES = "FLAIR axial, SIMULATED LESIONS"

# Group and creator of the private block; odd groups are private (DICOM PS3.5, section 7.8).
_PRIVATE_GROUP = 0x0045
_PRIVATE_CREATOR = "HOSPITAL ADMISSIONS"

# Numbers from here on are of patients that no hospital has: the test set's.
_FIRST_TEST_PATIENT = 1_000_000

_FAMILY_NAMES = ("Abara", "Brandt", "Castellan", "Dvorak", "Eriksen", "Fontaine", "Grünwald")
_GIVEN_NAMES = ("Amina", "Bruno", "Clara", "Dario", "Elin", "Farid", "Greta", "Henrik")
_STREETS = ("Harbour Street", "Mill Lane", "Station Road", "Orchard Way")


@dataclass(frozen=True, slots=True)
class Site:
    """A hospital of the demo: its short name, its name in the files, and its scanner."""

    name: str
    institution: str
    scanner: Scanner


SITES = (
    Site("aurora", "Aurora University Hospital", Scanner("Alpha", 0.04, 1.00, 0.030, 0.40, 1500)),
    Site("bellevue", "Klinikum Bellevue", Scanner("Beta", 0.08, 0.85, 0.040, 0.55, 900)),
    Site("cedar", "Cedar Valley Medical Center", Scanner("Gamma", 0.06, 1.15, 0.050, 0.45, 2600)),
    Site("delta", "Delta Regional Hospital", Scanner("Alpha", 0.10, 1.05, 0.060, 0.40, 1800)),
    Site("estuary", "Estuary General Hospital", Scanner("Beta", 0.07, 0.95, 0.045, 0.70, 1200)),
    Site("fjord", "Fjord Clinic", Scanner("Gamma", 0.05, 1.10, 0.035, 0.50, 2200)),
    Site("gull", "Gull Island Infirmary", Scanner("Alpha", 0.06, 0.90, 0.050, 0.60, 1700)),
    Site("heron", "Heron Street Hospital", Scanner("Beta", 0.09, 1.00, 0.040, 0.45, 1000)),
)


def write_hospital(
    folder: Path, site: int, images: int, seed: int, on_file: Callable[[], None] = lambda: None
) -> None:
    """Write one hospital's DICOM files and their labels; half of the images have a lesion.

    Args:
        folder: Made if missing; receives ``NNNN.dcm`` and ``labels.csv`` (columns file, label).
        site: Index into `SITES`.
        images: How many.
        seed: The same seed writes the same bytes.
        on_file: Called after each file, for a progress bar.
    """
    atlas = read_atlas()
    files = [_draw_file(atlas, site, number, seed) for number in range(images)]
    _write_folder(folder, files, on_file)


def write_test_set(
    folder: Path, images: int, seed: int, on_file: Callable[[], None] = lambda: None
) -> None:
    """Write a test set of patients that no hospital has, in equal parts from all the scanners.

    Args:
        folder: As in `write_hospital`.
        images: How many in all.
        seed: As in `write_hospital`.
        on_file: As in `write_hospital`.
    """
    atlas = read_atlas()
    # Numbers beyond those of any hospital's own files keep the patients apart.
    files = [
        _draw_file(atlas, number % len(SITES), 1_000_000 + number, seed) for number in range(images)
    ]
    _write_folder(folder, files, on_file)


def _write_folder(
    folder: Path, files: list[tuple[FileDataset, bool]], on_file: Callable[[], None]
) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / LABELS).open("w", newline="", encoding="utf-8") as table:
        rows = csv.writer(table)
        rows.writerow(("file", "label"))
        for number, (dataset, lesion) in enumerate(files):
            name = f"{number:04d}.dcm"
            dataset.save_as(folder / name, enforce_file_format=True)
            rows.writerow((name, int(lesion)))
            on_file()


def _draw_file(atlas: Atlas, site: int, number: int, seed: int) -> tuple[FileDataset, bool]:
    rng = np.random.default_rng((seed, site, number))
    # In the test set neighbours differ in their scanner, and only then in their label.
    turn = number // len(SITES) if number >= _FIRST_TEST_PATIENT else number
    lesion = turn % 2 == 1
    scan = draw_scan(atlas, SITES[site].scanner, lesion, rng)
    dataset = _dicom_file(scan, SITES[site], (seed, site, number))
    _plant_identity(dataset, SITES[site], number, rng)
    return dataset, lesion


def _dicom_file(scan: Scan, site: Site, key: tuple[int, int, int]) -> FileDataset:
    """Return an MR Image Storage instance (DICOM PS3.3, section A.4) of one scan."""

    def uid(what: str) -> UID:
        return generate_uid(entropy_srcs=["fedwitness demo", what, *map(str, key)])

    meta = FileMetaDataset()
    meta.MediaStorageSOPClassUID = MRImageStorage
    meta.MediaStorageSOPInstanceUID = uid("instance")
    meta.TransferSyntaxUID = ExplicitVRLittleEndian
    dataset = FileDataset("", {}, file_meta=meta, preamble=b"\0" * 128)
    dataset.SpecificCharacterSet = "ISO_IR 192"
    dataset.SOPClassUID = MRImageStorage
    dataset.SOPInstanceUID = meta.MediaStorageSOPInstanceUID
    dataset.StudyInstanceUID = uid("study")
    dataset.SeriesInstanceUID = uid("series")
    dataset.FrameOfReferenceUID = uid("frame")
    dataset.ImageType = ["DERIVED", "SECONDARY", "OTHER"]
    dataset.Modality = "MR"
    dataset.BurnedInAnnotation = "NO"
    dataset.Manufacturer = site.scanner.maker
    dataset.SeriesDescription = SERIES
    dataset.ScanningSequence, dataset.SequenceVariant = "IR", "SK"
    dataset.ScanOptions, dataset.MRAcquisitionType = "", "2D"
    dataset.RepetitionTime, dataset.EchoTime, dataset.EchoTrainLength = "9000", "120", "16"
    dataset.InversionTime, dataset.SliceThickness = "2500", "4"
    dataset.SeriesNumber, dataset.InstanceNumber, dataset.BodyPartExamined = "1", "1", "HEAD"
    dataset.PatientPosition, dataset.PositionReferenceIndicator = "HFS", ""
    dataset.ImagePositionPatient = [-104, -104, 0]
    dataset.ImageOrientationPatient = [1, 0, 0, 0, 1, 0]
    dataset.PixelSpacing = [round(PIXEL_MM, 6)] * 2
    _set_pixels(dataset, scan)
    return dataset


def _set_pixels(dataset: Dataset, scan: Scan) -> None:
    dataset.Rows, dataset.Columns = scan.pixels.shape
    dataset.SamplesPerPixel, dataset.PhotometricInterpretation = 1, "MONOCHROME2"
    dataset.BitsAllocated, dataset.BitsStored, dataset.HighBit = 16, 12, 11
    dataset.PixelRepresentation = 0
    dataset.PixelData = scan.pixels.astype("<u2").tobytes()


def _plant_identity(dataset: Dataset, site: Site, number: int, rng: np.random.Generator) -> None:
    """Give a file an invented patient, in the places where real files name theirs."""
    family, given = rng.choice(_FAMILY_NAMES), rng.choice(_GIVEN_NAMES)
    born = f"{rng.integers(1935, 2006)}{rng.integers(1, 13):02d}{rng.integers(1, 29):02d}"
    dataset.PatientName = f"{family}^{given}"
    dataset.PatientID = f"{site.name.upper()}-{number:07d}"
    dataset.PatientBirthDate = born
    dataset.PatientSex = str(rng.choice(["F", "M"]))
    dataset.PatientAddress = f"{rng.integers(1, 200)} {rng.choice(_STREETS)}"
    dataset.PatientTelephoneNumbers = f"+00 555 {rng.integers(0, 10_000_000):07d}"
    dataset.AccessionNumber = f"A{rng.integers(0, 100_000_000):08d}"
    dataset.InstitutionName = site.institution
    dataset.ReferringPhysicianName = f"{rng.choice(_FAMILY_NAMES)}^{rng.choice(_GIVEN_NAMES)}"
    dataset.StudyID = f"{number}"
    dataset.StudyDate = f"2025{rng.integers(1, 13):02d}{rng.integers(1, 29):02d}"
    dataset.StudyTime = f"{rng.integers(7, 19):02d}{rng.integers(0, 60):02d}00"
    dataset.ImageComments = f"Head scan of {given} {family}"
    block = dataset.private_block(_PRIVATE_GROUP, _PRIVATE_CREATOR, create=True)
    block.add_new(0x01, "LO", f"Next of kin: {rng.choice(_GIVEN_NAMES)} {family}")
