"""Where a model comes from, and which models come from some data.

The final rounds of a task are one line: the ledger takes no other base model than the task's last
final one. A task's first model starts from nothing or from another task's model. So all lines
together are a forest, and nothing here walks further through it than its answer is long.
"""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from sqlalchemy import Row, and_, select
from sqlalchemy.orm import Session

from aggregator.queries import contributions
from aggregator.queries.entries import (
    Ancestor,
    Contribution,
    Descendant,
    Descendants,
    Provenance,
    TouchedTask,
)
from aggregator.queries.inheritance import Inheritance, flags_of_line, flags_of_version
from aggregator.queries.pages import (
    MAX_PAGE,
    Page,
    checked_limit,
    page_of,
    read_cursor,
    write_cursor,
)
from aggregator.queries.rows import round_entry, table_of, versions
from aggregator.tables import DatasetVersionRow, RecordDatasetRow, RoundRow, TaskRow, VerdictRow
from chain.errors import InvalidInputError
from chain.types import LogPosition, Outcome, Phase

_IS_KEPT = and_(
    VerdictRow.round == RecordDatasetRow.round,
    VerdictRow.hospital == RecordDatasetRow.hospital,
    VerdictRow.newest,
    VerdictRow.outcome != Outcome.REJECTED.value,
)


def provenance(
    session: Session, model: bytes, *, cursor: str | None = None, limit: int = 50
) -> Provenance:
    """Trace a model back through its base models to hospitals and their data.

    Args:
        session: Of the index.
        model: Its content digest.
        cursor: Of the page of ancestors before, None for the first one.
        limit: How many updates a page may hold, 1 to 200. Its rounds are whole, and one at least.

    Raises:
        InvalidInputError: If no final round made the model, or cursor or limit are malformed.
    """
    made_in = session.scalars(
        select(RoundRow.number)
        .where(RoundRow.model == model)
        .order_by(RoundRow.number.desc())
        .limit(MAX_PAGE)
    ).all()
    if not made_in:
        raise InvalidInputError(f"no final round made the model 0x{model.hex()}")
    newest = _round(session, made_in[0])
    number = newest.number
    if cursor is not None:
        (number,) = read_cursor(cursor, int)
        _require_ancestor(session, number, newest)
    rows, rest = _line(session, number, checked_limit(limit))
    kept = _kept(session, [row.number for row in rows])
    inherited = Inheritance(session)
    return Provenance(
        model,
        tuple(made_in[1:]),
        Page(
            tuple(Ancestor(round_entry(row), tuple(kept.get(row.number, ()))) for row in rows),
            None if rest is None else write_cursor(rest),
        ),
        newest.origin,
        inherited.purposes(newest.task, newest.number),
        flags_of_line(session, inherited.line(newest.task, newest.number)),
    )


def descendants(
    session: Session, version: bytes, *, cursor: str | None = None, limit: int = 50
) -> Descendants:
    """Tell which models descend from a data-set version, and so are touched by its withdrawal.

    Those are the models of final rounds that kept an update trained on it, and all models that
    were trained from these.

    Args:
        session: Of the index.
        version: The data-set version.
        cursor: Of the page of models before, None for the first one.
        limit: How many models a page may hold, 1 to 200.

    Raises:
        InvalidInputError: If the index has no such version, or cursor or limit are malformed.
    """
    found = versions(session, DatasetVersionRow.version == version)
    if not found:
        raise InvalidInputError(f"the index has no data-set version 0x{version.hex()}")
    withdrawn = [change.changed_at for change in found[0].changes if change.what == "WITHDRAWN"]
    touched = _touched(session, version)
    return Descendants(
        found[0],
        withdrawn[0] if withdrawn else None,
        touched,
        flags_of_version(session, version) if touched else (),
        _descendant_page(session, version, touched, cursor, limit),
    )


def _round(session: Session, number: int) -> Row[Any]:
    return session.execute(select(table_of(RoundRow)).where(RoundRow.number == number)).one()


def _require_ancestor(session: Session, number: int, newest: Row[Any]) -> None:
    """Refuse a cursor to a round that cannot be in the line of another one."""
    is_in_line = (
        RoundRow.number == number,
        RoundRow.origin == newest.origin,
        RoundRow.generation < newest.generation,
        RoundRow.phase == Phase.FINAL.value,
    )
    if session.scalar(select(RoundRow.number).where(*is_in_line)) is None:
        raise InvalidInputError("the cursor is none that this server gave out")


def _line(session: Session, number: int, limit: int) -> tuple[list[Row[Any]], int | None]:
    """Follow a line back while its rounds keep no more updates than the limit.

    Returns:
        The rounds, one at least, and the number of the next one, None at the beginning.
    """
    rows: list[Row[Any]] = []
    total, following = 0, number
    while True:
        row = _round(session, following)
        total += row.accepted + row.clipped
        if rows and total > limit:
            return rows, row.number
        rows.append(row)
        if row.base_round is None:
            return rows, None
        following = row.base_round


def _kept(session: Session, numbers: Sequence[int]) -> dict[int, list[Contribution]]:
    found: dict[int, list[Contribution]] = {}
    for one in contributions.of_rounds(session, numbers):
        if one.verdict and one.verdict.outcome is not Outcome.REJECTED:
            found.setdefault(one.round, []).append(one)
    return found


def _touched(session: Session, version: bytes) -> tuple[TouchedTask, ...]:
    """Find the tasks that a version touches, by updates or by the model that they start from."""
    first = dict(_first_uses(session, version))
    through: dict[str, str | None] = dict.fromkeys(first)
    starts = _starts(session) if first else {}
    waiting = list(first)
    while waiting:
        task = waiting.pop()
        for other, base_round, first_final in starts.get(task, ()):
            if base_round >= first[task] and first.get(other, first_final + 1) > first_final:
                first[other], through[other] = first_final, task
                waiting.append(other)
    return tuple(_touched_tasks(session, first, through))


def _first_uses(session: Session, version: bytes) -> Iterator[tuple[str, int]]:
    """Find in each task the first final round that kept an update trained on a version."""
    used = RecordDatasetRow
    is_final = and_(RoundRow.number == used.round, RoundRow.phase == Phase.FINAL.value)
    first = (
        select(used.round)
        .join(RoundRow, is_final)
        .join(VerdictRow, _IS_KEPT)
        .where(used.version == version, used.task == TaskRow.task)
        .order_by(used.round)
        .limit(1)
        .scalar_subquery()
    )
    for task, number in session.execute(select(TaskRow.task, first)):
        if number is not None:
            yield task, number


def _starts(session: Session) -> dict[str, list[tuple[str, int, int]]]:
    """Read by task which others start from its models: their names, from and in which round."""
    columns = (TaskRow.base_task, TaskRow.task, TaskRow.base_round, TaskRow.first_final)
    found: dict[str, list[tuple[str, int, int]]] = {}
    rows = session.execute(select(*columns).where(TaskRow.base_task.is_not(None)))
    for base, task, base_round, first_final in rows:
        if base is not None and base_round is not None and first_final is not None:
            found.setdefault(base, []).append((task, base_round, first_final))
    return found


def _touched_tasks(
    session: Session, first: Mapping[str, int], through: Mapping[str, str | None]
) -> Iterator[TouchedTask]:
    names = sorted(first)
    newest = select(TaskRow.task, TaskRow.last_final).where(TaskRow.task.in_(names))
    last = {row.task: row.last_final for row in session.execute(newest)}
    numbers = {*first.values(), *last.values()}
    ends = session.execute(
        select(RoundRow.number, RoundRow.generation, RoundRow.model).where(
            RoundRow.number.in_(numbers)
        )
    )
    rounds = {row.number: row for row in ends}
    for name in names:
        start, end = rounds[first[name]], rounds[last[name]]
        models = end.generation - start.generation + 1
        yield TouchedTask(name, start.number, through[name], models, end.number, end.model)


def _descendant_page(
    session: Session,
    version: bytes,
    touched: Sequence[TouchedTask],
    cursor: str | None,
    limit: int,
) -> Page[Descendant]:
    at, below = (None, None) if cursor is None else read_cursor(cursor, str, int)
    wanted = checked_limit(limit) + 1
    rows: list[Row[Any]] = []
    for task in touched:
        if len(rows) == wanted:
            break
        if at is None or task.task >= at:
            is_below = () if task.task != at else (RoundRow.number < below,)
            rows += session.execute(
                select(table_of(RoundRow))
                .where(
                    RoundRow.task == task.task,
                    RoundRow.phase == Phase.FINAL.value,
                    RoundRow.number >= task.first_round,
                    *is_below,
                )
                .order_by(RoundRow.number.desc())
                .limit(wanted - len(rows))
            )
    trained = _trained(session, version, rows)
    inherited = Inheritance(session)
    entries = [_descendant(row, row.number in trained, inherited) for row in rows]
    return page_of(entries, limit, lambda entry: (entry.task, entry.round))


def _descendant(row: Row[Any], trained: bool, inherited: Inheritance) -> Descendant:
    ended = LogPosition(row.ended_block, row.ended_log_index, row.ended_transaction)
    purposes = inherited.purposes(row.task, row.number)
    made = (row.task, row.number, row.model, row.model_blob)
    return Descendant(*made, trained, purposes, row.ended_at, ended)


def _trained(session: Session, version: bytes, rows: Sequence[Row[Any]]) -> set[int]:
    """Find those of some final rounds that kept an update trained on a version."""
    used = RecordDatasetRow
    found = session.scalars(
        select(used.round)
        .join(VerdictRow, _IS_KEPT)
        .where(
            used.version == version,
            used.task.in_(sorted({row.task for row in rows})),
            used.round.in_([row.number for row in rows]),
        )
    )
    return set(found)
