"""A round in which cheats have a go, and what they can do in it."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from chain.cid import Cid
from chain.digests import content_digest, sha256, update_digest
from chain.envelope import EnvelopeContext, open_envelope, seal
from chain.reader import LedgerReader
from chain.signing import sign_update
from chain.tensors import Array, open_tensors, save_tensors
from chain.types import RecordedUpdate, Round, UpdateRecord
from demo.local import WITNESSES, LocalFederation
from demo.parties import Party

MAX_ENVELOPE = 1 << 26  # bytes


@dataclass(frozen=True, slots=True)
class Scene:
    """A round in which cheats have a go.

    Attributes:
        local: The federation.
        round: The round, which still collects.
        reader: The ledger.
        versions: Each hospital's data-set version, by name.
        folder: For the cheats' files.
        base: The round's base model.
    """

    local: LocalFederation
    round: Round
    reader: LedgerReader
    versions: dict[str, bytes]
    folder: Path
    base: Path

    def record_of(self, name: str, number: int | None = None) -> RecordedUpdate:
        """Find a hospital's record in this round, or another."""
        address = self.local.cast[name].address
        records = self.reader.records(number or self.round.number)
        return next(one for one in records if one.record.hospital == address)

    def send(self, record: UpdateRecord, signer: Party) -> None:
        """Relay a record to the ledger, signed by anybody."""
        signature = sign_update(record, signer.identity.account)
        self.local.ledger(signer).relay_update(record, signature)

    def seal(self, name: str, plaintext: Path) -> tuple[UpdateRecord, Path]:
        """Seal an update and make the record for it as an honest hospital would."""
        reader, number = self.reader, self.round.number
        address = self.local.cast[name].address
        place = EnvelopeContext(reader.chain_id, reader.address, number, address)
        envelope = self.folder / f"{name}-{number}-{plaintext.stem}.envelope"
        recipients = reader.recipients(number)
        seal(plaintext, plaintext.stat().st_size, place, recipients, envelope)
        with self.local.blobs() as blobs:
            blob = blobs.put(envelope).digest
        content = content_digest(plaintext)
        record = UpdateRecord(
            chain_id=reader.chain_id,
            ledger=reader.address,
            round=number,
            hospital=address,
            datasets=(self.versions[name],),
            purpose=self.round.terms.purpose,
            examples=1,
            base_model=self.round.terms.base_model,
            update=update_digest(reader.chain_id, reader.address, number, address, content),
            blob=blob,
            code=sha256(b"what a cheat runs"),
        )
        return record, envelope

    def changed_base(self, name: str, change: Callable[[str, Array], Array]) -> Path:
        """Write the base model's trained part with every tensor changed."""
        path = self.folder / f"{name}.safetensors"
        with open_tensors(self.base) as file:
            keys = [spec.name for spec in file.schema.trained().tensors]
            save_tensors(path, {key: change(key, file.arrays[key]) for key in keys})
        return path

    def leak(self, victim: str, number: int) -> Path:
        """Get a peer's plaintext from a witness that breaks its trust: it can read updates."""
        record = self.record_of(victim, number).record
        path = self.folder / f"leaked-{victim}-{number}.safetensors"
        envelope = path.with_suffix(".envelope")
        witness = self.local.cast[WITNESSES[-1]].identity
        with self.local.blobs() as blobs:
            blobs.fetch(Cid.from_blob_digest(record.blob), envelope, MAX_ENVELOPE)
        place = EnvelopeContext(record.chain_id, record.ledger, number, record.hospital)
        keys = self.reader.recipients(number)
        open_envelope(envelope, place, keys, witness.encryption_private_key, path)
        return path
