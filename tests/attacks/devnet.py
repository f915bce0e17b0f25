"""A federation on a real chain and IPFS node, with a witness in a process of its own."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from aggregator.rounds import Action, advance
from aggregator.settings import AggregatorSettings
from audit.disputes import TracedDispute, trace_disputes
from chain.blobs import IpfsBlobStore
from chain.devnet.process import end, last_lines, spawn
from chain.types import Phase, Round
from demo.local import REPOSITORY, fedwitness
from tests.attacks.rounds import AttackedRound, model
from tests.cli.conftest import with_key_files
from tests.federation import HOSPITALS, Federation
from tests.waiting import eventually

T = TypeVar("T")

WITNESS = "witness-1"  # runs as a process
OTHER_WITNESS = "witness-2"  # does what its test wants
# The mean of all three is that of no two of them.
VALUES = dict(zip(HOSPITALS, (1.0, 2.0, 4.0), strict=True))
EXAMPLES = dict(zip(HOSPITALS, (10, 20, 30), strict=True))


@dataclass(frozen=True, slots=True)
class Devnet:
    """The federation, and where its parts are.

    Attributes:
        federation: Who takes part.
        ipfs: Multiaddr of the IPFS node's RPC.
        blobs: The IPFS node.
        folder: Has a folder for each task.
        log: What the witness's process says.
    """

    federation: Federation
    ipfs: str
    blobs: IpfsBlobStore
    folder: Path
    log: Path

    def address(self, name: str) -> str:
        return self.federation.address(name)

    def open_round(self, task: str, **terms: Any) -> AttackedRound:
        """Open a round that the witness's process alone makes final, unless the terms say else."""
        folder = self.folder / f"{task} {self.federation.reader.round_count()}"
        folder.mkdir()
        known: dict[str, Any] = {"task": task, "quorum": 1}
        return AttackedRound.opened(self.federation, self.blobs, folder, **(known | terms))

    def collected(self, task: str, times: float = 1.0, **terms: Any) -> AttackedRound:
        """Open a round and record an honest update of each hospital, its values `times` theirs."""
        round_ = self.open_round(task, **terms)
        for name in HOSPITALS:
            update = model(times * VALUES[name])
            round_.record(round_.send(name, update, examples=EXAMPLES[name]))
        return round_

    def disputed(self, number: int, proposal: int) -> TracedDispute:
        """Wait until a proposal is disputed, and read why."""

        def found() -> bool:
            return any(one.proposal == proposal for one in self.federation.reader.disputes(number))

        self.until(found, f"proposal {proposal} of round {number} is disputed")
        traced = trace_disputes(self.federation.reader, self.blobs, number)
        (one,) = (one for one in traced if one.dispute.proposal == proposal)
        return one

    def propose_honestly(self, round_: AttackedRound) -> None:
        """Let the aggregator's own code do what the round needs."""
        step = advance(
            self.federation.ledgers["aggregator"],
            self.blobs,
            round_.number,
            private_key=self.federation.identities["aggregator"].encryption_private_key,
            settings=AggregatorSettings(round_.folder / "aggregator", threads=1),
        )
        assert step.action is Action.PROPOSED, step

    def final(self, number: int) -> Round:
        """Wait until a round is final."""
        reader = self.federation.reader
        self.until(lambda: reader.round(number).phase is Phase.FINAL, f"round {number} is final")
        return reader.round(number)

    def until(self, holds: Callable[[], bool], what: str) -> None:
        eventually(holds, lambda: f"{what}: not in time\n{last_lines(self.log, count=20)}")


@contextmanager
def watched(federation: Federation, ipfs: str, folder: Path) -> Iterator[Devnet]:
    """Run a witness beside a federation that was just founded."""
    party = with_key_files(federation, WITNESS, folder / "keys" / f"{WITNESS}.json")
    where = ("--rpc", federation.rpc_url, "--ipfs", ipfs, "--ledger", federation.deployment.ledger)
    patience = ("--poll-seconds", "0.1", "--patience-seconds", "0.5")
    command = fedwitness("witness", "run", *where, *party.keyring.options(), *patience)
    log = folder / "witness.log"
    process = spawn(command, cwd=REPOSITORY, log=log, pid_file=folder / "witness.pid")
    try:
        with IpfsBlobStore(ipfs) as blobs:
            yield Devnet(federation, ipfs, blobs, folder, log)
    finally:
        end(process, grace_seconds=10.0)
