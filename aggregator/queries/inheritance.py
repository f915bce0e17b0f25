"""What models may be used for, and what became of the data that they descend from.

The same as `aggregator.descent` says of the chain itself, answered from the index: a task knows
from which round on its models descend from a version, so no history is walked through.
"""

from collections.abc import Mapping, Sequence
from functools import reduce
from operator import and_ as both
from typing import Any, TypeAlias

from sqlalchemy import ColumnElement, Row, and_, func, or_, select
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
    VersionMarkRow,
)
from chain.structs import ALL_PURPOSES, purpose_numbers
from chain.types import Phase

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
        line = self.line(task, number)
        permits = self._permits([part for part, _ in line])
        bits = (
            purposes for part, last in line for purposes, first in permits[part] if first <= last
        )
        return _numbers(reduce(both, bits, ALL_PURPOSES))

    def _base(self, task: str) -> tuple[str, int] | None:
        if task not in self._bases:
            columns = (TaskRow.base_task, TaskRow.base_round)
            row = self._session.execute(select(*columns).where(TaskRow.task == task)).one_or_none()
            base, number = (None, None) if row is None else row
            self._bases[task] = None if base is None or number is None else (base, number)
        return self._bases[task]

    def _permits(self, tasks: Sequence[str]) -> Mapping[str, Sequence[tuple[int, int]]]:
        """Return by task the sets of purposes of its versions, each with its first round."""
        unknown = [task for task in tasks if task not in self._permitted]
        if unknown:
            self._permitted |= {task: [] for task in unknown}
            rows = self._session.execute(
                select(
                    TaskVersionRow.task,
                    DatasetVersionRow.purposes,
                    func.min(TaskVersionRow.first_round),
                )
                .join(DatasetVersionRow, DatasetVersionRow.version == TaskVersionRow.version)
                .where(TaskVersionRow.task.in_(unknown))
                .group_by(TaskVersionRow.task, DatasetVersionRow.purposes)
            )
            for task, purposes, first in rows:
                self._permitted[task].append((purposes, first))
        return self._permitted


def flags_of_line(session: Session, line: Sequence[tuple[str, int]]) -> tuple[Flag, ...]:
    """Tell what became of the data in a line, in the order of the ledger.

    Args:
        session: Of the index.
        line: As `Inheritance.line` gives it.
    """
    is_in_line = or_(
        *(
            and_(TaskVersionRow.task == task, TaskVersionRow.first_round <= last)
            for task, last in line
        )
    )
    return _flags(session, _happened(session, is_in_line))


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
    is_use = (TaskVersionRow.task == row.task, TaskVersionRow.version == version)
    return _flags(session, _happened(session, *is_use))


# A version and what happened to it.
_Happened: TypeAlias = dict[tuple[bytes, str], Row[Any]]


def _happened(session: Session, *which: ColumnElement[bool]) -> _Happened:
    """Find the versions of a part of a line to which something happened.

    Returns:
        Each kind of it with the version's first use in the line, and whose version it is.
    """
    use, mark, version = map(table_of, (TaskVersionRow, VersionMarkRow, DatasetVersionRow))
    rows = session.execute(
        select(mark, use.c.task, use.c.first_round, version.c.hospital, version.c.name)
        .join(use, use.c.version == mark.c.version)
        .join(version, version.c.version == mark.c.version)
        .where(*which)
        # The first use comes last, and counts.
        .order_by(use.c.first_round.desc())
    )
    return {(row.version, row.what): row for row in rows}


def _flags(session: Session, found: _Happened) -> tuple[Flag, ...]:
    restricted = [row for (_, what), row in found.items() if what == _PURPOSES_CHANGED]
    revoked = _revoked(session, restricted) if restricted else {}
    flags = []
    for (version, what), row in found.items():
        kind, lost, change, times = FlagKind.PURPOSE_REVOKED, 0, row, 1
        if what in _ONCE:
            kind, times = _ONCE[what], row.times
        elif version in revoked:
            lost, change = revoked[version]
        else:
            continue
        whose = (version, row.hospital, row.name, row.task, row.first_round)
        at = (change.reason, change.changed_at, position(change))
        flags.append(Flag(kind, *whose, times, _numbers(lost), *at))
    return tuple(sorted(flags, key=_order))


def _revoked(session: Session, restricted: Sequence[Row[Any]]) -> dict[bytes, tuple[int, Row[Any]]]:
    """Find what versions permitted since they were first used, and permit no more."""
    uses = session.execute(
        select(RecordRow.round, RecordRow.hospital, RecordRow.block, RecordRow.log_index).where(
            RecordRow.round.in_({row.first_round for row in restricted}),
            RecordRow.hospital.in_({row.hospital for row in restricted}),
        )
    )
    used = {(row.round, row.hospital): (row.block, row.log_index) for row in uses}
    table = table_of(VersionChangeRow)
    changes: dict[bytes, list[Row[Any]]] = {row.version: [] for row in restricted}
    for change in session.execute(
        select(table)
        .where(table.c.version.in_(changes), table.c.what.in_((_REGISTERED, _PURPOSES_CHANGED)))
        .order_by(table.c.block, table.c.log_index)
    ):
        changes[change.version].append(change)
    found = {}
    for row in restricted:
        at = used.get((row.first_round, row.hospital), (0, 0))
        each = changes[row.version]
        before = sum((one.block, one.log_index) < at for one in each)
        states = each[max(0, before - 1) :]
        if lost := revocation([(one.purposes or 0, one) for one in states]):
            found[row.version] = lost
    return found


def _numbers(bits: int) -> tuple[int, ...]:
    return tuple(sorted(purpose_numbers(bits)))


def _order(flag: Flag) -> tuple[int, int, str]:
    return flag.position.block, flag.position.log_index, flag.kind.value
