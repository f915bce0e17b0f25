"""One deployed contract: what it says and what it has logged, by name."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from chain import reverts
from chain.codec import (
    decode_event,
    decode_result,
    encode_call,
    topic_of,
)
from chain.errors import ContractRevertedError, LedgerError
from chain.events import Log
from chain.rpc import RawLog, Rpc
from chain.types import LogPosition

Block = int | Literal["latest", "pending"]


@dataclass(frozen=True, slots=True)
class Contract:
    """A contract of the federation, by its ABI's name and its address."""

    rpc: Rpc
    name: str
    address: str

    def ask(self, function: str, *values: object, block: Block = "latest") -> tuple[Any, ...]:
        """Call a view function, or try any other without recording it.

        Returns:
            One value for each return parameter.

        Raises:
            ContractRevertedError: If the contract refuses.
            InvalidInputError: If a value does not fit its parameter.
            LedgerError: If the chain cannot be reached or there is no such contract.
        """
        call = encode_call(self.name, function, *values)
        try:
            data = self.rpc.call(self.address, call, block=block)
        except ContractRevertedError as error:
            if error.name != reverts.UNKNOWN:
                raise
            # Ours refuse with their own errors alone: what says nothing is another contract.
            raise LedgerError(
                f"the contract at {self.address} does not answer {function} as a {self.name} "
                "does: is the address right, and is it this chain?"
            ) from error
        return decode_result(self.name, function, data)

    def logs(
        self, event: str, from_block: int, to_block: int, *topics: bytes | int | str | None
    ) -> Iterator[Log]:
        """Yield an event's logs in the order of the chain.

        Args:
            event: Its name.
            from_block: First block.
            to_block: Last block, inclusive.
            topics: What its indexed parameters must be, in order; None lets any pass.
        """
        wanted = [topic_of(self.name, event), *(_topic(topic) for topic in topics)]
        for raw in self.rpc.logs([self.address], wanted, from_block, to_block):
            yield decode_log(self.name, raw)

    def all_logs(self, from_block: int, to_block: int) -> Iterator[Log]:
        """Yield all logs of the contract in the order of the chain."""
        for raw in self.rpc.logs([self.address], [], from_block, to_block):
            yield decode_log(self.name, raw)

    def emitted(self, event: str, raw_logs: Sequence[RawLog]) -> dict[str, Any]:
        """Find the one log of an event in a receipt and give its arguments.

        Raises:
            LedgerError: If it is not there.
        """
        for raw in raw_logs:
            if raw.address == self.address and raw.topics[0] == topic_of(self.name, event):
                return decode_log(self.name, raw).args
        raise LedgerError(f"expected a log {self.name}.{event} in the receipt, found none")


def decode_log(contract: str, raw: RawLog) -> Log:
    """Decode a log of one of the contracts.

    Raises:
        LedgerError: If the contract has no such event.
    """
    event, args = decode_event(contract, raw.topics, raw.data)
    return Log(event, args, LogPosition(raw.block, raw.log_index, raw.transaction))


def _topic(value: bytes | int | str | None) -> bytes | None:
    if value is None:
        return None
    if isinstance(value, int):
        return value.to_bytes(32, "big")
    return (
        value
        if isinstance(value, bytes)
        else bytes.fromhex(value.removeprefix("0x")).rjust(32, b"\0")
    )
