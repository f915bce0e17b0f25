"""What models may be used for, and what became of the data that they descend from.

The same as `aggregator.descent` says of the chain itself, answered from the index: a task knows
from which round on its models descend from a version, so no history is walked through.
"""

from collections.abc import Iterable, Sequence
from functools import reduce
from operator import and_ as both
from typing import Any

from sqlalchemy import Row, func, select
from sqlalchemy.orm import Session

from aggregator.descent import Flag, FlagKind, revocation
from aggregator.queries.rows import position, table_of
from aggregator.tables import (
    DatasetVersionRow,
    RecordRow,
    RoundRow,
    TaskRow,
    TaskVersionRow,
    VersionChangeRow,
)
from chain.structs import purpose_numbers
from chain.types import Phase

_ALL = (1 << 48) - 1  # every purpose that the contract can hold
_REGISTERED, _PURPOSES_CHANGED = "REGISTERED", "PURPOSES_CHANGED"
_ONCE = {"WITHDRAWN": FlagKind.WITHDRAWN, "ERASED": FlagKind.IMAGE_ERASED}


class Inheritance:
    """What models inherit, by the tasks in their line; each task is looked up once.

    Args:
        session: Of the index.
    """

    def __init__(self, session: Session) -> None:
        self._session = session
        self._bases: dict[str, tuple[str, int] | None] = {}
        self._permitted: dict[str, list[tuple[int, int]]] = {}

    def line(self, task: str, number: int) -> tuple[tuple[str, int], ...]:
        """Return the tasks of a line, newest first, each with the last of its rounds in it."""
        found = []
        at: tuple[str, int] | None = (task, number)
        while at is not None:
            found.append(at)
            at = self._base(at[0])
        return tuple(found)

    def purposes(self, task: str, number: int) -> tuple[int, ...]:
        """Return what the model of a final round may be used for, as its data permit now."""
        bits = (
            purposes
            for part, last in self.line(task, number)
            for purposes, first in self._permits(part)
            if first <= last
        )
        return _numbers(reduce(both, bits, _ALL))

    def _base(self, task: str) -> tuple[str, int] | None:
        if task not in self._bases:
            columns = (TaskRow.base_task, TaskRow.base_round)
            row = self._session.execute(select(*columns).where(TaskRow.task == task)).one_or_none()
            base, number = (None, None) if row is None else row
            self._bases[task] = None if base is None or number is None else (base, number)
        return self._bases[task]

    def _permits(self, task: str) -> list[tuple[int, int]]:
        """Return the sets of purposes of a task's versions, each with its first round."""
        if task not in self._permitted:
            rows = self._session.execute(
                select(DatasetVersionRow.purposes, func.min(TaskVersionRow.first_round))
                .join(DatasetVersionRow, DatasetVersionRow.version == TaskVersionRow.version)
                .where(TaskVersionRow.task == task)
                .group_by(DatasetVersionRow.purposes)
            )
            self._permitted[task] = [(purposes, first) for purposes, first in rows]
        return self._permitted[task]


def flags_of_line(session: Session, line: Sequence[tuple[str, int]]) -> tuple[Flag, ...]:
    """Tell what became of the data in a line, in the order of the ledger.

    Args:
        session: Of the index.
        line: As `Inheritance.line` gives it.
    """
    uses: dict[bytes, Row[Any]] = {}
    changed: dict[tuple[bytes, str], int] = {}
    for task, last in line:
        for row in session.execute(_changes_in(task, last)):
            uses[row.version] = row  # the oldest part of the line comes last, and counts
            changed[row.version, row.what] = row.times
    names = _versions(session, uses)
    found = []
    for (version, what), count in changed.items():
        if version in names:
            flag = _flag(session, names[version], uses[version], what, count)
            found += [] if flag is None else [flag]
    return tuple(sorted(found, key=_order))


def flags_of_version(session: Session, version: bytes) -> tuple[Flag, ...]:
    """Tell what became of a version that any final model descends from, by its first use."""
    row: Any = session.execute(
        select(TaskVersionRow.task, TaskVersionRow.first_round)
        .join(RoundRow, RoundRow.number == TaskVersionRow.first_round)
        .where(TaskVersionRow.version == version, RoundRow.phase == Phase.FINAL.value)
        .order_by(TaskVersionRow.first_round)
        .limit(1)
    ).one_or_none()
    if row is None:
        return ()
    counts = session.execute(
        select(VersionChangeRow.what, func.count())
        .where(VersionChangeRow.version == version, VersionChangeRow.what.in_(_WHATS))
        .group_by(VersionChangeRow.what)
    ).all()
    names = _versions(session, [version])
    found = [_flag(session, names[version], row, what, count) for what, count in counts]
    return tuple(sorted((one for one in found if one is not None), key=_order))


_WHATS = (*_ONCE, _PURPOSES_CHANGED)


def _changes_in(task: str, last: int) -> Any:
    """Select the versions of a part of a line to which something happened, and what."""
    key = (TaskVersionRow.version, TaskVersionRow.task, TaskVersionRow.first_round)
    return (
        select(*key, VersionChangeRow.what, func.count().label("times"))
        .join(VersionChangeRow, VersionChangeRow.version == TaskVersionRow.version)
        .where(
            TaskVersionRow.task == task,
            TaskVersionRow.first_round <= last,
            VersionChangeRow.what.in_(_WHATS),
        )
        .group_by(*key, VersionChangeRow.what)
    )


def _versions(session: Session, versions: Iterable[bytes]) -> dict[bytes, Row[Any]]:
    table = table_of(DatasetVersionRow)
    rows = session.execute(select(table).where(DatasetVersionRow.version.in_(list(versions))))
    return {row.version: row for row in rows}


def _flag(session: Session, version: Row[Any], use: Row[Any], what: str, count: int) -> Flag | None:
    lost = 0
    if what == _PURPOSES_CHANGED:
        revoked = _revoked(session, version, use.first_round)
        if revoked is None:
            return None
        kind, count = FlagKind.PURPOSE_REVOKED, 1
        lost, change = revoked
    else:
        kind, change = _ONCE[what], _changes(session, version.version, (what,), 1)[0]
    return Flag(
        kind,
        version.version,
        version.hospital,
        version.name,
        use.task,
        use.first_round,
        count,
        _numbers(lost),
        change.reason,
        change.changed_at,
        position(change),
    )


def _revoked(session: Session, version: Row[Any], first_round: int) -> tuple[int, Row[Any]] | None:
    """Find what a version permitted since it was used, and permits no more."""
    place = (RecordRow.block, RecordRow.log_index)
    is_use = (RecordRow.round == first_round, RecordRow.hospital == version.hospital)
    used = session.execute(select(*place).where(*is_use)).one_or_none()
    changes = _changes(session, version.version, (_REGISTERED, _PURPOSES_CHANGED))
    before = [
        one for one in changes if used is not None and (one.block, one.log_index) < tuple(used)
    ]
    states = changes[max(0, len(before) - 1) :]
    return revocation([(one.purposes or 0, one) for one in states]) if states else None


def _changes(
    session: Session, version: bytes, whats: Sequence[str], limit: int | None = None
) -> Sequence[Row[Any]]:
    return session.execute(
        select(table_of(VersionChangeRow))
        .where(VersionChangeRow.version == version, VersionChangeRow.what.in_(whats))
        .order_by(VersionChangeRow.block, VersionChangeRow.log_index)
        .limit(limit)
    ).all()


def _numbers(bits: int) -> tuple[int, ...]:
    return tuple(sorted(purpose_numbers(bits)))


def _order(flag: Flag) -> tuple[int, int, str]:
    return flag.position.block, flag.position.log_index, flag.kind.value
