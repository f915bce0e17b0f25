"""The JSON that only the REST server speaks; values of the ledger are those of chain/wire.py."""

from enum import Enum
from typing import Annotated, Any, TypeVar

from pydantic import BaseModel, ConfigDict, Field

from chain.errors import InvalidInputError
from chain.signing import SIGNATURE_BYTES

ADDRESS = "0xf39Fd6e51aad88F6F4ce6aB8827279cffFb92266"
LEDGER = "0x5FbDB2315678afecb367f032d93F642f64180aa3"
DIGEST = "0x" + "9f" * 32
UPLOAD_ID = "4b" * 32
CID = "bafybeibml5uieyxa5tufngvg7fgwbkwvlsuntwbxgtskoqynbt7wlchmfm"
NONCE = "7c" * 32
TOKEN = "e1" * 32  # an example, and nobody's session
SIGNATURE = "0x" + "5a" * 64 + "1b"
MESSAGE = (
    "127.0.0.1:8000 wants you to sign in with your Ethereum account:\n"
    f"{ADDRESS}\n\nSign in to FedWitness.\n\nURI: http://127.0.0.1:8000\nVersion: 1\n"
    f"Chain ID: 31337\nNonce: {NONCE}\nIssued At: 2026-01-01T12:00:00Z"
)

Json = dict[str, Any]
E = TypeVar("E", bound=Enum)


class _Body(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True)


class NonceRequest(_Body):
    """Who wants to sign in."""

    address: Annotated[str, Field(max_length=42, examples=[ADDRESS])]


class NonceAnswer(_Body):
    """What the sign-in message must contain."""

    nonce: Annotated[str, Field(examples=[NONCE])]
    domain: Annotated[str, Field(examples=["127.0.0.1:8000"])]
    uri: Annotated[str, Field(examples=["http://127.0.0.1:8000"])]
    chain_id: Annotated[int, Field(examples=[31337])]
    expires: Annotated[int, Field(examples=[1767269100], description="Unix seconds")]


class SessionRequest(_Body):
    """A signed sign-in message."""

    message: Annotated[
        str, Field(max_length=2048, examples=[MESSAGE], description="The text of EIP-4361")
    ]
    signature: Annotated[
        str, Field(max_length=132, examples=[SIGNATURE], description="EIP-191, 65 bytes in hex")
    ]
    cookie: Annotated[
        bool, Field(description="Set the token as a cookie, for the explorer's pages")
    ] = False


class SessionAnswer(_Body):
    """The session that was begun."""

    token: Annotated[
        str | None,
        Field(
            examples=[TOKEN],
            description="Send it as a Bearer token; null where it was set as a cookie",
        ),
    ]
    expires: Annotated[int, Field(examples=[1767269700], description="Unix seconds")]


class UploadRequest(_Body):
    """The announcement of an envelope."""

    record: Annotated[Json, Field(description="The update record, docs/protocol.md section 7.1")]
    signature: Annotated[str, Field(max_length=132, examples=[SIGNATURE])]
    size: Annotated[int, Field(ge=1, lt=2**63, examples=[44774500], description="Bytes")]


class UploadAnswer(_Body):
    """Where an upload stands."""

    id: Annotated[str, Field(examples=[UPLOAD_ID])]
    round: Annotated[int, Field(examples=[3])]
    hospital: Annotated[str, Field(examples=[ADDRESS])]
    state: Annotated[
        str,
        Field(
            examples=["recorded"],
            description="receiving, storing, recording; recorded or refused at the end. Only "
            "`recorded` is an acceptance: blob and transaction are on durable storage.",
        ),
    ]
    offset: Annotated[int, Field(examples=[44774500], description="Bytes that have arrived")]
    length: Annotated[int, Field(examples=[44774500], description="Bytes announced")]
    cid: Annotated[str, Field(examples=[CID])]
    transaction: Annotated[str | None, Field(examples=[DIGEST])]
    gas: Annotated[int | None, Field(examples=[78200], description="Of the whole transaction")]
    problem: Annotated[
        Json | None,
        Field(examples=[None], description="What delays or ended it, as problem details"),
    ]


class ProblemAnswer(BaseModel):
    """A refusal, as RFC 9457 has it."""

    model_config = ConfigDict(extra="allow")

    type: Annotated[str, Field(examples=["refused-by-contract"])]
    title: Annotated[str, Field(examples=["The ledger's contracts refuse this"])]
    status: Annotated[int, Field(examples=[409])]
    detail: Annotated[str, Field(examples=["The round's deadline is past; take part in the next."])]


def member_of(kind: type[E], name: str) -> E:
    """Find a member of an enumeration by its name.

    Raises:
        InvalidInputError: If there is none.
    """
    if name not in kind.__members__:
        raise InvalidInputError(
            f"expected one of {', '.join(kind.__members__)}, found {name[:64]!r}"
        )
    return kind[name]


def read_signature(text: str) -> bytes:
    """Read a signature, 65 bytes in hex.

    Raises:
        InvalidInputError: If the text is anything else.
    """
    try:
        signature = bytes.fromhex(text.removeprefix("0x"))
    except ValueError:
        signature = b""
    if len(signature) != SIGNATURE_BYTES:
        raise InvalidInputError(f"expected a signature of {SIGNATURE_BYTES} bytes in hex")
    return signature
