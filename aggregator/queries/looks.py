"""Who did look: batches that hospitals anchored, and the looks that they handed over.

A batch that was handed over answers as long as the chain has one of the same hospital, root, first
number and count (docs/protocol.md, section 15). Only the log of the hospital whose image it is
counts: in its own log anybody could write down anything.
"""

from collections.abc import Iterable
from typing import Any

from sqlalchemy import ColumnElement, Row, Select, and_, func, select, tuple_
from sqlalchemy.orm import Session

from aggregator.queries.entries import LookBatch, LookEntry, LookLog, Looks, Span, VersionEntry
from aggregator.queries.pages import Page, checked_limit, in_range, page_of, read_cursor
from aggregator.queries.rows import position, table_of
from aggregator.tables import (
    DatasetVersionRow,
    HandedBatchRow,
    HandedLookRow,
    LookBatchRow,
    LookLogRow,
)

_IS_ANCHORED = and_(
    LookBatchRow.root == HandedBatchRow.root,
    LookBatchRow.hospital == HandedBatchRow.hospital,
    LookBatchRow.first == HandedBatchRow.first,
    LookBatchRow.entries == HandedBatchRow.entries,
)


def look_batch(session: Session, hospital: str, batch: int) -> LookBatch | None:
    """Look an anchored batch up, None where the chain has no such batch.

    Raises:
        InvalidInputError: If the number does not fit the databases.
    """
    which = (LookBatchRow.hospital == hospital, LookBatchRow.batch == in_range(batch))
    row = session.execute(_batches().where(*which)).one_or_none()
    return None if row is None else _batch_entry(row)


def look_batches(
    session: Session,
    hospital: str,
    *,
    handed: bool | None = None,
    cursor: str | None = None,
    limit: int = 50,
) -> Page[LookBatch]:
    """List a hospital's anchored batches, oldest first.

    Args:
        session: Of the index.
        hospital: Its EIP-55 address.
        handed: Only those that it handed over, or only those that it did not.
        cursor: Of the page before, None for the first one.
        limit: How many batches a page may hold, 1 to 200.

    Raises:
        InvalidInputError: If cursor or limit are malformed.
    """
    statement = _batches().where(LookBatchRow.hospital == hospital).order_by(LookBatchRow.batch)
    if handed is not None:
        is_there = HandedBatchRow.root.is_not(None)
        statement = statement.where(is_there if handed else ~is_there)
    if cursor is not None:
        (after,) = read_cursor(cursor, int)
        statement = statement.where(LookBatchRow.batch > after)
    rows = session.execute(statement.limit(checked_limit(limit) + 1))
    return page_of(list(map(_batch_entry, rows)), limit, lambda entry: (entry.batch,))


def looks(
    session: Session, researcher: str, *, cursor: str | None = None, limit: int = 50
) -> Page[LookEntry]:
    """List a researcher's looks, oldest first, as far as they were handed over.

    Raises:
        InvalidInputError: If cursor or limit are malformed.
    """
    look = HandedLookRow
    statement = anchored_looks().where(look.researcher == researcher)
    place = tuple_(look.time, look.number, look.hospital)
    if cursor is not None:
        statement = statement.where(place > read_cursor(cursor, int, int, str))
    statement = statement.order_by(look.time, look.number, look.hospital)
    rows = session.execute(statement.limit(checked_limit(limit) + 1))
    return page_of(
        list(map(look_entry, rows)), limit, lambda one: (one.time, one.number, one.hospital)
    )


def looks_of_day(
    session: Session,
    version: VersionEntry,
    image: bytes | None,
    day: Span,
    *,
    cursor: str | None = None,
    limit: int = 50,
) -> Looks:
    """Tell who looked at a version's image on a day, and what is missing of its hospital's log.

    Raises:
        InvalidInputError: If cursor or limit are malformed.
    """
    look = HandedLookRow
    which: list[ColumnElement[bool]] = [
        look.version == version.version,
        look.hospital == version.hospital,
        look.time.between(day.since, day.until),
    ]
    if image is not None:
        which.append(look.image == image)
    if cursor is not None:
        which.append(tuple_(look.time, look.number) > read_cursor(cursor, int, int))
    statement = anchored_looks().where(*which).order_by(look.time, look.number)
    rows = session.execute(statement.limit(checked_limit(limit) + 1))
    found = page_of(list(map(look_entry, rows)), limit, lambda one: (one.time, one.number))
    return Looks(look_logs(session, [version.hospital])[0], found)


def look_logs(session: Session, hospitals: Iterable[str]) -> tuple[LookLog, ...]:
    """Tell how much of some hospitals' access logs is known, in the order of their names."""
    return tuple(_look_log(session, hospital) for hospital in hospitals)


def versions_looked_at(session: Session, image: bytes) -> dict[bytes, str]:
    """Find the versions that looks name with an image, and the hospital of each."""
    found: dict[bytes, str] = {}
    look = HandedLookRow
    named = anchored_looks().where(look.image == image, _IS_OWNERS).order_by(look.version).limit(1)
    version = b""
    # From one version to the next, however many looks each has. What a log claims of versions that
    # are not its hospital's is passed over within the database: there may be many of these.
    while row := session.execute(named.where(look.version > version)).one_or_none():
        version = row.version
        found[version] = row.hospital
    return found


# Of a look beside the version that it names.
_IS_OWNERS = (
    select(DatasetVersionRow.version)
    .where(
        DatasetVersionRow.version == HandedLookRow.version,
        DatasetVersionRow.hospital == HandedLookRow.hospital,
    )
    .exists()
)


def anchored_looks() -> Select[Any]:
    """Select the looks that were handed over and are on the chain, with their batches."""
    batch = LookBatchRow
    return (
        select(table_of(HandedLookRow), batch.batch, batch.block, batch.log_index)
        .add_columns(batch.transaction)
        .join(HandedBatchRow, HandedBatchRow.root == HandedLookRow.root)
        .join(LookBatchRow, _IS_ANCHORED)
    )


def look_entry(row: Row[Any]) -> LookEntry:
    """Return a row of looks with its batch as an entry."""
    return LookEntry(
        row.hospital,
        row.batch,
        row.number,
        row.researcher,
        row.grant,
        row.version,
        row.image,
        row.time,
        row.request,
        position(row),
    )


def _batches() -> Select[Any]:
    return select(table_of(LookBatchRow), HandedBatchRow.handed_at).outerjoin(
        HandedBatchRow, _IS_ANCHORED
    )


def _batch_entry(row: Row[Any]) -> LookBatch:
    return LookBatch(
        row.hospital,
        row.batch,
        row.root,
        row.first,
        row.entries,
        row.anchored_at,
        position(row),
        row.handed_at,
    )


def _look_log(session: Session, hospital: str) -> LookLog:
    of_hospital = LookLogRow.hospital == hospital
    row = session.execute(select(table_of(LookLogRow)).where(of_hospital)).one_or_none()
    if row is None:
        return LookLog(hospital, 0, 0, None)
    handed = session.scalar(
        select(func.count())
        .select_from(HandedBatchRow)
        .join(LookBatchRow, _IS_ANCHORED)
        .where(HandedBatchRow.hospital == hospital)
    )
    return LookLog(hospital, row.batches, row.batches - (handed or 0), row.anchored_at)
