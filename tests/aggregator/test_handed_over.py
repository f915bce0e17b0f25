"""Who did look: batches that were anchored, and the looks that hospitals hand over."""

from collections.abc import Iterator, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

import pytest
from sqlalchemy import Engine, event, func, select

from aggregator import queries
from aggregator.handed_over import hand_over
from aggregator.index import compare, index_digest, open_index, reading, rebuild, update_index
from aggregator.queries import LookBatch, LookLog, Looks, TimelineEntry
from aggregator.tables import HandedLookRow
from chain.errors import DigestMismatchError, InvalidInputError
from chain.looks import looks_root
from chain.types import Look
from tests.aggregator.listed_ledger import DAY, NOON, ListedLedger, register
from tests.aggregator.postgresql import find_programs, running_server
from tests.federation import digest, identity

HOSPITAL, STRANGER = identity("hospital-1").address, identity("hospital-2").address
RESEARCHER, ANOTHER = identity("researcher").address, identity("auditor").address
VERSION, IMAGE, OTHER = digest("version"), digest("image"), digest("another image")
TODAY = datetime.fromtimestamp(NOON, UTC).date()


@pytest.fixture
def engine() -> Iterator[Engine]:
    engine = open_index("sqlite://")
    yield engine
    engine.dispose()


@pytest.fixture
def ledger() -> ListedLedger:
    ledger = ListedLedger()
    register(ledger, VERSION, HOSPITAL)
    return ledger


def looks_from(
    first: int, count: int, *, hospital: str = HOSPITAL, image: bytes = IMAGE
) -> list[Look]:
    """Looks of a researcher and another one in turn, a second apart, from noon on."""
    return [
        Look(
            hospital=hospital,
            number=number,
            researcher=(RESEARCHER, ANOTHER)[number % 2],
            grant=digest("grant"),
            version=VERSION,
            image=image,
            time=NOON + number,
            request=digest(f"request {number}"),
        )
        for number in range(first, first + count)
    ]


def anchor(ledger: ListedLedger, batch: int, looks: Sequence[Look]) -> None:
    named = {"hospital": looks[0].hospital, "batch": batch, "root": looks_root(looks)}
    ledger.log("LogAnchored", **named, first=looks[0].number, entries=len(looks))


def batch_of(engine: Engine, batch: int, hospital: str = HOSPITAL) -> LookBatch:
    with reading(engine) as session:
        found = queries.look_batch(session, hospital, batch)
    assert found is not None
    return found


def seen(engine: Engine, image: bytes | None = IMAGE) -> Looks:
    with reading(engine) as session:
        return queries.viewers(session, VERSION, image, TODAY).looks


def numbers(engine: Engine, image: bytes | None = IMAGE) -> list[int]:
    return [one.number for one in seen(engine, image).found.entries]


def kept(engine: Engine) -> int:
    with reading(engine) as session:
        return session.scalar(select(func.count()).select_from(HandedLookRow)) or 0


@pytest.fixture
def anchored(engine: Engine, ledger: ListedLedger) -> Engine:
    """Two batches of three looks, of which the first was handed over."""
    anchor(ledger, 1, looks_from(0, 3))
    anchor(ledger, 2, looks_from(3, 3))
    update_index(engine, ledger)
    hand_over(engine, batch_of(engine, 1), looks_from(0, 3))
    return engine


def test_who_looked_is_told_with_batch_and_number_and_what_is_missing(anchored: Engine) -> None:
    told = seen(anchored)
    assert told.log == LookLog(HOSPITAL, 2, 1, NOON)
    found = [(one.researcher, one.batch, one.number) for one in told.found.entries]
    assert found == [(RESEARCHER, 1, 0), (ANOTHER, 1, 1), (RESEARCHER, 1, 2)]
    assert told.found.entries[0].position == batch_of(anchored, 1).position
    hand_over(anchored, batch_of(anchored, 2), looks_from(3, 3))
    assert seen(anchored).log.missing == 0
    assert numbers(anchored) == list(range(6))


def test_looks_of_another_image_another_day_or_another_version_are_not_told(
    engine: Engine, ledger: ListedLedger
) -> None:
    looks = looks_from(0, 4)
    looks[1] = replace(looks[1], image=OTHER)
    looks[2] = replace(looks[2], time=NOON + DAY)
    looks[3] = replace(looks[3], version=OTHER)
    anchor(ledger, 1, looks)
    update_index(engine, ledger)
    hand_over(engine, batch_of(engine, 1), looks)
    assert numbers(engine) == [0]
    assert numbers(engine, None) == [0, 1]


def test_a_batch_is_taken_once_and_sent_again_changes_nothing(anchored: Engine) -> None:
    again, is_new = hand_over(anchored, batch_of(anchored, 1), looks_from(0, 3))
    assert not is_new
    assert again == batch_of(anchored, 1)
    assert kept(anchored) == 3
    batch, is_new = hand_over(anchored, batch_of(anchored, 2), looks_from(3, 3))
    assert is_new
    assert batch.handed_at is not None


WRONG = {
    "one is missing": looks_from(3, 2),
    "one is too many": looks_from(3, 4),
    "none": [],
    "another batch": looks_from(0, 3),
    "another hospital": looks_from(3, 3, hospital=STRANGER),
    "another image": looks_from(3, 3, image=OTHER),
    "in another order": looks_from(3, 3)[::-1],
    "a hidden one": [*looks_from(3, 1), looks_from(3, 1)[0], *looks_from(5, 1)],
    "a time of no clock": [*looks_from(3, 2), replace(looks_from(5, 1)[0], time=1 << 63)],
}


@pytest.mark.parametrize("looks", WRONG.values(), ids=WRONG)
def test_other_looks_than_those_anchored_are_refused_and_none_is_kept(
    anchored: Engine, looks: list[Look]
) -> None:
    with pytest.raises((InvalidInputError, DigestMismatchError), match="expected"):
        hand_over(anchored, batch_of(anchored, 2), looks)
    assert kept(anchored) == 3
    assert seen(anchored).log.missing == 1


@pytest.mark.parametrize("absurd", [1 << 53, 1 << 63, (1 << 64) - 1])
def test_times_at_which_no_page_could_end_are_refused_though_they_were_anchored(
    anchored: Engine, ledger: ListedLedger, absurd: int
) -> None:
    """Else a hospital could end the pages of histories and of a researcher's looks elsewhere."""
    for batch, time in ((1, absurd - 1), (2, absurd)):
        looks = [replace(look, time=time) for look in looks_from(batch, 1, hospital=STRANGER)]
        anchor(ledger, batch, looks)
        update_index(anchored, ledger)
        if time < 1 << 53:
            hand_over(anchored, batch_of(anchored, batch, STRANGER), looks)
            continue
        with pytest.raises(InvalidInputError, match=r"expected a time until 9007199254740991"):
            hand_over(anchored, batch_of(anchored, batch, STRANGER), looks)
    with reading(anchored) as session:
        first = queries.looks(session, RESEARCHER, limit=1)
        assert queries.looks(session, RESEARCHER, cursor=first.cursor, limit=1).entries


def test_looks_stay_when_the_index_is_built_anew(anchored: Engine, ledger: ListedLedger) -> None:
    before = seen(anchored)
    rebuild(anchored, ledger)
    assert seen(anchored) == before
    assert compare(anchored, ledger) == []
    fresh = open_index("sqlite://")
    rebuild(fresh, ledger)
    # What was handed over is no copy of the chain, and no part of what is compared.
    assert index_digest(fresh) == index_digest(anchored)
    assert numbers(fresh) == []
    fresh.dispose()


def test_looks_of_a_batch_that_the_chain_lost_do_not_answer(
    anchored: Engine, ledger: ListedLedger
) -> None:
    ledger.drop(2)
    ledger.mine()
    update_index(anchored, ledger)
    assert seen(anchored) == Looks(LookLog(HOSPITAL, 0, 0, None), seen(anchored).found)
    assert numbers(anchored) == []
    with reading(anchored) as session:
        assert queries.looks(session, RESEARCHER).entries == ()
        with pytest.raises(InvalidInputError):
            queries.image_history(session, IMAGE, now=NOON)
    # The same looks under the same root are back with their batch, wherever it stands then.
    anchor(ledger, 1, looks_from(0, 3))
    update_index(anchored, ledger)
    assert numbers(anchored) == [0, 1, 2]


def test_another_batch_in_the_place_of_the_lost_one_does_not_answer_with_its_looks(
    anchored: Engine, ledger: ListedLedger
) -> None:
    ledger.drop(2)
    ledger.branch = "another"
    named = {"hospital": HOSPITAL, "batch": 1, "root": looks_root(looks_from(0, 3))}
    ledger.log("LogAnchored", **named, first=0, entries=4)
    update_index(anchored, ledger)
    assert numbers(anchored) == []
    assert seen(anchored).log == LookLog(HOSPITAL, 1, 1, NOON)


def test_a_batch_that_is_lost_while_its_looks_arrive_is_not_taken(
    anchored: Engine, ledger: ListedLedger
) -> None:
    batch = batch_of(anchored, 2)
    ledger.drop(1)
    ledger.mine()
    ledger.branch = "another"
    update_index(anchored, ledger)
    with pytest.raises(DigestMismatchError, match="on the chain now"):
        hand_over(anchored, batch, looks_from(3, 3))
    assert kept(anchored) == 3


def test_one_root_anchored_twice_answers_once(anchored: Engine, ledger: ListedLedger) -> None:
    named = {"hospital": HOSPITAL, "batch": 3, "root": looks_root(looks_from(0, 3))}
    ledger.log("LogAnchored", **named, first=6, entries=3)
    update_index(anchored, ledger)
    assert numbers(anchored) == [0, 1, 2]
    assert seen(anchored).log == LookLog(HOSPITAL, 3, 2, NOON)


def test_another_hospital_that_anchors_the_same_root_has_none_of_its_looks(
    anchored: Engine, ledger: ListedLedger
) -> None:
    named = {"hospital": STRANGER, "batch": 1, "root": looks_root(looks_from(0, 3))}
    ledger.log("LogAnchored", **named, first=0, entries=3)
    update_index(anchored, ledger)
    assert numbers(anchored) == [0, 1, 2]
    assert batch_of(anchored, 1, STRANGER).handed_at is None


def test_what_a_hospital_writes_of_anothers_image_into_its_own_log_counts_for_nothing(
    anchored: Engine, ledger: ListedLedger
) -> None:
    invented = looks_from(0, 2, hospital=STRANGER)
    anchor(ledger, 1, invented)
    update_index(anchored, ledger)
    hand_over(anchored, batch_of(anchored, 1, STRANGER), invented)
    assert {one.hospital for one in seen(anchored).found.entries} == {HOSPITAL}
    with reading(anchored) as session:
        told = queries.image_history(session, IMAGE, now=NOON)
        assert not queries.may_ask_about(session, IMAGE, STRANGER)
    looked = [one for one in told.timeline.entries if one.what == "LOOKED"]
    assert {one.hospital for one in looked} == {HOSPITAL}


def test_a_log_that_puts_anothers_image_into_a_version_of_its_own_opens_nothing(
    anchored: Engine, ledger: ListedLedger
) -> None:
    own = digest("the stranger's version")
    register(ledger, own, STRANGER)
    invented = [replace(look, version=own) for look in looks_from(0, 2, hospital=STRANGER)]
    anchor(ledger, 1, invented)
    update_index(anchored, ledger)
    hand_over(anchored, batch_of(anchored, 1, STRANGER), invented)
    with reading(anchored) as session:
        # Nobody can tell yet whose it is; but each log tells of itself alone.
        told = queries.image_history(session, IMAGE, now=NOON, log_of=STRANGER)
        assert {one.hospital for one in told.versions} == {STRANGER}
    ledger.log("ImageErased", version=VERSION, image=IMAGE, hospital=HOSPITAL)
    update_index(anchored, ledger)
    with reading(anchored) as session:
        assert queries.may_ask_about(session, IMAGE, HOSPITAL)
        assert not queries.may_ask_about(session, IMAGE, STRANGER)
        # Whoever may see all sees what each log claims, with whose it is.
        everything = queries.image_history(session, IMAGE, now=NOON)
    assert {one.hospital for one in everything.versions} == {HOSPITAL, STRANGER}


def test_a_log_full_of_invented_versions_of_anothers_image_delays_no_question(
    anchored: Engine, ledger: ListedLedger
) -> None:
    invented = [
        replace(look, version=digest(f"invented {look.number}"))
        for look in looks_from(0, 300, hospital=STRANGER)
    ]
    anchor(ledger, 1, invented)
    update_index(anchored, ledger)
    hand_over(anchored, batch_of(anchored, 1, STRANGER), invented)
    statements: list[str] = []

    def count(_connection: Any, _cursor: Any, statement: str, *_: Any) -> None:
        statements.append(statement)

    event.listen(anchored, "before_cursor_execute", count)
    with reading(anchored) as session:
        assert not queries.may_ask_about(session, IMAGE, STRANGER)
    event.remove(anchored, "before_cursor_execute", count)
    assert len(statements) < 20


def test_looks_stand_in_an_images_history_by_their_time(
    anchored: Engine, ledger: ListedLedger
) -> None:
    ledger.now = NOON + 2
    named = {"version": VERSION, "image": IMAGE, "hospital": HOSPITAL}
    ledger.log("ImageErased", **named)
    update_index(anchored, ledger)
    with reading(anchored) as session:
        whole = queries.image_history(session, IMAGE, now=NOON)
        paged: list[TimelineEntry] = []
        cursor = None
        while True:
            page = queries.image_history(session, IMAGE, now=NOON, cursor=cursor, limit=1).timeline
            paged += page.entries
            if (cursor := page.cursor) is None:
                break
        others = queries.image_history(session, IMAGE, now=NOON, log_of=STRANGER)
    told = [(one.what, one.at - NOON) for one in whole.timeline.entries]
    assert told == [
        ("REGISTERED", 0),
        ("LOOKED", 0),
        ("LOOKED", 1),
        ("ERASED", 2),
        ("LOOKED", 2),
    ]
    assert tuple(paged) == whole.timeline.entries
    assert whole.logs == (LookLog(HOSPITAL, 2, 1, NOON),)
    look = whole.timeline.entries[1]
    assert look.look is not None
    assert (look.actor, look.look.batch, look.look.number) == (RESEARCHER, 1, 0)
    assert [one.what for one in others.timeline.entries] == ["REGISTERED", "ERASED"]
    assert others.logs == ()


def test_postgresql_keeps_and_tells_the_same(anchored: Engine, ledger: ListedLedger) -> None:
    programs = find_programs()
    if programs is None:
        pytest.skip("no PostgreSQL server is installed here (Debian: postgresql)")
    with running_server(programs) as url:
        other = open_index(url)
        update_index(other, ledger)
        hand_over(other, batch_of(other, 1), looks_from(0, 3))
        _, is_new = hand_over(other, batch_of(other, 1), looks_from(0, 3))
        assert not is_new
        rebuild(other, ledger)
        assert numbers(other) == numbers(anchored) == [0, 1, 2]
        with reading(other) as one, reading(anchored) as two:
            asked: dict[str, Any] = {"now": NOON, "limit": 3}
            first = queries.image_history(one, IMAGE, **asked)
            assert first == queries.image_history(two, IMAGE, **asked)
            asked["cursor"] = first.timeline.cursor
            (last,) = queries.image_history(one, IMAGE, **asked).timeline.entries
            assert last.look is not None
            assert last.look.number == 2
            assert queries.looks(one, RESEARCHER) == queries.looks(two, RESEARCHER)
        other.dispose()


def test_batches_and_a_researchers_looks_come_in_pages(anchored: Engine) -> None:
    with reading(anchored) as session:
        first = queries.look_batches(session, HOSPITAL, limit=1)
        rest = queries.look_batches(session, HOSPITAL, limit=1, cursor=first.cursor)
        assert [one.batch for one in (*first.entries, *rest.entries)] == [1, 2]
        for handed, batch in ((True, 1), (False, 2)):
            (found,) = queries.look_batches(session, HOSPITAL, handed=handed).entries
            assert found.batch == batch
        one = queries.looks(session, RESEARCHER, limit=1)
        two = queries.looks(session, RESEARCHER, limit=1, cursor=one.cursor)
        assert [look.number for look in (*one.entries, *two.entries)] == [0, 2]
        assert two.cursor is None
        viewed = queries.viewers(session, VERSION, IMAGE, TODAY, limit=2)
        more = queries.viewers(
            session, VERSION, IMAGE, TODAY, limit=2, looks_cursor=viewed.looks.found.cursor
        )
        assert [look.number for look in more.looks.found.entries] == [2]
        assert queries.look_batch(session, STRANGER, 1) is None
