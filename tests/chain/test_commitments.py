"""Commitments bind an image, its dtype and its shape, and hide it behind a salt."""

from hashlib import sha256
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis.extra import numpy as arrays

from chain.commitments import commit, image_digest, new_salt
from chain.errors import InvalidInputError

IMAGE = np.arange(12, dtype=np.uint16).reshape(3, 4)


def test_an_image_digest_hashes_the_documented_bytes() -> None:
    description = b'{"dtype":"<u2","shape":[3,4]}'
    length = len(description).to_bytes(8, "big")
    expected = sha256(b"fedwitness.pixels.v1" + length + description + IMAGE.tobytes())
    assert image_digest(IMAGE) == expected.digest()


def test_a_single_byte_dtype_has_no_byte_order() -> None:
    description = b'{"dtype":"|u1","shape":[1]}'
    length = len(description).to_bytes(8, "big")
    expected = sha256(b"fedwitness.pixels.v1" + length + description + b"\7")
    assert image_digest(np.array([7], dtype=np.uint8)) == expected.digest()


@given(arrays.arrays(np.int16, arrays.array_shapes(max_dims=3)))
def test_memory_order_and_byte_order_do_not_matter(image: np.ndarray[Any, Any]) -> None:
    assert image_digest(np.asfortranarray(image)) == image_digest(image)
    assert image_digest(image.astype(">i2")) == image_digest(image)


def test_shape_and_dtype_do_matter() -> None:
    others = (IMAGE.T, IMAGE.reshape(4, 3), IMAGE.astype(np.int16), IMAGE.astype(np.float32))
    assert len({image_digest(each) for each in (IMAGE, *others)}) == 5


def test_objects_are_no_pixels() -> None:
    with pytest.raises(InvalidInputError, match="numbers"):
        image_digest(np.array([None]))


def test_a_commitment_hashes_salt_and_image_digest() -> None:
    salt, image = b"\1" * 32, b"\2" * 32
    assert commit(salt, image) == sha256(salt + image).digest()
    assert new_salt() != new_salt()
    assert len(new_salt()) == 32


def test_a_short_salt_is_refused() -> None:
    with pytest.raises(InvalidInputError, match="salt of 32 bytes"):
        commit(b"\1" * 31, b"\2" * 32)
