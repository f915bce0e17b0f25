"""Serving the application with uvicorn, within bounds of connections, header size and patience."""

import asyncio

import uvicorn
from uvicorn.protocols.http.h11_impl import H11Protocol, RequestResponseCycle

from api.app import create_app
from api.settings import Settings

SHUTDOWN_SECONDS = 10
HEAD_SECONDS = 10.0


class PromptProtocol(H11Protocol):
    """uvicorn's HTTP/1.1, ending connections on which no request begins.

    uvicorn itself waits for ever for the end of a first request's head: whoever opens as many
    silent connections as the server takes would shut everybody else out (Slowloris).
    """

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Take a connection, and look at it from time to time."""
        super().connection_made(transport)
        self._look_again()

    def connection_lost(self, exc: Exception | None) -> None:
        """Let go of a connection."""
        self._next_look.cancel()
        super().connection_lost(exc)

    def _look_again(self) -> None:
        self._next_look = self.loop.call_later(HEAD_SECONDS, self._look, self.cycle)

    def _look(self, before: RequestResponseCycle | None) -> None:
        is_idle = self.cycle is None or self.cycle.response_complete
        if is_idle and self.cycle is before:
            self.transport.close()
        else:
            self._look_again()


def configuration(app: object, settings: Settings) -> uvicorn.Config:
    """Return how uvicorn is to run the application.

    Args:
        app: The ASGI application.
        settings: Where to listen, and the limits.
    """
    return uvicorn.Config(
        app,  # type: ignore[arg-type]
        host=settings.host,
        port=settings.port,
        http=PromptProtocol,
        ws="none",
        # Whoever fronts this server with a proxy configures the proxy, not trust in its headers.
        proxy_headers=False,
        server_header=False,
        # Requests are counted in the metrics; addresses of parties stay out of the log.
        access_log=False,
        log_level="warning",
        limit_concurrency=settings.max_connections,
        h11_max_incomplete_event_size=settings.max_header_bytes,
        timeout_graceful_shutdown=SHUTDOWN_SECONDS,
    )


def serve(settings: Settings) -> None:
    """Serve until the process is told to end.

    Raises:
        KeystoreError: If the relayer's key cannot be opened.
        InvalidInputError: If an address in the settings is malformed.
    """
    uvicorn.Server(configuration(create_app(settings), settings)).run()
