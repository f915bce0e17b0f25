"""Readings of images and requests for them, as the ledger has them (docs/protocol.md, section 16).

The documents themselves are sealed: the ledger, and so this server, knows digests, authors, times.
"""

from typing import Annotated, Any

from fastapi import APIRouter, Path, Query

from aggregator import queries
from aggregator.queries import Page, ReadingEntry, ReadingHistory
from api import examples
from api.backend import Server
from api.images import Reader, require_own_image
from api.provenance import answered, own_history
from api.rounds import Cursor, Limit, shown
from api.schemas import ADDRESS, DIGEST, Json, member_of
from chain.addresses import read_address
from chain.errors import InvalidInputError
from chain.readings import RequestState
from chain.wire import from_hex

router = APIRouter(prefix="/v1", tags=["Readings"])

Address = Annotated[str | None, Query(examples=[ADDRESS], description="EIP-55")]
Image = Annotated[str | None, Query(examples=[DIGEST], description="Its commitment")]


@router.get("/readings", summary="List readings", responses=examples.shown(examples.readings()))
def readings(
    server: Server,
    party: Reader,
    image: Image = None,
    hospital: Address = None,
    author: Address = None,
    cursor: Cursor = None,
    limit: Limit = 50,
) -> Json:
    """List readings and corrections, newest first, of an image, a hospital or an author.

    A hospital sees its own and those of its images; with `image` all of an image that it read or
    was asked to read.
    """
    own = party.only_about
    wanted: dict[str, Any] = {
        "image": None if image is None else from_hex(image, "image"),
        "hospital": None if hospital is None else read_address(hospital, "hospital"),
        "author": None if author is None else read_address(author, "author"),
    }

    def question(session: Any) -> Page[ReadingEntry]:
        if image is not None:
            require_own_image(session, wanted["image"], own)
        among = own if image is None else None
        return queries.readings(session, **wanted, party=among, cursor=cursor, limit=limit)

    return shown(*server.index.ask(question))


@router.get(
    "/readings/{reading}",
    summary="Look a reading up",
    responses=examples.shown(examples.reading_history()),
)
def one_reading(
    reading: Annotated[str, Path(examples=[DIGEST], description="Of a reading or a correction")],
    server: Server,
    party: Reader,
) -> Json:
    """Tell a reading's corrections, what it was compared with, and second opinions on it."""
    identifier = from_hex(reading, "reading")
    return answered(
        server,
        "reading of this identifier",
        lambda s: own_reading(s, identifier, party.only_about),
    )


def own_reading(session: Any, reading: bytes, hospital: str | None) -> ReadingHistory:
    """Look a reading up, and refuse a hospital one of an image it has nothing to do with.

    Args:
        session: Of the index.
        reading: Its identifier.
        hospital: Who asks; None may ask about any.

    Raises:
        Problem: The same whether there is such a reading or not.
        InvalidInputError: If the index has no such reading, and who asks may know that.
    """
    try:
        found = queries.reading_history(session, reading)
    except InvalidInputError:
        require_own_image(session, None, hospital)
        raise
    require_own_image(session, found.line[0].image, hospital)
    return found


@router.get(
    "/reading-requests",
    summary="List requests for readings",
    responses=examples.shown(examples.reading_requests()),
)
def reading_requests(
    server: Server,
    party: Reader,
    state: Annotated[str | None, Query(examples=["OPEN"])] = None,
    image: Image = None,
    hospital: Address = None,
    taker: Address = None,
    open_to: Annotated[
        str | None,
        Query(examples=[ADDRESS], description="EIP-55: what this hospital can take now, due first"),
    ] = None,
    cursor: Cursor = None,
    limit: Limit = 50,
) -> Json:
    """List requests, newest first; `lapsed` tells that one is past the deadline of its state.

    A hospital sees those that it made, took, is asked by, and those that any may take. With
    `open_to` no other filter counts.
    """
    own = party.only_about
    now = int(server.clock())
    if open_to is not None:
        reader = read_address(open_to, "open_to")
        if own not in (None, reader):
            raise InvalidInputError(f"open_to: expected {own}, found {reader}")
        found, block = server.index.ask(
            lambda s: queries.open_requests(s, reader, now=now, cursor=cursor, limit=limit)
        )
        return shown(found, block)
    wanted: dict[str, Any] = {
        "image": None if image is None else from_hex(image, "image"),
        "hospital": None if hospital is None else read_address(hospital, "hospital"),
        "taker": None if taker is None else read_address(taker, "taker"),
        "state": None if state is None else member_of(RequestState, state),
    }
    found, block = server.index.ask(
        lambda s: queries.requests(s, now=now, **wanted, party=own, cursor=cursor, limit=limit)
    )
    return shown(found, block)


@router.get(
    "/hospitals/{address}/clinicians",
    summary="List a hospital's clinicians",
    responses=examples.shown(examples.clinicians()),
)
def clinicians(
    address: Annotated[str, Path(examples=[ADDRESS], description="EIP-55")],
    server: Server,
    party: Reader,
    cursor: Cursor = None,
    limit: Limit = 50,
) -> Json:
    """List who may read in a hospital's name and until when, newest appointments first.

    A hospital sees its own.
    """
    hospital = own_history(party, read_address(address))
    found, block = server.index.ask(
        lambda s: queries.clinicians(s, hospital, cursor=cursor, limit=limit)
    )
    return shown(found, block)
