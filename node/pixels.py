"""The pixels of one instance: decoded, cleaned of burned-in text, and made an array to learn from.

Pixels are always written as they were decoded. A compressed stream can carry comments, thumbnails
and bytes behind its end, and a native one padding and overlays in the bits that no pixel uses;
what was decoded has room for none of them.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pydicom.dataset import FileDataset
from pydicom.pixels.decoders.base import get_decoder
from pydicom.pixels.processing import apply_color_lut, apply_rescale
from pydicom.pixels.utils import pixel_array
from pydicom.uid import UID

from chain.errors import InvalidInputError
from node.burned_in import Box, clean
from node.dicom import quoting_nothing

MAX_PIXELS = 1 << 29  # bytes of one instance's pixels, decoded
_BIT = 1  # a mask and no picture: bits allocated
_KINDS = ("PixelData", "FloatPixelData", "DoubleFloatPixelData")
_STREAM = ("ExtendedOffsetTable", "ExtendedOffsetTableLengths")
_SIDES = 2  # dimensions of a grey frame


class UndecodablePixelsError(InvalidInputError):
    """No decoder is there for the pixels' transfer syntax."""


@dataclass(frozen=True, slots=True)
class Cleaned:
    """What was done to the pixels of one instance.

    Attributes:
        pixels: Its stored values: (rows, columns), with frames before and colours behind.
        boxes: The boxes that were blanked, with the frame that each is in.
        doubtful: Whether something is left that may be text, so that a person has to look.
    """

    pixels: NDArray[Any]
    boxes: tuple[tuple[int, Box], ...]
    doubtful: bool


def has_pixels(dataset: FileDataset) -> bool:
    """Tell whether an instance is an image."""
    return any(kind in dataset for kind in _KINDS)


def clean_pixels(dataset: FileDataset, *, looked_at: bool = False) -> Cleaned:
    """Blank burned-in text, and write the pixels uncompressed, in place.

    Args:
        dataset: An image.
        looked_at: Whether a person has looked at it and found no identity: nothing is blanked.

    Raises:
        UndecodablePixelsError: If there is no decoder for it.
        InvalidInputError: If the pixels are damaged or too many.
    """
    declared = str(dataset.get("BurnedInAnnotation") or "").strip().upper() == "YES"
    _check_size(dataset)
    with quoting_nothing():
        pixels = np.array(pixel_array(dataset))  # a copy, as decoders hand out what is theirs
    is_picture = dataset.BitsAllocated != _BIT
    boxes: tuple[tuple[int, Box], ...] = ()
    doubtful = False
    if is_picture and not looked_at:
        boxes, doubtful = _blank_all(dataset, _frames(dataset, pixels))
        # Whoever wrote the file knows of text that was not found.
        doubtful = doubtful or (declared and not boxes)
    if is_picture:
        _write(dataset, pixels)
    dataset.BurnedInAnnotation = "NO"
    return Cleaned(pixels, boxes, doubtful)


def image_of(dataset: FileDataset, pixels: NDArray[Any]) -> NDArray[Any]:
    """Return the array to learn from: units of the modality, and brighter is always more.

    Args:
        dataset: What the pixels are of, cleaned.
        pixels: Its stored values.

    Returns:
        float32 where the image is grey, else uint8 or uint16 in red, green and blue.

    Raises:
        InvalidInputError: If a value is not finite.
    """
    photometric = str(dataset.get("PhotometricInterpretation"))
    with quoting_nothing():
        if photometric == "PALETTE COLOR":
            return np.asarray(apply_color_lut(pixels, dataset))
        if int(dataset.get("SamplesPerPixel", 1)) > 1:
            return pixels
        values = np.asarray(apply_rescale(pixels, dataset), dtype=np.float32)
    if not np.isfinite(values).all():
        raise InvalidInputError("expected finite pixel values, found others")
    if photometric == "MONOCHROME1":  # the lowest value is white
        return np.asarray(values.max() - values, dtype=np.float32)
    return values


def _blank_all(
    dataset: FileDataset, frames: NDArray[Any]
) -> tuple[tuple[tuple[int, Box], ...], bool]:
    boxes: list[tuple[int, Box]] = []
    doubtful = False
    for number, frame in enumerate(frames):
        found, left = clean(frame, lambda frame: _shown(dataset, frame))
        boxes += [(number, box) for box in found]
        doubtful = doubtful or left
    return tuple(boxes), doubtful


def _shown(dataset: FileDataset, frame: NDArray[Any]) -> NDArray[Any]:
    """Return a frame as it is seen: stored values of a palette are no brightness."""
    if dataset.PhotometricInterpretation != "PALETTE COLOR":
        return frame
    with quoting_nothing():
        return np.asarray(apply_color_lut(frame, dataset))


def _frames(dataset: FileDataset, pixels: NDArray[Any]) -> NDArray[Any]:
    """View pixels as frames, each grey or in colour."""
    colours = int(dataset.get("SamplesPerPixel", 1)) > 1
    return pixels if pixels.ndim == _SIDES + colours + 1 else pixels[None]


def _write(dataset: FileDataset, pixels: NDArray[Any]) -> None:
    if pixels.dtype.kind == "f":
        kind = "FloatPixelData" if pixels.itemsize == 4 else "DoubleFloatPixelData"  # noqa: PLR2004
        dataset[kind].value = pixels.tobytes()
        return
    data = pixels.astype(pixels.dtype.newbyteorder("<")).tobytes()
    dataset.PixelData = data + b"\0" * (len(data) % 2)
    dataset["PixelData"].VR = "OB" if pixels.itemsize == 1 else "OW"
    dataset["PixelData"].is_undefined_length = False
    dataset.BitsAllocated = 8 * pixels.itemsize
    if int(dataset.get("SamplesPerPixel", 1)) > 1:
        dataset.PlanarConfiguration = 0
        if str(dataset.PhotometricInterpretation).startswith("YBR"):
            dataset.PhotometricInterpretation = "RGB"
    for keyword in _STREAM:
        if keyword in dataset:
            delattr(dataset, keyword)


def _check_size(dataset: FileDataset) -> None:
    """Refuse what is too large before any of its pixels is decoded."""
    with quoting_nothing():
        sides = [int(dataset.get(side) or 0) for side in ("Rows", "Columns")]
        others = [int(dataset.get(what) or 1) for what in ("NumberOfFrames", "SamplesPerPixel")]
        bits = int(dataset.get("BitsAllocated") or 0)
    if min(*sides, *others, bits) < 1:
        raise InvalidInputError("expected rows, columns, frames and bits, found none of one")
    size = sides[0] * sides[1] * others[0] * others[1] * max(1, bits // 8)
    if size > MAX_PIXELS:
        raise InvalidInputError(f"expected at most {MAX_PIXELS} bytes of pixels, found {size}")
    syntax = dataset.file_meta.get("TransferSyntaxUID")
    if syntax is None:
        raise InvalidInputError("expected a transfer syntax, found none")
    if syntax.is_encapsulated:
        _check_decoder(syntax)


def _check_decoder(syntax: UID) -> None:
    try:
        decoder = get_decoder(syntax)
    except NotImplementedError:
        raise UndecodablePixelsError(f"transfer syntax {syntax.name} has no decoder") from None
    if not decoder.is_available:
        raise UndecodablePixelsError(
            f"there is no decoder for {syntax.name}: install one "
            f"({'; '.join(decoder.missing_dependencies)}) or export the images uncompressed"
        )
