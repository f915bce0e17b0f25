"""The robustness benchmark's report: ``python -m bench.robustness.report``.

Prints what ``bench/robustness.json`` comes to, puts it between the markers of docs/robustness.md
and draws the heat maps. With ``--check`` nothing is written, and what is stale is told.
"""

import argparse
import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rich.console import Console

from bench.gas import ROWS as GAS
from bench.results import RESULTS
from bench.robustness import findings
from bench.robustness.costs import Costs
from bench.robustness.data import ROOT
from bench.robustness.grids import Grid
from bench.robustness.pipelines import pipelines
from bench.robustness.plots import HeatMap
from bench.robustness.simulation import MALICIOUS
from bench.robustness.summary import DEFAULT, read_rows
from bench.robustness.table import ROWS

PAGE = ROOT / "docs" / "robustness.md"
IMAGES = "images"  # beside the page
WIDTH = 190  # characters: narrower terminals would break the tables

_BLOCK = re.compile(r"(<!-- generated: ([a-z-]+) -->\n).*?(<!-- end of \2 -->)", re.DOTALL)


@dataclass(frozen=True, slots=True)
class Report:
    """What is printed and written.

    Attributes:
        status: How much has been measured.
        blocks: The grids of each generated part of the page, by its name.
        images: The heat maps.
        steps: The default pipeline in canonical JSON.
    """

    status: str
    blocks: Mapping[str, Sequence[Grid]]
    images: Sequence[HeatMap]
    steps: str

    def page(self, old: str) -> str:
        """Return a page with its generated parts anew and all else as it was.

        Raises:
            SystemExit: If its markers are not those of the generated parts.
        """
        parts = {
            name: "\n\n".join(grid.to_markdown() for grid in grids)
            for name, grids in self.blocks.items()
        }
        parts["status"] = self.status
        parts["default"] = f"```json\n{self.steps}\n```"
        parts["heat-maps"] = "\n\n".join(
            f"![{image.title}. {image.scale}.]({IMAGES}/{image.file})" for image in self.images
        )
        found = [name for _, name, _ in _BLOCK.findall(old)]
        if sorted(found) != sorted(parts):
            raise SystemExit(
                f"expected a page with the parts {sorted(parts)}, found {sorted(found)}"
            )
        return _BLOCK.sub(lambda block: f"{block[1]}\n{parts[block[2]]}\n\n{block[3]}", old)

    def stale(self, page: Path) -> list[str]:
        """Name what is not as it would be written now."""
        old = page.read_text()
        stale = [] if self.page(old) == old else [page.name]
        folder = page.parent / IMAGES
        return stale + [image.file for image in self.images if not image.is_drawn(folder)]

    def write(self, page: Path) -> None:
        """Write the page anew, and draw what has changed."""
        page.write_text(self.page(page.read_text()))
        folder = page.parent / IMAGES
        folder.mkdir(exist_ok=True)
        for image in self.images:
            if not image.is_drawn(folder):
                image.draw(folder)

    def show(self, console: Console) -> None:
        """Print all tables."""
        console.print(self.status)
        for grids in self.blocks.values():
            console.print(*(grid.to_rich() for grid in grids))


def build(rows: Sequence[Mapping[str, Any]], steps: Mapping[str, str], costs: Costs) -> Report:
    """Make the report.

    Args:
        rows: Of ``bench/robustness.json``.
        steps: Today's pipelines in canonical JSON by name.
        costs: What they cost.
    """
    measured = read_rows(rows, steps)
    names = (DEFAULT, *(name for name in steps if name != DEFAULT))
    return Report(
        findings.status(measured, names),
        {
            "limits": [findings.limits_grid(measured)],
            "holding": [findings.holding_grid(measured, names)],
            "costs": [costs.grid({name: steps[name] for name in names})],
            "accuracy": list(findings.accuracy_grids(measured, names)),
            "success": list(findings.success_grids(measured, names)),
        },
        list(findings.heat_maps(measured, names)),
        steps[DEFAULT],
    )


def main() -> None:
    """Print, and write or check."""
    parser = argparse.ArgumentParser(prog="python -m bench.robustness.report")
    parser.add_argument("--check", action="store_true", help="exit 1 if the page is stale")
    asked = parser.parse_args()
    costs = Costs(_read(RESULTS), _read(GAS))
    report = build(_read(ROWS), pipelines(MALICIOUS), costs)
    if asked.check:
        if stale := report.stale(PAGE):
            told = f"stale: {', '.join(stale)}; run python -m bench.robustness.report"
            raise SystemExit(told)
        return
    report.write(PAGE)
    report.show(Console(width=WIDTH))


def _read(path: Path) -> list[dict[str, Any]]:
    rows: list[dict[str, Any]] = json.loads(path.read_text()) if path.exists() else []
    return rows


if __name__ == "__main__":
    main()
