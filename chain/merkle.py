"""Merkle trees over image commitments and verdicts, as OpenZeppelin's MerkleProof verifies them.

See docs/protocol.md, section 4.2. Leaves are hashed twice under a tag, so that no inner node can
pass for one; inner nodes hash their children in ascending order, so a proof needs no directions.
"""

from collections.abc import Iterable, Sequence
from functools import reduce

from eth_abi.abi import encode

from chain.addresses import address_order
from chain.digests import keccak
from chain.errors import InclusionProofError, InvalidInputError
from chain.types import Verdict

_IMAGE_TAG = keccak(b"fedwitness.image.v1")
_VERDICT_TAG = keccak(b"fedwitness.verdict.v1")
MAX_PROOF = 64  # nodes; enough for 2^64 leaves


def image_leaf(commitment: bytes) -> bytes:
    """Compute the leaf of an image's commitment."""
    return tagged_leaf(("bytes32", "bytes32"), (_IMAGE_TAG, commitment))


def image_leaves(commitments: Iterable[bytes]) -> tuple[bytes, ...]:
    """Compute the leaves of a data-set version's tree, in their order."""
    return tuple(sorted(map(image_leaf, commitments)))


def verdict_leaf(round_number: int, verdict: Verdict) -> bytes:
    """Compute the leaf of a verdict (docs/protocol.md, section 8)."""
    types = ["bytes32", "uint256", "address", "uint8", "uint8", "uint64", "uint64", "bytes32"]
    values = (
        _VERDICT_TAG,
        round_number,
        verdict.hospital,
        verdict.outcome,
        verdict.reason,
        verdict.score,
        verdict.threshold,
        verdict.content,
    )
    return tagged_leaf(types, values)


def verdicts_root(round_number: int, verdicts: Iterable[Verdict]) -> bytes:
    """Compute the root of a proposal's verdicts, in whichever order they come.

    Raises:
        InvalidInputError: If there are none.
    """
    ascending = sorted(verdicts, key=lambda verdict: address_order(verdict.hospital))
    return merkle_root([verdict_leaf(round_number, verdict) for verdict in ascending])


def merkle_root(leaves: Sequence[bytes]) -> bytes:
    """Compute the root above leaves in their order.

    Raises:
        InvalidInputError: If there are none.
    """
    return _levels(leaves)[-1][0]


def merkle_proof(leaves: Sequence[bytes], index: int) -> tuple[bytes, ...]:
    """Collect the nodes that lead from a leaf to the root.

    Args:
        leaves: All leaves in their order.
        index: Which one, from 0.

    Raises:
        InvalidInputError: If there is no such leaf.
    """
    if not 0 <= index < len(leaves):
        message = f"expected a leaf from 0 to {len(leaves) - 1}, found {index}"
        raise InvalidInputError(message)
    proof = []
    for level in _levels(leaves)[:-1]:
        if (index ^ 1) < len(level):
            proof.append(level[index ^ 1])
        index //= 2
    return tuple(proof)


def verify_inclusion(root: bytes, leaf: bytes, proof: Sequence[bytes]) -> None:
    """Check that a proof leads from the leaf to the root.

    Raises:
        InclusionProofError: If it leads elsewhere, or is no list of up to 64 digests.
    """
    if len(proof) > MAX_PROOF or any(len(node) != len(root) for node in proof):
        message = f"expected a proof of up to {MAX_PROOF} digests of 32 bytes"
        raise InclusionProofError(message)
    found = reduce(_node, proof, leaf)
    if found != root:
        message = f"expected a proof that leads to 0x{root.hex()}, found 0x{found.hex()}"
        raise InclusionProofError(message)


def tagged_leaf(types: Sequence[str], values: Sequence[object]) -> bytes:
    """Compute the leaf of a tag, which comes first, and fields of these ABI types."""
    return keccak(keccak(encode(types, values)))


def _levels(leaves: Sequence[bytes]) -> list[list[bytes]]:
    if not leaves:
        message = "expected at least one leaf: the tree of nothing has no root"
        raise InvalidInputError(message)
    levels = [list(leaves)]
    while len(below := levels[-1]) > 1:
        paired = [_node(one, two) for one, two in zip(below[::2], below[1::2], strict=False)]
        # A last node without a partner moves up unchanged.
        levels.append(paired + below[2 * len(paired) :])
    return levels


def _node(one: bytes, two: bytes) -> bytes:
    return keccak(min(one, two) + max(one, two))
