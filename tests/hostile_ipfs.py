"""An HTTP server in the place of an IPFS node, which answers as its test wants."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread
from urllib.parse import parse_qs, urlsplit

Answer = Callable[[BaseHTTPRequestHandler, str, str], None]


@contextmanager
def hostile_ipfs(answer: Answer) -> Iterator[str]:
    """Serve `answer(request, command, argument)` and yield the server's URL."""

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_POST(self) -> None:
            url = urlsplit(self.path)
            command = url.path.removeprefix("/api/v0/")
            argument = parse_qs(url.query).get("arg", [""])[0]
            self.close_connection = True
            with suppress(BrokenPipeError, ConnectionResetError):  # the client has heard enough
                answer(self, command, argument)

        def log_message(self, *_: object) -> None:
            """Say nothing."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    thread = Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_address[1]}"
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def send(request: BaseHTTPRequestHandler, body: bytes, status: int = 200) -> None:
    """Answer with a whole body."""
    request.send_response(status)
    request.send_header("Content-Length", str(len(body)))
    request.send_header("Connection", "close")  # or the client's next request might come too late
    request.end_headers()
    request.wfile.write(body)


def send_for_ever(request: BaseHTTPRequestHandler, status: int = 200) -> None:
    """Answer with a body that never ends."""
    request.send_response(status)
    request.end_headers()
    while True:
        request.wfile.write(bytes(65536))
