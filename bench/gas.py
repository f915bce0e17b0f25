"""What a pipeline costs on the ledger: ``python -m bench.gas``, from the receipts of a real chain.

A pipeline's JSON is part of the terms that open a round, and the verdicts that it gives are part of
the proposal. Each pipeline of the robustness benchmark opens a task of its own, so that every slot
is new for each of them; ten hospitals record updates, and the aggregator proposes with the ten
verdicts that the pipeline gives over random updates, two of which are scaled. No blob is stored:
the ledger holds digests only. Rows go to ``bench/gas.json``.
"""

import json
import tempfile
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console
from rich.table import Table

from aggregator.cohort import Member
from aggregator.pipeline import parse_pipeline
from bench.federation import EXAMPLES, HOSPITALS, Party, found, signed_record
from bench.robustness.pipelines import pipelines
from bench.updates import update_file, write_updates
from chain.addresses import address_order
from chain.devnet.anvil import rpc, start_anvil, stop_anvil
from chain.devnet.ports import free_port
from chain.digests import content_digest, sha256
from chain.tensors import open_tensors, save_tensors
from chain.types import Purpose, RoundTerms, Verdict

ROWS = Path(__file__).with_name("gas.json")
MALICIOUS = 2

_PARAMETERS = 15_000  # gas does not depend on it
_SCALE = np.float32(5.0)
_HOUR = 3600


def main() -> None:
    """Measure every pipeline, print and keep."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        updates = _write(folder)
        url = start_anvil(folder / "anvil", free_port())
        try:
            parties = found(url, folder)
            known = list(pipelines(MALICIOUS).items())
            # A ledger's first round also fills the slot that counts rounds: the first goes twice.
            rows = [
                _measure(url, parties, f"gas-{number:02}", pipeline, steps, updates)
                for number, (pipeline, steps) in enumerate([known[0], *known])
            ][1:]
        finally:
            stop_anvil(folder / "anvil")
    ROWS.write_text(json.dumps(rows, indent=1) + "\n")
    table = Table(title=f"Gas of a round of {HOSPITALS} hospitals")
    for heading in ("pipeline", "bytes of JSON", "opening", "proposing"):
        table.add_column(heading, justify="left" if heading == "pipeline" else "right")
    for row in rows:
        figures = (len(row["steps"]), row["gas_open"], row["gas_propose"])
        table.add_row(row["name"], *(f"{figure:,}" for figure in figures))
    Console().print(table)


def _write(folder: Path) -> list[Path]:
    """Write base model and updates, the first two of them scaled, and return the updates."""
    write_updates(folder, HOSPITALS, _PARAMETERS)
    files = [update_file(folder, index) for index in range(HOSPITALS)]
    with open_tensors(folder / "base.safetensors") as base:
        for path in files[:MALICIOUS]:
            with open_tensors(path) as update:
                scaled = {
                    name: base.arrays[name] + _SCALE * (array - base.arrays[name])
                    for name, array in update.arrays.items()
                }
            save_tensors(path, scaled)
    return files


def _measure(
    url: str,
    parties: Mapping[str, Party],
    task: str,
    pipeline: str,
    steps: str,
    updates: Sequence[Path],
) -> dict[str, Any]:
    """Take one round to its proposal."""
    ledger = parties["aggregator"].ledger
    hospitals = [parties[f"hospital-{index}"] for index in range(HOSPITALS)]
    number = ledger.open_round(
        RoundTerms(
            task=task,
            purpose=Purpose.HEALTH_RESEARCH,
            base_model=sha256(b"base model"),
            base_blob=sha256(b"base blob"),
            schema=sha256(b"schema"),
            rule=steps,
            min_updates=1,
            max_updates=HOSPITALS,
            quorum=1,
            deadline=ledger.next_timestamp() + _HOUR,
            witnesses=(parties["witness"].identity.address,),
        )
    )
    opening = _gas_of_last(url)
    contents = [content_digest(path) for path in updates]
    ledger.relay_updates(
        [
            signed_record(ledger, hospital, number, content, sha256(content))
            for hospital, content in zip(hospitals, contents, strict=True)
        ]
    )
    verdicts = _verdicts(steps, hospitals, updates, contents)
    proposal = ledger.propose(number, sha256(b"model"), sha256(b"model blob"), verdicts)
    return {
        "name": pipeline,
        "steps": steps,
        "verdicts": len(verdicts),
        "gas_open": opening,
        "gas_propose": proposal.gas_used,
    }


def _verdicts(
    steps: str, hospitals: Sequence[Party], updates: Sequence[Path], contents: Sequence[bytes]
) -> list[Verdict]:
    """Return what the pipeline says of the updates, ascending by hospital as the ledger asks."""
    addresses = [hospital.identity.address for hospital in hospitals]
    order = sorted(range(len(updates)), key=lambda index: address_order(addresses[index]))
    folder = updates[0].parent
    with ExitStack() as files:
        base = files.enter_context(open_tensors(folder / "base.safetensors"))
        members = [
            Member(
                addresses[index],
                EXAMPLES,
                contents[index],
                files.enter_context(open_tensors(updates[index])),
            )
            for index in order
        ]
        out = folder / "model.safetensors"
        judgements = parse_pipeline(steps).aggregate(base, members, out, threads=1)
    return [
        Verdict(
            member.name,
            judgement.outcome,
            judgement.reason,
            judgement.score,
            judgement.threshold,
            member.content,
        )
        for member, judgement in zip(members, judgements, strict=True)
    ]


def _gas_of_last(url: str) -> int:
    """Return what the only transaction of the newest block used; anvil mines each by itself."""
    (transaction,) = rpc(url, "eth_getBlockByNumber", "latest", False)["transactions"]
    return int(rpc(url, "eth_getTransactionReceipt", transaction)["gasUsed"], 16)


if __name__ == "__main__":
    main()
