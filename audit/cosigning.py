"""A witness's eye on the chain itself: it signs where the chain stood, and notices if that changes.

See docs/protocol.md, section 13. All that it has to remember is a journal, which is written before
anything is signed; killed at any point, it goes on from there.
"""

import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from audit.heads import check_heads
from audit.journal import HeadJournal, SeenHead, head_of, read_heads
from audit.verify import Finding
from chain.keystore import Identity
from chain.ledger import Ledger
from chain.signing import sign_head
from chain.types import CosignedHead, LedgerHead, Phase, Role, Round


class HeadWatch:
    """A witness's memory of the chain: what it has seen, and what it signs of it.

    Args:
        ledger: Signs as the witness.
        identity: The witness's keys.
        journal: The file of its journal.
        handed: Journals of other parties.
        settle_seconds: How long a head must have stood before it is kept and signed: a chain of one
            machine forgets its last second when it is killed.
        clock: Gives seconds.
    """

    def __init__(
        self,
        ledger: Ledger,
        identity: Identity,
        journal: Path,
        *,
        handed: Sequence[Path] = (),
        settle_seconds: float,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._ledger = ledger
        self._identity = identity
        self._path = journal
        self._files = handed
        self._settle_seconds = settle_seconds
        self._clock = clock
        self._journal: HeadJournal | None = None
        # Heads that the chain has not been found to have: all at first.
        self._doubtful: list[SeenHead] = []
        self._cosigned: list[CosignedHead] = []
        self._read_to = -1
        self._seen: dict[int, tuple[LedgerHead, float]] = {}
        self._done: set[int] = set()

    def findings(self) -> list[Finding]:
        """Look whether the chain still has everything that it had.

        What a witness signed counts as long as it is one: a suspended one's word is passed over.

        Returns:
            Findings, for which this witness must neither attest nor cosign anything.

        Raises:
            LedgerError: If the chain cannot be read.
            InvalidInputError: If a journal is damaged.
            OSError: If it cannot be read.
        """
        journal = self._opened()
        newest = max(journal.heads, key=lambda one: head_of(one).number, default=None)
        # Block hashes lead back to the first block: where the newest stands, so do the others.
        if newest is not None and self._is_missing(head_of(newest)):
            self._doubtful = list(dict.fromkeys((*journal.heads, *self._doubtful)))
        if findings := check_heads(self._ledger, self._doubtful):
            # Such a chain may not even have the ledger.
            return findings
        self._doubtful = []
        return self._check_cosigned()

    def cosign(self) -> Iterator[LedgerHead]:
        """Keep the head of every final round, and sign it where this witness attested the round.

        Call it only where there are no findings. A head is on the disk before it is signed.

        Yields:
            Each head that was signed.

        Raises:
            ContractRevertedError: If the ledger refuses a signature.
            LedgerError: If the chain cannot be read or written.
            OSError: If the journal cannot be written.
        """
        for number in range(1, self._ledger.round_count() + 1):
            if number in self._done:
                continue
            round_ = self._ledger.round(number)
            if round_.phase is Phase.FINAL:
                head = self._ledger.head_of_final(number)
                if not self._has_settled(head):
                    continue
                self._opened().append(head)
                if self._is_to_sign(round_):
                    if not self._ledger.is_active(self._identity.address, Role.WITNESS):
                        continue
                    self._sign(head)
                    yield head
            if round_.phase in (Phase.FINAL, Phase.ABORTED):
                self._done.add(number)
                self._seen.pop(number, None)

    def _opened(self) -> HeadJournal:
        if self._journal is None:
            place = (self._ledger.chain_id, self._ledger.address)
            journal = HeadJournal(self._path, *place)
            handed = (one for path in self._files for one in read_heads(path, *place))
            self._doubtful = [*journal.heads, *handed]
            self._journal = journal
        return self._journal

    def _check_cosigned(self) -> list[Finding]:
        """Hold the chain against what other witnesses have signed on it."""
        newest = self._ledger.head().number
        self._cosigned += self._ledger.cosigned_between(self._read_to + 1, newest)
        self._read_to = newest
        heard = [one for one in self._cosigned if self._ledger.is_active(one.witness, Role.WITNESS)]
        findings = check_heads(self._ledger, heard)
        if not findings:
            unheard = set(self._cosigned) - set(heard)
            self._cosigned = [one for one in self._cosigned if one in unheard]
        return findings

    def _is_missing(self, head: LedgerHead) -> bool:
        newest = self._ledger.head().number
        return head.number > newest or self._ledger.block(head.number).hash != head.hash

    def _has_settled(self, head: LedgerHead) -> bool:
        seen, since = self._seen.get(head.round, (None, 0.0))
        if seen != head:
            since = self._clock()
            self._seen[head.round] = (head, since)
        return self._clock() - since >= self._settle_seconds

    def _is_to_sign(self, round_: Round) -> bool:
        own, proposal = self._identity.address, round_.proposal
        if own not in round_.terms.witnesses or proposal is None:
            return False
        attested = {one for one, _ in self._ledger.attestations(round_.number, proposal.number)}
        cosigned = {one.witness for one in self._ledger.cosignatures(round_.number)}
        return own in attested and own not in cosigned

    def _sign(self, head: LedgerHead) -> None:
        place = (self._ledger.chain_id, self._ledger.address)
        signature = sign_head(*place, head, self._identity.account)
        # Before anybody else can have it.
        self._opened().append(CosignedHead(head, self._identity.address, signature))
        self._ledger.cosign(head, self._identity.address, signature)
