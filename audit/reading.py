"""Reading what `audit.verify` verifies, from whatever knows the ledger."""

from dataclasses import replace

from aggregator.progress import Progress, ProgressCallback, unheard
from audit.history import RegistryHistory
from audit.verify import RoundEvidence
from chain.errors import LedgerError, UnknownRoundError
from chain.ledger_view import LedgerView
from chain.types import DatasetVersion, RecordedUpdate, Round

# How often a round that moves on is read; each phase change takes a transaction at least.
_READINGS = 5


def read_evidence(
    reader: LedgerView, task: str, progress: ProgressCallback = unheard
) -> tuple[RoundEvidence, ...]:
    """Read all that the chain says of a task's rounds, ascending.

    Raises:
        UnknownRoundError: If the ledger has no round of this task.
        LedgerError: If the chain cannot be read.
    """
    numbers = reader.task_rounds(task)
    if not numbers:
        message = f"expected a task of the ledger {reader.address}, found {task!r}: it has no round"
        raise UnknownRoundError(message)
    rounds: list[RoundEvidence] = []
    for number in numbers:
        progress(Progress("ledger", len(rounds), len(numbers)))
        rounds.append(_read_round(reader, number))
    progress(Progress("ledger", len(rounds), len(numbers)))
    # Last, so that it knows of everything that came before any record.
    history = RegistryHistory.read(reader, reader.head().number)
    return tuple(_with_registries(evidence, history) for evidence in rounds)


def _read_round(reader: LedgerView, number: int) -> RoundEvidence:
    """Read a round; one that moves on meanwhile is read anew, so that all is of one moment."""
    round_ = reader.round(number)
    for _ in range(_READINGS):
        evidence = _read_once(reader, round_)
        before, round_ = round_, reader.round(number)
        if round_ == before:
            return evidence
    message = f"round {number} moved on during each of {_READINGS} readings: try again later"
    raise LedgerError(message)


def _read_once(reader: LedgerView, round_: Round) -> RoundEvidence:
    number = round_.number
    newest = round_.proposal.number if round_.proposal is not None else 0
    return RoundEvidence(
        chain_id=reader.chain_id,
        ledger=reader.address,
        round=round_,
        records=reader.records(number),
        versions=(),
        active=frozenset(),
        verdicts=reader.verdicts(number, newest) if newest else (),
        attestations=reader.attestations(number, newest) if newest else (),
        disputants=tuple(
            dispute.witness for dispute in reader.disputes(number) if dispute.proposal == newest
        ),
    )


def _with_registries(evidence: RoundEvidence, history: RegistryHistory) -> RoundEvidence:
    """Add how hospitals and data sets stood when each record was made."""
    active = frozenset(
        recorded.record.hospital
        for recorded in evidence.records
        if history.is_active_hospital(recorded.record.hospital, recorded.position)
    )
    versions = tuple(_versions(history, recorded) for recorded in evidence.records)
    return replace(evidence, versions=versions, active=active)


def _versions(history: RegistryHistory, recorded: RecordedUpdate) -> tuple[DatasetVersion, ...]:
    named = (history.version(name, recorded.position) for name in recorded.record.datasets)
    return tuple(version for version in named if version is not None)
