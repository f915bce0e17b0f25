"""The history of a ledger: a hash chain over all blocks that hold a log of it.

Pure. Whoever signs a history signs which blocks these are and how many logs each holds, so that
none can be left out. See docs/protocol.md, section 13.
"""

from typing import Final

from eth_utils.address import to_canonical_address

from chain.digests import keccak

_TAG: Final = b"fedwitness.history.v1"


def genesis_history(chain_id: int, ledger: str, participants: str, datasets: str) -> bytes:
    """Compute the history of a federation before its first log.

    Args:
        chain_id: The chain's number (EIP-155).
        ledger: The RoundLedger's address.
        participants: The ParticipantRegistry's address.
        datasets: The DatasetRegistry's address.

    Returns:
        32 bytes.
    """
    addresses = map(to_canonical_address, (ledger, participants, datasets))
    return keccak(b"".join((_TAG, chain_id.to_bytes(32, "big"), *addresses)))


def next_history(history: bytes, number: int, block_hash: bytes, logs: int) -> bytes:
    """Compute the history after a block.

    Args:
        history: The history before it, 32 bytes.
        number: The block's number.
        block_hash: Its hash, 32 bytes.
        logs: How many logs of the federation it holds, at least 1.

    Returns:
        32 bytes.
    """
    return keccak(history + number.to_bytes(8, "big") + block_hash + logs.to_bytes(4, "big"))
