"""What the rows of the robustness benchmark come to: means, spreads, and limits met or not."""

import math
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

LEAST_SEEDS = 3
MOST_LOST_WITHOUT_ATTACK = 0.02  # of accuracy, against the weighted mean
MOST_LOST_UNDER_ATTACK = 0.03  # of accuracy
MOST_SUCCESS = {"iid": 0.10, "dirichlet": 0.20}  # of a backdoor
NO_ATTACK = "none"
REFERENCE = "weighted mean"
DEFAULT = "default"

_EXACT = 9  # decimals: what float64 adds to a difference of rounded figures is far below


@dataclass(frozen=True, slots=True)
class Cell:
    """What one pipeline came to under one attack, by seed: shares, 0..1."""

    accuracy: Mapping[int, float]
    success: Mapping[int, float]


@dataclass(frozen=True, slots=True)
class Spread:
    """Mean, least and greatest over so many seeds."""

    mean: float
    least: float
    greatest: float
    seeds: int


EMPTY = Cell({}, {})


@dataclass(frozen=True, slots=True)
class Measured:
    """The rows that count.

    Attributes:
        cells: By task, split, attack and pipeline.
        counted: How many rows are in them.
        ignored: How many rows are not, as they are of pipelines that had other steps.
    """

    cells: Mapping[tuple[str, str, str, str], Cell]
    counted: int
    ignored: int

    def cell(self, task: str, split: str, attack: str, pipeline: str) -> Cell:
        """Return what was measured, an empty cell where nothing was."""
        return self.cells.get((task, split, attack, pipeline), EMPTY)

    def accuracy(self, task: str, split: str, attack: str, pipeline: str) -> Spread | None:
        """Return the accuracy over seeds, None where none was measured."""
        return spread(self.cell(task, split, attack, pipeline).accuracy.values())

    def success(self, task: str, split: str, attack: str, pipeline: str) -> Spread | None:
        """Return the attack's success over seeds, None where none was measured."""
        return spread(self.cell(task, split, attack, pipeline).success.values())

    def lost(
        self, task: str, split: str, attack: str, pipeline: str, reference: str
    ) -> Spread | None:
        """Return the accuracy lost against another pipeline that nobody attacks, seed by seed.

        Seeds that only one of the two has are left out: split and first model are a seed's own.
        """
        before = self.cell(task, split, NO_ATTACK, reference).accuracy
        after = self.cell(task, split, attack, pipeline).accuracy
        return spread(before[seed] - after[seed] for seed in sorted(before.keys() & after.keys()))


def read_rows(rows: Iterable[Mapping[str, Any]], steps: Mapping[str, str]) -> Measured:
    """Sort rows into cells.

    Args:
        rows: Of ``bench/robustness.json``.
        steps: Today's pipelines in canonical JSON by name; rows of others are ignored.
    """
    accuracy: dict[tuple[str, str, str, str], dict[int, float]] = defaultdict(dict)
    success: dict[tuple[str, str, str, str], dict[int, float]] = defaultdict(dict)
    ignored = 0
    for row in rows:
        if steps.get(row["pipeline"]) != row["steps"]:
            ignored += 1
            continue
        key = (row["task"], row["split"], row["attack"], row["pipeline"])
        accuracy[key][row["seed"]] = row["accuracy"]
        if row["success"] is not None:
            success[key][row["seed"]] = row["success"]
    cells = {key: Cell(accuracy[key], success.get(key, {})) for key in accuracy}
    return Measured(cells, sum(len(cell.accuracy) for cell in cells.values()), ignored)


def spread(values: Iterable[float]) -> Spread | None:
    """Return mean, least and greatest, None of nothing."""
    found = [round(value, _EXACT) for value in values]
    if not found:
        return None
    return Spread(round(math.fsum(found) / len(found), _EXACT), min(found), max(found), len(found))


@dataclass(frozen=True, slots=True)
class Limit:
    """A target and what was found.

    Attributes:
        task: Which.
        split: Which.
        aim: What is limited, in words.
        most: The limit; None where there is none and the figure is shown for itself.
        found: What was measured, None where nothing was.
        beside: What one should know with it.
        missing: What was not measured and belongs to it.
    """

    task: str
    split: str
    aim: str
    most: float | None
    found: Spread | None
    beside: str = ""
    missing: int = 0

    @property
    def verdict(self) -> str:
        """Whether it is met: by the mean, and by every seed."""
        if self.most is None:
            return "no target"
        if self.found is None:
            return "not measured"
        if self.found.mean > self.most:
            return "NOT met"
        if self.found.seeds < LEAST_SEEDS:
            return f"open: {self.found.seeds} of {LEAST_SEEDS} seeds"
        if self.missing:
            return f"open: {self.missing} not measured"
        return "met" if self.found.greatest <= self.most else "met in the mean, not by every seed"


def limits(
    measured: Measured, tasks: Sequence[str], attacks: Sequence[str], triggered: Sequence[str]
) -> list[Limit]:
    """Hold the default pipeline against its targets.

    Args:
        measured: The rows.
        tasks: Names.
        attacks: Names, with `NO_ATTACK`.
        triggered: Those of them that are backdoors.
    """
    found: list[Limit] = []
    places = [(task, split) for task in tasks for split in MOST_SUCCESS]
    for task, split in places:
        lost = measured.lost(task, split, NO_ATTACK, DEFAULT, REFERENCE)
        aim = f"accuracy lost without attack, against the {REFERENCE}"
        found.append(Limit(task, split, aim, MOST_LOST_WITHOUT_ATTACK, lost))
    for task, split in places:
        found.append(_worst_attack(measured, task, split, attacks))
    for task, split in places:
        own = measured.success(task, split, NO_ATTACK, DEFAULT)
        beside = "without attack: " + ("not measured" if own is None else percent(own.mean))
        found += [
            Limit(
                task,
                split,
                f"success of {attack}",
                MOST_SUCCESS[split],
                measured.success(task, split, attack, DEFAULT),
                beside,
            )
            for attack in triggered
        ]
    return found


def _worst_attack(measured: Measured, task: str, split: str, attacks: Sequence[str]) -> Limit:
    others = [attack for attack in attacks if attack != NO_ATTACK]
    losses = {
        attack: lost
        for attack in others
        if (lost := measured.lost(task, split, attack, DEFAULT, DEFAULT)) is not None
    }
    aim = "most accuracy lost to an attack"
    most = MOST_LOST_UNDER_ATTACK if split == "iid" else None
    if not losses:
        return Limit(task, split, aim, most, None)
    worst = max(losses, key=lambda attack: losses[attack].mean)
    thin = sum(lost.seeds < LEAST_SEEDS for lost in losses.values())
    missing = len(others) - len(losses) + thin
    return Limit(task, split, aim, most, losses[worst], f"to {worst}", missing)


@dataclass(frozen=True, slots=True)
class Holding:
    """Which pipelines withstand an attack, and how many were measured at all."""

    names: tuple[str, ...]
    measured: int


def holding(
    measured: Measured, task: str, split: str, attack: str, pipelines: Sequence[str]
) -> Holding:
    """Tell which pipelines hold: little accuracy lost and, of a backdoor, little success.

    Accuracy is held against the weighted mean that nobody attacks, so that a pipeline which is bad
    without attack as well does not count; and what has too few seeds counts as not measured.
    """
    held, known = [], 0
    for name in pipelines:
        lost = measured.lost(task, split, attack, name, REFERENCE)
        success = measured.success(task, split, attack, name)
        if lost is None or lost.seeds < LEAST_SEEDS:
            continue
        known += 1
        harmless = success is None or success.mean <= MOST_SUCCESS[split]
        if lost.mean <= MOST_LOST_UNDER_ATTACK and harmless:
            held.append(name)
    return Holding(tuple(held), known)


def means(
    rows: Sequence[str], columns: Sequence[str], value: Callable[[str, str], Spread | None]
) -> list[list[float]]:
    """Return a matrix of means, NaN where too few seeds were measured."""
    found = [[value(row, column) for column in columns] for row in rows]
    return [
        [one.mean if one and one.seeds >= LEAST_SEEDS else math.nan for one in line]
        for line in found
    ]


def percent(share: float) -> str:
    """Write a share in per cent with one decimal; what rounds to nothing has no sign."""
    return f"{round(100 * share, 1) + 0.0:.1f}"
