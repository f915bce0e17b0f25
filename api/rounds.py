"""Rounds and what became of an update in them, answered from the chain."""

from itertools import islice
from typing import Annotated, Literal

from fastapi import APIRouter, Path, Query

from api import examples
from api.auth import Party, admits
from api.backend import Server
from api.problems import Problem, not_found
from api.schemas import ADDRESS, Json
from chain.ledger import LedgerReader
from chain.types import Phase, RecordedUpdate, Role, Round
from chain.wire import read_address, to_hex, to_json_dict

router = APIRouter(prefix="/v1", tags=["Rounds"])

PAGE = 100
ANYBODY = tuple(Role)

Number = Annotated[int, Path(ge=1, lt=2**53, examples=[3], description="The round's number")]
PhaseName = Literal["OPEN", "COLLECTING", "PROPOSED", "FINAL", "ABORTED"]


@router.get(
    "/rounds",
    summary="List rounds, newest first",
    dependencies=[admits(*ANYBODY)],
    responses=examples.shown({"rounds": [to_json_dict(examples.ROUND)], "next": None}),
)
def list_rounds(
    server: Server,
    task: Annotated[str | None, Query(max_length=64, examples=["lesion"])] = None,
    phase: Annotated[PhaseName | None, Query(examples=["FINAL"])] = None,
    cursor: Annotated[
        int | None, Query(ge=1, lt=2**53, description="`next` of the page before")
    ] = None,
    limit: Annotated[int, Query(ge=1, le=PAGE)] = 20,
) -> Json:
    """List rounds of all tasks or one, in any phase or one.

    One request looks at no more than 100 rounds: with a filter a page can be short, even empty,
    and there is more as long as `next` is not null.
    """
    numbers = _numbers(server.ledger, task, cursor)
    looked_at = [server.ledger.round(number) for number in numbers[:PAGE]]
    matching = (found for found in looked_at if phase is None or found.phase.name == phase)
    page = list(islice(matching, limit))
    last = page[-1].number if len(page) == limit else looked_at[-1].number if looked_at else None
    return {
        "rounds": [to_json_dict(found) for found in page],
        "next": last if last is not None and last > min(numbers) else None,
    }


def _numbers(ledger: LedgerReader, task: str | None, cursor: int | None) -> list[int]:
    """Return the numbers of rounds below the cursor, newest first."""
    if task is None:
        newest = ledger.round_count()
        return list(range(min(newest, (cursor or newest + 1) - 1), 0, -1))
    found = ledger.task_rounds(task)
    return sorted((number for number in found if cursor is None or number < cursor), reverse=True)


@router.get(
    "/tasks/{task}/round",
    summary="Ask for a task's round that is under way",
    dependencies=[admits(*ANYBODY)],
    responses=examples.shown(examples.round_answer()),
)
def active_round(
    task: Annotated[str, Path(min_length=1, max_length=64, examples=["lesion"])], server: Server
) -> Json:
    """Tell all that a hospital needs to take part: terms, deadline, and the keys to seal to."""
    found = server.ledger.active_round(task)
    if found is None:
        raise Problem(
            404,
            "no-active-round",
            "The task has no round under way",
            "Ask again later: an aggregator opens the next one.",
        )
    return _answer(server.ledger, found)


@router.get(
    "/rounds/{number}",
    summary="Look a round up",
    dependencies=[admits(*ANYBODY)],
    responses=examples.shown(examples.round_answer()),
)
def one_round(number: Number, server: Server) -> Json:
    """Tell a round's terms, where it stands, and the keys that its envelopes are sealed to."""
    return _answer(server.ledger, server.ledger.round(number))


@router.get(
    "/rounds/{number}/updates/{hospital}",
    summary="Ask what became of an update",
    responses=examples.shown(
        {
            "record": to_json_dict(examples.RECORD),
            "record_digest": to_hex(b"\x4b" * 32),
            "position": to_json_dict(examples.ROUND.opened_at),
            "verdict": to_json_dict(examples.VERDICT),
            "round": {
                "phase": "FINAL",
                "proposal": 1,
                "attestations": 2,
                "quorum": 2,
                "disputed": False,
            },
        }
    ),
)
def one_update(
    number: Number,
    hospital: Annotated[str, Path(examples=[ADDRESS], description="EIP-55")],
    server: Server,
    party: Annotated[
        Party, admits(Role.HOSPITAL, Role.AGGREGATOR, Role.WITNESS, Role.AUDITOR, Role.STEWARD)
    ],
) -> Json:
    """Tell an update's record, the newest proposal's verdict on it, and how far that is attested.

    The verdict is null as long as nothing is proposed. A hospital sees its own updates.
    """
    read_address(hospital)
    if party.roles == {Role.HOSPITAL} and party.address != hospital:
        raise Problem(
            403, "not-your-update", "The update is another hospital's", "Ask for your own."
        )
    found = server.ledger.round(number)
    recorded = _recorded(server.ledger, number, hospital)
    return {
        "record": to_json_dict(recorded.record),
        "record_digest": to_hex(recorded.record_digest),
        "position": to_json_dict(recorded.position),
        "verdict": _verdict(server.ledger, found, hospital),
        "round": {
            "phase": found.phase.name,
            "proposal": found.proposal.number if found.proposal else None,
            "attestations": found.attestations,
            "quorum": found.terms.quorum,
            "disputed": found.disputed,
        },
    }


def _recorded(ledger: LedgerReader, number: int, hospital: str) -> RecordedUpdate:
    for recorded in ledger.records(number):
        if recorded.record.hospital == hospital:
            return recorded
    raise not_found(f"update of {hospital} in round {number}")


def _verdict(ledger: LedgerReader, found: Round, hospital: str) -> Json | None:
    if found.proposal is None or found.phase < Phase.PROPOSED:
        return None
    verdicts = ledger.verdicts(found.number, found.proposal.number)
    mine = (verdict for verdict in verdicts if verdict.hospital == hospital)
    return next(map(to_json_dict, mine), None)


def _answer(ledger: LedgerReader, found: Round) -> Json:
    return {
        "chain_id": ledger.chain_id,
        "ledger": ledger.address,
        "round": to_json_dict(found),
        "recipients": [to_hex(key) for key in ledger.recipients(found.number)],
    }
