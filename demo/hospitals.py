"""Who takes part in the story, and what data each has."""

from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import dataclass
from multiprocessing import get_context
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from pydicom import dcmread

from chain.secret_file import kept_secret
from demo.report import DataReport
from demo.scans import SITES, write_hospital, write_test_set
from node.images import ImageSet, read_ingested, read_npz
from node.ingest import ingest

HONEST = ("aurora", "bellevue", "cedar", "delta", "estuary")
POISONER = "fjord"
CHEATS = ("gull", "heron")
HOSPITALS = (*HONEST, POISONER, *CHEATS)

LESION_TASK, PNEUMONIA_TASK = "lesion-2d", "pneumonia-2d"
SCANS = 120  # of each hospital that trains
FEW = 20  # of each cheat, which never trains
TEST_SCANS = 320
WORKERS = 2


@dataclass(frozen=True, slots=True)
class DemoData:
    """What the story works on.

    Attributes:
        task: The federation's task.
        sources: Each hospital's folder of DICOM or archive, by name.
        test: Images that no hospital has.
        report: How the data is told of.
    """

    task: str
    sources: dict[str, Path]
    test: ImageSet
    report: DataReport


def draw_scans(folder: Path, seed: int, on_file: Callable[[int], None]) -> DemoData:
    """Draw head scans with simulated lesions for every hospital, and a test set.

    Args:
        folder: Receives a folder for each hospital, and one for the test set.
        seed: The same seed draws the same scans.
        on_file: Told how many more files are there.
    """
    sizes = {name: FEW if name in CHEATS else SCANS for name in HOSPITALS}
    with ProcessPoolExecutor(WORKERS, get_context("spawn")) as pool:
        drawn = {
            pool.submit(write_hospital, folder / site.name, number, sizes[site.name], seed): sizes[
                site.name
            ]
            for number, site in enumerate(SITES)
        }
        drawn[pool.submit(write_test_set, folder / "test", TEST_SCANS, seed)] = TEST_SCANS
        for done in as_completed(drawn):
            done.result()
            on_file(drawn[done])
    key, ingested = folder / "test.key", folder / "test-ingested"
    ingest(folder / "test", ingested, key, kept_secret(key))
    test = read_ingested(ingested, key)
    name = "head scans drawn over MNI152 anatomy"
    return DemoData(
        LESION_TASK,
        {hospital: folder / hospital for hospital in HOSPITALS},
        test,
        DataReport(name, True, len(HOSPITALS), sum(sizes.values()), len(test.labels)),
    )


def split_archive(archive: Path, folder: Path, seed: int) -> DemoData:
    """Split the training part of an archive in MedMNIST's form over the hospitals.

    The cheats get a few images each, and the others equal parts of the rest; the test part is
    what the models are judged on.

    Args:
        archive: The ``.npz`` file.
        folder: Receives one archive for each hospital.
        seed: Of the shuffling before the split.

    Raises:
        InvalidInputError: If the archive is of another form.
    """
    train, test = read_npz(archive, "train"), read_npz(archive, "test")
    folder.mkdir(parents=True, exist_ok=True)
    order = np.random.default_rng(seed).permutation(len(train.labels))
    few = len(CHEATS) * FEW
    parts = [*np.array_split(order[few:], len(HOSPITALS) - len(CHEATS))]
    parts += np.array_split(order[:few], len(CHEATS))
    sources = {}
    for name, part in zip(HOSPITALS, parts, strict=True):
        sources[name] = folder / f"{name}.npz"
        _write_part(sources[name], train, part)
    report = DataReport(archive.name, False, len(HOSPITALS), len(order), len(test.labels))
    return DemoData(PNEUMONIA_TASK, sources, test, report)


def _write_part(path: Path, images: ImageSet, part: NDArray[np.int64]) -> None:
    np.savez(path, train_images=images.images[part], train_labels=images.labels[part])


def planted_words(source: Path) -> frozenset[bytes]:
    """List the names, numbers and addresses that stand in a folder of DICOM."""
    words = set()
    for path in source.glob("*.dcm"):
        dataset = dcmread(path, stop_before_pixels=True)
        told = (dataset.PatientName, dataset.PatientID, dataset.PatientAddress)
        words |= {str(word).encode() for word in told}
    return frozenset(words)
