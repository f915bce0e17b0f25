"""Comparison of the aggregator's index with the chain (step 10 of an audit)."""

from aggregator.index import Difference, compare, open_index
from audit.verify import INDEX, Finding
from chain.errors import IndexDatabaseError
from chain.reader import LedgerReader


def audit_index(reader: LedgerReader, database_url: str) -> list[Finding]:
    """Hold every row of an index against the chain, read anew.

    Args:
        reader: The ledger.
        database_url: The index, in SQLAlchemy's form.

    Returns:
        A finding for each value that differs, naming table, row and column, and one where the
        index cannot be read at all.

    Raises:
        InvalidInputError: If the URL is malformed.
        LedgerError: If the chain cannot be read.
    """
    engine = open_index(database_url)
    try:
        return [_finding(difference) for difference in compare(engine, reader)]
    except IndexDatabaseError as error:
        message = "the index cannot be compared with the chain"
        return [Finding(INDEX, "index", "a readable index of this ledger", str(error), message)]
    finally:
        engine.dispose()


def _finding(difference: Difference) -> Finding:
    key = ", ".join(map(_told, difference.key))
    subject = f"table {difference.table}, row ({key})"
    if difference.column:
        subject += f", column {difference.column}"
    expected, found = _told(difference.expected), _told(difference.found)
    return Finding(INDEX, subject, expected, found, "the index does not say what the chain says")


def _told(value: object) -> str:
    match value:
        case None:
            return "nothing"
        case bytes():
            return value.hex()
        case tuple():
            return f"({', '.join(map(_told, value))})"
        case _:
            return str(value)
