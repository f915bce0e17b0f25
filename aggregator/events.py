"""What each event of the contracts changes in the index (docs/protocol.md, sections 2 to 11)."""

from collections.abc import Callable, Mapping
from typing import TypeAlias

from sqlalchemy import Connection, delete, insert, update

from aggregator.tables import (
    AttestationRow,
    DatasetVersionRow,
    DisputeRow,
    GrantRow,
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
from chain.events import LedgerEvent
from chain.membership import ROLE_IDS
from chain.structs import modality_text
from chain.types import DatasetState, Phase

_ROLES = {role_id: role.value for role, role_id in ROLE_IDS.items()}


def apply_event(connection: Connection, event: LedgerEvent) -> None:
    """Write what one event says; events that say nothing of interest are passed over."""
    if change := _CHANGES.get(event.name):
        change(connection, event)


def _enrolled(connection: Connection, event: LedgerEvent) -> None:
    # A party that gets a further role is there already; the contract lets its key be.
    named = {"encryption_key": event.args["encryptionKey"], "name": storable(event.args["name"])}
    address = event.args["account"]
    found = connection.execute(
        update(ParticipantRow).where(ParticipantRow.address == address).values(named)
    )
    if not found.rowcount:
        connection.execute(insert(ParticipantRow).values(address=address, suspended=False, **named))


def _role_granted(connection: Connection, event: LedgerEvent) -> None:
    if role := _ROLES.get(event.args["role"]):
        row = {"address": event.args["account"], "role": role}
        connection.execute(insert(ParticipantRoleRow).values(row))


def _role_revoked(connection: Connection, event: LedgerEvent) -> None:
    connection.execute(
        delete(ParticipantRoleRow).where(
            ParticipantRoleRow.address == event.args["account"],
            ParticipantRoleRow.role == _ROLES.get(event.args["role"]),
        )
    )


def _key_changed(connection: Connection, event: LedgerEvent) -> None:
    _change_participant(connection, event, encryption_key=event.args["encryptionKey"])


def _suspended(connection: Connection, event: LedgerEvent) -> None:
    reason = storable(event.args["reason"])
    _change_participant(connection, event, suspended=True, suspension=reason)


def _reinstated(connection: Connection, event: LedgerEvent) -> None:
    _change_participant(connection, event, suspended=False, suspension=None)


def _change_participant(connection: Connection, event: LedgerEvent, **values: object) -> None:
    address = event.args["account"]
    connection.execute(
        update(ParticipantRow).where(ParticipantRow.address == address).values(**values)
    )


def _version_registered(connection: Connection, event: LedgerEvent) -> None:
    terms = event.args["terms"]
    connection.execute(
        insert(DatasetVersionRow).values(
            version=event.args["version"],
            dataset=event.args["dataset"],
            hospital=event.args["hospital"],
            name=storable(terms["name"]),
            state=DatasetState.ACTIVE.value,
            merkle_root=terms["merkleRoot"],
            images=terms["images"],
            modality=storable(modality_text(terms["modality"])),
            purposes=terms["purposes"],
            profile=terms["profile"],
            attestation=terms["attestation"],
            previous=terms["previous"],
            registered_block=event.position.block,
            registered_at=event.timestamp,
        )
    )


def _version_superseded(connection: Connection, event: LedgerEvent) -> None:
    _change_version(connection, event, state=DatasetState.SUPERSEDED.value)


def _version_withdrawn(connection: Connection, event: LedgerEvent) -> None:
    reason = storable(event.args["reason"])
    _change_version(connection, event, state=DatasetState.WITHDRAWN.value, withdrawal=reason)


def _purposes_changed(connection: Connection, event: LedgerEvent) -> None:
    _change_version(connection, event, purposes=event.args["purposes"])


def _change_version(connection: Connection, event: LedgerEvent, **values: object) -> None:
    version = event.args["version"]
    connection.execute(
        update(DatasetVersionRow).where(DatasetVersionRow.version == version).values(**values)
    )


def _round_opened(connection: Connection, event: LedgerEvent) -> None:
    terms = event.args["terms"]
    number = event.args["round"]
    connection.execute(
        insert(RoundRow).values(
            number=number,
            task=storable(terms["task"]),
            phase=Phase.OPEN.value,
            purpose=terms["purpose"],
            base_model=terms["baseModel"],
            base_blob=terms["baseBlob"],
            schema=terms["schema"],
            rule=storable(terms["rule"]),
            min_updates=terms["minUpdates"],
            max_updates=terms["maxUpdates"],
            quorum=terms["quorum"],
            deadline=terms["deadline"],
            aggregator=event.args["aggregator"],
            proposal=0,
            opened_block=event.position.block,
            opened_at=event.timestamp,
        )
    )
    for witness in terms["witnesses"]:
        connection.execute(insert(RoundWitnessRow).values(round=number, witness=witness))


def _update_recorded(connection: Connection, event: LedgerEvent) -> None:
    args = event.args
    place = {"round": args["round"], "hospital": args["hospital"]}
    connection.execute(
        insert(RecordRow).values(
            **place,
            record_digest=args["recordDigest"],
            examples=args["examples"],
            update=args["update"],
            blob=args["blob"],
            code=args["code"],
            epsilon=args["epsilon"],
            delta=args["delta"],
            block=event.position.block,
            log_index=event.position.log_index,
            transaction=event.position.transaction,
            recorded_at=event.timestamp,
        )
    )
    for version in args["datasets"]:
        connection.execute(insert(RecordDatasetRow).values(**place, version=version))
    _change_round(connection, event, phase=Phase.COLLECTING.value)


def _model_proposed(connection: Connection, event: LedgerEvent) -> None:
    args = event.args
    connection.execute(
        insert(ProposalRow).values(
            round=args["round"],
            number=args["proposal"],
            model=args["model"],
            model_blob=args["modelBlob"],
            verdicts=args["verdicts"],
            proposed_block=event.position.block,
            proposed_at=event.timestamp,
        )
    )
    _change_round(connection, event, phase=Phase.PROPOSED.value, proposal=args["proposal"])


def _verdict_recorded(connection: Connection, event: LedgerEvent) -> None:
    connection.execute(insert(VerdictRow).values(event.args))


def _proposal_attested(connection: Connection, event: LedgerEvent) -> None:
    row = {**event.args, "attested_at": event.timestamp}
    connection.execute(insert(AttestationRow).values(row))


def _proposal_disputed(connection: Connection, event: LedgerEvent) -> None:
    row = {**event.args, "disputed_at": event.timestamp}
    connection.execute(insert(DisputeRow).values(row))


def _round_finalized(connection: Connection, event: LedgerEvent) -> None:
    _change_round(
        connection,
        event,
        phase=Phase.FINAL.value,
        model=event.args["model"],
        model_blob=event.args["modelBlob"],
        ended_at=event.timestamp,
    )


def _round_aborted(connection: Connection, event: LedgerEvent) -> None:
    _change_round(
        connection,
        event,
        phase=Phase.ABORTED.value,
        aborted_by=event.args["by"],
        abortion=storable(event.args["reason"]),
        ended_at=event.timestamp,
    )


def _change_round(connection: Connection, event: LedgerEvent, **values: object) -> None:
    number = event.args["round"]
    connection.execute(update(RoundRow).where(RoundRow.number == number).values(**values))


def _access_granted(connection: Connection, event: LedgerEvent) -> None:
    args = event.args
    connection.execute(
        insert(GrantRow).values(
            number=args["grantId"],
            version=args["version"],
            image=args["image"] if any(args["image"]) else None,
            hospital=args["hospital"],
            researcher=args["researcher"],
            purpose=args["purpose"],
            expiry=args["expiry"],
            revoked=False,
            granted_at=event.timestamp,
        )
    )


def _access_revoked(connection: Connection, event: LedgerEvent) -> None:
    number = event.args["grantId"]
    connection.execute(update(GrantRow).where(GrantRow.number == number).values(revoked=True))


_Change: TypeAlias = Callable[[Connection, LedgerEvent], None]

_CHANGES: Mapping[str, _Change] = {
    "ParticipantEnrolled": _enrolled,
    "RoleGranted": _role_granted,
    "RoleRevoked": _role_revoked,
    "EncryptionKeyChanged": _key_changed,
    "ParticipantSuspended": _suspended,
    "ParticipantReinstated": _reinstated,
    "VersionRegistered": _version_registered,
    "VersionSuperseded": _version_superseded,
    "VersionWithdrawn": _version_withdrawn,
    "PurposesChanged": _purposes_changed,
    "RoundOpened": _round_opened,
    "UpdateRecorded": _update_recorded,
    "ModelProposed": _model_proposed,
    "VerdictRecorded": _verdict_recorded,
    "ProposalAttested": _proposal_attested,
    "ProposalDisputed": _proposal_disputed,
    "RoundFinalized": _round_finalized,
    "RoundAborted": _round_aborted,
    "AccessGranted": _access_granted,
    "AccessRevoked": _access_revoked,
}
