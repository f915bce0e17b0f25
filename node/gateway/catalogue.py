"""What a gateway can show: committed, de-identified instances, and where each is on the ledger.

An instance is shown as what was committed to, so it is found by the digest of its pixels: the
data set's private file has the pixels and salts of every image that is kept. What is not in it,
because it was never registered or has been erased, is not there for the gateway.
"""

import hashlib
import io
import math
import threading
import time
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
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
from node.file_list import taken_files
from node.gateway.attributes import KEYWORDS
from node.gateway.encoding import is_compressible
from node.ingest import ATTESTATION, FILES

AGAIN_SECONDS = 15.0
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
        is_compressible: Whether its pixels can go out compressed.
    """

    study: str
    series: str
    uid: str
    path: Path
    digest: str
    frames: int
    attributes: Mapping[str, Any]
    holdings: tuple[Holding, ...] = ()
    is_compressible: bool = False


# An instance and its pixels' digest, by the file's name and digest.
_Listed = dict[tuple[str, str], tuple[Instance, str]]


class FileChangedError(InvalidInputError):
    """A file is not the one that was ingested; it is not shown."""


class Catalogue:
    """The instances of a hospital's data sets, as they are committed now.

    Args:
        data: Outputs of ingests; each is read anew when an ingest has written to it.
        datasets: The folder of committed data sets; it is looked at anew when a file in it changes.
        versions: Lists the hospital's versions.
        clock: Seconds, for tests.

    Raises:
        InvalidInputError: If an output is no ingest's, or a file in it is not the ingested one.
        LedgerError: If the chain cannot be reached.
    """

    def __init__(
        self,
        data: Sequence[Path],
        datasets: Path,
        versions: Callable[[], Sequence[DatasetVersion]],
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._datasets = datasets
        self._versions = versions
        self._clock = clock
        self._lock = threading.Lock()
        self._listed = {out: _listed(out, {}) for out in data}
        self._stamp: _Stamp | None = None
        self._known: dict[bytes, bytes] = {}
        self._is_whole = False
        self._again = 0.0
        self._held: tuple[Instance, ...] = ()

    def instances(self) -> tuple[Instance, ...]:
        """Return what can be shown now.

        Raises:
            InvalidInputError: If a committed data set or the output of an ingest is damaged.
            LedgerError: If the chain cannot be reached.
        """
        with self._lock:
            stamp = self._stamped()
            if stamp != self._stamp or self._clock() >= self._again:
                versions = {one.merkle_root: one.version for one in self._versions()}
                if (stamp, versions) != (self._stamp, self._known):
                    for out in self._listed:
                        self._read_again(out)
                    self._held, self._is_whole = self._matched(versions)
                    self._stamp, self._known = stamp, versions
                # What is committed is registered a little later, of which no file here tells.
                self._again = math.inf if self._is_whole else self._clock() + AGAIN_SECONDS
            return self._held

    def _stamped(self) -> _Stamp:
        watched = sorted(self._datasets.glob("*.npz"))
        for out in self._listed:
            watched += [out / FILES, out / ATTESTATION]
        found = []
        for path in watched:
            with suppress(FileNotFoundError):
                told = path.stat()
                found.append((str(path), told.st_ino, told.st_size, told.st_mtime_ns))
        return tuple(found)

    def _read_again(self, out: Path) -> None:
        if not _is_attested(out):
            return  # an ingest is about to end: until then it is as it was
        self._listed[out] = _listed(out, self._listed[out])

    def _matched(self, versions: Mapping[bytes, bytes]) -> tuple[tuple[Instance, ...], bool]:
        """Return what is on the ledger, and whether all is that is committed to."""
        held: dict[Path, Instance] = {}
        is_whole = True
        for path in sorted(self._datasets.glob("*.npz")):
            dataset = load_dataset(path)
            version = versions.get(dataset.terms.merkle_root)
            if version is None:
                is_whole = False
                continue
            # Images with the same pixels stand in both in the order in which they were read.
            waiting: dict[str, list[bytes]] = defaultdict(list)
            for place, image in zip(dataset.kept, dataset.images, strict=True):
                waiting[image_digest(image).hex()].append(dataset.commitments[int(place)])
            # Not by the attestation: an ingest that took in more since, or less, still has these.
            for listed in self._listed.values():
                for instance, digest in listed.values():
                    if not waiting[digest]:
                        continue
                    holding = Holding(version, waiting[digest].pop(0))
                    known = held.get(instance.path, instance)
                    held[instance.path] = replace(known, holdings=(*known.holdings, holding))
        return tuple(held.values()), is_whole


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


def _is_attested(out: Path) -> bool:
    """Tell whether an output's list of files is the one that its attestation is about."""
    attestation = read_attestation((out / ATTESTATION).read_bytes())
    return hashlib.sha256((out / FILES).read_bytes()).digest() == attestation.output


def _listed(out: Path, known: _Listed) -> _Listed:
    """Read an output's list of files, and those of them that are not known, in its order."""
    if not (out / ATTESTATION).is_file():
        raise InvalidInputError(f"{out}: expected an ingest that has come to its end, found none")
    if not _is_attested(out):
        raise InvalidInputError(
            f"{out}: expected the list of files that is attested, found another; ingest again"
        )
    found: _Listed = {}
    for told in taken_files(out):
        if told["kind"] != "dicom" or not told["images"]:
            continue
        (name,) = (one for one in told["files"] if one.endswith(".dcm"))
        key = name, told["files"][name]
        instance = known[key][0] if key in known else _instance(out / name, key[1])
        found[key] = instance, told["images"][0]["digest"]
    return found


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
            is_compressible=is_compressible(header),
        )


def _attributes(header: Dataset) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for keyword in KEYWORDS:
        tag = Tag(keyword)
        if tag in header:
            told = header[tag].to_json_dict(None, 1 << 30)
            found[f"{tag:08X}"] = told
    return found
