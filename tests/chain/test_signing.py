"""Signatures are EIP-712, have one form, and are bound to every field."""

from dataclasses import replace
from typing import Any

import pytest
from eth_abi.abi import encode
from eth_account import Account

from chain.digests import keccak
from chain.errors import VerificationError
from chain.signing import (
    recover_attestation_signer,
    recover_update_signer,
    sign_attestation,
    sign_update,
    update_struct_hash,
)
from chain.types import Attestation, UpdateRecord

HOSPITAL = Account.from_key(b"\x11" * 32)
LEDGER = "0x5FbDB2315678afecb367f032d93F642f64180aa3"
ORDER = 0xFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFEBAAEDCE6AF48A03BBFD25E8CD0364141
RECORD = UpdateRecord(
    chain_id=31337,
    ledger=LEDGER,
    round=3,
    hospital=HOSPITAL.address,
    datasets=(b"\1" * 32, b"\2" * 32),
    purpose=6,
    examples=120,
    base_model=b"\3" * 32,
    update=b"\4" * 32,
    blob=b"\5" * 32,
    code=b"\6" * 32,
    epsilon=8_000_000,
    delta=10_000_000,
)
ATTESTATION = Attestation(
    round=3, proposal=1, model=b"\1" * 32, model_blob=b"\2" * 32, verdicts=b"\3" * 32
)
UPDATE_TYPE = (
    b"UpdateRecord(uint64 chainId,address ledger,uint256 round,address hospital,"
    b"bytes32[] datasets,uint8 purpose,uint32 examples,bytes32 baseModel,bytes32 update,"
    b"bytes32 blob,bytes32 code,uint64 epsilon,uint64 delta)"
)
OTHER_RECORDS: list[dict[str, Any]] = [
    {"chain_id": 1},
    {"ledger": HOSPITAL.address},
    {"round": 4},
    {"hospital": LEDGER},
    {"datasets": (b"\1" * 32,)},
    {"purpose": 42},
    {"examples": 121},
    {"base_model": bytes(32)},
    {"update": bytes(32)},
    {"blob": bytes(32)},
    {"code": bytes(32)},
    {"epsilon": 0},
    {"delta": 0},
]


def test_a_records_digest_is_the_eip712_struct_hash() -> None:
    words = ["bytes32", "uint64", "address", "uint256", "address", "bytes32", "uint8", "uint32"]
    words += ["bytes32"] * 4 + ["uint64"] * 2
    values = (
        keccak(UPDATE_TYPE),
        RECORD.chain_id,
        RECORD.ledger,
        RECORD.round,
        RECORD.hospital,
        keccak(b"".join(RECORD.datasets)),
        RECORD.purpose,
        RECORD.examples,
        RECORD.base_model,
        RECORD.update,
        RECORD.blob,
        RECORD.code,
        RECORD.epsilon,
        RECORD.delta,
    )
    assert update_struct_hash(RECORD) == keccak(encode(words, values))


def test_a_known_record_has_its_known_digest_and_signature() -> None:
    assert (
        update_struct_hash(RECORD).hex()
        == "68bf1404eb12e582bddd5c5f2716ca463638179ee92f4e673310548771bff9b1"
    )
    assert sign_update(RECORD, HOSPITAL).hex() == (
        "705100c4d7802208f44c79c166c383d13df8df8e7d6be659e4d18aa5ba39f895"
        "4a82dc6ef196edccd36d2542679e1854bbb6eac7db90b38af08835b3883f95cd"
        "1c"
    )


def test_the_signer_is_recovered() -> None:
    assert recover_update_signer(RECORD, sign_update(RECORD, HOSPITAL)) == HOSPITAL.address


@pytest.mark.parametrize("change", OTHER_RECORDS, ids=lambda change: next(iter(change)))
def test_a_signature_holds_for_no_other_record(change: dict[str, Any]) -> None:
    signature = sign_update(RECORD, HOSPITAL)
    assert recover_update_signer(replace(RECORD, **change), signature) != HOSPITAL.address


def test_an_attestation_is_bound_to_ledger_chain_and_proposal() -> None:
    signature = sign_attestation(31337, LEDGER, ATTESTATION, HOSPITAL)
    for chain_id, ledger, attestation, same in (
        (31337, LEDGER, ATTESTATION, True),
        (1, LEDGER, ATTESTATION, False),
        (31337, HOSPITAL.address, ATTESTATION, False),
        (31337, LEDGER, replace(ATTESTATION, proposal=2), False),
        (31337, LEDGER, replace(ATTESTATION, verdicts=bytes(32)), False),
    ):
        signer = recover_attestation_signer(chain_id, ledger, attestation, signature)
        assert (signer == HOSPITAL.address) is same


def test_the_other_form_of_a_signature_is_refused() -> None:
    signature = sign_update(RECORD, HOSPITAL)
    s = ORDER - int.from_bytes(signature[32:64], "big")
    mirrored = signature[:32] + s.to_bytes(32, "big") + bytes([55 - signature[64]])
    with pytest.raises(VerificationError, match="lower s"):
        recover_update_signer(RECORD, mirrored)


@pytest.mark.parametrize(
    "signature", [b"", bytes(65), bytes(64) + b"\x1b", b"\xff" * 32 + bytes(32) + b"\x1c"]
)
def test_bytes_that_are_nobodys_signature_are_refused(signature: bytes) -> None:
    with pytest.raises(VerificationError):
        recover_update_signer(RECORD, signature)


def test_a_signature_with_a_byte_too_many_or_another_v_is_refused() -> None:
    signature = sign_update(RECORD, HOSPITAL)
    for other in (signature + b"\0", signature[:64], signature[:64] + b"\0"):
        with pytest.raises(VerificationError, match="65 bytes"):
            recover_update_signer(RECORD, other)
