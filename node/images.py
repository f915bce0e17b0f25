"""Images with their labels: what an ingest came to, or an archive in MedMNIST's form.

What is registered comes out of an ingest and nothing else: identity was removed from it, and it is
looked through once more before a data set is made of it.
"""

import hashlib
import zipfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Any

import numpy as np
from numpy.typing import NDArray

from chain.errors import InvalidInputError
from chain.files import pieces
from node.archives import (
    MAX_ARCHIVE,
    PARTS,
    check_members,
    read_array,
    read_labels,
    shape_of,
)
from node.attestation import Attestation, attest, read_attestation
from node.file_list import listed_files, taken_files
from node.ingest import ATTESTATION, FILES, TABLE_OF_LABELS, journal_of
from node.journal import TAKEN, Journal
from node.leaks import from_json, leaks_in, of_everybody, strangers_in

NO_LABEL = -1
_NO_LABELS = np.array([NO_LABEL], dtype=np.int64)
_UNLABELLED = (
    "The images have no labels: they can be shown and read, and no round learns from them. With a "
    "labels.csv beside the images, ingest again and correct the version."
)
_TOLD = 5  # findings that a refusal lists

# The archives of MedMNIST v2 (Yang et al. 2023, doi 10.1038/s41597-022-01721-8), by MD5 as there.
_OFFICIAL = MappingProxyType({"28209eda62fecd6e6a2d98b1501bb15f": "PneumoniaMNIST"})


@dataclass(frozen=True, slots=True)
class ImageSet:
    """De-identified images with their labels.

    Attributes:
        images: uint8, uint16 or float32 of shape (n, height, width), or with further dimensions.
        labels: int64 of shape (n,); `NO_LABEL` throughout where the images have none.
        modality: DICOM modality, such as ``MR``; ``OT`` where the source does not say.
        sources: Where each image came from, in words that identify no patient.
        attestation: What de-identification did.
        notes: What the reader of the data should know, each a sentence.
    """

    images: NDArray[Any]
    labels: NDArray[np.int64]
    modality: str
    sources: tuple[str, ...]
    attestation: Attestation
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
        raise InvalidInputError(f"{path}: expected an .npz file, found none")
    if path.stat().st_size > MAX_ARCHIVE:
        raise InvalidInputError(f"{path}: expected an archive of at most {MAX_ARCHIVE} bytes")
    try:
        with zipfile.ZipFile(path) as archive:
            check_members(archive)
            shape = shape_of(archive, part)
            images = read_array(archive, f"{part}_images.npy")
            labels = read_labels(archive, part, shape[0])
    except InvalidInputError as error:
        raise InvalidInputError(f"{path}: {error}") from None
    except (zipfile.BadZipFile, EOFError, NotImplementedError, RuntimeError, ValueError) as error:
        raise InvalidInputError(f"{path}: the archive is damaged: {error}") from error
    if not np.isfinite(images).all():
        raise InvalidInputError(f"{path}: expected finite images, found others")
    return ImageSet(
        images if images.dtype == np.uint8 else images.astype(np.float32),
        labels,
        modality,
        tuple(f"{part}_images[{index}]" for index in range(len(images))),
        attest({"images": len(images)}),
        (origin(path),),
    )


def read_ingested(out: Path, key: Path, on_file: Callable[[], None] = lambda: None) -> ImageSet:
    """Read what an ingest came to, once it was looked through for identity again.

    Of archives with several parts only ``train`` is read. Where what was taken in held no label at
    all, the images have none: they can be shown and read, and not learned from.

    Args:
        out: The ingest's output; its images have one size and one modality.
        key: The key file that it was made with, beside which its journal lies.
        on_file: Called after each file, for a progress bar.

    Raises:
        InvalidInputError: If a file is another than the ingest wrote, somebody's identity is found
            in one, an image has no label beside others that have, or the images do not go together.
    """
    attestation = _attested(out)
    _check_leaks(out, key, on_file)
    images: list[NDArray[Any]] = []
    labels: list[NDArray[np.int64]] = []
    sources: list[str] = []
    labelled = any(map(_tells_labels, listed_files(out)))
    kinds: set[tuple[str, tuple[int, ...], str]] = set()
    for line in taken_files(out):
        for told in line.get("images", ()):
            if told["part"] not in {"", "train"}:
                continue
            array = np.load(out / told["name"], allow_pickle=False)
            own = array[None] if not told["part"] else array
            kinds.add((told["modality"], own.shape[1:], own.dtype.str))
            _check_one_kind(kinds)
            images.append(own)
            labels.append(_labels_of(out, line, told) if labelled else _NO_LABELS)
            sources += [f"{line['id']}[{number}]" for number in range(len(own))]
    if not images:
        raise InvalidInputError(
            f"{out}: expected images to make a data set of, found none; {FILES} and report.json "
            "there tell what became of every file"
        )
    ((modality, _, _),) = kinds
    return ImageSet(
        np.concatenate(images),
        np.concatenate(labels),
        modality,
        tuple(sources),
        attestation,
        () if labelled else (_UNLABELLED,),
    )


def origin(path: Path) -> str:
    """Tell whether an archive is one that MedMNIST publishes."""
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


def _attested(out: Path) -> Attestation:
    """Check that the list of files is the attested one, and each file the listed one."""
    if not (out / ATTESTATION).is_file():
        raise InvalidInputError(f"{out}: expected an ingest that has come to its end, found none")
    attestation = read_attestation((out / ATTESTATION).read_bytes())
    if _digest(out / FILES) != attestation.output.hex():
        raise InvalidInputError(
            f"{out}: expected the list of files that is attested, found another; ingest again"
        )
    for line in taken_files(out):
        for name, digest in line.get("files", {}).items():
            if not (out / name).is_file() or _digest(out / name) != digest:
                raise InvalidInputError(
                    f"{out / name}: expected the file that the ingest wrote, found another or "
                    "none; delete it and ingest again"
                )
    return attestation


def _check_leaks(out: Path, key: Path, on_file: Callable[[], None]) -> None:
    """Look through every DICOM file for its own identities, and for everybody's names."""
    path = journal_of(out, key)
    if not path.is_file():
        raise InvalidInputError(
            f"{out}: expected the journal of this output beside {key}, found none: give the key "
            "that it was ingested with"
        )
    journal = Journal(path)
    try:
        everybody = of_everybody(from_json(dict(told)) for _, told in journal.identities())
        found: list[str] = []
        for name, told in journal.identities():
            file = out / "files" / name[:2] / f"{name}.dcm"
            if file.is_file():
                leaks = leaks_in(file, from_json(dict(told))) + strangers_in(file, everybody)
                looked_at = journal.fact(f"looked at {name}") is not None
                found += [
                    f"{name} ({one.kind} in {one.place})"
                    for one in leaks
                    if not (looked_at and one.place == "pixels")
                ]
            on_file()
    finally:
        journal.close()
    if found:
        raise InvalidInputError(
            f"{out}: the leak scan found identity in {len(found)} places, so nothing is "
            f"registered: {', '.join(found[:_TOLD])}"
        )


def _tells_labels(line: Mapping[str, Any]) -> bool:
    if line["outcome"] == TAKEN:
        archived = any(told["part"] for told in line.get("images", ()))
        return archived or line["label"] is not None
    return bool(line["reason"] == TABLE_OF_LABELS)


def _labels_of(out: Path, line: Mapping[str, Any], told: Mapping[str, Any]) -> NDArray[np.int64]:
    if told["part"]:
        name = told["name"].removesuffix(".npy") + ".labels.npy"
        labels: NDArray[np.int64] = np.load(out / name, allow_pickle=False)
        return labels
    if line["label"] is None:
        raise InvalidInputError(
            f"{line['id']}: there is no label for it in labels.csv, a table with the columns file "
            "and label beside the images; the list beside the key tells which file it is"
        )
    return np.array([line["label"]], dtype=np.int64)


def _digest(path: Path) -> str:
    hasher = hashlib.sha256()
    if path.is_file():
        for piece in pieces(path):
            hasher.update(piece)
    return hasher.hexdigest()


def _check_one_kind(kinds: set[tuple[str, tuple[int, ...], str]]) -> None:
    if len(kinds) > 1:
        told = " and ".join(f"{modality} {shape}" for modality, shape, _ in sorted(kinds)[:2])
        raise InvalidInputError(
            f"expected images of one modality, size and kind of number, found {told}: make a data "
            "set of each"
        )
