import json
from pathlib import Path

import pytest

from bench import results


@pytest.fixture
def file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    path = tmp_path / "results.json"
    monkeypatch.setattr(results, "RESULTS", path)
    return path


def test_a_script_replaces_its_own_rows_and_keeps_the_others(file: Path) -> None:
    file.write_text(json.dumps([{"name": "round.admit"}, {"name": "aggregation.old"}]))
    results.keep("aggregation", [{"name": "aggregation.median"}])
    assert [row["name"] for row in json.loads(file.read_text())] == [
        "round.admit",
        "aggregation.median",
    ]


def test_a_family_is_not_taken_for_another_that_begins_alike(file: Path) -> None:
    file.write_text(json.dumps([{"name": "aggregation_memory.median"}]))
    results.keep("aggregation", [])
    assert [row["name"] for row in json.loads(file.read_text())] == ["aggregation_memory.median"]


def test_the_first_rows_make_the_file(file: Path) -> None:
    results.keep("memory", [{"name": "memory.median", "peer_s": None}])
    assert json.loads(file.read_text()) == [{"name": "memory.median", "peer_s": None}]
