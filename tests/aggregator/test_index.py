"""The index is a copy of the chain: filled in steps, built anew, compared, on two databases."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import Engine, text

from aggregator import index, queries
from aggregator.index import (
    Difference,
    IndexedBlock,
    compare,
    index_digest,
    indexed_block,
    open_index,
    reading,
    rebuild,
    update_index,
)
from aggregator.progress import Progress
from aggregator.tables import SCHEMA_VERSION
from chain.errors import IndexDatabaseError, InvalidInputError, LedgerError
from chain.reader import LedgerReader
from chain.signing import sign_head
from tests.aggregator import data_room
from tests.aggregator.postgresql import find_programs, running_server
from tests.federation import HOSPITALS, WITNESSES, Federation, dataset_terms, digest


@pytest.fixture
def engine(tmp_path: Path) -> Iterator[Engine]:
    engine = open_index(f"sqlite:///{tmp_path / 'index.sqlite'}")
    yield engine
    engine.dispose()


def live_through_everything(federation: Federation) -> None:
    """Make every kind of event that the contracts know, with some hostile values."""
    address, ledgers = federation.address, federation.ledgers
    steward = ledgers["steward"]
    room = data_room.furnish(federation)
    first = federation.open_round()
    federation.finish(first)
    cosign(federation, first, "witness-1")
    second = federation.open_round(base_model=digest("model"), base_blob=digest("model blob"))
    largest = {"epsilon": 2**64 - 1, "delta": 2**63}
    ledgers["hospital-1"].record_update(federation.record("hospital-1", second, **largest))
    federation.pass_time(3660)
    ledgers["aggregator"].propose(
        second, digest("m2"), digest("b2"), [federation.verdicts()[_place(federation)]]
    )
    ledgers["witness-1"].dispute(second, 1, digest("x"), digest("y"), digest("z"))
    steward.abort(second, "a reason with a \0 in it")
    steward.suspend(address("hospital-2"), "left")
    steward.suspend(address("hospital-3"), "asleep")
    steward.reinstate(address("hospital-3"))
    ledgers["hospital-1"].set_encryption_key(digest("new key"))
    version = federation.versions["hospital-1"]
    ledgers["hospital-1"].permit_purposes(version, frozenset({6, 42}))
    grant = ledgers["hospital-1"].grant_access(
        address("researcher"),
        version,
        None,
        (),
        purpose=6,
        expiry=federation.reader.head().timestamp + 3600,
    )
    ledgers["hospital-1"].revoke(grant)
    corrected = ledgers["hospital-1"].register_version(
        dataset_terms("hospital-1", previous=version, merkle_root=digest("corrected"))
    )
    ledgers["hospital-1"].withdraw(corrected, "consent revoked")
    data_room.erase(federation, room)


def cosign(federation: Federation, number: int, witness: str) -> None:
    """Sign the ledger's head at a final round, as a witness."""
    reader, account = federation.reader, federation.identities[witness].account
    head = reader.head_of_final(number)
    signature = sign_head(reader.chain_id, reader.address, head, account)
    federation.ledgers[witness].cosign(head, account.address, signature)


def _place(federation: Federation) -> int:
    addresses = sorted(int(federation.address(name), 16) for name in HOSPITALS)
    return addresses.index(int(federation.address("hospital-1"), 16))


def test_an_index_filled_in_steps_equals_one_built_at_once(
    federation: Federation, engine: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(index, "CHUNK", 3)
    update_index(engine, federation.reader)
    live_through_everything(federation)
    told: list[Progress] = []
    reached = update_index(engine, federation.reader, told.append)
    head = federation.reader.head()
    assert (reached.number, reached.hash) == (head.number, head.hash)
    assert reached == indexed_block(engine)
    assert told[-1] == Progress("blocks", head.number, head.number)
    stepwise = index_digest(engine)
    monkeypatch.setattr(index, "CHUNK", 2_000)
    assert rebuild(engine, federation.reader) == reached
    assert index_digest(engine) == stepwise
    assert compare(engine, federation.reader) == []


def test_what_witnesses_signed_of_the_chain_is_in_a_rounds_history(
    federation: Federation, engine: Engine
) -> None:
    number = federation.open_round()
    federation.finish(number)
    for witness in WITNESSES:
        cosign(federation, number, witness)
    update_index(engine, federation.reader)
    with reading(engine) as session:
        found = queries.round_history(session, number).cosignatures
        witnesses = queries.overview(session).witnesses
    assert {(one.witness, one.number, one.hash, one.blocks, one.signature) for one in found} == {
        (one.witness, one.head.number, one.head.hash, one.head.blocks, one.signature)
        for one in federation.reader.cosignatures(number)
    }
    assert [(one.rounds, one.attested, one.cosigned) for one in witnesses] == [(1, 1, 1)] * 2


def test_readings_and_requests_are_those_of_the_chain(
    federation: Federation, engine: Engine
) -> None:
    room = data_room.furnish(federation)
    data_room.erase(federation, room)
    update_index(engine, federation.reader)
    chain = federation.reader.readings
    now = federation.reader.head().timestamp
    with reading(engine) as session:
        found = queries.readings(session).entries[::-1]
        asked = queries.requests(session, now=now).entries[::-1]
        said = queries.reading_history(session, room.first).comparisons
        (batch, other) = queries.look_batches(session, federation.address("hospital-1")).entries
        (appointed,) = queries.clinicians(session, federation.address("hospital-1")).entries
        (erased,) = queries.image_history(session, data_room.IMAGE, now=now).erasures
    assert [(one.reading, one.author, one.position) for one in found] == [
        (one.reading, one.author, one.position) for one in chain.readings()
    ]
    assert [(one.hospital, one.document, one.blob) for one in found] == [
        (one.terms.hospital, one.terms.document, one.terms.blob) for one in chain.readings()
    ]
    assert [(one.corrects, one.corrected_by, one.request) for one in found] == [
        (one.corrects, one.corrected_by, one.request) for one in chain.readings()
    ]
    assert found[-1].reason == "typing\\x00"
    assert [(one.request, one.state, one.taker, one.reading) for one in asked] == [
        (one.request, one.state, one.taker, one.reading) for one in chain.requests()
    ]
    assert [(one.take_by, one.fulfil_by, one.reader) for one in asked] == [
        (one.terms.take_by, one.terms.fulfil_by, one.terms.reader) for one in chain.requests()
    ]
    assert [(one.own, one.other, one.agreement, one.position) for one in said] == [
        (one.own, one.other, one.agreement, one.position) for one in chain.comparisons()
    ]
    anchored = federation.reader.anchored_batches()
    assert [(one.root, one.first, one.position) for one in (batch, other)] == [
        (one.root, one.first, one.position) for one in anchored
    ]
    assert appointed.until == chain.appointed_until(appointed.hospital, appointed.clinician)
    assert erased.position.block == federation.reader.head().number


def test_a_deleted_index_comes_back_equal(
    federation: Federation, engine: Engine, tmp_path: Path
) -> None:
    federation.finish(federation.open_round())
    update_index(engine, federation.reader)
    before = index_digest(engine)
    engine.dispose()
    for path in tmp_path.glob("index.sqlite*"):
        path.unlink()
    update_index(engine, federation.reader)
    assert index_digest(engine) == before


def test_a_chain_that_went_back_is_read_anew(federation: Federation, engine: Engine) -> None:
    update_index(engine, federation.reader)
    before, snapshot = index_digest(engine), federation.rpc("evm_snapshot")
    federation.open_round()
    last = update_index(engine, federation.reader)
    assert index_digest(engine) != before
    federation.rpc("evm_revert", snapshot)
    update_index(engine, federation.reader)
    assert index_digest(engine) == before
    assert compare(engine, federation.reader) == []
    with reading(engine) as session:
        (finding,) = queries.oddities(session).findings
    assert (finding.what, finding.expected, finding.found) == ("rewound", last.hash, None)


def test_another_chain_of_the_same_length_is_noticed(
    federation: Federation, engine: Engine
) -> None:
    snapshot = federation.rpc("evm_snapshot")
    federation.open_round()
    length = update_index(engine, federation.reader).number
    federation.rpc("evm_revert", snapshot)
    federation.ledgers["hospital-1"].set_encryption_key(digest("another key"))
    assert update_index(engine, federation.reader).number == length
    with reading(engine) as session:
        assert queries.rounds(session).entries == ()


def test_a_changed_value_is_found(federation: Federation, engine: Engine) -> None:
    federation.finish(federation.open_round())
    update_index(engine, federation.reader)
    hospital = federation.address("hospital-1")
    with engine.begin() as connection:
        connection.execute(
            text("UPDATE verdicts SET outcome = 2 WHERE round = 1 AND hospital = :hospital"),
            {"hospital": hospital},
        )
    assert compare(engine, federation.reader) == [
        Difference("verdicts", (1, 1, hospital), "outcome", 0, 2)
    ]


def test_a_missing_and_an_invented_row_are_found(federation: Federation, engine: Engine) -> None:
    hospital = federation.ledgers["hospital-1"]
    hospital.record_update(federation.record("hospital-1", federation.open_round()))
    update_index(engine, federation.reader)
    with engine.begin() as connection:
        connection.execute(text("DELETE FROM records WHERE round = 1"))
        connection.execute(text("INSERT INTO round_witnesses VALUES (1, 'nobody')"))
    found = compare(engine, federation.reader)
    assert [(one.table, one.key) for one in found] == [
        ("records", (1, federation.address("hospital-1"))),
        ("round_witnesses", (1, "nobody")),
    ]
    assert found[0].found is None
    assert found[1].expected is None


@pytest.mark.parametrize("junk", ["'junk'", "1.5", "x'00ff'"])
def test_values_of_another_type_are_found_too(
    federation: Federation, engine: Engine, junk: str
) -> None:
    federation.finish(federation.open_round())
    update_index(engine, federation.reader)
    with engine.begin() as connection:
        connection.execute(text(f"UPDATE rounds SET deadline = {junk}"))  # noqa: S608
    (found,) = compare(engine, federation.reader)
    assert (found.table, found.column) == ("rounds", "deadline")
    assert index_digest(engine)


def test_a_rebuild_without_a_chain_leaves_the_index_as_it_was(
    federation: Federation, engine: Engine
) -> None:
    update_index(engine, federation.reader)
    before = index_digest(engine)
    nowhere = LedgerReader("http://127.0.0.1:9", federation.reader.address)
    with pytest.raises(LedgerError):
        rebuild(engine, nowhere)
    assert index_digest(engine) == before


def test_a_chain_that_dies_during_a_rebuild_leaves_the_index_as_it_was(
    federation: Federation, engine: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    update_index(engine, federation.reader)
    before = index_digest(engine)
    events = federation.reader.events

    def dying(first: int, last: int) -> Iterator[Any]:
        yield next(events(first, last))
        raise LedgerError("no chain answers")

    monkeypatch.setattr(federation.reader, "events", dying)
    with pytest.raises(LedgerError):
        rebuild(engine, federation.reader)
    assert index_digest(engine) == before


def test_an_index_of_another_version_says_what_to_do(
    federation: Federation, engine: Engine
) -> None:
    update_index(engine, federation.reader)
    with engine.begin() as connection:
        connection.execute(text("UPDATE index_head SET schema_version = 99"))
    with pytest.raises(IndexDatabaseError, match="fedwitness index rebuild"):
        update_index(engine, federation.reader)
    with pytest.raises(IndexDatabaseError, match=f"version {SCHEMA_VERSION}, found version 99"):
        indexed_block(engine)
    rebuild(engine, federation.reader)
    assert indexed_block(engine) is not None


def test_an_index_of_another_ledger_is_refused(federation: Federation, engine: Engine) -> None:
    update_index(engine, federation.reader)
    with engine.begin() as connection:
        connection.execute(text("UPDATE index_head SET chain_id = '00000000000000000001'"))
    with pytest.raises(IndexDatabaseError, match="on chain 1"):
        update_index(engine, federation.reader)


def test_an_empty_index_says_what_to_do(engine: Engine) -> None:
    assert indexed_block(engine) is None
    with pytest.raises(IndexDatabaseError, match="never filled"), reading(engine):
        pass


@pytest.mark.parametrize("url", ["", "nonsense", "mysql://x", "sqlite:////nowhere/at/all/x"])
def test_a_database_that_cannot_be_used_is_told(url: str, federation: Federation) -> None:
    with pytest.raises((InvalidInputError, IndexDatabaseError)):
        update_index(open_index(url), federation.reader)


def test_a_damaged_database_is_told(engine: Engine, tmp_path: Path) -> None:
    (tmp_path / "index.sqlite").write_bytes(b"no database" * 1000)
    with pytest.raises(IndexDatabaseError, match="cannot be used"):
        indexed_block(engine)


def test_a_password_is_in_no_message() -> None:
    engine = open_index("postgresql+psycopg://user:hunter2@127.0.0.1:9/x")
    with pytest.raises(IndexDatabaseError) as caught:
        indexed_block(engine)
    assert "hunter2" not in str(caught.value)


def test_two_processes_may_update_one_index(
    federation: Federation, engine: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One is overtaken by the other between two chunks, and has nothing left to do."""
    monkeypatch.setattr(index, "CHUNK", 2)
    federation.open_round()
    overtaken: list[IndexedBlock] = []

    def overtake(_: Progress) -> None:
        if not overtaken:
            overtaken.append(update_index(engine, federation.reader))

    assert update_index(engine, federation.reader, overtake) == indexed_block(engine)
    assert compare(engine, federation.reader) == []


@pytest.fixture
def postgresql_engine() -> Iterator[Engine]:
    programs = find_programs()
    if programs is None:
        pytest.skip("no PostgreSQL server is installed here (Debian: postgresql)")
    with running_server(programs) as url:
        engine = open_index(url)
        yield engine
        engine.dispose()


def test_postgresql_holds_the_same_index(
    federation: Federation, engine: Engine, postgresql_engine: Engine
) -> None:
    live_through_everything(federation)
    update_index(engine, federation.reader)
    update_index(postgresql_engine, federation.reader)
    assert index_digest(postgresql_engine) == index_digest(engine)
    assert compare(postgresql_engine, federation.reader) == []
    rebuild(postgresql_engine, federation.reader)
    assert index_digest(postgresql_engine) == index_digest(engine)
    with reading(postgresql_engine) as one, reading(engine) as other:
        for session in (one, other):
            assert queries.round_history(session, 1) == queries.round_history(other, 1)
            assert queries.verdicts(session, limit=2) == queries.verdicts(other, limit=2)
            hospital = federation.address("hospital-1")
            assert queries.hospital_history(session, hospital, limit=1) == (
                queries.hospital_history(other, hospital, limit=1)
            )
