"""Where models come from and what descends from data, on a small ledger and on a generated one."""

from collections.abc import Iterator

import pytest
from sqlalchemy import Engine, select
from sqlalchemy.orm import Session

from aggregator import queries
from aggregator.index import open_index, reading, rebuild, update_index
from aggregator.queries import Descendant
from aggregator.tables import DatasetVersionRow, RecordDatasetRow, RoundRow, VerdictRow
from bench.ledger_events import GeneratedLedger
from chain.errors import InvalidInputError
from chain.types import Outcome, Phase
from tests.aggregator.listed_ledger import (
    ListedLedger,
    finish,
    open_round,
    propose,
    record,
    register,
)
from tests.federation import digest

ACCEPTED, REJECTED = (0, 0), (2, 13)
X, Y = digest("version x"), digest("version y")


@pytest.fixture
def engine() -> Iterator[Engine]:
    engine = open_index("sqlite://")
    yield engine
    engine.dispose()


def train(
    ledger: ListedLedger,
    number: int,
    task: str,
    base: bytes,
    uses: dict[str, tuple[bytes, tuple[int, int]]],
) -> bytes:
    """Take a round of a task to its end: each hospital with its data and its verdict."""
    model = digest(f"model {number}")
    open_round(ledger, number, task=task, base=base)
    for hospital, (version, _) in uses.items():
        record(ledger, number, hospital, version)
    propose(ledger, number, model, {hospital: judged for hospital, (_, judged) in uses.items()})
    finish(ledger, number, model)
    return model


@pytest.fixture
def two_tasks(engine: Engine) -> Iterator[Session]:
    """Data X is rejected in round 1 and kept in round 2; another task starts from round 2's."""
    ledger = ListedLedger()
    register(ledger, X, "A")
    register(ledger, Y, "B")
    first = train(ledger, 1, "a", digest("start"), {"A": (X, REJECTED), "B": (Y, ACCEPTED)})
    second = train(ledger, 2, "a", first, {"A": (X, ACCEPTED), "B": (Y, ACCEPTED)})
    train(ledger, 3, "early", first, {"B": (Y, ACCEPTED)})
    train(ledger, 4, "a", second, {"B": (Y, ACCEPTED)})
    train(ledger, 5, "late", second, {"B": (Y, ACCEPTED)})
    open_round(ledger, 6, task="never", base=second)
    withdrawn = {"version": X, "reason": "consent revoked"}
    ledger.log("VersionWithdrawn", **withdrawn)
    update_index(engine, ledger)
    with reading(engine) as session:
        yield session


def test_models_descend_from_data_that_a_round_kept_and_through_other_tasks(
    two_tasks: Session,
) -> None:
    found = queries.descendants(two_tasks, X)
    assert found.version.withdrawal == "consent revoked"
    assert found.withdrawn_at is not None
    assert [(one.task, one.first_round, one.through, one.models) for one in found.tasks] == [
        ("a", 2, None, 2),
        ("late", 5, "a", 1),
    ]
    assert [(one.task, one.round, one.trained) for one in found.models.entries] == [
        ("a", 4, False),
        ("a", 2, True),
        ("late", 5, False),
    ]


def test_where_nothing_was_kept_nothing_descends(two_tasks: Session) -> None:
    assert [one.task for one in queries.descendants(two_tasks, Y).tasks] == ["a", "early", "late"]
    with pytest.raises(InvalidInputError, match="no data-set version"):
        queries.descendants(two_tasks, digest("unknown"))


def test_descendants_come_in_pages(two_tasks: Session) -> None:
    found: list[Descendant] = []
    cursor = None
    while True:
        page = queries.descendants(two_tasks, Y, cursor=cursor, limit=1).models
        assert len(page.entries) == 1
        found += page.entries
        cursor = page.cursor
        if cursor is None:
            break
    assert tuple(found) == queries.descendants(two_tasks, Y).models.entries
    assert len(found) == 5


def test_a_line_goes_back_through_the_task_that_a_task_started_from(two_tasks: Session) -> None:
    found = queries.provenance(two_tasks, digest("model 5"))
    assert [one.round.number for one in found.ancestors.entries] == [5, 2, 1]
    assert [one.round.generation for one in found.ancestors.entries] == [2, 1, 0]
    assert found.origin == digest("start")
    assert [one.hospital for one in found.ancestors.entries[2].kept] == ["B"]


def test_a_page_of_ancestors_holds_whole_rounds(two_tasks: Session) -> None:
    model = digest("model 4")
    first = queries.provenance(two_tasks, model, limit=2).ancestors
    assert [one.round.number for one in first.entries] == [4]
    second = queries.provenance(two_tasks, model, limit=2, cursor=first.cursor).ancestors
    assert [one.round.number for one in second.entries] == [2]
    assert len(second.entries[0].kept) == 2
    third = queries.provenance(two_tasks, model, limit=2, cursor=second.cursor).ancestors
    assert [one.round.number for one in third.entries] == [1]
    assert third.cursor is None


def test_a_cursor_of_another_line_is_refused(two_tasks: Session) -> None:
    cursor = queries.provenance(two_tasks, digest("model 4"), limit=1).ancestors.cursor
    with pytest.raises(InvalidInputError, match="cursor"):
        queries.provenance(two_tasks, digest("model 1"), cursor=cursor)


def test_a_model_that_two_rounds_made_names_both(engine: Engine) -> None:
    """A round whose updates change nothing makes its base model once more."""
    ledger = ListedLedger()
    register(ledger, Y, "B")
    model = train(ledger, 1, "a", digest("start"), {"B": (Y, ACCEPTED)})
    open_round(ledger, 2, task="a", base=model)
    record(ledger, 2, "B", Y)
    propose(ledger, 2, model, {"B": ACCEPTED})
    finish(ledger, 2, model)
    update_index(engine, ledger)
    with reading(engine) as session:
        found = queries.provenance(session, model)
    assert found.also_made_in == (1,)
    assert [one.round.number for one in found.ancestors.entries] == [2, 1]


def test_descendants_are_what_a_walk_over_all_rounds_finds(engine: Engine) -> None:
    rebuild(engine, GeneratedLedger(12_000))
    with reading(engine) as session:
        for version in session.scalars(select(DatasetVersionRow.version)).all()[::40]:
            found: list[Descendant] = []
            cursor = None
            while True:
                page = queries.descendants(session, version, cursor=cursor, limit=200).models
                found += page.entries
                cursor = page.cursor
                if cursor is None:
                    break
            assert {one.round for one in found} == walked(session, version)


def walked(session: Session, version: bytes) -> set[int]:
    """Find the rounds that descend from a version by walking over all rounds in order."""
    kept = {
        (row.round, row.hospital)
        for row in session.scalars(select(VerdictRow).where(VerdictRow.newest))
        if row.outcome != Outcome.REJECTED
    }
    uses = session.scalars(select(RecordDatasetRow).where(RecordDatasetRow.version == version))
    trained = {use.round for use in uses if (use.round, use.hospital) in kept}
    models: set[bytes] = set()
    found: set[int] = set()
    for row in session.scalars(select(RoundRow).order_by(RoundRow.number)):
        if row.phase == Phase.FINAL and (row.number in trained or row.base_model in models):
            assert row.model is not None
            models.add(row.model)
            found.add(row.number)
    return found
