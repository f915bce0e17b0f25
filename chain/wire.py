"""The JSON form of the values in `chain.types`, for REST and files.

Digests and keys are ``0x`` and 64 hexadecimal digits, addresses are checksummed (EIP-55), enums
go by name, sets as ascending lists. An integer beyond 2^53 - 1 goes as a decimal string, since
most readers of JSON would round it (RFC 7493, section 2.2).
"""

import re
from collections.abc import Iterable
from dataclasses import fields, is_dataclass
from enum import Enum
from types import NoneType, UnionType
from typing import Any, TypeVar, cast, get_args, get_origin, get_type_hints

from chain.addresses import read_address
from chain.errors import InvalidInputError

T = TypeVar("T")

ADDRESSES = frozenset(
    {
        "address",
        "ledger",
        "hospital",
        "aggregator",
        "researcher",
        "witnesses",
        "author",
        "reader",
        "taker",
    }
)
MAX_TEXT = 4_096  # characters
MAX_MEMBERS = 4_096
GREATEST_EXACT = (1 << 53) - 1  # the greatest number that JSON has exactly
_GREATEST = (1 << 256) - 1
_HEX32 = re.compile(r"0x[0-9a-f]{64}")
_DECIMAL = re.compile(r"[1-9][0-9]{15,77}")


def to_json_dict(value: object) -> dict[str, Any]:
    """Write a value of `chain.types` as what `json` and `canonical_json` take."""
    return {
        field.name: _to_json(getattr(value, field.name)) for field in fields(cast("Any", value))
    }


def from_json_dict(kind: type[T], members: object) -> T:
    """Read a value of `chain.types` that somebody else wrote.

    Args:
        kind: The dataclass.
        members: Parsed JSON.

    Raises:
        InvalidInputError: If a member is missing, unknown or out of range; the message names it.
    """
    hints = get_type_hints(kind)
    if not isinstance(members, dict) or members.keys() != hints.keys():
        found = sorted(map(str, members)) if isinstance(members, dict) else type(members).__name__
        message = f"{kind.__name__}: expected the members {sorted(hints)}, found {found}"
        raise InvalidInputError(message)
    return kind(**{name: _read(hint, name, members[name]) for name, hint in hints.items()})


def to_hex(digest: bytes) -> str:
    """Write 32 bytes as JSON and URLs carry them."""
    return f"0x{digest.hex()}"


def from_hex(text: object, name: str = "digest") -> bytes:
    """Read 32 bytes.

    Raises:
        InvalidInputError: If the text is anything but ``0x`` and 64 lower-case digits.
    """
    if not isinstance(text, str) or not _HEX32.fullmatch(text):
        raise _unexpected(name, "0x and 64 lower-case hexadecimal digits", text)
    return bytes.fromhex(text[2:])


def _to_json(value: object) -> object:
    match value:
        case bytes():
            return to_hex(value)
        case Enum():
            return value.name
        case bool() | str() | None:
            return value
        case int():
            return value if value <= GREATEST_EXACT else str(value)
        case frozenset():
            return sorted(cast("Iterable[Any]", map(_to_json, value)))
        case tuple():
            return [_to_json(one) for one in value]
        case _:
            return to_json_dict(value)


def _read(hint: Any, name: str, value: object) -> Any:
    if isinstance(hint, UnionType):
        (kind,) = set(get_args(hint)) - {NoneType}
        return None if value is None else _read(kind, name, value)
    if get_origin(hint) in (tuple, frozenset):
        return get_origin(hint)(_read_all(get_args(hint)[0], name, value))
    if is_dataclass(hint):
        return from_json_dict(cast("type[Any]", hint), value)
    if issubclass(hint, Enum):
        return _read_enum(hint, name, value)
    if hint is bytes:
        return from_hex(value, name)
    if hint is bool:
        return _read_bool(name, value)
    if hint is int:
        return _read_int(name, value)
    return read_address(value, name) if name in ADDRESSES else _read_text(name, value)


def _read_all(hint: Any, name: str, value: object) -> list[Any]:
    if not isinstance(value, list) or len(value) > MAX_MEMBERS:
        raise _unexpected(name, f"a list of at most {MAX_MEMBERS}", value)
    return [_read(hint, name, one) for one in value]


def _read_enum(hint: type[Enum], name: str, value: object) -> Enum:
    if not isinstance(value, str) or value not in hint.__members__:
        raise _unexpected(name, f"one of {', '.join(hint.__members__)}", value)
    return hint[value]


def _read_bool(name: str, value: object) -> bool:
    if not isinstance(value, bool):
        raise _unexpected(name, "true or false", value)
    return value


def _read_int(name: str, value: object) -> int:
    if isinstance(value, str) and _DECIMAL.fullmatch(value):
        number = int(value)
        if GREATEST_EXACT < number <= _GREATEST:
            return number
    elif type(value) is int and 0 <= value <= GREATEST_EXACT:
        return value
    raise _unexpected(name, "an integer from 0, as a decimal string if above 2^53 - 1", value)


def _read_text(name: str, value: object) -> str:
    if not isinstance(value, str) or len(value) > MAX_TEXT:
        raise _unexpected(name, f"a text of at most {MAX_TEXT} characters", value)
    return value


def _unexpected(name: str, expected: str, found: object) -> InvalidInputError:
    return InvalidInputError(f"{name}: expected {expected}, found {repr(found)[:100]}")
