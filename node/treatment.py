"""What is done to one file that a hospital hands in, whatever it is.

A file comes out in two forms: one for people and their tools (DICOM, NIfTI, PNG), and one to learn
from, an array. Both are free of identity; what cannot be freed of it is held back.

    files/ab/ID.dcm      the instance, Explicit VR Little Endian
    files/ab/ID.nii      the volume
    files/ab/ID.png      the picture
    arrays/ab/ID.npy     its pixels, as section 4.1 of the protocol digests them
    arrays/ab/ID.PART.npy, ID.PART.labels.npy   a part of an archive in MedMNIST's form

ID stands for the file's name (`node.pseudonyms`), and ``ab`` is how it begins.
"""

import hashlib
import warnings
import zipfile
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pydicom.dataset import FileDataset

from chain.commitments import image_digest
from chain.errors import InvalidInputError
from chain.files import pieces, replacing
from node.archives import parts_of, read_labels, shape_of, write_images
from node.burned_in import clean
from node.deidentify import OPTIONS, declare, deidentify
from node.dicom import is_dicom, read_instance, write_instance
from node.journal import HELD, SKIPPED, TAKEN
from node.leaks import (
    Leak,
    identities_in,
    is_print,
    leaks_in,
    leaks_in_bytes,
    text_identities,
    to_json,
)
from node.pictures import is_picture, read_picture, write_picture
from node.pixels import UndecodablePixelsError, clean_pixels, has_pixels, image_of
from node.profile import CLEAN_PIXELS
from node.pseudonyms import Pseudonyms
from node.volumes import Volume, is_volume, read_volume, write_volume

_HEADS = ("HEAD", "BRAIN", "SKULL", "FACE", "ORBIT", "SINUS", "CRAN", "NEURO", "CEREB")
_FACES_SHOWN_BY = frozenset({"MR", "CT", "PT"})
_DIRECTORY = "1.2.840.10008.1.3.10"  # SOP class of DICOMDIR
_DOCUMENTS = "1.2.840.10008.5.1.4.1.1.104."  # SOP classes of encapsulated PDF, CDA, STL, ...
_VIDEO = "1.2.840.10008.1.2.4.10"  # transfer syntaxes of MPEG2, MPEG4 and HEVC
_START = 352  # bytes: the longest header that tells what a file is
_SCALAR = 2  # dimensions of one grey image


@dataclass(frozen=True, slots=True)
class Job:
    """One file to be treated.

    Attributes:
        source: Where it is.
        name: Its name below the source.
        id: What stands for the name.
        out: The folder of the output.
        looked_at: Whether a person has looked at its pixels and found no identity.
        deface: Whether faces are to be removed where that can be done.
    """

    source: Path
    name: str
    id: str
    out: Path
    looked_at: bool
    deface: bool


@dataclass(slots=True)
class Treated:
    """What became of one file, in words that identify nobody.

    Attributes:
        outcome: `TAKEN`, `SKIPPED` or `HELD`.
        reason: Why, where it was not taken.
        kind: ``dicom``, ``nifti``, ``picture`` or ``medmnist``.
        files: SHA-256 of every file that was written, by its name below the output's folder.
        images: One for each array: name, part, count, shape, dtype, digest and modality.
        instance: The UID that the instance came with; it is kept beside the key only.
        actions: What `deidentify` counted.
        options: Methods of CID 7050 that were applied.
        blanked: How many boxes were blanked.
        head: Whether it may show a face.
        face: ``none``, ``removed`` or ``kept``.
        leaks: What the leak scan found, each a place and a kind.
        identities: What it looked for; they are kept beside the key only.
    """

    outcome: str = TAKEN
    reason: str = ""
    kind: str = ""
    files: dict[str, str] = field(default_factory=dict)
    images: list[dict[str, Any]] = field(default_factory=list)
    instance: str = ""
    actions: dict[str, int] = field(default_factory=dict)
    options: list[int] = field(default_factory=list)
    blanked: int = 0
    head: bool = False
    face: str = "none"
    leaks: list[tuple[str, str]] = field(default_factory=list)
    identities: dict[str, Any] = field(default_factory=dict)

    def to_dict(self) -> dict[str, Any]:
        """Return it as JSON has it."""
        return {name: getattr(self, name) for name in self.__slots__}


class PassedOverError(Exception):
    """The file is nothing to take in; the message says what it is."""


class HeldError(Exception):
    """A person has to look at the file; the message says why, in a word or two."""


def treat(job: Job, pseudonyms: Pseudonyms) -> Treated:
    """Free one file of identity and write it in both forms.

    Nothing is raised for what the file is like: that is told as the outcome.

    Raises:
        MemoryError: If the file needs more than there is.
        OSError: If the file or the output cannot be reached.
    """
    treated = Treated()
    try:
        with job.source.open("rb") as file:
            start = file.read(_START)
        way = _way(start)
        if way is None:
            return _without(treated, SKIPPED, "unknown format")
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            way(job, pseudonyms, treated)
    except HeldError as error:
        return _without(treated, HELD, str(error), job.out)
    except PassedOverError as error:
        return _without(treated, SKIPPED, str(error), job.out)
    except UndecodablePixelsError:
        return _without(treated, SKIPPED, "no decoder", job.out)
    except (InvalidInputError, zipfile.BadZipFile, EOFError, ValueError, RuntimeError):
        return _without(treated, SKIPPED, "damaged", job.out)
    if treated.leaks:
        return _without(treated, HELD, "leak scan", job.out)
    return treated


_Way = Callable[[Job, Pseudonyms, Treated], None]


def _way(start: bytes) -> _Way | None:
    if is_volume(start):
        return _treat_volume
    if is_picture(start):
        return _treat_picture
    if start.startswith(b"PK\x03\x04"):
        return _treat_archive
    return _treat_instance if is_dicom(start) else None


def _without(treated: Treated, outcome: str, reason: str, out: Path | None = None) -> Treated:
    """Take back what was written, and say why."""
    if out is not None:
        for name in treated.files:
            (out / name).unlink(missing_ok=True)
    return Treated(
        outcome, reason, kind=treated.kind, instance=treated.instance, leaks=treated.leaks
    )


def _treat_instance(job: Job, pseudonyms: Pseudonyms, treated: Treated) -> None:
    treated.kind = "dicom"
    dataset = read_instance(job.source)
    treated.instance = str(dataset.get("SOPInstanceUID") or "")
    _check_kind(dataset)
    options = OPTIONS | {CLEAN_PIXELS}
    image: NDArray[Any] | None = None
    treated.head = shows_head(dataset)
    if has_pixels(dataset):
        cleaned = clean_pixels(dataset, looked_at=job.looked_at)
        if cleaned.doubtful:
            raise HeldError("text in the pixels")
        treated.blanked = len(cleaned.boxes)
        image = image_of(dataset, cleaned.pixels)
        treated.face = "kept" if treated.head else "none"
    treated.actions = dict(deidentify(dataset, pseudonyms))
    declare(dataset, options)
    treated.options = sorted(options)
    path = _place(job, "files", ".dcm")
    _write(job, treated, path, partial(write_instance, dataset))
    identities = identities_in(job.source, job.name)
    treated.identities = to_json(identities)
    leaks = leaks_in(path, identities)
    _note(treated, leaks, looked_at=job.looked_at)
    if image is not None:
        _keep(job, treated, image, str(dataset.get("Modality") or "OT"))


def _check_kind(dataset: FileDataset) -> None:
    kind = str(dataset.get("SOPClassUID") or dataset.file_meta.get("MediaStorageSOPClassUID", ""))
    if kind == _DIRECTORY:
        raise PassedOverError("an index of other files")
    if kind.startswith(_DOCUMENTS) or "EncapsulatedDocument" in dataset:
        raise HeldError("an encapsulated document")
    if str(dataset.file_meta.get("TransferSyntaxUID", "")).startswith(_VIDEO):
        raise HeldError("a video")


def shows_head(dataset: FileDataset) -> bool:
    """Tell whether an instance may show a face: a slice or volume of a head (PS3.15, E.3.2)."""
    if str(dataset.get("Modality")) not in _FACES_SHOWN_BY:
        return False
    told = " ".join(
        str(dataset.get(name) or "")
        for name in ("BodyPartExamined", "StudyDescription", "SeriesDescription", "ProtocolName")
    ).upper()
    return any(word in told for word in _HEADS)


def _treat_volume(job: Job, pseudonyms: Pseudonyms, treated: Treated) -> None:
    del pseudonyms  # nothing in a volume is replaced by one
    from node.faces import deface, is_head

    treated.kind = "nifti"
    treated.options = sorted(OPTIONS)
    volume = read_volume(job.source)
    identities = text_identities(volume.texts)
    treated.head = is_head(volume)
    if treated.head:
        defaced = deface(volume) if job.deface else None
        treated.face = "kept" if defaced is None else "removed"
        if defaced is not None:
            volume = Volume(defaced, volume.affine, volume.scale, volume.zooms, volume.texts)
    path = _place(job, "files", ".nii")
    _write(job, treated, path, partial(write_volume, volume))
    _note(treated, leaks_in_bytes(path.read_bytes(), identities), looked_at=job.looked_at)
    _keep(job, treated, volume.values(), "MR")


def _treat_picture(job: Job, pseudonyms: Pseudonyms, treated: Treated) -> None:
    del pseudonyms  # nothing in a picture is replaced by one
    treated.kind = "picture"
    treated.options = sorted(OPTIONS | {CLEAN_PIXELS})
    picture = read_picture(job.source)
    pixels = picture.pixels
    if not job.looked_at:
        treated.blanked = _clean(pixels)
    path = _place(job, "files", ".png")
    _write(job, treated, path, partial(write_picture, pixels))
    leaks = leaks_in_bytes(path.read_bytes(), text_identities(picture.texts))
    if is_print(pixels):
        leaks += (Leak("pixels", "print"),)
    _note(treated, leaks, looked_at=job.looked_at)
    _keep(job, treated, pixels, "OT")


def _clean(pixels: NDArray[Any]) -> int:
    boxes, doubtful = clean(pixels)
    if doubtful:
        raise HeldError("text in the pixels")
    return len(boxes)


def _treat_archive(job: Job, pseudonyms: Pseudonyms, treated: Treated) -> None:
    del pseudonyms  # nothing in an archive is replaced by one
    treated.kind = "medmnist"
    treated.options = sorted(OPTIONS | {CLEAN_PIXELS})
    with zipfile.ZipFile(job.source) as archive:
        for part in parts_of(archive):
            shape = shape_of(archive, part)
            labels = read_labels(archive, part, shape[0])
            seen = _Seen(job.looked_at)
            images = _place(job, "arrays", f".{part}.npy")
            _write(job, treated, images, partial(write_images, archive, part, on_image=seen.look))
            treated.blanked += seen.blanked
            path = _place(job, "arrays", f".{part}.labels.npy")
            _write(job, treated, path, partial(_save, labels))
            kind = np.load(images, mmap_mode="r", allow_pickle=False).dtype
            treated.images.append(
                {
                    "name": images.relative_to(job.out).as_posix(),
                    "part": part,
                    "count": shape[0],
                    "shape": list(shape[1:]),
                    "dtype": kind.str,
                    "modality": "OT",
                }
            )


@dataclass(slots=True)
class _Seen:
    """Looks at the images of an archive as they go by."""

    looked_at: bool
    blanked: int = 0

    def look(self, image: NDArray[Any]) -> None:
        # What is of no width or height that letters fit in is not looked at.
        if not self.looked_at and image.ndim == _SCALAR:
            self.blanked += _clean(image)


def _keep(job: Job, treated: Treated, image: NDArray[Any], modality: str) -> None:
    """Write the array to learn from."""
    path = _place(job, "arrays", ".npy")
    _write(job, treated, path, partial(_save, image))
    treated.images.append(
        {
            "name": path.relative_to(job.out).as_posix(),
            "part": "",
            "count": 1,
            "shape": list(image.shape),
            "dtype": image.dtype.str,
            "digest": image_digest(image).hex(),
            "modality": modality,
        }
    )


def _save(array: NDArray[Any], file: Any) -> None:
    np.save(file, array, allow_pickle=False)


def _note(treated: Treated, leaks: tuple[Leak, ...], *, looked_at: bool) -> None:
    treated.leaks = [
        (one.place, one.kind)
        for one in leaks
        # Who looked at the pixels knows better what they show.
        if not (looked_at and one == Leak("pixels", "print"))
    ]


def _place(job: Job, folder: str, ending: str) -> Path:
    return job.out / folder / job.id[:2] / f"{job.id}{ending}"


def _write(job: Job, treated: Treated, path: Path, write: Callable[[Any], object]) -> None:
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    name = path.relative_to(job.out).as_posix()
    treated.files[name] = ""  # so that it is taken back if anything goes wrong from here on
    with replacing(path, synced=False) as file:
        write(file)
    hasher = hashlib.sha256()
    for piece in pieces(path):
        hasher.update(piece)
    treated.files[name] = hasher.hexdigest()
