"""Rounds on a real ledger: one step at a time, killed anywhere, and in the loop."""

import shutil
from dataclasses import replace

import numpy as np
import pytest

from aggregator import recipes
from aggregator.replay import judge_and_aggregate
from aggregator.rounds import Action, Step, open_round
from aggregator.rules import Rule, trimmed_mean
from chain.blob_store import Source
from chain.cid import Cid
from chain.digests import content_digest
from chain.errors import (
    BlobUnavailableError,
    ContractRevertedError,
    DigestMismatchError,
    InvalidInputError,
    UnfitRoundError,
)
from chain.merkle import verdicts_root
from chain.tensors import Array, open_tensors, save_tensors, schema_of, tensor_bytes
from chain.types import Outcome, Phase, Reason, Role, RoundTerms, Verdict
from tests.aggregator.training import Training, tensors_of
from tests.federation import HOSPITALS, TASK, digest


def test_a_round_goes_through_all_phases(training: Training) -> None:
    reader, number = training.federation.reader, training.open_round()
    assert training.advance(number).action is Action.WAITED_FOR_RECORDS
    training.send_all(number)
    assert training.advance(number).action is Action.PROPOSED
    assert training.advance(number).action is Action.WAITED_FOR_WITNESSES
    training.attest(number)
    assert training.advance(number).action is Action.FINAL

    final = reader.last_final(TASK)
    assert final is not None
    model = training.blobs.get(Cid.from_blob_digest(final[1]), 1 << 20)
    assert content_digest(model) == final[0]
    assert {one.outcome for one in reader.verdicts(number, 1)} == {Outcome.ACCEPTED}
    assert not list(training.settings.workdir.iterdir())


def test_the_next_round_starts_from_the_last_final_model(training: Training) -> None:
    first = training.open_round()
    training.finish(first)
    second = training.open_round()
    reader = training.federation.reader
    assert reader.last_final(TASK) == (
        reader.round(second).terms.base_model,
        reader.round(second).terms.base_blob,
        first,
    )
    training.finish(second)
    assert reader.round(second).phase is Phase.FINAL


def with_state(seed: int) -> dict[str, Array]:
    """A model as a server optimiser leaves it, whose state has fit no other."""
    state = {f"server.m.{name}": array + 1 for name, array in tensors_of(seed).items()}
    return tensors_of(seed) | state


def open_round_with_state(training: Training) -> int:
    path = training.folder / "stateful.safetensors"
    save_tensors(path, with_state(0))
    plan = training.plan(min_updates=1)
    ledger = training.federation.ledgers["aggregator"]
    return open_round(ledger, training.blobs, plan, path)


def judged(training: Training, number: int) -> tuple[Verdict, ...]:
    return judge_and_aggregate(
        training.federation.reader,
        training.blobs,
        number,
        private_key=training.private_key,
        workdir=training.folder / "judge",
        target=training.folder / "judged.safetensors",
        threads=1,
    ).verdicts


def test_the_next_rounds_schema_is_that_of_the_model_and_not_of_the_round_before(
    training: Training,
) -> None:
    first = training.open_round()
    training.send_all(first)
    ledger = training.federation.ledgers["aggregator"]
    verdicts = judged(training, first)
    model = training.blobs.put([tensor_bytes(with_state(1))])
    ledger.propose(first, content_digest(tensor_bytes(with_state(1))), model.digest, verdicts)
    training.attest(first)
    second = training.federation.reader.round(training.open_round()).terms
    assert second.base_blob == model.digest
    assert second.schema == schema_of(with_state(1)).digest()


def test_hospitals_send_the_trained_part_to_a_base_model_with_state(training: Training) -> None:
    number = open_round_with_state(training)
    assert training.federation.reader.round(number).terms.schema == (
        schema_of(with_state(0)).digest()
    )
    training.send("hospital-1", number, tensor_bytes(tensors_of(1)))
    training.send("hospital-2", number, tensor_bytes(with_state(2)))
    training.send("hospital-3", number, tensor_bytes(tensors_of(0)))
    reasons = {one.hospital: one.reason for one in judged(training, number)}
    address = training.federation.address
    assert reasons == {
        address("hospital-1"): Reason.NONE,
        address("hospital-2"): Reason.BLOB_TOO_LARGE,
        address("hospital-3"): Reason.REPLAYED_UPDATE,
    }


def test_a_first_model_of_state_alone_opens_no_round(training: Training) -> None:
    path = training.folder / "state.safetensors"
    save_tensors(path, {"server.m.weight": tensors_of(1)["weight"]})
    ledger = training.federation.ledgers["aggregator"]
    with pytest.raises(InvalidInputError, match="expected a tensor to train"):
        open_round(ledger, training.blobs, training.plan(), path)


def test_a_witness_comes_to_the_same_result(training: Training) -> None:
    number = training.open_round(trimmed_mean(1), min_updates=3)
    training.send_all(number)
    training.advance(number)
    federation = training.federation
    result = judge_and_aggregate(
        federation.reader,
        training.blobs,
        number,
        private_key=federation.identities["witness-1"].encryption_private_key,
        workdir=training.folder / "witness",
        target=training.folder / "model.safetensors",
        threads=1,
    )
    proposal = federation.reader.round(number).proposal
    assert proposal is not None
    assert result.model_digest == proposal.model == content_digest(result.model_path)
    assert verdicts_root(number, result.verdicts) == proposal.verdicts
    assert set(result.seconds) == {"fetch", "admit", "aggregate"}
    assert not (training.folder / "witness" / "plaintexts").exists()
    assert (training.folder / "witness").stat().st_mode & 0o777 == 0o700


def test_the_order_of_arrival_changes_no_bit(training: Training) -> None:
    models = []
    for task, order in (("one", HOSPITALS), ("other", HOSPITALS[::-1])):
        number = replace(training, task=task).open_round(trimmed_mean(1), min_updates=3)
        for hospital in order:
            seed = HOSPITALS.index(hospital) + 1
            training.send(hospital, number, tensor_bytes(tensors_of(seed)), examples=10 + seed)
        training.advance(number)
        proposal = training.federation.reader.round(number).proposal
        assert proposal is not None
        models.append(proposal.model)
    assert models[0] == models[1]


def test_the_second_of_two_equal_updates_is_a_copy(training: Training) -> None:
    number = training.open_round()
    same = tensor_bytes(tensors_of(1))
    for hospital, plaintext in zip(
        ("hospital-3", "hospital-1", "hospital-2"),
        (same, same, tensor_bytes(tensors_of(2))),
        strict=True,
    ):
        training.send(hospital, number, plaintext)
    training.advance(number)
    reasons = {one.hospital: one.reason for one in training.federation.reader.verdicts(number, 1)}
    address = training.federation.address
    assert reasons[address("hospital-3")] is Reason.NONE
    assert reasons[address("hospital-1")] is Reason.COPIED_FROM_PEER
    assert reasons[address("hospital-2")] is Reason.NONE


@pytest.mark.parametrize("source", ["an update", "the final model", "the genesis"])
def test_what_the_task_has_seen_is_a_replay(training: Training, source: str) -> None:
    first = training.open_round()
    training.finish(first)
    final = training.federation.reader.round(first).proposal
    assert final is not None
    replayed = {
        "an update": tensor_bytes(tensors_of(100 * first + 2)),
        "the final model": training.blobs.get(Cid.from_blob_digest(final.model_blob), 1 << 20),
        "the genesis": tensor_bytes(tensors_of(0)),
    }[source]
    second = training.open_round()
    training.send("hospital-1", second, replayed)
    training.send("hospital-2", second, tensor_bytes(tensors_of(21)))
    training.send("hospital-3", second, tensor_bytes(tensors_of(22)))
    training.advance(second)
    verdicts = training.federation.reader.verdicts(second, 1)
    assert {one.reason for one in verdicts if one.outcome is Outcome.REJECTED} == {
        Reason.REPLAYED_UPDATE
    }


def test_too_few_records_abort_the_round_after_the_deadline(training: Training) -> None:
    number = training.open_round()
    training.send("hospital-1", number, tensor_bytes(tensors_of(1)))
    assert training.advance(number).action is Action.WAITED_FOR_RECORDS
    training.federation.pass_time(3660)
    step = training.advance(number)
    assert (step.action, step.told) == (
        Action.ABORTED,
        "expected at least 2 records, found 1",
    )
    assert training.federation.reader.round(number).phase is Phase.ABORTED
    assert training.advance(number).action is Action.ABORTED
    assert training.federation.reader.active_round(TASK) is None


def test_too_few_admitted_updates_abort_the_round(training: Training) -> None:
    number = training.open_round()
    same = tensor_bytes(tensors_of(1))
    for hospital in HOSPITALS:
        training.send(hospital, number, same)
    step = training.advance(number)
    assert (step.action, step.told) == (
        Action.ABORTED,
        "expected at least 2 admitted updates, found 1",
    )


def test_an_unfit_round_tells_its_verdicts(training: Training) -> None:
    number = training.open_round()
    for hospital in HOSPITALS:
        training.send(hospital, number, b"no tensors")
    with pytest.raises(UnfitRoundError) as caught:
        judge_and_aggregate(
            training.federation.reader,
            training.blobs,
            number,
            private_key=training.private_key,
            workdir=training.folder / "work",
            target=training.folder / "model",
            threads=1,
        )
    assert [one.reason for one in caught.value.verdicts] == [Reason.TENSORS_MALFORMED] * 3
    addresses = [int(one.hospital, 16) for one in caught.value.verdicts]
    assert addresses == sorted(addresses)


def test_an_aggregator_killed_before_it_proposed_makes_the_same_model(training: Training) -> None:
    """Its folder is lost as well: chain and IPFS alone lead to the proposal."""
    number = training.open_round()
    training.send_all(number)
    result = judge_and_aggregate(
        training.federation.reader,
        training.blobs,
        number,
        private_key=training.private_key,
        workdir=training.settings.workdir / f"round-{number}",
        target=training.folder / "model",
        threads=2,
    )
    training.blobs.put(result.model_path)
    shutil.rmtree(training.settings.workdir)
    assert training.advance(number).action is Action.PROPOSED
    proposal = training.federation.reader.round(number).proposal
    assert proposal is not None
    assert proposal.model == result.model_digest


def test_what_a_killed_run_left_is_checked_before_it_is_used(training: Training) -> None:
    number = training.open_round()
    training.send_all(number)
    workdir = training.settings.workdir / f"round-{number}"
    (workdir / "plaintexts").mkdir(parents=True)
    (workdir / "plaintexts" / "old.safetensors").write_bytes(b"left over")
    base = training.federation.reader.round(number).terms.base_model
    (workdir / f"{base.hex()}.safetensors").write_bytes(b"damaged")
    assert training.advance(number).action is Action.PROPOSED
    assert not (workdir / "plaintexts").exists()


def dispute(training: Training, number: int) -> None:
    proposal = training.federation.reader.round(number).proposal
    assert proposal is not None
    ledger = training.federation.ledgers["witness-1"]
    ledger.dispute(number, proposal.number, digest("other"), digest("other"), digest("evidence"))


def test_a_lie_that_is_disputed_is_proposed_anew_in_truth(training: Training) -> None:
    number = training.open_round()
    training.send_all(number)
    training.federation.propose(number)
    dispute(training, number)
    assert training.advance(number).action is Action.PROPOSED
    assert training.advance(number).action is Action.WAITED_FOR_WITNESSES
    training.attest(number)
    assert training.advance(number).action is Action.FINAL


def test_a_true_model_in_another_models_blob_is_proposed_anew(training: Training) -> None:
    number = training.open_round()
    training.send_all(number)
    training.advance(number)
    dispute(training, number)
    proposal = training.federation.reader.round(number).proposal
    assert proposal is not None
    verdicts = training.federation.reader.verdicts(number, 1)
    ledger = training.federation.ledgers["aggregator"]
    ledger.propose(number, proposal.model, digest("another blob"), verdicts)
    found = training.federation.reader.round(number).proposal
    assert found is not None
    dispute(training, number)
    assert training.advance(number).action is Action.PROPOSED
    renewed = training.federation.reader.round(number).proposal
    assert renewed == replace(proposal, number=3)


def test_a_true_proposal_stands_against_a_dispute(training: Training) -> None:
    number = training.open_round()
    training.send_all(number)
    training.advance(number)
    dispute(training, number)
    step = training.advance(number)
    assert step.action is Action.WAITED_FOR_STEWARD
    assert "a steward has to decide" in step.told
    found = training.federation.reader.round(number).proposal
    assert found is not None
    assert found.number == 1
    training.federation.ledgers["steward"].abort(number, "the witness is out of its mind")
    assert training.advance(number).action is Action.ABORTED


@pytest.mark.parametrize("rule", [trimmed_mean(1), trimmed_mean(5)])
def test_a_rule_that_needs_more_updates_than_the_round_is_not_opened(
    training: Training, rule: Rule
) -> None:
    with pytest.raises(InvalidInputError, match="needs at least"):
        training.open_round(rule, min_updates=rule.least - 1)
    assert training.federation.reader.round_count() == 0


def test_a_screen_that_may_leave_fewer_than_the_round_asks_for_is_refused(
    training: Training,
) -> None:
    plan = replace(training.plan(), rule=recipes.default().to_json(), min_updates=5)
    with pytest.raises(InvalidInputError, match="as few as 4 updates, but 5 have to pass"):
        open_round(training.federation.ledgers["aggregator"], training.blobs, plan, None)
    assert training.federation.reader.round_count() == 0


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_a_first_model_with_a_value_that_is_not_finite_is_refused(
    training: Training, value: float
) -> None:
    genesis = training.genesis()
    with open_tensors(genesis) as file:
        tensors = {name: array.copy() for name, array in file.arrays.items()}
    next(iter(tensors.values())).reshape(-1)[0] = value
    save_tensors(genesis, tensors)
    ledger = training.federation.ledgers["aggregator"]
    with pytest.raises(InvalidInputError, match="first model: expected finite values"):
        open_round(ledger, training.blobs, training.plan(), genesis)
    assert training.federation.reader.round_count() == 0


def test_a_task_without_a_model_needs_a_first_one(training: Training) -> None:
    with pytest.raises(InvalidInputError, match="no final model yet"):
        open_round(training.federation.ledgers["aggregator"], training.blobs, training.plan(), None)


def test_a_second_round_of_the_task_is_refused_by_the_ledger(training: Training) -> None:
    training.open_round()
    with pytest.raises(ContractRevertedError, match="RoundLedgerRoundActive"):
        training.open_round()


def test_a_missing_base_model_is_no_verdict(training: Training) -> None:
    number = training.open_round()
    training.send_all(number)
    base = Cid.from_blob_digest(training.federation.reader.round(number).terms.base_blob)
    del training.blobs.blocks[base]
    with pytest.raises(BlobUnavailableError):
        training.advance(number)
    assert training.federation.reader.round(number).phase is Phase.COLLECTING


def test_a_base_model_of_another_digest_is_refused(training: Training) -> None:
    blob = training.blobs.put([tensor_bytes(tensors_of(5))])
    number = training.federation.open_round(base_blob=blob.digest)
    training.send_all(number)
    with pytest.raises(DigestMismatchError, match="base model"):
        training.advance(number)


def test_the_loop_leads_a_task_through_its_rounds(training: Training) -> None:
    def others_act(step: Step) -> None:
        if step.action is Action.OPENED:
            training.send_all(step.round)
        if step.action is Action.PROPOSED:
            training.attest(step.round)

    steps = training.run(2, others_act)
    assert [step.action for step in steps] == [Action.OPENED, Action.PROPOSED, Action.FINAL] * 2
    assert training.run(2, others_act) == []


def test_the_loop_goes_on_in_a_round_that_it_finds(training: Training) -> None:
    number = training.open_round()
    training.send_all(number)
    steps = training.run(1, lambda step: _attest(training, step))
    assert [step.action for step in steps] == [Action.PROPOSED, Action.FINAL]


def test_the_loop_goes_on_where_the_chain_forgot_the_round(training: Training) -> None:
    rpc = training.federation.rpc
    snapshots = [rpc("evm_snapshot")]

    def others_act(step: Step) -> None:
        if step.action is Action.OPENED and snapshots:
            rpc("evm_revert", snapshots.pop())
        elif step.action is Action.WAITED_FOR_RECORDS:
            training.send_all(step.round)
        _attest(training, step)

    steps = training.run(1, others_act)
    assert [step.action for step in steps] == [
        Action.OPENED,
        Action.WAITED_FOR_RECORDS,
        Action.PROPOSED,
        Action.FINAL,
    ]


def _attest(training: Training, step: Step) -> None:
    if step.action is Action.PROPOSED:
        training.attest(step.round)


def test_the_loop_waits_for_a_blob_store_that_is_away(
    training: Training, monkeypatch: pytest.MonkeyPatch
) -> None:
    number = training.open_round()
    training.send_all(number)
    kept = dict(training.blobs.blocks)
    training.blobs.blocks.clear()

    def unreachable(_: Cid) -> bool:
        raise BlobUnavailableError("no IPFS node answers")

    monkeypatch.setattr(training.blobs, "has", unreachable)

    def others_act(step: Step) -> None:
        if step.action is Action.WAITED_FOR_NETWORK:
            training.blobs.blocks |= kept
        _attest(training, step)

    steps = training.run(1, others_act)
    assert [step.action for step in steps] == [
        Action.WAITED_FOR_NETWORK,
        Action.PROPOSED,
        Action.FINAL,
    ]
    assert all(
        one.outcome is Outcome.ACCEPTED for one in training.federation.reader.verdicts(number, 1)
    )


def test_the_loop_leaves_a_round_to_the_aggregator_that_opened_it(training: Training) -> None:
    federation = training.federation
    rival, steward = federation.identities["researcher"], federation.ledgers["steward"]
    steward.enroll(rival.address, Role.AGGREGATOR, rival.encryption_key, "rival")
    foreign = federation.ledgers["researcher"].open_round(federation.terms())
    # Collecting has ended: whoever led the round would now judge it.
    federation.record_all(foreign)

    def others_act(step: Step) -> None:
        if step.action is Action.WAITED_FOR_STEWARD:
            steward.abort(foreign, "not the federation's round")
        if step.action is Action.OPENED:
            training.send_all(step.round)
        _attest(training, step)

    steps = training.run(2, others_act)
    assert [step.action for step in steps] == [
        Action.WAITED_FOR_STEWARD,
        Action.ABORTED,
        Action.OPENED,
        Action.PROPOSED,
        Action.FINAL,
    ]
    assert rival.address in steps[0].told


def test_the_loop_outlives_a_rival_that_opens_a_round_just_before_it(
    training: Training, monkeypatch: pytest.MonkeyPatch
) -> None:
    ledger = training.federation.ledgers["aggregator"]
    opening, steward = ledger.open_round, training.federation.ledgers["steward"]
    refusals = iter([ContractRevertedError("RoundLedgerRoundActive", {"round": 1})])

    def late(terms: RoundTerms) -> int:
        for refusal in refusals:
            raise refusal
        return opening(terms)

    def others_act(step: Step) -> None:
        if step.action is Action.OPENED:
            steward.abort(step.round, "enough")

    monkeypatch.setattr(ledger, "open_round", late)
    steps = training.run(1, others_act)
    assert [step.action for step in steps] == [
        Action.WAITED_FOR_NETWORK,
        Action.OPENED,
        Action.ABORTED,
    ]


@pytest.mark.parametrize(
    "failure", [DigestMismatchError("block of a blob", "one", "another"), OSError("disk is full")]
)
def test_the_loop_waits_for_a_node_that_lies_and_a_disk_that_is_full(
    training: Training, monkeypatch: pytest.MonkeyPatch, failure: Exception
) -> None:
    training.send_all(training.open_round())
    put, failures = training.blobs.put, iter([failure])

    def hindered(source: Source) -> Cid:
        for one in failures:
            raise one
        return put(source)

    monkeypatch.setattr(training.blobs, "put", hindered)
    steps = training.run(1, lambda step: _attest(training, step))
    assert [step.action for step in steps] == [
        Action.WAITED_FOR_NETWORK,
        Action.PROPOSED,
        Action.FINAL,
    ]
