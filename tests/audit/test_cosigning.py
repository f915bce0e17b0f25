"""A witness signs the heads that it saw, and says nothing on a chain that lost one of them."""

import math
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from threading import Event

import pytest

from audit.journal import HeadJournal
from audit.settings import WitnessSettings
from audit.witness import Said, Witness, Word
from chain.devnet.anvil import start_anvil, stop_anvil
from chain.devnet.ports import free_port
from chain.errors import InvalidInputError, LedgerError
from chain.signing import recover_head_signer, sign_head
from chain.types import CosignedHead, LedgerHead, Phase
from tests.aggregator.training import Training
from tests.federation import Federation, connect, digest

SETTLE = 5.0


@dataclass
class Watch:
    """A witness, with a clock that tests turn."""

    training: Training
    name: str = "witness-1"
    handed: tuple[Path, ...] = ()
    now: float = 0.0
    witness: Witness = field(init=False)

    def __post_init__(self) -> None:
        self.restart()

    def restart(self) -> None:
        """Start anew, as after kill -9: nothing but the chain and the journal is left."""
        settings = WitnessSettings(
            self.training.folder / self.name,
            poll_seconds=0.01,
            settle_seconds=SETTLE,
            heads=self.handed,
        )
        ledger = self.training.federation.ledgers[self.name]
        identity = self.training.federation.identities[self.name]
        self.witness = Witness(
            ledger, self.training.blobs, identity, settings, clock=lambda: self.now
        )

    @property
    def journal(self) -> Path:
        return self.training.folder / self.name / "heads.jsonl"

    def said(self) -> list[Said]:
        return [word.said for word in self.witness.watch()]

    def settled(self) -> list[Said]:
        """Let heads settle, and look again."""
        self.said()
        self.now += SETTLE
        return self.said()

    def seen(self) -> tuple[LedgerHead | CosignedHead, ...]:
        reader = self.training.federation.reader
        return HeadJournal(self.journal, reader.chain_id, reader.address).heads


@pytest.fixture
def watch(training: Training) -> Watch:
    return Watch(training)


@pytest.fixture
def other(training: Training) -> Watch:
    return Watch(training, "witness-2")


def proposed(training: Training) -> int:
    number = training.open_round()
    training.send_all(number)
    training.advance(number)
    return number


def attested(training: Training, *watches: Watch) -> int:
    """Bring a round to its end, with these witnesses' attestations."""
    number = proposed(training)
    for one in watches:
        assert Said.ATTESTED in one.said()
    assert training.federation.reader.round(number).phase is Phase.FINAL
    return number


def elsewhere(training: Training, folder: str) -> Training:
    """The same parties with empty outboxes, which do not bring back what the chain has lost."""
    before = training.federation
    outboxes = training.folder / folder
    return replace(
        training,
        federation=connect(before.rpc_url, before.deployment, outboxes, before.versions),
    )


def signed(federation: Federation, head: LedgerHead, name: str) -> CosignedHead:
    party = federation.identities[name]
    place = (federation.reader.chain_id, federation.reader.address)
    return CosignedHead(head, party.address, sign_head(*place, head, party.account))


def test_the_head_of_a_final_round_is_cosigned_once_it_has_settled(
    training: Training, watch: Watch, other: Watch
) -> None:
    number, reader = attested(training, watch, other), training.federation.reader
    assert watch.said() == []
    watch.now += SETTLE - 0.1
    assert watch.said() == []
    watch.now += 0.1
    assert watch.said() == [Said.COSIGNED]
    assert other.settled() == [Said.COSIGNED]
    assert watch.said() == other.said() == []
    head = reader.head_of_final(number)
    found = reader.cosignatures(number)
    assert [one.witness for one in found] == [watch.witness._identity.address, _address(other)]
    for one in found:
        assert one.head == head
        signer = recover_head_signer(reader.chain_id, reader.address, head, one.signature)
        assert signer == one.witness
    assert watch.seen() == (head, found[0])


def _address(watch: Watch) -> str:
    return watch.training.federation.address(watch.name)


def test_a_witness_keeps_but_does_not_sign_the_head_of_a_round_that_it_did_not_attest(
    training: Training, watch: Watch
) -> None:
    number = proposed(training)
    training.attest(number)
    absent = Watch(training, "auditor")
    assert absent.settled() == []
    assert absent.seen() == (training.federation.reader.head_of_final(number),)
    assert training.federation.reader.cosignatures(number) == ()
    # `attest` has signed in the witness's name: that it cannot remember it makes no difference.
    assert watch.settled() == [Said.COSIGNED]


@pytest.mark.parametrize("step", ["journal", "cosign"])
def test_a_witness_that_was_killed_before_it_cosigned_cosigns_the_same_head_then(
    training: Training, watch: Watch, other: Watch, monkeypatch: pytest.MonkeyPatch, step: str
) -> None:
    number = attested(training, watch, other)
    watch.said()
    watch.now += SETTLE

    def killed(*_: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        if step == "journal":
            patch.setattr(HeadJournal, "append", killed)
        else:
            patch.setattr(training.federation.ledgers["witness-1"], "cosign", killed)
        with pytest.raises(KeyboardInterrupt):
            watch.witness.watch()
    assert training.federation.reader.cosignatures(number) == ()
    before = watch.seen()
    watch.restart()
    assert watch.settled() == [Said.COSIGNED]
    (found,) = training.federation.reader.cosignatures(number)
    assert watch.seen() == (found.head, found)
    assert before == (watch.seen() if step == "cosign" else ())
    watch.restart()
    assert watch.settled() == []


def test_a_reorganised_chain_is_told_and_nothing_is_said_on_it(
    training: Training, watch: Watch, other: Watch
) -> None:
    attested(training, watch, other)
    assert watch.settled() == [Said.COSIGNED]
    (_, kept) = watch.seen()
    assert isinstance(kept, CosignedHead)
    training.federation.rpc("anvil_reorg", 2, [])
    _assert_silent(watch, "reorganised", kept.head)


def test_a_rewound_chain_is_told_and_nothing_is_said_on_it_ever_after(
    training: Training, watch: Watch, other: Watch
) -> None:
    federation = training.federation
    before = federation.rpc("evm_snapshot")
    attested(training, watch, other)
    assert watch.settled() == [Said.COSIGNED]
    (head, _) = watch.seen()
    assert isinstance(head, LedgerHead)
    federation.rpc("evm_revert", before)
    _assert_silent(watch, "rewound", head)
    # The chain grows again: another round of the same number waits for this witness's word.
    again = elsewhere(training, "again")
    federation.pass_time(60)
    number = proposed(again)
    federation.rpc("anvil_mine", hex(20))
    watch.restart()
    _assert_silent(watch, "reorganised", head)
    assert federation.reader.attestations(number, 1) == ()
    # Only a person who knows what happened can say that this is the right chain.
    watch.journal.unlink()
    watch.training = again
    watch.restart()
    assert watch.said() == [Said.ATTESTED]


def _assert_silent(watch: Watch, told: str, head: LedgerHead) -> None:
    federation = watch.training.federation
    newest = federation.reader.head().number
    for _ in range(2):
        words = watch.witness.watch()
        assert {word.said for word in words} == {Said.FOUND}
        for word in words:
            assert word.finding is not None
            assert word.finding.expected == f"block {head.number} 0x{head.hash.hex()}"
            assert told in word.told
        watch.now += SETTLE
    # Not even what the chain has lost is sent again.
    assert federation.reader.head().number == newest


def test_a_chain_that_falls_back_during_a_replay_is_not_attested(
    training: Training, watch: Watch, other: Watch, monkeypatch: pytest.MonkeyPatch
) -> None:
    attested(training, watch, other)
    watch.settled()
    number = proposed(training)
    replay = Witness._replay

    def falls_back(*args: object) -> object:
        result = replay(*args)  # type: ignore[arg-type]
        training.federation.rpc("anvil_mine", "0x1")
        monkeypatch.setattr(type(training.federation.reader), "block", _another_block)
        return result

    monkeypatch.setattr(Witness, "_replay", falls_back)
    (word,) = watch.witness.watch()
    assert word.said is Said.FOUND
    assert training.federation.reader.attestations(number, 1) == ()


def _another_block(reader: object, number: int) -> object:
    found = reader._rpc.block(number)  # type: ignore[attr-defined]
    return replace(found, hash=digest("another branch"))


def test_a_split_chain_is_told_by_what_another_party_has_seen(
    training: Training, watch: Watch, tmp_path: Path
) -> None:
    federation = training.federation
    before = federation.rpc("evm_snapshot")
    number = proposed(training)
    training.attest(number)
    seen_there = signed(federation, federation.reader.head_of_final(number), "witness-2")
    federation.rpc("evm_revert", before)
    federation.pass_time(60)
    here = elsewhere(training, "again")
    proposed(here)
    here.attest(number)
    federation.rpc("anvil_mine", hex(20))
    path = tmp_path / "theirs.jsonl"
    HeadJournal(path, federation.reader.chain_id, federation.reader.address).append(seen_there)
    (word,) = Watch(here, handed=(path,)).witness.watch()
    assert word.said is Said.FOUND
    assert "split" in word.told
    assert seen_there.witness in word.told
    watch = Watch(here)
    assert watch.settled() == [Said.COSIGNED]


def test_a_chain_without_the_ledger_is_told_by_the_heads_that_it_lacks(
    training: Training, watch: Watch, other: Watch, tmp_path: Path
) -> None:
    attested(training, watch, other)
    watch.settled()
    federation = training.federation
    empty = start_anvil(tmp_path / "empty", free_port())
    try:
        there = connect(empty, federation.deployment, tmp_path / "outboxes", {})
        watch.training = replace(training, federation=there)
        watch.restart()
        assert watch.said() == [Said.FOUND, Said.FOUND]
    finally:
        stop_anvil(tmp_path / "empty")


def test_what_another_party_has_seen_of_this_chain_is_no_finding(
    training: Training, watch: Watch, other: Watch
) -> None:
    attested(training, watch, other)
    watch.settled()
    told = Watch(training, "witness-2", handed=(watch.journal,))
    assert told.settled() == [Said.COSIGNED]


def test_a_false_head_that_a_witness_cosigned_silences_the_others_until_it_is_suspended(
    training: Training, watch: Watch, other: Watch
) -> None:
    federation = training.federation
    number = attested(training, watch, other)
    head = federation.reader.head_of_final(number)
    false = signed(federation, replace(head, history=digest("another history")), "witness-2")
    federation.ledgers["steward"].cosign(false.head, false.witness, false.signature)
    for _ in range(2):
        (word,) = watch.witness.watch()
        assert word.said is Said.FOUND
        assert false.witness in word.told
        watch.now += SETTLE
    federation.ledgers["steward"].suspend(false.witness, "signed a false head")
    assert watch.settled() == [Said.COSIGNED]
    federation.ledgers["steward"].reinstate(false.witness)
    assert watch.said() == [Said.FOUND]


def test_a_suspended_witness_cosigns_when_it_is_reinstated(
    training: Training, watch: Watch, other: Watch
) -> None:
    attested(training, watch, other)
    steward = training.federation.ledgers["steward"]
    steward.suspend(_address(watch), "lost key")
    assert watch.settled() == []
    steward.reinstate(_address(watch))
    assert watch.said() == [Said.COSIGNED]


@pytest.mark.parametrize("seconds", [-1.0, math.inf, math.nan])
def test_a_head_cannot_settle_for_less_than_nothing_or_for_ever(
    tmp_path: Path, seconds: float
) -> None:
    with pytest.raises(InvalidInputError, match=f"and {seconds}"):
        WitnessSettings(tmp_path, settle_seconds=seconds)


def test_a_damaged_journal_is_told_and_not_written_over(watch: Watch) -> None:
    watch.journal.parent.mkdir(parents=True)
    watch.journal.write_text("{}\n")
    watch.restart()
    with pytest.raises(InvalidInputError, match="line 1"):
        watch.witness.watch()
    assert watch.journal.read_text() == "{}\n"


def test_a_finding_is_told_once_while_it_lasts_and_waited_on(
    training: Training, watch: Watch, other: Watch, monkeypatch: pytest.MonkeyPatch
) -> None:
    attested(training, watch, other)
    watch.settled()
    training.federation.rpc("anvil_reorg", 2, [])
    words, stop = list[Word](), Event()
    looks = _looks(watch.witness, stop)
    monkeypatch.setattr(watch.witness, "watch", lambda: next(looks))
    watch.witness.run(stop, words.append)
    assert [word.said for word in words] == [Said.FOUND, Said.FOUND, Said.WAITED]
    assert len(set(words)) == 3


def _looks(witness: Witness, stop: Event) -> Iterator[tuple[Word, ...]]:
    look = type(witness).watch
    for _ in range(3):
        yield look(witness)
    stop.set()
    raise LedgerError("the chain is away")
