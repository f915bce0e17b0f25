"""Readings of images: lines of corrections, second opinions, requests, and an image's history."""

from collections.abc import Callable, Iterator
from typing import Any

import pytest
from sqlalchemy import Engine
from sqlalchemy.orm import Session

from aggregator import queries
from aggregator.index import compare, index_digest, open_index, reading, rebuild, update_index
from aggregator.queries import ImageHistory, TimelineEntry
from aggregator.queries.pages import write_cursor
from chain.errors import InvalidInputError
from chain.readings import Agreement, RequestState
from tests.aggregator.listed_ledger import NOON, ListedLedger, register
from tests.federation import digest

IMAGE, OTHER = digest("image"), digest("another image")
VERSION, ELSEWHERE = digest("version"), digest("another hospital's version")
NOTHING, NOBODY = bytes(32), "0x" + "0" * 40
OWNER, READER, STRANGER = "owner", "reader", "stranger"


@pytest.fixture
def engine() -> Iterator[Engine]:
    engine = open_index("sqlite://")
    yield engine
    engine.dispose()


@pytest.fixture
def ledger() -> ListedLedger:
    """An owner with a version, and another hospital with one."""
    ledger = ListedLedger()
    register(ledger, VERSION, OWNER)
    register(ledger, ELSEWHERE, READER)
    return ledger


def record(ledger: ListedLedger, name: str, **changes: Any) -> None:
    """Record a reading of the image, by the owner's clinician unless told otherwise."""
    told: dict[str, Any] = {"image": IMAGE, "version": VERSION, "hospital": OWNER}
    told |= {"author": "clinician", "opinionOn": NOTHING, "request": NOTHING}
    told |= {"document": digest(f"document of {name}"), "blob": digest(f"blob of {name}")}
    ledger.log("ReadingRecorded", reading=digest(name), **(told | changes))


def correct(ledger: ListedLedger, name: str, correction: str, **changes: Any) -> None:
    told: dict[str, Any] = {"image": IMAGE, "hospital": OWNER, "author": "clinician"}
    told |= {
        "document": digest(correction),
        "blob": digest(correction),
        "reason": "left, not right",
    }
    names = {"reading": digest(name), "correction": digest(correction)}
    ledger.log("ReadingCorrected", **names, **(told | changes))


def compare_readings(ledger: ListedLedger, own: str, other: str, agreement: Agreement) -> None:
    named = {"own": digest(own), "other": digest(other), "image": IMAGE, "author": "radiologist"}
    ledger.log("ReadingsCompared", **named, agreement=agreement.value)


def ask(ledger: ListedLedger, name: str, **changes: Any) -> None:
    """Ask any hospital for a reading within 100 seconds from noon, 200 to fulfil it."""
    told: dict[str, Any] = {"image": IMAGE, "version": VERSION, "hospital": OWNER}
    told |= {"reader": NOBODY, "opinionOn": NOTHING, "question": NOTHING}
    told |= {"takeBy": NOON + 100, "fulfilBy": NOON + 200}
    ledger.log("ReadingRequested", request=digest(name), **(told | changes))


def take(ledger: ListedLedger, name: str, hospital: str = READER) -> None:
    ledger.log("RequestTaken", request=digest(name), hospital=hospital, author="radiologist")


def ask_and_take(ledger: ListedLedger, name: str) -> None:
    ask(ledger, name)
    take(ledger, name)


def grant(ledger: ListedLedger, name: str, image: bytes, **changes: Any) -> None:
    told: dict[str, Any] = {"version": VERSION, "hospital": OWNER, "researcher": "researcher"}
    told |= {"purpose": 6, "expiry": 2 * NOON, "by": "data steward", "image": image}
    ledger.log("AccessGranted", grantId=digest(name), **(told | changes))


def live_through_everything(ledger: ListedLedger) -> None:
    """Let everything happen to the image that can."""
    grant(ledger, "grant", IMAGE)
    grant(ledger, "grant of all", NOTHING)
    record(ledger, "first")
    ask(ledger, "request", opinionOn=digest("first"), question=digest("question"))
    take(ledger, "request", STRANGER)
    named = {"request": digest("request"), "hospital": STRANGER, "author": "somebody"}
    ledger.log("RequestReleased", **named)
    take(ledger, "request")
    second = {"hospital": READER, "author": "radiologist", "opinionOn": digest("first")}
    record(ledger, "second", **second, request=digest("request"))
    ledger.add("RequestFulfilled", request=digest("request"), reading=digest("second"))
    compare_readings(ledger, "second", "first", Agreement.MAJOR_DISCREPANCY)
    correct(ledger, "first", "first, corrected")
    compare_readings(ledger, "second", "first, corrected", Agreement.UNKNOWN)
    compare_readings(ledger, "second", "first, corrected", Agreement.AGREES)
    ask(ledger, "another request")
    ledger.log("RequestCancelled", request=digest("another request"), author=OWNER)
    ledger.log("AccessRevoked", grantId=digest("grant"), by="data steward")
    ledger.log("PurposesChanged", version=VERSION, purposes=1 << 43)
    ledger.log("ImageErased", version=VERSION, image=IMAGE, hospital=OWNER)
    ledger.add("VersionWithdrawn", version=VERSION, reason="image erased")
    ledger.log("ClinicianAppointed", hospital=OWNER, clinician="clinician", until=2**64 - 1)


EVERYTHING = [
    "REGISTERED",
    "GRANTED",
    "GRANTED",
    "READ",
    "REQUESTED",
    "TAKEN",
    "RELEASED",
    "TAKEN",
    "SECOND_OPINION",
    "FULFILLED",
    "COMPARED",
    "CORRECTED",
    "COMPARED",
    "COMPARED",
    "REQUESTED",
    "CANCELLED",
    "REVOKED",
    "PURPOSES_CHANGED",
    "ERASED",
    "WITHDRAWN",
]


@pytest.fixture
def session(engine: Engine, ledger: ListedLedger) -> Iterator[Session]:
    """An index of a chain on which everything happened."""
    live_through_everything(ledger)
    update_index(engine, ledger)
    with reading(engine) as session:
        yield session


def history(session: Session, image: bytes = IMAGE, **asked: Any) -> ImageHistory:
    return queries.image_history(session, image, now=NOON, **asked)


def test_an_images_history_is_told_in_the_order_of_the_chain(session: Session) -> None:
    told = history(session)
    assert [one.what for one in told.timeline.entries] == EVERYTHING
    places = [(one.position.block, one.position.log_index) for one in told.timeline.entries]
    assert places == sorted(set(places))
    assert [one.version for one in told.versions] == [VERSION]
    assert {one.version for one in told.timeline.entries} == {VERSION}
    (erased,) = told.erasures
    assert (erased.version, erased.hospital) == (VERSION, OWNER)
    assert [(log.hospital, log.batches, log.missing) for log in told.logs] == [(OWNER, 0, 0)]


@pytest.mark.parametrize("limit", [1, 3, 7])
def test_pages_of_a_history_are_the_whole_of_it(session: Session, limit: int) -> None:
    found: list[TimelineEntry] = []
    cursor = None
    while True:
        page = history(session, cursor=cursor, limit=limit).timeline
        assert len(page.entries) <= limit
        found += page.entries
        cursor = page.cursor
        if cursor is None:
            break
    assert tuple(found) == history(session).timeline.entries


def test_a_history_can_be_of_some_kinds_only(session: Session) -> None:
    kinds = {"READ", "SECOND_OPINION", "WITHDRAWN"}
    told = [one.what for one in history(session, kinds=kinds).timeline.entries]
    assert told == ["READ", "SECOND_OPINION", "WITHDRAWN"]
    page = history(session, kinds=kinds, limit=1).timeline
    following = history(session, kinds=kinds, limit=1, cursor=page.cursor).timeline
    assert [one.what for one in following.entries] == ["SECOND_OPINION"]


def test_each_entry_tells_who_did_it_in_whose_name(session: Session) -> None:
    told = {one.what: one for one in history(session).timeline.entries}
    who = {what: (one.hospital, one.actor) for what, one in told.items()}
    assert who == {
        "REGISTERED": (OWNER, None),
        "GRANTED": (OWNER, "data steward"),
        "READ": (OWNER, "clinician"),
        "REQUESTED": (OWNER, None),
        "TAKEN": (READER, "radiologist"),
        "RELEASED": (STRANGER, "somebody"),
        "SECOND_OPINION": (READER, "radiologist"),
        "FULFILLED": (READER, "radiologist"),
        "COMPARED": (READER, "radiologist"),
        "CORRECTED": (OWNER, "clinician"),
        "CANCELLED": (OWNER, OWNER),
        "REVOKED": (OWNER, "data steward"),
        "PURPOSES_CHANGED": (OWNER, None),
        "ERASED": (OWNER, None),
        "WITHDRAWN": (OWNER, None),
    }
    assert told["FULFILLED"].reading is not None
    assert told["FULFILLED"].reading.reading == digest("second")
    assert told["GRANTED"].grant is not None
    assert told["PURPOSES_CHANGED"].change is not None
    assert told["PURPOSES_CHANGED"].change.purposes == (43,)


def test_an_image_of_the_same_version_has_a_history_of_its_own(
    engine: Engine, ledger: ListedLedger
) -> None:
    live_through_everything(ledger)
    grant(ledger, "grant of another image", OTHER)
    update_index(engine, ledger)
    with reading(engine) as session:
        told = history(session, OTHER)
    what = [one.what for one in told.timeline.entries]
    assert what == ["REGISTERED", "GRANTED", "PURPOSES_CHANGED", "WITHDRAWN", "GRANTED"]
    assert told.erasures == ()


def test_the_last_word_on_two_readings_counts_and_all_stay_in_the_history(
    session: Session,
) -> None:
    said = queries.reading_history(session, digest("first")).comparisons
    assert [(one.other, one.agreement, one.outdated) for one in said] == [
        (digest("first"), Agreement.MAJOR_DISCREPANCY, True),
        (digest("first, corrected"), Agreement.AGREES, False),
    ]
    words = [one.comparison for one in history(session).timeline.entries if one.comparison]
    assert [(one.agreement, one.outdated) for one in words] == [
        (Agreement.MAJOR_DISCREPANCY, True),
        (Agreement.UNKNOWN, False),
        (Agreement.AGREES, False),
    ]


@pytest.mark.parametrize("name", ["first", "first, corrected"])
def test_a_correction_stands_in_the_line_and_erases_nothing(session: Session, name: str) -> None:
    found = queries.reading_history(session, digest(name))
    first, corrected = found.line
    assert (first.reading, first.corrected_by) == (digest("first"), corrected.reading)
    assert (corrected.corrects, corrected.corrected_by) == (first.reading, None)
    assert (corrected.reason, corrected.document) == ("left, not right", corrected.reading)
    inherited = ("version", "image", "owner", "hospital", "opinion_on")
    assert [getattr(first, one) for one in inherited] == [
        getattr(corrected, one) for one in inherited
    ]
    assert [one.reading for one in found.opinions] == [digest("second")]


def test_reasons_of_a_million_letters_make_no_page_of_millions(
    engine: Engine, ledger: ListedLedger
) -> None:
    record(ledger, "0")
    for number, letters in enumerate((1024, 10**6)):
        correct(ledger, f"{number}", f"{number + 1}", reason="\0" + "x" * (letters - 1))
    update_index(engine, ledger)
    with reading(engine) as session:
        _, first, second = queries.readings(session, image=IMAGE).entries[::-1]
    assert first.reason == f"\\x00{'x' * 1023}"
    assert second.reason == f"\\x00{'x' * 1023}… (1000000 characters)"
    assert compare(engine, ledger) == []


def test_readings_are_listed_newest_first_by_image_hospital_and_author(session: Session) -> None:
    def listed(**which: Any) -> list[bytes]:
        return [one.reading for one in queries.readings(session, **which).entries]

    first, second, corrected = digest("first"), digest("second"), digest("first, corrected")
    assert listed() == listed(image=IMAGE) == listed(version=VERSION) == [corrected, second, first]
    assert listed(hospital=READER) == listed(author="radiologist") == [second]
    assert listed(party=OWNER) == [corrected, second, first]  # of its image
    assert listed(party=READER) == [second]
    assert listed(party=STRANGER) == listed(image=OTHER) == []
    page = queries.readings(session, limit=2)
    rest = queries.readings(session, limit=2, cursor=page.cursor)
    assert [one.reading for one in (*page.entries, *rest.entries)] == listed()


def states(engine: Engine, ledger: ListedLedger, now: int = NOON, **which: Any) -> list[Any]:
    update_index(engine, ledger)
    with reading(engine) as session:
        found = queries.requests(session, now=now, **which).entries
    return [(one.state, one.lapsed, one.taker) for one in found]


def test_a_request_stands_where_its_events_left_it(engine: Engine, ledger: ListedLedger) -> None:
    ask(ledger, "request")
    assert states(engine, ledger) == [(RequestState.OPEN, False, None)]
    take(ledger, "request")
    assert states(engine, ledger) == [(RequestState.TAKEN, False, READER)]
    named = {"request": digest("request"), "hospital": READER, "author": READER}
    ledger.log("RequestReleased", **named)
    assert states(engine, ledger) == [(RequestState.OPEN, False, None)]
    take(ledger, "request", STRANGER)
    ledger.log("RequestFulfilled", request=digest("request"), reading=digest("reading"))
    assert states(engine, ledger) == [(RequestState.FULFILLED, False, STRANGER)]
    ask(ledger, "another")
    ledger.log("RequestCancelled", request=digest("another"), author=OWNER)
    assert states(engine, ledger)[0] == (RequestState.CANCELLED, False, None)


def test_a_request_lapses_by_the_deadline_of_its_state(
    engine: Engine, ledger: ListedLedger
) -> None:
    ask(ledger, "request")
    assert states(engine, ledger, NOON + 100) == [(RequestState.OPEN, False, None)]
    assert states(engine, ledger, NOON + 101) == [(RequestState.OPEN, True, None)]
    take(ledger, "request")
    assert states(engine, ledger, NOON + 200) == [(RequestState.TAKEN, False, READER)]
    assert states(engine, ledger, NOON + 201) == [(RequestState.TAKEN, True, READER)]
    assert states(engine, ledger, NOON + 201, lapsed=False) == []
    assert states(engine, ledger, NOON + 201, lapsed=True) == states(engine, ledger, NOON + 201)
    assert states(engine, ledger, NOON + 200, lapsed=True) == []
    # The contract goes by the chain's time, which may be ahead of this machine's.
    ledger.now = NOON + 300
    ledger.log("ClinicianAppointed", hospital=OWNER, clinician="c", until=1)
    assert states(engine, ledger, NOON) == [(RequestState.TAKEN, True, READER)]


def test_what_can_be_taken_comes_in_the_order_in_which_it_must_be(
    engine: Engine, ledger: ListedLedger
) -> None:
    ask(ledger, "late", takeBy=NOON + 300)
    ask(ledger, "soon", takeBy=NOON + 50)
    ask(ledger, "mine", reader=READER, takeBy=NOON + 60)
    ask(ledger, "another's", reader=STRANGER)
    ask(ledger, "by me", hospital=READER)
    ask(ledger, "past", takeBy=NOON - 1)
    ask(ledger, "taken")
    take(ledger, "taken", STRANGER)
    update_index(engine, ledger)
    with reading(engine) as session:
        first = queries.open_requests(session, READER, now=NOON, limit=2)
        rest = queries.open_requests(session, READER, now=NOON, limit=2, cursor=first.cursor)
        assert [one.request for one in (*first.entries, *rest.entries)] == [
            digest("soon"),
            digest("mine"),
            digest("late"),
        ]
        assert rest.cursor is None
        with pytest.raises(InvalidInputError, match="cursor"):
            queries.open_requests(session, READER, now=NOON, cursor=write_cursor("x", 1, 1))


def test_a_page_of_requests_can_end_at_a_deadline_that_nobody_lives_to_see(
    engine: Engine, ledger: ListedLedger
) -> None:
    for name in ("q", "r"):
        ask(ledger, name, takeBy=2**64 - 1, fulfilBy=2**64 - 1)
    update_index(engine, ledger)
    with reading(engine) as session:
        first = queries.open_requests(session, READER, now=NOON, limit=1)
        rest = queries.open_requests(session, READER, now=NOON, limit=1, cursor=first.cursor)
    assert [one.request for one in rest.entries] == [digest("r")]


def test_a_hospital_sees_the_requests_that_concern_it(engine: Engine, ledger: ListedLedger) -> None:
    ask(ledger, "to any")
    ask(ledger, "to the reader", reader=READER)
    ask(ledger, "taken")
    take(ledger, "taken", READER)
    update_index(engine, ledger)
    seen = {}
    with reading(engine) as session:
        for party in (OWNER, READER, STRANGER):
            found = queries.requests(session, now=NOON, party=party).entries
            seen[party] = [one.request for one in found]
        taken = queries.requests(session, now=NOON, taker=READER, state=RequestState.TAKEN)
    everything = [digest("taken"), digest("to the reader"), digest("to any")]
    assert seen == {OWNER: everything, READER: everything, STRANGER: [digest("to any")]}
    assert [one.request for one in taken.entries] == [digest("taken")]


CONCERNED: dict[str, Callable[[ListedLedger], None]] = {
    "it read": lambda ledger: record(ledger, "r", hospital=READER, author=READER),
    "it was asked": lambda ledger: ask(ledger, "q", reader=READER),
    "it took": lambda ledger: ask_and_take(ledger, "q"),
    "it is its own": lambda ledger: grant(ledger, "g", IMAGE, version=ELSEWHERE, hospital=READER),
}


@pytest.mark.parametrize("concern", CONCERNED.values(), ids=CONCERNED)
def test_a_hospital_may_ask_about_what_is_its_own_and_what_it_read_or_was_asked_to(
    engine: Engine, ledger: ListedLedger, concern: Callable[[ListedLedger], None]
) -> None:
    grant(ledger, "grant", IMAGE)
    ask(ledger, "to any")

    def may_ask(hospital: str) -> bool:
        update_index(engine, ledger)
        with reading(engine) as session:
            return queries.may_ask_about(session, IMAGE, hospital)

    assert (may_ask(OWNER), may_ask(READER)) == (True, False)
    concern(ledger)
    assert (may_ask(READER), may_ask(STRANGER)) == (True, False)


def test_who_grants_a_look_at_anothers_image_does_not_own_it(
    engine: Engine, ledger: ListedLedger
) -> None:
    grant(ledger, "grant", IMAGE, hospital=STRANGER)
    update_index(engine, ledger)
    with reading(engine) as session:
        assert not queries.may_ask_about(session, IMAGE, STRANGER)
        assert queries.may_ask_about(session, IMAGE, OWNER)


def test_the_newest_appointment_of_a_clinician_counts(engine: Engine, ledger: ListedLedger) -> None:
    for clinician, until in (("a", NOON), ("b", 2**64 - 1), ("a", 0)):
        ledger.log("ClinicianAppointed", hospital=OWNER, clinician=clinician, until=until)
    update_index(engine, ledger)
    with reading(engine) as session:
        found = queries.clinicians(session, OWNER).entries
        assert [(one.clinician, one.until) for one in found] == [("a", 0), ("b", 2**64 - 1)]
        assert queries.clinicians(session, READER).entries == ()


def test_an_erasure_stands_among_the_versions_changes(session: Session) -> None:
    (version,) = queries.dataset_history(session, VERSION).versions
    what = [(one.what, one.image) for one in version.changes]
    assert what[-2:] == [("ERASED", IMAGE), ("WITHDRAWN", None)]
    assert version.withdrawal == "image erased"


def test_nothing_is_told_of_an_image_or_a_reading_that_nobody_named(session: Session) -> None:
    with pytest.raises(InvalidInputError, match="no image"):
        history(session, OTHER)
    with pytest.raises(InvalidInputError, match="no reading"):
        queries.reading_history(session, OTHER)
    assert queries.readings(session, image=OTHER).entries == ()
    for cursor in ("W10", write_cursor(1, 0, 1, 1, 1)):
        with pytest.raises(InvalidInputError, match="cursor"):
            history(session, cursor=cursor)


def test_an_index_of_readings_is_the_same_however_it_is_filled(
    engine: Engine, ledger: ListedLedger
) -> None:
    live_through_everything(ledger)
    events, last = ledger.logged, ledger.length
    for ledger.length in range(1, last + 1):
        ledger.logged = [one for one in events if one.position.block <= ledger.length]
        update_index(engine, ledger)
    stepwise = index_digest(engine)
    assert compare(engine, ledger) == []
    rebuild(engine, ledger)
    assert index_digest(engine) == stepwise
