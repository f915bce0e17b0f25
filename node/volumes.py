"""Volumes in NIfTI: voxels and where they lie, and nothing else.

A NIfTI header has room for descriptions, file names and whole DICOM headers as extensions (NIfTI-1,
sections on ``descrip``, ``aux_file``, ``db_name`` and extended headers). None of it is taken over.
"""

import gzip
import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

import nibabel
import numpy as np
from numpy.typing import NDArray

from chain.errors import InvalidInputError

MAX_VOLUME = 1 << 29  # bytes of voxels
_SIZES = {348: b"n+1\0", 540: b"n+2\0"}  # of the two kinds of header, and their magic
_KINDS = "biuf"
_NIFTI: Any = nibabel.Nifti1Image
_NIFTI_2: Any = nibabel.Nifti2Image
_TEXTS = ("descrip", "aux_file", "db_name", "intent_name", "data_type")


@dataclass(frozen=True, slots=True)
class Volume:
    """A volume.

    Attributes:
        voxels: As they are stored, of shape (x, y, z) with further dimensions behind.
        affine: float64 of shape (4, 4): from voxel to millimetres right, anterior, superior.
        scale: Slope and intercept from stored values to those that are meant.
        zooms: Size of a voxel in each dimension, in millimetres and seconds.
        texts: What stood in the header, to be looked for in what goes out.
    """

    voxels: NDArray[Any]
    affine: NDArray[np.float64]
    scale: tuple[float, float]
    zooms: tuple[float, ...]
    texts: list[str]

    def values(self) -> NDArray[np.float32]:
        """Return what the voxels mean."""
        slope, intercept = self.scale
        return np.asarray(
            self.voxels.astype(np.float32) * np.float32(slope) + np.float32(intercept)
        )


def is_volume(start: bytes) -> bool:
    """Tell from its first bytes whether a file may be a NIfTI volume, packed or not."""
    if start.startswith(b"\x1f\x8b"):
        return True
    size = _both_orders(start)
    return any(found in size and magic in start for found, magic in _SIZES.items())


def read_volume(path: Path) -> Volume:
    """Read a volume.

    Raises:
        InvalidInputError: If it is damaged, too large, or holds anything but real numbers.
    """
    try:
        with path.open("rb") as file:
            packed = file.read(2) == b"\x1f\x8b"
        opener = gzip.open if packed else open
        with opener(path, "rb") as file:
            image = _image(file)
            header = image.header
            shape, kind = header.get_data_shape(), header.get_data_dtype()
            _check_size(shape, kind)
            texts = _texts(header)
            voxels = np.array(image.dataobj.get_unscaled())
            affine = np.array(image.affine, dtype=np.float64)
            zooms = tuple(float(one) for one in header.get_zooms())
            slope, intercept = header.get_slope_inter()
            if slope is None:  # nibabel moves it into the proxy of the data
                slope, intercept = image.dataobj.slope, image.dataobj.inter
    except (InvalidInputError, MemoryError):
        raise
    except Exception as error:  # noqa: BLE001 - on damaged bytes nibabel raises any kind of error
        raise InvalidInputError(f"the volume is damaged ({type(error).__name__})") from None
    if voxels.ndim < 3 or not voxels.size or not np.isfinite(affine).all():  # noqa: PLR2004
        raise InvalidInputError("expected three dimensions and a place in space")
    scale = (float(slope), float(intercept or 0.0))
    return Volume(voxels, affine, scale, zooms, texts)


def write_volume(volume: Volume, file: BinaryIO) -> None:
    """Write a volume as NIfTI-1, with a header of its own."""
    voxels = volume.voxels.astype(volume.voxels.dtype.newbyteorder("<"))
    # The header is written by hand, as nibabel would rescale voxels that have a slope.
    image: Any = _NIFTI(voxels, volume.affine)
    header = image.header
    header.set_data_dtype(voxels.dtype)
    header.set_zooms(volume.zooms[: voxels.ndim])
    header.set_slope_inter(*volume.scale)
    header.set_xyzt_units("mm", "sec")
    header["vox_offset"] = 352
    header["magic"] = b"n+1"
    file.write(header.binaryblock)
    file.write(b"\0\0\0\0")
    file.write(voxels.tobytes(order="F"))


def _check_size(shape: tuple[int, ...], kind: np.dtype[Any]) -> None:
    if kind.kind not in _KINDS or math.prod(shape) * max(4, kind.itemsize) > MAX_VOLUME:
        raise InvalidInputError(f"expected at most {MAX_VOLUME} bytes of real numbers")


def _image(file: Any) -> Any:
    start = file.read(4)
    file.seek(0)
    kind = _NIFTI_2 if 540 in _both_orders(start) else _NIFTI  # noqa: PLR2004
    return kind.from_stream(file)


def _both_orders(start: bytes) -> set[int]:
    """Return the first number of a header, read in either byte order."""
    return {int.from_bytes(start[:4], "little"), int.from_bytes(start[:4], "big")}


def _texts(header: Any) -> list[str]:
    found = [bytes(header[name]) for name in _TEXTS if name in header]
    found += [
        bytes(one.get_content()) if isinstance(one.get_content(), bytes) else b""
        for one in header.extensions
    ]
    return [one.rstrip(b"\0").decode("latin-1") for one in found if one.strip(b"\0 ")]
