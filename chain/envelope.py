"""Envelopes: how an update is encrypted before it leaves the hospital.

See docs/protocol.md, section 6. One key K encrypts the payload (ChaCha20-Poly1305, RFC 8439, in
the STREAM construction of Hoang, Reyhanitabar, Rogaway and Vizár, CRYPTO 2015) and is wrapped to
each recipient with HPKE (RFC 9180). The ephemeral keys are derived from K, so that whoever opens
one wrap can recompute all of them: all recipients come to the same answer, which a witness's
replay depends on.
"""

import hashlib
import hmac
import os
import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import BinaryIO, TypeAlias, cast

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.asymmetric.x25519 import (
    X25519PrivateKey,
    X25519PublicKey,
)
from cryptography.hazmat.primitives.ciphers.aead import ChaCha20Poly1305
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF
from eth_utils.address import to_canonical_address
from pyhpke import AEADId, CipherSuite, KDFId, KEMId
from pyhpke.exceptions import PyHPKEError

from chain.addresses import read_address
from chain.canonical import canonical_json, parse_json
from chain.errors import EnvelopeError, InvalidInputError
from chain.files import replacing
from chain.types import Reason

# Content keys that an auditor disclosed (protocol 14), by the digest of the envelope's blob.
ContentKeys: TypeAlias = Mapping[bytes, bytes]

MAGIC = b"FWENVLP1"
CHUNK = 1 << 20  # bytes of plaintext
TAG = 16  # bytes that each chunk grows by
KEY = 32  # bytes of K, of a public key and of an encapsulated key
WRAP = KEY + TAG
MAX_HEADER = 65_536
MAX_RECIPIENTS = 64

_PREFIX = len(MAGIC) + 4
_INFO = b"fedwitness.envelope.v1"
_EPHEMERAL = b"fedwitness.envelope.ephemeral.v1"
_PAYLOAD = b"fedwitness.envelope.payload.v1"
_DECIMAL = re.compile(r"0|[1-9][0-9]{0,77}")
_U256 = 1 << 256
_SUITE = CipherSuite.new(
    KEMId.DHKEM_X25519_HKDF_SHA256, KDFId.HKDF_SHA256, AEADId.CHACHA20_POLY1305
)


@dataclass(frozen=True, slots=True)
class EnvelopeContext:
    """The one place that an envelope is made for."""

    chain_id: int
    ledger: str
    round: int
    hospital: str

    def to_bytes(self) -> bytes:
        """Write the context as it enters the key derivations."""
        return (
            self.chain_id.to_bytes(32, "big")
            + to_canonical_address(self.ledger)
            + self.round.to_bytes(32, "big")
            + to_canonical_address(self.hospital)
        )


@dataclass(frozen=True, slots=True)
class Recipient:
    """K, wrapped to one X25519 key.

    Attributes:
        key: The recipient's public key, 32 bytes.
        enc: The ephemeral public key that HPKE encapsulated to it, 32 bytes.
        wrap: K under the HPKE context, 48 bytes.
    """

    key: bytes
    enc: bytes
    wrap: bytes


@dataclass(frozen=True, slots=True)
class EnvelopeHeader:
    """What an envelope says of itself, in the clear. ``size`` is the plaintext's, in bytes."""

    context: EnvelopeContext
    recipients: tuple[Recipient, ...]
    size: int

    def to_bytes(self) -> bytes:
        """Write all that precedes the chunks."""
        text = canonical_json(
            {
                "context": {
                    "chain_id": str(self.context.chain_id),
                    "hospital": self.context.hospital,
                    "ledger": self.context.ledger,
                    "round": str(self.context.round),
                },
                "recipients": [
                    {"enc": one.enc.hex(), "key": one.key.hex(), "wrap": one.wrap.hex()}
                    for one in self.recipients
                ],
                "size": str(self.size),
            }
        )
        return MAGIC + len(text).to_bytes(4, "big") + text


def seal(
    source: Path | BinaryIO,
    size: int,
    context: EnvelopeContext,
    recipients: Sequence[bytes],
    target: Path,
) -> None:
    """Encrypt an update to its recipients, a chunk at a time.

    Args:
        source: The plaintext.
        size: Its size in bytes, at least 1.
        context: What the envelope is made for.
        recipients: X25519 public keys, ascending, 1 to 64.
        target: Where the envelope goes; after an error it is as it was.

    Raises:
        InvalidInputError: If the source is not of that size, or a recipient's key is none.
        OSError: If a file cannot be read or written.
    """
    ordered = all(one < next_ for one, next_ in pairwise(recipients))
    if not 1 <= len(recipients) <= MAX_RECIPIENTS or not ordered:
        message = f"expected 1 to {MAX_RECIPIENTS} recipients, ascending, found {len(recipients)}"
        raise InvalidInputError(message)
    if size < 1:
        message = f"expected an update of at least 1 byte, found a size of {size}"
        raise InvalidInputError(message)
    key = os.urandom(KEY)
    wraps = tuple(_wrap(key, context, recipient) for recipient in recipients)
    head = EnvelopeHeader(context, wraps, size).to_bytes()
    cipher = ChaCha20Poly1305(_payload_key(key, head))
    with ExitStack() as files:
        plain = files.enter_context(source.open("rb")) if isinstance(source, Path) else source
        sealed = files.enter_context(replacing(target))
        sealed.write(head)
        for nonce, length in _chunks(size):
            sealed.write(cipher.encrypt(nonce, _exactly(plain, length, size), None))
        if plain.read(1):
            message = f"expected an update of {size} bytes, found more"
            raise InvalidInputError(message)


def read_header(envelope: BinaryIO) -> EnvelopeHeader:
    """Read what an envelope says of itself; the stream then stands at the first chunk.

    Raises:
        EnvelopeError: If it is no envelope (`ENVELOPE_MALFORMED`).
    """
    prefix = envelope.read(_PREFIX)
    length = int.from_bytes(prefix[len(MAGIC) :], "big")
    if len(prefix) < _PREFIX or not prefix.startswith(MAGIC) or length > MAX_HEADER:
        raise _malformed(f"expected {MAGIC!r} and a header of up to {MAX_HEADER} bytes")
    text = envelope.read(length)
    try:
        header = _header(parse_json(text, MAX_HEADER))
    except (InvalidInputError, ValueError, LookupError, TypeError, AttributeError) as error:
        raise _malformed(
            f"the header is not that of docs/protocol.md, section 6: {error}"
        ) from error
    if header.to_bytes() != prefix + text or header.size == 0:
        raise _malformed("the header is not in canonical JSON (RFC 8785), or its size is 0")
    return header


def open_envelope(
    envelope: Path,
    context: EnvelopeContext,
    recipients: Sequence[bytes],
    private_key: bytes,
    target: Path,
) -> bytes:
    """Decrypt an envelope as one of its recipients, a chunk at a time.

    The steps are those of admission (docs/protocol.md, section 8), in its order:

    (4) it is an envelope, of the very size that it announces;
    (5) it was made for this chain, ledger, round and hospital;
    (6) it is wrapped to exactly these recipients;
    (7) K opens, every other wrap is the one that K gives, and K opens every chunk.

    Args:
        envelope: The file.
        context: What it should have been made for.
        recipients: The X25519 keys that it should be wrapped to, ascending.
        private_key: The X25519 key of one of them, 32 bytes.
        target: Where the plaintext goes; after an error it is as it was.

    Returns:
        The SHA-256 of the plaintext, 32 bytes.

    Raises:
        EnvelopeError: With the `reason` that belongs to the first step that failed.
        InvalidInputError: If the private key belongs to none of `recipients`.
        OSError: If a file cannot be read or written.
    """
    _require_recipient(private_key, recipients)
    with envelope.open("rb") as sealed:
        header = _checked_header(sealed, envelope.stat().st_size, context, recipients)
        return _decrypt_to(target, sealed, header, _unwrap(header, private_key))


def open_disclosed(
    envelope: Path,
    context: EnvelopeContext,
    recipients: Sequence[bytes],
    key: bytes | None,
    target: Path,
) -> bytes:
    """Decrypt an envelope by its content key, whoever disclosed it: `open_envelope` otherwise.

    A key that is not the one that all wraps hold opens nothing, and so does none.

    Args:
        envelope: The file.
        context: What it should have been made for.
        recipients: The X25519 keys that it should be wrapped to, ascending.
        key: Its content key K, 32 bytes, or None where nobody disclosed it.
        target: Where the plaintext goes; after an error it is as it was.

    Returns:
        The SHA-256 of the plaintext, 32 bytes.

    Raises:
        EnvelopeError: With the `reason` that belongs to the first step that failed.
        OSError: If a file cannot be read or written.
    """
    with envelope.open("rb") as sealed:
        header = _checked_header(sealed, envelope.stat().st_size, context, recipients)
        if key is None:
            raise _unopenable("nobody disclosed its content key")
        _check_wraps(header, key)
        return _decrypt_to(target, sealed, header, key)


def content_key(envelope: Path, private_key: bytes) -> bytes | None:
    """Find the content key K of an envelope as one of its recipients.

    Returns:
        K, 32 bytes; None where the envelope is malformed, is not for this key, or has wraps that
        do not all hold the same K. Whether K opens the chunks is not looked at.

    Raises:
        OSError: If the file cannot be read.
    """
    try:
        with envelope.open("rb") as sealed:
            header = read_header(sealed)
        _require_recipient(private_key, [one.key for one in header.recipients])
        return _unwrap(header, private_key)
    except (EnvelopeError, InvalidInputError):
        return None


def holds_key(envelope: BinaryIO, key: bytes) -> bool:
    """Tell whether a content key is the one that all wraps of an envelope hold.

    Args:
        envelope: The envelope, open at its beginning; nothing behind its header is read.
        key: What is said to be its K.
    """
    try:
        _check_wraps(read_header(envelope), key)
    except EnvelopeError:
        return False
    return True


def envelope_size(plaintext_size: int, n_recipients: int) -> int:
    """Compute the greatest size in bytes of an envelope, whatever its chain and round."""
    nobody = f"0x{'0' * 40}"
    widest = EnvelopeContext(_U256 - 1, nobody, _U256 - 1, nobody)
    recipient = Recipient(bytes(KEY), bytes(KEY), bytes(WRAP))
    header = EnvelopeHeader(widest, (recipient,) * n_recipients, plaintext_size)
    return len(header.to_bytes()) + _sealed_size(plaintext_size)


def public_key(private_key: bytes) -> bytes:
    """Compute the X25519 public key of a private one, 32 bytes each (RFC 7748).

    Raises:
        ValueError: If the private key has another length.
    """
    return X25519PrivateKey.from_private_bytes(private_key).public_key().public_bytes_raw()


def is_usable_key(key: bytes) -> bool:
    """Tell whether an X25519 public key can be sealed to.

    A point of low order, which gives an all-zero secret whatever the other key is (RFC 7748,
    section 6.1), cannot: a party that publishes one is left out and shuts out nobody else.
    """
    try:
        X25519PrivateKey.generate().exchange(X25519PublicKey.from_public_bytes(key))
    except ValueError:
        return False
    return True


def _wrap(key: bytes, context: EnvelopeContext, recipient: bytes) -> Recipient:
    """Seal K to a recipient under the ephemeral key that K and the recipient determine."""
    place = context.to_bytes()
    seed = HKDF(SHA256(), 32, salt=None, info=_EPHEMERAL + place + recipient).derive(key)
    try:
        enc, sender = _SUITE.create_sender_context(
            _SUITE.kem.deserialize_public_key(recipient),
            info=_INFO + place,
            eks=_SUITE.kem.derive_key_pair(seed),
        )
    # A point of low order gives an all-zero secret, which X25519 refuses (RFC 7748, section 6.1).
    except (PyHPKEError, ValueError) as error:
        message = f"the recipient's key {recipient.hex()} is no usable X25519 key: {error}"
        raise InvalidInputError(message) from error
    return Recipient(recipient, enc, sender.seal(key, aad=recipient))


def _require_recipient(private_key: bytes, recipients: Sequence[bytes]) -> None:
    own_key = public_key(private_key)
    if own_key not in recipients:
        message = f"the round's updates are not for the key {own_key.hex()}: nothing to open"
        raise InvalidInputError(message)


def _checked_header(
    sealed: BinaryIO, size: int, context: EnvelopeContext, recipients: Sequence[bytes]
) -> EnvelopeHeader:
    """Read the header of an envelope of so many bytes; the stream then stands at the chunks."""
    # (4) It is an envelope.
    header = read_header(sealed)
    expected = len(header.to_bytes()) + _sealed_size(header.size)
    if expected != size:
        raise _malformed(f"expected {expected} bytes, found {size}")
    # (5) It was made for this place.
    if header.context != context:
        told = f"expected an envelope for {context}, found one for {header.context}"
        raise EnvelopeError(Reason.ENVELOPE_CONTEXT_MISMATCH, told)
    # (6) It is wrapped to the round's recipients.
    if [one.key for one in header.recipients] != list(recipients):
        told = (
            f"expected wraps to {[key.hex() for key in recipients]}, "
            f"found {[one.key.hex() for one in header.recipients]}"
        )
        raise EnvelopeError(Reason.ENVELOPE_RECIPIENTS_MISMATCH, told)
    return header


def _decrypt_to(target: Path, sealed: BinaryIO, header: EnvelopeHeader, key: bytes) -> bytes:
    """Decrypt all chunks, and return the SHA-256 of the plaintext."""
    cipher = ChaCha20Poly1305(_payload_key(key, header.to_bytes()))
    hasher = hashlib.sha256()
    with replacing(target) as plain:
        for nonce, length in _chunks(header.size):
            chunk = _decrypt(cipher, nonce, sealed.read(length + TAG))
            hasher.update(chunk)
            plain.write(chunk)
    return hasher.digest()


def _unwrap(header: EnvelopeHeader, private_key: bytes) -> bytes:
    """Recover K from one's own wrap and check all wraps against it (step 7)."""
    own_key = public_key(private_key)
    own = next(one for one in header.recipients if one.key == own_key)
    try:
        receiver = _SUITE.create_recipient_context(
            own.enc,
            _SUITE.kem.deserialize_private_key(private_key),
            info=_INFO + header.context.to_bytes(),
        )
        key = bytes(receiver.open(own.wrap, aad=own.key))
    except (PyHPKEError, ValueError) as error:
        raise _unopenable(f"the wrap to {own_key.hex()} does not open") from error
    _check_wraps(header, key)
    return key


def _check_wraps(header: EnvelopeHeader, key: bytes) -> None:
    """Recompute every wrap from K and compare."""
    try:
        expected = tuple(_wrap(key, header.context, one.key) for one in header.recipients)
    except (InvalidInputError, ValueError) as error:
        raise _unopenable("the key cannot be wrapped to the recipients") from error
    if not hmac.compare_digest(_joined(expected), _joined(header.recipients)):
        raise _unopenable("the wraps do not all hold the same key")


def _joined(recipients: Sequence[Recipient]) -> bytes:
    return b"".join(one.enc + one.wrap for one in recipients)


def _payload_key(key: bytes, head: bytes) -> bytes:
    salt = hashlib.sha256(head).digest()
    return HKDF(SHA256(), KEY, salt=salt, info=_PAYLOAD).derive(key)


def _chunks(size: int) -> Iterator[tuple[bytes, int]]:
    """Give each chunk's nonce and the length of its plaintext in bytes."""
    count = -(-size // CHUNK)
    for index in range(count):
        last = index == count - 1
        length = size - index * CHUNK if last else CHUNK
        yield index.to_bytes(11, "big") + bytes([last]), length


def _sealed_size(size: int) -> int:
    return size + TAG * -(-size // CHUNK)


def _decrypt(cipher: ChaCha20Poly1305, nonce: bytes, chunk: bytes) -> bytes:
    try:
        return cipher.decrypt(nonce, chunk, None)
    except InvalidTag as error:
        index = int.from_bytes(nonce[:11], "big")
        raise _unopenable(f"chunk {index} was changed, moved or cut") from error


def _exactly(plain: BinaryIO, length: int, size: int) -> bytes:
    pieces, missing = [], length
    while missing and (piece := plain.read(missing)):
        pieces.append(piece)
        missing -= len(piece)
    if missing:
        message = f"expected an update of {size} bytes, found less"
        raise InvalidInputError(message)
    return b"".join(pieces)


def _header(value: object) -> EnvelopeHeader:
    members = cast("dict[str, object]", value)
    context = cast("dict[str, object]", members["context"])
    return EnvelopeHeader(
        EnvelopeContext(
            _number(context["chain_id"]),
            read_address(context["ledger"], "ledger"),
            _number(context["round"]),
            read_address(context["hospital"], "hospital"),
        ),
        tuple(_recipient(one) for one in cast("list[dict[str, str]]", members["recipients"])),
        _number(members["size"]),
    )


def _recipient(members: dict[str, str]) -> Recipient:
    recipient = Recipient(*(bytes.fromhex(members[name]) for name in ("key", "enc", "wrap")))
    if (len(recipient.key), len(recipient.enc), len(recipient.wrap)) != (KEY, KEY, WRAP):
        message = f"expected {KEY}, {KEY} and {WRAP} bytes of key, enc and wrap"
        raise ValueError(message)
    return recipient


def _number(text: object) -> int:
    if not isinstance(text, str) or not _DECIMAL.fullmatch(text) or int(text) >= _U256:
        message = f"expected a number below 2^256 as a decimal string, found {text!r}"
        raise ValueError(message)
    return int(text)


def _malformed(message: str) -> EnvelopeError:
    return EnvelopeError(Reason.ENVELOPE_MALFORMED, message)


def _unopenable(message: str) -> EnvelopeError:
    return EnvelopeError(Reason.ENVELOPE_UNOPENABLE, message)
