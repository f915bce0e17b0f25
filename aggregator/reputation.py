"""A hospital's standing: what its verdicts come to, and when a repeat offender is shut out.

Everything follows from the verdicts of the task's final rounds, which are on the ledger, and from
the policy, which the round's pipeline holds since the round was opened. So whoever reads the
ledger comes to the same standing (docs/protocol.md, section 9.8).
"""

from collections import Counter, deque
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from aggregator.pipeline import parse_pipeline
from aggregator.quarantine import Quarantine, strikes_of
from chain.addresses import address_order
from chain.errors import InvalidInputError, LedgerError
from chain.ledger_view import LedgerView
from chain.types import Outcome, Phase, Reason, Tally, Verdict


@dataclass(frozen=True, slots=True)
class FinalRound:
    """A final round's verdicts, those of the proposal that became final."""

    number: int
    verdicts: tuple[Verdict, ...]


@dataclass(frozen=True, slots=True)
class ReasonCount:
    """How many of a hospital's updates came to an outcome for a reason."""

    outcome: Outcome
    reason: Reason
    updates: int


@dataclass(frozen=True, slots=True)
class Standing:
    """What a hospital's verdicts come to, before the task's next round is judged.

    Args:
        hospital: Its EIP-55 address.
        accepted: How many of its updates were accepted in the task's final rounds.
        clipped: How many were clipped.
        rejected: How many were rejected.
        reasons: Why, for all that were not accepted; ascending by outcome and code.
        strikes: In millionths: those in its window, or those that its quarantine is for. 0 where
            there is no policy.
        quarantined: Whether its next record is to be rejected.
        rounds_left: For how many more final rounds of the task it is quarantined.
    """

    hospital: str
    accepted: int
    clipped: int
    rejected: int
    reasons: tuple[ReasonCount, ...]
    strikes: int
    quarantined: bool
    rounds_left: int


@dataclass(frozen=True, slots=True)
class Reputation:
    """The standing of all hospitals in a task.

    Args:
        task: Its name.
        rounds: How many of its rounds are final.
        policy: That of its latest round which was not aborted, None where that has none.
        hospitals: Ascending by address; those with a verdict in a final round.
    """

    task: str
    rounds: int
    policy: Quarantine | None
    hospitals: tuple[Standing, ...]


class CountingLedger(LedgerView, Protocol):
    """A ledger that also answers what it counted itself, as one on a chain does."""

    @property
    def deployed_at(self) -> int:
        """The block that the federation's first contract was deployed in."""
        ...

    def tally(self, task_name: str, hospital: str) -> Tally:
        """Ask what became of a hospital's updates in the final rounds of a task."""
        ...


def standings(history: Sequence[FinalRound], policy: Quarantine | None) -> dict[str, Standing]:
    """Fold a task's final rounds into the standing of each hospital.

    Args:
        history: All final rounds of the task so far, in their order.
        policy: That of the round to be judged; None to count only.

    Returns:
        A standing for each hospital with a verdict, ascending by address. A hospital that is not
        in it is not quarantined.
    """
    conducts: dict[str, _Conduct] = {}
    for place, final in enumerate(history, 1):
        for verdict in final.verdicts:
            conduct = conducts.setdefault(verdict.hospital, _Conduct(policy))
            conduct.enter(place, verdict)
    return {
        hospital: conducts[hospital].standing(hospital, len(history) + 1)
        for hospital in sorted(conducts, key=address_order)
    }


def verdict_history(
    reader: LedgerView, task: str, before_round: int | None = None
) -> tuple[FinalRound, ...]:
    """Read the verdicts of a task's final rounds from the ledger, in the order of the rounds.

    A task has one round at a time, so from a round's opening on this is the same for everyone.

    Args:
        reader: The ledger.
        task: The task's name.
        before_round: Only of rounds before this one; None for all.

    Raises:
        LedgerError: If the chain cannot be read.
    """
    history = []
    for number in reader.task_rounds(task):
        if before_round is not None and number >= before_round:
            break
        found = reader.round(number)
        if found.phase is Phase.FINAL and found.proposal is not None:
            verdicts = reader.verdicts(number, found.proposal.number)
            history.append(FinalRound(number, verdicts))
    return tuple(history)


def reputation(task: str, history: Sequence[FinalRound], pipeline: str | None) -> Reputation:
    """Tell the standing of all hospitals in a task, for people to look at.

    Args:
        task: The task's name.
        history: All of its final rounds, in their order.
        pipeline: That of its latest round. One that cannot be read counts as one without a
            policy: nobody can judge a round by it either.
    """
    try:
        policy = None if pipeline is None else parse_pipeline(pipeline).quarantine
    except InvalidInputError:
        policy = None
    return Reputation(task, len(history), policy, tuple(standings(history, policy).values()))


def read_reputation(reader: CountingLedger, task: str) -> Reputation:
    """Read the standing of all hospitals in a task from the ledger.

    The policy is that of the task's latest round which was not aborted. What the chain's log shows
    is held against the ledger's own count, so that a log with gaps is not taken for a clean one.

    Raises:
        InvalidInputError: If the ledger has no round of the task.
        LedgerError: If the chain cannot be read, or its log and the ledger's count differ.
    """
    numbers = reader.task_rounds(task)
    if not numbers:
        raise InvalidInputError(f"the ledger {reader.address} has no round of the task {task!r}")
    rounds = map(reader.round, reversed(numbers))
    latest = (one.terms.rule for one in rounds if one.phase is not Phase.ABORTED)
    found = reputation(task, verdict_history(reader, task), next(latest, None))
    for one in found.hospitals:
        tally = reader.tally(task, one.hospital)
        logged = Tally(one.accepted, one.clipped, one.rejected)
        if tally != logged:
            raise LedgerError(
                f"{one.hospital}: the ledger counts {tally}, its log shows {logged}. Does the "
                f"chain's node keep logs from block {reader.deployed_at} on? Where a round became "
                "final just now, ask again"
            )
    return found


class _Conduct:
    """What is kept of one hospital while a history is folded."""

    def __init__(self, policy: Quarantine | None) -> None:
        self._policy = policy
        self._counts: Counter[tuple[Outcome, Reason]] = Counter()
        self._window: deque[int] = deque(maxlen=policy.window if policy else 0)
        self._until = 0  # the last final round, counted from 1, that the quarantine is for
        self._charge = 0  # the strikes that it is for

    def enter(self, place: int, verdict: Verdict) -> None:
        """Take the verdict of the task's final round at this place, counted from 1."""
        self._counts[verdict.outcome, verdict.reason] += 1
        found = strikes_of(verdict)
        if self._policy is None or found is None:
            return
        self._window.append(found)
        strikes = sum(self._window)
        if strikes >= self._policy.threshold:
            self._charge, self._until = strikes, place + self._policy.rounds
            self._window.clear()

    def standing(self, hospital: str, place: int) -> Standing:
        """Tell how the hospital stands before the round at this place."""
        is_quarantined = place <= self._until
        outcomes = Counter[Outcome]()
        for (outcome, _), updates in self._counts.items():
            outcomes[outcome] += updates
        return Standing(
            hospital=hospital,
            accepted=outcomes[Outcome.ACCEPTED],
            clipped=outcomes[Outcome.CLIPPED],
            rejected=outcomes[Outcome.REJECTED],
            reasons=tuple(
                ReasonCount(outcome, reason, self._counts[outcome, reason])
                for outcome, reason in sorted(self._counts)
                if outcome is not Outcome.ACCEPTED
            ),
            strikes=self._charge if is_quarantined else sum(self._window),
            quarantined=is_quarantined,
            rounds_left=self._until - place + 1 if is_quarantined else 0,
        )
