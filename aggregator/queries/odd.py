"""What looked odd, in the chain as it was followed and in what it says."""

from sqlalchemy import select
from sqlalchemy.orm import Session

from aggregator.queries.entries import ChainFinding, Oddities, OddityCount, OddityEntry
from aggregator.queries.pages import (
    MAX_PAGE,
    Page,
    checked_limit,
    in_range,
    page_of,
    read_cursor,
)
from aggregator.queries.rows import position, table_of
from aggregator.tables import ChainFindingRow, OddityCountRow, OddityRow


def oddities(
    session: Session,
    *,
    kind: str | None = None,
    round_number: int | None = None,
    cursor: str | None = None,
    limit: int = 50,
) -> Oddities:
    """Tell what looked odd, the newest first.

    Args:
        session: Of the index.
        kind: Only entries of this kind, a value of `aggregator.oddities.Oddity`.
        round_number: Only entries about this round.
        cursor: Of the page of entries before, None for the first one.
        limit: How many entries a page may hold, 1 to 200.

    Raises:
        InvalidInputError: If cursor or limit are malformed.
    """
    return Oddities(
        _findings(session),
        oddity_counts(session),
        _page(session, kind, round_number, cursor, limit),
    )


def oddity_counts(session: Session) -> tuple[OddityCount, ...]:
    """Count oddities by kind."""
    columns = (OddityCountRow.kind, OddityCountRow.found)
    rows = session.execute(select(*columns).order_by(OddityCountRow.kind))
    return tuple(OddityCount(kind, found) for kind, found in rows)


def _findings(session: Session) -> tuple[ChainFinding, ...]:
    rows = session.execute(
        select(table_of(ChainFindingRow)).order_by(ChainFindingRow.number.desc()).limit(MAX_PAGE)
    )
    return tuple(
        ChainFinding(
            row.number, row.what, row.block, row.expected, row.found, row.head, row.seen_at
        )
        for row in rows
    )


def _page(
    session: Session, kind: str | None, round_number: int | None, cursor: str | None, limit: int
) -> Page[OddityEntry]:
    order = (OddityRow.block.desc(), OddityRow.log_index.desc(), OddityRow.kind.desc())
    statement = select(table_of(OddityRow)).order_by(*order)
    if kind is not None:
        statement = statement.where(OddityRow.kind == kind)
    if round_number is not None:
        statement = statement.where(OddityRow.round == in_range(round_number))
    if cursor is not None:
        block, log_index, word = read_cursor(cursor, int, int, str)
        # Bounded by the block first, so that the database can go right to it.
        behind = (
            (OddityRow.block < block)
            | (OddityRow.log_index < log_index)
            | ((OddityRow.log_index == log_index) & (OddityRow.kind < word))
        )
        statement = statement.where(OddityRow.block <= block, behind)
    rows = session.execute(statement.limit(checked_limit(limit) + 1))
    entries = [
        OddityEntry(
            row.kind,
            row.round,
            row.subject,
            row.expected,
            row.found,
            row.noticed_at,
            position(row),
        )
        for row in rows
    ]
    return page_of(entries, limit, _place)


def _place(entry: OddityEntry) -> tuple[int, int, str]:
    return entry.position.block, entry.position.log_index, entry.kind
