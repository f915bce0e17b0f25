"""What happened to a round, a data set, a party; and the list of rounds."""

from typing import Any

from sqlalchemy import Row, select
from sqlalchemy.orm import Session

from aggregator.queries import contributions
from aggregator.queries.entries import (
    CosignatureEntry,
    DatasetHistory,
    HospitalHistory,
    MembershipChange,
    ProposalEntry,
    RoundEntry,
    RoundHistory,
    VerdictCount,
    WitnessWord,
)
from aggregator.queries.pages import Page, checked_limit, in_range, page_of, read_cursor
from aggregator.queries.rows import (
    position,
    reason_name,
    round_entry,
    table_of,
    verdict_entry,
    versions,
)
from aggregator.tables import (
    AttestationRow,
    CosignatureRow,
    DatasetVersionRow,
    DisputeRow,
    HospitalVerdictsRow,
    MembershipChangeRow,
    ParticipantRoleRow,
    ParticipantRow,
    ProposalRow,
    RoundRow,
    RoundWitnessRow,
    VerdictRow,
    storable,
)
from chain.addresses import address_order
from chain.errors import InvalidInputError
from chain.types import Outcome, Phase


def round_history(session: Session, number: int) -> RoundHistory:
    """Tell all of a round.

    Raises:
        InvalidInputError: If the index has no such round.
    """
    is_round = RoundRow.number == in_range(number)
    row = session.execute(select(table_of(RoundRow)).where(is_round)).one_or_none()
    if row is None:
        raise InvalidInputError(f"the index has no round {number}")
    witnesses = session.scalars(
        select(RoundWitnessRow.witness).where(RoundWitnessRow.round == number)
    )
    return RoundHistory(
        round_entry(row),
        tuple(sorted(witnesses, key=address_order)),
        contributions.of_rounds(session, [number]),
        _proposals(session, number),
        _cosignatures(session, number),
    )


def dataset_history(
    session: Session, dataset: bytes, *, cursor: str | None = None, limit: int = 50
) -> DatasetHistory:
    """Tell of a data set's versions and of the updates trained on them, the newest first.

    Args:
        session: Of the index.
        dataset: The data set's identifier, or that of one of its versions.
        cursor: Of the page of updates before, None for the first one.
        limit: How many updates a page may hold.

    Raises:
        InvalidInputError: If the index has no such data set, or cursor or limit are malformed.
    """
    is_version = DatasetVersionRow.version == dataset
    own = session.scalar(select(DatasetVersionRow.dataset).where(is_version))
    dataset = dataset if own is None else own
    found = versions(session, DatasetVersionRow.dataset == dataset)
    if not found:
        raise InvalidInputError(f"the index has no data set 0x{dataset.hex()}")
    return DatasetHistory(found, contributions.page_of_dataset(session, dataset, cursor, limit))


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
    is_party = ParticipantRow.address == hospital
    row = session.execute(select(table_of(ParticipantRow)).where(is_party)).one_or_none()
    if row is None:
        raise InvalidInputError(f"the index has no participant {hospital}")
    roles = select(ParticipantRoleRow.role).where(ParticipantRoleRow.address == hospital)
    return HospitalHistory(
        row.address,
        row.name,
        tuple(sorted(session.scalars(roles))),
        row.suspended,
        row.suspension,
        row.enrolled_at,
        position(row),
        _membership(session, hospital),
        _verdict_counts(session, hospital),
        versions(session, DatasetVersionRow.hospital == hospital),
        contributions.page_of_hospital(session, hospital, cursor, limit),
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
    statement = select(table_of(RoundRow)).order_by(RoundRow.number.desc())
    if task is not None:
        statement = statement.where(RoundRow.task == storable(task))
    if phase is not None:
        statement = statement.where(RoundRow.phase == phase.value)
    if cursor is not None:
        (number,) = read_cursor(cursor, int)
        statement = statement.where(RoundRow.number < number)
    rows = session.execute(statement.limit(checked_limit(limit) + 1))
    return page_of(list(map(round_entry, rows)), limit, lambda entry: (entry.number,))


def _proposals(session: Session, number: int) -> tuple[ProposalEntry, ...]:
    made = session.execute(
        select(table_of(ProposalRow))
        .where(ProposalRow.round == number)
        .order_by(ProposalRow.number)
    )
    judged = session.execute(select(table_of(VerdictRow)).where(VerdictRow.round == number)).all()
    attested = select(table_of(AttestationRow)).where(AttestationRow.round == number)
    disputed = select(table_of(DisputeRow)).where(DisputeRow.round == number)
    words = [
        *((row.proposal, _word(row, row.attested_at)) for row in session.execute(attested)),
        *(
            (row.proposal, _word(row, row.disputed_at, row.evidence))
            for row in session.execute(disputed)
        ),
    ]
    return tuple(
        ProposalEntry(
            row.number,
            row.model,
            row.model_blob,
            row.proposed_at,
            position(row),
            tuple(
                sorted(
                    (verdict_entry(one) for one in judged if one.proposal == row.number),
                    key=lambda entry: address_order(entry.hospital),
                )
            ),
            tuple(
                sorted(
                    (word for proposal, word in words if proposal == row.number),
                    key=lambda word: (word.position.block, word.position.log_index),
                )
            ),
        )
        for row in made
    )


def _word(row: Row[Any], said_at: int, evidence: bytes | None = None) -> WitnessWord:
    return WitnessWord(row.witness, evidence is None, said_at, position(row), evidence)


def _cosignatures(session: Session, number: int) -> tuple[CosignatureEntry, ...]:
    rows = session.execute(select(table_of(CosignatureRow)).where(CosignatureRow.round == number))
    entries = [
        CosignatureEntry(
            row.witness,
            row.number,
            row.hash,
            row.blocks,
            row.history,
            row.signature,
            row.cosigned_at,
            position(row),
        )
        for row in rows
    ]
    return tuple(sorted(entries, key=lambda entry: address_order(entry.witness)))


def _membership(session: Session, address: str) -> tuple[MembershipChange, ...]:
    rows = session.execute(
        select(table_of(MembershipChangeRow))
        .where(MembershipChangeRow.address == address)
        .order_by(MembershipChangeRow.block, MembershipChangeRow.log_index)
    )
    return tuple(
        MembershipChange(row.what, row.role, row.reason, row.changed_at, position(row))
        for row in rows
    )


def _verdict_counts(session: Session, hospital: str) -> tuple[VerdictCount, ...]:
    counted = HospitalVerdictsRow
    rows = session.execute(
        select(counted.outcome, counted.reason, counted.updates)
        .where(counted.hospital == hospital, counted.updates > 0)
        .order_by(counted.outcome, counted.reason)
    )
    return tuple(
        VerdictCount(Outcome(outcome), reason_name(reason), updates)
        for outcome, reason, updates in rows
    )
