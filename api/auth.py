"""Who is asking, and what the chain lets them do now (docs/protocol.md, section 2).

Nothing is open by default: each route declares the roles that it admits, or that it is public,
and the application does not start with a route that declares neither.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Annotated, Any

from fastapi import APIRouter, Depends, FastAPI, Request, Response
from fastapi.dependencies.models import Dependant
from fastapi.routing import APIRoute
from fastapi.security import HTTPAuthorizationCredentials, HTTPBearer

from api.backend import Backend, Server
from api.problems import Problem, unauthenticated
from api.schemas import (
    NonceAnswer,
    NonceRequest,
    SessionAnswer,
    SessionRequest,
    read_signature,
)
from api.sign_in import SignInMessage, check_message, check_signature, parse_message
from chain.addresses import read_address
from chain.errors import VerificationError
from chain.types import Role

router = APIRouter(prefix="/v1/auth", tags=["Sign-in"])

_bearer = HTTPBearer(
    auto_error=False,
    scheme_name="session",
    description="The token of `POST /v1/auth/session`.",
)
_Credentials = Annotated[HTTPAuthorizationCredentials | None, Depends(_bearer)]


@dataclass(frozen=True, slots=True)
class Party:
    """A signed-in party.

    Attributes:
        address: Who it is.
        roles: Those of the roles that the route admits which it holds at this moment.
    """

    address: str
    roles: frozenset[Role]


class Admission:
    """A dependency that lets only parties of certain roles pass.

    Args:
        roles: Any one of them is enough.
    """

    def __init__(self, roles: frozenset[Role]) -> None:
        self.roles = roles

    def __call__(self, server: Server, credentials: _Credentials) -> Party:
        """Return who is asking.

        Raises:
            Problem: If nobody is signed in, or the party holds none of the roles.
        """
        token = credentials.credentials if credentials else ""
        address = server.sessions.owner(token)
        if address is None:
            raise unauthenticated(
                "The session is unknown or over. Ask for a nonce, sign it and begin a session."
            )
        held = {role for role in self.roles if server.ledger.is_active(address, role)}
        if held:
            return Party(address, frozenset(held))
        try:
            roles = current_roles(server, address)
        except Problem:
            # The session dies with the role, and does not come back to life with it.
            server.sessions.end(token)
            raise
        raise _wrong_role(self.roles, roles)


def admits(*roles: Role) -> Any:
    """Declare, as a parameter's default or in `dependencies`, which roles a route admits."""
    return Depends(Admission(frozenset(roles)))


def public() -> None:
    """Declare that anybody may use a route."""


def current_roles(server: Backend, address: str) -> frozenset[Role]:
    """Read a party's roles from the chain.

    Raises:
        Problem: If it has none, or is suspended.
        LedgerError: If the chain cannot be reached.
    """
    participant = server.ledger.participant(address)
    if participant is None or not participant.roles:
        raise Problem(
            403,
            "not-enrolled",
            "The federation does not know this address",
            "Ask a steward of the federation to enrol it.",
        )
    if participant.suspended:
        raise Problem(
            403,
            "suspended",
            "The party is suspended",
            "Ask a steward of the federation to reinstate it.",
        )
    return participant.roles


def require_declared_roles(app: FastAPI) -> None:
    """Refuse to start with a route that does not say whom it admits.

    Raises:
        RuntimeError: Naming the route.
    """
    for route in app.routes:
        if isinstance(route, APIRoute) and not _declares(route.dependant):
            raise RuntimeError(f"{route.path} does not declare whom it admits")


def _declares(dependant: Dependant) -> bool:
    return any(
        isinstance(inner.call, Admission) or inner.call is public
        for inner in dependant.dependencies
    )


def _limited(server: Server, request: Request) -> None:
    """Let a client ask to sign in only so often."""
    if not server.sign_ins.admits(_client(request)):
        raise _too_many("Too many sign-ins from this address; wait a minute.")


def _client(request: Request) -> str:
    return request.client.host if request.client else ""


SignIn: list[Callable[..., object]] = [public, _limited]


@router.post(
    "/nonce",
    summary="Ask for a nonce to sign",
    dependencies=[Depends(call) for call in SignIn],
)
def issue_nonce(body: NonceRequest, server: Server, request: Request) -> NonceAnswer:
    """Give out what the sign-in message must contain. The nonce works once, for five minutes."""
    issued = server.nonces.issue(_nonce_owner(read_address(body.address), request))
    if issued is None:
        raise _too_many("Too many parties are signing in at this moment; wait a minute.")
    nonce, expires = issued
    return NonceAnswer(
        nonce=nonce,
        domain=server.settings.domain,
        uri=server.settings.uri,
        chain_id=server.ledger.chain_id,
        expires=expires,
    )


@router.post(
    "/session",
    status_code=201,
    summary="Sign in with Ethereum",
    dependencies=[Depends(call) for call in SignIn],
)
def begin_session(body: SessionRequest, server: Server, request: Request) -> SessionAnswer:
    """Begin a session of 15 minutes with a signed message of EIP-4361.

    The address must be enrolled and not suspended. Any attempt uses the nonce up.
    """
    message = parse_message(body.message)
    _check_sign_in(server, request, message, read_signature(body.signature))
    current_roles(server, message.address)
    begun = server.sessions.issue(message.address)
    if begun is None:
        raise _too_many("Too many parties are signed in at this moment; try again later.")
    token, expires = begun
    return SessionAnswer(token=token, expires=expires)


@router.delete(
    "/session",
    status_code=204,
    summary="Sign out",
    response_class=Response,
    dependencies=[Depends(public)],
)
def end_session(server: Server, credentials: _Credentials) -> None:
    """End the session whose token is sent."""
    if credentials is None or server.sessions.end(credentials.credentials) is None:
        raise unauthenticated("There is no such session; it may be over already.")


def _check_sign_in(
    server: Backend, request: Request, message: SignInMessage, signature: bytes
) -> None:
    owner = server.nonces.end(message.nonce)
    if owner != _nonce_owner(message.address, request):
        raise unauthenticated(
            "The nonce is unknown, used, past its five minutes or was given to another party."
        )
    try:
        check_message(
            message,
            domain=server.settings.domain,
            uri=server.settings.uri,
            chain_id=server.ledger.chain_id,
            now=server.clock(),
        )
        check_signature(message, signature)
    except VerificationError as error:
        raise unauthenticated(f"{error}. Ask for a new nonce and sign again.") from error


def _nonce_owner(address: str, request: Request) -> str:
    return f"{address} {_client(request)}"


def _too_many(detail: str) -> Problem:
    return Problem(
        429, "too-many-sign-ins", "Too many sign-ins", detail, headers={"Retry-After": "60"}
    )


def _wrong_role(needed: frozenset[Role], held: frozenset[Role]) -> Problem:
    return Problem(
        403,
        "role-not-admitted",
        "Your role does not admit you here",
        f"Expected one of {_names(needed)}, found {_names(held)}.",
    )


def _names(roles: frozenset[Role]) -> str:
    return ", ".join(sorted(role.value for role in roles))
