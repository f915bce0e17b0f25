"""A large update streams through in little memory, and goes on where it stopped."""

import http.client
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx
import pytest

from chain.cid import blob_cid
from chain.devnet.ports import free_port
from chain.signing import sign_update
from chain.wire import to_json_dict
from tests.api.conftest import HOSPITAL, OFFSET_STREAM, record_for
from tests.api.signing_in import session_headers
from tests.waiting import eventually

MEBIBYTE = 1024 * 1024
SIZE = 1024 * MEBIBYTE
BREAKS_AFTER = 300 * MEBIBYTE
BLOCK = bytes(range(256)) * 4096
MOST_KILOBYTES = 200_000
ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture
def server(tmp_path: Path) -> Iterator[tuple[int, int]]:
    """A server's port and process id."""
    port = free_port()
    module = "tests.api.gigabyte_server"
    with _process([sys.executable, "-m", module, str(tmp_path), str(port)]) as process:
        eventually(lambda: _answers(port))
        yield port, process.pid


def test_a_gigabyte_streams_through_in_under_200_megabytes(server: tuple[int, int]) -> None:
    port, process = server
    with httpx.Client(base_url=f"http://127.0.0.1:{port}", trust_env=False) as client:
        session = session_headers(client, HOSPITAL, time.time())
        record = record_for(b"x", blob=blob_cid(_blocks(0, SIZE)).digest)
        body = {
            "record": to_json_dict(record),
            "signature": "0x" + sign_update(record, HOSPITAL).hex(),
            "size": SIZE,
        }
        location = client.post("/v1/uploads", json=body, headers=session).headers["Location"]

        with pytest.raises(ConnectionAbortedError):
            _patch(port, session, location, 0, _breaking(BREAKS_AFTER))
        eventually(lambda: _offset(client, session, location) > 0)
        time.sleep(0.5)
        offset = _offset(client, session, location)
        assert 0 < offset <= BREAKS_AFTER

        assert _patch(port, session, location, offset, _blocks(offset, SIZE)) == 204
        eventually(lambda: client.get(location, headers=session).json()["state"] == "recorded")
        assert _peak_kilobytes(process) < MOST_KILOBYTES


def _blocks(start: int, end: int) -> Iterator[bytes]:
    """Yield a file of equal blocks from one offset to another."""
    first = start % MEBIBYTE
    yield BLOCK[first:]
    for _ in range(start - first + MEBIBYTE, end, MEBIBYTE):
        yield BLOCK


def _breaking(end: int) -> Iterator[bytes]:
    yield from _blocks(0, end)
    raise ConnectionAbortedError("the cable")


def _patch(
    port: int, session: dict[str, str], location: str, offset: int, content: Iterator[bytes]
) -> int:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=30)
    headers = session | {
        "Upload-Offset": str(offset),
        "Content-Type": OFFSET_STREAM,
        "Content-Length": str(SIZE - offset),
    }
    try:
        connection.request("PATCH", location, content, headers)
        return connection.getresponse().status
    finally:
        connection.close()


def _offset(client: httpx.Client, session: dict[str, str], location: str) -> int:
    return int(client.head(location, headers=session).headers["Upload-Offset"])


def _peak_kilobytes(process: int) -> int:
    """Return the most memory that a process ever held (`VmHWM`), in kB."""
    status = Path(f"/proc/{process}/status").read_text()
    (line,) = (line for line in status.splitlines() if line.startswith("VmHWM"))
    return int(line.split()[1])


def _answers(port: int) -> bool:
    try:
        return httpx.get(f"http://127.0.0.1:{port}/healthz", trust_env=False).status_code == 200
    except httpx.TransportError:
        return False


@contextmanager
def _process(command: list[str]) -> Iterator[subprocess.Popen[bytes]]:
    process = subprocess.Popen(command, cwd=ROOT)
    try:
        yield process
    finally:
        process.terminate()
        process.wait(20)
