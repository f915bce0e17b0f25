"""Hospitals with registered DICOM images, and their clinicians, on a real chain and a real IPFS."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pydicom
from pydicom.uid import generate_uid

from tests.cli.conftest import Party, invoke, run, with_key_files
from tests.federation import Federation

SOURCE = Path(pydicom.__file__).parent / "data" / "test_files" / "MR_small.dcm"
PATIENT = "Lovelace^Ada"


@dataclass(frozen=True)
class Ingested:
    """What an ingest of two scans of one patient wrote, and the key that it was made with."""

    out: Path
    key: Path

    def instance(self, number: int) -> Path:
        """The file of an image, in the order of the data set."""
        lines = [json.loads(one) for one in (self.out / "files.jsonl").read_text().splitlines()]
        names: list[str] = [
            name for one in lines for name in one.get("files", ()) if name.endswith("dcm")
        ]
        return self.out / names[number]


@dataclass(frozen=True)
class Clinic:
    """A hospital that reads; ``data`` and ``version`` are there where it has images."""

    party: Party
    ipfs: str
    data: Ingested | None = None
    version: str = ""

    @property
    def address(self) -> str:
        """The hospital's address."""
        name = self.party.keyring.name
        return self.party.federation.address(name)

    @property
    def dataset(self) -> str:
        """The file of its committed data set."""
        return str(self.party.keyring.work / "datasets" / "heads.npz")

    def readings(self, *words: str) -> tuple[int, Any]:
        """Run a command on readings with the hospital's keys."""
        return self.party.run("readings", *words, "--ipfs", self.ipfs)

    def board(self, *words: str) -> Any:
        """What everybody sees, without keys."""
        code, told = run(self.party.federation, "readings", *words)
        assert code == 0, told
        return told

    def image(self, number: int) -> tuple[str, ...]:
        """The options that name an image of the hospital's own, and its instance."""
        assert self.data is not None
        named = ("--dataset", self.dataset, "--image", str(number))
        return (*named, "--instance", str(self.data.out), "--ingest-key", str(self.data.key))

    def record(self, number: int, *words: str) -> str:
        """Record a reading and return its identifier."""
        code, told = self.readings("record", *self.image(number), *words)
        assert code == 0, told
        return str(told["reading"])


def ingest(folder: Path) -> Ingested:
    """Ingest two scans of one patient."""
    source = folder / "in"
    source.mkdir()
    rows = ["file,label"]
    for number in range(2):
        scan = pydicom.dcmread(SOURCE)
        scan.SOPInstanceUID = scan.file_meta.MediaStorageSOPInstanceUID = generate_uid()
        scan.PatientName, scan.PatientID, scan.InstanceNumber = PATIENT, "47110815", number + 1
        scan.PixelData = np.roll(scan.pixel_array, 7 * number, axis=0).tobytes()
        scan.save_as(source / f"{number}.dcm")
        rows.append(f"{number}.dcm,{number}")
    (source / "labels.csv").write_text("\n".join(rows) + "\n")
    found = Ingested(folder / "out", folder / "ingest.key")
    words = ("hospital", "ingest", str(source), "--out", str(found.out), "--key", str(found.key))
    code, told = invoke(*words)
    assert (code, told["taken"]) == (0, 2), told
    return found


def open_clinic(
    federation: Federation, ipfs: str, folder: Path, name: str, data: Ingested | None = None
) -> Clinic:
    """Give a hospital of the federation key files, and register its images if it has any."""
    party = with_key_files(federation, name, folder / name / f"{name}.json")
    if data is None:
        return Clinic(party, ipfs)
    words = ("--data", str(data.out), "--name", "heads", "--ingest-key", str(data.key))
    code, told = party.run("hospital", "register", *words, "--purpose", "43")
    assert code == 0, told
    return Clinic(party, ipfs, data, str(told["version"]))
