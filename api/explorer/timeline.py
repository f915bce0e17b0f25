"""An image's history as people read it: in days, with a word and a sign for each thing."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from itertools import groupby
from types import MappingProxyType
from typing import Final

from aggregator import queries
from aggregator.queries import ImageHistory, TimelineEntry, VersionEntry
from chain.addresses import address_order
from chain.types import DatasetState

# Each thing that happens: what it belongs to, and its words. Its sign is in static/timeline.svg.
KINDS: Final[Mapping[str, tuple[str, str]]] = MappingProxyType(
    {
        "REGISTERED": ("data", "Registered"),
        "PURPOSES_CHANGED": ("data", "Purposes changed"),
        "SUPERSEDED": ("data", "Superseded"),
        "WITHDRAWN": ("end", "Withdrawn"),
        "ERASED": ("end", "Erased"),
        "GRANTED": ("access", "Access granted"),
        "REVOKED": ("access", "Access revoked"),
        "LOOKED": ("look", "Looked at"),
        "READ": ("reading", "Reading"),
        "SECOND_OPINION": ("reading", "Second opinion"),
        "CORRECTED": ("reading", "Correction"),
        "COMPARED": ("reading", "Comparison"),
        "REQUESTED": ("request", "Reading asked for"),
        "TAKEN": ("request", "Request taken"),
        "RELEASED": ("request", "Request given back"),
        "FULFILLED": ("request", "Request fulfilled"),
        "CANCELLED": ("request", "Request cancelled"),
    }
)

# What a reader may ask to see alone.
FILTERS: Final[Mapping[str, frozenset[str]]] = MappingProxyType(
    {
        "data": frozenset({"REGISTERED", "PURPOSES_CHANGED", "SUPERSEDED", "WITHDRAWN", "ERASED"}),
        "access": queries.OF_GRANTS,
        "looks": frozenset({"LOOKED"}),
        "readings": queries.OF_READINGS,
        "requests": queries.OF_REQUESTS,
    }
)

_USABLE, _SUPERSEDED, _WITHDRAWN, _ERASED = range(4)
_STATES = {
    DatasetState.ACTIVE: _USABLE,
    DatasetState.SUPERSEDED: _SUPERSEDED,
    DatasetState.WITHDRAWN: _WITHDRAWN,
}
_STANDS = (
    ("usable", "good", "It is in a version that counts now."),
    ("superseded", "warn", "A newer version stands in the place of the one that it is in."),
    ("withdrawn", "bad", "Its hospital withdrew the data: nothing may be trained on them."),
    ("erased", "bad", "Its hospital says that it deleted the image and its salt."),
)


@dataclass(frozen=True, slots=True)
class Standing:
    """How an image stands at a hospital.

    Attributes:
        hospital: Whose versions it is in.
        word: The state.
        badge: The kind of its badge.
        sentence: What that means.
    """

    hospital: str
    word: str
    badge: str
    sentence: str


@dataclass(frozen=True, slots=True)
class Event:
    """Something that happened, or looks of one researcher in a row.

    Attributes:
        kind: What it belongs to, which gives its colour.
        sign: The name of its sign.
        words: What it is called.
        entry: The thing itself; of several looks the first one.
        looks: All looks that stand here; empty for anything else.
    """

    kind: str
    sign: str
    words: str
    entry: TimelineEntry
    looks: tuple[TimelineEntry, ...]


@dataclass(frozen=True, slots=True)
class Day:
    """A day in UTC, by its date, and what happened on it."""

    date: str
    events: tuple[Event, ...]


def standings(history: ImageHistory) -> tuple[Standing, ...]:
    """Tell how an image stands at each hospital that has it in a version.

    What one hospital says of it says nothing of another that registered the same commitment.
    """
    hospitals = sorted({one.hospital for one in history.versions}, key=address_order)
    return tuple(_standing(history, hospital) for hospital in hospitals)


def days(entries: Sequence[TimelineEntry]) -> tuple[Day, ...]:
    """Put what happened into days, and a researcher's looks in a row into one event."""
    return tuple(Day(date, tuple(_events(found))) for date, found in groupby(entries, _date))


def _standing(history: ImageHistory, hospital: str) -> Standing:
    if any(one.hospital == hospital for one in history.erasures):
        return Standing(hospital, *_STANDS[_ERASED])
    own = (one for one in history.versions if one.hospital == hospital)
    return Standing(hospital, *_STANDS[min(map(_state, own))])


def _state(version: VersionEntry) -> int:
    return _STATES.get(version.state, _WITHDRAWN)


def _events(entries: Iterator[TimelineEntry]) -> Iterator[Event]:
    for _, alike in groupby(entries, _likeness):
        found = tuple(alike)
        kind, words = KINDS.get(found[0].what, ("data", found[0].what))
        sign = found[0].what.lower()
        looks = found if found[0].look else ()
        if looks:
            yield Event(kind, sign, words, found[0], looks)
        else:
            yield from (Event(kind, sign, words, one, ()) for one in found)


def _likeness(entry: TimelineEntry) -> tuple[object, ...]:
    look = entry.look
    whose = () if look is None else (look.hospital, look.researcher, look.grant)
    return (entry.what, *whose)


def _date(entry: TimelineEntry) -> str:
    try:
        return datetime.fromtimestamp(entry.at, UTC).strftime("%Y-%m-%d")
    except (ValueError, OverflowError, OSError):
        return "a time that no calendar has"
