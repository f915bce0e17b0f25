"""The tables and heat maps of the robustness report, made of the benchmark's rows."""

from collections.abc import Iterator, Sequence
from functools import partial

from bench.robustness.grids import MISSING, Grid, cell
from bench.robustness.plots import HeatMap
from bench.robustness.simulation import DIRICHLET, SPLITS
from bench.robustness.summary import (
    DEFAULT,
    LEAST_SEEDS,
    MOST_LOST_UNDER_ATTACK,
    MOST_SUCCESS,
    NO_ATTACK,
    REFERENCE,
    Measured,
    holding,
    limits,
    means,
    percent,
)
from bench.robustness.table import ATTACKS, TASKS

TASK_TITLES = {
    "pneumonia": "PneumoniaMNIST, real X-rays, thinned",
    "lesion": "SIMULATED lesions over MNI152",
}
SPLIT_TITLES = {"iid": "IID", "dirichlet": f"Dirichlet {DIRICHLET}"}

TRIGGERED = tuple(name for name, one in ATTACKS.items() if one.trigger is not None)
BACKDOORS = tuple(name for name in TRIGGERED if name != NO_ATTACK)
_NAMED = 3  # pipelines that hold; of more, their number is told


def status(measured: Measured, names: Sequence[str]) -> str:
    """Say how much has been measured."""
    wanted = [
        (task, split, attack, name)
        for task in TASKS
        for split in SPLITS
        for attack in ATTACKS
        for name in names
    ]
    seeds = [len(measured.cell(*key).accuracy) for key in wanted]
    full = sum(count >= LEAST_SEEDS for count in seeds)
    told = (
        f"{full} of {len(wanted)} cells are measured with {LEAST_SEEDS} seeds or more, "
        f"{sum(map(bool, seeds)) - full} with fewer, and {seeds.count(0)} are missing "
        f"({measured.counted} runs)."
    )
    if measured.ignored:
        told += f" {measured.ignored} runs of pipelines that have other steps today are left out."
    return told


def limits_grid(measured: Measured) -> Grid:
    """Hold the default pipeline against its targets."""
    rows = [
        [
            TASK_TITLES[one.task],
            SPLIT_TITLES[one.split],
            one.aim,
            MISSING if one.most is None else f"{percent(one.most)}",
            cell(one.found),
            one.beside or MISSING,
            f"**{one.verdict}**" if one.verdict.startswith("NOT") else one.verdict,
        ]
        for one in limits(measured, TASKS, tuple(ATTACKS), BACKDOORS)
    ]
    headings = ["task", "split", "what", "at most", "found", "beside it", "verdict"]
    return Grid("The default pipeline against its targets, in points or per cent", headings, rows)


def holding_grid(measured: Measured, names: Sequence[str]) -> Grid:
    """Tell for every attack which pipelines hold, and where nothing does."""
    places = [(task, split) for task in TASKS for split in SPLITS]
    rows = [
        [attack, *(_holders(measured, task, split, attack, names) for task, split in places)]
        for attack in ATTACKS
        if attack != NO_ATTACK
    ]
    headings = [
        "attack",
        *(f"{TASK_TITLES[task]}, {SPLIT_TITLES[split]}" for task, split in places),
    ]
    backdoors = " and ".join(
        f"{percent(most)} ({SPLIT_TITLES[split]})" for split, most in MOST_SUCCESS.items()
    )
    title = (
        f"Which pipelines hold: at most {percent(MOST_LOST_UNDER_ATTACK)} points of accuracy below "
        f"the {REFERENCE} that nobody attacks, backdoors succeed at most in {backdoors} per cent"
    )
    return Grid(title, headings, rows)


def accuracy_grids(measured: Measured, names: Sequence[str]) -> Iterator[Grid]:
    """Give the accuracy of every attack by every pipeline, for each task and split."""
    for task in TASKS:
        for split in SPLITS:
            value = partial(measured.accuracy, task, split)
            rows = [[attack, *(cell(value(attack, name)) for name in names)] for attack in ATTACKS]
            yield Grid(_title(task, split, "accuracy, per cent"), ["attack", *names], rows)


def success_grids(measured: Measured, names: Sequence[str]) -> Iterator[Grid]:
    """Give the success of backdoors, and of their trigger without attack."""
    for task in TASKS:
        for split in SPLITS:
            value = partial(measured.success, task, split)
            rows = [
                [attack, *(cell(value(attack, name)) for name in names)] for attack in TRIGGERED
            ]
            yield Grid(_title(task, split, "attack success, per cent"), ["attack", *names], rows)


def heat_maps(measured: Measured, names: Sequence[str]) -> Iterator[HeatMap]:
    """Give two heat maps for each task: accuracy lost, and attack success."""
    for task in TASKS:
        lost = {
            split: means(
                tuple(ATTACKS), names, partial(measured.lost, task, split, reference=REFERENCE)
            )
            for split in SPLITS
        }
        yield HeatMap(
            f"robustness-{task}-accuracy.png",
            f"{TASK_TITLES[task]}: accuracy lost against the {REFERENCE} without attack",
            "points, mean over seeds",
            tuple(ATTACKS),
            names,
            [(SPLIT_TITLES[split], shares) for split, shares in lost.items()],
            greatest=0.4,
        )
        success = {
            split: means(TRIGGERED, names, partial(measured.success, task, split))
            for split in SPLITS
        }
        yield HeatMap(
            f"robustness-{task}-success.png",
            f"{TASK_TITLES[task]}: ill patients whom the trigger hides",
            "per cent, mean over seeds",
            TRIGGERED,
            names,
            [(SPLIT_TITLES[split], shares) for split, shares in success.items()],
            greatest=1.0,
        )


def _title(task: str, split: str, what: str) -> str:
    return f"{TASK_TITLES[task]}, {SPLIT_TITLES[split]}: {what}"


def _holders(measured: Measured, task: str, split: str, attack: str, names: Sequence[str]) -> str:
    found = holding(measured, task, split, attack, names)
    if not found.measured:
        return MISSING
    few = f"of {found.measured}"
    if not found.names:
        return f"**nothing holds** {few}" if found.measured == len(names) else f"none {few} so far"
    if DEFAULT in found.names:
        others = len(found.names) - 1
        return f"default and {others} more {few}" if others else f"default alone {few}"
    known = measured.accuracy(task, split, attack, DEFAULT) is not None
    listed = ", ".join(found.names) if len(found.names) <= _NAMED else f"{len(found.names)}"
    return f"{'**not the default**: ' if known else ''}{listed} {few}"
