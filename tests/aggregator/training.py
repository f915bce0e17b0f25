"""A task whose updates are real tensors in real envelopes, on a real ledger and blobs in memory.

It lets tests take rounds from start to end without a hospital's training.
"""

from dataclasses import dataclass
from pathlib import Path
from threading import Event

import numpy as np

from aggregator.pipeline import Pipeline
from aggregator.rounds import RoundPlan, Step, StepCallback, advance, open_round, run
from aggregator.rules import Rule, fed_avg
from aggregator.settings import AggregatorSettings
from chain.digests import content_digest, update_digest
from chain.envelope import EnvelopeContext, seal
from chain.tensors import Array, save_tensors, tensor_bytes
from tests.federation import HOSPITALS, PURPOSE, TASK, WITNESSES, Federation
from tests.memory_blobs import MemoryBlobStore

Tensors = dict[str, Array]


@dataclass(frozen=True, slots=True)
class Training:
    """A federation's task in one folder."""

    federation: Federation
    blobs: MemoryBlobStore
    folder: Path
    task: str = TASK

    @property
    def private_key(self) -> bytes:
        """The aggregator's X25519 key."""
        return self.federation.identities["aggregator"].encryption_private_key

    @property
    def settings(self) -> AggregatorSettings:
        return AggregatorSettings(self.folder / "aggregator", threads=2, poll_seconds=0.01)

    def plan(self, rule: Rule | None = None, min_updates: int = 2) -> RoundPlan:
        return RoundPlan(
            task=self.task,
            purpose=PURPOSE.value,
            rule=Pipeline((rule or fed_avg(),)).to_json(),
            min_updates=min_updates,
            max_updates=len(HOSPITALS),
            quorum=len(WITNESSES),
            collecting_seconds=3600,
            witnesses=tuple(self.federation.address(name) for name in WITNESSES),
        )

    def genesis(self) -> Path:
        path = self.folder / "genesis.safetensors"
        save_tensors(path, tensors_of(0))
        return path

    def open_round(self, rule: Rule | None = None, min_updates: int = 2) -> int:
        return open_round(
            self.federation.ledgers["aggregator"],
            self.blobs,
            self.plan(rule, min_updates),
            self.genesis(),
        )

    def send(self, hospital: str, round_number: int, plaintext: bytes, examples: int = 10) -> None:
        """Seal an update, store it and record it."""
        reader, address = self.federation.reader, self.federation.address(hospital)
        source, envelope = self.folder / "plain", self.folder / "sealed"
        source.write_bytes(plaintext)
        context = EnvelopeContext(reader.chain_id, reader.address, round_number, address)
        seal(source, len(plaintext), context, reader.recipients(round_number), envelope)
        content = content_digest(plaintext)
        record = self.federation.record(
            hospital,
            round_number,
            update=update_digest(reader.chain_id, reader.address, round_number, address, content),
            blob=self.blobs.put(envelope).digest,
            examples=examples,
        )
        self.federation.ledgers[hospital].record_update(record)

    def send_all(self, round_number: int) -> None:
        """Send an honest update of each hospital, other ones in each round."""
        for seed, hospital in enumerate(HOSPITALS, 1):
            self.send(hospital, round_number, tensor_bytes(tensors_of(100 * round_number + seed)))

    def advance(self, round_number: int) -> Step:
        return advance(
            self.federation.ledgers["aggregator"],
            self.blobs,
            round_number,
            private_key=self.private_key,
            settings=self.settings,
        )

    def attest(self, round_number: int) -> None:
        for witness in WITNESSES:
            self.federation.attest(round_number, witness)

    def finish(self, round_number: int) -> None:
        """Take an open round to its end."""
        self.send_all(round_number)
        self.advance(round_number)
        self.attest(round_number)

    def run(self, rounds: int, on_step: StepCallback) -> list[Step]:
        """Run the aggregator's loop, with others acting whenever a step was told."""
        steps: list[Step] = []

        def told(step: Step) -> None:
            steps.append(step)
            on_step(step)

        run(
            self.federation.ledgers["aggregator"],
            self.blobs,
            self.plan(),
            rounds=rounds,
            genesis=self.genesis(),
            private_key=self.private_key,
            settings=self.settings,
            stop=Event(),
            told=told,
        )
        return steps


def tensors_of(seed: int) -> Tensors:
    generator = np.random.default_rng(seed)
    return {
        "weight": generator.standard_normal((8, 4)).astype("<f4"),
        "bias": generator.standard_normal(4).astype("<f8"),
    }
