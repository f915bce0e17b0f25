"""Liveness, readiness and metrics."""

import pytest

from chain.errors import BlobUnavailableError
from tests.api.conftest import HOSPITAL, Running


def test_a_server_whose_parts_answer_is_ready(server: Running) -> None:
    assert server.http.get("/healthz").json() == {"status": "alive"}
    server.wait_until_ready()
    assert server.http.get("/readyz").json()["checks"] == {
        "chain": "ok",
        "ipfs": "ok",
        "index": "ok",
    }


def test_a_server_without_a_chain_lives_and_is_not_ready(server: Running) -> None:
    server.ledger.down = True
    assert server.http.get("/healthz").status_code == 200
    answer = server.http.get("/readyz")
    assert (answer.status_code, answer.json()["checks"]["chain"]) == (503, "unreachable")


def test_a_server_without_ipfs_is_not_ready(
    server: Running, monkeypatch: pytest.MonkeyPatch
) -> None:
    def unreachable(_: object) -> None:
        raise BlobUnavailableError("no IPFS node answers")

    monkeypatch.setattr(server.blobs, "put", unreachable)
    answer = server.http.get("/readyz")
    assert (answer.status_code, answer.json()["checks"]["ipfs"]) == (503, "unreachable")


def test_metrics_count_by_route_and_name_nobody(server: Running) -> None:
    session = server.sign_in(HOSPITAL)
    server.http.get(f"/v1/rounds/1/updates/{HOSPITAL.address}", headers=session)
    server.http.get("/nowhere/at/all")
    text = server.http.get("/metrics").text
    route = 'route="/v1/rounds/{number}/updates/{hospital}",status="404"'
    assert f'fedwitness_api_requests_total{{method="GET",{route}}} 1.0' in text
    assert 'route="unmatched",status="404"' in text
    assert HOSPITAL.address not in text
    assert "/nowhere" not in text
