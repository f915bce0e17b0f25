"""Who is asking, and what the chain lets them do now (docs/protocol.md, section 2).

Nothing is open by default: each route declares the roles that it admits, or that it is public,
and the application does not start with a route that declares neither.

A session's token comes back as a Bearer token, or, for the explorer's pages, in a cookie that no
script can read. A browser sends a cookie along unasked, so the cookie opens only what changes
nothing: GET and HEAD. The one exception is signing out.
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
from api.settings import Settings
from chain.addresses import read_address
from chain.errors import VerificationError
from chain.sessions import SESSION_SECONDS
from chain.sign_in import SignInMessage, check_message, check_signature, parse_message
from chain.types import Role

router = APIRouter(prefix="/v1/auth", tags=["Sign-in"])

_bearer = HTTPBearer(
    auto_error=False,
    scheme_name="session",
    description="The token of `POST /v1/auth/session`; for GET, its cookie does as well.",
)
_Credentials = Annotated[HTTPAuthorizationCredentials | None, Depends(_bearer)]

READING = frozenset({"GET", "HEAD"})


def cookie_name(settings: Settings) -> str:
    """Return the name of the session's cookie.

    Over https its prefix makes browsers insist on Secure, Path=/ and no Domain (RFC 6265bis,
    section 4.1.3.2), so that no neighbouring host can plant another session.
    """
    return "__Host-fedwitness" if _is_https(settings) else "fedwitness"


def session_token(
    server: Backend, request: Request, credentials: HTTPAuthorizationCredentials | None
) -> str:
    """Return the token that a request brings, empty where it brings none.

    A Bearer token counts alone, even a wrong one. The cookie counts where nothing is changed.
    """
    if credentials is not None:
        return credentials.credentials
    if request.method not in READING:
        return ""
    return request.cookies.get(cookie_name(server.settings), "")


@dataclass(frozen=True, slots=True)
class Party:
    """A signed-in party.

    Attributes:
        address: Who it is.
        roles: Those of the roles that the route admits which it holds at this moment.
    """

    address: str
    roles: frozenset[Role]

    @property
    def sees_only_its_own(self) -> bool:
        """Whether it is let in as a hospital and as nothing else."""
        return self.roles == {Role.HOSPITAL}

    @property
    def only_about(self) -> str | None:
        """The one hospital that it may ask about, itself; None where it may ask about any."""
        return self.address if self.sees_only_its_own else None


class Admission:
    """A dependency that lets only parties of certain roles pass.

    Args:
        roles: Any one of them is enough.
    """

    def __init__(self, roles: frozenset[Role]) -> None:
        self.roles = roles

    def __call__(self, server: Server, request: Request, credentials: _Credentials) -> Party:
        """Return who is asking.

        Raises:
            Problem: If nobody is signed in, or the party holds none of the roles.
        """
        token = session_token(server, request, credentials)
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
    if not server.sign_ins.admits(client(request)):
        raise _too_many("Too many sign-ins from this address; wait a minute.")


def client(request: Request) -> str:
    """Return the address that a request comes from, for limits that are each client's own."""
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
def begin_session(
    body: SessionRequest, server: Server, request: Request, response: Response
) -> SessionAnswer:
    """Begin a session of 15 minutes with a signed message of EIP-4361.

    The address must be enrolled and not suspended. Any attempt uses the nonce up. With `cookie`
    the token is set as a cookie for the explorer's pages, which opens GET requests only, and is
    not in the answer.
    """
    message = parse_message(body.message)
    _check_sign_in(server, request, message, read_signature(body.signature))
    current_roles(server, message.address)
    begun = server.sessions.issue(message.address)
    if begun is None:
        raise _too_many("Too many parties are signed in at this moment; try again later.")
    token, expires = begun
    if not body.cookie:
        return SessionAnswer(token=token, expires=expires)
    _set_cookie(server.settings, response, token, SESSION_SECONDS)
    return SessionAnswer(token=None, expires=expires)


@router.delete(
    "/session",
    status_code=204,
    summary="Sign out",
    response_class=Response,
    dependencies=[Depends(public)],
)
def end_session(
    server: Server, request: Request, response: Response, credentials: _Credentials
) -> None:
    """End the session whose token or cookie is sent."""
    if credentials is not None:
        token = credentials.credentials
    else:
        # The one change that the cookie is good for: a page cannot read it to send it otherwise.
        token = request.cookies.get(cookie_name(server.settings), "")
        _set_cookie(server.settings, response, "", 0)
    if server.sessions.end(token) is None:
        raise unauthenticated("There is no such session; it may be over already.")


def _set_cookie(settings: Settings, response: Response, token: str, seconds: int) -> None:
    response.set_cookie(
        cookie_name(settings),
        token,
        max_age=seconds,
        path="/",
        secure=_is_https(settings),
        httponly=True,
        samesite="strict",
    )


def _is_https(settings: Settings) -> bool:
    return settings.uri.lower().startswith("https:")


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
    return f"{address} {client(request)}"


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
