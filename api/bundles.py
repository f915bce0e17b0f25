"""Light audit bundles: one file that proves where a final model comes from, for anybody.

Making one reads the chain from its beginning, so bundles are kept on disk by model and signed
head, one is made at a time, and a client may ask only so often. Whoever gets one need not trust
this server: the file proves itself (docs/protocol.md, section 14).
"""

import os
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path as File
from typing import Annotated, BinaryIO

from fastapi import APIRouter, Depends, Path, Request
from fastapi.responses import StreamingResponse

from aggregator import queries
from aggregator.queries import RoundEntry
from api.auth import client, public
from api.backend import Backend, Server
from api.problems import RETRY_SECONDS, Problem, found_in_index
from api.schemas import DIGEST
from audit.bundling import build_bundle
from chain.errors import UncosignedError
from chain.files import PIECE
from chain.wire import from_hex

router = APIRouter(prefix="/v1/models", tags=["Models"])


@router.get(
    "/{digest}/bundle",
    summary="Fetch a model's audit bundle",
    dependencies=[Depends(public)],
    response_class=StreamingResponse,
    responses={
        200: {
            "content": {"application/octet-stream": {"schema": {"type": "string"}}},
            "description": "A light bundle, docs/protocol.md section 14",
        }
    },
)
def light_bundle(
    digest: Annotated[str, Path(examples=[DIGEST], description="SHA-256 of its tensors")],
    server: Server,
    request: Request,
) -> StreamingResponse:
    """Send a file from which anybody can verify, without a chain, where a final model comes from.

    It holds no model and no update. Until a quorum of the round's witnesses signed the ledger's
    head there is none.
    """
    if not server.bundle_requests.admits(client(request)):
        raise Problem(
            429,
            "too-many-bundles",
            "Too many bundles",
            "This address asked for too many bundles; wait a minute.",
            headers={"Retry-After": "60"},
        )
    model = from_hex(digest)
    made_in = _round_of(server, model)
    try:
        file = server.bundles.open(
            _name(server, model, made_in), lambda path: _make(server, model, path)
        )
    except UncosignedError as error:
        raise Problem(
            409,
            "not-cosigned-yet",
            "The ledger's head is not signed yet",
            str(error),
            headers={"Retry-After": RETRY_SECONDS},
        ) from None
    if file is None:
        raise Problem(
            503,
            "bundle-being-made",
            "Another bundle is being made",
            "One is made at a time; ask again in a moment.",
            headers={"Retry-After": RETRY_SECONDS},
        )
    return StreamingResponse(
        _pieces(file),
        media_type="application/octet-stream",
        headers={
            "Content-Length": str(os.fstat(file.fileno()).st_size),
            "Content-Disposition": f'attachment; filename="{digest}.bundle"',
        },
    )


def _round_of(server: Backend, model: bytes) -> RoundEntry:
    """Find the round that made a model, in the index: the chain would be asked round by round."""
    with found_in_index("final model of this digest"):
        found, _ = server.index.ask(lambda session: queries.provenance(session, model, limit=1))
    return found.ancestors.entries[0].round


def _name(server: Backend, model: bytes, made_in: RoundEntry) -> str:
    """Name a bundle by its model and the head that most signed of its round.

    Raises:
        UncosignedError: If they are no quorum yet. Said here, for what cannot be made must not
            keep others from theirs by being tried.
    """
    signers: defaultdict[bytes, list[str]] = defaultdict(list)
    for one in server.ledger.cosignatures(made_in.number):
        signers[one.head.hash].append(one.witness)
    head = max(signers, key=lambda one: (len(signers[one]), one), default=b"")
    if len(signers[head]) < made_in.quorum:
        others = (witness for one in signers if one != head for witness in signers[one])
        agreed = tuple(signers[head])
        raise UncosignedError(made_in.number, made_in.quorum, agreed, tuple(others))
    return f"{model.hex()}-{head.hex()}"


def _make(server: Backend, model: bytes, path: File) -> None:
    made = build_bundle(server.ledger, None, model, path)
    if made.size > server.settings.max_bundle_bytes:
        path.unlink()
        raise Problem(
            507,
            "bundle-too-large",
            "The bundle is larger than this server keeps",
            f"Its {made.size} bytes are more than {server.settings.max_bundle_bytes}. Make it "
            "yourself from the chain: `fedwitness bundle`.",
        )


def _pieces(file: BinaryIO) -> Iterator[bytes]:
    with file:
        while piece := file.read(PIECE):
            yield piece
