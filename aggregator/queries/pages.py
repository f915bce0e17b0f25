"""Pages of long lists, and the cursors that lead from one to the next."""

import base64
import binascii
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

from chain.canonical import canonical_json, parse_json
from chain.errors import InvalidInputError

MAX_PAGE = 200
MAX_CURSOR = 512  # characters

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Page(Generic[T]):
    """Some entries of a list, and the cursor to those behind them, None at the end."""

    entries: tuple[T, ...]
    cursor: str | None


def page_of(found: Sequence[T], limit: int, place: Callable[[T], tuple[int | str, ...]]) -> Page[T]:
    """Make a page of what was found with one entry more than the limit.

    Args:
        found: The entries, at most one more than `limit`.
        limit: How many a page may hold.
        place: Tells an entry's place in the list, which the cursor names.
    """
    entries = tuple(found[:limit])
    return Page(entries, write_cursor(*place(entries[-1])) if len(found) > limit else None)


def checked_limit(limit: int) -> int:
    """Return how many entries a page may hold.

    Raises:
        InvalidInputError: If it is not 1 to 200.
    """
    if not 1 <= limit <= MAX_PAGE:
        raise InvalidInputError(f"expected a page of 1 to {MAX_PAGE} entries, found {limit}")
    return limit


def write_cursor(*place: int | str) -> str:
    """Write the place of a page's last entry as text for addresses."""
    return base64.urlsafe_b64encode(canonical_json(list(place))).decode().rstrip("=")


def read_cursor(cursor: str, *types: type) -> tuple[Any, ...]:
    """Read a place that `write_cursor` wrote.

    Args:
        cursor: As it arrived; not trusted.
        types: Of its parts, int or str.

    Raises:
        InvalidInputError: If it is another's, or a number does not fit the databases.
    """
    try:
        data = base64.b64decode(
            (cursor[:MAX_CURSOR] + "=" * (-len(cursor) % 4)).encode(), altchars=b"-_", validate=True
        )
        place = parse_json(data, MAX_CURSOR)
    except (binascii.Error, ValueError, InvalidInputError) as error:
        raise InvalidInputError("the cursor is none that this server gave out") from error
    fits = isinstance(place, list) and [type(item) for item in place] == list(types)
    if not isinstance(place, list) or not fits:
        raise InvalidInputError("the cursor is none that this server gave out")
    # JSON can spell characters that no database takes: half of a pair, and that of code 0.
    if any("\0" in item or not _is_unicode(item) for item in place if isinstance(item, str)):
        raise InvalidInputError("the cursor is none that this server gave out")
    return tuple(in_range(item) if isinstance(item, int) else item for item in place)


def _is_unicode(text: str) -> bool:
    return not any("\ud800" <= char <= "\udfff" for char in text)


def in_range(number: int) -> int:
    """Return a number that the databases' integers can hold.

    Raises:
        InvalidInputError: If it is negative or too large.
    """
    if not 0 <= number < 1 << 63:
        raise InvalidInputError(f"expected a number from 0 to 2^63 - 1, found {number}")
    return number
