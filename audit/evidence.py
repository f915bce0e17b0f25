"""The evidence of a dispute: what a witness got, at which step, and of what (protocol 10.1).

Pure. A witness writes it, and whoever wants to know why a proposal was disputed reads it, as the
words of a stranger.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from enum import Enum
from types import MappingProxyType
from typing import Any, Final

from audit.verify import Finding
from chain.canonical import canonical_json, parse_json
from chain.errors import InvalidInputError
from chain.types import Phase, Proposal, Reason, RecordedUpdate, Round, Verdict
from chain.wire import MAX_TEXT, from_json_dict, to_json_dict

VERSION = 1
# A round has at most 128 records, of which evidence says less than 2 KiB each.
MAX_EVIDENCE = 1 << 20  # bytes


class ReplayStep(Enum):
    """The steps of a replay, in their order: evidence names the first one that differs."""

    BASE_MODEL = "base_model"
    ADMISSION = "admission"
    QUARANTINE = "quarantine"
    SCREENS_AND_RULE = "screens_and_rule"
    AGGREGATION = "aggregation"
    MODEL_BLOB = "model_blob"


STEP_TITLES: Final[Mapping[ReplayStep, str]] = MappingProxyType(
    {
        ReplayStep.BASE_MODEL: "the base model cannot be had, or is not the round's",
        ReplayStep.ADMISSION: "admission of the updates gives other verdicts",
        ReplayStep.QUARANTINE: "quarantine gives other verdicts",
        ReplayStep.SCREENS_AND_RULE: "the pipeline's screens and rule give other verdicts",
        ReplayStep.AGGREGATION: "the verdicts are right, but the updates come to another model",
        ReplayStep.MODEL_BLOB: "model and verdicts are right, but the blob holds no such model",
    }
)
_ORDER = tuple(ReplayStep)


@dataclass(frozen=True, slots=True)
class RecordInput:
    """A record that a replay began with; ``content`` is zero where the witness has none."""

    hospital: str
    update: bytes
    blob: bytes
    examples: int
    content: bytes


@dataclass(frozen=True, slots=True)
class Inputs:
    """All that a replay begins with; ``pipeline`` is the round's, in canonical JSON."""

    base_model: bytes
    base_blob: bytes
    pipeline: str
    records: tuple[RecordInput, ...]


@dataclass(frozen=True, slots=True)
class KnownModel:
    """A model that the task had before.

    Attributes:
        round: The final round that made it, 0 where it is the task's first model.
        is_base: Whether the disputed round starts from it.
    """

    round: int
    is_base: bool


@dataclass(frozen=True, slots=True)
class Evidence:
    """Why a witness disputes a proposal.

    Attributes:
        version: Of this format.
        chain_id: The chain.
        ledger: The RoundLedger's address.
        round: The round.
        proposal: What was proposed.
        step: The first step of the replay that differs.
        inputs: What the witness replayed.
        known_as: Which earlier model was proposed, None where it is none.
        model: The digest of the witness's model, zero where it has none.
        verdicts_root: The root of its verdicts, zero where it has none.
        verdicts: Its verdicts, ascending by hospital.
        findings: Each difference.
    """

    version: int
    chain_id: int
    ledger: str
    round: int
    proposal: Proposal
    step: ReplayStep
    inputs: Inputs
    known_as: KnownModel | None
    model: bytes
    verdicts_root: bytes
    verdicts: tuple[Verdict, ...]
    findings: tuple[Finding, ...]

    def to_dict(self) -> dict[str, Any]:
        """Give the JSON form."""
        return {**to_json_dict(self), "step": self.step.value}

    def to_json(self) -> bytes:
        """Write it as the blob that a dispute names."""
        findings = tuple(_within_bounds(finding) for finding in self.findings)
        return canonical_json(replace(self, findings=findings).to_dict())


def parse_evidence(data: bytes) -> Evidence:
    """Read evidence that somebody wrote.

    Raises:
        InvalidInputError: If it is too long, of another version, or malformed.
    """
    members = parse_json(data, MAX_EVIDENCE)
    if not isinstance(members, dict):
        message = f"expected evidence as a JSON object, found {type(members).__name__}"
        raise InvalidInputError(message)
    if members.get("version") != VERSION:
        found = repr(members.get("version"))[:100]
        message = f"expected evidence of version {VERSION}, found {found}"
        raise InvalidInputError(message)
    names = {step.value: step.name for step in ReplayStep}
    step = members.get("step")
    if not isinstance(step, str) or step not in names:
        message = f"step: expected one of {', '.join(names)}, found {repr(step)[:100]}"
        raise InvalidInputError(message)
    return from_json_dict(Evidence, {**members, "step": names[step]})


def first_difference(stated: Iterable[Verdict], replayed: Iterable[Verdict]) -> ReplayStep:
    """Name the first step at which the verdicts of a proposal and of its replay differ.

    Args:
        stated: The proposal's verdicts.
        replayed: Those of the replay.

    Returns:
        `AGGREGATION` where none differs: then only the model can.
    """
    theirs = {verdict.hospital: verdict for verdict in stated}
    ours = {verdict.hospital: verdict for verdict in replayed}
    differing = (
        _difference(theirs.get(hospital), ours.get(hospital))
        for hospital in theirs.keys() | ours.keys()
        if theirs.get(hospital) != ours.get(hospital)
    )
    return min(differing, key=_ORDER.index, default=ReplayStep.AGGREGATION)


def inputs_of(
    round_: Round, records: Sequence[RecordedUpdate], replayed: Iterable[Verdict]
) -> Inputs:
    """Collect what a replay began with.

    Args:
        round_: The round.
        records: Its records in the order of the ledger.
        replayed: The verdicts of the replay, which hold the updates' content digests.
    """
    contents = {verdict.hospital: verdict.content for verdict in replayed}
    return Inputs(
        round_.terms.base_model,
        round_.terms.base_blob,
        round_.terms.rule,
        tuple(
            RecordInput(
                one.record.hospital,
                one.record.update,
                one.record.blob,
                one.record.examples,
                contents.get(one.record.hospital, bytes(32)),
            )
            for one in records
        ),
    )


def known_model(model: bytes, round_: Round, earlier: Iterable[Round]) -> KnownModel | None:
    """Find a proposed model among those that the task had before; None where it is new.

    Args:
        model: The proposed model's digest.
        round_: The round that it is proposed in.
        earlier: The task's rounds before it.
    """
    is_base = model == round_.terms.base_model
    known = {round_.terms.base_model: 0}
    for one in earlier:
        known.setdefault(one.terms.base_model, 0)
        if one.phase is Phase.FINAL and one.proposal is not None:
            known[one.proposal.model] = one.number
    return KnownModel(known[model], is_base) if model in known else None


def _difference(stated: Verdict | None, replayed: Verdict | None) -> ReplayStep:
    if stated is None or replayed is None or stated.content != replayed.content:
        return ReplayStep.ADMISSION
    return min(_step_of(stated.reason), _step_of(replayed.reason), key=_ORDER.index)


def _step_of(reason: Reason) -> ReplayStep:
    """Name the step that gives a reason: of an accepted update it is the last one."""
    if Reason.NONE < reason < Reason.QUARANTINED:
        return ReplayStep.ADMISSION
    return ReplayStep.QUARANTINE if reason is Reason.QUARANTINED else ReplayStep.SCREENS_AND_RULE


def _within_bounds(finding: Finding) -> Finding:
    """Shorten texts, of which an IPFS node's error may be one, to what a reader takes."""
    texts = (finding.subject, finding.expected, finding.found, finding.message)
    subject, expected, found, message = (text[:MAX_TEXT] for text in texts)
    return Finding(finding.step, subject, expected, found, message)
