"""What every request passes first and every answer carries.

A request's host, the size and the pace of its body are bounded; an answer has security headers,
is counted, and is never a traceback.
"""

import asyncio
import re
from time import monotonic
from typing import Any

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from api.metrics import Metrics
from api.problems import Problem, incident, too_large, too_slow
from api.settings import Settings

UPLOADS = "/v1/uploads/"
LOOKS = "/v1/looks"

_PORT = re.compile(r":\d*$")
_METHODS = frozenset({"GET", "HEAD", "POST", "PATCH", "DELETE", "PUT", "OPTIONS"})

_SECURITY_HEADERS = (
    (b"x-content-type-options", b"nosniff"),
    (b"x-frame-options", b"DENY"),
    (b"referrer-policy", b"no-referrer"),
    (b"content-security-policy", b"default-src 'none'; frame-ancestors 'none'"),
    (b"cross-origin-resource-policy", b"same-origin"),
    (b"cache-control", b"no-store"),
)


class Guard:
    """ASGI middleware around the whole application.

    Args:
        app: What it guards.
        settings: The limits.
        metrics: Where requests are counted.
    """

    def __init__(self, app: ASGIApp, settings: Settings, metrics: Metrics) -> None:
        self._app = app
        self._settings = settings
        self._metrics = metrics
        self._active = 0

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass a request on, or answer it here."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        began = monotonic()
        answer = _Answer(send)
        self._active += 1
        try:
            await self._admit(scope, receive, answer)
        except Exception as error:  # noqa: BLE001 - the last place to turn an error into an answer
            problem = error if isinstance(error, Problem) else incident(error)
            if answer.status:
                # Half an answer is out. Without its end the client knows that it is broken.
                raise ConnectionError("the answer broke off; see the incident") from None
            await problem.response()(scope, receive, answer)
        finally:
            self._active -= 1
            route = getattr(scope.get("route"), "path", "unmatched")
            # Any word may stand for the method, and each new label is kept for ever.
            method = scope["method"] if scope["method"] in _METHODS else "other"
            self._metrics.requests.labels(method, route, answer.status).inc()
            self._metrics.seconds.labels(method, route).observe(monotonic() - began)

    async def _admit(self, scope: Scope, receive: Receive, send: Send) -> None:
        if self._active > self._settings.max_requests:
            raise Problem(
                503,
                "too-busy",
                "The server has too much to do",
                "Try again in a moment.",
                headers={"Retry-After": "1", "Connection": "close"},
            )
        headers = dict(scope["headers"])
        self._check_host(headers.get(b"host", b""))
        # uvicorn bounds only a head that arrives in pieces.
        if _head_bytes(scope) > self._settings.max_header_bytes:
            raise Problem(
                431,
                "head-too-large",
                "The request's head is too large",
                f"Address and headers may have {self._settings.max_header_bytes} bytes together.",
                headers={"Connection": "close"},
            )
        limit = self._limit(scope)
        if limit is not None and _announced(headers) > limit:
            raise too_large(f"This address takes bodies of at most {limit} bytes.")
        await self._app(scope, _Body(receive, limit, self._settings), send)

    def _limit(self, scope: Scope) -> int | None:
        """Return how many bytes a request's body may have, None where its route sees to that."""
        if _is_upload(scope):
            return None
        if (scope["method"], scope["path"]) == ("POST", LOOKS):
            return self._settings.max_looks_bytes
        return self._settings.max_body_bytes

    def _check_host(self, header: bytes) -> None:
        # A page elsewhere whose name was rebound to this address must get nothing (DNS rebinding).
        authority = header.decode("latin-1").lower()
        name = _PORT.sub("", authority).strip("[]")
        if name not in self._settings.allowed_hosts:
            raise Problem(
                400,
                "unknown-host",
                "The Host header names another server",
                "Use the address that the server's operator told you.",
            )


class _Answer:
    """A send channel that adds the security headers and remembers the status."""

    def __init__(self, send: Send) -> None:
        self._send = send
        self.status = 0

    async def __call__(self, message: Message) -> None:
        if message["type"] == "http.response.start":
            self.status = message["status"]
            present = {name.lower() for name, _ in message["headers"]}
            message["headers"] = [
                *message["headers"],
                *(header for header in _SECURITY_HEADERS if header[0] not in present),
            ]
        await self._send(message)


class _Body:
    """A receive channel that ends a body which is too large or too slow."""

    def __init__(self, receive: Receive, limit: int | None, settings: Settings) -> None:
        self._receive = receive
        self._limit = limit
        self._idle = settings.body_idle_seconds
        self._end = monotonic() + settings.body_total_seconds
        self._taken = 0
        self._complete = False

    async def __call__(self) -> Message:
        if self._complete:
            return await self._receive()
        message = await self._next()
        if message["type"] == "http.request":
            self._taken += len(message.get("body", b""))
            self._complete = not message.get("more_body", False)
            if self._limit is not None and self._taken > self._limit:
                raise too_large(f"This address takes bodies of at most {self._limit} bytes.")
        return message

    async def _next(self) -> Message:
        patience = self._idle
        if self._limit is not None:
            patience = max(0.0, min(patience, self._end - monotonic()))
        try:
            return await asyncio.wait_for(self._receive(), patience)
        except TimeoutError:
            raise too_slow() from None


def _is_upload(scope: Scope) -> bool:
    return scope["method"] == "PATCH" and str(scope["path"]).startswith(UPLOADS)


def _head_bytes(scope: Scope) -> int:
    headers = sum(len(name) + len(value) for name, value in scope["headers"])
    return headers + len(scope["path"]) + len(scope["query_string"])


def _announced(headers: dict[Any, bytes]) -> int:
    text = headers.get(b"content-length", b"0")
    return int(text) if text.isdigit() else 0
