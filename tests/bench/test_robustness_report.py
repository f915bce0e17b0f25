"""The robustness report, on a few rows that were made up."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from bench.aggregation import RULES
from bench.robustness.costs import READING, Costs
from bench.robustness.grids import MISSING, cell
from bench.robustness.pipelines import pipelines
from bench.robustness.report import PAGE, Report, build
from bench.robustness.summary import Limit, Spread, holding, limits, read_rows, spread

STEPS = pipelines(2)
ATTACKS = ("none", "sign flip", "square")


def row(attack: str, pipeline: str, seed: int, accuracy: float, **changes: Any) -> dict[str, Any]:
    """A run of PneumoniaMNIST, IID, without a trigger, with changes."""
    return {
        "task": "pneumonia",
        "split": "iid",
        "attack": attack,
        "pipeline": pipeline,
        "steps": STEPS[pipeline],
        "seed": seed,
        "accuracy": accuracy,
        "success": None,
    } | changes


def runs(attack: str, pipeline: str, *accuracies: float, **changes: Any) -> list[dict[str, Any]]:
    return [row(attack, pipeline, seed, one, **changes) for seed, one in enumerate(accuracies)]


def verdicts(rows: list[dict[str, Any]]) -> dict[str, Limit]:
    """The limits of PneumoniaMNIST, IID, by what they are about."""
    found = limits(read_rows(rows, STEPS), ("pneumonia",), ATTACKS, ("square",))
    return {one.aim: one for one in found if one.split == "iid"}


WITHOUT = "accuracy lost without attack, against the weighted mean"
UNDER = "most accuracy lost to an attack"
SUCCESS = "success of square"


def report(rows: list[dict[str, Any]], costs: Costs | None = None) -> Report:
    return build(rows, STEPS, costs or Costs((), ()))


@pytest.fixture
def page(tmp_path: Path) -> Path:
    path = tmp_path / "robustness.md"
    path.write_text(PAGE.read_text())
    return path


def test_a_mean_stands_with_the_least_and_the_greatest_of_its_seeds() -> None:
    measured = read_rows(runs("none", "median", 0.8, 0.9, 0.85), STEPS)
    found = measured.accuracy("pneumonia", "iid", "none", "median")
    assert found == Spread(0.85, 0.8, 0.9, 3)
    assert cell(found) == "85.0 (80.0\N{EN DASH}90.0)"


def test_a_cell_with_other_than_three_seeds_says_so() -> None:
    assert cell(spread([0.8])) == "80.0 (1 seed)"
    assert cell(spread([0.8, 0.9])).endswith(", 2 seeds)")


def test_a_missing_cell_is_shown_as_missing() -> None:
    made = report(runs("none", "median", 0.8, 0.9, 0.85))
    grid = made.blocks["accuracy"][0]
    shown = dict(zip(grid.headings, grid.rows[0], strict=True))
    assert shown["median"].startswith("85.0")
    assert shown["default"] == MISSING
    assert "1 of 884 cells" in made.status
    assert "883 are missing" in made.status


def test_a_heat_map_has_no_figure_where_seeds_are_too_few() -> None:
    rows = runs("none", "median", 0.8, 0.9) + runs("none", "weighted mean", 0.8, 0.9, 0.9)
    image = report(rows).images[0]
    shares = np.array(image.panels[0][1])
    assert np.isnan(shares[0, image.columns.index("median")])
    assert shares[0, image.columns.index("weighted mean")] == 0.0


def test_rows_of_a_pipeline_that_had_other_steps_do_not_count() -> None:
    rows = [row("none", "median", 0, 0.8), row("none", "median", 1, 0.1, steps="[]")]
    measured = read_rows(rows, STEPS)
    assert measured.accuracy("pneumonia", "iid", "none", "median") == Spread(0.8, 0.8, 0.8, 1)
    assert measured.ignored == 1


def test_accuracy_is_lost_seed_by_seed() -> None:
    rows = runs("none", "weighted mean", 0.9, 0.5, 0.9) + runs("none", "default", 0.89, 0.48)
    lost = read_rows(rows, STEPS).lost("pneumonia", "iid", "none", "default", "weighted mean")
    assert lost == Spread(0.015, 0.01, 0.02, 2)


def test_a_limit_that_is_met_exactly_is_met_and_one_beyond_is_not() -> None:
    before = runs("none", "weighted mean", 0.9, 0.9, 0.9)
    exact = verdicts(before + runs("none", "default", 0.88, 0.88, 0.88))
    assert exact[WITHOUT].verdict == "met"
    beyond = verdicts(before + runs("none", "default", 0.88, 0.88, 0.879))
    assert beyond[WITHOUT].verdict == "NOT met"


def test_a_limit_that_one_seed_misses_says_so() -> None:
    rows = runs("none", "weighted mean", 0.9, 0.9, 0.9) + runs("none", "default", 0.9, 0.9, 0.85)
    assert verdicts(rows)[WITHOUT].verdict == "met in the mean, not by every seed"


def test_a_limit_is_open_with_too_few_seeds_or_attacks() -> None:
    few = runs("none", "weighted mean", 0.9) + runs("none", "default", 0.9)
    assert verdicts(few)[WITHOUT].verdict == "open: 1 of 3 seeds"
    some = runs("none", "default", 0.9, 0.9, 0.9) + runs("sign flip", "default", 0.9, 0.9, 0.9)
    assert verdicts(some)[UNDER].verdict == "open: 1 not measured"
    assert verdicts([])[SUCCESS].verdict == "not measured"


def test_the_worst_attack_is_held_against_the_default_without_attack() -> None:
    rows = (
        runs("none", "default", 0.8, 0.8, 0.8)
        + runs("sign flip", "default", 0.79, 0.79, 0.79)
        + runs("square", "default", 0.76, 0.76, 0.76)
    )
    found = verdicts(rows)[UNDER]
    assert found.found == Spread(0.04, 0.04, 0.04, 3)
    assert found.beside == "to square"
    assert found.verdict == "NOT met"


def test_a_backdoors_success_stands_beside_what_the_trigger_does_without_attack() -> None:
    rows = runs("none", "default", 0.8, 0.8, 0.8, success=0.06)
    rows += runs("square", "default", 0.8, 0.8, 0.8, success=0.11)
    found = verdicts(rows)[SUCCESS]
    assert found.beside == "without attack: 6.0"
    assert found.verdict == "NOT met"


def test_a_pipeline_holds_only_with_both_accuracy_and_little_success() -> None:
    good, bad = (0.88, 0.88, 0.88), (0.8, 0.8, 0.8)
    rows = runs("none", "weighted mean", 0.9, 0.9, 0.9)
    rows += runs("square", "median", *good, success=0.1)
    rows += runs("square", "Krum", *bad, success=0.0)
    rows += runs("square", "FLAME", *good, success=0.2)
    rows += runs("square", "DnC", 0.9, success=0.0)
    found = holding(read_rows(rows, STEPS), "pneumonia", "iid", "square", tuple(STEPS))
    assert found.names == ("median",)
    assert found.measured == 3


def test_where_nothing_holds_the_page_says_so() -> None:
    rows = runs("none", "weighted mean", 0.9, 0.9, 0.9)
    for name in STEPS:
        rows += runs("sign flip", name, 0.5, 0.5, 0.5)
    grid = report(rows).blocks["holding"][0]
    (line,) = [line for line in grid.rows if line[0] == "sign flip"]
    assert line[1] == f"**nothing holds** of {len(STEPS)}"
    assert line[2] == MISSING


def test_time_and_gas_are_those_of_the_very_steps() -> None:
    times = [
        {"name": "aggregation.median", "n": 10, "peer": READING, "ours_s": 0.05, "ratio": 2.0},
        {"name": "aggregation.geometric_median", "n": 10, "peer": READING, "ours_s": 9, "ratio": 9},
    ]
    gas = [
        {"name": "median", "steps": STEPS["median"], "gas_open": 1000, "gas_propose": 2000},
        {"name": "Krum", "steps": "[]", "gas_open": 1, "gas_propose": 2},
    ]
    grid = report([], Costs(times, gas)).blocks["costs"][0]
    shown = {line[0]: line[1:] for line in grid.rows}
    assert shown["median"][:2] == ["0.050 (2.0x reading)", MISSING]
    assert shown["median"][3:] == ["1,000", "2,000"]
    assert shown["geometric median"][0] == MISSING  # eight iterations here, three there
    assert shown["Krum"][2:] == [str(len(STEPS["Krum"])), MISSING, MISSING]


def test_every_pipeline_is_timed() -> None:
    figures = {"n": 10, "peer": READING, "ours_s": 1.0, "ratio": 1.0}
    times = [{"name": f"aggregation.{rule.name}"} | figures for rule in RULES]
    grid = report([], Costs(times, ())).blocks["costs"][0]
    assert [line[0] for line in grid.rows if line[1] == MISSING] == []


def test_a_page_is_stale_until_it_is_written_and_when_a_row_changes(page: Path) -> None:
    rows = runs("none", "weighted mean", 0.9, 0.9, 0.9)
    made = report(rows)
    assert page.name in made.stale(page)
    made.write(page)
    assert made.stale(page) == []
    assert report(json.loads(json.dumps(rows))).stale(page) == []
    rows[0]["accuracy"] = 0.6
    changed = report(rows).stale(page)
    assert page.name in changed
    assert "robustness-pneumonia-accuracy.png" not in changed  # nothing is lost against itself
    rows += runs("sign flip", "weighted mean", 0.5, 0.5, 0.5)
    assert "robustness-pneumonia-accuracy.png" in report(rows).stale(page)


def test_a_picture_that_is_gone_is_stale(page: Path) -> None:
    made = report([])
    made.write(page)
    (page.parent / "images" / "robustness-lesion-success.png").unlink()
    assert made.stale(page) == ["robustness-lesion-success.png"]


def test_prose_between_the_generated_parts_stays(page: Path) -> None:
    page.write_text(page.read_text() + "\nA sentence by hand.\n")
    report([]).write(page)
    assert page.read_text().endswith("\nA sentence by hand.\n")
    assert "What was simulated" in page.read_text()


def test_a_page_without_its_markers_is_refused(page: Path) -> None:
    page.write_text("# Robustness\n")
    with pytest.raises(SystemExit, match="expected a page with the parts"):
        report([]).write(page)
