"""Readings of an image put in order: each with what it corrects, the newest first said."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from chain.readings import Reading


@dataclass(frozen=True, slots=True)
class Line:
    """A reading with its corrections, oldest first; the last one counts."""

    readings: tuple[Reading, ...]

    @property
    def newest(self) -> Reading:
        """The one that counts."""
        return self.readings[-1]


def lines_of(readings: Sequence[Reading]) -> tuple[Line, ...]:
    """Gather readings and their corrections into lines, in the order of their first readings.

    Args:
        readings: All of an image, or of several, in the order of the ledger.
    """
    lines: dict[bytes, list[Reading]] = {}
    begun: dict[bytes, bytes] = {}
    for one in readings:
        first = one.reading if one.corrects is None else begun.get(one.corrects, one.reading)
        begun[one.reading] = first
        lines.setdefault(first, []).append(one)
    return tuple(Line(tuple(line)) for line in lines.values())


def copies_among(readings: Iterable[Reading]) -> tuple[tuple[Reading, ...], ...]:
    """Find readings of several authors that hold the same document, salt and all.

    Salts are random, so all but one of them were copied from the ledger. Which, their order does
    not tell: whoever sees a reading on its way to a block can be there before it.
    """
    found: dict[bytes, list[Reading]] = {}
    for one in readings:
        found.setdefault(one.terms.document, []).append(one)
    return tuple(tuple(same) for same in found.values() if len({one.author for one in same}) > 1)
