"""Rows written many at a time are those written one by one, and counts are what counting gives."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import Engine, func, select
from sqlalchemy.orm import Session

from aggregator import index, queries, writing
from aggregator.index import compare, index_digest, open_index, reading, rebuild, update_index
from aggregator.tables import (
    AttestationRow,
    DayRow,
    DisputeRow,
    HospitalVerdictsRow,
    RecordRow,
    RoundRow,
    TaskRow,
    TaskVerdictsRow,
    VerdictRow,
    WitnessRow,
)
from bench.ledger_events import GeneratedLedger
from chain.errors import IndexDatabaseError
from chain.types import Outcome, Phase
from tests.aggregator.listed_ledger import ListedLedger, open_round, propose, record
from tests.aggregator.postgresql import find_programs, running_server
from tests.federation import digest

EVENTS = 12_000


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Engine]:
    engine = open_index(f"sqlite:///{tmp_path_factory.mktemp('writing') / 'index.sqlite'}")
    rebuild(engine, GeneratedLedger(EVENTS))
    yield engine
    engine.dispose()


@pytest.fixture
def engine(tmp_path: Path) -> Iterator[Engine]:
    engine = open_index(f"sqlite:///{tmp_path / 'index.sqlite'}")
    yield engine
    engine.dispose()


@pytest.mark.parametrize(
    ("batch", "remembered", "known"),
    [(1, 1, 0), (7, 0, 100), (1_000_000, 1_000_000, 1_000_000)],
)
def test_the_size_of_batches_changes_no_row(
    built: Engine,
    engine: Engine,
    monkeypatch: pytest.MonkeyPatch,
    batch: int,
    remembered: int,
    known: int,
) -> None:
    monkeypatch.setattr(writing, "BATCH", batch)
    monkeypatch.setattr(writing, "REMEMBERED", remembered)
    monkeypatch.setattr(writing, "KNOWN", known)
    rebuild(engine, GeneratedLedger(EVENTS))
    assert index_digest(engine) == index_digest(built)


def test_an_index_filled_in_steps_has_the_rows_of_one_built_at_once(
    built: Engine, engine: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(index, "CHUNK", 97)
    update_index(engine, GeneratedLedger(EVENTS))
    assert index_digest(engine) == index_digest(built)
    assert compare(engine, GeneratedLedger(EVENTS)) == []


def test_postgresql_has_the_same_rows_and_answers(built: Engine) -> None:
    programs = find_programs()
    if programs is None:
        pytest.skip("no PostgreSQL server is installed here (Debian: postgresql)")
    with running_server(programs) as url:
        other = open_index(url)
        rebuild(other, GeneratedLedger(EVENTS))
        assert index_digest(other) == index_digest(built)
        assert answers(other) == answers(built)
        other.dispose()


def answers(engine: Engine) -> list[object]:
    """Ask every question something."""
    with reading(engine) as session:
        final = queries.rounds(session, phase=Phase.FINAL).entries[3]
        assert final.model is not None
        page = queries.verdicts(session, outcome=Outcome.REJECTED, limit=7)
        entry = page.entries[0]
        made = queries.provenance(session, final.model, limit=30)
        (kept, *_) = made.ancestors.entries[0].kept
        version = kept.datasets[0]
        read = queries.readings(session).entries[0]
        return [
            page,
            queries.verdicts(session, outcome=Outcome.REJECTED, limit=7, cursor=page.cursor),
            made,
            queries.provenance(session, final.model, cursor=made.ancestors.cursor),
            queries.round_history(session, final.number),
            queries.hospital_history(session, entry.hospital, limit=9),
            queries.dataset_history(session, version.dataset, limit=9),
            queries.descendants(session, version.version, limit=9),
            queries.standings(session, final.task),
            queries.grants(session, limit=9),
            queries.readings(session, limit=9),
            queries.requests(session, now=0, limit=9),
            queries.image_history(session, read.image, now=0, limit=9),
            queries.reading_history(session, read.reading),
            queries.open_requests(session, read.hospital, now=0, limit=9),
            queries.parties(session, limit=9),
            queries.names(session, {entry.hospital}),
            queries.oddities(session, limit=9),
            queries.overview(session),
        ]


@pytest.fixture
def session(built: Engine) -> Iterator[Session]:
    with reading(built) as session:
        yield session


def counted(session: Session, *columns: Any, which: Any = True) -> dict[Any, int]:
    rows = session.execute(select(*columns, func.count()).where(which).group_by(*columns))
    return {key[0] if len(key) == 1 else tuple(key): count for *key, count in rows}


def test_a_rounds_counts_are_those_of_its_rows(session: Session) -> None:
    records = counted(session, RecordRow.round)
    judged = counted(session, VerdictRow.round, VerdictRow.outcome, which=VerdictRow.newest)
    newest = (RoundRow.number == AttestationRow.round, RoundRow.proposal == AttestationRow.proposal)
    said = session.execute(
        select(RoundRow.number, func.count())
        .join(AttestationRow, newest[0] & newest[1])
        .group_by(RoundRow.number)
    )
    attested = {row[0]: row[1] for row in said}
    disputed = counted(session, DisputeRow.round)
    assert disputed
    for row in session.scalars(select(RoundRow)):
        outcomes = [judged.get((row.number, outcome.value), 0) for outcome in Outcome]
        assert [row.accepted, row.clipped, row.rejected] == outcomes
        assert row.records == records.get(row.number, 0)
        assert row.attestations == attested.get(row.number, 0)
        assert row.disputes == disputed.get(row.number, 0)


def test_counts_of_verdicts_are_those_of_newest_proposals(session: Session) -> None:
    for row_type, place in (
        (TaskVerdictsRow, VerdictRow.task),
        (HospitalVerdictsRow, VerdictRow.hospital),
    ):
        of = (place, VerdictRow.outcome, VerdictRow.reason)
        rows = session.execute(select(row_type.__table__).where(row_type.updates > 0))
        assert {tuple(row[:3]): row.updates for row in rows} == counted(
            session, *of, which=VerdictRow.newest
        )


def test_days_tasks_and_witnesses_add_up(session: Session) -> None:
    final = RoundRow.phase == Phase.FINAL.value
    expected = session.execute(
        select(
            func.count(),
            func.sum(RoundRow.accepted),
            func.sum(RoundRow.clipped),
            func.sum(RoundRow.rejected),
        ).where(final)
    ).one()
    for row_type in (DayRow, TaskRow):
        sums = (row_type.final, row_type.accepted, row_type.clipped, row_type.rejected)
        assert session.execute(select(*map(func.sum, sums))).one() == expected
    shown = queries.overview(session, days=3_660)
    assert shown.final == expected[0]
    assert sum(day.opened for day in shown.days) == shown.rounds
    assert sum(one.attested for one in shown.witnesses) == sum(
        counted(session, AttestationRow.witness).values()
    )
    assert session.scalar(select(func.sum(WitnessRow.disputed))) == sum(
        one.disputes for one in shown.tasks
    )


def test_the_second_of_two_equal_rows_is_refused_by_the_database(engine: Engine) -> None:
    ledger = ListedLedger()
    open_round(ledger, 1)
    open_round(ledger, 1)
    with pytest.raises(IndexDatabaseError, match="UNIQUE"):
        rebuild(engine, ledger)


def test_an_older_proposals_verdicts_count_no_more(engine: Engine) -> None:
    ledger = ListedLedger()
    open_round(ledger, 1)
    record(ledger, 1, "A")
    propose(ledger, 1, digest("m"), {"A": (2, 13)})
    propose(ledger, 1, digest("n"), {"A": (0, 0)}, proposal=2)
    update_index(engine, ledger)
    with reading(engine) as session:
        (judged,) = queries.verdicts(session).entries
        assert (judged.proposal, judged.outcome) == (2, Outcome.ACCEPTED)
        assert [one.reason for one in queries.overview(session).verdicts] == ["NONE"]
        assert len(queries.round_history(session, 1).proposals[0].verdicts) == 1
