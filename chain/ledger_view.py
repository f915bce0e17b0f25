"""What is read of a ledger to audit and replay it, wherever it is read.

`chain.reader.LedgerReader` asks a chain; `audit.logged.LoggedLedger` knows nothing but logs, such
as a bundle proves.
"""

from collections.abc import Iterator
from typing import Protocol

from chain.events import LedgerEvent
from chain.structs import Dispute
from chain.types import RecordedUpdate, Round, Verdict


class AtBlock(Protocol):
    """Something that stands at a block of the chain."""

    @property
    def number(self) -> int:
        """The block's number."""
        ...


class LedgerView(Protocol):
    """A federation's ledger, as far as audit and replay read it.

    What it raises is `UnknownRoundError` for a round that there is not, and `LedgerError` where
    the chain cannot be read.
    """

    @property
    def chain_id(self) -> int:
        """The chain's number (EIP-155)."""
        ...

    @property
    def address(self) -> str:
        """The RoundLedger's address."""
        ...

    def head(self) -> AtBlock:
        """Look up the newest block that is known."""
        ...

    def events(self, from_block: int, to_block: int) -> Iterator[LedgerEvent]:
        """Yield what the federation's contracts logged, in the order of the chain."""
        ...

    def round_count(self) -> int:
        """Count the rounds ever opened; they are numbered from 1."""
        ...

    def round(self, number: int) -> Round:
        """Look a round up as it stands."""
        ...

    def task_rounds(self, task_name: str) -> tuple[int, ...]:
        """List the numbers of all rounds of a task, ascending."""
        ...

    def records(self, number: int) -> tuple[RecordedUpdate, ...]:
        """List a round's update records in the order of the ledger."""
        ...

    def verdicts(self, number: int, proposal: int) -> tuple[Verdict, ...]:
        """List a proposal's verdicts, ascending by hospital."""
        ...

    def attestations(self, number: int, proposal: int) -> tuple[tuple[str, bytes], ...]:
        """List a proposal's witnesses with their signatures, in the order of the ledger."""
        ...

    def disputes(self, number: int) -> tuple[Dispute, ...]:
        """List the disputes of all of a round's proposals, in the order of the ledger."""
        ...

    def recipients(self, round_number: int) -> tuple[bytes, ...]:
        """List the X25519 keys that a round's envelopes are wrapped to (protocol 6)."""
        ...
