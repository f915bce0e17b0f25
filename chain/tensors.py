"""Canonical tensors: models and updates as safetensors files of one form.

See docs/protocol.md, sections 3.1 and 3.2. The bytes are those that the safetensors library
writes for the same tensors (https://huggingface.co/docs/safetensors); that library's reader is
more lenient than the protocol allows, so this module has its own.
"""

import hashlib
import math
import mmap
from collections.abc import Iterator, Mapping
from pathlib import Path
from types import MappingProxyType, TracebackType
from typing import Any, Final, Self

import numpy as np

from chain.files import replacing
from chain.schema import (
    Schema,
    TensorSpec,
    file_schema,
)

Array = np.ndarray[Any, np.dtype[np.floating[Any]]]

DTYPES: Final[Mapping[str, np.dtype[Any]]] = MappingProxyType(
    {"F64": np.dtype("<f8"), "F32": np.dtype("<f4"), "F16": np.dtype("<f2")}
)


class TensorFile:
    """A canonical tensor file, mapped into memory and not copied.

    Attributes:
        schema: Its tensors.
        vectors: All values as one flat view for each dtype, in the order of the file: tensors of
            one dtype lie one behind the other. Read-only unless the file was opened for writing.
        arrays: A view of each tensor by name. A view that outlives `close` keeps the map.
    """

    def __init__(self, schema: Schema, data: mmap.mmap) -> None:
        """Take over a map whose bytes were checked; callers use `open_tensors`."""
        self.schema = schema
        start = len(schema.header())
        self.arrays: Mapping[str, Array] = MappingProxyType(
            {spec.name: _view(data, spec, start + begin) for spec, begin in schema.with_offsets()}
        )
        self.vectors = tuple(
            np.frombuffer(data, DTYPES[dtype], size, start + begin)
            for dtype, size, begin in schema.vectors()
        )

    def close(self) -> None:
        """Let go of the views, and so of the map, which ends with the last of them."""
        self.arrays = MappingProxyType({})
        self.vectors = ()

    def __enter__(self) -> Self:
        """Use the file in a `with` block."""
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """Close the file."""
        self.close()


def open_tensors(path: Path) -> TensorFile:
    """Map a canonical tensor file and check every byte of its form (docs/protocol.md, 3.1).

    No length that the file states is used before it is held against the file's true size.

    Raises:
        InvalidInputError: If the file is in any other form.
        OSError: If it cannot be read.
    """
    with path.open("rb") as file:
        schema = file_schema(file, path.name)
        size = schema.file_size()
        return TensorFile(schema, mmap.mmap(file.fileno(), size, access=mmap.ACCESS_READ))


def open_trained(tensors: TensorFile, copy: Path) -> TensorFile:
    """Give the trained part of an open file as a canonical file (docs/protocol.md, 3.2).

    Args:
        tensors: A model, with or without a server optimiser's state.
        copy: Where the trained part is written if there is state; else nothing is written.

    Returns:
        `tensors` itself if it has no state, or the opened copy.

    Raises:
        InvalidInputError: If there is nothing but state.
        OSError: If the copy cannot be written.
    """
    trained = tensors.schema.trained()
    if trained == tensors.schema:
        return tensors
    save_tensors(copy, {spec.name: tensors.arrays[spec.name] for spec in trained.tensors})
    return open_tensors(copy)


def trained_content(tensors: TensorFile) -> bytes:
    """Compute the content digest that the trained part of an open file has by itself.

    Raises:
        InvalidInputError: If there is nothing but state.
    """
    trained = tensors.schema.trained()
    hasher = hashlib.sha256()
    for piece in _pieces({spec.name: tensors.arrays[spec.name] for spec in trained.tensors}):
        hasher.update(piece)
    return hasher.digest()


def save_tensors(path: Path, tensors: Mapping[str, Array]) -> bytes:
    """Write tensors to a canonical file and return its content digest.

    Args:
        path: Replaced if it exists; after an error it is as it was.
        tensors: Arrays of float64, float32 or float16 by name.

    Raises:
        InvalidInputError: If no canonical file can hold them.
    """
    hasher = hashlib.sha256()
    pieces = _pieces(tensors)
    with replacing(path) as file:
        for piece in pieces:
            hasher.update(piece)
            file.write(piece)
    return hasher.digest()


def tensor_bytes(tensors: Mapping[str, Array]) -> bytes:
    """Write tensors to canonical bytes; for small ones, as all are held in memory.

    Raises:
        InvalidInputError: If no canonical file can hold them.
    """
    return b"".join(_pieces(tensors))


def schema_of(tensors: Mapping[str, Array]) -> Schema:
    """Describe tensors.

    Raises:
        InvalidInputError: If no canonical file can hold them.
    """
    return Schema.of(
        TensorSpec(name, _dtype_name(array), array.shape) for name, array in tensors.items()
    )


def _pieces(tensors: Mapping[str, Array]) -> Iterator[bytes | memoryview]:
    schema = schema_of(tensors)
    yield schema.header()
    for spec in schema.tensors:
        array = np.asarray(tensors[spec.name], dtype=DTYPES[spec.dtype], order="C")
        yield array.reshape(-1).view(np.uint8).data


def _dtype_name(array: Array) -> str:
    return f"F{array.dtype.itemsize * 8}" if array.dtype.kind == "f" else str(array.dtype)


def _view(data: mmap.mmap, spec: TensorSpec, offset: int) -> Array:
    flat = np.frombuffer(data, DTYPES[spec.dtype], math.prod(spec.shape), offset)
    return flat.reshape(spec.shape)
