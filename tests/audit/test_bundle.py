"""A bundle proves a model without a network, and says what it rests on."""

from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from audit.bundle import BundleReport, verify_bundle
from audit.bundling import build_bundle
from audit.container import Mode
from audit.heads import check_heads
from audit.journal import read_heads
from audit.replay import replay_disclosed
from chain.cid import Cid
from chain.envelope import EnvelopeContext, seal
from chain.errors import (
    BlobUnavailableError,
    BundleError,
    InvalidInputError,
    LedgerError,
    UncosignedError,
)
from chain.rpc import RawLog
from chain.signing import sign_head
from chain.tensors import tensor_bytes
from chain.types import CosignedHead, Reason
from tests.aggregator.training import Training, tensors_of
from tests.audit.bundles import CosignedReader, bundle_of, model_of
from tests.federation import HOSPITALS, TASK, WITNESSES, digest

FROM_THE_LEDGER = {1, 2, 3, 4, 5, 6, 11, 12, 13}


def verify(path: Path, *, replayed: bool = False) -> BundleReport:
    replay = replay_disclosed if replayed else None
    return verify_bundle(path, workdir=path.parent / "work", replay=replay)


def passed(report: BundleReport) -> set[int]:
    assert report.audit.findings == ()
    return {step.number for step in report.audit.steps if step.ok}


def send_sealed(training: Training, hospital: str, number: int, envelope: bytes) -> None:
    """Record an envelope that was made by other means than the hospital's own."""
    record = training.federation.record(
        hospital, number, blob=training.blobs.put([envelope]).digest, examples=10
    )
    training.federation.ledgers[hospital].record_update(record)


def sealed(training: Training, hospital: str, number: int, recipients: tuple[bytes, ...]) -> bytes:
    """Seal some update to these keys."""
    reader = training.federation.reader
    place = (reader.chain_id, reader.address, number, training.federation.address(hospital))
    plain, target = training.folder / "plain", training.folder / "sealed"
    plain.write_bytes(tensor_bytes(tensors_of(5)))
    seal(plain, plain.stat().st_size, EnvelopeContext(*place), recipients, target)
    return target.read_bytes()


def test_a_light_bundle_proves_what_the_ledger_says(training: Training, tmp_path: Path) -> None:
    for _ in range(2):
        training.finish(training.open_round())
    written = bundle_of(training, 2, tmp_path / "light.bundle")
    assert written.mode is Mode.LIGHT
    assert (written.blobs, written.keys) == (0, 0)
    assert written.size == (tmp_path / "light.bundle").stat().st_size
    report = verify(tmp_path / "light.bundle")
    assert passed(report) == FROM_THE_LEDGER
    assert (report.task, report.rounds, report.quorum) == (TASK, 2, 2)
    assert set(report.signers) == {training.federation.address(name) for name in WITNESSES}
    reader = training.federation.reader
    assert report.events == len(list(reader.events(0, report.header.head.number)))


def test_an_opened_bundle_is_replayed_by_anybody(training: Training, tmp_path: Path) -> None:
    for _ in range(2):
        training.finish(training.open_round())
    path = tmp_path / "full.bundle"
    written = bundle_of(training, 2, path, full=True, key="auditor")
    assert written.keys == 2 * len(HOSPITALS)
    assert passed(verify(path)) == FROM_THE_LEDGER | {7, 8}
    assert passed(verify(path, replayed=True)) == FROM_THE_LEDGER | {7, 8, 9}
    assert not (tmp_path / "work").exists() or not list((tmp_path / "work").iterdir())


def test_a_closed_bundle_holds_blobs_and_no_key(training: Training, tmp_path: Path) -> None:
    training.finish(training.open_round())
    written = bundle_of(training, 1, tmp_path / "closed.bundle", full=True)
    # The first model, three envelopes and the model that they make.
    assert (written.blobs, written.keys) == (5, 0)
    assert passed(verify(tmp_path / "closed.bundle")) == FROM_THE_LEDGER | {7, 8}
    with pytest.raises(InvalidInputError, match="holds no keys of envelopes"):
        verify(tmp_path / "closed.bundle", replayed=True)


def test_a_bundle_ends_with_the_round_that_made_its_model(
    training: Training, tmp_path: Path
) -> None:
    training.finish(training.open_round())
    aborted = training.open_round()
    training.send_all(aborted)
    training.federation.ledgers["steward"].abort(aborted, "to see what becomes of it")
    training.finish(training.open_round())
    first = bundle_of(training, 1, tmp_path / "first", full=True, key="auditor")
    last = bundle_of(training, 3, tmp_path / "last", full=True, key="auditor")
    assert first.blocks < last.blocks
    assert verify(tmp_path / "first").rounds == 1
    report = verify(tmp_path / "last", replayed=True)
    assert report.rounds == 3
    assert passed(report) == FROM_THE_LEDGER | {7, 8, 9}
    # Nobody judged the updates of a round that was aborted: they are in no bundle.
    assert last.keys == 2 * len(HOSPITALS)


def test_what_a_key_cannot_show_is_taken_at_the_witnesses_word(
    training: Training, tmp_path: Path
) -> None:
    number = training.open_round(min_updates=1)
    recipients = training.federation.reader.recipients(number)
    training.send("hospital-1", number, tensor_bytes(tensors_of(1)))
    garbled = bytearray(sealed(training, "hospital-2", number, recipients))
    wrap = garbled.index(b'"wrap":"') + 8
    garbled[wrap] = ord("0") if garbled[wrap] != ord("0") else ord("1")
    send_sealed(training, "hospital-2", number, bytes(garbled))
    send_sealed(training, "hospital-3", number, b"soon gone")
    record = training.federation.reader.records(number)[2].record
    for cid in list(training.blobs.blocks):
        if cid == Cid.from_blob_digest(record.blob):
            del training.blobs.blocks[cid]
    training.advance(number)
    training.attest(number)
    reasons = {one.reason for one in training.federation.reader.verdicts(number, 1)}
    assert reasons == {Reason.NONE, Reason.ENVELOPE_UNOPENABLE, Reason.BLOB_UNAVAILABLE}
    written = bundle_of(training, number, tmp_path / "full", full=True, key="auditor")
    assert written.keys == 1
    report = verify(tmp_path / "full", replayed=True)
    assert passed(report) == FROM_THE_LEDGER | {7, 8, 9}
    assert len(report.notes) == 2
    for hospital, reason in (("hospital-2", "UNOPENABLE"), ("hospital-3", "UNAVAILABLE")):
        address = training.federation.address(hospital)
        assert any(address in note and reason in note for note in report.notes)


def test_a_faulty_chunk_is_shown_by_the_key(training: Training, tmp_path: Path) -> None:
    number = training.open_round(min_updates=1)
    recipients = training.federation.reader.recipients(number)
    training.send("hospital-1", number, tensor_bytes(tensors_of(1)))
    training.send("hospital-3", number, tensor_bytes(tensors_of(3)))
    cut = bytearray(sealed(training, "hospital-2", number, recipients))
    cut[-1] ^= 1
    send_sealed(training, "hospital-2", number, bytes(cut))
    training.advance(number)
    training.attest(number)
    written = bundle_of(training, number, tmp_path / "full", full=True, key="auditor")
    assert written.keys == 3
    report = verify(tmp_path / "full", replayed=True)
    assert passed(report) == FROM_THE_LEDGER | {7, 8, 9}
    assert report.notes == ()


def test_a_stranger_opens_no_bundle(training: Training, tmp_path: Path) -> None:
    training.finish(training.open_round())
    with pytest.raises(InvalidInputError, match="no auditor when it was opened"):
        bundle_of(training, 1, tmp_path / "full", full=True, key="researcher")
    assert not (tmp_path / "full").exists()


def test_a_bundle_waits_for_the_quorums_signatures(training: Training, tmp_path: Path) -> None:
    training.finish(training.open_round())
    for signers in ((), WITNESSES[:1]):
        reader = CosignedReader(training.federation, signers)
        with pytest.raises(UncosignedError, match=f"expected 2 witnesses .* found {len(signers)}"):
            build_bundle(reader, None, model_of(training, 1), tmp_path / "light")
    assert not list(tmp_path.glob("light*"))


class Forgetful(CosignedReader):
    """A ledger whose node tells blocks otherwise than before."""

    changes: Mapping[str, Any] = {}

    def raw_block(self, number: int) -> tuple[dict[str, Any], list[dict[str, Any]]]:
        block, receipts = super().raw_block(number)
        return {**block, **self.changes}, receipts

    def raw_logs(self, to_block: int) -> Iterator[RawLog]:
        logs = list(super().raw_logs(to_block))
        yield from logs if self.changes else logs[:-1]


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({}, "moved on while it was read"),
        ({"gasUsed": "0x1"}, "does not hash to"),
        ({"gasUsed": "many"}, "another form than Ethereum's"),
        ({"receiptsRoot": "0x00"}, "its node lost some"),
        ({"receiptsRoot": None}, "another form than Ethereum's"),
    ],
)
def test_a_node_that_tells_another_chain_makes_no_bundle(
    training: Training, tmp_path: Path, changes: dict[str, Any], told: str
) -> None:
    training.finish(training.open_round())
    reader = Forgetful(training.federation)
    reader.changes = changes
    with pytest.raises(LedgerError, match=told):
        build_bundle(reader, None, model_of(training, 1), tmp_path / "light")
    assert not list(tmp_path.glob("light*"))


class LiedTo(CosignedReader):
    """A ledger on which one of three witnesses signed another head."""

    def cosignatures(self, number: int) -> tuple[CosignedHead, ...]:
        liar = self._federation.identities["researcher"].account
        head = replace(self.head_of_final(number), history=digest("another history"))
        signature = sign_head(self.chain_id, self.address, head, liar)
        return (*super().cosignatures(number), CosignedHead(head, str(liar.address), signature))


def test_a_witness_that_signed_another_head_keeps_nobody_from_a_bundle(
    training: Training, tmp_path: Path
) -> None:
    training.finish(training.open_round())
    model = model_of(training, 1)
    build_bundle(LiedTo(training.federation), None, model, tmp_path / "light")
    assert len(verify(tmp_path / "light").signers) == 2
    liar = training.federation.address("researcher")
    with pytest.raises(UncosignedError, match=f"Another head was signed by {liar}"):
        build_bundle(LiedTo(training.federation, WITNESSES[:1]), None, model, tmp_path / "none")


def test_nothing_is_written_where_a_blob_is_lost_or_the_model_unknown(
    training: Training, tmp_path: Path
) -> None:
    training.finish(training.open_round())
    blob = training.federation.reader.records(1)[0].record.blob
    del training.blobs.blocks[Cid.from_blob_digest(blob)]
    with pytest.raises(BlobUnavailableError):
        bundle_of(training, 1, tmp_path / "full", full=True)
    reader = CosignedReader(training.federation)
    with pytest.raises(InvalidInputError, match="no round made it"):
        build_bundle(reader, None, digest("unknown"), tmp_path / "full")
    assert not (tmp_path / "full").exists()


def test_a_bundle_tells_an_audit_which_head_the_chain_had(
    training: Training, tmp_path: Path
) -> None:
    training.finish(training.open_round())
    bundle_of(training, 1, tmp_path / "light")
    reader = CosignedReader(training.federation)
    place = (reader.chain_id, reader.address)
    heads = read_heads(tmp_path / "light", *place)
    assert set(heads) == set(reader.cosignatures(1))
    assert not check_heads(reader, heads)
    assert check_heads(reader, [replace(reader.head_of_final(1), hash=digest("another block"))])
    with pytest.raises(InvalidInputError, match="found none"):
        read_heads(tmp_path / "light", 1, reader.address)
    (tmp_path / "light").write_bytes((tmp_path / "light").read_bytes()[:-1])
    with pytest.raises(BundleError):
        read_heads(tmp_path / "light", *place)
