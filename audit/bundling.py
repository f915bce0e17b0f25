"""Building an audit bundle from a chain and an IPFS node (docs/protocol.md, section 14).

What is written is not trusted by whoever reads it: `audit.bundle` verifies it from its bytes alone.
"""

import tempfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path

from aggregator.progress import Progress, ProgressCallback, unheard
from audit.container import (
    BLOB,
    KEYS,
    LEDGER,
    BundleHeader,
    Mode,
    Part,
    write_bundle,
)
from audit.holdings import blobs_of
from audit.reading import read_evidence
from audit.verify import RoundEvidence
from chain import rlp
from chain.addresses import address_order
from chain.blob_store import BlobReader
from chain.canonical import canonical_json
from chain.cid import Cid
from chain.digests import keccak
from chain.envelope import content_key
from chain.errors import InvalidInputError, LedgerError, UncosignedError
from chain.histories import genesis_history, next_history
from chain.reader import LedgerReader
from chain.receipts import encode_header, prove_receipts
from chain.rpc import RawLog
from chain.schema import MAX_MODEL
from chain.types import CosignedHead, LedgerHead, Phase, Round

_MAX_BLOB = MAX_MODEL  # bytes


@dataclass(frozen=True, slots=True)
class Bundle:
    """A bundle that was written.

    Attributes:
        path: The file.
        size: Its bytes.
        mode: Whether models and envelopes are in it.
        round: The round that made the model.
        task: Its task.
        blocks: How many blocks it proves.
        blobs: How many models and envelopes are in it.
        keys: How many envelopes it opens.
        cosigners: The witnesses whose signature over the ledger's head is in it.
        quorum: How many the round asks for.
    """

    path: Path
    size: int
    mode: Mode
    round: int
    task: str
    blocks: int
    blobs: int
    keys: int
    cosigners: tuple[str, ...]
    quorum: int


def build_bundle(
    reader: LedgerReader,
    blobs: BlobReader | None,
    model: bytes,
    target: Path,
    *,
    private_key: bytes | None = None,
    progress: ProgressCallback = unheard,
) -> Bundle:
    """Write the bundle of a final model.

    Args:
        reader: The ledger.
        blobs: Where models and envelopes lie; None makes a light bundle.
        model: The model's content digest.
        target: The file, which appears whole or not at all.
        private_key: The X25519 key of an auditor, whose bundle then holds the keys of the
            envelopes that it opens: whoever has the bundle sees the updates. The auditor has to
            have been enrolled when the first of the rounds was opened.
        progress: Called as blocks and blobs are read.

    Raises:
        InvalidInputError: If no round made the model, or the key opens no envelope of a round.
        UncosignedError: If too few witnesses signed the ledger's head so far.
        BlobUnavailableError: If a blob cannot be had.
        LedgerError: If the chain cannot be read, or its blocks are not Ethereum's.
        OSError: If a file cannot be written.
    """
    made = _round_of(reader, model)
    head = reader.head_of_final(made.number)
    cosigned = _cosignatures(reader, made, head)
    with tempfile.TemporaryDirectory(prefix="fedwitness-bundle-") as folder:
        workdir = Path(folder)
        contents = [(LEDGER, _write_ledger(reader, head, workdir / LEDGER, progress))]
        keys: dict[str, str] = {}
        if blobs is not None:
            rounds = _rounds(reader, made, progress)
            found = list(_fetch(blobs, rounds, workdir, progress))
            contents += found
            if private_key is not None:
                keys = _find_keys(rounds, dict(found), private_key)
                path = workdir / KEYS
                path.write_bytes(canonical_json(keys))
                contents.append((KEYS, path))

        def header(parts: tuple[Part, ...]) -> BundleHeader:
            return BundleHeader(
                chain_id=reader.chain_id,
                ledger=reader.address,
                participants=reader.participant_registry,
                datasets=reader.dataset_registry,
                model=model,
                head=head,
                cosignatures=cosigned,
                mode=Mode.LIGHT if blobs is None else Mode.FULL,
                parts=parts,
            )

        size = write_bundle(target, header, contents)
    return Bundle(
        path=target,
        size=size,
        mode=Mode.LIGHT if blobs is None else Mode.FULL,
        round=made.number,
        task=made.terms.task,
        blocks=head.blocks,
        blobs=sum(name.startswith(BLOB) for name, _ in contents),
        keys=len(keys),
        cosigners=tuple(one.witness for one in cosigned),
        quorum=made.terms.quorum,
    )


def _round_of(reader: LedgerReader, model: bytes) -> Round:
    for number in range(1, reader.round_count() + 1):
        found = reader.round(number)
        is_final = found.phase is Phase.FINAL and found.proposal is not None
        if is_final and found.proposal is not None and found.proposal.model == model:
            return found
    message = f"expected a final model of {reader.address}, found 0x{model.hex()}: no round made it"
    raise InvalidInputError(message)


def _cosignatures(reader: LedgerReader, made: Round, head: LedgerHead) -> tuple[CosignedHead, ...]:
    every = sorted(reader.cosignatures(made.number), key=lambda one: address_order(one.witness))
    # A witness that signed another head, by fault or by fork, keeps nobody from the others' word.
    found = tuple(one for one in every if one.head == head)
    if len(found) < made.terms.quorum:
        agreed = tuple(one.witness for one in found)
        others = tuple(one.witness for one in every if one.head != head)
        raise UncosignedError(made.number, made.terms.quorum, agreed, others)
    return found


def _rounds(
    reader: LedgerReader, made: Round, progress: ProgressCallback
) -> Sequence[RoundEvidence]:
    every = read_evidence(reader, made.terms.task, progress)
    return [one for one in every if one.round.number <= made.number]


def _write_ledger(
    reader: LedgerReader, head: LedgerHead, path: Path, progress: ProgressCallback
) -> Path:
    """Write every block that holds a log, with the receipts that hold it."""
    where = (reader.address, reader.participant_registry, reader.dataset_registry)
    history = genesis_history(reader.chain_id, *where)
    encoded: list[bytes] = []
    for number, found in groupby(reader.raw_logs(head.number), key=lambda log: log.block):
        progress(Progress("blocks", len(encoded), head.blocks))
        logs = list(found)
        try:
            header, receipts = _prove(reader, number, logs)
        except (LookupError, TypeError, ValueError, AttributeError) as error:
            message = f"the chain's node tells block {number} in another form than Ethereum's"
            raise LedgerError(message) from error
        history = next_history(history, number, keccak(header), len(logs))
        encoded.append(rlp.encode_list([header, receipts]))
    progress(Progress("blocks", len(encoded), head.blocks))
    if history != head.history:
        message = (
            f"expected blocks of the history 0x{head.history.hex()}, found 0x{history.hex()}: "
            "the chain moved on while it was read; try again"
        )
        raise LedgerError(message)
    path.write_bytes(rlp.encode_list(encoded))
    return path


def _prove(reader: LedgerReader, number: int, logs: Sequence[RawLog]) -> tuple[bytes, bytes]:
    """Give a block's header, and the receipts of its logs with their proofs, both as RLP."""
    block, receipts = reader.raw_block(number)
    places = {one["transactionHash"]: int(one["transactionIndex"], 16) for one in receipts}
    indices = sorted({places[f"0x{log.transaction.hex()}"] for log in logs})
    proofs = prove_receipts(block, receipts, indices)
    proven: list[rlp.Item] = [
        [rlp.int_bytes(index), list(nodes)] for index, nodes in zip(indices, proofs, strict=True)
    ]
    return encode_header(block), rlp.encode(proven)


def _fetch(
    blobs: BlobReader, rounds: Sequence[RoundEvidence], folder: Path, progress: ProgressCallback
) -> Iterator[tuple[str, Path]]:
    """Fetch every blob that the rounds stand on, ascending by name."""
    cids = sorted(map(Cid.from_blob_digest, blobs_of(rounds)), key=str)
    for done, cid in enumerate(cids):
        progress(Progress("blobs", done, len(cids)))
        path = folder / str(cid)
        blobs.fetch(cid, path, _MAX_BLOB)
        yield f"{BLOB}{cid}", path
    progress(Progress("blobs", len(cids), len(cids)))


def _find_keys(
    rounds: Sequence[RoundEvidence], files: Mapping[str, Path], private_key: bytes
) -> dict[str, str]:
    """Find the content keys of all envelopes that this key opens."""
    keys: dict[str, str] = {}
    for evidence in rounds:
        found = {}
        for recorded in evidence.records:
            cid = Cid.from_blob_digest(recorded.record.blob)
            path = files.get(f"{BLOB}{cid}")
            key = content_key(path, private_key) if path is not None else None
            if key is not None:
                found[str(cid)] = key.hex()
        if evidence.proposal is not None and not found:
            message = (
                f"expected a key that opens the envelopes of {evidence.name}, found one of "
                "somebody who was no auditor when it was opened: such a bundle could not be "
                "replayed. Leave the key out, or ask an auditor who was"
            )
            raise InvalidInputError(message)
        keys |= found
    return keys
