"""Resumable uploads of envelopes (docs/protocol.md, section 12).

The headers are those of the tus protocol 1.0 (https://tus.io/protocols/resumable-upload); the
announcement carries the signed record, so an upload is known by what it is for.
"""

from typing import Annotated

from fastapi import APIRouter, Header, Path, Request, Response
from fastapi.concurrency import contextmanager_in_threadpool, run_in_threadpool
from starlette.requests import ClientDisconnect

from api.auth import Party, admits
from api.backend import Backend, Server
from api.problems import RETRY_SECONDS, Problem, not_found, too_large
from api.schemas import UPLOAD_ID, UploadAnswer, UploadRequest, read_signature
from api.spool import Appender, Upload, UploadState, upload_id
from chain.types import Role, UpdateRecord
from chain.wire import from_json_dict, to_hex

router = APIRouter(prefix="/v1/uploads", tags=["Uploads"])

BUFFER_BYTES = 1024 * 1024
MEDIA_TYPE = "application/offset+octet-stream"

UploadId = Annotated[
    str, Path(pattern="^[0-9a-f]{64}$", examples=[UPLOAD_ID], description="From `Location`")
]
Hospital = Annotated[Party, admits(Role.HOSPITAL)]


@router.post("", status_code=201, summary="Announce an upload")
def announce(
    body: UploadRequest, server: Server, party: Hospital, response: Response
) -> UploadAnswer:
    """Check the signed record against the ledger and make room for its envelope.

    Nothing is taken for a record that the ledger would refuse. The same record announced again
    is the same upload (200), a refused one begins anew (201).
    """
    record = from_json_dict(UpdateRecord, body.record)
    signature = read_signature(body.signature)
    if record.hospital != party.address:
        raise Problem(
            403,
            "not-your-record",
            "The record is another hospital's",
            f"Expected a record of {party.address}, found one of {record.hospital}.",
        )
    upload = server.spool.find(upload_id(record))
    if upload is None or upload.state is UploadState.REFUSED:
        upload = _begin(server, record, signature, body.size)
    else:
        response.status_code = 200
    if upload.length != body.size:
        raise Problem(
            409,
            "size-mismatch",
            "The upload was announced with another size",
            f"Expected {upload.length} bytes, found {body.size}.",
        )
    response.headers["Location"] = f"/v1/uploads/{upload.id}"
    response.headers["Upload-Offset"] = str(upload.offset)
    return _answer(upload)


@router.head("/{upload}", summary="Ask how much has arrived")
def tell_offset(upload: UploadId, server: Server, party: Hospital) -> Response:
    """Tell the offset to go on from, in `Upload-Offset`, and the announced size."""
    found = _own(server, party, upload)
    return Response(
        headers={"Upload-Offset": str(found.offset), "Upload-Length": str(found.length)}
    )


@router.patch(
    "/{upload}",
    status_code=204,
    summary="Send bytes",
    response_class=Response,
    openapi_extra={
        "requestBody": {
            "required": True,
            "content": {MEDIA_TYPE: {"schema": {"type": "string", "format": "binary"}}},
        }
    },
)
async def append(
    *,
    upload: UploadId,
    request: Request,
    server: Server,
    party: Hospital,
    upload_offset: Annotated[int, Header(ge=0, examples=[16777216], description="Bytes before")],
    content_type: Annotated[str, Header(examples=[MEDIA_TYPE])] = "",
) -> Response:
    """Append the body at `Upload-Offset`; what arrives before the connection breaks is kept.

    With the last byte the server begins to compare the envelope's CID with the record's, to store
    it and to record it: follow that with `GET`.
    """
    if content_type != MEDIA_TYPE:
        raise Problem(
            415, "wrong-media-type", "The body has another media type", f"Send {MEDIA_TYPE}."
        )
    await run_in_threadpool(_own, server, party, upload)
    with server.metrics.in_flight.track_inprogress():
        async with contextmanager_in_threadpool(server.spool.appending(upload)) as appender:
            _check_place(appender, upload_offset, request)
            await _take(request, appender, server)
        server.storer.wake()
    return Response(status_code=204, headers={"Upload-Offset": str(appender.offset)})


@router.get("/{upload}", summary="Follow an upload")
def follow(upload: UploadId, server: Server, party: Hospital, response: Response) -> UploadAnswer:
    """Tell where an upload stands, and what delays or ended it."""
    found = _own(server, party, upload)
    if found.problem and found.state is not UploadState.REFUSED:
        response.headers["Retry-After"] = RETRY_SECONDS
    return _answer(found)


def _begin(server: Backend, record: UpdateRecord, signature: bytes, size: int) -> Upload:
    if size > server.settings.max_upload_bytes:
        raise too_large(
            f"This server takes envelopes of at most {server.settings.max_upload_bytes} bytes."
        )
    server.ledger.check_record(record, signature)
    deadline = server.ledger.round(record.round).terms.deadline
    return server.spool.begin(record, signature, size, deadline)


def _own(server: Backend, party: Party, identity: str) -> Upload:
    """Look up an upload of the party's own; another's is as if it were not there."""
    upload = server.spool.find(identity)
    if upload is None or upload.record.hospital != party.address:
        raise not_found("upload of yours with this id")
    return upload


def _check_place(appender: Appender, offset: int, request: Request) -> None:
    if offset != appender.offset:
        raise Problem(
            409,
            "offset-mismatch",
            "The upload goes on from another offset",
            f"Expected Upload-Offset {appender.offset}, found {offset}.",
            headers={"Upload-Offset": str(appender.offset), "Connection": "close"},
        )
    announced = request.headers.get("content-length", "0")
    if announced.isdigit() and int(announced) > appender.missing:
        raise _more_than_announced(appender)


async def _take(request: Request, appender: Appender, server: Backend) -> None:
    """Write the body to disk in pieces of a mebibyte, and no byte behind the announced end.

    Raises:
        Problem: If the body is too long, too slow or breaks off, or the disk is full.
    """
    buffer = bytearray()

    async def flush() -> None:
        piece = bytes(buffer)
        buffer.clear()
        await run_in_threadpool(appender.write, piece)
        server.metrics.received_bytes.inc(len(piece))

    try:
        async for chunk in request.stream():
            if len(buffer) + len(chunk) > appender.missing:
                raise _more_than_announced(appender)
            buffer += chunk
            if len(buffer) >= BUFFER_BYTES:
                await flush()
    except ClientDisconnect:
        raise Problem(400, "connection-lost", "The connection broke off", "Resume.") from None
    finally:
        await flush()


def _more_than_announced(appender: Appender) -> Problem:
    return too_large(
        f"Only {appender.missing} bytes of the announced {appender.upload.length} are missing."
    )


def _answer(upload: Upload) -> UploadAnswer:
    return UploadAnswer(
        id=upload.id,
        round=upload.record.round,
        hospital=upload.record.hospital,
        state=upload.state,
        offset=upload.offset,
        length=upload.length,
        cid=str(upload.cid),
        transaction=to_hex(upload.transaction) if upload.transaction else None,
        gas=upload.gas,
        problem=upload.problem,
    )
