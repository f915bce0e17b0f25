"""Provenance as others' tools read it: W3C PROV-JSON (https://www.w3.org/submissions/prov-json/).

Entities are models, updates, data-set versions, the image sets that they commit to, and single
images with readings of them. Activities are what made or ended them: registration, training,
aggregation, witnessing, interpretation, withdrawal, erasure. Agents are hospitals, clinicians,
aggregators and witnesses. Identifiers are names within one ledger; what proves a
statement, its block and transaction, stands beside it under a namespace of ours.

A document groups its statements by kind, and facts arrive round by round: each group waits in a
temporary file, so that memory does not grow with the document. What is kept is the names of
rounds, parties, models and versions, which many updates share.
"""

import json
from collections.abc import Iterable, Iterator, Mapping
from contextlib import ExitStack
from dataclasses import replace
from datetime import UTC, datetime
from tempfile import SpooledTemporaryFile
from typing import IO, TypeAlias

from aggregator.queries import (
    Contribution,
    ProposalEntry,
    ReadingEntry,
    RoundHistory,
    VerdictEntry,
    VersionEntry,
)
from audit.facts import DescendantFact, Fact, LedgerState, PartyFact, flat
from chain.cid import Cid
from chain.types import Outcome
from chain.wire import to_hex

VOCABULARY = "urn:fedwitness:vocabulary:"
_IN_MEMORY = 1 << 20  # bytes of a group before its file is on disk
_CHUNK = 1 << 16  # bytes, all of them ASCII

# Group of the document, name of an entity, activity or agent (relations have none), attributes.
_Statement: TypeAlias = tuple[str, str, dict[str, object]]
_Values: TypeAlias = Mapping[str, object]


def prov_json(facts: Iterable[Fact]) -> Iterator[str]:
    """Write facts as a PROV-JSON document.

    Args:
        facts: As `audit.facts` tells them, the ledger's state first.

    Returns:
        The document's text, in pieces.
    """
    with ExitStack() as files:
        groups: dict[str, IO[bytes]] = {}
        prefix: dict[str, str] = {}
        seen: set[str] = set()
        relations = 0
        for fact in facts:
            if isinstance(fact, LedgerState):
                ours = f"urn:fedwitness:{fact.chain_id}:{fact.ledger}:"
                prefix = {"fedwitness": VOCABULARY, "ledger": ours}
            for group, name, attributes in _statements(fact):
                if name in seen:
                    continue
                if not name:
                    relations += 1
                elif not name.startswith(_TOLD_ONCE):
                    seen.add(name)
                file = groups.get(group)
                if file is None:
                    file = files.enter_context(SpooledTemporaryFile(_IN_MEMORY))
                    groups[group] = file
                else:
                    file.write(b",")
                identifier = f"ledger:{name}" if name else f"_:{relations}"
                file.write(f"{json.dumps(identifier)}:{json.dumps(attributes)}".encode())
        yield f'{{"prefix":{json.dumps(prefix)}'
        for group, file in groups.items():
            yield f",{json.dumps(group)}:{{"
            file.seek(0)
            while text := file.read(_CHUNK):
                yield text.decode()
            yield "}"
        yield "}\n"


_WITHDRAWN, _ERASED = "WITHDRAWN", "ERASED"

# An update is one fact, and so is a reading: none of what it makes is told twice.
_TOLD_ONCE = ("update-", "training-", "witnessing-", "reading-", "interpretation-")


def _statements(fact: Fact) -> Iterator[_Statement]:
    match fact:
        case LedgerState():
            yield _entity(f"block-{fact.block}", "LedgerState", flat(fact))
        case PartyFact():
            yield _agent(fact.address, flat(fact), fact.name)
        case VersionEntry():
            yield from _version(fact)
        case DescendantFact():
            yield _model(fact.model.model)
            kind = "fedwitness:Trained" if fact.model.trained else "fedwitness:Inherited"
            model, version = f"model-{fact.model.model.hex()}", f"version-{fact.version.hex()}"
            yield _derived(model, version, kind=kind, values=flat(fact.model))
        case ReadingEntry():
            yield from _reading(fact)
        case Contribution():
            yield from _update(fact)
            if fact.verdict is not None:
                yield from _judged(fact)
        case RoundHistory():
            yield from _round(fact)


def _version(entry: VersionEntry) -> Iterator[_Statement]:
    version, images = f"version-{entry.version.hex()}", f"images-{entry.merkle_root.hex()}"
    registration = f"registration-{entry.version.hex()}"
    known = flat(entry)
    root = {name: known[name] for name in ("merkle_root", "images", "modality")}
    yield _entity(version, "DatasetVersion", known, entry.name)
    yield _entity(images, "ImageSet", root)
    yield _agent(entry.hospital)
    yield _activity(registration, "Registration", flat(entry.position), entry.registered_at)
    yield _associated(registration, entry.hospital, "hospital")
    yield _generated(version, registration, entry.registered_at)
    yield _attributed(version, entry.hospital)
    yield _derived(version, images)
    if any(entry.previous):
        yield _derived(version, f"version-{entry.previous.hex()}", kind="prov:Revision")
    for change in entry.changes:
        if change.what == _WITHDRAWN:
            withdrawal = f"withdrawal-{entry.version.hex()}"
            yield _activity(withdrawal, "Withdrawal", flat(change), change.changed_at)
            yield _associated(withdrawal, entry.hospital, "hospital")
            told = {**_time("prov:time", change.changed_at), **flat(change.position)}
            yield _relation("wasInvalidatedBy", told, entity=version, activity=withdrawal)
        if change.what == _ERASED and change.image is not None:
            image = f"image-{change.image.hex()}"
            erasure = f"erasure-{change.image.hex()}-{entry.version.hex()}"
            yield _image(change.image)
            yield _derived(image, images)
            yield _activity(erasure, "Erasure", flat(change), change.changed_at)
            yield _associated(erasure, entry.hospital, "hospital")
            told = {**_time("prov:time", change.changed_at), **flat(change.position)}
            yield _relation("wasInvalidatedBy", told, entity=image, activity=erasure)


def _reading(entry: ReadingEntry) -> Iterator[_Statement]:
    """Tell of a reading, a second opinion or a correction, which supersedes and erases nothing."""
    reading, image = f"reading-{entry.reading.hex()}", f"image-{entry.image.hex()}"
    interpretation = f"interpretation-{entry.reading.hex()}"
    known = flat(entry)
    yield _entity(reading, "Reading", known | {"cid": str(Cid.from_blob_digest(entry.blob))})
    yield _image(entry.image)
    yield _agent(entry.author)
    yield _agent(entry.hospital)
    values = {name: known[name] for name in ("version", "block", "transaction")}
    yield _activity(interpretation, "Interpretation", values, entry.recorded_at)
    yield _associated(interpretation, entry.author, "author")
    yield _relation("used", activity=interpretation, entity=image)
    yield _generated(reading, interpretation, entry.recorded_at)
    yield _attributed(reading, entry.author)
    if entry.author != entry.hospital:
        yield _relation(
            "actedOnBehalfOf",
            delegate=f"party-{entry.author}",
            responsible=f"party-{entry.hospital}",
            activity=interpretation,
        )
    if entry.corrects is not None:
        yield _derived(reading, f"reading-{entry.corrects.hex()}", kind="prov:Revision")
    if entry.opinion_on is not None:
        yield _derived(reading, f"reading-{entry.opinion_on.hex()}")


def _image(commitment: bytes) -> _Statement:
    return _entity(f"image-{commitment.hex()}", "Image", {"commitment": to_hex(commitment)})


def _update(entry: Contribution, base_model: bytes | None = None) -> Iterator[_Statement]:
    """Tell of an update and the training that made it, but not of its verdict."""
    place = f"{entry.round}-{entry.hospital}"
    update, training = f"update-{place}", f"training-{place}"
    known = flat(replace(entry, verdict=None))
    yield _entity(update, "Update", known | {"cid": str(Cid.from_blob_digest(entry.blob))})
    yield _agent(entry.hospital)
    values = {name: known[name] for name in ("round", "task", "code", "block", "transaction")}
    yield _activity(training, "Training", values, entry.recorded_at)
    yield _associated(training, entry.hospital, "hospital")
    yield _generated(update, training, entry.recorded_at)
    yield _attributed(update, entry.hospital)
    for use in entry.datasets:
        version = f"version-{use.version.hex()}"
        yield _entity(version, "DatasetVersion", flat(use), use.name)
        yield _relation("used", activity=training, entity=version)
    if base_model is not None:
        yield _used_model(training, base_model)


def _judged(entry: Contribution) -> Iterator[_Statement]:
    """Tell of an update's verdict, where its round is not told of."""
    verdict = entry.verdict
    if verdict is None:
        return
    values = {"round": entry.round, "task": entry.task, "proposal": verdict.proposal}
    aggregation = f"aggregation-{entry.round}-{verdict.proposal}"
    yield _activity(aggregation, "Aggregation", values)
    yield _used_update(aggregation, verdict)


def _round(history: RoundHistory) -> Iterator[_Statement]:
    entry = history.round
    yield _model(entry.base_model)
    for contribution in history.contributions:
        yield from _update(contribution, entry.base_model)
    for proposal in history.proposals:
        yield from _proposal(history, proposal)
    for signed in history.cosignatures:
        head = f"head-{entry.number}-{signed.witness}"
        yield _entity(head, "CosignedHead", flat(signed))
        yield _agent(signed.witness)
        yield _attributed(head, signed.witness)


def _proposal(history: RoundHistory, proposal: ProposalEntry) -> Iterator[_Statement]:
    entry, place = history.round, f"{history.round.number}-{proposal.number}"
    is_final = entry.model is not None and proposal is history.proposals[-1]
    aggregation, pipeline = f"aggregation-{place}", f"pipeline-{entry.number}"
    cid = str(Cid.from_blob_digest(proposal.model_blob))
    if is_final:
        model = f"model-{proposal.model.hex()}"
        yield _model(proposal.model)
    else:
        model = f"proposed-{place}"
        yield _entity(model, "ProposedModel", {"digest": to_hex(proposal.model)})
    values = flat(replace(proposal, verdicts=(), words=()))
    told = {"round": entry.number, "task": entry.task, "proposal": proposal.number}
    yield _activity(aggregation, "Aggregation", told | values, proposal.proposed_at)
    yield _agent(entry.aggregator)
    yield _entity(pipeline, "Pipeline", {"rule": entry.rule}, kinds=("prov:Plan",))
    yield _associated(aggregation, entry.aggregator, "aggregator", pipeline)
    yield _used_model(aggregation, entry.base_model)
    made = {"final": is_final, "cid": cid, **flat(proposal.position)}
    yield _generated(model, aggregation, proposal.proposed_at, made)
    yield _attributed(model, entry.aggregator)
    yield _derived(model, f"model-{entry.base_model.hex()}", aggregation)
    for verdict in proposal.verdicts:
        yield _used_update(aggregation, verdict)
        if verdict.outcome is not Outcome.REJECTED:
            yield _derived(model, f"update-{verdict.round}-{verdict.hospital}", aggregation)
    for word in proposal.words:
        witnessing = f"witnessing-{place}-{word.witness}"
        yield _agent(word.witness)
        yield _activity(witnessing, "Witnessing", told | flat(word), word.said_at)
        yield _associated(witnessing, word.witness, "witness")
        yield _relation("used", activity=witnessing, entity=model)
        yield _relation("wasInformedBy", informed=witnessing, informant=aggregation)


def _model(digest: bytes) -> _Statement:
    # A model is told of first as another's base, so all else of it stands with its making.
    return _entity(f"model-{digest.hex()}", "Model", {"digest": to_hex(digest)})


def _entity(
    name: str, kind: str, values: _Values, label: str = "", kinds: tuple[str, ...] = ()
) -> _Statement:
    return "entity", name, _described((f"fedwitness:{kind}", *kinds), values, label)


def _activity(name: str, kind: str, values: _Values, ended: int | None = None) -> _Statement:
    moment = {} if ended is None else _time("prov:endTime", ended)
    return "activity", name, {**moment, **_described((f"fedwitness:{kind}",), values)}


def _agent(address: str, values: _Values | None = None, label: str = "") -> _Statement:
    known = {"address": address, **(values or {})}
    return "agent", f"party-{address}", _described(("fedwitness:Party",), known, label)


def _described(kinds: tuple[str, ...], values: _Values, label: str = "") -> dict[str, object]:
    types = [_qualified(kind) for kind in kinds]
    told: dict[str, object] = {"prov:type": types[0] if len(types) == 1 else types}
    if label:
        told["prov:label"] = label
    # None and empty lists have no form in PROV: what is not known is not said.
    return told | {
        f"fedwitness:{name}": value for name, value in values.items() if value not in (None, [])
    }


def _used_update(aggregation: str, verdict: VerdictEntry) -> _Statement:
    update, told = f"update-{verdict.round}-{verdict.hospital}", flat(verdict)
    values = {name: told[name] for name in told if name not in ("round", "hospital", "task")}
    return _relation("used", values, activity=aggregation, entity=update)


def _used_model(activity: str, digest: bytes) -> _Statement:
    role = {"prov:role": _qualified("fedwitness:base_model")}
    return _relation("used", role, activity=activity, entity=f"model-{digest.hex()}")


def _generated(
    entity: str, activity: str, seconds: int, values: _Values | None = None
) -> _Statement:
    told = {**_time("prov:time", seconds), **(values or {})}
    return _relation("wasGeneratedBy", told, entity=entity, activity=activity)


def _attributed(entity: str, address: str) -> _Statement:
    return _relation("wasAttributedTo", entity=entity, agent=f"party-{address}")


def _associated(activity: str, address: str, role: str, plan: str = "") -> _Statement:
    ends = {"activity": activity, "agent": f"party-{address}"} | ({"plan": plan} if plan else {})
    told = {"prov:role": _qualified(f"fedwitness:{role}")}
    return _relation("wasAssociatedWith", told, **ends)


def _derived(
    made: str, source: str, activity: str = "", kind: str = "", values: _Values | None = None
) -> _Statement:
    ends = {"generatedEntity": made, "usedEntity": source}
    ends |= {"activity": activity} if activity else {}
    told = {**({"prov:type": _qualified(kind)} if kind else {}), **(values or {})}
    return _relation("wasDerivedFrom", told, **ends)


def _relation(group: str, values: _Values | None = None, **ends: str) -> _Statement:
    told: dict[str, object] = {f"prov:{end}": f"ledger:{name}" for end, name in ends.items()}
    for name, value in (values or {}).items():
        if value not in (None, []):
            told[name if ":" in name else f"fedwitness:{name}"] = value
    return group, "", told


def _qualified(name: str) -> dict[str, str]:
    return {"$": name, "type": "prov:QUALIFIED_NAME"}


def _time(name: str, seconds: int) -> dict[str, object]:
    """Give a moment, or nothing where the chain's clock is beyond what a calendar holds."""
    try:
        return {name: datetime.fromtimestamp(seconds, UTC).isoformat()}
    except (OverflowError, ValueError, OSError):
        return {}
