"""Canonical JSON: one byte string for each value, and a reader that takes nothing doubtful.

See docs/protocol.md, introduction: canonical JSON is RFC 8785 (JSON Canonicalization Scheme).
"""

import json
import math
from typing import NoReturn

import rfc8785

from chain.errors import InvalidInputError


def canonical_json(value: object) -> bytes:
    """Write a value as canonical JSON (RFC 8785).

    Args:
        value: Built of dict with str keys, list, tuple, str, int, finite float, bool and None.

    Raises:
        InvalidInputError: If the value has no canonical form, such as an integer beyond 2^53 - 1
            or a float that is not finite.
    """
    try:
        return rfc8785.dumps(value)  # type: ignore[arg-type]
    except (rfc8785.CanonicalizationError, UnicodeError, RecursionError) as error:
        message = f"the value has no canonical JSON (RFC 8785): {error}"
        raise InvalidInputError(message) from error


def parse_json(data: bytes, max_bytes: int) -> object:
    """Read JSON that somebody else wrote, within bounds.

    A member that occurs twice is refused, since readers differ in which of the two they take; so
    is a number that is not finite.

    Args:
        data: UTF-8, canonical or not.
        max_bytes: The greatest length taken.

    Raises:
        InvalidInputError: If the data are too long or no JSON in this sense.
    """
    if len(data) > max_bytes:
        message = f"expected at most {max_bytes} bytes of JSON, found {len(data)}"
        raise InvalidInputError(message)
    try:
        return json.loads(
            data.decode("utf-8"),
            object_pairs_hook=_without_repetition,
            parse_constant=_refuse_constant,
            parse_float=_finite,
        )
    except (ValueError, RecursionError) as error:
        message = f"expected JSON in UTF-8: {error}"
        raise InvalidInputError(message) from error


def _without_repetition(pairs: list[tuple[str, object]]) -> dict[str, object]:
    members = dict(pairs)
    if len(members) != len(pairs):
        message = "a member occurs twice in one object"
        raise ValueError(message)
    return members


def _refuse_constant(name: str) -> NoReturn:
    message = f"{name} is no JSON number"
    raise ValueError(message)


def _finite(digits: str) -> float:
    value = float(digits)
    if not math.isfinite(value):
        message = f"{digits} is beyond the range of float64"
        raise ValueError(message)
    return value
