"""What no request may do, and what every answer has."""

import socket
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import httpx
import pytest

from tests.api.conftest import HOSPITAL, Running, running
from tests.api.fake_ledger import FakeLedger
from tests.memory_blobs import MemoryBlobStore

PROBLEM = "application/problem+json"


def raw(server: Running, *pieces: bytes, patience: float = 20.0) -> bytes:
    """Send bytes as they are and return the answer's beginning."""
    with socket.create_connection(("127.0.0.1", server.settings.port), patience) as connection:
        for piece in pieces:
            connection.sendall(piece)
        return connection.recv(65536)


def test_every_error_is_a_problem(server: Running) -> None:
    session = server.sign_in(HOSPITAL)
    for method, path, status in (
        ("GET", "/nowhere", 404),
        ("GET", "/v1/rounds/99", 404),
        ("PUT", "/v1/rounds/1", 405),
        ("GET", "/v1/rounds/x", 422),
        ("GET", "/v1/rounds/-1", 422),
        ("GET", "/v1/rounds/0", 422),
        ("GET", "/v1/rounds/99999999999999999999999999999", 422),
        ("GET", "/v1/rounds?limit=0", 422),
        ("GET", "/v1/rounds?limit=100000", 422),
        ("GET", "/v1/rounds?cursor=forged", 422),
        ("GET", "/v1/rounds?phase=OVER", 422),
        ("GET", "/v1/blobs/QmNotOurs", 422),
        ("GET", "/v1/rounds/1/updates/0x12", 422),
        ("GET", f"/v1/rounds/1/updates/{HOSPITAL.address}", 404),
        ("POST", "/v1/uploads", 422),
    ):
        answer = server.http.request(method, path, headers=session)
        assert answer.status_code == status, path
        assert answer.headers["Content-Type"] == PROBLEM
        problem = answer.json()
        assert problem["status"] == status
        assert all(problem[member] for member in ("type", "title", "detail"))


def test_invented_methods_do_not_make_the_metrics_grow(server: Running) -> None:
    for number in range(3):
        assert server.http.request(f"INVENTED{number}", "/healthz").status_code == 405
    metrics = server.http.get("/metrics").text
    assert 'method="other"' in metrics
    assert "INVENTED" not in metrics


def test_every_answer_has_security_headers(server: Running) -> None:
    for path in ("/healthz", "/nowhere"):
        headers = server.http.get(path).headers
        assert headers["X-Content-Type-Options"] == "nosniff"
        assert headers["Cache-Control"] == "no-store"
        assert "frame-ancestors 'none'" in headers["Content-Security-Policy"]
        assert "Server" not in headers


def test_other_origins_get_no_permission(server: Running) -> None:
    headers = {"Origin": "https://evil.example", "Access-Control-Request-Method": "POST"}
    answer = server.http.options("/v1/uploads", headers=headers)
    assert "Access-Control-Allow-Origin" not in answer.headers


@pytest.mark.parametrize(
    "host", ["evil.example", "evil.example:8000", "", "127.0.0.1.evil.example"]
)
def test_another_host_gets_nothing(server: Running, host: str) -> None:
    answer = server.http.get("/healthz", headers={"Host": host})
    assert (answer.status_code, answer.headers["Content-Type"]) == (400, PROBLEM)


def test_more_requests_than_the_server_takes_are_turned_away(
    tmp_path: Path, ledger: FakeLedger, blobs: MemoryBlobStore
) -> None:
    with running(tmp_path, ledger, blobs, max_requests=1) as server:
        waiting = b"POST /v1/auth/nonce HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: 9\r\n\r\n"
        with socket.create_connection(("127.0.0.1", server.settings.port), 20) as connection:
            connection.sendall(waiting)
            time.sleep(0.2)
            answer = server.http.get("/healthz")
            assert (answer.status_code, answer.json()["type"]) == (503, "too-busy")
            connection.sendall(b"not json!")
            assert connection.recv(65536).startswith(b"HTTP/1.1 422")
        assert server.http.get("/healthz").status_code == 200


def test_a_large_body_is_refused_before_it_is_read(server: Running) -> None:
    answer = server.http.post("/v1/auth/nonce", content=b"{" * 100_000)
    assert (answer.status_code, answer.json()["type"]) == (413, "body-too-large")


def test_an_endless_body_is_refused(server: Running) -> None:
    def endless() -> Iterator[bytes]:
        while True:
            yield b"x" * 65536

    with suppress(httpx.TransportError):  # It may hang up while the client is still sending.
        assert server.http.post("/v1/auth/nonce", content=endless()).status_code == 413
    assert server.http.get("/healthz").status_code == 200


def test_a_body_that_drips_is_refused(
    tmp_path: Path, ledger: FakeLedger, blobs: MemoryBlobStore
) -> None:
    with running(tmp_path, ledger, blobs, body_total_seconds=0.3) as server:
        head = b"POST /v1/auth/nonce HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: 100\r\n\r\n"
        began = time.monotonic()
        with socket.create_connection(("127.0.0.1", server.settings.port), 20) as connection:
            connection.sendall(head)
            connection.settimeout(0.1)
            answer = b""
            while not answer and time.monotonic() < began + 20:
                try:
                    connection.sendall(b"{")
                    answer = connection.recv(65536)
                except TimeoutError:
                    continue
    assert answer.startswith(b"HTTP/1.1 408")


@pytest.mark.parametrize("drips", [False, True])
def test_connections_on_which_nobody_asks_shut_nobody_out(
    tmp_path: Path,
    ledger: FakeLedger,
    blobs: MemoryBlobStore,
    monkeypatch: pytest.MonkeyPatch,
    drips: bool,
) -> None:
    monkeypatch.setattr("api.server.HEAD_SECONDS", 0.2)
    with running(tmp_path, ledger, blobs, max_connections=2) as server:
        place = ("127.0.0.1", server.settings.port)
        with socket.create_connection(place, 10) as one, socket.create_connection(place, 10) as two:
            if drips:
                for sent in (b"GET /healthz", b" HTTP/1.1\r\n", b"Host: "):
                    one.sendall(sent)
                    two.sendall(sent)
                    time.sleep(0.05)
            assert one.recv(1) == two.recv(1) == b""
        assert server.http.get("/healthz").status_code == 200


def test_a_large_head_is_refused(server: Running) -> None:
    head = b"GET /healthz HTTP/1.1\r\nHost: 127.0.0.1\r\nX: " + b"x" * 100_000 + b"\r\n\r\n"
    with suppress(ConnectionError):  # It may hang up while the head is still being sent.
        assert raw(server, head)[:12] in (b"HTTP/1.1 400", b"HTTP/1.1 431")
    assert server.http.get("/healthz").status_code == 200


def test_each_name_of_the_server_is_a_host(server: Running) -> None:
    for host in ("localhost", "LOCALHOST:80", "127.0.0.1:9"):
        assert server.http.get("/healthz", headers={"Host": host}).status_code == 200


def test_nonsense_is_no_request(server: Running) -> None:
    assert raw(server, b"\x16\x03\x01 nonsense\r\n\r\n").startswith(b"HTTP/1.1 400")


@pytest.mark.parametrize(
    "body", [b"", b"null", b"[]", b"{", b'"x"', b"\xff\xfe", b'{"address": 1}', b"[" * 50_000]
)
def test_a_body_that_is_no_such_json_is_malformed(server: Running, body: bytes) -> None:
    headers = {"Content-Type": "application/json"}
    answer = server.http.post("/v1/auth/nonce", content=body, headers=headers)
    assert (answer.status_code, answer.headers["Content-Type"]) == (422, PROBLEM), answer.text


def test_an_unforeseen_error_shows_a_number_and_no_cause(
    server: Running, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    session = server.sign_in(HOSPITAL)

    def broken(_: int) -> None:
        raise ZeroDivisionError("a secret of the inside")

    monkeypatch.setattr(server.ledger, "round", broken)
    answer = server.http.get("/v1/rounds/1", headers=session)
    assert (answer.status_code, answer.headers["Content-Type"]) == (500, PROBLEM)
    assert "secret" not in answer.text
    assert "Traceback" not in answer.text
    assert answer.json()["incident"] in caplog.text
    assert "ZeroDivisionError" in caplog.text
    assert session["Authorization"].removeprefix("Bearer ") not in caplog.text
