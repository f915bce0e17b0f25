"""Models, streamed from IPFS and checked on the way."""

from collections.abc import Iterator
from typing import Annotated

from fastapi import APIRouter, Path
from fastapi.responses import StreamingResponse

from api.auth import admits
from api.backend import Server
from api.problems import not_found
from api.schemas import CID
from chain.cid import DAG_PB, Cid
from chain.types import Role

router = APIRouter(prefix="/v1/blobs", tags=["Models"])


# Not for the public pages: a model can betray what it was trained on (membership inference, model
# inversion), so who may have one is a party of the federation. Whoever has the file from elsewhere
# verifies it in the browser against a bundle, which is public.
@router.get(
    "/{cid}",
    summary="Fetch a model",
    dependencies=[admits(*Role)],
    response_class=StreamingResponse,
    responses={
        200: {
            "content": {"application/octet-stream": {"schema": {"type": "string"}}},
            "description": "The model's canonical tensors, docs/protocol.md section 3.1",
        }
    },
)
def fetch(cid: Annotated[str, Path(examples=[CID])], server: Server) -> StreamingResponse:
    """Stream a base model or final model of any round, and no other blob.

    Each block is checked against its CID before a byte of it is sent. An answer that breaks off
    is not the model: it ends without the last chunk, which HTTP clients report.
    """
    blob = Cid.parse(cid)
    if blob.codec != DAG_PB or not server.models.holds(blob.digest):
        raise not_found("base model or final model of this CID")
    pieces = server.blobs.stream(blob, server.settings.max_model_bytes)
    # The first block decides whether this is an answer or a problem.
    first = next(pieces)
    return StreamingResponse(_sent(first, pieces), media_type="application/octet-stream")


def _sent(first: bytes, rest: Iterator[bytes]) -> Iterator[bytes]:
    yield first
    yield from rest
