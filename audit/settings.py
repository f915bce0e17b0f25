"""What a witness is told at start."""

import math
from dataclasses import dataclass
from pathlib import Path

from chain.errors import InvalidInputError

_HOUR = 3600.0


@dataclass(frozen=True, slots=True)
class WitnessSettings:
    """How a witness works; nothing here changes a digest.

    Args:
        workdir: Keeps what is in work, private (0700). It may be deleted at any time, but for its
            file `heads.jsonl`, by which the witness notices a chain that was rewound.
        threads: How many threads aggregate.
        poll_seconds: How long to wait before the chain is asked again.
        patience_seconds: How long a blob that the witness cannot get, and the aggregator could,
            is asked for anew before the witness disputes.
        settle_seconds: How long the head of a final round must have stood before it is kept and
            cosigned. On a chain whose newest blocks are often replaced, as long as that takes.
        heads: Journals of other parties, whose heads the chain must have, too.
    """

    workdir: Path
    threads: int = 1
    poll_seconds: float = 2.0
    patience_seconds: float = 600.0
    settle_seconds: float = 3.0
    heads: tuple[Path, ...] = ()

    @property
    def journal(self) -> Path:
        """The file of the heads that the witness has seen."""
        return self.workdir / "heads.jsonl"

    def __post_init__(self) -> None:
        """Refuse what would stop the witness later."""
        polls_well = 0 < self.poll_seconds <= _HOUR
        waits = (self.patience_seconds, self.settle_seconds)
        if self.threads < 1 or not polls_well or not all(0 <= wait < math.inf for wait in waits):
            message = (
                "expected at least 1 thread, a poll interval above 0 and of at most 3600 seconds, "
                "and finite times of at least 0 to be patient and to let a head settle, found "
                f"{self.threads}, {self.poll_seconds}, {self.patience_seconds} and "
                f"{self.settle_seconds}"
            )
            raise InvalidInputError(message)
