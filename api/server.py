"""Serving the application with uvicorn, within bounds of connections and header size."""

import uvicorn

from api.app import create_app
from api.settings import Settings

SHUTDOWN_SECONDS = 10


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
        http="h11",
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
