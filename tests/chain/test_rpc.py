"""Whatever answers at a chain's address, what comes back is a clear error within bounds."""

import json
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from chain import rpc
from chain.errors import (
    ContractRevertedError,
    LedgerError,
    LongAnswerError,
    RefusedRequestError,
)
from chain.rpc import Rpc, public_name

ADDRESS = "0x" + "11" * 20

Answer = Callable[[BaseHTTPRequestHandler], None]


@contextmanager
def answering(answer: Answer) -> Iterator[str]:
    """Serve this answer to every request, at the yielded URL."""

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            self.rfile.read(int(self.headers["Content-Length"]))
            try:
                answer(self)
            except OSError:
                self.close_connection = True

        def log_message(self, *_: object) -> None:
            """Keep quiet."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


def body(content: bytes, status: int = 200) -> Answer:
    def answer(handler: BaseHTTPRequestHandler) -> None:
        handler.send_response(status)
        handler.send_header("Content-Length", str(len(content)))
        handler.end_headers()
        handler.wfile.write(content)

    return answer


def error(code: int, message: str, data: object = None) -> Answer:
    told = {"code": code, "message": message} | ({"data": data} if data is not None else {})
    return body(json.dumps({"jsonrpc": "2.0", "id": 0, "error": told}).encode())


def without_end(piece: bytes, pause: float) -> Answer:
    def answer(handler: BaseHTTPRequestHandler) -> None:
        handler.send_response(200)
        handler.end_headers()
        while not threading.Event().wait(pause):
            handler.wfile.write(piece)

    return answer


@pytest.mark.parametrize(
    ("content", "status"),
    [
        (b"<html>a web page</html>", 200),
        (b"not found", 404),
        (b"", 500),
        (b"", 200),
        (b"[]", 200),
        (b"{}", 200),
        (b"null", 200),
        (b'{"jsonrpc":"2.0","id":0,"result":{"odd":[1,2]}}', 200),
        (b'{"jsonrpc":"2.0","id":0,"result":"0xzz"}', 200),
        (b'{"jsonrpc":"2.0","id":0,"error":"words"}', 200),
        (b"\xff" * 100, 200),
    ],
)
def test_an_answer_that_is_not_ethereum_s_is_told_so(content: bytes, status: int) -> None:
    with answering(body(content, status)) as url:
        chain = Rpc(url, timeout=5.0)
        for ask in (lambda: chain.chain_id, chain.block, lambda: chain.receipt(bytes(32))):
            with pytest.raises(LedgerError, match=url):
                ask()


def test_an_endless_answer_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rpc, "MAX_ANSWER_BYTES", 1_000_000)
    with answering(without_end(b"x" * 65_536, 0.0)) as url, pytest.raises(LongAnswerError):
        Rpc(url, timeout=30.0).block()


def test_an_answer_that_trickles_is_given_up() -> None:
    with answering(without_end(b"x", 0.05)) as url, pytest.raises(LedgerError, match="too long"):
        Rpc(url, timeout=0.5).block()


def test_an_answer_that_does_not_come_is_given_up() -> None:
    with answering(without_end(b"x", 3.0)) as url, pytest.raises(LedgerError, match="too long"):
        Rpc(url, timeout=0.2).block()


@pytest.mark.parametrize("data", ["0x", "0x1234", None, "no hex", {"data": "0x"}], ids=str)
def test_a_revert_without_a_reason_is_still_a_revert(data: object) -> None:
    reverted = pytest.raises(ContractRevertedError, match="Unknown")
    with answering(error(3, "execution reverted", data)) as url, reverted:
        Rpc(url).call(ADDRESS, b"")


def test_a_panic_is_a_revert() -> None:
    data = "0x4e487b71" + "11".rjust(64, "0")
    reverted = pytest.raises(ContractRevertedError)
    with answering(error(3, "execution reverted", data)) as url, reverted as caught:
        Rpc(url).call(ADDRESS, b"")
    assert (caught.value.name, caught.value.arguments) == ("Panic", {"code": 0x11})


def test_a_transaction_that_the_chain_has_already_is_fine() -> None:
    for told in ("already known", "transaction already imported", "AlreadyKnown"):
        with answering(error(-32000, told)) as url:
            Rpc(url).send(b"\x02")
    refused = pytest.raises(RefusedRequestError, match="nonce too low")
    with answering(error(-32000, "nonce too low")) as url, refused:
        Rpc(url).send(b"\x02")


@pytest.mark.parametrize(
    ("url", "name"),
    [
        ("http://127.0.0.1:8545", "http://127.0.0.1:8545"),
        ("https://user:secret@host/v3/secret?key=secret#secret", "https://host"),
        ("HTTPS://Host:443/", "https://host:443"),
    ],
)
def test_a_chain_is_named_by_its_host_alone(url: str, name: str) -> None:
    assert public_name(url) == name
