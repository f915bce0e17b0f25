"""A changed row of the index is found and named."""

import sqlite3
from collections.abc import Callable
from pathlib import Path

import pytest

from aggregator.index import open_index, update_index
from audit.index import audit_index
from audit.verify import INDEX, Finding
from chain.errors import InvalidInputError
from tests.aggregator.training import Training
from tests.federation import HOSPITALS, Federation


class Index:
    """An index of a finished round, in a file that a test changes behind its back."""

    def __init__(self, training: Training) -> None:
        number = training.open_round()
        training.finish(number)
        self.federation: Federation = training.federation
        self.path: Path = training.folder / "index.sqlite"
        engine = open_index(self.url)
        update_index(engine, self.federation.reader)
        engine.dispose()

    @property
    def url(self) -> str:
        return f"sqlite:///{self.path}"

    def execute(self, statement: str, *values: object) -> None:
        connection = sqlite3.connect(self.path)
        with connection:
            connection.execute(statement, values)
        connection.close()

    def audit(self) -> list[Finding]:
        return audit_index(self.federation.reader, self.url)


@pytest.fixture
def index(training: Training) -> Index:
    return Index(training)


def test_an_untouched_index_is_what_the_chain_says(index: Index) -> None:
    assert index.audit() == []


def test_a_changed_value_is_named_by_table_row_and_column(index: Index) -> None:
    address = index.federation.address("hospital-2")
    index.execute("UPDATE records SET examples = 99 WHERE hospital = ?", address)
    (finding,) = index.audit()
    assert finding.step == INDEX
    assert finding.subject == f"table records, row (1, {address}), column examples"
    assert (finding.expected, finding.found) == ("10", "99")


def test_deleted_rows_are_named(index: Index) -> None:
    index.execute("DELETE FROM verdicts")
    findings = index.audit()
    subjects = {f"table verdicts, row (1, 1, {index.federation.address(h)})" for h in HOSPITALS}
    assert {finding.subject for finding in findings} == subjects
    assert {finding.found for finding in findings} == {"nothing"}


def test_an_invented_row_is_named(index: Index) -> None:
    index.execute("INSERT INTO participant_roles VALUES ('0x00', 'STEWARD')")
    (finding,) = index.audit()
    assert finding.subject == "table participant_roles, row (0x00, STEWARD)"
    assert finding.expected == "nothing"


@pytest.mark.parametrize(
    "spoil", [Path.unlink, lambda path: path.write_bytes(b"no database" * 999)]
)
def test_an_index_that_cannot_be_read_is_a_finding(
    index: Index, spoil: Callable[[Path], object]
) -> None:
    spoil(index.path)
    (finding,) = index.audit()
    assert (finding.step, finding.subject) == (INDEX, "index")


def test_a_malformed_url_is_an_error(federation: Federation) -> None:
    with pytest.raises(InvalidInputError, match="database"):
        audit_index(federation.reader, "index.sqlite")
