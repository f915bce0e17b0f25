"""How the server says no: RFC 9457 problem details, for every error without exception.

Rooms below know nothing of HTTP. Here, and nowhere else, their errors become status codes.
"""

import logging
import secrets
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from fastapi import FastAPI, Request, Response
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from starlette.exceptions import HTTPException

from chain.errors import (
    BlobUnavailableError,
    ContractRevertedError,
    FedWitnessError,
    IndexDatabaseError,
    InvalidInputError,
    LedgerError,
    PhaseError,
    UnknownRoundError,
    VerificationError,
)

log = logging.getLogger("fedwitness.api")

MEDIA_TYPE = "application/problem+json"
RETRY_SECONDS = "5"

_ADVICE = {
    "RoundLedgerLateRecord": "The round's deadline is past; take part in the task's next round.",
    "RoundLedgerRoundFull": "The round has all its updates; take part in the task's next round.",
    "RoundLedgerUnexpectedPhase": "The round takes no records now; ask for the task's open round.",
    "RoundLedgerDuplicateRecord": "The hospital's record in this round stands; nothing is to do.",
    "RoundLedgerBaseModelMismatch": "Train from the round's base model and sign a new record.",
    "RoundLedgerBadSignature": "Sign this very record with the key of the hospital it names.",
    "RoundLedgerExamplesOutOfRange": "State no more examples than the versions have images.",
    "ParticipantRegistrySuspended": "Ask a steward of the federation to reinstate the party.",
}


class Problem(HTTPException):
    """A refusal as RFC 9457 has it.

    Args:
        status: HTTP status code.
        slug: The problem's type, a relative URI reference.
        title: What is wrong, the same for each problem of the type.
        detail: What was found this time, and what to do.
        headers: Further response headers.
        **members: Extension members.
    """

    def __init__(
        self,
        status: int,
        slug: str,
        title: str,
        detail: str,
        *,
        headers: Mapping[str, str] | None = None,
        **members: object,
    ) -> None:
        super().__init__(status, detail, headers)
        self.slug = slug
        self.title = title
        self.members = members

    def to_dict(self) -> dict[str, object]:
        """Return the problem as JSON has it."""
        return {
            "type": self.slug,
            "title": self.title,
            "status": self.status_code,
            "detail": self.detail,
            **self.members,
        }

    def response(self) -> JSONResponse:
        """Return the problem as an answer."""
        return JSONResponse(
            self.to_dict(), self.status_code, headers=self.headers, media_type=MEDIA_TYPE
        )


def problem_of(error: FedWitnessError) -> Problem:
    """Return the problem that an error of the rooms below is to a client."""
    match error:
        case ContractRevertedError():
            return Problem(
                409,
                "refused-by-contract",
                "The ledger's contracts refuse this",
                f"{error}. {_ADVICE.get(error.name, 'Mend the record and sign it again.')}",
                contract_error={"name": error.name, "args": error.arguments},
            )
        case UnknownRoundError():
            return Problem(404, "unknown-round", "There is no such round", str(error))
        case PhaseError():
            return Problem(409, "wrong-phase", "The round is in another phase", str(error))
        case LedgerError():
            log.warning("the chain cannot be reached: %s", error)
            return Problem(
                503,
                "chain-unreachable",
                "The chain cannot be reached",
                "The server's Ethereum node does not answer; nothing was changed. Try again later.",
                headers={"Retry-After": RETRY_SECONDS},
            )
        case BlobUnavailableError():
            return Problem(
                503,
                "blob-unavailable",
                "The blob cannot be had now",
                "The server's IPFS node does not answer or cannot find the blob; what was uploaded "
                "is kept. Try again later.",
                headers={"Retry-After": RETRY_SECONDS},
            )
        case IndexDatabaseError():
            log.error("the index cannot be used: %s", error)
            return Problem(
                503,
                "index-unavailable",
                "The index cannot be read",
                "The chain has the same answers; the server's log tells what its operator must do.",
                headers={"Retry-After": RETRY_SECONDS},
            )
        case InvalidInputError():
            return malformed(str(error))
        case VerificationError():
            return Problem(
                502, "verification-failed", "What is stored is not what was named", str(error)
            )
        case _:
            return incident(error)


def malformed(detail: str, errors: list[dict[str, str]] | None = None) -> Problem:
    """Return the problem of a request that cannot be read."""
    members: dict[str, Any] = {} if errors is None else {"errors": errors}
    return Problem(422, "malformed-request", "The request is malformed", detail, **members)


def unauthenticated(detail: str) -> Problem:
    """Return the problem of a request without a good session."""
    return Problem(
        401,
        "sign-in-needed",
        "Sign in first",
        detail,
        headers={"WWW-Authenticate": "Bearer"},
    )


def not_found(what: str) -> Problem:
    """Return the problem of a thing that there is not, or not for this party."""
    return Problem(404, "not-found", "There is no such thing", f"There is no {what}.")


@contextmanager
def found_in_index(what: str | None, cursor: str | None = None) -> Iterator[None]:
    """Refuse with "not found" where the index does not have what it is asked for.

    Args:
        what: What there may be none of; None where there always is an answer.
        cursor: What was asked for with; where there is one, it may be that which is malformed.

    Raises:
        Problem: If there is no such thing.
    """
    try:
        yield
    except InvalidInputError:
        if what is None or cursor is not None:
            raise
        raise not_found(f"{what} in the index") from None


def spool_full() -> Problem:
    """Return the problem of a server without room for an upload."""
    return Problem(
        507,
        "spool-full",
        "The server has no room for this upload",
        "Nothing was changed; what had arrived before is kept. Try again later, or ask the "
        "server's operator to free disk space.",
        headers={"Retry-After": "60", "Connection": "close"},
    )


def too_large(detail: str) -> Problem:
    """Return the problem of a body that is larger than it may be."""
    # The rest of the body is not read: the connection must end with the answer.
    return Problem(
        413, "body-too-large", "The body is too large", detail, headers={"Connection": "close"}
    )


def too_slow() -> Problem:
    """Return the problem of a body that does not arrive."""
    return Problem(
        408,
        "body-too-slow",
        "The body arrives too slowly",
        "Of an upload, what arrived is kept: ask for its offset with HEAD and go on from there.",
        headers={"Connection": "close"},
    )


def incident(error: BaseException) -> Problem:
    """Log an error that nobody foresaw, and return the problem that names the log entry."""
    number = secrets.token_hex(8)
    log.error("incident %s", number, exc_info=error)
    return Problem(
        500,
        "internal-error",
        "The server failed",
        f"Tell the server's operator the incident number {number}; its log has the cause.",
        incident=number,
    )


def install(app: FastAPI, as_page: Callable[[Request, Problem], Response | None]) -> None:
    """Make every error of the application a problem.

    Args:
        app: The application.
        as_page: Renders a problem for those who read pages, and returns None for all others.
    """

    def answer(request: Request, error: Exception) -> Response:
        problem = _problem_of_any(error)
        return as_page(request, problem) or problem.response()

    for kind in (HTTPException, RequestValidationError, FedWitnessError):
        app.add_exception_handler(kind, answer)


def _problem_of_any(error: Exception) -> Problem:
    match error:
        case Problem():
            return error
        case HTTPException():
            return _problem_of_http(error)
        case RequestValidationError():
            return _problem_of_request(error)
        case FedWitnessError():
            return problem_of(error)
        case _:
            raise error


def _problem_of_http(error: HTTPException) -> Problem:
    if error.status_code == 400:  # noqa: PLR2004 - FastAPI's word for a body that it cannot read
        return malformed("The body is not JSON of the documented form.")
    known = {
        404: ("not-found", "There is no such thing", "There is nothing at this address."),
        405: ("method-not-allowed", "The method does not apply", "See the Allow header."),
    }
    slug, title, detail = known.get(
        error.status_code, ("refused", "The request is refused", str(error.detail))
    )
    return Problem(error.status_code, slug, title, detail, headers=error.headers)


def _problem_of_request(error: RequestValidationError) -> Problem:
    # What was sent is not repeated: it may be large, hostile or secret.
    errors = [
        {"where": ".".join(str(part) for part in found["loc"]), "message": found["msg"]}
        for found in error.errors()[:16]
    ]
    return malformed("The request does not have the documented form.", errors)
