"""Verification of an audit bundle, from its bytes alone (docs/protocol.md, section 14).

Pure: no chain, no IPFS node and no network is asked. What the answer rests on is said with it: the
witnesses that signed the ledger's head, and that they are the ones that the reader of the answer
knows.
"""

import io
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, TypeAlias, cast

from aggregator.progress import ProgressCallback, unheard
from audit.container import BLOB, KEYS, LEDGER, MAX_KEYS, BundleFile, BundleHeader, Mode, opened
from audit.holdings import WITHOUT_BLOB, blobs_of, check_holdings
from audit.logged import LoggedLedger
from audit.notices import read_notices
from audit.reading import read_evidence
from audit.verify import (
    BLOBS,
    BUNDLE,
    EVENTS,
    FROM_THE_LEDGER,
    HEAD,
    MODELS,
    REPLAY,
    AuditReport,
    Finding,
    Notice,
    RoundEvidence,
    verify_task,
)
from chain import rlp
from chain.blob_store import BlobReader
from chain.canonical import canonical_json, parse_json
from chain.cid import BlobBuilder, Cid
from chain.codec import decode_event
from chain.envelope import KEY, MAX_HEADER, ContentKeys, holds_key
from chain.errors import (
    BlobUnavailableError,
    BundleError,
    DigestMismatchError,
    FedWitnessError,
    InvalidInputError,
    LedgerError,
    UnknownRoundError,
    VerificationError,
)
from chain.events import LedgerEvent
from chain.files import replacing
from chain.histories import genesis_history, next_history
from chain.ledger_view import LedgerView
from chain.receipts import BlockHeader, ReceiptLog, proven_logs, read_header
from chain.signing import recover_head_signer
from chain.types import CosignedHead, LogPosition, Phase, Reason

MAX_BLOCK: Final = 1 << 25  # bytes of a block's header and receipts in a bundle
_LONGEST_PREFIX = 9  # bytes
_ENVELOPE_HEAD = 12 + MAX_HEADER  # bytes that hold an envelope's header for certain

# A receipt does not hold its transaction's hash; the block and the order within it are proven.
NO_TRANSACTION: Final = b""

Replay: TypeAlias = Callable[
    [LedgerView, BlobReader, Sequence[RoundEvidence], ContentKeys, Path, ProgressCallback],
    tuple[list[Finding], bool],
]


@dataclass(frozen=True, slots=True)
class Trust:
    """Whom the reader of an answer knows; empty values insist on nothing.

    Attributes:
        ledger: The RoundLedger's address.
        witnesses: Those that must have signed the ledger's head.
    """

    ledger: str | None = None
    witnesses: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class BundleReport:
    """What a verification came to, and what it rests on.

    Attributes:
        audit: Steps and findings.
        header: What the bundle says of itself.
        signers: Whose valid signature over the ledger's head it holds.
        witnesses: The witnesses of the round that made the model.
        quorum: How many of them make a model final.
        task: The task; empty, like all below, where the ledger could not be read.
        rounds: How many rounds of the task it holds.
        events: How many events of the federation it holds.
        is_opened: Whether it holds keys of envelopes.
        notes: What was taken at the witnesses' word, and the like.
    """

    audit: AuditReport
    header: BundleHeader
    signers: tuple[str, ...]
    witnesses: tuple[str, ...] = ()
    quorum: int = 0
    task: str = ""
    rounds: int = 0
    events: int = 0
    is_opened: bool = False
    notes: tuple[str, ...] = ()

    def to_dict(self) -> dict[str, Any]:
        """Give the JSON form."""
        head = self.header.head
        return {
            **self.audit.to_dict(),
            "chain_id": str(self.header.chain_id),
            "ledger": self.header.ledger,
            "model": self.header.model.hex(),
            "mode": self.header.mode.value,
            "opened": self.is_opened,
            "task": self.task,
            "round": str(head.round),
            "rounds": self.rounds,
            "head": {"number": str(head.number), "hash": head.hash.hex()},
            "blocks": str(head.blocks),
            "events": self.events,
            "witnesses": list(self.witnesses),
            "quorum": self.quorum,
            "signers": list(self.signers),
            "notes": list(self.notes),
        }


def verify_bundle(
    path: Path,
    trust: Trust | None = None,
    *,
    workdir: Path,
    replay: Replay | None = None,
    progress: ProgressCallback = unheard,
) -> BundleReport:
    """Verify a bundle by the steps of docs/protocol.md, section 14.

    (11) The file is whole: its form is that of a bundle, every checksum fits, and no part is in it
        that nothing stands on.
    (12) The ledger's head is signed by a quorum of the witnesses of the round that made the
        model, and by all on whom the caller insists.
    (13) Each block's header hashes to its hash, each receipt is proven by its header, and blocks,
        hashes and numbers of logs come to the history that was signed: nothing is left out.
    (1) to (6) What the ledger says of the task's rounds up to that one: `audit.verify`.
    (7), (8) In a full bundle, blobs and models: `audit.holdings`.
    (9) With `replay`: admission and aggregation are repeated, with the envelopes' keys.

    Args:
        path: The file.
        trust: Whom to insist on.
        workdir: A folder for what is taken out of the bundle; it is emptied again.
        replay: Repeats a round, see `audit.replay.replay_rounds`; None leaves step 9 out.
        progress: Called as the verification moves on.

    Raises:
        BundleError: If the file is no bundle.
        InvalidInputError: If it is to be replayed and holds no keys.
        OSError: If a file cannot be read or written.
    """
    trust = trust if trust is not None else Trust()
    with opened(path) as bundle:
        if replay is not None and not bundle.has(KEYS):
            message = (
                "the bundle holds no keys of envelopes, without which nothing can be replayed: it "
                "takes one that an auditor opened (fedwitness bundle --full --key FILE)"
            )
            raise InvalidInputError(message)
        return _Verification(bundle, trust, workdir, replay, progress).run()


class BundleBlobs:
    """The blobs of a bundle; each is read and hashed before any of it is used.

    Args:
        bundle: The open bundle.
    """

    def __init__(self, bundle: BundleFile) -> None:
        self._bundle = bundle

    def has(self, cid: Cid) -> bool:
        """Tell whether the bundle has a part for this blob."""
        return self._bundle.has(f"{BLOB}{cid}")

    def stream(self, cid: Cid, max_bytes: int) -> Iterator[bytes]:
        """Yield a blob's bytes, after all of them were hashed."""
        for _ in self._hashed(cid, max_bytes):
            pass
        yield from self._bundle.stream(f"{BLOB}{cid}")

    def get(self, cid: Cid, max_bytes: int) -> bytes:
        """Return a whole blob."""
        return b"".join(self._hashed(cid, max_bytes))

    def fetch(self, cid: Cid, path: Path, max_bytes: int) -> None:
        """Write a whole blob to a file, which appears if its bytes are those of the CID."""
        with replacing(path, synced=False) as file:
            file.writelines(self._hashed(cid, max_bytes))

    def _hashed(self, cid: Cid, max_bytes: int) -> Iterator[bytes]:
        """Yield a blob's bytes; raises at the end if they were not those of the CID."""
        name = f"{BLOB}{cid}"
        if not self._bundle.has(name):
            message = f"the bundle does not hold {cid}"
            raise BlobUnavailableError(message)
        size = self._bundle.size(name)
        if size > max_bytes:
            message = f"expected a blob of at most {max_bytes} bytes, found {cid} of {size}"
            raise InvalidInputError(message)
        builder, root = BlobBuilder(), cid
        for piece in self._bundle.stream(name):
            for block in builder.feed(piece):
                root = block[0]
            yield piece
        for block in builder.finish():
            root = block[0]
        if root != cid:
            raise DigestMismatchError("blob of the bundle", cid, root)


class _Verification:
    """One run over one bundle."""

    def __init__(
        self,
        bundle: BundleFile,
        trust: Trust,
        workdir: Path,
        replay: Replay | None,
        progress: ProgressCallback,
    ) -> None:
        self._bundle = bundle
        self._header = bundle.header
        self._trust = trust
        self._workdir = workdir
        self._replay = replay
        self._progress = progress
        self._findings: list[Finding] = []
        self._run = {BUNDLE, HEAD, EVENTS}

    def run(self) -> BundleReport:
        """Go through the steps."""
        header = self._header
        # (11) The file is whole.
        self._check_file()
        # (12) The head is signed; by whom it had to be is known after the next step.
        signers = self._check_signatures()
        # (13) Each event stands in a block that leads to the head.
        ledger = self._read_ledger()
        if ledger is None:
            return BundleReport(AuditReport.of(self._findings, self._run), header, signers)
        task, terms = "", None
        rounds: tuple[RoundEvidence, ...] = ()
        if self._check_round(ledger):
            terms = ledger.round(header.head.round).terms
            task = terms.task
            self._check_quorum(signers, terms.witnesses, terms.quorum)
            # (1) to (6) What the ledger says.
            rounds = self._verify_rounds(ledger, task)
        # (7) to (9) What the rounds stand on.
        keys = self._read_keys()
        if header.mode is Mode.FULL and rounds:
            self._check_blobs(ledger, rounds, keys)
        return BundleReport(
            audit=AuditReport.of(self._findings, self._run, self._notices(ledger, task, rounds)),
            header=header,
            signers=signers,
            witnesses=terms.witnesses if terms is not None else (),
            quorum=terms.quorum if terms is not None else 0,
            task=task,
            rounds=len(rounds),
            events=sum(1 for _ in ledger.events(0, header.head.number)),
            is_opened=self._bundle.has(KEYS),
            notes=tuple(_notes(rounds, keys)) if REPLAY in self._run else (),
        )

    def _notices(
        self, ledger: LoggedLedger, task: str, rounds: Sequence[RoundEvidence]
    ) -> tuple[Notice, ...]:
        """Tell what became of the data by the head; what came later is not in the file."""
        return read_notices(ledger, task) if rounds else ()

    def _find(self, step: int, subject: str, expected: object, found: object, message: str) -> None:
        self._findings.append(Finding(step, subject, str(expected), str(found), message))

    def _check_file(self) -> None:
        for subject, stated, found in self._bundle.faults():
            message = "the bytes are not those that were written: the file is damaged or changed"
            self._find(BUNDLE, subject, stated, found, message)

    def _check_signatures(self) -> tuple[str, ...]:
        """Give those whose signature over the head is valid."""
        return tuple(one.witness for one in self._header.cosignatures if self._is_signed(one))

    def _is_signed(self, one: CosignedHead) -> bool:
        place = (self._header.chain_id, self._header.ledger, one.head)
        try:
            signer = recover_head_signer(*place, one.signature)
        except VerificationError as error:
            signer = str(error)
        if signer != one.witness:
            message = "a cosignature is not this witness's over this head of this ledger"
            self._find(HEAD, f"cosignature of {one.witness}", one.witness, signer, message)
        return signer == one.witness

    def _check_quorum(self, signers: Sequence[str], witnesses: Sequence[str], quorum: int) -> None:
        head = f"head of round {self._header.head.round}"
        strangers = [one for one in signers if one not in witnesses]
        for stranger in strangers:
            message = "somebody signed the head who is no witness of the round"
            self._find(HEAD, head, "a witness of the round", stranger, message)
        count = len(signers) - len(strangers)
        if count < quorum:
            message = "too few witnesses of the round signed the ledger's head"
            self._find(HEAD, head, f"{quorum} witnesses", count, message)
        if self._trust.ledger is not None and self._trust.ledger != self._header.ledger:
            message = "the bundle is about another ledger than the one that was asked for"
            self._find(HEAD, "ledger", self._trust.ledger, self._header.ledger, message)
        for witness in self._trust.witnesses:
            if witness not in signers:
                message = "a witness on whom you insist did not sign the ledger's head"
                found = ", ".join(signers) or "nobody"
                self._find(HEAD, head, f"a signature of {witness}", found, message)

    def _read_ledger(self) -> LoggedLedger | None:
        """Read and prove all events; None where they are not what was signed."""
        head, before = self._header.head, len(self._findings)
        events: list[LedgerEvent] = []
        blocks, history, last = 0, self._genesis(), None
        try:
            for block in _blocks(self._bundle):
                found = list(_events(block, self._names()))
                history = next_history(history, block.number, block.hash, len(found))
                events += found
                blocks, last = blocks + 1, block
        except (FedWitnessError, RecursionError) as error:
            subject = f"block {blocks + 1} of the bundle"
            message = "the block, or a receipt in it, does not prove what it says"
            self._find(EVENTS, subject, "a block with its receipts", error, message)
            return None
        for what, expected, stated in (
            ("number of blocks", head.blocks, blocks),
            ("number of the last block", head.number, last.number if last else "none"),
            ("hash of the last block", head.hash.hex(), last.hash.hex() if last else "none"),
            ("history", head.history.hex(), history.hex()),
        ):
            if expected != stated:
                message = "the blocks are not those that the witnesses signed"
                self._find(EVENTS, what, expected, stated, message)
        if len(self._findings) > before:
            return None
        return LoggedLedger(self._header.chain_id, self._header.ledger, events, head.number)

    def _genesis(self) -> bytes:
        header = self._header
        where = (header.ledger, header.participants, header.datasets)
        return genesis_history(header.chain_id, *where)

    def _names(self) -> Mapping[str, str]:
        return {
            self._header.participants: "ParticipantRegistry",
            self._header.datasets: "DatasetRegistry",
            self._header.ledger: "RoundLedger",
        }

    def _check_round(self, ledger: LoggedLedger) -> bool:
        """Check that the round became final in the head's block, and made the model."""
        head, model = self._header.head, self._header.model
        subject = f"round {head.round}"
        try:
            round_, block = ledger.round(head.round), ledger.finalized_at(head.round)
        except UnknownRoundError:
            message = "the ledger has no such round"
            self._find(EVENTS, subject, f"one of {ledger.round_count()} rounds", "none", message)
            return False
        if round_.phase is not Phase.FINAL or round_.proposal is None or block != head.number:
            message = "the round did not become final in the block of the head"
            found = f"{round_.phase.name}, block {block}"
            self._find(EVENTS, subject, f"FINAL, block {head.number}", found, message)
            return False
        if round_.proposal.model != model:
            message = "the round made another model than the one that the bundle is about"
            self._find(EVENTS, subject, model.hex(), round_.proposal.model.hex(), message)
        return True

    def _verify_rounds(self, ledger: LoggedLedger, task: str) -> tuple[RoundEvidence, ...]:
        try:
            every = read_evidence(ledger, task)
        except (FedWitnessError, ValueError) as error:
            # Another contract's code may log what ours never does.
            message = "an event holds a value that the protocol does not have"
            self._find(EVENTS, f"task {task}", "events of the protocol", error, message)
            return ()
        rounds = tuple(one for one in every if one.round.number <= self._header.head.round)
        self._run |= set(FROM_THE_LEDGER)
        self._findings += verify_task(rounds)
        return rounds

    def _read_keys(self) -> ContentKeys:
        """Read the envelopes' keys, and hold each against its envelope."""
        if not self._bundle.has(KEYS):
            return {}
        try:
            keys = _keys(self._bundle)
        except (BundleError, InvalidInputError) as error:
            message = "the keys are not of the form of docs/protocol.md, section 14"
            self._find(BUNDLE, KEYS, "keys of envelopes", error, message)
            return {}
        for digest, key in keys.items():
            name = f"{BLOB}{Cid.from_blob_digest(digest)}"
            size = self._bundle.size(name)
            start = io.BytesIO(self._bundle.read(name, 0, min(size, _ENVELOPE_HEAD)))
            if not holds_key(start, key):
                message = "a key is not the one that all wraps of its envelope hold"
                self._find(BUNDLE, f"key of {name}", "the envelope's key", "another", message)
        return keys

    def _check_blobs(
        self, ledger: LoggedLedger, rounds: Sequence[RoundEvidence], keys: ContentKeys
    ) -> None:
        blobs, wanted = BundleBlobs(self._bundle), blobs_of(rounds)
        for part in self._header.parts:
            if part.name.startswith(BLOB):
                cid = Cid.parse(part.name.removeprefix(BLOB))
                if cid != Cid.from_blob_digest(cid.digest) or cid.digest not in wanted:
                    message = "no round stands on this blob"
                    self._find(BUNDLE, f"part {part.name}", "a blob of a round", cid, message)
        self._run |= {BLOBS, MODELS}
        if self._replay is None:
            found = check_holdings(ledger, blobs, rounds, self._workdir, self._progress)
        else:
            again = (ledger, blobs, rounds, keys, self._workdir, self._progress)
            found, complete = self._replay(*again)
            self._run |= {REPLAY} if complete else set()
        self._findings += found


def _blocks(bundle: BundleFile) -> Iterator["_Block"]:
    """Read the blocks of the part `ledger`, one at a time.

    Raises:
        VerificationError: If the part is not a list of blocks, ascending.
        InvalidInputError: If a block is not RLP of its form.
    """
    size = bundle.size(LEDGER)
    is_list, position, length = rlp.read_prefix(bundle.read(LEDGER, 0, min(size, _LONGEST_PREFIX)))
    if not is_list or position + length != size:
        message = f"expected a list of {size - position} bytes, found {length}"
        raise BundleError(message)
    last = -1
    while position < size:
        start = bundle.read(LEDGER, position, min(size - position, _LONGEST_PREFIX))
        is_list, prefix, length = rlp.read_prefix(start)
        if not is_list or length > MAX_BLOCK:
            message = f"expected a list of at most {MAX_BLOCK} bytes, found {length}"
            raise BundleError(message)
        block = _Block.read(bundle.read(LEDGER, position + prefix, length))
        if block.number <= last:
            message = f"expected a block behind number {last}, found {block.number}"
            raise BundleError(message)
        last = block.number
        yield block
        position += prefix + length


@dataclass(frozen=True, slots=True)
class _Block:
    """A block of a bundle: its header, and proofs of receipts by their transactions' places."""

    header: BlockHeader
    receipts: tuple[tuple[int, tuple[bytes, ...]], ...]

    @property
    def number(self) -> int:
        return self.header.number

    @property
    def hash(self) -> bytes:
        return self.header.hash

    @classmethod
    def read(cls, payload: bytes) -> "_Block":
        """Read a block from what stands behind its list's prefix."""
        is_list, prefix, length = rlp.read_prefix(payload[:_LONGEST_PREFIX])
        if not is_list or prefix + length > len(payload):
            message = f"expected a header of at most {len(payload)} bytes, found {length}"
            raise BundleError(message)
        header = read_header(payload[: prefix + length])
        receipts = []
        for one in rlp.as_list(rlp.decode(payload[prefix + length :], max_depth=3)):
            index, nodes = rlp.as_list(one, 2)
            receipts.append((rlp.as_int(index), tuple(map(rlp.as_bytes, rlp.as_list(nodes)))))
        indices = [index for index, _ in receipts]
        if not indices or indices != sorted(set(indices)):
            message = f"expected receipts by ascending transactions, found {indices!r:.100}"
            raise BundleError(message)
        return cls(header, tuple(receipts))


def _events(block: _Block, names: Mapping[str, str]) -> Iterator[LedgerEvent]:
    """Prove a block's receipts and decode the federation's logs in them.

    Raises:
        VerificationError: If a proof fails, or a receipt holds no log of the federation.
        LedgerError: If a log is no event of its contract.
    """
    place = 0
    for index, proof in block.receipts:
        logs = proven_logs(block.header.receipts_root, index, proof)
        ours = [log for log in logs if log.address in names]
        if not ours:
            message = f"block {block.number}: transaction {index} holds no log of the federation"
            raise VerificationError(message)
        for log in ours:
            yield _event(block.header, place, names[log.address], log)
            place += 1


def _event(header: BlockHeader, place: int, contract: str, log: ReceiptLog) -> LedgerEvent:
    try:
        name, args = decode_event(contract, log.topics, log.data)
    except (ValueError, OverflowError) as error:
        message = f"block {header.number}: a log of {contract} cannot be read: {error}"
        raise LedgerError(message) from error
    # The log's place among the federation's in its block orders them as the chain does.
    position = LogPosition(header.number, place, NO_TRANSACTION)
    return LedgerEvent(name, args, position, contract, header.timestamp)


def _keys(bundle: BundleFile) -> dict[bytes, bytes]:
    size = bundle.size(KEYS)
    if size > MAX_KEYS:
        message = f"expected at most {MAX_KEYS} bytes of keys, found {size}"
        raise BundleError(message)
    text = bundle.read(KEYS, 0, size)
    members = parse_json(text, MAX_KEYS)
    if not isinstance(members, dict) or canonical_json(members) != text:
        message = "expected an object in canonical JSON (RFC 8785)"
        raise BundleError(message)
    keys = {}
    for name, value in cast("dict[str, object]", members).items():
        cid = Cid.parse(name)
        # A part can have the name of another codec, under which nothing is looked up.
        is_blob = cid == Cid.from_blob_digest(cid.digest) and bundle.has(f"{BLOB}{cid}")
        if not isinstance(value, str) or not is_blob:
            message = f"expected the key of an envelope of the bundle, found one of {cid}"
            raise BundleError(message)
        key = _hex(value)
        if len(key) != KEY or key.hex() != value:
            message = f"expected a key of {KEY} bytes in lower-case hexadecimal for {cid}"
            raise BundleError(message)
        keys[cid.digest] = key
    return keys


def _hex(text: str) -> bytes:
    try:
        return bytes.fromhex(text)
    except ValueError:
        return b""


def _notes(rounds: Sequence[RoundEvidence], keys: ContentKeys) -> Iterator[str]:
    """Tell what a replay took at the witnesses' word."""
    for evidence in rounds:
        if evidence.proposal is None:
            continue
        blobs = {one.record.hospital: one.record.blob for one in evidence.records}
        for verdict in evidence.verdicts:
            is_closed = (
                verdict.reason is Reason.ENVELOPE_UNOPENABLE
                and blobs.get(verdict.hospital) not in keys
            )
            if verdict.reason in WITHOUT_BLOB or is_closed:
                yield (
                    f"{evidence.name}, {verdict.hospital}: {verdict.reason.name} is taken at the "
                    "word of the round's witnesses"
                )
