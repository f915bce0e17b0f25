"""Images and labels: read from a folder of DICOM, or from an archive in MedMNIST's form.

Whatever the source, patient identity is removed before anything else is done with a file
(`node.deidentify`). Files are other people's: every size is checked before memory is asked for.
"""

import csv
import hashlib
import math
import os
import zipfile
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import IO, Any

import numpy as np
from numpy.lib import format as npy
from numpy.typing import NDArray
from pydicom.dataset import FileDataset
from pydicom.pixels.decoders.base import get_decoder
from pydicom.pixels.processing import apply_rescale
from pydicom.pixels.utils import pixel_array
from pydicom.uid import UID

from chain.errors import InvalidInputError
from chain.files import pieces
from node.deidentify import (
    DeidentificationReport,
    deidentify,
    quoting_nothing,
    read_instance,
    report,
)

LABELS = "labels.csv"
PARTS = ("train", "val", "test")
MAX_ARCHIVE = 1 << 31  # bytes, packed and unpacked
MAX_FILES = 1_000_000
MAX_SIDE = 4096  # pixels
MAX_LABELS = 1 << 27  # bytes of labels.csv

# The archives of MedMNIST v2 (Yang et al. 2023, doi 10.1038/s41597-022-01721-8), by MD5 as there.
_OFFICIAL = MappingProxyType({"28209eda62fecd6e6a2d98b1501bb15f": "PneumoniaMNIST"})
_NOT_IMAGES = frozenset({LABELS, "DICOMDIR"})
_MEMBERS = frozenset(f"{part}_{what}.npy" for part in PARTS for what in ("images", "labels"))
_HEADER = 1 << 16  # bytes of an .npy header


@dataclass(frozen=True, slots=True)
class ImageSet:
    """De-identified images with their labels.

    Attributes:
        images: uint8 or float32 of shape (n, height, width).
        labels: int64 of shape (n,).
        modality: DICOM modality, such as ``MR``; ``OT`` where the source does not say.
        sources: Where each image came from, in words that identify no patient.
        report: What de-identification did.
        notes: What the reader of the data should know, each a sentence.
    """

    images: NDArray[np.uint8] | NDArray[np.float32]
    labels: NDArray[np.int64]
    modality: str
    sources: tuple[str, ...]
    report: DeidentificationReport
    notes: tuple[str, ...] = ()


def read_npz(path: Path, part: str, modality: str = "OT") -> ImageSet:
    """Read one part of an archive in MedMNIST's form: grey images and one label for each.

    Args:
        path: A zip file of ``{train,val,test}_{images,labels}.npy``, of which the others than the
            wanted part may be missing.
        part: ``train``, ``val`` or ``test``.
        modality: DICOM modality of the images, which the archive does not tell.

    Raises:
        InvalidInputError: If the archive is too large, damaged, or of another form.
    """
    if part not in PARTS:
        raise InvalidInputError(f"expected one of the parts {', '.join(PARTS)}, found {part!r}")
    if not path.is_file():
        raise InvalidInputError(f"{path}: expected a DICOM folder or an .npz file, found neither")
    if path.stat().st_size > MAX_ARCHIVE:
        raise InvalidInputError(f"{path}: expected an archive of at most {MAX_ARCHIVE} bytes")
    try:
        with zipfile.ZipFile(path) as archive:
            _check_members(archive, path)
            images = _read_array(archive, f"{part}_images.npy", path)
            labels = _read_array(archive, f"{part}_labels.npy", path)
    except (zipfile.BadZipFile, EOFError, NotImplementedError, RuntimeError, ValueError) as error:
        raise InvalidInputError(f"{path}: the archive is damaged: {error}") from error
    _check_pair(images, labels, path)
    return ImageSet(
        images if images.dtype == np.uint8 else images.astype(np.float32),
        labels.reshape(-1).astype(np.int64),
        modality,
        tuple(f"{part}_images[{index}]" for index in range(len(images))),
        report(len(images), {}),
        (_origin(path),),
    )


def read_dicom(folder: Path, secret: bytes, on_file: Callable[[], None] = lambda: None) -> ImageSet:
    """Read every DICOM file below a folder, de-identified, with labels from its ``labels.csv``.

    The table has the columns ``file`` (path below the folder) or ``SOPInstanceUID``, and
    ``label`` (a whole number from 0). Hidden files and ``DICOMDIR`` are passed over. Stored values
    become units of the modality (rescale slope and intercept), and brighter is always more.

    Args:
        folder: Its images have one size and one modality; each file is one grey frame.
        secret: The hospital's 32 bytes for `node.deidentify.deidentify`.
        on_file: Called after each file, for a progress bar.

    Raises:
        InvalidInputError: If a file is no such image, has no label, or leads out of the folder.
    """
    labels = _read_labels(folder / LABELS)
    paths = sorted(_files(folder), key=lambda path: path.relative_to(folder).as_posix())
    if not paths:
        raise InvalidInputError(f"{folder}: expected DICOM files, found none")
    counts: Counter[str] = Counter()
    images, found, sources = [], [], []
    kinds: dict[tuple[str, tuple[int, ...]], Path] = {}
    for path in paths:
        dataset = read_instance(path)
        found.append(_label(labels, path.relative_to(folder).as_posix(), dataset))
        with quoting_nothing(path):
            counts += deidentify(dataset, secret)
            images.append(_pixels(dataset))
        kinds.setdefault((str(dataset.get("Modality", "OT")), images[-1].shape), path)
        _check_one_kind(kinds)
        sources.append(str(dataset.get("SOPInstanceUID", "")))
        on_file()
    if labels:
        raise InvalidInputError(f"{folder / LABELS}: there is no image for {next(iter(labels))!r}")
    ((modality, _),) = kinds
    return ImageSet(
        np.stack(images),
        np.array(found, dtype=np.int64),
        modality,
        tuple(sources),
        report(len(images), counts),
    )


def _check_members(archive: zipfile.ZipFile, path: Path) -> None:
    """Refuse an archive that holds anything else, or unpacks to more than a machine should hold."""
    names = [member.filename for member in archive.infolist()]
    if not set(names) <= _MEMBERS or len(set(names)) != len(names):
        raise InvalidInputError(
            f"{path}: expected the arrays {', '.join(sorted(_MEMBERS))}, each at most once, "
            f"found {', '.join(map(repr, names[: len(_MEMBERS)]))}"
        )
    # A member is never read beyond this size, whatever its packed bytes hold (zip bombs).
    total = sum(member.file_size for member in archive.infolist())
    if total > MAX_ARCHIVE:
        raise InvalidInputError(
            f"{path}: expected arrays of at most {MAX_ARCHIVE} bytes in all, found {total}"
        )


def _read_array(archive: zipfile.ZipFile, name: str, path: Path) -> NDArray[Any]:
    if name not in archive.namelist():
        raise InvalidInputError(f"{path}: expected the array {name}, found none")
    with archive.open(name) as file:
        shape, dtype = _read_header(file, f"{path}: {name}")
        size = math.prod(shape) * dtype.itemsize
        if dtype.kind not in "biuf" or file.tell() + size != archive.getinfo(name).file_size:
            raise InvalidInputError(
                f"{path}: {name}: expected numbers that fill the member, found {dtype} {shape}"
            )
    with archive.open(name) as file:
        array: NDArray[Any] = npy.read_array(file, allow_pickle=False, max_header_size=_HEADER)
    return array


def _read_header(file: IO[bytes], what: str) -> tuple[tuple[int, ...], np.dtype[Any]]:
    readers = {(1, 0): npy.read_array_header_1_0, (2, 0): npy.read_array_header_2_0}
    version = npy.read_magic(file)
    if version not in readers:
        raise InvalidInputError(f"{what}: expected .npy version 1.0 or 2.0, found {version}")
    shape, _, dtype = readers[version](file, max_header_size=_HEADER)
    return shape, dtype


def _check_pair(images: NDArray[Any], labels: NDArray[Any], path: Path) -> None:
    if images.ndim != 3 or 0 in images.shape or max(images.shape[1:]) > MAX_SIDE:  # noqa: PLR2004
        raise InvalidInputError(
            f"{path}: expected grey images of shape (n, height, width) with sides of 1 to "
            f"{MAX_SIDE}, found {images.shape}"
        )
    if labels.shape not in {(len(images),), (len(images), 1)} or labels.dtype.kind not in "iu":
        raise InvalidInputError(
            f"{path}: expected one whole number as label for each of {len(images)} images, "
            f"found {labels.dtype} {labels.shape}"
        )
    if not np.isfinite(images).all() or labels.min() < 0:
        raise InvalidInputError(f"{path}: expected finite images and labels from 0, found others")


def _origin(path: Path) -> str:
    # MD5 is what MedMNIST publishes; nothing here depends on nobody being able to forge it.
    hasher = hashlib.md5(usedforsecurity=False)
    for piece in pieces(path):
        hasher.update(piece)
    digest = hasher.hexdigest()
    if digest in _OFFICIAL:
        return f"{path.name} is the official {_OFFICIAL[digest]} archive (MD5 {digest})."
    return (
        f"{path.name} (MD5 {digest}) is not an official MedMNIST archive that this version knows, "
        "so scores on it are not comparable with the published ones."
    )


def _read_labels(path: Path) -> dict[str, int]:
    if not path.is_file():
        raise InvalidInputError(f"{path}: expected a table of labels, found none")
    if path.stat().st_size > MAX_LABELS:
        raise InvalidInputError(f"{path}: expected at most {MAX_LABELS} bytes")
    labels: dict[str, int] = {}
    try:
        with path.open(encoding="utf-8", newline="") as file:
            rows = csv.DictReader(file, strict=True)
            key = _key_column(rows.fieldnames or (), path)
            for row in rows:
                _add_label(labels, row.get(key), row.get("label"), f"{path}:{rows.line_num}")
    except (csv.Error, UnicodeDecodeError) as error:
        raise InvalidInputError(f"{path}: expected CSV in UTF-8: {error}") from error
    return labels


def _key_column(columns: object, path: Path) -> str:
    for key in ("file", "SOPInstanceUID"):
        if sorted(columns) == sorted((key, "label")):  # type: ignore[call-overload]
            return key
    raise InvalidInputError(
        f"{path}: expected the columns file,label or SOPInstanceUID,label, found {columns}"
    )


def _add_label(labels: dict[str, int], name: str | None, label: str | None, where: str) -> None:
    if not name or label is None or not (label.isascii() and label.isdigit()) or len(label) > 9:  # noqa: PLR2004
        raise InvalidInputError(f"{where}: expected an image and its label, a whole number from 0")
    if name in labels:
        raise InvalidInputError(f"{where}: {name!r} has a label already")
    labels[name] = int(label)


def _label(labels: dict[str, int], name: str, dataset: FileDataset) -> int:
    """Take the label of an image out of the table, so that what stays there has no image."""
    for key in (name, str(dataset.get("SOPInstanceUID", ""))):
        if key in labels:
            return labels.pop(key)
    raise InvalidInputError(f"{name}: there is no label for it in {LABELS}")


def _files(folder: Path) -> Iterator[Path]:
    inside = folder.resolve()
    seen = 0
    for where, below, names in os.walk(folder):
        for name in sorted(names) + [name for name in below if (Path(where) / name).is_symlink()]:
            path = Path(where) / name
            if name.startswith(".") or name in _NOT_IMAGES:
                continue
            if not path.resolve().is_relative_to(inside):
                raise InvalidInputError(f"{path}: the link leads out of the folder, copy the file")
            if not path.is_file():
                raise InvalidInputError(f"{path}: expected a regular file, found something else")
            seen += 1
            if seen > MAX_FILES:
                raise InvalidInputError(f"{folder}: expected at most {MAX_FILES} files, found more")
            yield path


def _pixels(dataset: FileDataset) -> NDArray[np.float32]:
    _check_frame(dataset)
    values = np.asarray(apply_rescale(pixel_array(dataset), dataset), dtype=np.float32)
    if not np.isfinite(values).all():
        raise InvalidInputError("expected finite pixel values, found others")
    if dataset.PhotometricInterpretation == "MONOCHROME1":  # the lowest value is white
        return np.asarray(values.max() - values, dtype=np.float32)
    return values


def _check_frame(dataset: FileDataset) -> None:
    """Refuse what is not one grey frame of bounded size, before any of its pixels is decoded."""
    if "PixelData" not in dataset:
        raise InvalidInputError("expected an image, found an instance without pixels")
    frames = str(dataset.get("NumberOfFrames") or 1)
    if frames != "1":
        raise InvalidInputError(
            f"expected one frame, found {frames}: write each frame to a file of its own"
        )
    colour = str(dataset.get("PhotometricInterpretation"))
    if colour not in {"MONOCHROME1", "MONOCHROME2"} or dataset.get("SamplesPerPixel") != 1:
        raise InvalidInputError(f"expected a grey image, found {colour[:16]}")
    for side in (dataset.get("Rows"), dataset.get("Columns")):
        if not isinstance(side, int) or not 1 <= side <= MAX_SIDE:
            raise InvalidInputError(f"expected sides of 1 to {MAX_SIDE} pixels, found {side}")
    syntax = dataset.file_meta.TransferSyntaxUID
    if syntax.is_encapsulated:
        _check_decoder(syntax)


def _check_decoder(syntax: UID) -> None:
    try:
        decoder = get_decoder(syntax)
    except NotImplementedError:
        raise InvalidInputError(f"transfer syntax {syntax} is not known") from None
    if not decoder.is_available:
        raise InvalidInputError(
            f"there is no decoder for {syntax.name}: install one "
            f"({'; '.join(decoder.missing_dependencies)}) or export the images uncompressed"
        )


def _check_one_kind(kinds: Mapping[tuple[str, tuple[int, ...]], Path]) -> None:
    if len(kinds) > 1:
        (one, here), (other, there) = list(kinds.items())[:2]
        raise InvalidInputError(
            f"expected images of one modality and size, found {one} in {here.name} and {other} in "
            f"{there.name}: make a data set of each"
        )
