"""A round whose hospitals send real envelopes, for attacks to change one thing in."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from aggregator.rounds import Action, advance
from aggregator.settings import AggregatorSettings
from chain.blob_store import BlobStore
from chain.digests import content_digest, sha256, update_digest
from chain.envelope import EnvelopeContext, seal
from chain.tensors import save_tensors, schema_of
from chain.types import Reason, UpdateRecord, Verdict
from tests.federation import Federation

Tensors = dict[str, np.ndarray[Any, np.dtype[Any]]]


def model(value: float) -> Tensors:
    """Make a small model whose values are all alike."""
    return {
        "layer.bias": np.full(3, value, np.float32),
        "layer.weight": np.full((3, 4), value, np.float32),
    }


@dataclass(frozen=True, slots=True)
class Sent:
    """What a hospital sends: its record and the file of its envelope."""

    record: UpdateRecord
    envelope: Path


@dataclass(frozen=True, slots=True)
class AttackedRound:
    """An open round of a federation, with its blobs and a folder for files.

    Attributes:
        federation: Who takes part.
        blobs: Where envelopes and models lie.
        number: The round.
        folder: Where envelopes are written.
    """

    federation: Federation
    blobs: BlobStore
    number: int
    folder: Path

    @classmethod
    def opened(
        cls,
        federation: Federation,
        blobs: BlobStore,
        folder: Path,
        base: float = 0.5,
        **terms: Any,
    ) -> "AttackedRound":
        """Open a round on a base model whose values are all `base`, with changes to its terms."""
        path = folder / f"base-{base}.safetensors"
        digest = save_tensors(path, model(base))
        number = federation.open_round(
            base_model=digest,
            base_blob=blobs.put(path).digest,
            schema=schema_of(model(base)).digest(),
            **terms,
        )
        return cls(federation, blobs, number, folder)

    def send(
        self,
        hospital: str,
        plaintext: Tensors | bytes,
        context: Mapping[str, Any] | None = None,
        recipients: tuple[bytes, ...] | None = None,
        examples: int = 50,
    ) -> Sent:
        """Do as an honest hospital does: seal, store the envelope, make the record.

        Args:
            hospital: Its name in the federation.
            plaintext: Tensors, or bytes in place of a tensor file.
            context: Changes to what the envelope is made for.
            recipients: Whom it is wrapped to, in place of the round's recipients.
            examples: How many images it was trained on.
        """
        chain = self.federation.reader
        file = self.folder / f"{hospital}.safetensors"
        if isinstance(plaintext, bytes):
            file.write_bytes(plaintext)
        else:
            save_tensors(file, plaintext)
        address = self.federation.address(hospital)
        place = EnvelopeContext(chain.chain_id, chain.address, self.number, address)
        envelope = self.folder / f"{hospital}.envelope"
        seal(
            file,
            file.stat().st_size,
            replace(place, **(context or {})),
            recipients or chain.recipients(self.number),
            envelope,
        )
        record = self.federation.record(
            hospital,
            self.number,
            update=update_digest(
                chain.chain_id, chain.address, self.number, address, content_digest(file)
            ),
            blob=self.blobs.put(envelope).digest,
            code=sha256(b"code"),
            examples=examples,
        )
        return Sent(record, envelope)

    def record(self, sent: Sent) -> None:
        """Relay a record on its hospital's signature."""
        names = {self.federation.address(name): name for name in self.federation.identities}
        signature = self.federation.sign(sent.record, names[sent.record.hospital])
        self.federation.ledgers["aggregator"].relay_update(sent.record, signature)

    def propose(self) -> dict[str, Verdict]:
        """Let the aggregator judge and propose; return the ledger's verdicts by hospital."""
        aggregator = self.federation.identities["aggregator"]
        step = advance(
            self.federation.ledgers["aggregator"],
            self.blobs,
            self.number,
            private_key=aggregator.encryption_private_key,
            settings=AggregatorSettings(workdir=self.folder / "aggregator", threads=1),
        )
        assert step.action is Action.PROPOSED, step
        verdicts = self.federation.reader.verdicts(self.number, 1)
        names = {self.federation.address(name): name for name in self.federation.identities}
        return {names[verdict.hospital]: verdict for verdict in verdicts}

    def reasons(self, attack: Callable[["AttackedRound"], Sent]) -> dict[str, Reason]:
        """Record the attack of hospital-1 and two honest updates; return the ledger's reasons."""
        self.record(attack(self))
        self.record(self.send("hospital-2", model(1.0)))
        self.record(self.send("hospital-3", model(2.0)))
        return {name: verdict.reason for name, verdict in self.propose().items()}
