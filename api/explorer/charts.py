"""Where bars and points of a chart stand, in units of its SVG; templates draw them."""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import accumulate

WIDTH = 620
HEIGHT = 220
LEFT, RIGHT, TOP, BOTTOM = 44, 8, 10, 26
_WIDEST = 44  # of a bar and the gap beside it
_TICKS = 4
_LABELS = 18  # round numbers that fit below the axis


@dataclass(frozen=True, slots=True)
class Segment:
    """A part of a bar: how many of what kind."""

    kind: str
    count: int
    y: float
    height: float


@dataclass(frozen=True, slots=True)
class Bar:
    """A round's bar: ``x`` is its left side, ``middle`` where its label goes, if it has one."""

    number: int
    x: float
    middle: float
    segments: tuple[Segment, ...]
    has_label: bool


@dataclass(frozen=True, slots=True)
class Tick:
    """A line across the chart, and what it stands for."""

    y: float
    label: str


@dataclass(frozen=True, slots=True)
class BarChart:
    """Bars with their axis; ``step`` is the width of a bar with its gap, ``bar`` that without."""

    bars: tuple[Bar, ...]
    ticks: tuple[Tick, ...]
    step: float
    bar: float


@dataclass(frozen=True, slots=True)
class Point:
    """A value at its place."""

    number: int
    value: float
    x: float
    y: float
    has_label: bool


@dataclass(frozen=True, slots=True)
class LineChart:
    """Points with their axis, and the path through them."""

    points: tuple[Point, ...]
    ticks: tuple[Tick, ...]
    path: str


def stacked_bars(rounds: Sequence[tuple[int, Sequence[tuple[str, int]]]]) -> BarChart:
    """Lay bars out, one for each round.

    Args:
        rounds: Each round's number and its counts by kind, the lowest segment first; ascending.
    """
    step = min(_WIDEST, (WIDTH - LEFT - RIGHT) / max(1, len(rounds)))
    greatest = max((sum(count for _, count in counts) for _, counts in rounds), default=0)
    top, spacing = _scale(greatest)
    unit = (HEIGHT - TOP - BOTTOM) / top
    every = max(1, -(-len(rounds) // _LABELS))
    bars = tuple(
        Bar(
            number,
            round(LEFT + place * step, 2),
            round(LEFT + (place + 0.5) * step, 2),
            _segments(counts, unit),
            place % every == 0,
        )
        for place, (number, counts) in enumerate(rounds)
    )
    ticks = tuple(
        Tick(round(HEIGHT - BOTTOM - value * unit, 2), str(value))
        for value in range(0, top + 1, spacing)
    )
    return BarChart(bars, ticks, round(step, 2), round(step * 0.72, 2))


def line(values: Sequence[tuple[int, float]]) -> LineChart:
    """Lay shares of one out over rounds, ascending by round; the axis is 0 to 1."""
    first, last = values[0][0], values[-1][0]
    span = max(1, last - first)
    room = HEIGHT - TOP - BOTTOM
    across = WIDTH - LEFT - RIGHT - 40
    every = max(1, -(-len(values) // _LABELS))
    points = tuple(
        Point(
            number,
            value,
            round(LEFT + 20 + (number - first) / span * across, 2),
            round(TOP + (1 - value) * room, 2),
            place % every == 0,
        )
        for place, (number, value) in enumerate(values)
    )
    ticks = tuple(
        Tick(round(TOP + (1 - part / _TICKS) * room, 2), f"{part / _TICKS:.2f}")
        for part in range(_TICKS + 1)
    )
    path = " ".join(
        f"{'L' if place else 'M'}{point.x} {point.y}" for place, point in enumerate(points)
    )
    return LineChart(points, ticks, path)


def _segments(counts: Sequence[tuple[str, int]], unit: float) -> tuple[Segment, ...]:
    tops = accumulate(count for _, count in counts)
    return tuple(
        Segment(kind, count, round(HEIGHT - BOTTOM - top * unit, 2), round(count * unit, 2))
        for (kind, count), top in zip(counts, tops, strict=True)
        if count
    )


def _scale(greatest: int) -> tuple[int, int]:
    """Find a round number at or above the greatest value, and the distance of the ticks."""
    spacing = 1
    while spacing * _TICKS < greatest:
        # 1, 2, 5, 10, 20, 50 and so on
        spacing = spacing * 5 // 2 if str(spacing)[0] == "2" else spacing * 2
    return max(1, -(-greatest // spacing)) * spacing, spacing
