"""Settings of the aggregator, read once at start."""

import os
from collections.abc import Mapping
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
        database_url: The index, in SQLAlchemy's form.
    """

    workdir: Path = Path("runs/aggregator")
    threads: int = os.cpu_count() or 1
    poll_seconds: float = 2.0
    database_url: str = "sqlite:///runs/index.sqlite"

    def __post_init__(self) -> None:
        """Refuse what would stop the aggregator later."""
        if self.threads < 1 or not 0 < self.poll_seconds <= 3600:  # noqa: PLR2004 - one hour
            raise InvalidInputError(
                "expected at least 1 thread and a poll interval above 0 and of at most 3600 "
                f"seconds, found {self.threads} and {self.poll_seconds}"
            )

    @classmethod
    def from_environment(cls, environment: Mapping[str, str] = os.environ) -> "AggregatorSettings":
        """Read `FEDWITNESS_WORKDIR`, `_THREADS`, `_POLL_SECONDS` and `_DATABASE`, each optional.

        Raises:
            InvalidInputError: If a number is none, or out of range.
        """
        settings = cls()
        try:
            return cls(
                workdir=Path(environment.get("FEDWITNESS_WORKDIR", settings.workdir)),
                threads=int(environment.get("FEDWITNESS_THREADS", settings.threads)),
                poll_seconds=float(
                    environment.get("FEDWITNESS_POLL_SECONDS", settings.poll_seconds)
                ),
                database_url=environment.get("FEDWITNESS_DATABASE", settings.database_url),
            )
        except ValueError as error:
            raise InvalidInputError(
                f"FEDWITNESS_THREADS and FEDWITNESS_POLL_SECONDS must be numbers: {error}"
            ) from error
