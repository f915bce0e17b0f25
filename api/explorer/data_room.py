"""Pages of the data room: an image's history, readings of images, and requests for readings.

An image is known by its commitment alone, and what a reading says is sealed and never here: the
pages tell digests, authors and times. Auditors and stewards see all, a hospital what is about its
own images, and about those that it read or was asked to read.
"""

from typing import Annotated, Any

from fastapi import APIRouter, Query, Request
from fastapi.responses import HTMLResponse, RedirectResponse

from aggregator import queries
from aggregator.queries import ImageHistory, Page, RequestEntry
from api.auth import admits
from api.backend import Server
from api.explorer import timeline
from api.explorer.asking import asked
from api.explorer.errors import PageRoute
from api.explorer.rendering import page
from api.images import Reader, require_own_image
from api.provenance import AUDITORS
from api.readings import own_reading
from api.rounds import Cursor
from chain.addresses import read_address
from chain.errors import InvalidInputError
from chain.readings import RequestState
from chain.types import Role
from chain.wire import from_hex, to_hex

router = APIRouter(include_in_schema=False, route_class=PageRoute)

Text = Annotated[str, Query(max_length=128)]

# The board's columns, and which requests stand in each.
COLUMNS: dict[str, dict[str, Any]] = {
    "open": {"state": RequestState.OPEN, "lapsed": False},
    "taken": {"state": RequestState.TAKEN, "lapsed": False},
    "fulfilled": {"state": RequestState.FULFILLED},
    "lapsed": {"lapsed": True},
    "cancelled": {"state": RequestState.CANCELLED},
}
OF_A_PAGE = 50  # entries of a timeline or a list
OF_A_COLUMN = 8  # requests that the board shows of each


@router.get("/images", dependencies=[admits(*AUDITORS, Role.HOSPITAL)])
def find_image(commitment: Text) -> RedirectResponse:
    """Lead from a form to the page of an image."""
    wanted = to_hex(from_hex(commitment.strip(), "commitment"))
    return RedirectResponse(f"/images/{wanted}", 303, {"Cache-Control": "no-store"})


@router.get("/images/{commitment}")
def image(
    request: Request,
    server: Server,
    party: Reader,
    commitment: str,
    show: Text = "",
    cursor: Cursor = None,
) -> HTMLResponse:
    """Tell what happened to an image, oldest first."""
    wanted = from_hex(commitment, "commitment")
    if show and show not in timeline.FILTERS:
        raise InvalidInputError(f"show: expected one of {', '.join(timeline.FILTERS)}")
    own = party.only_about
    clock = int(server.clock())

    def question(session: Any) -> tuple[ImageHistory, int]:
        require_own_image(session, wanted, own)
        found = queries.image_history(
            session,
            wanted,
            now=clock,
            log_of=own,
            kinds=timeline.FILTERS.get(show),
            cursor=cursor,
            limit=OF_A_PAGE,
        )
        return found, queries.latest_time(session, clock)

    (history, now), asked_of = asked(server, question, "image of this commitment", cursor)
    return page(
        request,
        "image.html",
        is_private=True,
        **asked_of,
        history=history,
        standings=timeline.standings(history),
        days=timeline.days(history.timeline.entries),
        version_names={one.version: one.name for one in history.versions},
        filters=tuple(timeline.FILTERS),
        cursor=history.timeline.cursor,
        now=now,
        query={"show": show, "cursor": cursor},
    )


@router.get("/readings")
def readings(
    request: Request,
    server: Server,
    party: Reader,
    version: Text = "",
    hospital: Text = "",
    cursor: Cursor = None,
) -> HTMLResponse:
    """List readings and corrections, newest first, and lend a place to ask for an image."""
    of_version = from_hex(version.strip(), "version") if version.strip() else None
    of_hospital = read_address(hospital.strip(), "hospital") if hospital.strip() else None
    own = party.only_about
    found, asked_of = asked(
        server,
        lambda session: queries.readings(
            session, version=of_version, hospital=of_hospital, party=own, cursor=cursor
        ),
    )
    return page(
        request,
        "readings.html",
        is_private=True,
        **asked_of,
        readings=found.entries,
        cursor=found.cursor,
        query={"version": version, "hospital": hospital, "cursor": cursor},
    )


@router.get("/readings/{identifier}")
def reading(request: Request, server: Server, party: Reader, identifier: str) -> HTMLResponse:
    """Tell a reading's corrections, second opinions on it, and how far they agree."""
    wanted = from_hex(identifier, "reading")
    history, asked_of = asked(
        server,
        lambda session: own_reading(session, wanted, party.only_about),
        "reading of this identifier",
    )
    line = history.line
    shown = next((one for one in line if one.reading == wanted), line[-1])
    return page(
        request,
        "reading.html",
        is_private=True,
        **asked_of,
        history=history,
        reading=shown,
        newest=line[-1],
        words={(one.own, one.other): one for one in history.comparisons},
    )


@router.get("/requests")
def requests(
    request: Request,
    server: Server,
    party: Reader,
    state: Text = "",
    hospital: Text = "",
    image: Text = "",
    cursor: Cursor = None,
) -> HTMLResponse:
    """Show the board of requests: each state's newest, or one state's all."""
    if state and state not in COLUMNS:
        raise InvalidInputError(f"state: expected one of {', '.join(COLUMNS)}")
    clock = int(server.clock())
    wanted: dict[str, Any] = {
        "now": clock,
        "hospital": read_address(hospital.strip(), "hospital") if hospital.strip() else None,
        "image": from_hex(image.strip(), "image") if image.strip() else None,
        "party": party.only_about,
    }
    shown = {state: COLUMNS[state]} if state else COLUMNS
    limit = OF_A_PAGE if state else OF_A_COLUMN

    def question(session: Any) -> tuple[tuple[Page[RequestEntry], ...], int]:
        found = tuple(
            queries.requests(
                session, **wanted, **which, cursor=cursor if state else None, limit=limit
            )
            for which in shown.values()
        )
        return found, queries.latest_time(session, clock)

    (found, now), asked_of = asked(server, question)
    return page(
        request,
        "requests.html",
        is_private=True,
        **asked_of,
        columns=tuple(zip(shown, found, strict=True)),
        states=tuple(COLUMNS),
        cursor=found[0].cursor if state else None,
        now=now,
        query={"state": state, "hospital": hospital, "image": image, "cursor": cursor},
    )
