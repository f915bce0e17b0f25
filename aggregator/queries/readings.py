"""Readings of images, second opinions, requests, and who reads (docs/protocol.md, section 16)."""

from collections.abc import Sequence
from typing import Any, TypeAlias

from sqlalchemy import ColumnElement, Row, Select, and_, not_, or_, select, tuple_
from sqlalchemy.orm import Session, aliased

from aggregator.queries.entries import (
    ClinicianEntry,
    ComparisonEntry,
    ReadingEntry,
    ReadingHistory,
    RequestEntry,
)
from aggregator.queries.looks import versions_looked_at
from aggregator.queries.pages import MAX_PAGE, Page, checked_limit, page_of, read_cursor
from aggregator.queries.rows import position, table_of
from aggregator.tables import (
    ClinicianRow,
    ComparisonRow,
    ImageVersionRow,
    IndexHead,
    ReadingRequestRow,
    ReadingRow,
)
from chain.errors import InvalidInputError
from chain.readings import Agreement, RequestState, has_lapsed
from chain.types import LogPosition

_DIGITS = 20  # of a deadline in a cursor, which may be any number below 2^64
_Which: TypeAlias = Sequence[ColumnElement[bool]]


def readings(
    session: Session,
    *,
    image: bytes | None = None,
    version: bytes | None = None,
    hospital: str | None = None,
    author: str | None = None,
    party: str | None = None,
    cursor: str | None = None,
    limit: int = 50,
) -> Page[ReadingEntry]:
    """List readings and corrections, the newest first.

    Args:
        session: Of the index.
        image: Only of this image.
        version: Only recorded under this data-set version.
        hospital: Only those of this hospital, by its EIP-55 address.
        author: Only by this EIP-55 address.
        party: Only this hospital's own, and those of its images.
        cursor: Of the page before, None for the first one.
        limit: How many readings a page may hold, 1 to 200.

    Raises:
        InvalidInputError: If cursor or limit are malformed.
    """
    wanted: tuple[tuple[Any, object], ...] = (
        (ReadingRow.image, image),
        (ReadingRow.version, version),
        (ReadingRow.hospital, hospital),
        (ReadingRow.author, author),
    )
    which = [column == value for column, value in wanted if value is not None]
    ways: list[_Which] = [()]
    if party is not None:
        ways = [[ReadingRow.owner == party], [ReadingRow.hospital == party]]
    rows = _newest(session, ReadingRow, which, ways, cursor, limit)
    return page_of(list(map(reading_entry, rows)), limit, _place)


def reading_history(session: Session, reading: bytes) -> ReadingHistory:
    """Tell all that was said of a reading or of a correction of it.

    Raises:
        InvalidInputError: If the index has no such reading.
    """
    is_reading = ReadingRow.reading == reading
    line = session.scalar(select(ReadingRow.line).where(is_reading))
    if line is None:
        raise InvalidInputError(f"the index has no reading 0x{reading.hex()}")
    return ReadingHistory(
        _newest_readings(session, ReadingRow.line == line),
        _comparisons(session, line),
        _newest_readings(session, ReadingRow.opinion_line == line),
    )


def requests(
    session: Session,
    *,
    now: int,
    image: bytes | None = None,
    hospital: str | None = None,
    taker: str | None = None,
    state: RequestState | None = None,
    lapsed: bool | None = None,
    party: str | None = None,
    cursor: str | None = None,
    limit: int = 50,
) -> Page[RequestEntry]:
    """List requests for readings, the newest first.

    Args:
        session: Of the index.
        now: Unix time that deadlines are held against; the chain's, where that is later.
        image: Only for this image.
        hospital: Only of this hospital, by its EIP-55 address.
        taker: Only those that this hospital took.
        state: Only those that stand there.
        lapsed: Only those that are past the deadline of their state, or only those that are not.
        party: Only those that this hospital made, took or is asked by.
        cursor: Of the page before, None for the first one.
        limit: How many requests a page may hold, 1 to 200.

    Raises:
        InvalidInputError: If cursor or limit are malformed.
    """
    row = ReadingRequestRow
    wanted: tuple[tuple[Any, object], ...] = (
        (row.image, image),
        (row.hospital, hospital),
        (row.taker, taker),
        (row.state, None if state is None else state.value),
    )
    which = [column == value for column, value in wanted if value is not None]
    at = latest_time(session, now)
    if lapsed is not None:
        is_past = or_(
            and_(row.state == RequestState.OPEN.value, row.take_by < at),
            and_(row.state == RequestState.TAKEN.value, row.fulfil_by < at),
        )
        which.append(is_past if lapsed else not_(is_past))
    ways: list[_Which] = [()]
    if party is not None:
        is_open_to_any = [row.state == RequestState.OPEN.value, row.reader.is_(None)]
        ways = [[row.hospital == party], [row.reader == party], [row.taker == party]]
        ways.append(is_open_to_any)
    rows = _newest(session, row, which, ways, cursor, limit)
    return page_of([request_entry(one, at) for one in rows], limit, _place)


def open_requests(
    session: Session, reader: str, *, now: int, cursor: str | None = None, limit: int = 50
) -> Page[RequestEntry]:
    """List the requests that a hospital can take now, those first that must be taken first.

    Args:
        session: Of the index.
        reader: The hospital's EIP-55 address.
        now: Unix time that deadlines are held against; the chain's, where that is later.
        cursor: Of the page before, None for the first one.
        limit: How many requests a page may hold, 1 to 200.

    Raises:
        InvalidInputError: If cursor or limit are malformed.
    """
    row, at = ReadingRequestRow, latest_time(session, now)
    statement = (
        select(table_of(row))
        .where(
            row.state == RequestState.OPEN.value,
            row.take_by >= at,
            row.hospital != reader,
            or_(row.reader.is_(None), row.reader == reader),
        )
        .order_by(row.take_by, row.block, row.log_index)
    )
    if cursor is not None:
        take_by, block, log_index = read_cursor(cursor, str, int, int)
        if not (take_by.isascii() and take_by.isdigit() and len(take_by) <= _DIGITS):
            raise InvalidInputError("the cursor is none that this server gave out")
        last = (int(take_by), block, log_index)
        statement = statement.where(tuple_(row.take_by, row.block, row.log_index) > last)
    rows = session.execute(statement.limit(checked_limit(limit) + 1))
    return page_of(
        [request_entry(one, at) for one in rows],
        limit,
        lambda one: (f"{one.take_by}", one.position.block, one.position.log_index),
    )


def clinicians(
    session: Session, hospital: str, *, cursor: str | None = None, limit: int = 50
) -> Page[ClinicianEntry]:
    """List the clinicians whom a hospital appointed, the newest appointments first.

    Raises:
        InvalidInputError: If cursor or limit are malformed.
    """
    which = [ClinicianRow.hospital == hospital]
    rows = _newest(session, ClinicianRow, which, [()], cursor, limit)
    found = [
        ClinicianEntry(row.hospital, row.clinician, row.until, row.appointed_at, position(row))
        for row in rows
    ]
    return page_of(found, limit, _place)


def may_ask_about(session: Session, image: bytes, hospital: str) -> bool:
    """Tell whether an image is a hospital's own, or one that it read or was asked to read.

    What a hospital's own log says of whose an image is counts only while the ledger names the image
    nowhere: a log can name anybody's, the ledger takes a proof.
    """
    asked = ReadingRequestRow
    ways = (
        select(ImageVersionRow.image).where(
            ImageVersionRow.image == image, ImageVersionRow.hospital == hospital
        ),
        select(ReadingRow.image).where(ReadingRow.image == image, ReadingRow.hospital == hospital),
        select(asked.image).where(asked.image == image, asked.reader == hospital),
        select(asked.image).where(asked.image == image, asked.taker == hospital),
    )
    if any(session.execute(way.limit(1)).one_or_none() for way in ways):
        return True
    named = select(ImageVersionRow.image).where(ImageVersionRow.image == image).limit(1)
    if session.execute(named).one_or_none():
        return False
    return hospital in versions_looked_at(session, image).values()


def reading_entry(row: Row[Any]) -> ReadingEntry:
    """Return a row of readings as an entry."""
    return ReadingEntry(
        row.reading,
        row.version,
        row.image,
        row.owner,
        row.hospital,
        row.author,
        row.opinion_on,
        row.request,
        row.document,
        row.blob,
        row.corrects,
        row.corrected_by,
        row.reason,
        row.recorded_at,
        position(row),
    )


def request_entry(row: Row[Any], now: int) -> RequestEntry:
    """Return a row of requests as an entry, with its deadlines held against a time."""
    state = RequestState(row.state)
    return RequestEntry(
        row.request,
        row.version,
        row.image,
        row.hospital,
        row.reader,
        row.opinion_on,
        row.take_by,
        row.fulfil_by,
        row.question,
        state,
        has_lapsed(state, row.take_by, row.fulfil_by, now),
        row.taker,
        row.reading,
        row.asked_at,
        position(row),
        row.changed_at,
        LogPosition(row.changed_block, row.changed_log_index, row.changed_transaction),
    )


def latest_time(session: Session, now: int) -> int:
    """Return the time that deadlines are held against: the clock's, or the chain's if later."""
    return max(now, session.scalar(select(IndexHead.event_time)) or 0)


def _newest_readings(session: Session, which: ColumnElement[bool]) -> tuple[ReadingEntry, ...]:
    rows = _newest(session, ReadingRow, [which], [()], None, MAX_PAGE)[:MAX_PAGE]
    return tuple(map(reading_entry, reversed(rows)))


def _comparisons(session: Session, line: bytes) -> tuple[ComparisonEntry, ...]:
    ways: list[_Which] = [[ComparisonRow.own_line == line], [ComparisonRow.other_line == line]]
    own, other = aliased(ReadingRow), aliased(ReadingRow)
    statement = (
        select(
            table_of(ComparisonRow),
            or_(own.corrected_by.is_not(None), other.corrected_by.is_not(None)).label("outdated"),
        )
        .join(own, own.reading == ComparisonRow.own)
        .join(other, other.reading == ComparisonRow.other)
    )
    rows = _newest_of(session, statement, ComparisonRow, ways, None, MAX_PAGE)[:MAX_PAGE]
    return tuple(
        ComparisonEntry(
            row.own,
            row.other,
            row.author,
            Agreement(row.agreement),
            row.outdated,
            row.compared_at,
            position(row),
        )
        for row in reversed(rows)
    )


def _newest(
    session: Session,
    row_type: Any,
    which: _Which,
    ways: Sequence[_Which],
    cursor: str | None,
    limit: int,
) -> list[Row[Any]]:
    statement = select(table_of(row_type)).where(*which)
    return _newest_of(session, statement, row_type, ways, cursor, limit)


def _newest_of(
    session: Session,
    statement: Select[Any],
    row_type: Any,
    ways: Sequence[_Which],
    cursor: str | None,
    limit: int,
) -> list[Row[Any]]:
    """Read the newest rows that any of several conditions admits, each by an index of its own.

    Returns:
        The rows, newest first; one more than the limit where there are more.
    """
    found: dict[tuple[int, int], Row[Any]] = {}
    statement = statement.order_by(row_type.block.desc(), row_type.log_index.desc())
    statement = statement.limit(checked_limit(limit) + 1)
    if cursor is not None:
        before = read_cursor(cursor, int, int)
        statement = statement.where(tuple_(row_type.block, row_type.log_index) < before)
    for way in ways:
        rows = session.execute(statement.where(*way))
        found |= {(row.block, row.log_index): row for row in rows}
    return [found[place] for place in sorted(found, reverse=True)[: limit + 1]]


def _place(entry: ReadingEntry | RequestEntry | ClinicianEntry) -> tuple[int, int]:
    return entry.position.block, entry.position.log_index
