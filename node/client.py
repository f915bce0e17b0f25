"""The hospital's side of the REST server (docs/protocol.md, sections 2 and 12).

The server is trusted with nothing but its own time: chain and ledger are the hospital's own
settings and everything that comes back is held against them, a base model against digest and CID.
Every answer is bounded in size and time, and what a lost connection may have swallowed is asked
again.
"""

import ipaddress
import json
import re
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from hashlib import sha256
from http import HTTPStatus
from pathlib import Path
from typing import Any, Self, TypeVar
from urllib.parse import urlencode

import httpx
from eth_account.messages import encode_defunct

from chain.cid import Cid, blob_cid
from chain.errors import (
    DigestMismatchError,
    InvalidInputError,
    ServerError,
    VerificationError,
)
from chain.files import replacing
from chain.keystore import Identity
from chain.sign_in import compose_message
from chain.types import UpdateRecord
from chain.wire import to_json_dict
from node.answers import (
    LONGEST_WAIT,
    BatchesWanted,
    OpenRound,
    PassingError,
    UpdateStatus,
    UploadStatus,
    expect_success,
    may_pass,
    open_round_of,
    read_json,
    read_offset,
    text_of,
    update_status_of,
    upload_status_of,
    wanted_page_of,
)

T = TypeVar("T")

SILENCE_SECONDS = 30.0  # for the next bytes of any answer
ATTEMPTS = 6
SEGMENT = 1 << 26  # bytes sent in one request, so that a session outlives it
PIECE = 1 << 20  # bytes read from disk at a time
STATEMENT = "Sign in to FedWitness."

_LINES = "application/jsonl"
_MOST_PAGES = 1000
_SEGMENT = re.compile(r"[A-Za-z0-9_-][A-Za-z0-9._-]{0,127}")
_NONCE = range(8, 65)  # characters


class RestClient:
    """A hospital's session with one REST server.

    Args:
        base_url: The server's address; only ``https`` beyond this machine.
        identity: The hospital's keys. Only the account signs here.
        chain_id: The federation's chain, from the hospital's own settings.
        ledger: Its RoundLedger, likewise.
        transport: Replaces the network, for tests.
        pause: Waits so many seconds, for tests.

    Raises:
        InvalidInputError: If the address would send the session in the clear.
    """

    def __init__(
        self,
        base_url: str,
        identity: Identity,
        chain_id: int,
        ledger: str,
        *,
        transport: httpx.BaseTransport | None = None,
        pause: Callable[[float], None] = time.sleep,
    ) -> None:
        self.identity = identity
        self.chain_id = chain_id
        self.ledger = ledger
        self._url = _checked_url(base_url)
        self._pause = pause
        self._token: str | None = None
        self._http = httpx.Client(
            base_url=self._url,
            transport=transport,
            timeout=SILENCE_SECONDS,
            # A proxy from the environment must not come between programs on one machine.
            trust_env=not _is_local(self._url.host),
        )

    def __enter__(self) -> Self:
        """Use the client in a `with` block."""
        return self

    def __exit__(self, *_: object) -> None:
        """Close its connections."""
        self.close()

    def close(self) -> None:
        """Close the connections and forget the session."""
        self._token = None
        self._http.close()

    def sign_in(self) -> None:
        """Begin a session with a signed message of EIP-4361.

        Raises:
            ServerError: If the server refuses, or cannot be reached.
            VerificationError: If it asks for a signature that is meant for somebody else.
        """
        address = self.identity.address
        asked = self._json("POST", "/v1/auth/nonce", body={"address": address}, signed_in=False)
        text = self._sign_in_message(asked)
        signature = self.identity.account.sign_message(encode_defunct(text=text)).signature
        answer = self._json(
            "POST",
            "/v1/auth/session",
            body={"message": text, "signature": f"0x{bytes(signature).hex()}"},
            signed_in=False,
        )
        self._token = text_of(answer, "token")

    def active_round(self, task_name: str) -> OpenRound | None:
        """Return the round of a task that is under way, or None.

        Raises:
            ServerError: If the server refuses, or cannot be reached.
            VerificationError: If it tells of another chain, ledger or task.
        """
        try:
            found = self._open_round(self._json("GET", f"/v1/tasks/{_segment(task_name)}/round"))
        except ServerError as error:
            if error.problem == "no-active-round":
                return None
            raise
        if found.round.terms.task != task_name:
            raise VerificationError(
                f"expected a round of task {task_name!r}, found one of {found.round.terms.task!r}"
            )
        return found

    def round(self, number: int) -> OpenRound:
        """Return a round by its number.

        Raises:
            ServerError: If there is none, the server refuses, or it cannot be reached.
            VerificationError: If it tells of another chain, ledger or round.
        """
        found = self._open_round(self._json("GET", f"/v1/rounds/{number}"))
        if found.round.number != number:
            raise VerificationError(f"expected round {number}, found {found.round.number}")
        return found

    def fetch_model(self, digest: bytes, blob: bytes, path: Path, max_bytes: int) -> None:
        """Fetch a model and check its bytes against content digest and CID.

        Args:
            digest: The model's content digest, from the round.
            blob: The digest that names its blob, from the round.
            path: Where it goes; nothing is left there after an error.
            max_bytes: The greatest size taken.

        Raises:
            DigestMismatchError: If other bytes came.
            ServerError: If the server refuses, sends too much, or cannot be reached.
            OSError: If the file cannot be written.
        """
        cid = Cid.from_blob_digest(blob)
        self._with_retries(lambda: self._fetch_once(cid, digest, path, max_bytes))

    def upload(
        self,
        record: UpdateRecord,
        signature: bytes,
        envelope: Path,
        on_bytes: Callable[[int], None] = lambda _: None,
    ) -> UploadStatus:
        """Send an envelope with its signed record, from where an earlier attempt stopped.

        Args:
            record: The update record.
            signature: The hospital's signature over it, 65 bytes.
            envelope: The sealed update.
            on_bytes: Told how many bytes have arrived at the server.

        Returns:
            The upload once all bytes have arrived; `upload_status` tells how it goes on.

        Raises:
            ServerError: If the server or the ledger refuses, or cannot be reached.
            OSError: If the envelope cannot be read.
        """
        size = envelope.stat().st_size
        body = {
            "record": to_json_dict(record),
            "signature": f"0x{signature.hex()}",
            "size": size,
        }
        status = upload_status_of(self._json("POST", "/v1/uploads", body=body))
        offset, attempts = status.offset, 0
        while offset < size and status.state == "receiving":
            on_bytes(offset)
            arrived = self._send_segment(status.id, envelope, offset, size)
            attempts = 0 if arrived > offset else attempts + 1
            if attempts == ATTEMPTS:
                raise ServerError(
                    f"the server takes no more than {offset} of {size} bytes; try again later, "
                    "the upload goes on from there"
                )
            if attempts:
                self._pause(_delay(attempts))
            offset = arrived
        on_bytes(offset)
        return self.upload_status(status.id)

    def upload_status(self, upload: str) -> UploadStatus:
        """Ask where an upload stands.

        Raises:
            ServerError: If there is no such upload, or the server cannot be reached.
        """
        return upload_status_of(self._json("GET", f"/v1/uploads/{_segment(upload)}"))

    def update(self, number: int) -> UpdateStatus | None:
        """Ask what became of this hospital's update in a round; None where none is recorded.

        Raises:
            ServerError: If the server refuses, or cannot be reached.
            InvalidInputError: If its answer has another form.
        """
        try:
            answer = self._json("GET", f"/v1/rounds/{number}/updates/{self.identity.address}")
        except ServerError as error:
            if error.problem == "not-found":
                return None
            raise
        return update_status_of(answer)

    def batches_wanted(self) -> BatchesWanted:
        """Ask which anchored batches of this hospital's looks the server has not.

        Raises:
            ServerError: If the server refuses, or cannot be reached.
            InvalidInputError: If its answer has another form.
        """
        batches: frozenset[int] = frozenset()
        block: int | None = None
        cursor: str | None = None
        for _ in range(_MOST_PAGES):
            query = {"handed": "false", "limit": "200"} | ({"cursor": cursor} if cursor else {})
            answer = self._json("GET", f"/v1/looks/batches?{urlencode(query)}")
            page, cursor = wanted_page_of(answer)
            batches |= page.batches
            # Of the first page: what is anchored while the others are read is found the next time.
            block = page.block if block is None else block
            if cursor is None:
                return BatchesWanted(batches, block)
        raise ServerError(f"expected a list of at most {_MOST_PAGES} pages, found more")

    def hand_over(self, batch: int, looks: bytes) -> None:
        """Hand the looks of an anchored batch over; what is there already stays as it is.

        Args:
            batch: Its number.
            looks: A line each (`node.look_handover.to_lines`).

        Raises:
            ServerError: If the server refuses, or cannot be reached.
        """
        self._json("POST", f"/v1/looks?batch={batch}", content=looks, media=_LINES)

    def _sign_in_message(self, asked: Mapping[str, Any]) -> str:
        """Write the message of EIP-4361, for this server and this chain and no other."""
        domain, uri, nonce = (text_of(asked, name) for name in ("domain", "uri", "nonce"))
        own = self._url.netloc.decode("ascii")
        # Signing what the server names would let it sign in elsewhere in the hospital's name.
        if domain != own or httpx.URL(uri).netloc != self._url.netloc:
            raise VerificationError(f"expected to sign in at {own}, found {domain!r} and {uri!r}")
        if asked.get("chain_id") != self.chain_id:
            raise VerificationError(
                f"expected to sign in for chain {self.chain_id}, found {asked.get('chain_id')!r}"
            )
        if len(nonce) not in _NONCE or not (nonce.isascii() and nonce.isalnum()):
            raise VerificationError("expected a nonce of 8 to 64 letters and digits")
        return compose_message(
            domain=domain,
            address=self.identity.address,
            statement=STATEMENT,
            uri=uri,
            chain_id=self.chain_id,
            nonce=nonce,
        )

    def _open_round(self, answer: Mapping[str, Any]) -> OpenRound:
        if (answer.get("chain_id"), answer.get("ledger")) != (self.chain_id, self.ledger):
            raise VerificationError(
                f"expected a round of ledger {self.ledger} on chain {self.chain_id}, found "
                f"{answer.get('ledger')!r} on {answer.get('chain_id')!r}: is it the right server?"
            )
        return open_round_of(answer)

    def _fetch_once(self, cid: Cid, digest: bytes, path: Path, max_bytes: int) -> None:
        with self._asking("GET", f"/v1/blobs/{cid}") as response, replacing(path) as file:
            expect_success(response)
            hasher, size = sha256(), 0

            def pieces() -> Iterator[bytes]:
                nonlocal size
                for piece in response.iter_bytes(PIECE):
                    size += len(piece)
                    if size > max_bytes:
                        raise ServerError(
                            f"expected a model of at most {max_bytes} bytes, found more"
                        )
                    hasher.update(piece)
                    file.write(piece)
                    yield piece

            found = blob_cid(pieces())
            # Inside the block, so that the file does not come into being.
            if found != cid:
                raise DigestMismatchError("CID of the base model", cid, found)
            if hasher.digest() != digest:
                raise DigestMismatchError("base model", digest.hex(), hasher.hexdigest())

    def _send_segment(self, upload: str, envelope: Path, offset: int, size: int) -> int:
        """Send one segment and return the offset that the server has reached."""
        address = f"/v1/uploads/{_segment(upload)}"
        length = min(SEGMENT, size - offset)
        try:
            with self._asking(
                "PATCH",
                address,
                content=_read_segment(envelope, offset, length),
                headers={
                    "Content-Type": "application/offset+octet-stream",
                    "Content-Length": str(length),
                    "Upload-Offset": str(offset),
                },
            ) as response:
                if response.is_success:
                    return read_offset(response, size)
                if not may_pass(response) and response.status_code != HTTPStatus.CONFLICT:
                    expect_success(response)
        except (httpx.TransportError, _SessionOverError):
            pass  # how much arrived is asked next, in a new session where that was the reason
        return self._with_retries(lambda: self._ask_offset(address, size))

    def _ask_offset(self, address: str, size: int) -> int:
        with self._asking("HEAD", address) as response:
            expect_success(response)
            return read_offset(response, size)

    def _json(
        self,
        method: str,
        address: str,
        *,
        body: object = None,
        content: bytes | None = None,
        media: str = "application/json",
        signed_in: bool = True,
    ) -> dict[str, Any]:
        content = json.dumps(body).encode() if body is not None else content

        def once() -> dict[str, Any]:
            headers = {} if content is None else {"Content-Type": media}
            with self._asking(
                method, address, content=content, headers=headers, signed_in=signed_in
            ) as response:
                return read_json(response)

        return self._with_retries(once)

    @contextmanager
    def _asking(
        self,
        method: str,
        address: str,
        *,
        content: bytes | Iterator[bytes] | None = None,
        headers: Mapping[str, str] | None = None,
        signed_in: bool = True,
    ) -> Iterator[httpx.Response]:
        """Send one request, within a session unless it is there to begin one."""
        if signed_in and self._token is None:
            self.sign_in()
        bearer = {"Authorization": f"Bearer {self._token}"} if signed_in else {}
        request = self._http.build_request(
            method, address, content=content, headers={**(headers or {}), **bearer}
        )
        response = self._http.send(request, stream=True)
        try:
            if signed_in and response.status_code == HTTPStatus.UNAUTHORIZED:
                self._token = None
                raise _SessionOverError("the server ended the session; sign in again")
            yield response
        finally:
            response.close()

    def _with_retries(self, ask: Callable[[], T]) -> T:
        """Ask again, later and later, after what may pass by itself; at once in a new session."""
        failure: ServerError
        renewed = False
        for attempt in range(1, ATTEMPTS + 1):
            try:
                return ask()
            except _SessionOverError as error:
                if renewed:
                    raise
                renewed, failure, wait = True, error, 0.0
            except httpx.TransportError as error:
                failure, wait = _unreachable(self._url, error), _delay(attempt)
            except PassingError as error:
                failure, wait = error, error.wait or _delay(attempt)
            if attempt < ATTEMPTS:
                self._pause(wait)
        raise failure


class _SessionOverError(ServerError):
    """The session was forgotten, or the party is locked out: signing in anew tells which."""


def _checked_url(text: str) -> httpx.URL:
    try:
        url = httpx.URL(text.rstrip("/"))
    except (httpx.InvalidURL, ValueError) as error:
        raise InvalidInputError(f"expected the server's address, found {text!r}") from error
    if url.scheme not in {"http", "https"} or not url.host or url.userinfo or url.query:
        raise InvalidInputError(f"expected an address such as https://HOST, found {text!r}")
    if url.scheme == "http" and not _is_local(url.host):
        raise InvalidInputError(
            f"expected https, since {url.host} is another machine, found {text!r}: a session must "
            "not travel in the clear"
        )
    return url


def _is_local(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def _segment(text: str) -> str:
    """Let a name stand in a path as itself and nothing more."""
    if not _SEGMENT.fullmatch(text):
        raise InvalidInputError(
            f"expected a name of letters, digits, - _ and ., found {text[:64]!r}"
        )
    return text


def _read_segment(path: Path, offset: int, length: int) -> Iterator[bytes]:
    with path.open("rb") as file:
        file.seek(offset)
        while length > 0 and (piece := file.read(min(PIECE, length))):
            length -= len(piece)
            yield piece


def _delay(attempt: int) -> float:
    return float(min(0.25 * 2**attempt, LONGEST_WAIT))


def _unreachable(url: httpx.URL, error: httpx.TransportError) -> ServerError:
    return ServerError(
        f"the server at {url} cannot be reached ({type(error).__name__}); check the address and "
        "the network, then try again: nothing that was sent is lost"
    )
