"""Commitments name images without showing them, and erasing one leaves the others provable."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from chain.commitments import commit, image_digest
from chain.errors import InclusionProofError, InvalidInputError
from chain.merkle import image_leaf, image_leaves, merkle_root, verify_inclusion
from node.attestation import attest
from node.dataset import (
    CommittedDataset,
    commit_images,
    erase_images,
    load_dataset,
    prove_image,
    register,
)
from node.images import ImageSet
from tests.node.registry import HOSPITAL, Registry

PURPOSES = frozenset({6, 42})


def image_set(n: int = 5, seed: int = 0) -> ImageSet:
    rng = np.random.default_rng(seed)
    return ImageSet(
        images=rng.integers(0, 255, (n, 28, 28), dtype=np.uint8),
        labels=np.arange(n, dtype=np.int64) % 2,
        modality="DX",
        sources=tuple(map(str, range(n))),
        attestation=attest({"images": n}, {"X": 3}),
    )


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "chest.npz"


@pytest.fixture
def committed(path: Path) -> CommittedDataset:
    return commit_images(path, "chest", image_set(), PURPOSES)


def assert_proves(dataset: CommittedDataset, index: int) -> None:
    shown = prove_image(dataset, index)
    verify_inclusion(dataset.terms.merkle_root, image_leaf(shown.commitment), shown.proof)
    assert shown.commitment == commit(shown.salt, shown.image_digest)


def test_the_terms_say_what_was_committed(committed: CommittedDataset) -> None:
    found = committed.terms
    assert found.merkle_root == merkle_root(image_leaves(committed.commitments))
    assert (found.name, found.images, found.modality, found.profile) == ("chest", 5, "DX", 1)
    assert found.purposes == PURPOSES
    assert found.attestation == image_set().attestation.digest()
    assert found.previous == bytes(32)


def test_every_image_can_be_proved_to_be_in_its_version(committed: CommittedDataset) -> None:
    for index, image in enumerate(image_set().images):
        assert_proves(committed, index)
        assert prove_image(committed, index).image_digest == image_digest(image)


def test_a_proof_is_of_no_use_for_another_image(committed: CommittedDataset) -> None:
    shown = prove_image(committed, 1)
    with pytest.raises(InclusionProofError):
        verify_inclusion(shown.root, image_leaf(committed.commitments[2]), shown.proof)


def test_equal_images_have_different_commitments(path: Path) -> None:
    same = replace(image_set(2), images=np.zeros((2, 28, 28), np.uint8))
    first, second = commit_images(path, "chest", same, PURPOSES).commitments
    assert first != second


def test_what_is_kept_is_private_and_comes_back_equal(
    path: Path, committed: CommittedDataset
) -> None:
    assert path.stat().st_mode & 0o777 == 0o600
    found = load_dataset(path)
    assert found.terms == committed.terms
    assert found.commitments == committed.commitments
    assert np.array_equal(found.images, committed.images)
    assert np.array_equal(found.salts, committed.salts)


def test_committing_again_keeps_the_salts(path: Path, committed: CommittedDataset) -> None:
    again = commit_images(path, "chest", image_set(), PURPOSES)
    assert again.commitments == committed.commitments


@pytest.mark.parametrize("what", ["name", "purposes", "images", "labels"])
def test_committing_other_images_over_kept_ones_is_refused(
    path: Path, committed: CommittedDataset, what: str
) -> None:
    before = path.read_bytes()
    other = image_set(seed=1) if what == "images" else image_set()
    if what == "labels":
        other = replace(other, labels=1 - other.labels)
    with pytest.raises(InvalidInputError, match="found another"):
        commit_images(
            path,
            "head" if what == "name" else committed.terms.name,
            other,
            frozenset({4}) if what == "purposes" else PURPOSES,
        )
    assert path.read_bytes() == before


def test_registering_again_finds_the_version(committed: CommittedDataset) -> None:
    registry = Registry()
    version = register(committed, registry, HOSPITAL)
    assert register(committed, registry, HOSPITAL) == version
    assert len(registry.versions) == 1


def test_a_correction_names_the_version_that_it_supersedes(
    tmp_path: Path, committed: CommittedDataset
) -> None:
    registry = Registry()
    first = register(committed, registry, HOSPITAL)
    better = commit_images(tmp_path / "2.npz", "chest", image_set(4), PURPOSES, previous=first)
    second = register(better, registry, HOSPITAL)
    assert registry.versions[second].previous == first


def test_erasing_an_image_leaves_the_others_provable(
    path: Path, committed: CommittedDataset
) -> None:
    salt, image = committed.salts[2].tobytes(), committed.images[2].tobytes()
    assert salt in path.read_bytes()
    rest = erase_images(path, {committed.commitments[2]})
    assert salt not in path.read_bytes()
    assert image not in path.read_bytes()
    assert rest.terms == committed.terms
    assert rest.labels.tolist() == [0, 1, 1, 0]
    for index in (0, 1, 3, 4):
        assert_proves(load_dataset(path), index)
        assert prove_image(rest, index) == prove_image(committed, index)


@pytest.mark.parametrize(
    ("index", "told"), [(2, "found 2 that was erased"), (5, "found 5$"), (-1, "found -1$")]
)
def test_an_image_that_is_not_there_cannot_be_proved(
    path: Path, committed: CommittedDataset, index: int, told: str
) -> None:
    assert committed.terms.images == 5
    rest = erase_images(path, {committed.commitments[2]})
    with pytest.raises(InvalidInputError, match=f"image that is kept, of 0 to 4, {told}"):
        prove_image(rest, index)


def test_a_damaged_file_is_refused(path: Path, committed: CommittedDataset) -> None:
    assert committed
    raw = path.read_bytes()
    for damaged in (b"", raw[:100], raw[:-40], raw.replace(b"kept.npy", b"left.npy")):
        path.write_bytes(damaged)
        with pytest.raises(InvalidInputError, match="damaged"):
            load_dataset(path)
    path.unlink()
    with pytest.raises(InvalidInputError, match="found no file"):
        load_dataset(path)
