"""Headers and receipts: as the chain hashes them, and no log without its proof."""

import contextlib
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from chain import rlp
from chain.errors import InclusionProofError, InvalidInputError, LedgerError, VerificationError
from chain.receipts import encode_header, prove_receipts, proven_logs, read_header
from chain.rpc import Rpc
from chain.trie import prove, proven_value, trie_root
from tests.federation import Federation

KEYS = st.binary(min_size=3, max_size=3)


@given(st.dictionaries(KEYS, st.binary(min_size=1, max_size=90), min_size=1, max_size=60))
def test_every_key_of_a_trie_is_proven(values: dict[bytes, bytes]) -> None:
    root, keys = trie_root(values), sorted(values)
    for key, proof in zip(keys, prove(values, keys), strict=True):
        assert proven_value(root, key, proof) == values[key]


@given(
    st.dictionaries(KEYS, st.binary(min_size=1, max_size=90), min_size=1, max_size=20), st.data()
)
def test_a_proof_that_was_touched_proves_nothing(
    values: dict[bytes, bytes], data: st.DataObject
) -> None:
    root = trie_root(values)
    key = data.draw(st.sampled_from(sorted(values)))
    [proof] = prove(values, [key])
    node = data.draw(st.integers(0, len(proof) - 1))
    bit = data.draw(st.integers(0, 8 * len(proof[node]) - 1))
    broken = bytearray(proof[node])
    broken[bit // 8] ^= 1 << bit % 8
    with pytest.raises(InclusionProofError):
        proven_value(root, key, [*proof[:node], bytes(broken), *proof[node + 1 :]])
    with pytest.raises(InclusionProofError, match=r"end of the proof|expected the node"):
        proven_value(root, key, proof[1:])
    with pytest.raises(InclusionProofError, match="1 nodes too early"):
        proven_value(root, key, [*proof, proof[0]])


@given(st.dictionaries(KEYS, st.binary(min_size=1, max_size=90), min_size=1, max_size=20), KEYS)
def test_a_proof_proves_nothing_of_another_key_but_the_truth(
    values: dict[bytes, bytes], other: bytes
) -> None:
    root = trie_root(values)
    for key in values:
        if key != other:
            # Short leaves stand in their branch itself, which then proves each of them.
            with contextlib.suppress(InclusionProofError):
                assert proven_value(root, other, prove(values, [key])[0]) == values[other]


@given(st.sets(KEYS, min_size=2, max_size=20))
def test_a_proof_of_one_key_is_none_of_another(keys: set[bytes]) -> None:
    values = {key: key * 20 for key in keys}  # too long to stand in their branch, and all different
    root = trie_root(values)
    one, other = sorted(values)[:2]
    with pytest.raises(InclusionProofError):
        proven_value(root, other, prove(values, [one])[0])


def test_the_root_is_ethereums_own() -> None:
    # ethereum/tests, TrieTests/trieanyorder.json: "singleItem" and "dogs".
    single = {b"A": b"a" * 50}
    assert trie_root(single).hex() == (
        "d23786fb4a010da3ce639d66d5e904a11dbc02746d1ce25029e53290cabf28ab"
    )
    foods = {b"foo": b"bar", b"food": b"bass"}
    with pytest.raises(IndexError):
        trie_root(foods)  # one key is the beginning of another, which RLP keys never are


def test_an_endless_proof_is_refused() -> None:
    with pytest.raises(InclusionProofError, match="at most 64 nodes"):
        proven_value(bytes(32), b"\x80", [b"\xc0"] * 65)


def receipts_of(federation: Federation) -> list[tuple[dict[str, Any], list[dict[str, Any]]]]:
    chain = Rpc(federation.rpc_url)
    return [chain.raw_block(number) for number in range(chain.block().number + 1)]


def test_headers_hash_to_the_chains_own_hashes(federation: Federation) -> None:
    for block, _ in receipts_of(federation):
        header = read_header(encode_header(block))
        assert header.hash.hex() == block["hash"].removeprefix("0x")
        assert header.number == int(block["number"], 16)
        assert header.timestamp == int(block["timestamp"], 16)


def test_receipts_of_a_full_block_are_proven_each(federation: Federation) -> None:
    federation.rpc("evm_setAutomine", False)
    account = federation.address("steward")
    federation.rpc("anvil_impersonateAccount", account)
    try:
        for _ in range(140):
            federation.rpc("eth_sendTransaction", {"from": account, "to": account, "value": "0x1"})
        federation.rpc("evm_mine")
    finally:
        federation.rpc("evm_setAutomine", True)
        federation.rpc("anvil_stopImpersonatingAccount", account)
    block, receipts = receipts_of(federation)[-1]
    assert len(receipts) == 140
    header = read_header(encode_header(block))
    proofs = prove_receipts(block, receipts, range(140))
    assert max(map(len, proofs)) > 2
    for index, proof in enumerate(proofs):
        assert proven_logs(header.receipts_root, index, proof) == []
        with pytest.raises(InclusionProofError):
            proven_logs(header.receipts_root, (index + 1) % 140, proof)


def test_logs_are_those_that_the_chain_tells(federation: Federation) -> None:
    found = []
    for block, receipts in receipts_of(federation):
        header = read_header(encode_header(block))
        indices = [int(one["transactionIndex"], 16) for one in receipts]
        for index, proof in zip(indices, prove_receipts(block, receipts, indices), strict=True):
            found += proven_logs(header.receipts_root, index, proof)
    told = [
        log for _, receipts in receipts_of(federation) for one in receipts for log in one["logs"]
    ]
    assert [(log.address.lower(), log.data.hex()) for log in found] == [
        (log["address"].lower(), log["data"].removeprefix("0x")) for log in told
    ]
    assert found


def test_a_block_that_is_not_ethereums_is_refused_when_it_is_written(
    federation: Federation,
) -> None:
    block, receipts = receipts_of(federation)[-1]
    with pytest.raises(LedgerError, match="does not hash to"):
        encode_header({**block, "gasUsed": "0x1"})
    with pytest.raises(LedgerError, match="its node lost some"):
        prove_receipts(block, [{**receipts[0], "cumulativeGasUsed": "0x1"}], [0])


@pytest.mark.parametrize(
    "fields", [[], [b""] * 14, [b""] * 41, [b""] * 21, [[b""]] * 21, [b"\1" * 32] * 21]
)
def test_what_is_no_header_is_refused(fields: list[rlp.Item]) -> None:
    with pytest.raises(InvalidInputError):
        read_header(rlp.encode(fields))


def test_a_header_beyond_its_bound_is_refused() -> None:
    with pytest.raises(InvalidInputError, match="at most 16384 bytes"):
        read_header(rlp.encode([b"a" * 17_000]))


@pytest.mark.parametrize(
    "receipt",
    [
        b"\2",
        rlp.encode([b"\1", b"", b""]),
        rlp.encode([b"\1", b"", b"", [[b"short", [], b""]]]),
        rlp.encode([b"\1", b"", b"", [[bytes(20), [bytes(31)], b""]]]),
        rlp.encode([b"\1", b"", b"", [[bytes(20), [bytes(32)] * 5, b""]]]),
    ],
)
def test_what_is_no_receipt_holds_no_logs(receipt: bytes) -> None:
    values = {rlp.encode_int(0): receipt}
    [proof] = prove(values, list(values))
    with pytest.raises(VerificationError, match="is no receipt"):
        proven_logs(trie_root(values), 0, proof)
