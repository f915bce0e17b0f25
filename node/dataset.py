"""Data sets: commitments to images, kept by the hospital, and versions on the ledger.

Images, labels and salts lie together in one private file, so that each change of it is whole or
not at all. See docs/protocol.md, section 4.
"""

import zipfile
from collections.abc import Callable
from collections.abc import Set as AbstractSet
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from chain.canonical import canonical_json, parse_json
from chain.commitments import SALT_BYTES, commit, image_digest, new_salt
from chain.errors import InvalidInputError
from chain.files import replacing
from chain.image_proofs import ImageProof
from chain.merkle import image_leaf, image_leaves, merkle_proof, merkle_root
from chain.types import DatasetState, DatasetTerms, DatasetVersion
from chain.wire import from_json_dict, to_json_dict
from node.images import ImageSet

FIRST = bytes(32)  # the "previous" of a version that corrects none
_MAX_TERMS = 1 << 16  # bytes


class VersionReader(Protocol):
    """The part of `chain.reader.LedgerReader` that finding a version needs."""

    def dataset_versions(self, hospital: str | None = None) -> tuple[DatasetVersion, ...]:
        """Return the versions that a hospital registered."""


class VersionRegistry(VersionReader, Protocol):
    """The part of `chain.ledger.Ledger` that registering a version needs."""

    def register_version(self, terms: DatasetTerms) -> bytes:
        """Register a version and return its identifier."""


@dataclass(frozen=True, slots=True)
class CommittedDataset:
    """A data-set version as its hospital keeps it.

    Attributes:
        terms: What is registered of it.
        commitments: Of all images, also the erased ones, each 32 bytes.
        kept: int64 of shape (m,): which commitments still have their image, ascending.
        images: Of shape (m, height, width).
        labels: int64 of shape (m,); `node.images.NO_LABEL` throughout where there are none.
        salts: uint8 of shape (m, 32).
    """

    terms: DatasetTerms
    commitments: tuple[bytes, ...]
    kept: NDArray[np.int64]
    images: NDArray[Any]
    labels: NDArray[np.int64]
    salts: NDArray[np.uint8]


@dataclass(frozen=True, slots=True)
class ActiveDataset:
    """A committed data set of which the ledger has the version as active.

    Attributes:
        path: Its private file.
        dataset: What that holds, with the purposes that the ledger permits now.
        version: The version's identifier.
    """

    path: Path
    dataset: CommittedDataset
    version: bytes


def commit_images(
    path: Path,
    name: str,
    image_set: ImageSet,
    purposes: frozenset[int],
    previous: bytes = FIRST,
    on_image: Callable[[], None] = lambda: None,
) -> CommittedDataset:
    """Commit to every image under a fresh salt, and keep images and salts in a private file.

    Done again with the same images and terms it returns what was kept, with the same salts.

    Args:
        path: The private file (mode 0600), in a folder that exists.
        name: The data set's name on the ledger.
        image_set: De-identified images.
        purposes: Permitted Data Use Ontology numbers (docs/protocol.md, section 4.3).
        previous: The version that this one corrects.
        on_image: Called after each image, for a progress bar.

    Raises:
        InvalidInputError: If the file holds another data set; it is left as it is.
        OSError: If the file cannot be written.
    """
    if path.exists():
        return _same_dataset(path, name, image_set, purposes, previous)
    salts, commitments = [], []
    for image in image_set.images:
        salts.append(new_salt())
        commitments.append(commit(salts[-1], image_digest(image)))
        on_image()
    terms = DatasetTerms(
        name=name,
        merkle_root=merkle_root(image_leaves(commitments)),
        images=len(commitments),
        modality=image_set.modality,
        purposes=purposes,
        profile=image_set.attestation.profile_bits(),
        attestation=image_set.attestation.digest(),
        previous=previous,
    )
    dataset = CommittedDataset(
        terms=terms,
        commitments=tuple(commitments),
        kept=np.arange(len(commitments), dtype=np.int64),
        images=image_set.images,
        labels=image_set.labels,
        salts=np.frombuffer(b"".join(salts), np.uint8).reshape(-1, SALT_BYTES),
    )
    _save(path, dataset)
    return dataset


def load_dataset(path: Path) -> CommittedDataset:
    """Read a data set back from its private file.

    Raises:
        InvalidInputError: If there is none, or it is damaged.
    """
    if not path.is_file():
        raise InvalidInputError(f"{path}: expected a committed data set, found no file")
    try:
        with path.open("rb") as file, np.load(file, allow_pickle=False) as arrays:
            return _from_arrays({key: arrays[key] for key in arrays.files})
    except (zipfile.BadZipFile, EOFError, KeyError, ValueError) as error:
        raise InvalidInputError(f"{path}: the data set is damaged: {error}") from error


def register(dataset: CommittedDataset, registry: VersionRegistry, hospital: str) -> bytes:
    """Register a data set's version, unless the ledger has it, and return its identifier.

    To correct a version, commit the corrected images with it as ``previous`` and register that.

    Raises:
        ContractRevertedError: If the registry refuses it.
        LedgerError: If the chain cannot be reached.
    """
    known = registered(dataset, registry, hospital)
    return registry.register_version(dataset.terms) if known is None else known.version


def registered(
    dataset: CommittedDataset, registry: VersionReader, hospital: str
) -> DatasetVersion | None:
    """Find a data set's version on the ledger, None where the ledger does not have it.

    Raises:
        LedgerError: If the chain cannot be reached.
    """
    # Salts are random, so no two versions have one root.
    root = dataset.terms.merkle_root
    found = registry.dataset_versions(hospital)
    return next((one for one in found if one.merkle_root == root), None)


def active_dataset(
    folder: Path, registry: VersionReader, hospital: str, name: str | None = None
) -> ActiveDataset:
    """Find the data set that the ledger has as active.

    Args:
        folder: Of committed data sets.
        registry: The ledger.
        hospital: Whose data sets they are.
        name: Which one, where several are active.

    Raises:
        InvalidInputError: If none is, or several are; the message names them.
        LedgerError: If the chain cannot be reached.
    """
    versions = {one.merkle_root: one for one in registry.dataset_versions(hospital)}
    kept = {path: load_dataset(path) for path in sorted(folder.glob("*.npz"))}
    known = {
        path: versions[one.terms.merkle_root]
        for path, one in kept.items()
        if one.terms.merkle_root in versions and name in {None, one.terms.name}
    }
    found = [path for path, one in known.items() if one.state is DatasetState.ACTIVE]
    if len(found) != 1:
        names = ", ".join(sorted(kept[path].terms.name for path in found)) or "none"
        gone = ", ".join(
            f"{kept[path].terms.name} is {one.state.name}" for path, one in known.items()
        )
        raise InvalidInputError(
            f"expected one active data set in {folder}, found {names}"
            f"{f' ({gone}, so nobody trains on it any more)' if gone and not found else ''}: "
            "register one with `hospital register`, or choose one with --dataset"
        )
    (path,) = found
    terms = replace(kept[path].terms, purposes=known[path].purposes)
    return ActiveDataset(path, replace(kept[path], terms=terms), known[path].version)


def row_of(dataset: CommittedDataset, index: int) -> int:
    """Return which row of the images that are kept has an image.

    Args:
        dataset: The data set.
        index: The image's place, from 0, among all that were committed.

    Raises:
        InvalidInputError: If there is no such image, or it was erased.
    """
    rows = np.flatnonzero(dataset.kept == index)
    if len(rows) == 0:
        committed = len(dataset.commitments)
        erased = " that was erased; its data set's correction has numbers of its own"
        raise InvalidInputError(
            f"expected the number of an image that is kept, of 0 to {committed - 1}, found {index}"
            f"{erased if 0 <= index < committed else ''}"
        )
    return int(rows[0])


def prove_image(dataset: CommittedDataset, index: int) -> ImageProof:
    """Prove that an image is in its version (docs/protocol.md, section 4.2).

    Args:
        dataset: The data set.
        index: The image's place, from 0, among all that were committed.

    Raises:
        InvalidInputError: If there is no such image, or it was erased.
    """
    row = row_of(dataset, index)
    commitment = dataset.commitments[index]
    return ImageProof(
        root=dataset.terms.merkle_root,
        commitment=commitment,
        proof=prove_commitment(dataset, commitment),
        salt=dataset.salts[row].tobytes(),
        image_digest=image_digest(dataset.images[row]),
    )


def prove_commitment(dataset: CommittedDataset, commitment: bytes) -> tuple[bytes, ...]:
    """Return the nodes that lead from a commitment to the root; they show nothing of the image.

    Raises:
        InvalidInputError: If the commitment is none of the data set's.
    """
    leaves, leaf = image_leaves(dataset.commitments), image_leaf(commitment)
    if leaf not in leaves:
        raise InvalidInputError(
            f"expected a commitment of {dataset.terms.name!r}, found 0x{commitment.hex()}"
        )
    return merkle_proof(leaves, leaves.index(leaf))


def erase_images(path: Path, commitments: AbstractSet[bytes]) -> CommittedDataset:
    """Delete images, their labels and salts; their bare commitments stay, and say nothing.

    Proofs about the other images still verify. Images that were erased before are passed over.
    What killed processes left behind beside the file goes, too. Copies elsewhere, such as the DICOM
    files that they were read from and backups, are not touched.

    Raises:
        InvalidInputError: If there is no data set, or it is damaged.
        OSError: If the file cannot be written; nothing is erased then.
    """
    for left in path.parent.glob(".*.npz.*"):
        left.unlink(missing_ok=True)
    dataset = load_dataset(path)
    rest = _without(dataset, commitments)
    if len(rest.kept) < len(dataset.kept):
        _save(path, rest)
    return rest


def correct(
    path: Path, dataset: CommittedDataset, commitments: AbstractSet[bytes], terms: DatasetTerms
) -> CommittedDataset:
    """Make the version without some images, and keep it in a private file of its own.

    The others keep their salts, so their commitments are those of the version before. Done again it
    returns what was kept.

    Args:
        path: The private file, in a folder that exists.
        dataset: The version before.
        commitments: Of the images that are left out.
        terms: Those of the new version, but for its root and count.

    Raises:
        InvalidInputError: If no image is left, or the file holds another data set.
        OSError: If the file cannot be written.
    """
    rest = _without(dataset, commitments)
    left = tuple(dataset.commitments[place] for place in rest.kept)
    if not left:
        raise InvalidInputError(f"no image of {terms.name!r} is left: withdraw the version")
    root = merkle_root(image_leaves(left))
    corrected = replace(
        rest,
        terms=replace(terms, merkle_root=root, images=len(left)),
        commitments=left,
        kept=np.arange(len(left), dtype=np.int64),
    )
    if path.exists():
        begun = load_dataset(path)
        if begun.terms.merkle_root != root:
            message = f"{path}: expected the correction that was begun, found another"
            raise InvalidInputError(message)
        if begun.terms == corrected.terms:
            return begun
        # What it permits was changed since, and must not come back with it.
    _save(path, corrected)
    return corrected


def _without(dataset: CommittedDataset, commitments: AbstractSet[bytes]) -> CommittedDataset:
    left = [dataset.commitments[place] not in commitments for place in dataset.kept]
    stays = np.array(left, dtype=bool)
    return replace(
        dataset,
        kept=dataset.kept[stays],
        images=dataset.images[stays],
        labels=dataset.labels[stays],
        salts=dataset.salts[stays],
    )


def _same_dataset(
    path: Path, name: str, image_set: ImageSet, purposes: frozenset[int], previous: bytes
) -> CommittedDataset:
    kept = load_dataset(path)
    terms = kept.terms
    expected = (name, image_set.modality, purposes, previous, image_set.attestation.digest())
    found = (terms.name, terms.modality, terms.purposes, terms.previous, terms.attestation)
    if (
        found == expected
        and np.array_equal(kept.images, image_set.images)
        and np.array_equal(kept.labels, image_set.labels)
    ):
        return kept
    raise InvalidInputError(
        f"{path}: expected the data set that is kept there ({terms.name!r}, {terms.images} "
        "images), found another; commit it to a file of its own, as a correction if it is one"
    )


def _save(path: Path, dataset: CommittedDataset) -> None:
    with replacing(path) as file:
        np.savez(
            file,
            terms=np.frombuffer(canonical_json(to_json_dict(dataset.terms)), np.uint8),
            commitments=np.frombuffer(b"".join(dataset.commitments), np.uint8).reshape(-1, 32),
            kept=dataset.kept,
            images=dataset.images,
            labels=dataset.labels,
            salts=dataset.salts,
        )


def _from_arrays(arrays: dict[str, NDArray[Any]]) -> CommittedDataset:
    terms = from_json_dict(DatasetTerms, parse_json(arrays["terms"].tobytes(), _MAX_TERMS))
    count = len(arrays["kept"])
    if (
        arrays["commitments"].shape != (terms.images, 32)
        or arrays["salts"].shape != (count, SALT_BYTES)
        or arrays["labels"].shape != (count,)
        or len(arrays["images"]) != count
    ):
        raise ValueError("its arrays do not fit together")
    return CommittedDataset(
        terms=terms,
        commitments=tuple(row.tobytes() for row in arrays["commitments"]),
        kept=arrays["kept"],
        images=arrays["images"],
        labels=arrays["labels"],
        salts=arrays["salts"],
    )
