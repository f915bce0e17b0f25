"""Ledger heads that were seen before, held against the chain as it is now.

Whoever keeps the heads of final rounds, or is handed those that others kept, notices a chain that
was rewound or reorganised, one that is split, and a node that leaves logs out. See
docs/protocol.md, section 13.
"""

from collections.abc import Iterable, Iterator, Sequence

from audit.journal import HeadJournal, SeenHead, head_of
from audit.verify import HEADS, Finding
from chain.errors import LedgerError, PhaseError, UnknownRoundError, VerificationError
from chain.reader import LedgerReader
from chain.signing import recover_head_signer
from chain.types import CosignedHead, LedgerHead, Phase, Round


def check_heads(reader: LedgerReader, heads: Iterable[SeenHead]) -> list[Finding]:
    """Check that the chain still has heads that were seen before (step 14).

    For each head: the chain reaches its block; has this very block there; its round became final
    in it; and the logs up to it are as many, in the same blocks. The signature of a cosigned one
    is its witness's, and no witness has signed two heads of one round.

    Args:
        reader: The ledger.
        heads: Heads from anywhere, in any order.

    Returns:
        A finding for each head that the chain does not have.

    Raises:
        LedgerError: If the chain cannot be read.
    """
    ordered = sorted(set(heads), key=lambda one: (head_of(one).number, head_of(one).round))
    findings = list(_contradictions(ordered))
    for one in ordered:
        findings += _check(reader, one)
    return findings


def audit_heads(
    reader: LedgerReader, journal: HeadJournal | None, handed: Iterable[SeenHead] = ()
) -> list[Finding]:
    """Hold the chain against all heads at hand: kept, handed over, and cosigned on it (step 14).

    Where nothing is amiss, the heads of all rounds that are final by now go into the journal, for
    the next time.

    Args:
        reader: The ledger.
        journal: What this party has seen so far, None where it keeps nothing.
        handed: What other parties have seen.

    Returns:
        All findings.

    Raises:
        LedgerError: If the chain cannot be read.
        OSError: If the journal cannot be written.
    """
    known = (*(journal.heads if journal is not None else ()), *handed)
    final: list[int] = []
    cosigned: list[CosignedHead] = []
    try:
        final += [one.number for one in _rounds(reader) if one.phase is Phase.FINAL]
        cosigned += [one for number in final for one in reader.cosignatures(number)]
    except LedgerError:
        # A chain that was rewound far enough has no ledger; what is known tells.
        if not known:
            raise
    findings = check_heads(reader, (*known, *cosigned))
    if journal is not None and not findings:
        seen: list[SeenHead] = [*map(reader.head_of_final, final), *cosigned]
        for one in seen:
            journal.append(one)
    return findings


def _check(reader: LedgerReader, one: SeenHead) -> list[Finding]:
    head, subject = head_of(one), _name(one)
    expected = f"block {head.number} 0x{head.hash.hex()}"
    if isinstance(one, CosignedHead) and not _is_signed(reader, one):
        message = "the signature under the head is not the witness's"
        found = f"0x{one.signature.hex()}"
        return [Finding(HEADS, subject, f"a signature of {one.witness}", found, message)]
    newest = reader.head()
    if head.number > newest.number:
        message = "the chain ends before a block that it had: it was rewound, or its node is behind"
        found = f"block {newest.number} 0x{newest.hash.hex()} as the newest"
        return [Finding(HEADS, subject, expected, found, message)]
    block = reader.block(head.number)
    if block.hash != head.hash:
        message = "the chain has another block there than it had: it was reorganised"
        if isinstance(one, CosignedHead):
            message += ", or it is split and the witness sees another branch"
        found = f"block {block.number} 0x{block.hash.hex()}"
        return [Finding(HEADS, subject, expected, found, message)]
    try:
        final = reader.head_of_final(head.round)
    except (PhaseError, UnknownRoundError) as error:
        message = "the head is of a round that is not final on this chain"
        return [Finding(HEADS, subject, expected, str(error), message)]
    if final == head:
        return []
    message = (
        "the block stands, but other logs lead to it: the head is false, or the node omits some"
    )
    return [Finding(HEADS, subject, _told(head), _told(final), message)]


def _contradictions(heads: Sequence[SeenHead]) -> Iterator[Finding]:
    first: dict[tuple[str, int], LedgerHead] = {}
    for one in heads:
        if isinstance(one, CosignedHead):
            head = first.setdefault((one.witness, one.head.round), one.head)
            if head != one.head:
                message = "the witness signed two heads of one round: it lies, or has seen a fork"
                yield Finding(HEADS, _name(one), _told(head), _told(one.head), message)


def _is_signed(reader: LedgerReader, one: CosignedHead) -> bool:
    place = (reader.chain_id, reader.address)
    try:
        return recover_head_signer(*place, one.head, one.signature) == one.witness
    except VerificationError:
        return False


def _name(one: SeenHead) -> str:
    signed = f", signed by {one.witness}" if isinstance(one, CosignedHead) else ""
    return f"round {head_of(one).round}, head at block {head_of(one).number}{signed}"


def _told(head: LedgerHead) -> str:
    return (
        f"block {head.number} 0x{head.hash.hex()}, {head.blocks} blocks with logs, "
        f"history 0x{head.history.hex()}"
    )


def _rounds(reader: LedgerReader) -> Iterator[Round]:
    return (reader.round(number) for number in range(1, reader.round_count() + 1))
