"""Rounds, driven by the ledger: whatever is to be done next follows from what it says now.

Nothing is remembered between two steps but caches that may be lost. So an aggregator that was
killed at any point goes on from the chain and IPFS alone, and proposes the same model, since
`aggregator.replay` gives the same bytes again (docs/protocol.md, sections 7 and 10).
"""

import shutil
from collections.abc import Callable
from dataclasses import dataclass
from enum import Enum
from pathlib import Path
from threading import Event
from typing import TypeAlias

from aggregator.admission import require_finite
from aggregator.descent import Descent, require_unhindered
from aggregator.pipeline import parse_pipeline
from aggregator.progress import ProgressCallback, unheard
from aggregator.replay import RoundResult, judge_and_aggregate
from aggregator.settings import AggregatorSettings
from chain.addresses import address_order
from chain.blob_store import BlobStore
from chain.cid import Cid
from chain.digests import content_digest
from chain.errors import (
    BlobUnavailableError,
    ContractRevertedError,
    InvalidInputError,
    LedgerError,
    UnfitRoundError,
    UnknownRoundError,
    VerificationError,
)
from chain.files import private_folder
from chain.ledger import Ledger
from chain.merkle import verdicts_root
from chain.schema import MAX_MODEL, read_schema
from chain.tensors import open_tensors
from chain.types import Phase, Round, RoundTerms

# Refusals that say only that the ledger was read a moment too early or too late.
_RACES = frozenset(
    {
        "RoundLedgerStillCollecting",
        "RoundLedgerVerdictMissing",
        "RoundLedgerUnexpectedPhase",
        "RoundLedgerRoundActive",
        "RoundLedgerBaseModelMismatch",
    }
)
_ENDED = frozenset({Phase.FINAL, Phase.ABORTED})


class Action(Enum):
    """What one step of the aggregator came to."""

    OPENED = "opened"
    WAITED_FOR_RECORDS = "waited for records"
    PROPOSED = "proposed"
    WAITED_FOR_WITNESSES = "waited for witnesses"
    WAITED_FOR_STEWARD = "waited for the steward"
    WAITED_FOR_NETWORK = "waited for chain, IPFS or disk"
    FINAL = "final"
    ABORTED = "aborted"


@dataclass(frozen=True, slots=True)
class Step:
    """One step: the round (0 where none is known), what came of it, and a sentence for people."""

    round: int
    action: Action
    told: str


StepCallback: TypeAlias = Callable[[Step], None]


@dataclass(frozen=True, slots=True)
class RoundPlan:
    """What the rounds of a task have in common.

    Args:
        task: The task's name.
        purpose: Number of the Data Use Ontology term.
        rule: The pipeline in canonical JSON.
        min_updates: How many updates must be kept.
        max_updates: How many records end the collecting.
        quorum: How many equal attestations make a round final.
        collecting_seconds: From opening to the deadline.
        witnesses: Who may attest, in any order.
        despite: Data-set versions with whose withdrawal the federation has agreed to go on.
    """

    task: str
    purpose: int
    rule: str
    min_updates: int
    max_updates: int
    quorum: int
    collecting_seconds: int
    witnesses: tuple[str, ...]
    despite: frozenset[bytes] = frozenset()


def open_round(
    ledger: Ledger,
    blobs: BlobStore,
    plan: RoundPlan,
    genesis: Path | None,
    descent: Descent | None = None,
) -> int:
    """Open a task's next round on its last final model, or on `genesis` where there is none.

    What the base model descends from is read from the chain, which no index can hide.

    Args:
        ledger: Signs as the aggregator.
        blobs: Where models lie.
        plan: What the round is opened with.
        genesis: The task's first model.
        descent: What was read of the chain before, which saves reading it anew.

    Returns:
        The round's number.

    Raises:
        InvalidInputError: If the pipeline is malformed or needs more updates than the round is
            content with, or there is neither a final model nor a genesis, or nothing to train; or
            if the base model descends from data that were withdrawn, or do not permit the purpose.
        BlobUnavailableError: If the final model cannot be had.
        VerificationError: If the blob store hands over other bytes.
        ContractRevertedError: If the ledger refuses the terms, such as while a round is active.
    """
    _require_safe(plan)
    model, blob, schema = _base_model(ledger, blobs, plan.task, genesis)
    _require_permitted(ledger, plan, model, Descent() if descent is None else descent)
    return ledger.open_round(
        RoundTerms(
            task=plan.task,
            purpose=plan.purpose,
            base_model=model,
            base_blob=blob,
            schema=schema,
            rule=plan.rule,
            min_updates=plan.min_updates,
            max_updates=plan.max_updates,
            quorum=plan.quorum,
            deadline=ledger.next_timestamp() + plan.collecting_seconds,
            witnesses=tuple(sorted(plan.witnesses, key=address_order)),
        )
    )


def _require_safe(plan: RoundPlan) -> None:
    pipeline = parse_pipeline(plan.rule)
    if pipeline.least_kept > plan.min_updates:
        raise InvalidInputError(
            f"the pipeline {plan.rule} needs at least {pipeline.least_kept} updates, but the round "
            f"would be content with {plan.min_updates}: raise the least number of updates, or "
            "lower f"
        )
    # Were a screen allowed to leave fewer than the round asks for, it could spoil every round.
    admitted = pipeline.least_admitted(plan.min_updates)
    if admitted > plan.max_updates:
        raise InvalidInputError(
            f"the pipeline {plan.rule} needs at least {admitted} updates for its screens to pass "
            f"{plan.min_updates}, but the round takes {plan.max_updates} at most: raise the "
            "greatest number of updates, or lower f"
        )


def _require_permitted(ledger: Ledger, plan: RoundPlan, model: bytes, descent: Descent) -> None:
    descent.read_on(ledger)
    last = descent.last_final(plan.task)
    made_in = descent.made_in(model) if last is None else last
    if made_in is not None:
        require_unhindered(descent, made_in, plan.purpose, plan.despite)


def advance(
    ledger: Ledger,
    blobs: BlobStore,
    round_number: int,
    *,
    private_key: bytes,
    settings: AggregatorSettings,
    progress: ProgressCallback = unheard,
) -> Step:
    """Do what the round needs next from its aggregator; done twice, it changes nothing more.

    A round that another aggregator opened is left to that one: any of them can take a task's turn.

    Args:
        ledger: Signs as the round's aggregator.
        blobs: Where envelopes and models lie.
        round_number: The round.
        private_key: The aggregator's X25519 key.
        settings: The working folder and the number of threads.
        progress: Called as judging moves on.

    Raises:
        UnknownRoundError: If there is no such round.
        LedgerError: If the chain refuses or cannot be reached.
        BlobUnavailableError: If IPFS cannot be reached or has not the base model.
        OSError: If the disk is full.
    """
    round_ = ledger.round(round_number)
    workdir = private_folder(settings.workdir) / f"round-{round_number}"

    def judge() -> RoundResult:
        return judge_and_aggregate(
            ledger,
            blobs,
            round_number,
            private_key=private_key,
            workdir=workdir,
            target=private_folder(workdir) / "model.safetensors",
            threads=settings.threads,
            progress=progress,
        )

    if round_.aggregator != ledger.account_address and round_.phase not in _ENDED:
        told = f"opened by {round_.aggregator}, who leads it until it ends or a steward aborts it"
        return Step(round_number, Action.WAITED_FOR_STEWARD, told)
    match round_.phase:
        case Phase.OPEN | Phase.COLLECTING if is_collecting(round_, ledger.next_timestamp()):
            return _waited_for_records(round_)
        case Phase.OPEN | Phase.COLLECTING:
            return _end_collecting(ledger, blobs, round_, judge)
        case Phase.PROPOSED if round_.disputed:
            return _answer_dispute(ledger, blobs, round_, judge)
        case Phase.PROPOSED:
            told = f"{round_.attestations} of {round_.terms.quorum} attestations"
            return Step(round_number, Action.WAITED_FOR_WITNESSES, told)
        case Phase.FINAL | Phase.ABORTED:
            shutil.rmtree(workdir, ignore_errors=True)
            return _ended(round_)
    raise UnknownRoundError(f"the ledger has no round {round_number}")


def is_collecting(round_: Round, timestamp: int) -> bool:
    """Tell whether a block of this time would still take a record."""
    return round_.updates < round_.terms.max_updates and timestamp <= round_.terms.deadline


def run(
    ledger: Ledger,
    blobs: BlobStore,
    plan: RoundPlan,
    *,
    rounds: int,
    genesis: Path | None,
    private_key: bytes,
    settings: AggregatorSettings,
    stop: Event,
    told: StepCallback,
    progress: ProgressCallback = unheard,
) -> None:
    """Lead a task until the ledger has had `rounds` rounds of it, final or aborted.

    A chain or IPFS node that cannot be reached, a node that gives other bytes and a disk that is
    full are waited for.

    Args:
        ledger: Signs as the aggregator.
        blobs: Where envelopes and models lie.
        plan: What each round is opened with.
        rounds: How many rounds the task shall have, those of earlier runs included.
        genesis: The model that the first round starts from.
        private_key: The aggregator's X25519 key.
        settings: Working folder, threads and poll interval.
        stop: Ends the loop after the step in work.
        told: Called with each step that differs from the one before.
        progress: Called as judging moves on.

    Raises:
        ContractRevertedError: If the ledger refuses what the aggregator wants to do.
        InvalidInputError: If the plan is malformed, or the task's last model descends from data
            that were withdrawn or do not permit the purpose.
    """
    descent = Descent()
    last: Step | None = None
    settled: Round | None = None
    current: int | None = None

    def advanced(number: int) -> Step:
        try:
            return advance(
                ledger,
                blobs,
                number,
                private_key=private_key,
                settings=settings,
                progress=progress,
            )
        except OSError as error:
            # Here and not below: a genesis that cannot be read will never be.
            return Step(number, Action.WAITED_FOR_NETWORK, str(error))

    while not stop.is_set():
        try:
            # A chain that was killed may have forgotten the very round that is waited for.
            ledger.resend_lost()
            active = ledger.active_round(plan.task)
            if active is not None and active == settled:
                stop.wait(settings.poll_seconds)
                continue
            if active is not None and current in {None, active.number}:
                current = active.number
                step = advanced(current)
                settled = active if step.action is Action.WAITED_FOR_STEWARD else None
            elif current is not None:
                step, current = advanced(current), None
            elif len(ledger.task_rounds(plan.task)) < rounds:
                current = open_round(ledger, blobs, plan, genesis, descent)
                step = Step(current, Action.OPENED, f"open for {plan.collecting_seconds} seconds")
            else:
                return
        except ContractRevertedError as error:
            if error.name not in _RACES:
                raise
            step = Step(current or 0, Action.WAITED_FOR_NETWORK, str(error))
        except UnknownRoundError as error:
            step, current = Step(current or 0, Action.WAITED_FOR_NETWORK, str(error)), None
        except (LedgerError, BlobUnavailableError, VerificationError) as error:
            step = Step(current or 0, Action.WAITED_FOR_NETWORK, str(error))
        if step != last:
            told(step)
            last = step
        if step.action.name.startswith("WAITED"):
            stop.wait(settings.poll_seconds)


def _base_model(
    ledger: Ledger, blobs: BlobStore, task: str, genesis: Path | None
) -> tuple[bytes, bytes, bytes]:
    """Return the digests of base model, blob and schema that the next round must have."""
    final = ledger.last_final(task)
    if final is not None:
        model, blob, _ = final
        # Not that of the last round's terms: a server optimiser adds its state to a model.
        found = read_schema(blobs.stream(Cid.from_blob_digest(blob), MAX_MODEL))
        return model, blob, found.digest()
    if genesis is None:
        raise InvalidInputError(
            f"the task {task!r} has no final model yet: give its first one, with --model"
        )
    with open_tensors(genesis) as tensors:
        tensors.schema.trained()  # refuses a model in which hospitals find nothing to train
        require_finite("first model", tensors)
        schema = tensors.schema.digest()
    return content_digest(genesis), blobs.put(genesis).digest, schema


def _waited_for_records(round_: Round) -> Step:
    told = f"{round_.updates} of at most {round_.terms.max_updates} records"
    return Step(round_.number, Action.WAITED_FOR_RECORDS, told)


def _end_collecting(
    ledger: Ledger, blobs: BlobStore, round_: Round, judge: Callable[[], RoundResult]
) -> Step:
    try:
        _require_records(round_)
        return _propose(ledger, blobs, round_, judge())
    except UnfitRoundError as error:
        ledger.abort(round_.number, str(error))
        return Step(round_.number, Action.ABORTED, str(error))


def _require_records(round_: Round) -> None:
    least = round_.terms.min_updates
    if round_.updates < least:
        raise UnfitRoundError(f"expected at least {least} records, found {round_.updates}")


def _propose(ledger: Ledger, blobs: BlobStore, round_: Round, result: RoundResult) -> Step:
    blob = blobs.put(result.model_path)
    try:
        ledger.propose(round_.number, result.model_digest, blob.digest, result.verdicts)
    except ContractRevertedError as error:
        if error.name not in _RACES:
            raise
        return Step(round_.number, Action.WAITED_FOR_RECORDS, str(error))
    return Step(round_.number, Action.PROPOSED, f"model {result.model_digest.hex()}")


def _answer_dispute(
    ledger: Ledger, blobs: BlobStore, round_: Round, judge: Callable[[], RoundResult]
) -> Step:
    """Propose anew where the aggregator now comes to something else, and only then."""
    proposal = round_.proposal
    try:
        result = judge()
    except UnfitRoundError as error:
        told = f"the round makes no model ({error}): a steward has to abort it"
        return Step(round_.number, Action.WAITED_FOR_STEWARD, told)
    root = verdicts_root(round_.number, result.verdicts)
    # The witness may only have failed to fetch the model: what is there already stays there.
    blob = blobs.put(result.model_path).digest
    now = (result.model_digest, blob, root)
    if proposal is None or now != (proposal.model, proposal.model_blob, proposal.verdicts):
        return _propose(ledger, blobs, round_, result)
    told = f"proposal {proposal.number} is disputed, but a second computation confirms it"
    return Step(round_.number, Action.WAITED_FOR_STEWARD, f"{told}: a steward has to decide")


def _ended(round_: Round) -> Step:
    if round_.phase is Phase.FINAL and round_.proposal is not None:
        return Step(round_.number, Action.FINAL, f"model {round_.proposal.model.hex()}")
    return Step(round_.number, Action.ABORTED, "the task's model stays as it was")
