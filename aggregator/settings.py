"""What an aggregator is told at start."""

from dataclasses import dataclass
from pathlib import Path

from chain.errors import InvalidInputError


@dataclass(frozen=True, slots=True)
class AggregatorSettings:
    """How the aggregator works; nothing here changes a digest.

    Args:
        workdir: Keeps what is in work, private (0700). It may be deleted at any time.
        threads: How many threads aggregate.
        poll_seconds: How long to wait before the chain is asked again.
    """

    workdir: Path
    threads: int = 1
    poll_seconds: float = 2.0

    def __post_init__(self) -> None:
        """Refuse what would stop the aggregator later."""
        if self.threads < 1 or not 0 < self.poll_seconds <= 3600:  # noqa: PLR2004 - one hour
            raise InvalidInputError(
                "expected at least 1 thread and a poll interval above 0 and of at most 3600 "
                f"seconds, found {self.threads} and {self.poll_seconds}"
            )
