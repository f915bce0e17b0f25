"""Whoever is shown an image can check that it is in the hospital's version, and that one alone."""

from dataclasses import replace
from pathlib import Path

import pytest

from chain.commitments import commit
from chain.errors import DigestMismatchError, InclusionProofError, InvalidInputError
from chain.image_proofs import ImageProof, read_proof, verify_image, write_proof
from chain.merkle import image_leaf, image_leaves, merkle_proof, merkle_root
from tests.federation import digest

IMAGES = [digest(f"image {n}") for n in range(5)]
SALTS = [digest(f"salt {n}") for n in range(5)]
COMMITMENTS = [commit(salt, image) for salt, image in zip(SALTS, IMAGES, strict=True)]
LEAVES = image_leaves(COMMITMENTS)
ROOT = merkle_root(LEAVES)
SHOWN = ImageProof(
    root=ROOT,
    commitment=COMMITMENTS[2],
    proof=merkle_proof(LEAVES, LEAVES.index(image_leaf(COMMITMENTS[2]))),
    salt=SALTS[2],
    image_digest=IMAGES[2],
)


def test_an_image_of_the_version_is_found_in_it() -> None:
    verify_image(SHOWN, ROOT)


def test_another_image_than_the_committed_one_is_refused() -> None:
    with pytest.raises(DigestMismatchError, match="commitment"):
        verify_image(replace(SHOWN, image_digest=IMAGES[1]), ROOT)


def test_an_image_of_another_version_is_refused_whatever_root_the_proof_states() -> None:
    with pytest.raises(InclusionProofError):
        verify_image(SHOWN, digest("another root"))
    foreign = commit(SALTS[0], digest("a foreign image"))
    strange = replace(
        SHOWN, commitment=foreign, salt=SALTS[0], image_digest=digest("a foreign image")
    )
    with pytest.raises(InclusionProofError):
        verify_image(strange, ROOT)


def test_a_proof_is_read_as_it_was_written(tmp_path: Path) -> None:
    path = tmp_path / "proof.json"
    write_proof(path, digest("version"), SHOWN)
    assert read_proof(path) == (digest("version"), SHOWN)
    assert path.stat().st_mode & 0o077 == 0


@pytest.mark.parametrize("content", [b"[]", b"{}", b'{"version":"0x00"}', b"{", b" " * 20_000])
def test_a_file_that_is_no_proof_is_refused(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "proof.json"
    path.write_bytes(content)
    with pytest.raises(InvalidInputError):
        read_proof(path)
