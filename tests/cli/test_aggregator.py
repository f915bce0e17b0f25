"""Opening and ending a round from the command line."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from aggregator.recipes import declare
from chain.tensors import save_tensors
from chain.types import Phase
from tests.cli.conftest import Party, with_key_files
from tests.federation import Federation


def open_one(federation: Federation, folder: Path, ipfs: str, *words: str) -> tuple[int, Any]:
    """Open a round of a task of its own as the aggregator."""
    aggregator = with_key_files(federation, "aggregator", folder / "keys" / "aggregator.json")
    model = folder / "first.safetensors"
    save_tensors(model, {"w": np.ones(3)})
    where = ("--task", "by-command", "--model", str(model), "--ipfs", ipfs)
    return aggregator.run("aggregator", "open", *where, *words)


@pytest.mark.parametrize(
    ("words", "recipe", "params"),
    [
        (["--rule", "trimmed_mean", "--param", "f=1"], "trimmed_mean", ["f=1"]),
        (["--rule", "sign_guard", "--param", "upper=2000000"], "sign_guard", ["upper=2000000"]),
        ([], "default", []),
    ],
)
def test_the_steps_of_a_rule_or_recipe_are_on_the_ledger(
    federation: Federation,
    tmp_path: Path,
    ipfs: str,
    words: list[str],
    recipe: str,
    params: list[str],
) -> None:
    code, told = open_one(federation, tmp_path, ipfs, *words)
    assert code == 0, told
    found = federation.reader.round(told["number"]).terms.rule
    assert found == declare(recipe, params).to_json()


def test_a_pipeline_of_a_file_is_on_the_ledger_in_canonical_form(
    federation: Federation, tmp_path: Path, ipfs: str
) -> None:
    steps = [{"params": {"f": 1}, "name": "nnm"}, {"name": "median", "params": {}}]
    (tmp_path / "p.json").write_text(json.dumps(steps, indent=2))
    code, told = open_one(federation, tmp_path, ipfs, "--pipeline", str(tmp_path / "p.json"))
    assert code == 0, told
    found = federation.reader.round(told["number"]).terms.rule
    assert found == '[{"name":"nnm","params":{"f":1}},{"name":"median","params":{}}]'


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (["--rule", "best"], "one of bulyan"),
        (["--rule", "krum"], "krum needs f"),
        (
            ["--rule", "trimmed_mean", "--param", "f=2"],
            "at least 5 updates, but the round would be content with 3: raise the least number",
        ),
        (
            ["--rule", "dnc", "--param", "f=8", "--param", "iterations=2"],
            "the round takes 16 at most: raise the greatest number",
        ),
    ],
)
def test_an_unsafe_or_unknown_rule_opens_no_round_and_says_what_to_raise(
    federation: Federation, tmp_path: Path, ipfs: str, words: list[str], expected: str
) -> None:
    code, told = open_one(federation, tmp_path, ipfs, *words)
    assert code == 2
    assert expected in told["error"]["message"]
    assert federation.reader.round_count() == 0


def test_a_steward_ends_a_round(federation: Federation, steward: Party) -> None:
    number = federation.open_round()
    code, told = steward.run("aggregator", "abort", str(number), "--reason", "disputed for good")
    assert code == 0, told
    assert told["aborted"] == number
    assert federation.reader.round(number).phase is Phase.ABORTED


def test_a_hospital_ends_no_round(federation: Federation, hospital: Party) -> None:
    number = federation.open_round()
    code, told = hospital.run("aggregator", "abort", str(number), "--reason", "no")
    assert code == 2
    assert "RoundLedgerNotAggregator" in told["error"]["message"]
    assert federation.reader.round(number).phase is Phase.OPEN
