"""Tables of the index: what the chain's events say, laid out for questions.

The chain is the truth and the index a copy of it: `aggregator.index` fills it and can build it
anew at any time; nothing else writes to it. What no rebuild could bring back is no copy and stands
apart: what was seen of a chain that is no longer there, and the looks that hospitals handed over
(`aggregator.handed_over`). Digests and other hashes are raw bytes, addresses are
EIP-55, times are Unix seconds. Counts and the orders that questions ask for are written down with
each event, so that no question has to walk through the whole history.
"""

from typing import Any, ClassVar

from sqlalchemy import BigInteger, Boolean, Index, LargeBinary, MetaData, String, Text
from sqlalchemy.engine import Dialect
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column
from sqlalchemy.types import TypeDecorator

# Raised with every change of these tables: an index of another version is built anew.
SCHEMA_VERSION = 4

DAY = 86_400  # seconds
HEAD = 1  # the key of the one row of index_head

# The SQL indexes, beside the primary keys, without which events could not be written fast.
NEEDED_TO_WRITE = ("rounds_by_model",)

_DIGITS = 20  # of 2^64 - 1
_BYTEWISE = "C"  # PostgreSQL's name for the order of bytes, which is SQLite's order


def _text(length: int | None = None) -> String:
    """Return a type of text that sorts and compares alike in both databases."""
    return String(length).with_variant(String(length, collation=_BYTEWISE), "postgresql")


class Unsigned64(TypeDecorator[int]):
    """A whole number below 2^64, for which the databases' signed integers are too small.

    It is kept as text of 20 digits with leading zeros, which sorts like the numbers.
    """

    impl = _text(_DIGITS)
    cache_ok = True

    def process_bind_param(self, value: int | None, dialect: Dialect) -> str | None:  # noqa: ARG002
        """Write the number in digits."""
        return None if value is None else f"{value:0{_DIGITS}d}"

    def process_result_value(self, value: Any | None, dialect: Dialect) -> int | None:  # noqa: ARG002
        """Read the number back."""
        return None if value is None else int(value)


_TYPES = {
    bytes: LargeBinary,
    int: BigInteger,
    bool: Boolean,
    str: Text,
}


class Table(DeclarativeBase):
    """What all tables that are copies of the chain share."""

    metadata = MetaData()
    type_annotation_map: ClassVar = _TYPES


class Memory(DeclarativeBase):
    """What tables share that no rebuild can bring back, and none drops."""

    metadata = MetaData()
    type_annotation_map: ClassVar = _TYPES


class Positioned:
    """Where on the chain the event stands that made a row."""

    block: Mapped[int]
    log_index: Mapped[int]
    transaction: Mapped[bytes]


class Logged:
    """The same for rows that are one event each: its place is the key."""

    block: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
    log_index: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
    transaction: Mapped[bytes]


_Address = _text(42)
_Word = _text(24)
_Task = _text()


def storable(text: str) -> str:
    """Return text as every database takes it: PostgreSQL has no character of code 0."""
    return text.replace("\0", "\\x00")


class IndexHead(Table):
    """How far the index has read which chain; one row.

    ``event_block`` and ``event_time`` are of the newest block with an event, None before the first.
    """

    __tablename__ = "index_head"

    id: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
    schema_version: Mapped[int]
    chain_id: Mapped[int] = mapped_column(Unsigned64)
    ledger: Mapped[str] = mapped_column(_Address)
    block: Mapped[int]
    block_hash: Mapped[bytes]
    event_block: Mapped[int | None]
    event_time: Mapped[int | None]


class ChainFindingRow(Memory):
    """A chain that was not what it had been, noticed while following it.

    ``block`` is where the index stood, ``found`` the hash of that block now, None where the chain
    is shorter. ``seen_at`` is this machine's time.
    """

    __tablename__ = "chain_findings"

    number: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
    what: Mapped[str] = mapped_column(_Word)
    chain_id: Mapped[int] = mapped_column(Unsigned64)
    ledger: Mapped[str] = mapped_column(_Address)
    block: Mapped[int]
    expected: Mapped[bytes]
    found: Mapped[bytes | None]
    head: Mapped[int]
    seen_at: Mapped[int]


class HandedBatchRow(Memory):
    """A batch of looks that its hospital handed over, under the root that it was anchored by.

    The root commits to every look. It answers as long as the chain has a batch of this hospital
    with this root, first number and count. ``handed_at`` is this machine's time.
    """

    __tablename__ = "handed_batches"

    root: Mapped[bytes] = mapped_column(primary_key=True)
    hospital: Mapped[str] = mapped_column(_Address)
    first: Mapped[int]
    entries: Mapped[int]
    handed_at: Mapped[int]

    __table_args__ = (Index("handed_batches_of", "hospital"),)


class HandedLookRow(Memory):
    """A look of a batch that was handed over (docs/protocol.md, section 15)."""

    __tablename__ = "handed_looks"

    root: Mapped[bytes] = mapped_column(primary_key=True)
    number: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
    hospital: Mapped[str] = mapped_column(_Address)
    researcher: Mapped[str] = mapped_column(_Address)
    grant: Mapped[bytes]
    version: Mapped[bytes]
    image: Mapped[bytes]
    time: Mapped[int]
    request: Mapped[bytes]

    __table_args__ = (
        Index("handed_looks_of_image", "image", "version", "time", "number"),
        Index("handed_looks_of_version", "version", "time", "number"),
        Index("handed_looks_of_researcher", "researcher", "time", "number", "hospital"),
    )


class ParticipantRow(Positioned, Table):
    """An enrolled party (docs/protocol.md, section 2)."""

    __tablename__ = "participants"

    address: Mapped[str] = mapped_column(_Address, primary_key=True)
    encryption_key: Mapped[bytes]
    name: Mapped[str]
    suspended: Mapped[bool]
    suspension: Mapped[str | None]
    enrolled_at: Mapped[int]


class ParticipantRoleRow(Table):
    """A role that a party has now, by its word."""

    __tablename__ = "participant_roles"

    address: Mapped[str] = mapped_column(_Address, primary_key=True)
    role: Mapped[str] = mapped_column(_Word, primary_key=True)


class MembershipChangeRow(Logged, Table):
    """A change of a party's roles, key or standing."""

    __tablename__ = "membership_changes"

    address: Mapped[str] = mapped_column(_Address)
    what: Mapped[str] = mapped_column(_Word)
    role: Mapped[str | None] = mapped_column(_Word)
    reason: Mapped[str | None]
    changed_at: Mapped[int]

    __table_args__ = (Index("membership_changes_of", "address", "block", "log_index"),)


class DatasetVersionRow(Positioned, Table):
    """A registered data-set version (docs/protocol.md, section 4.3).

    ``purposes`` and ``profile`` are sets of bits; ``withdrawal`` is the hospital's reason.
    """

    __tablename__ = "dataset_versions"

    version: Mapped[bytes] = mapped_column(primary_key=True)
    dataset: Mapped[bytes]
    hospital: Mapped[str] = mapped_column(_Address)
    name: Mapped[str]
    state: Mapped[int]
    merkle_root: Mapped[bytes]
    images: Mapped[int]
    modality: Mapped[str]
    purposes: Mapped[int]
    profile: Mapped[int]
    attestation: Mapped[bytes]
    previous: Mapped[bytes]
    withdrawal: Mapped[str | None]
    registered_at: Mapped[int]

    __table_args__ = (
        Index("dataset_versions_of", "dataset", "block", "log_index"),
        Index("dataset_versions_by_hospital", "hospital", "block", "log_index"),
    )


class VersionChangeRow(Logged, Table):
    """A change of a data-set version, its registration too."""

    __tablename__ = "version_changes"

    version: Mapped[bytes]
    what: Mapped[str] = mapped_column(_Word)
    purposes: Mapped[int | None]
    reason: Mapped[str | None]
    successor: Mapped[bytes | None]
    image: Mapped[bytes | None]
    changed_at: Mapped[int]

    __table_args__ = (Index("version_changes_of", "version", "block", "log_index"),)


class ImageVersionRow(Table):
    """A version that an image is known to be in, because an event names both.

    ``hospital`` is whose version it is, empty where the version is unknown.
    """

    __tablename__ = "image_versions"

    image: Mapped[bytes] = mapped_column(primary_key=True)
    version: Mapped[bytes] = mapped_column(primary_key=True)
    hospital: Mapped[str] = mapped_column(_Address)

    __table_args__ = (Index("image_versions_of", "image", "hospital"),)


class ErasureRow(Positioned, Table):
    """An image that a hospital erased from a version (docs/protocol.md, section 4.5)."""

    __tablename__ = "image_erasures"

    image: Mapped[bytes] = mapped_column(primary_key=True)
    version: Mapped[bytes] = mapped_column(primary_key=True)
    hospital: Mapped[str] = mapped_column(_Address)
    erased_at: Mapped[int]


class VersionMarkRow(Positioned, Table):
    """What restricted a version since it was registered: how often, and the first time.

    ``what`` is as in `VersionChangeRow`, without registrations and corrections.
    """

    __tablename__ = "version_marks"

    version: Mapped[bytes] = mapped_column(primary_key=True)
    what: Mapped[str] = mapped_column(_Word, primary_key=True)
    times: Mapped[int]
    reason: Mapped[str | None]
    changed_at: Mapped[int]


class TimelineRow(Table):
    """An event in the history of an image, or of all images of a version.

    ``subject`` is the image's commitment or the version. ``thing`` is what the event is about: a
    grant, a reading, a request or, where an image is erased, its version. ``other`` and ``value``
    are, of a comparison, the other reading and the agreement. It was done in the name of
    ``hospital``; ``actor`` is who did it, where the event says so.
    """

    __tablename__ = "timeline"

    subject: Mapped[bytes] = mapped_column(primary_key=True)
    at: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
    block: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
    log_index: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
    transaction: Mapped[bytes]
    what: Mapped[str] = mapped_column(_Word)
    hospital: Mapped[str] = mapped_column(_Address)
    actor: Mapped[str | None] = mapped_column(_Address)
    thing: Mapped[bytes]
    other: Mapped[bytes | None]
    value: Mapped[int | None]


class TaskRow(Table):
    """A task: its final rounds, which are one line, and where that line begins.

    ``base_task`` and ``base_round`` are where the first final round's base model was made;
    ``accepted``, ``clipped`` and ``rejected`` are of final rounds.
    """

    __tablename__ = "tasks"

    task: Mapped[str] = mapped_column(_Task, primary_key=True)
    base_task: Mapped[str | None] = mapped_column(_Task, index=True)
    base_round: Mapped[int | None]
    first_final: Mapped[int | None]
    last_final: Mapped[int | None]
    newest_round: Mapped[int] = mapped_column(index=True)
    rounds: Mapped[int]
    final: Mapped[int]
    aborted: Mapped[int]
    accepted: Mapped[int]
    clipped: Mapped[int]
    rejected: Mapped[int]
    disputes: Mapped[int]


class RoundRow(Positioned, Table):
    """A round: what opening fixed, and where it stands (docs/protocol.md, section 7).

    ``model`` and ``model_blob`` are those that became final; ``abortion`` is the reason given.
    ``base_round`` made the base model, ``generation`` rounds lead to it, ``origin`` is the model
    that they began with. ``accepted``, ``clipped``, ``rejected`` and ``attestations`` count for
    the newest proposal, which may be ``disputed``; ``disputes`` counts for all.
    """

    __tablename__ = "rounds"

    number: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
    task: Mapped[str] = mapped_column(_Task)
    phase: Mapped[int]
    purpose: Mapped[int]
    base_model: Mapped[bytes]
    base_blob: Mapped[bytes]
    base_round: Mapped[int | None]
    generation: Mapped[int]
    origin: Mapped[bytes]
    schema: Mapped[bytes]
    rule: Mapped[str]
    min_updates: Mapped[int]
    max_updates: Mapped[int]
    quorum: Mapped[int]
    deadline: Mapped[int] = mapped_column(Unsigned64)
    aggregator: Mapped[str] = mapped_column(_Address)
    proposal: Mapped[int]
    model: Mapped[bytes | None]
    model_blob: Mapped[bytes | None]
    aborted_by: Mapped[str | None] = mapped_column(_Address)
    abortion: Mapped[str | None]
    records: Mapped[int]
    accepted: Mapped[int]
    clipped: Mapped[int]
    rejected: Mapped[int]
    attestations: Mapped[int]
    disputed: Mapped[bool]
    disputes: Mapped[int]
    opened_at: Mapped[int]
    ended_at: Mapped[int | None]
    ended_block: Mapped[int | None]
    ended_log_index: Mapped[int | None]
    ended_transaction: Mapped[bytes | None]

    __table_args__ = (
        Index("rounds_of_task", "task", "number"),
        Index("rounds_by_phase", "phase", "number"),
        Index("rounds_of_task_by_phase", "task", "phase", "number"),
        Index(*NEEDED_TO_WRITE, "model", "number"),
    )


class RoundWitnessRow(Table):
    """A witness that a round names."""

    __tablename__ = "round_witnesses"

    round: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
    witness: Mapped[str] = mapped_column(_Address, primary_key=True)


class WitnessRow(Table):
    """How often rounds named a party their witness, and what it did."""

    __tablename__ = "witnesses"

    address: Mapped[str] = mapped_column(_Address, primary_key=True)
    rounds: Mapped[int]
    attested: Mapped[int]
    disputed: Mapped[int]
    cosigned: Mapped[int]
    last_at: Mapped[int | None]


class DayRow(Table):
    """What happened on a day in UTC, counted from 1970-01-01.

    ``accepted``, ``clipped`` and ``rejected`` are of the rounds that became final on it.
    """

    __tablename__ = "days"

    day: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
    opened: Mapped[int]
    final: Mapped[int]
    aborted: Mapped[int]
    records: Mapped[int]
    accepted: Mapped[int]
    clipped: Mapped[int]
    rejected: Mapped[int]
    disputes: Mapped[int]


class RecordRow(Positioned, Table):
    """An update record (docs/protocol.md, section 7.1)."""

    __tablename__ = "records"

    round: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
    hospital: Mapped[str] = mapped_column(_Address, primary_key=True)
    record_digest: Mapped[bytes]
    examples: Mapped[int]
    update: Mapped[bytes]
    blob: Mapped[bytes]
    code: Mapped[bytes]
    epsilon: Mapped[int] = mapped_column(Unsigned64)
    delta: Mapped[int] = mapped_column(Unsigned64)
    recorded_at: Mapped[int]

    __table_args__ = (Index("records_of_hospital", "hospital", "round"),)


class RecordDatasetRow(Table):
    """A data-set version that an update was trained on; empty ``dataset``: of an unknown one."""

    __tablename__ = "record_datasets"

    round: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
    hospital: Mapped[str] = mapped_column(_Address, primary_key=True)
    version: Mapped[bytes] = mapped_column(primary_key=True)
    dataset: Mapped[bytes]
    task: Mapped[str] = mapped_column(_Task)


Index(
    "record_datasets_of",
    RecordDatasetRow.dataset,
    RecordDatasetRow.round.desc(),
    RecordDatasetRow.hospital,
)
Index(
    "record_datasets_by_version",
    RecordDatasetRow.version,
    RecordDatasetRow.task,
    RecordDatasetRow.round,
)


class TaskVersionRow(Table):
    """From which round on a task's models descend from a data-set version.

    ``first_round`` is the first that kept an update trained on it; a round that is still under way
    is behind all final ones, and goes again if it is aborted or proposed anew.
    """

    __tablename__ = "task_versions"

    task: Mapped[str] = mapped_column(_Task, primary_key=True)
    version: Mapped[bytes] = mapped_column(primary_key=True)
    first_round: Mapped[int]

    __table_args__ = (Index("task_versions_of", "version", "first_round"),)


class ProposalRow(Positioned, Table):
    """A model that the aggregator proposed (docs/protocol.md, section 10)."""

    __tablename__ = "proposals"

    round: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
    number: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
    model: Mapped[bytes]
    model_blob: Mapped[bytes]
    verdicts: Mapped[bytes]
    proposed_at: Mapped[int]


class VerdictRow(Positioned, Table):
    """A verdict of a proposal (docs/protocol.md, section 8); ``newest`` where no other followed."""

    __tablename__ = "verdicts"

    round: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
    proposal: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
    hospital: Mapped[str] = mapped_column(_Address, primary_key=True)
    task: Mapped[str] = mapped_column(_Task)
    newest: Mapped[bool]
    outcome: Mapped[int]
    reason: Mapped[int]
    score: Mapped[int] = mapped_column(Unsigned64)
    threshold: Mapped[int] = mapped_column(Unsigned64)
    content: Mapped[bytes]


# The newest rounds come first, as in every list of verdicts. A filter that is not at an index's
# beginning is at its end, so that it is applied without a look at the row.
Index(
    "verdicts_of_hospital",
    VerdictRow.hospital,
    VerdictRow.round.desc(),
    VerdictRow.outcome,
    VerdictRow.reason,
)
Index("verdicts_of_task", VerdictRow.task, VerdictRow.round.desc(), VerdictRow.hospital)
Index(
    "verdicts_of_task_by_outcome",
    VerdictRow.task,
    VerdictRow.outcome,
    VerdictRow.round.desc(),
    VerdictRow.hospital,
)
Index(
    "verdicts_of_task_by_reason",
    VerdictRow.task,
    VerdictRow.reason,
    VerdictRow.round.desc(),
    VerdictRow.hospital,
    VerdictRow.outcome,
)
Index("verdicts_by_outcome", VerdictRow.outcome, VerdictRow.round.desc(), VerdictRow.hospital)
Index(
    "verdicts_by_reason",
    VerdictRow.reason,
    VerdictRow.round.desc(),
    VerdictRow.hospital,
    VerdictRow.outcome,
)


class TaskVerdictsRow(Table):
    """How many verdicts in a task come to an outcome for a reason, by rounds' newest proposals."""

    __tablename__ = "task_verdicts"

    task: Mapped[str] = mapped_column(_Task, primary_key=True)
    outcome: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
    reason: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
    updates: Mapped[int]


class HospitalVerdictsRow(Table):
    """How many verdicts on a hospital come to an outcome for a reason, by newest proposals."""

    __tablename__ = "hospital_verdicts"

    hospital: Mapped[str] = mapped_column(_Address, primary_key=True)
    outcome: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
    reason: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
    updates: Mapped[int]


class AttestationRow(Positioned, Table):
    """A witness's signature under a proposal."""

    __tablename__ = "attestations"

    round: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
    proposal: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
    witness: Mapped[str] = mapped_column(_Address, primary_key=True)
    signature: Mapped[bytes]
    attested_at: Mapped[int]


class DisputeRow(Positioned, Table):
    """A witness's other result."""

    __tablename__ = "disputes"

    round: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
    proposal: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
    witness: Mapped[str] = mapped_column(_Address, primary_key=True)
    model: Mapped[bytes]
    verdicts: Mapped[bytes]
    evidence: Mapped[bytes]
    disputed_at: Mapped[int]


class CosignatureRow(Positioned, Table):
    """A witness's signature under the ledger's head at a final round (docs/protocol.md, 13)."""

    __tablename__ = "cosignatures"

    round: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
    witness: Mapped[str] = mapped_column(_Address, primary_key=True)
    number: Mapped[int] = mapped_column(Unsigned64)
    hash: Mapped[bytes]
    blocks: Mapped[int] = mapped_column(Unsigned64)
    history: Mapped[bytes]
    signature: Mapped[bytes]
    cosigned_at: Mapped[int]


class GrantRow(Positioned, Table):
    """A researcher's permission to look (docs/protocol.md, section 11).

    ``image`` is None for the whole version. Whether a grant is live is asked of the chain.
    """

    __tablename__ = "grants"

    grant: Mapped[bytes] = mapped_column(primary_key=True)
    version: Mapped[bytes]
    image: Mapped[bytes | None]
    hospital: Mapped[str] = mapped_column(_Address)
    researcher: Mapped[str] = mapped_column(_Address)
    purpose: Mapped[int]
    expiry: Mapped[int] = mapped_column(Unsigned64)
    revoked: Mapped[bool]
    granted_at: Mapped[int]
    revoked_at: Mapped[int | None]
    revoked_block: Mapped[int | None]
    revoked_log_index: Mapped[int | None]
    revoked_transaction: Mapped[bytes | None]

    __table_args__ = (
        Index("grants_in_order", "block", "log_index"),
        Index("grants_of_version", "version", "block", "log_index"),
        Index("grants_of_image", "version", "image", "block", "log_index"),
        Index("grants_of_researcher", "researcher", "block", "log_index"),
        Index("grants_by_hospital", "hospital", "block", "log_index"),
    )


class LookBatchRow(Positioned, Table):
    """A batch of looks whose root a hospital anchored (docs/protocol.md, section 15)."""

    __tablename__ = "look_batches"

    hospital: Mapped[str] = mapped_column(_Address, primary_key=True)
    batch: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
    root: Mapped[bytes]
    first: Mapped[int]
    entries: Mapped[int]
    anchored_at: Mapped[int]

    __table_args__ = (
        Index("look_batches_by_root", "root"),
        Index("look_batches_in_order", "hospital", "block", "log_index"),
    )


class LookLogRow(Table):
    """How much of its access log a hospital anchored."""

    __tablename__ = "look_logs"

    hospital: Mapped[str] = mapped_column(_Address, primary_key=True)
    batches: Mapped[int]
    entries: Mapped[int]
    anchored_at: Mapped[int]


class ClinicianRow(Positioned, Table):
    """A clinician whom a hospital appointed, until when (docs/protocol.md, section 16)."""

    __tablename__ = "clinicians"

    hospital: Mapped[str] = mapped_column(_Address, primary_key=True)
    clinician: Mapped[str] = mapped_column(_Address, primary_key=True)
    until: Mapped[int] = mapped_column(Unsigned64)
    appointed_at: Mapped[int]

    __table_args__ = (Index("clinicians_in_order", "hospital", "block", "log_index"),)


class ReadingRow(Positioned, Table):
    """A reading of an image, or a correction of one (docs/protocol.md, section 16).

    A reading and its corrections are a line, which has the first one's identifier. ``owner`` is
    the hospital whose image it is, ``hospital`` the one whose reading. ``opinion_line`` is the line
    of the reading that it is a second opinion on.
    """

    __tablename__ = "readings"

    reading: Mapped[bytes] = mapped_column(primary_key=True)
    version: Mapped[bytes]
    image: Mapped[bytes]
    owner: Mapped[str] = mapped_column(_Address)
    hospital: Mapped[str] = mapped_column(_Address)
    author: Mapped[str] = mapped_column(_Address)
    line: Mapped[bytes]
    opinion_on: Mapped[bytes | None]
    opinion_line: Mapped[bytes | None]
    request: Mapped[bytes | None]
    document: Mapped[bytes]
    blob: Mapped[bytes]
    corrects: Mapped[bytes | None]
    corrected_by: Mapped[bytes | None]
    reason: Mapped[str | None]
    recorded_at: Mapped[int]

    __table_args__ = (
        Index("readings_in_order", "block", "log_index"),
        Index("readings_of_image", "image", "block", "log_index"),
        Index("readings_of_image_by", "image", "hospital", "block", "log_index"),
        Index("readings_of_version", "version", "block", "log_index"),
        Index("readings_of_owner", "owner", "block", "log_index"),
        Index("readings_by_hospital", "hospital", "block", "log_index"),
        Index("readings_by_author", "author", "block", "log_index"),
        Index("readings_of_line", "line", "block", "log_index"),
        Index("readings_on", "opinion_line", "block", "log_index"),
    )


class ComparisonRow(Positioned, Table):
    """How far a reading agrees with another one, by its author's last word."""

    __tablename__ = "comparisons"

    own: Mapped[bytes] = mapped_column(primary_key=True)
    other: Mapped[bytes] = mapped_column(primary_key=True)
    own_line: Mapped[bytes]
    other_line: Mapped[bytes]
    image: Mapped[bytes]
    author: Mapped[str] = mapped_column(_Address)
    agreement: Mapped[int]
    compared_at: Mapped[int]

    __table_args__ = (
        Index("comparisons_of_line", "own_line", "block", "log_index"),
        Index("comparisons_with_line", "other_line", "block", "log_index"),
    )


class ReadingRequestRow(Positioned, Table):
    """A request for a reading as it stands (docs/protocol.md, section 16).

    Whether it lapsed follows from its deadlines when it is asked for. ``changed_*`` is its newest
    event.
    """

    __tablename__ = "reading_requests"

    request: Mapped[bytes] = mapped_column(primary_key=True)
    version: Mapped[bytes]
    image: Mapped[bytes]
    hospital: Mapped[str] = mapped_column(_Address)
    reader: Mapped[str | None] = mapped_column(_Address)
    opinion_on: Mapped[bytes | None]
    take_by: Mapped[int] = mapped_column(Unsigned64)
    fulfil_by: Mapped[int] = mapped_column(Unsigned64)
    question: Mapped[bytes | None]
    state: Mapped[int]
    taker: Mapped[str | None] = mapped_column(_Address)
    reading: Mapped[bytes | None]
    asked_at: Mapped[int]
    changed_at: Mapped[int]
    changed_block: Mapped[int]
    changed_log_index: Mapped[int]
    changed_transaction: Mapped[bytes]

    __table_args__ = (
        Index("reading_requests_in_order", "block", "log_index"),
        Index("reading_requests_by_state", "state", "block", "log_index"),
        Index("reading_requests_due", "state", "take_by", "block", "log_index"),
        Index("reading_requests_of_image", "image", "block", "log_index"),
        Index("reading_requests_of_hospital", "hospital", "block", "log_index"),
        Index("reading_requests_to", "reader", "block", "log_index"),
        Index("reading_requests_taken_by", "taker", "block", "log_index"),
    )


class OddityRow(Logged, Table):
    """Something that a person should look at (`aggregator.oddities`)."""

    __tablename__ = "oddities"

    kind: Mapped[str] = mapped_column(_Word, primary_key=True)
    round: Mapped[int | None]
    subject: Mapped[str | None] = mapped_column(_Address)
    expected: Mapped[str]
    found: Mapped[str]
    noticed_at: Mapped[int]

    __table_args__ = (
        Index("oddities_by_kind", "kind", "block", "log_index"),
        Index("oddities_of_round", "round", "block", "log_index"),
    )


class OddityCountRow(Table):
    """How many oddities of a kind there are."""

    __tablename__ = "oddity_counts"

    kind: Mapped[str] = mapped_column(_Word, primary_key=True)
    found: Mapped[int]
