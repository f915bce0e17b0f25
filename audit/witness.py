"""A witness: replays what an aggregator proposes, and says on the ledger what it got.

See docs/protocol.md, section 10. All that a witness has said is on the chain, so one that was
killed at any point goes on from there.

A witness disputes only what two replays in a row came to.

What a witness fails to reach is never a reason to dispute by itself: the chain, its IPFS node and
its disk are waited for. Only where its node answers and still cannot give it a blob that the
aggregator says it had, and that for as long as its settings say, it disputes.
"""

import io
import logging
import shutil
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from enum import Enum
from pathlib import Path
from threading import Event
from typing import TypeAlias

from aggregator.pipeline import parse_pipeline
from aggregator.progress import ProgressCallback, unheard
from aggregator.replay import judge_and_aggregate
from audit.cosigning import HeadWatch
from audit.evidence import (
    VERSION,
    Evidence,
    ReplayStep,
    first_difference,
    inputs_of,
    known_model,
)
from audit.settings import WitnessSettings
from audit.verify import REPLAY, Finding, compare_replay
from chain.blob_store import BlobStore
from chain.cid import Cid
from chain.digests import content_digest
from chain.errors import (
    BlobUnavailableError,
    ContractRevertedError,
    FedWitnessError,
    InvalidInputError,
    LedgerError,
    UnfitRoundError,
    VerificationError,
)
from chain.files import private_folder
from chain.keystore import Identity
from chain.ledger import Ledger
from chain.merkle import verdicts_root
from chain.signing import sign_attestation
from chain.types import Attestation, Phase, Proposal, Reason, Round, Verdict

NOTHING = bytes(32)
GREATEST_WAIT = 60.0  # seconds between two attempts

# What a slow or faulty IPFS node can cause; everything else follows from the blob's own bytes.
_TRANSIENT = frozenset({Reason.BLOB_UNAVAILABLE, Reason.BLOB_DIGEST_MISMATCH})

_log = logging.getLogger(__name__)


class Said(Enum):
    """What a witness says of a proposal, or of the chain itself."""

    ATTESTED = "attested"
    DISPUTED = "disputed"
    COSIGNED = "cosigned"
    FOUND = "found"
    WAITED = "waited"


@dataclass(frozen=True, slots=True)
class Word:
    """A witness's word, and why in a sentence for people.

    It is on a proposal; on the head of a round, where ``proposal`` is 0; or on nothing in
    particular, where ``round`` is 0, too. ``finding`` is set where the chain is at fault.
    """

    round: int
    proposal: int
    said: Said
    told: str
    finding: Finding | None = None


WordCallback: TypeAlias = Callable[[Word], None]
# After these the next look can wait longer.
_FRUITLESS = (Said.FOUND, Said.WAITED)


@dataclass(frozen=True, slots=True)
class _Result:
    """What a replay came to.

    ``model`` is zero where there is none. ``findings`` is empty where all is equal, and ``step``
    then says nothing. ``is_transient`` tells that a slow or faulty IPFS node may be all that is
    wrong.
    """

    model: bytes
    verdicts: tuple[Verdict, ...]
    findings: tuple[Finding, ...]
    step: ReplayStep
    is_transient: bool = False


class Witness:
    """Watches a ledger for proposals that it is a witness of.

    Args:
        ledger: Signs as the witness.
        blobs: Where models and envelopes lie, and where evidence goes.
        identity: The witness's keys.
        settings: Working folder, threads, poll interval and patience.
        progress: Called as replaying moves on.
        clock: Gives seconds; patience is measured with it.
    """

    def __init__(
        self,
        ledger: Ledger,
        blobs: BlobStore,
        identity: Identity,
        settings: WitnessSettings,
        *,
        progress: ProgressCallback = unheard,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._ledger = ledger
        self._blobs = blobs
        self._identity = identity
        self._settings = settings
        self._progress = progress
        self._clock = clock
        self._heads = HeadWatch(
            ledger,
            identity,
            settings.journal,
            handed=settings.heads,
            settle_seconds=settings.settle_seconds,
            clock=clock,
        )
        self._waiting_since: dict[tuple[int, int], float] = {}
        self._ended: set[int] = set()

    def run(self, stop: Event, told: WordCallback) -> None:
        """Watch until told to stop.

        Args:
            stop: Ends the watch after the round in work.
            told: Called with each word, and with why the witness waits where that changes.
        """
        waits, last = 0, tuple[Word, ...]()
        while not stop.is_set():
            try:
                words = self.watch()
            except (LedgerError, OSError) as error:
                words = (Word(0, 0, Said.WAITED, str(error)),)
            for word in words:
                if word not in last:
                    told(word)
            last = words
            waits = waits + 1 if any(word.said in _FRUITLESS for word in words) else 0
            stop.wait(min(GREATEST_WAIT, self._settings.poll_seconds * 2 ** min(waits, 16)))

    def watch(self) -> tuple[Word, ...]:
        """Look at every round once, and say what is to be said.

        Returns:
            A word for each head that was cosigned and for each proposal that was waiting for this
            witness. Where the chain lacks a head that it had: only these findings, for on such a
            chain nothing is said, nor is anything sent again that it has lost.

        Raises:
            LedgerError: If the chain cannot be reached.
            InvalidInputError: If the journal of heads is damaged.
            OSError: If the working folder cannot be used at all.
        """
        if findings := self._heads.findings():
            return tuple(map(_word_on, findings))
        self._ledger.resend_lost()
        cosigned = tuple(self._cosign())
        return (*cosigned, *(self._consider(round_) for round_ in self._proposed()))

    def _cosign(self) -> Iterator[Word]:
        try:
            for head in self._heads.cosign():
                told = f"block {head.number} 0x{head.hash.hex()}"
                yield Word(head.round, 0, Said.COSIGNED, told)
        except ContractRevertedError as error:
            yield Word(0, 0, Said.WAITED, str(error))

    def _proposed(self) -> Iterator[Round]:
        """Give the rounds with a proposal that waits for this witness."""
        for number in range(1, self._ledger.round_count() + 1):
            if number in self._ended:
                continue
            round_ = self._ledger.round(number)
            if round_.phase in (Phase.FINAL, Phase.ABORTED):
                self._ended.add(number)
                shutil.rmtree(self._workdir(number), ignore_errors=True)
            elif self._is_to_speak(round_):
                yield round_

    def _is_to_speak(self, round_: Round) -> bool:
        own, proposal = self._identity.address, round_.proposal
        if round_.phase is not Phase.PROPOSED or proposal is None or round_.disputed:
            return False
        attested = self._ledger.attestations(round_.number, proposal.number)
        return own in round_.terms.witnesses and own not in {witness for witness, _ in attested}

    def _consider(self, round_: Round) -> Word:
        proposal = _proposal(round_)
        word = Word(round_.number, proposal.number, Said.WAITED, "")
        try:
            if self._identity.encryption_key not in self._ledger.recipients(round_.number):
                told = "the round's updates are for another X25519 key of this witness"
                return replace(word, told=told)
            result = self._replay(round_, proposal)
            # The chain may have lost what it had while the round was replayed.
            if lost := self._heads.findings():
                return _word_on(lost[0])
            if not result.findings:
                self._attest(round_, proposal)
                return replace(word, said=Said.ATTESTED, told=f"model {proposal.model.hex()}")
            finding = result.findings[0]
            told = f"at {result.step.value}: {finding.subject}: {finding.message}"
            if result.is_transient and self._has_patience(round_, proposal):
                return replace(word, told=f"{told}; asking again before disputing")
            # What a chain caused that forgot the proposal for a moment is gone at a second look.
            if self._replay(round_, proposal) != result:
                return replace(word, told=f"{told}; a second replay came to something else")
            self._dispute(round_, proposal, result)
            return replace(word, said=Said.DISPUTED, told=told)
        except BlobUnavailableError as error:
            return replace(word, told=f"the IPFS node does not answer: {error}")
        except VerificationError as error:
            return replace(word, told=f"the IPFS node does not keep what it is given: {error}")
        except OSError as error:
            # Not further up: a model too large for this disk must not hold other rounds up.
            return replace(word, told=f"this machine has no room to replay it: {error}")
        except ContractRevertedError as error:
            # The proposal was renewed, disputed or made final while it was replayed.
            return replace(word, told=str(error))

    def _replay(self, round_: Round, proposal: Proposal) -> _Result:
        """Replay a round and compare; raises `BlobUnavailableError` where IPFS does not answer."""
        stated = self._ledger.verdicts(round_.number, proposal.number)
        workdir = self._workdir(round_.number)
        target = private_folder(workdir) / "model.safetensors"
        # Raises where the node does not answer at all, which is no ground to dispute.
        self._blobs.has(Cid.from_blob_digest(round_.terms.base_blob))
        try:
            result = judge_and_aggregate(
                self._ledger,
                self._blobs,
                round_.number,
                private_key=self._identity.encryption_private_key,
                workdir=workdir,
                target=target,
                threads=self._settings.threads,
                progress=self._progress,
            )
        except UnfitRoundError as error:
            findings = compare_replay(round_.number, proposal, stated, None, error.verdicts)
            is_transient = _any_transient(error.verdicts, stated)
            step = first_difference(stated, error.verdicts)
            return _Result(NOTHING, error.verdicts, tuple(findings), step, is_transient)
        except (BlobUnavailableError, VerificationError, InvalidInputError) as error:
            return _not_replayable(round_, error)
        findings = compare_replay(
            round_.number, proposal, stated, result.model_digest, result.verdicts
        )
        step = first_difference(stated, result.verdicts)
        replayed = _Result(result.model_digest, result.verdicts, tuple(findings), step)
        if findings:
            return replace(replayed, is_transient=_any_transient(result.verdicts, stated))
        return self._with_model(replayed, proposal, workdir, result.schema.file_size())

    def _with_model(
        self, result: _Result, proposal: Proposal, workdir: Path, max_bytes: int
    ) -> _Result:
        """Fetch the proposed model, which the replay confirmed, as everybody else will have to."""
        cid = Cid.from_blob_digest(proposal.model_blob)
        path = workdir / "proposed.safetensors"
        try:
            self._blobs.fetch(cid, path, max_bytes)
            found, is_transient = content_digest(path).hex(), False
        except BlobUnavailableError as error:
            self._blobs.has(cid)  # raises where the node does not answer at all
            found, is_transient = str(error), True
        except VerificationError as error:
            found, is_transient = str(error), True
        except InvalidInputError as error:
            found, is_transient = str(error), False
        finally:
            path.unlink(missing_ok=True)
        if found == proposal.model.hex():
            return result
        message = "the blob of the proposed model does not hold it"
        finding = Finding(REPLAY, f"blob {cid}", proposal.model.hex(), found, message)
        step = ReplayStep.MODEL_BLOB
        return replace(result, findings=(finding,), step=step, is_transient=is_transient)

    def _has_patience(self, round_: Round, proposal: Proposal) -> bool:
        now = self._clock()
        since = self._waiting_since.setdefault((round_.number, proposal.number), now)
        return now - since < self._settings.patience_seconds

    def _attest(self, round_: Round, proposal: Proposal) -> None:
        attestation = Attestation(
            round_.number, proposal.number, proposal.model, proposal.model_blob, proposal.verdicts
        )
        signature = sign_attestation(
            self._ledger.chain_id, self._ledger.address, attestation, self._identity.account
        )
        self._ledger.attest(round_.number, proposal.number, self._identity.address, signature)

    def _dispute(self, round_: Round, proposal: Proposal, result: _Result) -> None:
        root = verdicts_root(round_.number, result.verdicts) if result.verdicts else NOTHING
        told = self._evidence(round_, proposal, result, root)
        evidence = self._blobs.put(io.BytesIO(told.to_json()))
        # Equal results cannot be disputed: a witness that only lacks the model has got none.
        is_equal = (result.model, root) == (proposal.model, proposal.verdicts)
        model = NOTHING if is_equal else result.model
        self._ledger.dispute(round_.number, proposal.number, model, root, evidence.digest)
        _log.warning("disputed proposal %d of round %d", proposal.number, round_.number)

    def _evidence(
        self, round_: Round, proposal: Proposal, result: _Result, root: bytes
    ) -> Evidence:
        """Say what this witness got, for the aggregator and the steward to compare with."""
        numbers = self._ledger.task_rounds(round_.terms.task)
        earlier = (self._ledger.round(number) for number in numbers if number < round_.number)
        return Evidence(
            version=VERSION,
            chain_id=self._ledger.chain_id,
            ledger=self._ledger.address,
            round=round_.number,
            proposal=proposal,
            step=result.step,
            inputs=inputs_of(round_, self._ledger.records(round_.number), result.verdicts),
            known_as=known_model(proposal.model, round_, earlier),
            model=result.model,
            verdicts_root=root,
            verdicts=result.verdicts,
            findings=result.findings,
        )

    def _workdir(self, number: int) -> Path:
        return private_folder(self._settings.workdir) / f"round-{number}"


def _proposal(round_: Round) -> Proposal:
    if round_.proposal is None:
        message = f"expected a proposal in round {round_.number}, found none"
        raise InvalidInputError(message)
    return round_.proposal


def _not_replayable(round_: Round, error: FedWitnessError) -> _Result:
    """Say what a round lacks that cannot be aggregated: a pipeline, or else its base model."""
    message = "the round cannot be replayed"
    try:
        parse_pipeline(round_.terms.rule)
    except InvalidInputError as fault:
        subject = f"round {round_.number}, pipeline"
        finding = Finding(REPLAY, subject, "a pipeline", str(fault), message)
        return _Result(NOTHING, (), (finding,), ReplayStep.SCREENS_AND_RULE)
    # A base model that was never there, or is another.
    subject, base = f"round {round_.number}, base model", round_.terms.base_model.hex()
    finding = Finding(REPLAY, subject, base, str(error), message)
    return _Result(NOTHING, (), (finding,), ReplayStep.BASE_MODEL, is_transient=True)


def _word_on(finding: Finding) -> Word:
    told = (
        f"{finding.subject}: {finding.message}; "
        f"expected {finding.expected}, found {finding.found}. Nothing is said on this chain until "
        "it has these heads again, or a person has put the journal away"
    )
    return Word(0, 0, Said.FOUND, told, finding)


def _any_transient(replayed: Sequence[Verdict], stated: Sequence[Verdict]) -> bool:
    """Tell whether a blob that this witness cannot get may be all that makes a difference."""
    reasons = {verdict.hospital: verdict.reason for verdict in stated}
    return any(
        verdict.reason in _TRANSIENT and verdict.reason is not reasons.get(verdict.hospital)
        for verdict in replayed
    )
