"""Looks at images, as a hospital's gateway logs them: docs/protocol.md, section 15.

A look is logged before a byte of the image leaves the hospital. Whoever looked gets a receipt, the
hospital's signature over the entry. Entries are numbered without a gap and anchored in batches, so
that a hospital which hides a look for which it gave a receipt has another entry, or none, under
that number.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from eth_account.messages import SignableMessage, encode_typed_data
from eth_account.signers.local import LocalAccount

from chain.digests import keccak
from chain.errors import InclusionProofError, InvalidInputError
from chain.merkle import merkle_proof, merkle_root, tagged_leaf, verify_inclusion
from chain.signing import domain, recover
from chain.types import Look

MAX_BATCH = 1 << 16  # looks
_TAG = keccak(b"fedwitness.look.v1")
_MEMBERS = (
    ("hospital", "address"),
    ("number", "uint64"),
    ("researcher", "address"),
    ("grant", "bytes32"),
    ("version", "bytes32"),
    ("image", "bytes32"),
    ("time", "uint64"),
    ("request", "bytes32"),
)
_TYPES = {"Look": [{"name": name, "type": kind} for name, kind in _MEMBERS]}


@dataclass(frozen=True, slots=True)
class LookProof:
    """That a look is in an anchored batch: its number, and the nodes from leaf to root."""

    look: Look
    batch: int
    proof: tuple[bytes, ...]


def look_leaf(look: Look) -> bytes:
    """Compute the leaf of a look."""
    kinds = ("bytes32", *(kind for _, kind in _MEMBERS))
    return tagged_leaf(kinds, (_TAG, *_values(look).values()))


def looks_root(looks: Sequence[Look]) -> bytes:
    """Compute the root of a batch.

    Raises:
        InvalidInputError: If there are none or too many, or they are not one hospital's without a
            gap in their numbers.
    """
    return merkle_root(_leaves(looks))


def prove_look(looks: Sequence[Look], place: int, batch: int) -> LookProof:
    """Prove that a look is in a batch.

    Args:
        looks: All of the batch.
        place: Which of them, from 0.
        batch: The batch's number on the ledger.

    Raises:
        InvalidInputError: As `looks_root`, or if there is none at this place.
    """
    return LookProof(looks[place], batch, merkle_proof(_leaves(looks), place))


def verify_look(shown: LookProof, root: bytes, first: int, entries: int) -> None:
    """Check that a look is in an anchored batch.

    Args:
        shown: The look with its proof.
        root: The batch's root, as the ledger has it.
        first: The number of the batch's first look.
        entries: How many looks the batch has.

    Raises:
        InclusionProofError: If it is not.
    """
    if not first <= shown.look.number < first + entries:
        raise InclusionProofError(
            f"expected a look from {first} to {first + entries - 1}, found {shown.look.number}"
        )
    verify_inclusion(root, look_leaf(shown.look), shown.proof)


def sign_look(chain_id: int, access_logs: str, look: Look, account: LocalAccount) -> bytes:
    """Sign a receipt for a look, as the hospital: r, s, v in 65 bytes."""
    return bytes(account.sign_message(_message(chain_id, access_logs, look)).signature)


def recover_look_signer(chain_id: int, access_logs: str, look: Look, signature: bytes) -> str:
    """Find out who signed a receipt.

    Returns:
        The address; not the hospital's if the look is not what it signed.

    Raises:
        VerificationError: If these bytes are nobody's signature.
    """
    return recover(_message(chain_id, access_logs, look), signature)


def _message(chain_id: int, access_logs: str, look: Look) -> SignableMessage:
    return encode_typed_data(domain(chain_id, access_logs), _TYPES, _values(look))


def _values(look: Look) -> dict[str, object]:
    return {name: getattr(look, name) for name, _ in _MEMBERS}


def _leaves(looks: Sequence[Look]) -> list[bytes]:
    if not 1 <= len(looks) <= MAX_BATCH:
        raise InvalidInputError(f"expected 1 to {MAX_BATCH} looks, found {len(looks)}")
    begin = looks[0]
    for place, look in enumerate(looks):
        if (look.hospital, look.number) != (begin.hospital, begin.number + place):
            raise InvalidInputError(
                f"expected look {begin.number + place} of {begin.hospital}, found "
                f"{look.number} of {look.hospital}"
            )
    return [look_leaf(look) for look in looks]
