"""Merkle-Patricia tries: what a block's header says of its receipts, and the proof of one.

See the Ethereum yellow paper, appendix D. A node is RLP: a branch of 16 children and a value, or
an extension or leaf of a path and what it leads to. A child of 32 bytes or more is named by its
Keccak-256; a shorter one stands in its parent itself.
"""

from collections.abc import Mapping, Sequence
from typing import Final

from chain import rlp
from chain.digests import keccak
from chain.errors import InclusionProofError, InvalidInputError
from chain.rlp import Item

MAX_NODES: Final = 64  # in a proof; a key of ours has at most six nibbles
_BRANCH = 17  # items
_SHORT_NODE = 2  # items of a leaf or an extension
_HASH = 32  # bytes
_LEAF_FLAG = 2
_ODD_FLAG = 1
_NO_NODE = b""


def prove(values: Mapping[bytes, bytes], keys: Sequence[bytes]) -> list[tuple[bytes, ...]]:
    """Build the trie of some values and take the proof of each key from it.

    Args:
        values: All of them by key; no key may be the beginning of another.
        keys: Those to be proven.

    Returns:
        For each key the nodes from the root to its leaf, without those that stand in others.
    """
    nodes: dict[bytes, bytes] = {}
    root = _build([(_nibbles(key), values[key]) for key in sorted(values)], nodes)
    node = rlp.encode(root)
    nodes[keccak(node)] = node
    return [_path(keccak(node), key, nodes) for key in keys]


def trie_root(values: Mapping[bytes, bytes]) -> bytes:
    """Compute the root of the trie of some values; see `prove`."""
    return keccak(rlp.encode(_build([(_nibbles(key), values[key]) for key in sorted(values)], {})))


def proven_value(root: bytes, key: bytes, proof: Sequence[bytes]) -> bytes:
    """Follow a proof from the root and return the key's value.

    Args:
        root: The trie's root, 32 bytes.
        key: The key.
        proof: The nodes from the root to the leaf, without those that stand in others.

    Raises:
        InclusionProofError: If the nodes do not lead from root to key, or are too many.
    """
    if len(proof) > MAX_NODES:
        message = f"expected a proof of at most {MAX_NODES} nodes, found {len(proof)}"
        raise InclusionProofError(message)
    try:
        return _follow(root, list(_nibbles(key)), list(proof))
    except InvalidInputError as error:
        message = f"the proof of key {key.hex()} below 0x{root.hex()} is malformed: {error}"
        raise InclusionProofError(message) from error


def _follow(root: bytes, path: list[int], unread: list[bytes]) -> bytes:
    reference: Item = root
    while True:
        node = rlp.as_list(_node(reference, unread))
        if len(node) == _BRANCH:
            if not path:
                message = "the key ends at a branch"
                raise InvalidInputError(message)
            reference = node[path.pop(0)]
            continue
        is_leaf, below = _read_path(rlp.as_bytes(rlp.as_list(node, _SHORT_NODE)[0]))
        if path[: len(below)] != below:
            message = "the node leads to another key"
            raise InvalidInputError(message)
        del path[: len(below)]
        if not is_leaf:
            reference = node[1]
            continue
        if path or unread:
            message = f"the leaf is {len(path)} nibbles and {len(unread)} nodes too early"
            raise InvalidInputError(message)
        return rlp.as_bytes(node[1])


def _node(reference: Item, unread: list[bytes]) -> Item:
    """Return the node that a reference names, the next of the proof, or is itself."""
    if not isinstance(reference, bytes):
        return reference
    if len(reference) != _HASH:
        message = f"expected a node, found a reference of {len(reference)} bytes: the key is absent"
        raise InvalidInputError(message)
    if not unread:
        message = f"expected the node 0x{reference.hex()}, found the end of the proof"
        raise InvalidInputError(message)
    found = keccak(unread[0])
    if found != reference:
        message = f"expected the node 0x{reference.hex()}, found 0x{found.hex()}"
        raise InvalidInputError(message)
    return rlp.decode(unread.pop(0))


def _read_path(encoded: bytes) -> tuple[bool, list[int]]:
    """Read a path with its flags (hex prefix, yellow paper, appendix C)."""
    nibbles = list(_nibbles(encoded))
    flags = nibbles[0] if nibbles else _LEAF_FLAG << 1
    if flags > (_LEAF_FLAG | _ODD_FLAG) or (not flags & _ODD_FLAG and nibbles[1]):
        message = f"expected a path, found {encoded[:40].hex()}"
        raise InvalidInputError(message)
    return bool(flags & _LEAF_FLAG), nibbles[1 if flags & _ODD_FLAG else 2 :]


def _nibbles(key: bytes) -> tuple[int, ...]:
    return tuple(nibble for byte in key for nibble in (byte >> 4, byte & 15))


def _hex_prefix(path: Sequence[int], *, is_leaf: bool) -> bytes:
    flags = (_LEAF_FLAG if is_leaf else 0) | (len(path) & 1)
    nibbles = [flags, *path] if flags & _ODD_FLAG else [flags, 0, *path]
    return bytes(high << 4 | low for high, low in zip(nibbles[::2], nibbles[1::2], strict=True))


def _build(entries: Sequence[tuple[tuple[int, ...], bytes]], nodes: dict[bytes, bytes]) -> Item:
    """Build the node above entries, ascending by path, and keep the hashed ones below it."""
    if not entries:
        return _NO_NODE
    first, last = entries[0][0], entries[-1][0]
    if len(entries) == 1:
        return [_hex_prefix(first, is_leaf=True), entries[0][1]]
    shared = 0
    while first[shared] == last[shared]:
        shared += 1
    branch: list[Item] = []
    for nibble in range(_BRANCH - 1):
        below = [(key[shared + 1 :], value) for key, value in entries if key[shared] == nibble]
        branch.append(_refer(_build(below, nodes), nodes))
    branch.append(_NO_NODE)
    if shared == 0:
        return branch
    return [_hex_prefix(first[:shared], is_leaf=False), _refer(branch, nodes)]


def _refer(node: Item, nodes: dict[bytes, bytes]) -> Item:
    encoded = rlp.encode(node)
    if len(encoded) < _HASH:
        return node
    name = keccak(encoded)
    nodes[name] = encoded
    return name


def _path(root: bytes, key: bytes, nodes: Mapping[bytes, bytes]) -> tuple[bytes, ...]:
    """Collect the hashed nodes on the way to a key."""
    proof: list[bytes] = []
    reference: Item = root
    path = list(_nibbles(key))
    while True:
        if isinstance(reference, bytes):
            proof.append(nodes[reference])
            reference = rlp.decode(nodes[reference])
        node = rlp.as_list(reference)
        if len(node) == _BRANCH:
            reference = node[path.pop(0)]
            continue
        is_leaf, below = _read_path(rlp.as_bytes(node[0]))
        if is_leaf:
            return tuple(proof)
        del path[: len(below)]
        reference = node[1]
