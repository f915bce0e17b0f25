"""Schemas: which tensors a model or update is made of, and the header of their file.

Pure, and without the tensors themselves: see docs/protocol.md, sections 3.1 and 3.2, and
`chain.tensors` for the values.
"""

import math
import os
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby, pairwise
from types import MappingProxyType
from typing import BinaryIO, Final, Self, cast

from chain.canonical import canonical_json, parse_json
from chain.digests import sha256
from chain.errors import InvalidInputError

VALUE_BYTES: Final[Mapping[str, int]] = MappingProxyType({"F64": 8, "F32": 4, "F16": 2})
MAX_HEADER = 1 << 20  # bytes
# The ledger bounds no model's size, so the reader does.
MAX_MODEL = 1 << 36  # bytes
MAX_TENSORS = 4096
MAX_RANK = 8
MAX_DIMENSION = (1 << 53) - 1  # the greatest integer of canonical JSON
SERVER_PREFIX: Final = "server."  # of the names that a server optimiser's state has in a model
# What optimisers remember for each trained tensor: nothing, a momentum, a second moment, or both.
STATES: Final = ((), ("m",), ("v",), ("m", "v"))
_NAME = re.compile(r"[A-Za-z0-9._-]{1,128}")
LENGTH_BYTES: Final = 8  # bytes of the header's length
_WIDEST_FIRST = tuple(VALUE_BYTES)
MEMBERS: Final = frozenset({"dtype", "shape", "data_offsets"})  # of a tensor in the header


@dataclass(frozen=True, slots=True)
class TensorSpec:
    """A tensor's name, dtype (a key of `VALUE_BYTES`) and shape.

    Raises:
        InvalidInputError: If one of them is outside docs/protocol.md, section 3.1.
    """

    name: str
    dtype: str
    shape: tuple[int, ...]

    def __post_init__(self) -> None:
        """Refuse what no canonical file can hold."""
        if not _NAME.fullmatch(self.name):
            message = f"expected a tensor name of 1 to 128 A-Z a-z 0-9 . _ -, found {self.name!r}"
            raise InvalidInputError(message)
        if self.dtype not in VALUE_BYTES:
            message = f"tensor {self.name}: expected F64, F32 or F16, found {self.dtype!r}"
            raise InvalidInputError(message)
        if len(self.shape) > MAX_RANK or not all(1 <= n <= MAX_DIMENSION for n in self.shape):
            message = (
                f"tensor {self.name}: expected at most {MAX_RANK} dimensions, each at least 1, "
                f"found {self.shape}"
            )
            raise InvalidInputError(message)

    @property
    def nbytes(self) -> int:
        """The size of the tensor's data in bytes."""
        return math.prod(self.shape) * VALUE_BYTES[self.dtype]

    @property
    def place(self) -> tuple[int, bytes]:
        """The key that orders tensors in a file: widest dtype first, then the name's bytes."""
        return _WIDEST_FIRST.index(self.dtype), self.name.encode()


@dataclass(frozen=True, slots=True)
class Schema:
    """The tensors that a model is made of, in the order of its file.

    Raises:
        InvalidInputError: If there are none or too many, or they are out of order or named twice.
    """

    tensors: tuple[TensorSpec, ...]

    def __post_init__(self) -> None:
        """Refuse what no canonical file can hold."""
        if not 1 <= len(self.tensors) <= MAX_TENSORS:
            message = f"expected 1 to {MAX_TENSORS} tensors, found {len(self.tensors)}"
            raise InvalidInputError(message)
        if any(one.place >= next_.place for one, next_ in pairwise(self.tensors)):
            message = "expected tensors by dtype, widest first, then by name; found another order"
            raise InvalidInputError(message)
        if len({spec.name for spec in self.tensors}) != len(self.tensors):
            message = "expected each tensor name once, found one under two dtypes"
            raise InvalidInputError(message)
        if len(self.header()) > MAX_HEADER:
            message = f"expected a header of at most {MAX_HEADER} bytes, found a longer one"
            raise InvalidInputError(message)

    @classmethod
    def of(cls, specs: Iterable[TensorSpec]) -> Self:
        """Put tensors into the order of the file."""
        return cls(tuple(sorted(specs, key=lambda spec: spec.place)))

    def trained(self) -> "Schema":
        """Leave out a server optimiser's state: what remains is what hospitals train and send.

        Raises:
            InvalidInputError: If nothing remains.
        """
        specs = tuple(spec for spec in self.tensors if not spec.name.startswith(SERVER_PREFIX))
        if not specs:
            message = f"expected a tensor to train, found only names that begin {SERVER_PREFIX!r}"
            raise InvalidInputError(message)
        return Schema(specs)

    def with_state(self, kinds: Sequence[str]) -> "Schema":
        """Describe a model of these tensors with an optimiser's state (docs/protocol.md, 3.2).

        Args:
            kinds: What the optimiser remembers for each tensor, one of `STATES`.

        Raises:
            InvalidInputError: If no canonical file holds so many tensors or such long names.
        """
        state = (
            # Second moments of float16 values leave the range of float16.
            TensorSpec(
                state_name(kind, spec.name), "F64" if spec.dtype == "F64" else "F32", spec.shape
            )
            for kind in kinds
            for spec in self.tensors
        )
        return Schema.of([*self.tensors, *state])

    def models(self) -> "tuple[Schema, ...]":
        """Describe every model that may have these tensors as its trained part, this one first."""
        return tuple(schema for schema in map(self._with_fitting_state, STATES) if schema)

    def _with_fitting_state(self, kinds: Sequence[str]) -> "Schema | None":
        try:
            return self.with_state(kinds)
        except InvalidInputError:
            return None

    def to_json(self) -> bytes:
        """Write the schema as canonical JSON."""
        members = {
            spec.name: {"dtype": spec.dtype, "shape": list(spec.shape)} for spec in self.tensors
        }
        return canonical_json(members)

    def digest(self) -> bytes:
        """Compute the schema's digest, the SHA-256 of its canonical JSON."""
        return sha256(self.to_json())

    def file_size(self) -> int:
        """Compute the exact size in bytes of a canonical file with these tensors."""
        return len(self.header()) + sum(spec.nbytes for spec in self.tensors)

    def header(self) -> bytes:
        """Write all that precedes the data in a canonical file: length, JSON and padding."""
        members = []
        for spec, begin in self.with_offsets():
            shape = ",".join(map(str, spec.shape))
            members.append(
                f'"{spec.name}":{{"dtype":"{spec.dtype}","shape":[{shape}],'
                f'"data_offsets":[{begin},{begin + spec.nbytes}]}}'
            )
        text = ("{" + ",".join(members) + "}").encode()
        text += b" " * (-len(text) % 8)
        return len(text).to_bytes(LENGTH_BYTES, "little") + text

    def with_offsets(self) -> Iterator[tuple[TensorSpec, int]]:
        """Give each tensor with the offset in bytes of its data behind the header."""
        begin = 0
        for spec in self.tensors:
            yield spec, begin
            begin += spec.nbytes

    def vectors(self) -> Iterator[tuple[str, int, int]]:
        """Give each dtype with the number of its values and their offset in bytes."""
        for dtype, specs in groupby(self.with_offsets(), key=lambda one: one[0].dtype):
            run = list(specs)
            yield dtype, sum(math.prod(spec.shape) for spec, _ in run), run[0][1]


def file_schema(file: BinaryIO, name: str) -> Schema:
    """Read the schema of a canonical tensor file, and check every byte of its form.

    No length that the file states is used before it is held against the file's true size.

    Args:
        file: The file, open at its beginning.
        name: What messages call it.

    Raises:
        InvalidInputError: If the file is in any other form.
        OSError: If it cannot be read.
    """
    size = os.fstat(file.fileno()).st_size
    head = file.read(LENGTH_BYTES)
    length = int.from_bytes(head, "little")
    if (
        len(head) < LENGTH_BYTES
        or length > MAX_HEADER
        or length % 8
        or LENGTH_BYTES + length > size
    ):
        message = (
            f"{name}: expected the length of a safetensors header, a multiple of 8 up to "
            f"{MAX_HEADER} that fits into the file's {size} bytes, found {head.hex()}"
        )
        raise InvalidInputError(message)
    schema = _schema_of_header(head + file.read(length), name)
    if size != schema.file_size():
        message = f"{name}: expected {schema.file_size()} bytes, found {size}"
        raise InvalidInputError(message)
    return schema


def read_schema(pieces: Iterable[bytes]) -> Schema:
    """Read the schema at the beginning of a canonical file, and no piece more than it takes.

    Args:
        pieces: The file's bytes from its beginning, in pieces of any size.

    Raises:
        InvalidInputError: If they do not begin with a canonical header.
    """
    head = b""
    for piece in pieces:
        head += piece
        end = LENGTH_BYTES + int.from_bytes(head[:LENGTH_BYTES], "little")
        if len(head) >= min(end, LENGTH_BYTES + MAX_HEADER) and len(head) >= LENGTH_BYTES:
            return _schema_of_header(head[:end], "model")
    message = f"expected the header of a safetensors file, found no more than {len(head)} bytes"
    raise InvalidInputError(message)


def state_name(kind: str, name: str) -> str:
    """Name what an optimiser remembers for a tensor: `kind` is `m` or `v`."""
    return f"{SERVER_PREFIX}{kind}.{name}"


def _schema_of_header(head: bytes, name: str) -> Schema:
    members = parse_json(head[LENGTH_BYTES:], MAX_HEADER)
    schema = Schema.of(_specs(members))
    # Offsets, order, white space and padding are checked at once: only one header is canonical.
    if schema.header() != head:
        message = f"{name}: expected the canonical safetensors header of docs/protocol.md, 3.1"
        raise InvalidInputError(message)
    return schema


def _specs(members: object) -> Iterator[TensorSpec]:
    if not isinstance(members, dict):
        message = f"expected an object with a member for each tensor, found {type(members)}"
        raise InvalidInputError(message)
    for name, member in members.items():
        if not isinstance(member, dict) or set(member) != MEMBERS:
            message = f"tensor {name!r}: expected an object of {sorted(MEMBERS)}"
            raise InvalidInputError(message)
        yield TensorSpec(name, _text(name, member["dtype"]), _shape(name, member["shape"]))


def _text(name: str, value: object) -> str:
    if not isinstance(value, str):
        message = f"tensor {name!r}: expected a dtype in a string, found {type(value)}"
        raise InvalidInputError(message)
    return value


def _shape(name: str, value: object) -> tuple[int, ...]:
    # `True` is an int to Python but no number to JSON.
    if not isinstance(value, list) or not all(type(n) is int for n in value):
        message = f"tensor {name!r}: expected a shape of integers"
        raise InvalidInputError(message)
    return tuple(cast("list[int]", value))
