"""What a step of a pipeline says of an update."""

import math
from dataclasses import dataclass
from typing import Final

from chain.types import Outcome, Reason

MILLION: Final = 1_000_000
_GREATEST = (1 << 64) - 1


@dataclass(frozen=True, slots=True)
class Judgement:
    """What a step says of one update. ``score`` and ``threshold`` are in millionths."""

    outcome: Outcome
    reason: Reason
    score: int
    threshold: int


KEPT: Final = Judgement(Outcome.ACCEPTED, Reason.NONE, 0, 0)


def accepted(score: float, threshold: float) -> Judgement:
    """Accept an update, with what it was measured by."""
    return Judgement(Outcome.ACCEPTED, Reason.NONE, millionths(score), millionths(threshold))


def clipped(reason: Reason, score: float, threshold: float) -> Judgement:
    """Say that an update counts for less than it asked for."""
    return Judgement(Outcome.CLIPPED, reason, millionths(score), millionths(threshold))


def rejected(reason: Reason, score: float, threshold: float) -> Judgement:
    """Say that an update is left out."""
    return Judgement(Outcome.REJECTED, reason, millionths(score), millionths(threshold))


def millionths(value: float) -> int:
    """Round a ratio of at least 0 down to millionths; the greatest 64-bit integer is infinity.

    The product with a million is one float64 operation, so every machine rounds alike.
    """
    scaled = value * MILLION
    if math.isnan(scaled) or scaled <= 0:
        return 0
    return _GREATEST if scaled >= _GREATEST else int(scaled)
