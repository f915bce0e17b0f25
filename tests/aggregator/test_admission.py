"""One good update, spoiled in one way at a time: each has its own reason (protocol 8)."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pytest
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey

from aggregator.admission import AdmissionTerms, Admitted, admit
from chain.cid import Cid
from chain.digests import content_digest, update_digest
from chain.envelope import EnvelopeContext, envelope_size, seal
from chain.errors import BlobUnavailableError
from chain.tensors import Array, schema_of, tensor_bytes
from chain.types import Outcome, Reason, UpdateRecord, Verdict
from tests.memory_blobs import MemoryBlobStore

CHAIN = 31337
LEDGER = "0x5FbDB2315678afecb367f032d93F642f64180aa3"
HOSPITAL = "0x70997970C51812dc3A010C7d01b50e0d17dc79C8"
OTHER = "0x3C44CdDdB6a900fa2b585dd299e03d12FA4293BC"
ROUND = 7

Tensors = dict[str, Array]


def public(private_key: bytes) -> bytes:
    return X25519PrivateKey.from_private_bytes(private_key).public_key().public_bytes_raw()


AGGREGATOR, WITNESS, STRANGER = (bytes([n]) * 32 for n in (1, 2, 3))
RECIPIENTS = tuple(sorted(public(key) for key in (AGGREGATOR, WITNESS)))


def good_tensors() -> Tensors:
    generator = np.random.default_rng(7)
    return {
        "conv.weight": generator.standard_normal((4, 3)).astype("<f4"),
        "norm.mean": generator.standard_normal(5).astype("<f8"),
        "head": np.full((), 0.5, np.float32),
    }


TERMS = AdmissionTerms(
    CHAIN, LEDGER, ROUND, schema_of(good_tensors()), RECIPIENTS, frozenset({bytes([9]) * 32})
)


@dataclass
class Sending:
    """An update on its way, which a test spoils at one place."""

    folder: Path
    blobs: MemoryBlobStore

    def seal(
        self,
        plaintext: bytes,
        context: EnvelopeContext | None = None,
        recipients: tuple[bytes, ...] = RECIPIENTS,
    ) -> bytes:
        source, target = self.folder / "plain", self.folder / "sealed"
        source.write_bytes(plaintext)
        context = context or TERMS.context(HOSPITAL)
        seal(source, len(plaintext), context, recipients, target)
        return target.read_bytes()

    def record(self, envelope: bytes, plaintext: bytes, **changes: object) -> UpdateRecord:
        content = content_digest(plaintext)
        record = UpdateRecord(
            chain_id=CHAIN,
            ledger=LEDGER,
            round=ROUND,
            hospital=HOSPITAL,
            datasets=(bytes(32),),
            purpose=6,
            examples=10,
            base_model=bytes(32),
            update=update_digest(CHAIN, LEDGER, ROUND, HOSPITAL, content),
            blob=self.blobs.put([envelope]).digest,
            code=bytes(32),
        )
        return replace(record, **changes)  # type: ignore[arg-type]

    def judge(
        self,
        record: UpdateRecord,
        *,
        peers: frozenset[bytes] = frozenset(),
        terms: AdmissionTerms = TERMS,
        private_key: bytes = AGGREGATOR,
    ) -> Admitted | Verdict:
        return admit(
            record,
            terms,
            peers=peers,
            blobs=self.blobs,
            private_key=private_key,
            envelopes=self.folder,
            plaintexts=self.folder,
        )

    def judge_tensors(self, tensors: Tensors) -> Admitted | Verdict:
        plaintext = tensor_bytes(tensors)
        return self.judge(self.record(self.seal(plaintext), plaintext))

    def reason_of(self, judged: Admitted | Verdict) -> Reason:
        """The reason of a rejection, which leaves no plaintext behind."""
        assert isinstance(judged, Verdict)
        assert (judged.hospital, judged.outcome) == (HOSPITAL, Outcome.REJECTED)
        assert (judged.score, judged.threshold) == (0, 0)
        assert not list(self.folder.glob("*.safetensors"))
        known = judged.reason >= Reason.TENSORS_MALFORMED
        assert (judged.content != bytes(32)) == known
        return judged.reason


@pytest.fixture
def sending(tmp_path: Path) -> Sending:
    return Sending(tmp_path, MemoryBlobStore())


@pytest.mark.parametrize("private_key", [AGGREGATOR, WITNESS])
def test_an_untouched_update_is_admitted(sending: Sending, private_key: bytes) -> None:
    plaintext = tensor_bytes(good_tensors())
    record = sending.record(sending.seal(plaintext), plaintext)
    judged = sending.judge(record, private_key=private_key)
    assert isinstance(judged, Admitted)
    assert (judged.record, judged.content) == (record, content_digest(plaintext))
    assert judged.path.read_bytes() == plaintext


def test_a_blob_that_nobody_has_is_unavailable(sending: Sending) -> None:
    plaintext = tensor_bytes(good_tensors())
    record = sending.record(sending.seal(plaintext), plaintext, blob=b"\7" * 32)
    assert sending.reason_of(sending.judge(record)) is Reason.BLOB_UNAVAILABLE


def test_a_blob_store_that_cannot_be_reached_condemns_nobody(
    sending: Sending, monkeypatch: pytest.MonkeyPatch
) -> None:
    def unreachable(_: Cid) -> bool:
        raise BlobUnavailableError("no IPFS node answers")

    record = sending.record(b"x", b"x", blob=b"\7" * 32)
    monkeypatch.setattr(sending.blobs, "has", unreachable)
    with pytest.raises(BlobUnavailableError, match="no IPFS node answers"):
        sending.judge(record)


def test_swapped_bytes_are_a_digest_mismatch(sending: Sending) -> None:
    plaintext = tensor_bytes(good_tensors())
    record = sending.record(sending.seal(plaintext), plaintext)
    other = sending.blobs.put([b"something else"])
    root = Cid.from_blob_digest(record.blob)
    sending.blobs.blocks[root] = sending.blobs.blocks[other]
    assert sending.reason_of(sending.judge(record)) is Reason.BLOB_DIGEST_MISMATCH


def test_a_flipped_byte_in_a_leaf_is_a_digest_mismatch(sending: Sending) -> None:
    plaintext = tensor_bytes(good_tensors())
    record = sending.record(sending.seal(plaintext), plaintext)
    root = Cid.from_blob_digest(record.blob)
    leaf = next(cid for cid in sending.blobs.blocks if cid != root)
    block = bytearray(sending.blobs.blocks[leaf])
    block[-1] ^= 1
    sending.blobs.blocks[leaf] = bytes(block)
    assert sending.reason_of(sending.judge(record)) is Reason.BLOB_DIGEST_MISMATCH


def test_a_blob_beyond_the_largest_envelope_is_too_large(sending: Sending) -> None:
    most = envelope_size(TERMS.schema.file_size(), len(RECIPIENTS))
    record = sending.record(bytes(most + 1), b"")
    assert sending.reason_of(sending.judge(record)) is Reason.BLOB_TOO_LARGE
    fitting = sending.record(bytes(most), b"")
    assert sending.reason_of(sending.judge(fitting)) is Reason.ENVELOPE_MALFORMED


@pytest.mark.parametrize(
    "spoil",
    [
        lambda _: b"no envelope at all",
        lambda envelope: envelope[:-1],
        lambda envelope: envelope + b"\0",
        lambda envelope: envelope[:8] + b"\xff" * 4 + envelope[12:],
    ],
)
def test_other_bytes_are_no_envelope(sending: Sending, spoil: Callable[[bytes], bytes]) -> None:
    plaintext = tensor_bytes(good_tensors())
    record = sending.record(spoil(sending.seal(plaintext)), plaintext)
    assert sending.reason_of(sending.judge(record)) is Reason.ENVELOPE_MALFORMED


@pytest.mark.parametrize(
    "context",
    [
        EnvelopeContext(1, LEDGER, ROUND, HOSPITAL),
        EnvelopeContext(CHAIN, OTHER, ROUND, HOSPITAL),
        EnvelopeContext(CHAIN, LEDGER, ROUND - 1, HOSPITAL),
        EnvelopeContext(CHAIN, LEDGER, ROUND, OTHER),
    ],
    ids=["chain", "ledger", "round", "hospital"],
)
def test_an_envelope_for_another_place_is_refused(
    sending: Sending, context: EnvelopeContext
) -> None:
    plaintext = tensor_bytes(good_tensors())
    record = sending.record(sending.seal(plaintext, context), plaintext)
    assert sending.reason_of(sending.judge(record)) is Reason.ENVELOPE_CONTEXT_MISMATCH


@pytest.mark.parametrize(
    "recipients",
    [RECIPIENTS[:1], (public(AGGREGATOR), public(STRANGER))],
    ids=["one too few", "a stranger"],
)
def test_an_envelope_to_others_is_refused(sending: Sending, recipients: tuple[bytes, ...]) -> None:
    plaintext = tensor_bytes(good_tensors())
    envelope = sending.seal(plaintext, recipients=tuple(sorted(recipients)))
    judged = sending.judge(sending.record(envelope, plaintext))
    assert sending.reason_of(judged) is Reason.ENVELOPE_RECIPIENTS_MISMATCH


def test_a_changed_ciphertext_does_not_open(sending: Sending) -> None:
    plaintext = tensor_bytes(good_tensors())
    envelope = bytearray(sending.seal(plaintext))
    envelope[-1] ^= 1
    record = sending.record(bytes(envelope), plaintext)
    assert sending.reason_of(sending.judge(record)) is Reason.ENVELOPE_UNOPENABLE


def test_another_plaintext_than_recorded_is_refused(sending: Sending) -> None:
    plaintext, other = tensor_bytes(good_tensors()), tensor_bytes({"w": np.ones(3)})
    record = sending.record(sending.seal(plaintext), other)
    assert sending.reason_of(sending.judge(record)) is Reason.UPDATE_DIGEST_MISMATCH


def test_a_digest_bound_to_another_round_is_refused(sending: Sending) -> None:
    plaintext = tensor_bytes(good_tensors())
    content = content_digest(plaintext)
    elsewhere = update_digest(CHAIN, LEDGER, ROUND - 1, HOSPITAL, content)
    record = sending.record(sending.seal(plaintext), plaintext, update=elsewhere)
    assert sending.reason_of(sending.judge(record)) is Reason.UPDATE_DIGEST_MISMATCH


@pytest.mark.parametrize("cut", [1, 8, 40])
def test_bytes_that_are_no_tensor_file_are_refused(sending: Sending, cut: int) -> None:
    plaintext = tensor_bytes(good_tensors())[:-cut]
    record = sending.record(sending.seal(plaintext), plaintext)
    assert sending.reason_of(sending.judge(record)) is Reason.TENSORS_MALFORMED


def renamed(tensors: Tensors) -> None:
    tensors["other"] = tensors.pop("head")


def narrowed(tensors: Tensors) -> None:
    tensors["conv.weight"] = tensors["conv.weight"].astype("<f2")


def reshaped(tensors: Tensors) -> None:
    tensors["conv.weight"] = tensors["conv.weight"].reshape(3, 4)


def with_a_nan(tensors: Tensors) -> None:
    tensors["conv.weight"][3, 2] = np.nan


def with_an_infinity(tensors: Tensors) -> None:
    tensors["norm.mean"][0] = -np.inf


def with_an_infinity_before_a_nan(tensors: Tensors) -> None:
    with_an_infinity(tensors)
    with_a_nan(tensors)


@pytest.mark.parametrize(
    ("spoil", "reason"),
    [
        (renamed, Reason.TENSOR_NAME_MISMATCH),
        (lambda tensors: tensors.pop("head"), Reason.TENSOR_NAME_MISMATCH),
        (narrowed, Reason.TENSOR_DTYPE_MISMATCH),
        (reshaped, Reason.TENSOR_SHAPE_MISMATCH),
        (with_a_nan, Reason.NOT_A_NUMBER),
        (with_an_infinity, Reason.INFINITE_VALUE),
        (with_an_infinity_before_a_nan, Reason.NOT_A_NUMBER),
    ],
)
def test_tensors_beside_the_schema_or_not_finite_are_refused(
    sending: Sending, spoil: Callable[[Tensors], None], reason: Reason
) -> None:
    tensors = good_tensors()
    spoil(tensors)
    assert sending.reason_of(sending.judge_tensors(tensors)) is reason


def test_an_update_to_a_base_model_with_state_has_the_trained_tensors_alone(
    sending: Sending,
) -> None:
    state: Tensors = {"server.m.head": np.zeros((), np.float32)}
    base = schema_of(good_tensors() | {"server.m.conv.weight": np.zeros((4, 3), "<f4")} | state)
    terms = replace(TERMS, schema=base.trained())

    def judged(tensors: Tensors) -> Admitted | Verdict:
        plaintext = tensor_bytes(tensors)
        return sending.judge(sending.record(sending.seal(plaintext), plaintext), terms=terms)

    refused = sending.reason_of(judged(good_tensors() | state))
    assert refused is Reason.TENSOR_NAME_MISMATCH
    assert isinstance(judged(good_tensors()), Admitted)


def test_a_nan_behind_the_first_block_is_found(sending: Sending) -> None:
    values = np.zeros(700_001, "<f2")
    values[-1] = np.nan
    plaintext = tensor_bytes({"w": values})
    terms = replace(TERMS, schema=schema_of({"w": values}))
    judged = sending.judge(sending.record(sending.seal(plaintext), plaintext), terms=terms)
    assert sending.reason_of(judged) is Reason.NOT_A_NUMBER


def test_the_content_of_a_peer_is_refused(sending: Sending) -> None:
    plaintext = tensor_bytes(good_tensors())
    record = sending.record(sending.seal(plaintext), plaintext)
    content = content_digest(plaintext)
    judged = sending.judge(record, peers=frozenset({content}))
    assert sending.reason_of(judged) is Reason.COPIED_FROM_PEER


def test_the_content_of_an_earlier_round_is_refused(sending: Sending) -> None:
    plaintext = tensor_bytes(good_tensors())
    record = sending.record(sending.seal(plaintext), plaintext)
    terms = replace(TERMS, earlier=frozenset({content_digest(plaintext)}))
    assert sending.reason_of(sending.judge(record, terms=terms)) is Reason.REPLAYED_UPDATE


def test_the_first_failure_is_the_reason(sending: Sending) -> None:
    """A replayed copy of a peer, not finite, wrapped to strangers: the wrap is looked at first."""
    tensors = good_tensors()
    with_a_nan(tensors)
    plaintext = tensor_bytes(tensors)
    content = frozenset({content_digest(plaintext)})
    terms = replace(TERMS, earlier=content)
    record = sending.record(sending.seal(plaintext), plaintext)
    assert sending.reason_of(sending.judge(record, peers=content, terms=terms)) is (
        Reason.NOT_A_NUMBER
    )
    envelope = sending.seal(plaintext, recipients=RECIPIENTS[:1])
    record = sending.record(envelope, plaintext)
    assert sending.reason_of(sending.judge(record, peers=content, terms=terms)) is (
        Reason.ENVELOPE_RECIPIENTS_MISMATCH
    )


def test_an_envelope_that_is_there_already_is_not_fetched_again(sending: Sending) -> None:
    plaintext = tensor_bytes(good_tensors())
    record = sending.record(sending.seal(plaintext), plaintext)
    assert isinstance(sending.judge(record), Admitted)
    kept = dict(sending.blobs.blocks)
    sending.blobs.blocks.clear()
    assert isinstance(sending.judge(record), Admitted)
    sending.blobs.blocks |= kept
    for other in (b"damaged", b""):
        next(sending.folder.glob("*.envelope")).write_bytes(other)
        assert isinstance(sending.judge(record), Admitted)
