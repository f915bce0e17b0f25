"""An envelope opens for its recipients in its place, and for all of them alike."""

import hashlib
import io
import os
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey
from cryptography.hazmat.primitives.ciphers.aead import ChaCha20Poly1305
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pyhpke import AEADId, CipherSuite, KDFId, KEMId

from chain import envelope as envelopes
from chain.envelope import (
    CHUNK,
    TAG,
    EnvelopeContext,
    EnvelopeHeader,
    content_key,
    envelope_size,
    holds_key,
    is_usable_key,
    open_disclosed,
    open_envelope,
    read_header,
    seal,
)
from chain.errors import EnvelopeError, InvalidInputError
from chain.types import Reason

CONTEXT = EnvelopeContext(
    chain_id=31337,
    ledger="0x5FbDB2315678afecb367f032d93F642f64180aa3",
    round=3,
    hospital="0x70997970C51812dc3A010C7d01b50e0d17dc79C8",
)
CONTEXT_BYTES = (
    (31337).to_bytes(32, "big")
    + bytes.fromhex(CONTEXT.ledger[2:])
    + (3).to_bytes(32, "big")
    + bytes.fromhex(CONTEXT.hospital[2:])
)
SUITE = CipherSuite.new(KEMId.DHKEM_X25519_HKDF_SHA256, KDFId.HKDF_SHA256, AEADId.CHACHA20_POLY1305)
LOW_ORDER = [
    bytes(32),
    b"\1" + bytes(31),
    bytes.fromhex("e0eb7a7c3b41b8ae1656e3faf19fc46ada098deb9c32b1fd866205165f49b800"),
    bytes.fromhex("5f9c95bca3508c24b1d0b1559c83ef5b04445cc4581c8e86d8224eddd09f1157"),
]


def public(private_key: bytes) -> bytes:
    return X25519PrivateKey.from_private_bytes(private_key).public_key().public_bytes_raw()


PRIVATE = sorted((bytes([n]) * 32 for n in (1, 2, 3)), key=public)
RECIPIENTS = [public(key) for key in PRIVATE]


@dataclass
class Desk:
    """A folder with an envelope in it, and how to open it."""

    folder: Path

    @property
    def envelope(self) -> Path:
        return self.folder / "envelope"

    @property
    def target(self) -> Path:
        return self.folder / "plain"

    def seal(self, plain: bytes) -> bytes:
        seal(io.BytesIO(plain), len(plain), CONTEXT, RECIPIENTS, self.envelope)
        return self.envelope.read_bytes()

    def open(self, private_key: bytes = PRIVATE[0]) -> bytes:
        digest = open_envelope(self.envelope, CONTEXT, RECIPIENTS, private_key, self.target)
        plain = self.target.read_bytes()
        assert digest == hashlib.sha256(plain).digest()
        return plain

    def refusal(self, private_key: bytes = PRIVATE[0]) -> Reason:
        with pytest.raises(EnvelopeError) as refusal:
            open_envelope(self.envelope, CONTEXT, RECIPIENTS, private_key, self.target)
        assert not self.target.exists()
        assert not list(self.folder.glob(".*"))
        return refusal.value.reason

    def refusals(self) -> set[Reason]:
        return {self.refusal(private_key) for private_key in PRIVATE}


@pytest.fixture
def desk(tmp_path: Path) -> Desk:
    return Desk(tmp_path)


@pytest.mark.parametrize("size", [1, 15, CHUNK - 1, CHUNK, CHUNK + 1, 2 * CHUNK, 2 * CHUNK + 17])
def test_every_recipient_reads_what_was_sealed(desk: Desk, size: int) -> None:
    plain = os.urandom(size)
    sealed = desk.seal(plain)
    assert len(sealed) <= envelope_size(size, len(RECIPIENTS))
    assert all(desk.open(private_key) == plain for private_key in PRIVATE)


def test_a_file_is_sealed_as_its_bytes(desk: Desk) -> None:
    source = desk.folder / "update"
    source.write_bytes(b"update")
    seal(source, 6, CONTEXT, RECIPIENTS, desk.envelope)
    assert desk.open() == b"update"


def test_the_bytes_are_those_of_the_protocol(desk: Desk) -> None:
    """Open an envelope with nothing but the text of docs/protocol.md, section 6."""
    plain = os.urandom(CHUNK + 5)
    sealed = desk.seal(plain)
    length = int.from_bytes(sealed[8:12], "big")
    head, chunks = sealed[: 12 + length], sealed[12 + length :]
    header = read_header(io.BytesIO(sealed))
    own = header.recipients[1]
    context = SUITE.create_recipient_context(
        own.enc,
        SUITE.kem.deserialize_private_key(PRIVATE[1]),
        info=b"fedwitness.envelope.v1" + CONTEXT_BYTES,
    )
    key = context.open(own.wrap, aad=RECIPIENTS[1])
    label = b"fedwitness.envelope.ephemeral.v1" + CONTEXT_BYTES + RECIPIENTS[1]
    ephemeral = SUITE.kem.derive_key_pair(HKDF(SHA256(), 32, None, label).derive(key))
    assert ephemeral.public_key.to_public_bytes() == own.enc
    salt = hashlib.sha256(head).digest()
    payload = HKDF(SHA256(), 32, salt, b"fedwitness.envelope.payload.v1").derive(key)
    cipher = ChaCha20Poly1305(payload)
    first = cipher.decrypt(bytes(11) + b"\0", chunks[: CHUNK + 16], None)
    last = cipher.decrypt(bytes(10) + b"\1\1", chunks[CHUNK + 16 :], None)
    assert first + last == plain


def test_a_known_key_and_update_give_a_known_envelope(
    desk: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Guard the format: with K fixed, nothing in an envelope is random."""
    monkeypatch.setattr("os.urandom", lambda size: bytes(range(size)))
    assert hashlib.sha256(desk.seal(b"a known update")).hexdigest() == (
        "cf304dae1819fd44e9da77f3638b62a6dd6a493499693ac3ccf98eca15c6e1d1"
    )


def test_two_envelopes_of_one_update_have_nothing_in_common(desk: Desk) -> None:
    one, two = (read_header(io.BytesIO(desk.seal(b"update"))) for _ in range(2))
    assert not {each.enc for each in one.recipients} & {each.enc for each in two.recipients}


@given(st.data())
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_no_byte_can_be_changed(desk: Desk, data: st.DataObject) -> None:
    sealed = bytearray(desk.seal(b"an update"))
    at = data.draw(st.integers(0, len(sealed) - 1))
    sealed[at] ^= data.draw(st.integers(1, 255))
    desk.envelope.write_bytes(sealed)
    assert len(desk.refusals()) == 1


@given(st.binary(max_size=300))
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_any_bytes_are_no_envelope(desk: Desk, data: bytes) -> None:
    desk.envelope.write_bytes(data)
    assert desk.refusals() == {Reason.ENVELOPE_MALFORMED}


def cut(sealed: bytes) -> bytes:
    return sealed[:-1]


def lengthen(sealed: bytes) -> bytes:
    return sealed + b"\0"


def announce_a_huge_header(sealed: bytes) -> bytes:
    return sealed[:8] + b"\xff" * 4 + sealed[12:]


def drop_the_last_chunk(sealed: bytes) -> bytes:
    return sealed[: -(17 + 16)]


def swap_chunks(sealed: bytes) -> bytes:
    start = len(sealed) - 2 * (CHUNK + 16) - 33
    one, two = sealed[start:][: CHUNK + 16], sealed[start + CHUNK + 16 :][: CHUNK + 16]
    return sealed[:start] + two + one + sealed[-33:]


def flip_the_last_byte(sealed: bytes) -> bytes:
    return sealed[:-1] + bytes([sealed[-1] ^ 1])


def with_header(change: Callable[[EnvelopeHeader], EnvelopeHeader]) -> Callable[[bytes], bytes]:
    def changed(sealed: bytes) -> bytes:
        stream = io.BytesIO(sealed)
        header = read_header(stream)
        return change(header).to_bytes() + stream.read()

    return changed


def in_place(**changes: object) -> Callable[[bytes], bytes]:
    def change(header: EnvelopeHeader) -> EnvelopeHeader:
        return replace(header, context=replace(header.context, **changes))  # type: ignore[arg-type]

    return with_header(change)


def without_the_last(header: EnvelopeHeader) -> EnvelopeHeader:
    return replace(header, recipients=header.recipients[:-1])


def backwards(header: EnvelopeHeader) -> EnvelopeHeader:
    return replace(header, recipients=header.recipients[::-1])


def twice(header: EnvelopeHeader) -> EnvelopeHeader:
    return replace(header, recipients=(*header.recipients, header.recipients[-1]))


def smaller(header: EnvelopeHeader) -> EnvelopeHeader:
    return replace(header, size=header.size - 1)


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (cut, Reason.ENVELOPE_MALFORMED),
        (lengthen, Reason.ENVELOPE_MALFORMED),
        (announce_a_huge_header, Reason.ENVELOPE_MALFORMED),
        (drop_the_last_chunk, Reason.ENVELOPE_MALFORMED),
        (with_header(smaller), Reason.ENVELOPE_MALFORMED),
        (in_place(chain_id=1), Reason.ENVELOPE_CONTEXT_MISMATCH),
        (in_place(ledger=CONTEXT.hospital), Reason.ENVELOPE_CONTEXT_MISMATCH),
        (in_place(round=4), Reason.ENVELOPE_CONTEXT_MISMATCH),
        (in_place(hospital=CONTEXT.ledger), Reason.ENVELOPE_CONTEXT_MISMATCH),
        (with_header(without_the_last), Reason.ENVELOPE_RECIPIENTS_MISMATCH),
        (with_header(backwards), Reason.ENVELOPE_RECIPIENTS_MISMATCH),
        (with_header(twice), Reason.ENVELOPE_RECIPIENTS_MISMATCH),
        (swap_chunks, Reason.ENVELOPE_UNOPENABLE),
        (flip_the_last_byte, Reason.ENVELOPE_UNOPENABLE),
    ],
)
def test_every_recipient_refuses_a_changed_envelope_for_the_same_reason(
    desk: Desk, change: Callable[[bytes], bytes], reason: Reason
) -> None:
    sealed = desk.seal(os.urandom(2 * CHUNK + 17))
    desk.envelope.write_bytes(change(sealed))
    assert desk.refusals() == {reason}


@pytest.mark.parametrize("field", ["context", "recipients", "size"])
@pytest.mark.parametrize("value", ["null", "1", '"-1"', '"01"', "{}", "[1]", '[{"enc":1}]'])
def test_a_header_with_a_wrong_member_is_malformed(desk: Desk, field: str, value: str) -> None:
    members = {"context": "{}", "recipients": "[]", "size": '"1"'} | {field: value}
    text = ("{" + ",".join(f'"{key}":{members[key]}' for key in sorted(members)) + "}").encode()
    desk.envelope.write_bytes(b"FWENVLP1" + len(text).to_bytes(4, "big") + text)
    assert desk.refusals() == {Reason.ENVELOPE_MALFORMED}


def test_an_envelope_of_nothing_is_malformed(desk: Desk) -> None:
    """It has no last chunk, so nothing would tell whether all of it is there."""
    empty = with_header(lambda header: replace(header, size=0))(desk.seal(b"x"))
    desk.envelope.write_bytes(empty[: -(1 + TAG)])
    assert desk.refusals() == {Reason.ENVELOPE_MALFORMED}


@pytest.mark.parametrize("odd", range(3))
def test_a_good_key_for_one_and_a_bad_one_for_another_is_seen_by_all(
    desk: Desk, odd: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A hospital wraps another key to one recipient, so that the others would admit the update."""
    honest = envelopes._wrap

    def two_keys(key: bytes, context: EnvelopeContext, recipient: bytes) -> envelopes.Recipient:
        return honest(b"\7" * 32 if recipient == RECIPIENTS[odd] else key, context, recipient)

    with monkeypatch.context() as patch:
        patch.setattr(envelopes, "_wrap", two_keys)
        desk.seal(b"an update")
    assert desk.refusals() == {Reason.ENVELOPE_UNOPENABLE}


@pytest.mark.parametrize("point", LOW_ORDER, ids=lambda point: point.hex()[:8])
def test_an_encapsulated_key_of_low_order_opens_nothing(desk: Desk, point: bytes) -> None:
    def low_order(header: EnvelopeHeader) -> EnvelopeHeader:
        recipients = tuple(replace(one, enc=point) for one in header.recipients)
        return replace(header, recipients=recipients)

    desk.envelope.write_bytes(with_header(low_order)(desk.seal(b"an update")))
    assert desk.refusals() == {Reason.ENVELOPE_UNOPENABLE}


@pytest.mark.parametrize("point", LOW_ORDER, ids=lambda point: point.hex()[:8])
def test_nothing_is_sealed_to_a_key_of_low_order(desk: Desk, point: bytes) -> None:
    with pytest.raises(InvalidInputError, match="no usable X25519 key"):
        seal(io.BytesIO(b"update"), 6, CONTEXT, [point], desk.envelope)
    assert not list(desk.folder.iterdir())


@pytest.mark.parametrize("point", LOW_ORDER)
def test_a_key_of_low_order_is_no_usable_one(point: bytes) -> None:
    assert not is_usable_key(point)
    assert is_usable_key(public(PRIVATE[0]))


@pytest.mark.parametrize("size", [-1, 0, 5, 7, CHUNK])
def test_an_update_of_another_size_than_announced_is_not_sealed(desk: Desk, size: int) -> None:
    with pytest.raises(InvalidInputError, match="expected an update of"):
        seal(io.BytesIO(b"update"), size, CONTEXT, RECIPIENTS, desk.envelope)
    assert not list(desk.folder.iterdir())


@pytest.mark.parametrize("recipients", [[], RECIPIENTS[::-1], RECIPIENTS[:1] * 2, RECIPIENTS * 22])
def test_recipients_out_of_order_are_not_sealed_to(desk: Desk, recipients: list[bytes]) -> None:
    with pytest.raises(InvalidInputError, match="ascending"):
        seal(io.BytesIO(b"update"), 6, CONTEXT, recipients, desk.envelope)


def test_who_is_no_recipient_is_told_so(desk: Desk) -> None:
    desk.seal(b"update")
    with pytest.raises(InvalidInputError, match="not for the key"):
        desk.open(b"\x09" * 32)


def disclosed(desk: Desk) -> bytes:
    key = content_key(desk.envelope, PRIVATE[1])
    assert key is not None
    return key


def test_a_disclosed_key_opens_what_any_recipient_opens(desk: Desk) -> None:
    desk.seal(b"an update")
    key = disclosed(desk)
    assert {content_key(desk.envelope, private_key) for private_key in PRIVATE} == {key}
    digest = open_disclosed(desk.envelope, CONTEXT, RECIPIENTS, key, desk.target)
    assert desk.target.read_bytes() == b"an update"
    assert digest == hashlib.sha256(b"an update").digest()
    with desk.envelope.open("rb") as sealed:
        assert holds_key(sealed, key)


@pytest.mark.parametrize("key", [None, bytes(32), b"", bytes(31), bytes(33)])
def test_another_key_or_none_opens_nothing(desk: Desk, key: bytes | None) -> None:
    desk.seal(b"an update")
    with pytest.raises(EnvelopeError) as refusal:
        open_disclosed(desk.envelope, CONTEXT, RECIPIENTS, key, desk.target)
    assert refusal.value.reason is Reason.ENVELOPE_UNOPENABLE
    assert not desk.target.exists()
    with desk.envelope.open("rb") as sealed:
        assert key is None or not holds_key(sealed, key)


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (lengthen, Reason.ENVELOPE_MALFORMED),
        (in_place(round=4), Reason.ENVELOPE_CONTEXT_MISMATCH),
        (with_header(without_the_last), Reason.ENVELOPE_RECIPIENTS_MISMATCH),
        (flip_the_last_byte, Reason.ENVELOPE_UNOPENABLE),
    ],
)
def test_who_holds_the_disclosed_key_comes_to_the_recipients_answer(
    desk: Desk, change: Callable[[bytes], bytes], reason: Reason
) -> None:
    sealed = desk.seal(b"an update")
    key = disclosed(desk)
    desk.envelope.write_bytes(change(sealed))
    assert desk.refusals() == {reason}
    with pytest.raises(EnvelopeError) as refusal:
        open_disclosed(desk.envelope, CONTEXT, RECIPIENTS, key, desk.target)
    assert refusal.value.reason is reason


def test_a_stranger_finds_no_key_to_disclose(desk: Desk) -> None:
    desk.seal(b"an update")
    assert content_key(desk.envelope, bytes([9]) * 32) is None
    desk.envelope.write_bytes(b"no envelope")
    assert content_key(desk.envelope, PRIVATE[0]) is None
