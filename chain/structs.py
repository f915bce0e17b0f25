"""Our values as the contracts' structs, and the contracts' answers as our values.

Both directions, without a chain. See `contracts/interfaces` for the structs and their members.
"""

from collections.abc import Mapping, Sequence
from dataclasses import astuple, dataclass, replace
from typing import Any

from chain.errors import InvalidInputError
from chain.events import Log
from chain.readings import ReadingTerms, RequestTerms
from chain.types import (
    AccessGrant,
    AnchoredBatch,
    CosignedHead,
    DatasetState,
    DatasetTerms,
    DatasetVersion,
    LedgerHead,
    LogPosition,
    Outcome,
    Proposal,
    Reason,
    RecordedUpdate,
    RoundTerms,
    Tally,
    UpdateRecord,
    Verdict,
)

_MODALITY_BYTES = 16
NOBODY = "0x" + "00" * 20
_PURPOSES = 48  # bits of a version's permissions (protocol 4.3)
ALL_PURPOSES = (1 << _PURPOSES) - 1  # as bits


@dataclass(frozen=True, slots=True)
class Dispute:
    """A witness's word that it got another result than a proposal (protocol 10)."""

    witness: str
    proposal: int
    model: bytes
    verdicts: bytes
    evidence: bytes
    position: LogPosition


def record_values(record: UpdateRecord) -> tuple[object, ...]:
    """Put a record's fields into the order of the contract's struct."""
    return (
        record.chain_id,
        record.ledger,
        record.round,
        record.hospital,
        record.datasets,
        record.purpose,
        record.examples,
        record.base_model,
        record.update,
        record.blob,
        record.code,
        record.epsilon,
        record.delta,
    )


def round_values(terms: RoundTerms) -> tuple[object, ...]:
    """Put a round's terms into the order of the contract's struct."""
    return (
        terms.task,
        terms.purpose,
        terms.base_model,
        terms.base_blob,
        terms.schema,
        terms.rule,
        terms.min_updates,
        terms.max_updates,
        terms.quorum,
        terms.deadline,
        terms.witnesses,
    )


def dataset_values(terms: DatasetTerms) -> tuple[object, ...]:
    """Put a version's terms into the order of the contract's struct.

    Raises:
        InvalidInputError: If modality or purposes cannot be written so.
    """
    return (
        terms.name,
        terms.merkle_root,
        terms.images,
        _modality(terms.modality),
        purpose_bits(terms.purposes),
        terms.profile,
        terms.attestation,
        terms.previous,
    )


def verdict_values(verdicts: Sequence[Verdict]) -> list[tuple[object, ...]]:
    """Put verdicts into the order of the contract's struct, which is ours."""
    return [astuple(verdict) for verdict in verdicts]


def head_values(head: LedgerHead) -> tuple[object, ...]:
    """Put a ledger's head into the order of the contract's struct."""
    return (head.round, head.number, head.hash, head.blocks, head.history)


def purpose_bits(purposes: frozenset[int]) -> int:
    """Write purposes as the contract does: bit n stands for DUO:000000n.

    Raises:
        InvalidInputError: If one is out of range.
    """
    if not all(0 <= purpose < _PURPOSES for purpose in purposes):
        raise InvalidInputError(
            f"expected purposes from 0 to {_PURPOSES - 1}, found {sorted(purposes)}"
        )
    return sum(1 << purpose for purpose in purposes)


def purpose_numbers(bits: int) -> frozenset[int]:
    """Read purposes that the contract holds as bits."""
    return frozenset(number for number in range(_PURPOSES) if bits >> number & 1)


def modality_text(modality: bytes) -> str:
    """Read a DICOM modality that the contract holds as 16 bytes, of which anyone chose each."""
    return modality.rstrip(b"\0").decode("ascii", "backslashreplace")


def round_terms(terms: Mapping[str, Any]) -> RoundTerms:
    """Read the terms of a RoundOpened log."""
    return RoundTerms(
        task=terms["task"],
        purpose=terms["purpose"],
        base_model=terms["baseModel"],
        base_blob=terms["baseBlob"],
        schema=terms["schema"],
        rule=terms["rule"],
        min_updates=terms["minUpdates"],
        max_updates=terms["maxUpdates"],
        quorum=terms["quorum"],
        deadline=terms["deadline"],
        witnesses=terms["witnesses"],
    )


def proposal(state: Mapping[str, Any]) -> Proposal | None:
    """Read the newest proposal of a round's state, None before the first."""
    if not state["proposal"]:
        return None
    return Proposal(state["proposal"], state["model"], state["modelBlob"], state["verdicts"])


def recorded_update(chain_id: int, ledger: str, terms: RoundTerms, log: Log) -> RecordedUpdate:
    """Rebuild a whole update record from its UpdateRecorded log and its round's terms."""
    args = log.args
    record = UpdateRecord(
        chain_id=chain_id,
        ledger=ledger,
        round=args["round"],
        hospital=args["hospital"],
        datasets=args["datasets"],
        purpose=terms.purpose,
        examples=args["examples"],
        base_model=terms.base_model,
        update=args["update"],
        blob=args["blob"],
        code=args["code"],
        epsilon=args["epsilon"],
        delta=args["delta"],
    )
    return RecordedUpdate(record, args["recordDigest"], log.position)


def verdict(args: Mapping[str, Any]) -> Verdict:
    """Read a VerdictRecorded log."""
    return Verdict(
        hospital=args["hospital"],
        outcome=Outcome(args["outcome"]),
        reason=Reason(args["reason"]),
        score=args["score"],
        threshold=args["threshold"],
        content=args["content"],
    )


def tally(found: Mapping[str, Any]) -> Tally:
    """Read a hospital's tally."""
    return Tally(found["accepted"], found["clipped"], found["rejected"])


def dispute(log: Log) -> Dispute:
    """Read a ProposalDisputed log."""
    return Dispute(
        witness=log.args["witness"],
        proposal=log.args["proposal"],
        model=log.args["model"],
        verdicts=log.args["verdicts"],
        evidence=log.args["evidence"],
        position=log.position,
    )


def cosigned_head(args: Mapping[str, Any]) -> CosignedHead:
    """Read a HeadCosigned log."""
    return CosignedHead(
        head=LedgerHead(
            round=args["round"],
            number=args["number"],
            hash=args["hash"],
            blocks=args["blocks"],
            history=args["history"],
        ),
        witness=args["witness"],
        signature=args["signature"],
    )


def dataset_version(version: bytes, found: Mapping[str, Any]) -> DatasetVersion:
    """Read a registered version, from the registry's view or put together from its logs."""
    return DatasetVersion(
        version=version,
        dataset=found["dataset"],
        hospital=found["hospital"],
        state=DatasetState(found["state"]),
        merkle_root=found["merkleRoot"],
        images=found["images"],
        modality=modality_text(found["modality"]),
        purposes=purpose_numbers(found["purposes"]),
        profile=found["profile"],
        attestation=found["attestation"],
        previous=found["previous"],
    )


def access_grant(args: Mapping[str, Any], *, revoked: bool, live: bool) -> AccessGrant:
    """Read a grant from its AccessGranted log and what the contract says of it now."""
    return AccessGrant(
        grant=args["grantId"],
        version=args["version"],
        image=args["image"] if any(args["image"]) else None,
        hospital=args["hospital"],
        researcher=args["researcher"],
        purpose=args["purpose"],
        expiry=args["expiry"],
        revoked=revoked,
        live=live,
    )


def grant_values(args: Mapping[str, Any]) -> tuple[object, ...]:
    """Arrange what a grant says for `ImageAccess`, from its AccessGranted log."""
    names = ("version", "image", "hospital", "researcher", "purpose", "expiry")
    return tuple(args[name] for name in names)


def anchored_batch(log: Log) -> AnchoredBatch:
    """Read a LogAnchored log."""
    return AnchoredBatch(
        hospital=log.args["hospital"],
        batch=log.args["batch"],
        root=log.args["root"],
        first=log.args["first"],
        entries=log.args["entries"],
        position=log.position,
    )


def reading_values(terms: ReadingTerms) -> tuple[object, ...]:
    """Put a reading's terms into the order of the contract's struct, which is ours."""
    return astuple(terms)


def reading_terms(args: Mapping[str, Any]) -> ReadingTerms:
    """Read the terms of a ReadingRecorded log."""
    return ReadingTerms(
        version=args["version"],
        image=args["image"],
        hospital=args["hospital"],
        opinion_on=args["opinionOn"],
        document=args["document"],
        blob=args["blob"],
    )


def request_values(terms: RequestTerms) -> tuple[object, ...]:
    """Put a request's terms into the order of the contract's struct, which is ours."""
    return astuple(replace(terms, reader=terms.reader or NOBODY))


def request_terms(args: Mapping[str, Any]) -> RequestTerms:
    """Read the terms of a ReadingRequested log."""
    return RequestTerms(
        version=args["version"],
        image=args["image"],
        hospital=args["hospital"],
        reader=args["reader"] if args["reader"] != NOBODY else None,
        opinion_on=args["opinionOn"],
        take_by=args["takeBy"],
        fulfil_by=args["fulfilBy"],
        question=args["question"],
    )


def _modality(modality: str) -> bytes:
    if not modality.isascii() or len(modality) > _MODALITY_BYTES:
        raise InvalidInputError(
            f"expected a DICOM modality of at most {_MODALITY_BYTES} ASCII letters, "
            f"found {modality!r:.80}"
        )
    return modality.encode("ascii").ljust(_MODALITY_BYTES, b"\0")
