"""The federation at a glance: counts that are written with every event."""

from sqlalchemy import case, func, select
from sqlalchemy.orm import Session

from aggregator.queries.entries import (
    DayEntry,
    Overview,
    RoleCount,
    TaskEntry,
    VerdictCount,
    WitnessEntry,
)
from aggregator.queries.odd import oddity_counts
from aggregator.queries.pages import MAX_PAGE
from aggregator.queries.rows import reason_name, table_of
from aggregator.tables import (
    DAY,
    ChainFindingRow,
    DatasetVersionRow,
    DayRow,
    GrantRow,
    ParticipantRoleRow,
    ParticipantRow,
    ReadingRequestRow,
    ReadingRow,
    RoundRow,
    TaskRow,
    TaskVerdictsRow,
    WitnessRow,
)
from chain.errors import InvalidInputError
from chain.types import Outcome

MAX_DAYS = 3_660


def overview(session: Session, *, days: int = 90) -> Overview:
    """Show the federation at a glance.

    Args:
        session: Of the index.
        days: Of how many days to tell, 1 to 3,660; days on which nothing happened are left out.

    Raises:
        InvalidInputError: If `days` is out of range.
    """
    if not 1 <= days <= MAX_DAYS:
        raise InvalidInputError(f"expected 1 to {MAX_DAYS} days, found {days}")
    sums = (func.sum(TaskRow.rounds), func.sum(TaskRow.final), func.sum(TaskRow.aborted))
    opened, final, aborted = session.execute(select(*sums)).one()
    return Overview(
        rounds=int(opened or 0),
        final=int(final or 0),
        aborted=int(aborted or 0),
        versions=session.scalar(select(func.count()).select_from(DatasetVersionRow)) or 0,
        grants=session.scalar(select(func.count()).select_from(GrantRow)) or 0,
        readings=session.scalar(select(func.count()).where(ReadingRow.corrects.is_(None))) or 0,
        requests=session.scalar(select(func.count()).select_from(ReadingRequestRow)) or 0,
        findings=session.scalar(select(func.count()).select_from(ChainFindingRow)) or 0,
        days=_days(session, days),
        tasks=_tasks(session),
        witnesses=_witnesses(session),
        roles=_roles(session),
        verdicts=_verdicts(session),
        oddities=oddity_counts(session),
    )


def _days(session: Session, count: int) -> tuple[DayEntry, ...]:
    newest = select(table_of(DayRow)).order_by(DayRow.day.desc()).limit(count)
    entries = [
        DayEntry(
            row.day * DAY,
            row.opened,
            row.final,
            row.aborted,
            row.records,
            row.accepted,
            row.clipped,
            row.rejected,
            row.disputes,
        )
        for row in session.execute(newest)
    ]
    return tuple(reversed(entries))


def _tasks(session: Session) -> tuple[TaskEntry, ...]:
    rows = session.execute(
        select(table_of(TaskRow), RoundRow.model)
        .outerjoin(RoundRow, RoundRow.number == TaskRow.last_final)
        .order_by(TaskRow.newest_round.desc())
        .limit(MAX_PAGE)
    )
    return tuple(
        TaskEntry(
            row.task,
            row.rounds,
            row.final,
            row.aborted,
            row.accepted,
            row.clipped,
            row.rejected,
            row.disputes,
            row.last_final,
            row.model,
        )
        for row in rows
    )


def _witnesses(session: Session) -> tuple[WitnessEntry, ...]:
    rows = session.execute(
        select(table_of(WitnessRow), ParticipantRow.name)
        .outerjoin(ParticipantRow, ParticipantRow.address == WitnessRow.address)
        .order_by(WitnessRow.rounds.desc(), WitnessRow.address)
        .limit(MAX_PAGE)
    )
    return tuple(
        WitnessEntry(
            row.address,
            row.name,
            row.rounds,
            row.attested,
            row.disputed,
            row.cosigned,
            row.last_at,
        )
        for row in rows
    )


def _roles(session: Session) -> tuple[RoleCount, ...]:
    suspended = func.sum(case((ParticipantRow.suspended, 1), else_=0))
    rows = session.execute(
        select(ParticipantRoleRow.role, func.count(), suspended)
        .join(ParticipantRow, ParticipantRow.address == ParticipantRoleRow.address)
        .group_by(ParticipantRoleRow.role)
        .order_by(ParticipantRoleRow.role)
    )
    return tuple(RoleCount(role, parties, int(out)) for role, parties, out in rows)


def _verdicts(session: Session) -> tuple[VerdictCount, ...]:
    counted = TaskVerdictsRow
    updates = func.sum(counted.updates)
    rows = session.execute(
        select(counted.outcome, counted.reason, updates)
        .group_by(counted.outcome, counted.reason)
        .having(updates > 0)
        .order_by(counted.outcome, counted.reason)
    )
    return tuple(
        VerdictCount(Outcome(outcome), reason_name(reason), int(total))
        for outcome, reason, total in rows
    )
