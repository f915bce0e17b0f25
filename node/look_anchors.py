"""Putting a hospital's access log on the ledger, batch by batch, and proving looks in it.

The ledger takes a batch only where the last one ended, so nothing has to be remembered of what was
anchored: whoever goes on asks the ledger. See docs/protocol.md, section 15.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Protocol

from chain.errors import ContractRevertedError, InvalidInputError
from chain.look_receipts import LookAnchor, LookReceipt
from chain.looks import MAX_BATCH, looks_root, prove_look
from chain.rpc import Head
from chain.sending import Receipt
from chain.types import AnchoredBatch
from node.look_log import LookLog, LookLogError

BATCH = 1024  # looks
AGE = 3600  # seconds of the chain's time


class LookLedger(Protocol):
    """The part of `chain.ledger.Ledger` that anchoring needs."""

    def head(self) -> Head:
        """Look up the newest block."""

    def anchored(self, hospital: str) -> tuple[int, int]:
        """Tell how many batches and entries a hospital anchored."""

    def anchored_batches(self, hospital: str | None = None) -> tuple[AnchoredBatch, ...]:
        """List the anchored batches of a hospital."""

    def anchor_looks(self, root: bytes, first: int, entries: int) -> Receipt:
        """Anchor the next entries."""


@dataclass(frozen=True, slots=True)
class Pace:
    """When looks are anchored.

    Attributes:
        batch: As soon as so many wait; and the most in one batch.
        age: As soon as one waits for so many seconds of the chain's time.
    """

    batch: int = BATCH
    age: int = AGE


def check_against_ledger(log: LookLog, ledger: LookLedger) -> None:
    """Check that the log is as long as what the ledger has of it, and anchored as it is.

    Raises:
        LookLogError: If it is shorter, or a batch was anchored with other looks.
        LedgerError: If the chain cannot be reached.
    """
    _, entries = ledger.anchored(log.hospital)
    if entries > len(log):
        raise LookLogError(
            f"{log.path}: expected at least the {entries} looks that are anchored, found "
            f"{len(log)}: put the log back from a copy, and show nothing until then"
        )
    for batch in ledger.anchored_batches(log.hospital)[-1:]:
        read_batch(log, batch)


def anchor_waiting(
    log: LookLog,
    ledger: LookLedger,
    pace: Pace = Pace(),
    *,
    now: bool = False,
    on_progress: Callable[[int, int], None] = lambda _done, _all: None,
) -> tuple[tuple[int, int], ...]:
    """Anchor what is due, as often as there is enough of it.

    Interrupted anywhere and called again, it goes on where the ledger stands.

    Args:
        log: The log.
        ledger: The ledger, in the hospital's name.
        pace: When looks are due.
        now: Whether everything that waits is due.
        on_progress: Called with how many looks are anchored, of how many that are logged.

    Returns:
        First number and count of each batch that was anchored.

    Raises:
        LookLogError: If the log is shorter than what is anchored, or damaged.
        LedgerError: If the chain refuses or cannot be reached.
    """
    done: list[tuple[int, int]] = []
    most = min(pace.batch, MAX_BATCH)
    while True:
        _, first = ledger.anchored(log.hospital)
        waiting = len(log) - first
        if waiting < 0:
            raise LookLogError(
                f"{log.path}: expected at least the {first} looks that are anchored, found "
                f"{len(log)}"
            )
        on_progress(first, len(log))
        if not waiting:
            return tuple(done)
        receipts = log.read(first, min(waiting, most))
        is_due = now or waiting >= most
        if not is_due and ledger.head().timestamp - receipts[0].look.time < pace.age:
            return tuple(done)
        # Another process may have written them, and not have put them on the disk yet.
        log.sync()
        root = looks_root([one.look for one in receipts])
        try:
            ledger.anchor_looks(root, first, len(receipts))
        except ContractRevertedError as error:
            # An earlier attempt came through, or another process was faster: ask again.
            if error.name != "AccessLogsOutOfOrder" or ledger.anchored(log.hospital)[1] == first:
                raise
            continue
        done.append((first, len(receipts)))


def prove(log: LookLog, ledger: LookLedger, number: int) -> LookReceipt:
    """Return a look's receipt, with its place in an anchored batch if it is anchored.

    Raises:
        InvalidInputError: If there is no such look.
        LookLogError: If the log is not what was anchored.
        LedgerError: If the chain cannot be reached.
    """
    if not 0 <= number < len(log):
        raise InvalidInputError(f"expected a look from 0 to {len(log) - 1}, found {number}")
    for batch in ledger.anchored_batches(log.hospital):
        if batch.first <= number < batch.first + batch.entries:
            receipts = read_batch(log, batch)
            place = number - batch.first
            shown = prove_look([one.look for one in receipts], place, batch.batch)
            anchor = LookAnchor(batch.batch, batch.root, batch.first, batch.entries, shown.proof)
            return replace(receipts[place], anchor=anchor)
    return log.read(number, 1)[0]


def read_batch(log: LookLog, batch: AnchoredBatch) -> Sequence[LookReceipt]:
    """Read the looks of an anchored batch.

    Raises:
        LookLogError: If they are not those that were anchored.
    """
    receipts = log.read(batch.first, batch.entries)
    if looks_root([one.look for one in receipts]) != batch.root:
        raise LookLogError(
            f"{log.path}: looks {batch.first} to {batch.first + batch.entries - 1} are not those "
            f"that were anchored as batch {batch.batch}"
        )
    return receipts
