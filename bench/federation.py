"""A federation on a real chain to measure with: an aggregator, a witness and ten hospitals."""

from dataclasses import dataclass
from pathlib import Path

from eth_account import Account

from chain.compiler import compile_contracts
from chain.deploy import deploy
from chain.devnet.anvil import fund
from chain.digests import sha256, update_digest
from chain.keystore import Identity
from chain.ledger import Ledger
from chain.reader import LedgerReader
from chain.signing import sign_update
from chain.types import DatasetTerms, Purpose, Role, UpdateRecord

ROOT = Path(__file__).resolve().parents[1]
HOSPITALS = 10
EXAMPLES = 100

_WEALTH = 10**20  # wei


@dataclass(frozen=True, slots=True)
class Party:
    """A party's keys, its ledger client, and a hospital's data-set version."""

    identity: Identity
    ledger: Ledger
    version: bytes = bytes(32)


def found(rpc_url: str, folder: Path) -> dict[str, Party]:
    """Deploy the contracts and enrol ``aggregator``, ``witness`` and ``hospital-0`` to ``-9``.

    Args:
        rpc_url: An anvil, whose accounts can be funded out of nothing.
        folder: Holds the outboxes.
    """
    steward = _identity("steward")
    fund(rpc_url, steward.address, _WEALTH)
    outboxes = folder / "outboxes"
    deployment = deploy(rpc_url, steward, compile_contracts(ROOT), outboxes)
    governing = Ledger(rpc_url, deployment.ledger, steward.account, outboxes)
    roles = {"aggregator": Role.AGGREGATOR, "witness": Role.WITNESS}
    roles |= {f"hospital-{index}": Role.HOSPITAL for index in range(HOSPITALS)}
    parties: dict[str, Party] = {}
    for name, role in roles.items():
        identity = _identity(name)
        fund(rpc_url, identity.address, _WEALTH)
        governing.enroll(identity.address, role, identity.encryption_key, name)
        ledger = Ledger(rpc_url, deployment.ledger, identity.account, outboxes)
        version = ledger.register_version(_dataset(name)) if role is Role.HOSPITAL else bytes(32)
        parties[name] = Party(identity, ledger, version)
    return parties


def signed_record(
    reader: LedgerReader, hospital: Party, number: int, content: bytes, blob: bytes
) -> tuple[UpdateRecord, bytes]:
    """Return a hospital's record for a round and its signature.

    Args:
        reader: Knows the round.
        hospital: Whose update it is.
        number: The round.
        content: The update's content digest.
        blob: The digest of its envelope's blob.
    """
    terms = reader.round(number).terms
    address = hospital.identity.address
    record = UpdateRecord(
        chain_id=reader.chain_id,
        ledger=reader.address,
        round=number,
        hospital=address,
        datasets=(hospital.version,),
        purpose=terms.purpose,
        examples=EXAMPLES,
        base_model=terms.base_model,
        update=update_digest(reader.chain_id, reader.address, number, address, content),
        blob=blob,
        code=sha256(b"bench"),
    )
    return record, sign_update(record, hospital.identity.account)


def _identity(name: str) -> Identity:
    return Identity(Account.from_key(sha256(name.encode())), sha256(b"x25519" + name.encode()))


def _dataset(name: str) -> DatasetTerms:
    return DatasetTerms(
        name=name,
        merkle_root=sha256(name.encode()),
        images=EXAMPLES,
        modality="MR",
        purposes=frozenset({Purpose.HEALTH_RESEARCH.value}),
        profile=1,
        attestation=sha256(name.encode()),
        previous=bytes(32),
    )
