"""Provenance, histories and verdicts, asked of an index of a real ledger."""

import base64
from collections.abc import Iterator

import pytest
from sqlalchemy.orm import Session

from aggregator import queries
from aggregator.index import open_index, reading, update_index
from aggregator.queries import Page, VerdictEntry
from aggregator.reputation import read_reputation
from aggregator.rules import trimmed_mean
from chain.digests import content_digest
from chain.errors import InvalidInputError
from chain.tensors import tensor_bytes
from chain.types import DatasetState, Outcome, Phase, Reason
from tests.aggregator.training import Training, tensors_of
from tests.federation import (
    HOSPITALS,
    TASK,
    Federation,
    connect,
    dataset_terms,
    digest,
    unchanged,
)
from tests.memory_blobs import MemoryBlobStore

GENESIS = content_digest(tensor_bytes(tensors_of(0)))


@pytest.fixture(scope="module")
def training(
    founded_federation: Federation, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Training]:
    """One history for all questions: no test here changes the chain."""
    founded, folder = founded_federation, tmp_path_factory.mktemp("queries")
    with unchanged(founded.rpc_url):
        federation = connect(
            founded.rpc_url, founded.deployment, folder / "outboxes", dict(founded.versions)
        )
        yield Training(federation, MemoryBlobStore(), folder)


@pytest.fixture(scope="module")
def session(training: Training) -> Iterator[Session]:
    """Two final rounds, in the second of which a hospital replays; a third was aborted."""
    training.finish(training.open_round())
    second = training.open_round(trimmed_mean(0))
    training.send("hospital-1", second, tensor_bytes(tensors_of(101)))
    training.send("hospital-2", second, tensor_bytes(tensors_of(1001)))
    training.send("hospital-3", second, tensor_bytes(tensors_of(1002)), examples=20)
    training.advance(second)
    training.attest(second)
    third = training.open_round()
    training.federation.ledgers["steward"].abort(third, "a holiday")
    ledger, version = training.federation.ledgers["hospital-2"], "hospital-2"
    ledger.register_version(
        dataset_terms(
            version,
            previous=training.federation.versions[version],
            merkle_root=digest("corrected"),
        )
    )
    engine = open_index("sqlite://")
    update_index(engine, training.federation.reader)
    with reading(engine) as session:
        yield session
    engine.dispose()


def model_of(training: Training, number: int) -> bytes:
    proposal = training.federation.reader.round(number).proposal
    assert proposal is not None
    return proposal.model


def test_a_model_is_traced_back_to_data_sets(training: Training, session: Session) -> None:
    address, versions = training.federation.address, training.federation.versions
    found = queries.provenance(session, model_of(training, 2))
    assert (found.origin, found.also_made_in) == (GENESIS, ())
    newest, oldest = found.ancestors.entries
    assert [(one.round.number, one.round.base_round) for one in (newest, oldest)] == [
        (2, 1),
        (1, None),
    ]
    assert [one.round.generation for one in (newest, oldest)] == [1, 0]
    kept = newest.kept
    assert {one.hospital for one in kept} == {address("hospital-2"), address("hospital-3")}
    assert {one.hospital for one in oldest.kept} == set(map(address, HOSPITALS))
    by_hospital = {one.hospital: one for one in kept}
    (use,) = by_hospital[address("hospital-2")].datasets
    assert (use.version, use.state) == (versions["hospital-2"], DatasetState.SUPERSEDED)
    assert by_hospital[address("hospital-3")].examples == 20


def test_a_model_that_no_round_made_has_no_provenance(session: Session) -> None:
    for model in (GENESIS, digest("unknown")):
        with pytest.raises(InvalidInputError, match="no final round made the model"):
            queries.provenance(session, model)


def test_the_history_of_a_round_is_whole(training: Training, session: Session) -> None:
    address = training.federation.address
    found = queries.round_history(session, 2)
    assert found.round.phase is Phase.FINAL
    assert found.round.model == model_of(training, 2)
    assert [one.hospital for one in found.contributions] == list(map(address, HOSPITALS))
    (proposal,) = found.proposals
    assert sum(word.attested for word in proposal.words) == 2
    reasons = {one.hospital: one.reason for one in proposal.verdicts}
    assert reasons[address("hospital-1")] == "REPLAYED_UPDATE"
    assert [int(one.hospital, 16) for one in proposal.verdicts] == sorted(
        int(address(name), 16) for name in HOSPITALS
    )
    aborted = queries.round_history(session, 3).round
    assert (aborted.phase, aborted.abortion) == (Phase.ABORTED, "a holiday")


def test_the_history_of_a_data_set_shows_versions_and_uses(
    training: Training, session: Session
) -> None:
    version = training.federation.versions["hospital-2"]
    found = queries.dataset_history(session, version)
    assert [one.state for one in found.versions] == [DatasetState.SUPERSEDED, DatasetState.ACTIVE]
    assert [one.round for one in found.uses.entries] == [2, 1]
    assert {one.hospital for one in found.uses.entries} == {
        training.federation.address("hospital-2")
    }
    assert queries.dataset_history(session, found.versions[0].dataset) == found


def test_the_history_of_a_hospital_comes_in_pages(training: Training, session: Session) -> None:
    hospital = training.federation.address("hospital-3")
    first = queries.hospital_history(session, hospital, limit=1)
    assert (first.name, first.roles, first.suspended) == ("hospital-3", ("HOSPITAL",), False)
    assert [one.round for one in first.contributions.entries] == [2]
    cursor = first.contributions.cursor
    second = queries.hospital_history(session, hospital, cursor=cursor, limit=1)
    assert [one.round for one in second.contributions.entries] == [1]
    assert second.contributions.cursor is None


def all_pages(session: Session, limit: int) -> list[VerdictEntry]:
    found: list[VerdictEntry] = []
    page: Page[VerdictEntry] = queries.verdicts(session, limit=limit)
    assert len(page.entries) <= limit
    found += page.entries
    while page.cursor is not None:
        page = queries.verdicts(session, limit=limit, cursor=page.cursor)
        assert 1 <= len(page.entries) <= limit
        found += page.entries
    return found


@pytest.mark.parametrize("limit", [1, 2, 5, 6, 200])
def test_pages_leave_nothing_out_and_repeat_nothing(session: Session, limit: int) -> None:
    found = all_pages(session, limit)
    assert [one.round for one in found] == [2, 2, 2, 1, 1, 1]
    assert len({(one.round, one.hospital) for one in found}) == 6


def test_verdicts_are_filtered(training: Training, session: Session) -> None:
    hospital = training.federation.address("hospital-1")
    rejected = queries.verdicts(session, outcome=Outcome.REJECTED).entries
    assert [(one.round, one.hospital, one.reason) for one in rejected] == [
        (2, hospital, "REPLAYED_UPDATE")
    ]
    assert queries.verdicts(session, reason=Reason.REPLAYED_UPDATE).entries == rejected
    assert len(queries.verdicts(session, hospital=hospital).entries) == 2
    assert len(queries.verdicts(session, round_number=1).entries) == 3
    assert len(queries.verdicts(session, task=TASK).entries) == 6
    for nothing in ({"task": "another\0"}, {"hospital": "' OR 1=1 --"}, {"round_number": 9}):
        assert queries.verdicts(session, **nothing).entries == ()


def test_the_index_tells_the_same_standings_as_the_chain(
    training: Training, session: Session
) -> None:
    hospital = training.federation.address("hospital-1")
    found = queries.standings(session, TASK)
    assert found == read_reputation(training.federation.reader, TASK)
    assert (found.rounds, len(found.hospitals)) == (2, 3)
    (own,) = queries.standings(session, TASK, hospital=hospital).hospitals
    assert own in found.hospitals
    assert (own.accepted, own.rejected) == (1, 1)
    with pytest.raises(InvalidInputError, match="no round of this task"):
        queries.standings(session, "another\0")


def test_rounds_are_listed(session: Session) -> None:
    newest = queries.rounds(session, limit=2)
    assert [one.number for one in newest.entries] == [3, 2]
    rest = queries.rounds(session, limit=2, cursor=newest.cursor)
    assert [one.number for one in rest.entries] == [1]
    assert rest.cursor is None
    assert [one.number for one in queries.rounds(session, phase=Phase.ABORTED).entries] == [3]
    assert queries.rounds(session, task="another").entries == ()


@pytest.mark.parametrize(
    "cursor",
    ["", "!", "a", "é", "WzFd", "WyJhIiwiYiJd", "W3RydWUsImEiXQ", "W10", "e30", "x" * 4000],
)
def test_an_invented_cursor_is_refused(session: Session, cursor: str) -> None:
    with pytest.raises(InvalidInputError, match="cursor"):
        queries.verdicts(session, cursor=cursor)


@pytest.mark.parametrize("word", [r"\ud800", r"\udfff", r"\u0000", r"0x\u0000"])
def test_a_cursor_with_a_character_that_no_database_takes_is_refused(
    session: Session, word: str
) -> None:
    cursor = base64.urlsafe_b64encode(f'[1,1,"{word}"]'.encode()).decode().rstrip("=")
    with pytest.raises(InvalidInputError, match="cursor"):
        queries.oddities(session, cursor=cursor)


@pytest.mark.parametrize("limit", [-1, 0, 201])
def test_pages_are_bounded(session: Session, limit: int) -> None:
    with pytest.raises(InvalidInputError, match="1 to 200"):
        queries.verdicts(session, limit=limit)


def test_what_nobody_knows_is_told(session: Session) -> None:
    for number in (0, 4, -1, 2**63, 2**256):
        with pytest.raises(InvalidInputError):
            queries.round_history(session, number)
    with pytest.raises(InvalidInputError, match="no data set"):
        queries.dataset_history(session, digest("unknown"))
    with pytest.raises(InvalidInputError, match="no participant"):
        queries.hospital_history(session, "0x0000000000000000000000000000000000000000")
