"""What contracts log, decoded: each event with its arguments by name and its place."""

from dataclasses import dataclass
from typing import Any

from chain.types import LogPosition


@dataclass(frozen=True, slots=True)
class Log:
    """A decoded log: the event's name, its arguments by name, and where it stands."""

    event: str
    args: dict[str, Any]
    position: LogPosition


@dataclass(frozen=True, slots=True)
class LedgerEvent:
    """Something that one of the federation's contracts logged.

    Attributes:
        name: The event, such as ``UpdateRecorded``.
        args: Its arguments by name; structs are dictionaries, arrays tuples, digests bytes.
        position: Where it stands on the chain.
        contract: The contract's name, such as ``RoundLedger``.
        timestamp: Unix time of its block in seconds.
    """

    name: str
    args: dict[str, Any]
    position: LogPosition
    contract: str
    timestamp: int
