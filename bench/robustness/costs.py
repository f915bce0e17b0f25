"""Time and gas of the robustness benchmark's pipelines, as other scripts have measured them."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from bench.aggregation import RULES, Rule
from bench.robustness.grids import MISSING, Grid

SIZES = (10, 16)  # updates
READING = "reading all updates once"


@dataclass(frozen=True, slots=True)
class Costs:
    """Rows of ``bench/results.json`` and ``bench/gas.json``."""

    times: Sequence[Mapping[str, Any]]
    gas: Sequence[Mapping[str, Any]]

    def grid(self, pipelines: Mapping[str, str]) -> Grid:
        """Return seconds and gas by pipeline; what was not measured is missing.

        Args:
            pipelines: Canonical JSON by name.
        """
        headings = [
            "pipeline",
            *(f"{size} updates, seconds" for size in SIZES),
            "bytes of JSON",
            "gas to open a round",
            "gas to propose",
        ]
        rows = []
        for name, steps in pipelines.items():
            seconds = [self._seconds(steps, size) for size in SIZES]
            rows.append([name, *seconds, str(len(steps)), *self._gas(name, steps)])
        return Grid("Time and gas", headings, rows)

    def _seconds(self, steps: str, size: int) -> str:
        rule = _timed(steps)
        for row in self.times if rule is not None else ():
            known = (row["name"], row["n"], row["peer"])
            if rule and known == (f"aggregation.{rule.name}", size, READING):
                return f"{row['ours_s']:.3f} ({row['ratio']:.1f}x reading)"
        return MISSING

    def _gas(self, name: str, steps: str) -> tuple[str, str]:
        for row in self.gas:
            if (row["name"], row["steps"]) == (name, steps):
                return f"{row['gas_open']:,}", f"{row['gas_propose']:,}"
        return MISSING, MISSING


def _timed(steps: str) -> Rule | None:
    """Return what ``bench/aggregation.py`` times that has exactly these steps at ten updates."""
    wanted = json.loads(steps)
    return next((rule for rule in RULES if rule.request(SIZES[0])["pipeline"] == wanted), None)
