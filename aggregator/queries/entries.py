"""What the index answers with: plain values, each with the place on the chain that proves it.

``position`` is that of the event that made the thing, ``*_at`` the Unix time of its block. Whoever
does not trust the index asks any node for the receipt of ``position.transaction``.
"""

from dataclasses import dataclass

from aggregator.descent import Flag
from aggregator.queries.pages import Page
from chain.readings import Agreement, RequestState
from chain.types import DatasetState, LogPosition, Outcome, Phase


@dataclass(frozen=True, slots=True)
class VerdictEntry:
    """A verdict of a round's newest proposal.

    ``reason`` is a name of `chain.types.Reason`, or ``CODE_n`` where the aggregator wrote a code
    that the protocol does not know. Scores are in millionths.
    """

    round: int
    task: str
    proposal: int
    hospital: str
    outcome: Outcome
    reason: str
    score: int
    threshold: int
    content: bytes
    position: LogPosition


@dataclass(frozen=True, slots=True)
class VerdictCount:
    """How many updates came to an outcome for a reason, by each round's newest proposal."""

    outcome: Outcome
    reason: str
    updates: int


@dataclass(frozen=True, slots=True)
class DatasetUse:
    """A data-set version that an update was trained on, as it stands now."""

    version: bytes
    dataset: bytes
    name: str
    state: DatasetState
    images: int


@dataclass(frozen=True, slots=True)
class Contribution:
    """A recorded update with its verdict, None before the first proposal."""

    round: int
    task: str
    phase: Phase
    hospital: str
    examples: int
    update: bytes
    blob: bytes
    code: bytes
    recorded_at: int
    position: LogPosition
    datasets: tuple[DatasetUse, ...]
    verdict: VerdictEntry | None


@dataclass(frozen=True, slots=True)
class RoundEntry:
    """A round as it stands.

    Args:
        number: Counted from 1.
        task: The task's name.
        phase: Where it stands.
        purpose: Data Use Ontology number.
        base_model: Content digest of what it starts from.
        base_round: The final round that made the base model, None where no round did.
        generation: How many final rounds the base model descends from.
        origin: The model at the beginning of its line, which no round made.
        rule: The pipeline.
        min_updates: With fewer kept updates there is no model.
        max_updates: With as many records collecting ends.
        quorum: How many attestations make a proposal final.
        deadline: Unix time when collecting ends.
        aggregator: Its address.
        model: None unless it is final.
        model_blob: None unless it is final.
        aborted_by: Who aborted it.
        abortion: The reason given.
        records: How many updates were recorded.
        accepted: How many the newest proposal accepts.
        clipped: How many it clips.
        rejected: How many it rejects.
        attestations: How many witnesses attested the newest proposal.
        disputes: How many disputed any proposal.
        opened_at: Unix time.
        position: Of its opening.
        ended_at: Unix time of its end, None while it is under way.
        ended: Where it became final or was aborted.
    """

    number: int
    task: str
    phase: Phase
    purpose: int
    base_model: bytes
    base_round: int | None
    generation: int
    origin: bytes
    rule: str
    min_updates: int
    max_updates: int
    quorum: int
    deadline: int
    aggregator: str
    model: bytes | None
    model_blob: bytes | None
    aborted_by: str | None
    abortion: str | None
    records: int
    accepted: int
    clipped: int
    rejected: int
    attestations: int
    disputes: int
    opened_at: int
    position: LogPosition
    ended_at: int | None
    ended: LogPosition | None


@dataclass(frozen=True, slots=True)
class WitnessWord:
    """What a witness said of a proposal: it attested it or got something else.

    ``evidence`` is the blob that tells what, None with an attestation.
    """

    witness: str
    attested: bool
    said_at: int
    position: LogPosition
    evidence: bytes | None


@dataclass(frozen=True, slots=True)
class ProposalEntry:
    """A proposal with all that was said of it."""

    number: int
    model: bytes
    model_blob: bytes
    proposed_at: int
    position: LogPosition
    verdicts: tuple[VerdictEntry, ...]
    words: tuple[WitnessWord, ...]


@dataclass(frozen=True, slots=True)
class CosignatureEntry:
    """A ledger head that a witness signed for a final round (docs/protocol.md, section 13).

    ``number`` and ``hash`` are the block's; ``blocks`` and ``history`` stand for all of the
    federation's logs up to it.
    """

    witness: str
    number: int
    hash: bytes
    blocks: int
    history: bytes
    signature: bytes
    cosigned_at: int
    position: LogPosition


@dataclass(frozen=True, slots=True)
class RoundHistory:
    """All that the ledger holds of a round."""

    round: RoundEntry
    witnesses: tuple[str, ...]
    contributions: tuple[Contribution, ...]
    proposals: tuple[ProposalEntry, ...]
    cosignatures: tuple[CosignatureEntry, ...]


@dataclass(frozen=True, slots=True)
class Ancestor:
    """A round that a model descends from, with the updates that its rule kept."""

    round: RoundEntry
    kept: tuple[Contribution, ...]


@dataclass(frozen=True, slots=True)
class Provenance:
    """Where a model comes from.

    Args:
        model: Its content digest.
        also_made_in: Other final rounds that made the very same model, newest first.
        ancestors: The rounds that it descends from, its own first.
        origin: The model at the beginning, which no round made.
        purposes: Data Use Ontology numbers that all data in its line permit now.
        flags: What became of these data, in the order of the ledger; a correction alone is none.
    """

    model: bytes
    also_made_in: tuple[int, ...]
    ancestors: Page[Ancestor]
    origin: bytes
    purposes: tuple[int, ...]
    flags: tuple[Flag, ...]


@dataclass(frozen=True, slots=True)
class VersionChange:
    """Something that happened to a data-set version.

    Args:
        what: ``REGISTERED``, ``PURPOSES_CHANGED``, ``SUPERSEDED``, ``WITHDRAWN``, or ``ERASED``
            for one image of it.
        purposes: Data Use Ontology numbers from then on, where they were told.
        reason: Of a withdrawal.
        successor: The version that superseded it.
        changed_at: Unix time.
        position: On the chain.
        image: The commitment of the image that was erased.
    """

    what: str
    purposes: tuple[int, ...] | None
    reason: str | None
    successor: bytes | None
    changed_at: int
    position: LogPosition
    image: bytes | None = None


@dataclass(frozen=True, slots=True)
class VersionEntry:
    """A registered data-set version; ``purposes`` are Data Use Ontology numbers."""

    version: bytes
    dataset: bytes
    hospital: str
    name: str
    state: DatasetState
    merkle_root: bytes
    images: int
    modality: str
    purposes: tuple[int, ...]
    profile: int
    attestation: bytes
    previous: bytes
    withdrawal: str | None
    registered_at: int
    position: LogPosition
    changes: tuple[VersionChange, ...]


@dataclass(frozen=True, slots=True)
class DatasetHistory:
    """A data set's versions, oldest first, and a page of the updates trained on any of them."""

    versions: tuple[VersionEntry, ...]
    uses: Page[Contribution]


@dataclass(frozen=True, slots=True)
class PartyEntry:
    """An enrolled party with the roles that it has now."""

    address: str
    name: str
    roles: tuple[str, ...]
    suspended: bool
    enrolled_at: int
    position: LogPosition


@dataclass(frozen=True, slots=True)
class MembershipChange:
    """Something that happened to a party.

    Args:
        what: ``ROLE_GRANTED``, ``ROLE_REVOKED``, ``KEY_CHANGED``, ``SUSPENDED`` or ``REINSTATED``.
        role: By its word, where it is about one.
        reason: Of a suspension.
        changed_at: Unix time.
        position: On the chain.
    """

    what: str
    role: str | None
    reason: str | None
    changed_at: int
    position: LogPosition


@dataclass(frozen=True, slots=True)
class HospitalHistory:
    """A party, what happened to it, its data-set versions, and a page of its updates.

    ``verdicts`` counts all of its updates that were judged.
    """

    address: str
    name: str
    roles: tuple[str, ...]
    suspended: bool
    suspension: str | None
    enrolled_at: int
    position: LogPosition
    changes: tuple[MembershipChange, ...]
    verdicts: tuple[VerdictCount, ...]
    versions: tuple[VersionEntry, ...]
    contributions: Page[Contribution]


@dataclass(frozen=True, slots=True)
class TouchedTask:
    """A task whose models descend from a data-set version.

    Args:
        task: Its name.
        first_round: The first final round whose model does.
        through: The task whose model it started from, None where a kept update of `first_round`
            itself was trained on the version.
        models: How many of its models do.
        newest_round: The newest of them.
        newest_model: The model of that round, the task's last one.
    """

    task: str
    first_round: int
    through: str | None
    models: int
    newest_round: int
    newest_model: bytes


@dataclass(frozen=True, slots=True)
class Descendant:
    """A model that descends from a data-set version.

    ``trained`` tells that a kept update of its own round was trained on the version; ``purposes``
    are the Data Use Ontology numbers that all data in its line permit now.
    """

    task: str
    round: int
    model: bytes
    model_blob: bytes
    trained: bool
    purposes: tuple[int, ...]
    final_at: int
    position: LogPosition


@dataclass(frozen=True, slots=True)
class Descendants:
    """The models that a data-set version is in.

    Args:
        version: The version; its state and changes tell whether it was withdrawn since.
        withdrawn_at: Unix time of its withdrawal, None where it was not.
        tasks: The tasks that it touches, by name.
        flags: What became of the version since it was first used; each flag is on all models.
        models: The models, by task and in it the newest first.
    """

    version: VersionEntry
    withdrawn_at: int | None
    tasks: tuple[TouchedTask, ...]
    flags: tuple[Flag, ...]
    models: Page[Descendant]


@dataclass(frozen=True, slots=True)
class GrantEntry:
    """A researcher's permission to look; ``image`` is None for the whole version."""

    grant: bytes
    version: bytes
    image: bytes | None
    hospital: str
    researcher: str
    purpose: int
    expiry: int
    granted_at: int
    position: LogPosition
    revoked_at: int | None
    revoked: LogPosition | None


@dataclass(frozen=True, slots=True)
class Span:
    """A time in whole seconds, both ends included."""

    since: int
    until: int


@dataclass(frozen=True, slots=True)
class Sight:
    """A grant, and when on the day that was asked for it was live (protocol 11)."""

    grant: GrantEntry
    live: tuple[Span, ...]


@dataclass(frozen=True, slots=True)
class LookBatch:
    """A batch of looks that a hospital anchored (protocol 15).

    ``handed_at`` is when it handed the looks themselves over, by this machine's clock; None where
    it did not.
    """

    hospital: str
    batch: int
    root: bytes
    first: int
    entries: int
    anchored_at: int
    position: LogPosition
    handed_at: int | None


@dataclass(frozen=True, slots=True)
class LookEntry:
    """A look that its hospital anchored and handed over.

    Args:
        hospital: Whose access log it is in.
        batch: The batch that it was anchored in.
        number: Its number in the log.
        researcher: Who looked.
        grant: By which grant.
        version: At which data-set version.
        image: At which image, by its commitment.
        time: Unix time by the hospital's clock.
        request: Digest of what was asked for.
        position: Where its batch was anchored.
    """

    hospital: str
    batch: int
    number: int
    researcher: str
    grant: bytes
    version: bytes
    image: bytes
    time: int
    request: bytes
    position: LogPosition


@dataclass(frozen=True, slots=True)
class LookLog:
    """How much of a hospital's access log is known here.

    Args:
        hospital: Whose log it is.
        batches: How many batches it anchored.
        missing: How many of them it did not hand over: who looked by these is not known.
        anchored_at: When it anchored the newest one, None before the first. Later looks are not on
            the ledger yet.
    """

    hospital: str
    batches: int
    missing: int
    anchored_at: int | None


@dataclass(frozen=True, slots=True)
class Looks:
    """Who did look, as far as it is known: oldest first, and what is missing of the log."""

    log: LookLog
    found: Page[LookEntry]


@dataclass(frozen=True, slots=True)
class Viewers:
    """Who could see an image on a day, and who did.

    Args:
        version: The data-set version.
        image: The image's commitment; None: any image of the version.
        day: The day's seconds, in UTC.
        could: Grants that were live at some time of the day, newest first. A page may hold fewer
            than asked for, and none, with a cursor to more.
        looks: Who did look on the day, from what the hospital handed over of its anchored access
            log. That somebody is not among them proves nothing while batches are missing.
    """

    version: VersionEntry
    image: bytes | None
    day: Span
    could: Page[Sight]
    looks: Looks


@dataclass(frozen=True, slots=True)
class ClinicianEntry:
    """A clinician whom a hospital appointed, until when in Unix time."""

    hospital: str
    clinician: str
    until: int
    appointed_at: int
    position: LogPosition


@dataclass(frozen=True, slots=True)
class ReadingEntry:
    """A reading of an image, or a correction of one (protocol 16).

    Args:
        reading: Its identifier.
        version: The data-set version that it was recorded under.
        image: The image's commitment.
        owner: The hospital whose image it is.
        hospital: The hospital whose reading it is.
        author: Who recorded it: that hospital, or its clinician.
        opinion_on: The reading that it is a second opinion on.
        request: The request that it fulfils.
        document: SHA-256 of salt and document.
        blob: SHA-256 of the envelope.
        corrects: The reading that it stands in the place of.
        corrected_by: The correction that stands in its place.
        reason: Of a correction.
        recorded_at: Unix time.
        position: On the chain.
    """

    reading: bytes
    version: bytes
    image: bytes
    owner: str
    hospital: str
    author: str
    opinion_on: bytes | None
    request: bytes | None
    document: bytes
    blob: bytes
    corrects: bytes | None
    corrected_by: bytes | None
    reason: str | None
    recorded_at: int
    position: LogPosition


@dataclass(frozen=True, slots=True)
class ComparisonEntry:
    """How far a reading agrees with another, by the last word of the first one's author.

    ``outdated`` tells that one of the two was corrected since.
    """

    own: bytes
    other: bytes
    author: str
    agreement: Agreement
    outdated: bool
    compared_at: int
    position: LogPosition


@dataclass(frozen=True, slots=True)
class ReadingHistory:
    """A reading with all that was said of it; of each list the newest 200.

    Args:
        line: The reading and its corrections, oldest first; the last one counts.
        comparisons: Of any of these with other readings, oldest first.
        opinions: Second opinions on any of these, with their corrections, oldest first.
    """

    line: tuple[ReadingEntry, ...]
    comparisons: tuple[ComparisonEntry, ...]
    opinions: tuple[ReadingEntry, ...]


@dataclass(frozen=True, slots=True)
class RequestEntry:
    """A request for a reading as it stands (protocol 16).

    Args:
        request: Its identifier.
        version: The data-set version.
        image: The image's commitment.
        hospital: Who asks; the image is its own.
        reader: The hospital that is asked, None for any.
        opinion_on: The reading that a second opinion is asked on.
        take_by: Until when it can be taken, in Unix time.
        fulfil_by: Until when it can be fulfilled.
        question: SHA-256 of the envelope with the question.
        state: By its newest event.
        lapsed: Whether it is open past `take_by` or taken past `fulfil_by`: nobody can fulfil it.
        taker: The hospital that took it, None while it is open.
        reading: The reading that fulfilled it.
        asked_at: Unix time.
        position: Of the request.
        changed_at: Unix time of its newest event.
        changed: Where that stands.
    """

    request: bytes
    version: bytes
    image: bytes
    hospital: str
    reader: str | None
    opinion_on: bytes | None
    take_by: int
    fulfil_by: int
    question: bytes | None
    state: RequestState
    lapsed: bool
    taker: str | None
    reading: bytes | None
    asked_at: int
    position: LogPosition
    changed_at: int
    changed: LogPosition


@dataclass(frozen=True, slots=True)
class Erasure:
    """That a hospital erased an image of a version (protocol 4.5)."""

    version: bytes
    hospital: str
    erased_at: int
    position: LogPosition


@dataclass(frozen=True, slots=True)
class TimelineEntry:
    """Something that happened to an image.

    Args:
        what: ``REGISTERED``, ``PURPOSES_CHANGED``, ``SUPERSEDED``, ``WITHDRAWN`` (a version of it),
            ``ERASED``, ``GRANTED``, ``REVOKED``, ``READ``, ``SECOND_OPINION``, ``CORRECTED``,
            ``COMPARED``, ``REQUESTED``, ``TAKEN``, ``RELEASED``, ``FULFILLED``, ``CANCELLED`` or
            ``LOOKED``.
        at: Unix time: of the block, or of a look by the hospital's clock.
        position: On the chain; of a look, where its batch was anchored.
        version: The data-set version.
        hospital: In whose name it was done.
        actor: Who did it: the researcher who looked, the author of a reading, whoever sent it.
            None where the ledger does not say.
        change: Of a version.
        grant: The grant as it stands now.
        reading: The reading as it stands now; of a comparison, the author's own.
        comparison: What was said then.
        request: The request as it stands now.
        look: The look.
    """

    what: str
    at: int
    position: LogPosition
    version: bytes
    hospital: str
    actor: str | None
    change: VersionChange | None = None
    grant: GrantEntry | None = None
    reading: ReadingEntry | None = None
    comparison: ComparisonEntry | None = None
    request: RequestEntry | None = None
    look: LookEntry | None = None


@dataclass(frozen=True, slots=True)
class ImageHistory:
    """All that is known of an image, which is known by its commitment alone.

    Args:
        image: The commitment.
        versions: The versions that it is known to be in. A version names no image, so these are
            those that a grant, a reading, a request, an erasure or a look names with it.
        erasures: Where it was erased.
        logs: How much is known of the access logs of the versions' hospitals.
        timeline: What happened, oldest first.
    """

    image: bytes
    versions: tuple[VersionEntry, ...]
    erasures: tuple[Erasure, ...]
    logs: tuple[LookLog, ...]
    timeline: Page[TimelineEntry]


@dataclass(frozen=True, slots=True)
class OddityEntry:
    """Something on the chain that a person should look at.

    Args:
        kind: A value of `aggregator.oddities.Oddity`.
        round: The round that it is about.
        subject: The party that it is about.
        expected: In words.
        found: In words.
        noticed_at: Unix time of the block.
        position: On the chain.
    """

    kind: str
    round: int | None
    subject: str | None
    expected: str
    found: str
    noticed_at: int
    position: LogPosition


@dataclass(frozen=True, slots=True)
class ChainFinding:
    """A chain that was not what it had been, noticed while following it.

    Args:
        number: Counted from 1.
        what: ``rewound``: the chain is shorter than it was; ``reorganised``: another block stands
            where one was read.
        block: The block that the index stood at.
        expected: Its hash when it was read.
        found: The hash that the chain has there now, None where it has no such block.
        head: The chain's newest block when that was noticed.
        seen_at: Unix time by this machine's clock.
    """

    number: int
    what: str
    block: int
    expected: bytes
    found: bytes | None
    head: int
    seen_at: int


@dataclass(frozen=True, slots=True)
class OddityCount:
    """How many oddities of a kind there are."""

    kind: str
    found: int


@dataclass(frozen=True, slots=True)
class Oddities:
    """What looked odd: in the chain itself as it was followed, and in what it says.

    ``findings`` are the newest 200, newest first, and so are ``entries``.
    """

    findings: tuple[ChainFinding, ...]
    counts: tuple[OddityCount, ...]
    entries: Page[OddityEntry]


@dataclass(frozen=True, slots=True)
class DayEntry:
    """A day in UTC on which something happened.

    ``accepted``, ``clipped`` and ``rejected`` are of the rounds that became final on it.
    """

    since: int
    opened: int
    final: int
    aborted: int
    records: int
    accepted: int
    clipped: int
    rejected: int
    disputes: int


@dataclass(frozen=True, slots=True)
class TaskEntry:
    """A task; ``accepted``, ``clipped`` and ``rejected`` are of its final rounds."""

    task: str
    rounds: int
    final: int
    aborted: int
    accepted: int
    clipped: int
    rejected: int
    disputes: int
    newest_round: int | None
    newest_model: bytes | None


@dataclass(frozen=True, slots=True)
class WitnessEntry:
    """A witness: how many rounds name it, and what it did. ``name`` is None where not enrolled."""

    address: str
    name: str | None
    rounds: int
    attested: int
    disputed: int
    cosigned: int
    last_at: int | None


@dataclass(frozen=True, slots=True)
class RoleCount:
    """How many parties hold a role; ``suspended`` of them may not use it."""

    role: str
    parties: int
    suspended: int


@dataclass(frozen=True, slots=True)
class Overview:
    """The federation at a glance.

    Args:
        rounds: How many were opened.
        final: How many of them are final.
        aborted: How many were aborted.
        versions: How many data-set versions are registered.
        grants: How many grants were ever given.
        readings: How many readings of images were recorded; a correction is no further one.
        requests: How many requests for readings were made.
        findings: How many chain findings there are.
        days: The newest days on which something happened, oldest first.
        tasks: The tasks with the newest rounds first, 200 at most.
        witnesses: By address, 200 at most, those with the most rounds.
        roles: By word.
        verdicts: By outcome and code, over all rounds' newest proposals.
        oddities: By kind.
    """

    rounds: int
    final: int
    aborted: int
    versions: int
    grants: int
    readings: int
    requests: int
    findings: int
    days: tuple[DayEntry, ...]
    tasks: tuple[TaskEntry, ...]
    witnesses: tuple[WitnessEntry, ...]
    roles: tuple[RoleCount, ...]
    verdicts: tuple[VerdictCount, ...]
    oddities: tuple[OddityCount, ...]
