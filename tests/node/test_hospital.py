"""A hospital takes part in a round, and goes on where it was killed with what it had made."""

import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import NoReturn

import numpy as np
import pytest

from chain.cid import blob_cid
from chain.digests import content_digest, update_digest
from chain.envelope import EnvelopeContext, open_envelope
from chain.errors import (
    DigestMismatchError,
    InvalidInputError,
    PhaseError,
    ServerError,
    VerificationError,
)
from chain.signing import recover_update_signer
from chain.tensors import open_tensors, tensor_bytes
from chain.tensors import schema_of as schema_of_tensors
from chain.types import DatasetState, DatasetVersion, Phase, Round, RoundTerms
from node.hospital import (
    STEPS,
    Hospital,
    Listener,
    UnusableDataError,
    follow,
    follow_verdict,
    take_part,
    training_seed,
)
from node.images import NO_LABEL
from node.training import code_digest, schema_of
from tests.node.fake_server import CHAIN_ID, LEDGER, FakeServer

RECIPIENT = b"\x05" * 32
VERSION = DatasetVersion(
    version=bytes(32),
    dataset=bytes(32),
    hospital="0xf39Fd6e51aad88F6F4ce6aB8827279cffFb92266",
    state=DatasetState.ACTIVE,
    merkle_root=bytes(32),
    images=6,
    modality="DX",
    purposes=frozenset({6}),
    profile=1,
    attestation=bytes(32),
    previous=bytes(32),
)


class KilledError(BaseException):
    """Ends a run as kill -9 does: nobody catches it."""


class ChainView:
    """A hospital's own view of the chain."""

    def __init__(self, server: FakeServer) -> None:
        self.rounds, self.keys = dict(server.rounds), dict(server.recipients)
        self.state, self.purposes = DatasetState.ACTIVE, frozenset({6})

    def round(self, number: int) -> Round:
        return self.rounds[number]

    def recipients(self, round_number: int) -> tuple[bytes, ...]:
        return self.keys[round_number]

    def dataset_version(self, version: bytes) -> DatasetVersion:
        return replace(VERSION, version=version, state=self.state, purposes=self.purposes)


def folder_of(hospital: Hospital) -> Path:
    return hospital.folder / "rounds" / f"{CHAIN_ID}-{LEDGER}" / "1"


def files_of(hospital: Hospital) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder_of(hospital).iterdir()}


def kill_at(step: str) -> Listener:
    def listen(begun: str) -> None:
        if begun == step:
            raise KilledError

    return Listener(on_step=listen)


def with_terms(server: FakeServer, **changes: object) -> None:
    terms: RoundTerms = replace(server.rounds[1].terms, **changes)  # type: ignore[arg-type]
    server.rounds[1] = replace(server.rounds[1], terms=terms)


def test_a_round_from_its_opening_to_the_record(
    hospital: Hospital, server: FakeServer, tmp_path: Path
) -> None:
    steps: list[str] = []
    done = take_part(hospital, 1, Listener(on_step=steps.append))
    record = done.record
    assert tuple(steps) == STEPS
    assert server.records[1, hospital.identity.address] == record
    assert recover_update_signer(record, done.signature) == hospital.identity.address
    assert (record.round, record.chain_id, record.ledger) == (1, CHAIN_ID, LEDGER)
    assert (record.datasets, record.purpose, record.examples) == ((b"\x03" * 32,), 6, 6)
    assert record.base_model == server.rounds[1].terms.base_model
    assert record.code == code_digest()
    envelope = folder_of(hospital) / "envelope"
    assert record.blob == blob_cid([envelope.read_bytes()]).digest
    context = EnvelopeContext(CHAIN_ID, LEDGER, 1, hospital.identity.address)
    content = open_envelope(envelope, context, server.recipients[1], RECIPIENT, tmp_path / "opened")
    assert record.update == update_digest(CHAIN_ID, LEDGER, 1, record.hospital, content)
    with open_tensors(tmp_path / "opened") as file:
        assert file.schema == schema_of("pneumonia-2d")


def serve_base_with_state(server: FakeServer, folder: Path, kinds: tuple[str, ...]) -> None:
    """Let the round start from a model as a server optimiser leaves it."""
    (model,) = server.models.values()
    (folder / "bare").write_bytes(model)
    with open_tensors(folder / "bare") as file:
        tensors = dict(file.arrays)
        for name, array in file.arrays.items():
            tensors |= {f"server.{kind}.{name}": array for kind in kinds}
    base, schema = tensor_bytes(tensors), schema_of_tensors(tensors).digest()
    cid = blob_cid([base])
    server.models = {str(cid): base}
    with_terms(server, base_model=content_digest(base), base_blob=cid.digest, schema=schema)


@pytest.mark.parametrize("kinds", [("m",), ("v",), ("m", "v")])
def test_a_base_model_with_an_optimisers_state_is_trained_without_it(
    hospital: Hospital, server: FakeServer, tmp_path: Path, kinds: tuple[str, ...]
) -> None:
    serve_base_with_state(server, tmp_path, kinds)
    take_part(hospital, 1)
    with open_tensors(folder_of(hospital) / "update.safetensors") as file:
        assert file.schema == schema_of("pneumonia-2d")


def test_a_base_model_with_other_tensors_for_the_server_is_refused_before_any_work(
    hospital: Hospital, server: FakeServer, tmp_path: Path
) -> None:
    serve_base_with_state(server, tmp_path, ("junk",))
    with pytest.raises(InvalidInputError, match="another version of the software"):
        take_part(hospital, 1)
    assert files_of(hospital) == {}


@pytest.mark.parametrize("step", STEPS)
def test_killed_at_any_step_it_goes_on_with_what_it_had(
    hospital: Hospital, server: FakeServer, step: str
) -> None:
    with pytest.raises(KilledError):
        take_part(hospital, 1, kill_at(step))
    before = files_of(hospital)
    take_part(hospital, 1)
    after = files_of(hospital)
    assert {name: after[name] for name in before} == before
    assert len(server.uploads) == len(server.records) == 1


def test_killed_during_training_it_comes_to_the_same_update(hospital: Hospital) -> None:
    def die(_: object) -> None:
        raise KilledError

    with pytest.raises(KilledError):
        take_part(hospital, 1, Listener(on_epoch=die))
    assert "update.safetensors" not in files_of(hospital)
    take_part(hospital, 1)
    first = files_of(hospital)["update.safetensors"]
    (folder_of(hospital) / "update.safetensors").unlink()
    (folder_of(hospital) / "envelope").unlink()
    with pytest.raises(KilledError):
        take_part(hospital, 1, kill_at("sealing"))
    assert files_of(hospital)["update.safetensors"] == first


def test_killed_while_sending_it_goes_on_at_the_servers_offset(
    hospital: Hospital, server: FakeServer
) -> None:
    def die(sent: int) -> None:
        if sent:
            raise KilledError

    server.patch_faults.append(4321)
    with pytest.raises(KilledError):
        take_part(hospital, 1, Listener(on_bytes=die))
    told: list[int] = []
    take_part(hospital, 1, Listener(on_bytes=told.append))
    assert told[0] == 4321
    assert len(server.records) == 1


def test_what_a_killed_write_left_behind_disturbs_nothing(hospital: Hospital) -> None:
    with pytest.raises(KilledError):
        take_part(hospital, 1, kill_at("sealing"))
    (folder_of(hospital) / ".envelope.x1y2").write_bytes(b"half an envelope")
    take_part(hospital, 1)


def test_taking_part_again_changes_and_sends_nothing(
    hospital: Hospital, server: FakeServer
) -> None:
    first = take_part(hospital, 1)
    before = files_of(hospital)
    server.asked.clear()
    assert take_part(hospital, 1) == first
    assert files_of(hospital) == before
    assert {method for method, _ in server.asked} == {"GET"}


def test_a_server_that_lost_its_uploads_is_not_sent_a_second_record(
    hospital: Hospital, server: FakeServer
) -> None:
    first = take_part(hospital, 1)
    server.uploads.clear()
    assert take_part(hospital, 1) == first
    assert not server.uploads


def test_the_rounds_files_are_private(hospital: Hospital) -> None:
    take_part(hospital, 1)
    assert folder_of(hospital).stat().st_mode & 0o777 == 0o700
    for path in folder_of(hospital).iterdir():
        assert path.stat().st_mode & 0o077 == 0


def test_recording_is_waited_for(hospital: Hospital, server: FakeServer) -> None:
    server.records_at_once = False
    pauses: list[float] = []

    def pause(seconds: float) -> None:
        pauses.append(seconds)
        if len(pauses) == 3:
            server.record(next(iter(server.uploads)))

    take_part(hospital, 1, pause=pause)
    assert len(pauses) == 3


def test_a_refused_upload_tells_why(hospital: Hospital, server: FakeServer) -> None:
    server.records_at_once = False

    def refuse(_: float) -> None:
        upload = next(iter(server.uploads.values()))
        upload.state = "refused"
        upload.problem = {
            "detail": "late",
            "contract_error": {"name": "RoundLedgerLateRecord", "args": {}},
        }

    with pytest.raises(ServerError, match="refused: late") as refusal:
        take_part(hospital, 1, pause=refuse)
    assert refusal.value.contract_error == "RoundLedgerLateRecord"


def test_a_recording_that_does_not_come_ends_in_time(
    hospital: Hospital, server: FakeServer
) -> None:
    server.records_at_once = False
    with pytest.raises(ServerError, match=r"storing after 0 s.*goes on from there"):
        take_part(hospital, 1, seconds=0.0, pause=lambda _: None)


def test_a_server_that_only_claims_to_have_recorded_is_not_believed(
    hospital: Hospital, server: FakeServer
) -> None:
    server.records_at_once = False

    def claim(_: float) -> None:
        next(iter(server.uploads.values())).state = "recorded"

    with pytest.raises(VerificationError, match="shows no record"):
        take_part(hospital, 1, pause=claim)


def test_a_record_that_the_hospital_did_not_sign_is_noticed(
    hospital: Hospital, server: FakeServer
) -> None:
    record = take_part(hospital, 1).record
    server.records[1, record.hospital] = replace(record, examples=5)
    with pytest.raises(DigestMismatchError, match="update recorded in round 1"):
        follow_verdict(hospital, 1, pause=lambda _: None)


@pytest.mark.parametrize(
    ("changes", "error", "told"),
    [
        ({"deadline": int(time.time()) - 5}, PhaseError, "takes no updates"),
        ({"schema": b"\x01" * 32}, InvalidInputError, "another version of the software"),
        ({"purpose": 4}, InvalidInputError, "DUO:0000004.*does not permit"),
        ({"task": "lesion-2d"}, InvalidInputError, "modality 'DX'"),
        ({"task": "cats"}, InvalidInputError, "found 'cats'"),
    ],
)
def test_a_round_that_does_not_suit_is_refused_before_any_work(
    hospital: Hospital,
    server: FakeServer,
    changes: dict[str, object],
    error: type[Exception],
    told: str,
) -> None:
    with_terms(server, **changes)
    with pytest.raises(error, match=told):
        take_part(hospital, 1)
    assert files_of(hospital) == {}


def test_images_without_labels_are_not_learned_from(hospital: Hospital, server: FakeServer) -> None:
    unlabelled = replace(hospital.dataset, labels=np.full(6, NO_LABEL, dtype=np.int64))
    with pytest.raises(InvalidInputError, match="data set 'chest' have no labels"):
        take_part(replace(hospital, dataset=unlabelled), 1)
    assert files_of(hospital) == {}
    assert server.records == {}


@pytest.mark.parametrize("phase", [Phase.PROPOSED, Phase.FINAL, Phase.ABORTED])
def test_a_round_that_collects_no_more_is_refused(
    hospital: Hospital, server: FakeServer, phase: Phase
) -> None:
    server.rounds[1] = replace(server.rounds[1], phase=phase)
    with pytest.raises(PhaseError, match=phase.name):
        take_part(hospital, 1)


def change_recipients(server: FakeServer) -> None:
    server.recipients[1] = (b"\x66" * 32,)


def change_base_model(server: FakeServer) -> None:
    with_terms(server, base_model=b"\x66" * 32)


def change_aggregator(server: FakeServer) -> None:
    address = "0xf39Fd6e51aad88F6F4ce6aB8827279cffFb92266"
    server.rounds[1] = replace(server.rounds[1], aggregator=address)


@pytest.mark.parametrize("lie", [change_recipients, change_base_model, change_aggregator])
def test_a_server_that_tells_other_than_the_ledger_gets_no_update(
    hospital: Hospital, server: FakeServer, lie: Callable[[FakeServer], None]
) -> None:
    honest = ChainView(server)
    lie(server)
    with pytest.raises(VerificationError, match="the server tells other"):
        take_part(replace(hospital, reader=honest), 1)
    assert files_of(hospital) == {}


def test_an_honest_server_passes_the_hospitals_own_check(
    hospital: Hospital, server: FakeServer
) -> None:
    take_part(replace(hospital, reader=ChainView(server)), 1)


@pytest.mark.parametrize("state", [DatasetState.WITHDRAWN, DatasetState.SUPERSEDED])
def test_nothing_is_trained_on_data_that_were_withdrawn_since(
    hospital: Hospital, server: FakeServer, state: DatasetState
) -> None:
    view = ChainView(server)
    view.state = state
    watching = replace(hospital, reader=view)
    with pytest.raises(UnusableDataError, match=f"{state.name} on the ledger"):
        take_part(watching, 1)
    assert "update.safetensors" not in files_of(hospital)
    with pytest.raises(UnusableDataError):
        follow(watching, "pneumonia-2d", until=lambda: False)


def test_an_update_that_was_trained_before_the_withdrawal_is_not_sent(
    hospital: Hospital, server: FakeServer
) -> None:
    view = ChainView(server)
    watching = replace(hospital, reader=view)
    with pytest.raises(KilledError):
        take_part(watching, 1, kill_at("sending"))
    view.state = DatasetState.WITHDRAWN
    with pytest.raises(UnusableDataError):
        take_part(watching, 1)
    assert server.records == {}


def test_nothing_is_trained_for_a_purpose_that_was_revoked_since(
    hospital: Hospital, server: FakeServer
) -> None:
    view = ChainView(server)
    view.purposes = frozenset({42})
    with pytest.raises(InvalidInputError, match="does not permit DUO:0000006 any more"):
        take_part(replace(hospital, reader=view), 1)
    assert "update.safetensors" not in files_of(hospital)


def test_a_swapped_base_model_is_refused(hospital: Hospital, server: FakeServer) -> None:
    (cid,) = server.models
    server.models[cid] = server.models[cid][:-1] + b"\x00"
    with pytest.raises(DigestMismatchError, match="base model"):
        take_part(hospital, 1)
    assert set(files_of(hospital)) == {"round.json"}


def test_the_verdict_is_followed_to_the_end(hospital: Hospital, server: FakeServer) -> None:
    take_part(hospital, 1)
    phases = iter([Phase.PROPOSED, Phase.FINAL])
    status = follow_verdict(
        hospital, 1, pause=lambda _: server.judge(1, hospital.identity.address, next(phases))
    )
    assert status is not None
    assert status.phase is Phase.FINAL
    assert status.verdict == server.verdicts[1, hospital.identity.address]


def test_without_patience_the_update_is_told_of_as_it_stands(hospital: Hospital) -> None:
    take_part(hospital, 1)
    status = follow_verdict(hospital, 1, seconds=0, pause=lambda _: pytest.fail("it waited"))
    assert status is not None
    assert (status.phase, status.verdict) == (Phase.OPEN, None)


def test_a_round_without_an_update_has_no_verdict(hospital: Hospital) -> None:
    assert follow_verdict(hospital, 1) is None


def test_rounds_are_followed_one_after_another(hospital: Hospital, server: FakeServer) -> None:
    def open_next(_: float) -> None:
        if server.rounds[1].phase is Phase.OPEN:
            server.rounds[1] = replace(server.rounds[1], phase=Phase.FINAL)
            server.rounds[2] = replace(server.rounds[1], number=2, phase=Phase.OPEN)
            server.recipients[2] = server.recipients[1]

    done = follow(hospital, "pneumonia-2d", until=lambda: len(server.records) == 2, pause=open_next)
    assert done == 2
    assert {number for number, _ in server.records} == {1, 2}


def test_a_round_that_does_not_suit_does_not_end_the_hospitals_part_in_the_task(
    hospital: Hospital, server: FakeServer, caplog: pytest.LogCaptureFixture
) -> None:
    suitable = server.rounds[1]
    server.rounds[1] = replace(suitable, terms=replace(suitable.terms, schema=bytes(32)))

    def open_next(_: float) -> None:
        server.rounds[1] = replace(server.rounds[1], phase=Phase.ABORTED)
        server.rounds[2] = replace(suitable, number=2)
        server.recipients[2] = server.recipients[1]

    done = follow(hospital, "pneumonia-2d", until=lambda: bool(server.records), pause=open_next)
    assert done == 1
    assert {number for number, _ in server.records} == {2}
    assert "round 1 is passed over" in caplog.text


@pytest.mark.parametrize("refusal", ["RoundLedgerRoundFull", "ParticipantRegistrySuspended"])
def test_a_round_that_others_filled_is_passed_over_and_no_other_refusal(
    hospital: Hospital, monkeypatch: pytest.MonkeyPatch, refusal: str
) -> None:
    asked = iter([False, True])

    def refused(*_: object) -> NoReturn:
        raise ServerError("the ledger refuses this", "refused-by-contract", refusal)

    monkeypatch.setattr(hospital.client, "upload", refused)
    if refusal == "RoundLedgerRoundFull":
        assert follow(hospital, "pneumonia-2d", until=lambda: next(asked)) == 0
    else:
        with pytest.raises(ServerError):
            follow(hospital, "pneumonia-2d", until=lambda: next(asked))


def test_every_round_and_hospital_trains_with_its_own_seed(hospital: Hospital) -> None:
    seeds = {training_seed(hospital, number) for number in range(50)}
    assert len(seeds) == 50
    assert max(seeds) < 2**63
