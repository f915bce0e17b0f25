"""The history of one image: from its registration to who looked at it (docs/protocol.md).

An image is known by its commitment alone. Auditors and stewards ask about any; a hospital about its
own, and those that it read or was asked to read.
"""

from typing import Annotated, Any

from fastapi import APIRouter, Path

from aggregator import queries
from aggregator.queries import ImageHistory
from api import examples
from api.auth import Party, admits
from api.backend import Server
from api.problems import Problem
from api.provenance import AUDITORS, answered
from api.rounds import Cursor, Limit
from api.schemas import DIGEST, Json
from chain.types import Role
from chain.wire import from_hex

router = APIRouter(prefix="/v1/images", tags=["Images"])

# Who asks about images and readings: about any, or a hospital about what concerns it.
Reader = Annotated[Party, admits(*AUDITORS, Role.HOSPITAL)]


@router.get(
    "/{commitment}/history",
    summary="Tell an image's history",
    responses=examples.shown(examples.image_history()),
)
def image_history(
    commitment: Annotated[str, Path(examples=[DIGEST], description="Of the image")],
    server: Server,
    party: Reader,
    cursor: Cursor = None,
    limit: Limit = 50,
) -> Json:
    """Tell what happened to an image, oldest first.

    Its versions, grants of it and of all of a version, readings with second opinions, corrections
    and comparisons, requests and their fates, its erasure, and looks as far as they were handed
    over: `logs` says what is missing of each hospital's access log. A hospital sees its own log
    alone.
    """
    image = from_hex(commitment, "commitment")
    own = party.only_about

    def question(session: Any) -> ImageHistory:
        require_own_image(session, image, own)
        return queries.image_history(
            session, image, now=int(server.clock()), log_of=own, cursor=cursor, limit=limit
        )

    return answered(server, "image of this commitment", question, cursor)


def require_own_image(session: Any, image: bytes | None, hospital: str | None) -> None:
    """Refuse a hospital what is about an image of others that it has nothing to do with.

    Args:
        session: Of the index.
        image: The commitment, None where nothing names an image.
        hospital: Who asks; None may ask about any.

    Raises:
        Problem: The same whether there is such an image or not.
    """
    if hospital is None:
        return
    if image is None or not queries.may_ask_about(session, image, hospital):
        raise Problem(
            403,
            "not-your-image",
            "The image is not yours, nor asked of you",
            "A hospital asks about its own images, and those that it read or was asked to read.",
        )
