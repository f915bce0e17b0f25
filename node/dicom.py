"""DICOM files, read within bounds and written in one form, without a word about their contents.

Files are other people's: pydicom's errors, warnings and log entries quote values, which may be a
patient's name, so none of them is passed on.
"""

import logging
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO, Literal

import numpy as np
from pydicom import dcmread
from pydicom.dataelem import DataElement
from pydicom.dataset import Dataset, FileDataset, FileMetaDataset
from pydicom.errors import InvalidDicomError
from pydicom.filereader import read_file_meta_info
from pydicom.sequence import Sequence
from pydicom.tag import BaseTag
from pydicom.uid import (
    DeflatedExplicitVRLittleEndian,
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
)

from chain.errors import InvalidInputError

MAX_FILE = 1 << 29  # bytes
MAX_DEPTH = 32  # sequences in sequences
_GREATEST_RATIO = 1032  # of inflated to deflated bytes (zlib, technical details)
_PIXELS = BaseTag(0x7FE00010)
_SWAPPED = {"OW": 2, "OF": 4, "OL": 4, "OD": 8, "OV": 8}  # bytes of one number


def is_dicom(start: bytes) -> bool:
    """Tell from its first 132 bytes or more whether a file may be DICOM (PS3.10, section 7.1).

    Files without a preamble are old, and not rare: they begin with a tag of group 2 or 8.
    """
    if start[128:132] == b"DICM":
        return True
    if len(start) < 8:  # noqa: PLR2004 - a tag, and a length or kind
        return False
    # The first group of old files is 2 or 8, in either byte order, and its first element is low.
    orders: tuple[Literal["little", "big"], ...] = ("little", "big")
    for order in orders:
        group = int.from_bytes(start[:2], order)
        element = int.from_bytes(start[2:4], order)
        if group in {2, 8} and element <= 0x20:  # noqa: PLR2004
            return True
    return False


def read_instance(path: Path) -> FileDataset:
    """Read one DICOM file whole, with every value decoded and its numbers in little endian.

    Raises:
        InvalidInputError: If it is too large, is not DICOM, or is damaged.
    """
    size = path.stat().st_size
    if size > MAX_FILE:
        raise InvalidInputError(f"expected at most {MAX_FILE} bytes, found {size}")
    with quoting_nothing():
        with path.open("rb") as file:
            start = file.read(132)
        has_preamble = start[128:] == b"DICM"
        if not is_dicom(start):
            raise InvalidInputError("expected a DICOM file, found something else")
        if has_preamble:
            meta = read_file_meta_info(path)
            inflated = size * _GREATEST_RATIO
            deflated = meta.get("TransferSyntaxUID") == DeflatedExplicitVRLittleEndian
            if deflated and inflated > MAX_FILE:
                raise InvalidInputError(
                    f"expected a deflated file of at most {MAX_FILE // _GREATEST_RATIO} bytes, "
                    f"found {size}; export it without deflation"
                )
        dataset = dcmread(path, force=not has_preamble)
        # pydicom decodes a value when it is first asked for: ask now, where errors are expected.
        _decode_all(dataset)
        if getattr(dataset, "file_meta", None) is None:
            dataset.file_meta = FileMetaDataset()
        implicit, little = dataset.original_encoding
        if little is False:
            _swap_all(dataset)
        if little is False or "TransferSyntaxUID" not in dataset.file_meta:
            form = ImplicitVRLittleEndian if implicit and little else ExplicitVRLittleEndian
            dataset.file_meta.TransferSyntaxUID = form
        return dataset


def patient_of(path: Path) -> str:
    """Return the Patient ID of a DICOM file, empty where it has none.

    Raises:
        InvalidInputError: If it is not DICOM, or is damaged.
    """
    with quoting_nothing():
        header = dcmread(path, stop_before_pixels=True, specific_tags=["PatientID"])
        return str(header.get("PatientID") or "")


def write_instance(dataset: FileDataset, file: BinaryIO) -> None:
    """Write an instance in Explicit VR Little Endian, the form that every reader knows.

    Raises:
        InvalidInputError: If it holds what cannot be written.
    """
    with quoting_nothing():
        # A fresh data set has no former byte order and no file that values would be read from.
        fresh = FileDataset("", {}, file_meta=dataset.file_meta, preamble=dataset.preamble)
        for element in dataset:
            if element.tag.element != 0:  # lengths of groups, retired and now wrong
                fresh.add(element)
        fresh.save_as(file, implicit_vr=False, little_endian=True, enforce_file_format=True)


@contextmanager
def quoting_nothing() -> Iterator[None]:
    """Turn whatever pydicom says about a file into an error that quotes nothing."""
    log = logging.getLogger("pydicom")
    level = log.level
    log.setLevel(logging.CRITICAL + 1)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    except (InvalidInputError, OSError, MemoryError):
        raise
    except InvalidDicomError:
        raise InvalidInputError("expected a DICOM file, found something else") from None
    except Exception as error:  # noqa: BLE001 - on damaged bytes pydicom raises any kind of error
        raise InvalidInputError(
            f"the DICOM file is damaged or of a form that cannot be read ({type(error).__name__})"
        ) from None
    finally:
        log.setLevel(level)


def _decode_all(dataset: Dataset, depth: int = 0) -> None:
    if depth > MAX_DEPTH:
        raise InvalidInputError(f"expected sequences nested at most {MAX_DEPTH} deep, found more")
    for element in dataset:
        if isinstance(element.value, Sequence):
            for item in element.value:
                _decode_all(item, depth + 1)


def _swap_all(dataset: Dataset) -> None:
    """Turn the bytes of values that pydicom hands out as they stood in a big-endian file."""
    for element in dataset:
        if isinstance(element.value, Sequence):
            for item in element.value:
                _swap_all(item)
        elif isinstance(element.value, bytes):
            _swap(element, dataset)


def _swap(element: DataElement, dataset: Dataset) -> None:
    width = _SWAPPED.get(str(element.VR), 1)
    if element.tag == _PIXELS and dataset.get("BitsAllocated", 16) <= 8:  # noqa: PLR2004 - bits of a byte
        # In OW the bytes of a pair are turned, even if each is a pixel (PS3.5, section 8.1.2).
        width = 2 if element.VR == "OW" else 1
    elif element.tag == _PIXELS:
        width = int(dataset.get("BitsAllocated", 16)) // 8
    value = element.value
    if width > 1 and len(value) % width == 0:
        element.value = np.frombuffer(value, f">u{width}").astype(f"<u{width}").tobytes()
