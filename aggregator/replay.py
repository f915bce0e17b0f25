"""Judging and aggregating a round: the one code that aggregator, witness and auditor run.

Everything comes from the ledger and from blobs that are checked against it, so whoever holds the
private key of one of the round's recipients gets the same verdicts and the same model, to the bit
(docs/protocol.md, sections 8 and 9).
"""

import shutil
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from collections.abc import Set as AbstractSet
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from time import perf_counter

from aggregator.admission import NO_CONTENT, AdmissionTerms, Admitted, admit, require_finite
from aggregator.cohort import Member
from aggregator.judgement import KEPT, Judgement
from aggregator.pipeline import Pipeline, parse_pipeline
from aggregator.progress import Progress, ProgressCallback, unheard
from aggregator.quarantine import Quarantine
from aggregator.reputation import standings, verdict_history
from chain.addresses import address_order
from chain.blob_store import BlobReader
from chain.cid import Cid
from chain.digests import content_digest
from chain.envelope import ContentKeys
from chain.errors import DigestMismatchError, UnfitRoundError
from chain.files import private_folder
from chain.ledger_view import LedgerView
from chain.schema import MAX_MODEL, Schema
from chain.tensors import open_tensors, trained_content
from chain.types import Outcome, Phase, Reason, Round, RoundTerms, UpdateRecord, Verdict


@dataclass(frozen=True, slots=True)
class RoundResult:
    """What a round's records come to.

    Args:
        verdicts: One for each record, ascending by hospital.
        model_digest: The aggregate's content digest.
        model_path: Its file.
        schema: Its tensors, a server optimiser's state among them.
        seconds: What each stage took: `fetch` (the base model), `admit`, `aggregate`.
    """

    verdicts: tuple[Verdict, ...]
    model_digest: bytes
    model_path: Path
    schema: Schema
    seconds: Mapping[str, float]


def judge_and_aggregate(
    reader: LedgerView,
    blobs: BlobReader,
    round_number: int,
    *,
    private_key: bytes | ContentKeys,
    workdir: Path,
    target: Path,
    threads: int,
    progress: ProgressCallback = unheard,
) -> RoundResult:
    """Judge every record of a round, and aggregate those that are admitted.

    Args:
        reader: The ledger.
        blobs: Where base model and envelopes lie.
        round_number: The round; its collecting should have ended.
        private_key: The X25519 key of one of the round's recipients; or the envelopes' own keys,
            as an auditor disclosed them.
        workdir: Kept private (0700). What an earlier run fetched is used again, after its digest
            was checked. Plaintexts are gone from it when this returns.
        target: Where the model is written.
        threads: How many threads aggregate; no bit depends on it.
        progress: Called as each stage moves on.

    Raises:
        UnfitRoundError: If the round makes no model; it carries the verdicts.
        BlobUnavailableError: If the base model cannot be had.
        DigestMismatchError: If the base model or its schema is not the round's.
        LedgerError: If the chain cannot be read.
        OSError: If the disk is full.
    """
    clock = _Clock()
    round_ = reader.round(round_number)
    pipeline = parse_pipeline(round_.terms.rule)
    with clock.measure("fetch"):
        base = fetch_base_model(blobs, round_.terms, private_folder(workdir))
    with open_tensors(base) as tensors:
        schema = tensors.schema.trained()
        # Without its server state the base model has a digest that no list of models knows.
        stripped = set() if schema == tensors.schema else {trained_content(tensors)}
    with _plaintexts(workdir) as plaintexts:
        with clock.measure("admit"):
            terms = admission_terms(reader, round_, schema)
            terms = replace(terms, earlier=terms.earlier | stripped)
            records = [recorded.record for recorded in reader.records(round_number)]
            envelopes = private_folder(workdir / "envelopes")

            def judge(record: UpdateRecord, peers: AbstractSet[bytes]) -> Admitted | Verdict:
                return admit(
                    record,
                    terms,
                    peers=peers,
                    blobs=blobs,
                    private_key=private_key,
                    envelopes=envelopes,
                    plaintexts=plaintexts,
                )

            judged = _judge_in_order(records, judge, progress)
            quarantined = _quarantined(reader, round_, pipeline.quarantine)
        progress(Progress("aggregate", 0, 1))
        with clock.measure("aggregate"):
            verdicts = _aggregate(
                pipeline, round_.terms, base, judged, quarantined, target, threads
            )
            digest = content_digest(target)
        with open_tensors(target) as model:
            schema = model.schema
        progress(Progress("aggregate", 1, 1))
    return RoundResult(verdicts, digest, target, schema, clock.seconds)


def fetch_base_model(blobs: BlobReader, terms: RoundTerms, folder: Path) -> Path:
    """Fetch a round's base model into `folder`, unless it is there, and check it.

    Raises:
        BlobUnavailableError: If it cannot be had.
        DigestMismatchError: If it, or its schema, is not what the round fixes.
        InvalidInputError: If it is no canonical tensor file, or a value is not finite: no update's
            length could be measured from it.
    """
    path = folder / f"{terms.base_model.hex()}.safetensors"
    if not path.is_file() or content_digest(path) != terms.base_model:
        blobs.fetch(Cid.from_blob_digest(terms.base_blob), path, MAX_MODEL)
        _require_digest("base model", terms.base_model, content_digest(path))
    with open_tensors(path) as tensors:
        _require_digest("schema of the base model", terms.schema, tensors.schema.digest())
        require_finite("base model", tensors)
    return path


def admission_terms(reader: LedgerView, round_: Round, schema: Schema) -> AdmissionTerms:
    """Collect what a round's records are held against."""
    return AdmissionTerms(
        chain_id=reader.chain_id,
        ledger=reader.address,
        round=round_.number,
        schema=schema,
        recipients=tuple(reader.recipients(round_.number)),
        earlier=earlier_contents(reader, round_),
    )


def earlier_contents(reader: LedgerView, round_: Round) -> frozenset[bytes]:
    """Collect the content digests that no update of the round may have (protocol 8, code 16).

    They are those of the updates and models of the task's final rounds before this one, and of
    the model that this round starts from.
    """
    contents = {round_.terms.base_model}
    for number in reader.task_rounds(round_.terms.task):
        earlier = reader.round(number)
        if number < round_.number and earlier.phase is Phase.FINAL and earlier.proposal:
            contents |= {earlier.terms.base_model, earlier.proposal.model}
            verdicts = reader.verdicts(number, earlier.proposal.number)
            contents |= {verdict.content for verdict in verdicts}
    return frozenset(contents - {NO_CONTENT})


class _Clock:
    """Measures stages in seconds."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = {}

    @contextmanager
    def measure(self, stage: str) -> Iterator[None]:
        start = perf_counter()
        yield
        self.seconds[stage] = perf_counter() - start


@contextmanager
def _plaintexts(workdir: Path) -> Iterator[Path]:
    """Lend a private folder for plaintexts; also what a killed run left in it is deleted."""
    folder = workdir / "plaintexts"
    shutil.rmtree(folder, ignore_errors=True)
    try:
        yield private_folder(folder)
    finally:
        shutil.rmtree(folder)


def _require_digest(what: str, expected: bytes, found: bytes) -> None:
    if found != expected:
        raise DigestMismatchError(f"{what}, SHA-256", expected.hex(), found.hex())


def _judge_in_order(
    records: Sequence[UpdateRecord],
    judge: Callable[[UpdateRecord, AbstractSet[bytes]], Admitted | Verdict],
    tell: ProgressCallback,
) -> list[Admitted | Verdict]:
    """Judge records in the order of the ledger: of two equal contents the first one passes."""
    peers: set[bytes] = set()
    judged: list[Admitted | Verdict] = []
    for record in records:
        tell(Progress("admit", len(judged), len(records)))
        judged.append(judge(record, peers))
        peers.add(judged[-1].content)
    tell(Progress("admit", len(judged), len(records)))
    return judged


def _quarantined(
    reader: LedgerView, round_: Round, policy: Quarantine | None
) -> Mapping[str, Judgement]:
    """Return the judgement of each hospital that is quarantined in this round."""
    if policy is None:
        return {}
    history = verdict_history(reader, round_.terms.task, round_.number)
    return {
        hospital: Judgement(
            Outcome.REJECTED, Reason.QUARANTINED, standing.strikes, policy.threshold
        )
        for hospital, standing in standings(history, policy).items()
        if standing.quarantined
    }


def _aggregate(
    pipeline: Pipeline,
    terms: RoundTerms,
    base: Path,
    judged: Sequence[Admitted | Verdict],
    quarantined: Mapping[str, Judgement],
    target: Path,
    threads: int,
) -> tuple[Verdict, ...]:
    """Write the model and return all verdicts, ascending by hospital."""
    admitted = sorted(
        (one for one in judged if isinstance(one, Admitted)),
        key=lambda one: address_order(one.record.hospital),
    )
    rejected = [one for one in judged if isinstance(one, Verdict)]
    judgements = [quarantined.get(one.record.hospital, KEPT) for one in admitted]
    welcome = [i for i, one in enumerate(admitted) if one.record.hospital not in quarantined]
    try:
        _require_kept(terms, judgements)
        aggregated = _apply(pipeline, base, [admitted[i] for i in welcome], target, threads)
        for i, judgement in zip(welcome, aggregated, strict=True):
            judgements[i] = judgement
        _require_kept(terms, judgements)
    except UnfitRoundError as error:
        verdicts = _verdicts(rejected, admitted, judgements)
        raise UnfitRoundError(str(error), verdicts) from error
    return _verdicts(rejected, admitted, judgements)


def _require_kept(terms: RoundTerms, judgements: Iterable[Judgement]) -> None:
    kept = sum(one.outcome is not Outcome.REJECTED for one in judgements)
    if kept < terms.min_updates:
        message = f"expected at least {terms.min_updates} admitted updates, found {kept}"
        raise UnfitRoundError(message)


def _apply(
    pipeline: Pipeline, base: Path, admitted: Sequence[Admitted], target: Path, threads: int
) -> Sequence[Judgement]:
    with ExitStack() as stack:
        model = stack.enter_context(open_tensors(base))
        members = [
            Member(
                one.record.hospital,
                one.record.examples,
                one.content,
                stack.enter_context(open_tensors(one.path)),
            )
            for one in admitted
        ]
        return pipeline.aggregate(model, members, target, threads)


def _verdicts(
    rejected: Iterable[Verdict], admitted: Iterable[Admitted], judgements: Iterable[Judgement]
) -> tuple[Verdict, ...]:
    judged = (
        Verdict(
            one.record.hospital,
            judgement.outcome,
            judgement.reason,
            judgement.score,
            judgement.threshold,
            one.content,
        )
        for one, judgement in zip(admitted, judgements, strict=True)
    )
    return tuple(sorted([*rejected, *judged], key=lambda one: address_order(one.hospital)))
