"""Heads of a ledger: what is hashed, what is signed, and what the chain itself takes and says."""

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from chain.digests import keccak
from chain.errors import ContractRevertedError, PhaseError, UnknownRoundError
from chain.histories import genesis_history, next_history
from chain.reader import LedgerReader
from chain.signing import recover_head_signer, sign_head
from chain.types import CosignedHead, LedgerHead
from tests.federation import WITNESSES, Federation, connect, digest, identity

ONE, TWO = "0x" + "11" * 20, "0x" + "22" * 20
THREE = "0x" + "33" * 20
HEAD = LedgerHead(
    round=3, number=1 << 40, hash=digest("block"), blocks=17, history=digest("history")
)
BLOCKS = st.lists(
    st.tuples(st.integers(0, 2**64 - 1), st.binary(min_size=32, max_size=32), st.integers(1, 9)),
    max_size=4,
)


def test_a_history_begins_with_chain_and_contracts() -> None:
    assert genesis_history(31337, ONE, TWO, THREE) == keccak(
        b"fedwitness.history.v1"
        + (31337).to_bytes(32, "big")
        + b"\x11" * 20
        + b"\x22" * 20
        + b"\x33" * 20
    )


def test_a_history_goes_on_with_number_hash_and_count_of_logs() -> None:
    assert next_history(digest("before"), 5, digest("block"), 2) == keccak(
        digest("before") + bytes(7) + b"\5" + digest("block") + bytes(3) + b"\2"
    )


@given(one=BLOCKS, other=BLOCKS)
def test_other_blocks_have_another_history(
    one: list[tuple[int, bytes, int]], other: list[tuple[int, bytes, int]]
) -> None:
    assert (_folded(one) == _folded(other)) is (one == other)


@pytest.mark.parametrize(
    "change",
    [{"round": 4}, {"number": 2}, {"hash": bytes(32)}, {"blocks": 18}, {"history": bytes(32)}],
    ids=lambda change: next(iter(change)),
)
def test_a_signature_holds_for_no_other_head(change: dict[str, Any]) -> None:
    witness = identity("witness-1")
    signature = sign_head(31337, ONE, HEAD, witness.account)
    assert recover_head_signer(31337, ONE, HEAD, signature) == witness.address
    assert recover_head_signer(31337, ONE, replace(HEAD, **change), signature) != witness.address
    assert recover_head_signer(31337, TWO, HEAD, signature) != witness.address
    assert recover_head_signer(1, ONE, HEAD, signature) != witness.address


def test_the_head_of_a_final_round_names_its_block_and_every_log_before(
    federation: Federation,
) -> None:
    number, reader = federation.open_round(), federation.reader
    federation.finish(number)
    head = reader.head_of_final(number)
    newest = reader.head()
    assert (head.round, head.number, head.hash) == (number, newest.number, newest.hash)
    events = [one for one in reader.events(0, newest.number) if one.contract != "ImageAccess"]
    blocks = sorted({one.position.block for one in events})
    assert head.blocks == len(blocks)
    history = genesis_history(
        reader.chain_id, reader.address, reader.participant_registry, reader.dataset_registry
    )
    for block in blocks:
        logs = sum(1 for one in events if one.position.block == block)
        history = next_history(history, block, reader.block(block).hash, logs)
    assert head.history == history


def test_a_head_does_not_depend_on_what_was_read_before(federation: Federation) -> None:
    first = federation.open_round()
    federation.finish(first)
    before = federation.reader.head_of_final(first)
    second = federation.open_round(base_model=digest("model"), base_blob=digest("model blob"))
    federation.finish(second)
    for order in ((first, second), (second, first)):
        reader = LedgerReader(federation.rpc_url, federation.reader.address)
        heads = {number: reader.head_of_final(number) for number in order}
        assert heads[first] == before
        assert heads[second] == federation.reader.head_of_final(second)


def test_heads_are_computed_anew_where_the_chain_fell_back(
    federation: Federation, tmp_path: Path
) -> None:
    snapshot = federation.rpc("evm_snapshot")
    first = federation.open_round()
    federation.finish(first)
    before = federation.reader.head_of_final(first)
    federation.rpc("evm_revert", snapshot)
    federation.pass_time(1)
    # With other outboxes, which do not bring back what was lost.
    other = connect(federation.rpc_url, federation.deployment, tmp_path / "o", federation.versions)
    assert other.open_round() == first
    other.finish(first)
    after = federation.reader.head_of_final(first)
    assert after == LedgerReader(federation.rpc_url, federation.reader.address).head_of_final(first)
    assert after.hash != before.hash
    assert after.history != before.history


def test_a_round_that_is_not_final_has_no_head(federation: Federation) -> None:
    number = federation.open_round()
    with pytest.raises(PhaseError, match="found it OPEN"):
        federation.reader.head_of_final(number)
    with pytest.raises(UnknownRoundError):
        federation.reader.head_of_final(number + 1)


def test_what_witnesses_cosign_reads_back(federation: Federation) -> None:
    number, reader = federation.open_round(), federation.reader
    federation.finish(number)
    assert reader.cosignatures(number) == ()
    signed = tuple(_signed(federation, reader.head_of_final(number)))
    for one in signed:
        federation.ledgers["hospital-1"].cosign(one.head, one.witness, one.signature)
    assert reader.cosignatures(number) == signed
    assert reader.cosigned_between(0, reader.head().number) == signed
    assert reader.cosigned_between(reader.head().number, reader.head().number) == signed[1:]


def test_cosignatures_are_part_of_the_next_history(federation: Federation) -> None:
    number, reader = federation.open_round(), federation.reader
    federation.finish(number)
    head = reader.head_of_final(number)
    one, _ = _signed(federation, head)
    federation.ledgers["witness-1"].cosign(one.head, one.witness, one.signature)
    assert reader.head_of_final(number) == head
    second = federation.open_round(base_model=digest("model"), base_blob=digest("model blob"))
    federation.finish(second)
    # Opening, three records, a proposal and two attestations, and the cosignature.
    assert reader.head_of_final(second).blocks == head.blocks + 8


def test_the_ledger_refuses_a_second_a_forged_and_a_foreign_head(federation: Federation) -> None:
    number, reader = federation.open_round(), federation.reader
    federation.finish(number)
    head = reader.head_of_final(number)
    one, two = _signed(federation, head)
    ledger = federation.ledgers["witness-1"]
    other = replace(head, hash=digest("another branch"))
    ahead = replace(head, number=reader.head().number + 9)
    for refused, name in (
        ((head, one.witness, two.signature), "RoundLedgerBadSignature"),
        ((replace(head, blocks=1), one.witness, one.signature), "RoundLedgerBadSignature"),
        ((other, one.witness, one.signature), "RoundLedgerBlockMismatch"),
        ((ahead, one.witness, one.signature), "RoundLedgerBlockNotPast"),
        ((head, federation.address("auditor"), one.signature), "RoundLedgerNotWitness"),
    ):
        with pytest.raises(ContractRevertedError) as caught:
            ledger.cosign(*refused)
        assert caught.value.name == name
    ledger.cosign(head, one.witness, one.signature)
    with pytest.raises(ContractRevertedError) as caught:
        ledger.cosign(head, one.witness, one.signature)
    assert caught.value.name == "RoundLedgerAlreadyCosigned"


def _signed(federation: Federation, head: LedgerHead) -> Iterator[CosignedHead]:
    place = (federation.reader.chain_id, federation.reader.address)
    for name in WITNESSES:
        signature = sign_head(*place, head, federation.identities[name].account)
        yield CosignedHead(head, federation.address(name), signature)


def _folded(blocks: list[tuple[int, bytes, int]]) -> bytes:
    history = genesis_history(1, ONE, TWO, THREE)
    for number, block_hash, logs in blocks:
        history = next_history(history, number, block_hash, logs)
    return history
