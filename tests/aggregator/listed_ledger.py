"""A chain in memory that logged just what a test lists."""

from collections.abc import Iterator, Sequence
from typing import Any

from chain.events import LedgerEvent
from chain.rpc import Head
from chain.types import LogPosition
from tests.federation import digest

DAY = 86_400
NOON = 1_700_000_000 // DAY * DAY + DAY // 2


class ListedLedger:
    """A chain with an event in each block, as `aggregator.index` reads it.

    Args:
        branch: Blocks of another branch have other hashes.
    """

    chain_id = 31337
    address = "0x" + "1E" * 20
    deployed_at = 1

    def __init__(self, branch: str = "main") -> None:
        self.branch = branch
        self.logged: list[LedgerEvent] = []
        self.now = NOON
        self.length = 0

    def log(self, event: str, /, **args: Any) -> None:
        """Mine a block with an event at the time that it is now."""
        self.mine()
        self.add(event, **args)

    def mine(self, blocks: int = 1) -> None:
        """Mine blocks without an event."""
        self.length += blocks

    def add(self, event: str, /, **args: Any) -> None:
        """Add an event to the newest block."""
        index = sum(one.position.block == self.length for one in self.logged)
        position = LogPosition(self.length, index, digest(f"transaction {self.length}"))
        self.logged.append(LedgerEvent(event, args, position, "", self.now))

    def drop(self, blocks: int) -> None:
        """Take the newest blocks back."""
        self.length -= blocks
        self.logged = [one for one in self.logged if one.position.block <= self.length]

    def head(self) -> Head:
        return self.block(self.length)

    def block(self, number: int) -> Head:
        return Head(number, digest(f"{self.branch} {number}"), self.now)

    def events(self, from_block: int, to_block: int) -> Iterator[LedgerEvent]:
        return (one for one in self.logged if from_block <= one.position.block <= to_block)


def open_round(
    ledger: ListedLedger,
    number: int,
    *,
    task: str = "lesion",
    base: bytes = bytes(32),
    deadline: int = 2 * NOON,
    witnesses: Sequence[str] = ("witness-1", "witness-2"),
) -> None:
    """Open a round of a task."""
    terms = {
        "task": task,
        "purpose": 6,
        "baseModel": base,
        "baseBlob": base,
        "schema": bytes(32),
        "rule": "[]",
        "minUpdates": 1,
        "maxUpdates": 9,
        "quorum": 1,
        "deadline": deadline,
        "witnesses": tuple(witnesses),
    }
    ledger.log("RoundOpened", round=number, task=digest(task), aggregator="agg", terms=terms)


def record(ledger: ListedLedger, number: int, hospital: str, *versions: bytes) -> None:
    """Record a hospital's update."""
    parts = {name: digest(f"{name} {number} {hospital}") for name in ("update", "blob", "code")}
    parts["recordDigest"] = digest(f"record {number} {hospital}")
    counts = {"examples": 10, "epsilon": 0, "delta": 0}
    ledger.log(
        "UpdateRecorded", round=number, hospital=hospital, datasets=versions, **parts, **counts
    )


def propose(
    ledger: ListedLedger,
    number: int,
    model: bytes,
    verdicts: dict[str, tuple[int, int]],
    *,
    proposal: int = 1,
) -> None:
    """Propose a model, with outcome and reason by hospital."""
    place = {"round": number, "proposal": proposal}
    ledger.log("ModelProposed", **place, model=model, modelBlob=model, verdicts=bytes(32))
    for hospital, (outcome, reason) in verdicts.items():
        judged = {"outcome": outcome, "reason": reason, "score": 0, "threshold": 0}
        content = digest(f"{number} {hospital}")
        ledger.add("VerdictRecorded", **place, hospital=hospital, **judged, content=content)


def attest(ledger: ListedLedger, number: int, witness: str, *, proposal: int = 1) -> None:
    """Attest a proposal."""
    said = {"round": number, "proposal": proposal, "witness": witness}
    ledger.log("ProposalAttested", **said, signature=bytes(65))


def finish(ledger: ListedLedger, number: int, model: bytes) -> None:
    """Attest a round's first proposal, which makes it final."""
    attest(ledger, number, "witness-1")
    ledger.add("RoundFinalized", round=number, task=b"", model=model, modelBlob=model)


def register(ledger: ListedLedger, version: bytes, hospital: str) -> None:
    """Register a data-set version for health research."""
    terms = {
        "name": "x-rays",
        "merkleRoot": bytes(32),
        "images": 100,
        "modality": b"DX" + bytes(14),
        "purposes": 1 << 6,
        "profile": 1,
        "attestation": bytes(32),
        "previous": bytes(32),
    }
    named = {"version": version, "dataset": digest(f"set of {hospital}"), "hospital": hospital}
    ledger.log("VersionRegistered", **named, terms=terms)
