"""What a model may be used for, and what became of its data: from the chain, and from the index."""

from collections.abc import Iterator

import pytest
from sqlalchemy import Engine, select
from sqlalchemy.orm import Session

from aggregator import queries
from aggregator.descent import Descent, Flag, FlagKind, require_unhindered
from aggregator.index import index_digest, open_index, reading, rebuild, update_index
from aggregator.tables import DatasetVersionRow, RoundRow, TaskVersionRow
from bench.ledger_events import GeneratedLedger
from chain.errors import InvalidInputError
from chain.types import Phase
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
IMAGE = digest("an image")
NOTHING: frozenset[bytes] = frozenset()


@pytest.fixture
def ledger() -> ListedLedger:
    """Hospital A has data X, hospital B data Y."""
    ledger = ListedLedger()
    register(ledger, X, "A")
    register(ledger, Y, "B")
    return ledger


@pytest.fixture
def engine() -> Iterator[Engine]:
    engine = open_index("sqlite://")
    yield engine
    engine.dispose()


def train(
    ledger: ListedLedger,
    number: int,
    task: str = "a",
    base: str = "start",
    uses: dict[str, bytes] | None = None,
    rejected: str = "",
) -> None:
    """Take a round to its end: each hospital trains on its data."""
    uses = {"A": X, "B": Y} if uses is None else uses
    open_round(ledger, number, task=task, base=digest(base))
    for hospital, version in uses.items():
        record(ledger, number, hospital, version)
    judged = {hospital: REJECTED if hospital == rejected else ACCEPTED for hospital in uses}
    propose(ledger, number, digest(f"model {number}"), judged)
    finish(ledger, number, digest(f"model {number}"))


def permit(ledger: ListedLedger, version: bytes, *purposes: int) -> None:
    ledger.log("PurposesChanged", version=version, purposes=sum(1 << one for one in purposes))


def withdraw(ledger: ListedLedger, version: bytes) -> None:
    ledger.log("VersionWithdrawn", version=version, reason="consent revoked")


def erase(ledger: ListedLedger, version: bytes, hospital: str, image: bytes = IMAGE) -> None:
    ledger.log("ImageErased", version=version, image=image, hospital=hospital)


def both(ledger: ListedLedger, engine: Engine, number: int) -> tuple[set[int], tuple[Flag, ...]]:
    """Ask chain and index about a round's model, and hold the answers against each other."""
    update_index(engine, ledger)
    descent = Descent(ledger.logged)
    with reading(engine) as session:
        found = queries.provenance(session, digest(f"model {number}"))
    assert set(found.purposes) == descent.purposes(number)
    assert found.flags == descent.flags(number)
    return set(found.purposes), found.flags


def test_a_model_inherits_what_all_of_its_data_permit(ledger: ListedLedger, engine: Engine) -> None:
    permit(ledger, X, 6, 42)
    permit(ledger, Y, 6, 43)
    train(ledger, 1, uses={"A": X})
    train(ledger, 2, base="model 1")
    assert both(ledger, engine, 1) == ({6, 42}, ())
    assert both(ledger, engine, 2) == ({6}, ())


def test_rejected_updates_leave_nothing_to_inherit(ledger: ListedLedger, engine: Engine) -> None:
    train(ledger, 1, rejected="A")
    withdraw(ledger, X)
    permit(ledger, Y, 6, 42)
    assert both(ledger, engine, 1) == ({6, 42}, ())


def test_withdrawal_erasure_and_revocation_are_flags_and_a_correction_is_none(
    ledger: ListedLedger, engine: Engine
) -> None:
    permit(ledger, X, 6, 42)
    train(ledger, 1, uses={"A": X})
    train(ledger, 2, base="model 1")
    ledger.log("VersionSuperseded", version=Y, successor=digest("corrected"))
    assert both(ledger, engine, 2)[1] == ()
    erase(ledger, Y, "B")
    erase(ledger, Y, "B", digest("another"))
    permit(ledger, X, 42)
    withdraw(ledger, X)
    purposes, flags = both(ledger, engine, 2)
    assert purposes == set()
    assert [(one.kind, one.version, one.first_round) for one in flags] == [
        (FlagKind.IMAGE_ERASED, Y, 2),
        (FlagKind.PURPOSE_REVOKED, X, 1),
        (FlagKind.WITHDRAWN, X, 1),
    ]
    erased, revoked, withdrawn = flags
    assert (erased.count, revoked.purposes, withdrawn.reason) == (2, (6,), "consent revoked")
    assert (erased.hospital, revoked.hospital) == ("B", "A")
    # The model that was made before Y came in is touched by what became of X alone.
    assert [one.version for one in both(ledger, engine, 1)[1]] == [X, X]


def test_only_what_was_permitted_at_the_use_or_later_is_revoked(
    ledger: ListedLedger, engine: Engine
) -> None:
    permit(ledger, X, 6, 42)
    permit(ledger, X, 6)
    train(ledger, 1)
    assert both(ledger, engine, 1)[1] == ()
    permit(ledger, X, 6, 43)
    permit(ledger, X, 6)
    assert [one.purposes for one in both(ledger, engine, 1)[1]] == [(43,)]
    permit(ledger, X, 6, 43)
    assert both(ledger, engine, 1)[1] == ()


def test_a_line_goes_on_through_the_task_that_it_branches_off_from(
    ledger: ListedLedger, engine: Engine
) -> None:
    train(ledger, 1, uses={"A": X})
    train(ledger, 2, base="model 1", uses={"B": Y})
    train(ledger, 3, task="early", base="model 1", uses={"A": X})
    train(ledger, 4, task="late", base="model 2", uses={"A": X})
    withdraw(ledger, Y)
    assert both(ledger, engine, 3)[1] == ()
    (flag,) = both(ledger, engine, 4)[1]
    assert (flag.version, flag.task, flag.first_round) == (Y, "a", 2)


def test_what_an_outdated_proposal_or_an_aborted_round_kept_is_not_inherited(
    ledger: ListedLedger, engine: Engine
) -> None:
    train(ledger, 1, uses={"B": Y})
    open_round(ledger, 2, task="a", base=digest("model 1"))
    record(ledger, 2, "A", X)
    record(ledger, 2, "B", Y)
    propose(ledger, 2, digest("wrong"), {"A": ACCEPTED, "B": ACCEPTED})
    update_index(engine, ledger)
    propose(ledger, 2, digest("model 2"), {"A": REJECTED, "B": ACCEPTED}, proposal=2)
    finish(ledger, 2, digest("model 2"))
    open_round(ledger, 3, task="a", base=digest("model 2"))
    record(ledger, 3, "A", X)
    propose(ledger, 3, digest("never"), {"A": ACCEPTED})
    ledger.log("RoundAborted", round=3, task=b"", by="steward", reason="enough")
    train(ledger, 4, base="model 2", uses={"B": Y})
    withdraw(ledger, X)
    assert both(ledger, engine, 4)[1] == ()
    before = index_digest(engine)
    rebuild(engine, ledger)
    assert index_digest(engine) == before
    with reading(engine) as session:
        rows = session.execute(select(TaskVersionRow.version, TaskVersionRow.first_round)).all()
    assert [tuple(row) for row in rows] == [(Y, 1)]


def test_flags_of_a_version_are_on_what_descends_from_it(
    ledger: ListedLedger, engine: Engine
) -> None:
    permit(ledger, Y, 6, 42)
    train(ledger, 1)
    withdraw(ledger, X)
    update_index(engine, ledger)
    with reading(engine) as session:
        (flag,) = queries.descendants(session, X).flags
        (model,) = queries.descendants(session, X).models.entries
        assert queries.descendants(session, Y).flags == ()
    assert (flag.kind, flag.task, flag.first_round) == (FlagKind.WITHDRAWN, "a", 1)
    assert model.purposes == (6,)


def test_the_index_says_what_the_chain_says_on_a_long_ledger(engine: Engine) -> None:
    ledger = GeneratedLedger(12_000, seed=3)
    rebuild(engine, ledger)
    descent = Descent(ledger.events(0, ledger.head().number))
    with reading(engine) as session:
        finals = session.execute(
            select(RoundRow.number, RoundRow.model).where(RoundRow.phase == Phase.FINAL.value)
        ).all()
        for number, model in finals[::7]:
            assert model is not None
            found = queries.provenance(session, model, limit=1)
            assert found.flags == descent.flags(number)
            assert set(found.purposes) == descent.purposes(number)
        assert any(descent.flags(number) for number, _ in finals)
        assert _descending(session) == {
            version: [number for number, _ in finals if version in descent.versions(number)]
            for version in session.scalars(select(DatasetVersionRow.version)).all()[::60]
        }


def _descending(session: Session) -> dict[bytes, list[int]]:
    found = {}
    for version in session.scalars(select(DatasetVersionRow.version)).all()[::60]:
        rounds: list[int] = []
        cursor = None
        while True:
            page = queries.descendants(session, version, cursor=cursor, limit=200).models
            rounds += [one.round for one in page.entries]
            cursor = page.cursor
            if cursor is None:
                break
        found[version] = sorted(rounds)
    return found


def test_a_flagged_model_is_trained_further_only_if_the_federation_agreed(
    ledger: ListedLedger,
) -> None:
    train(ledger, 1)
    require_unhindered(Descent(ledger.logged), 1, 6, NOTHING)
    withdraw(ledger, X)
    erase(ledger, Y, "B")
    descent = Descent(ledger.logged)
    with pytest.raises(InvalidInputError, match=r"withdrawn since block.*image erased since"):
        require_unhindered(descent, 1, 6, NOTHING)
    with pytest.raises(InvalidInputError, match=Y.hex()):
        require_unhindered(descent, 1, 6, frozenset({X}))
    require_unhindered(descent, 1, 6, frozenset({X, Y}))


def test_a_purpose_that_was_revoked_can_be_agreed_upon_and_one_never_given_cannot(
    ledger: ListedLedger,
) -> None:
    permit(ledger, X, 6, 42)
    permit(ledger, Y, 6, 42)
    train(ledger, 1)
    permit(ledger, X, 6)
    descent = Descent(ledger.logged)
    require_unhindered(descent, 1, 6, NOTHING)
    with pytest.raises(InvalidInputError, match="not permitted any more for DUO:0000042"):
        require_unhindered(descent, 1, 42, NOTHING)
    require_unhindered(descent, 1, 42, frozenset({X}))
    with pytest.raises(InvalidInputError, match="never permitted DUO:0000043"):
        require_unhindered(descent, 1, 43, frozenset({X, Y}))
    permit(ledger, X, 6, 43)
    permit(ledger, Y, 6, 43)
    require_unhindered(Descent(ledger.logged), 1, 43, NOTHING)


def test_descent_is_read_on_and_begins_anew_where_the_chain_is_another(
    ledger: ListedLedger,
) -> None:
    train(ledger, 1)
    descent = Descent()
    descent.read_on(ledger)
    assert descent.flags(1) == ()
    withdraw(ledger, X)
    descent.read_on(ledger)
    assert descent.flags(1) == Descent(ledger.logged).flags(1) != ()
    ledger.drop(1)
    descent.read_on(ledger)
    assert descent.flags(1) == ()
    ledger.branch = "another"
    ledger.mine(5)
    descent.read_on(ledger)
    assert descent.last_final("a") == 1
    assert descent.made_in(digest("model 1")) == 1
    assert descent.made_in(digest("start")) is None


def test_a_forged_ledger_leads_no_line_in_a_circle(ledger: ListedLedger) -> None:
    train(ledger, 5, task="a")
    train(ledger, 9, task="b", base="model 5")
    train(ledger, 5, task="b", base="model 9")
    train(ledger, 7, task="c", base="model 5")
    descent = Descent(ledger.logged)
    assert descent.versions(7) == {X, Y}
