"""`fedwitness aggregate` and `fedwitness rules`: one command for anyone's updates."""

import json
from pathlib import Path

import numpy as np
import pytest
import safetensors.numpy
from typer.testing import CliRunner

from aggregator.recipes import RECIPES, RULES
from chain.digests import content_digest
from cli.main import command_line
from tests.cli.conftest import invoke

WIDE = {"COLUMNS": "300"}


@pytest.fixture
def files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Five updates, as torch would save them, in the working folder."""
    monkeypatch.chdir(tmp_path)
    names = [f"U{number}.safetensors" for number in range(5)]
    for number, name in enumerate(names):
        values = np.full((2, 3), number, np.float32)
        safetensors.numpy.save_file({"w": values}, name, metadata={"format": "pt"})
    return names


def test_updates_become_a_model_with_a_verdict_for_each(files: list[str]) -> None:
    words = ("--rule", "trimmed_mean", "--param", "f=2", "-o", "model.safetensors")
    code, told = invoke("aggregate", *words, *files, "--threads", "2")
    assert code == 0, told
    model = Path("model.safetensors")
    assert safetensors.numpy.load_file(model)["w"].tolist() == [[2.0] * 3] * 2
    assert told["model"] == f"0x{content_digest(model).hex()}"
    assert told["pipeline"] == [{"name": "trimmed_mean", "params": {"f": 2}}]
    assert [one["file"] for one in told["verdicts"]] == files
    clipped = {"outcome": "CLIPPED", "reason": "TRIMMED_BY_RULE", "score": 10**6}
    assert told["verdicts"][0] | clipped == told["verdicts"][0]
    assert told["verdicts"][2]["outcome"] == "ACCEPTED"
    assert told["verdicts"][2]["threshold"] == 900_000
    assert told["seconds"] > 0
    assert told["peak_anonymous_bytes"] > 10**6
    assert (told["coordinates"], told["threads"]) == (6, 2)
    assert sorted(path.name for path in Path().iterdir()) == [*files, model.name]


def test_people_read_a_table_with_the_whole_digest_and_every_remark(files: list[str]) -> None:
    safetensors.numpy.save_file({"w": np.full((2, 3), np.nan, np.float32)}, "bad[b]")
    words = ["aggregate", "--rule", "median", *files, "bad[b]", "-o", "m"]
    done = CliRunner().invoke(command_line(), words, env={"COLUMNS": "80"})
    assert done.exit_code == 0, done.output
    assert content_digest(Path("m")).hex() in done.stdout
    assert '[{"name":"median","params":{}}]' in done.stdout
    assert "bad[b]: tensor w: expected numbers, found a NaN" in done.stdout
    (line,) = (one for one in done.stdout.splitlines() if "bad[b]" in one and "rejected" in one)
    assert "NOT_A_NUMBER" in line


def test_a_pipeline_and_weights_come_from_files(files: list[str]) -> None:
    Path("p.json").write_text('[ {"name": "fed_avg", "params": {}} ]')
    Path("w.json").write_text(json.dumps(dict.fromkeys(files, 1) | {files[4]: 4}))
    words = ("--pipeline", "p.json", "--weights", "w.json", "-o", "m")
    code, told = invoke("aggregate", *words, *files)
    assert (code, told["pipeline"]) == (0, [{"name": "fed_avg", "params": {}}])
    assert safetensors.numpy.load_file("m")["w"][0, 0] == np.float32((0 + 1 + 2 + 3 + 16) / 8)
    assert [one["examples"] for one in told["verdicts"]] == [1, 1, 1, 1, 4]


def test_a_recipe_is_printed_as_its_steps(files: list[str]) -> None:
    code, told = invoke("aggregate", "--rule", "flame", *files[1:], "--base", files[0], "-o", "m")
    assert code == 0, told
    names = [step["name"] for step in told["pipeline"]]
    assert names == ["direction_cluster", "norm_clipping", "mean", "noise"]
    assert told["base"] is not None


def test_without_a_rule_it_is_the_default(files: list[str]) -> None:
    code, told = invoke("aggregate", *files, "-o", "m")
    names = tuple(step["name"] for step in told["pipeline"])
    assert (code, names) == (0, tuple(step.name for step in RECIPES["default"]().steps))


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (["--rule", "best"], "one of bulyan"),
        (["--rule", "krum"], "krum needs f: give it as f=VALUE"),
        (["--rule", "trimmed_mean", "--param", "f=3"], "at least 7 updates, found 5"),
        (["--rule", "median", "--pipeline", "p.json"], "not both"),
        (["--param", "f=1", "--pipeline", "p.json"], "not both"),
        (["--pipeline", "none.json"], "none.json"),
        (["--rule", "median", "--weights", "none.json"], "none.json"),
        (["--rule", "median", "--base", "none.st"], "none.st"),
        (["--rule", "median", "missing.safetensors"], "missing.safetensors"),
        (["--rule", "median", "-o", "U0.safetensors"], "U0.safetensors exists already"),
    ],
)
def test_an_error_is_one_line_that_says_what_to_do(
    files: list[str], words: list[str], expected: str
) -> None:
    before = Path("U0.safetensors").read_bytes()
    done = CliRunner().invoke(
        command_line(), ["aggregate", *files, "-o", "m", *words, "--json"], env=WIDE
    )
    assert done.exit_code == 2
    assert expected in json.loads(done.stdout)["error"]["message"]
    assert len(done.stderr.strip().splitlines()) == 1
    assert not Path("m").exists()
    assert Path("U0.safetensors").read_bytes() == before


def test_rules_are_listed_for_machines_and_people() -> None:
    code, told = invoke("rules")
    assert code == 0
    names = {kind: [one["name"] for one in told if one["kind"] == kind] for kind in _kinds(told)}
    assert names["recipe"] == list(RECIPES)
    assert names["rule"] == list(RULES)
    assert names.keys() == {
        *("recipe", "rule", "quarantine", "screen", "transform", "noise", "optimiser")
    }
    shown = CliRunner().invoke(command_line(), ["rules"], env=WIDE).stdout
    for one in told:
        assert one["name"] in shown
        assert one["description"] in shown
    assert "bound (1000000): In millionths of" in shown


def _kinds(told: list[dict[str, str]]) -> list[str]:
    return [one["kind"] for one in told]
