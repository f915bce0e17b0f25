"""How far something long has come, for whoever waits for it."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeAlias


@dataclass(frozen=True, slots=True)
class Progress:
    """How far a stage has come: `done` of `total` parts."""

    stage: str
    done: int
    total: int


ProgressCallback: TypeAlias = Callable[[Progress], None]


def unheard(_: Progress) -> None:
    """Stand in for a callback where nobody wants to know how far a stage has come."""
