"""Who could look: grants, and which of them were live on a day (docs/protocol.md, section 11)."""

from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, date, datetime
from typing import Any, TypeAlias

from sqlalchemy import ColumnElement, Row, func, select, tuple_
from sqlalchemy.orm import Session

from aggregator.queries.entries import GrantEntry, Sight, Span, VersionEntry, Viewers
from aggregator.queries.looks import looks_of_day
from aggregator.queries.pages import Page, checked_limit, page_of, read_cursor, write_cursor
from aggregator.queries.rows import grant_entry, table_of, versions
from aggregator.tables import (
    DAY,
    DatasetVersionRow,
    ErasureRow,
    GrantRow,
    MembershipChangeRow,
)
from chain.errors import InvalidInputError
from chain.types import Role

_Changes: TypeAlias = Iterable[tuple[int, bool]]  # from a time on something holds or does not
_Members: TypeAlias = Mapping[str, Sequence[Row[Any]]]
_Erased: TypeAlias = Mapping[tuple[str, bytes], int]  # hospital and image: when
_FOREVER = 1 << 63


def grants(
    session: Session,
    *,
    version: bytes | None = None,
    hospital: str | None = None,
    researcher: str | None = None,
    cursor: str | None = None,
    limit: int = 50,
) -> Page[GrantEntry]:
    """List grants, the newest first.

    Args:
        session: Of the index.
        version: Only on this data-set version.
        hospital: Only of this EIP-55 address.
        researcher: Only to this EIP-55 address.
        cursor: Of the page before, None for the first one.
        limit: How many grants a page may hold, 1 to 200.

    Raises:
        InvalidInputError: If cursor or limit are malformed.
    """
    wanted: tuple[tuple[ColumnElement[Any] | Any, object], ...] = (
        (GrantRow.version, version),
        (GrantRow.hospital, hospital),
        (GrantRow.researcher, researcher),
    )
    which = [column == value for column, value in wanted if value is not None]
    found = _newest(session, which, cursor, limit)
    return page_of(found, limit, _place)


def viewers(
    session: Session,
    version: bytes,
    image: bytes | None,
    day: date,
    *,
    cursor: str | None = None,
    limit: int = 50,
    looks_cursor: str | None = None,
) -> Viewers:
    """Tell who could see an image on a day, and who did.

    A grant could be used while it was not revoked and not expired, both parties were active, the
    version was usable for its purpose and the image was not erased. What changed in the course of
    a second counts for all of it.

    Args:
        session: Of the index.
        version: The data-set version.
        image: The image's commitment; None for any image of the version.
        day: In UTC.
        cursor: Of the page before, None for the first one.
        limit: How many grants a page may look at, 1 to 200, and how many looks it may hold.
        looks_cursor: Of the page of looks before, None for the first one.

    Raises:
        InvalidInputError: If the index has no such version, or cursor or limit are malformed.
    """
    found = versions(session, DatasetVersionRow.version == version)
    if not found:
        raise InvalidInputError(f"the index has no data-set version 0x{version.hex()}")
    since = int(datetime(day.year, day.month, day.day, tzinfo=UTC).timestamp())
    whole_day = Span(since, since + DAY - 1)
    if since < 0:
        raise InvalidInputError(f"expected a day from 1970 on, found {day}")
    which: list[ColumnElement[bool]] = [
        GrantRow.version == version,
        GrantRow.granted_at <= whole_day.until,
        GrantRow.expiry >= whole_day.since,
        GrantRow.revoked_at.is_(None) | (GrantRow.revoked_at >= whole_day.since),
    ]
    if image is not None:
        which.append((GrantRow.image == image) | GrantRow.image.is_(None))
    entries = _newest(session, which, cursor, limit)
    shown = entries[:limit]
    members = _membership(session, shown)
    erased = _erased(session, shown)
    sights = (Sight(one, _live(one, found[0], members, erased, whole_day)) for one in shown)
    following = write_cursor(*_place(shown[-1])) if len(entries) > limit else None
    could = Page(tuple(sight for sight in sights if sight.live), following)
    looks = looks_of_day(session, found[0], image, whole_day, cursor=looks_cursor, limit=limit)
    return Viewers(found[0], image, whole_day, could, looks)


def _newest(
    session: Session, which: Sequence[ColumnElement[bool]], cursor: str | None, limit: int
) -> list[GrantEntry]:
    statement = select(table_of(GrantRow)).where(*which)
    statement = statement.order_by(GrantRow.block.desc(), GrantRow.log_index.desc())
    if cursor is not None:
        before = read_cursor(cursor, int, int)
        statement = statement.where(tuple_(GrantRow.block, GrantRow.log_index) < before)
    return list(map(grant_entry, session.execute(statement.limit(checked_limit(limit) + 1))))


def _place(entry: GrantEntry) -> tuple[int, int]:
    return entry.position.block, entry.position.log_index


def _membership(session: Session, found: Sequence[GrantEntry]) -> dict[str, list[Row[Any]]]:
    addresses = sorted({address for one in found for address in (one.hospital, one.researcher)})
    changes = session.execute(
        select(table_of(MembershipChangeRow))
        .where(MembershipChangeRow.address.in_(addresses))
        .order_by(MembershipChangeRow.block, MembershipChangeRow.log_index)
    )
    members: dict[str, list[Row[Any]]] = {}
    for row in changes:
        members.setdefault(row.address, []).append(row)
    return members


def _erased(session: Session, found: Sequence[GrantEntry]) -> dict[tuple[str, bytes], int]:
    """Find when images were erased by the hospitals that granted a look at them."""
    row = ErasureRow
    images = sorted({one.image for one in found if one.image is not None})
    when = select(row.hospital, row.image, func.min(row.erased_at)).where(row.image.in_(images))
    rows = session.execute(when.group_by(row.hospital, row.image)) if images else ()
    return {(hospital, image): erased_at for hospital, image, erased_at in rows}


def _live(
    grant: GrantEntry, version: VersionEntry, members: _Members, erased: _Erased, day: Span
) -> tuple[Span, ...]:
    """Tell when on a day a grant was live."""
    if grant.hospital != version.hospital:
        return ()  # the contract takes such a grant, and no look ever passes it
    ends = [day.until, grant.expiry, day.until if grant.revoked_at is None else grant.revoked_at]
    if grant.image is not None:
        ends.append(erased.get((grant.hospital, grant.image), day.until))
    spans = [Span(max(day.since, grant.granted_at), min(ends))]
    for changes in (
        _active(members.get(grant.hospital, ()), Role.HOSPITAL),
        _active(members.get(grant.researcher, ()), Role.RESEARCHER),
        _usable(version, grant.purpose),
    ):
        spans = _both(spans, _holding(changes))
    return tuple(spans)


def _active(rows: Iterable[Row[Any]], role: Role) -> _Changes:
    has_role, is_suspended = False, False
    for row in rows:
        if row.role == role.value:
            has_role = row.what == "ROLE_GRANTED"
        elif row.what in {"SUSPENDED", "REINSTATED"}:
            is_suspended = row.what == "SUSPENDED"
        yield row.changed_at, has_role and not is_suspended


def _usable(version: VersionEntry, purpose: int) -> _Changes:
    is_over = False
    purposes: tuple[int, ...] = ()
    for change in version.changes:
        is_over = is_over or change.what in {"SUPERSEDED", "WITHDRAWN"}
        purposes = purposes if change.purposes is None else change.purposes
        yield change.changed_at, purpose in purposes and not is_over


def _holding(changes: _Changes) -> list[Span]:
    """Return when something holds, joined where it goes on."""
    spans: list[Span] = []
    since: int | None = None
    for at, holds in changes:
        if holds and since is None:
            since = at
        elif not holds and since is not None:
            spans.append(Span(since, at))
            since = None
    if since is not None:
        spans.append(Span(since, _FOREVER))
    return spans


def _both(some: Iterable[Span], others: Sequence[Span]) -> list[Span]:
    """Return when one of some and one of the others hold."""
    found = [
        Span(max(one.since, other.since), min(one.until, other.until))
        for one in some
        for other in others
    ]
    return [span for span in found if span.since <= span.until]
