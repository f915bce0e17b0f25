"""What on the chain a person should look at: clocks and orders that are possible, yet odd.

Most of it the contracts rule out; where it is in the log all the same, the chain's node does not
tell what the contracts did. All follows from the events alone, in their order, so that whoever
reads the chain comes to the same list.
"""

from collections.abc import Mapping
from enum import Enum
from typing import Any

from aggregator.tables import (
    DAY,
    HEAD,
    IndexHead,
    OddityCountRow,
    OddityRow,
    ProposalRow,
    RoundWitnessRow,
)
from aggregator.writing import Writing
from chain.events import LedgerEvent
from chain.types import Phase


class Oddity(Enum):
    """What was odd; the value is the word in the index and in answers."""

    LATE_RECORD = "late_record"  # recorded when a block's time was past the deadline
    OUT_OF_ORDER = "out_of_order"  # an event in a phase, or of a proposal, that has none such
    TIME_WENT_BACK = "time_went_back"  # a block's time is before an earlier block's
    TIME_JUMPED = "time_jumped"  # a block's time is over a day after the block right before it
    HASTY_ATTESTATION = "hasty_attestation"  # in the block of the proposal: nobody can recompute so
    UNNAMED_WITNESS = "unnamed_witness"  # a word of a party that the round does not name
    UNATTESTED_FINAL = "unattested_final"  # final with fewer attestations than the quorum
    DISPUTED_FINAL = "disputed_final"  # final though its newest proposal is disputed
    DISPUTED_PROPOSAL = "disputed_proposal"  # a witness got something else


def notice(
    writing: Writing,
    event: LedgerEvent,
    oddity: Oddity,
    expected: str,
    found: str,
    *,
    round_number: int | None = None,
    subject: str | None = None,
) -> None:
    """Write down that an event is odd, with what was expected and what was found, in words."""
    writing.add(
        OddityRow,
        {
            "block": event.position.block,
            "log_index": event.position.log_index,
            "transaction": event.position.transaction,
            "kind": oddity.value,
            "round": round_number,
            "subject": subject,
            "expected": expected,
            "found": found,
            "noticed_at": event.timestamp,
        },
    )
    writing.count(OddityCountRow, (oddity.value,), "found")


def check_time(writing: Writing, event: LedgerEvent) -> None:
    """Hold a block's time against that of the block with an event before it."""
    head = writing.find(IndexHead, HEAD)
    block, now = event.position.block, event.timestamp
    if head is None or head["event_block"] == block:
        return
    if head["event_block"] is not None:
        last, before = head["event_block"], head["event_time"]
        if now < before:
            expected = f"{before} or later, the time of block {last}"
            notice(writing, event, Oddity.TIME_WENT_BACK, expected, f"{now} in block {block}")
        elif now - before > DAY and block == last + 1:
            expected = f"about {before}, the time of the block before"
            notice(writing, event, Oddity.TIME_JUMPED, expected, f"{now} in block {block}")
    writing.change(IndexHead, (HEAD,), event_block=block, event_time=now)


def check_phase(
    writing: Writing, event: LedgerEvent, found: Mapping[str, Any] | None, *phases: Phase
) -> None:
    """Hold an event of a round against the phases in which it can happen."""
    number = event.args["round"]
    if found is None:
        expected, told = "a round that was opened", f"{event.name} of another"
    elif found["phase"] not in phases:
        expected = " or ".join(phase.name for phase in phases)
        told = f"{event.name} when it was {Phase(found['phase']).name}"
    else:
        return
    notice(writing, event, Oddity.OUT_OF_ORDER, expected, told, round_number=number)


def check_record(writing: Writing, event: LedgerEvent, found: Mapping[str, Any] | None) -> None:
    """Hold a record against its round's deadline."""
    check_phase(writing, event, found, Phase.OPEN, Phase.COLLECTING)
    if found is not None and event.timestamp > found["deadline"]:
        notice(
            writing,
            event,
            Oddity.LATE_RECORD,
            f"no record after {found['deadline']}",
            f"one at {event.timestamp}",
            round_number=event.args["round"],
            subject=event.args["hospital"],
        )


def check_word(writing: Writing, event: LedgerEvent, found: Mapping[str, Any] | None) -> None:
    """Hold an attestation or dispute against proposal and witnesses of its round."""
    check_phase(writing, event, found, Phase.PROPOSED)
    check_proposal(writing, event, found)
    number, witness = event.args["round"], event.args["witness"]
    place = {"round_number": number, "subject": witness}
    if writing.find(RoundWitnessRow, number, witness) is None:
        expected, told = "a witness that the round names", f"{event.name} of another party"
        notice(writing, event, Oddity.UNNAMED_WITNESS, expected, told, **place)
    if event.name == "ProposalDisputed":
        expected, told = "the proposed model and verdicts", "a witness that computed others"
        notice(writing, event, Oddity.DISPUTED_PROPOSAL, expected, told, **place)
        return
    proposal = writing.find(ProposalRow, number, event.args["proposal"])
    if proposal is not None and proposal["block"] == event.position.block:
        expected, told = "time to recompute the proposal", "an attestation in the proposal's block"
        notice(writing, event, Oddity.HASTY_ATTESTATION, expected, told, **place)


def check_proposal(writing: Writing, event: LedgerEvent, found: Mapping[str, Any] | None) -> None:
    """Hold what an event says of a proposal against the round's newest one."""
    if found is not None and event.args["proposal"] != found["proposal"]:
        notice(
            writing,
            event,
            Oddity.OUT_OF_ORDER,
            f"a word of proposal {found['proposal']}",
            f"{event.name} of proposal {event.args['proposal']}",
            round_number=event.args["round"],
        )


def check_final(writing: Writing, event: LedgerEvent, found: Mapping[str, Any] | None) -> None:
    """Hold a round that became final against its quorum and its disputes."""
    check_phase(writing, event, found, Phase.PROPOSED)
    if found is None:
        return
    number = event.args["round"]
    if found["attestations"] < found["quorum"]:
        expected = f"{found['quorum']} attestations"
        told = f"{found['attestations']}"
        notice(writing, event, Oddity.UNATTESTED_FINAL, expected, told, round_number=number)
    if found["disputed"]:
        expected, told = "an undisputed proposal", f"proposal {found['proposal']}, disputed"
        notice(writing, event, Oddity.DISPUTED_FINAL, expected, told, round_number=number)
