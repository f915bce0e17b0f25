"""Values of the ledger as the documentation shows them, written by the code that writes answers."""

from api.schemas import ADDRESS, LEDGER, Json
from chain.types import (
    AccessGrant,
    LogPosition,
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
        rule='{"name":"trimmed_mean","params":{"f":1}}',
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
    number=1,
    version=b"\xda" * 32,
    image=None,
    hospital=_HOSPITAL,
    researcher=ADDRESS,
    purpose=6,
    expiry=1_798_761_600,
    revoked=False,
    live=True,
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
