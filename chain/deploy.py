"""Puts a federation's six contracts on a chain."""

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from chain.codec import contract_abi, encode_values
from chain.compiler import CompiledContracts
from chain.errors import InvalidInputError, LedgerError
from chain.keystore import Identity
from chain.rpc import RawReceipt, Rpc
from chain.sending import Sender


@dataclass(frozen=True, slots=True)
class Deployment:
    """Where a federation's contracts lie. ``block`` is the first one's."""

    chain_id: int
    participants: str
    datasets: str
    ledger: str
    image_access: str
    block: int


def deploy(
    rpc_url: str,
    steward: Identity,
    compiled: CompiledContracts,
    outbox_folder: Path,
    name: str = "Steward",
) -> Deployment:
    """Deploy a federation and enrol its first steward.

    Args:
        rpc_url: The chain's JSON-RPC URL.
        steward: Pays, and is enrolled as steward.
        compiled: See `chain.compiler.compile_contracts`.
        outbox_folder: Keeps the signed transactions (see `chain.outbox`).
        name: The steward's name, 1 to 64 bytes.

    Raises:
        LedgerError: If the chain cannot be reached, or refuses a deployment.
    """
    rpc = Rpc(rpc_url)
    sender = Sender(rpc, steward.account, outbox_folder)

    def put(contract: str, *values: object) -> RawReceipt:
        data = _creation(compiled, contract, values)
        return sender.send(None, data, f"deploy {contract}")

    first = put("ParticipantRegistry", steward.address, steward.encryption_key, name)
    participants = _address(first)
    datasets = _address(put("DatasetRegistry", participants))
    ledger = _address(put("RoundLedger", participants, datasets))
    access_logs = _address(put("AccessLogs", participants))
    readings = _address(put("Readings", participants, datasets))
    held = (participants, datasets, access_logs, readings)
    image_access = _address(put("ImageAccess", *held))
    return Deployment(rpc.chain_id, participants, datasets, ledger, image_access, first.block)


def _creation(compiled: CompiledContracts, contract: str, values: tuple[object, ...]) -> bytes:
    code = compiled[contract].bytecode
    if not re.fullmatch(r"([0-9a-f]{2})+", code):
        raise InvalidInputError(f"the code of {contract} is not linked, or no code: compile anew")
    return bytes.fromhex(code) + encode_values(contract, _constructor(contract), values)


def _constructor(contract: str) -> list[dict[str, Any]]:
    entry = next(entry for entry in contract_abi(contract) if entry["type"] == "constructor")
    return list(entry["inputs"])


def _address(receipt: RawReceipt) -> str:
    if receipt.contract is None:
        raise LedgerError(f"the chain deployed nothing in 0x{receipt.transaction.hex()}")
    return receipt.contract
