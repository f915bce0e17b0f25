"""Where a model comes from, and what became of everything that the ledger holds.

Answered from the SQL index, with the block of the chain that the answer is as of. Whoever does
not trust the index replays the chain: that is what `audit` is for.
"""

from collections.abc import Callable
from typing import Annotated, Any

from fastapi import APIRouter, Path, Query

from aggregator import queries
from api import examples
from api.auth import Party, admits
from api.backend import Backend, Server
from api.problems import Problem, found_in_index
from api.rounds import Cursor, Limit, Number, shown
from api.schemas import ADDRESS, DIGEST, Json, member_of
from chain.addresses import read_address
from chain.types import Outcome, Reason, Role
from chain.wire import from_hex

router = APIRouter(prefix="/v1", tags=["Provenance"])

AUDITORS = (Role.AUDITOR, Role.STEWARD)


@router.get(
    "/provenance/models/{digest}",
    summary="Trace a model back to its data",
    dependencies=[admits(*AUDITORS)],
    responses=examples.shown(examples.provenance()),
)
def model_provenance(
    digest: Annotated[str, Path(examples=[DIGEST], description="SHA-256 of its tensors")],
    server: Server,
    cursor: Cursor = None,
    limit: Limit = 50,
) -> Json:
    """Tell the rounds that a final model descends from, its own first, with the updates in each.

    `limit` counts the updates that were kept; a page holds whole rounds, and at least one.
    `origin` is the model at the beginning, which no round made.
    """
    model = from_hex(digest)
    return answered(
        server,
        "final model of this digest",
        lambda s: queries.provenance(s, model, cursor=cursor, limit=limit),
        cursor,
    )


@router.get(
    "/datasets/{dataset}/history",
    summary="Tell a data set's history",
    dependencies=[admits(*AUDITORS)],
    responses=examples.shown(examples.dataset_history()),
)
def dataset_history(
    dataset: Annotated[str, Path(examples=[DIGEST], description="Of a data set or a version")],
    server: Server,
    cursor: Cursor = None,
    limit: Limit = 50,
) -> Json:
    """List a data set's versions and, newest first, the updates trained on any of them."""
    identifier = from_hex(dataset)
    return answered(
        server,
        "data set of this identifier",
        lambda s: queries.dataset_history(s, identifier, cursor=cursor, limit=limit),
        cursor,
    )


@router.get(
    "/hospitals/{address}/history",
    summary="Tell a hospital's history",
    responses=examples.shown(examples.hospital_history()),
)
def hospital_history(
    address: Annotated[str, Path(examples=[ADDRESS], description="EIP-55")],
    server: Server,
    party: Annotated[Party, admits(*AUDITORS, Role.HOSPITAL)],
    cursor: Cursor = None,
    limit: Limit = 50,
) -> Json:
    """List a hospital's data and, newest first, its updates with their verdicts.

    A hospital sees its own.
    """
    hospital = own_history(party, read_address(address))
    return answered(
        server,
        "party of this address",
        lambda s: queries.hospital_history(s, hospital, cursor=cursor, limit=limit),
        cursor,
    )


@router.get(
    "/rounds/{number}/history",
    summary="Tell a round's history",
    dependencies=[admits(*AUDITORS)],
    responses=examples.shown(examples.round_history()),
)
def round_history(number: Number, server: Server) -> Json:
    """Tell a round's records, proposals, verdicts and what each witness said."""
    return answered(server, f"round {number}", lambda s: queries.round_history(s, number))


@router.get(
    "/verdicts",
    summary="Search the verdicts",
    dependencies=[admits(*AUDITORS)],
    responses=examples.shown(examples.verdicts()),
)
def verdicts(
    server: Server,
    round: Annotated[int | None, Query(ge=1, lt=2**53)] = None,  # noqa: A002 - the wire's word
    hospital: Annotated[str | None, Query(description="EIP-55")] = None,
    outcome: Annotated[str | None, Query(examples=["REJECTED"])] = None,
    reason: Annotated[str | None, Query(examples=["NOT_A_NUMBER"])] = None,
    task: Annotated[str | None, Query(max_length=64, examples=["lesion"])] = None,
    cursor: Cursor = None,
    limit: Limit = 50,
) -> Json:
    """List the verdicts of each round's newest proposal, newest rounds first, with filters."""
    wanted: dict[str, Any] = {
        "round_number": round,
        "hospital": None if hospital is None else read_address(hospital, "hospital"),
        "outcome": None if outcome is None else member_of(Outcome, outcome),
        "reason": None if reason is None else member_of(Reason, reason),
        "task": task,
    }
    found, block = server.index.ask(
        lambda session: queries.verdicts(session, **wanted, cursor=cursor, limit=limit)
    )
    return shown(found, block)


@router.get(
    "/reputation",
    summary="Tell the standing of a task's hospitals",
    responses=examples.shown(examples.standings()),
)
def standings(
    server: Server,
    party: Annotated[Party, admits(*AUDITORS, Role.HOSPITAL)],
    task: Annotated[str, Query(min_length=1, max_length=64, examples=["lesion"])],
) -> Json:
    """Count what became of each hospital's updates in final rounds, and tell who is quarantined.

    By the policy of the task's latest round, null where it has none. `strikes` are in millionths.
    A hospital sees its own standing.
    """
    return answered(
        server,
        "round of this task",
        lambda s: queries.standings(s, task, hospital=party.only_about),
    )


def own_history(party: Party, hospital: str) -> str:
    """Return the hospital whose history a party may see.

    Raises:
        Problem: If the party is another hospital and nothing else.
    """
    if party.sees_only_its_own and party.address != hospital:
        raise Problem(
            403, "not-your-history", "The history is another hospital's", "Ask for your own."
        )
    return hospital


def answered(
    server: Backend, what: str, question: Callable[[Any], object], cursor: str | None = None
) -> Json:
    """Ask the index for something that may not be there.

    Raises:
        Problem: If it is not.
    """
    with found_in_index(what, cursor):
        found, block = server.index.ask(question)
    return shown(found, block)
