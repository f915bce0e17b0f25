"""Salted commitments to images.

See docs/protocol.md, section 4.1. The salt makes a commitment useless to someone who guesses the
image, and deleting salt and image erases the image.
"""

import os
from typing import Any

import numpy as np

from chain.canonical import canonical_json
from chain.digests import sha256, sha256_stream
from chain.errors import InvalidInputError

SALT_BYTES = 32
_PIXELS_TAG = b"fedwitness.pixels.v1"
_KINDS = "biuf"  # booleans, integers and floats: what pixels are made of


def image_digest(pixels: np.ndarray[Any, np.dtype[Any]]) -> bytes:
    """Compute the digest of a de-identified image.

    Args:
        pixels: Array of any shape; integers, floats or booleans.

    Raises:
        InvalidInputError: If the array holds anything else.
    """
    if pixels.dtype.kind not in _KINDS:
        message = f"expected pixels that are numbers, found dtype {pixels.dtype}"
        raise InvalidInputError(message)
    ordered = np.asarray(pixels, dtype=pixels.dtype.newbyteorder("<"), order="C")
    description = canonical_json({"dtype": ordered.dtype.str, "shape": list(ordered.shape)})
    head = _PIXELS_TAG + len(description).to_bytes(8, "big") + description
    return sha256_stream((head, ordered.tobytes()))


def new_salt() -> bytes:
    """Draw the salt of one image: 32 random bytes."""
    return os.urandom(SALT_BYTES)


def commit(salt: bytes, image: bytes) -> bytes:
    """Commit to an image by its digest.

    Raises:
        InvalidInputError: If the salt is not 32 bytes long.
    """
    if len(salt) != SALT_BYTES:
        message = f"expected a salt of {SALT_BYTES} bytes, found {len(salt)}"
        raise InvalidInputError(message)
    return sha256(salt + image)
