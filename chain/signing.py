"""Signatures over update records, attestations and ledger heads, as EIP-712 typed data.

See docs/protocol.md, sections 7.1, 10 and 13; contracts/RoundHashes.sol hashes the same structs.
"""

from typing import Any, Final

from eth_account import Account
from eth_account.messages import SignableMessage, encode_typed_data
from eth_account.signers.local import LocalAccount
from eth_keys.exceptions import BadSignature
from eth_utils.exceptions import ValidationError

from chain.errors import VerificationError
from chain.types import Attestation, LedgerHead, UpdateRecord

SIGNATURE_BYTES = 65

# Half the order of secp256k1: EIP-2 and OpenZeppelin's ECDSA take no greater `s`, so that nobody
# can turn one valid signature into another.
_GREATEST_S = 0x7FFFFFFFFFFFFFFFFFFFFFFFFFFFFFFF5D576E7357A4501DDFE92F46681B20A0

_UPDATE_RECORD: Final = {
    "UpdateRecord": [
        {"name": "chainId", "type": "uint64"},
        {"name": "ledger", "type": "address"},
        {"name": "round", "type": "uint256"},
        {"name": "hospital", "type": "address"},
        {"name": "datasets", "type": "bytes32[]"},
        {"name": "purpose", "type": "uint8"},
        {"name": "examples", "type": "uint32"},
        {"name": "baseModel", "type": "bytes32"},
        {"name": "update", "type": "bytes32"},
        {"name": "blob", "type": "bytes32"},
        {"name": "code", "type": "bytes32"},
        {"name": "epsilon", "type": "uint64"},
        {"name": "delta", "type": "uint64"},
    ]
}
_ATTESTATION: Final = {
    "Attestation": [
        {"name": "round", "type": "uint256"},
        {"name": "proposal", "type": "uint32"},
        {"name": "model", "type": "bytes32"},
        {"name": "modelBlob", "type": "bytes32"},
        {"name": "verdicts", "type": "bytes32"},
    ]
}
_LEDGER_HEAD: Final = {
    "LedgerHead": [
        {"name": "round", "type": "uint256"},
        {"name": "number", "type": "uint64"},
        {"name": "hash", "type": "bytes32"},
        {"name": "blocks", "type": "uint64"},
        {"name": "history", "type": "bytes32"},
    ]
}


def domain(chain_id: int, ledger: str) -> dict[str, Any]:
    """Give the EIP-712 domain of a federation (docs/protocol.md, section 7.1)."""
    return {
        "name": "FedWitness",
        "version": "1",
        "chainId": chain_id,
        "verifyingContract": ledger,
    }


def update_struct_hash(record: UpdateRecord) -> bytes:
    """Compute the EIP-712 struct hash of a record, which the ledger keeps as its digest."""
    return bytes(_update_message(record).body)


def sign_update(record: UpdateRecord, account: LocalAccount) -> bytes:
    """Sign a record for the chain and ledger that it names.

    Returns:
        65 bytes: r, s, v.
    """
    return bytes(account.sign_message(_update_message(record)).signature)


def recover_update_signer(record: UpdateRecord, signature: bytes) -> str:
    """Find out who signed a record.

    Returns:
        The address; another one than the hospital's if the record is not what it signed.

    Raises:
        VerificationError: If these bytes are nobody's signature.
    """
    return recover(_update_message(record), signature)


def sign_attestation(
    chain_id: int, ledger: str, attestation: Attestation, account: LocalAccount
) -> bytes:
    """Sign, as a witness, that a proposal came out equal.

    Returns:
        65 bytes: r, s, v.
    """
    message = _attestation_message(chain_id, ledger, attestation)
    return bytes(account.sign_message(message).signature)


def recover_attestation_signer(
    chain_id: int, ledger: str, attestation: Attestation, signature: bytes
) -> str:
    """Find out who signed an attestation.

    Returns:
        The address; not the witness's if the attestation is not what it signed.

    Raises:
        VerificationError: If these bytes are nobody's signature.
    """
    return recover(_attestation_message(chain_id, ledger, attestation), signature)


def sign_head(chain_id: int, ledger: str, head: LedgerHead, account: LocalAccount) -> bytes:
    """Sign, as a witness, where the chain stood when a round became final.

    Returns:
        65 bytes: r, s, v.
    """
    return bytes(account.sign_message(_head_message(chain_id, ledger, head)).signature)


def recover_head_signer(chain_id: int, ledger: str, head: LedgerHead, signature: bytes) -> str:
    """Find out who signed a ledger's head.

    Returns:
        The address; not the witness's if the head is not what it signed.

    Raises:
        VerificationError: If these bytes are nobody's signature.
    """
    return recover(_head_message(chain_id, ledger, head), signature)


def _update_message(record: UpdateRecord) -> SignableMessage:
    content = {
        "chainId": record.chain_id,
        "ledger": record.ledger,
        "round": record.round,
        "hospital": record.hospital,
        "datasets": list(record.datasets),
        "purpose": record.purpose,
        "examples": record.examples,
        "baseModel": record.base_model,
        "update": record.update,
        "blob": record.blob,
        "code": record.code,
        "epsilon": record.epsilon,
        "delta": record.delta,
    }
    return encode_typed_data(domain(record.chain_id, record.ledger), _UPDATE_RECORD, content)


def _attestation_message(chain_id: int, ledger: str, attestation: Attestation) -> SignableMessage:
    content = {
        "round": attestation.round,
        "proposal": attestation.proposal,
        "model": attestation.model,
        "modelBlob": attestation.model_blob,
        "verdicts": attestation.verdicts,
    }
    return encode_typed_data(domain(chain_id, ledger), _ATTESTATION, content)


def _head_message(chain_id: int, ledger: str, head: LedgerHead) -> SignableMessage:
    content = {
        "round": head.round,
        "number": head.number,
        "hash": head.hash,
        "blocks": head.blocks,
        "history": head.history,
    }
    return encode_typed_data(domain(chain_id, ledger), _LEDGER_HEAD, content)


def recover(message: SignableMessage, signature: bytes) -> str:
    """Find out who signed typed data.

    Raises:
        VerificationError: If these bytes are nobody's signature.
    """
    s = int.from_bytes(signature[32:64], "big")
    if len(signature) != SIGNATURE_BYTES or signature[64] not in (27, 28) or s > _GREATEST_S:
        told = (
            f"expected a signature of 65 bytes with v 27 or 28 and the lower s (EIP-2), found "
            f"{len(signature)} bytes: 0x{signature[:SIGNATURE_BYTES].hex()}"
        )
        raise VerificationError(told)
    try:
        return str(Account.recover_message(message, signature=signature))
    except (BadSignature, ValidationError, ValueError) as error:
        told = f"0x{signature.hex()} is nobody's signature: {error}"
        raise VerificationError(told) from error
