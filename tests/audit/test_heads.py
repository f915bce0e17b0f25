"""Whoever holds earlier heads notices a chain that was rewound, reorganised, split or censored."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from audit.heads import audit_heads, check_heads
from audit.journal import HeadJournal, SeenHead
from audit.verify import HEADS, Finding
from chain.devnet.anvil import start_anvil, stop_anvil
from chain.devnet.ports import free_port
from chain.errors import LedgerError
from chain.reader import LedgerReader
from chain.rpc import RawLog
from chain.signing import sign_head
from chain.types import CosignedHead, LedgerHead
from tests.federation import Federation, connect, digest


def finished(federation: Federation, task: str) -> LedgerHead:
    """Bring a task's only round to its end."""
    number = federation.open_round(task=task)
    federation.finish(number)
    return federation.reader.head_of_final(number)


def cosigned(federation: Federation, head: LedgerHead, witness: str = "witness-1") -> CosignedHead:
    place = (federation.reader.chain_id, federation.reader.address)
    party = federation.identities[witness]
    return CosignedHead(head, party.address, sign_head(*place, head, party.account))


def only(findings: list[Finding]) -> Finding:
    (finding,) = findings
    assert finding.step == HEADS
    return finding


def restarted(federation: Federation, folder: Path) -> Federation:
    """The same parties with empty outboxes, which do not bring back what the chain has lost."""
    return connect(federation.rpc_url, federation.deployment, folder, federation.versions)


def test_a_chain_that_has_all_heads_has_no_finding(federation: Federation) -> None:
    heads: list[SeenHead] = [finished(federation, "one"), finished(federation, "two")]
    heads += [cosigned(federation, heads[1]), heads[0]]  # type: ignore[arg-type]
    assert check_heads(federation.reader, heads) == []
    assert check_heads(LedgerReader(federation.rpc_url, federation.reader.address), heads) == []


def test_a_rewound_chain_is_found_by_evm_revert(federation: Federation) -> None:
    snapshot = federation.rpc("evm_snapshot")
    head = finished(federation, "one")
    federation.rpc("evm_revert", snapshot)
    finding = only(check_heads(federation.reader, [head]))
    assert "rewound" in finding.message
    assert finding.expected == f"block {head.number} 0x{head.hash.hex()}"
    newest = federation.reader.head()
    assert finding.found == f"block {newest.number} 0x{newest.hash.hex()} as the newest"


def test_a_rewound_chain_is_found_by_anvil_rollback(federation: Federation) -> None:
    head = finished(federation, "one")
    federation.rpc("anvil_rollback", 2)
    assert "rewound" in only(check_heads(federation.reader, [head])).message


def test_a_rewound_chain_that_has_grown_again_is_found(
    federation: Federation, tmp_path: Path
) -> None:
    snapshot = federation.rpc("evm_snapshot")
    before = finished(federation, "one")
    federation.rpc("evm_revert", snapshot)
    federation.pass_time(5)
    after = finished(restarted(federation, tmp_path), "one")
    assert after.round == before.round
    federation.rpc("anvil_mine", hex(9))
    finding = only(check_heads(federation.reader, [before, after]))
    assert "reorganised" in finding.message
    assert finding.expected == f"block {before.number} 0x{before.hash.hex()}"
    assert finding.found.startswith(f"block {before.number} 0x")


def test_a_reorganised_chain_is_found(federation: Federation) -> None:
    head = finished(federation, "one")
    federation.rpc("anvil_reorg", 3, [])
    finding = only(check_heads(federation.reader, [head]))
    assert "reorganised" in finding.message
    assert finding.found != finding.expected


def test_a_reorganisation_behind_the_last_head_is_nobodys_concern(federation: Federation) -> None:
    head = finished(federation, "one")
    federation.rpc("anvil_mine", hex(3))
    federation.rpc("anvil_reorg", 2, [])
    assert check_heads(federation.reader, [head]) == []


def test_a_head_of_another_branch_that_a_witness_signed_tells_of_a_split(
    federation: Federation,
) -> None:
    head = finished(federation, "one")
    other = cosigned(federation, replace(head, hash=digest("another branch")))
    finding = only(check_heads(federation.reader, [other]))
    assert "split" in finding.message
    assert federation.address("witness-1") in finding.subject


def test_a_witness_that_signed_two_heads_of_a_round_is_found(federation: Federation) -> None:
    head = finished(federation, "one")
    one = cosigned(federation, head)
    two = cosigned(federation, replace(head, history=digest("another history")))
    assert check_heads(federation.reader, [one, cosigned(federation, head, "witness-2")]) == []
    findings = check_heads(federation.reader, [one, two])
    assert ["two heads of one round" in one.message for one in findings] == [True, False]


@pytest.mark.parametrize("change", [{"blocks": 1}, {"history": digest("another history")}])
def test_a_head_that_other_logs_lead_to_is_found(
    federation: Federation, change: dict[str, Any]
) -> None:
    head = finished(federation, "one")
    finding = only(check_heads(federation.reader, [replace(head, **change)]))
    assert "other logs" in finding.message


def test_a_node_that_leaves_a_log_out_is_found(
    federation: Federation, monkeypatch: pytest.MonkeyPatch
) -> None:
    head = finished(federation, "one")
    reader = LedgerReader(federation.rpc_url, federation.reader.address)
    honest = reader._rpc._logs
    hidden = reader.records(head.round)[1].position

    def censored(addresses: Any, topics: Any, first: int, last: int) -> list[RawLog]:
        found = honest(addresses, topics, first, last)
        return [log for log in found if (log.block, log.log_index) != _place(hidden)]

    def _place(position: Any) -> tuple[int, int]:
        return (position.block, position.log_index)

    monkeypatch.setattr(reader._rpc, "_logs", censored)
    assert "omits" in only(check_heads(reader, [head])).message


def test_a_head_of_a_round_that_is_not_final_is_found(federation: Federation) -> None:
    head = finished(federation, "one")
    open_round = federation.open_round(task="two")
    for number in (open_round, 99):
        finding = only(check_heads(federation.reader, [replace(head, round=number)]))
        assert "not final" in finding.message


def test_a_head_at_another_block_than_its_round_became_final_in_is_found(
    federation: Federation,
) -> None:
    head = finished(federation, "one")
    before = federation.reader.block(head.number - 1)
    moved = replace(head, number=before.number, hash=before.hash)
    assert "other logs" in only(check_heads(federation.reader, [moved])).message


@pytest.mark.parametrize("signature", [bytes(65), b"\1" * 64 + b"\x1b"])
def test_a_head_that_its_witness_did_not_sign_is_found(
    federation: Federation, signature: bytes
) -> None:
    head = finished(federation, "one")
    for one in (
        CosignedHead(head, federation.address("witness-1"), signature),
        replace(cosigned(federation, head), witness=federation.address("witness-2")),
    ):
        assert "not the witness's" in only(check_heads(federation.reader, [one])).message


def test_an_audit_keeps_the_heads_that_it_found_for_the_next(
    federation: Federation, tmp_path: Path
) -> None:
    reader = federation.reader
    journal = HeadJournal(tmp_path / "heads.jsonl", reader.chain_id, reader.address)
    snapshot = federation.rpc("evm_snapshot")
    head = finished(federation, "one")
    signed = cosigned(federation, head)
    federation.ledgers["steward"].cosign(head, signed.witness, signed.signature)
    assert audit_heads(reader, journal) == []
    assert journal.heads == (head, signed)
    assert audit_heads(reader, journal) == []
    federation.rpc("evm_revert", snapshot)
    journal = HeadJournal(tmp_path / "heads.jsonl", reader.chain_id, reader.address)
    assert {one.subject for one in audit_heads(reader, journal)} == {
        f"round {head.round}, head at block {head.number}",
        f"round {head.round}, head at block {head.number}, signed by {signed.witness}",
    }
    assert journal.heads == (head, signed)


def test_an_audit_without_a_journal_uses_what_others_kept(
    federation: Federation, tmp_path: Path
) -> None:
    snapshot = federation.rpc("evm_snapshot")
    head = finished(federation, "one")
    assert audit_heads(federation.reader, None, [head]) == []
    federation.rpc("evm_revert", snapshot)
    federation.pass_time(5)
    other = finished(restarted(federation, tmp_path), "one")
    assert audit_heads(federation.reader, None) == []
    assert audit_heads(federation.reader, None, [other]) == []
    assert "reorganised" in only(audit_heads(federation.reader, None, [head])).message


def test_an_audit_reports_a_false_head_that_is_on_the_ledger_and_keeps_nothing(
    federation: Federation, tmp_path: Path
) -> None:
    reader = federation.reader
    head = finished(federation, "one")
    false = cosigned(federation, replace(head, blocks=head.blocks - 1))
    federation.ledgers["witness-1"].cosign(false.head, false.witness, false.signature)
    journal = HeadJournal(tmp_path / "heads.jsonl", reader.chain_id, reader.address)
    finding = only(audit_heads(reader, journal))
    assert f"signed by {false.witness}" in finding.subject
    assert journal.heads == ()


def test_an_audit_of_a_chain_without_the_ledger_tells_of_the_heads_that_it_lacks(
    federation: Federation, tmp_path: Path
) -> None:
    head = finished(federation, "one")
    empty = start_anvil(tmp_path / "empty", free_port())
    try:
        reader = LedgerReader(empty, federation.reader.address)
        assert "rewound" in only(audit_heads(reader, None, [head])).message
        with pytest.raises(LedgerError):
            audit_heads(reader, None)
    finally:
        stop_anvil(tmp_path / "empty")
