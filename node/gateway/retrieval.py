"""WADO-RS: headers, bulk data, frames and pictures (DICOM PS3.18, sections 8.3.5 and 10.4)."""

import io
import math
import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pydicom.dataset import Dataset
from pydicom.pixels.processing import apply_modality_lut, apply_voi_lut
from pydicom.pixels.utils import get_expected_length, pixel_array

from chain.errors import InvalidInputError
from node.dicom import quoting_nothing
from node.gateway.accepting import PNG

MAX_FRAMES = 256  # in one request
_BULK = frozenset({"OB", "OD", "OF", "OL", "OV", "OW", "UN"})
_INLINE = 1024  # bytes of a value that stands in the metadata
_PIXELS = ("PixelData", "FloatPixelData", "DoubleFloatPixelData")
_NUMBER = r"-?[0-9]{1,9}(?:\.[0-9]{1,9})?"
_WINDOW = re.compile(rf"({_NUMBER}),({_NUMBER})(?:,(linear|linear-exact|sigmoid))?", re.ASCII)
_VIEWPORT = re.compile(r"([1-9][0-9]{0,3}),([1-9][0-9]{0,3})", re.ASCII)
THUMBNAIL = (128, 128)  # pixels
MAX_ENLARGED = 1 << 25  # pixels of all pictures in one answer that are made to fit a viewport


@dataclass(frozen=True, slots=True)
class Rendering:
    """How a picture is made.

    Attributes:
        kind: `JPEG` or `PNG`.
        window: Center, width and function; None for the instance's own.
        quality: Of JPEG, 1 to 100.
        viewport: The width and height that it is made as large as possible for; None for its own.
    """

    kind: str
    window: tuple[float, float, str] | None = None
    quality: int = 90
    viewport: tuple[int, int] | None = None


def read_rendering(kind: str, parameters: Mapping[str, str]) -> Rendering:
    """Read the parameters of a rendered picture (PS3.18, section 8.3.5.1).

    Raises:
        InvalidInputError: If one is unknown or malformed.
    """
    window, quality, viewport = None, 90, None
    for name, value in parameters.items():
        if name == "window" and (found := _WINDOW.fullmatch(value)):
            window = float(found[1]), float(found[2]), found[3] or "linear"
        elif name == "quality" and re.fullmatch("[1-9][0-9]?|100", value, re.ASCII):
            quality = int(value)
        elif name == "viewport" and (found := _VIEWPORT.fullmatch(value)):
            viewport = int(found[1]), int(found[2])
        elif name != "accept":
            raise InvalidInputError(
                "expected window=CENTER,WIDTH or window=CENTER,WIDTH,FUNCTION (linear, "
                "linear-exact, sigmoid), quality=1 to 100, viewport=WIDTH,HEIGHT"
            )
    return Rendering(kind, window, quality, viewport)


def read_frames(text: str, frames: int) -> tuple[int, ...] | None:
    """Read a list of frame numbers, from 1; None if it is none or there is none of a number.

    No number may stand twice, as PS3.18 has it: else a line of text becomes gigabytes.
    """
    if re.fullmatch(r"[1-9][0-9]{0,5}(?:,[1-9][0-9]{0,5})*", text, re.ASCII) is None:
        return None
    numbers = tuple(map(int, text.split(",")))
    if len(numbers) > MAX_FRAMES or len(set(numbers)) < len(numbers) or max(numbers) > frames:
        return None
    return numbers


def bounded(how: Rendering, pictures: int) -> Rendering:
    """Keep pictures that are made to fit a viewport within `MAX_ENLARGED`, all together."""
    if how.viewport is None:
        return how
    most = math.isqrt(MAX_ENLARGED // pictures)
    return replace(how, viewport=(min(how.viewport[0], most), min(how.viewport[1], most)))


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
        if how.viewport is not None:
            share = min(how.viewport[0] / picture.width, how.viewport[1] / picture.height)
            sides = [max(1, round(side * share)) for side in picture.size]
            picture = picture.resize((sides[0], sides[1]))
        if how.kind == PNG:
            picture.save(file, "PNG")
        else:
            picture.save(file, "JPEG", quality=how.quality)
    return file.getvalue()


def _windowed(
    dataset: Dataset, pixels: NDArray[Any], window: tuple[float, float, str] | None
) -> NDArray[np.uint8]:
    values = apply_modality_lut(pixels, dataset)
    if window is not None:
        shown = _through(values.astype(np.float64), *window)
    elif "WindowCenter" in dataset or "VOILUTSequence" in dataset:
        shown = _stretched(apply_voi_lut(values, dataset).astype(np.float64))
    else:
        shown = _stretched(values.astype(np.float64))
    return 255 - shown if dataset.get("PhotometricInterpretation") == "MONOCHROME1" else shown


def _through(
    values: NDArray[np.float64], center: float, width: float, function: str
) -> NDArray[np.uint8]:
    """Look at values through a window (PS3.3, section C.11.2.1.2 and its subsections)."""
    if function == "linear":
        center, width = center - 0.5, max(width, 1) - 1
    width = max(width, 1e-9)
    if function == "sigmoid":
        steep = np.clip(-4 * (values - center) / width, -700, 700)
        return (255 / (1 + np.exp(steep))).round().astype(np.uint8)
    return _between(values, center - width / 2, center + width / 2)


def _stretched(values: NDArray[np.float64]) -> NDArray[np.uint8]:
    finite = values[np.isfinite(values)]
    if not finite.size:
        return np.zeros(values.shape, np.uint8)
    return _between(np.nan_to_num(values), float(finite.min()), float(finite.max()))


def _between(values: NDArray[np.float64], low: float, high: float) -> NDArray[np.uint8]:
    span = high - low or 1.0
    return (np.clip((values - low) / span, 0.0, 1.0) * 255).round().astype(np.uint8)
