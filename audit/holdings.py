"""What rounds stand on: fetches every blob and checks each model (steps 7 and 8 of an audit)."""

import shutil
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

from aggregator.progress import Progress, ProgressCallback, unheard
from audit.verify import BLOBS, MODELS, Finding, RoundEvidence
from chain.blob_store import BlobReader
from chain.cid import Cid
from chain.digests import content_digest
from chain.envelope import envelope_size
from chain.errors import BlobUnavailableError, InvalidInputError, VerificationError
from chain.files import private_folder
from chain.ledger_view import LedgerView
from chain.schema import MAX_MODEL, Schema, file_schema
from chain.types import Phase, Reason

# Verdicts that say themselves that the blob was not there, not whole or too large to look at.
WITHOUT_BLOB = frozenset(
    {Reason.BLOB_UNAVAILABLE, Reason.BLOB_DIGEST_MISMATCH, Reason.BLOB_TOO_LARGE}
)


def check_holdings(
    reader: LedgerView,
    blobs: BlobReader,
    rounds: Sequence[RoundEvidence],
    workdir: Path,
    progress: ProgressCallback = unheard,
) -> list[Finding]:
    """Check what rounds of a task, ascending, stand on.

    (7) Every blob that a round stands on is fetched and checked against its CID.
    (8) Every model hashes to its digest on the ledger, and has the round's schema, but for the
        state of a server optimiser.

    Args:
        reader: The ledger.
        blobs: Where models and envelopes lie.
        rounds: What the ledger says of them.
        workdir: A folder; what is fetched goes into its subfolder `audit`, and away at the end.
        progress: Called as the check moves on.

    Raises:
        OSError: If the disk is full.
    """
    findings: list[Finding] = []
    folder = workdir / "audit"
    shutil.rmtree(folder, ignore_errors=True)
    holdings = Holdings(reader, blobs, private_folder(folder), progress)
    try:
        for done, evidence in enumerate(rounds):
            progress(Progress("rounds", done, len(rounds)))
            findings += holdings.check(evidence)
            holdings.tidy(evidence)
        progress(Progress("rounds", len(rounds), len(rounds)))
    finally:
        shutil.rmtree(folder)
    return findings


def blobs_of(rounds: Sequence[RoundEvidence]) -> frozenset[bytes]:
    """Name every blob that rounds stand on and that was there to be judged, by its digest."""
    found: set[bytes] = set()
    for evidence in rounds:
        found.add(evidence.round.terms.base_blob)
        if evidence.proposal is not None:
            found.add(evidence.proposal.model_blob)
            reasons = {verdict.hospital: verdict.reason for verdict in evidence.verdicts}
            records = (recorded.record for recorded in evidence.records)
            found |= {one.blob for one in records if reasons.get(one.hospital) not in WITHOUT_BLOB}
    return frozenset(found)


class Holdings:
    """Fetches what rounds stand on; what one round fetched serves the next.

    Args:
        reader: The ledger.
        blobs: Where models and envelopes lie.
        folder: Receives them; private.
        progress: Called as envelopes are fetched.
    """

    def __init__(
        self, reader: LedgerView, blobs: BlobReader, folder: Path, progress: ProgressCallback
    ) -> None:
        self._reader = reader
        self._blobs = blobs
        self._folder = folder
        self._progress = progress
        self._fetched: tuple[bytes, bytes] | None = None
        # What is amiss with an envelope, by its blob and bound: any number of a forged ledger's
        # records can name one, and each fetch costs as much as the blob is large.
        self._envelopes: dict[tuple[bytes, int], list[Finding]] = {}

    def check(self, evidence: RoundEvidence) -> Iterator[Finding]:
        """Yield what is amiss with the blobs that a round stands on (steps 7 and 8)."""
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
        with base.open("rb") as file:
            trained = file_schema(file, base.name).trained()
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
            if reasons.get(record.hospital) not in WITHOUT_BLOB:
                subject = f"{evidence.name}, envelope of {record.hospital}"
                path, known = folder / f"{record.blob.hex()}.envelope", (record.blob, most)
                if known not in self._envelopes:
                    self._envelopes[known] = list(self._fetch("", record.blob, path, most))
                for one in self._envelopes[known]:
                    yield replace(one, subject=f"{subject}{one.subject}")

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

    def tidy(self, evidence: RoundEvidence) -> None:
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


def _check_schema(subject: str, path: Path, schemas: Sequence[bytes]) -> Iterator[Finding]:
    """Find a model whose schema has none of the digests, or in which there is nothing to train."""
    try:
        with path.open("rb") as file:
            schema = file_schema(file, path.name)
        schema.trained()
        found = schema.digest().hex()
    except InvalidInputError as error:
        found = str(error)
    expected = [schema.hex() for schema in schemas]
    if found not in expected:
        message = "the model is not made of the tensors that the round fixes"
        yield Finding(MODELS, subject, f"schema {' or '.join(expected)}", found, message)
