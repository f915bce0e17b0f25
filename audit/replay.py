"""Audit of a task from chain and IPFS alone: verify, fetch every blob, replay every round.

The replay is the aggregator's own code (`aggregator.replay`), run by somebody else. It needs the
X25519 key of a recipient of the round's envelopes; every auditor that is enrolled when a round is
opened is one (docs/protocol.md, section 6). Without a key the audit does all the rest.
"""

import shutil
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

from aggregator.replay import (
    MAX_MODEL,
    Progress,
    ProgressCallback,
    judge_and_aggregate,
    private_folder,
    unheard,
)
from audit.history import RegistryHistory
from audit.verify import (
    BLOBS,
    CHAIN_OF_MODELS,
    DATA_SETS,
    KEPT_UPDATES,
    MODELS,
    RECORDS,
    REPLAY,
    VERDICTS,
    WITNESSES,
    AuditReport,
    Finding,
    RoundEvidence,
    compare_replay,
    verify_task,
)
from chain.blobs import BlobStore, Source
from chain.cid import Cid
from chain.digests import content_digest
from chain.envelope import envelope_size, public_key
from chain.errors import (
    BlobUnavailableError,
    DigestMismatchError,
    InvalidInputError,
    LedgerError,
    UnfitRoundError,
    UnknownRoundError,
    VerificationError,
)
from chain.ledger import LedgerReader
from chain.tensors import Schema, open_tensors
from chain.types import DatasetVersion, Phase, Reason, RecordedUpdate, Round

_FROM_THE_LEDGER = (CHAIN_OF_MODELS, RECORDS, DATA_SETS, VERDICTS, KEPT_UPDATES, WITNESSES)

# Verdicts that say themselves that the blob was not there, not whole or too large to look at.
_WITHOUT_BLOB = frozenset(
    {Reason.BLOB_UNAVAILABLE, Reason.BLOB_DIGEST_MISMATCH, Reason.BLOB_TOO_LARGE}
)
# How often a round that moves on is read; each phase change takes a transaction at least.
_READINGS = 5
_BLOB_FAULTS = (BlobUnavailableError, VerificationError, InvalidInputError)


def audit_task(
    reader: LedgerReader,
    blobs: BlobStore,
    task: str,
    private_key: bytes | None = None,
    *,
    workdir: Path,
    threads: int = 1,
    progress: ProgressCallback = unheard,
) -> AuditReport:
    """Audit all rounds of a task, those in work too.

    (1) to (6) What the ledger says of every round is verified: see `audit.verify.verify_task`.
    (7) Every blob that a round stands on is fetched and checked against its CID.
    (8) Every model hashes to its digest on the ledger, and has the round's schema, but for the
        state of a server optimiser.
    (9) With a key: admission and aggregation of every proposed round are repeated. A round that
        lacks a blob, or whose envelopes are not for this key, is left out.

    Step (10), the index, is `audit.index.audit_index`. A fault in one round does not keep the
    others from being audited. Nothing that an earlier audit fetched is used.

    Args:
        reader: The ledger.
        blobs: Where models and envelopes lie.
        task: The task's name.
        private_key: The auditor's X25519 key, 32 bytes, or None.
        workdir: A folder; what is fetched goes into its subfolder `audit`, and away at the end.
        threads: How many threads aggregate; no digest depends on it.
        progress: Called as the audit moves on.

    Raises:
        UnknownRoundError: If the ledger has no round of this task.
        LedgerError: If the chain cannot be read.
        OSError: If the disk is full.
    """
    rounds = read_evidence(reader, task, progress)
    # (1) to (6) What the ledger says.
    findings = verify_task(rounds)
    folder = workdir / "audit"
    shutil.rmtree(folder, ignore_errors=True)
    replay = _Replay(
        reader,
        blobs,
        private_key=private_key,
        folder=private_folder(folder),
        threads=threads,
        progress=progress,
    )
    try:
        for done, evidence in enumerate(rounds):
            progress(Progress("rounds", done, len(rounds)))
            # (7) to (9) What the round stands on.
            findings += replay.audit(evidence)
        progress(Progress("rounds", len(rounds), len(rounds)))
    finally:
        shutil.rmtree(folder)
    run = {*_FROM_THE_LEDGER, BLOBS, MODELS}
    if replay.complete:
        run.add(REPLAY)
    return AuditReport.of(findings, run)


def read_evidence(
    reader: LedgerReader, task: str, progress: ProgressCallback = unheard
) -> tuple[RoundEvidence, ...]:
    """Read all that the chain says of a task's rounds, ascending.

    Raises:
        UnknownRoundError: If the ledger has no round of this task.
        LedgerError: If the chain cannot be read.
    """
    numbers = reader.task_rounds(task)
    if not numbers:
        message = f"expected a task of the ledger {reader.address}, found {task!r}: it has no round"
        raise UnknownRoundError(message)
    rounds: list[RoundEvidence] = []
    for number in numbers:
        progress(Progress("ledger", len(rounds), len(numbers)))
        rounds.append(_read_round(reader, number))
    progress(Progress("ledger", len(rounds), len(numbers)))
    # Last, so that it knows of everything that came before any record.
    history = RegistryHistory.read(reader, reader.head().number)
    return tuple(_with_registries(evidence, history) for evidence in rounds)


def _read_round(reader: LedgerReader, number: int) -> RoundEvidence:
    """Read a round; one that moves on meanwhile is read anew, so that all is of one moment."""
    round_ = reader.round(number)
    for _ in range(_READINGS):
        evidence = _read_once(reader, round_)
        before, round_ = round_, reader.round(number)
        if round_ == before:
            return evidence
    message = f"round {number} moved on during each of {_READINGS} readings: try again later"
    raise LedgerError(message)


def _read_once(reader: LedgerReader, round_: Round) -> RoundEvidence:
    number = round_.number
    newest = round_.proposal.number if round_.proposal is not None else 0
    return RoundEvidence(
        chain_id=reader.chain_id,
        ledger=reader.address,
        round=round_,
        records=reader.records(number),
        versions=(),
        active=frozenset(),
        verdicts=reader.verdicts(number, newest) if newest else (),
        attestations=reader.attestations(number, newest) if newest else (),
        disputants=tuple(
            dispute.witness for dispute in reader.disputes(number) if dispute.proposal == newest
        ),
    )


def _with_registries(evidence: RoundEvidence, history: RegistryHistory) -> RoundEvidence:
    """Add how hospitals and data sets stood when each record was made."""
    active = frozenset(
        recorded.record.hospital
        for recorded in evidence.records
        if history.is_active_hospital(recorded.record.hospital, recorded.position)
    )
    versions = tuple(_versions(history, recorded) for recorded in evidence.records)
    return replace(evidence, versions=versions, active=active)


def _versions(history: RegistryHistory, recorded: RecordedUpdate) -> tuple[DatasetVersion, ...]:
    named = (history.version(name, recorded.position) for name in recorded.record.datasets)
    return tuple(version for version in named if version is not None)


class _Replay:
    """Fetches what rounds stand on and replays them; what one round fetched serves the next."""

    def __init__(
        self,
        reader: LedgerReader,
        blobs: BlobStore,
        *,
        private_key: bytes | None,
        folder: Path,
        threads: int,
        progress: ProgressCallback,
    ) -> None:
        self._reader = reader
        self._blobs = blobs
        self._private_key = private_key
        self._folder = folder
        self._threads = threads
        self._progress = progress
        self._fetched: tuple[bytes, bytes] | None = None
        self.complete = private_key is not None

    def audit(self, evidence: RoundEvidence) -> list[Finding]:
        """Run the steps 7 to 9 on one round."""
        # (7), (8) Blobs and models.
        findings = list(self._check_blobs(evidence))
        if evidence.proposal is not None:
            # (9) Admission and aggregation, repeated.
            if not findings and self._is_recipient(evidence.round.number):
                findings += self._replay(evidence)
            else:
                self.complete = False
        self._tidy(evidence)
        return findings

    def _check_blobs(self, evidence: RoundEvidence) -> Iterator[Finding]:
        terms, proposal = evidence.round.terms, evidence.proposal
        base = self._folder / f"{terms.base_model.hex()}.safetensors"
        subject = f"{evidence.name}, base model"
        schemas = [terms.schema]
        faults = list(
            self._check_model(subject, terms.base_model, terms.base_blob, schemas, MAX_MODEL)
        )
        yield from faults
        if faults or proposal is None:
            return
        with open_tensors(base) as tensors:
            trained = tensors.schema.trained()
        # Which of them it has to be, if it is a server optimiser's work, only the replay tells.
        schemas = [schema.digest() for schema in trained.models()]
        most = max(schema.file_size() for schema in trained.models())
        subject = f"{evidence.name}, model of proposal {proposal.number}"
        yield from self._check_model(subject, proposal.model, proposal.model_blob, schemas, most)
        yield from self._check_envelopes(evidence, trained)

    def _check_model(
        self, subject: str, digest: bytes, blob: bytes, schemas: Sequence[bytes], max_bytes: int
    ) -> Iterator[Finding]:
        path = self._folder / f"{digest.hex()}.safetensors"
        if self._fetched != (digest, blob):
            faults = list(self._fetch(subject, blob, path, max_bytes))
            yield from faults
            if faults:
                return
        found = content_digest(path)
        if found != digest:
            message = "the stored model is not the one that the ledger names"
            yield Finding(MODELS, subject, digest.hex(), found.hex(), message)
            return
        yield from _check_schema(subject, path, schemas)

    def _check_envelopes(self, evidence: RoundEvidence, schema: Schema) -> Iterator[Finding]:
        reasons = {verdict.hospital: verdict.reason for verdict in evidence.verdicts}
        recipients = self._reader.recipients(evidence.round.number)
        most = envelope_size(schema.file_size(), len(recipients))
        folder = private_folder(self._folder / "envelopes")
        for done, recorded in enumerate(evidence.records):
            self._progress(Progress("blobs", done, len(evidence.records)))
            record = recorded.record
            if reasons.get(record.hospital) not in _WITHOUT_BLOB:
                subject = f"{evidence.name}, envelope of {record.hospital}"
                path = folder / f"{record.blob.hex()}.envelope"
                yield from self._fetch(subject, record.blob, path, most)

    def _fetch(self, subject: str, blob: bytes, path: Path, max_bytes: int) -> Iterator[Finding]:
        cid = Cid.from_blob_digest(blob)
        try:
            self._blobs.fetch(cid, path, max_bytes)
        except BlobUnavailableError as error:
            message = "the blob cannot be had"
            yield Finding(BLOBS, f"{subject}, blob {cid}", str(cid), str(error), message)
        except (VerificationError, InvalidInputError) as error:
            message = "the stored bytes are not those that the ledger names"
            yield Finding(BLOBS, f"{subject}, blob {cid}", str(cid), str(error), message)

    def _is_recipient(self, number: int) -> bool:
        if self._private_key is None:
            return False
        return public_key(self._private_key) in self._reader.recipients(number)

    def _replay(self, evidence: RoundEvidence) -> list[Finding]:
        number, proposal = evidence.round.number, evidence.proposal
        if self._private_key is None or proposal is None:
            return []
        target = self._folder / "replayed"
        try:
            result = judge_and_aggregate(
                self._reader,
                _AsWitnessed(self._blobs, evidence),
                number,
                private_key=self._private_key,
                workdir=self._folder,
                target=target,
                threads=self._threads,
                progress=self._progress,
            )
        except UnfitRoundError as error:
            return compare_replay(number, proposal, evidence.verdicts, None, error.verdicts)
        except _BLOB_FAULTS as error:
            message = "the round cannot be replayed"
            return [Finding(REPLAY, evidence.name, "a replay", str(error), message)]
        verdicts = result.verdicts
        return compare_replay(number, proposal, evidence.verdicts, result.model_digest, verdicts)

    def _tidy(self, evidence: RoundEvidence) -> None:
        """Delete all but the model that the next round starts from, so that the disk suffices."""
        is_final = evidence.round.phase is Phase.FINAL
        terms, proposal = evidence.round.terms, evidence.proposal
        kept = (terms.base_model, terms.base_blob)
        if is_final and proposal is not None:
            kept = (proposal.model, proposal.model_blob)
        path = self._folder / f"{kept[0].hex()}.safetensors"
        whole = path.is_file() and content_digest(path) == kept[0]
        self._fetched = kept if whole else None
        for each in self._folder.iterdir():
            if each.is_dir():
                shutil.rmtree(each)
            elif each != path or not whole:
                each.unlink()


class _AsWitnessed:
    """The blobs of a final round as its witnesses saw them.

    Whether a blob could be had then cannot be found out later, and a hospital could make an audit
    fail by handing its blob in late. So where k witnesses vouched for a verdict that a blob was
    missing or not whole, the replay takes their word; also where it was too large and is gone, for
    nobody keeps such a blob. A round that is not final gets no such credit.
    """

    def __init__(self, blobs: BlobStore, evidence: RoundEvidence) -> None:
        self._blobs = blobs
        self._reasons: dict[bytes, set[Reason]] = {}
        if evidence.round.phase is Phase.FINAL:
            reasons = {verdict.hospital: verdict.reason for verdict in evidence.verdicts}
            for recorded in evidence.records:
                reason = reasons.get(recorded.record.hospital, Reason.NONE)
                self._reasons.setdefault(recorded.record.blob, set()).add(reason)

    def put(self, source: Source) -> Cid:
        """Store a blob."""
        return self._blobs.put(source)

    def has(self, cid: Cid) -> bool:
        """Tell whether the store has a blob now, which says that the store answers."""
        return self._blobs.has(cid)

    def stream(self, cid: Cid, max_bytes: int) -> Iterator[bytes]:
        """Yield a blob's bytes as the witnesses could."""
        self._check(cid)
        return self._blobs.stream(cid, max_bytes)

    def get(self, cid: Cid, max_bytes: int) -> bytes:
        """Return a blob as the witnesses could."""
        self._check(cid)
        return self._blobs.get(cid, max_bytes)

    def fetch(self, cid: Cid, path: Path, max_bytes: int) -> None:
        """Write a blob to a file as the witnesses could."""
        self._check(cid)
        try:
            self._blobs.fetch(cid, path, max_bytes)
        except BlobUnavailableError as error:
            if self._reasons.get(cid.digest) == {Reason.BLOB_TOO_LARGE}:
                message = f"the round's witnesses found {cid} too large"
                raise InvalidInputError(message) from error
            raise

    def _check(self, cid: Cid) -> None:
        # A blob that two records name counts as missing where it was so for both.
        reasons = self._reasons.get(cid.digest, set())
        if reasons == {Reason.BLOB_UNAVAILABLE}:
            message = f"the round's witnesses could not get {cid}"
            raise BlobUnavailableError(message)
        if reasons == {Reason.BLOB_DIGEST_MISMATCH}:
            raise DigestMismatchError("blob, as the round's witnesses got it", cid, "other bytes")


def _check_schema(subject: str, path: Path, schemas: Sequence[bytes]) -> Iterator[Finding]:
    """Find a model whose schema has none of the digests, or in which there is nothing to train."""
    try:
        with open_tensors(path) as tensors:
            tensors.schema.trained()
            found = tensors.schema.digest().hex()
    except InvalidInputError as error:
        found = str(error)
    expected = [schema.hex() for schema in schemas]
    if found not in expected:
        message = "the model is not made of the tensors that the round fixes"
        yield Finding(MODELS, subject, f"schema {' or '.join(expected)}", found, message)
