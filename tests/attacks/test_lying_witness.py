"""A witness that lies: what the ledger refuses, what an honest one stops, and what an audit finds.

Against one that disputes for nothing there is a steward. A quorum that lies together makes a false
model final; whoever replays the round finds it.
"""

from collections.abc import Callable

import pytest

from aggregator.replay import judge_and_aggregate
from aggregator.rounds import Action, advance
from aggregator.settings import AggregatorSettings
from audit.verify import REPLAY
from chain.errors import ContractRevertedError
from chain.signing import sign_attestation
from chain.types import Attestation, Phase
from tests.attacks.devnet import OTHER_WITNESS, WITNESS, Devnet
from tests.attacks.liar import Liar
from tests.attacks.rounds import AttackedRound, model
from tests.cli.conftest import run, with_key_files
from tests.federation import WITNESSES, Federation, digest


def lied_about(round_: AttackedRound) -> Liar:
    """Propose a model that no update came to."""
    liar = Liar.of(round_)
    liar.propose(liar.claim(liar.save(model(666.0))))
    return liar


def proposed(federation: Federation) -> int:
    number = federation.open_round()
    federation.record_all(number)
    federation.propose(number)
    return number


def attest_as(federation: Federation, number: int, signer: str, witness: str) -> None:
    """Attest the newest proposal in a witness's name."""
    proposal = federation.reader.round(number).proposal
    assert proposal is not None
    attestation = Attestation(
        number, proposal.number, proposal.model, proposal.model_blob, proposal.verdicts
    )
    place = (federation.reader.chain_id, federation.reader.address)
    signature = sign_attestation(*place, attestation, federation.identities[signer].account)
    ledger = federation.ledgers["aggregator"]
    ledger.attest(number, proposal.number, federation.address(witness), signature)


def dispute(federation: Federation, number: int, model: bytes, verdicts: bytes) -> None:
    ledger = federation.ledgers[OTHER_WITNESS]
    proposal = federation.reader.round(number).proposal
    assert proposal is not None
    ledger.dispute(number, proposal.number, model, verdicts, digest("no evidence"))


def twice(federation: Federation, number: int) -> None:
    federation.attest(number, OTHER_WITNESS)
    federation.attest(number, OTHER_WITNESS)


def both(federation: Federation, number: int) -> None:
    federation.attest(number, OTHER_WITNESS)
    dispute(federation, number, digest("other"), digest("other"))


def for_nothing(federation: Federation, number: int) -> None:
    proposal = federation.reader.round(number).proposal
    assert proposal is not None
    dispute(federation, number, proposal.model, proposal.verdicts)


def suspended(federation: Federation, number: int) -> None:
    federation.ledgers["steward"].suspend(federation.address(OTHER_WITNESS), "it lies")
    federation.attest(number, OTHER_WITNESS)


REFUSED: dict[str, tuple[Callable[[Federation, int], None], str]] = {
    "attest one proposal twice": (twice, "RoundLedgerAlreadySpoken"),
    "attest and dispute": (both, "RoundLedgerAlreadySpoken"),
    "dispute what it came to itself": (for_nothing, "RoundLedgerNothingToDispute"),
    "attest in another's name": (
        lambda federation, number: attest_as(federation, number, OTHER_WITNESS, WITNESS),
        "RoundLedgerBadSignature",
    ),
    "attest without a seat": (
        lambda federation, number: attest_as(federation, number, "auditor", "auditor"),
        "RoundLedgerNotWitness",
    ),
    "attest when suspended": (suspended, "ParticipantRegistrySuspended"),
}


@pytest.mark.parametrize("lie", REFUSED)
def test_the_ledger_lets_no_witness(federation: Federation, lie: str) -> None:
    number = proposed(federation)
    attempt, error = REFUSED[lie]
    with pytest.raises(ContractRevertedError) as refused:
        attempt(federation, number)
    assert refused.value.name == error
    assert federation.reader.round(number).phase is Phase.PROPOSED
    assert federation.reader.round(number).attestations < len(WITNESSES)


def test_a_witness_that_attests_a_lie_alone_makes_it_not_final(devnet: Devnet) -> None:
    federation, reader = devnet.federation, devnet.federation.reader
    round_ = devnet.collected("alone", quorum=2)
    lied_about(round_)
    federation.attest(round_.number, OTHER_WITNESS)
    (signed,) = reader.attestations(round_.number, 1)
    evidence = devnet.disputed(round_.number, 1).evidence
    assert evidence is not None
    assert reader.round(round_.number).phase is Phase.PROPOSED
    # What it signed does not count for the truth that is proposed after it.
    devnet.propose_honestly(round_)
    devnet.until(
        lambda: reader.round(round_.number).attestations == 1, "the truth is attested once"
    )
    with pytest.raises(ContractRevertedError) as refused:
        federation.ledgers["aggregator"].attest(round_.number, 2, *signed)
    assert refused.value.name == "RoundLedgerBadSignature"
    federation.attest(round_.number, OTHER_WITNESS)
    assert devnet.final(round_.number).attestations == 2


def test_a_witness_that_disputes_the_truth_stops_the_round_until_a_steward_ends_it(
    devnet: Devnet,
) -> None:
    federation, reader, task = devnet.federation, devnet.federation.reader, "slandered"
    round_ = devnet.collected(task, quorum=2)
    devnet.propose_honestly(round_)
    dispute(federation, round_.number, digest("other"), digest("other"))
    (fault,) = devnet.disputed(round_.number, 1).faults
    assert "cannot be" in fault
    step = advance(
        federation.ledgers["aggregator"],
        devnet.blobs,
        round_.number,
        private_key=federation.identities["aggregator"].encryption_private_key,
        settings=AggregatorSettings(round_.folder / "aggregator", threads=1),
    )
    assert step.action is Action.WAITED_FOR_STEWARD
    # Anyone with a key sees who is right.
    replayed = judge_and_aggregate(
        reader,
        devnet.blobs,
        round_.number,
        private_key=federation.identities["auditor"].encryption_private_key,
        workdir=round_.folder / "auditor",
        target=round_.folder / "replayed",
        threads=1,
    )
    proposal = reader.round(round_.number).proposal
    assert proposal is not None
    assert replayed.model_digest == proposal.model
    federation.ledgers["steward"].abort(round_.number, "the dispute is baseless")
    assert reader.last_final(task) is None
    # The next round does without it.
    again = devnet.collected(task, witnesses=(devnet.address(WITNESS),))
    devnet.propose_honestly(again)
    devnet.final(again.number)


def test_a_quorum_of_lying_witnesses_is_found_by_any_auditors_replay(devnet: Devnet) -> None:
    federation, task = devnet.federation, "conspiracy"
    round_ = devnet.collected(task, witnesses=(devnet.address(OTHER_WITNESS),))
    liar = lied_about(round_)
    federation.attest(round_.number, OTHER_WITNESS)
    assert devnet.final(round_.number).attestations == 1
    audit = ("audit", "--task", task, "--ipfs", devnet.ipfs)
    auditor = with_key_files(federation, "auditor", round_.folder / "keys" / "auditor.json")
    code, found = run(federation, *audit, *auditor.keyring.options())
    assert code == 1
    (finding,) = found["findings"]
    assert finding["step"] == REPLAY
    assert finding["subject"] == f"round {round_.number}, model of proposal 1"
    assert finding["expected"] == liar.truth.model_digest.hex()
    # Without a key nobody opens an update: the audit says that it did not replay.
    code, found = run(federation, *audit)
    assert code == 0
    assert {step["number"]: step["ok"] for step in found["steps"]}[REPLAY] is None
