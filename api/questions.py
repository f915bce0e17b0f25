"""What an auditor asks beside where a model comes from.

Which models a data-set version is in, who could see an image on a day, what looked odd, and how
the federation fares. Each entry says at which block and by which transaction it came to the ledger.
"""

from datetime import date
from typing import Annotated, Any

from fastapi import APIRouter, Depends, Path, Query

from aggregator import queries
from aggregator.oddities import Oddity
from api import examples
from api.auth import Party, admits, public
from api.backend import Server
from api.problems import Problem
from api.provenance import AUDITORS, answered
from api.rounds import Cursor, Limit, shown
from api.schemas import DIGEST, Json
from chain.types import Role
from chain.wire import from_hex

router = APIRouter(prefix="/v1", tags=["Provenance"])

LooksCursor = Annotated[
    str | None,
    Query(max_length=queries.MAX_CURSOR, description="`cursor` of the page of looks before"),
]
Version = Annotated[str, Path(examples=[DIGEST], description="Of a data-set version")]


@router.get(
    "/datasets/{version}/descendants",
    summary="List the models that a data-set version is in",
    dependencies=[admits(*AUDITORS)],
    responses=examples.shown(examples.descendants()),
)
def descendants(version: Version, server: Server, cursor: Cursor = None, limit: Limit = 50) -> Json:
    """List the final models that descend from a version, by task and in it the newest first.

    These are what its withdrawal touches: `withdrawn_at` tells whether that has happened.
    """
    identifier = from_hex(version)
    return answered(
        server,
        "data-set version of this identifier",
        lambda s: queries.descendants(s, identifier, cursor=cursor, limit=limit),
        cursor,
    )


@router.get(
    "/datasets/{version}/viewers",
    summary="Tell who could see an image on a day",
    responses=examples.shown(examples.viewers()),
)
def viewers(
    version: Version,
    server: Server,
    party: Annotated[Party, admits(*AUDITORS, Role.HOSPITAL)],
    day: Annotated[date, Query(description="In UTC", examples=["2026-01-01"])],
    image: Annotated[
        str | None, Query(examples=[DIGEST], description="Its commitment; without it any image")
    ] = None,
    cursor: Cursor = None,
    limit: Limit = 50,
    looks_cursor: LooksCursor = None,
) -> Json:
    """List the grants that were live at some time of the day, with those times, and who looked.

    `looks` has what the hospital handed over of its anchored access log, oldest first; as long as
    batches are `missing`, that somebody is not among them proves nothing. A hospital asks about its
    own data.
    """
    identifier = from_hex(version)
    commitment = None if image is None else from_hex(image, "image")
    page: dict[str, Any] = {"cursor": cursor, "limit": limit, "looks_cursor": looks_cursor}
    answer = answered(
        server,
        "data-set version of this identifier",
        lambda s: queries.viewers(s, identifier, commitment, day, **page),
        cursor or looks_cursor,
    )
    if party.sees_only_its_own and answer["version"]["hospital"] != party.address:
        raise Problem(
            403, "not-your-data", "The data set is another hospital's", "Ask about your own."
        )
    return answer


@router.get(
    "/oddities",
    summary="Tell what looked odd",
    dependencies=[Depends(public)],
    responses=examples.shown(examples.oddities()),
)
def oddities(
    server: Server,
    kind: Annotated[Oddity | None, Query(examples=["time_jumped"])] = None,
    round: Annotated[int | None, Query(ge=1, lt=2**53)] = None,  # noqa: A002 - the wire's word
    cursor: Cursor = None,
    limit: Limit = 50,
) -> Json:
    """List clocks and orders that a person should look at, and what happened to the chain itself.

    `findings` are blocks that were read and are not there any more. Each index sees those of its
    own time: ask witnesses and auditors for theirs.
    """
    found, block = server.index.ask(
        lambda session: queries.oddities(
            session,
            kind=None if kind is None else kind.value,
            round_number=round,
            cursor=cursor,
            limit=limit,
        )
    )
    return shown(found, block)


@router.get(
    "/overview",
    summary="Tell how the federation fares",
    dependencies=[Depends(public)],
    responses=examples.shown(examples.overview()),
)
def overview(
    server: Server,
    days: Annotated[int, Query(ge=1, le=366, description="Newest days to count")] = 90,
) -> Json:
    """Count rounds, updates by verdict, parties and oddities, over all and by day, task, witness.

    How well a model predicts is no fact of the ledger.
    """
    found, block = server.index.ask(lambda session: queries.overview(session, days=days))
    return shown(found, block)
