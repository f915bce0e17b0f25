"""Where the time of one round goes: 10 hospitals, a model of 44.7 MB, a real chain and IPFS.

Every stage runs the code that a round runs. What it takes is set against what reading or writing
the same bytes takes in the same run, since a ratio travels from one machine to another and
seconds do not. Updates are random numbers around the base model: nothing is trained here.

Run it with ``make bench``; rows go to ``bench/results.json``.
"""

import resource
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from rich.console import Console
from rich.table import Table

from aggregator.replay import judge_and_aggregate
from aggregator.rounds import Action, RoundPlan, advance, open_round
from aggregator.settings import AggregatorSettings
from bench.federation import HOSPITALS, Party, found, signed_record
from bench.results import Row, keep
from chain.blobs import IpfsBlobStore
from chain.devnet.network import start, stop
from chain.digests import content_digest
from chain.envelope import EnvelopeContext, seal
from chain.ledger import Ledger
from chain.signing import sign_attestation
from chain.tensors import save_tensors
from chain.types import Attestation, Purpose, UpdateRecord

PARAMETERS = 11_175_000  # 44.7 MB of float32
LAYERS = 15
MEGABYTE = 1e6


@dataclass(slots=True)
class Stages:
    """Seconds by stage, each for the whole round."""

    seconds: dict[str, float] = field(default_factory=dict)

    @contextmanager
    def measure(self, stage: str) -> Iterator[None]:
        """Add the time that the block takes to a stage."""
        begin = time.perf_counter()
        yield
        self.seconds[stage] = self.seconds.get(stage, 0.0) + time.perf_counter() - begin


def main() -> None:
    """Run one round, print its stages and keep them."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        network = start(folder / "network")
        try:
            stages, floor = _round(folder, network.rpc_url, network.ipfs_api)
        finally:
            stop(folder / "network")
    _report(stages, floor)


def _round(folder: Path, rpc_url: str, ipfs_api: str) -> tuple[Stages, float]:
    parties = found(rpc_url, folder)
    blobs = IpfsBlobStore(ipfs_api)
    generator = np.random.default_rng(7)
    base = _model(generator)
    save_tensors(folder / "base.safetensors", base)
    aggregator, witness = parties["aggregator"], parties["witness"]
    plan = RoundPlan(
        task="bench",
        purpose=Purpose.HEALTH_RESEARCH,
        rule='[{"name":"trimmed_mean","params":{"f":2}}]',
        min_updates=5,
        max_updates=HOSPITALS,
        quorum=1,
        collecting_seconds=3600,
        witnesses=(witness.identity.address,),
    )
    number = open_round(aggregator.ledger, blobs, plan, folder / "base.safetensors")
    stages, signed = Stages(), []
    for index in range(HOSPITALS):
        update = folder / "update.safetensors"
        noise = {name: generator.normal(0, 0.01, one.shape) for name, one in base.items()}
        save_tensors(update, {k: (v + noise[k]).astype(np.float32) for k, v in base.items()})
        hospital = parties[f"hospital-{index}"]
        signed.append(_send(stages, hospital, number, update, blobs, aggregator.ledger))
    floor = _seconds(lambda: content_digest(update)) * HOSPITALS
    with stages.measure("record"):
        aggregator.ledger.relay_updates(signed)
    _aggregate(stages, aggregator, blobs, number, folder)
    _witness(stages, witness, blobs, number, folder)
    return stages, floor


def _model(generator: np.random.Generator) -> dict[str, np.ndarray]:
    rows = PARAMETERS // LAYERS // 1000
    return {
        f"layer{index}.weight": generator.normal(0, 1, (rows, 1000)).astype(np.float32)
        for index in range(LAYERS)
    }


def _send(
    stages: Stages,
    hospital: Party,
    number: int,
    update: Path,
    blobs: IpfsBlobStore,
    reader: Ledger,
) -> tuple[UpdateRecord, bytes]:
    """Encrypt and store one update as its hospital does, and sign its record."""
    address = hospital.identity.address
    context = EnvelopeContext(reader.chain_id, reader.address, number, address)
    envelope = update.with_suffix(".envelope")
    with stages.measure("encrypt"):
        content = content_digest(update)
        seal(update, update.stat().st_size, context, reader.recipients(number), envelope)
    with stages.measure("store"):
        blob = blobs.put(envelope)
    return signed_record(reader, hospital, number, content, blob.digest)


def _aggregate(
    stages: Stages, aggregator: Party, blobs: IpfsBlobStore, number: int, folder: Path
) -> None:
    """Judge, aggregate and propose: `advance`, with the stages of its replay taken apart."""
    workdir = folder / "aggregator"
    result = judge_and_aggregate(
        aggregator.ledger,
        blobs,
        number,
        private_key=aggregator.identity.encryption_private_key,
        workdir=workdir / "measured",
        target=folder / "model.safetensors",
        threads=2,
    )
    stages.seconds |= {"admit": result.seconds["admit"], "aggregate": result.seconds["aggregate"]}
    step = advance(
        aggregator.ledger,
        blobs,
        number,
        private_key=aggregator.identity.encryption_private_key,
        settings=AggregatorSettings(workdir, threads=2),
    )
    if step.action is not Action.PROPOSED:
        raise SystemExit(f"expected a proposal, found {step}")


def _witness(
    stages: Stages, witness: Party, blobs: IpfsBlobStore, number: int, folder: Path
) -> None:
    """Replay the round as a witness does, and attest."""
    ledger, identity = witness.ledger, witness.identity
    with stages.measure("witness"):
        result = judge_and_aggregate(
            ledger,
            blobs,
            number,
            private_key=identity.encryption_private_key,
            workdir=folder / "witness",
            target=folder / "replayed.safetensors",
            threads=2,
        )
        proposal = ledger.round(number).proposal
        if proposal is None or result.model_digest != proposal.model:
            raise SystemExit("the witness got another model than the aggregator")
        attestation = Attestation(
            number, proposal.number, proposal.model, proposal.model_blob, proposal.verdicts
        )
        signature = sign_attestation(ledger.chain_id, ledger.address, attestation, identity.account)
        ledger.attest(number, proposal.number, identity.address, signature)


def _seconds(work: Callable[[], object]) -> float:
    begin = time.perf_counter()
    work()
    return time.perf_counter() - begin


def _report(stages: Stages, floor: float) -> None:
    """Print the stages beside the time that hashing all updates once takes, and keep them."""
    megabytes = HOSPITALS * PARAMETERS * 4 / MEGABYTE
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    table = Table(title=f"One round: {HOSPITALS} hospitals, {megabytes:.0f} MB of updates")
    for heading in ("stage", "seconds", "MB/s", "of hashing once"):
        table.add_column(heading, justify="left" if heading == "stage" else "right")
    rows: list[Row] = []
    for stage, seconds in stages.seconds.items():
        ratio = seconds / floor
        table.add_row(stage, f"{seconds:.2f}", f"{megabytes / seconds:.0f}", f"{ratio:.1f}x")
        rows.append(
            {
                "name": f"round.{stage}",
                "n": HOSPITALS,
                "dim": PARAMETERS,
                "ours_s": round(seconds, 3),
                "peer": "SHA-256 of all updates once",
                "peer_s": round(floor, 3),
                "ratio": round(ratio, 2),
                "peak_rss_mb": round(peak),
            }
        )
    Console().print(table, f"peak memory of the measuring process: {peak:.0f} MB")
    keep("round", rows)


if __name__ == "__main__":
    main()
