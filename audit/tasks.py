"""Which tasks an audit is about: all of a ledger, or the one that made a model."""

from collections.abc import Iterator

from chain.errors import InvalidInputError
from chain.ledger_view import LedgerView
from chain.types import Phase, Round


def all_tasks(reader: LedgerView) -> tuple[str, ...]:
    """List the names of a ledger's tasks, in the order of their first rounds.

    Raises:
        LedgerError: If the chain cannot be read.
    """
    return tuple(dict.fromkeys(one.terms.task for one in _rounds(reader)))


def task_of_model(reader: LedgerView, model: bytes) -> str:
    """Name the task that made a final model.

    Args:
        reader: The ledger.
        model: The model's content digest, 32 bytes.

    Raises:
        InvalidInputError: If no round made it.
        LedgerError: If the chain cannot be read.
    """
    for one in _rounds(reader):
        if one.phase is Phase.FINAL and one.proposal is not None and one.proposal.model == model:
            return one.terms.task
    message = f"expected a final model of {reader.address}, found 0x{model.hex()}: no round made it"
    raise InvalidInputError(message)


def _rounds(reader: LedgerView) -> Iterator[Round]:
    return (reader.round(number) for number in range(1, reader.round_count() + 1))
