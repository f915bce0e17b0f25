"""A ledger in memory that admits, refuses and records as the contracts do, as far as REST asks."""

from collections.abc import Iterator
from dataclasses import dataclass, field, replace

from chain.errors import (
    ContractRevertedError,
    LedgerError,
    RefusedRequestError,
    UnknownRoundError,
)
from chain.events import LedgerEvent
from chain.reader import GrantsAnswer
from chain.rpc import Head
from chain.sending import Receipt
from chain.signing import recover_update_signer, update_struct_hash
from chain.types import (
    AccessGrant,
    LogPosition,
    Participant,
    Phase,
    RecordedUpdate,
    Role,
    Round,
    RoundTerms,
    UpdateRecord,
    Verdict,
)

CHAIN_ID = 31337
LEDGER = "0x5FbDB2315678afecb367f032d93F642f64180aa3"
FAR_FUTURE = 4_000_000_000


def terms(**changes: object) -> RoundTerms:
    usual = RoundTerms(
        task="lesion",
        purpose=6,
        base_model=b"\xba" * 32,
        base_blob=b"\xbb" * 32,
        schema=b"\x5c" * 32,
        rule='[{"name":"fed_avg","params":{}}]',
        min_updates=1,
        max_updates=32,
        quorum=1,
        deadline=FAR_FUTURE,
        witnesses=(),
    )
    return replace(usual, **changes)  # type: ignore[arg-type]


@dataclass
class FakeLedger:
    """Set `down` to make it unreachable, and `refuses` to make it refuse a hospital's record.

    A transaction with a record of a hospital in `too_heavy` needs more gas than a block has.
    """

    chain_id: int = CHAIN_ID
    address: str = LEDGER
    deployed_at: int = 0
    timestamp: int = 1_800_000_000
    down: bool = False
    parties: dict[str, Participant] = field(default_factory=dict)
    rounds: dict[int, Round] = field(default_factory=dict)
    recorded: dict[tuple[int, str], RecordedUpdate] = field(default_factory=dict)
    given: dict[tuple[int, int], tuple[Verdict, ...]] = field(default_factory=dict)
    grants: list[AccessGrant] = field(default_factory=list)
    refuses: dict[str, ContractRevertedError] = field(default_factory=dict)
    too_heavy: frozenset[str] = frozenset()
    transactions: list[int] = field(default_factory=list)

    def enroll(self, address: str, *roles: Role) -> None:
        self.parties[address] = Participant(address, frozenset(roles), b"\x01" * 32, "x", False)

    def suspend(self, address: str) -> None:
        self.parties[address] = replace(self.parties[address], suspended=True)

    def reinstate(self, address: str) -> None:
        self.parties[address] = replace(self.parties[address], suspended=False)

    def open(self, **changes: object) -> int:
        number = len(self.rounds) + 1
        self.rounds[number] = Round(
            number=number,
            phase=Phase.OPEN,
            terms=terms(**changes),
            aggregator=LEDGER,
            opened_at=LogPosition(number, 0, b"\x11" * 32),
            updates=0,
            attestations=0,
            disputed=False,
            proposal=None,
        )
        return number

    def change(self, number: int, **changes: object) -> None:
        self.rounds[number] = replace(self.rounds[number], **changes)  # type: ignore[arg-type]

    def head(self) -> Head:
        self._answer()
        return Head(len(self.transactions), b"\x57" * 32, self.timestamp)

    def block(self, number: int) -> Head:
        return Head(number, b"\x57" * 32, self.timestamp)

    def events(self, _from_block: int, _to_block: int) -> Iterator[LedgerEvent]:
        self._answer()
        yield from ()

    def participant(self, address: str) -> Participant | None:
        self._answer()
        return self.parties.get(address)

    def is_active(self, address: str, role: Role) -> bool:
        self._answer()
        party = self.parties.get(address)
        return party is not None and role in party.roles and not party.suspended

    def round_count(self) -> int:
        self._answer()
        return len(self.rounds)

    def round(self, number: int) -> Round:
        self._answer()
        if number not in self.rounds:
            raise UnknownRoundError(f"there is no round {number}")
        return self.rounds[number]

    def task_rounds(self, task_name: str) -> tuple[int, ...]:
        return tuple(n for n, found in self.rounds.items() if found.terms.task == task_name)

    def active_round(self, task_name: str) -> Round | None:
        self._answer()
        active = [
            self.rounds[n]
            for n in self.task_rounds(task_name)
            if self.rounds[n].phase < Phase.FINAL
        ]
        return active[0] if active else None

    def recipients(self, round_number: int) -> tuple[bytes, ...]:
        return (bytes([round_number]) * 32,)

    def records(self, number: int) -> tuple[RecordedUpdate, ...]:
        self._answer()
        return tuple(found for (of, _), found in self.recorded.items() if of == number)

    def verdicts(self, number: int, proposal: int) -> tuple[Verdict, ...]:
        return self.given.get((number, proposal), ())

    def grants_of(self, researcher: str) -> GrantsAnswer:
        mine = tuple(grant for grant in self.grants if grant.researcher == researcher)
        return GrantsAnswer(self.head(), mine)

    def check_record(self, record: UpdateRecord, signature: bytes) -> None:
        self._answer()
        found = self.rounds.get(record.round)
        if found is None:
            raise ContractRevertedError("RoundLedgerUnknownRound", {"round": record.round})
        if self.timestamp > found.terms.deadline:
            raise ContractRevertedError("RoundLedgerLateRecord", {"round": record.round})
        if (record.round, record.hospital) in self.recorded:
            raise ContractRevertedError(
                "RoundLedgerDuplicateRecord", {"round": record.round, "hospital": record.hospital}
            )
        recovered = recover_update_signer(record, signature)
        if recovered != record.hospital:
            raise ContractRevertedError(
                "RoundLedgerBadSignature", {"expected": record.hospital, "recovered": recovered}
            )
        if record.hospital in self.refuses:
            raise self.refuses[record.hospital]

    def relay_update(self, record: UpdateRecord, signature: bytes) -> Receipt:
        return self.relay_updates([(record, signature)])

    def relay_updates(self, signed: list[tuple[UpdateRecord, bytes]]) -> Receipt:
        for record, signature in signed:
            self.check_record(record, signature)
        if not self.too_heavy.isdisjoint(record.hospital for record, _ in signed):
            raise RefusedRequestError("the chain refused: gas required exceeds allowance")
        self.transactions.append(len(signed))
        transaction = len(self.transactions).to_bytes(32, "big")
        for index, (record, _) in enumerate(signed):
            position = LogPosition(len(self.transactions), index, transaction)
            digest = update_struct_hash(record)
            self.recorded[record.round, record.hospital] = RecordedUpdate(record, digest, position)
        return Receipt(transaction, len(self.transactions), 78_200 * len(signed))

    def resend_lost(self) -> int:
        self._answer()
        return 0

    def _answer(self) -> None:
        if self.down:
            raise LedgerError("no chain answers at http://127.0.0.1:1")
