"""The gateway's routes: DICOMweb below ``/dicomweb``, sign-in, and receipts.

Every request for images goes the same way: who asks, what the chain lets them see at its newest
block, and of that what was asked for. What may not be seen is passed over at the second step
like what is not there, so nothing after it can tell the two apart. Then the look is logged, on the
disk, and only then a byte leaves.
"""

import asyncio
import json
import logging
import re
import secrets
import threading
from collections.abc import AsyncIterator, Callable, Iterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

from starlette.applications import Starlette
from starlette.concurrency import run_in_threadpool
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import JSONResponse, Response, StreamingResponse
from starlette.routing import Route
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from chain.errors import FedWitnessError, InvalidInputError, LedgerError
from chain.ledger import Ledger
from chain.look_receipts import LookReceipt, to_header, to_json
from node.gateway import retrieval
from node.gateway.catalogue import Catalogue, FileChangedError, Instance, parse_instance
from node.gateway.catalogue import read_verified as read_file
from node.gateway.permits import Permit, permit
from node.gateway.retrieval import DICOM, JPEG, JSON, OCTETS, PNG, SYNTAX
from node.gateway.search import QueryError, read_query, search
from node.gateway.sessions import MAX_BODY, Sessions, SignInError
from node.look_anchors import Pace, anchor_waiting, prove
from node.look_log import LookLogError, LookWriter

log = logging.getLogger("fedwitness.gateway")

RECEIPT, LOOKS, PURPOSE = "FedWitness-Receipt", "FedWitness-Looks", "FedWitness-Purpose"
MAX_LOOKS = 1024  # images in one answer
BODY_SECONDS = 10.0
STOP_SECONDS = 30.0
_ROOT = "/dicomweb"
_HEADERS = (
    (b"cache-control", b"no-store"),
    (b"content-security-policy", b"default-src 'none'; frame-ancestors 'none'"),
    (b"referrer-policy", b"no-referrer"),
    (b"x-content-type-options", b"nosniff"),
)
_Read = Callable[[Instance], bytes]


@dataclass(frozen=True, slots=True)
class Gateway:
    """What the routes work with.

    Attributes:
        ledger: The chain, in the hospital's name.
        catalogue: What can be shown.
        writer: The log.
        sessions: Who is signed in.
        uri: The gateway's URL, as those who use it call it.
        pace: When looks are anchored.
        poll_seconds: How often that is looked at.
    """

    ledger: Ledger
    catalogue: Catalogue
    writer: LookWriter
    sessions: Sessions
    uri: str
    pace: Pace = field(default_factory=Pace)
    poll_seconds: float = 15.0


@dataclass(frozen=True, slots=True)
class _Asked:
    """A request whose sender is known: what of what was asked for may be seen."""

    request: Request
    permit: Permit
    found: Sequence[Instance]


def build_app(gateway: Gateway) -> ASGIApp:
    """Build the application, which anchors the log while it runs."""
    stop = threading.Event()

    def keep_anchoring() -> None:
        while not stop.wait(gateway.poll_seconds):
            try:
                anchor_waiting(gateway.writer.log, gateway.ledger, gateway.pace)
            except (FedWitnessError, OSError) as error:
                log.warning("the log is not anchored now, and will be later: %s", error)

    @asynccontextmanager
    async def lifespan(_: Starlette) -> AsyncIterator[None]:
        worker = threading.Thread(target=keep_anchoring, name="anchoring", daemon=True)
        worker.start()
        try:
            yield
        finally:
            stop.set()
            await run_in_threadpool(worker.join, STOP_SECONDS)

    app = Starlette(
        routes=_routes(gateway),
        lifespan=lifespan,
        exception_handlers={HTTPException: _refused, Exception: _incident},
    )
    app.router.redirect_slashes = False
    return _with_headers(app)


def _routes(gateway: Gateway) -> list[Route]:
    study = f"{_ROOT}/studies/{{study}}"
    series = f"{study}/series/{{series}}"
    uid = f"{series}/instances/{{uid}}"
    frame = f"{uid}/frames/{{frames}}"
    searches = {
        "studies": (f"{_ROOT}/studies",),
        "series": (f"{_ROOT}/series", f"{study}/series"),
        "instances": (f"{_ROOT}/instances", f"{study}/instances", f"{series}/instances"),
    }
    answers: dict[str, Callable[[Gateway, Request], Response]] = {
        study: _instances,
        series: _instances,
        uid: _instances,
        f"{study}/metadata": _metadata,
        f"{series}/metadata": _metadata,
        f"{uid}/metadata": _metadata,
        frame: _frames,
        f"{frame}/rendered": _rendered,
        f"{uid}/rendered": _rendered,
        f"{uid}/bulkdata/{{tag}}": _bulk_data,
        "/looks/{number}": _receipt,
    }
    routes = [Route(path, _answering(gateway, answer)) for path, answer in answers.items()]
    for level, paths in searches.items():
        routes += [Route(path, _answering(gateway, _searching(level))) for path in paths]
    routes += [
        Route("/v1/auth/nonce", _signing_in(gateway.sessions.nonce, 200), methods=["POST"]),
        Route("/v1/auth/session", _signing_in(gateway.sessions.begin, 201), methods=["POST"]),
    ]
    return routes


# Whoever asks, and what they may see


def _answering(
    gateway: Gateway, answer: Callable[[Gateway, Request], Response]
) -> Callable[[Request], Response]:
    def call(request: Request) -> Response:
        try:
            return answer(gateway, request)
        except (LedgerError, LookLogError) as error:
            log.error("nothing can be shown now: %s", error)  # noqa: TRY400 - one line says it
            raise HTTPException(503, "The gateway cannot show anything now; try later.") from None
        except FileChangedError as error:
            log.error("%s", error)  # noqa: TRY400 - one line says it
            raise HTTPException(500, "The gateway cannot show this now.") from None

    return call


def _researcher(gateway: Gateway, request: Request) -> str:
    found = gateway.sessions.owner(request.headers.get("authorization", ""))
    if found is None:
        raise HTTPException(
            401, "Sign in at /v1/auth and send the token.", {"WWW-Authenticate": "Bearer"}
        )
    return found


def _asked(gateway: Gateway, request: Request) -> _Asked:
    """Find out who asks, what they may see, and what of it they ask for."""
    researcher = _researcher(gateway, request)
    purpose = request.headers.get(PURPOSE)
    if purpose is not None and re.fullmatch("[0-9]{1,3}", purpose, re.ASCII) is None:
        raise HTTPException(400, f"{PURPOSE}: expected a number of the Data Use Ontology.")
    allowed = permit(
        gateway.ledger,
        gateway.writer.log.hospital,
        researcher,
        None if purpose is None else int(purpose),
    )
    visible = allowed.visible(gateway.catalogue.instances())
    wanted = request.path_params
    found = [
        one
        for one in visible
        if wanted.get("study", one.study) == one.study
        and wanted.get("series", one.series) == one.series
        and wanted.get("uid", one.uid) == one.uid
    ]
    return _Asked(request, allowed, found)


def _shown(gateway: Gateway, asked: _Asked) -> tuple[LookReceipt, ...]:
    """Log the looks that are about to be; they are on the disk when this returns."""
    sights = [sight for one in asked.found if (sight := asked.permit.sight(one)) is not None]
    target = asked.request.scope["raw_path"]
    if query := asked.request.scope["query_string"]:
        target += b"?" + query
    return gateway.writer.append(
        sights, asked.permit.time, asked.request.method, target.decode("latin-1")
    )


def _nothing() -> HTTPException:
    return HTTPException(404, "There is nothing here that you may see.")


def _some(asked: _Asked) -> _Asked:
    if not asked.found:
        raise _nothing()
    if len(asked.found) > MAX_LOOKS:
        raise HTTPException(413, f"Ask for at most {MAX_LOOKS} images at a time, as by series.")
    return asked


def _chosen(request: Request, kinds: tuple[str, ...], *, single: bool) -> tuple[str, bool]:
    # Asked for by query where headers cannot be set (PS3.18, section 8.3.3.1).
    accept = request.query_params.get("accept") or request.headers.get("accept", "")
    found = retrieval.chosen(accept, kinds, single=single)
    if found is None:
        raise HTTPException(406, f"There is {' or '.join(kinds)}, in {SYNTAX}.")
    return found


# The answers


def _searching(level: str) -> Callable[[Gateway, Request], Response]:
    def answer(gateway: Gateway, request: Request) -> Response:
        _researcher(gateway, request)
        try:
            query = read_query(level, request.query_params.multi_items())
        except QueryError as error:
            raise HTTPException(400, str(error)) from None
        asked = _asked(gateway, request)
        page, is_more = search(query, asked.found, gateway.uri + _ROOT)
        headers = {"Warning": '299 FedWitness "There are more results"'} if is_more else {}
        if not page:
            return Response(status_code=204, headers=headers)
        return Response(json.dumps(page), headers=headers, media_type=JSON)

    return answer


def _instances(gateway: Gateway, request: Request) -> Response:
    is_one = "uid" in request.path_params
    kind, in_parts = _chosen(request, (DICOM,), single=is_one)
    asked = _some(_asked(gateway, request))
    first = read_file(asked.found[0])
    receipts = _shown(gateway, asked)
    headers = _receipt_headers(receipts)
    if not in_parts:
        return Response(first, headers=headers, media_type=kind)
    boundary = secrets.token_hex(16)

    def body() -> Iterator[bytes]:
        for one, receipt in zip(asked.found, receipts, strict=True):
            raw = first if one is asked.found[0] else read_file(one)
            told = {"Content-Location": _url(gateway, one), RECEIPT: to_header(receipt)}
            yield _part_head(boundary, f"{kind}; transfer-syntax={SYNTAX}", told)
            yield raw
        yield _end(boundary)

    return StreamingResponse(body(), headers=headers | _multipart(kind, boundary))


def _metadata(gateway: Gateway, request: Request) -> Response:
    accept = request.headers.get("accept", "")
    if retrieval.chosen(accept, (JSON, "application/json"), single=True) is None:
        raise HTTPException(406, f"There is {JSON}.")
    asked = _some(_asked(gateway, request))
    told = [
        retrieval.metadata(parse_instance(read_file(one)), _url(gateway, one))
        for one in asked.found
    ]
    body = json.dumps(told)
    return Response(body, headers=_receipt_headers(_shown(gateway, asked)), media_type=JSON)


def _frames(gateway: Gateway, request: Request) -> Response:
    kind, in_parts = _chosen(request, (OCTETS,), single="," not in request.path_params["frames"])
    asked = _some(_asked(gateway, request))
    instance = asked.found[0]
    numbers = _numbers(request, instance)
    dataset = parse_instance(read_file(instance))
    frames = [retrieval.frame_bytes(dataset, one, instance.frames) for one in numbers]
    return _bytes(kind, frames, _shown(gateway, asked), in_parts=in_parts)


def _bulk_data(gateway: Gateway, request: Request) -> Response:
    kind, in_parts = _chosen(request, (OCTETS,), single=True)
    asked = _some(_asked(gateway, request))
    dataset = parse_instance(read_file(asked.found[0]))
    value = retrieval.bulk_data(dataset, request.path_params["tag"])
    if value is None:
        raise _nothing()
    return _bytes(kind, [value], _shown(gateway, asked), in_parts=in_parts)


def _rendered(gateway: Gateway, request: Request) -> Response:
    kind, in_parts = _chosen(request, (JPEG, PNG), single=True)
    try:
        how = retrieval.read_rendering(kind, request.query_params)
    except InvalidInputError as error:
        raise HTTPException(400, str(error)) from None
    asked = _some(_asked(gateway, request))
    instance = asked.found[0]
    numbers = _numbers(request, instance) if "frames" in request.path_params else (1,)
    dataset = parse_instance(read_file(instance))
    try:
        pictures = [retrieval.render(dataset, one, how) for one in numbers]
    except InvalidInputError:
        raise HTTPException(406, "This image cannot be drawn.") from None
    in_parts = in_parts or len(pictures) > 1
    return _bytes(kind, pictures, _shown(gateway, asked), in_parts=in_parts)


def _receipt(gateway: Gateway, request: Request) -> Response:
    """Answer with the receipt of one's own look, and its proof once it is anchored."""
    researcher, text = _researcher(gateway, request), request.path_params["number"]
    looks = gateway.writer.log
    if re.fullmatch("[0-9]{1,18}", text, re.ASCII) is None or int(text) >= len(looks):
        raise _nothing()
    (found,) = looks.read(int(text), 1)
    if found.look.researcher != researcher:
        raise _nothing()
    return Response(to_json(prove(looks, gateway.ledger, int(text))), media_type="application/json")


def _numbers(request: Request, instance: Instance) -> tuple[int, ...]:
    found = retrieval.read_frames(request.path_params["frames"], instance.frames)
    if found is None:
        raise _nothing()
    return found


def _bytes(
    kind: str, parts: Sequence[bytes], receipts: Sequence[LookReceipt], *, in_parts: bool
) -> Response:
    headers = _receipt_headers(receipts)
    if not in_parts:
        return Response(parts[0], headers=headers, media_type=kind)
    boundary = secrets.token_hex(16)
    told = f"{kind}; transfer-syntax={SYNTAX}" if kind == OCTETS else kind
    body = b"".join(_part_head(boundary, told, {}) + part for part in parts) + _end(boundary)
    return Response(body, headers=headers | _multipart(kind, boundary))


def _receipt_headers(receipts: Sequence[LookReceipt]) -> dict[str, str]:
    first, last = receipts[0].look.number, receipts[-1].look.number
    headers = {LOOKS: str(first) if first == last else f"{first}-{last}"}
    return headers | ({RECEIPT: to_header(receipts[0])} if first == last else {})


def _multipart(kind: str, boundary: str) -> dict[str, str]:
    return {"Content-Type": f'multipart/related; type="{kind}"; boundary={boundary}'}


def _part_head(boundary: str, kind: str, headers: Mapping[str, str]) -> bytes:
    lines = [f"\r\n--{boundary}", f"Content-Type: {kind}"]
    lines += [f"{name}: {value}" for name, value in headers.items()]
    return ("\r\n".join(lines) + "\r\n\r\n").encode("ascii")


def _end(boundary: str) -> bytes:
    return f"\r\n--{boundary}--\r\n".encode("ascii")


def _url(gateway: Gateway, one: Instance) -> str:
    return f"{gateway.uri}{_ROOT}/studies/{one.study}/series/{one.series}/instances/{one.uid}"


# Sign-in, and what every answer has


def _signing_in(
    step: Callable[[bytes, str], Mapping[str, object]], status: int
) -> Callable[[Request], object]:
    async def answer(request: Request) -> Response:
        body = await _body(request)
        client = request.client.host if request.client else ""
        try:
            return JSONResponse(await run_in_threadpool(step, body, client), status)
        except SignInError as error:
            raise HTTPException(error.status, str(error)) from None
        except LedgerError as error:
            log.error("nobody can sign in now: %s", error)  # noqa: TRY400 - one line says it
            raise HTTPException(503, "The chain cannot be reached; try later.") from None

    return answer


async def _body(request: Request) -> bytes:
    body = bytearray()
    try:
        async with asyncio.timeout(BODY_SECONDS):
            async for piece in request.stream():
                body += piece
                if len(body) > MAX_BODY:
                    raise HTTPException(413, f"Send at most {MAX_BODY} bytes.")
    except TimeoutError:
        raise HTTPException(408, "The body comes too slowly.") from None
    return bytes(body)


def _refused(_: Request, error: Exception) -> Response:
    status = error.status_code if isinstance(error, HTTPException) else 500
    detail = error.detail if isinstance(error, HTTPException) else ""
    if status == 404:  # noqa: PLR2004 - also of addresses that no route has
        detail = _nothing().detail
    headers = error.headers if isinstance(error, HTTPException) else None
    return JSONResponse(
        {"type": "about:blank", "status": status, "detail": detail},
        status,
        headers,
        "application/problem+json",
    )


def _incident(_: Request, error: Exception) -> Response:
    # No message: it may quote what an image's header says.
    log.error("an answer failed: %s", type(error).__name__)
    return _refused(_, HTTPException(500, "The gateway cannot show this now."))


def _with_headers(app: ASGIApp) -> ASGIApp:
    async def call(scope: Scope, receive: Receive, send: Send) -> None:
        async def add(message: Message) -> None:
            if message["type"] == "http.response.start":
                message["headers"] = [*message["headers"], *_HEADERS]
            await send(message)

        await app(scope, receive, add)

    return call
