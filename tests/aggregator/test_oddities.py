"""What looks odd: clocks, orders, hasty and unnamed witnesses; and a chain that changed."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import Engine, text

from aggregator import queries
from aggregator.index import compare, index_digest, open_index, reading, rebuild, update_index
from aggregator.oddities import Oddity
from aggregator.queries import ChainFinding, Oddities, OddityEntry
from tests.aggregator.listed_ledger import (
    DAY,
    NOON,
    ListedLedger,
    attest,
    finish,
    open_round,
    propose,
    record,
)
from tests.federation import digest

MODEL = digest("model")
ACCEPTED = {"A": (0, 0)}


@pytest.fixture
def engine(tmp_path: Path) -> Iterator[Engine]:
    engine = open_index(f"sqlite:///{tmp_path / 'index.sqlite'}")
    yield engine
    engine.dispose()


def asked(engine: Engine, **which: Any) -> Oddities:
    with reading(engine) as session:
        return queries.oddities(session, **which)


def kinds(engine: Engine, ledger: ListedLedger) -> list[str]:
    update_index(engine, ledger)
    return [one.kind for one in reversed(asked(engine).entries.entries)]


def whole_round(ledger: ListedLedger) -> None:
    open_round(ledger, 1)
    record(ledger, 1, "A")
    propose(ledger, 1, MODEL, ACCEPTED)
    finish(ledger, 1, MODEL)


def test_an_ordinary_round_has_nothing_odd(engine: Engine) -> None:
    ledger = ListedLedger()
    whole_round(ledger)
    assert kinds(engine, ledger) == []


def late(ledger: ListedLedger) -> None:
    open_round(ledger, 1, deadline=NOON)
    ledger.now += 1
    record(ledger, 1, "A")


def after_the_proposal(ledger: ListedLedger) -> None:
    open_round(ledger, 1)
    record(ledger, 1, "A")
    propose(ledger, 1, MODEL, ACCEPTED)
    record(ledger, 1, "B")


def of_no_round(ledger: ListedLedger) -> None:
    record(ledger, 7, "A")


def back_in_time(ledger: ListedLedger) -> None:
    open_round(ledger, 1)
    ledger.now -= 1
    record(ledger, 1, "A")


def far_ahead(ledger: ListedLedger) -> None:
    open_round(ledger, 1)
    ledger.now += DAY + 1
    record(ledger, 1, "A")


def too_fast(ledger: ListedLedger) -> None:
    open_round(ledger, 1)
    record(ledger, 1, "A")
    propose(ledger, 1, MODEL, ACCEPTED)
    said = {"round": 1, "proposal": 1, "witness": "witness-1"}
    ledger.add("ProposalAttested", **said, signature=bytes(65))


def by_a_stranger(ledger: ListedLedger) -> None:
    open_round(ledger, 1)
    record(ledger, 1, "A")
    propose(ledger, 1, MODEL, ACCEPTED)
    attest(ledger, 1, "witness-9")


def unattested(ledger: ListedLedger) -> None:
    open_round(ledger, 1)
    record(ledger, 1, "A")
    propose(ledger, 1, MODEL, ACCEPTED)
    ledger.log("RoundFinalized", round=1, task=b"", model=MODEL, modelBlob=MODEL)


def of_an_older_proposal(ledger: ListedLedger) -> None:
    open_round(ledger, 1)
    record(ledger, 1, "A")
    propose(ledger, 1, MODEL, ACCEPTED)
    propose(ledger, 1, digest("other"), ACCEPTED, proposal=2)
    attest(ledger, 1, "witness-1", proposal=1)


@pytest.mark.parametrize(
    ("happen", "expected"),
    [
        (late, Oddity.LATE_RECORD),
        (after_the_proposal, Oddity.OUT_OF_ORDER),
        (of_no_round, Oddity.OUT_OF_ORDER),
        (of_an_older_proposal, Oddity.OUT_OF_ORDER),
        (back_in_time, Oddity.TIME_WENT_BACK),
        (far_ahead, Oddity.TIME_JUMPED),
        (too_fast, Oddity.HASTY_ATTESTATION),
        (by_a_stranger, Oddity.UNNAMED_WITNESS),
        (unattested, Oddity.UNATTESTED_FINAL),
    ],
)
def test_what_is_odd_is_named(
    engine: Engine, happen: Callable[[ListedLedger], None], expected: Oddity
) -> None:
    ledger = ListedLedger()
    happen(ledger)
    assert kinds(engine, ledger) == [expected.value]


def test_a_pause_of_days_is_not_odd_where_blocks_went_on(engine: Engine) -> None:
    ledger = ListedLedger()
    open_round(ledger, 1)
    ledger.mine(7_200)
    ledger.now += DAY + 1
    record(ledger, 1, "A")
    assert kinds(engine, ledger) == []


def test_clocks_are_held_against_each_other_over_steps_too(engine: Engine) -> None:
    ledger = ListedLedger()
    open_round(ledger, 1)
    update_index(engine, ledger)
    ledger.now -= 1
    record(ledger, 1, "A")
    assert kinds(engine, ledger) == [Oddity.TIME_WENT_BACK.value]


def disputed_round(ledger: ListedLedger) -> None:
    open_round(ledger, 1)
    record(ledger, 1, "A")
    propose(ledger, 1, MODEL, ACCEPTED)
    said = {"round": 1, "proposal": 1, "witness": "witness-2"}
    result = {"model": digest("m"), "verdicts": digest("v"), "evidence": digest("e")}
    ledger.log("ProposalDisputed", **said, **result)


def test_a_dispute_says_who_and_where(engine: Engine) -> None:
    ledger = ListedLedger()
    disputed_round(ledger)
    update_index(engine, ledger)
    (entry,) = asked(engine, kind=Oddity.DISPUTED_PROPOSAL.value, round_number=1).entries.entries
    assert (entry.round, entry.subject, entry.noticed_at) == (1, "witness-2", NOON)
    assert entry.position.transaction == digest(f"transaction {ledger.length}")
    assert asked(engine, round_number=2).entries.entries == ()
    assert asked(engine, kind="late_record").entries.entries == ()


def test_a_disputed_proposal_that_became_final_is_odd_and_a_new_one_is_not(engine: Engine) -> None:
    ledger = ListedLedger()
    disputed_round(ledger)
    propose(ledger, 1, digest("other"), ACCEPTED, proposal=2)
    attest(ledger, 1, "witness-1", proposal=2)
    final = {"round": 1, "task": b"", "model": MODEL, "modelBlob": MODEL}
    ledger.add("RoundFinalized", **final)
    assert kinds(engine, ledger) == [Oddity.DISPUTED_PROPOSAL.value]
    other = ListedLedger("other")
    disputed_round(other)
    attest(other, 1, "witness-1")
    other.add("RoundFinalized", **final)
    rebuild(engine, other)
    counts = {one.kind: one.found for one in asked(engine).counts}
    assert counts == {"disputed_proposal": 1, "disputed_final": 1}


def test_oddities_come_in_pages(engine: Engine) -> None:
    ledger = ListedLedger()
    disputed_round(ledger)
    for _ in range(2):
        for name in ("A", "B"):  # in one block, one after the other
            args: dict[str, Any] = {
                "round": 9,
                "hospital": name,
                "recordDigest": b"",
                "datasets": (),
            }
            rest = dict.fromkeys(("update", "blob", "code"), b"")
            counts = {"examples": 1, "epsilon": 0, "delta": 0}
            add = ledger.log if name == "A" else ledger.add
            args["round"] = 9 + ledger.length
            add("UpdateRecorded", **args, **rest, **counts)
    update_index(engine, ledger)
    whole = asked(engine).entries.entries
    assert len(whole) == 5
    found: list[OddityEntry] = []
    cursor = None
    while True:
        page = asked(engine, cursor=cursor, limit=1).entries
        found += page.entries
        cursor = page.cursor
        if cursor is None:
            break
    assert tuple(found) == whole


def finding(engine: Engine) -> ChainFinding:
    (found,) = asked(engine).findings
    return found


def test_a_rewound_chain_is_a_finding_that_outlives_rebuilds(engine: Engine) -> None:
    ledger = ListedLedger()
    whole_round(ledger)
    update_index(engine, ledger)
    last = ledger.head()
    ledger.drop(2)
    update_index(engine, ledger)
    found = finding(engine)
    assert (found.what, found.block, found.expected, found.found, found.head) == (
        "rewound",
        last.number,
        last.hash,
        None,
        last.number - 2,
    )
    rebuild(engine, ledger)
    assert finding(engine) == found
    assert compare(engine, ledger) == []


def test_a_reorganised_chain_is_a_finding_with_both_hashes(engine: Engine) -> None:
    ledger = ListedLedger()
    whole_round(ledger)
    update_index(engine, ledger)
    expected = ledger.head().hash
    ledger.branch = "fork"
    ledger.mine()
    update_index(engine, ledger)
    found = finding(engine)
    assert (found.what, found.expected) == ("reorganised", expected)
    assert found.found == ledger.block(found.block).hash
    update_index(engine, ledger)
    assert len(asked(engine).findings) == 1


def test_a_rebuild_notices_what_following_had_no_time_to(engine: Engine) -> None:
    ledger = ListedLedger()
    whole_round(ledger)
    update_index(engine, ledger)
    ledger.branch = "fork"
    rebuild(engine, ledger)
    assert finding(engine).what == "reorganised"


def test_findings_are_told_newest_first_and_are_no_part_of_the_digest(engine: Engine) -> None:
    ledger = ListedLedger()
    whole_round(ledger)
    update_index(engine, ledger)
    before = index_digest(engine)
    for branch in ("fork", "main"):
        ledger.branch = branch
        update_index(engine, ledger)
    assert [one.number for one in asked(engine).findings] == [2, 1]
    assert index_digest(engine) == before


def test_an_index_of_the_version_before_is_built_anew_with_a_place_for_findings(
    engine: Engine,
) -> None:
    ledger = ListedLedger()
    whole_round(ledger)
    update_index(engine, ledger)
    with engine.begin() as connection:
        connection.execute(text("DROP TABLE chain_findings"))
        connection.execute(text("UPDATE index_head SET schema_version = 1"))
    rebuild(engine, ledger)
    assert asked(engine).findings == ()
