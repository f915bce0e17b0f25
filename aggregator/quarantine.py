"""Quarantine: the policy, and what a verdict weighs by it (docs/protocol.md, section 9.8)."""

from collections.abc import Mapping
from dataclasses import dataclass

from aggregator.params import require_integer
from chain.types import Outcome, Reason, Verdict

FAULT = 1_000_000  # a strike, in millionths
FLAG = 500_000

# What the bytes prove that the hospital signed for. Not among them: BLOB_UNAVAILABLE and
# BLOB_DIGEST_MISMATCH, where the IPFS node may be at fault, and COPIED_FROM_PEER, where the ledger
# tells which of two came first but not which of two is the copy.
_FAULTS = frozenset(map(Reason, (*range(3, 15), 16)))
# A statistic, but one that other data hardly move: whoever scales its update leaves the range.
_FLAGS = frozenset({Reason.NORM_OUT_OF_RANGE})
# What screens and rules leave out because others are more alike. Of any cohort they leave out
# somebody, and most often the hospital that is different.
_COMPARISONS = range(Reason.NORM_OUT_OF_RANGE + 1, 64)

_GREATEST = 1_000  # of any parameter


@dataclass(frozen=True, slots=True)
class Quarantine:
    """Leave out the updates of hospitals with too many strikes among their latest records.

    Args:
        strikes: How many fill the measure.
        window: Among how many of the hospital's latest records, at most 1,000.
        rounds: For how many of the task's final rounds it is left out, at most 1,000.

    Raises:
        InvalidInputError: If a parameter is out of range.
    """

    strikes: int
    window: int
    rounds: int

    def __post_init__(self) -> None:
        """Refuse a policy that is out of range."""
        require_integer(self.name, "window", self.window, 1, _GREATEST)
        require_integer(self.name, "strikes", self.strikes, 1, self.window)
        require_integer(self.name, "rounds", self.rounds, 1, _GREATEST)

    @property
    def name(self) -> str:
        """What it is called on the ledger."""
        return "quarantine"

    @property
    def params(self) -> Mapping[str, int]:
        """Its parameters by name."""
        return {"strikes": self.strikes, "window": self.window, "rounds": self.rounds}

    @property
    def threshold(self) -> int:
        """What a quarantined hospital's strikes were held against, in millionths."""
        return self.strikes * FAULT


def strikes_of(verdict: Verdict) -> int | None:
    """Weigh what a verdict says about its hospital.

    Returns:
        In millionths: 1,000,000 for a fault that the update's own bytes prove; 500,000 for a norm
        out of range, which by chance an honest one may have; 0 for an update that was compared
        with the others, whatever came of it. None where the verdict says nothing: such a record
        takes no place in the window, so that nobody pushes strikes out of it by sending nothing.
    """
    if verdict.outcome is not Outcome.REJECTED or verdict.reason in _COMPARISONS:
        return 0
    if verdict.reason in _FAULTS:
        return FAULT
    return FLAG if verdict.reason in _FLAGS else None
