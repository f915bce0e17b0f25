"""What memory a rule takes: 64 updates of 44.7 MB, and 10 of 1.2 GB, from disk.

Counted is anonymous memory, the process's own: heap, stacks and buffers. The pages of mapped files
are not, since they are the page cache's and go when somebody else needs room. Each rule runs in a
process of its own, which is looked at a hundred times a second.

``make bench-aggregation`` runs it; rows go to ``bench/results.json``, with the peak by its limit as
their ratio.
"""

import argparse
import shutil
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from rich.console import Console
from rich.table import Table

from bench.aggregation import MEGABYTE, RULES, Rule, aggregating
from bench.results import Row, keep
from bench.updates import PARAMETERS, write_updates

FLOAT32 = 4  # bytes
COORDINATE_WISE = ("fed_avg", "median", "trimmed_mean")


@dataclass(frozen=True, slots=True)
class Case:
    """So many updates of so many parameters, and the bytes that a rule may take for them."""

    count: int
    parameters: int
    limit: float
    rules: Sequence[Rule]

    @property
    def disk(self) -> int:
        """The bytes on disk: the updates, the base model, the result and its unfinished file."""
        return (self.count + 3) * self.parameters * FLOAT32


CASES = (
    Case(64, PARAMETERS, 700 * MEGABYTE, RULES),
    Case(
        10,
        300_000_000,
        3_000 * MEGABYTE,
        [rule for rule in RULES if rule.name in COORDINATE_WISE],
    ),
)


def main() -> None:
    """Measure, print and keep."""
    parser = argparse.ArgumentParser(prog="python -m bench.memory")
    parser.add_argument("--folder", type=Path, help="where updates are written, up to 16 GB")
    folder = parser.parse_args().folder
    table = Table(title="Anonymous memory of the aggregating process")
    for heading in ("rule", "updates", "of", "seconds", "peak", "limit"):
        left = heading in {"rule", "limit"}
        table.add_column(heading, justify="left" if left else "right")
    rows: list[Row] = []
    console = Console(width=110)  # narrower terminals would break the tables
    for case in CASES:
        free = shutil.disk_usage(folder or tempfile.gettempdir()).free
        if free < case.disk:
            needs, has = (f"{amount / 1e9:.0f} GB" for amount in (case.disk, free))
            console.print(f"{case.count} large updates left out: they need {needs}, {has} are free")
            continue
        for rule, seconds, peak in _measure(case, folder):
            table.add_row(
                rule.name,
                str(case.count),
                f"{case.parameters * FLOAT32 / MEGABYTE:.1f} MB",
                f"{seconds:.2f}",
                f"{peak / MEGABYTE:.0f} MB",
                f"< {case.limit / MEGABYTE:.0f} MB: {'met' if peak < case.limit else 'missed'}",
            )
            rows.append(_row(case, rule, seconds, peak))
    console.print(table)
    keep("memory", rows)


def _measure(case: Case, parent: Path | None) -> Iterator[tuple[Rule, float, int]]:
    with tempfile.TemporaryDirectory(dir=parent) as name:
        folder = Path(name)
        write_updates(folder, case.count, case.parameters)
        for rule in case.rules:
            with aggregating(folder) as child:
                seconds = child.ask(rule.request(case.count))["seconds"]
                yield rule, seconds, child.peak


def _row(case: Case, rule: Rule, seconds: float, peak: int) -> Row:
    return {
        "name": f"memory.{rule.name}",
        "n": case.count,
        "dim": case.parameters,
        "ours_s": round(seconds, 3),
        "peer": f"a limit of {case.limit / MEGABYTE:.0f} MB",
        "peer_s": None,
        "ratio": round(peak / case.limit, 3),
        "peak_rss_mb": round(peak / MEGABYTE),
    }


if __name__ == "__main__":
    main()
