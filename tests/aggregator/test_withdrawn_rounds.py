"""Data that were withdrawn stop the task that learned from them, until people have decided."""

from dataclasses import replace
from pathlib import Path

import pytest

from aggregator.rounds import Action, RoundPlan, open_round
from chain.cid import Cid
from chain.errors import InvalidInputError
from chain.types import Purpose
from tests.aggregator.training import Training


def open_with(training: Training, plan: RoundPlan, genesis: Path | None = None) -> int:
    ledger = training.federation.ledgers["aggregator"]
    return open_round(ledger, training.blobs, plan, genesis)


def final_model(training: Training, number: int) -> Path:
    """Fetch the model that a round made."""
    proposal = training.federation.reader.round(number).proposal
    assert proposal is not None
    path = training.folder / f"model-{number}.safetensors"
    training.blobs.fetch(Cid.from_blob_digest(proposal.model_blob), path, 1 << 30)
    return path


def withdraw(training: Training, hospital: str) -> bytes:
    version = training.federation.versions[hospital]
    training.federation.ledgers[hospital].withdraw(version, "patients took their consent back")
    return version


def test_no_round_is_opened_on_a_model_of_withdrawn_data_unless_that_was_agreed(
    training: Training,
) -> None:
    training.finish(training.open_round())
    one, two = (withdraw(training, name) for name in ("hospital-1", "hospital-2"))
    for despite in (frozenset[bytes](), frozenset({two})):
        with pytest.raises(InvalidInputError, match=one.hex()):
            open_with(training, replace(training.plan(), despite=despite))
    assert training.federation.reader.round_count() == 1
    assert open_with(training, replace(training.plan(), despite=frozenset({one, two}))) == 2


def test_a_withdrawal_ends_the_aggregators_loop_with_its_reason(training: Training) -> None:
    def others_act(step: object) -> None:
        if getattr(step, "action", None) is Action.OPENED:
            training.send_all(1)
        if getattr(step, "action", None) is Action.PROPOSED:
            training.attest(1)
            withdraw(training, "hospital-3")

    with pytest.raises(InvalidInputError, match="took their consent back"):
        training.run(2, others_act)
    assert training.federation.reader.round_count() == 1


def test_another_task_goes_on_from_a_model_before_and_not_from_one_after(
    training: Training,
) -> None:
    training.finish(training.open_round())
    withdraw(training, "hospital-1")
    other = replace(training.plan(), task="begun anew")
    with pytest.raises(InvalidInputError, match="model of round 1 must not be trained further"):
        open_with(training, other, final_model(training, 1))
    assert open_with(training, other, training.genesis()) == 2


def test_a_round_of_another_purpose_than_the_data_permit_is_not_opened(training: Training) -> None:
    ledger, version = training.federation.ledgers["hospital-1"], b""
    for name in ("hospital-1", "hospital-2", "hospital-3"):
        ledger, version = training.federation.ledgers[name], training.federation.versions[name]
        ledger.permit_purposes(version, frozenset({6, 42}))
    training.finish(training.open_round())
    general = replace(training.plan(), purpose=Purpose.GENERAL_RESEARCH.value)
    clinical = replace(training.plan(), purpose=Purpose.CLINICAL_CARE.value)
    with pytest.raises(InvalidInputError, match="never permitted DUO:0000043"):
        open_with(training, replace(clinical, despite=frozenset({version})))
    ledger.permit_purposes(version, frozenset({6}))
    with pytest.raises(InvalidInputError, match="not permitted any more for DUO:0000042"):
        open_with(training, general)
    assert open_with(training, replace(general, despite=frozenset({version}))) == 2
