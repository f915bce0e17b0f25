"""The image that a reading is about, and what its patient was called before.

Whoever has the DICOM instance can have a reading checked against it, and a structured report be
made about it. A hospital that has the ingest which the image came from can have a reading looked
through for what identified its patients.
"""

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from pydicom.dataset import Dataset, FileDataset

from chain.commitments import image_digest
from chain.errors import DigestMismatchError, InvalidInputError
from chain.image_proofs import read_proof, verify_image
from chain.types import DatasetVersion
from chain.wire import to_hex
from node.dataset import VersionReader, load_dataset, prove_image, registered
from node.dicom import quoting_nothing, read_instance
from node.file_list import taken_files
from node.ingest import journal_of
from node.journal import Journal
from node.leaks import Identities, from_json, leaks_in_text, of_everybody
from node.pixels import clean_pixels, image_of

_NOBODY = Identities()
PSEUDONYM = re.compile(r"FW[A-Z2-7]{16}")  # docs/protocol.md, section 4.4


class Versions(VersionReader, Protocol):
    """The part of `chain.reader.LedgerReader` that finding an image needs."""

    def dataset_version(self, version: bytes) -> DatasetVersion:
        """Look a data-set version up."""


@dataclass(frozen=True, slots=True)
class Image:
    """An image that the hospital has.

    Attributes:
        version: The data-set version that it is in.
        commitment: Its commitment.
        proof: The nodes from its leaf to the version's root.
        digest: The digest of its pixels.
    """

    version: bytes
    commitment: bytes
    proof: tuple[bytes, ...]
    digest: bytes


@dataclass(frozen=True, slots=True)
class Subject:
    """An image, as far as it is known here.

    Attributes:
        instance: The de-identified DICOM instance.
        own: What identified somebody in the file that came in.
        everybody: Names and numbers of everybody in whatever came in with it.
    """

    instance: Dataset | None = None
    own: Identities = _NOBODY
    everybody: Identities = _NOBODY

    def leaks_in(self, text: str) -> tuple[str, ...]:
        """Tell what kinds of words in a text identified somebody in what came in."""
        return leaks_in_text(text, self.own, self.everybody)


UNKNOWN = Subject()


def find_image(ledger: Versions, hospital: str, dataset: Path, number: int) -> Image:
    """Find an image of a committed data set on the ledger.

    Args:
        ledger: The ledger.
        hospital: Whose data set it is.
        dataset: The data set's private file.
        number: The image's place in it, from 0.

    Raises:
        InvalidInputError: If there is no such image, or the ledger does not know the data set.
    """
    committed = load_dataset(dataset)
    shown = prove_image(committed, number)
    version = registered(committed, ledger, hospital)
    if version is None:
        raise InvalidInputError(
            f"{dataset}: expected a data set that {hospital} has registered, found one that the "
            "ledger does not know: register it with `hospital register`, or name its hospital with "
            "--hospital"
        )
    return Image(version.version, shown.commitment, shown.proof, shown.image_digest)


def digest_in(dataset: Path, image: bytes) -> bytes:
    """Return the digest of an image's pixels from the data set that it was committed in.

    Raises:
        InvalidInputError: If the data set does not have it, or has erased it.
    """
    committed = load_dataset(dataset)
    if image not in committed.commitments:
        raise InvalidInputError(
            f"{dataset}: expected the data set that the image {to_hex(image)} is in, found another"
        )
    return prove_image(committed, committed.commitments.index(image)).image_digest


def proven_digest(ledger: Versions, proof: Path | None, image: bytes) -> bytes | None:
    """Return the digest of an image's pixels, if its hospital proved it.

    Args:
        ledger: The ledger.
        proof: What `hospital prove` wrote, or None.
        image: The image's commitment.

    Raises:
        InvalidInputError: If the proof is about another image.
        VerificationError: If it proves nothing.
    """
    if proof is None:
        return None
    version, shown = read_proof(proof)
    if shown.commitment != image:
        raise InvalidInputError(
            f"{proof}: expected a proof about the image {to_hex(image)}, found one about "
            f"{to_hex(shown.commitment)}"
        )
    verify_image(shown, ledger.dataset_version(version).merkle_root)
    return shown.image_digest


def subject_of(where: Path, digest: bytes | None, key: Path | None) -> Subject:
    """Find out what is known of an image.

    Args:
        where: Its DICOM instance; or what an ingest wrote, in which it is looked for.
        digest: The image's digest (docs/protocol.md, section 4.1), where it is known; a file is
            then held against it, and a folder searched by it.
        key: The key that the ingest was made with, beside which lies what the patients were called.

    Raises:
        InvalidInputError: If there is no such instance, or it cannot be read.
        DigestMismatchError: If the instance is another image.
    """
    if where.is_file():
        return Subject(_instance(where, digest))
    if digest is None:
        raise InvalidInputError(
            f"{where}: expected the image's own DICOM file, found a folder; a folder is searched "
            "by the image's digest, which --dataset tells"
        )
    for line in taken_files(where):
        if line["images"] and line["images"][0].get("digest") == digest.hex():
            own, everybody = _identities(where, key, str(line["id"]))
            names = [one for one in line["files"] if one.endswith(".dcm")]
            instance = _instance(where / names[0], digest) if names else None
            return Subject(instance, own, everybody)
    raise InvalidInputError(
        f"{where}: expected the image with the digest {digest.hex()}, found none; images of an "
        "archive have no file of their own: leave --instance out"
    )


def _instance(path: Path, digest: bytes | None) -> FileDataset:
    dataset = read_instance(path)
    if "SOPInstanceUID" not in dataset:
        raise InvalidInputError(f"{path}: expected a DICOM instance, found none")
    with quoting_nothing():
        names = {str(dataset.get(one) or "") for one in ("PatientName", "PatientID")} - {""}
        is_free = (
            dataset.get("PatientIdentityRemoved") == "YES"
            and all(PSEUDONYM.fullmatch(one) for one in names)
            and not dataset.get("PatientBirthDate")
        )
    # An original has the same pixels, and what is made about it would name its patient.
    if not is_free:
        raise InvalidInputError(
            f"{path}: expected a file that `hospital ingest` wrote or a gateway showed, found one "
            "that names its patient, or may: give the de-identified one"
        )
    if digest is not None:
        pixels = clean_pixels(dataset, looked_at=True).pixels
        found = image_digest(image_of(dataset, pixels))
        if found != digest:
            raise DigestMismatchError(f"image in {path}", digest.hex(), found.hex())
    return dataset


def _identities(out: Path, key: Path | None, name: str) -> tuple[Identities, Identities]:
    path = None if key is None else journal_of(out, key)
    if path is None or not path.is_file():
        raise InvalidInputError(
            f"{out}: expected the journal of this ingest beside {key}, found none: a reading is "
            "looked through for the patients' names, which it holds. Give the key that it was "
            "ingested with by --ingest-key"
        )
    journal = Journal(path)
    try:
        told = {one: from_json(dict(identities)) for one, identities in journal.identities()}
    finally:
        journal.close()
    return told.get(name, Identities()), of_everybody(iter(told.values()))
