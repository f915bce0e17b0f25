"""Audit of a task from chain and IPFS alone: verify, fetch every blob, replay every round.

The replay is the aggregator's own code (`aggregator.replay`), run by somebody else. It needs the
X25519 key of a recipient of the round's envelopes; every auditor that is enrolled when a round is
opened is one (docs/protocol.md, section 6). Without a key the audit does all the rest.
"""

import shutil
from collections.abc import Iterator, Sequence
from pathlib import Path

from aggregator.progress import Progress, ProgressCallback, unheard
from aggregator.replay import judge_and_aggregate
from audit.holdings import Holdings
from audit.notices import read_notices
from audit.reading import read_evidence
from audit.verify import (
    BLOBS,
    FROM_THE_LEDGER,
    MODELS,
    REPLAY,
    AuditReport,
    Finding,
    RoundEvidence,
    compare_replay,
    verify_task,
)
from chain.blob_store import BlobReader
from chain.cid import Cid
from chain.envelope import ContentKeys, public_key
from chain.errors import (
    BlobUnavailableError,
    DigestMismatchError,
    InvalidInputError,
    UnfitRoundError,
    VerificationError,
)
from chain.files import private_folder
from chain.ledger_view import LedgerView
from chain.types import Phase, Reason

_BLOB_FAULTS = (BlobUnavailableError, VerificationError, InvalidInputError)


def audit_task(
    reader: LedgerView,
    blobs: BlobReader,
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
    others from being audited. Nothing that an earlier audit fetched is used. What became of data
    that models descend from is told as notices.

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
    # (7) to (9) What the rounds stand on.
    found, complete = replay_rounds(
        reader, blobs, rounds, private_key, workdir=workdir, threads=threads, progress=progress
    )
    run = {*FROM_THE_LEDGER, BLOBS, MODELS, *([REPLAY] if complete else [])}
    return AuditReport.of([*findings, *found], run, read_notices(reader, task))


def replay_rounds(
    reader: LedgerView,
    blobs: BlobReader,
    rounds: Sequence[RoundEvidence],
    private_key: bytes | ContentKeys | None,
    *,
    workdir: Path,
    threads: int = 1,
    progress: ProgressCallback = unheard,
) -> tuple[list[Finding], bool]:
    """Run the steps (7) to (9) of `audit_task` on rounds of a task, ascending.

    Args:
        reader: The ledger.
        blobs: Where models and envelopes lie.
        rounds: What the ledger says of them.
        private_key: The auditor's X25519 key, 32 bytes; or the keys of the envelopes themselves,
            as far as they are known; or None.
        workdir: A folder; what is fetched goes into its subfolder `audit`, and away at the end.
        threads: How many threads aggregate; no digest depends on it.
        progress: Called as the audit moves on.

    Returns:
        All findings, and whether every proposed round was replayed.

    Raises:
        LedgerError: If the chain cannot be read.
        OSError: If the disk is full.
    """
    findings: list[Finding] = []
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
            findings += replay.audit(evidence)
        progress(Progress("rounds", len(rounds), len(rounds)))
    finally:
        shutil.rmtree(folder)
    return findings, replay.complete


def replay_disclosed(
    reader: LedgerView,
    blobs: BlobReader,
    rounds: Sequence[RoundEvidence],
    keys: ContentKeys,
    workdir: Path,
    progress: ProgressCallback = unheard,
    *,
    threads: int = 1,
) -> tuple[list[Finding], bool]:
    """Run `replay_rounds` with the envelopes' own keys, as `audit.bundle` does."""
    return replay_rounds(
        reader, blobs, rounds, keys, workdir=workdir, threads=threads, progress=progress
    )


class _Replay:
    """Checks what rounds stand on and replays them."""

    def __init__(
        self,
        reader: LedgerView,
        blobs: BlobReader,
        *,
        private_key: bytes | ContentKeys | None,
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
        self._holdings = Holdings(reader, blobs, folder, progress)
        self.complete = private_key is not None

    def audit(self, evidence: RoundEvidence) -> list[Finding]:
        """Run the steps 7 to 9 on one round."""
        # (7), (8) Blobs and models.
        findings = list(self._holdings.check(evidence))
        if evidence.proposal is not None:
            # (9) Admission and aggregation, repeated.
            if not findings and self._is_recipient(evidence.round.number):
                findings += self._replay(evidence)
            else:
                self.complete = False
        self._holdings.tidy(evidence)
        return findings

    def _is_recipient(self, number: int) -> bool:
        if not isinstance(self._private_key, bytes):
            return self._private_key is not None
        return public_key(self._private_key) in self._reader.recipients(number)

    def _replay(self, evidence: RoundEvidence) -> list[Finding]:
        number, proposal = evidence.round.number, evidence.proposal
        if self._private_key is None or proposal is None:
            return []
        if not isinstance(self._private_key, bytes):
            blobs = {recorded.record.blob for recorded in evidence.records}
            if not blobs & self._private_key.keys():
                message = "the round cannot be replayed: nobody disclosed the key of an envelope"
                return [Finding(REPLAY, evidence.name, "keys of its envelopes", "none", message)]
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


class _AsWitnessed:
    """The blobs of a final round as its witnesses saw them.

    Whether a blob could be had then cannot be found out later, and a hospital could make an audit
    fail by handing its blob in late. So where k witnesses vouched for a verdict that a blob was
    missing or not whole, the replay takes their word; also where it was too large and is gone, for
    nobody keeps such a blob. A round that is not final gets no such credit.
    """

    def __init__(self, blobs: BlobReader, evidence: RoundEvidence) -> None:
        self._blobs = blobs
        self._reasons: dict[bytes, set[Reason]] = {}
        if evidence.round.phase is Phase.FINAL:
            reasons = {verdict.hospital: verdict.reason for verdict in evidence.verdicts}
            for recorded in evidence.records:
                reason = reasons.get(recorded.record.hospital, Reason.NONE)
                self._reasons.setdefault(recorded.record.blob, set()).add(reason)

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
