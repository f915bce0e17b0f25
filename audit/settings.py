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
        workdir: Keeps what is in work, private (0700). It may be deleted at any time.
        threads: How many threads aggregate.
        poll_seconds: How long to wait before the chain is asked again.
        patience_seconds: How long a blob that the witness cannot get, and the aggregator could,
            is asked for anew before the witness disputes.
    """

    workdir: Path
    threads: int = 1
    poll_seconds: float = 2.0
    patience_seconds: float = 600.0

    def __post_init__(self) -> None:
        """Refuse what would stop the witness later."""
        polls_well = 0 < self.poll_seconds <= _HOUR
        if self.threads < 1 or not polls_well or not 0 <= self.patience_seconds < math.inf:
            message = (
                "expected at least 1 thread, a poll interval above 0 and of at most 3600 seconds "
                "and a finite patience of at least 0, "
                f"found {self.threads}, {self.poll_seconds} and {self.patience_seconds}"
            )
            raise InvalidInputError(message)
