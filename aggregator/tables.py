"""Tables of the index: what the chain's events say, laid out for questions.

The chain is the truth and the index a copy of it: `aggregator.index` fills it and can build it
anew at any time; nothing else writes to it. Digests and other hashes are raw bytes, addresses are
EIP-55, times are Unix seconds.
"""

from typing import Any, ClassVar

from sqlalchemy import BigInteger, Boolean, Index, LargeBinary, MetaData, String, Text
from sqlalchemy.engine import Dialect
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column
from sqlalchemy.types import TypeDecorator

# Raised with every change of these tables: an index of another version is built anew.
SCHEMA_VERSION = 1

_DIGITS = 20  # of 2^64 - 1


class Unsigned64(TypeDecorator[int]):
    """A whole number below 2^64, for which the databases' signed integers are too small.

    It is kept as text of 20 digits with leading zeros, which sorts like the numbers.
    """

    impl = String(_DIGITS)
    cache_ok = True

    def process_bind_param(self, value: int | None, dialect: Dialect) -> str | None:  # noqa: ARG002
        """Write the number in digits."""
        return None if value is None else f"{value:0{_DIGITS}d}"

    def process_result_value(self, value: Any | None, dialect: Dialect) -> int | None:  # noqa: ARG002
        """Read the number back."""
        return None if value is None else int(value)


class Table(DeclarativeBase):
    """What all tables of the index share."""

    metadata = MetaData()
    type_annotation_map: ClassVar = {
        bytes: LargeBinary,
        int: BigInteger,
        bool: Boolean,
        str: Text,
    }


_Address = String(42)


def storable(text: str) -> str:
    """Return text as every database takes it: PostgreSQL has no character of code 0."""
    return text.replace("\0", "\\x00")


class IndexHead(Table):
    """How far the index has read which chain; one row."""

    __tablename__ = "index_head"

    id: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
    schema_version: Mapped[int]
    chain_id: Mapped[int] = mapped_column(Unsigned64)
    ledger: Mapped[str] = mapped_column(_Address)
    block: Mapped[int]
    block_hash: Mapped[bytes]


class ParticipantRow(Table):
    """An enrolled party (docs/protocol.md, section 2)."""

    __tablename__ = "participants"

    address: Mapped[str] = mapped_column(_Address, primary_key=True)
    encryption_key: Mapped[bytes]
    name: Mapped[str]
    suspended: Mapped[bool]
    suspension: Mapped[str | None]


class ParticipantRoleRow(Table):
    """A role of a party, by its word."""

    __tablename__ = "participant_roles"

    address: Mapped[str] = mapped_column(_Address, primary_key=True)
    role: Mapped[str] = mapped_column(String(16), primary_key=True)


class DatasetVersionRow(Table):
    """A registered data-set version (docs/protocol.md, section 4.3).

    ``purposes`` and ``profile`` are sets of bits; ``withdrawal`` is the hospital's reason.
    """

    __tablename__ = "dataset_versions"

    version: Mapped[bytes] = mapped_column(primary_key=True)
    dataset: Mapped[bytes] = mapped_column(index=True)
    hospital: Mapped[str] = mapped_column(_Address, index=True)
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
    registered_block: Mapped[int]
    registered_at: Mapped[int]


class RoundRow(Table):
    """A round: what opening fixed, and where it stands (docs/protocol.md, section 7).

    ``model`` and ``model_blob`` are those that became final; ``abortion`` is the reason given.
    """

    __tablename__ = "rounds"

    number: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
    task: Mapped[str] = mapped_column(index=True)
    phase: Mapped[int]
    purpose: Mapped[int]
    base_model: Mapped[bytes]
    base_blob: Mapped[bytes]
    schema: Mapped[bytes]
    rule: Mapped[str]
    min_updates: Mapped[int]
    max_updates: Mapped[int]
    quorum: Mapped[int]
    deadline: Mapped[int] = mapped_column(Unsigned64)
    aggregator: Mapped[str] = mapped_column(_Address)
    proposal: Mapped[int]
    model: Mapped[bytes | None] = mapped_column(index=True)
    model_blob: Mapped[bytes | None]
    aborted_by: Mapped[str | None] = mapped_column(_Address)
    abortion: Mapped[str | None]
    opened_block: Mapped[int]
    opened_at: Mapped[int]
    ended_at: Mapped[int | None]


class RoundWitnessRow(Table):
    """A witness that a round names."""

    __tablename__ = "round_witnesses"

    round: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
    witness: Mapped[str] = mapped_column(_Address, primary_key=True)


class RecordRow(Table):
    """An update record (docs/protocol.md, section 7.1)."""

    __tablename__ = "records"

    round: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
    hospital: Mapped[str] = mapped_column(_Address, primary_key=True, index=True)
    record_digest: Mapped[bytes]
    examples: Mapped[int]
    update: Mapped[bytes]
    blob: Mapped[bytes]
    code: Mapped[bytes]
    epsilon: Mapped[int] = mapped_column(Unsigned64)
    delta: Mapped[int] = mapped_column(Unsigned64)
    block: Mapped[int]
    log_index: Mapped[int]
    transaction: Mapped[bytes]
    recorded_at: Mapped[int]


class RecordDatasetRow(Table):
    """A data-set version that an update was trained on."""

    __tablename__ = "record_datasets"

    round: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
    hospital: Mapped[str] = mapped_column(_Address, primary_key=True)
    version: Mapped[bytes] = mapped_column(primary_key=True, index=True)


class ProposalRow(Table):
    """A model that the aggregator proposed (docs/protocol.md, section 10)."""

    __tablename__ = "proposals"

    round: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
    number: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
    model: Mapped[bytes]
    model_blob: Mapped[bytes]
    verdicts: Mapped[bytes]
    proposed_block: Mapped[int]
    proposed_at: Mapped[int]


class VerdictRow(Table):
    """A verdict of one proposal (docs/protocol.md, section 8)."""

    __tablename__ = "verdicts"

    round: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
    proposal: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
    hospital: Mapped[str] = mapped_column(_Address, primary_key=True, index=True)
    outcome: Mapped[int]
    reason: Mapped[int]
    score: Mapped[int] = mapped_column(Unsigned64)
    threshold: Mapped[int] = mapped_column(Unsigned64)
    content: Mapped[bytes]

    __table_args__ = (Index("verdicts_by_outcome", "outcome", "reason"),)


class AttestationRow(Table):
    """A witness's signature under a proposal."""

    __tablename__ = "attestations"

    round: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
    proposal: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
    witness: Mapped[str] = mapped_column(_Address, primary_key=True)
    signature: Mapped[bytes]
    attested_at: Mapped[int]


class DisputeRow(Table):
    """A witness's other result."""

    __tablename__ = "disputes"

    round: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
    proposal: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
    witness: Mapped[str] = mapped_column(_Address, primary_key=True)
    model: Mapped[bytes]
    verdicts: Mapped[bytes]
    evidence: Mapped[bytes]
    disputed_at: Mapped[int]


class GrantRow(Table):
    """A researcher's permission to look (docs/protocol.md, section 11).

    ``image`` is None for the whole version. Whether a grant is live is asked of the chain.
    """

    __tablename__ = "grants"

    number: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
    version: Mapped[bytes] = mapped_column(index=True)
    image: Mapped[bytes | None]
    hospital: Mapped[str] = mapped_column(_Address)
    researcher: Mapped[str] = mapped_column(_Address, index=True)
    purpose: Mapped[int]
    expiry: Mapped[int] = mapped_column(Unsigned64)
    revoked: Mapped[bool]
    granted_at: Mapped[int]
