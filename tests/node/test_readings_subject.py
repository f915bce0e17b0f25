"""The image that a reading is about: found, held against its digest, and never the original."""

import json
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pydicom
import pytest
from PIL import Image as Picture

from chain.commitments import image_digest
from chain.errors import DigestMismatchError, InclusionProofError, InvalidInputError
from chain.image_proofs import write_proof
from node.attestation import attest
from node.dataset import commit_images, erase_images, load_dataset, prove_image
from node.images import ImageSet
from node.ingest import ingest
from node.pixels import clean_pixels, image_of
from node.readings.subject import digest_in, find_image, proven_digest, subject_of
from tests.node.readings import NOW, OWNER, SOURCE, VERSION, FakeLedger, de_identified

SECRET = b"k" * 32


@pytest.fixture(scope="module")
def scans(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """What an ingest of an instance and a picture wrote, and its key."""
    folder = tmp_path_factory.mktemp("scans")
    source, key = folder / "in", folder / "key"
    source.mkdir()
    scan = pydicom.dcmread(SOURCE)
    scan.PatientName = "Lovelace^Ada"
    scan.save_as(source / "a.dcm")
    grey = np.random.default_rng(1).integers(100, 120, (64, 64), np.uint8)
    Picture.fromarray(grey).save(source / "b.png")
    key.write_bytes(SECRET)
    key.chmod(0o600)
    ingest(source, folder / "out", key, SECRET)
    return folder / "out", key


def digests(out: Path) -> dict[str, bytes]:
    """The digest of each image that came out, by its kind."""
    lines = map(json.loads, (out / "files.jsonl").read_text().splitlines())
    return {one["kind"]: bytes.fromhex(one["images"][0]["digest"]) for one in lines}


def test_an_image_is_found_among_what_was_ingested_with_what_its_patient_was_called(
    scans: tuple[Path, Path],
) -> None:
    out, key = scans
    found = subject_of(out, digests(out)["dicom"], key)
    assert found.instance is not None
    assert str(found.instance.PatientName).startswith("FW")
    assert found.leaks_in("Mrs Lovelace") == ("name",)
    assert found.leaks_in("No acute abnormality.") == ()
    picture = subject_of(out, digests(out)["picture"], key)
    assert picture.instance is None
    assert picture.leaks_in("Ada Lovelace") == ("name",)


def test_a_file_is_held_against_the_digest(scans: tuple[Path, Path]) -> None:
    out, _ = scans
    (path,) = (out / "files").rglob("*.dcm")
    digest = digests(out)["dicom"]
    assert subject_of(path, digest, None).instance is not None
    assert subject_of(path, None, None).instance is not None
    with pytest.raises(DigestMismatchError):
        subject_of(path, bytes(32), None)


def test_the_original_is_refused_though_it_has_the_same_pixels(tmp_path: Path) -> None:
    dataset = pydicom.dcmread(SOURCE)
    digest = image_digest(image_of(dataset, clean_pixels(dataset, looked_at=True).pixels))
    with pytest.raises(InvalidInputError, match="names its patient") as refused:
        subject_of(SOURCE, digest, None)
    assert str(dataset.PatientName) not in str(refused.value)
    for keyword, value in (
        ("PatientName", "Lovelace^Ada"),
        ("PatientID", "4711"),
        ("PatientBirthDate", "18151210"),
        ("PatientIdentityRemoved", "NO"),
    ):
        half = de_identified()
        setattr(half, keyword, value)
        half.save_as(tmp_path / "half.dcm")
        with pytest.raises(InvalidInputError, match="names its patient"):
            subject_of(tmp_path / "half.dcm", None, None)


def test_what_cannot_be_found_is_told(scans: tuple[Path, Path], tmp_path: Path) -> None:
    out, key = scans
    digest = digests(out)["dicom"]
    for where, wanted, with_key, told in (
        (out, None, key, "--dataset"),
        (out, bytes(32), key, "archive"),
        (out, digest, None, "--ingest-key"),
        (out, digest, tmp_path / "other", "--ingest-key"),
        (tmp_path, digest, key, "hospital ingest"),
    ):
        with pytest.raises(InvalidInputError, match=told):
            subject_of(where, wanted, with_key)
    shutil.copy(Path(__file__), tmp_path / "test.dcm")
    with pytest.raises(InvalidInputError, match="DICOM"):
        subject_of(tmp_path / "test.dcm", None, None)


def test_an_image_is_found_by_its_number_and_by_its_commitment(tmp_path: Path) -> None:
    images = np.arange(3 * 16, dtype=np.uint8).reshape(3, 4, 4)
    labels = np.zeros(3, np.int64)
    path = tmp_path / "heads.npz"
    committed = commit_images(
        path, "heads", ImageSet(images, labels, "MR", ("",) * 3, attest({})), frozenset({43})
    )
    root = committed.terms.merkle_root

    class Ledger(FakeLedger):
        def dataset_version(self, version: bytes):  # type: ignore[no-untyped-def] # noqa: ANN202
            return replace(super().dataset_version(version), merkle_root=root)

    ledger = Ledger()
    assert ledger.now == NOW
    found = find_image(ledger, OWNER.address, path, 1)
    shown = prove_image(committed, 1)
    assert (found.version, found.commitment) == (VERSION, shown.commitment)
    assert (found.proof, found.digest) == (shown.proof, image_digest(images[1]))
    assert digest_in(path, shown.commitment) == shown.image_digest
    with pytest.raises(InvalidInputError, match="found another"):
        digest_in(path, bytes(32))
    with pytest.raises(InvalidInputError, match="hospital register"):
        find_image(FakeLedger(), OWNER.address, path, 1)

    proof = tmp_path / "proof.json"
    write_proof(proof, VERSION, shown)
    assert proven_digest(ledger, proof, shown.commitment) == shown.image_digest
    assert proven_digest(ledger, None, shown.commitment) is None
    with pytest.raises(InvalidInputError, match="expected a proof about"):
        proven_digest(ledger, proof, bytes(32))
    with pytest.raises(InclusionProofError):
        proven_digest(FakeLedger(), proof, shown.commitment)
    erase_images(path, {load_dataset(path).commitments[1]})
    with pytest.raises(InvalidInputError, match="kept"):
        find_image(ledger, OWNER.address, path, 1)
