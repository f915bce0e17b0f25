"""Rows of the index as entries of answers."""

from collections.abc import Iterable, Sequence
from typing import Any

from sqlalchemy import ColumnElement, Row, Table, select
from sqlalchemy.orm import Session

from aggregator import tables
from aggregator.queries.entries import (
    GrantEntry,
    RoundEntry,
    VerdictEntry,
    VersionChange,
    VersionEntry,
)
from aggregator.tables import DatasetVersionRow, VersionChangeRow
from chain.structs import purpose_numbers
from chain.types import DatasetState, LogPosition, Outcome, Phase, Reason


def table_of(row_type: type[tables.Table | tables.Memory]) -> Table:
    """Return the table of a row type: its plain rows cost a fraction of mapped objects."""
    return row_type.metadata.tables[row_type.__tablename__]


def position(row: Row[Any]) -> LogPosition:
    """Return where on the chain the event stands that made a row."""
    return LogPosition(row.block, row.log_index, row.transaction)


def round_entry(row: Row[Any]) -> RoundEntry:
    """Return a row of rounds as an entry."""
    ended = None
    if row.ended_block is not None:
        ended = LogPosition(row.ended_block, row.ended_log_index, row.ended_transaction)
    return RoundEntry(
        row.number,
        row.task,
        Phase(row.phase),
        row.purpose,
        row.base_model,
        row.base_round,
        row.generation,
        row.origin,
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
        row.records,
        row.accepted,
        row.clipped,
        row.rejected,
        row.attestations,
        row.disputes,
        row.opened_at,
        position(row),
        row.ended_at,
        ended,
    )


def verdict_entry(row: Row[Any]) -> VerdictEntry:
    """Return a row of verdicts as an entry."""
    return VerdictEntry(
        row.round,
        row.task,
        row.proposal,
        row.hospital,
        Outcome(row.outcome),
        reason_name(row.reason),
        row.score,
        row.threshold,
        row.content,
        position(row),
    )


def reason_name(code: int) -> str:
    """Return the name of a reason, or CODE_n of one that the protocol does not know."""
    known = code in Reason.__members__.values()
    return Reason(code).name if known else f"CODE_{code}"


def grant_entry(row: Row[Any]) -> GrantEntry:
    """Return a row of grants as an entry."""
    revoked = None
    if row.revoked_block is not None:
        revoked = LogPosition(row.revoked_block, row.revoked_log_index, row.revoked_transaction)
    return GrantEntry(
        row.grant,
        row.version,
        row.image,
        row.hospital,
        row.researcher,
        row.purpose,
        row.expiry,
        row.granted_at,
        position(row),
        row.revoked_at,
        revoked,
    )


def versions(session: Session, which: ColumnElement[bool]) -> tuple[VersionEntry, ...]:
    """Read data-set versions, oldest first, with what happened to each."""
    table = table_of(DatasetVersionRow)
    rows = session.execute(
        select(table).where(which).order_by(DatasetVersionRow.block, DatasetVersionRow.log_index)
    ).all()
    changes = _changes(session, [row.version for row in rows])
    return tuple(_version_entry(row, changes.get(row.version, ())) for row in rows)


def _version_entry(row: Row[Any], changes: Iterable[VersionChange]) -> VersionEntry:
    return VersionEntry(
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
        position(row),
        tuple(changes),
    )


def _changes(session: Session, of: Sequence[bytes]) -> dict[bytes, list[VersionChange]]:
    rows = session.execute(
        select(table_of(VersionChangeRow))
        .where(VersionChangeRow.version.in_(of))
        .order_by(VersionChangeRow.block, VersionChangeRow.log_index)
    )
    found: dict[bytes, list[VersionChange]] = {}
    for row in rows:
        purposes = None if row.purposes is None else tuple(sorted(purpose_numbers(row.purposes)))
        change = VersionChange(
            row.what,
            purposes,
            row.reason,
            row.successor,
            row.changed_at,
            position(row),
            row.image,
        )
        found.setdefault(row.version, []).append(change)
    return found
