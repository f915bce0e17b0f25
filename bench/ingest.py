"""How fast images are taken in, and that memory does not grow with their number.

Generated slices (512 x 512 pixels of 16 bits, noise over an ellipse, with names, numbers and
private tags; simulated, ten of each patient) go through `hospital ingest` whole: read, freed of
identity, looked through for text and leaks, written twice. Memory is anonymous memory of
the command's own process; the processes that open files are replaced every few hundred files, and
each is limited. A tenth of the slices is taken in first, for comparison.

``make bench-ingest`` runs it; rows go to ``bench/results.json``, with the growth of the peak as
their ratio.
"""

import argparse
import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from pydicom.dataset import FileDataset, FileMetaDataset
from pydicom.uid import ExplicitVRLittleEndian, MRImageStorage, generate_uid

from aggregator.memory import AnonymousMemory
from bench.results import Row, keep

MEGABYTE = 1e6
_PROGRAM = (
    "import json, sys; from pathlib import Path\n"
    "from chain.secret_file import kept_secret; from node.ingest import ingest\n"
    "source, out, key = map(Path, sys.argv[1:])\n"
    "print(json.dumps(ingest(source, out, key, kept_secret(key)).report['counts']))"
)


@dataclass(frozen=True, slots=True)
class Measured:
    """One ingest: how many images it took in, in what time, with how much memory at most."""

    images: int
    seconds: float
    peak: int


def main() -> None:
    """Measure, print and keep."""
    parser = argparse.ArgumentParser(prog="python -m bench.ingest")
    parser.add_argument("--slices", type=int, default=10_000)
    parser.add_argument("--side", type=int, default=512, help="pixels")
    parser.add_argument("--folder", type=Path, help="where some 20 GB are written and deleted")
    chosen = parser.parse_args()
    found = [
        measured(count, chosen.side, chosen.folder)
        for count in (chosen.slices // 10, chosen.slices)
    ]
    for one in found:
        print(
            f"{one.images} slices of {chosen.side} x {chosen.side}: "
            f"{one.images / one.seconds:.1f} a second, peak {one.peak / MEGABYTE:.0f} MB"
        )
    print(f"memory for ten times as many: {found[1].peak / found[0].peak:.3f} times")
    keep("ingest", rows(found, chosen.side))


def measured(count: int, side: int, parent: Path | None) -> Measured:
    """Write slices, take them in in a process of its own, and watch that.

    Raises:
        SystemExit: If it does not take in every one.
    """
    with tempfile.TemporaryDirectory(dir=parent) as name:
        folder = Path(name)
        write_slices(folder / "in", count, side)
        command = [sys.executable, "-c", _PROGRAM, *(str(folder / p) for p in ("in", "out", "key"))]
        begun = time.monotonic()
        with (
            subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as child,
            AnonymousMemory(child.pid) as memory,
        ):
            said, _ = child.communicate()
        seconds = time.monotonic() - begun
        taken = json.loads(said)["taken"] if said else 0
        if taken != count or memory.peak is None:
            raise SystemExit(f"expected {count} slices to be taken in, found {taken}")
    return Measured(count, seconds, memory.peak)


def write_slices(folder: Path, count: int, side: int) -> None:
    """Write slices with identities in them; the same every time."""
    rng = np.random.default_rng(1)
    rows, columns = np.indices((side, side)) / side - 0.5
    shape = np.clip(0.45 - np.hypot(rows, 1.2 * columns), 0, 0.1) * 9_000
    noise = rng.integers(0, 60, (8, side, side))
    for number in range(count):
        dataset = slice_of(number)
        pixels = shape + np.roll(noise[number % 8], number, axis=0)
        pixels[side // 2, side // 2] += number  # no two are alike
        dataset.Rows = dataset.Columns = side
        dataset.PixelData = pixels.astype(np.uint16).tobytes()
        place = folder / f"patient-{number // 10:05d}"
        place.mkdir(parents=True, exist_ok=True)
        dataset.save_as(place / f"{number:06d}.dcm", enforce_file_format=True)


def slice_of(number: int) -> FileDataset:
    """Return a slice without its pixels."""
    patient = number // 10
    meta = FileMetaDataset()
    meta.MediaStorageSOPClassUID = MRImageStorage
    meta.MediaStorageSOPInstanceUID = generate_uid(entropy_srcs=["instance", str(number)])
    meta.TransferSyntaxUID = ExplicitVRLittleEndian
    dataset = FileDataset("", {}, file_meta=meta, preamble=b"\0" * 128)
    dataset.SOPClassUID, dataset.SOPInstanceUID = MRImageStorage, meta.MediaStorageSOPInstanceUID
    dataset.StudyInstanceUID = generate_uid(entropy_srcs=["study", str(patient)])
    dataset.SeriesInstanceUID = generate_uid(entropy_srcs=["series", str(patient)])
    dataset.PatientName, dataset.PatientID = f"Simulated^Person{patient:05d}", f"MRN{patient:08d}"
    dataset.PatientBirthDate, dataset.StudyDate = "19610417", "20240219"
    dataset.StudyTime, dataset.AccessionNumber = "101530", f"ACC{number:08d}"
    dataset.InstitutionName, dataset.ReferringPhysicianName = "Simulated General", "Doctor^Simone"
    dataset.Modality, dataset.BodyPartExamined = "MR", "KNEE"
    dataset.SeriesDescription, dataset.SeriesNumber = "T1 SAG SIMULATED", 1
    dataset.InstanceNumber = number % 10
    dataset.SamplesPerPixel, dataset.PhotometricInterpretation = 1, "MONOCHROME2"
    dataset.BitsAllocated = dataset.BitsStored = 16
    dataset.HighBit, dataset.PixelRepresentation = 15, 0
    block = dataset.private_block(0x0045, "SIMULATED ADMISSIONS", create=True)
    block.add_new(0x01, "LO", f"Person{patient:05d} of ward 7")
    return dataset


def rows(found: Sequence[Measured], side: int) -> list[Row]:
    """Return what is kept of the measurement."""
    return [
        {
            "name": "ingest.slices",
            "n": one.images,
            "dim": side * side,
            "ours_s": round(one.seconds, 3),
            "peer": "images a second",
            "peer_s": round(one.images / one.seconds, 1),
            "ratio": round(one.peak / found[0].peak, 3),
            "peak_rss_mb": round(one.peak / MEGABYTE),
        }
        for one in found
    ]


if __name__ == "__main__":
    main()
