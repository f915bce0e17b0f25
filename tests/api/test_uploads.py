"""Uploads, from the announcement to the ledger (docs/protocol.md, section 12)."""

import resource
import secrets
import signal
import socket
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import httpx
import pytest

from api.spool import upload_id
from chain.errors import BlobUnavailableError, ContractRevertedError
from chain.signing import sign_update
from chain.types import Outcome, Phase, Proposal, Reason, Verdict
from chain.wire import to_json_dict
from tests.api.conftest import (
    HOSPITAL,
    OFFSET_STREAM,
    OTHER_HOSPITAL,
    STRANGER,
    Running,
    record_for,
    running,
)
from tests.api.fake_ledger import FakeLedger
from tests.memory_blobs import MemoryBlobStore
from tests.waiting import eventually

CONTENT = secrets.token_bytes(3_000_000)


def begun(server: Running, content: bytes = CONTENT, **changes: Any) -> tuple[dict[str, str], str]:
    """Announce an upload and return the session and the upload's address."""
    session = server.sign_in(HOSPITAL)
    record = record_for(content, **changes)
    answer = server.announce(session, HOSPITAL, record, len(content))
    assert answer.status_code == 201, answer.text
    return session, answer.headers["Location"]


def offset(server: Running, session: dict[str, str], location: str) -> int:
    return int(server.http.head(location, headers=session).headers["Upload-Offset"])


def test_an_upload_ends_on_the_ledger(server: Running) -> None:
    session, location = begun(server)
    sent = server.send(session, location, 0, CONTENT)
    assert (sent.status_code, sent.headers["Upload-Offset"]) == (204, str(len(CONTENT)))
    upload = server.outcome(session, location)
    assert upload["state"] == "recorded"
    assert upload["gas"] == 78_200
    record = record_for(CONTENT)
    assert server.ledger.recorded[1, HOSPITAL.address].record == record
    wait_until_dropped(server)


def test_an_upload_in_pieces_goes_on_from_its_offset(server: Running) -> None:
    session, location = begun(server)
    for start in range(0, len(CONTENT), 1_234_567):
        assert offset(server, session, location) == start
        piece = CONTENT[start : start + 1_234_567]
        assert server.send(session, location, start, piece).status_code == 204
    assert server.outcome(session, location)["state"] == "recorded"


def test_a_broken_connection_keeps_what_arrived(server: Running) -> None:
    session, location = begun(server)

    def breaking() -> Iterator[bytes]:
        yield CONTENT[:2_000_000]
        raise ConnectionError("the cable")

    with pytest.raises(ConnectionError):
        server.send(session, location, 0, breaking())
    kept = _settled_offset(server, session, location)
    assert 0 < kept <= 2_000_000
    assert server.send(session, location, kept, CONTENT[kept:]).status_code == 204
    assert server.outcome(session, location)["state"] == "recorded"


def test_another_offset_is_refused_with_the_right_one(server: Running) -> None:
    session, location = begun(server)
    server.send(session, location, 0, CONTENT[:1000])
    for wrong in (0, 999, 1001):
        answer = server.send(session, location, wrong, CONTENT[wrong:])
        assert (answer.status_code, answer.headers["Upload-Offset"]) == (409, "1000")
    assert offset(server, session, location) == 1000


def test_no_byte_more_than_announced_is_taken(server: Running) -> None:
    session, location = begun(server)
    assert server.send(session, location, 0, CONTENT + b"x").status_code == 413

    def unannounced() -> Iterator[bytes]:
        yield CONTENT
        yield b"x"

    assert server.send(session, location, 0, unannounced()).status_code == 413
    assert offset(server, session, location) <= len(CONTENT)


def test_an_endless_body_is_cut_off(server: Running) -> None:
    session, location = begun(server, b"short")

    def endless() -> Iterator[bytes]:
        while True:
            yield b"x" * 65536

    with suppress(httpx.TransportError):  # It may hang up while the client is still sending.
        assert server.send(session, location, 0, endless()).status_code == 413
    assert offset(server, session, location) == 0


def test_a_silent_body_is_given_up(
    tmp_path: Path, ledger: FakeLedger, blobs: MemoryBlobStore
) -> None:
    with running(tmp_path, ledger, blobs, body_idle_seconds=0.2) as server:
        session, location = begun(server)
        head = (
            f"PATCH {location} HTTP/1.1\r\nHost: 127.0.0.1\r\n"
            f"Authorization: {session['Authorization']}\r\nUpload-Offset: 0\r\n"
            f"Content-Type: {OFFSET_STREAM}\r\nContent-Length: {len(CONTENT)}\r\n\r\n"
        )
        with socket.create_connection(("127.0.0.1", server.settings.port), 20) as connection:
            connection.sendall(head.encode() + CONTENT[:5000])
            assert connection.recv(65536).startswith(b"HTTP/1.1 408")
        assert offset(server, session, location) == 5000


def test_two_requests_do_not_write_one_upload_at_once(server: Running) -> None:
    session, location = begun(server)
    with server.app.state.backend.spool.appending(location.rsplit("/", 1)[1]):
        answer = server.send(session, location, 0, CONTENT)
    assert (answer.status_code, answer.json()["type"]) == (409, "upload-busy")
    assert server.send(session, location, 0, CONTENT).status_code == 204


def test_bytes_of_another_blob_are_refused_and_dropped(server: Running) -> None:
    session, location = begun(server)
    server.send(session, location, 0, bytes(len(CONTENT)))
    upload = server.outcome(session, location)
    assert (upload["state"], upload["problem"]["type"]) == ("refused", "blob-digest-mismatch")
    wait_until_dropped(server)
    assert server.blobs.blocks == {}
    assert server.ledger.transactions == []


def test_a_refused_upload_begins_anew(server: Running) -> None:
    session, location = begun(server)
    server.send(session, location, 0, bytes(len(CONTENT)))
    server.outcome(session, location)
    session, location = begun(server)
    assert server.send(session, location, 0, CONTENT).status_code == 204
    assert server.outcome(session, location)["state"] == "recorded"


def test_the_same_record_is_the_same_upload(server: Running) -> None:
    session, location = begun(server)
    server.send(session, location, 0, CONTENT[:1000])
    again = server.announce(session, HOSPITAL, record_for(CONTENT), len(CONTENT))
    assert (again.status_code, again.headers["Location"]) == (200, location)
    assert again.headers["Upload-Offset"] == "1000"
    server.send(session, location, 1000, CONTENT[1000:])
    server.outcome(session, location)
    late = server.announce(session, HOSPITAL, record_for(CONTENT), len(CONTENT))
    assert (late.status_code, late.json()["state"]) == (200, "recorded")


def test_the_same_record_with_another_size_is_refused(server: Running) -> None:
    session, _ = begun(server)
    answer = server.announce(session, HOSPITAL, record_for(CONTENT), len(CONTENT) + 1)
    assert (answer.status_code, answer.json()["type"]) == (409, "size-mismatch")


def test_what_the_ledger_would_refuse_is_refused_before_a_byte(server: Running) -> None:
    session = server.sign_in(HOSPITAL)
    server.ledger.timestamp = 5_000_000_000
    answer = server.announce(session, HOSPITAL, record_for(CONTENT), len(CONTENT))
    assert answer.status_code == 409
    problem = answer.json()
    assert problem["type"] == "refused-by-contract"
    assert problem["contract_error"] == {"name": "RoundLedgerLateRecord", "args": {"round": 1}}
    assert "next round" in problem["detail"]
    wait_until_dropped(server)


def test_a_forged_signature_is_refused_by_the_contracts_error(server: Running) -> None:
    session = server.sign_in(HOSPITAL)
    answer = server.announce(session, STRANGER, record_for(CONTENT), len(CONTENT))
    assert answer.json()["contract_error"]["name"] == "RoundLedgerBadSignature"


def test_a_record_of_another_hospital_is_refused(server: Running) -> None:
    session = server.sign_in(HOSPITAL)
    record = record_for(CONTENT, OTHER_HOSPITAL)
    answer = server.announce(session, OTHER_HOSPITAL, record, len(CONTENT))
    assert (answer.status_code, answer.json()["type"]) == (403, "not-your-record")


def test_an_upload_of_another_hospital_is_as_if_it_were_not_there(server: Running) -> None:
    _, location = begun(server)
    other = server.sign_in(OTHER_HOSPITAL)
    assert server.http.get(location, headers=other).status_code == 404
    assert server.http.head(location, headers=other).status_code == 404
    assert server.send(other, location, 0, CONTENT).status_code == 404


def test_a_path_is_no_upload_id(server: Running) -> None:
    session = server.sign_in(HOSPITAL)
    headers = session | {"Upload-Offset": "0", "Content-Type": OFFSET_STREAM}
    paths = ("x", "..%2F..%2Fuploads.sqlite", "%2e%2e", "0" * 63, "A" * 64, "0" * 64 + "%0a")
    for path in paths:
        for method in ("GET", "HEAD", "PATCH"):
            answer = server.http.request(method, f"/v1/uploads/{path}", headers=headers)
            assert answer.status_code in (404, 405, 422), (method, path)


def test_a_malformed_announcement_is_refused(server: Running) -> None:
    session = server.sign_in(HOSPITAL)
    record = record_for(CONTENT)
    good = {
        "record": to_json_dict(record),
        "signature": "0x" + sign_update(record, HOSPITAL).hex(),
        "size": len(CONTENT),
    }
    wrong_members: list[dict[str, Any]] = [
        {"round": -1},
        {"round": "x"},
        {"round": 2**60},
        {"hospital": "0x12"},
        {"blob": "0x12"},
        {"purpose": 2**40},
        {"chain_id": str(2**200)},
        {"datasets": "0x"},
        {"surprise": 1},
    ]
    wrong_bodies: list[dict[str, Any]] = [
        *({"record": to_json_dict(record) | members} for members in wrong_members),
        *({"size": size} for size in (0, -1, 1.5, "10", 2**63, None)),
        *({"signature": signature} for signature in ("", "0x", "0x12", "x" * 132, 5)),
        {"surprise": 1},
    ]
    for wrong in wrong_bodies:
        answer = server.http.post("/v1/uploads", json=good | wrong, headers=session)
        assert answer.status_code == 422, (wrong, answer.text)
        assert answer.json()["type"] == "malformed-request"
    assert server.http.post("/v1/uploads", json=good, headers=session).status_code == 201


def test_an_unknown_round_is_refused(server: Running) -> None:
    session = server.sign_in(HOSPITAL)
    answer = server.announce(session, HOSPITAL, record_for(CONTENT, round=9), len(CONTENT))
    assert answer.json()["contract_error"]["name"] == "RoundLedgerUnknownRound"


def test_another_media_type_is_refused(server: Running) -> None:
    session, location = begun(server)
    headers = session | {"Upload-Offset": "0", "Content-Type": "text/plain"}
    answer = server.http.patch(location, content=b"x", headers=headers)
    assert answer.status_code == 415


def test_an_upload_larger_than_the_server_takes_is_refused(
    tmp_path: Path, ledger: FakeLedger, blobs: MemoryBlobStore
) -> None:
    with running(tmp_path, ledger, blobs, max_upload_bytes=1000) as server:
        session = server.sign_in(HOSPITAL)
        answer = server.announce(session, HOSPITAL, record_for(CONTENT), 1001)
    assert (answer.status_code, answer.json()["type"]) == (413, "body-too-large")


@pytest.mark.parametrize("quota", [{"hospital_quota_uploads": 2}, {"hospital_quota_bytes": 25}])
def test_a_hospital_has_a_quota_of_unfinished_uploads(
    tmp_path: Path, ledger: FakeLedger, blobs: MemoryBlobStore, quota: dict[str, int]
) -> None:
    with running(tmp_path, ledger, blobs, **quota) as server:
        session = server.sign_in(HOSPITAL)
        answers = [
            server.announce(session, HOSPITAL, record_for(b"0123456789", examples=n), 10)
            for n in range(1, 4)
        ]
        assert [answer.status_code for answer in answers] == [201, 201, 429]
        other = server.sign_in(OTHER_HOSPITAL)
        record = record_for(b"0123456789", OTHER_HOSPITAL)
        assert server.announce(other, OTHER_HOSPITAL, record, 10).status_code == 201


def test_a_server_without_room_takes_no_upload(
    tmp_path: Path, ledger: FakeLedger, blobs: MemoryBlobStore
) -> None:
    with running(tmp_path, ledger, blobs, spool_reserve_bytes=2**60) as server:
        session = server.sign_in(HOSPITAL)
        answer = server.announce(session, HOSPITAL, record_for(CONTENT), len(CONTENT))
        assert (answer.status_code, answer.json()["type"]) == (507, "spool-full")
        location = f"/v1/uploads/{upload_id(record_for(CONTENT))}"
        assert server.http.get(location, headers=session).status_code == 404


def test_a_disk_that_fills_up_leaves_the_upload_as_it_was(server: Running) -> None:
    session, location = begun(server)
    server.send(session, location, 0, CONTENT[:1_000_000])
    with _files_of_at_most(1_500_000):
        answer = server.send(session, location, 1_000_000, CONTENT[1_000_000:])
    assert (answer.status_code, answer.json()["type"]) == (507, "spool-full")
    assert offset(server, session, location) == 1_000_000
    server.send(session, location, 1_000_000, CONTENT[1_000_000:])
    assert server.outcome(session, location)["state"] == "recorded"


def test_an_upload_waits_for_ipfs(server: Running, monkeypatch: pytest.MonkeyPatch) -> None:
    def unreachable(_: object) -> None:
        raise BlobUnavailableError("no IPFS node answers")

    session, location = begun(server)
    with monkeypatch.context() as patch:
        patch.setattr(server.blobs, "put", unreachable)
        server.send(session, location, 0, CONTENT)
        upload = server.wait_for(session, location, lambda upload: bool(upload["problem"]))
        assert (upload["state"], upload["problem"]["type"]) == ("storing", "blob-unavailable")
        assert server.http.get(location, headers=session).headers["Retry-After"] == "5"
    assert server.outcome(session, location)["state"] == "recorded"


def test_an_upload_waits_for_the_chain(server: Running, monkeypatch: pytest.MonkeyPatch) -> None:
    session, location = begun(server)

    def down_at_last(content: object) -> object:
        server.ledger.down = True
        return put(content)

    put: Any = server.blobs.put
    monkeypatch.setattr(server.blobs, "put", down_at_last)
    server.send(session, location, 0, CONTENT)
    eventually(lambda: server.ledger.down)
    time.sleep(0.1)
    server.ledger.down = False
    assert server.outcome(session, location)["state"] == "recorded"


def test_what_the_ledger_refuses_at_the_end_is_refused_with_its_error(server: Running) -> None:
    session, location = begun(server)
    server.ledger.timestamp = 5_000_000_000 - 1
    server.ledger.refuses[HOSPITAL.address] = ContractRevertedError(
        "RoundLedgerRoundFull", {"round": 1, "maxUpdates": 1}
    )
    server.ledger.timestamp = 1_800_000_000
    server.send(session, location, 0, CONTENT)
    upload = server.outcome(session, location)
    assert upload["state"] == "refused"
    assert upload["problem"]["contract_error"]["name"] == "RoundLedgerRoundFull"


def test_a_record_that_somebody_else_relayed_is_recorded(server: Running) -> None:
    session, location = begun(server)
    record = record_for(CONTENT)
    server.ledger.relay_update(record, sign_update(record, HOSPITAL))
    server.send(session, location, 0, CONTENT)
    upload = server.outcome(session, location)
    assert (upload["state"], len(server.ledger.transactions)) == ("recorded", 1)
    assert upload["transaction"] == "0x" + (1).to_bytes(32, "big").hex()


def test_a_second_record_of_a_hospital_is_refused(server: Running) -> None:
    session, location = begun(server)
    other = record_for(CONTENT, examples=1)
    server.ledger.relay_update(other, sign_update(other, HOSPITAL))
    server.send(session, location, 0, CONTENT)
    upload = server.outcome(session, location)
    assert upload["problem"]["contract_error"]["name"] == "RoundLedgerDuplicateRecord"


def test_uploads_that_wait_together_are_recorded_together(server: Running) -> None:
    server.ledger.open()
    uploads = []
    server.ledger.down = False
    session = server.sign_in(HOSPITAL)
    other = server.sign_in(OTHER_HOSPITAL)
    for signed_in, account in ((session, HOSPITAL), (other, OTHER_HOSPITAL)):
        record = record_for(CONTENT, account)
        answer = server.announce(signed_in, account, record, len(CONTENT))
        uploads.append((signed_in, answer.headers["Location"]))
    spool = server.app.state.backend.spool
    # Both become ready in the same moment, as after a restart.
    with spool._lock:
        spool._database.execute("UPDATE uploads SET state = 'recording', offset = length")
    for signed_in, location in uploads:
        assert server.outcome(signed_in, location)["state"] == "recorded"
    assert server.ledger.transactions == [2]


def test_one_bad_record_does_not_hold_up_the_others(server: Running) -> None:
    session, location = begun(server)
    other = server.sign_in(OTHER_HOSPITAL)
    record = record_for(CONTENT, OTHER_HOSPITAL)
    announced = server.announce(other, OTHER_HOSPITAL, record, len(CONTENT))
    server.ledger.refuses[OTHER_HOSPITAL.address] = ContractRevertedError(
        "ParticipantRegistrySuspended", {"account": OTHER_HOSPITAL.address}
    )
    spool = server.app.state.backend.spool
    with spool._lock:
        spool._database.execute("UPDATE uploads SET state = 'recording', offset = length")
    assert server.outcome(session, location)["state"] == "recorded"
    assert server.outcome(other, announced.headers["Location"])["state"] == "refused"


def test_a_record_too_heavy_for_a_block_does_not_hold_up_the_others(server: Running) -> None:
    heavy, location = begun(server)
    other = server.sign_in(OTHER_HOSPITAL)
    record = record_for(CONTENT, OTHER_HOSPITAL)
    announced = server.announce(other, OTHER_HOSPITAL, record, len(CONTENT))
    server.ledger.too_heavy = frozenset({HOSPITAL.address})
    spool = server.app.state.backend.spool
    with spool._lock:
        spool._database.execute("UPDATE uploads SET state = 'recording', offset = length")
    assert server.outcome(other, announced.headers["Location"])["state"] == "recorded"
    waiting = server.wait_for(heavy, location, lambda upload: upload["problem"] is not None)
    assert waiting["state"] == "recording"


def test_an_unfinished_upload_ends_with_its_round(server: Running) -> None:
    number = server.ledger.open(deadline=1_800_000_100)
    session, location = begun(server, round=number)
    server.send(session, location, 0, CONTENT[:1000])
    server.ledger.timestamp = 1_800_000_101
    upload = server.outcome(session, location)
    assert (upload["state"], upload["problem"]["type"]) == ("refused", "upload-expired")
    wait_until_dropped(server)


def test_a_restart_loses_no_upload(
    tmp_path: Path, ledger: FakeLedger, blobs: MemoryBlobStore
) -> None:
    with running(tmp_path, ledger, blobs) as server:
        session, location = begun(server)
        server.send(session, location, 0, CONTENT[:1_000_000])
    with running(tmp_path, ledger, blobs) as server:
        assert server.http.get(location, headers=session).status_code == 401
        session = server.sign_in(HOSPITAL)
        assert offset(server, session, location) == 1_000_000
        server.send(session, location, 1_000_000, CONTENT[1_000_000:])
        assert server.outcome(session, location)["state"] == "recorded"


def test_bytes_behind_the_last_checkpoint_are_sent_again(
    tmp_path: Path, ledger: FakeLedger, blobs: MemoryBlobStore
) -> None:
    with running(tmp_path, ledger, blobs) as server:
        session, location = begun(server)
        server.send(session, location, 0, CONTENT[:1000])
        (part,) = server.settings.spool.glob("uploads/*.part")
    with part.open("ab") as file:
        file.write(b"written, and never acknowledged")
    (part.parent / ("0" * 64 + ".part")).write_bytes(b"of nobody")
    with running(tmp_path, ledger, blobs) as server:
        session = server.sign_in(HOSPITAL)
        server.send(session, location, 1000, CONTENT[1000:])
        assert server.outcome(session, location)["state"] == "recorded"
        wait_until_dropped(server)


def test_a_disk_that_lost_bytes_asks_for_them_again(
    tmp_path: Path, ledger: FakeLedger, blobs: MemoryBlobStore
) -> None:
    with running(tmp_path, ledger, blobs) as server:
        session, location = begun(server)
        server.send(session, location, 0, CONTENT[:1000])
        (part,) = server.settings.spool.glob("uploads/*.part")
    part.write_bytes(CONTENT[:600])
    with running(tmp_path, ledger, blobs) as server:
        session = server.sign_in(HOSPITAL)
        assert offset(server, session, location) == 600


def test_a_hospital_learns_the_verdict_on_its_update(server: Running) -> None:
    session, location = begun(server)
    server.send(session, location, 0, CONTENT)
    server.outcome(session, location)
    where = f"/v1/rounds/1/updates/{HOSPITAL.address}"
    before = server.http.get(where, headers=session).json()
    assert before["verdict"] is None
    assert before["record"] == to_json_dict(record_for(CONTENT))
    verdict = Verdict(HOSPITAL.address, Outcome.REJECTED, Reason.NOT_A_NUMBER, 0, 0, b"\1" * 32)
    server.ledger.given[1, 1] = (replace(verdict, hospital=STRANGER.address), verdict)
    proposal = Proposal(1, b"\2" * 32, b"\3" * 32, b"\4" * 32)
    server.ledger.change(1, phase=Phase.PROPOSED, proposal=proposal, attestations=1)
    after = server.http.get(where, headers=session).json()
    assert after["verdict"]["reason"] == "NOT_A_NUMBER"
    assert after["round"]["attestations"] == 1
    others = server.http.get(f"/v1/rounds/1/updates/{STRANGER.address}", headers=session)
    assert others.status_code == 403


def wait_until_dropped(server: Running) -> None:
    """Wait until the bytes of all uploads are gone: a state is told a moment before."""
    eventually(lambda: not list(server.settings.spool.glob("uploads/*.part")))


def _settled_offset(server: Running, session: dict[str, str], location: str) -> int:
    """Wait until the server noticed that the connection is gone, and return the offset."""
    eventually(lambda: offset(server, session, location) > 0)
    return offset(server, session, location)


@contextmanager
def _files_of_at_most(size: int) -> Iterator[None]:
    """Let this process write no file beyond a size, as a full disk would not."""
    usual = resource.getrlimit(resource.RLIMIT_FSIZE)
    handler = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, usual[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, usual)
        signal.signal(signal.SIGXFSZ, handler)
