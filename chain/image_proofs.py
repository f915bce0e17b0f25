"""Proofs that an image is in a data-set version: see docs/protocol.md, sections 4.1 and 4.2."""

from dataclasses import dataclass
from pathlib import Path

from chain.canonical import canonical_json, parse_json
from chain.commitments import commit
from chain.errors import DigestMismatchError, InvalidInputError
from chain.files import replacing
from chain.merkle import image_leaf, verify_inclusion
from chain.wire import from_hex, from_json_dict, to_hex, to_json_dict

MAX_FILE = 16_384  # bytes


@dataclass(frozen=True, slots=True)
class ImageProof:
    """That an image is in a version: with salt and image digest it shows which image.

    Attributes:
        root: The version's Merkle root.
        commitment: The image's commitment.
        proof: The nodes from its leaf to the root.
        salt: The image's salt, which lets the holder check the image against the commitment.
        image_digest: The digest of the image.
    """

    root: bytes
    commitment: bytes
    proof: tuple[bytes, ...]
    salt: bytes
    image_digest: bytes


def verify_image(shown: ImageProof, root: bytes) -> None:
    """Check that an image is in a version.

    (1) Salt and image digest give the commitment.
    (2) The proof leads from the commitment's leaf to the root.

    Args:
        shown: What the hospital showed.
        root: The version's Merkle root, as the ledger has it.

    Raises:
        DigestMismatchError: If the commitment is to another image.
        InclusionProofError: If the proof leads elsewhere.
    """
    # (1) The commitment is to this image.
    found = commit(shown.salt, shown.image_digest)
    if found != shown.commitment:
        raise DigestMismatchError("commitment", shown.commitment.hex(), found.hex())
    # (2) The commitment is in the version.
    verify_inclusion(root, image_leaf(shown.commitment), shown.proof)


def write_proof(path: Path, version: bytes, shown: ImageProof) -> None:
    """Write a proof, with the version that it is about, as JSON; only the owner can read the file.

    Raises:
        OSError: If the file cannot be written.
    """
    with replacing(path) as file:
        file.write(canonical_json({"version": to_hex(version), **to_json_dict(shown)}))


def read_proof(path: Path) -> tuple[bytes, ImageProof]:
    """Read a version and a proof about it, which are still to be verified.

    Raises:
        InvalidInputError: If the file is not of the form that `write_proof` gives it.
        OSError: If it cannot be read.
    """
    with path.open("rb") as file:
        members = parse_json(file.read(MAX_FILE + 1), MAX_FILE)
    if not isinstance(members, dict):
        raise InvalidInputError(f"{path}: expected a JSON object, found something else")
    version = from_hex(members.pop("version", None), "version")
    return version, from_json_dict(ImageProof, members)
