"""What a researcher may see, by whom and until when (docs/protocol.md, section 11)."""

from typing import Annotated

from fastapi import APIRouter

from api import examples
from api.auth import Party, admits
from api.backend import Server
from api.schemas import Json
from chain.types import Role
from chain.wire import to_hex, to_json_dict

router = APIRouter(prefix="/v1/grants", tags=["Grants"])


@router.get(
    "/mine",
    summary="Ask what I may see",
    responses=examples.shown({"block": examples.BLOCK, "grants": [to_json_dict(examples.GRANT)]}),
)
def mine(server: Server, party: Annotated[Party, admits(Role.RESEARCHER)]) -> Json:
    """List the researcher's grants as the chain has them, with the block of the answer.

    `live` tells whether a grant holds now; one that is revoked, expired or cut off by a
    suspension or withdrawal stays in the list.
    """
    answer = server.ledger.grants_of(party.address)
    return {
        "block": {
            "number": answer.block.number,
            "hash": to_hex(answer.block.hash),
            "timestamp": answer.block.timestamp,
        },
        "grants": [to_json_dict(grant) for grant in answer.grants],
    }
