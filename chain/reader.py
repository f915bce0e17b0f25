"""What the ledger says: rounds, records, parties, data sets and grants, from its logs and views.

Everything is read from the chain; nothing but what can never change is remembered.
"""

import functools
import time
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from chain import structs
from chain.addresses import address_order, checked_address
from chain.contract import Block, Contract, decode_log
from chain.digests import task_id
from chain.envelope import is_usable_key
from chain.errors import (
    ContractRevertedError,
    InvalidInputError,
    LedgerError,
    PhaseError,
    UnknownRoundError,
)
from chain.events import LedgerEvent, Log
from chain.heads import Heads
from chain.membership import ROLE_IDS, members
from chain.readings_ledger import ReadingsReader
from chain.rpc import Head, RawLog, Rpc
from chain.structs import Dispute
from chain.types import (
    AccessGrant,
    AnchoredBatch,
    CosignedHead,
    DatasetState,
    DatasetVersion,
    LedgerHead,
    LogPosition,
    Participant,
    Phase,
    RecordedUpdate,
    Role,
    Round,
    RoundTerms,
    Tally,
    UpdateRecord,
    Verdict,
)

_REMEMBERED_ROUNDS = 256
_REVOKED = 2  # of ImageAccess's states


@dataclass(frozen=True, slots=True)
class GrantsAnswer:
    """A researcher's grants, all as they stood at one block."""

    block: Head
    grants: tuple[AccessGrant, ...]


@dataclass(frozen=True, slots=True)
class _Opening:
    """A round's RoundOpened log: what can never change of a round.

    ``block_hash`` tells whether the chain still has the block that it was read from.
    """

    terms: RoundTerms
    aggregator: str
    position: LogPosition
    block_hash: bytes


class LedgerReader:
    """Reads a federation's contracts. Making one asks the chain nothing yet.

    Args:
        rpc_url: The chain's JSON-RPC URL.
        ledger_address: The RoundLedger, which names the federation.
        image_access: The ImageAccess; needed for grants only.

    Raises:
        InvalidInputError: If the URL or an address is malformed.
    """

    def __init__(self, rpc_url: str, ledger_address: str, image_access: str | None = None) -> None:
        self._rpc = Rpc(rpc_url)
        self._ledger = Contract(self._rpc, "RoundLedger", checked_address(ledger_address))
        self._image_access = checked_address(image_access) if image_access is not None else None
        self._openings: dict[int, _Opening] = {}

    @property
    def chain_id(self) -> int:
        """The chain's number (EIP-155)."""
        return self._rpc.chain_id

    @property
    def address(self) -> str:
        """The RoundLedger's address."""
        return self._ledger.address

    @functools.cached_property
    def participant_registry(self) -> str:
        """The ParticipantRegistry's address, which the ledger holds."""
        return str(self._ledger.ask("participants")[0])

    @functools.cached_property
    def dataset_registry(self) -> str:
        """The DatasetRegistry's address, which the ledger holds."""
        return str(self._ledger.ask("datasets")[0])

    @functools.cached_property
    def access_logs(self) -> str:
        """The AccessLogs' address, which the ImageAccess holds."""
        return str(self._grants.ask("accessLogs")[0])

    @functools.cached_property
    def deployed_at(self) -> int:
        """The block that the federation's first contract was deployed in."""
        contracts = [self._participants, self._datasets, self._ledger]
        return min(int(contract.ask("deployedAt")[0]) for contract in contracts)

    def head(self) -> Head:
        """Look up the newest block; its timestamp is the chain's time."""
        return self._rpc.block()

    def block(self, number: int) -> Head:
        """Look a block up by its number.

        Raises:
            LedgerError: If the chain has none of this number.
        """
        return self._rpc.block(number)

    def next_timestamp(self) -> int:
        """Ask for the Unix time that a block made now would have.

        A quiet local chain makes no blocks, so its newest may be older than a deadline that has
        long passed.
        """
        return self._rpc.pending_timestamp()

    # Parties

    def participant(self, address: str) -> Participant | None:
        """Look a party up, None where it was never enrolled."""
        block = self.head().number
        account = checked_address(address)
        key, suspended, name = self._participants.ask("participantOf", account, block=block)
        if key == bytes(32):
            return None
        roles = frozenset(
            role
            for role, role_id in ROLE_IDS.items()
            if self._participants.ask("hasRole", role_id, account, block=block)[0]
        )
        return Participant(account, roles, key, name, suspended)

    def participants(self, role: Role | None = None) -> tuple[Participant, ...]:
        """List the parties that hold a role, suspended ones too, ascending by address."""
        found = self._members(self.head().number).values()
        wanted = [party for party in found if role is None or role in party.roles]
        return tuple(sorted(wanted, key=lambda party: address_order(party.address)))

    def is_active(self, address: str, role: Role) -> bool:
        """Tell whether a party holds a role now and is not suspended."""
        account = checked_address(address)
        return bool(self._participants.ask("isActive", account, ROLE_IDS[role])[0])

    def recipients(self, round_number: int) -> tuple[bytes, ...]:
        """List the X25519 keys that a round's envelopes are wrapped to (protocol 6).

        Returns:
            The keys of its aggregator, its witnesses and every auditor active then, each as it
            was at the end of the round's opening block, but for keys that nothing can be sealed
            to; ascending, without repetition.

        Raises:
            UnknownRoundError: If there is no such round.
        """
        opening = self._opening(round_number)
        parties = self._members(opening.position.block)
        auditors = {
            party.address
            for party in parties.values()
            if Role.AUDITOR in party.roles and not party.suspended
        }
        wanted = auditors | {opening.aggregator} | set(opening.terms.witnesses)
        keys = {parties[address].encryption_key for address in wanted}
        return tuple(sorted(key for key in keys if is_usable_key(key)))

    # Data sets

    def dataset_version(self, version: bytes) -> DatasetVersion:
        """Look a data-set version up.

        Raises:
            InvalidInputError: If it was never registered.
        """
        return self._dataset_version(version, "latest")

    def dataset_versions(self, hospital: str | None = None) -> tuple[DatasetVersion, ...]:
        """List all versions, or a hospital's, in the order of registration."""
        block = self.head().number
        owner = checked_address(hospital) if hospital is not None else None
        logs = self._datasets.logs("VersionRegistered", self.deployed_at, block, None, None, owner)
        return tuple(self._dataset_version(log.args["version"], block) for log in logs)

    def is_erased(self, hospital: str, image: bytes) -> bool:
        """Tell whether a hospital erased an image, in whichever of its versions (protocol 4.5)."""
        return bool(self._datasets.ask("isErased", checked_address(hospital), image)[0])

    # Rounds

    def round_count(self) -> int:
        """Count the rounds ever opened; they are numbered from 1."""
        return int(self._ledger.ask("roundCount")[0])

    def round(self, number: int) -> Round:
        """Look a round up as it stands now.

        Raises:
            UnknownRoundError: If there is none of this number.
        """
        opening = self._opening(number)
        state = self._round_state(number)
        return Round(
            number=number,
            phase=Phase(state["phase"]),
            terms=opening.terms,
            aggregator=opening.aggregator,
            opened_at=opening.position,
            updates=state["updates"],
            attestations=state["attestations"],
            disputed=state["disputed"],
            proposal=structs.proposal(state),
        )

    def active_round(self, task_name: str) -> Round | None:
        """Find the task's round that is neither final nor aborted."""
        number = int(self._ledger.ask("activeRound", task_id(task_name))[0])
        return self.round(number) if number else None

    def last_final(self, task_name: str) -> tuple[bytes, bytes, int] | None:
        """Find the task's last final model.

        Returns:
            Its digest, its blob and the round that made it; None before the first.
        """
        model, blob, number = self._ledger.ask("lastFinal", task_id(task_name))
        return (model, blob, number) if number else None

    def task_rounds(self, task_name: str) -> tuple[int, ...]:
        """List the numbers of all rounds of a task, ascending."""
        head = self.head().number
        logs = self._ledger.logs("RoundOpened", self.deployed_at, head, None, task_id(task_name))
        return tuple(int(log.args["round"]) for log in logs)

    def records(self, number: int) -> tuple[RecordedUpdate, ...]:
        """List a round's update records in the order of the ledger (protocol 8).

        Each is rebuilt from its event and the round's terms. Its ``record_digest`` is what the
        ledger hashed: whoever audits compares it with `chain.signing.update_struct_hash`.

        Raises:
            UnknownRoundError: If there is no such round.
        """
        terms = self._opening(number).terms
        logs = self._round_logs("UpdateRecorded", number)
        return tuple(
            structs.recorded_update(self.chain_id, self.address, terms, log) for log in logs
        )

    def verdicts(self, number: int, proposal: int) -> tuple[Verdict, ...]:
        """List a proposal's verdicts, ascending by hospital.

        Raises:
            UnknownRoundError: If there is no such round.
        """
        logs = self._round_logs("VerdictRecorded", number, proposal)
        return tuple(structs.verdict(log.args) for log in logs)

    def tally(self, task_name: str, hospital: str) -> Tally:
        """Ask what became of a hospital's updates in the final rounds of a task.

        The ledger itself counts, so this needs no log. Unknown tasks and hospitals have zeros.
        """
        account = checked_address(hospital)
        return structs.tally(self._ledger.ask("tallyOf", task_id(task_name), account)[0])

    def attestations(self, number: int, proposal: int) -> tuple[tuple[str, bytes], ...]:
        """List a proposal's witnesses with their signatures, in the order of the ledger.

        Raises:
            UnknownRoundError: If there is no such round.
        """
        logs = self._round_logs("ProposalAttested", number, proposal)
        return tuple((log.args["witness"], log.args["signature"]) for log in logs)

    def disputes(self, number: int) -> tuple[Dispute, ...]:
        """List the disputes of all of a round's proposals, in the order of the ledger.

        Raises:
            UnknownRoundError: If there is no such round.
        """
        logs = self._round_logs("ProposalDisputed", number)
        return tuple(structs.dispute(log) for log in logs)

    def head_of_final(self, number: int) -> LedgerHead:
        """Compute the head of a final round from the logs of the chain (protocol 13).

        Raises:
            UnknownRoundError: If there is no such round.
            PhaseError: If it is not final.
            LedgerError: If the chain moved on while it was read.
        """
        for log in self._round_logs("RoundFinalized", number):
            return self._heads.head(number, self._rpc.block(log.position.block))
        phase = Phase(self._round_state(number)["phase"])
        raise PhaseError(f"expected round {number} to be final, found it {phase.name}")

    def cosignatures(self, number: int) -> tuple[CosignedHead, ...]:
        """List what witnesses signed of a final round's head, in the order of the ledger.

        Raises:
            UnknownRoundError: If there is no such round.
        """
        logs = self._round_logs("HeadCosigned", number)
        return tuple(structs.cosigned_head(log.args) for log in logs)

    def cosigned_between(self, from_block: int, to_block: int) -> tuple[CosignedHead, ...]:
        """List what witnesses signed of any round's head, in blocks up to the last, inclusive."""
        first = max(from_block, self.deployed_at)
        logs = self._ledger.logs("HeadCosigned", first, to_block)
        return tuple(structs.cosigned_head(log.args) for log in logs)

    def check_record(self, record: UpdateRecord, signature: bytes) -> None:
        """Ask the ledger whether it would take a record now, without recording it.

        Raises:
            ContractRevertedError: If it would not, with its reason.
        """
        self._ledger.ask("relayUpdate", structs.record_values(record), signature, block="pending")

    # Grants

    def grants_of(self, researcher: str) -> GrantsAnswer:
        """List a researcher's grants, oldest first, dead ones too, at the newest block."""
        head = self.head()
        account = checked_address(researcher)
        logs = self._grants.logs("AccessGranted", self.deployed_at, head.number, None, account)
        return GrantsAnswer(head, tuple(self._grant(log, head) for log in logs))

    def grant(self, grant: bytes) -> AccessGrant:
        """Look a grant up as it stands at the newest block.

        Raises:
            InvalidInputError: If there is none.
        """
        head = self.head()
        return self._grant(self._granted(grant, head.number), head)

    def delegated_until(self, hospital: str, data_steward: str) -> int:
        """Tell until when (Unix seconds) somebody may grant in a hospital's name; 0 for never."""
        parties = checked_address(hospital), checked_address(data_steward)
        return int(self._grants.ask("delegatedUntil", *parties)[0])

    # Access logs

    def anchored(self, hospital: str) -> tuple[int, int]:
        """Tell how many batches and how many entries of its access log a hospital anchored."""
        batches, entries = self._access_logs.ask("anchored", checked_address(hospital))
        return int(batches), int(entries)

    def anchored_batches(self, hospital: str | None = None) -> tuple[AnchoredBatch, ...]:
        """List the anchored batches, all or a hospital's, in the order of the ledger."""
        owner = checked_address(hospital) if hospital is not None else None
        head = self.head().number
        logs = self._access_logs.logs("LogAnchored", self.deployed_at, head, owner)
        return tuple(structs.anchored_batch(log) for log in logs)

    # Readings

    @functools.cached_property
    def readings(self) -> ReadingsReader:
        """The clinicians' readings and the requests for them."""
        return ReadingsReader(self._rpc, self._readings_address)

    # Everything, in order

    def events(self, from_block: int, to_block: int) -> Iterator[LedgerEvent]:
        """Yield what the federation's contracts logged, in the order of the chain.

        Args:
            from_block: First block; what lies before the deployment is passed over unasked.
            to_block: Last block, inclusive.
        """
        contracts = [self._participants, self._datasets, self._ledger]
        if self._image_access is not None:
            readings = Contract(self._rpc, "Readings", self._readings_address)
            contracts.extend((self._grants, self._access_logs, readings))
        names = {contract.address: contract.name for contract in contracts}
        block = Head(-1, b"", 0)
        for raw in self._rpc.logs(list(names), [], max(from_block, self.deployed_at), to_block):
            if raw.block != block.number:
                block = self._rpc.block(raw.block)
            name = names[raw.address]
            log = decode_log(name, raw)
            yield LedgerEvent(log.event, log.args, log.position, name, block.timestamp)

    @functools.cached_property
    def _heads(self) -> Heads:
        contracts = (self.address, self.participant_registry, self.dataset_registry)
        return Heads(self._rpc, *contracts, self.deployed_at)

    def raw_logs(self, to_block: int) -> Iterator[RawLog]:
        """Yield all logs of ledger and registries up to a block, in the order of the chain."""
        contracts = [self.address, self.participant_registry, self.dataset_registry]
        yield from self._rpc.logs(contracts, [], self.deployed_at, to_block)

    def raw_block(self, number: int) -> tuple[dict[str, Any], list[dict[str, Any]]]:
        """Look a block and its receipts up in JSON-RPC's form, from which they can be proven.

        Raises:
            LedgerError: If the chain has no such block.
        """
        return self._rpc.raw_block(number)

    @functools.cached_property
    def _participants(self) -> Contract:
        return Contract(self._rpc, "ParticipantRegistry", self.participant_registry)

    @functools.cached_property
    def _datasets(self) -> Contract:
        return Contract(self._rpc, "DatasetRegistry", self.dataset_registry)

    @property
    def _grants(self) -> Contract:
        if self._image_access is None:
            raise InvalidInputError("grants need the address of the federation's ImageAccess")
        return Contract(self._rpc, "ImageAccess", self._image_access)

    @functools.cached_property
    def _access_logs(self) -> Contract:
        return Contract(self._rpc, "AccessLogs", self.access_logs)

    @functools.cached_property
    def _readings_address(self) -> str:
        return str(self._grants.ask("readings")[0])

    def _members(self, block: int) -> dict[str, Participant]:
        return members(self._participants.all_logs(self.deployed_at, block))

    def _dataset_version(self, version: bytes, block: Block) -> DatasetVersion:
        found = self._datasets.ask("versionOf", version, block=block)[0]
        if found["state"] == DatasetState.UNKNOWN:
            raise InvalidInputError(f"there is no data-set version 0x{version.hex()}")
        return structs.dataset_version(version, found)

    def _round_state(self, number: int) -> dict[str, Any]:
        try:
            state: dict[str, Any] = self._ledger.ask("roundOf", number)[0]
        except ContractRevertedError as error:
            if error.name != "RoundLedgerUnknownRound":
                raise
            raise UnknownRoundError(
                f"expected a round of {self.address}, found number {number}: "
                f"it has {self.round_count()}, numbered from 1"
            ) from error
        return state

    def _opening(self, number: int) -> _Opening:
        known = self._openings.get(number)
        if known is not None and self._is_still_there(known):
            return known
        opening = self._find_opening(number)
        if len(self._openings) >= _REMEMBERED_ROUNDS:
            self._openings.clear()
        self._openings[number] = opening
        return opening

    def _is_still_there(self, opening: _Opening) -> bool:
        # A chain that fell back to an older state may have another round of this number.
        try:
            return self._rpc.block(opening.position.block).hash == opening.block_hash
        except LedgerError:
            return False

    def _find_opening(self, number: int) -> _Opening:
        self._round_state(number)
        head = self.head().number
        for log in self._ledger.logs("RoundOpened", self.deployed_at, head, number):
            block_hash = self._rpc.block(log.position.block).hash
            terms = structs.round_terms(log.args["terms"])
            return _Opening(terms, log.args["aggregator"], log.position, block_hash)
        raise LedgerError(
            f"round {number} exists, but the chain has no log of its opening: "
            f"does its node keep logs from block {self.deployed_at} on?"
        )

    def _round_logs(self, event: str, *topics: int) -> Iterator[Log]:
        opened = self._opening(topics[0]).position.block
        return self._ledger.logs(event, opened, self.head().number, *topics)

    def _granted(self, grant: bytes, block: int) -> Log:
        for log in self._grants.logs("AccessGranted", self.deployed_at, block, grant):
            return log
        raise InvalidInputError(f"there is no grant 0x{grant.hex()}")

    def _grant(self, log: Log, head: Head) -> AccessGrant:
        state = self._grants.ask("stateOf", log.args["grantId"], block=head.number)[0]
        is_live = self._grants.ask("isLive", structs.grant_values(log.args), block=head.number)[0]
        # A quiet local chain makes no blocks, and its newest may be old: a grant ends with this
        # machine's clock too.
        is_live = is_live and log.args["expiry"] >= time.time()
        return structs.access_grant(log.args, revoked=state == _REVOKED, live=is_live)
