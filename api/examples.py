"""Values of the ledger as the documentation shows them, written by the code that writes answers."""

from aggregator.quarantine import Quarantine
from aggregator.queries import (
    Ancestor,
    ChainFinding,
    ClinicianEntry,
    ComparisonEntry,
    Contribution,
    CosignatureEntry,
    DatasetHistory,
    DatasetUse,
    DayEntry,
    Descendant,
    Descendants,
    Flag,
    FlagKind,
    GrantEntry,
    HospitalHistory,
    ImageHistory,
    LookBatch,
    LookEntry,
    LookLog,
    Looks,
    MembershipChange,
    Oddities,
    OddityCount,
    OddityEntry,
    Overview,
    Page,
    ProposalEntry,
    Provenance,
    ReadingEntry,
    ReadingHistory,
    RequestEntry,
    RoleCount,
    RoundEntry,
    RoundHistory,
    Sight,
    Span,
    TaskEntry,
    TimelineEntry,
    TouchedTask,
    VerdictCount,
    VerdictEntry,
    VersionChange,
    VersionEntry,
    Viewers,
    WitnessEntry,
    WitnessWord,
)
from aggregator.reputation import ReasonCount, Reputation, Standing
from api.schemas import ADDRESS, LEDGER, Json
from chain.canonical import canonical_json
from chain.readings import Agreement, RequestState
from chain.types import (
    AccessGrant,
    DatasetState,
    LogPosition,
    Look,
    Outcome,
    Phase,
    Proposal,
    Reason,
    Round,
    RoundTerms,
    UpdateRecord,
    Verdict,
)
from chain.wire import to_hex, to_json_dict

_HOSPITAL = "0x70997970C51812dc3A010C7d01b50e0d17dc79C8"
_POSITION = LogPosition(block=42, log_index=0, transaction=b"\x42" * 32)

RECORD = UpdateRecord(
    chain_id=31337,
    ledger=LEDGER,
    round=3,
    hospital=_HOSPITAL,
    datasets=(b"\xda" * 32,),
    purpose=6,
    examples=480,
    base_model=b"\xba" * 32,
    update=b"\x0d" * 32,
    blob=b"\xb1" * 32,
    code=b"\xc0" * 32,
)
VERDICT = Verdict(_HOSPITAL, Outcome.ACCEPTED, Reason.NONE, 21_000, 900_000, b"\xce" * 32)
ROUND = Round(
    number=3,
    phase=Phase.FINAL,
    terms=RoundTerms(
        task="lesion",
        purpose=6,
        base_model=b"\xba" * 32,
        base_blob=b"\xbb" * 32,
        schema=b"\x5c" * 32,
        rule='[{"name":"trimmed_mean","params":{"f":1}}]',
        min_updates=3,
        max_updates=8,
        quorum=2,
        deadline=1_767_272_400,
        witnesses=(ADDRESS,),
    ),
    aggregator=ADDRESS,
    opened_at=_POSITION,
    updates=5,
    attestations=2,
    disputed=False,
    proposal=Proposal(1, b"\x0e" * 32, b"\x0f" * 32, b"\x0a" * 32),
)
GRANT = AccessGrant(
    grant=b"\x7c" * 32,
    version=b"\xda" * 32,
    image=None,
    hospital=_HOSPITAL,
    researcher=ADDRESS,
    purpose=6,
    expiry=1_798_761_600,
    revoked=False,
    live=True,
)
_VERDICT_ENTRY = VerdictEntry(
    round=3,
    task="lesion",
    proposal=1,
    hospital=_HOSPITAL,
    outcome=Outcome.ACCEPTED,
    reason="NONE",
    score=21_000,
    threshold=900_000,
    content=b"\xce" * 32,
    position=_POSITION,
)
_CONTRIBUTION = Contribution(
    round=3,
    task="lesion",
    phase=Phase.FINAL,
    hospital=_HOSPITAL,
    examples=480,
    update=b"\x0d" * 32,
    blob=b"\xb1" * 32,
    code=b"\xc0" * 32,
    recorded_at=1_767_269_000,
    position=_POSITION,
    datasets=(DatasetUse(b"\xda" * 32, b"\xd5" * 32, "MRI 2025", DatasetState.ACTIVE, 500),),
    verdict=_VERDICT_ENTRY,
)
_ROUND_ENTRY = RoundEntry(
    number=3,
    task="lesion",
    phase=Phase.FINAL,
    purpose=6,
    base_model=b"\xba" * 32,
    base_round=None,
    generation=0,
    origin=b"\xba" * 32,
    rule='[{"name":"trimmed_mean","params":{"f":1}}]',
    min_updates=3,
    max_updates=8,
    quorum=2,
    deadline=1_767_272_400,
    aggregator=ADDRESS,
    model=b"\x0e" * 32,
    model_blob=b"\x0f" * 32,
    aborted_by=None,
    abortion=None,
    records=5,
    accepted=3,
    clipped=1,
    rejected=1,
    attestations=2,
    disputes=0,
    opened_at=1_767_268_800,
    position=_POSITION,
    ended_at=1_767_270_000,
    ended=LogPosition(block=57, log_index=1, transaction=b"\x57" * 32),
)
_VERSION = VersionEntry(
    version=b"\xda" * 32,
    dataset=b"\xd5" * 32,
    hospital=_HOSPITAL,
    name="MRI 2025",
    state=DatasetState.ACTIVE,
    merkle_root=b"\x3e" * 32,
    images=500,
    modality="MR",
    purposes=(6, 42),
    profile=1,
    attestation=b"\xa7" * 32,
    previous=bytes(32),
    withdrawal=None,
    registered_at=1_767_260_000,
    position=_POSITION,
    changes=(VersionChange("REGISTERED", (6, 42), None, None, 1_767_260_000, _POSITION),),
)
_FLAG = Flag(
    kind=FlagKind.IMAGE_ERASED,
    version=b"\xda" * 32,
    hospital=_HOSPITAL,
    name="MRI 2025",
    task="lesion",
    first_round=3,
    count=2,
    purposes=(),
    reason=None,
    since=1_767_280_000,
    position=_POSITION,
)
_GRANT_ENTRY = GrantEntry(
    grant=b"\x7c" * 32,
    version=b"\xda" * 32,
    image=None,
    hospital=_HOSPITAL,
    researcher=ADDRESS,
    purpose=6,
    expiry=1_798_761_600,
    granted_at=1_767_265_200,
    position=_POSITION,
    revoked_at=None,
    revoked=None,
)
_BATCH = LookBatch(_HOSPITAL, 3, b"\x10" * 32, 2048, 1024, 1_767_269_000, _POSITION, 1_767_269_100)
_LOOK = LookEntry(
    hospital=_HOSPITAL,
    batch=3,
    number=2048,
    researcher=ADDRESS,
    grant=b"\x7c" * 32,
    version=b"\xda" * 32,
    image=b"\x1a" * 32,
    time=1_767_268_000,
    request=b"\x9d" * 32,
    position=_POSITION,
)
_LOG = LookLog(_HOSPITAL, 3, 0, 1_767_269_000)
_READING = ReadingEntry(
    reading=b"\x4e" * 32,
    version=b"\xda" * 32,
    image=b"\x1a" * 32,
    owner=_HOSPITAL,
    hospital=_HOSPITAL,
    author=ADDRESS,
    opinion_on=None,
    request=None,
    document=b"\xd0" * 32,
    blob=b"\xb0" * 32,
    corrects=None,
    corrected_by=None,
    reason=None,
    recorded_at=1_767_271_000,
    position=_POSITION,
)
BLOCK = {"number": 57, "hash": to_hex(b"\x57" * 32), "timestamp": 1_767_269_000}


def shown(example: Json) -> dict[int | str, Json]:
    """Return what a route passes to FastAPI to document its answer by an example."""
    return {200: {"content": {"application/json": {"example": example}}}}


def round_answer() -> Json:
    """Return the example of a round with what a hospital needs to take part."""
    return {
        "chain_id": 31337,
        "ledger": LEDGER,
        "round": to_json_dict(ROUND),
        "recipients": [to_hex(b"\x1e" * 32), to_hex(b"\x2e" * 32)],
    }


def _as_of(value: object) -> Json:
    return {"as_of": {"number": 57, "hash": BLOCK["hash"]}, **to_json_dict(value)}


def rounds() -> Json:
    """Return the example of a page of rounds."""
    return _as_of(Page((_ROUND_ENTRY,), "WzNd"))


def verdicts() -> Json:
    """Return the example of a page of verdicts."""
    return _as_of(Page((_VERDICT_ENTRY,), None))


def standings() -> Json:
    """Return the example of the standing of a task's hospitals."""
    reasons = (ReasonCount(Outcome.REJECTED, Reason.NOT_A_NUMBER, 4),)
    shut_out = Standing(_HOSPITAL, 12, 0, 4, reasons, 4_000_000, True, 9)
    return _as_of(Reputation("lesion", 17, Quarantine(4, 10, 10), (shut_out,)))


def provenance() -> Json:
    """Return the example of where a model comes from."""
    ancestors = Page((Ancestor(_ROUND_ENTRY, (_CONTRIBUTION,)),), None)
    return _as_of(Provenance(b"\x0e" * 32, (), ancestors, b"\xba" * 32, (6, 42), (_FLAG,)))


def round_history() -> Json:
    """Return the example of a round's history."""
    proposal = ProposalEntry(
        number=1,
        model=b"\x0e" * 32,
        model_blob=b"\x0f" * 32,
        proposed_at=1_767_269_500,
        position=_POSITION,
        verdicts=(_VERDICT_ENTRY,),
        words=(WitnessWord(ADDRESS, True, 1_767_269_900, _POSITION, None),),
    )
    signed = CosignatureEntry(
        witness=ADDRESS,
        number=57,
        hash=b"\x57" * 32,
        blocks=31,
        history=b"\x51" * 32,
        signature=b"\x5a" * 65,
        cosigned_at=1_767_270_100,
        position=_POSITION,
    )
    return _as_of(RoundHistory(_ROUND_ENTRY, (ADDRESS,), (_CONTRIBUTION,), (proposal,), (signed,)))


def dataset_history() -> Json:
    """Return the example of a data set's history."""
    return _as_of(DatasetHistory((_VERSION,), Page((_CONTRIBUTION,), None)))


def hospital_history() -> Json:
    """Return the example of a hospital's history."""
    granted = MembershipChange("ROLE_GRANTED", "HOSPITAL", None, 1_767_250_000, _POSITION)
    return _as_of(
        HospitalHistory(
            address=_HOSPITAL,
            name="North",
            roles=("HOSPITAL",),
            suspended=False,
            suspension=None,
            enrolled_at=1_767_250_000,
            position=_POSITION,
            changes=(granted,),
            verdicts=(VerdictCount(Outcome.ACCEPTED, "NONE", 12),),
            versions=(_VERSION,),
            contributions=Page((_CONTRIBUTION,), None),
        )
    )


def descendants() -> Json:
    """Return the example of the models that a data-set version is in."""
    task = TouchedTask("lesion", 3, None, 1, 3, b"\x0e" * 32)
    made = (b"\x0e" * 32, b"\x0f" * 32)
    model = Descendant("lesion", 3, *made, True, (6, 42), 1_767_270_000, _POSITION)
    return _as_of(Descendants(_VERSION, None, (task,), (_FLAG,), Page((model,), None)))


def viewers() -> Json:
    """Return the example of who could see an image on a day."""
    sight = Sight(_GRANT_ENTRY, (Span(1_767_265_200, 1_767_311_999),))
    day = Span(1_767_225_600, 1_767_311_999)
    who_did = Looks(_LOG, Page((_LOOK,), None))
    return _as_of(Viewers(_VERSION, b"\x1a" * 32, day, Page((sight,), None), who_did))


def look_line() -> str:
    """Return the example of a batch of looks, of which there is one."""
    names = ("hospital", "number", "researcher", "grant", "version", "image", "time", "request")
    look = Look(**{name: getattr(_LOOK, name) for name in names})
    return canonical_json(to_json_dict(look)).decode() + "\n"


def look_batch() -> Json:
    """Return the example of a batch that was handed over."""
    return to_json_dict(_BATCH)


def look_batches() -> Json:
    """Return the example of a page of anchored batches."""
    return _as_of(Page((_BATCH,), None))


def looks() -> Json:
    """Return the example of a page of a researcher's looks."""
    return _as_of(Page((_LOOK,), None))


def image_history() -> Json:
    """Return the example of an image's history."""
    (registered,) = _VERSION.changes
    place, version = (1_767_260_000, _POSITION, b"\xda" * 32), b"\xda" * 32
    entries = (
        TimelineEntry("REGISTERED", *place, _HOSPITAL, None, change=registered),
        TimelineEntry(
            "GRANTED", 1_767_265_200, _POSITION, version, _HOSPITAL, _HOSPITAL, grant=_GRANT_ENTRY
        ),
        TimelineEntry("LOOKED", _LOOK.time, _POSITION, version, _HOSPITAL, ADDRESS, look=_LOOK),
    )
    return _as_of(ImageHistory(b"\x1a" * 32, (_VERSION,), (), (_LOG,), Page(entries, None)))


def readings() -> Json:
    """Return the example of a page of readings."""
    return _as_of(Page((_READING,), None))


def reading_history() -> Json:
    """Return the example of a reading with what was said of it."""
    other = (b"\x2e" * 32, b"\x4e" * 32)
    said = ComparisonEntry(*other, ADDRESS, Agreement.AGREES, False, 1_767_275_000, _POSITION)
    return _as_of(ReadingHistory((_READING,), (said,), ()))


def reading_requests() -> Json:
    """Return the example of a page of requests for readings."""
    request = RequestEntry(
        request=b"\x9e" * 32,
        version=b"\xda" * 32,
        image=b"\x1a" * 32,
        hospital=_HOSPITAL,
        reader=None,
        opinion_on=b"\x4e" * 32,
        take_by=1_767_311_999,
        fulfil_by=1_767_398_399,
        question=b"\x9b" * 32,
        state=RequestState.OPEN,
        lapsed=False,
        taker=None,
        reading=None,
        asked_at=1_767_272_000,
        position=_POSITION,
        changed_at=1_767_272_000,
        changed=_POSITION,
    )
    return _as_of(Page((request,), None))


def clinicians() -> Json:
    """Return the example of a page of a hospital's clinicians."""
    appointed = ClinicianEntry(_HOSPITAL, ADDRESS, 1_798_761_600, 1_767_262_000, _POSITION)
    return _as_of(Page((appointed,), None))


def oddities() -> Json:
    """Return the example of what looked odd."""
    finding = ChainFinding(1, "rewound", 57, b"\x57" * 32, None, 50, 1_767_271_000)
    entry = OddityEntry(
        kind="time_jumped",
        round=3,
        subject=None,
        expected="at most 86400 seconds after block 41",
        found="90000 seconds",
        noticed_at=1_767_269_000,
        position=_POSITION,
    )
    counts = (OddityCount("time_jumped", 1),)
    return _as_of(Oddities((finding,), counts, Page((entry,), None)))


def overview() -> Json:
    """Return the example of a federation at a glance."""
    return _as_of(
        Overview(
            rounds=3,
            final=2,
            aborted=1,
            versions=5,
            grants=1,
            readings=1,
            requests=1,
            findings=0,
            days=(DayEntry(1_767_225_600, 3, 2, 1, 12, 9, 0, 1, 0),),
            tasks=(TaskEntry("lesion", 3, 2, 1, 9, 0, 1, 0, 3, b"\x0e" * 32),),
            witnesses=(WitnessEntry(ADDRESS, "Archive", 3, 2, 0, 2, 1_767_270_100),),
            roles=(RoleCount("HOSPITAL", 5, 0),),
            verdicts=(VerdictCount(Outcome.ACCEPTED, "NONE", 9),),
            oddities=(),
        )
    )
