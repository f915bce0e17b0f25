"""What the REST server's answers say, read within bounds of size and time.

Success is in the forms of `chain.wire`, a refusal is a problem of RFC 9457. Nothing of either is
believed here: `node.client` and `node.hospital` hold it against the ledger.
"""

import re
import time
from collections.abc import Mapping
from dataclasses import dataclass
from http import HTTPStatus
from itertools import pairwise
from typing import Any

import httpx

from chain.canonical import parse_json
from chain.envelope import MAX_RECIPIENTS
from chain.errors import InvalidInputError, ServerError
from chain.types import Phase, Round, UpdateRecord, Verdict
from chain.wire import from_hex, from_json_dict

MAX_ANSWER = 1 << 20  # bytes of JSON
ANSWER_SECONDS = 60.0  # for a whole answer in JSON
LONGEST_WAIT = 30.0  # seconds that a server's Retry-After can make a client wait

_CURSOR = re.compile(r"[A-Za-z0-9_.~=-]{1,512}")
_PASSING = frozenset(
    {
        HTTPStatus.REQUEST_TIMEOUT,
        HTTPStatus.TOO_MANY_REQUESTS,
        HTTPStatus.BAD_GATEWAY,
        HTTPStatus.SERVICE_UNAVAILABLE,
        HTTPStatus.GATEWAY_TIMEOUT,
        HTTPStatus.INSUFFICIENT_STORAGE,
    }
)


@dataclass(frozen=True, slots=True)
class OpenRound:
    """A round, with the keys that its envelopes are sealed to: 32 bytes each, ascending."""

    round: Round
    recipients: tuple[bytes, ...]


@dataclass(frozen=True, slots=True)
class UploadStatus:
    """Where an upload stands.

    Attributes:
        id: Its identifier at the server.
        state: ``receiving``, ``storing``, ``recording``, ``recorded`` or ``refused``.
        offset: Bytes that arrived.
        transaction: Hash of the recording transaction, or None.
        problem: What delays or ended it, in the server's words, or empty.
        contract_error: Name of the contract's error that ended it, or empty.
    """

    id: str
    state: str
    offset: int
    transaction: bytes | None
    problem: str
    contract_error: str


@dataclass(frozen=True, slots=True)
class UpdateStatus:
    """What became of a recorded update: ``verdict`` is None as long as nothing is proposed."""

    record: UpdateRecord
    verdict: Verdict | None
    phase: Phase
    attestations: int
    quorum: int


@dataclass(frozen=True, slots=True)
class BatchesWanted:
    """The batches of a hospital's looks that a server has not, of those that it knows of.

    Attributes:
        batches: Their numbers.
        block: The last block that the server knows.
    """

    batches: frozenset[int]
    block: int


class PassingError(ServerError):
    """A refusal that may be over soon; ``wait`` is 0 where the server says nothing of it."""

    wait: float = 0.0


def read_json(response: httpx.Response) -> dict[str, Any]:
    """Read the JSON object that a successful answer is.

    Raises:
        ServerError: If the answer is a refusal, too long or too slow.
        InvalidInputError: If it is anything but an object.
    """
    expect_success(response)
    answer = parse_json(_read_bounded(response), MAX_ANSWER)
    if not isinstance(answer, dict):
        raise InvalidInputError(
            f"{response.request.url.path}: expected a JSON object in the answer"
        )
    return answer


def expect_success(response: httpx.Response) -> None:
    """Turn any answer but success into the error that says what the server said (RFC 9457).

    Raises:
        PassingError: If it may be over soon.
        ServerError: If it will not.
    """
    if response.is_success:
        return
    members = _problem(response)
    error = members.get("contract_error")
    name = error.get("name") if isinstance(error, dict) else ""
    detail = str(members.get("detail") or members.get("title") or response.reason_phrase)
    kind: type[ServerError] = PassingError if may_pass(response) else ServerError
    failure = kind(
        f"the server refused ({response.status_code}): {_printable(detail)}",
        _printable(str(members.get("type", ""))),
        _printable(str(name)),
    )
    if isinstance(failure, PassingError):
        failure.wait = _retry_after(response)
    raise failure


def may_pass(response: httpx.Response) -> bool:
    """Tell whether a refusal may be over soon."""
    is_in_the_way = response.status_code == HTTPStatus.CONFLICT
    return response.status_code in _PASSING or (is_in_the_way and "Retry-After" in response.headers)


def read_offset(response: httpx.Response, size: int) -> int:
    """Read how many bytes of an upload have arrived.

    Raises:
        ServerError: If the header is missing, no number or beyond the upload's size.
    """
    text = response.headers.get("Upload-Offset", "")
    if not (text.isascii() and text.isdigit()) or len(text) > 20 or int(text) > size:  # noqa: PLR2004
        raise ServerError(f"expected an Upload-Offset of 0 to {size}, found {_printable(text)!r}")
    return int(text)


def open_round_of(answer: Mapping[str, Any]) -> OpenRound:
    """Read a round with its recipients.

    Raises:
        InvalidInputError: If it has another form, or the recipients are not ascending.
    """
    keys = answer.get("recipients")
    if not isinstance(keys, list) or not 1 <= len(keys) <= MAX_RECIPIENTS:
        raise InvalidInputError(f"expected 1 to {MAX_RECIPIENTS} recipients of the round")
    recipients = tuple(from_hex(key, "recipients") for key in keys)
    if not all(one < next_ for one, next_ in pairwise(recipients)):
        raise InvalidInputError("expected recipients in ascending order, each once")
    return OpenRound(from_json_dict(Round, answer.get("round")), recipients)


def upload_status_of(answer: Mapping[str, Any]) -> UploadStatus:
    """Read where an upload stands.

    Raises:
        InvalidInputError: If it has another form.
    """
    problem = answer.get("problem")
    members = problem if isinstance(problem, dict) else {}
    error = members.get("contract_error")
    transaction = answer.get("transaction")
    return UploadStatus(
        id=text_of(answer, "id"),
        state=text_of(answer, "state"),
        offset=_integer(answer, "offset"),
        transaction=None if transaction is None else from_hex(transaction, "transaction"),
        problem=_printable(str(members.get("detail") or members.get("title") or "")),
        contract_error=_printable(str(error.get("name", ""))) if isinstance(error, dict) else "",
    )


def update_status_of(answer: Mapping[str, Any]) -> UpdateStatus:
    """Read what became of an update.

    Raises:
        InvalidInputError: If it has another form.
    """
    verdict, stand = answer.get("verdict"), _object(answer, "round")
    return UpdateStatus(
        record=from_json_dict(UpdateRecord, answer.get("record")),
        verdict=None if verdict is None else from_json_dict(Verdict, verdict),
        phase=_phase(stand),
        attestations=_integer(stand, "attestations"),
        quorum=_integer(stand, "quorum"),
    )


def wanted_page_of(answer: Mapping[str, Any]) -> tuple[BatchesWanted, str | None]:
    """Read a page of the batches that the server has not, and the cursor of the next.

    Raises:
        InvalidInputError: If it has another form.
    """
    entries, cursor = answer.get("entries"), answer.get("cursor")
    if not isinstance(entries, list) or not all(isinstance(one, dict) for one in entries):
        raise InvalidInputError("expected a list of batches in the server's answer")
    if cursor is not None and (not isinstance(cursor, str) or _CURSOR.fullmatch(cursor) is None):
        raise InvalidInputError("expected a cursor in the server's answer")
    batches = frozenset(_integer(one, "batch") for one in entries)
    return BatchesWanted(batches, _integer(_object(answer, "as_of"), "number")), cursor


def text_of(members: Mapping[str, Any], name: str) -> str:
    """Read a member that is text.

    Raises:
        InvalidInputError: If it is none.
    """
    value = members.get(name)
    if not isinstance(value, str):
        raise InvalidInputError(f"expected a text {name!r} in the server's answer")
    return value


def _read_bounded(response: httpx.Response) -> bytes:
    ends = time.monotonic() + ANSWER_SECONDS
    data = bytearray()
    for piece in response.iter_bytes(1 << 16):
        data += piece
        if len(data) > MAX_ANSWER:
            raise ServerError(f"expected an answer of at most {MAX_ANSWER} bytes, found more")
        if time.monotonic() > ends:
            raise ServerError(
                f"expected an answer within {ANSWER_SECONDS:.0f} s, found a slower one"
            )
    return bytes(data)


def _problem(response: httpx.Response) -> dict[str, Any]:
    try:
        members = parse_json(_read_bounded(response), MAX_ANSWER)
    except InvalidInputError:
        return {}
    return members if isinstance(members, dict) else {}


def _retry_after(response: httpx.Response) -> float:
    seconds = response.headers.get("Retry-After", "")
    return min(float(seconds), LONGEST_WAIT) if seconds.isdigit() and len(seconds) < 6 else 0.0  # noqa: PLR2004


def _printable(text: str) -> str:
    """Take from the server's words what a terminal could take for commands, and bound them."""
    return "".join(c if c.isprintable() else " " for c in text[:1000])


def _phase(stand: Mapping[str, Any]) -> Phase:
    name = text_of(stand, "phase")
    if name not in Phase.__members__:
        raise InvalidInputError(f"expected a phase, found {name[:32]!r}")
    return Phase[name]


def _object(members: Mapping[str, Any], name: str) -> Mapping[str, Any]:
    value = members.get(name)
    if not isinstance(value, dict):
        raise InvalidInputError(f"expected an object {name!r} in the server's answer")
    return value


def _integer(members: Mapping[str, Any], name: str) -> int:
    value = members.get(name)
    if type(value) is not int or value < 0:
        raise InvalidInputError(f"expected a whole number {name!r} in the server's answer")
    return value
