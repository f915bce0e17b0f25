"""Tensor files as others write them, made canonical (docs/protocol.md, section 3.1).

The safetensors format (https://huggingface.co/docs/safetensors) leaves its writers more room than
the protocol does: metadata, tensors in any order, other padding, other dtypes. What has the same
tensors then has other bytes, and so another digest. Here such a file is checked as strictly as a
canonical one, and what it holds is copied into the one form, a piece at a time.
"""

import math
import stat
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from types import MappingProxyType
from typing import Any, BinaryIO, Final

import numpy as np

from chain.canonical import parse_json
from chain.errors import InvalidInputError
from chain.files import PIECE
from chain.schema import LENGTH_BYTES, MAX_HEADER, MAX_TENSORS, MEMBERS, Schema, TensorSpec
from chain.tensors import DTYPES, open_tensors

# Writers may put whatever text they like into the metadata, so there is more room than a
# canonical header takes; parsing it takes some ten times as much memory.
MAX_FOREIGN_HEADER: Final = 8 * MAX_HEADER  # bytes
_MAX_TOLD = 400  # characters
_METADATA = "__metadata__"
_WIDENED = "BF16"
# The dtype that a tensor has in the canonical file, and the bytes of a value in the foreign one.
_TAKEN: Final[Mapping[str, tuple[str, int]]] = MappingProxyType(
    {name: (name, dtype.itemsize) for name, dtype in DTYPES.items()} | {_WIDENED: ("F32", 2)}
)


@dataclass(frozen=True, slots=True)
class CanonicalForm:
    """A tensor file in canonical form.

    Args:
        path: Where it lies.
        widened: Names of the tensors that were BF16 and are F32 now, with the same values.
    """

    path: Path
    widened: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class _Found:
    """A tensor of a foreign file: as it will be, and where its bytes lie behind the header."""

    spec: TensorSpec
    dtype: str
    begin: int
    end: int


def canonical_form(path: Path, copy: Path) -> CanonicalForm:
    """Give a safetensors file in canonical form: itself if it has that form, else a copy.

    F64, F32 and F16 keep their bytes. BF16 becomes F32: a bfloat16 is the upper half of a float32,
    so no value changes. Metadata are left out. All other dtypes are refused, and so is whatever
    the format does not allow: lengths and offsets beyond the file, overlaps, holes, repeated
    names. No more than a header and a piece of a tensor is in memory at a time.

    Args:
        path: A safetensors file by whomever.
        copy: Where the copy is written if one is needed; nothing may be there yet. After an error
            a part of it may be left: give a name in a temporary folder.

    Raises:
        InvalidInputError: If it is no such file; the message begins with the file's name.
        OSError: If it cannot be read, or the copy cannot be written.
    """
    if not stat.S_ISREG(path.stat().st_mode):
        raise InvalidInputError(f"{path.name}: expected a safetensors file, found another thing")
    try:
        open_tensors(path).close()
    except InvalidInputError:
        pass  # the reader below tells better what is wrong, if anything is
    else:
        return CanonicalForm(path)
    try:
        with path.open("rb") as file:
            start, found = _read_header(file, path.stat().st_size)
            _copy(file, start, found, copy)
    except InvalidInputError as error:
        # A name in a hostile header may be as long as the header.
        raise InvalidInputError(f"{path.name}: {str(error)[:_MAX_TOLD]}") from error
    return CanonicalForm(copy, tuple(sorted(one.spec.name for one in found if _is_widened(one))))


def _read_header(file: BinaryIO, size: int) -> tuple[int, Sequence[_Found]]:
    """Return where the data begin, and the tensors in the order of their data."""
    head = file.read(LENGTH_BYTES)
    length = int.from_bytes(head, "little")
    if len(head) < LENGTH_BYTES or length > MAX_FOREIGN_HEADER or LENGTH_BYTES + length > size:
        raise InvalidInputError(
            f"expected the length of a safetensors header, up to {MAX_FOREIGN_HEADER} and within "
            f"the file's {size} bytes, found {head.hex() or 'an empty file'}"
        )
    members = parse_json(file.read(length), MAX_FOREIGN_HEADER)
    if not isinstance(members, dict):
        raise InvalidInputError("expected a header with a member for each tensor")
    _check_metadata(members.pop(_METADATA, {}))
    if not 1 <= len(members) <= MAX_TENSORS:
        raise InvalidInputError(f"expected 1 to {MAX_TENSORS} tensors, found {len(members)}")
    found = sorted(_tensors(members), key=lambda one: (one.begin, one.end))
    _check_places(found, size - LENGTH_BYTES - length)
    return LENGTH_BYTES + length, found


def _check_metadata(metadata: object) -> None:
    if not isinstance(metadata, dict) or not all(isinstance(v, str) for v in metadata.values()):
        raise InvalidInputError(f"expected {_METADATA} of texts by name, found something else")


def _tensors(members: Mapping[str, object]) -> Iterator[_Found]:
    for name, member in members.items():
        if not isinstance(member, dict) or set(member) != MEMBERS:
            raise InvalidInputError(f"tensor {name!r}: expected an object of {sorted(MEMBERS)}")
        dtype = member["dtype"]
        if not isinstance(dtype, str) or dtype not in _TAKEN:
            raise InvalidInputError(
                f"tensor {name!r}: expected values of {', '.join(_TAKEN)}, which can be averaged, "
                f"found {repr(dtype)[:20]}: leave the tensor out of all files, or save it as F32"
            )
        taken, itemsize = _TAKEN[dtype]
        spec = TensorSpec(name, taken, _integers(name, "shape", member["shape"]))
        offsets = _integers(name, "data_offsets", member["data_offsets"])
        expected = math.prod(spec.shape) * itemsize
        match offsets:
            case (begin, end) if begin >= 0 and end - begin == expected:
                yield _Found(spec, dtype, begin, end)
            case _:
                raise InvalidInputError(
                    f"tensor {name!r}: expected data_offsets that are {expected} bytes apart, as "
                    f"its shape is {list(spec.shape)}, found {repr(list(offsets))[:100]}"
                )


def _integers(name: str, what: str, value: Any) -> tuple[int, ...]:
    # `True` is an int to Python but no number to JSON.
    if not isinstance(value, list) or not all(type(one) is int for one in value):
        raise InvalidInputError(f"tensor {name!r}: expected a {what} of integers")
    return tuple(value)


def _check_places(found: Sequence[_Found], size: int) -> None:
    """Refuse data that overlap, leave a hole, or end elsewhere than the file does."""
    if found[0].begin != 0:
        raise InvalidInputError(
            f"tensor {found[0].spec.name!r}: expected the data to begin at offset 0, found "
            f"{found[0].begin}"
        )
    for one, after in pairwise(found):
        if one.end != after.begin:
            raise InvalidInputError(
                f"tensor {after.spec.name!r}: expected its data behind those of "
                f"{one.spec.name!r}, at {one.end}, found {after.begin}"
            )
    if found[-1].end != size:
        raise InvalidInputError(
            f"expected {found[-1].end} bytes of data behind the header, found {size}"
        )


def _copy(file: BinaryIO, start: int, found: Sequence[_Found], copy: Path) -> None:
    schema = Schema.of(one.spec for one in found)
    by_name = {one.spec.name: one for one in found}
    with copy.open("xb") as target:
        target.write(schema.header())
        for spec in schema.tensors:
            one = by_name[spec.name]
            file.seek(start + one.begin)
            for left in range(one.end - one.begin, 0, -PIECE):
                piece = file.read(min(left, PIECE))
                if len(piece) < min(left, PIECE):
                    raise InvalidInputError(f"tensor {spec.name!r}: the file was cut short")
                target.write(_to_float32(piece) if _is_widened(one) else piece)


def _is_widened(one: _Found) -> bool:
    return one.dtype == _WIDENED


def _to_float32(piece: bytes) -> bytes:
    """Write bfloat16 as float32, whose upper half it is."""
    return (np.frombuffer(piece, "<u2").astype("<u4") << 16).tobytes()
