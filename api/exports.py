"""Whole histories as files: W3C PROV-JSON, CSV or JSON Lines, sent as they are read.

Unlike a page, an export leaves nothing out. Its facts say at which block and by which transaction
each came to the ledger, and its first as of which block the index was read.
"""

from collections.abc import Callable, Iterator
from typing import Annotated

from fastapi import APIRouter, Path, Query
from fastapi.responses import StreamingResponse

from api.auth import Party, admits
from api.backend import Backend, Server
from api.problems import found_in_index
from api.provenance import AUDITORS, own_history
from api.schemas import ADDRESS, DIGEST, Json
from audit.exports import Format, export
from audit.facts import Fact, Facts
from chain.addresses import read_address
from chain.types import Role
from chain.wire import from_hex

router = APIRouter(prefix="/v1", tags=["Exports"])

Wanted = Annotated[
    Format,
    Query(
        alias="format",
        description="`prov`: W3C PROV-JSON; `csv`: a table of RFC 4180; `jsonl`: a fact a line, "
        "with all that is known of it",
        examples=["prov"],
    ),
]
_ANSWER: dict[int | str, Json] = {
    200: {
        "content": {one.media_type.split(";")[0]: {"schema": {"type": "string"}} for one in Format},
        "description": "The whole history. An answer that breaks off ends without the last chunk, "
        "which HTTP clients report.",
    }
}


@router.get(
    "/provenance/models/{digest}/export",
    summary="Take a model's provenance away",
    dependencies=[admits(*AUDITORS)],
    response_class=StreamingResponse,
    responses=_ANSWER,
)
def export_model(
    digest: Annotated[str, Path(examples=[DIGEST], description="SHA-256 of its tensors")],
    server: Server,
    wanted: Wanted,
) -> StreamingResponse:
    """Send all rounds that a model descends from: updates, verdicts, witnesses, and their data."""
    model = from_hex(digest)
    what = "final model of this digest"
    return _sent(server, wanted, f"model-{digest}", what, lambda facts: facts.of_model(model))


@router.get(
    "/datasets/{dataset}/export",
    summary="Take a data set's history away",
    dependencies=[admits(*AUDITORS)],
    response_class=StreamingResponse,
    responses=_ANSWER,
)
def export_dataset(
    dataset: Annotated[str, Path(examples=[DIGEST], description="Of a data set or a version")],
    server: Server,
    wanted: Wanted,
) -> StreamingResponse:
    """Send a data set's versions, what descends from them, and all updates trained on them."""
    identifier = from_hex(dataset)
    what = "data set of this identifier"
    return _sent(
        server, wanted, f"data-set-{dataset}", what, lambda facts: facts.of_dataset(identifier)
    )


@router.get(
    "/hospitals/{address}/export",
    summary="Take a hospital's history away",
    response_class=StreamingResponse,
    responses=_ANSWER,
)
def export_hospital(
    address: Annotated[str, Path(examples=[ADDRESS], description="EIP-55")],
    server: Server,
    party: Annotated[Party, admits(*AUDITORS, Role.HOSPITAL)],
    wanted: Wanted,
) -> StreamingResponse:
    """Send a hospital's data and all its updates with their verdicts. A hospital sees its own."""
    hospital = own_history(party, read_address(address))
    what = "party of this address"
    return _sent(
        server, wanted, f"hospital-{hospital}", what, lambda facts: facts.of_hospital(hospital)
    )


def _sent(
    server: Backend,
    wanted: Format,
    name: str,
    what: str,
    told: Callable[[Facts], Iterator[Fact]],
) -> StreamingResponse:
    facts = told(Facts(server.index))
    with found_in_index(what):
        # The first fact decides whether this is an answer or a problem.
        first = next(facts)
    file = f'attachment; filename="{name}.{wanted.suffix}"'
    return StreamingResponse(
        _batched(export(_joined(first, facts), wanted)),
        media_type=wanted.media_type,
        headers={"Content-Disposition": file},
    )


def _joined(first: Fact, rest: Iterator[Fact]) -> Iterator[Fact]:
    yield first
    yield from rest


def _batched(pieces: Iterator[str]) -> Iterator[bytes]:
    """Join short pieces: each that is sent costs a turn of the server's threads."""
    waiting: list[str] = []
    size = 0
    for piece in pieces:
        waiting.append(piece)
        size += len(piece)
        if size >= _BATCH:
            yield "".join(waiting).encode()
            waiting.clear()
            size = 0
    yield "".join(waiting).encode()


_BATCH = 1 << 16  # characters
