"""Recursive Length Prefix, Ethereum's serialization: one byte string for each value.

See the Ethereum yellow paper, appendix B. The reader is strict and bounded: it takes no other
bytes than the writer gives for the same value, and neither recurses nor reserves memory for a
length that the data do not have.
"""

from collections.abc import Iterable
from typing import Final, TypeAlias

from chain.errors import InvalidInputError

Item: TypeAlias = "bytes | list[Item]"

MAX_DEPTH: Final = 16  # lists in lists; a receipt has four levels
MAX_ITEMS: Final = 1 << 18  # byte strings and lists together: what bounds the reader's memory

_STRING = 0x80  # a byte string begins with this and its length
_LIST = 0xC0
_SHORT = 55  # bytes, the greatest length that the first byte holds itself
_GREATEST_PREFIX = 9  # bytes


def encode(item: Item) -> bytes:
    """Write a byte string, or a list of such items, nested at will."""
    if isinstance(item, bytes):
        if len(item) == 1 and item[0] < _STRING:
            return item
        return _prefix(_STRING, len(item)) + item
    return encode_list(map(encode, item))


def encode_list(encoded: Iterable[bytes]) -> bytes:
    """Write a list of items that are encoded already."""
    payload = b"".join(encoded)
    return _prefix(_LIST, len(payload)) + payload


def encode_int(value: int) -> bytes:
    """Write an unsigned integer as the byte string that stands for it: without leading zeros."""
    return encode(int_bytes(value))


def int_bytes(value: int) -> bytes:
    """Return an unsigned integer's bytes, big-endian and without leading zeros."""
    return value.to_bytes((value.bit_length() + 7) // 8, "big")


def as_int(item: Item, max_bytes: int = 8) -> int:
    """Read an unsigned integer.

    Args:
        item: What was decoded.
        max_bytes: Its greatest length.

    Raises:
        InvalidInputError: If it is a list, too long or has leading zeros.
    """
    text = as_bytes(item)
    if len(text) > max_bytes or text.startswith(b"\0"):
        message = (
            f"expected an integer of at most {max_bytes} bytes without leading zeros, "
            f"found {text[:40].hex()}"
        )
        raise InvalidInputError(message)
    return int.from_bytes(text, "big")


def as_bytes(item: Item, size: int | None = None) -> bytes:
    """Take an item that must be a byte string.

    Args:
        item: What was decoded.
        size: Its length in bytes, None for any.

    Raises:
        InvalidInputError: If it is a list or of another length.
    """
    if not isinstance(item, bytes):
        message = f"expected a byte string, found a list of {len(item)} items"
        raise InvalidInputError(message)
    if size is not None and len(item) != size:
        message = f"expected {size} bytes, found {len(item)}"
        raise InvalidInputError(message)
    return item


def as_list(item: Item, size: int | None = None) -> list[Item]:
    """Take an item that must be a list.

    Args:
        item: What was decoded.
        size: Its number of items, None for any.

    Raises:
        InvalidInputError: If it is a byte string or has another number of items.
    """
    if isinstance(item, bytes):
        message = f"expected a list, found a string of {len(item)} bytes"
        raise InvalidInputError(message)
    if size is not None and len(item) != size:
        message = f"expected a list of {size} items, found {len(item)}"
        raise InvalidInputError(message)
    return item


def decode(data: bytes, *, max_depth: int = MAX_DEPTH, max_items: int = MAX_ITEMS) -> Item:
    """Read exactly one item.

    Args:
        data: All of its bytes and no others.
        max_depth: How many lists may stand in each other.
        max_items: How many byte strings and lists it may be made of.

    Raises:
        InvalidInputError: If the bytes are not those of `encode`, or a bound is passed.
    """
    found: list[Item] = []
    open_lists = [(found, len(data))]  # each with the place where it ends
    position = count = 0
    while position < len(data):
        count += 1
        if count > max_items:
            message = f"expected at most {max_items} items, found more"
            raise InvalidInputError(message)
        items, end = open_lists[-1]
        is_list, start, stop = _span(data, position, end)
        if is_list:
            inner: list[Item] = []
            items.append(inner)
            open_lists.append((inner, stop))
            position = start
            if len(open_lists) > max_depth + 1:
                message = f"expected at most {max_depth} lists in each other, found more"
                raise InvalidInputError(message)
        else:
            items.append(data[start:stop])
            position = stop
        while len(open_lists) > 1 and open_lists[-1][1] == position:
            open_lists.pop()
    if len(found) != 1:
        message = f"expected exactly one item, found {len(found)} in {len(data)} bytes"
        raise InvalidInputError(message)
    return found[0]


def read_prefix(data: bytes) -> tuple[bool, int, int]:
    """Read what an item's first bytes say of it, for reading the rest from elsewhere.

    Args:
        data: The item's first nine bytes, or all of it where it is shorter.

    Returns:
        Whether it is a list, the length of the prefix, and the length of what follows. The
        latter is only what the item claims.

    Raises:
        InvalidInputError: If no item begins so.
    """
    if not data:
        message = "expected an item, found no bytes"
        raise InvalidInputError(message)
    first = data[0]
    if first < _STRING:
        return False, 0, 1
    is_list = first >= _LIST
    length = first - (_LIST if is_list else _STRING)
    if length <= _SHORT:
        if not is_list and length == 1 and len(data) > 1 and data[1] < _STRING:
            message = f"expected the byte {data[1]:#04x} to stand for itself, found it prefixed"
            raise InvalidInputError(message)
        return is_list, 1, length
    size = length - _SHORT
    digits = data[1 : 1 + size]
    value = int.from_bytes(digits, "big")
    if len(digits) < size or digits[0] == 0 or value <= _SHORT:
        message = f"expected the shortest form of a length, found {data[: 1 + size].hex()}"
        raise InvalidInputError(message)
    return is_list, 1 + size, value


def _span(data: bytes, position: int, end: int) -> tuple[bool, int, int]:
    """Tell whether an item is a list, and where its payload begins and ends."""
    is_list, prefix, length = read_prefix(data[position : min(end, position + _GREATEST_PREFIX)])
    start = position + prefix
    if length > end - start:
        message = f"expected {length} bytes behind byte {start}, found {max(0, end - start)}"
        raise InvalidInputError(message)
    return is_list, start, start + length


def _prefix(kind: int, length: int) -> bytes:
    if length <= _SHORT:
        return bytes([kind + length])
    digits = int_bytes(length)
    return bytes([kind + _SHORT + len(digits)]) + digits
