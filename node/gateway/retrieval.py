"""WADO-RS: an instance's bytes, headers, frames and pictures (DICOM PS3.18, section 8.3.5 on).

Instances lie in Explicit VR Little Endian and go out so.
"""

import io
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pydicom.dataset import Dataset
from pydicom.pixels.processing import apply_modality_lut, apply_voi_lut
from pydicom.pixels.utils import get_expected_length, pixel_array

from chain.errors import InvalidInputError
from node.dicom import quoting_nothing

DICOM, OCTETS, JSON = "application/dicom", "application/octet-stream", "application/dicom+json"
JPEG, PNG = "image/jpeg", "image/png"
SYNTAX = "1.2.840.10008.1.2.1"
MAX_FRAMES = 256  # in one request
_BULK = frozenset({"OB", "OD", "OF", "OL", "OV", "OW", "UN"})
_INLINE = 1024  # bytes of a value that stands in the metadata
_PIXELS = ("PixelData", "FloatPixelData", "DoubleFloatPixelData")
_NUMBER = r"-?[0-9]{1,9}(?:\.[0-9]{1,9})?"
_WINDOW = re.compile(rf"({_NUMBER}),({_NUMBER})(?:,linear)?", re.ASCII)
_RANGE = re.compile(r'(?:[^,"]|"[^"]*")+')


@dataclass(frozen=True, slots=True)
class Rendering:
    """How a picture is made.

    Attributes:
        kind: `JPEG` or `PNG`.
        window: Center and width; None for the instance's own.
        quality: Of JPEG, 1 to 100.
    """

    kind: str
    window: tuple[float, float] | None = None
    quality: int = 90


def chosen(accept: str, kinds: tuple[str, ...], *, single: bool) -> tuple[str, bool] | None:
    """Choose the form of an answer.

    Args:
        accept: The request's `Accept` header; empty takes anything.
        kinds: Media types that there are, the preferred one first.
        single: Whether an answer without multipart is possible, too.

    Returns:
        The media type, and whether it goes in multipart/related; None if nothing suits.
    """
    for one in _RANGE.findall(accept[:4096] or "*/*"):
        media, parameters = _media(one)
        syntax = parameters.get("transfer-syntax", "*")
        if syntax not in {"*", SYNTAX}:
            continue
        if media in {"*/*", "multipart/*"}:
            return kinds[0], media != "*/*" or not single
        if media == "multipart/related":
            wanted = parameters.get("type", kinds[0])
            if wanted in kinds or wanted == "*/*":
                return (wanted if wanted in kinds else kinds[0]), True
        if single and media in kinds:
            return media, False
        if single and media == "image/*" and kinds[0].startswith("image/"):
            return kinds[0], False
    return None


def read_rendering(kind: str, parameters: Mapping[str, str]) -> Rendering:
    """Read the parameters of a rendered picture.

    Raises:
        InvalidInputError: If one is unknown or malformed.
    """
    window, quality = None, 90
    for name, value in parameters.items():
        if name == "window" and (found := _WINDOW.fullmatch(value)):
            window = float(found[1]), float(found[2])
        elif name == "quality" and re.fullmatch("[1-9][0-9]?|100", value, re.ASCII):
            quality = int(value)
        elif name != "accept":
            raise InvalidInputError("expected window=CENTER,WIDTH or quality=1 to 100")
    return Rendering(kind, window, quality)


def read_frames(text: str, frames: int) -> tuple[int, ...] | None:
    """Read a list of frame numbers, from 1; None if it is none or there is none of a number."""
    if re.fullmatch(r"[1-9][0-9]{0,5}(?:,[1-9][0-9]{0,5})*", text, re.ASCII) is None:
        return None
    numbers = tuple(map(int, text.split(",")))
    return numbers if len(numbers) <= MAX_FRAMES and max(numbers) <= frames else None


def metadata(dataset: Dataset, url: str) -> dict[str, Any]:
    """Write an instance's attributes as DICOM JSON, with addresses in place of bulk data.

    Raises:
        InvalidInputError: If a value cannot be written.
    """
    told: dict[str, Any] = {}
    with quoting_nothing():
        for element in dataset:
            name = f"{element.tag:08X}"
            if element.VR in _BULK and len(element.value or b"") > _INLINE:
                told[name] = {"vr": element.VR, "BulkDataURI": f"{url}/bulkdata/{name}"}
            else:
                told[name] = element.to_json_dict(None, 1 << 30)
    return told


def bulk_data(dataset: Dataset, tag: str) -> bytes | None:
    """Return the bytes of a top-level element that `metadata` gives an address for."""
    if re.fullmatch("[0-9A-F]{8}", tag, re.ASCII) is None or int(tag, 16) not in dataset:
        return None
    element = dataset[int(tag, 16)]
    if element.VR not in _BULK or not isinstance(element.value, bytes):
        return None
    return element.value


def frame_bytes(dataset: Dataset, number: int, frames: int) -> bytes:
    """Return a frame's pixels as they lie in the instance.

    Raises:
        InvalidInputError: If the pixels are fewer than the header says.
    """
    with quoting_nothing():
        keyword = next((one for one in _PIXELS if one in dataset), None)
        if keyword is None:
            raise InvalidInputError("expected an instance with pixels, found none")
        value: bytes = dataset[keyword].value
        if dataset.BitsAllocated == 1:
            count = int(dataset.Rows) * int(dataset.Columns)
            bits = np.unpackbits(np.frombuffer(value, np.uint8), bitorder="little")
            own = bits[(number - 1) * count : number * count]
            return np.packbits(own, bitorder="little").tobytes()
        size = get_expected_length(dataset, "bytes") // frames
        found = value[(number - 1) * size : number * size]
    if len(found) != size:
        raise InvalidInputError(f"expected {size} bytes of a frame, found {len(found)}")
    return found


def render(dataset: Dataset, number: int, how: Rendering) -> bytes:
    """Draw a frame as a picture for people, through its lookup tables and window.

    Raises:
        InvalidInputError: If it has no pixels, or they cannot be drawn.
    """
    from PIL import Image

    with quoting_nothing():
        pixels = pixel_array(dataset, index=number - 1)
        if int(dataset.get("SamplesPerPixel") or 1) == 1:
            pixels = _windowed(dataset, pixels, how.window)
        elif pixels.dtype != np.uint8:
            pixels = _stretched(pixels.astype(np.float64))
        file = io.BytesIO()
        picture = Image.fromarray(pixels)
        if how.kind == PNG:
            picture.save(file, "PNG")
        else:
            picture.save(file, "JPEG", quality=how.quality)
    return file.getvalue()


def _windowed(
    dataset: Dataset, pixels: NDArray[Any], window: tuple[float, float] | None
) -> NDArray[np.uint8]:
    values = apply_modality_lut(pixels, dataset)
    if window is not None:
        center, width = window
        low = center - max(width, 1) / 2
        shown = _between(values.astype(np.float64), low, low + max(width, 1))
    elif "WindowCenter" in dataset or "VOILUTSequence" in dataset:
        shown = _stretched(apply_voi_lut(values, dataset).astype(np.float64))
    else:
        shown = _stretched(values.astype(np.float64))
    return 255 - shown if dataset.get("PhotometricInterpretation") == "MONOCHROME1" else shown


def _stretched(values: NDArray[np.float64]) -> NDArray[np.uint8]:
    finite = values[np.isfinite(values)]
    if not finite.size:
        return np.zeros(values.shape, np.uint8)
    return _between(np.nan_to_num(values), float(finite.min()), float(finite.max()))


def _between(values: NDArray[np.float64], low: float, high: float) -> NDArray[np.uint8]:
    span = high - low or 1.0
    return (np.clip((values - low) / span, 0.0, 1.0) * 255).round().astype(np.uint8)


def _media(text: str) -> tuple[str, dict[str, str]]:
    media, *rest = text.split(";")
    parameters = {}
    for one in rest:
        name, _, value = one.partition("=")
        parameters[name.strip().lower()] = value.strip().strip('"')
    return media.strip().lower(), parameters
