"""A rewound, a reorganised and a split chain are reported by a witness and by an audit.

Chain, IPFS node, witness and audit are processes of their own, and the chain is moved by anvil's
own means: the witness says nothing more on it, and an audit tells what was expected and found.
"""

import json
import shutil
import signal
import subprocess
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest

from chain.devnet.anvil import start_anvil, stop_anvil
from chain.devnet.ports import free_port
from chain.keyring import Keyring
from chain.types import CosignedHead, LedgerHead
from demo.local import REPOSITORY, fedwitness
from tests.attacks.devnet import WITNESS, Devnet, watched
from tests.cli.conftest import invoke, with_key_files
from tests.federation import Federation, connect, found_federation

HEADS = 14


@dataclass(frozen=True, slots=True)
class Founded:
    """A federation on a chain of its own, and the folder that its state is kept in."""

    federation: Federation
    folder: Path

    def copied(self, folder: Path) -> Federation:
        """Give the same federation on a copy of the chain."""
        shutil.copytree(self.folder, folder)
        rpc_url = start_anvil(folder, free_port())
        before = self.federation
        return connect(rpc_url, before.deployment, folder / "outboxes", before.versions)


@pytest.fixture(scope="module")
def founded(tmp_path_factory: pytest.TempPathFactory) -> Founded:
    """A federation whose chain has stopped, to be copied."""
    folder = tmp_path_factory.mktemp("founded")
    try:
        rpc_url = start_anvil(folder / "chain", free_port())
        federation = found_federation(rpc_url, folder / "outboxes")
    finally:
        stop_anvil(folder / "chain")
    return Founded(federation, folder / "chain")


@pytest.fixture
def stack() -> Iterator[ExitStack]:
    with ExitStack() as stack:
        yield stack


@dataclass(frozen=True, slots=True)
class Party:
    """A federation on one chain, with a witness, and an auditor that keeps what it sees.

    Attributes:
        net: The federation, and the witness's process.
        chain: Folder of the chain.
        auditor: The auditor's keys.
    """

    net: Devnet
    chain: Path
    auditor: Keyring

    @property
    def federation(self) -> Federation:
        return self.net.federation

    @property
    def witness_journal(self) -> Path:
        return self.witness.work / "witness" / "heads.jsonl"

    def play(self, task: str) -> CosignedHead:
        """Bring a round to its end, and wait for the witness's signature under its head."""
        round_ = self.net.collected(task)
        self.net.propose_honestly(round_)
        number, reader = self.net.final(round_.number).number, self.federation.reader
        self.net.until(lambda: bool(reader.cosignatures(number)), f"round {number} is cosigned")
        (found,) = reader.cosignatures(number)
        return found

    @property
    def witness(self) -> Keyring:
        keys = self.net.folder / "keys"
        return Keyring(keys / f"{WITNESS}.json", keys / f"{WITNESS}.password")

    @property
    def where(self) -> tuple[str, ...]:
        """The options that name this federation on this chain."""
        where = ("--rpc", self.federation.rpc_url, "--ipfs", self.net.ipfs)
        return (*where, "--ledger", self.federation.deployment.ledger)

    def audit(self, *options: object, keyring: Keyring | None = None) -> tuple[int, Any]:
        """Run an audit; return its exit code and what it printed."""
        keys = keyring.options() if keyring is not None else ()
        return invoke("audit", *self.where, *keys, *map(str, options))

    def look_once(self) -> tuple[int, Any]:
        """Let the witness look once more, beside its process, and say what it sees."""
        return invoke("witness", "run", "--once", *self.where, *self.witness.options())


@contextmanager
def party(founded: Founded, ipfs: str, folder: Path) -> Iterator[Party]:
    """Run a copy of the chain with a witness of its own."""
    folder.mkdir()
    chain = folder / "chain"
    try:
        federation = founded.copied(chain)
        auditor = with_key_files(federation, "auditor", folder / "auditor.json").keyring
        with watched(federation, ipfs, folder) as net:
            yield Party(net, chain, auditor)
    finally:
        stop_anvil(chain)


@pytest.fixture
def here(founded: Founded, ipfs: str, tmp_path: Path, stack: ExitStack) -> Party:
    return stack.enter_context(party(founded, ipfs, tmp_path / "here"))


@pytest.fixture
def there(founded: Founded, ipfs: str, tmp_path: Path, stack: ExitStack) -> Party:
    return stack.enter_context(party(founded, ipfs, tmp_path / "there"))


def by_revert(here: Party, snapshot: str) -> None:
    here.federation.rpc("evm_revert", snapshot)


def by_rollback(here: Party, _: str) -> None:
    here.federation.rpc("anvil_rollback", 4)


def by_reorg(here: Party, _: str) -> None:
    here.federation.rpc("anvil_reorg", 4, [])


MEANS: dict[Callable[[Party, str], None], str] = {
    by_revert: "rewound",
    by_rollback: "rewound",
    by_reorg: "reorganised",
}


@pytest.mark.parametrize("move", MEANS, ids=lambda move: move.__name__)
def test_a_chain_that_lost_a_head_is_reported_by_witness_and_audit(
    here: Party, move: Callable[[Party, str], None]
) -> None:
    assert here.play("one").head.round == 1
    assert _findings(here.audit(keyring=here.auditor)) == []
    snapshot = here.federation.rpc("evm_snapshot")
    seen = here.play("two")
    assert _findings(here.audit(keyring=here.auditor)) == []

    move(here, snapshot)
    here.net.until(lambda: MEANS[move] in here.net.log.read_text(), "the witness reports it")
    log = here.net.log.read_text()
    assert seen.head.hash.hex() in log
    # A round that waits for its word waits in vain.
    other = replace(here.federation, ledgers=_with_new_outboxes(here))
    net = replace(here.net, federation=other)
    round_ = net.collected("three")
    net.propose_honestly(round_)
    here.federation.rpc("anvil_mine", hex(12))
    code, words = here.look_once()
    assert code == 1
    assert {word["said"] for word in words} == {"found"}
    assert here.federation.reader.attestations(round_.number, 1) == ()

    for options in ({"keyring": here.auditor}, {}):
        handed = () if options else ("--heads", here.witness_journal)
        findings = _findings(here.audit(*handed, **options))
        expected = f"block {seen.head.number} 0x{seen.head.hash.hex()}"
        assert expected in {one["expected"] for one in findings}
        assert all(one["found"] != expected for one in findings)
    # Without an earlier head nobody can know.
    assert _findings(here.audit()) == []


def test_a_split_chain_is_reported_by_whoever_is_handed_the_other_sides_heads(
    here: Party, there: Party
) -> None:
    mine, theirs = here.play("one"), there.play("one")
    assert mine.head.round == theirs.head.round
    assert mine.witness == theirs.witness
    assert mine.head != theirs.head
    for party_ in (here, there):
        assert _findings(party_.audit(keyring=party_.auditor)) == []

    findings = _findings(here.audit("--heads", there.witness_journal))
    told = " ".join(one["message"] for one in findings)
    assert "split" in told
    assert "two heads of one round" in told
    assert _told(theirs.head) in {one["expected"] for one in findings}
    assert _told(mine.head) in {one["found"] for one in findings}


def test_a_witness_that_is_brought_to_the_other_side_of_a_split_says_nothing_there(
    here: Party, there: Party
) -> None:
    seen = here.play("one")
    there.play("one")
    round_ = there.net.collected("two", quorum=2)
    there.net.propose_honestly(round_)
    command = fedwitness("witness", "run", "--json", *there.where, *here.witness.options())
    log = here.net.folder / "moved.log"
    with (
        log.open("w") as remarks,
        subprocess.Popen(
            command, cwd=REPOSITORY, stdout=subprocess.PIPE, stderr=remarks, text=True
        ) as witness,
    ):
        here.net.until(lambda: "found: " in log.read_text(), "the witness reports the split")
        witness.send_signal(signal.SIGTERM)
        output, _ = witness.communicate(timeout=20)
    assert witness.returncode == 1
    words = json.loads(output)
    assert {word["said"] for word in words} == {"found"}
    assert words[0]["finding"]["step"] == HEADS
    assert words[0]["finding"]["expected"] == _told(seen.head)


def _told(head: LedgerHead) -> str:
    return f"block {head.number} 0x{head.hash.hex()}"


def _findings(answer: tuple[int, Any]) -> list[dict[str, Any]]:
    """Give the findings about the chain; an audit that has any exits with 1."""
    code, report = answer
    found = [one for one in report["findings"] if one["step"] == HEADS]
    assert code == (1 if report["findings"] else 0)
    (step,) = (one for one in report["steps"] if one["number"] == HEADS)
    assert step["ok"] is (not found)
    return found


def _with_new_outboxes(here: Party) -> dict[str, Any]:
    before = here.federation
    folder = here.chain / "outboxes-after"
    return connect(before.rpc_url, before.deployment, folder, before.versions).ledgers
