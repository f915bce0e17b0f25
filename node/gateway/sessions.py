"""Who is asking: sign-in at the gateway by EIP-4361, in the form that the REST server has.

See docs/protocol.md, section 2. A session says who somebody is and nothing of what they may see:
that is asked of the chain at each request.
"""

import re
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from hmac import compare_digest
from typing import Any, Protocol
from urllib.parse import urlsplit

from chain.addresses import read_address
from chain.canonical import parse_json
from chain.errors import InvalidInputError, VerificationError
from chain.sessions import RateLimit, new_nonces, new_sessions
from chain.sign_in import check_message, check_signature, parse_message
from chain.types import Role

MAX_BODY = 8_192  # bytes
PER_MINUTE = 60  # sign-in requests of one client
_SIGNATURE = re.compile(r"0x[0-9a-f]{130}")
_BEARER = re.compile(r"Bearer ([0-9a-f]{64})", re.IGNORECASE)


class SignInError(Exception):
    """The sign-in is refused; `status` says how, the message why."""

    def __init__(self, status: int, told: str) -> None:
        self.status = status
        super().__init__(told)


class Roles(Protocol):
    """The part of `chain.reader.LedgerReader` that signing in needs."""

    @property
    def chain_id(self) -> int:
        """The chain's number (EIP-155)."""

    def is_active(self, address: str, role: Role) -> bool:
        """Tell whether a party holds a role now."""


@dataclass(frozen=True, slots=True)
class Place:
    """Where the gateway is, as those who sign in call it.

    Attributes:
        uri: Its URL.
    """

    uri: str

    @property
    def domain(self) -> str:
        """Its authority, which sign-in messages are for."""
        return urlsplit(self.uri).netloc


class Sessions:
    """The nonces and sessions of one gateway; a restart signs everybody out.

    Args:
        place: Where it is.
        ledger: The chain.
        clock: Unix seconds.
    """

    def __init__(self, place: Place, ledger: Roles, clock: Callable[[], float] = time.time) -> None:
        self._place = place
        self._ledger = ledger
        self._clock = clock
        self._nonces = new_nonces(clock)
        self._sessions = new_sessions(clock)
        self._limit = RateLimit(PER_MINUTE, clock)

    def nonce(self, body: bytes, client: str) -> dict[str, Any]:
        """Give out what the sign-in message must contain.

        Raises:
            SignInError: If the request is malformed or there are too many.
        """
        told = self._read(body, {"address"}, client)
        try:
            address = read_address(told["address"])
        except InvalidInputError as error:
            raise SignInError(400, str(error)) from error
        issued = self._nonces.issue(f"{address} {client}")
        if issued is None:
            raise SignInError(429, "too many parties are signing in; wait a minute")
        nonce, expires = issued
        return {
            "nonce": nonce,
            "domain": self._place.domain,
            "uri": self._place.uri,
            "chain_id": self._ledger.chain_id,
            "expires": expires,
        }

    def begin(self, body: bytes, client: str) -> dict[str, Any]:
        """Begin a session with a signed message; any attempt uses its nonce up.

        Raises:
            SignInError: If it is refused.
            LedgerError: If the chain cannot be reached.
        """
        told = self._read(body, {"message", "signature"}, client)
        text, signature = told["message"], told["signature"]
        if not isinstance(text, str) or not isinstance(signature, str):
            raise SignInError(400, "expected a message and its signature, both as text")
        if _SIGNATURE.fullmatch(signature) is None:
            raise SignInError(400, "expected a signature of 0x and 130 hexadecimal digits")
        try:
            message = parse_message(text)
        except InvalidInputError as error:
            raise SignInError(400, str(error)) from error
        owner = self._nonces.end(message.nonce)
        if owner is None or not compare_digest(owner, f"{message.address} {client}"):
            raise SignInError(401, "the nonce is unknown, used or over; ask for a new one")
        try:
            check_message(
                message,
                domain=self._place.domain,
                uri=self._place.uri,
                chain_id=self._ledger.chain_id,
                now=self._clock(),
            )
            check_signature(message, bytes.fromhex(signature[2:]))
        except VerificationError as error:
            raise SignInError(401, str(error)) from error
        if not self._ledger.is_active(message.address, Role.RESEARCHER):
            raise SignInError(403, "the federation has no active researcher of this address")
        begun = self._sessions.issue(message.address)
        if begun is None:
            raise SignInError(429, "too many parties are signed in; try again later")
        return {"token": begun[0], "expires": begun[1]}

    def owner(self, authorization: str) -> str | None:
        """Return whom a request's `Authorization` header names, None where it names nobody."""
        found = _BEARER.fullmatch(authorization)
        return None if found is None else self._sessions.owner(found[1].lower())

    def end(self, authorization: str) -> None:
        """End a session."""
        if found := _BEARER.fullmatch(authorization):
            self._sessions.end(found[1].lower())

    def _read(self, body: bytes, names: set[str], client: str) -> Mapping[str, Any]:
        if not self._limit.admits(client):
            raise SignInError(429, "too many sign-ins from this address; wait a minute")
        try:
            told = parse_json(body, MAX_BODY)
        except InvalidInputError as error:
            raise SignInError(400, str(error)) from error
        if not isinstance(told, dict) or told.keys() != names:
            raise SignInError(400, f"expected an object with the members {sorted(names)}")
        return told
