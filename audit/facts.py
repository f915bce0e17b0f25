"""What an export holds: facts of the index, read page by page, so that no history is too long.

`audit.exports` and `audit.prov` write them down, for the server and for the command line, which
stand above this room. The first fact says which ledger, as of which block.
"""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, TypeAlias, TypeVar

from aggregator import queries
from aggregator.index import IndexedBlock
from aggregator.queries import (
    Contribution,
    Descendant,
    MembershipChange,
    Page,
    ReadingEntry,
    RoundHistory,
    VersionEntry,
)
from aggregator.tables import IndexHead
from audit.asking import Index
from chain.errors import IndexDatabaseError
from chain.types import LogPosition
from chain.wire import to_json_dict

T = TypeVar("T")

PAGE = 200  # entries
POSITION = "position"  # the member of a fact that says where on the chain it stands


@dataclass(frozen=True, slots=True)
class LedgerState:
    """Which ledger an export is of, and as of which block."""

    chain_id: int
    ledger: str
    block: int
    block_hash: bytes


@dataclass(frozen=True, slots=True)
class PartyFact:
    """A party as it stands, and what happened to it."""

    address: str
    name: str
    roles: tuple[str, ...]
    suspended: bool
    suspension: str | None
    enrolled_at: int
    position: LogPosition
    changes: tuple[MembershipChange, ...]


@dataclass(frozen=True, slots=True)
class DescendantFact:
    """A model that descends from a data-set version."""

    version: bytes
    model: Descendant


Fact: TypeAlias = (
    LedgerState
    | PartyFact
    | VersionEntry
    | DescendantFact
    | ReadingEntry
    | Contribution
    | RoundHistory
)


class Facts:
    """The facts of one ledger, as its index has them.

    Each of the three exports raises `InvalidInputError` where the index knows no such thing, and
    `IndexDatabaseError` where it cannot be used, or went back to an earlier block meanwhile.

    Args:
        index: The index.
    """

    def __init__(self, index: Index) -> None:
        self._index = index
        self._at: IndexedBlock | None = None

    def of_model(self, model: bytes) -> Iterator[Fact]:
        """Tell of each round that a final model descends from, its own first, and of their data."""
        found = self._ask(lambda session: queries.provenance(session, model, limit=1))
        yield self._state()
        told: set[bytes] = set()
        number: int | None = found.ancestors.entries[0].round.number
        while number is not None:
            history = self._round(number)
            used = {use.version for one in history.contributions for use in one.datasets}
            for version in sorted(used - told):
                yield self._version(version)
            told |= used
            yield history
            number = history.round.base_round

    def of_dataset(self, dataset: bytes) -> Iterator[Fact]:
        """Tell of a data set's versions, what descends from them, their readings, and each use."""

        def page(cursor: str | None) -> queries.DatasetHistory:
            return self._ask(
                lambda session: queries.dataset_history(session, dataset, cursor=cursor, limit=PAGE)
            )

        first = page(None)
        yield self._state()
        yield from first.versions
        for version in first.versions:
            yield from self._descendants(version.version)
            yield from self._readings(version=version.version)
        yield from _entries(first.uses, lambda cursor: page(cursor).uses)

    def of_hospital(self, hospital: str) -> Iterator[Fact]:
        """Tell of a hospital, its data-set versions, its readings and each of its updates."""

        def page(cursor: str | None) -> queries.HospitalHistory:
            return self._ask(
                lambda session: queries.hospital_history(
                    session, hospital, cursor=cursor, limit=PAGE
                )
            )

        first = page(None)
        yield self._state()
        yield PartyFact(
            first.address,
            first.name,
            first.roles,
            first.suspended,
            first.suspension,
            first.enrolled_at,
            first.position,
            first.changes,
        )
        yield from first.versions
        yield from self._readings(hospital=hospital)
        yield from _entries(first.contributions, lambda cursor: page(cursor).contributions)

    def _round(self, number: int) -> RoundHistory:
        return self._ask(lambda session: queries.round_history(session, number))

    def _version(self, version: bytes) -> VersionEntry:
        found = self._ask(lambda session: queries.dataset_history(session, version, limit=1))
        (entry,) = (one for one in found.versions if one.version == version)
        return entry

    def _descendants(self, version: bytes) -> Iterator[DescendantFact]:
        def page(cursor: str | None) -> Page[Descendant]:
            return self._ask(
                lambda session: queries.descendants(session, version, cursor=cursor, limit=PAGE)
            ).models

        for model in _entries(page(None), page):
            yield DescendantFact(version, model)

    def _readings(self, **which: Any) -> Iterator[ReadingEntry]:
        def page(cursor: str | None) -> Page[ReadingEntry]:
            return self._ask(
                lambda session: queries.readings(session, **which, cursor=cursor, limit=PAGE)
            )

        yield from _entries(page(None), page)

    def _ask(self, question: Callable[[Any], T]) -> T:
        answer, at = self._index.ask(question)
        # Newer rows stand in front of the first page and change nothing behind it. An index that
        # went back was built anew on another branch of the chain.
        if self._at is not None and at.number < self._at.number:
            raise IndexDatabaseError(
                f"the index went back from block {self._at.number} to {at.number} while it was "
                "read: ask again"
            )
        self._at = self._at or at
        return answer

    def _state(self) -> LedgerState:
        chain_id, ledger = self._ask(_identity)
        at = self._at
        if at is None:
            raise IndexDatabaseError("the index was never filled")
        return LedgerState(chain_id, ledger, at.number, at.hash)


def _identity(session: Any) -> tuple[int, str]:
    head = session.query(IndexHead).one()
    return head.chain_id, head.ledger


def flat(value: object) -> dict[str, object]:
    """Return a value's members without nesting, as JSON has them; see `flattened`."""
    return flattened(to_json_dict(value))


def flattened(members: Mapping[str, Any]) -> dict[str, object]:
    """Return a JSON object without nesting.

    Members of a member are led by its name, but those of a position stand for themselves. Of
    objects in a list their first member stays, which identifies them.
    """
    told: dict[str, object] = {}
    for name, value in members.items():
        if isinstance(value, dict):
            lead = "" if name == POSITION else f"{name}_"
            told |= {f"{lead}{inner}": one for inner, one in flattened(value).items()}
        elif isinstance(value, list):
            told[name] = [
                next(iter(one.values())) if isinstance(one, dict) else one for one in value
            ]
        else:
            told[name] = value
    return told


def _entries(page: Page[T], following: Callable[[str], Page[T]]) -> Iterator[T]:
    yield from page.entries
    while page.cursor is not None:
        page = following(page.cursor)
        yield from page.entries
