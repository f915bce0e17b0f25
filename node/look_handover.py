"""Handing anchored looks to the federation's server, so that whoever may ask can be answered there.

The chain holds the roots of a hospital's log alone: that an entry is under a root, nobody can tell
without the entries. A hospital may hand them over, batch by batch and whole; the server compares
each with the root that was anchored, and so can anybody. What is there already is not sent again,
so it can be interrupted and repeated. See docs/protocol.md, section 15.
"""

from collections.abc import Callable, Sequence
from typing import Protocol

from chain.canonical import canonical_json
from chain.types import AnchoredBatch
from chain.wire import to_json_dict
from node.answers import BatchesWanted
from node.look_anchors import LookLedger, read_batch
from node.look_log import LookLog


class LookServer(Protocol):
    """The part of `node.client.RestClient` that handing over needs."""

    def batches_wanted(self) -> BatchesWanted:
        """Tell which of the hospital's batches the server knows of and has no looks of."""

    def hand_over(self, batch: int, looks: bytes) -> None:
        """Hand the looks of a batch over."""


def hand_over_anchored(
    log: LookLog,
    ledger: LookLedger,
    server: LookServer,
    on_progress: Callable[[int, int], None] = lambda _done, _all: None,
) -> tuple[AnchoredBatch, ...]:
    """Hand over every anchored batch that the server has not.

    Args:
        log: The log.
        ledger: The ledger.
        server: The federation's server, in the hospital's name.
        on_progress: Called with how many batches are handed over, of how many that are to be.

    Returns:
        What was handed over, oldest first.

    Raises:
        LookLogError: If the log is not what was anchored; nothing of that batch is sent.
        LedgerError: If the chain cannot be reached.
        ServerError: If the server refuses or cannot be reached; what it took, it keeps.
    """
    wanted = server.batches_wanted()
    # What is anchored since the server last looked, it does not know to ask for.
    waiting = tuple(
        batch
        for batch in ledger.anchored_batches(log.hospital)
        if batch.batch in wanted.batches or batch.position.block > wanted.block
    )
    for done, batch in enumerate(waiting):
        on_progress(done, len(waiting))
        looks = [receipt.look for receipt in read_batch(log, batch)]
        server.hand_over(batch.batch, to_lines(looks))
    on_progress(len(waiting), len(waiting))
    return waiting


def to_lines(looks: Sequence[object]) -> bytes:
    """Write looks as they are handed over: a line of canonical JSON each."""
    return b"".join(canonical_json(to_json_dict(look)) + b"\n" for look in looks)
