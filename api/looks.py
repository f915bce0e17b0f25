"""Looks that hospitals hand over, so that who saw an image can be answered (protocol 15).

Hospitals anchor the roots of their access logs; what is handed over here is held against these.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from typing import Annotated

from fastapi import APIRouter, Query, Request, Response
from fastapi.concurrency import run_in_threadpool
from starlette.requests import ClientDisconnect

from aggregator import queries
from aggregator.queries import LookBatch
from api import examples
from api.auth import Party, admits
from api.backend import Backend, Server
from api.problems import RETRY_SECONDS, Problem, malformed, too_large
from api.provenance import AUDITORS
from api.rounds import Cursor, Limit, shown
from api.schemas import ADDRESS, Json
from chain.addresses import read_address
from chain.canonical import parse_json
from chain.errors import DigestMismatchError, InvalidInputError
from chain.looks import MAX_BATCH
from chain.types import Look, Role
from chain.wire import from_json_dict, to_json_dict

router = APIRouter(prefix="/v1/looks", tags=["Looks"])

MEDIA_TYPE = "application/jsonl"
MAX_LINE = 640  # bytes of a look

_BODY = {
    "required": True,
    "content": {MEDIA_TYPE: {"schema": {"type": "string"}, "example": examples.look_line()}},
}


@router.post(
    "",
    status_code=201,
    summary="Hand the looks of an anchored batch over",
    responses={
        201: examples.shown(examples.look_batch())[200],
        200: examples.shown(examples.look_batch())[200],
    },
    openapi_extra={"requestBody": _BODY},
)
async def hand_over(
    request: Request,
    response: Response,
    server: Server,
    party: Annotated[Party, admits(Role.HOSPITAL)],
    batch: Annotated[int, Query(ge=1, lt=2**53, examples=[3], description="Its number")],
) -> Json:
    """Take all looks of a batch that the hospital anchored, one a line, ascending by number.

    They are kept if their Merkle root is the one on the ledger, all or none; the same batch sent
    again changes nothing (200).
    """
    media_type = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if media_type != MEDIA_TYPE:
        raise Problem(
            415, "wrong-media-type", "The body has another media type", f"Send {MEDIA_TYPE}."
        )
    with _one_at_a_time(server, party.address):
        anchored = await run_in_threadpool(_anchored, server, party.address, batch)
        body = await _body(request, anchored)
        kept, is_new = await run_in_threadpool(_keep, server, anchored, body)
    if not is_new:
        response.status_code = 200
    return to_json_dict(kept)


@router.get(
    "/batches",
    summary="List the batches of looks that a hospital anchored",
    responses=examples.shown(examples.look_batches()),
)
def batches(
    server: Server,
    party: Annotated[Party, admits(*AUDITORS, Role.HOSPITAL)],
    hospital: Annotated[
        str | None, Query(examples=[ADDRESS], description="EIP-55; a hospital may leave it out")
    ] = None,
    handed: Annotated[
        bool | None, Query(description="Only those that were handed over, or that were not")
    ] = None,
    cursor: Cursor = None,
    limit: Limit = 50,
) -> Json:
    """List a hospital's anchored batches, oldest first; `handed_at` tells which it handed over.

    A hospital sees its own.
    """
    whose = party.address if hospital is None else read_address(hospital, "hospital")
    if party.sees_only_its_own and whose != party.address:
        raise Problem(
            403, "not-your-log", "The access log is another hospital's", "Ask about your own."
        )
    found, block = server.index.ask(
        lambda s: queries.look_batches(s, whose, handed=handed, cursor=cursor, limit=limit)
    )
    return shown(found, block)


@router.get(
    "/mine",
    summary="Ask what is logged of my looks",
    responses=examples.shown(examples.looks()),
)
def mine(
    server: Server,
    party: Annotated[Party, admits(Role.RESEARCHER)],
    cursor: Cursor = None,
    limit: Limit = 50,
) -> Json:
    """List the researcher's own looks, oldest first, as hospitals anchored and handed them over.

    A look for which there is a receipt and no entry may be anchored later, or not handed over:
    `fedwitness looks check` judges receipts.
    """
    found, block = server.index.ask(
        lambda s: queries.looks(s, party.address, cursor=cursor, limit=limit)
    )
    return shown(found, block)


def read_looks(body: bytearray) -> list[Look]:
    """Read looks, one a line.

    Raises:
        InvalidInputError: If a line is none; the message says which.
    """
    found: list[Look] = []
    begin = 0
    while begin < len(body):
        end = body.find(b"\n", begin)
        end = len(body) if end < 0 else end
        try:
            found.append(from_json_dict(Look, parse_json(bytes(body[begin:end]), MAX_LINE)))
        except InvalidInputError as error:
            raise InvalidInputError(f"line {len(found) + 1}: {error}") from error
        begin = end + 1
    return found


@contextmanager
def _one_at_a_time(server: Backend, hospital: str) -> Iterator[None]:
    """Take one batch of a hospital at a time: each is held in memory until it is judged."""
    if hospital in server.handing_over:
        raise Problem(
            409,
            "one-at-a-time",
            "The hospital hands another batch over at this moment",
            "Send the next batch when this one is answered.",
            headers={"Retry-After": RETRY_SECONDS, "Connection": "close"},
        )
    server.handing_over.add(hospital)
    try:
        yield
    finally:
        server.handing_over.discard(hospital)


def _anchored(server: Backend, hospital: str, batch: int) -> LookBatch:
    found, block = server.index.ask(partial(queries.look_batch, hospital=hospital, batch=batch))
    if found is None:
        raise Problem(
            409,
            "batch-not-anchored",
            "The ledger has no such batch",
            f"{hospital} has not anchored batch {batch} as of block {block.number}. Anchor it, and "
            "try again when the server has read that block.",
            headers={"Retry-After": RETRY_SECONDS, "Connection": "close"},
        )
    if found.entries > MAX_BATCH:
        raise malformed(f"batch {batch} has {found.entries} looks; at most {MAX_BATCH} are taken")
    return found


async def _body(request: Request, batch: LookBatch) -> bytearray:
    body, most = bytearray(), batch.entries * MAX_LINE
    try:
        async for chunk in request.stream():
            body += chunk
            if len(body) > most:
                raise too_large(f"{batch.entries} looks have at most {most} bytes.")
    except ClientDisconnect:
        raise Problem(400, "connection-lost", "The connection broke off", "Resend.") from None
    return body


def _keep(server: Backend, batch: LookBatch, body: bytearray) -> tuple[LookBatch, bool]:
    try:
        return server.index.hand_over(batch, read_looks(body))
    except DigestMismatchError as error:
        raise Problem(
            409, "other-looks", "These are not the looks that were anchored", str(error)
        ) from None
