"""Pages out of templates: what every page shows, and the headers that every page has."""

import gzip
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final
from urllib.parse import urlencode

from fastapi import Request
from fastapi.responses import HTMLResponse
from jinja2 import Environment, FileSystemLoader, StrictUndefined

from aggregator.index import IndexedBlock
from api.auth import session_token
from api.backend import Backend
from api.explorer import words
from chain.cid import DAG_PB, Cid
from chain.errors import FedWitnessError
from chain.wire import to_hex

# Nothing may be loaded, sent or framed but from and to this server, and nothing stands inline.
POLICY: Final = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; "
    "form-action 'self'; base-uri 'none'; frame-ancestors 'none'"
)
_MILLION = 1_000_000
_SHORT = 14  # characters that a digest may have before it is cut
_GREATEST_TIME = 253_402_300_799  # the last second of the year 9999
_UNBOUNDED = 2**64 - 1  # the greatest score, which stands for all greater ones


def short(value: str) -> str:
    """Cut a digest or an address down to both its ends."""
    return value if len(value) <= _SHORT else f"{value[:8]}…{value[-4:]}"


def iso(seconds: int) -> str:
    """Write a time as machines read it (RFC 3339)."""
    if not 0 <= seconds <= _GREATEST_TIME:
        return str(seconds)
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def utc(seconds: int) -> str:
    """Write a time as people read it; that it is UTC stands on each page."""
    if not 0 <= seconds <= _GREATEST_TIME:
        return f"second {seconds}"
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%d %H:%M:%S")


def clock(seconds: int) -> str:
    """Write the time of a day that is named already, or all of a time that no calendar has."""
    whole = utc(seconds)
    return whole[11:16] if 0 <= seconds <= _GREATEST_TIME else whole


def figure(millionths: int) -> str:
    """Write a score or threshold, which the ledger holds in millionths."""
    if millionths >= _UNBOUNDED:
        return "beyond bounds"
    return f"{millionths // _MILLION}.{millionths % _MILLION:06d}".rstrip("0").rstrip(".")


def _cid(digest: bytes) -> str:
    return str(Cid(DAG_PB, digest))


def _query(parts: Mapping[str, Any], cursor: str | None) -> str:
    told = {key: value for key, value in parts.items() if value not in (None, "")}
    told.pop("cursor", None)
    if cursor is not None:
        told["cursor"] = cursor
    return f"?{urlencode(told)}" if told else ""


_environment = Environment(
    loader=FileSystemLoader(Path(__file__).parent / "templates"),
    autoescape=True,
    undefined=StrictUndefined,
    trim_blocks=True,
    lstrip_blocks=True,
)
_environment.filters |= {
    "hex": to_hex,
    "cid": _cid,
    "short": short,
    "iso": iso,
    "utc": utc,
    "clock": clock,
    "figure": figure,
    "sentence": words.sentence,
    "phase": words.phase,
    "outcome": words.outcome,
    "dataset_state": words.dataset_state,
    "purpose": words.purpose,
    "oddity": words.oddity,
    "agreement": words.agreement,
    "distance": words.distance,
    "request_state": words.request_state,
    "told": words.plain,
    "with_cursor": _query,
    "without_cursor": lambda parts: _query(parts, None),
    "with_state": lambda parts, state: _query({**parts, "state": state}, None),
}


def page(
    request: Request,
    template: str,
    *,
    status: int = 200,
    as_of: IndexedBlock | None = None,
    names: Mapping[str, str] | None = None,
    is_private: bool = False,
    **content: Any,
) -> HTMLResponse:
    """Render a page.

    Args:
        request: Whose answer it is.
        template: File name of the template.
        status: HTTP status code.
        as_of: The block that the content is as of.
        names: Parties' names by address.
        is_private: Whether no copy may be kept.
        **content: What the template asks for.
    """
    server: Backend = request.app.state.backend
    text = _environment.get_template(template).render(
        here=request.url.path,
        party=server.sessions.owner(session_token(server, request, None)),
        as_of=as_of,
        lag=server.index.lag,
        chain_id=_known(lambda: server.ledger.chain_id),
        ledger=server.settings.ledger,
        names=names or {},
        **content,
    )
    headers = {
        "Content-Security-Policy": POLICY,
        "Cache-Control": "no-store" if is_private else "no-cache",
        # The answer depends on who is signed in.
        "Vary": "Accept-Encoding, Cookie",
    }
    if "gzip" not in request.headers.get("accept-encoding", ""):
        return HTMLResponse(text, status, headers)
    # No secret stands on a page, so its packed length betrays none.
    packed = gzip.compress(text.encode(), compresslevel=6, mtime=0)
    return HTMLResponse(packed, status, headers | {"Content-Encoding": "gzip"})


def _known(ask: Callable[[], int]) -> int | str:
    try:
        return ask()
    except FedWitnessError:
        return "unknown"
