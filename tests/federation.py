"""A small federation on anvil, ready to be used by any test.

Ask for the fixture ``federation``::

    def test_a_round_opens(federation: Federation) -> None:
        number = federation.open_round()
        record = federation.record("hospital-1", number)
        federation.ledgers["hospital-1"].record_update(record)
        assert federation.reader.round(number).updates == 1

Everyone in `PARTIES` is enrolled: a steward, an aggregator, three hospitals, two witnesses, an
auditor and a researcher, and each has a funded account and fast keys that are the same in every
run. Each hospital has registered one data-set version of 100 images that permits health
research. Contracts are deployed once for the test session; each test gets the chain as it was
just after, whatever other tests did (`evm_snapshot` and `evm_revert`).
"""

import hashlib
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from types import MappingProxyType
from typing import Any

from eth_account import Account

from chain.compiler import compile_contracts
from chain.deploy import Deployment, deploy
from chain.devnet.anvil import fund, rpc
from chain.digests import update_digest
from chain.keystore import Identity
from chain.ledger import Ledger
from chain.reader import LedgerReader
from chain.signing import sign_attestation, sign_update
from chain.types import (
    Attestation,
    DatasetTerms,
    Outcome,
    Purpose,
    Reason,
    Role,
    RoundTerms,
    UpdateRecord,
    Verdict,
)

ROOT = Path(__file__).resolve().parents[1]
ETHER = 10**18

PARTIES: dict[str, Role] = {
    "steward": Role.STEWARD,
    "aggregator": Role.AGGREGATOR,
    "hospital-1": Role.HOSPITAL,
    "hospital-2": Role.HOSPITAL,
    "hospital-3": Role.HOSPITAL,
    "witness-1": Role.WITNESS,
    "witness-2": Role.WITNESS,
    "auditor": Role.AUDITOR,
    "researcher": Role.RESEARCHER,
}
HOSPITALS = tuple(name for name, role in PARTIES.items() if role is Role.HOSPITAL)
WITNESSES = tuple(name for name, role in PARTIES.items() if role is Role.WITNESS)

TASK = "chest-x-ray"
PURPOSE = Purpose.HEALTH_RESEARCH
FED_AVG = '[{"name":"fed_avg","params":{}}]'
IMAGES = 100


def digest(text: str) -> bytes:
    """Make 32 bytes that a text stands for."""
    return hashlib.sha256(text.encode()).digest()


def identity(name: str) -> Identity:
    """Make keys that are the same in every run, without any work factor."""
    return Identity(Account.from_key(digest(f"account of {name}")), digest(f"x25519 of {name}"))


@dataclass(frozen=True, slots=True)
class Federation:
    """A deployed federation.

    Attributes:
        rpc_url: The chain.
        deployment: Where its contracts lie.
        identities: Each party's keys, by its name in `PARTIES`.
        ledgers: Each party's ledger client, by its name.
        reader: A client that only reads.
        versions: Each hospital's data-set version, by its name.
    """

    rpc_url: str
    deployment: Deployment
    identities: dict[str, Identity]
    ledgers: dict[str, Ledger]
    reader: LedgerReader
    versions: dict[str, bytes]

    def address(self, name: str) -> str:
        """The address of a party."""
        return self.identities[name].address

    def rpc(self, method: str, *params: Any) -> Any:
        """Call the chain itself, for instance ``rpc("evm_mine")``."""
        return rpc(self.rpc_url, method, *params)

    def pass_time(self, seconds: int) -> None:
        """Let the chain's clock go on and mine a block.

        From the time of its next block: where many were made in a second, that is ahead of the
        clock that `evm_increaseTime` moves. What anvil says of its next block can be a second off,
        so pass more than what is to be over.
        """
        pending = self.rpc("eth_getBlockByNumber", "pending", False)
        self.rpc("evm_setNextBlockTimestamp", int(pending["timestamp"], 16) + seconds)
        self.rpc("evm_mine")

    def terms(self, **changes: Any) -> RoundTerms:
        """Terms of a round that takes up to three updates within an hour; two witnesses of two."""
        terms = RoundTerms(
            task=TASK,
            purpose=PURPOSE,
            base_model=digest("base model"),
            base_blob=digest("base blob"),
            schema=digest("schema"),
            rule=FED_AVG,
            min_updates=1,
            max_updates=len(HOSPITALS),
            quorum=len(WITNESSES),
            deadline=self.reader.head().timestamp + 3600,
            witnesses=tuple(sorted((self.address(name) for name in WITNESSES), key=_number)),
        )
        return replace(terms, **changes)

    def open_round(self, **changes: Any) -> int:
        """Open a round with these terms and return its number."""
        return self.ledgers["aggregator"].open_round(self.terms(**changes))

    def record(self, hospital: str, round_number: int, **changes: Any) -> UpdateRecord:
        """A record that the ledger takes, with changes."""
        terms = self.reader.round(round_number).terms
        address, content = self.address(hospital), digest(f"update of {hospital}")
        record = UpdateRecord(
            chain_id=self.reader.chain_id,
            ledger=self.reader.address,
            round=round_number,
            hospital=address,
            datasets=(self.versions[hospital],),
            purpose=terms.purpose,
            examples=50,
            base_model=terms.base_model,
            update=update_digest(
                self.reader.chain_id, self.reader.address, round_number, address, content
            ),
            blob=digest(f"envelope of {hospital} for round {round_number}"),
            code=digest("code"),
        )
        return replace(record, **changes)

    def sign(self, record: UpdateRecord, signer: str) -> bytes:
        """A party's signature under a record."""
        return sign_update(record, self.identities[signer].account)

    def record_all(self, round_number: int) -> None:
        """Record an update of every hospital, which ends collecting."""
        for name in HOSPITALS:
            self.ledgers[name].record_update(self.record(name, round_number))

    def verdicts(self) -> tuple[Verdict, ...]:
        """Accept every hospital's update."""
        accepted = (
            Verdict(self.address(name), Outcome.ACCEPTED, Reason.NONE, 0, 0, digest(name))
            for name in HOSPITALS
        )
        return tuple(sorted(accepted, key=lambda verdict: _number(verdict.hospital)))

    def propose(self, round_number: int) -> None:
        """Propose some model for a round that every hospital has a record in."""
        model, blob = digest("model"), digest("model blob")
        self.ledgers["aggregator"].propose(round_number, model, blob, self.verdicts())

    def attest(self, round_number: int, witness: str) -> None:
        """Attest the newest proposal."""
        proposal = self.reader.round(round_number).proposal
        assert proposal is not None
        attestation = Attestation(
            round_number, proposal.number, proposal.model, proposal.model_blob, proposal.verdicts
        )
        signature = sign_attestation(
            self.reader.chain_id,
            self.reader.address,
            attestation,
            self.identities[witness].account,
        )
        ledger = self.ledgers[witness]
        ledger.attest(round_number, proposal.number, self.address(witness), signature)

    def finish(self, round_number: int) -> None:
        """Take an open round to its end: records, proposal, attestations."""
        self.record_all(round_number)
        self.propose(round_number)
        for witness in WITNESSES:
            self.attest(round_number, witness)


def found_federation(
    rpc_url: str, outboxes: Path, names: Mapping[str, str] = MappingProxyType({})
) -> Federation:
    """Deploy the contracts, fund and enrol everybody, and register a version for each hospital.

    Args:
        rpc_url: An anvil, whose accounts can be funded out of nothing.
        outboxes: Folder of the outboxes.
        names: What parties are called on the ledger, if not as in `PARTIES`.
    """
    identities = {name: identity(name) for name in PARTIES}
    for party in identities.values():
        fund(rpc_url, party.address, 100 * ETHER)
    compiled = compile_contracts(ROOT)
    deployment = deploy(rpc_url, identities["steward"], compiled, outboxes)
    federation = connect(rpc_url, deployment, outboxes, versions={})
    for name, role in PARTIES.items():
        if role is not Role.STEWARD:
            party = identities[name]
            steward = federation.ledgers["steward"]
            steward.enroll(party.address, role, party.encryption_key, names.get(name, name))
    for name in HOSPITALS:
        federation.versions[name] = federation.ledgers[name].register_version(dataset_terms(name))
    return federation


def connect(
    rpc_url: str, deployment: Deployment, outboxes: Path, versions: dict[str, bytes]
) -> Federation:
    """Make clients for a federation that is deployed, with outboxes in a folder of their own."""
    identities = {name: identity(name) for name in PARTIES}
    where = (rpc_url, deployment.ledger)
    ledgers = {
        name: Ledger(*where, party.account, outboxes, deployment.image_access)
        for name, party in identities.items()
    }
    reader = LedgerReader(*where, deployment.image_access)
    return Federation(rpc_url, deployment, identities, ledgers, reader, versions)


@contextmanager
def unchanged(rpc_url: str) -> Iterator[None]:
    """Take back whatever happens to the chain within."""
    snapshot = rpc(rpc_url, "evm_snapshot")
    try:
        yield
    finally:
        rpc(rpc_url, "evm_revert", snapshot)


def dataset_terms(hospital: str, **changes: Any) -> DatasetTerms:
    """A version of 100 X-ray images, de-identified, for health research, with changes."""
    terms = DatasetTerms(
        name=f"{hospital} x-rays",
        merkle_root=digest(f"images of {hospital}"),
        images=IMAGES,
        modality="DX",
        purposes=frozenset({PURPOSE.value}),
        profile=1,
        attestation=digest(f"report of {hospital}"),
        previous=bytes(32),
    )
    return replace(terms, **changes)


def _number(address: str) -> int:
    return int(address, 16)
