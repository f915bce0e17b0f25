"""Every attack against every pipeline: ``python -m bench.robustness.table``.

Rows go to ``bench/robustness.json`` as they come, and what is there already is not run again.
"""

import argparse
import json
import time
from collections.abc import Iterable, Iterator
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import asdict, dataclass
from functools import cache, partial
from multiprocessing import get_context
from pathlib import Path

import torch

from bench.attacks import all_attacks
from bench.robustness.data import TaskData, lesions, pneumonia
from bench.robustness.pipelines import aggregate, pipelines
from bench.robustness.simulation import HEALTHY, MALICIOUS, SPLITS, honest_model, simulate

ROWS = Path(__file__).parents[1] / "robustness.json"
TASKS = ("pneumonia", "lesion")
SEEDS = (0, 1, 2)
ATTACKS = {attack.name: attack for attack in all_attacks(HEALTHY)}


@dataclass(frozen=True, slots=True)
class Run:
    """One federation to simulate; ``pipeline`` is a name, ``steps`` its canonical JSON."""

    task: str
    split: str
    attack: str
    pipeline: str
    steps: str
    seed: int


def main() -> None:
    """Run what is missing."""
    asked = _arguments()
    runs = list(_runs(asked))
    rows = json.loads(ROWS.read_text()) if ROWS.exists() else []
    known = {tuple(row[name] for name in Run.__slots__) for row in rows}
    missing = [run for run in runs if tuple(asdict(run).values()) not in known]
    print(f"{len(runs)} runs, {len(missing)} of them still to do", flush=True)
    _prepare(missing)
    begin = time.monotonic()
    # Not forked: torch's threads do not survive that.
    with ProcessPoolExecutor(asked.processes, get_context("spawn")) as pool:
        for done, run in enumerate(as_completed(pool.submit(_row, one) for one in missing), 1):
            rows.append(run.result())
            ROWS.write_text("[\n" + ",\n".join(json.dumps(row) for row in rows) + "\n]\n")
            if done % 20 == 0:
                print(f"{done} done in {time.monotonic() - begin:.0f} s", flush=True)


def _row(run: Run) -> dict[str, str | int | float | None]:
    torch.set_num_threads(1)
    task = _task(run.task)
    if task is None:
        raise FileNotFoundError(f"expected the data of task {run.task}, found none")
    pipeline = partial(aggregate, run.steps)
    outcome = simulate(task, run.split, ATTACKS[run.attack], pipeline, run.seed)
    return asdict(run) | {
        "accuracy": round(outcome.accuracy, 4),
        "success": None if outcome.success is None else round(outcome.success, 4),
        "seconds": round(outcome.seconds, 2),
    }


@cache
def _task(name: str) -> TaskData | None:
    return pneumonia() if name == "pneumonia" else lesions()


def _prepare(runs: Iterable[Run]) -> None:
    """Draw images and train first models once, before several processes would do it at a time."""
    torch.set_num_threads(1)
    for name, seed in sorted({(run.task, run.seed) for run in runs}):
        task = _task(name)
        if task is not None:
            honest_model(task, seed)


def _runs(asked: argparse.Namespace) -> Iterator[Run]:
    known = pipelines(MALICIOUS)
    for seed in asked.seeds:
        for task in asked.tasks:
            if _task(task) is None:
                print(f"skipped: no data for task {task}")
                continue
            for split in asked.splits:
                for attack in asked.attacks:
                    for name in asked.pipelines:
                        yield Run(task, split, attack, name, known[name], seed)


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    names = tuple(pipelines(MALICIOUS))
    for option, values in (
        ("tasks", TASKS),
        ("splits", SPLITS),
        ("attacks", tuple(ATTACKS)),
        ("pipelines", names),
    ):
        parser.add_argument(f"--{option}", nargs="+", choices=values, default=values)
    parser.add_argument("--seeds", nargs="+", type=int, default=SEEDS)
    parser.add_argument("--processes", type=int, default=2)
    return parser.parse_args()


if __name__ == "__main__":
    main()
