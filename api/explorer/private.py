"""Pages for those who signed in: parties, their data sets, and who may look at images.

Auditors and stewards see all of it, a hospital its own, a researcher the grants to them.
"""

from datetime import UTC, date, datetime
from typing import Annotated

from fastapi import APIRouter, Query, Request
from fastapi.responses import HTMLResponse

from aggregator import queries
from api.auth import Party, admits
from api.backend import Server
from api.explorer.asking import asked
from api.explorer.errors import PageRoute
from api.explorer.rendering import page
from api.problems import Problem
from api.provenance import AUDITORS
from api.rounds import Cursor
from api.schemas import member_of
from chain.addresses import read_address
from chain.errors import InvalidInputError
from chain.types import Role
from chain.wire import from_hex

router = APIRouter(include_in_schema=False, route_class=PageRoute)

Reader = Annotated[Party, admits(*AUDITORS, Role.HOSPITAL)]
Text = Annotated[str, Query(max_length=128)]


@router.get("/hospitals", dependencies=[admits(*AUDITORS, Role.HOSPITAL)])
def parties(
    request: Request, server: Server, role: Text = "", cursor: Cursor = None
) -> HTMLResponse:
    """List the federation's parties."""
    wanted = member_of(Role, role) if role else None
    found, asked_of = asked(
        server, lambda session: queries.parties(session, role=wanted, cursor=cursor)
    )
    return page(
        request,
        "hospitals.html",
        is_private=True,
        **asked_of,
        parties=found.entries,
        cursor=found.cursor,
        roles=[one.name for one in Role],
        query={"role": role, "cursor": cursor},
    )


@router.get("/hospitals/{address}")
def hospital(
    request: Request, server: Server, party: Reader, address: str, cursor: Cursor = None
) -> HTMLResponse:
    """Tell a party's membership, data and updates."""
    wanted = read_address(address)
    _require_own(party, wanted)
    found, asked_of = asked(
        server,
        lambda session: queries.hospital_history(session, wanted, cursor=cursor),
        "party of this address",
        cursor,
    )
    return page(
        request,
        "hospital.html",
        is_private=True,
        **asked_of,
        history=found,
        versions=found.versions,
        own_page=True,
        contributions=found.contributions.entries,
        cursor=found.contributions.cursor,
        query={"cursor": cursor},
    )


@router.get("/datasets/{identifier}")
def dataset(
    request: Request,
    server: Server,
    party: Reader,
    identifier: str,
    cursor: Cursor = None,
    models: Annotated[str | None, Query(max_length=queries.MAX_CURSOR)] = None,
) -> HTMLResponse:
    """Tell a data-set version's history, and which models descend from it."""
    wanted = from_hex(identifier)
    history, asked_of = asked(
        server,
        lambda session: queries.dataset_history(session, wanted, cursor=cursor),
        "data set of this identifier",
        cursor,
    )
    # The identifier of the data set itself stands for its newest version.
    version = next((one for one in history.versions if one.version == wanted), history.versions[-1])
    _require_own(party, version.hospital)
    descendants, _ = asked(
        server, lambda session: queries.descendants(session, version.version, cursor=models)
    )
    return page(
        request,
        "dataset.html",
        is_private=True,
        **asked_of,
        version=version,
        versions=history.versions,
        own_page=False,
        descendants=descendants,
        contributions=history.uses.entries,
        cursor=history.uses.cursor,
        query={"cursor": cursor},
    )


@router.get("/grants")
def grants(
    request: Request,
    server: Server,
    party: Annotated[Party, admits(*AUDITORS, Role.HOSPITAL, Role.RESEARCHER)],
    version: Text = "",
    image: Text = "",
    day: Text = "",
    cursor: Cursor = None,
) -> HTMLResponse:
    """List access grants, and answer who could see an image on a day."""
    of_version = from_hex(version.strip(), "version") if version.strip() else None
    of_image = from_hex(image.strip(), "image") if image.strip() else None
    own = None if _sees_all(party) else party.address
    is_hospital = Role.HOSPITAL in party.roles
    # The cursor belongs to the answer about a day where that is asked for, else to the list.
    found, asked_of = asked(
        server,
        lambda session: queries.grants(
            session,
            version=of_version,
            hospital=own if is_hospital else None,
            researcher=None if is_hospital else own,
            cursor=None if of_version else cursor,
        ),
    )
    viewers = None
    on = _day(day.strip(), server.clock())
    if of_version is not None:
        viewers, told = asked(
            server,
            lambda session: queries.viewers(session, of_version, of_image, on, cursor=cursor),
            "data-set version of this identifier",
            cursor,
        )
        _require_own(party, viewers.version.hospital)
        asked_of["names"] |= told["names"]
    return page(
        request,
        "grants.html",
        is_private=True,
        **asked_of,
        viewers=viewers,
        grants=found.entries,
        cursor=found.cursor if of_version is None else None,
        query={
            "version": version,
            "image": image,
            "day": on if day or of_version else "",
            "cursor": cursor,
        },
    )


def _day(text: str, now: float) -> date:
    """Read a day, today where none is given.

    Raises:
        InvalidInputError: If it is no day.
    """
    if not text:
        return datetime.fromtimestamp(now, UTC).date()
    try:
        return date.fromisoformat(text)
    except ValueError:
        raise InvalidInputError(f"day: expected YYYY-MM-DD, found {text[:32]!r}") from None


def _sees_all(party: Party) -> bool:
    return not party.roles.isdisjoint(AUDITORS)


def _require_own(party: Party, hospital: str) -> None:
    if not _sees_all(party) and party.address != hospital:
        raise Problem(
            403,
            "not-your-history",
            "This is another hospital's",
            "A hospital sees its own data and updates here; auditors and stewards see all.",
        )
