"""The words that the rooms share: values of the ledger and the wire, without behaviour.

Digests are 32 raw bytes, addresses EIP-55 checksummed strings, times Unix seconds (UTC).
`chain.wire` gives them their JSON form.
"""

from dataclasses import dataclass
from enum import Enum, IntEnum


class Role(Enum):
    """What a party may do; the value is hashed with Keccak-256 on chain (protocol 2)."""

    HOSPITAL = "HOSPITAL"
    AGGREGATOR = "AGGREGATOR"
    WITNESS = "WITNESS"
    AUDITOR = "AUDITOR"
    RESEARCHER = "RESEARCHER"
    STEWARD = "STEWARD"


class Phase(IntEnum):
    """Where a round stands (protocol 7)."""

    UNKNOWN = 0
    OPEN = 1
    COLLECTING = 2
    PROPOSED = 3
    FINAL = 4
    ABORTED = 5


class DatasetState(IntEnum):
    """Where a data-set version stands (protocol 4.3)."""

    UNKNOWN = 0
    ACTIVE = 1
    SUPERSEDED = 2
    WITHDRAWN = 3


class Outcome(IntEnum):
    """What became of an update (protocol 8)."""

    ACCEPTED = 0
    CLIPPED = 1
    REJECTED = 2


class Reason(IntEnum):
    """Why an update was not simply accepted, in the order of admission (protocol 8)."""

    NONE = 0
    BLOB_UNAVAILABLE = 1
    BLOB_DIGEST_MISMATCH = 2
    BLOB_TOO_LARGE = 3
    ENVELOPE_MALFORMED = 4
    ENVELOPE_CONTEXT_MISMATCH = 5
    ENVELOPE_RECIPIENTS_MISMATCH = 6
    ENVELOPE_UNOPENABLE = 7
    UPDATE_DIGEST_MISMATCH = 8
    TENSORS_MALFORMED = 9
    TENSOR_NAME_MISMATCH = 10
    TENSOR_DTYPE_MISMATCH = 11
    TENSOR_SHAPE_MISMATCH = 12
    NOT_A_NUMBER = 13
    INFINITE_VALUE = 14
    COPIED_FROM_PEER = 15
    REPLAYED_UPDATE = 16
    QUARANTINED = 17
    NORM_OUT_OF_RANGE = 18
    SIGNS_OUT_OF_CLUSTER = 19
    DIRECTION_OUT_OF_CLUSTER = 20
    OUTLYING_PROJECTION = 21
    TOO_MUCH_ALIKE = 22
    TRIMMED_BY_RULE = 32
    CLIPPED_BY_RULE = 33
    NOT_SELECTED_BY_RULE = 34
    WEIGHED_DOWN_BY_RULE = 35
    AGAINST_ROOT_UPDATE = 36
    UNKNOWN = 255

    @classmethod
    def _missing_(cls, value: object) -> "Reason | None":
        """Read a code that the protocol does not have, as only a faulty aggregator writes it.

        The verdicts' root then differs from the ledger's, and whoever checks it finds that.
        """
        is_code = isinstance(value, int) and 0 <= value < cls.UNKNOWN
        return cls.UNKNOWN if is_code else None


class Purpose(IntEnum):
    """GA4GH Data Use Ontology terms that a round can serve; the value is the DUO number."""

    NO_RESTRICTION = 4
    HEALTH_RESEARCH = 6
    DISEASE_RESEARCH = 7
    POPULATION_RESEARCH = 11
    GENERAL_RESEARCH = 42
    CLINICAL_CARE = 43


@dataclass(frozen=True, slots=True)
class LogPosition:
    """Where on the chain something was recorded; orders records (protocol 8)."""

    block: int
    log_index: int
    transaction: bytes


@dataclass(frozen=True, slots=True)
class Participant:
    """A party as enrolled on chain."""

    address: str
    roles: frozenset[Role]
    encryption_key: bytes
    name: str
    suspended: bool


@dataclass(frozen=True, slots=True)
class DatasetTerms:
    """What a hospital registers of a data-set version (protocol 4.3)."""

    name: str
    merkle_root: bytes
    images: int
    modality: str
    purposes: frozenset[int]
    profile: int
    attestation: bytes
    previous: bytes


@dataclass(frozen=True, slots=True)
class DatasetVersion:
    """A registered data-set version."""

    version: bytes
    dataset: bytes
    hospital: str
    state: DatasetState
    merkle_root: bytes
    images: int
    modality: str
    purposes: frozenset[int]
    profile: int
    attestation: bytes
    previous: bytes


@dataclass(frozen=True, slots=True)
class RoundTerms:
    """What opening a round fixes (protocol 7). ``rule`` is the pipeline in canonical JSON."""

    task: str
    purpose: int
    base_model: bytes
    base_blob: bytes
    schema: bytes
    rule: str
    min_updates: int
    max_updates: int
    quorum: int
    deadline: int
    witnesses: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Proposal:
    """The aggregator's newest word on a round (protocol 10). ``number`` counts from 1."""

    number: int
    model: bytes
    model_blob: bytes
    verdicts: bytes


@dataclass(frozen=True, slots=True)
class Round:
    """A round as the ledger has it now; ``proposal`` is None before the first."""

    number: int
    phase: Phase
    terms: RoundTerms
    aggregator: str
    opened_at: LogPosition
    updates: int
    attestations: int
    disputed: bool
    proposal: Proposal | None


@dataclass(frozen=True, slots=True)
class UpdateRecord:
    """What a hospital vouches for (protocol 7.1); epsilon in millionths, delta in 1e-12."""

    chain_id: int
    ledger: str
    round: int
    hospital: str
    datasets: tuple[bytes, ...]
    purpose: int
    examples: int
    base_model: bytes
    update: bytes
    blob: bytes
    code: bytes
    epsilon: int = 0
    delta: int = 0


@dataclass(frozen=True, slots=True)
class RecordedUpdate:
    """An update record with its place on the ledger."""

    record: UpdateRecord
    record_digest: bytes
    position: LogPosition


@dataclass(frozen=True, slots=True)
class Verdict:
    """What became of a hospital's update and why (protocol 8). Scores are in millionths."""

    hospital: str
    outcome: Outcome
    reason: Reason
    score: int
    threshold: int
    content: bytes


@dataclass(frozen=True, slots=True)
class Tally:
    """What became of a hospital's updates in the final rounds of a task, as the ledger counts."""

    accepted: int
    clipped: int
    rejected: int


@dataclass(frozen=True, slots=True)
class Attestation:
    """What a witness signs (protocol 10)."""

    round: int
    proposal: int
    model: bytes
    model_blob: bytes
    verdicts: bytes


@dataclass(frozen=True, slots=True)
class LedgerHead:
    """Where a chain stood when a round became final (protocol 13).

    Attributes:
        round: The round.
        number: The block that holds its `RoundFinalized`.
        hash: That block's hash.
        blocks: How many blocks up to it hold a log of the ledger or its registries.
        history: The hash chain over these blocks (see `chain.histories`).
    """

    round: int
    number: int
    hash: bytes
    blocks: int
    history: bytes


@dataclass(frozen=True, slots=True)
class CosignedHead:
    """A head with the signature of a witness, 65 bytes (see `chain.signing.sign_head`)."""

    head: LedgerHead
    witness: str
    signature: bytes


@dataclass(frozen=True, slots=True)
class AccessGrant:
    """A researcher's permission to look (protocol 11). ``image`` is None for the whole version."""

    grant: bytes
    version: bytes
    image: bytes | None
    hospital: str
    researcher: str
    purpose: int
    expiry: int
    revoked: bool
    live: bool


@dataclass(frozen=True, slots=True)
class Look:
    """An entry of a hospital's access log: who looked at what, under which grant (protocol 15).

    ``number`` counts a hospital's looks from 0; ``request`` is the SHA-256 of what was asked for.
    """

    hospital: str
    number: int
    researcher: str
    grant: bytes
    version: bytes
    image: bytes
    time: int
    request: bytes


@dataclass(frozen=True, slots=True)
class AnchoredBatch:
    """A batch of looks whose Merkle root a hospital put on the ledger (protocol 15)."""

    hospital: str
    batch: int
    root: bytes
    first: int
    entries: int
    position: LogPosition
