"""What a gateway can show: committed, de-identified instances, and where each is on the ledger.

An instance is shown as what was committed to, so it is found by the digest of its pixels: the
data set's private file has the pixels and salts of every image that is kept. What is not in it,
because it was never registered or has been erased, is not there for the gateway.
"""

import hashlib
import io
import json
import threading
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pydicom
from pydicom.dataset import Dataset, FileDataset
from pydicom.tag import Tag

from chain.commitments import image_digest
from chain.errors import InvalidInputError
from chain.types import DatasetVersion
from node.attestation import read_attestation
from node.dataset import load_dataset
from node.dicom import MAX_FILE, quoting_nothing
from node.gateway.attributes import KEYWORDS
from node.ingest import ATTESTATION, FILES
from node.journal import TAKEN

_LONGEST_LINE = 1 << 20  # bytes
_Stamp = tuple[tuple[str, int, int, int], ...]


@dataclass(frozen=True, slots=True)
class Holding:
    """An image in a version: what a grant is for."""

    version: bytes
    image: bytes


@dataclass(frozen=True, slots=True)
class Instance:
    """A de-identified DICOM instance.

    Attributes:
        study: Its study's UID.
        series: Its series' UID.
        uid: Its own.
        path: The file.
        digest: SHA-256 of the file's bytes.
        frames: How many frames its pixels have.
        attributes: DICOM JSON of the attributes that searches tell, by tag.
        holdings: The images on the ledger that it is, one for each version.
    """

    study: str
    series: str
    uid: str
    path: Path
    digest: str
    frames: int
    attributes: Mapping[str, Any]
    holdings: tuple[Holding, ...] = ()


class FileChangedError(InvalidInputError):
    """A file is not the one that was ingested; it is not shown."""


class Catalogue:
    """The instances of a hospital's data sets, as they are committed now.

    Args:
        data: Outputs of ingests.
        datasets: The folder of committed data sets; it is looked at anew when a file in it changes.
        versions: Lists the hospital's versions.

    Raises:
        InvalidInputError: If an output is no ingest's, or a file in it is not the ingested one.
        LedgerError: If the chain cannot be reached.
    """

    def __init__(
        self,
        data: Sequence[Path],
        datasets: Path,
        versions: Callable[[], Sequence[DatasetVersion]],
    ) -> None:
        self._datasets = datasets
        self._versions = versions
        self._lock = threading.Lock()
        self._files: list[tuple[str, Instance]] = []
        for out in data:
            _check_attested(out)
            self._files += _instances(out)
        self._stamp: _Stamp | None = None
        self._held: tuple[Instance, ...] = ()

    def instances(self) -> tuple[Instance, ...]:
        """Return what can be shown now.

        Raises:
            InvalidInputError: If a committed data set is damaged.
            LedgerError: If the chain cannot be reached.
        """
        with self._lock:
            stamp = self._stamped()
            if stamp != self._stamp:
                self._held = self._matched()
                self._stamp = stamp
            return self._held

    def _stamped(self) -> _Stamp:
        found = []
        for path in sorted(self._datasets.glob("*.npz")):
            told = path.stat()
            found.append((path.name, told.st_ino, told.st_size, told.st_mtime_ns))
        return tuple(found)

    def _matched(self) -> tuple[Instance, ...]:
        versions = {one.merkle_root: one.version for one in self._versions()}
        held: dict[Path, Instance] = {}
        for path in sorted(self._datasets.glob("*.npz")):
            dataset = load_dataset(path)
            version = versions.get(dataset.terms.merkle_root)
            if version is None:
                continue
            # Images with the same pixels stand in both in the order in which they were read.
            waiting: dict[str, list[bytes]] = defaultdict(list)
            for place, image in zip(dataset.kept, dataset.images, strict=True):
                waiting[image_digest(image).hex()].append(dataset.commitments[int(place)])
            # Not by the attestation: an ingest that took in more since, or less, still has these.
            for digest, instance in self._files:
                if not waiting[digest]:
                    continue
                holding = Holding(version, waiting[digest].pop(0))
                known = held.get(instance.path, instance)
                held[instance.path] = replace(known, holdings=(*known.holdings, holding))
        return tuple(held.values())


def read_verified(instance: Instance) -> bytes:
    """Read an instance's file.

    Raises:
        FileChangedError: If it is not the one that was ingested.
    """
    raw = instance.path.read_bytes() if instance.path.is_file() else b""
    if hashlib.sha256(raw).hexdigest() != instance.digest:
        raise FileChangedError(
            f"{instance.path}: expected the file that the ingest wrote, found another or none"
        )
    return raw


def parse_instance(raw: bytes, *, header_only: bool = False) -> FileDataset:
    """Read an instance from its bytes.

    Raises:
        InvalidInputError: If they are damaged.
    """
    with quoting_nothing():
        return pydicom.dcmread(io.BytesIO(raw), stop_before_pixels=header_only)


def _check_attested(out: Path) -> None:
    """Check that an output's list of files is the one that its attestation is about."""
    path = out / ATTESTATION
    if not path.is_file():
        raise InvalidInputError(f"{out}: expected an ingest that has come to its end, found none")
    attestation = read_attestation(path.read_bytes())
    if hashlib.sha256((out / FILES).read_bytes()).digest() != attestation.output:
        raise InvalidInputError(
            f"{out}: expected the list of files that is attested, found another; ingest again"
        )


def _instances(out: Path) -> Iterator[tuple[str, Instance]]:
    """Yield the digest of each instance's pixels, and the instance, in the ingest's order."""
    with (out / FILES).open("rb") as file:
        while line := file.readline(_LONGEST_LINE):
            told = json.loads(line)
            if told["outcome"] != TAKEN or told["kind"] != "dicom" or not told["images"]:
                continue
            (name,) = (one for one in told["files"] if one.endswith(".dcm"))
            yield told["images"][0]["digest"], _instance(out / name, told["files"][name])


def _instance(path: Path, digest: str) -> Instance:
    if not path.is_file() or path.stat().st_size > MAX_FILE:
        raise InvalidInputError(f"{path}: expected the file that the ingest wrote, found none")
    bare = Instance("", "", "", path, digest, 1, {})
    header = parse_instance(read_verified(bare), header_only=True)
    with quoting_nothing():
        return replace(
            bare,
            study=str(header.get("StudyInstanceUID") or ""),
            series=str(header.get("SeriesInstanceUID") or ""),
            uid=str(header.get("SOPInstanceUID") or ""),
            frames=max(1, int(header.get("NumberOfFrames") or 1)),
            attributes=_attributes(header),
        )


def _attributes(header: Dataset) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for keyword in KEYWORDS:
        tag = Tag(keyword)
        if tag in header:
            told = header[tag].to_json_dict(None, 1 << 30)
            found[f"{tag:08X}"] = told
    return found
