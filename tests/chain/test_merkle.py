"""Trees are those of OpenZeppelin's MerkleProof over double-hashed leaves."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from chain.digests import keccak
from chain.errors import InclusionProofError, InvalidInputError
from chain.merkle import (
    image_leaf,
    image_leaves,
    merkle_proof,
    merkle_root,
    verdict_leaf,
    verdicts_root,
    verify_inclusion,
)
from chain.types import Outcome, Reason, Verdict

DIGESTS = st.binary(min_size=32, max_size=32)
NORTH = "0x1111111111111111111111111111111111111111"
SOUTH = "0x2222222222222222222222222222222222222222"
KEPT = Verdict(SOUTH, Outcome.ACCEPTED, Reason.NONE, 0, 0, b"\5" * 32)
REFUSED = Verdict(NORTH, Outcome.REJECTED, Reason.NOT_A_NUMBER, 3, 900_000, b"\6" * 32)


def pair(one: bytes, two: bytes) -> bytes:
    return keccak(b"".join(sorted((one, two))))


def word(number: int) -> bytes:
    return number.to_bytes(32, "big")


@given(st.lists(DIGESTS, min_size=1, max_size=40), st.data())
def test_every_leaf_is_proved(leaves: list[bytes], data: st.DataObject) -> None:
    index = data.draw(st.integers(0, len(leaves) - 1))
    verify_inclusion(merkle_root(leaves), leaves[index], merkle_proof(leaves, index))


@given(st.lists(DIGESTS, min_size=1, max_size=9, unique=True), DIGESTS, st.data())
def test_no_other_leaf_is_proved(leaves: list[bytes], other: bytes, data: st.DataObject) -> None:
    index = data.draw(st.integers(0, len(leaves) - 1))
    if other != leaves[index]:
        with pytest.raises(InclusionProofError, match="leads to"):
            verify_inclusion(merkle_root(leaves), other, merkle_proof(leaves, index))


def test_a_last_node_without_a_partner_moves_up_unchanged() -> None:
    a, b, c, d, e = (bytes([n]) * 32 for n in range(5))
    assert merkle_root([a]) == a
    assert merkle_root([a, b, c]) == pair(pair(a, b), c)
    assert merkle_root([a, b, c, d, e]) == pair(pair(pair(a, b), pair(c, d)), e)
    assert merkle_proof([a, b, c], 2) == (pair(a, b),)


def test_an_inner_node_is_no_image_leaf() -> None:
    leaves = image_leaves(word(n) for n in range(4))
    inner = pair(leaves[0], leaves[1])
    tag = keccak(b"fedwitness.image.v1")
    assert image_leaf(word(1)) == keccak(keccak(tag + word(1)))
    assert inner not in leaves
    assert list(leaves) == sorted(leaves)


def test_a_verdicts_leaf_hashes_its_abi_encoding() -> None:
    words = [
        keccak(b"fedwitness.verdict.v1"),
        word(7),
        bytes(12) + b"\x11" * 20,
        word(2),
        word(13),
        word(3),
        word(900_000),
        b"\6" * 32,
    ]
    assert verdict_leaf(7, REFUSED) == keccak(keccak(b"".join(words)))


def test_verdicts_are_ordered_by_hospital() -> None:
    expected = pair(verdict_leaf(7, REFUSED), verdict_leaf(7, KEPT))
    assert verdicts_root(7, [KEPT, REFUSED]) == verdicts_root(7, [REFUSED, KEPT]) == expected
    assert verdicts_root(8, [KEPT, REFUSED]) != expected


def test_a_tree_of_nothing_and_a_leaf_that_is_not_there_are_refused() -> None:
    with pytest.raises(InvalidInputError, match="at least one leaf"):
        merkle_root([])
    for index in (-1, 1):
        with pytest.raises(InvalidInputError, match="expected a leaf"):
            merkle_proof([word(0)], index)


@pytest.mark.parametrize("proof", [[b""], [b"\0" * 31], [bytes(32)] * 65])
def test_a_proof_of_another_form_is_refused(proof: list[bytes]) -> None:
    with pytest.raises(InclusionProofError, match="up to 64 digests"):
        verify_inclusion(bytes(32), bytes(32), proof)
