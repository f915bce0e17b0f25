"""A long ledger that never was: events as the contracts log them, drawn from a seed.

It stands for a federation of 300 hospitals over some years: 24 tasks, of which the oldest has a
third of all rounds; 12 to 80 updates a round; rejections, clippings, disputes and abortions;
data-set versions that are corrected or withdrawn; grants, most of them on a few versions; images
that are read, most often one of them, compared, asked about and erased; access logs.
The orders are those that the contracts insist on; digests and signatures are random bytes.
"""

import random
from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import islice
from typing import Any

from chain.addresses import checked_address
from chain.events import LedgerEvent
from chain.membership import ROLE_IDS
from chain.rpc import Head
from chain.types import LogPosition, Outcome, Reason, Role

HOSPITALS = 300
WITNESSES = 12
RESEARCHERS = 60
TASKS = 24
DEPLOYED_AT = 10
BLOCK_SECONDS = 12
BEGINNING = 1_700_000_000  # Unix time
RECORDS_A_BLOCK = 16
POPULAR_VERSIONS = 3
REVOKED_LATER = 10  # grants
NOBODY = "0x" + "0" * 40

_REJECTIONS = (
    Reason.NORM_OUT_OF_RANGE,
    Reason.DIRECTION_OUT_OF_CLUSTER,
    Reason.OUTLYING_PROJECTION,
    Reason.TOO_MUCH_ALIKE,
    Reason.REPLAYED_UPDATE,
    Reason.NOT_A_NUMBER,
    Reason.BLOB_UNAVAILABLE,
)
_RULE = (
    '[{"name":"quarantine","params":{"rounds":10,"strikes":4,"window":10}},'
    '{"name":"norm_range","params":{"lower":100000,"upper":3000000}},'
    '{"name":"trimmed_mean","params":{"f":2}}]'
)


class GeneratedLedger:
    """A chain of so many events, as the index reads one (`aggregator.index.EventSource`).

    Args:
        events: How many to draw; the first ones enrol everybody.
        seed: The same seed draws the same ledger.
    """

    chain_id = 31337
    address = checked_address("0x" + "1e" * 20)
    deployed_at = DEPLOYED_AT

    def __init__(self, events: int, seed: int = 1) -> None:
        self._count, self._seed = events, seed
        self._rest: Iterator[LedgerEvent] = iter(())
        self._next: LedgerEvent | None = None

    def head(self) -> Head:
        """Return a block behind all events: no two share a block more than need be."""
        return self.block(DEPLOYED_AT + self._count)

    def block(self, number: int) -> Head:
        """Return a block; its hash is made of its number."""
        return Head(number, number.to_bytes(32, "big"), _time_of(number))

    def events(self, from_block: int, to_block: int) -> Iterator[LedgerEvent]:
        """Yield the events of some blocks, which are asked for from the first one on, in order."""
        if from_block <= DEPLOYED_AT:
            draw = random.Random(self._seed)  # noqa: S311 - the same ledger from the same seed
            self._rest = islice(_Federation(draw).history(), self._count)
            self._next = next(self._rest, None)
        while self._next is not None and self._next.position.block <= to_block:
            yield self._next
            self._next = next(self._rest, None)


@dataclass(slots=True)
class _Version:
    version: bytes
    dataset: bytes
    hospital: str
    is_withdrawn: bool = False


@dataclass(slots=True)
class _Task:
    name: str
    model: bytes
    blob: bytes


@dataclass(slots=True)
class _Federation:
    """Who and what there is so far; each method yields the events of one thing that happens."""

    draw: random.Random
    block: int = DEPLOYED_AT
    index: int = 0
    transaction: bytes = b""
    rounds: int = 0
    grants: int = 0
    versions: dict[str, list[_Version]] = field(default_factory=dict)
    tasks: list[_Task] = field(default_factory=list)
    images: list[tuple[bytes, _Version]] = field(default_factory=list)
    erased: set[bytes] = field(default_factory=set)
    logs: dict[str, tuple[int, int]] = field(default_factory=dict)  # batches and entries
    parties: dict[Role, list[str]] = field(default_factory=dict)

    def history(self) -> Iterator[LedgerEvent]:
        """Yield events without an end."""
        yield from self._beginning()
        while True:
            yield from self._round()
            for _ in range(self.draw.randrange(9)):
                yield from self._grant()
            for _ in range(self.draw.randrange(3)):
                yield from self._readings()
            if self._happens(0.5):
                yield from self._anchoring()
            if self._happens(0.05):
                yield from self._correction()
            if self._happens(0.01):
                yield from self._withdrawal()
            if self._happens(0.01):
                yield from self._suspension()

    def _beginning(self) -> Iterator[LedgerEvent]:
        counts = {
            Role.STEWARD: 2,
            Role.AGGREGATOR: 3,
            Role.WITNESS: WITNESSES,
            Role.AUDITOR: 5,
            Role.RESEARCHER: RESEARCHERS,
            Role.HOSPITAL: HOSPITALS,
        }
        for role, count in counts.items():
            self.parties[role] = [
                checked_address("0x" + self.draw.randbytes(20).hex()) for _ in range(count)
            ]
            for number, account in enumerate(self.parties[role], 1):
                self._mine()
                granted = {"role": ROLE_IDS[role], "account": account, "sender": account}
                yield self._log("ParticipantRegistry", "RoleGranted", granted)
                enrolled = {
                    "account": account,
                    "role": ROLE_IDS[role],
                    "encryptionKey": self._digest(),
                    "name": f"{role.value.lower()} {number}",
                }
                yield self._log("ParticipantRegistry", "ParticipantEnrolled", enrolled)
        for hospital in self.parties[Role.HOSPITAL]:
            self.versions[hospital] = []
            for _ in range(self.draw.randrange(1, 4)):
                yield from self._register(hospital, self._digest(), bytes(32))

    def _register(self, hospital: str, dataset: bytes, previous: bytes) -> Iterator[LedgerEvent]:
        self._mine()
        made = _Version(self._digest(), dataset, hospital)
        self.versions[hospital].append(made)
        terms = {
            "name": f"series {len(self.versions[hospital])}",
            "merkleRoot": self._digest(),
            "images": self.draw.randrange(100, 20_000),
            "modality": b"MR" + bytes(14),
            "purposes": 1 << 6 | 1 << 42,
            "profile": 1,
            "attestation": self._digest(),
            "previous": previous,
        }
        named = {"version": made.version, "dataset": dataset, "hospital": hospital}
        yield self._log("DatasetRegistry", "VersionRegistered", {**named, "terms": terms})

    def _correction(self) -> Iterator[LedgerEvent]:
        old = self._some_version()
        yield from self._register(old.hospital, old.dataset, old.version)
        new = self.versions[old.hospital].pop()
        self.versions[old.hospital][self.versions[old.hospital].index(old)] = new
        superseded = {"version": old.version, "successor": new.version}
        yield self._log("DatasetRegistry", "VersionSuperseded", superseded)

    def _withdrawal(self) -> Iterator[LedgerEvent]:
        old = self._some_version()
        if len(self.versions[old.hospital]) > 1:
            self._mine()
            self.versions[old.hospital].remove(old)
            withdrawn = {"version": old.version, "reason": "consent revoked"}
            yield self._log("DatasetRegistry", "VersionWithdrawn", withdrawn)

    def _suspension(self) -> Iterator[LedgerEvent]:
        account = self.draw.choice(self.parties[Role.RESEARCHER])
        self._mine()
        told = {"account": account, "reason": "left for another hospital"}
        yield self._log("ParticipantRegistry", "ParticipantSuspended", told)
        self._mine(self.draw.randrange(10, 1_000))
        yield self._log("ParticipantRegistry", "ParticipantReinstated", {"account": account})

    def _some_version(self) -> _Version:
        # The very first hospital keeps its data as they are, so that the oldest version has
        # descendants in every round since.
        hospital = self.draw.choice(self.parties[Role.HOSPITAL][POPULAR_VERSIONS:])
        return self.draw.choice(self.versions[hospital])

    def _grant(self) -> Iterator[LedgerEvent]:
        if self._happens(0.1):
            hospitals = self.parties[Role.HOSPITAL][:POPULAR_VERSIONS]
            version = self.versions[self.draw.choice(hospitals)][0]
        else:
            version = self._some_version()
        self._mine()
        self.grants += 1
        granted = {
            "grantId": _grant_id(self.grants),
            "researcher": self.draw.choice(self.parties[Role.RESEARCHER]),
            "version": version.version,
            "hospital": version.hospital,
            "image": self._digest() if self._happens(0.7) else bytes(32),
            "purpose": 6,
            "expiry": _time_of(self.block) + self.draw.randrange(1, 90) * 86_400,
            "by": version.hospital,
        }
        yield self._log("ImageAccess", "AccessGranted", granted)
        if self.grants > REVOKED_LATER and self._happens(0.2):
            self._mine()  # an earlier one each time, so that none is revoked twice
            revoked = {"grantId": _grant_id(self.grants - REVOKED_LATER), "by": version.hospital}
            yield self._log("ImageAccess", "AccessRevoked", revoked)

    def _readings(self) -> Iterator[LedgerEvent]:
        """Let an image be read, a second opinion be asked, and perhaps be given."""
        if not self.images or self._happens(0.4):
            self.images.append((self._digest(), self._some_version()))
        image, version = self.images[0] if self._happens(0.1) else self.draw.choice(self.images)
        owner, reader = version.hospital, self.draw.choice(self.parties[Role.HOSPITAL])
        first, request = self._digest(), self._digest()
        yield self._recorded(image, version.version, owner, first)
        if self._happens(0.2):
            self._mine()
            first, corrected = self._digest(), first
            told = {"reading": corrected, "correction": first, "image": image, "hospital": owner}
            told |= {"author": owner, "reason": "the other side", **self._document()}
            yield self._log("Readings", "ReadingCorrected", told)
        if self._happens(0.5) and reader != owner:
            self._mine()
            asked: dict[str, Any] = {"request": request, "image": image, "hospital": owner}
            asked |= {"version": version.version, "reader": self.draw.choice((reader, NOBODY))}
            asked |= {"opinionOn": first, "question": self._digest()}
            asked["takeBy"] = _time_of(self.block) + 86_400
            asked["fulfilBy"] = asked["takeBy"] + 86_400
            yield self._log("Readings", "ReadingRequested", asked)
            if self._happens(0.8):
                yield from self._fulfilment(image, version.version, reader, first, request)
        if self._happens(0.02) and image not in self.erased:
            self._mine()
            self.erased.add(image)
            erased = {"version": version.version, "image": image, "hospital": owner}
            yield self._log("DatasetRegistry", "ImageErased", erased)

    def _fulfilment(
        self, image: bytes, version: bytes, reader: str, first: bytes, request: bytes
    ) -> Iterator[LedgerEvent]:
        self._mine()
        taken = {"request": request, "hospital": reader, "author": reader}
        yield self._log("Readings", "RequestTaken", taken)
        if self._happens(0.1):
            self._mine()
            yield self._log("Readings", "RequestReleased", taken)
            return
        second = self._digest()
        yield self._recorded(image, version, reader, second, first, request)
        yield self._log("Readings", "RequestFulfilled", {"request": request, "reading": second})
        self._mine()
        said = {"own": second, "other": first, "image": image, "author": reader}
        yield self._log("Readings", "ReadingsCompared", {**said, "agreement": 1})

    def _recorded(
        self,
        image: bytes,
        version: bytes,
        hospital: str,
        reading: bytes,
        opinion_on: bytes = bytes(32),
        request: bytes = bytes(32),
    ) -> LedgerEvent:
        self._mine()
        told = {"reading": reading, "image": image, "hospital": hospital, "author": hospital}
        told |= {"version": version, "opinionOn": opinion_on, "request": request}
        return self._log("Readings", "ReadingRecorded", {**told, **self._document()})

    def _document(self) -> dict[str, Any]:
        return {"document": self._digest(), "blob": self._digest()}

    def _anchoring(self) -> Iterator[LedgerEvent]:
        self._mine()
        hospital, entries = self.draw.choice(self.parties[Role.HOSPITAL]), self.draw.randrange(1, 9)
        batches, first = self.logs.get(hospital, (0, 0))
        self.logs[hospital] = (batches + 1, first + entries)
        anchored = {"hospital": hospital, "batch": batches + 1, "root": self._digest()}
        yield self._log(
            "AccessLogs", "LogAnchored", {**anchored, "first": first, "entries": entries}
        )

    def _round(self) -> Iterator[LedgerEvent]:
        task = self._some_task()
        self.rounds += 1
        self._mine(self.draw.randrange(1, 40))
        witnesses = tuple(self.draw.sample(self.parties[Role.WITNESS], 3))
        yield self._log("RoundLedger", "RoundOpened", self._opening(task, witnesses))
        first = self.parties[Role.HOSPITAL][0]
        others = self.draw.sample(self.parties[Role.HOSPITAL][1:], self.draw.randrange(12, 80))
        hospitals = sorted([first, *others] if task is self.tasks[0] else others)
        for place, hospital in enumerate(hospitals):
            if place % RECORDS_A_BLOCK == 0:
                self._mine()
            yield self._log("RoundLedger", "UpdateRecorded", self._record(hospital))
        if self._happens(0.01):
            self._mine()
            by = self.parties[Role.STEWARD][0]
            aborted = {"round": self.rounds, "task": self._digest(), "by": by}
            yield self._log("RoundLedger", "RoundAborted", {**aborted, "reason": "too few"})
            return
        proposal = 1
        if self._happens(0.02):
            yield from self._proposal(proposal, hospitals, self._digest(), self._digest())
            self._mine()
            disputed = {"round": self.rounds, "proposal": proposal, "witness": witnesses[0]}
            results = {name: self._digest() for name in ("model", "verdicts", "evidence")}
            yield self._log("RoundLedger", "ProposalDisputed", {**disputed, **results})
            proposal = 2
        task.model, task.blob = self._digest(), self._digest()
        yield from self._proposal(proposal, hospitals, task.model, task.blob)
        for witness in witnesses[:2]:
            self._mine()
            said = {"round": self.rounds, "proposal": proposal, "witness": witness}
            signature = self.draw.randbytes(65)
            yield self._log("RoundLedger", "ProposalAttested", {**said, "signature": signature})
        final = {"round": self.rounds, "task": self._digest(), "model": task.model}
        yield self._log("RoundLedger", "RoundFinalized", {**final, "modelBlob": task.blob})
        head = {"number": self.block, "hash": self._digest(), "blocks": self.block}
        for witness in witnesses[:2]:
            self._mine()
            said = {"round": self.rounds, "witness": witness, **head, "history": self._digest()}
            signature = self.draw.randbytes(65)
            yield self._log("RoundLedger", "HeadCosigned", {**said, "signature": signature})

    def _some_task(self) -> _Task:
        """Take up a task; the oldest is a third of all, and new ones start from others' models."""
        if len(self.tasks) < TASKS and self._happens(0.02 if self.tasks else 1):
            base = self.draw.choice(self.tasks) if self.tasks and self._happens(0.5) else None
            model, blob = (base.model, base.blob) if base else (self._digest(), self._digest())
            self.tasks.append(_Task(f"task {len(self.tasks) + 1}", model, blob))
            return self.tasks[-1]
        return self.tasks[0] if self._happens(1 / 3) else self.draw.choice(self.tasks)

    def _opening(self, task: _Task, witnesses: tuple[str, ...]) -> dict[str, Any]:
        terms = {
            "task": task.name,
            "purpose": 6,
            "baseModel": task.model,
            "baseBlob": task.blob,
            "schema": bytes(32),
            "rule": _RULE,
            "minUpdates": 3,
            "maxUpdates": 80,
            "quorum": 2,
            "deadline": _time_of(self.block) + 86_400,
            "witnesses": witnesses,
        }
        aggregator = self.parties[Role.AGGREGATOR][0]
        opened = {"round": self.rounds, "task": self._digest(), "aggregator": aggregator}
        return {**opened, "terms": terms}

    def _record(self, hospital: str) -> dict[str, Any]:
        versions = self.versions[hospital][: self.draw.randrange(1, 3)]
        return {
            "round": self.rounds,
            "hospital": hospital,
            "recordDigest": self._digest(),
            "datasets": tuple(sorted(one.version for one in versions)),
            "examples": self.draw.randrange(50, 5_000),
            "update": self._digest(),
            "blob": self._digest(),
            "code": self._digest(),
            "epsilon": 0,
            "delta": 0,
        }

    def _proposal(
        self, number: int, hospitals: list[str], model: bytes, blob: bytes
    ) -> Iterator[LedgerEvent]:
        self._mine()
        place = {"round": self.rounds, "proposal": number}
        made = {"model": model, "modelBlob": blob, "verdicts": self._digest()}
        yield self._log("RoundLedger", "ModelProposed", {**place, **made})
        for hospital in hospitals:
            outcome, reason = self._outcome()
            verdict = {
                "hospital": hospital,
                "outcome": outcome.value,
                "reason": reason.value,
                "score": self.draw.randrange(2_000_000),
                "threshold": 900_000,
                "content": self._digest(),
            }
            yield self._log("RoundLedger", "VerdictRecorded", {**place, **verdict})

    def _outcome(self) -> tuple[Outcome, Reason]:
        if self._happens(0.8):
            return Outcome.ACCEPTED, Reason.NONE
        if self._happens(0.4):
            return Outcome.CLIPPED, Reason.TRIMMED_BY_RULE
        return Outcome.REJECTED, self.draw.choice(_REJECTIONS)

    def _happens(self, share: float) -> bool:
        return self.draw.random() < share

    def _digest(self) -> bytes:
        return self.draw.randbytes(32)

    def _mine(self, blocks: int = 1) -> None:
        self.block += blocks
        self.index = 0
        self.transaction = self._digest()

    def _log(self, contract: str, name: str, args: dict[str, Any]) -> LedgerEvent:
        position = LogPosition(self.block, self.index, self.transaction)
        self.index += 1
        return LedgerEvent(name, args, position, contract, _time_of(self.block))


def _time_of(block: int) -> int:
    return BEGINNING + block * BLOCK_SECONDS


def _grant_id(number: int) -> bytes:
    return number.to_bytes(32, "big")
