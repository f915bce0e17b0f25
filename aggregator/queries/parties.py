"""Who is in the federation: parties by role, and their names."""

from collections.abc import Collection

from sqlalchemy import select
from sqlalchemy.orm import Session

from aggregator.queries.entries import PartyEntry
from aggregator.queries.pages import Page, checked_limit, page_of, read_cursor
from aggregator.queries.rows import position, table_of
from aggregator.tables import ParticipantRoleRow, ParticipantRow
from chain.types import Role


def parties(
    session: Session, *, role: Role | None = None, cursor: str | None = None, limit: int = 50
) -> Page[PartyEntry]:
    """List parties by address.

    Args:
        session: Of the index.
        role: Only those that have it now.
        cursor: Of the page before, None for the first one.
        limit: How many parties a page may hold, 1 to 200.

    Raises:
        InvalidInputError: If cursor or limit are malformed.
    """
    statement = select(table_of(ParticipantRow)).order_by(ParticipantRow.address)
    if role is not None:
        has_role = select(ParticipantRoleRow.address).where(ParticipantRoleRow.role == role.value)
        statement = statement.where(ParticipantRow.address.in_(has_role))
    if cursor is not None:
        (address,) = read_cursor(cursor, str)
        statement = statement.where(ParticipantRow.address > address)
    rows = session.execute(statement.limit(checked_limit(limit) + 1)).all()
    roles: dict[str, list[str]] = {row.address: [] for row in rows}
    held = select(ParticipantRoleRow.address, ParticipantRoleRow.role)
    for address, word in session.execute(held.where(ParticipantRoleRow.address.in_(list(roles)))):
        roles[address].append(word)
    entries = [
        PartyEntry(
            row.address,
            row.name,
            tuple(sorted(roles[row.address])),
            row.suspended,
            row.enrolled_at,
            position(row),
        )
        for row in rows
    ]
    return page_of(entries, limit, lambda entry: (entry.address,))


def names(session: Session, addresses: Collection[str]) -> dict[str, str]:
    """Tell the names of those of some addresses that are enrolled."""
    wanted = ParticipantRow.address.in_(sorted(addresses))
    columns = (ParticipantRow.address, ParticipantRow.name)
    rows = session.execute(select(*columns).where(wanted))
    return {row.address: row.name for row in rows}
