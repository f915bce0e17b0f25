"""A federation of real processes, whose hospitals send prepared updates in place of training."""

import os
import signal
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import httpx
import numpy as np

from chain.cid import blob_cid
from chain.devnet import network
from chain.devnet.process import last_lines, remembered
from chain.digests import content_digest, sha256, update_digest
from chain.envelope import EnvelopeContext, seal
from chain.errors import FedWitnessError
from chain.reader import LedgerReader
from chain.signing import sign_update
from chain.tensors import save_tensors
from chain.types import DatasetTerms, Phase, Purpose, Role, Round, UpdateRecord
from chain.wire import to_json_dict
from demo.local import (
    LocalFederation,
    set_up,
    start_aggregator,
    start_staff,
    stop_process,
)
from demo.parties import Party
from node.client import RestClient
from tests.waiting import eventually

T = TypeVar("T")

HOSPITALS = ("hospital-1", "hospital-2", "hospital-3")
VALUES = 300_000  # of float32: two blocks of IPFS


def model(value: float) -> dict[str, np.ndarray[Any, np.dtype[Any]]]:
    """Make a model whose values follow from one number."""
    return {"weight": np.linspace(value, value + 1, VALUES, dtype=np.float32)}


@dataclass(frozen=True, slots=True)
class Prepared:
    """A signed record and the file of its envelope."""

    party: Party
    record: UpdateRecord
    signature: bytes
    envelope: Path


@dataclass(frozen=True, slots=True)
class Runner:
    """A running federation, and a folder for what its hospitals send."""

    local: LocalFederation
    files: Path

    @classmethod
    def started(cls, folder: Path, files: Path) -> "Runner":
        """Start everything but an aggregator; each hospital registers a data-set version."""
        hospitals = tuple((name, Role.HOSPITAL) for name in HOSPITALS)
        local = start_staff(set_up(folder, hospitals, _quiet), _quiet)
        for name in HOSPITALS:
            party = local.cast[name]
            if not local.reader().dataset_versions(party.address):
                local.ledger(party).register_version(_dataset(name))
        save_tensors(files / "genesis.safetensors", model(0.0))
        return cls(local, files)

    @property
    def reader(self) -> LedgerReader:
        """The ledger."""
        return self.local.reader()

    def start(self, task: str) -> None:
        """Start what does not run, on the folder that everything lies in."""
        network.start(self.local.folder / "network")
        start_staff(self.local, _quiet)
        options = {
            "--rounds": 1,
            "--model": self.files / "genesis.safetensors",
            "--rule": "trimmed_mean",
            "--param": "f=1",
            "--min-updates": len(HOSPITALS),
            "--max-updates": len(HOSPITALS),
        }
        flat = (str(part) for option in options.items() for part in option)
        start_aggregator(self.local, task, *flat)

    def kill(self, name: str) -> None:
        """End a process as a power cut does."""
        pid_file = {
            "chain": self.local.folder / "network" / "chain" / "anvil.pid",
            "ipfs": self.local.folder / "network" / "ipfs" / "ipfs.pid",
        }.get(name, self.local.folder / "processes" / f"{name}.pid")
        process = remembered(pid_file)
        if process is not None:
            os.killpg(process.pid, signal.SIGKILL)
            eventually(lambda: remembered(pid_file) is None)

    def active_round(self, task: str) -> Round:
        """Wait for the task's round and return it."""
        return self.until(lambda: self.reader.active_round(task), f"a round of {task} is open")

    def prepare(self, name: str, round_: Round) -> Prepared:
        """Seal and sign the update of a hospital, the same for every task."""
        party, reader = self.local.cast[name], self.reader
        plain = self.files / f"{name}.safetensors"
        save_tensors(plain, model(float(HOSPITALS.index(name) + 1)))
        place = (reader.chain_id, reader.address, round_.number, party.address)
        envelope = self.files / f"{name}-{round_.number}.envelope"
        recipients = reader.recipients(round_.number)
        seal(plain, plain.stat().st_size, EnvelopeContext(*place), recipients, envelope)
        record = UpdateRecord(
            chain_id=reader.chain_id,
            ledger=reader.address,
            round=round_.number,
            hospital=party.address,
            datasets=(reader.dataset_versions(party.address)[0].version,),
            purpose=round_.terms.purpose,
            examples=10,
            base_model=round_.terms.base_model,
            update=update_digest(*place, content_digest(plain)),
            blob=blob_cid([envelope.read_bytes()]).digest,
            code=sha256(b"code"),
        )
        return Prepared(party, record, sign_update(record, party.identity.account), envelope)

    def client(self, party: Party) -> RestClient:
        """A hospital's client, which waits out what is being started again."""
        where = self.local.addresses
        return RestClient(where.api_url, party.identity, where.chain_id, where.ledger)

    def stop_aggregator(self) -> None:
        """End the aggregator, which leads one task at a time."""
        stop_process(self.local.folder, "aggregator")

    def upload_half(self, prepared: Prepared) -> None:
        """Send half of an envelope, as a connection that breaks off does."""
        content = prepared.envelope.read_bytes()
        body = {
            "record": to_json_dict(prepared.record),
            "signature": f"0x{prepared.signature.hex()}",
            "size": len(content),
        }
        with self.client(prepared.party) as client:
            client.sign_in()
            upload = client._json("POST", "/v1/uploads", body=body)["id"]
            headers = {
                "Authorization": f"Bearer {client._token}",
                "Content-Type": "application/offset+octet-stream",
                "Upload-Offset": "0",
            }
        url = f"{self.local.addresses.api_url}/v1/uploads/{upload}"
        half = content[: len(content) // 2]
        with httpx.Client(trust_env=False) as plain:
            plain.patch(url, content=half, headers=headers).raise_for_status()

    def upload(self, prepared: Prepared) -> str:
        """Send an update by REST, as often as it takes, until all bytes have arrived."""

        def sent() -> str | None:
            try:
                with self.client(prepared.party) as client:
                    client.sign_in()
                    status = client.upload(prepared.record, prepared.signature, prepared.envelope)
                    return status.id if status.state != "receiving" else None
            except FedWitnessError:
                return None

        return self.until(sent, "the upload arrives")

    def finished(self, task: str) -> Round:
        """Wait until the task's only round has ended."""

        def ended() -> Round | None:
            reader = self.reader
            rounds = [reader.round(number) for number in reader.task_rounds(task)]
            last = rounds[-1] if rounds else None
            return last if last and last.phase in (Phase.FINAL, Phase.ABORTED) else None

        return self.until(ended, f"the round of {task} ends")

    def until(self, ask: Callable[[], T | None], what: str) -> T:
        """Ask again and again until there is an answer; a chain that is away is waited for."""

        def asked() -> T | None:
            try:
                return ask()
            except FedWitnessError:
                return None

        return eventually(asked, lambda: f"{what}: not in time\n{self._logs()}")

    def _logs(self) -> str:
        logs = sorted((self.local.folder / "processes").glob("*.log"))
        return "\n".join(f"--- {log.name}\n{last_lines(log, count=12)}" for log in logs)


def play(runner: Runner, task: str, victim: str | None, point: str | None) -> Round:
    """Play one round, and at one point kill one process and start it again."""

    def pass_point(here: str) -> None:
        if victim is not None and here == point:
            runner.kill(victim)
            runner.start(task)

    runner.stop_aggregator()
    runner.start(task)
    runner.active_round(task)
    pass_point("opened")
    round_ = runner.active_round(task)
    first, *others = (runner.prepare(name, round_) for name in HOSPITALS)
    runner.upload_half(first)
    pass_point("uploading")
    runner.upload(first)
    pass_point("acknowledged")
    for prepared in others:
        runner.upload(prepared)
    runner.until(lambda: _has_all_records(runner, round_), "all updates are recorded")
    pass_point("collected")
    runner.until(lambda: runner.reader.round(round_.number).proposal, "the model is proposed")
    pass_point("proposed")
    return runner.finished(task)


def _has_all_records(runner: Runner, round_: Round) -> bool:
    return len(runner.reader.records(round_.number)) == len(HOSPITALS)


def _dataset(name: str) -> DatasetTerms:
    return DatasetTerms(
        name=f"{name} images",
        merkle_root=sha256(name.encode()),
        images=10,
        modality="MR",
        purposes=frozenset({Purpose.HEALTH_RESEARCH.value}),
        profile=1,
        attestation=sha256(b"report"),
        previous=bytes(32),
    )


def _quiet(_: str) -> None:
    """Say nothing."""
