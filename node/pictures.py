"""Pictures in PNG and JPEG: pixels in, and nothing else."""

import struct
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import NDArray
from PIL import Image, UnidentifiedImageError

from chain.errors import InvalidInputError

MAX_PICTURE = 1 << 28  # pixels
_FORMATS = ("PNG", "JPEG")
_DEEP = frozenset({"I", "I;16", "I;16B", "I;16L"})
_CHUNKS = frozenset({"1", "L", "LA"})


@dataclass(frozen=True, slots=True)
class Picture:
    """A picture as it came.

    Attributes:
        pixels: uint8 or uint16 of shape (height, width), or uint8 of (height, width, 3).
        texts: What stood beside the pixels, to be looked for in what goes out.
    """

    pixels: NDArray[Any]
    texts: list[str]


def is_picture(start: bytes) -> bool:
    """Tell from its first bytes whether a file may be a picture."""
    return start.startswith((b"\x89PNG\r\n\x1a\n", b"\xff\xd8\xff"))


def read_picture(path: Path) -> Picture:
    """Read a picture. Its grid stays as it is stored; what it says of its orientation goes.

    Raises:
        InvalidInputError: If it is damaged or too large.
    """
    try:
        with Image.open(path, formats=_FORMATS) as image:
            if image.width * image.height > MAX_PICTURE:
                raise InvalidInputError(f"expected at most {MAX_PICTURE} pixels")
            texts = _texts(image)
            if image.mode in _DEEP:
                pixels = np.asarray(image).astype(np.uint16)
            else:
                pixels = np.array(image.convert("L" if image.mode in _CHUNKS else "RGB"))
    except (UnidentifiedImageError, OSError, SyntaxError, ValueError, struct.error) as error:
        raise InvalidInputError(f"the picture is damaged ({type(error).__name__})") from None
    return Picture(pixels, texts)


def write_picture(pixels: NDArray[Any], file: BinaryIO) -> None:
    """Write pixels as PNG, with nothing beside them."""
    Image.fromarray(pixels).save(file, format="PNG")


def _texts(image: Image.Image) -> list[str]:
    found = [value for value in image.info.values() if isinstance(value, (str, bytes))]
    found += [value for value in image.getexif().values() if isinstance(value, (str, bytes))]
    return [
        value if isinstance(value, str) else value.decode("latin-1")
        for value in found
        if len(value) < 1 << 16
    ]
