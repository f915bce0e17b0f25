"""Which data a final model descends from, what it may be used for, and what became of the data.

A model inherits the intersection of what its data permit: of all data-set versions that an update
was trained on which a final round in its line kept. Withdrawing data stops their use from then on;
the models that were made before stay, and are flagged.

Pure: folded from the ledger's events in their order, whether a chain or a bundle gives them. So no
index has to be trusted. `aggregator.queries.inheritance` answers the same from the index.
"""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from enum import Enum
from itertools import pairwise
from typing import Protocol, TypeVar

from chain.errors import InvalidInputError
from chain.events import LedgerEvent
from chain.structs import ALL_PURPOSES, purpose_numbers
from chain.types import LogPosition, Outcome

T = TypeVar("T")

_TOLD = 5  # obstacles that a refusal lists


class FlagKind(Enum):
    """What became of data that a model descends from."""

    WITHDRAWN = "withdrawn"
    IMAGE_ERASED = "image erased"
    PURPOSE_REVOKED = "purpose revoked"


@dataclass(frozen=True, slots=True)
class Flag:
    """Something that became of a data-set version in a model's line.

    Args:
        kind: What.
        version: The version.
        hospital: Whose it is.
        name: The data set's name.
        task: Where the version came into the line.
        first_round: The final round of that task that first kept an update trained on it; its
            model and all models in the line after it are touched.
        count: How many images were erased, 1 otherwise.
        purposes: Data Use Ontology numbers that were permitted when the version was used, and are
            no more.
        reason: Of a withdrawal.
        since: Unix time; of erased images the first one's.
        position: On the chain.
    """

    kind: FlagKind
    version: bytes
    hospital: str
    name: str
    task: str
    first_round: int
    count: int
    purposes: tuple[int, ...]
    reason: str | None
    since: int
    position: LogPosition


class EventSource(Protocol):
    """The part of `chain.reader.LedgerReader` that descent is read from."""

    def head(self) -> "Block":
        """Look up the newest block."""
        ...

    def block(self, number: int) -> "Block":
        """Look a block up by its number."""
        ...

    def events(self, from_block: int, to_block: int) -> Iterator[LedgerEvent]:
        """Yield what the federation's contracts logged, in the order of the chain."""
        ...


class Block(Protocol):
    """A block, as far as it says whether the chain is still the same."""

    @property
    def number(self) -> int:
        """Its number."""
        ...

    @property
    def hash(self) -> bytes:
        """Its hash."""
        ...


@dataclass(frozen=True, slots=True)
class _Standing:
    """What a version permits from a log on."""

    since: int
    position: LogPosition
    purposes: int


@dataclass(slots=True)
class _Version:
    hospital: str
    name: str
    standings: list[_Standing]
    withdrawn: LedgerEvent | None = None
    erased: list[LedgerEvent] = field(default_factory=list)

    @property
    def purposes(self) -> int:
        return self.standings[-1].purposes

    def at(self, position: LogPosition) -> int:
        """Tell how many of its standings began before a place on the chain."""
        place = (position.block, position.log_index)
        before = [one.position for one in self.standings]
        return sum((one.block, one.log_index) < place for one in before)


@dataclass(frozen=True, slots=True)
class _Use:
    """Where a version first came into a task: the final round, and the update's record."""

    task: str
    round: int
    position: LogPosition


@dataclass(slots=True)
class _Task:
    base_round: int | None = None
    first: int | None = None
    last: int | None = None
    uses: dict[bytes, _Use] = field(default_factory=dict)


@dataclass(slots=True)
class _Round:
    task: str
    base_round: int | None
    records: dict[str, tuple[tuple[bytes, ...], LogPosition]] = field(default_factory=dict)
    kept: set[str] = field(default_factory=set)


class Descent:
    """The descent of all final models, as far as events were read.

    Args:
        events: In the order of the ledger.
    """

    def __init__(self, events: Iterable[LedgerEvent] = ()) -> None:
        self._forget()
        for event in events:
            self.enter(event)

    def _forget(self) -> None:
        self._versions: dict[bytes, _Version] = {}
        self._tasks: dict[str, _Task] = {}
        self._rounds: dict[int, _Round] = {}
        self._finals: dict[int, str] = {}
        self._by_model: dict[bytes, int] = {}
        self._at: tuple[int, bytes] | None = None

    def read_on(self, source: EventSource) -> None:
        """Read what a chain logged since; where the chain is another by now, read it anew.

        Raises:
            LedgerError: If the chain cannot be reached.
        """
        head = source.head()
        if self._at is None or not _is_on_chain(*self._at, source, head.number):
            self._forget()  # also what was read half-way, before the chain could not be reached
        first = 0 if self._at is None else self._at[0] + 1
        self._at = None
        for event in source.events(first, head.number):
            self.enter(event)
        self._at = head.number, head.hash

    def enter(self, event: LedgerEvent) -> None:
        """Take the next event in."""
        args = event.args
        match event.name:
            case "VersionRegistered":
                terms = args["terms"]
                standing = _Standing(event.timestamp, event.position, terms["purposes"])
                named = _Version(args["hospital"], terms["name"], [standing])
                self._versions.setdefault(args["version"], named)
            case "VersionWithdrawn" | "ImageErased" | "PurposesChanged":
                if version := self._versions.get(args["version"]):
                    _change(version, event)
            case "RoundOpened":
                self._open(args["round"], args["terms"]["task"], args["terms"]["baseModel"])
            case "RoundFinalized":
                self._finish(args["round"], args["model"])
            case "RoundAborted":
                self._rounds.pop(args["round"], None)
            case "UpdateRecorded" | "ModelProposed" | "VerdictRecorded":
                if round_ := self._rounds.get(args["round"]):
                    _advance(round_, event)

    def last_final(self, task: str) -> int | None:
        """Return the task's last final round, None where it has none."""
        found = self._tasks.get(task)
        return None if found is None else found.last

    def made_in(self, model: bytes) -> int | None:
        """Return the newest final round that made a model, None where none did."""
        return self._by_model.get(model)

    def versions(self, number: int) -> frozenset[bytes]:
        """Return the data-set versions that the model of a final round descends from."""
        return frozenset(self._line(number))

    def purposes(self, number: int) -> frozenset[int]:
        """Return what the model of a final round may be used for, as its data permit now."""
        bits = ALL_PURPOSES
        for version in self._line(number):
            bits &= self._versions[version].purposes
        return purpose_numbers(bits)

    def flags(self, number: int) -> tuple[Flag, ...]:
        """Return what became of the data of a final round's model, in the order of the ledger."""
        found = [
            flag
            for version, use in self._line(number).items()
            for flag in self._flags(version, use)
        ]
        return tuple(sorted(found, key=lambda one: (_place(one.position), one.kind.value)))

    def touched(self, task: str, flag: Flag) -> tuple[int, ...]:
        """Return the first and the last final round of a task whose models a flag touches."""
        found = self._tasks[task]
        first = flag.first_round if flag.task == task else found.first
        return (first or 0, found.last or 0)

    def obstacles(self, number: int, purpose: int, despite: frozenset[bytes]) -> tuple[str, ...]:
        """Tell why the model of a final round must not be trained further for a purpose.

        Args:
            number: The round.
            purpose: Data Use Ontology number of the next round.
            despite: Versions with whose withdrawal the federation has agreed to go on. A purpose
                that a version did not permit when it was used cannot be agreed upon.
        """
        line, found = self._line(number), []
        for flag in self.flags(number):
            if flag.version in despite:
                continue
            if flag.kind is not FlagKind.PURPOSE_REVOKED:
                found.append(_obstacle(flag, flag.kind.value))
            elif purpose in flag.purposes:
                found.append(_obstacle(flag, f"not permitted any more for DUO:{purpose:07d}"))
        for name, use in line.items():
            version = self._versions[name]
            before = version.standings[version.at(use.position) - 1].purposes
            if not (before | version.purposes) >> purpose & 1:
                found.append(
                    f"data set {version.name!r} of {version.hospital} (0x{name.hex()}) never "
                    f"permitted DUO:{purpose:07d}, which nobody can agree upon but its hospital"
                )
        return tuple(found)

    def _open(self, number: int, task: str, model: bytes) -> None:
        if number in self._rounds or number in self._finals:
            return  # only a forged ledger opens a round twice, and could lead lines in circles
        line = self._tasks.setdefault(task, _Task())
        # As the ledger insists, a task goes on from its last final model.
        base = line.last if line.last is not None else self._by_model.get(model)
        self._rounds[number] = _Round(task, base)

    def _finish(self, number: int, model: bytes) -> None:
        ended = self._rounds.pop(number, None)
        if ended is None:
            return
        line = self._tasks[ended.task]
        if line.first is None:
            line.first, line.base_round = number, ended.base_round
        line.last = number
        self._finals[number] = ended.task
        self._by_model[model] = number
        for hospital, (versions, position) in ended.records.items():
            if hospital in ended.kept:
                for version in versions:
                    if version in self._versions:
                        line.uses.setdefault(version, _Use(ended.task, number, position))

    def _line(self, number: int) -> dict[bytes, _Use]:
        """Return the versions that a model descends from, each where it first came in."""
        found: dict[bytes, _Use] = {}
        at: int | None = number
        while at is not None:
            line = self._tasks[self._finals[at]]
            found |= {name: use for name, use in line.uses.items() if use.round <= at}
            at = line.base_round
        return found

    def _flags(self, name: bytes, use: _Use) -> Iterator[Flag]:
        version = self._versions[name]

        def flag(
            kind: FlagKind, since: int, position: LogPosition, lost: int = 0, count: int = 1
        ) -> Flag:
            reason = None
            if kind is FlagKind.WITHDRAWN and version.withdrawn is not None:
                reason = version.withdrawn.args["reason"]
            where = (name, version.hospital, version.name, use.task, use.round)
            purposes = tuple(sorted(purpose_numbers(lost)))
            return Flag(kind, *where, count, purposes, reason, since, position)

        if version.withdrawn is not None:
            one = version.withdrawn
            yield flag(FlagKind.WITHDRAWN, one.timestamp, one.position)
        if version.erased:
            one, count = version.erased[0], len(version.erased)
            yield flag(FlagKind.IMAGE_ERASED, one.timestamp, one.position, count=count)
        states = version.standings[version.at(use.position) - 1 :]
        if revoked := revocation([(one.purposes, one) for one in states]):
            lost, change = revoked
            yield flag(FlagKind.PURPOSE_REVOKED, change.since, change.position, lost)


def revocation(states: Sequence[tuple[int, T]]) -> tuple[int, T] | None:
    """Find what was permitted since data were used and is permitted no more.

    Args:
        states: Sets of purposes as bits, from that at the use on, each with what brought it.

    Returns:
        The purposes as bits, with what last revoked one of them; None where nothing is lost.
    """
    ever = 0
    for purposes, _ in states:
        ever |= purposes
    lost = ever & ~states[-1][0]
    if not lost:
        return None
    revoked = [brought for (one, _), (two, brought) in pairwise(states) if one & ~two & lost]
    return lost, revoked[-1]


def require_unhindered(
    descent: Descent, number: int, purpose: int, despite: frozenset[bytes]
) -> None:
    """Refuse to train the model of a final round further where its data forbid it.

    Raises:
        InvalidInputError: If so; the message says which data, and what can be done.
    """
    found = descent.obstacles(number, purpose, despite)
    if not found:
        return
    more = f"; and {len(found) - _TOLD} more" if len(found) > _TOLD else ""
    raise InvalidInputError(
        f"the model of round {number} must not be trained further: {'; '.join(found[:_TOLD])}"
        f"{more}. Begin a task of its own with a model that was made before these data came in; "
        "or, if the federation has agreed to go on from this one, name each withdrawn version with "
        "--despite-withdrawn"
    )


def _change(version: _Version, event: LedgerEvent) -> None:
    match event.name:
        case "VersionWithdrawn":
            version.withdrawn = version.withdrawn or event
        case "ImageErased":
            version.erased.append(event)
        case "PurposesChanged":
            standing = _Standing(event.timestamp, event.position, event.args["purposes"])
            version.standings.append(standing)


def _advance(round_: _Round, event: LedgerEvent) -> None:
    args = event.args
    match event.name:
        case "UpdateRecorded":
            round_.records[args["hospital"]] = (args["datasets"], event.position)
        case "ModelProposed":
            round_.kept.clear()
        case "VerdictRecorded":
            if args["outcome"] != Outcome.REJECTED.value:
                round_.kept.add(args["hospital"])


def _obstacle(flag: Flag, what: str) -> str:
    reason = "" if flag.reason is None else f" ({flag.reason!r})"
    return (
        f"data set {flag.name!r} of {flag.hospital} (0x{flag.version.hex()}), which came in with "
        f"round {flag.first_round}, is {what} since block {flag.position.block}{reason}"
    )


def _is_on_chain(number: int, known: bytes, source: EventSource, head: int) -> bool:
    return number <= head and source.block(number).hash == known


def _place(position: LogPosition) -> tuple[int, int]:
    return position.block, position.log_index
