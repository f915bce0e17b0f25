"""`fedwitness ask`: an auditor's questions, of a real chain and of an index of it."""

import csv
import json
from collections.abc import Iterator
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from prov.dot import prov_to_dot
from prov.model import ProvDerivation, ProvDocument, ProvInvalidation
from typer.testing import CliRunner

from chain.types import Outcome, Reason
from chain.wire import to_hex
from cli.main import command_line
from tests.aggregator.data_room import IMAGE, furnish
from tests.cli.conftest import run
from tests.federation import (
    PURPOSE,
    TASK,
    WITNESSES,
    Federation,
    connect,
    digest,
    unchanged,
)

HOSTILE = "lost \x1b[31m[bold]consent\u202e"


@dataclass(frozen=True)
class Asked:
    """A federation with a history, and an index of it."""

    federation: Federation
    database: Path

    def __call__(self, *words: str) -> Any:
        code, told = run(self.federation, "ask", *words, "--database", f"sqlite:///{self.database}")
        assert code == 0, told
        return told

    def text(self, *words: str, code: int = 0) -> str:
        """What people read."""
        where = ["--database", f"sqlite:///{self.database}"]
        done = CliRunner().invoke(command_line(), ["ask", *words, *where], env={"COLUMNS": "240"})
        assert done.exit_code == code, done.output
        return done.stdout if code == 0 else done.stderr


@pytest.fixture(scope="module")
def asked(
    founded_federation: Federation, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Asked]:
    """A final round with a rejected update, a second one upon it, a grant and a withdrawal."""
    founded, folder = founded_federation, tmp_path_factory.mktemp("ask")
    with unchanged(founded.rpc_url):
        federation = connect(
            founded.rpc_url, founded.deployment, folder / "outboxes", dict(founded.versions)
        )
        first = federation.open_round()
        federation.record_all(first)
        bad, *others = federation.verdicts()
        rejected = replace(bad, outcome=Outcome.REJECTED, reason=Reason.NOT_A_NUMBER)
        _end(federation, first, "model", (rejected, *others))
        second = federation.open_round(base_model=digest("model"), base_blob=digest("model blob"))
        federation.record_all(second)
        _end(federation, second, "second model", federation.verdicts())
        furnish(federation)
        ledger, version = federation.ledgers["hospital-1"], federation.versions["hospital-1"]
        ledger.grant_access(
            federation.address("researcher"),
            version,
            None,
            (),
            purpose=PURPOSE,
            expiry=federation.reader.head().timestamp + 3600,
        )
        ledger.withdraw(version, HOSTILE)
        database = folder / "index.db"
        code, _ = run(federation, "index", "rebuild", "--database", f"sqlite:///{database}")
        assert code == 0
        yield Asked(federation, database)


def _end(federation: Federation, number: int, model: str, verdicts: Any) -> None:
    federation.ledgers["aggregator"].propose(
        number, digest(model), digest(f"{model} blob"), list(verdicts)
    )
    for witness in WITNESSES:
        federation.attest(number, witness)


def test_where_a_model_comes_from(asked: Asked) -> None:
    told = asked("model", to_hex(digest("second model")))
    rounds = [one["round"] for one in told["ancestors"]["entries"]]
    assert [one["number"] for one in rounds] == [2, 1]
    assert all(one["position"]["transaction"].startswith("0x") for one in rounds)
    assert told["as_of"]["number"] == asked.federation.reader.head().number
    human = asked.text("model", to_hex(digest("second model")))
    assert to_hex(digest("base model")) in human


def test_the_chain_alone_gives_the_same_answer_as_an_index(asked: Asked) -> None:
    words = ("ask", "hospital", asked.federation.address("hospital-1"))
    code, told = run(asked.federation, *words)
    assert (code, told) == (0, asked(*words[1:]))


def test_what_a_hospital_sent_and_what_became_of_it(asked: Asked) -> None:
    bad = asked.federation.verdicts()[0].hospital
    told = asked("hospital", bad)
    outcomes = [one["verdict"]["outcome"] for one in told["contributions"]["entries"]]
    assert outcomes == ["ACCEPTED", "REJECTED"]
    assert "REJECTED: NOT_A_NUMBER" in asked.text("hospital", bad)


def test_which_models_a_withdrawal_touches(asked: Asked) -> None:
    version = to_hex(asked.federation.versions["hospital-1"])
    told = asked("descendants", version)
    assert told["withdrawn_at"] is not None
    # The hospital's update of the first round was rejected, and that model is free of its data.
    assert asked.federation.address("hospital-1") == asked.federation.verdicts()[0].hospital
    assert [one["round"] for one in told["models"]["entries"]] == [2]
    human = asked.text("descendants", version)
    # A hospital's words reach the screen spelled out, whatever they would do to it.
    assert "\\x1b[31m[bold]consent\\u202e" in human
    assert "\x1b" not in human
    assert "\u202e" not in human


def test_who_could_see_an_image_on_a_day(asked: Asked) -> None:
    version = to_hex(asked.federation.versions["hospital-1"])
    today = datetime.fromtimestamp(asked.federation.reader.head().timestamp, UTC).date()
    told = asked("viewers", version, "--day", str(today))
    (sight,) = told["could"]["entries"]
    assert sight["grant"]["researcher"] == asked.federation.address("researcher")
    hospital = asked.federation.address("hospital-1")
    assert told["looks"]["found"] == {"entries": [], "cursor": None}
    assert (told["looks"]["log"]["batches"], told["looks"]["log"]["missing"]) == (2, 2)
    human = asked.text("viewers", version, "--day", str(today))
    assert f"2 batches of the access log of {hospital} were not handed over" in human
    assert asked("viewers", version, "--day", "2001-01-01")["could"]["entries"] == []


def test_what_was_rejected_and_why(asked: Asked) -> None:
    (found,) = asked("rejections")["entries"]
    assert (found["round"], found["reason"]) == (1, "NOT_A_NUMBER")
    assert asked("rejections", "--round", "2")["entries"] == []
    assert asked("rejections", "--task", TASK, "--reason", "NOT_A_NUMBER")["entries"] == [found]
    assert "NOT_A_NUMBER" in asked.text("rejections")
    assert "expected one of" in asked.text("rejections", "--reason", "WHIM", code=2)


def test_the_other_questions_are_answered(asked: Asked) -> None:
    assert asked("round", "1")["round"]["rejected"] == 1
    assert "attested it" in asked.text("round", "1")
    assert asked("overview")["final"] == 2
    assert "2 rounds, 2 final" in asked.text("overview")
    assert asked("oddities")["findings"] == []
    assert "What a person should look at" in asked.text("oddities")
    version = to_hex(asked.federation.versions["hospital-2"])
    assert len(asked("dataset", version)["uses"]["entries"]) == 2
    assert "hospital-2 x-rays" in asked.text("dataset", version)
    withdrawn = asked.text("dataset", to_hex(asked.federation.versions["hospital-1"]))
    assert any("WITHDRAWN" in line and "lost" in line for line in withdrawn.splitlines())
    assert "for DUO:0000006" in withdrawn


def test_what_happened_to_an_image_is_told_in_order(asked: Asked) -> None:
    told = asked("image-history", to_hex(IMAGE))
    what = [one["what"] for one in told["timeline"]["entries"]]
    assert (what[0], what[-2:]) == ("REGISTERED", ["COMPARED", "COMPARED"])
    assert [log["missing"] for log in told["logs"]] == [2]
    human = asked.text("image-history", to_hex(IMAGE))
    assert "AGREES: 0x" in human
    hospital = asked.federation.address("hospital-1")
    assert f"2 batches of the access log of {hospital} were not handed over" in human
    assert "no image" in asked.text("image-history", to_hex(digest("unknown")), code=2)


def test_readings_and_requests_are_listed(asked: Asked) -> None:
    reader = asked.federation.address("hospital-2")
    assert len(asked("readings")["entries"]) == 3
    (second,) = asked("readings", "--image", to_hex(IMAGE), "--hospital", reader)["entries"]
    assert second["opinion_on"] is not None
    assert "second opinion on 0x" in asked.text("readings", "--author", reader)
    states = [one["state"] for one in asked("reading-requests")["entries"]]
    assert states == ["OPEN", "FULFILLED"]
    (open_,) = asked("reading-requests", "--open-to", reader)["entries"]
    assert asked("reading-requests", "--state", "OPEN")["entries"] == [open_]
    assert "FULFILLED" in asked.text("reading-requests")
    assert "expected one of" in asked.text("reading-requests", "--state", "WHIM", code=2)


def test_a_limit_says_that_there_is_more(asked: Asked) -> None:
    party = asked.federation.address("hospital-2")
    told = asked("hospital", party, "--limit", "1")["contributions"]
    assert len(told["entries"]) == 1
    assert told["cursor"]
    done = CliRunner().invoke(
        command_line(),
        ["ask", "hospital", party, "--limit", "1", "--database", f"sqlite:///{asked.database}"],
    )
    assert "raise --limit" in done.stderr


def test_a_models_provenance_is_taken_away_as_prov(asked: Asked, tmp_path: Path) -> None:
    model, path = digest("second model"), tmp_path / "model.prov.json"
    told = asked("model", to_hex(model), "--format", "prov", "-o", str(path))
    assert told == {"file": str(path), "format": "prov", "bytes": path.stat().st_size}
    document = ProvDocument.deserialize(str(path), format="json")
    derived = {
        tuple(str(value) for _, value in one.formal_attributes[:2])
        for one in document.get_records(ProvDerivation)
    }
    made, base = f"ledger:model-{model.hex()}", f"ledger:model-{digest('model').hex()}"
    bad = asked.federation.verdicts()[0].hospital
    assert {(made, base), (base, f"ledger:model-{digest('base model').hex()}")} <= derived
    assert (made, f"ledger:update-2-{bad}") in derived
    assert (base, f"ledger:update-1-{bad}") not in derived
    (invalid,) = document.get_records(ProvInvalidation)
    version = asked.federation.versions["hospital-1"]
    assert f"ledger:version-{version.hex()}" in {str(one) for _, one in invalid.formal_attributes}
    assert prov_to_dot(document).to_string().count("wasDerivedFrom") >= len(derived)


def test_histories_are_taken_away_as_tables_and_lines(asked: Asked, tmp_path: Path) -> None:
    path = tmp_path / "dataset.csv"
    version = to_hex(asked.federation.versions["hospital-1"])
    asked("dataset", version, "--format", "csv", "--output", str(path))
    with path.open(newline="") as file:
        kinds = [row["kind"] for row in csv.DictReader(file)]
    assert [kinds.count(kind) for kind in ("version", "descendant", "update")] == [1, 1, 2]
    party = asked.federation.address("hospital-1")
    lines = [
        json.loads(line) for line in asked.text("hospital", party, "--format", "jsonl").splitlines()
    ]
    assert [line["kind"] for line in lines][:2] == ["ledger", "party"]
    assert sum(line["kind"] == "update" for line in lines) == 2


@pytest.mark.parametrize("kind", ["prov", "csv", "jsonl"])
def test_an_export_of_many_pages_is_that_of_one(
    asked: Asked, monkeypatch: pytest.MonkeyPatch, kind: str
) -> None:
    words = ("dataset", to_hex(asked.federation.versions["hospital-2"]), "--format", kind)
    whole = asked.text(*words)
    monkeypatch.setattr("audit.facts.PAGE", 1)
    assert asked.text(*words) == whole


def test_what_is_not_there_is_an_error_and_leaves_no_file(asked: Asked, tmp_path: Path) -> None:
    unknown, path = to_hex(digest("unknown")), tmp_path / "none.csv"
    assert "no final round made" in asked.text("model", unknown, code=2)
    asked.text("model", unknown, "--format", "csv", "-o", str(path), code=2)
    assert list(tmp_path.iterdir()) == []
    assert "--format" in asked.text("model", unknown, "-o", str(path), code=2)
