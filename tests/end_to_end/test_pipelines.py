"""Rounds of every pipeline through the whole system: ledger, envelopes, witnesses, audit.

Simulated: nine hospitals' updates are made of numbers, and two of them are hostile. The chain is
real; the blobs of most rounds lie in memory.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import pytest

from aggregator.recipes import default
from aggregator.rounds import Action, open_round
from audit.replay import audit_task
from audit.settings import WitnessSettings
from audit.witness import Said, Witness
from chain.addresses import address_order
from chain.blob_store import BlobStore
from chain.blobs import IpfsBlobStore
from chain.cid import Cid
from chain.devnet.anvil import fund
from chain.digests import content_digest, update_digest
from chain.envelope import EnvelopeContext, seal
from chain.ledger import Ledger
from chain.tensors import save_tensors, tensor_bytes
from chain.types import Outcome, Phase, Reason, Role, Verdict
from tests.aggregator.pipelines import (
    MILLION,
    NORMS,
    OPTIMIZED,
    PIPELINES,
    Judged,
    Sent,
    Steps,
    Tensors,
    nine_updates,
    pipeline_of,
    run,
    values_of,
)
from tests.aggregator.training import Training
from tests.federation import (
    ETHER,
    HOSPITALS,
    WITNESSES,
    Federation,
    connect,
    dataset_terms,
    identity,
    unchanged,
)
from tests.memory_blobs import MemoryBlobStore

COLUMNS = 40  # of each of three rows, and forty values each of two other dtypes
QUIET = {"fed_avg", "mean", "bucketing and fed_avg"}  # judge nothing


@dataclass(frozen=True, slots=True)
class Played:
    """A round that has ended."""

    number: int
    model: bytes
    verdicts: tuple[Verdict, ...]

    def judged(self) -> list[Judged]:
        return [
            (int(one.outcome), int(one.reason), one.score, one.threshold) for one in self.verdicts
        ]


@dataclass(frozen=True, slots=True)
class Consortium:
    """Nine hospitals, an aggregator, two witnesses and an auditor, each with its own folder."""

    training: Training
    witnesses: tuple[Witness, ...]

    @classmethod
    def of(cls, federation: Federation, blobs: BlobStore, folder: Path) -> "Consortium":
        witnesses = (
            Witness(
                federation.ledgers[name],
                blobs,
                federation.identities[name],
                WitnessSettings(folder / name, threads=1, poll_seconds=0.01, patience_seconds=9.0),
            )
            for name in WITNESSES
        )
        return cls(Training(federation, blobs, folder), tuple(witnesses))  # type: ignore[arg-type]

    def address(self, name: str) -> str:
        return self.training.federation.address(name)

    def steps(self, steps: Steps) -> Steps:
        """Give fl_trust's root the address of the hospital whose name it has."""
        return tuple(
            (name, {"root": self.address(params["root"])} if "root" in params else params)
            for name, params in steps
        )

    def play(
        self, task: str, steps: Steps, base: Tensors, sent: Sequence[Sent], least: int | None = None
    ) -> Played:
        """Take one round from its opening to its end; everyone says what they find."""
        training = replace(self.training, task=task)
        federation = training.federation
        pipeline = pipeline_of(self.steps(steps))
        plan = replace(
            training.plan(),
            rule=pipeline.to_json(),
            min_updates=max(1, least or pipeline.least_kept),
            max_updates=len(sent),
        )
        genesis = training.folder / "genesis.safetensors"
        save_tensors(genesis, base)
        ledger = federation.ledgers["aggregator"]
        number = open_round(ledger, training.blobs, plan, genesis)
        self.record(number, sent)
        assert training.advance(number).action is Action.PROPOSED
        said = [word.said for witness in self.witnesses for word in witness.watch()]
        # By the way they sign the heads of earlier rounds.
        words = [word for word in said if word is not Said.COSIGNED]
        assert words == [Said.ATTESTED] * len(self.witnesses)
        assert training.advance(number).action is Action.FINAL
        round_ = federation.reader.round(number)
        assert round_.phase is Phase.FINAL
        assert round_.terms.rule == pipeline.to_json()
        assert round_.proposal is not None
        model = training.blobs.get(Cid.from_blob_digest(round_.proposal.model_blob), 1 << 20)
        assert content_digest(model) == round_.proposal.model
        return Played(number, model, federation.reader.verdicts(number, round_.proposal.number))

    def record(self, number: int, sent: Sequence[Sent]) -> None:
        """Seal and sign what each hospital sends; a relay records all of it at once, in order."""
        federation, folder = self.training.federation, self.training.folder
        reader = federation.reader
        recipients, signed = reader.recipients(number), []
        for one in sent:
            plaintext, address = tensor_bytes(one.tensors), self.address(one.name)
            place = (reader.chain_id, reader.address, number, address)
            (folder / "plain").write_bytes(plaintext)
            envelope = folder / "sealed"
            seal(folder / "plain", len(plaintext), EnvelopeContext(*place), recipients, envelope)
            record = federation.record(
                one.name,
                number,
                update=update_digest(*place, content_digest(plaintext)),
                blob=self.training.blobs.put(envelope).digest,
                examples=one.weight,
            )
            signed.append((record, federation.sign(record, one.name)))
        federation.ledgers["aggregator"].relay_updates(signed)

    def audit(self, task: str) -> None:
        """Repeat all of a task's rounds with an auditor's key, and find nothing amiss."""
        federation = self.training.federation
        report = audit_task(
            federation.reader,
            self.training.blobs,
            task,
            federation.identities["auditor"].encryption_private_key,
            workdir=self.training.folder / "auditor",
        )
        assert report.findings == ()
        assert [step.ok for step in report.steps if step.number == 9] == [True]

    def expected(
        self, steps: Steps, base: Tensors, sent: Sequence[Sent], folder: Path
    ) -> tuple[bytes, list[Judged]]:
        """Aggregate by hand what the hospitals sent, ascending by their addresses."""
        named = [replace(one, name=self.address(one.name)) for one in sent]
        return run(
            self.steps(steps), base, sorted(named, key=lambda one: address_order(one.name)), folder
        )

    def of_hospital(self, played: Played, name: str) -> Verdict:
        return next(one for one in played.verdicts if one.hospital == self.address(name))


@pytest.fixture(scope="module")
def nine_hospitals(
    founded_federation: Federation, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Federation]:
    """The session's federation with six hospitals more, for the tests of this module."""
    rpc_url, deployment = founded_federation.rpc_url, founded_federation.deployment
    outboxes = tmp_path_factory.mktemp("outboxes")
    with unchanged(rpc_url):
        federation = connect(rpc_url, deployment, outboxes, dict(founded_federation.versions))
        for name in (f"hospital-{i}" for i in range(len(HOSPITALS) + 1, 10)):
            party = identity(name)
            fund(rpc_url, party.address, 100 * ETHER)
            federation.identities[name] = party
            federation.ledgers[name] = Ledger(
                rpc_url, deployment.ledger, party.account, outboxes, deployment.image_access
            )
            steward = federation.ledgers["steward"]
            steward.enroll(party.address, Role.HOSPITAL, party.encryption_key, name)
            terms = dataset_terms(name, images=1_000)
            federation.versions[name] = federation.ledgers[name].register_version(terms)
        yield federation


@pytest.fixture(scope="module")
def consortium(nine_hospitals: Federation, tmp_path_factory: pytest.TempPathFactory) -> Consortium:
    folder = tmp_path_factory.mktemp("consortium")
    return Consortium.of(nine_hospitals, MemoryBlobStore(), folder)


def few_examples(sent: Sequence[Sent]) -> list[Sent]:
    """Claim no more examples than the smallest data set has images."""
    return [replace(one, weight=5 + one.weight // 10) for one in sent]


@pytest.mark.parametrize("name", PIPELINES)
def test_a_round_of_every_pipeline_becomes_final_and_passes_the_audit(
    name: str, consortium: Consortium, tmp_path: Path
) -> None:
    base, sent = nine_updates(COLUMNS)
    sent = few_examples(sent)
    played = consortium.play(name, PIPELINES[name], base, sent)
    assert (played.model, played.judged()) == consortium.expected(
        PIPELINES[name], base, sent, tmp_path
    )
    assert [one.hospital for one in played.verdicts] == sorted(
        (consortium.address(one.name) for one in sent), key=address_order
    )
    if name not in QUIET:
        assert all(one.threshold > 0 for one in played.verdicts)
        assert any(one.score > 0 for one in played.verdicts)
    consortium.audit(name)


@pytest.mark.parametrize("name", OPTIMIZED)
def test_two_rounds_with_an_optimiser_carry_its_state_from_model_to_model(
    name: str, consortium: Consortium, tmp_path: Path
) -> None:
    base, sent = nine_updates(COLUMNS)
    sent = few_examples(sent)
    first = consortium.play(name, OPTIMIZED[name], base, sent)
    assert (first.model, first.judged()) == consortium.expected(
        OPTIMIZED[name], base, sent, tmp_path
    )
    state = values_of(first.model, tmp_path)
    assert {key.split(".")[0] for key in state} - {"a", "b", "c"} == {"server"}

    moved = [
        replace(
            one, tensors={key: array + array.dtype.type(0.25) for key, array in one.tensors.items()}
        )
        for one in sent
    ]
    second = consortium.play(name, OPTIMIZED[name], base, moved)
    assert (second.model, second.judged()) == consortium.expected(
        OPTIMIZED[name], state, moved, tmp_path
    )
    without = {key: array for key, array in state.items() if not key.startswith("server.")}
    assert second.model != consortium.expected(OPTIMIZED[name], without, moved, tmp_path)[0]
    consortium.audit(name)


def test_a_repeat_offender_is_quarantined_and_comes_back(consortium: Consortium) -> None:
    """Two norms out of range are one strike, which is what this policy bears."""
    steps: Steps = (
        ("quarantine", {"strikes": 1, "window": 2, "rounds": 1}),
        NORMS,
        ("centred_clipping", {"radius": MILLION, "iterations": 2}),
    )
    base, sent = nine_updates(COLUMNS)
    few = [sent[0], sent[1], sent[2], sent[8]]
    outcomes = []
    for round_ in range(4):
        moved = [
            replace(one, weight=9, tensors=one.tensors | {"c": one.tensors["c"] + round_ / 64})
            for one in few
        ]
        played = consortium.play("quarantine", steps, base, moved, least=3)
        verdict = consortium.of_hospital(played, "hospital-9")
        outcomes.append((verdict.outcome, verdict.reason))
        if verdict.reason is Reason.QUARANTINED:
            assert (verdict.score, verdict.threshold) == (MILLION, MILLION)
        assert consortium.of_hospital(played, "hospital-1").outcome is not Outcome.REJECTED
    assert outcomes == [
        (Outcome.REJECTED, Reason.NORM_OUT_OF_RANGE),
        (Outcome.REJECTED, Reason.NORM_OUT_OF_RANGE),
        (Outcome.REJECTED, Reason.QUARANTINED),
        (Outcome.REJECTED, Reason.NORM_OUT_OF_RANGE),
    ]
    consortium.audit("quarantine")


@pytest.mark.parametrize("name", ["FLAME", "bucketing and median", "DnC"])
def test_the_order_of_arrival_changes_no_bit(
    name: str, consortium: Consortium, tmp_path: Path
) -> None:
    """Also of what is drawn by lot, which depends on all updates."""
    base, sent = nine_updates(COLUMNS)
    arriving = [few_examples(sent)[i] for i in (4, 0, 8, 2, 6, 1, 7, 3, 5)]
    played = consortium.play(f"{name} in another order", PIPELINES[name], base, arriving)
    expected = consortium.expected(PIPELINES[name], base, few_examples(sent), tmp_path)
    assert (played.model, played.judged()) == expected


def test_the_default_pipeline_runs_over_real_ipfs(
    nine_hospitals: Federation, ipfs: str, tmp_path: Path
) -> None:
    consortium = Consortium.of(nine_hospitals, IpfsBlobStore(ipfs), tmp_path)
    steps = tuple((step.name, dict(step.params)) for step in default(2).steps)
    base, sent = nine_updates(COLUMNS)
    played = consortium.play("default over IPFS", steps, base, few_examples(sent))
    assert consortium.of_hospital(played, "hospital-9").reason is Reason.NORM_OUT_OF_RANGE
    consortium.audit("default over IPFS")
