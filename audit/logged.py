"""A ledger that is known by its logs alone: what a bundle proves, read as a chain is read.

Pure. Every state of a round follows from the contracts' events (contracts/RoundProposals.sol and
contracts/Rounds.sol), so `LoggedLedger` answers what `chain.reader.LedgerReader` answers of the
same chain at the same block.
"""

from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

from chain import structs
from chain.envelope import is_usable_key
from chain.errors import UnknownRoundError
from chain.events import LedgerEvent, Log
from chain.membership import members
from chain.structs import Dispute
from chain.types import (
    Participant,
    Phase,
    Proposal,
    RecordedUpdate,
    Role,
    Round,
    RoundTerms,
    Verdict,
)

_OF_ONE_ROUND = "RoundLedger"


@dataclass(frozen=True, slots=True)
class KnownBlock:
    """The newest block that is known."""

    number: int


class LoggedLedger:
    """A federation's ledger as of a block, from all of its logs up to there.

    Args:
        chain_id: The chain's number (EIP-155).
        address: The RoundLedger's address.
        events: Everything that the federation's contracts logged, in the order of the chain.
        block: The block that it is as of.
    """

    def __init__(
        self, chain_id: int, address: str, events: Sequence[LedgerEvent], block: int
    ) -> None:
        self.chain_id = chain_id
        self.address = address
        self._events = events
        self._block = block
        self._of_round: defaultdict[int, list[LedgerEvent]] = defaultdict(list)
        self._rounds: dict[int, Round] = {}
        self._recipients: dict[int, tuple[bytes, ...]] = {}
        for event in events:
            if event.contract == _OF_ONE_ROUND and "round" in event.args:
                self._enter(event)

    def head(self) -> KnownBlock:
        """Give the block that everything is as of."""
        return KnownBlock(self._block)

    def events(self, from_block: int, to_block: int) -> Iterator[LedgerEvent]:
        """Yield the events of some blocks, the last one included."""
        return (one for one in self._events if from_block <= one.position.block <= to_block)

    def round_count(self) -> int:
        """Count the rounds ever opened."""
        return len(self._rounds)

    def round(self, number: int) -> Round:
        """Look a round up.

        Raises:
            UnknownRoundError: If there is none of this number.
        """
        if number not in self._rounds:
            message = f"expected a round of {self.address}, found number {number}"
            raise UnknownRoundError(message)
        return self._rounds[number]

    def task_rounds(self, task_name: str) -> tuple[int, ...]:
        """List the numbers of all rounds of a task, ascending."""
        return tuple(
            number for number, one in sorted(self._rounds.items()) if one.terms.task == task_name
        )

    def records(self, number: int) -> tuple[RecordedUpdate, ...]:
        """List a round's update records in the order of the ledger."""
        terms = self.round(number).terms
        return tuple(
            structs.recorded_update(self.chain_id, self.address, terms, log)
            for log in self._logs(number, "UpdateRecorded")
        )

    def verdicts(self, number: int, proposal: int) -> tuple[Verdict, ...]:
        """List a proposal's verdicts, ascending by hospital."""
        logs = self._logs(number, "VerdictRecorded")
        return tuple(structs.verdict(log.args) for log in logs if log.args["proposal"] == proposal)

    def attestations(self, number: int, proposal: int) -> tuple[tuple[str, bytes], ...]:
        """List a proposal's witnesses with their signatures, in the order of the ledger."""
        return tuple(
            (log.args["witness"], log.args["signature"])
            for log in self._logs(number, "ProposalAttested")
            if log.args["proposal"] == proposal
        )

    def disputes(self, number: int) -> tuple[Dispute, ...]:
        """List the disputes of all of a round's proposals, in the order of the ledger."""
        return tuple(structs.dispute(log) for log in self._logs(number, "ProposalDisputed"))

    def finalized_at(self, number: int) -> int | None:
        """Tell the block in which a round became final, None where it is not."""
        logs = self._logs(number, "RoundFinalized")
        return logs[0].position.block if logs else None

    def recipients(self, round_number: int) -> tuple[bytes, ...]:
        """List the X25519 keys that a round's envelopes are wrapped to (protocol 6)."""
        if round_number not in self._recipients:
            self._recipients[round_number] = self._find_recipients(round_number)
        return self._recipients[round_number]

    def _find_recipients(self, round_number: int) -> tuple[bytes, ...]:
        opened = self.round(round_number)
        parties = self._members(opened.opened_at.block)
        auditors = {
            party.address
            for party in parties.values()
            if Role.AUDITOR in party.roles and not party.suspended
        }
        wanted = auditors | {opened.aggregator} | set(opened.terms.witnesses)
        keys = {parties[address].encryption_key for address in wanted if address in parties}
        return tuple(sorted(key for key in keys if is_usable_key(key)))

    def _members(self, block: int) -> dict[str, Participant]:
        return members(
            Log(event.name, event.args, event.position)
            for event in self.events(0, block)
            if event.contract == "ParticipantRegistry"
        )

    def _logs(self, number: int, name: str) -> list[Log]:
        return [
            Log(event.name, event.args, event.position)
            for event in self._of_round[self.round(number).number]
            if event.name == name
        ]

    def _enter(self, event: LedgerEvent) -> None:
        number = int(event.args["round"])
        if event.name == "RoundOpened":
            self._rounds[number] = _opened(number, event)
        if number in self._rounds:
            self._rounds[number] = _after(self._rounds[number], event)
            self._of_round[number].append(event)


def _opened(number: int, event: LedgerEvent) -> Round:
    terms: RoundTerms = structs.round_terms(event.args["terms"])
    return Round(
        number=number,
        phase=Phase.OPEN,
        terms=terms,
        aggregator=event.args["aggregator"],
        opened_at=event.position,
        updates=0,
        attestations=0,
        disputed=False,
        proposal=None,
    )


def _after(round_: Round, event: LedgerEvent) -> Round:
    """Give the round as it is after an event of it."""
    args: dict[str, Any] = event.args
    match event.name:
        case "UpdateRecorded":
            return replace(round_, phase=Phase.COLLECTING, updates=round_.updates + 1)
        case "ModelProposed":
            proposal = Proposal(
                args["proposal"], args["model"], args["modelBlob"], args["verdicts"]
            )
            return replace(
                round_, phase=Phase.PROPOSED, proposal=proposal, attestations=0, disputed=False
            )
        case "ProposalAttested":
            return replace(round_, attestations=round_.attestations + 1)
        case "ProposalDisputed":
            return replace(round_, disputed=True)
        case "RoundFinalized":
            return replace(round_, phase=Phase.FINAL)
        case "RoundAborted":
            return replace(round_, phase=Phase.ABORTED)
        case _:
            return round_
