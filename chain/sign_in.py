"""Sign-In with Ethereum: the message that a party signs to prove its address.

EIP-4361 (https://eips.ethereum.org/EIPS/eip-4361), docs/protocol.md section 2. The message is
read by one regular expression without nested repetition: whoever is not signed in can send it,
so reading it must cost little whatever it holds. The general ABNF parsers at hand take a second
for 2 KB of hostile text.
"""

import re
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from hmac import compare_digest

from eth_account import Account
from eth_account.messages import encode_defunct
from eth_utils.address import is_checksum_address

from chain.errors import InvalidInputError, VerificationError

MAX_MESSAGE_CHARACTERS = 2048
MAX_AGE = timedelta(minutes=5)
CLOCK_SKEW = timedelta(seconds=30)

_TIME = r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(?:\.\d{1,6})?(?:Z|[+-]\d\d:\d\d)"
_MESSAGE = re.compile(
    r"(?:(?P<scheme>[a-z][a-z0-9+.-]{0,31})://)?(?P<domain>[!$-.0->@-~]{1,255})"
    r" wants you to sign in with your Ethereum account:\n"
    r"(?P<address>0x[0-9a-fA-F]{40})\n\n"
    r"(?:(?P<statement>[ -~]{1,512})\n)?\n"
    r"URI: (?P<uri>[!-~]{1,512})\n"
    r"Version: 1\n"
    r"Chain ID: (?P<chain_id>[0-9]{1,20})\n"
    r"Nonce: (?P<nonce>[A-Za-z0-9]{8,64})\n"
    rf"Issued At: (?P<issued_at>{_TIME})"
    rf"(?:\nExpiration Time: (?P<expires_at>{_TIME}))?"
    rf"(?:\nNot Before: (?P<not_before>{_TIME}))?"
    r"(?:\nRequest ID: [!-~]{0,128})?"
    r"(?:\nResources:(?:\n- [!-~]{1,256}){0,8})?",
    re.ASCII,
)


@dataclass(frozen=True, slots=True)
class SignInMessage:
    """What a sign-in message says, as far as the server acts on it.

    Attributes:
        text: The whole message, which is what the signature covers.
        domain: Who asks for the signature.
        address: Who signs, EIP-55.
        uri: What is signed in to.
        chain_id: The chain whose roles the session has.
        nonce: The server's nonce.
        issued_at: When it was written.
        expires_at: When it ends, if it says so.
        not_before: When it begins, if it says so.
    """

    text: str
    domain: str
    address: str
    uri: str
    chain_id: int
    nonce: str
    issued_at: datetime
    expires_at: datetime | None
    not_before: datetime | None


def compose_message(
    *, domain: str, address: str, statement: str, uri: str, chain_id: int, nonce: str
) -> str:
    """Write the message of EIP-4361 that a party signs, issued now."""
    return (
        f"{domain} wants you to sign in with your Ethereum account:\n"
        f"{address}\n\n{statement}\n\n"
        f"URI: {uri}\nVersion: 1\nChain ID: {chain_id}\nNonce: {nonce}\n"
        f"Issued At: {datetime.now(UTC):%Y-%m-%dT%H:%M:%SZ}"
    )


def parse_message(text: str) -> SignInMessage:
    """Read a message in the form of EIP-4361.

    Raises:
        InvalidInputError: If the text has another form.
    """
    found = _MESSAGE.fullmatch(text) if len(text) <= MAX_MESSAGE_CHARACTERS else None
    if found is None:
        raise InvalidInputError(
            "expected a sign-in message of EIP-4361, version 1, of at most "
            f"{MAX_MESSAGE_CHARACTERS} characters"
        )
    if not is_checksum_address(found["address"]):
        raise InvalidInputError("the address in the message is not in EIP-55 form")
    expires_at, not_before = found["expires_at"], found["not_before"]
    return SignInMessage(
        text=text,
        domain=found["domain"],
        address=found["address"],
        uri=found["uri"],
        chain_id=int(found["chain_id"]),
        nonce=found["nonce"],
        issued_at=_time(found["issued_at"]),
        expires_at=_time(expires_at) if expires_at else None,
        not_before=_time(not_before) if not_before else None,
    )


def check_message(
    message: SignInMessage, *, domain: str, uri: str, chain_id: int, now: float
) -> None:
    """Check that a message was written for this server, this chain and this moment.

    Args:
        message: The message.
        domain: The server's own authority.
        uri: The server's own URI.
        chain_id: The federation's chain.
        now: The server's clock, in Unix seconds.

    Raises:
        VerificationError: If it was not.
    """
    clock = datetime.fromtimestamp(now, UTC)
    if not compare_digest(message.domain, domain):
        raise VerificationError(f"the message is for another domain: expected {domain}")
    if not compare_digest(message.uri, uri):
        raise VerificationError(f"the message is for another URI: expected {uri}")
    if message.chain_id != chain_id:
        raise VerificationError(
            f"the message is for another chain: expected {chain_id}, found {message.chain_id}"
        )
    if not clock - MAX_AGE - CLOCK_SKEW <= message.issued_at <= clock + CLOCK_SKEW:
        raise VerificationError(
            f"the message was not issued in the last five minutes: the server's clock says {clock}"
        )
    if message.expires_at is not None and message.expires_at <= clock:
        raise VerificationError(f"the message has expired: the server's clock says {clock}")
    if message.not_before is not None and message.not_before > clock + CLOCK_SKEW:
        raise VerificationError(f"the message is not valid yet: the server's clock says {clock}")


def check_signature(message: SignInMessage, signature: bytes) -> None:
    """Check that the address in the message signed it (EIP-191, version 0x45).

    Args:
        message: The message.
        signature: 65 bytes.

    Raises:
        VerificationError: If it did not.
    """
    try:
        signer = Account.recover_message(encode_defunct(text=message.text), signature=signature)
    except Exception as error:
        # The library raises a different error for each way to be malformed, some of them bare.
        raise VerificationError("the signature is no signature at all") from error
    if not compare_digest(signer, message.address):
        raise VerificationError("the signature is not of the address in the message")


def _time(text: str) -> datetime:
    """Read an RFC 3339 time.

    Raises:
        InvalidInputError: If there is no such moment.
    """
    try:
        return datetime.fromisoformat(text).astimezone(UTC)
    except (ValueError, OverflowError):
        raise InvalidInputError(f"expected a time of RFC 3339, found {text!r}") from None
