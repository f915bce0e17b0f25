"""Settings of a witness, read once at start."""

import os
from collections.abc import Mapping
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

    workdir: Path = Path("runs/witness")
    threads: int = os.cpu_count() or 1
    poll_seconds: float = 2.0
    patience_seconds: float = 600.0

    def __post_init__(self) -> None:
        """Refuse what would stop the witness later."""
        if self.threads < 1 or not 0 < self.poll_seconds <= _HOUR or self.patience_seconds < 0:
            message = (
                "expected at least 1 thread, a poll interval above 0 and of at most 3600 seconds "
                f"and a patience of at least 0, found {self.threads}, {self.poll_seconds} and "
                f"{self.patience_seconds}"
            )
            raise InvalidInputError(message)

    @classmethod
    def from_environment(cls, environment: Mapping[str, str] = os.environ) -> "WitnessSettings":
        """Read the settings, each optional.

        They are `FEDWITNESS_WORKDIR`, `_THREADS`, `_POLL_SECONDS` and `_PATIENCE_SECONDS`.

        Raises:
            InvalidInputError: If a number is none, or out of range.
        """
        default = cls()
        try:
            return cls(
                workdir=Path(environment.get("FEDWITNESS_WORKDIR", default.workdir)),
                threads=int(environment.get("FEDWITNESS_THREADS", default.threads)),
                poll_seconds=float(
                    environment.get("FEDWITNESS_POLL_SECONDS", default.poll_seconds)
                ),
                patience_seconds=float(
                    environment.get("FEDWITNESS_PATIENCE_SECONDS", default.patience_seconds)
                ),
            )
        except ValueError as error:
            message = f"FEDWITNESS_THREADS, _POLL_SECONDS and _PATIENCE_SECONDS: {error}"
            raise InvalidInputError(message) from error
