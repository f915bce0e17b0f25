"""Asking the index for a page: the answer, the block that it is as of, and the parties' names."""

from collections.abc import Callable, Iterator
from dataclasses import fields, is_dataclass
from typing import Any, TypeVar

from aggregator import queries
from api.backend import Backend
from api.problems import found_in_index

T = TypeVar("T")

_ADDRESSES = frozenset(
    {
        "aborted_by",
        "actor",
        "address",
        "aggregator",
        "author",
        "hospital",
        "owner",
        "reader",
        "researcher",
        "subject",
        "taker",
        "witness",
    }
)


def asked(
    server: Backend,
    question: Callable[[Any], T],
    what: str | None = None,
    cursor: str | None = None,
) -> tuple[T, dict[str, Any]]:
    """Ask the index.

    Args:
        server: With the index.
        question: Called with a session of the index.
        what: What there may be none of; None where there always is an answer.
        cursor: What was asked for with; a malformed one is the reader's fault.

    Returns:
        The answer, and what every page says beside it: ``as_of`` and ``names``.

    Raises:
        Problem: If there is no such thing.
        IndexDatabaseError: If the index cannot be read.
    """

    def with_names(session: Any) -> tuple[T, dict[str, str]]:
        answer = question(session)
        return answer, queries.names(session, frozenset(_addresses(answer)))

    with found_in_index(what, cursor):
        (answer, names), block = server.index.ask(with_names)
    return answer, {"as_of": block, "names": names}


def _addresses(value: object) -> Iterator[str]:
    """Find every address that an answer holds, by the names of its fields."""
    if isinstance(value, tuple):
        for one in value:
            yield from _addresses(one)
    elif is_dataclass(value):
        for field in fields(value):
            found = getattr(value, field.name)
            if field.name in _ADDRESSES and isinstance(found, str):
                yield found
            elif field.name == "witnesses":
                yield from (one for one in found if isinstance(one, str))
                yield from _addresses(found)
            else:
                yield from _addresses(found)
