"""Questions to the index: where a model comes from, and what became of whom.

Every function reads in the session that it is given (`aggregator.index.reading`), commits nothing
and returns plain values. Lists come in pages, each with a cursor to the next one; a cursor names
the last row of its page, so rows that are added meanwhile shift nothing.
"""

import base64
import binascii
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Generic, TypeAlias, TypeVar

from sqlalchemy import ColumnElement, Select, and_, select, tuple_
from sqlalchemy.orm import Session

from aggregator.reputation import FinalRound, Reputation, reputation
from aggregator.tables import (
    AttestationRow,
    DatasetVersionRow,
    DisputeRow,
    ParticipantRoleRow,
    ParticipantRow,
    ProposalRow,
    RecordDatasetRow,
    RecordRow,
    RoundRow,
    RoundWitnessRow,
    VerdictRow,
    storable,
)
from chain.addresses import address_order
from chain.canonical import canonical_json, parse_json
from chain.errors import InvalidInputError
from chain.structs import purpose_numbers
from chain.types import DatasetState, Outcome, Phase, Reason, Verdict

MAX_PAGE = 200
MAX_CURSOR = 512  # characters

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Page(Generic[T]):
    """Some entries of a list, and the cursor to those behind them, None at the end."""

    entries: tuple[T, ...]
    cursor: str | None


@dataclass(frozen=True, slots=True)
class VerdictEntry:
    """A verdict of a round's newest proposal.

    ``reason`` is a name of `chain.types.Reason`, or ``CODE_n`` where the aggregator wrote a code
    that the protocol does not know. Scores are in millionths.
    """

    round: int
    task: str
    proposal: int
    hospital: str
    outcome: Outcome
    reason: str
    score: int
    threshold: int
    content: bytes


@dataclass(frozen=True, slots=True)
class DatasetUse:
    """A data-set version that an update was trained on, as it stands now."""

    version: bytes
    dataset: bytes
    name: str
    state: DatasetState
    images: int


@dataclass(frozen=True, slots=True)
class Contribution:
    """A recorded update with its verdict, None before the first proposal."""

    round: int
    task: str
    phase: Phase
    hospital: str
    examples: int
    update: bytes
    blob: bytes
    code: bytes
    recorded_at: int
    datasets: tuple[DatasetUse, ...]
    verdict: VerdictEntry | None


@dataclass(frozen=True, slots=True)
class RoundEntry:
    """A round as it stands; ``model`` is None unless it is final."""

    number: int
    task: str
    phase: Phase
    purpose: int
    base_model: bytes
    rule: str
    min_updates: int
    max_updates: int
    quorum: int
    deadline: int
    aggregator: str
    model: bytes | None
    model_blob: bytes | None
    aborted_by: str | None
    abortion: str | None
    opened_at: int
    ended_at: int | None


@dataclass(frozen=True, slots=True)
class WitnessWord:
    """What a witness said of a proposal: it attested it or got something else."""

    witness: str
    attested: bool
    said_at: int


@dataclass(frozen=True, slots=True)
class ProposalEntry:
    """A proposal with all that was said of it."""

    number: int
    model: bytes
    model_blob: bytes
    proposed_at: int
    verdicts: tuple[VerdictEntry, ...]
    words: tuple[WitnessWord, ...]


@dataclass(frozen=True, slots=True)
class RoundHistory:
    """All that the ledger holds of a round."""

    round: RoundEntry
    witnesses: tuple[str, ...]
    contributions: tuple[Contribution, ...]
    proposals: tuple[ProposalEntry, ...]


@dataclass(frozen=True, slots=True)
class Ancestor:
    """A round that a model descends from, with the updates that its rule kept."""

    round: RoundEntry
    kept: tuple[Contribution, ...]


@dataclass(frozen=True, slots=True)
class Provenance:
    """Where a model comes from.

    Args:
        model: Its content digest.
        ancestors: The rounds that it descends from, its own first.
        origins: The models at the beginning, which no round made.
    """

    model: bytes
    ancestors: tuple[Ancestor, ...]
    origins: tuple[bytes, ...]


@dataclass(frozen=True, slots=True)
class VersionEntry:
    """A registered data-set version; ``purposes`` are Data Use Ontology numbers."""

    version: bytes
    dataset: bytes
    hospital: str
    name: str
    state: DatasetState
    merkle_root: bytes
    images: int
    modality: str
    purposes: tuple[int, ...]
    profile: int
    attestation: bytes
    previous: bytes
    withdrawal: str | None
    registered_at: int


@dataclass(frozen=True, slots=True)
class DatasetHistory:
    """A data set's versions, oldest first, and a page of the updates trained on any of them."""

    versions: tuple[VersionEntry, ...]
    uses: Page[Contribution]


@dataclass(frozen=True, slots=True)
class HospitalHistory:
    """A party, its data-set versions, and a page of its updates."""

    address: str
    name: str
    roles: tuple[str, ...]
    suspended: bool
    suspension: str | None
    versions: tuple[VersionEntry, ...]
    contributions: Page[Contribution]


def provenance(session: Session, model: bytes) -> Provenance:
    """Trace a model back through its base models to hospitals and their data.

    Raises:
        InvalidInputError: If no final round made the model.
    """
    ancestors: list[Ancestor] = []
    origins: list[bytes] = []
    seen = {model}
    waiting = [model]
    while waiting:
        digest = waiting.pop(0)
        made_in = session.scalars(
            select(RoundRow)
            .where(RoundRow.model == digest, RoundRow.phase == Phase.FINAL.value)
            .order_by(RoundRow.number.desc())
        ).all()
        if not made_in:
            origins.append(digest)
        for row in made_in:
            ancestors.append(Ancestor(_round(row), _kept(session, row.number)))
            if row.base_model not in seen:
                seen.add(row.base_model)
                waiting.append(row.base_model)
    if not ancestors:
        raise InvalidInputError(f"no final round made the model {model.hex()}")
    return Provenance(model, tuple(ancestors), tuple(origins))


def round_history(session: Session, number: int) -> RoundHistory:
    """Tell all of a round.

    Raises:
        InvalidInputError: If the index has no such round.
    """
    row = session.get(RoundRow, _in_range(number))
    if row is None:
        raise InvalidInputError(f"the index has no round {number}")
    witnesses = session.scalars(
        select(RoundWitnessRow.witness).where(RoundWitnessRow.round == number)
    )
    proposals = session.scalars(
        select(ProposalRow).where(ProposalRow.round == number).order_by(ProposalRow.number)
    )
    return RoundHistory(
        _round(row),
        tuple(sorted(witnesses, key=address_order)),
        _contributions(session, _records().where(RecordRow.round == number)),
        tuple(_proposal(session, row, proposal) for proposal in proposals),
    )


def dataset_history(
    session: Session, dataset: bytes, *, cursor: str | None = None, limit: int = 50
) -> DatasetHistory:
    """Tell of a data set's versions and of the updates trained on them.

    Args:
        session: Of the index.
        dataset: The data set's identifier, or that of one of its versions.
        cursor: Of the page of updates before, None for the first one.
        limit: How many updates a page may hold.

    Raises:
        InvalidInputError: If the index has no such data set, or cursor or limit are malformed.
    """
    version = session.get(DatasetVersionRow, dataset)
    dataset = dataset if version is None else version.dataset
    versions = _versions(session, DatasetVersionRow.dataset == dataset)
    if not versions:
        raise InvalidInputError(f"the index has no data set 0x{dataset.hex()}")
    is_use = (
        select(RecordDatasetRow.version)
        .join(DatasetVersionRow, DatasetVersionRow.version == RecordDatasetRow.version)
        .where(
            RecordDatasetRow.round == RecordRow.round,
            RecordDatasetRow.hospital == RecordRow.hospital,
            DatasetVersionRow.dataset == dataset,
        )
        .exists()
    )
    return DatasetHistory(versions, _contribution_page(session, is_use, cursor, limit))


def hospital_history(
    session: Session, hospital: str, *, cursor: str | None = None, limit: int = 50
) -> HospitalHistory:
    """Tell of a hospital, its data and its updates, the newest first.

    Args:
        session: Of the index.
        hospital: Its EIP-55 address.
        cursor: Of the page of updates before, None for the first one.
        limit: How many updates a page may hold.

    Raises:
        InvalidInputError: If nobody of this address is enrolled, or cursor or limit are malformed.
    """
    row = session.get(ParticipantRow, hospital)
    if row is None:
        raise InvalidInputError(f"the index has no participant {hospital}")
    roles = select(ParticipantRoleRow.role).where(ParticipantRoleRow.address == hospital)
    return HospitalHistory(
        row.address,
        row.name,
        tuple(sorted(session.scalars(roles))),
        row.suspended,
        row.suspension,
        _versions(session, DatasetVersionRow.hospital == hospital),
        _contribution_page(session, RecordRow.hospital == hospital, cursor, limit),
    )


def rounds(
    session: Session,
    *,
    task: str | None = None,
    phase: Phase | None = None,
    cursor: str | None = None,
    limit: int = 50,
) -> Page[RoundEntry]:
    """List rounds, the newest first.

    Raises:
        InvalidInputError: If cursor or limit are malformed.
    """
    statement = select(RoundRow).order_by(RoundRow.number.desc())
    if task is not None:
        statement = statement.where(RoundRow.task == storable(task))
    if phase is not None:
        statement = statement.where(RoundRow.phase == phase.value)
    if cursor is not None:
        (number,) = _read_cursor(cursor, (int,))
        statement = statement.where(RoundRow.number < number)
    rows = session.scalars(statement.limit(_checked(limit) + 1)).all()
    return _page([_round(row) for row in rows], limit, lambda entry: (entry.number,))


def verdicts(
    session: Session,
    *,
    round_number: int | None = None,
    hospital: str | None = None,
    outcome: Outcome | None = None,
    reason: Reason | None = None,
    task: str | None = None,
    cursor: str | None = None,
    limit: int = 50,
) -> Page[VerdictEntry]:
    """List the verdicts of each round's newest proposal, the newest rounds first.

    Args:
        session: Of the index.
        round_number: Only of this round.
        hospital: Only on this EIP-55 address.
        outcome: Only with this outcome.
        reason: Only for this reason.
        task: Only of this task.
        cursor: Of the page before, None for the first one.
        limit: How many entries a page may hold, 1 to 200.

    Raises:
        InvalidInputError: If cursor or limit are malformed.
    """
    statement = _newest_verdicts().order_by(VerdictRow.round.desc(), VerdictRow.hospital)
    wanted: tuple[tuple[ColumnElement[Any] | Any, object], ...] = (
        (VerdictRow.round, None if round_number is None else _in_range(round_number)),
        (VerdictRow.hospital, hospital),
        (VerdictRow.outcome, None if outcome is None else outcome.value),
        (VerdictRow.reason, None if reason is None else reason.value),
        (RoundRow.task, None if task is None else storable(task)),
    )
    for column, value in wanted:
        if value is not None:
            statement = statement.where(column == value)
    if cursor is not None:
        number, address = _read_cursor(cursor, (int, str))
        behind = (VerdictRow.round == number) & (VerdictRow.hospital > address)
        statement = statement.where((VerdictRow.round < number) | behind)
    rows = session.execute(statement.limit(_checked(limit) + 1)).all()
    entries = [_verdict(verdict, task_name) for verdict, task_name in rows]
    return _page(entries, limit, lambda entry: (entry.round, entry.hospital))


def standings(session: Session, task: str, *, hospital: str | None = None) -> Reputation:
    """Tell the standing of a task's hospitals, as `aggregator.reputation` reads it from the chain.

    Args:
        session: Of the index.
        task: The task's name.
        hospital: Only that of this EIP-55 address.

    Raises:
        InvalidInputError: If the index has no round of the task.
    """
    of_task = select(RoundRow).where(RoundRow.task == storable(task)).order_by(RoundRow.number)
    rounds = session.scalars(of_task).all()
    if not rounds:
        raise InvalidInputError("the index has no round of this task")
    judged = _newest_verdicts().where(
        RoundRow.task == storable(task), RoundRow.phase == Phase.FINAL.value
    )
    if hospital is not None:
        judged = judged.where(VerdictRow.hospital == hospital)
    verdicts: dict[int, list[Verdict]] = {
        row.number: [] for row in rounds if row.phase == Phase.FINAL.value
    }
    for row, _ in session.execute(judged):
        verdicts[row.round].append(
            Verdict(
                row.hospital,
                Outcome(row.outcome),
                Reason(row.reason),
                row.score,
                row.threshold,
                row.content,
            )
        )
    history = [FinalRound(number, tuple(found)) for number, found in verdicts.items()]
    latest = [row.rule for row in rounds if row.phase != Phase.ABORTED.value][-1:]
    return reputation(task, history, latest[0] if latest else None)


_RecordStatement: TypeAlias = Select[RecordRow, RoundRow]


def _records() -> _RecordStatement:
    """Select records in the order of the ledger, each with its round."""
    return (
        select(RecordRow, RoundRow)
        .join(RoundRow, RoundRow.number == RecordRow.round)
        .order_by(RecordRow.block, RecordRow.log_index)
    )


def _newest_verdicts() -> Select[VerdictRow, str]:
    is_newest = and_(RoundRow.number == VerdictRow.round, RoundRow.proposal == VerdictRow.proposal)
    return select(VerdictRow, RoundRow.task).join(RoundRow, is_newest)


def _kept(session: Session, number: int) -> tuple[Contribution, ...]:
    recorded = _contributions(session, _records().where(RecordRow.round == number))
    return tuple(
        one for one in recorded if one.verdict and one.verdict.outcome is not Outcome.REJECTED
    )


def _contribution_page(
    session: Session, which: ColumnElement[bool], cursor: str | None, limit: int
) -> Page[Contribution]:
    statement = (
        select(RecordRow, RoundRow)
        .join(RoundRow, RoundRow.number == RecordRow.round)
        .where(which)
        .order_by(RecordRow.round.desc(), RecordRow.hospital)
    )
    if cursor is not None:
        number, address = _read_cursor(cursor, (int, str))
        behind = (RecordRow.round == number) & (RecordRow.hospital > address)
        statement = statement.where((RecordRow.round < number) | behind)
    found = _contributions(session, statement.limit(_checked(limit) + 1))
    return _page(found, limit, lambda entry: (entry.round, entry.hospital))


def _contributions(session: Session, statement: _RecordStatement) -> tuple[Contribution, ...]:
    rows = [(record, round_) for record, round_ in session.execute(statement)]
    places = [(record.round, record.hospital) for record, _ in rows]
    datasets = _datasets_of(session, places)
    judged = _verdicts_of(session, places)
    return tuple(
        Contribution(
            record.round,
            round_.task,
            Phase(round_.phase),
            record.hospital,
            record.examples,
            record.update,
            record.blob,
            record.code,
            record.recorded_at,
            tuple(datasets.get((record.round, record.hospital), ())),
            judged.get((record.round, record.hospital)),
        )
        for record, round_ in rows
    )


_Place: TypeAlias = tuple[int, str]


def _datasets_of(session: Session, places: Sequence[_Place]) -> dict[_Place, list[DatasetUse]]:
    statement = (
        select(RecordDatasetRow, DatasetVersionRow)
        .join(DatasetVersionRow, DatasetVersionRow.version == RecordDatasetRow.version)
        .where(tuple_(RecordDatasetRow.round, RecordDatasetRow.hospital).in_(places))
        .order_by(RecordDatasetRow.version)
    )
    found: dict[_Place, list[DatasetUse]] = {}
    for use, version in session.execute(statement):
        found.setdefault((use.round, use.hospital), []).append(
            DatasetUse(
                version.version,
                version.dataset,
                version.name,
                DatasetState(version.state),
                version.images,
            )
        )
    return found


def _verdicts_of(session: Session, places: Sequence[_Place]) -> dict[_Place, VerdictEntry]:
    statement = _newest_verdicts().where(tuple_(VerdictRow.round, VerdictRow.hospital).in_(places))
    return {
        (row.round, row.hospital): _verdict(row, task) for row, task in session.execute(statement)
    }


def _proposal(session: Session, round_: RoundRow, proposal: ProposalRow) -> ProposalEntry:
    place = {"round": proposal.round, "proposal": proposal.number}
    judged = session.scalars(select(VerdictRow).filter_by(**place))
    attested = session.scalars(select(AttestationRow).filter_by(**place))
    disputed = session.scalars(select(DisputeRow).filter_by(**place))
    words = [
        *(WitnessWord(row.witness, True, row.attested_at) for row in attested),
        *(WitnessWord(row.witness, False, row.disputed_at) for row in disputed),
    ]
    entries = (_verdict(row, round_.task) for row in judged)
    return ProposalEntry(
        proposal.number,
        proposal.model,
        proposal.model_blob,
        proposal.proposed_at,
        tuple(sorted(entries, key=lambda entry: address_order(entry.hospital))),
        tuple(sorted(words, key=lambda word: (word.said_at, address_order(word.witness)))),
    )


def _versions(session: Session, which: ColumnElement[bool]) -> tuple[VersionEntry, ...]:
    rows = session.scalars(
        select(DatasetVersionRow)
        .where(which)
        .order_by(DatasetVersionRow.registered_block, DatasetVersionRow.version)
    )
    return tuple(
        VersionEntry(
            row.version,
            row.dataset,
            row.hospital,
            row.name,
            DatasetState(row.state),
            row.merkle_root,
            row.images,
            row.modality,
            tuple(sorted(purpose_numbers(row.purposes))),
            row.profile,
            row.attestation,
            row.previous,
            row.withdrawal,
            row.registered_at,
        )
        for row in rows
    )


def _round(row: RoundRow) -> RoundEntry:
    return RoundEntry(
        row.number,
        row.task,
        Phase(row.phase),
        row.purpose,
        row.base_model,
        row.rule,
        row.min_updates,
        row.max_updates,
        row.quorum,
        row.deadline,
        row.aggregator,
        row.model,
        row.model_blob,
        row.aborted_by,
        row.abortion,
        row.opened_at,
        row.ended_at,
    )


def _verdict(row: VerdictRow, task: str) -> VerdictEntry:
    known = row.reason in Reason.__members__.values()
    return VerdictEntry(
        row.round,
        task,
        row.proposal,
        row.hospital,
        Outcome(row.outcome),
        Reason(row.reason).name if known else f"CODE_{row.reason}",
        row.score,
        row.threshold,
        row.content,
    )


def _page(found: Sequence[T], limit: int, place: Callable[[T], tuple[int | str, ...]]) -> Page[T]:
    """Make a page of what was found with one entry more than the limit."""
    entries = tuple(found[:limit])
    return Page(entries, _cursor(place(entries[-1])) if len(found) > limit else None)


def _checked(limit: int) -> int:
    if not 1 <= limit <= MAX_PAGE:
        raise InvalidInputError(f"expected a page of 1 to {MAX_PAGE} entries, found {limit}")
    return limit


def _cursor(place: tuple[int | str, ...]) -> str:
    return base64.urlsafe_b64encode(canonical_json(list(place))).decode().rstrip("=")


def _read_cursor(cursor: str, types: tuple[type, ...]) -> tuple[Any, ...]:
    try:
        data = base64.b64decode(
            (cursor[:MAX_CURSOR] + "=" * (-len(cursor) % 4)).encode(), altchars=b"-_", validate=True
        )
        place = parse_json(data, MAX_CURSOR)
    except (binascii.Error, ValueError, InvalidInputError) as error:
        raise InvalidInputError("the cursor is none that this server gave out") from error
    fits = isinstance(place, list) and [type(item) for item in place] == list(types)
    if not isinstance(place, list) or not fits:
        raise InvalidInputError("the cursor is none that this server gave out")
    return tuple(_in_range(item) if isinstance(item, int) else item for item in place)


def _in_range(number: int) -> int:
    """Return a number that the databases' integers can hold."""
    if not 0 <= number < 1 << 63:
        raise InvalidInputError(f"expected a number from 0 to 2^63 - 1, found {number}")
    return number
