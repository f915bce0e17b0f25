"""The disputes of a round, with what each witness gave as evidence; nothing is recomputed."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from audit.evidence import MAX_EVIDENCE, Evidence, parse_evidence
from chain.blob_store import BlobStore
from chain.cid import Cid
from chain.errors import BlobUnavailableError, InvalidInputError, VerificationError
from chain.reader import LedgerReader
from chain.structs import Dispute
from chain.types import Phase, Round
from chain.wire import to_json_dict

_NOTHING = bytes(32)


@dataclass(frozen=True, slots=True)
class TracedDispute:
    """A dispute and its evidence.

    Attributes:
        round: The round.
        phase: Where the round stands now.
        newest: Whether the disputed proposal is the round's newest one.
        dispute: What the ledger holds of it.
        evidence: What the witness gave, None where that cannot be had or read.
        faults: Why there is none, or in what it is not this dispute's.
    """

    round: int
    phase: Phase
    newest: bool
    dispute: Dispute
    evidence: Evidence | None
    faults: tuple[str, ...]

    def to_dict(self) -> dict[str, Any]:
        """Give the JSON form."""
        return {
            "round": self.round,
            "phase": self.phase.name,
            "newest": self.newest,
            **to_json_dict(self.dispute),
            "evidence": None if self.evidence is None else self.evidence.to_dict(),
            "evidence_blob": str(Cid.from_blob_digest(self.dispute.evidence)),
            "faults": list(self.faults),
        }


def trace_disputes(
    reader: LedgerReader, blobs: BlobStore, number: int
) -> tuple[TracedDispute, ...]:
    """Read a round's disputes, in the order of the ledger, and fetch their evidence.

    Args:
        reader: The ledger.
        blobs: Where the evidence lies.
        number: The round.

    Raises:
        UnknownRoundError: If there is no such round.
        LedgerError: If the chain cannot be read.
    """
    disputes = reader.disputes(number)
    if not disputes:
        return ()
    round_ = reader.round(number)
    newest = 0 if round_.proposal is None else round_.proposal.number
    traced = []
    for dispute in disputes:
        evidence, faults = None, []
        try:
            evidence = parse_evidence(
                blobs.get(Cid.from_blob_digest(dispute.evidence), MAX_EVIDENCE)
            )
        except (BlobUnavailableError, InvalidInputError, VerificationError) as error:
            faults.append(str(error))
        else:
            faults += _contradictions(reader, round_, dispute, evidence)
        is_newest = dispute.proposal == newest
        traced.append(
            TracedDispute(number, round_.phase, is_newest, dispute, evidence, tuple(faults))
        )
    return tuple(traced)


def _contradictions(
    reader: LedgerReader, round_: Round, dispute: Dispute, evidence: Evidence
) -> Iterator[str]:
    """Say in what evidence is not that of a dispute."""
    place = (reader.chain_id, reader.address, round_.number, dispute.proposal)
    told = (evidence.chain_id, evidence.ledger, evidence.round, evidence.proposal.number)
    if told != place:
        yield (
            f"expected evidence for chain {place[0]}, ledger {place[1]}, round {place[2]}, "
            f"proposal {place[3]}, found that for {told[0]}, {told[1]}, {told[2]}, {told[3]}"
        )
        return
    newest = round_.proposal
    if newest is not None and newest.number == dispute.proposal and newest != evidence.proposal:
        yield f"expected evidence against the model {newest.model.hex()}, found another proposal"
    # A witness that lacks only the proposed model's blob names no model in its dispute.
    if dispute.model not in {evidence.model, _NOTHING}:
        yield f"expected evidence for the model {dispute.model.hex()}, found {evidence.model.hex()}"
    if dispute.verdicts != evidence.verdicts_root:
        root = evidence.verdicts_root.hex()
        yield f"expected evidence for the verdicts {dispute.verdicts.hex()}, found {root}"
