"""Pages that anybody may read: overview, rounds, models, findings, verification, sign-in."""

import re
from collections.abc import Sequence
from typing import Annotated

from fastapi import APIRouter, Depends, Query, Request
from fastapi.responses import HTMLResponse

from aggregator import queries
from aggregator.oddities import Oddity
from aggregator.queries import RoundEntry
from api.auth import public
from api.backend import Backend, Server
from api.explorer import charts, lineage, words
from api.explorer.accuracy import Claim, read_claims
from api.explorer.asking import asked
from api.explorer.errors import PageRoute
from api.explorer.rendering import page
from api.rounds import Cursor, Number
from api.schemas import member_of
from chain.errors import InvalidInputError
from chain.types import Outcome, Phase
from chain.wire import from_hex, to_hex

router = APIRouter(dependencies=[Depends(public)], include_in_schema=False, route_class=PageRoute)

CHARTED_ROUNDS = 60
NEWEST_ROUNDS = 8
GRAPHED_UPDATES = 18
REJECTIONS = 20
_LOCAL_PATH = re.compile(r"/(?![/\\])[!-~]{0,2000}")

_ODDITIES = frozenset(one.value for one in Oddity)
Text = Annotated[str, Query(max_length=128)]


@router.get("/")
def overview(request: Request, server: Server) -> HTMLResponse:
    """Show the federation at a glance."""
    (found, newest), asked_of = asked(
        server,
        lambda session: (
            queries.overview(session),
            queries.rounds(session, limit=CHARTED_ROUNDS).entries,
        ),
    )
    rounds = tuple(reversed(newest))
    claims, trouble = _claims(server)
    return page(
        request,
        "overview.html",
        **asked_of,
        overview=found,
        judged={
            outcome.name.lower(): sum(
                count.updates for count in found.verdicts if count.outcome is outcome
            )
            for outcome in Outcome
        },
        disputed=sum(witness.disputed for witness in found.witnesses),
        rounds=rounds,
        listed=newest[:NEWEST_ROUNDS],
        bars=charts.stacked_bars([(one.number, _counts(one)) for one in rounds]),
        claims=claims,
        claims_error=trouble,
        accuracy=charts.line([(one.round, one.accuracy) for one in claims]) if claims else None,
    )


@router.get("/rounds")
def rounds(
    request: Request, server: Server, task: Text = "", phase: Text = "", cursor: Cursor = None
) -> HTMLResponse:
    """List rounds, newest first."""
    wanted = member_of(Phase, phase) if phase else None
    (found, tasks), asked_of = asked(
        server,
        lambda session: (
            queries.rounds(session, task=task or None, phase=wanted, cursor=cursor),
            queries.overview(session, days=1).tasks,
        ),
    )
    return page(
        request,
        "rounds.html",
        **asked_of,
        listed=found.entries,
        cursor=found.cursor,
        tasks=tasks,
        phases=[one.name for one in Phase if one is not Phase.UNKNOWN],
        query={"task": task, "phase": phase, "cursor": cursor},
    )


@router.get("/rounds/{number}")
def one_round(request: Request, server: Server, number: Number) -> HTMLResponse:
    """Tell all of a round."""
    history, asked_of = asked(
        server, lambda session: queries.round_history(session, number), f"round {number}"
    )
    return page(
        request,
        "round.html",
        **asked_of,
        history=history,
        round=history.round,
        steps=words.pipeline(history.round.rule),
    )


@router.get("/models/{digest}")
def model(request: Request, server: Server, digest: str, cursor: Cursor = None) -> HTMLResponse:
    """Draw where a model comes from."""
    wanted = from_hex(digest)
    found, asked_of = asked(
        server,
        lambda session: queries.provenance(session, wanted, cursor=cursor, limit=GRAPHED_UPDATES),
        "final model of this digest",
        cursor,
    )
    ancestors = found.ancestors.entries
    newest = ancestors[0].round if ancestors and cursor is None else None
    return page(
        request,
        "model.html",
        **asked_of,
        model=digest,
        newest=newest,
        also=found.also_made_in,
        origin=found.origin,
        flags=found.flags,
        purposes=found.purposes,
        ancestors=ancestors,
        graph=lineage.draw(ancestors, asked_of["names"]),
        cursor=found.ancestors.cursor,
        query={"cursor": cursor},
    )


@router.get("/findings")
def findings(
    request: Request, server: Server, kind: Text = "", cursor: Cursor = None
) -> HTMLResponse:
    """Show what a person should look at."""
    wanted = Oddity(kind).value if kind in _ODDITIES else None
    (odd, disputed, overview_, rejected), asked_of = asked(
        server,
        lambda session: (
            queries.oddities(session, kind=wanted, cursor=cursor),
            queries.oddities(session, kind=Oddity.DISPUTED_PROPOSAL.value).entries.entries,
            queries.overview(session, days=1),
            queries.verdicts(session, outcome=Outcome.REJECTED, limit=REJECTIONS).entries,
        ),
    )
    return page(
        request,
        "findings.html",
        **asked_of,
        oddities=odd,
        disputes=disputed,
        kinds=sorted(_ODDITIES),
        reasons=[one for one in overview_.verdicts if one.outcome is not Outcome.ACCEPTED],
        rejected=rejected,
        query={"kind": wanted, "cursor": cursor},
    )


@router.get("/verify")
def verify(
    request: Request, server: Server, model: Text = "", commitment: Text = ""
) -> HTMLResponse:
    """Lend a place where the browser itself verifies a model."""
    wanted = to_hex(from_hex(model)) if model else ""
    root = to_hex(from_hex(commitment, "commitment")) if commitment else ""
    newest, asked_of = asked(
        server,
        lambda session: queries.rounds(session, phase=Phase.FINAL, limit=20).entries,
    )
    return page(request, "verify.html", **asked_of, model=wanted, commitment=root, finals=newest)


@router.get("/sign-in")
def sign_in(
    request: Request, following: Annotated[str, Query(alias="next", max_length=2048)] = "/"
) -> HTMLResponse:
    """Lend a place to sign in with a wallet, and lead back to where the reader came from."""
    # Nothing but a path of this server: no other site may be led to from here.
    back = following if _LOCAL_PATH.fullmatch(following) else "/"
    return page(request, "sign_in.html", is_private=True, next=back)


def _counts(entry: RoundEntry) -> Sequence[tuple[str, int]]:
    return (
        ("accepted", entry.accepted),
        ("clipped", entry.clipped),
        ("rejected", entry.rejected),
    )


def _claims(server: Backend) -> tuple[tuple[Claim, ...], str]:
    path = server.settings.explorer_metrics
    try:
        return (read_claims(path) if path else ()), ""
    except InvalidInputError as error:
        return (), str(error)
