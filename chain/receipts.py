"""Block headers and transaction receipts as the chain hashes them, and the logs in them.

See the Ethereum yellow paper, section 4.3, EIP-2718 (typed receipts) and, for the header's later
fields, EIP-1559, 4895, 4844, 4788 and 7685. A header hashes to its block's hash, and holds the root
of the trie of its receipts: so a log that was read from a proven receipt is the chain's own.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from eth_utils.address import to_checksum_address

from chain import rlp
from chain.digests import keccak
from chain.errors import InvalidInputError, LedgerError, VerificationError
from chain.trie import prove, proven_value, trie_root

MAX_HEADER: Final = 1 << 14  # bytes; today's have about 650
_LEAST_FIELDS, _MOST_FIELDS = 15, 40  # of a header: the first ones', and room for forks to come
_RECEIPTS_ROOT, _NUMBER, _TIMESTAMP = 5, 8, 11
_RECEIPT_FIELDS = 4
_LOG_FIELDS = 3
_MAX_TOPICS = 4
_ADDRESS = 20  # bytes
_HASH = 32  # bytes
_FIRST_LIST = 0xC0  # a receipt that begins lower has a type (EIP-2718)

# How JSON-RPC calls a header's fields, in the header's order; those behind the nonce came with
# forks, each behind the ones before it.
_FIELDS: Final = (
    "parentHash", "sha3Uncles", "miner", "stateRoot", "transactionsRoot", "receiptsRoot",
    "logsBloom", "difficulty", "number", "gasLimit", "gasUsed", "timestamp", "extraData",
    "mixHash", "nonce",
    "baseFeePerGas", "withdrawalsRoot", "blobGasUsed", "excessBlobGas", "parentBeaconBlockRoot",
    "requestsHash",
)  # fmt: skip
_QUANTITIES: Final = frozenset(
    {
        "difficulty",
        "number",
        "gasLimit",
        "gasUsed",
        "timestamp",
        "baseFeePerGas",
        "blobGasUsed",
        "excessBlobGas",
    }
)


@dataclass(frozen=True, slots=True)
class BlockHeader:
    """What is needed of a block's header. ``timestamp`` is Unix time in seconds."""

    number: int
    hash: bytes
    receipts_root: bytes
    timestamp: int


@dataclass(frozen=True, slots=True)
class ReceiptLog:
    """A log as its receipt holds it; the address is in EIP-55."""

    address: str
    topics: tuple[bytes, ...]
    data: bytes


def read_header(encoded: bytes) -> BlockHeader:
    """Read a header; its hash is that of these very bytes.

    Raises:
        InvalidInputError: If it is no header.
    """
    if len(encoded) > MAX_HEADER:
        message = f"expected a header of at most {MAX_HEADER} bytes, found {len(encoded)}"
        raise InvalidInputError(message)
    fields = rlp.as_list(rlp.decode(encoded, max_depth=2, max_items=2 * _MOST_FIELDS))
    if not _LEAST_FIELDS <= len(fields) <= _MOST_FIELDS:
        message = (
            f"expected a header of {_LEAST_FIELDS} to {_MOST_FIELDS} fields, found {len(fields)}"
        )
        raise InvalidInputError(message)
    return BlockHeader(
        number=rlp.as_int(fields[_NUMBER]),
        hash=keccak(encoded),
        receipts_root=rlp.as_bytes(fields[_RECEIPTS_ROOT], _HASH),
        timestamp=rlp.as_int(fields[_TIMESTAMP]),
    )


def proven_logs(receipts_root: bytes, index: int, proof: Sequence[bytes]) -> list[ReceiptLog]:
    """Give the logs of a transaction's receipt, which a proof leads to.

    Args:
        receipts_root: What the block's header holds.
        index: The transaction's place in the block, from 0.
        proof: The trie's nodes from the root to the receipt.

    Raises:
        InclusionProofError: If the proof does not lead there.
        VerificationError: If what it leads to is no receipt.
    """
    encoded = proven_value(receipts_root, rlp.encode_int(index), proof)
    try:
        return _logs(encoded)
    except InvalidInputError as error:
        message = f"what stands for transaction {index} is no receipt: {error}"
        raise VerificationError(message) from error


def encode_header(block: Mapping[str, Any]) -> bytes:
    """Write the header of a block that JSON-RPC told.

    Raises:
        LedgerError: If it does not hash to the block's hash: the chain has other fields.
    """
    names = [name for name in _FIELDS if block.get(name) is not None]
    encoded = rlp.encode([_field(name, block[name]) for name in names])
    if keccak(encoded) != _bytes(block["hash"]):
        message = (
            f"block {int(block['number'], 16)}: its header, written with the fields "
            f"{', '.join(names)}, does not hash to {block['hash']}: the chain's headers have "
            "another form than Ethereum's"
        )
        raise LedgerError(message)
    return encoded


def prove_receipts(
    block: Mapping[str, Any], receipts: Sequence[Mapping[str, Any]], indices: Sequence[int]
) -> list[tuple[bytes, ...]]:
    """Prove some receipts of a block that JSON-RPC told.

    Args:
        block: The block.
        receipts: All of its receipts.
        indices: The places of the transactions whose receipts are to be proven.

    Returns:
        For each the nodes from the root to the receipt.

    Raises:
        LedgerError: If the receipts do not have the root that the header holds.
    """
    values = {
        rlp.encode_int(int(one["transactionIndex"], 16)): _encode_receipt(one) for one in receipts
    }
    expected = _bytes(block["receiptsRoot"])
    found = trie_root(values)
    if found != expected:
        message = (
            f"block {int(block['number'], 16)}: its {len(receipts)} receipts have the root "
            f"0x{found.hex()}, and its header has 0x{expected.hex()}: the chain's receipts have "
            "another form than Ethereum's, or its node lost some"
        )
        raise LedgerError(message)
    return prove(values, [rlp.encode_int(index) for index in indices])


def _logs(encoded: bytes) -> list[ReceiptLog]:
    if encoded[:1] < bytes([_FIRST_LIST]):
        encoded = encoded[1:]
    receipt = rlp.as_list(rlp.decode(encoded), _RECEIPT_FIELDS)
    return [_log(rlp.as_list(one, _LOG_FIELDS)) for one in rlp.as_list(receipt[3])]


def _log(fields: Sequence[rlp.Item]) -> ReceiptLog:
    topics = tuple(rlp.as_bytes(topic, _HASH) for topic in rlp.as_list(fields[1]))
    if len(topics) > _MAX_TOPICS:
        message = f"expected a log of at most {_MAX_TOPICS} topics, found {len(topics)}"
        raise InvalidInputError(message)
    address = to_checksum_address(rlp.as_bytes(fields[0], _ADDRESS))
    return ReceiptLog(str(address), topics, rlp.as_bytes(fields[2]))


def _encode_receipt(receipt: Mapping[str, Any]) -> bytes:
    # Before Byzantium (EIP-658) there was a state root in place of the status.
    status = (
        rlp.int_bytes(int(receipt["status"], 16))
        if receipt.get("status") is not None
        else _bytes(receipt["root"])
    )
    logs: list[rlp.Item] = [
        [
            _bytes(log["address"]),
            [_bytes(topic) for topic in log["topics"]],
            _bytes(log["data"]),
        ]
        for log in receipt["logs"]
    ]
    gas = rlp.int_bytes(int(receipt["cumulativeGasUsed"], 16))
    body = rlp.encode([status, gas, _bytes(receipt["logsBloom"]), logs])
    kind = int(receipt.get("type") or "0x0", 16)
    return (bytes([kind]) if kind else b"") + body


def _field(name: str, value: str) -> bytes:
    return rlp.int_bytes(int(value, 16)) if name in _QUANTITIES else _bytes(value)


def _bytes(text: str) -> bytes:
    return bytes.fromhex(text.removeprefix("0x"))
