"""Who could see an image on a day: grants, suspensions, roles, withdrawals and purposes in time."""

from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta

import pytest
from sqlalchemy import Engine

from aggregator import queries
from aggregator.index import open_index, reading, update_index
from aggregator.queries import Viewers
from aggregator.queries.entries import GrantEntry
from chain.errors import InvalidInputError
from chain.membership import ROLE_IDS
from chain.types import Role
from tests.aggregator.listed_ledger import DAY, NOON, ListedLedger, register
from tests.federation import digest

IMAGE, OTHER = digest("image"), digest("another image")
VERSION = digest("version")
MIDNIGHT = NOON - DAY // 2
TODAY = datetime.fromtimestamp(NOON, UTC).date()

Change = Callable[[ListedLedger], None]


@pytest.fixture
def engine() -> Iterator[Engine]:
    engine = open_index("sqlite://")
    yield engine
    engine.dispose()


@pytest.fixture
def ledger() -> ListedLedger:
    """A hospital with a version and a researcher, enrolled two days ago."""
    ledger = ListedLedger()
    ledger.now = NOON - 2 * DAY
    for account, role in (("hospital", Role.HOSPITAL), ("researcher", Role.RESEARCHER)):
        named = {"account": account, "role": ROLE_IDS[role]}
        ledger.log("RoleGranted", **named, sender="steward")
        told = {**named, "encryptionKey": bytes(32), "name": account}
        ledger.add("ParticipantEnrolled", **told)
    register(ledger, VERSION, "hospital")
    return ledger


def grant_id(number: int) -> bytes:
    return number.to_bytes(32, "big")


def _number(one: GrantEntry) -> int:
    return int.from_bytes(one.grant, "big")


def grant(
    ledger: ListedLedger,
    number: int,
    image: bytes,
    expiry: int = 2 * NOON,
    hospital: str = "hospital",
) -> None:
    given: dict[str, object] = {
        "grantId": grant_id(number),
        "researcher": "researcher",
        "version": VERSION,
    }
    given |= {"hospital": hospital, "image": image, "purpose": 6, "expiry": expiry}
    ledger.log("AccessGranted", **given)


def asked(
    engine: Engine, ledger: ListedLedger, image: bytes | None = IMAGE, days: int = 0
) -> Viewers:
    update_index(engine, ledger)
    with reading(engine) as session:
        return queries.viewers(session, VERSION, image, TODAY + timedelta(days=days))


def live(engine: Engine, ledger: ListedLedger, days: int = 0) -> list[tuple[int, int]]:
    """When today its only grant was live, in seconds of the day."""
    sights = asked(engine, ledger, days=days).could.entries
    since = MIDNIGHT + days * DAY
    return [(span.since - since, span.until - since) for sight in sights for span in sight.live]


def test_a_grant_is_live_on_the_days_between(engine: Engine, ledger: ListedLedger) -> None:
    ledger.now = NOON
    grant(ledger, 1, IMAGE, expiry=NOON + DAY)
    assert live(engine, ledger, days=-1) == []
    assert live(engine, ledger) == [(DAY // 2, DAY - 1)]
    assert live(engine, ledger, days=1) == [(0, DAY // 2)]
    assert live(engine, ledger, days=2) == []


def suspend(account: str) -> Change:
    return lambda ledger: ledger.log("ParticipantSuspended", account=account, reason="left")


def drop_role(account: str, role: Role) -> Change:
    named = {"account": account, "role": ROLE_IDS[role], "sender": "steward"}
    return lambda ledger: ledger.log("RoleRevoked", **named)


ENDS: dict[str, Change] = {
    "revoked": lambda ledger: ledger.log("AccessRevoked", grantId=grant_id(1)),
    "researcher suspended": suspend("researcher"),
    "hospital suspended": suspend("hospital"),
    "researcher's role revoked": drop_role("researcher", Role.RESEARCHER),
    "hospital's role revoked": drop_role("hospital", Role.HOSPITAL),
    "withdrawn": lambda ledger: ledger.log("VersionWithdrawn", version=VERSION, reason="x"),
    "superseded": lambda ledger: ledger.log(
        "VersionSuperseded", version=VERSION, successor=digest("next")
    ),
    "image erased": lambda ledger: ledger.log(
        "ImageErased", version=OTHER, image=IMAGE, hospital="hospital"
    ),
    "purpose taken back": lambda ledger: ledger.log(
        "PurposesChanged", version=VERSION, purposes=1 << 42
    ),
}


@pytest.mark.parametrize("end", ENDS.values(), ids=ENDS)
def test_whatever_ends_a_grant_ends_it_from_then_on(
    engine: Engine, ledger: ListedLedger, end: Change
) -> None:
    ledger.now = NOON - DAY
    grant(ledger, 1, IMAGE)
    ledger.now = NOON
    end(ledger)
    assert live(engine, ledger) == [(0, DAY // 2)]
    assert live(engine, ledger, days=1) == []


def test_a_grant_by_another_than_the_owner_shows_nothing(
    engine: Engine, ledger: ListedLedger
) -> None:
    register(ledger, OTHER, "another")
    grant(ledger, 1, IMAGE, hospital="another")
    assert live(engine, ledger) == []


def test_what_another_hospital_erased_ends_no_grant(engine: Engine, ledger: ListedLedger) -> None:
    grant(ledger, 1, IMAGE)
    ledger.log("ImageErased", version=OTHER, image=IMAGE, hospital="another")
    assert live(engine, ledger) != []


def test_a_suspension_leaves_the_time_before_and_after(
    engine: Engine, ledger: ListedLedger
) -> None:
    grant(ledger, 1, IMAGE)
    ledger.now = MIDNIGHT + 100
    suspend("researcher")(ledger)
    ledger.now = MIDNIGHT + 500
    ledger.log("ParticipantReinstated", account="researcher")
    assert live(engine, ledger) == [(0, 100), (500, DAY - 1)]


def test_a_grant_on_the_whole_version_shows_every_image(
    engine: Engine, ledger: ListedLedger
) -> None:
    grant(ledger, 1, IMAGE)
    grant(ledger, 2, OTHER)
    grant(ledger, 3, bytes(32))
    numbers = {
        image: [_number(one.grant) for one in asked(engine, ledger, image).could.entries]
        for image in (IMAGE, OTHER, None)
    }
    assert numbers == {IMAGE: [3, 1], OTHER: [3, 2], None: [3, 2, 1]}


def test_viewers_and_grants_come_in_pages(engine: Engine, ledger: ListedLedger) -> None:
    for number in range(1, 6):
        grant(ledger, number, bytes(32), expiry=NOON - DAY if number == 4 else 2 * NOON)
    update_index(engine, ledger)
    with reading(engine) as session:
        seen: list[int] = []
        cursor = None
        while True:
            page = queries.viewers(session, VERSION, None, TODAY, cursor=cursor, limit=2).could
            seen += [_number(one.grant) for one in page.entries]
            cursor = page.cursor
            if cursor is None:
                break
        assert seen == [5, 3, 2, 1]
        first = queries.grants(session, version=VERSION, limit=3)
        rest = queries.grants(session, researcher="researcher", cursor=first.cursor)
        assert [_number(one) for one in (*first.entries, *rest.entries)] == [5, 4, 3, 2, 1]
        assert queries.grants(session, hospital="another").entries == ()


def test_a_day_before_the_epoch_and_an_unknown_version_are_refused(
    engine: Engine, ledger: ListedLedger
) -> None:
    with pytest.raises(InvalidInputError, match="1970"):
        asked(engine, ledger, days=-40_000)
    with reading(engine) as session, pytest.raises(InvalidInputError, match="no data-set version"):
        queries.viewers(session, OTHER, None, TODAY)
