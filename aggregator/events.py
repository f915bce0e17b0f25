"""What each event of the contracts changes in the index (docs/protocol.md, sections 2 to 16)."""

from collections.abc import Callable, Mapping
from typing import Any, TypeAlias

from sqlalchemy import func, select, update

from aggregator.oddities import (
    check_final,
    check_phase,
    check_proposal,
    check_record,
    check_time,
    check_word,
)
from aggregator.tables import (
    DAY,
    AttestationRow,
    ClinicianRow,
    ComparisonRow,
    CosignatureRow,
    DatasetVersionRow,
    DayRow,
    DisputeRow,
    ErasureRow,
    GrantRow,
    HospitalVerdictsRow,
    ImageVersionRow,
    LookBatchRow,
    LookLogRow,
    MembershipChangeRow,
    ParticipantRoleRow,
    ParticipantRow,
    ProposalRow,
    ReadingRequestRow,
    ReadingRow,
    RecordDatasetRow,
    RecordRow,
    RoundRow,
    RoundWitnessRow,
    TaskRow,
    TaskVerdictsRow,
    TaskVersionRow,
    TimelineRow,
    VerdictRow,
    VersionChangeRow,
    VersionMarkRow,
    WitnessRow,
    storable,
)
from aggregator.writing import Values, Writing
from chain.events import LedgerEvent
from chain.membership import ROLE_IDS
from chain.readings import RequestState
from chain.structs import NOBODY, modality_text
from chain.types import DatasetState, Outcome, Phase

_ROLES = {role_id: role.value for role, role_id in ROLE_IDS.items()}
_ACTORS = ("by", "author")  # what events call whoever sent them
_LONGEST = 1024  # characters of a correction's reason that are kept; the ledger has it whole
_MARKS = frozenset({"WITHDRAWN", "ERASED", "PURPOSES_CHANGED"})
_COUNTS = {
    Outcome.ACCEPTED.value: "accepted",
    Outcome.CLIPPED.value: "clipped",
    Outcome.REJECTED.value: "rejected",
}


def apply_event(writing: Writing, event: LedgerEvent) -> None:
    """Write what one event says; events that say nothing of interest are passed over."""
    check_time(writing, event)
    if change := _CHANGES.get(event.name):
        change(writing, event)


def _place(event: LedgerEvent) -> Values:
    position = event.position
    return {
        "block": position.block,
        "log_index": position.log_index,
        "transaction": position.transaction,
    }


# Participants


def _enrolled(writing: Writing, event: LedgerEvent) -> None:
    # A party that gets a further role is there already; the contract lets its key be.
    named = {"encryption_key": event.args["encryptionKey"], "name": storable(event.args["name"])}
    address = event.args["account"]
    if writing.find(ParticipantRow, address) is not None:
        writing.change(ParticipantRow, (address,), **named)
        return
    writing.keep(
        ParticipantRow,
        {
            **_place(event),
            **named,
            "address": address,
            "suspended": False,
            "suspension": None,
            "enrolled_at": event.timestamp,
        },
    )


def _role_granted(writing: Writing, event: LedgerEvent) -> None:
    if role := _ROLES.get(event.args["role"]):
        writing.add(ParticipantRoleRow, {"address": event.args["account"], "role": role})
        _member_changed(writing, event, "ROLE_GRANTED", role=role)


def _role_revoked(writing: Writing, event: LedgerEvent) -> None:
    if role := _ROLES.get(event.args["role"]):
        writing.remove(ParticipantRoleRow, event.args["account"], role)
        _member_changed(writing, event, "ROLE_REVOKED", role=role)


def _key_changed(writing: Writing, event: LedgerEvent) -> None:
    key = event.args["encryptionKey"]
    writing.change(ParticipantRow, (event.args["account"],), encryption_key=key)
    _member_changed(writing, event, "KEY_CHANGED")


def _suspended(writing: Writing, event: LedgerEvent) -> None:
    reason = storable(event.args["reason"])
    writing.change(ParticipantRow, (event.args["account"],), suspended=True, suspension=reason)
    _member_changed(writing, event, "SUSPENDED", reason=reason)


def _reinstated(writing: Writing, event: LedgerEvent) -> None:
    writing.change(ParticipantRow, (event.args["account"],), suspended=False, suspension=None)
    _member_changed(writing, event, "REINSTATED")


def _member_changed(
    writing: Writing,
    event: LedgerEvent,
    what: str,
    *,
    role: str | None = None,
    reason: str | None = None,
) -> None:
    row = {"what": what, "role": role, "reason": reason, "changed_at": event.timestamp}
    row["address"] = event.args["account"]
    writing.add(MembershipChangeRow, {**_place(event), **row})


# Data sets


def _version_registered(writing: Writing, event: LedgerEvent) -> None:
    terms = event.args["terms"]
    writing.keep(
        DatasetVersionRow,
        {
            **_place(event),
            "version": event.args["version"],
            "dataset": event.args["dataset"],
            "hospital": event.args["hospital"],
            "name": storable(terms["name"]),
            "state": DatasetState.ACTIVE.value,
            "merkle_root": terms["merkleRoot"],
            "images": terms["images"],
            "modality": storable(modality_text(terms["modality"])),
            "purposes": terms["purposes"],
            "profile": terms["profile"],
            "attestation": terms["attestation"],
            "previous": terms["previous"],
            "withdrawal": None,
            "registered_at": event.timestamp,
        },
    )
    _version_changed(writing, event, "REGISTERED", purposes=terms["purposes"])


def _version_superseded(writing: Writing, event: LedgerEvent) -> None:
    state = DatasetState.SUPERSEDED.value
    writing.change(DatasetVersionRow, (event.args["version"],), state=state)
    _version_changed(writing, event, "SUPERSEDED", successor=event.args["successor"])


def _version_withdrawn(writing: Writing, event: LedgerEvent) -> None:
    state, reason = DatasetState.WITHDRAWN.value, storable(event.args["reason"])
    writing.change(DatasetVersionRow, (event.args["version"],), state=state, withdrawal=reason)
    _version_changed(writing, event, "WITHDRAWN", reason=reason)


def _purposes_changed(writing: Writing, event: LedgerEvent) -> None:
    purposes = event.args["purposes"]
    writing.change(DatasetVersionRow, (event.args["version"],), purposes=purposes)
    _version_changed(writing, event, "PURPOSES_CHANGED", purposes=purposes)


def _image_erased(writing: Writing, event: LedgerEvent) -> None:
    image, version = event.args["image"], event.args["version"]
    row = {"image": image, "version": version, "hospital": event.args["hospital"]}
    writing.add(ErasureRow, {**_place(event), **row, "erased_at": event.timestamp})
    _version_changed(writing, event, "ERASED", image=image)
    _name_image(writing, image, version)
    _tell(writing, event, image, "ERASED", version, event.args["hospital"])


def _version_changed(
    writing: Writing,
    event: LedgerEvent,
    what: str,
    *,
    purposes: int | None = None,
    reason: str | None = None,
    successor: bytes | None = None,
    image: bytes | None = None,
) -> None:
    row = {"what": what, "purposes": purposes, "reason": reason, "successor": successor}
    row |= {"image": image, "version": event.args["version"], "changed_at": event.timestamp}
    writing.add(VersionChangeRow, {**_place(event), **row})
    if what in _MARKS:
        key = (event.args["version"], what)
        if writing.find(VersionMarkRow, *key) is None:
            mark = {"version": key[0], "what": what, "times": 0, "reason": reason}
            mark |= {**_place(event), "changed_at": event.timestamp}
            writing.keep(VersionMarkRow, mark)
        writing.count(VersionMarkRow, key, "times")


# Rounds


def _round_opened(writing: Writing, event: LedgerEvent) -> None:
    terms, number = event.args["terms"], event.args["round"]
    task = storable(terms["task"])
    base = _base_of(writing, task, terms["baseModel"])
    writing.keep(
        RoundRow,
        {
            **_place(event),
            "number": number,
            "task": task,
            "phase": Phase.OPEN.value,
            "purpose": terms["purpose"],
            "base_model": terms["baseModel"],
            "base_blob": terms["baseBlob"],
            "base_round": None if base is None else base["number"],
            "generation": 0 if base is None else base["generation"] + 1,
            "origin": terms["baseModel"] if base is None else base["origin"],
            "schema": terms["schema"],
            "rule": storable(terms["rule"]),
            "min_updates": terms["minUpdates"],
            "max_updates": terms["maxUpdates"],
            "quorum": terms["quorum"],
            "deadline": terms["deadline"],
            "aggregator": event.args["aggregator"],
            "proposal": 0,
            "model": None,
            "model_blob": None,
            "aborted_by": None,
            "abortion": None,
            "records": 0,
            "accepted": 0,
            "clipped": 0,
            "rejected": 0,
            "attestations": 0,
            "disputed": False,
            "disputes": 0,
            "opened_at": event.timestamp,
            "ended_at": None,
            "ended_block": None,
            "ended_log_index": None,
            "ended_transaction": None,
        },
    )
    for witness in terms["witnesses"]:
        writing.keep(RoundWitnessRow, {"round": number, "witness": witness})
        _count_witness(writing, witness, "rounds")
    _count_task(writing, task, number)
    _count_day(writing, event, "opened")


def _base_of(writing: Writing, task: str, model: bytes) -> Values | None:
    """Find the final round that made a round's base model.

    That is the task's last one, as the ledger insists; for a task's first model the newest round
    of any task that made it.
    """
    line = writing.find(TaskRow, task)
    if line is not None and line["last_final"] is not None:
        return writing.find(RoundRow, line["last_final"])
    made_in = select(func.max(RoundRow.number)).where(RoundRow.model == model)
    number = writing.flush().execute(made_in).scalar_one()
    return None if number is None else writing.find(RoundRow, number)


def _update_recorded(writing: Writing, event: LedgerEvent) -> None:
    args = event.args
    number, hospital = args["round"], args["hospital"]
    found = writing.find(RoundRow, number)
    check_record(writing, event, found)
    writing.add(
        RecordRow,
        {
            **_place(event),
            "round": number,
            "hospital": hospital,
            "record_digest": args["recordDigest"],
            "examples": args["examples"],
            "update": args["update"],
            "blob": args["blob"],
            "code": args["code"],
            "epsilon": args["epsilon"],
            "delta": args["delta"],
            "recorded_at": event.timestamp,
        },
    )
    task = found["task"] if found else ""
    writing.note((number, hospital), args["datasets"])
    for version in args["datasets"]:
        known = writing.find(DatasetVersionRow, version)
        row = {"round": number, "hospital": hospital, "version": version, "task": task}
        writing.add(RecordDatasetRow, {**row, "dataset": known["dataset"] if known else b""})
    if found:
        phase, records = Phase.COLLECTING.value, found["records"] + 1
        writing.change(RoundRow, (number,), phase=phase, records=records)
    _count_day(writing, event, "records")


def _model_proposed(writing: Writing, event: LedgerEvent) -> None:
    args = event.args
    found = writing.find(RoundRow, args["round"])
    check_phase(writing, event, found, Phase.COLLECTING, Phase.PROPOSED)
    if found and found["proposal"]:
        _outdate(writing, args["round"])
    writing.keep(
        ProposalRow,
        {
            **_place(event),
            "round": args["round"],
            "number": args["proposal"],
            "model": args["model"],
            "model_blob": args["modelBlob"],
            "verdicts": args["verdicts"],
            "proposed_at": event.timestamp,
        },
    )
    writing.change(
        RoundRow,
        (args["round"],),
        phase=Phase.PROPOSED.value,
        proposal=args["proposal"],
        accepted=0,
        clipped=0,
        rejected=0,
        attestations=0,
        disputed=False,
    )


def _outdate(writing: Writing, number: int) -> None:
    """Take the verdicts of a round's proposals so far out of what counts for the newest ones."""
    connection = writing.flush()
    is_counted = (VerdictRow.round == number, VerdictRow.newest)
    columns = (VerdictRow.task, VerdictRow.hospital, VerdictRow.outcome, VerdictRow.reason)
    counted = connection.execute(select(*columns).where(*is_counted)).all()
    for task, hospital, outcome, reason in counted:
        writing.count(TaskVerdictsRow, (task, outcome, reason), "updates", -1)
        writing.count(HospitalVerdictsRow, (hospital, outcome, reason), "updates", -1)
    connection.execute(update(VerdictRow).where(*is_counted).values(newest=False))
    _forget_uses(writing, number)


def _forget_uses(writing: Writing, number: int) -> None:
    """Take back what a round brought into its task's line by verdicts that count no more."""
    found = writing.find(RoundRow, number)
    if found is None:
        return
    is_of_round = (TaskVersionRow.task == found["task"], TaskVersionRow.first_round == number)
    brought = writing.flush().scalars(select(TaskVersionRow.version).where(*is_of_round)).all()
    for version in brought:
        writing.remove(TaskVersionRow, found["task"], version)


def _verdict_recorded(writing: Writing, event: LedgerEvent) -> None:
    args = event.args
    found = writing.find(RoundRow, args["round"])
    check_phase(writing, event, found, Phase.PROPOSED)
    check_proposal(writing, event, found)
    task = found["task"] if found else ""
    outcome, reason, hospital = args["outcome"], args["reason"], args["hospital"]
    writing.add(VerdictRow, {**_place(event), **args, "task": task, "newest": True})
    writing.count(TaskVerdictsRow, (task, outcome, reason), "updates")
    writing.count(HospitalVerdictsRow, (hospital, outcome, reason), "updates")
    column = _COUNTS.get(outcome)
    if found and column:
        writing.change(RoundRow, (args["round"],), **{column: found[column] + 1})
        if outcome != Outcome.REJECTED.value:
            _bring_in(writing, task, args["round"], hospital)


def _bring_in(writing: Writing, task: str, number: int, hospital: str) -> None:
    """Note the versions of a kept update from which the task did not descend before."""
    versions = writing.noted((number, hospital))
    if versions is None:
        columns = (RecordDatasetRow.round == number, RecordDatasetRow.hospital == hospital)
        versions = writing.flush().scalars(select(RecordDatasetRow.version).where(*columns)).all()
    for version in versions:
        if writing.find(TaskVersionRow, task, version) is None:
            row = {"task": task, "version": version, "first_round": number}
            writing.keep(TaskVersionRow, row)


def _proposal_attested(writing: Writing, event: LedgerEvent) -> None:
    args = event.args
    found = writing.find(RoundRow, args["round"])
    check_word(writing, event, found)
    writing.add(AttestationRow, {**_place(event), **args, "attested_at": event.timestamp})
    if found and args["proposal"] == found["proposal"]:
        writing.change(RoundRow, (args["round"],), attestations=found["attestations"] + 1)
    _count_witness(writing, args["witness"], "attested", event.timestamp)


def _proposal_disputed(writing: Writing, event: LedgerEvent) -> None:
    args = event.args
    found = writing.find(RoundRow, args["round"])
    check_word(writing, event, found)
    writing.add(DisputeRow, {**_place(event), **args, "disputed_at": event.timestamp})
    if found:
        is_newest = args["proposal"] == found["proposal"]
        disputed, disputes = found["disputed"] or is_newest, found["disputes"] + 1
        writing.change(RoundRow, (args["round"],), disputed=disputed, disputes=disputes)
        writing.count(TaskRow, (found["task"],), "disputes")
    _count_witness(writing, args["witness"], "disputed", event.timestamp)
    _count_day(writing, event, "disputes")


def _round_finalized(writing: Writing, event: LedgerEvent) -> None:
    args = event.args
    found = writing.find(RoundRow, args["round"])
    check_final(writing, event, found)
    made = {"model": args["model"], "model_blob": args["modelBlob"]}
    _end_round(writing, event, phase=Phase.FINAL.value, **made)
    _count_day(writing, event, "final")
    if not found:
        return
    _lengthen_line(writing, found)
    for column in _COUNTS.values():
        writing.count(TaskRow, (found["task"],), column, found[column])
        _count_day(writing, event, column, found[column])


def _lengthen_line(writing: Writing, final: Values) -> None:
    """Make a round its task's last final one."""
    line = writing.find(TaskRow, final["task"])
    if line is None:
        return
    if line["first_final"] is None:
        base = None
        if final["base_round"] is not None:
            base = writing.find(RoundRow, final["base_round"])
        writing.change(
            TaskRow,
            (final["task"],),
            first_final=final["number"],
            base_round=final["base_round"],
            base_task=base["task"] if base else None,
        )
    count = line["final"] + 1
    writing.change(TaskRow, (final["task"],), last_final=final["number"], final=count)


def _round_aborted(writing: Writing, event: LedgerEvent) -> None:
    found = writing.find(RoundRow, event.args["round"])
    before_the_end = (Phase.OPEN, Phase.COLLECTING, Phase.PROPOSED)
    check_phase(writing, event, found, *before_the_end)
    told = {"aborted_by": event.args["by"], "abortion": storable(event.args["reason"])}
    _end_round(writing, event, phase=Phase.ABORTED.value, **told)
    _count_day(writing, event, "aborted")
    if found:
        writing.count(TaskRow, (found["task"],), "aborted")
        if found["proposal"]:
            _forget_uses(writing, event.args["round"])


def _end_round(writing: Writing, event: LedgerEvent, **values: Any) -> None:
    writing.change(
        RoundRow,
        (event.args["round"],),
        **values,
        ended_at=event.timestamp,
        **{f"ended_{name}": value for name, value in _place(event).items()},
    )


def _head_cosigned(writing: Writing, event: LedgerEvent) -> None:
    writing.add(CosignatureRow, {**_place(event), **event.args, "cosigned_at": event.timestamp})
    _count_witness(writing, event.args["witness"], "cosigned", event.timestamp)


# Grants


def _access_granted(writing: Writing, event: LedgerEvent) -> None:
    args = event.args
    image = _given(args["image"])
    if image is not None:
        _name_image(writing, image, args["version"])
    subject = args["version"] if image is None else image
    _tell(writing, event, subject, "GRANTED", args["grantId"], args["hospital"])
    writing.keep(
        GrantRow,
        {
            **_place(event),
            "grant": args["grantId"],
            "version": args["version"],
            "image": image,
            "hospital": args["hospital"],
            "researcher": args["researcher"],
            "purpose": args["purpose"],
            "expiry": args["expiry"],
            "revoked": False,
            "granted_at": event.timestamp,
            "revoked_at": None,
            "revoked_block": None,
            "revoked_log_index": None,
            "revoked_transaction": None,
        },
    )


def _access_revoked(writing: Writing, event: LedgerEvent) -> None:
    place = {f"revoked_{name}": value for name, value in _place(event).items()}
    key = (event.args["grantId"],)
    writing.change(GrantRow, key, revoked=True, revoked_at=event.timestamp, **place)
    if found := writing.find(GrantRow, *key):
        subject = found["version"] if found["image"] is None else found["image"]
        _tell(writing, event, subject, "REVOKED", *key, found["hospital"])


# Looks


def _log_anchored(writing: Writing, event: LedgerEvent) -> None:
    args = event.args
    row = {name: args[name] for name in ("hospital", "batch", "root", "first", "entries")}
    writing.add(LookBatchRow, {**_place(event), **row, "anchored_at": event.timestamp})
    log = (args["hospital"],)
    writing.count(LookLogRow, log, "batches")
    writing.count(LookLogRow, log, "entries", args["entries"])
    writing.change(LookLogRow, log, anchored_at=event.timestamp)


# Readings


def _clinician_appointed(writing: Writing, event: LedgerEvent) -> None:
    key = (event.args["hospital"], event.args["clinician"])
    told = {**_place(event), "until": event.args["until"], "appointed_at": event.timestamp}
    if writing.find(ClinicianRow, *key) is None:
        writing.keep(ClinicianRow, {"hospital": key[0], "clinician": key[1], **told})
    else:
        writing.change(ClinicianRow, key, **told)


def _reading_recorded(writing: Writing, event: LedgerEvent) -> None:
    args = event.args
    on = _given(args["opinionOn"])
    known = None if on is None else writing.find(ReadingRow, on)
    owner = _name_image(writing, args["image"], args["version"])
    _keep_reading(
        writing,
        event,
        {
            "reading": args["reading"],
            "version": args["version"],
            "image": args["image"],
            "owner": owner,
            "hospital": args["hospital"],
            "line": args["reading"],
            "opinion_on": on,
            "opinion_line": known["line"] if known else None,
            "request": _given(args["request"]),
            "corrects": None,
            "reason": None,
        },
    )
    what = "READ" if on is None else "SECOND_OPINION"
    _tell(writing, event, args["image"], what, args["reading"], args["hospital"])


def _reading_corrected(writing: Writing, event: LedgerEvent) -> None:
    args = event.args
    old = writing.find(ReadingRow, args["reading"])
    if old is None:
        return  # the contract corrects nothing that was not recorded
    inherited = ("version", "image", "owner", "hospital", "line", "opinion_on", "opinion_line")
    corrected = {name: old[name] for name in inherited}
    corrected |= {"reading": args["correction"], "request": None, "corrects": args["reading"]}
    _keep_reading(writing, event, corrected | {"reason": storable(_in_short(args["reason"]))})
    writing.change(ReadingRow, (args["reading"],), corrected_by=args["correction"])
    _tell(writing, event, args["image"], "CORRECTED", args["correction"], args["hospital"])


def _in_short(text: str) -> str:
    """Bound a stranger's words, which the ledger does not: pages of histories hold many."""
    if len(text) <= _LONGEST:
        return text
    return f"{text[:_LONGEST]}… ({len(text)} characters)"


def _keep_reading(writing: Writing, event: LedgerEvent, values: Values) -> None:
    told = {name: event.args[name] for name in ("author", "document", "blob")}
    told |= {"corrected_by": None, "recorded_at": event.timestamp}
    writing.keep(ReadingRow, {**_place(event), **values, **told})


def _readings_compared(writing: Writing, event: LedgerEvent) -> None:
    args = event.args
    key = (args["own"], args["other"])
    own, other = (writing.find(ReadingRow, reading) for reading in key)
    if own is None or other is None:
        return  # the contract compares nothing that was not recorded
    told = {**_place(event), "agreement": args["agreement"], "compared_at": event.timestamp}
    told["author"] = args["author"]
    if writing.find(ComparisonRow, *key) is None:
        row = {"own": key[0], "other": key[1], "image": args["image"]}
        row |= {"own_line": own["line"], "other_line": other["line"]}
        writing.keep(ComparisonRow, {**row, **told})
    else:
        writing.change(ComparisonRow, key, **told)  # the last word counts
    said = {"other": args["other"], "value": args["agreement"]}
    _tell(writing, event, args["image"], "COMPARED", args["own"], own["hospital"], **said)


def _reading_requested(writing: Writing, event: LedgerEvent) -> None:
    args = event.args
    _name_image(writing, args["image"], args["version"])
    writing.keep(
        ReadingRequestRow,
        {
            **_place(event),
            "request": args["request"],
            "version": args["version"],
            "image": args["image"],
            "hospital": args["hospital"],
            "reader": None if args["reader"] == NOBODY else args["reader"],
            "opinion_on": _given(args["opinionOn"]),
            "take_by": args["takeBy"],
            "fulfil_by": args["fulfilBy"],
            "question": _given(args["question"]),
            "state": RequestState.OPEN.value,
            "taker": None,
            "reading": None,
            "asked_at": event.timestamp,
            **_changed(event),
        },
    )
    _tell(writing, event, args["image"], "REQUESTED", args["request"], args["hospital"])


def _request_taken(writing: Writing, event: LedgerEvent) -> None:
    taken = {"state": RequestState.TAKEN.value, "taker": event.args["hospital"]}
    _request_changed(writing, event, "TAKEN", event.args["hospital"], **taken)


def _request_released(writing: Writing, event: LedgerEvent) -> None:
    opened: Values = {"state": RequestState.OPEN.value, "taker": None}
    _request_changed(writing, event, "RELEASED", event.args["hospital"], **opened)


def _request_fulfilled(writing: Writing, event: LedgerEvent) -> None:
    found = writing.find(ReadingRequestRow, event.args["request"])
    done = {"state": RequestState.FULFILLED.value, "reading": event.args["reading"]}
    taker = found["taker"] if found else None
    _request_changed(writing, event, "FULFILLED", taker, **done)


def _request_cancelled(writing: Writing, event: LedgerEvent) -> None:
    _request_changed(writing, event, "CANCELLED", None, state=RequestState.CANCELLED.value)


def _request_changed(
    writing: Writing, event: LedgerEvent, what: str, hospital: str | None, **values: Any
) -> None:
    """Change a request; without a hospital it was the asking one that did."""
    key = (event.args["request"],)
    if found := writing.find(ReadingRequestRow, *key):
        writing.change(ReadingRequestRow, key, **values, **_changed(event))
        _tell(writing, event, found["image"], what, *key, hospital or found["hospital"])


def _changed(event: LedgerEvent) -> Values:
    place = {f"changed_{name}": value for name, value in _place(event).items()}
    return {"changed_at": event.timestamp, **place}


# Images


def _name_image(writing: Writing, image: bytes, version: bytes) -> str:
    """Write down that an image is in a version, and tell whose that is."""
    known = writing.find(DatasetVersionRow, version)
    owner: str = known["hospital"] if known else ""
    if writing.find(ImageVersionRow, image, version) is None:
        row = {"image": image, "version": version, "hospital": owner}
        writing.keep(ImageVersionRow, row)
    return owner


def _tell(
    writing: Writing,
    event: LedgerEvent,
    subject: bytes,
    what: str,
    thing: bytes,
    hospital: str,
    *,
    other: bytes | None = None,
    value: int | None = None,
) -> None:
    """Write an event into the history of an image or a version."""
    row = {"subject": subject, "at": event.timestamp, "what": what, "thing": thing}
    row |= {"hospital": hospital, "other": other, "value": value}
    row["actor"] = next((event.args[name] for name in _ACTORS if name in event.args), None)
    writing.add(TimelineRow, {**_place(event), **row})


def _given(word: bytes) -> bytes | None:
    """Return a digest, or None where the chain has zeros for none."""
    return word if any(word) else None


# Counts


def _count_day(writing: Writing, event: LedgerEvent, column: str, by: int = 1) -> None:
    writing.count(DayRow, (event.timestamp // DAY,), column, by)


def _count_witness(writing: Writing, witness: str, column: str, at: int | None = None) -> None:
    writing.count(WitnessRow, (witness,), column)
    if at is not None:
        writing.change(WitnessRow, (witness,), last_at=at)


def _count_task(writing: Writing, task: str, number: int) -> None:
    line = writing.find(TaskRow, task)
    if line is not None:
        writing.change(TaskRow, (task,), rounds=line["rounds"] + 1, newest_round=number)
        return
    beginning = dict.fromkeys(("base_task", "base_round", "first_final", "last_final"))
    counts = dict.fromkeys(("final", "aborted", *_COUNTS.values(), "disputes"), 0)
    row = {"task": task, "newest_round": number, "rounds": 1, **beginning, **counts}
    writing.keep(TaskRow, row)


_Change: TypeAlias = Callable[[Writing, LedgerEvent], None]

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
    "HeadCosigned": _head_cosigned,
    "AccessGranted": _access_granted,
    "AccessRevoked": _access_revoked,
    "ImageErased": _image_erased,
    "LogAnchored": _log_anchored,
    "ClinicianAppointed": _clinician_appointed,
    "ReadingRecorded": _reading_recorded,
    "ReadingCorrected": _reading_corrected,
    "ReadingsCompared": _readings_compared,
    "ReadingRequested": _reading_requested,
    "RequestTaken": _request_taken,
    "RequestReleased": _request_released,
    "RequestFulfilled": _request_fulfilled,
    "RequestCancelled": _request_cancelled,
}
