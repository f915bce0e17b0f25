"""The server before a real chain and a real IPFS node, killed and asked to go on."""

import secrets
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from chain.blobs import IpfsBlobStore
from chain.cid import Cid, blob_cid
from chain.types import UpdateRecord
from chain.wire import to_hex, to_json_dict
from tests.api.conftest import OFFSET_STREAM
from tests.api.server_process import Server, serving
from tests.api.signing_in import session_headers
from tests.federation import HOSPITALS, PURPOSE, TASK, WITNESSES, Federation
from tests.waiting import eventually


@pytest.fixture
def server(federation: Federation, ipfs: str, tmp_path: Path) -> Iterator[Server]:
    with serving(federation, ipfs, tmp_path) as found:
        yield found


def signed_in(server: Server, federation: Federation, name: str) -> dict[str, str]:
    return session_headers(server.http, federation.identities[name].account, time.time())


def envelope_of(federation: Federation, name: str, round_number: int) -> tuple[UpdateRecord, bytes]:
    """Make a hospital's record of a blob that stands for its envelope."""
    content = secrets.token_bytes(2_500_000)
    digest = blob_cid([content]).digest
    return federation.record(name, round_number, blob=digest), content


def announce(
    server: Server, federation: Federation, name: str, record: UpdateRecord, size: int
) -> httpx.Response:
    body = {
        "record": to_json_dict(record),
        "signature": "0x" + federation.sign(record, name).hex(),
        "size": size,
    }
    session = session_headers(server.http, federation.identities[name].account, time.time())
    return server.http.post("/v1/uploads", json=body, headers=session)


def send(server: Server, session: dict[str, str], location: str, content: bytes) -> int:
    """Send what is missing of an upload."""
    offset = server.http.head(location, headers=session).headers["Upload-Offset"]
    headers = session | {"Upload-Offset": offset, "Content-Type": OFFSET_STREAM}
    return server.http.patch(location, content=content[int(offset) :], headers=headers).status_code


def upload_state(server: Server, session: dict[str, str], location: str) -> dict[str, Any]:
    answer: dict[str, Any] = server.http.get(location, headers=session).json()
    return answer


def wait_until_recorded(server: Server, session: dict[str, str], location: str) -> None:
    def is_recorded() -> bool:
        state = upload_state(server, session, location)
        assert state["state"] != "refused", state
        return bool(state["state"] == "recorded")

    eventually(is_recorded, lambda: upload_state(server, session, location))
    assert upload_state(server, session, location)["transaction"]


def test_nothing_acknowledged_is_lost_when_the_server_is_killed(
    server: Server, federation: Federation, ipfs: str
) -> None:
    number = federation.open_round()
    blobs = IpfsBlobStore(ipfs)
    # The server dies in the middle of an upload, right after its end, and a little later.
    for name, sent, pause in zip(HOSPITALS, (1_000_000, None, None), (0, 0, 0.15), strict=True):
        record, content = envelope_of(federation, name, number)
        location = announce(server, federation, name, record, len(content)).headers["Location"]
        session = signed_in(server, federation, name)
        assert send(server, session, location, content[:sent]) == 204
        time.sleep(pause)
        server.kill()
        server.start()
        session = signed_in(server, federation, name)
        state = upload_state(server, session, location)
        assert state["offset"] == (sent or len(content))
        if sent:
            assert send(server, session, location, content) == 204
        wait_until_recorded(server, session, location)
        assert blobs.get(Cid.from_blob_digest(record.blob), len(content)) == content
    recorded = federation.reader.records(number)
    assert {found.record.hospital for found in recorded} == set(map(federation.address, HOSPITALS))
    assert len(recorded) == len(HOSPITALS)
    blobs.close()


def test_a_round_is_followed_from_upload_to_provenance(
    server: Server, federation: Federation
) -> None:
    number = federation.open_round()
    for name in HOSPITALS:
        record, content = envelope_of(federation, name, number)
        location = announce(server, federation, name, record, len(content)).headers["Location"]
        session = signed_in(server, federation, name)
        assert send(server, session, location, content) == 204
        wait_until_recorded(server, session, location)
    again = announce(server, federation, HOSPITALS[0], record, 1)
    assert again.status_code == 403
    federation.propose(number)
    for witness in WITNESSES:
        federation.attest(number, witness)
    final = federation.reader.last_final(TASK)
    assert final is not None

    hospital = federation.address(HOSPITALS[0])
    session = signed_in(server, federation, HOSPITALS[0])
    update = server.http.get(f"/v1/rounds/{number}/updates/{hospital}", headers=session).json()
    assert update["verdict"]["outcome"] == "ACCEPTED"
    assert update["round"]["phase"] == "FINAL"
    own = f"/v1/hospitals/{hospital}/history"
    assert server.http.get(own, headers=session).status_code == 200
    others = f"/v1/hospitals/{federation.address(HOSPITALS[1])}/history"
    assert server.http.get(others, headers=session).status_code == 403
    assert server.http.get("/v1/verdicts", headers=session).status_code == 403
    eventually(
        lambda: server.http.get("/v1/rounds?phase=FINAL", headers=session).json()["entries"] != []
    )
    own = server.http.get(f"/v1/reputation?task={TASK}", headers=session).json()
    assert [one["hospital"] for one in own["hospitals"]] == [hospital]

    session = signed_in(server, federation, "auditor")
    head = federation.reader.head().number

    def ask(path: str) -> Any:
        return server.http.get(path, headers=session).json()

    eventually(lambda: ask("/v1/rounds")["as_of"]["number"] >= head)
    assert ask("/v1/rounds?phase=FINAL")["entries"][0]["number"] == number
    traced = ask(f"/v1/provenance/models/{to_hex(final[0])}")
    assert [made["round"]["number"] for made in traced["ancestors"]["entries"]] == [number]
    assert len(traced["ancestors"]["entries"][0]["kept"]) == len(HOSPITALS)
    first = ask("/v1/verdicts?limit=2&outcome=ACCEPTED")
    second = ask(f"/v1/verdicts?limit=2&outcome=ACCEPTED&cursor={first['cursor']}")
    assert second["cursor"] is None
    found = [verdict["hospital"] for verdict in first["entries"] + second["entries"]]
    assert sorted(found) == sorted(map(federation.address, HOSPITALS))
    standings = ask(f"/v1/reputation?task={TASK}")
    assert (standings["rounds"], standings["policy"]) == (1, None)
    assert [one["accepted"] for one in standings["hospitals"]] == [1] * len(HOSPITALS)
    version = to_hex(federation.versions[HOSPITALS[0]])
    used = ask(f"/v1/datasets/{version}/history")
    assert used["uses"]["entries"][0]["hospital"] == hospital
    assert len(ask(f"/v1/rounds/{number}/history")["proposals"][0]["words"]) == len(WITNESSES)
    missing = (
        f"/v1/provenance/models/{to_hex(bytes(32))}",
        f"/v1/datasets/{to_hex(bytes(32))}/history",
        f"/v1/hospitals/{federation.deployment.ledger}/history",
        "/v1/rounds/999/history",
        "/v1/reputation?task=another",
    )
    for path in missing:
        assert server.http.get(path, headers=session).status_code == 404, path
    forged = ("x", "WzNd", "W10", "%00", "A" * 512)
    for cursor in forged:
        path = f"/v1/verdicts?cursor={cursor}"
        assert server.http.get(path, headers=session).status_code == 422, cursor
    for wrong in ("", "?task=", f"?task={'x' * 65}"):
        assert server.http.get(f"/v1/reputation{wrong}", headers=session).status_code == 422, wrong
    for wrong in ("outcome=BEST", "reason=WHIM", "hospital=0x12", "round=0", "limit=201"):
        path = f"/v1/verdicts?{wrong}"
        assert server.http.get(path, headers=session).status_code == 422, wrong


def test_the_chain_decides_who_may_do_what_and_see_what(
    server: Server, federation: Federation
) -> None:
    hospital = HOSPITALS[0]
    number = federation.open_round()
    expiry = federation.reader.head().timestamp + 3600
    federation.ledgers[hospital].grant_access(
        federation.address("researcher"),
        federation.versions[hospital],
        None,
        (),
        purpose=PURPOSE,
        expiry=expiry,
    )
    session = signed_in(server, federation, "researcher")
    answer = server.http.get("/v1/grants/mine", headers=session).json()
    (grant,) = answer["grants"]
    assert (grant["live"], grant["hospital"]) == (True, federation.address(hospital))
    assert (grant["expiry"], grant["purpose"]) == (expiry, PURPOSE)
    head = federation.reader.head()
    assert answer["block"] == {
        "number": head.number,
        "hash": to_hex(head.hash),
        "timestamp": head.timestamp,
    }
    session = signed_in(server, federation, hospital)
    terms = server.http.get(f"/v1/tasks/{TASK}/round", headers=session).json()
    assert terms["round"]["number"] == number
    assert terms["recipients"] == list(map(to_hex, federation.reader.recipients(number)))
    record, content = envelope_of(federation, hospital, number)
    location = announce(server, federation, hospital, record, len(content)).headers["Location"]
    federation.ledgers["steward"].suspend(federation.address(hospital), "lost its keys")
    refused = server.http.get(location, headers=session)
    assert (refused.status_code, refused.json()["type"]) == (403, "suspended")
    session = signed_in(server, federation, "researcher")
    (grant,) = server.http.get("/v1/grants/mine", headers=session).json()["grants"]
    assert not grant["live"]
    eventually(lambda: server.http.get("/readyz").status_code == 200)
