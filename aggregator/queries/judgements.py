"""Verdicts, and what they come to for a hospital."""

from typing import Any

from sqlalchemy import ColumnElement, select
from sqlalchemy.orm import Session

from aggregator.queries.entries import VerdictEntry
from aggregator.queries.pages import Page, checked_limit, in_range, page_of, read_cursor
from aggregator.queries.rows import table_of, verdict_entry
from aggregator.reputation import FinalRound, Reputation, reputation
from aggregator.tables import RoundRow, VerdictRow, storable
from chain.errors import InvalidInputError
from chain.types import Outcome, Phase, Reason, Verdict


def verdicts(
    session: Session,
    *,
    round_number: int | None = None,
    hospital: str | None = None,
    outcome: Outcome | None = None,
    reason: Reason | None = None,
    task: str | None = None,
    cursor: str | None = None,
    limit: int = 50,
) -> Page[VerdictEntry]:
    """List the verdicts of each round's newest proposal, the newest rounds first.

    Args:
        session: Of the index.
        round_number: Only of this round.
        hospital: Only on this EIP-55 address.
        outcome: Only with this outcome.
        reason: Only for this reason.
        task: Only of this task.
        cursor: Of the page before, None for the first one.
        limit: How many entries a page may hold, 1 to 200.

    Raises:
        InvalidInputError: If cursor or limit are malformed.
    """
    statement = (
        select(table_of(VerdictRow))
        .where(VerdictRow.newest)
        .order_by(VerdictRow.round.desc(), VerdictRow.hospital)
    )
    wanted: tuple[tuple[ColumnElement[Any] | Any, object], ...] = (
        (VerdictRow.round, None if round_number is None else in_range(round_number)),
        (VerdictRow.hospital, hospital),
        (VerdictRow.outcome, None if outcome is None else outcome.value),
        (VerdictRow.reason, None if reason is None else reason.value),
        (VerdictRow.task, None if task is None else storable(task)),
    )
    for column, value in wanted:
        if value is not None:
            statement = statement.where(column == value)
    if cursor is not None:
        last, address = read_cursor(cursor, int, str)
        # Bounded by the round first, so that the database can go right to it.
        behind = (VerdictRow.round < last) | (VerdictRow.hospital > address)
        statement = statement.where(VerdictRow.round <= last, behind)
    rows = session.execute(statement.limit(checked_limit(limit) + 1))
    entries = list(map(verdict_entry, rows))
    return page_of(entries, limit, lambda entry: (entry.round, entry.hospital))


def standings(session: Session, task: str, *, hospital: str | None = None) -> Reputation:
    """Tell the standing of a task's hospitals, as `aggregator.reputation` reads it from the chain.

    It folds all of the task's verdicts, so it takes as long as the task's history.

    Args:
        session: Of the index.
        task: The task's name.
        hospital: Only that of this EIP-55 address.

    Raises:
        InvalidInputError: If the index has no round of the task.
    """
    columns = (RoundRow.number, RoundRow.phase, RoundRow.rule)
    of_task = select(*columns).where(RoundRow.task == storable(task)).order_by(RoundRow.number)
    rounds = session.execute(of_task).all()
    if not rounds:
        raise InvalidInputError("the index has no round of this task")
    judged = select(
        VerdictRow.round,
        VerdictRow.hospital,
        VerdictRow.outcome,
        VerdictRow.reason,
        VerdictRow.score,
        VerdictRow.threshold,
        VerdictRow.content,
    ).where(VerdictRow.task == storable(task), VerdictRow.newest)
    if hospital is not None:
        judged = judged.where(VerdictRow.hospital == hospital)
    found: dict[int, list[Verdict]] = {
        row.number: [] for row in rounds if row.phase == Phase.FINAL.value
    }
    for number, address, outcome, reason, score, threshold, content in session.execute(judged):
        if number in found:
            verdict = Verdict(address, Outcome(outcome), Reason(reason), score, threshold, content)
            found[number].append(verdict)
    history = [FinalRound(number, tuple(verdicts)) for number, verdicts in found.items()]
    latest = [row.rule for row in rounds if row.phase != Phase.ABORTED.value][-1:]
    return reputation(task, history, latest[0] if latest else None)
