"""Archives in MedMNIST's form: a zip file of ``{train,val,test}_{images,labels}.npy``.

Every size is checked before memory is asked for, and images go through in small batches, so that
an archive needs no more memory than a few of its images.
"""

import math
import zipfile
from collections.abc import Callable, Iterator
from typing import IO, Any, BinaryIO

import numpy as np
from numpy.lib import format as npy
from numpy.typing import NDArray

from chain.errors import InvalidInputError

PARTS = ("train", "val", "test")
MAX_ARCHIVE = 1 << 31  # bytes, packed and unpacked
MAX_SIDE = 4096  # pixels
_MEMBERS = frozenset(f"{part}_{what}.npy" for part in PARTS for what in ("images", "labels"))
_HEADER = 1 << 16  # bytes of an .npy header
_BATCH = 1 << 24  # bytes
_DIMENSIONS = (3, 4)  # images in grey; in colour, or of three dimensions


def check_members(archive: zipfile.ZipFile) -> None:
    """Refuse an archive that holds anything else, or unpacks to more than a machine should hold."""
    names = [member.filename for member in archive.infolist()]
    if not set(names) <= _MEMBERS or len(set(names)) != len(names):
        raise InvalidInputError(
            f"expected the arrays {', '.join(sorted(_MEMBERS))}, each at most once, found others"
        )
    # A member is never read beyond this size, whatever its packed bytes hold (zip bombs).
    total = sum(member.file_size for member in archive.infolist())
    if total > MAX_ARCHIVE:
        raise InvalidInputError(
            f"expected arrays of at most {MAX_ARCHIVE} bytes in all, found {total}"
        )


def parts_of(archive: zipfile.ZipFile) -> tuple[str, ...]:
    """Return the parts that an archive has, once it was checked.

    Raises:
        InvalidInputError: If it is no such archive.
    """
    check_members(archive)
    names = archive.namelist()
    parts = tuple(part for part in PARTS if f"{part}_images.npy" in names)
    if not parts:
        raise InvalidInputError("expected images of a part, found none")
    return parts


def shape_of(archive: zipfile.ZipFile, part: str) -> tuple[int, ...]:
    """Return the shape of a part's images."""
    if f"{part}_images.npy" not in archive.namelist():
        raise InvalidInputError(f"expected the array {part}_images.npy, found none")
    with archive.open(f"{part}_images.npy") as file:
        shape, _ = _checked_header(file, archive, f"{part}_images.npy")
    if len(shape) not in _DIMENSIONS or 0 in shape or max(shape[1:3]) > MAX_SIDE:
        raise InvalidInputError(
            f"expected images of shape (n, height, width) with sides of 1 to {MAX_SIDE}, or with "
            f"a further dimension, found {shape}"
        )
    return shape


def write_images(
    archive: zipfile.ZipFile,
    part: str,
    file: BinaryIO,
    on_image: Callable[[NDArray[Any]], None] = lambda _: None,
) -> None:
    """Write a part's images as one array, uint8 as they are and float32 otherwise.

    Args:
        archive: It was checked.
        part: ``train``, ``val`` or ``test``.
        file: Receives an .npy file.
        on_image: Called with each image, which it may change, before it is written.
    """
    shape = shape_of(archive, part)
    first = True
    for batch in _batches(archive, f"{part}_images.npy", shape):
        kept = batch if batch.dtype == np.uint8 else batch.astype(np.float32)
        if not np.isfinite(kept).all():
            raise InvalidInputError("expected finite images, found others")
        if first:
            header = {"descr": kept.dtype.str, "fortran_order": False, "shape": shape}
            npy.write_array_header_1_0(file, header)
            first = False
        for image in kept:
            on_image(image)
        file.write(kept.tobytes())


def read_labels(archive: zipfile.ZipFile, part: str, count: int) -> NDArray[np.int64]:
    """Return a part's labels, one whole number from 0 for each image."""
    labels = read_array(archive, f"{part}_labels.npy")
    if labels.shape not in {(count,), (count, 1)} or labels.dtype.kind not in "iu":
        raise InvalidInputError(
            f"expected one whole number as label for each of {count} images, found "
            f"{labels.dtype} {labels.shape}"
        )
    if labels.min() < 0:
        raise InvalidInputError("expected labels from 0, found others")
    return labels.reshape(-1).astype(np.int64)


def read_array(archive: zipfile.ZipFile, name: str) -> NDArray[Any]:
    """Read one member whole."""
    if name not in archive.namelist():
        raise InvalidInputError(f"expected the array {name}, found none")
    with archive.open(name) as file:
        _checked_header(file, archive, name)
    with archive.open(name) as file:
        array: NDArray[Any] = npy.read_array(file, allow_pickle=False, max_header_size=_HEADER)
    return array


def _batches(archive: zipfile.ZipFile, name: str, shape: tuple[int, ...]) -> Iterator[NDArray[Any]]:
    """Yield a member's images, a few at a time."""
    with archive.open(name) as file:
        _, kind = _checked_header(file, archive, name)
        if _order(archive, name):
            yield read_array(archive, name)
            return
        size = math.prod(shape[1:]) * kind.itemsize
        count = max(1, _BATCH // size)
        for start in range(0, shape[0], count):
            wanted = min(count, shape[0] - start)
            data = _exactly(file, wanted * size)
            yield np.frombuffer(bytearray(data), kind).reshape(wanted, *shape[1:])


def _exactly(file: IO[bytes], size: int) -> bytes:
    data = file.read(size)
    if len(data) != size:
        raise InvalidInputError(f"expected {size} more bytes of an array, found {len(data)}")
    return data


def _checked_header(
    file: IO[bytes], archive: zipfile.ZipFile, name: str
) -> tuple[tuple[int, ...], np.dtype[Any]]:
    shape, _, kind = _read_header(file, name)
    size = math.prod(shape) * kind.itemsize
    if kind.kind not in "biuf" or file.tell() + size != archive.getinfo(name).file_size:
        raise InvalidInputError(
            f"{name}: expected numbers that fill the member, found {kind} {shape}"
        )
    return shape, kind


def _order(archive: zipfile.ZipFile, name: str) -> bool:
    with archive.open(name) as file:
        return _read_header(file, name)[1]


def _read_header(file: IO[bytes], what: str) -> tuple[tuple[int, ...], bool, np.dtype[Any]]:
    readers = {(1, 0): npy.read_array_header_1_0, (2, 0): npy.read_array_header_2_0}
    version = npy.read_magic(file)
    if version not in readers:
        raise InvalidInputError(f"{what}: expected .npy version 1.0 or 2.0, found {version}")
    shape, fortran, kind = readers[version](file, max_header_size=_HEADER)
    return shape, fortran, kind
