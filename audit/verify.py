"""Verification of a task's rounds from what was read of the ledger, and of nothing else.

Pure: an auditor can run it on values that came from anywhere. `audit.replay` reads the values,
checks the blobs and replays the rounds.
"""

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from itertools import pairwise
from types import MappingProxyType
from typing import Any, Final

from chain.addresses import address_order
from chain.errors import InvalidInputError, VerificationError
from chain.merkle import verdicts_root
from chain.signing import recover_attestation_signer, update_struct_hash
from chain.types import (
    Attestation,
    DatasetState,
    DatasetVersion,
    Outcome,
    Phase,
    Proposal,
    RecordedUpdate,
    Round,
    Verdict,
)

CHAIN_OF_MODELS = 1
RECORDS = 2
DATA_SETS = 3
VERDICTS = 4
KEPT_UPDATES = 5
WITNESSES = 6
BLOBS = 7
MODELS = 8
REPLAY = 9
INDEX = 10
BUNDLE = 11
HEAD = 12
EVENTS = 13
HEADS = 14

# What needs nothing but what the ledger says.
FROM_THE_LEDGER: Final = (CHAIN_OF_MODELS, RECORDS, DATA_SETS, VERDICTS, KEPT_UPDATES, WITNESSES)

TITLES: Final[Mapping[int, str]] = MappingProxyType(
    {
        CHAIN_OF_MODELS: "Each round starts from the task's last final model",
        RECORDS: "Each record hashes to its digest on the ledger",
        DATA_SETS: "Each record stands on registered, de-identified, permitted data",
        VERDICTS: "Each record has one verdict, and the verdicts have the ledger's root",
        KEPT_UPDATES: "Each proposal keeps as many updates as the round asks for",
        WITNESSES: "Each final model is attested by its quorum and disputed by nobody",
        BLOBS: "Each blob is there and hashes to its CID",
        MODELS: "Each model hashes to its digest on the ledger",
        REPLAY: "Admission and aggregation, repeated, give the same verdicts and model",
        INDEX: "The index says what the chain says",
        BUNDLE: "The file is whole and of a known form",
        HEAD: "The quorum of the round's witnesses signed the ledger's head",
        EVENTS: "Each event stands in a block that leads to that head, and none is left out",
        HEADS: "The chain still has every head that was seen before",
    }
)

# Bit 0 of a de-identification profile: Basic Application Confidentiality Profile (protocol 4.3).
_BASIC_PROFILE = 1
_PROPOSED = (Phase.PROPOSED, Phase.FINAL)


@dataclass(frozen=True, slots=True)
class Finding:
    """Something that is not as it should be.

    Attributes:
        step: Number of the step that found it, a key of `TITLES`.
        subject: What it is about, such as ``round 2, record of 0x…``.
        expected: What should have been there.
        found: What was there.
        message: What that means, in a sentence.
    """

    step: int
    subject: str
    expected: str
    found: str
    message: str

    def to_dict(self) -> dict[str, Any]:
        """Give the JSON form."""
        return asdict(self)


@dataclass(frozen=True, slots=True)
class Notice:
    """Something that is as it should be, and that the reader should know.

    Attributes:
        kind: What became of data that models descend from, a name of `aggregator.descent.FlagKind`.
        task: Whose models.
        first_round: The task's first final round whose model descends from them; all later ones do.
        last_round: The last one so far.
        version: The data-set version, in hex.
        hospital: Whose it is.
        block: Where the ledger says so.
        time: Of that block, in Unix seconds.
        message: What that means, in a sentence.
    """

    kind: str
    task: str
    first_round: int
    last_round: int
    version: str
    hospital: str
    block: int
    time: int
    message: str


@dataclass(frozen=True, slots=True)
class Step:
    """A step of an audit; ``ok`` is None where it could not be run."""

    number: int
    title: str
    ok: bool | None


@dataclass(frozen=True, slots=True)
class AuditReport:
    """What an audit came to: ``ok`` is true where nothing was found amiss, whatever the notices."""

    ok: bool
    steps: tuple[Step, ...]
    findings: tuple[Finding, ...]
    notices: tuple[Notice, ...] = ()

    @classmethod
    def of(
        cls, findings: Iterable[Finding], run: Iterable[int], notices: Iterable[Notice] = ()
    ) -> "AuditReport":
        """Sum up findings.

        Args:
            findings: All of them, in any order.
            run: The numbers of the steps that were run.
            notices: What is no fault, in the order in which it is told.
        """
        ordered = tuple(sorted(findings, key=lambda finding: finding.step))
        failed = {finding.step for finding in ordered}
        was_run = failed | set(run)
        steps = tuple(
            Step(number, title, number not in failed if number in was_run else None)
            for number, title in TITLES.items()
        )
        return cls(not ordered, steps, ordered, tuple(notices))

    @classmethod
    def together(cls, reports: Iterable["AuditReport"]) -> "AuditReport":
        """Sum up several reports: a step counts as run where one of them ran it."""
        every = tuple(reports)
        run = {step.number for one in every for step in one.steps if step.ok is not None}
        notices = [notice for one in every for notice in one.notices]
        return cls.of((finding for one in every for finding in one.findings), run, notices)

    def to_dict(self) -> dict[str, Any]:
        """Give the JSON form."""
        return asdict(self)


@dataclass(frozen=True, slots=True)
class RoundEvidence:
    """All that the chain says of one round.

    Attributes:
        chain_id: The chain.
        ledger: The RoundLedger's address.
        round: The round.
        records: Its records in the order of the ledger.
        versions: For each record, the data-set versions that it names as they stood when it was
            made; an unknown version is missing.
        active: The hospitals that were enrolled and not suspended when they recorded.
        verdicts: Those of the newest proposal, in the order of the ledger.
        attestations: Witnesses with their signatures under the newest proposal.
        disputants: Who disputes the newest proposal.
    """

    chain_id: int
    ledger: str
    round: Round
    records: tuple[RecordedUpdate, ...]
    versions: tuple[tuple[DatasetVersion, ...], ...]
    active: frozenset[str]
    verdicts: tuple[Verdict, ...]
    attestations: tuple[tuple[str, bytes], ...]
    disputants: tuple[str, ...]

    @property
    def name(self) -> str:
        """What findings call the round."""
        return f"round {self.round.number}"

    @property
    def proposal(self) -> Proposal | None:
        """The proposal that still claims something: none in an aborted round."""
        return self.round.proposal if self.round.phase in _PROPOSED else None


def verify_task(rounds: Sequence[RoundEvidence]) -> list[Finding]:
    """Verify all rounds of a task; see docs/protocol.md, sections 4, 7, 8 and 10.

    (1) Each round starts from the task's last final model.
    (2) Each record hashes to its digest, was made for this round, and is its hospital's only one.
    (3) Each record stands on data sets of its hospital that were then usable for the purpose,
        and counts no more examples than they have images.
    (4) Each record has one verdict, and the verdicts have the root that the ledger holds.
    (5) At least `minUpdates` updates were kept.
    (6) A final model is attested by `quorum` witnesses of the round, each with a signature over
        the proposal, and no proposal that stands is disputed.

    Args:
        rounds: All rounds of the task, ascending.

    Returns:
        All findings, of every step and round.
    """
    # (1) Each round starts from the task's last final model.
    findings = list(verify_chain_of_models(rounds))
    for evidence in rounds:
        # (2) to (6) Each round in itself.
        findings += verify_round(evidence)
    return findings


def verify_round(evidence: RoundEvidence) -> list[Finding]:
    """Verify one round by the steps (2) to (6) of `verify_task`."""
    # (2) Each record hashes to its digest.
    findings = list(_verify_records(evidence))
    # (3) Each record stands on registered data.
    for recorded, versions in zip(evidence.records, evidence.versions, strict=True):
        findings += _verify_data_sets(evidence, recorded, versions)
    if evidence.proposal is not None:
        # (4) Each record has one verdict.
        findings += _verify_verdicts(evidence, evidence.proposal)
        # (5) Enough updates were kept.
        findings += _verify_kept(evidence)
        # (6) The witnesses say so too.
        findings += _verify_witnesses(evidence, evidence.proposal)
    return findings


def verify_chain_of_models(rounds: Sequence[RoundEvidence]) -> Iterator[Finding]:
    """Check that each round's base model, and its blob, are the task's last final ones (step 1)."""
    last: Proposal | None = None
    for evidence in rounds:
        terms = evidence.round.terms
        if last is not None:
            for what, expected, found in (
                ("base model", last.model, terms.base_model),
                ("blob of the base model", last.model_blob, terms.base_blob),
            ):
                if found != expected:
                    subject = f"{evidence.name}, {what}"
                    message = "the round did not start from the task's last final model"
                    yield Finding(CHAIN_OF_MODELS, subject, expected.hex(), found.hex(), message)
        if evidence.round.phase is Phase.FINAL and evidence.round.proposal is not None:
            last = evidence.round.proposal


def compare_replay(
    number: int,
    proposal: Proposal,
    verdicts: Sequence[Verdict],
    replayed_model: bytes | None,
    replayed_verdicts: Sequence[Verdict],
) -> list[Finding]:
    """Compare a proposal with what its replay gave (step 9).

    Args:
        number: The round's number.
        proposal: What stands on the ledger.
        verdicts: The proposal's verdicts.
        replayed_model: The digest of the replayed model, None where the round makes none.
        replayed_verdicts: The verdicts of the replay.

    Returns:
        A finding for the model and for each verdict that differs.
    """
    findings = []
    if replayed_model != proposal.model:
        findings.append(
            Finding(
                REPLAY,
                f"round {number}, model of proposal {proposal.number}",
                replayed_model.hex() if replayed_model is not None else "no model",
                proposal.model.hex(),
                "the proposed model is not what the recorded updates come to",
            )
        )
    stated = {verdict.hospital: verdict for verdict in verdicts}
    replayed = {verdict.hospital: verdict for verdict in replayed_verdicts}
    for hospital in sorted(stated.keys() | replayed.keys(), key=address_order):
        ours, theirs = replayed.get(hospital), stated.get(hospital)
        if ours != theirs:
            findings.append(
                Finding(
                    REPLAY,
                    f"round {number}, verdict on {hospital}",
                    _told(ours),
                    _told(theirs),
                    "the verdict on the ledger is not what judging the update again gives",
                )
            )
    return findings


def _verify_records(evidence: RoundEvidence) -> Iterator[Finding]:
    round_ = evidence.round
    if len(evidence.records) != round_.updates:
        yield Finding(
            RECORDS,
            f"{evidence.name}, records",
            str(round_.updates),
            str(len(evidence.records)),
            "the ledger counts another number of records than its log holds",
        )
    times = Counter(recorded.record.hospital for recorded in evidence.records)
    for recorded in evidence.records:
        record, subject = recorded.record, _record_name(recorded)
        digest = update_struct_hash(record)
        if digest != recorded.record_digest:
            yield Finding(
                RECORDS,
                subject,
                recorded.record_digest.hex(),
                digest.hex(),
                "the record's content does not hash to the digest on the ledger",
            )
        place = (evidence.chain_id, evidence.ledger, round_.number, round_.terms.base_model)
        made_for = (record.chain_id, record.ledger, record.round, record.base_model)
        if place != made_for:
            message = "the record was made for another chain, ledger, round or base model"
            yield Finding(RECORDS, subject, _place(*place), _place(*made_for), message)
        if times[record.hospital] > 1:
            message = "a hospital has more than one record in the round"
            yield Finding(RECORDS, subject, "1 record", f"{times[record.hospital]}", message)
        if record.hospital not in evidence.active:
            message = "the hospital was not enrolled, or suspended, when it recorded"
            yield Finding(RECORDS, subject, "an active hospital", "none", message)
    for one, next_ in pairwise(evidence.records):
        if _order(one) >= _order(next_):
            message = "records are not in the order of the ledger"
            found = f"{_order(next_)} behind {_order(one)}"
            yield Finding(RECORDS, _record_name(next_), "ascending positions", found, message)


def _verify_data_sets(
    evidence: RoundEvidence, recorded: RecordedUpdate, versions: Sequence[DatasetVersion]
) -> Iterator[Finding]:
    record, terms = recorded.record, evidence.round.terms
    subject = _record_name(recorded)
    known = {version.version: version for version in versions}
    if record.purpose != terms.purpose:
        message = "the record was made for another purpose than the round's"
        yield Finding(DATA_SETS, subject, f"{terms.purpose}", f"{record.purpose}", message)
    if not record.datasets or list(record.datasets) != sorted(set(record.datasets)):
        message = "the record names no data sets, or not in ascending order without repetition"
        found = ", ".join(name.hex() for name in record.datasets)
        yield Finding(DATA_SETS, subject, "ascending versions", found or "none", message)
    for name in record.datasets:
        if name not in known:
            message = "the record stands on a data set that nobody had registered"
            yield Finding(DATA_SETS, subject, "a registered version", name.hex(), message)
        else:
            yield from _verify_version(subject, known[name], record.hospital, terms.purpose)
    images = sum(version.images for version in known.values())
    if not 1 <= record.examples <= images:
        message = "the record counts no examples, or more than its data sets have images"
        yield Finding(DATA_SETS, subject, f"1 to {images}", f"{record.examples}", message)


def _verify_version(
    record: str, version: DatasetVersion, hospital: str, purpose: int
) -> Iterator[Finding]:
    subject = f"{record}, data set {version.version.hex()}"
    if version.hospital != hospital:
        message = "the data set is another hospital's"
        yield Finding(DATA_SETS, subject, hospital, version.hospital, message)
    if version.state is not DatasetState.ACTIVE:
        message = "the data set had been withdrawn or superseded"
        yield Finding(DATA_SETS, subject, DatasetState.ACTIVE.name, version.state.name, message)
    if not version.profile & _BASIC_PROFILE:
        message = "the data set was not de-identified (DICOM 113100)"
        yield Finding(DATA_SETS, subject, "profile bit 0", f"{version.profile:#b}", message)
    if purpose not in version.purposes:
        message = "the hospital had not permitted this purpose"
        found = ", ".join(map(str, sorted(version.purposes))) or "none"
        yield Finding(DATA_SETS, subject, f"purpose {purpose}", found, message)


def _verify_verdicts(evidence: RoundEvidence, proposal: Proposal) -> Iterator[Finding]:
    subject = f"{evidence.name}, verdicts of proposal {proposal.number}"
    root = _root(evidence)
    if root != proposal.verdicts:
        yield Finding(
            VERDICTS,
            subject,
            proposal.verdicts.hex(),
            root.hex(),
            "the verdicts in the log do not have the root that the witnesses signed",
        )
    recorded = Counter(each.record.hospital for each in evidence.records)
    judged = Counter(verdict.hospital for verdict in evidence.verdicts)
    for hospital in sorted(recorded.keys() | judged.keys(), key=address_order):
        if (recorded[hospital] > 0, judged[hospital]) != (True, 1):
            message = "a record has no verdict or several, or a verdict has no record"
            found = f"{recorded[hospital]} records, {judged[hospital]} verdicts"
            yield Finding(VERDICTS, f"{subject}, {hospital}", "1 record, 1 verdict", found, message)


def _verify_kept(evidence: RoundEvidence) -> Iterator[Finding]:
    least = evidence.round.terms.min_updates
    kept = sum(verdict.outcome is not Outcome.REJECTED for verdict in evidence.verdicts)
    if kept < least:
        message = "the model was made of fewer updates than the round asks for"
        subject = f"{evidence.name}, updates kept"
        yield Finding(KEPT_UPDATES, subject, f"at least {least}", f"{kept}", message)


def _verify_witnesses(evidence: RoundEvidence, proposal: Proposal) -> Iterator[Finding]:
    subject = f"{evidence.name}, proposal {proposal.number}"
    for witness in evidence.disputants:
        message = "a witness of the round came to another result"
        yield Finding(WITNESSES, subject, "no dispute", f"one by {witness}", message)
    valid = set()
    # Not searched for each: a forged ledger may name any number of witnesses, and of their words.
    seated = frozenset(evidence.round.terms.witnesses)
    for witness, signature in evidence.attestations:
        fault = (
            _signature_fault(evidence, proposal, witness, signature)
            if witness in seated
            else "no witness of the round"
        )
        if fault is None:
            valid.add(witness)
        else:
            message = "an attestation is not a signature of a witness of the round over this"
            yield Finding(WITNESSES, f"{subject}, {witness}", witness, fault, message)
    quorum = evidence.round.terms.quorum
    if evidence.round.phase is Phase.FINAL and len(valid) < quorum:
        message = "the model is final without enough valid attestations"
        yield Finding(WITNESSES, subject, f"{quorum} witnesses", f"{len(valid)}", message)


def _signature_fault(
    evidence: RoundEvidence, proposal: Proposal, witness: str, signature: bytes
) -> str | None:
    attestation = Attestation(
        evidence.round.number,
        proposal.number,
        proposal.model,
        proposal.model_blob,
        proposal.verdicts,
    )
    try:
        signer = recover_attestation_signer(
            evidence.chain_id, evidence.ledger, attestation, signature
        )
    except VerificationError as error:
        return str(error)
    return None if signer == witness else f"the signature of {signer}"


def _root(evidence: RoundEvidence) -> bytes:
    try:
        return verdicts_root(evidence.round.number, evidence.verdicts)
    except InvalidInputError:  # no verdicts have no root
        return bytes(32)


def _order(recorded: RecordedUpdate) -> tuple[int, int]:
    return recorded.position.block, recorded.position.log_index


def _record_name(recorded: RecordedUpdate) -> str:
    return f"round {recorded.record.round}, record of {recorded.record.hospital}"


def _place(chain_id: int, ledger: str, number: int, base_model: bytes) -> str:
    return f"chain {chain_id}, ledger {ledger}, round {number}, base model {base_model.hex()}"


def _told(verdict: Verdict | None) -> str:
    if verdict is None:
        return "no verdict"
    return (
        f"{verdict.outcome.name} {verdict.reason.name}, score {verdict.score} against "
        f"{verdict.threshold}, content {verdict.content.hex()}"
    )
