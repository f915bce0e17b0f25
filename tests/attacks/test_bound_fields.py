"""A good update with one bound field changed is refused, each with a reason of its own."""

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from chain.errors import ContractRevertedError
from chain.tensors import tensor_bytes
from chain.types import DatasetTerms, Reason, UpdateRecord
from tests.attacks.rounds import AttackedRound, Sent, model
from tests.federation import Federation, dataset_terms, digest
from tests.memory_blobs import MemoryBlobStore

ELSEWHERE = "0x000000000000000000000000000000000000dEaD"


@pytest.fixture
def attacked(federation: Federation, tmp_path: Path) -> AttackedRound:
    return AttackedRound.opened(federation, MemoryBlobStore(), tmp_path)


def refusal(attacked: AttackedRound, record: UpdateRecord, signature: bytes) -> str:
    """Offer a record to the ledger and return the name of the contract's error."""
    ledger = attacked.federation.ledgers["aggregator"]
    with pytest.raises(ContractRevertedError) as caught:
        ledger.relay_update(record, signature)
    assert attacked.federation.reader.records(attacked.number) == ()
    return caught.value.name


def test_an_untouched_update_is_recorded_and_accepted(attacked: AttackedRound) -> None:
    reasons = attacked.reasons(lambda round_: round_.send("hospital-1", model(3.0)))
    assert set(reasons.values()) == {Reason.NONE}


# What the hospital itself signs, one field changed: the ledger names the fault.


def _registered(federation: Federation, **changes: Any) -> bytes:
    terms: DatasetTerms = dataset_terms("hospital-1", name="another set", **changes)
    return federation.ledgers["hospital-1"].register_version(terms)


def _superseded(federation: Federation) -> bytes:
    old = federation.versions["hospital-1"]
    terms = dataset_terms("hospital-1", merkle_root=digest("corrected"), previous=old)
    federation.ledgers["hospital-1"].register_version(terms)
    return old


def _withdrawn(federation: Federation) -> bytes:
    version = federation.versions["hospital-1"]
    federation.ledgers["hospital-1"].withdraw(version, "consent was withdrawn")
    return version


Changes = Callable[[Federation], dict[str, Any]]
SIGNED: dict[str, tuple[Changes, str]] = {
    "chain id": (lambda _: {"chain_id": 1}, "RoundLedgerWrongChain"),
    "contract": (lambda _: {"ledger": ELSEWHERE}, "RoundLedgerWrongLedger"),
    "round": (lambda _: {"round": 999}, "RoundLedgerUnknownRound"),
    "data set that is not registered": (
        lambda _: {"datasets": (digest("nothing"),)},
        "DatasetRegistryUnknownVersion",
    ),
    "data set of another hospital": (
        lambda federation: {"datasets": (federation.versions["hospital-2"],)},
        "DatasetRegistryNotOwner",
    ),
    "version that was superseded": (
        lambda federation: {"datasets": (_superseded(federation),)},
        "DatasetRegistrySuperseded",
    ),
    "version that was withdrawn": (
        lambda federation: {"datasets": (_withdrawn(federation),)},
        "DatasetRegistryWithdrawn",
    ),
    "version that is not de-identified": (
        lambda federation: {"datasets": (_registered(federation, profile=0),)},
        "DatasetRegistryNotDeidentified",
    ),
    "version for another purpose": (
        lambda federation: {"datasets": (_registered(federation, purposes=frozenset({43})),)},
        "DatasetRegistryPurposeNotPermitted",
    ),
    "version named twice": (
        lambda federation: {"datasets": (federation.versions["hospital-1"],) * 2},
        "DatasetRegistryVersionsNotAscending",
    ),
    "no data set": (lambda _: {"datasets": ()}, "DatasetRegistryNoVersions"),
    "purpose": (lambda _: {"purpose": 43}, "RoundLedgerPurposeMismatch"),
    "more examples than images": (lambda _: {"examples": 101}, "RoundLedgerExamplesOutOfRange"),
    "no examples": (lambda _: {"examples": 0}, "RoundLedgerExamplesOutOfRange"),
    "base model": (lambda _: {"base_model": digest("other")}, "RoundLedgerBaseModelMismatch"),
    "no update digest": (lambda _: {"update": bytes(32)}, "RoundLedgerEmptyDigest"),
    "no CID": (lambda _: {"blob": bytes(32)}, "RoundLedgerEmptyDigest"),
    "no code digest": (lambda _: {"code": bytes(32)}, "RoundLedgerEmptyDigest"),
}


@pytest.mark.parametrize("field", SIGNED)
def test_a_signed_record_is_refused_for_its(attacked: AttackedRound, field: str) -> None:
    changes, error = SIGNED[field]
    good = attacked.send("hospital-1", model(1.0)).record
    record = replace(good, **changes(attacked.federation))
    signature = attacked.federation.sign(record, "hospital-1")
    assert refusal(attacked, record, signature) == error


# What a relay changes behind the hospital's back: the signature no longer fits.

TAMPERED: dict[str, dict[str, Any]] = {
    "datasets": {"datasets": (digest("other"),)},
    "purpose": {"purpose": 42},
    "examples": {"examples": 99},
    "base_model": {"base_model": digest("other")},
    "update": {"update": digest("other")},
    "blob": {"blob": digest("other")},
    "code": {"code": digest("other")},
    "epsilon": {"epsilon": 1},
    "delta": {"delta": 1},
}


@pytest.mark.parametrize("field", TAMPERED)
def test_a_record_altered_after_signing_is_refused(attacked: AttackedRound, field: str) -> None:
    record = attacked.send("hospital-1", model(1.0)).record
    signature = attacked.federation.sign(record, "hospital-1")
    altered = replace(record, **TAMPERED[field])
    assert refusal(attacked, altered, signature) == "RoundLedgerBadSignature"


def test_a_record_under_another_hospitals_name_is_refused(attacked: AttackedRound) -> None:
    record = attacked.send("hospital-1", model(1.0)).record
    signature = attacked.federation.sign(record, "hospital-1")
    stolen = replace(record, hospital=attacked.federation.address("hospital-2"))
    assert refusal(attacked, stolen, signature) == "RoundLedgerBadSignature"


def test_a_record_of_someone_who_is_no_hospital_is_refused(attacked: AttackedRound) -> None:
    record = attacked.send("hospital-1", model(1.0)).record
    record = replace(record, hospital=attacked.federation.address("researcher"))
    signature = attacked.federation.sign(record, "researcher")
    assert refusal(attacked, record, signature) == "ParticipantRegistryUnknownParticipant"


def test_a_record_of_a_suspended_hospital_is_refused(attacked: AttackedRound) -> None:
    record = attacked.send("hospital-1", model(1.0)).record
    signature = attacked.federation.sign(record, "hospital-1")
    steward = attacked.federation.ledgers["steward"]
    steward.suspend(attacked.federation.address("hospital-1"), "key stolen")
    assert refusal(attacked, record, signature) == "ParticipantRegistrySuspended"


@pytest.mark.parametrize("signer", ["hospital-2", "aggregator"])
def test_a_forged_signature_is_refused(attacked: AttackedRound, signer: str) -> None:
    record = attacked.send("hospital-1", model(1.0)).record
    signature = attacked.federation.sign(record, signer)
    assert refusal(attacked, record, signature) == "RoundLedgerBadSignature"


def test_a_late_record_is_refused(attacked: AttackedRound) -> None:
    record = attacked.send("hospital-1", model(1.0)).record
    signature = attacked.federation.sign(record, "hospital-1")
    attacked.federation.pass_time(4000)
    assert refusal(attacked, record, signature) == "RoundLedgerLateRecord"


def test_a_second_record_in_a_round_is_refused(attacked: AttackedRound) -> None:
    attacked.record(attacked.send("hospital-1", model(1.0)))
    second = attacked.send("hospital-1", model(2.0)).record
    signature = attacked.federation.sign(second, "hospital-1")
    with pytest.raises(ContractRevertedError) as caught:
        attacked.federation.ledgers["aggregator"].relay_update(second, signature)
    assert caught.value.name == "RoundLedgerDuplicateRecord"
    assert len(attacked.federation.reader.records(attacked.number)) == 1


# What only those who can read the update see: the verdict names the fault on the ledger.


def _with(name: str, array: np.ndarray[Any, np.dtype[Any]]) -> Callable[[AttackedRound], Sent]:
    return lambda round_: round_.send("hospital-1", model(3.0) | {name: array})


def _renamed(round_: AttackedRound) -> Sent:
    tensors = model(3.0)
    tensors["layer.other"] = tensors.pop("layer.bias")
    return round_.send("hospital-1", tensors)


def _value(value: float) -> Callable[[AttackedRound], Sent]:
    return _with("layer.bias", np.array([0, value, 0], np.float32))


def _rebound(**changes: Any) -> Callable[[AttackedRound], Sent]:
    return lambda round_: round_.send("hospital-1", model(3.0), context=changes)


def _other_blob(round_: AttackedRound) -> Sent:
    sent = round_.send("hospital-1", model(3.0))
    return replace(sent, record=replace(sent.record, blob=digest("nothing there")))


def _swapped_block(round_: AttackedRound) -> Sent:
    sent = round_.send("hospital-1", model(3.0))
    assert isinstance(round_.blobs, MemoryBlobStore)
    root = next(cid for cid in round_.blobs.blocks if cid.digest == sent.record.blob)
    round_.blobs.blocks[root] = b"swapped"
    return sent


def _other_digest(round_: AttackedRound) -> Sent:
    sent = round_.send("hospital-1", model(3.0))
    return replace(sent, record=replace(sent.record, update=digest("other")))


def _flipped_byte(round_: AttackedRound) -> Sent:
    sent = round_.send("hospital-1", model(3.0))
    envelope = bytearray(sent.envelope.read_bytes())
    envelope[-1] ^= 1
    blob = round_.blobs.put([bytes(envelope)])
    return replace(sent, record=replace(sent.record, blob=blob.digest))


def _copied_ciphertext(round_: AttackedRound) -> Sent:
    peer = round_.send("hospital-2", model(1.0))
    own = round_.send("hospital-1", model(3.0))
    return replace(own, record=replace(own.record, blob=peer.record.blob))


def _header_rewritten(round_: AttackedRound) -> Sent:
    """Take a peer's ciphertext and write one's own name into its header, as a clever thief does."""
    peer = round_.send("hospital-2", model(1.0))
    own = round_.send("hospital-1", model(3.0))
    theirs, ours = (
        round_.federation.address(name).encode() for name in ("hospital-2", "hospital-1")
    )
    envelope = peer.envelope.read_bytes().replace(theirs, ours)
    blob = round_.blobs.put([envelope])
    return replace(own, record=replace(own.record, blob=blob.digest))


def _fewer_recipients(round_: AttackedRound) -> Sent:
    keys = round_.federation.reader.recipients(round_.number)
    return round_.send("hospital-1", model(3.0), recipients=keys[:-1])


def _metadata(round_: AttackedRound) -> Sent:
    canonical = tensor_bytes(model(3.0))
    length = int.from_bytes(canonical[:8], "little")
    header = json.loads(canonical[8 : 8 + length])
    text = json.dumps({"__metadata__": {"a": "b"}} | header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    hostile = len(text).to_bytes(8, "little") + text + canonical[8 + length :]
    return round_.send("hospital-1", hostile)


def _too_large(round_: AttackedRound) -> Sent:
    return round_.send("hospital-1", bytes(1 << 20))


JUDGED: dict[str, tuple[Callable[[AttackedRound], Sent], Reason]] = {
    "CID of nothing": (_other_blob, Reason.BLOB_UNAVAILABLE),
    "swapped blob": (_swapped_block, Reason.BLOB_DIGEST_MISMATCH),
    "oversized blob": (_too_large, Reason.BLOB_TOO_LARGE),
    "envelope for another chain": (_rebound(chain_id=1), Reason.ENVELOPE_CONTEXT_MISMATCH),
    "envelope for another contract": (
        _rebound(ledger=ELSEWHERE),
        Reason.ENVELOPE_CONTEXT_MISMATCH,
    ),
    "envelope for another round": (_rebound(round=7), Reason.ENVELOPE_CONTEXT_MISMATCH),
    "copied ciphertext": (_copied_ciphertext, Reason.ENVELOPE_CONTEXT_MISMATCH),
    "copied ciphertext under one's own name": (_header_rewritten, Reason.ENVELOPE_UNOPENABLE),
    "envelope that leaves a recipient out": (
        _fewer_recipients,
        Reason.ENVELOPE_RECIPIENTS_MISMATCH,
    ),
    "flipped byte in the envelope": (_flipped_byte, Reason.ENVELOPE_UNOPENABLE),
    "update digest": (_other_digest, Reason.UPDATE_DIGEST_MISMATCH),
    "file that is not canonical": (_metadata, Reason.TENSORS_MALFORMED),
    "tensor name": (_renamed, Reason.TENSOR_NAME_MISMATCH),
    "tensor shape": (
        _with("layer.bias", np.zeros((3, 1), np.float32)),
        Reason.TENSOR_SHAPE_MISMATCH,
    ),
    "tensor dtype": (
        _with("layer.bias", np.zeros(3, np.float16)),
        Reason.TENSOR_DTYPE_MISMATCH,
    ),
    "NaN": (_value(np.nan), Reason.NOT_A_NUMBER),
    "infinity": (_value(np.inf), Reason.INFINITE_VALUE),
    "base model sent back": (
        lambda round_: round_.send("hospital-1", model(0.5)),
        Reason.REPLAYED_UPDATE,
    ),
}


@pytest.mark.parametrize("fault", JUDGED)
def test_a_recorded_update_is_rejected_for_its(attacked: AttackedRound, fault: str) -> None:
    attack, reason = JUDGED[fault]
    reasons = attacked.reasons(attack)
    assert reasons == {"hospital-1": reason, "hospital-2": Reason.NONE, "hospital-3": Reason.NONE}


def test_a_peers_plaintext_is_rejected_as_a_copy(attacked: AttackedRound) -> None:
    attacked.record(attacked.send("hospital-3", model(2.0)))
    attacked.record(attacked.send("hospital-1", model(2.0)))
    attacked.record(attacked.send("hospital-2", model(1.0)))
    reasons = {name: verdict.reason for name, verdict in attacked.propose().items()}
    assert reasons == {
        "hospital-1": Reason.COPIED_FROM_PEER,
        "hospital-2": Reason.NONE,
        "hospital-3": Reason.NONE,
    }
