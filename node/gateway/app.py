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
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass, field, replace

from starlette.applications import Starlette
from starlette.concurrency import run_in_threadpool
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import JSONResponse, Response, StreamingResponse
from starlette.routing import Route
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from chain.errors import FedWitnessError, InvalidInputError, LedgerError
from chain.ledger import Ledger
from chain.look_receipts import LookReceipt, to_header, to_json, to_short_header
from node.gateway import accepting, retrieval
from node.gateway.accepting import EXPLICIT, PLAIN_JSON, Form, Offer, acceptable
from node.gateway.catalogue import Catalogue, FileChangedError, Instance, parse_instance
from node.gateway.catalogue import read_verified as read_file
from node.gateway.encoding import compress_frame, compress_instance
from node.gateway.origins import admitting
from node.gateway.permits import Permit, permit
from node.gateway.search import Query, QueryError, read_query, search
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
_ASKED = ("Accept", "Authorization", "Content-Type", PURPOSE)
_SHOWN = (RECEIPT, LOOKS, "Warning", "WWW-Authenticate")


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
        origins: Whose pages may use the gateway from a browser, besides its own.
        hand_over: Hands what is anchored to the federation's server; None to keep it here.
    """

    ledger: Ledger
    catalogue: Catalogue
    writer: LookWriter
    sessions: Sessions
    uri: str
    pace: Pace = field(default_factory=Pace)
    poll_seconds: float = 15.0
    origins: frozenset[str] = frozenset()
    hand_over: Callable[[], object] | None = None


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
        is_due = gateway.hand_over is not None  # an earlier run may have left something
        while not stop.wait(gateway.poll_seconds):
            try:
                done = anchor_waiting(gateway.writer.log, gateway.ledger, gateway.pace)
            except (FedWitnessError, OSError) as error:
                log.warning("the log is not anchored now, and will be later: %s", error)
                continue
            if gateway.hand_over is not None and (done or is_due):
                is_due = not _handed_over(gateway.hand_over)

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
    return _with_headers(admitting(app, gateway.origins, headers=_ASKED, shown=_SHOWN))


def _handed_over(hand_over: Callable[[], object]) -> bool:
    try:
        hand_over()
    except (FedWitnessError, OSError) as error:
        log.warning("anchored looks are not handed over now, and will be later: %s", error)
        return False
    return True


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
        f"{study}/thumbnail": _thumbnail,
        f"{series}/thumbnail": _thumbnail,
        f"{uid}/thumbnail": _thumbnail,
        f"{frame}/thumbnail": _thumbnail,
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


def _forms(request: Request, offers: Sequence[Offer], *, single: bool) -> tuple[Form, ...]:
    # Asked for by query where headers cannot be set (PS3.18, section 8.3.3.1).
    accept = request.query_params.get("accept") or request.headers.get("accept", "")
    found = acceptable(accept, offers, single=single)
    if not found:
        kinds = ", ".join(f"{media} {syntax}".strip() for media, syntax in offers)
        raise HTTPException(406, f"There is: {kinds}.")
    return found


def _settled(forms: Sequence[Form], found: Sequence[Instance]) -> Form:
    """Choose the first form that every instance can be in."""
    for form in forms:
        if form.syntax in {"", EXPLICIT} or all(one.is_compressible for one in found):
            return form
    raise HTTPException(406, f"This can be had in {EXPLICIT} only.")


@contextmanager
def _refusing(told: str) -> Iterator[None]:
    """Answer that an image cannot be had in a form, where its pixels do not fit it."""
    try:
        yield
    except FileChangedError:
        raise
    except InvalidInputError:
        raise HTTPException(406, told) from None


# The answers


def _searching(level: str) -> Callable[[Gateway, Request], Response]:
    def answer(gateway: Gateway, request: Request) -> Response:
        _researcher(gateway, request)
        form = _forms(request, accepting.METADATA, single=True)[0]
        try:
            query = read_query(level, request.query_params.multi_items())
        except QueryError as error:
            raise HTTPException(400, str(error)) from None
        asked = _asked(gateway, request)
        service = gateway.uri + _ROOT
        page, more = search(query, asked.found, service)
        answer = Response(json.dumps(page), media_type=form.media)
        if not page:
            answer = Response(status_code=204)
        for warning in _warnings(query, more):
            answer.headers.append("Warning", f"299 {service}: {warning}")
        return answer

    return answer


def _warnings(query: Query, more: int) -> Iterator[str]:
    """Yield what PS3.18, sections 8.3.4.2 and 8.3.4.4, has a server say."""
    if query.is_fuzzy:
        yield (
            "The fuzzymatching parameter is not supported. Only literal matching has been "
            "performed."
        )
    if more:
        yield f"There are {more} additional results that can be requested"


def _instances(gateway: Gateway, request: Request) -> Response:
    forms = _forms(request, accepting.INSTANCES, single="uid" in request.path_params)
    asked = _some(_asked(gateway, request))
    form = _settled(forms, asked.found)
    with _refusing(f"This can be had in {EXPLICIT} only."):
        first = _file(asked.found[0], form)
    receipts = _shown(gateway, asked)
    headers = _receipt_headers(receipts)
    if not form.in_parts:
        return Response(first, headers=headers | {"Content-Type": form.content_type()})
    boundary = secrets.token_hex(16)

    def body() -> Iterator[bytes]:
        for one, receipt in zip(asked.found, receipts, strict=True):
            raw = first if one is asked.found[0] else _file(one, form)
            told = {"Content-Location": _url(gateway, one), RECEIPT: to_short_header(receipt)}
            yield _part_head(boundary, form.content_type(), told)
            yield raw
        yield _end(boundary)

    return StreamingResponse(body(), headers=headers | _multipart(form, boundary))


def _file(instance: Instance, form: Form) -> bytes:
    raw = read_file(instance)
    return raw if form.syntax == EXPLICIT else compress_instance(parse_instance(raw), form.syntax)


def _metadata(gateway: Gateway, request: Request) -> Response:
    form = _forms(request, accepting.METADATA, single=True)[0]
    asked = _some(_asked(gateway, request))
    told = [
        retrieval.metadata(parse_instance(read_file(one)), _url(gateway, one))
        for one in asked.found
    ]
    body = json.dumps(told)
    return Response(body, headers=_receipt_headers(_shown(gateway, asked)), media_type=form.media)


def _frames(gateway: Gateway, request: Request) -> Response:
    is_one = "," not in request.path_params["frames"]
    forms = _forms(request, accepting.FRAMES, single=is_one)
    asked = _some(_asked(gateway, request))
    instance = asked.found[0]
    numbers = _numbers(request, instance)
    form = _settled(forms, asked.found)
    dataset = parse_instance(read_file(instance))
    frames = [retrieval.frame_bytes(dataset, one, instance.frames) for one in numbers]
    if form.syntax != EXPLICIT:
        with _refusing(f"This can be had in {EXPLICIT} only."):
            frames = [compress_frame(dataset, one, form.syntax) for one in frames]
    return _bytes(form, frames, _shown(gateway, asked))


def _bulk_data(gateway: Gateway, request: Request) -> Response:
    form = _forms(request, accepting.BULK_DATA, single=True)[0]
    asked = _some(_asked(gateway, request))
    dataset = parse_instance(read_file(asked.found[0]))
    value = retrieval.bulk_data(dataset, request.path_params["tag"])
    if value is None:
        raise _nothing()
    return _bytes(form, [value], _shown(gateway, asked))


def _rendered(gateway: Gateway, request: Request) -> Response:
    form = _forms(request, accepting.PICTURES, single=True)[0]
    how = _rendering(request, form)
    asked = _some(_asked(gateway, request))
    instance = asked.found[0]
    numbers = _numbers(request, instance) if "frames" in request.path_params else (1,)
    return _drawn(gateway, asked, numbers, form, how)


def _thumbnail(gateway: Gateway, request: Request) -> Response:
    """Answer with one small picture: of a study or series, the one in the middle."""
    form = _forms(request, accepting.PICTURES, single=True)[0]
    how = _rendering(request, form)
    asked = _asked(gateway, request)
    if not asked.found:
        raise _nothing()
    instance = asked.found[len(asked.found) // 2]
    numbers: tuple[int, ...] = (1 + instance.frames // 2,)
    if "frames" in request.path_params:
        numbers = _numbers(request, instance)[:1]
    how = replace(how, viewport=how.viewport or retrieval.THUMBNAIL)
    return _drawn(gateway, replace(asked, found=[instance]), numbers, form, how)


def _rendering(request: Request, form: Form) -> retrieval.Rendering:
    try:
        return retrieval.read_rendering(form.media, request.query_params)
    except InvalidInputError as error:
        raise HTTPException(400, str(error)) from None


def _drawn(
    gateway: Gateway,
    asked: _Asked,
    numbers: Sequence[int],
    form: Form,
    how: retrieval.Rendering,
) -> Response:
    dataset = parse_instance(read_file(asked.found[0]))
    how = retrieval.bounded(how, len(numbers))
    with _refusing("This image cannot be drawn."):
        pictures = [retrieval.render(dataset, one, how) for one in numbers]
    form = replace(form, in_parts=form.in_parts or len(pictures) > 1)
    return _bytes(form, pictures, _shown(gateway, asked))


def _receipt(gateway: Gateway, request: Request) -> Response:
    """Answer with the receipt of one's own look, and its proof once it is anchored."""
    researcher, text = _researcher(gateway, request), request.path_params["number"]
    looks = gateway.writer.log
    if re.fullmatch("[0-9]{1,18}", text, re.ASCII) is None or int(text) >= len(looks):
        raise _nothing()
    (found,) = looks.read(int(text), 1)
    if found.look.researcher != researcher:
        raise _nothing()
    return Response(to_json(prove(looks, gateway.ledger, int(text))), media_type=PLAIN_JSON)


def _numbers(request: Request, instance: Instance) -> tuple[int, ...]:
    found = retrieval.read_frames(request.path_params["frames"], instance.frames)
    if found is None:
        raise _nothing()
    return found


def _bytes(form: Form, parts: Sequence[bytes], receipts: Sequence[LookReceipt]) -> Response:
    headers = _receipt_headers(receipts)
    if not form.in_parts:
        return Response(parts[0], headers=headers | {"Content-Type": form.content_type()})
    boundary = secrets.token_hex(16)
    head = _part_head(boundary, form.content_type(), {})
    body = b"".join(head + part for part in parts) + _end(boundary)
    return Response(body, headers=headers | _multipart(form, boundary))


def _receipt_headers(receipts: Sequence[LookReceipt]) -> dict[str, str]:
    first, last = receipts[0].look.number, receipts[-1].look.number
    headers = {LOOKS: str(first) if first == last else f"{first}-{last}"}
    return headers | ({RECEIPT: to_header(receipts[0])} if first == last else {})


def _multipart(form: Form, boundary: str) -> dict[str, str]:
    return {"Content-Type": f'multipart/related; type="{form.media}"; boundary={boundary}'}


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
