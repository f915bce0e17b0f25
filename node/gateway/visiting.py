"""The researcher's side of a gateway: signing in, and asking for proofs."""

from typing import Any, Self
from urllib.parse import urlsplit

import httpx
from eth_account.messages import encode_defunct

from chain.canonical import parse_json
from chain.errors import ServerError, VerificationError
from chain.keystore import Identity
from chain.look_receipts import MAX_FILE, LookReceipt, from_json
from chain.sign_in import compose_message

SECONDS = 30.0
STATEMENT = "Sign in to look at images."
_NONCE = range(8, 65)  # characters


class Visit:
    """A researcher's session at a gateway.

    Args:
        url: The gateway's URL.
        identity: Who signs in.
        chain_id: The federation's chain.
        http: Another client, for tests.
    """

    def __init__(
        self, url: str, identity: Identity, chain_id: int, http: httpx.Client | None = None
    ) -> None:
        self._url = url.rstrip("/")
        self._identity = identity
        self._chain_id = chain_id
        self._http = http or httpx.Client(timeout=SECONDS, trust_env=False)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._http.close()

    def sign_in(self) -> tuple[str, int]:
        """Begin a session.

        Returns:
            The token, and when it ends in Unix seconds.

        Raises:
            ServerError: If the gateway refuses or cannot be reached.
            VerificationError: If it asks for a signature that is meant for somebody else.
        """
        asked = self._ask("POST", "/v1/auth/nonce", {"address": self._identity.address})
        domain, uri, nonce = (str(asked.get(name)) for name in ("domain", "uri", "nonce"))
        own = urlsplit(self._url).netloc
        # Signing what the gateway names would let it sign in elsewhere in the researcher's name.
        if domain != own or urlsplit(uri).netloc != own:
            raise VerificationError(f"expected to sign in at {own}, found {domain!r} and {uri!r}")
        if asked.get("chain_id") != self._chain_id:
            raise VerificationError(
                f"expected to sign in for chain {self._chain_id}, found {asked.get('chain_id')!r}"
            )
        if len(nonce) not in _NONCE or not (nonce.isascii() and nonce.isalnum()):
            raise VerificationError("expected a nonce of 8 to 64 letters and digits")
        if not uri.isascii() or any(sign.isspace() for sign in uri):
            raise VerificationError(f"expected a URL to sign in at, found {uri!r}")
        text = compose_message(
            domain=domain,
            address=self._identity.address,
            statement=STATEMENT,
            uri=uri,
            chain_id=self._chain_id,
            nonce=nonce,
        )
        signed = self._identity.account.sign_message(encode_defunct(text=text))
        body = {"message": text, "signature": f"0x{bytes(signed.signature).hex()}"}
        told = self._ask("POST", "/v1/auth/session", body)
        return str(told.get("token")), int(told.get("expires", 0))

    def proof(self, token: str, number: int) -> LookReceipt:
        """Ask for one's own look's receipt, and its proof if it is anchored; still to be verified.

        Raises:
            ServerError: If the gateway refuses or cannot be reached.
            InvalidInputError: If it answers with something else.
        """
        return from_json(self._raw("GET", f"/looks/{number}", None, token))

    def _ask(self, method: str, path: str, body: dict[str, str]) -> dict[str, Any]:
        told = parse_json(self._raw(method, path, body, None), MAX_FILE)
        if not isinstance(told, dict):
            raise ServerError("expected a JSON object, found something else")
        return told

    def _raw(self, method: str, path: str, body: dict[str, str] | None, token: str | None) -> bytes:
        headers = {} if token is None else {"Authorization": f"Bearer {token}"}
        raw = bytearray()
        try:
            with self._http.stream(
                method, f"{self._url}{path}", json=body, headers=headers
            ) as answer:
                for piece in answer.iter_bytes():
                    raw += piece
                    if len(raw) > MAX_FILE:
                        raise ServerError(f"expected at most {MAX_FILE} bytes, found more")
        except httpx.HTTPError as error:
            raise ServerError(f"{self._url} cannot be reached: {type(error).__name__}") from error
        if not answer.is_success:
            told = bytes(raw[:300]).decode("utf-8", "replace")
            raise ServerError(f"{self._url} refused ({answer.status_code}): {told!r}")
        return bytes(raw)
