"""The heads of a ledger, computed from the blocks of a chain that hold a federation's logs.

See `chain.histories` for how these are hashed, and docs/protocol.md, section 13.
"""

from dataclasses import dataclass
from itertools import groupby

from chain.errors import LedgerError
from chain.histories import genesis_history, next_history
from chain.rpc import Head, Rpc
from chain.types import LedgerHead

_REMEMBERED = 256


@dataclass(frozen=True, slots=True)
class _History:
    """The history up to a block, inclusive; ``block_hash`` is None before the first."""

    number: int
    block_hash: bytes | None
    blocks: int
    history: bytes


class Heads:
    """Computes the heads of a ledger; each goes on from where an earlier one ended.

    Args:
        rpc: The chain.
        ledger: The RoundLedger's address.
        participants: The ParticipantRegistry's address.
        datasets: The DatasetRegistry's address.
        deployed_at: The block that the first of them was deployed in.
    """

    def __init__(
        self, rpc: Rpc, ledger: str, participants: str, datasets: str, deployed_at: int
    ) -> None:
        self._rpc = rpc
        self._contracts = (ledger, participants, datasets)
        genesis = genesis_history(rpc.chain_id, *self._contracts)
        self._first = _History(deployed_at - 1, None, 0, genesis)
        self._known: dict[int, _History] = {}

    def head(self, round_number: int, block: Head) -> LedgerHead:
        """Compute the head of a round that became final in a block.

        Raises:
            LedgerError: If the chain moved on while it was read.
        """
        found = self._read(self._start(block.number), block)
        if len(self._known) >= _REMEMBERED:
            self._known.clear()
        self._known[block.number] = found
        return LedgerHead(round_number, block.number, block.hash, found.blocks, found.history)

    def _start(self, number: int) -> _History:
        """Find the newest history that is known and that the chain still has."""
        known = [one for one in tuple(self._known.values()) if one.number <= number]
        for history in sorted(known, key=lambda one: one.number, reverse=True):
            if self._rpc.block(history.number).hash == history.block_hash:
                return history
            self._known.pop(history.number, None)
        return self._first

    def _read(self, start: _History, block: Head) -> _History:
        last, blocks, history = start.block_hash, start.blocks, start.history
        logs = self._rpc.logs(self._contracts, [], start.number + 1, block.number)
        for (number, last), found in groupby(logs, lambda log: (log.block, log.block_hash)):
            history = next_history(history, number, last, sum(1 for _ in found))
            blocks += 1
        # Block hashes lead back to the first block: where the last is right, all of them are.
        if last != block.hash or self._rpc.block(block.number).hash != block.hash:
            raise LedgerError(
                f"expected block {block.number} 0x{block.hash.hex()} to hold the last log, found "
                f"0x{(last or b'').hex()}: the chain moved on while it was read; try again"
            )
        return _History(block.number, block.hash, blocks, history)
