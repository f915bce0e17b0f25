"""The client believes no server, bears its failures, and goes on where an upload stopped."""

import gzip
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from chain.cid import Cid, blob_cid
from chain.digests import sha256
from chain.errors import (
    DigestMismatchError,
    FedWitnessError,
    InvalidInputError,
    ServerError,
    VerificationError,
)
from chain.keystore import Identity
from chain.signing import sign_update
from chain.types import UpdateRecord
from node import client as client_module
from node.client import RestClient
from tests.node.fake_server import (
    CHAIN_ID,
    LEDGER,
    URL,
    FakeServer,
    busy,
    problem,
    unreachable,
)

MODEL = b"canonical tensors" * 1000


@pytest.fixture
def envelope(tmp_path: Path) -> Path:
    path = tmp_path / "envelope"
    path.write_bytes(bytes(range(256)) * 4000)
    return path


@pytest.fixture
def record(identity: Identity, envelope: Path) -> UpdateRecord:
    return UpdateRecord(
        chain_id=CHAIN_ID,
        ledger=LEDGER,
        round=1,
        hospital=identity.address,
        datasets=(b"\x03" * 32,),
        purpose=6,
        examples=6,
        base_model=b"\x04" * 32,
        update=b"\x05" * 32,
        blob=blob_cid([envelope.read_bytes()]).digest,
        code=b"\x06" * 32,
    )


@pytest.fixture
def signature(identity: Identity, record: UpdateRecord) -> bytes:
    return sign_update(record, identity.account)


def test_the_active_round_is_read_within_a_session(client: RestClient, server: FakeServer) -> None:
    found = client.active_round("pneumonia-2d")
    assert found is not None
    assert found.round == server.rounds[1]
    assert found.recipients == server.recipients[1]
    assert server.sign_ins == 1
    assert client.active_round("lesion-2d") is None
    assert server.sign_ins == 1


def test_an_ended_session_is_renewed_unnoticed(
    client: RestClient, server: FakeServer, pauses: list[float]
) -> None:
    client.round(1)
    server.lock_out()
    assert client.round(1).round.number == 1
    assert server.sign_ins == 2
    assert pauses == [0.0]


def test_a_server_that_forgets_every_session_is_given_up(
    client: RestClient, server: FakeServer
) -> None:
    def forget(_request: httpx.Request) -> None:
        server.lock_out()

    server.faults.extend([forget] * 99)
    with pytest.raises(ServerError, match="ended the session"):
        client.round(1)
    assert server.sign_ins == 2


@pytest.mark.parametrize("domain", ["evil.example", "127.0.0.1:9000"])
def test_a_signature_for_another_server_is_not_given(
    client: RestClient, server: FakeServer, domain: str
) -> None:
    server.domain = domain
    with pytest.raises(VerificationError, match=r"expected to sign in at 127\.0\.0\.1:8000"):
        client.sign_in()
    assert ("POST", "/v1/auth/session") not in server.asked


def test_a_signature_for_another_chain_is_not_given(client: RestClient, server: FakeServer) -> None:
    server.chain_id = 1
    with pytest.raises(VerificationError, match="for chain 31337, found 1"):
        client.sign_in()


@pytest.mark.parametrize(
    "url", ["http://hospital.example", "ftp://x", "http://", "http://u:p@[::1]"]
)
def test_an_address_that_would_leak_the_session_is_refused(url: str, identity: Identity) -> None:
    with pytest.raises(InvalidInputError, match="expected"):
        RestClient(url, identity, CHAIN_ID, LEDGER)


def test_a_round_of_another_ledger_is_refused(server: FakeServer, identity: Identity) -> None:
    other = RestClient(URL, identity, CHAIN_ID, identity.address, transport=server)
    with pytest.raises(VerificationError, match="is it the right server"):
        other.round(1)


def test_another_round_than_the_one_asked_for_is_refused(
    client: RestClient, server: FakeServer
) -> None:
    server.rounds[2], server.recipients[2] = server.rounds[1], server.recipients[1]
    with pytest.raises(VerificationError, match="expected round 2, found 1"):
        client.round(2)


@pytest.mark.parametrize("keys", [(), (b"\x02" * 32, b"\x01" * 32), (b"\x01" * 32,) * 2])
def test_recipients_out_of_order_or_none_are_refused(
    client: RestClient, server: FakeServer, keys: tuple[bytes, ...]
) -> None:
    server.recipients[1] = keys
    with pytest.raises(InvalidInputError, match="recipients"):
        client.round(1)


def test_a_lost_connection_and_a_busy_server_are_borne(
    client: RestClient, server: FakeServer, pauses: list[float]
) -> None:
    client.sign_in()
    server.faults.extend([unreachable, busy, unreachable])
    assert client.round(1).round.number == 1
    assert pauses == [0.5, 7.0, 2.0]


def test_a_server_that_stays_away_is_given_up_with_advice(
    client: RestClient, server: FakeServer, pauses: list[float]
) -> None:
    server.faults.extend([unreachable] * 99)
    with pytest.raises(ServerError, match=r"cannot be reached.*check the address"):
        client.round(1)
    assert len(pauses) == client_module.ATTEMPTS - 1


def test_a_refusal_tells_the_servers_words_and_the_contracts_error(
    client: RestClient, server: FakeServer
) -> None:
    client.sign_in()
    server.faults.append(lambda _: problem(409, "refused-by-contract", "RoundLedgerLateRecord"))
    with pytest.raises(ServerError, match="the detail of refused-by-contract") as refusal:
        client.round(1)
    assert refusal.value.problem == "refused-by-contract"
    assert refusal.value.contract_error == "RoundLedgerLateRecord"


def endless() -> Iterator[bytes]:
    while True:
        yield b" " * 65_536


@pytest.mark.parametrize(
    "answer",
    [
        lambda: httpx.Response(200, content=endless()),
        lambda: httpx.Response(
            200, content=gzip.compress(b" " * 40_000_000), headers={"Content-Encoding": "gzip"}
        ),
        lambda: httpx.Response(200, content=b"[]"),
        lambda: httpx.Response(200, content=b"{"),
        lambda: httpx.Response(200, content=b"\xff"),
        lambda: httpx.Response(200, content=b"[" * 100_000),
        lambda: httpx.Response(200, content=b"{}"),
        lambda: httpx.Response(302, headers={"Location": "http://evil.example"}),
        lambda: httpx.Response(500, content=b"<html>\x1b[2J"),
        lambda: httpx.Response(200, content=b"\x00", headers={"Content-Encoding": "gzip"}),
    ],
    ids=range(10),
)
def test_a_hostile_answer_is_a_clear_error(
    client: RestClient, server: FakeServer, answer: object
) -> None:
    client.sign_in()
    server.faults.append(lambda _: answer())  # type: ignore[operator]
    with pytest.raises(FedWitnessError) as refusal:
        client.round(1)
    assert "\x1b" not in str(refusal.value)
    assert len(str(refusal.value)) < 2000


def model_of(server: FakeServer) -> tuple[bytes, bytes]:
    cid = blob_cid([MODEL])
    server.models[str(cid)] = MODEL
    return sha256(MODEL), cid.digest


def test_a_model_is_checked_against_its_digest_and_cid(
    client: RestClient, server: FakeServer, tmp_path: Path
) -> None:
    digest, blob = model_of(server)
    client.fetch_model(digest, blob, tmp_path / "model", len(MODEL))
    assert (tmp_path / "model").read_bytes() == MODEL


def test_a_model_with_a_flipped_byte_leaves_nothing(
    client: RestClient, server: FakeServer, tmp_path: Path
) -> None:
    digest, blob = model_of(server)
    swapped = b"X" + MODEL[1:]
    server.models[str(Cid.from_blob_digest(blob))] = swapped
    with pytest.raises(DigestMismatchError, match="CID of the base model"):
        client.fetch_model(digest, blob, tmp_path / "model", len(MODEL))
    server.models[str(Cid.from_blob_digest(blob))] = MODEL
    with pytest.raises(DigestMismatchError, match=r"^base model"):
        client.fetch_model(b"\x00" * 32, blob, tmp_path / "model", len(MODEL))
    assert {path.name for path in tmp_path.iterdir()} == {"server-model"}


def test_a_model_without_end_is_cut_off(
    client: RestClient, server: FakeServer, tmp_path: Path
) -> None:
    digest, blob = model_of(server)
    client.sign_in()
    server.faults.append(lambda _: httpx.Response(200, content=endless()))
    with pytest.raises(ServerError, match=f"at most {len(MODEL)} bytes"):
        client.fetch_model(digest, blob, tmp_path / "model", len(MODEL))
    assert not (tmp_path / "model").exists()


def test_an_empty_model_is_refused(client: RestClient, server: FakeServer, tmp_path: Path) -> None:
    digest, blob = model_of(server)
    client.sign_in()
    server.faults.append(lambda _: httpx.Response(200, content=b""))
    with pytest.raises(FedWitnessError):
        client.fetch_model(digest, blob, tmp_path / "model", len(MODEL))


def test_an_envelope_arrives_whole(
    client: RestClient, server: FakeServer, record: UpdateRecord, signature: bytes, envelope: Path
) -> None:
    told: list[int] = []
    status = client.upload(record, signature, envelope, told.append)
    assert status.state == "recorded"
    assert status.transaction == b"\x77" * 32
    assert bytes(server.uploads[status.id].data) == envelope.read_bytes()
    assert told == [0, envelope.stat().st_size]


def test_a_broken_upload_goes_on_where_it_stopped(
    client: RestClient, server: FakeServer, record: UpdateRecord, signature: bytes, envelope: Path
) -> None:
    server.patch_faults.extend([1000, 0, 12345])
    told: list[int] = []
    status = client.upload(record, signature, envelope, told.append)
    assert bytes(server.uploads[status.id].data) == envelope.read_bytes()
    assert told == [0, 1000, 1000, 13345, envelope.stat().st_size]


def test_a_second_client_goes_on_from_the_servers_offset(
    client: RestClient,
    server: FakeServer,
    identity: Identity,
    record: UpdateRecord,
    signature: bytes,
    envelope: Path,
) -> None:
    server.patch_faults.extend([5000] + [0] * 6)
    with pytest.raises(ServerError, match="no more than 5000 of"):
        client.upload(record, signature, envelope)
    with RestClient(URL, identity, CHAIN_ID, LEDGER, transport=server) as second:
        told: list[int] = []
        assert second.upload(record, signature, envelope, told.append).state == "recorded"
    assert told[0] == 5000


def test_a_session_that_ends_during_an_upload_is_renewed(
    client: RestClient,
    server: FakeServer,
    record: UpdateRecord,
    signature: bytes,
    envelope: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(client_module, "SEGMENT", 300_000)
    told: list[int] = []

    def lock_out_once(sent: int) -> None:
        if sent == 600_000 and sent not in told:
            server.lock_out()
        told.append(sent)

    status = client.upload(record, signature, envelope, lock_out_once)
    assert status.state == "recorded"
    assert server.sign_ins == 2


def test_a_refused_announcement_sends_no_byte(
    client: RestClient, server: FakeServer, record: UpdateRecord, signature: bytes, envelope: Path
) -> None:
    server.records[1, record.hospital] = record
    with pytest.raises(ServerError) as refusal:
        client.upload(record, signature, envelope)
    assert refusal.value.contract_error == "RoundLedgerDuplicateRecord"
    assert "PATCH" not in {method for method, _ in server.asked}


def test_an_offset_beyond_the_end_is_refused(
    client: RestClient, server: FakeServer, record: UpdateRecord, signature: bytes, envelope: Path
) -> None:
    server.faults.extend(
        [lambda _: None] * 3 + [lambda _: httpx.Response(204, headers={"Upload-Offset": "9" * 9})]
    )
    with pytest.raises(ServerError, match="expected an Upload-Offset"):
        client.upload(record, signature, envelope)


def test_what_became_of_an_update(
    client: RestClient, server: FakeServer, record: UpdateRecord
) -> None:
    assert client.update(1) is None
    server.records[1, record.hospital] = record
    found = client.update(1)
    assert found is not None
    assert (found.record, found.verdict) == (record, None)
    server.judge(1, record.hospital, server.rounds[1].phase)
    judged = client.update(1)
    assert judged is not None
    assert judged.verdict == server.verdicts[1, record.hospital]


def test_a_name_cannot_lead_to_another_route(client: RestClient) -> None:
    for name in ("../rounds/1", "", "a/b", "..", "x" * 200, "a?b"):
        with pytest.raises(InvalidInputError, match="expected a name"):
            client.active_round(name)


def test_no_secret_is_shown_by_the_client(client: RestClient) -> None:
    client.sign_in()
    assert "token-1" not in repr(client)
