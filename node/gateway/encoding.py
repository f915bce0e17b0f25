"""Compressing an image for whoever asks for it so, without loss, and proving it before it goes.

Instances lie uncompressed (`node.pixels` says why) and are committed to by their pixels. A viewer
far away may ask for them in JPEG-LS, JPEG 2000 or RLE: the same pixels in fewer bytes. What was
compressed is decompressed again and compared, so no encoder has to be believed.
"""

import io

import numpy as np
from pydicom.dataset import Dataset, FileDataset, FileMetaDataset
from pydicom.encaps import get_frame
from pydicom.pixels.utils import pixel_array
from pydicom.uid import UID, ExplicitVRLittleEndian

from chain.errors import InvalidInputError
from node.dicom import quoting_nothing
from node.gateway.accepting import JPEG_2000, JPEG_LS, RLE

_PIXEL = (
    "SamplesPerPixel",
    "PhotometricInterpretation",
    "PlanarConfiguration",
    "Rows",
    "Columns",
    "BitsAllocated",
    "BitsStored",
    "HighBit",
    "PixelRepresentation",
)
# Named, as pydicom else takes any that is installed, and GDCM ends the process on some images.
_PLUGINS = {JPEG_LS: "pyjpegls", JPEG_2000: "pylibjpeg", RLE: "pydicom"}
_LEAST_SIDE = 32  # pixels; of what is smaller JPEG 2000 makes no five coarser copies
_KINDS = {("MONOCHROME1", 1), ("MONOCHROME2", 1), ("RGB", 3)}


def is_compressible(header: Dataset) -> bool:
    """Tell whether an instance has pixels that are compressed here."""
    kind = str(header.get("PhotometricInterpretation")), int(header.get("SamplesPerPixel") or 1)
    sides = [int(header.get(side) or 0) for side in ("Rows", "Columns")]
    return kind in _KINDS and header.get("BitsAllocated") in {8, 16} and min(sides) >= _LEAST_SIDE


def compress_instance(dataset: FileDataset, syntax: str) -> bytes:
    """Return an instance's file with its pixels compressed.

    Raises:
        InvalidInputError: If they cannot be compressed without loss.
    """
    with quoting_nothing():
        _compress(dataset, syntax)
        file = io.BytesIO()
        dataset.save_as(file, enforce_file_format=True)
    return file.getvalue()


def compress_frame(dataset: Dataset, pixels: bytes, syntax: str) -> bytes:
    """Return one frame, compressed.

    Args:
        dataset: Its instance.
        pixels: Its pixels.
        syntax: The transfer syntax.

    Raises:
        InvalidInputError: If they cannot be compressed without loss.
    """
    with quoting_nothing():
        meta = FileMetaDataset()
        meta.TransferSyntaxUID = ExplicitVRLittleEndian
        frame = FileDataset("", {}, file_meta=meta)
        for keyword in _PIXEL:
            if keyword in dataset:
                setattr(frame, keyword, dataset[keyword].value)
        frame.PixelData = pixels + b"\0" * (len(pixels) % 2)
        frame["PixelData"].VR = "OB" if dataset.BitsAllocated == 8 else "OW"  # noqa: PLR2004 - a byte
        _compress(frame, syntax)
        return get_frame(frame.PixelData, 0, number_of_frames=1)


def _compress(dataset: FileDataset, syntax: str) -> None:
    before = np.array(pixel_array(dataset))
    plugin = _PLUGINS[syntax]
    dataset.compress(UID(syntax), encoding_plugin=plugin, generate_instance_uid=False)
    after = pixel_array(dataset, decoding_plugin=plugin)
    if before.dtype != after.dtype or not np.array_equal(before, after):
        raise InvalidInputError(f"expected the same pixels after {UID(syntax).name}, found others")
