"""Recipes and rules by name, and the catalogue that tells of them."""

import json
from inspect import signature
from pathlib import Path

import pytest

from aggregator.catalogue import catalogue
from aggregator.pipeline import STEPS
from aggregator.recipes import RECIPES, RULES, declare, read_declared
from chain.errors import InvalidInputError


def steps(name: str, *params: str) -> list[tuple[str, dict[str, object]]]:
    """The declared steps, read back from what the ledger would hold."""
    found = json.loads(declare(name, params).to_json())
    return [(step["name"], step["params"]) for step in found]


CLIPPING = ("norm_clipping", {"bound": 1_000_000})


def test_a_recipe_stands_for_its_steps() -> None:
    assert steps("norm_clipping") == [CLIPPING, ("fed_avg", {})]
    assert steps("nnm_trimmed_mean", "f=2") == [("nnm", {"f": 2}), ("trimmed_mean", {"f": 2})]
    assert steps("sign_guard") == [
        ("norm_range", {"lower": 100_000, "upper": 3_000_000}),
        ("sign_clusters", {}),
        CLIPPING,
        ("mean", {}),
    ]
    assert steps("dnc", "f=2", "iterations=3") == [
        ("dnc", {"f": 2, "iterations": 3, "coordinates": 10_000}),
        ("mean", {}),
    ]
    assert steps("flame", "noise=2000") == [
        ("direction_cluster", {}),
        CLIPPING,
        ("mean", {}),
        ("noise", {"scale": 2_000}),
    ]


def test_the_default_withstands_one_attacker_or_as_many_as_it_is_told() -> None:
    assert declare("default", []).to_json() == declare("default", ["f=1"]).to_json()
    assert declare("default", []).least_kept == 3
    assert declare("default", ["f=4"]).least_kept >= 9


def test_a_rule_is_a_pipeline_of_one_step() -> None:
    assert steps("median") == [("median", {})]
    assert steps("trimmed_mean", "f=3") == [("trimmed_mean", {"f": 3})]


def test_a_root_may_look_like_a_number() -> None:
    assert steps("fl_trust", "root=12") == [("fl_trust", {"root": "12"})]
    assert steps("fl_trust", "root=a=b.safetensors") == [("fl_trust", {"root": "a=b.safetensors"})]


def test_no_name_is_both_a_recipe_and_a_rule() -> None:
    assert RECIPES.keys().isdisjoint(RULES)
    assert {"fed_avg", "bulyan", "fl_trust"} <= RULES.keys()
    assert RULES.keys().isdisjoint({"nnm", "dnc", "norm_clipping", "noise", "fed_adam"})


@pytest.mark.parametrize(
    ("name", "params", "words"),
    [
        ("flam", [], "one of bulyan, .*found 'flam'.*fedwitness rules"),
        ("norm_range", [], "makes no model by itself: write it into a pipeline"),
        ("fed_adam", [], "makes no model by itself"),
        ("trimmed_mean", [], "needs f: give it as f=VALUE"),
        ("trimmed_mean", ["f=1", "g=2"], "takes the parameters f, found 'g'"),
        ("median", ["f=1"], "takes no parameters, found 'f'"),
        ("trimmed_mean", ["f"], "KEY=VALUE"),
        ("trimmed_mean", ["f=1", "f=2"], "each once, found 'f=2'"),
        ("trimmed_mean", ["f="], "an integer f, found ''"),
        ("trimmed_mean", ["f=1.5"], "an integer f, found '1.5'"),
        ("trimmed_mean", ["f=1_0"], "an integer f"),
        ("trimmed_mean", ["f=\u0663"], "an integer f"),
        ("trimmed_mean", ["f=64"], "from 0 to 63, found 64"),
        ("krum", ["f=-1"], "from 0 to 63, found -1"),
    ],
)
def test_an_error_says_what_would_be_right(name: str, params: list[str], words: str) -> None:
    with pytest.raises(InvalidInputError, match=words):
        declare(name, params)


def test_a_pipeline_is_read_from_a_file_in_any_layout(tmp_path: Path) -> None:
    path = tmp_path / "p.json"
    path.write_text(json.dumps(json.loads(declare("flame", []).to_json()), indent=8) + "\n")
    assert read_declared(path).to_json() == declare("flame", []).to_json()


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "JSON"),
        ("{}", "a list of steps"),
        ('[{"name":"flame","params":{}}]', "expected a step"),
        ('[{"name":"nnm","params":{"f":1}}]', "one rule"),
        ('[{"name":"median","params":{},"params":{}}]', "twice"),
        (" " * 70_000, "at most"),
    ],
)
def test_a_file_that_is_no_pipeline_is_named(tmp_path: Path, text: str, words: str) -> None:
    path = tmp_path / "p.json"
    path.write_text(text)
    with pytest.raises(InvalidInputError, match=f"p.json: .*{words}"):
        read_declared(path)


def test_the_catalogue_tells_of_every_step_and_recipe_and_parameter() -> None:
    entries = catalogue()
    steps = {entry.name: entry for entry in entries if entry.kind != "recipe"}
    recipes = {entry.name: entry for entry in entries if entry.kind == "recipe"}
    assert steps.keys() == STEPS.keys()
    assert recipes.keys() == RECIPES.keys()
    for entry in entries:
        assert entry.description.endswith(".")
        assert all(setting.description.endswith(".") for setting in entry.parameters), entry
    for name, build in STEPS.items():
        names = tuple(signature(build).parameters)
        assert tuple(one.name for one in steps[name].parameters) == names
    assert steps["trimmed_mean"].kind == "rule"
    assert steps["noise"].kind == "noise"
    assert recipes["flame"].steps == ("direction_cluster", "norm_clipping", "mean", "noise")
    assert [(one.name, one.default) for one in recipes["dnc"].parameters] == [
        ("f", None),
        ("iterations", 1),
        ("coordinates", 10_000),
    ]
    (root,) = steps["fl_trust"].parameters
    assert root.type == "text"
