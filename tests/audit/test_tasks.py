"""An audit finds the tasks of a ledger by itself, and a task by a model that it made."""

import pytest

from audit.tasks import all_tasks, task_of_model
from chain.errors import InvalidInputError
from tests.federation import TASK, Federation, digest


def test_a_ledgers_tasks_come_in_the_order_of_their_first_rounds(federation: Federation) -> None:
    federation.finish(federation.open_round())
    federation.open_round(task="another")
    federation.open_round(base_model=digest("model"), base_blob=digest("model blob"))
    assert all_tasks(federation.reader) == (TASK, "another")


def test_a_ledger_without_rounds_has_no_tasks(federation: Federation) -> None:
    assert all_tasks(federation.reader) == ()


def test_a_model_leads_to_its_task_once_it_is_final(federation: Federation) -> None:
    federation.open_round(task="another")
    number = federation.open_round()
    federation.record_all(number)
    federation.propose(number)
    with pytest.raises(InvalidInputError, match="no round made it"):
        task_of_model(federation.reader, digest("model"))
    federation.attest(number, "witness-1")
    federation.attest(number, "witness-2")
    assert task_of_model(federation.reader, digest("model")) == TASK
