"""Viewers that run in a browser and come from another origin: CORS (Fetch standard, section 3.2).

None may use the gateway unless the hospital names its origin. No answer depends on cookies, so
none is ever sent with credentials: what lets somebody look is a token that the page itself must
have. A preflight is answered before anything is looked up, and alike for every path.
"""

import ipaddress
import re
from urllib.parse import urlsplit

from starlette.datastructures import Headers, MutableHeaders
from starlette.responses import Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from chain.errors import InvalidInputError

METHODS = "GET, POST"
SECONDS = 600  # that a browser may keep an answer to a preflight
_HOST = re.compile(r"[a-z0-9.-]+|\[[0-9a-f:.]+\]")


def read_origin(text: str) -> str:
    """Return an origin as browsers write it.

    Args:
        text: Scheme, host and perhaps port, as ``https://viewer.st-mary.org``.

    Raises:
        InvalidInputError: If it is none, is a pattern, or anyone on the way could change the page.
    """
    refused = InvalidInputError(
        "expected one origin, https://HOST or https://HOST:PORT (http for this machine alone), "
        f"found {text!r}"
    )
    try:
        parts = urlsplit(text.lower())
        port = parts.port
    except ValueError:
        raise refused from None
    host = parts.netloc.removesuffix(f":{port}")
    if text.lower() != f"{parts.scheme}://{parts.netloc}" or _HOST.fullmatch(host) is None:
        raise refused
    if parts.scheme != "https" and not (parts.scheme == "http" and _is_here(parts.hostname or "")):
        raise refused
    is_usual = port in {None, 443 if parts.scheme == "https" else 80}
    return f"{parts.scheme}://{host}" + ("" if is_usual else f":{port}")


def admitting(
    app: ASGIApp, origins: frozenset[str], *, headers: tuple[str, ...], shown: tuple[str, ...]
) -> ASGIApp:
    """Let pages of some origins use an application.

    Args:
        app: The application.
        origins: Theirs, as `read_origin` returns them.
        headers: What their requests may carry besides what all may.
        shown: What of the answers' headers their scripts may read besides what all may.
    """
    if not origins:
        return app

    async def call(scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await app(scope, receive, send)
            return
        asked = Headers(scope=scope)
        named = asked.getlist("origin")
        origin = named[0] if len(named) == 1 and named[0] in origins else None

        async def add(message: Message) -> None:
            if message["type"] == "http.response.start":
                told = MutableHeaders(scope=message)
                told.add_vary_header("Origin")
                if origin is not None:
                    told["Access-Control-Allow-Origin"] = origin
                    told["Access-Control-Expose-Headers"] = ", ".join(shown)
            await send(message)

        if (
            origin is not None
            and scope["method"] == "OPTIONS"
            and "access-control-request-method" in asked
        ):
            allowed = {
                "Access-Control-Allow-Methods": METHODS,
                "Access-Control-Allow-Headers": ", ".join(headers),
                "Access-Control-Max-Age": str(SECONDS),
            }
            await Response(status_code=204, headers=allowed)(scope, receive, add)
            return
        await app(scope, receive, add)

    return call


def _is_here(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost" or host.endswith(".localhost")
