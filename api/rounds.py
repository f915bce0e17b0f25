"""Rounds and what became of an update in them: lists from the index, all else from the chain."""

from typing import Annotated

from fastapi import APIRouter, Path, Query

from aggregator import queries
from aggregator.index import IndexedBlock
from api import examples
from api.auth import Party, admits
from api.backend import Server
from api.problems import Problem, not_found
from api.schemas import ADDRESS, Json, member_of
from chain.addresses import read_address
from chain.reader import LedgerReader
from chain.types import Phase, RecordedUpdate, Role, Round
from chain.wire import to_hex, to_json_dict

router = APIRouter(prefix="/v1", tags=["Rounds"])

ANYBODY = tuple(Role)

Number = Annotated[int, Path(ge=1, lt=2**53, examples=[3], description="The round's number")]
Cursor = Annotated[
    str | None,
    Query(max_length=queries.MAX_CURSOR, description="`cursor` of the page before"),
]
Limit = Annotated[int, Query(ge=1, le=queries.MAX_PAGE, description="Entries of a page")]


@router.get(
    "/rounds",
    summary="List rounds, newest first",
    dependencies=[admits(*ANYBODY)],
    responses=examples.shown(examples.rounds()),
)
def list_rounds(
    server: Server,
    task: Annotated[str | None, Query(max_length=64, examples=["lesion"])] = None,
    phase: Annotated[str | None, Query(examples=["FINAL"])] = None,
    cursor: Cursor = None,
    limit: Limit = 50,
) -> Json:
    """List rounds of all tasks or one, in any phase or one, from the index of the chain."""
    wanted = None if phase is None else member_of(Phase, phase)
    found, block = server.index.ask(
        lambda session: queries.rounds(session, task=task, phase=wanted, cursor=cursor, limit=limit)
    )
    return shown(found, block)


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
    if party.sees_only_its_own and party.address != hospital:
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


def shown(found: object, block: IndexedBlock) -> Json:
    """Return an answer of the index with the block that it is as of."""
    return {
        "as_of": {"number": block.number, "hash": to_hex(block.hash)},
        **to_json_dict(found),
    }
