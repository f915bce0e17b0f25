"""Recorded updates with their data and verdicts, for every answer that shows some."""

from collections.abc import Callable, Sequence
from typing import Any, TypeAlias

from sqlalchemy import ColumnElement, Row, select
from sqlalchemy.orm import Session

from aggregator.queries.entries import Contribution, DatasetUse, VerdictEntry
from aggregator.queries.pages import Page, checked_limit, page_of, read_cursor
from aggregator.queries.rows import position, table_of, verdict_entry
from aggregator.tables import DatasetVersionRow, RecordDatasetRow, RecordRow, RoundRow, VerdictRow
from chain.types import DatasetState, Phase

_Place: TypeAlias = tuple[int, str]
_Among: TypeAlias = Callable[[type[RecordRow | RecordDatasetRow | VerdictRow]], ColumnElement[bool]]


def of_rounds(session: Session, numbers: Sequence[int]) -> tuple[Contribution, ...]:
    """Read all updates of some rounds, in the order of the ledger."""
    return _contributions(session, lambda row_type: row_type.round.in_(numbers))


def page_of_hospital(
    session: Session, hospital: str, cursor: str | None, limit: int
) -> Page[Contribution]:
    """Read a page of a hospital's updates, the newest first."""
    columns = (RecordRow.round, RecordRow.hospital)
    return _page(session, columns, RecordRow.hospital == hospital, cursor, limit)


def page_of_dataset(
    session: Session, dataset: bytes, cursor: str | None, limit: int
) -> Page[Contribution]:
    """Read a page of the updates that were trained on any version of a data set."""
    columns = (RecordDatasetRow.round, RecordDatasetRow.hospital)
    return _page(session, columns, RecordDatasetRow.dataset == dataset, cursor, limit)


def _page(
    session: Session, columns: Any, which: ColumnElement[bool], cursor: str | None, limit: int
) -> Page[Contribution]:
    number, hospital = columns
    # Two versions of one data set may be in one update.
    statement = select(*columns).where(which).order_by(number.desc(), hospital).distinct()
    if cursor is not None:
        last, address = read_cursor(cursor, int, str)
        # Bounded by the round first, so that the database can go right to it.
        statement = statement.where(number <= last, (number < last) | (hospital > address))
    places = [tuple(row) for row in session.execute(statement.limit(checked_limit(limit) + 1))]
    numbers = sorted({place[0] for place in places})
    hospitals = sorted({place[1] for place in places})
    found = {
        (one.round, one.hospital): one
        for one in _contributions(
            session,
            # Not by pairs, for which SQLite walks through the whole table.
            lambda row_type: row_type.round.in_(numbers) & row_type.hospital.in_(hospitals),
        )
    }
    entries = [found[place] for place in places if place in found]
    return page_of(entries, limit, lambda entry: (entry.round, entry.hospital))


def _contributions(session: Session, among: _Among) -> tuple[Contribution, ...]:
    rows = session.execute(
        select(table_of(RecordRow), RoundRow.task, RoundRow.phase)
        .join(RoundRow, RoundRow.number == RecordRow.round)
        .where(among(RecordRow))
        .order_by(RecordRow.block, RecordRow.log_index)
    )
    datasets = _datasets(session, among)
    judged = _verdicts(session, among)
    return tuple(
        _contribution(
            row,
            datasets.get((row.round, row.hospital), ()),
            judged.get((row.round, row.hospital)),
        )
        for row in rows
    )


def _contribution(
    row: Row[Any], datasets: Sequence[DatasetUse], verdict: VerdictEntry | None
) -> Contribution:
    return Contribution(
        row.round,
        row.task,
        Phase(row.phase),
        row.hospital,
        row.examples,
        row.update,
        row.blob,
        row.code,
        row.recorded_at,
        position(row),
        tuple(datasets),
        verdict,
    )


def _datasets(session: Session, among: _Among) -> dict[_Place, list[DatasetUse]]:
    uses = session.execute(
        select(RecordDatasetRow.round, RecordDatasetRow.hospital, RecordDatasetRow.version)
        .where(among(RecordDatasetRow))
        .order_by(RecordDatasetRow.version)
    ).all()
    # Few versions stand behind many uses, so each is read once.
    known = _known_versions(session, sorted({use.version for use in uses}))
    found: dict[_Place, list[DatasetUse]] = {}
    for number, hospital, version in uses:
        if version in known:
            found.setdefault((number, hospital), []).append(known[version])
    return found


def _known_versions(session: Session, versions: Sequence[bytes]) -> dict[bytes, DatasetUse]:
    columns = (
        DatasetVersionRow.version,
        DatasetVersionRow.dataset,
        DatasetVersionRow.name,
        DatasetVersionRow.state,
        DatasetVersionRow.images,
    )
    rows = session.execute(select(*columns).where(DatasetVersionRow.version.in_(versions)))
    return {
        version: DatasetUse(version, dataset, name, DatasetState(state), images)
        for version, dataset, name, state, images in rows
    }


def _verdicts(session: Session, among: _Among) -> dict[_Place, VerdictEntry]:
    statement = select(table_of(VerdictRow)).where(among(VerdictRow), VerdictRow.newest)
    return {(row.round, row.hospital): verdict_entry(row) for row in session.execute(statement)}
