"""The history of one image, which everybody but its hospital knows by its commitment alone.

Its events lie on the timelines of its commitment and of the versions that it is in, its looks in
the logs that hospitals handed over. Each is read from where the page before ended, by an index of
its own, and they are merged by time.
"""

from collections.abc import Collection, Iterable
from typing import Any, TypeAlias

from sqlalchemy import Row, select, tuple_
from sqlalchemy.orm import Session

from aggregator.queries.entries import (
    ComparisonEntry,
    Erasure,
    GrantEntry,
    ImageHistory,
    ReadingEntry,
    RequestEntry,
    TimelineEntry,
    VersionEntry,
)
from aggregator.queries.looks import (
    anchored_looks,
    look_entry,
    look_logs,
    versions_looked_at,
)
from aggregator.queries.pages import Page, checked_limit, read_cursor, write_cursor
from aggregator.queries.readings import latest_time, reading_entry, request_entry
from aggregator.queries.rows import grant_entry, position, table_of, versions
from aggregator.tables import (
    DatasetVersionRow,
    ErasureRow,
    GrantRow,
    HandedLookRow,
    ImageVersionRow,
    ReadingRequestRow,
    ReadingRow,
    TimelineRow,
)
from chain.addresses import address_order
from chain.errors import InvalidInputError
from chain.readings import Agreement

# Time; event or look; block and log index, or number and nothing; whose log a look is in.
_Key: TypeAlias = tuple[int, int, int, int, str]
_Found: TypeAlias = dict[_Key, TimelineEntry | Row[Any]]

_EVENT, _LOOK = 0, 1
_BEGINNING: _Key = (0, -1, 0, 0, "")
# What happens to an image (`TimelineEntry.what`), by what it is about.
OF_GRANTS = frozenset({"GRANTED", "REVOKED"})
OF_READINGS = frozenset({"READ", "SECOND_OPINION", "CORRECTED", "COMPARED"})
OF_REQUESTS = frozenset({"REQUESTED", "TAKEN", "RELEASED", "FULFILLED", "CANCELLED"})


def image_history(
    session: Session,
    image: bytes,
    *,
    now: int,
    log_of: str | None = None,
    kinds: Collection[str] | None = None,
    cursor: str | None = None,
    limit: int = 50,
) -> ImageHistory:
    """Tell all that is known of an image, oldest first.

    Args:
        session: Of the index.
        image: Its commitment.
        now: Unix time that requests' deadlines are held against.
        log_of: Looks only from this hospital's log.
        kinds: Only what is one of these (`TimelineEntry.what`).
        cursor: Of the page before, None for the first one.
        limit: How many entries a page may hold, 1 to 200.

    Raises:
        InvalidInputError: If nothing names such an image, or cursor or limit are malformed.
    """
    size = checked_limit(limit) + 1
    after = _BEGINNING if cursor is None else _read(cursor)
    owners = image_owners(session, image, log_of)
    known = versions(session, DatasetVersionRow.version.in_(owners)) if owners else ()
    if not known:
        raise InvalidInputError(f"the index has no image 0x{image.hex()}")
    found: _Found = {}
    for entry in known:
        found |= _changes(entry, kinds, after)
        if log_of in (None, entry.hospital) and (kinds is None or "LOOKED" in kinds):
            found |= _looks(session, image, entry, after, size)
    for subject in (image, *owners):
        found |= _events(session, subject, kinds, after, size)
    keys = sorted(found)[:size]
    shown = keys[:limit]
    things = _Things(session, (found[key] for key in shown), latest_time(session, now))
    following = write_cursor(*shown[-1]) if len(keys) > limit else None
    hospitals = sorted({entry.hospital for entry in known}, key=address_order)
    return ImageHistory(
        image,
        known,
        _erasures(session, image),
        look_logs(session, [one for one in hospitals if log_of in (None, one)]),
        Page(tuple(things.entry(found[key]) for key in shown), following),
    )


def image_owners(session: Session, image: bytes, log_of: str | None = None) -> dict[bytes, str]:
    """Find the versions that an image is known to be in, and the hospital of each.

    Args:
        session: Of the index.
        image: Its commitment.
        log_of: Of what is known from looks alone, only what this hospital's log says.
    """
    row = ImageVersionRow
    named = session.execute(select(row.version, row.hospital).where(row.image == image))
    found: dict[bytes, str] = {row.version: row.hospital for row in named}
    looked_at = versions_looked_at(session, image)
    return found | {
        version: hospital for version, hospital in looked_at.items() if log_of in (None, hospital)
    }


class _Things:
    """The grants, readings and requests that rows of timelines are about, as they stand.

    Args:
        session: Of the index.
        found: The rows; what is an entry already needs nothing.
        now: Unix time that requests' deadlines are held against.
    """

    def __init__(
        self, session: Session, found: Iterable[TimelineEntry | Row[Any]], now: int
    ) -> None:
        rows = [one for one in found if not isinstance(one, TimelineEntry)]
        self._grants: dict[bytes, GrantEntry] = {}
        self._requests: dict[bytes, RequestEntry] = {}
        self._readings: dict[bytes, ReadingEntry] = {}
        named = {one.thing for one in rows if one.what in OF_GRANTS}
        for row in _rows(session, GrantRow, GrantRow.grant, named):
            self._grants[row.grant] = grant_entry(row)
        named = {one.thing for one in rows if one.what in OF_REQUESTS}
        for row in _rows(session, ReadingRequestRow, ReadingRequestRow.request, named):
            self._requests[row.request] = request_entry(row, now)
        named = {one.thing for one in rows if one.what in OF_READINGS}
        named |= {one.other for one in rows if one.other is not None}
        named |= {one.reading for one in self._requests.values() if one.reading is not None}
        for row in _rows(session, ReadingRow, ReadingRow.reading, named):
            self._readings[row.reading] = reading_entry(row)

    def entry(self, found: TimelineEntry | Row[Any]) -> TimelineEntry:
        """Return a row as an entry."""
        if isinstance(found, TimelineEntry):
            return found
        place = (found.what, found.at, position(found))
        by = (found.hospital, found.actor)
        if found.what in OF_GRANTS:
            grant = self._grants[found.thing]
            return TimelineEntry(*place, grant.version, *by, grant=grant)
        if found.what in OF_READINGS:
            reading = self._readings[found.thing]
            said = self._comparison(found) if found.what == "COMPARED" else None
            return TimelineEntry(*place, reading.version, *by, reading=reading, comparison=said)
        if found.what in OF_REQUESTS:
            request = self._requests[found.thing]
            made = self._readings.get(request.reading or b"")
            if found.what != "FULFILLED" or made is None:
                return TimelineEntry(*place, request.version, *by, request=request)
            by = (made.hospital, made.author)
            return TimelineEntry(*place, request.version, *by, reading=made, request=request)
        return TimelineEntry(*place, found.thing, *by)

    def _comparison(self, row: Row[Any]) -> ComparisonEntry:
        own, other = self._readings[row.thing], self._readings[row.other]
        return ComparisonEntry(
            own.reading,
            other.reading,
            row.actor or own.author,
            Agreement(row.value),
            own.corrected_by is not None or other.corrected_by is not None,
            row.at,
            position(row),
        )


def _rows(session: Session, row_type: Any, key: Any, named: set[bytes]) -> Iterable[Row[Any]]:
    if not named:
        return ()
    return session.execute(select(table_of(row_type)).where(key.in_(sorted(named)))).all()


def _changes(version: VersionEntry, kinds: Collection[str] | None, after: _Key) -> _Found:
    """Return what happened to a version, but for erasures, which are of one image each."""
    found: _Found = {}
    for change in version.changes:
        if change.what == "ERASED" or (kinds is not None and change.what not in kinds):
            continue
        place = change.position
        key = (change.changed_at, _EVENT, place.block, place.log_index, "")
        if key > after:
            whose = (version.version, version.hospital, None)
            found[key] = TimelineEntry(change.what, change.changed_at, place, *whose, change=change)
    return found


def _events(
    session: Session, subject: bytes, kinds: Collection[str] | None, after: _Key, size: int
) -> _Found:
    at, kind, block, log_index, _ = after
    row = TimelineRow
    if kind == _EVENT:
        is_later = tuple_(row.at, row.block, row.log_index) > (at, block, log_index)
    else:
        is_later = row.at > at if kind == _LOOK else row.at >= at
    statement = select(table_of(row)).where(row.subject == subject, is_later)
    if kinds is not None:
        statement = statement.where(row.what.in_(sorted(kinds)))
    statement = statement.order_by(row.at, row.block, row.log_index).limit(size)
    return {
        (one.at, _EVENT, one.block, one.log_index, ""): one for one in session.execute(statement)
    }


def _looks(session: Session, image: bytes, version: VersionEntry, after: _Key, size: int) -> _Found:
    at, kind, number, _, _ = after
    row = HandedLookRow
    statement = anchored_looks().where(
        row.image == image,
        row.version == version.version,
        row.hospital == version.hospital,
        tuple_(row.time, row.number) >= (at, number if kind == _LOOK else 0),
    )
    # One more, as the last of the page before may be among them.
    rows = session.execute(statement.order_by(row.time, row.number).limit(size + 1))
    found: _Found = {}
    for look in map(look_entry, rows):
        key = (look.time, _LOOK, look.number, 0, look.hospital)
        if key > after:
            whose = (look.version, look.hospital, look.researcher)
            found[key] = TimelineEntry("LOOKED", look.time, look.position, *whose, look=look)
    return found


def _erasures(session: Session, image: bytes) -> tuple[Erasure, ...]:
    row = ErasureRow
    rows = session.execute(
        select(table_of(row)).where(row.image == image).order_by(row.block, row.log_index)
    )
    return tuple(Erasure(one.version, one.hospital, one.erased_at, position(one)) for one in rows)


def _read(cursor: str) -> _Key:
    at, kind, first, second, hospital = read_cursor(cursor, int, int, int, int, str)
    return at, kind, first, second, hospital
