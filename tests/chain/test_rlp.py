"""RLP: one byte string for each value, and a reader that nothing hostile can hurt."""

import contextlib
import tracemalloc

import pytest
from hypothesis import given
from hypothesis import strategies as st

from chain import rlp
from chain.errors import InvalidInputError
from chain.rlp import Item

ITEMS: st.SearchStrategy[Item] = st.recursive(
    st.binary(max_size=80), lambda inner: st.lists(inner, max_size=6), max_leaves=40
)

# Appendix B of the yellow paper, and ethereum.org's examples.
EXAMPLES: list[tuple[Item, str]] = [
    (b"dog", "83646f67"),
    ([b"cat", b"dog"], "c88363617483646f67"),
    (b"", "80"),
    ([], "c0"),
    (b"\x00", "00"),
    (b"\x0f", "0f"),
    (b"\x04\x00", "820400"),
    ([[], [[]], [[], [[]]]], "c7c0c1c0c3c0c1c0"),
    (b"a" * 55, "b7" + "61" * 55),
    (b"a" * 56, "b838" + "61" * 56),
    ([b"a" * 1024], "f90403b90400" + "61" * 1024),
]


@pytest.mark.parametrize(("item", "encoded"), EXAMPLES)
def test_items_are_written_as_the_specification_says(item: Item, encoded: str) -> None:
    assert rlp.encode(item).hex() == encoded
    assert rlp.decode(bytes.fromhex(encoded)) == item


@given(ITEMS)
def test_what_was_written_is_read_again(item: Item) -> None:
    assert rlp.decode(rlp.encode(item)) == item


@given(st.binary(max_size=300))
def test_whatever_is_read_is_written_the_same(data: bytes) -> None:
    try:
        item = rlp.decode(data)
    except InvalidInputError:
        return
    assert rlp.encode(item) == data


@given(ITEMS, st.data())
def test_no_two_encodings_stand_for_one_value(item: Item, data: st.DataObject) -> None:
    encoded = rlp.encode(item)
    bit = data.draw(st.integers(0, 8 * len(encoded) - 1))
    broken = bytearray(encoded)
    broken[bit // 8] ^= 1 << bit % 8
    with contextlib.suppress(InvalidInputError):
        assert rlp.decode(bytes(broken)) != item


@given(st.integers(0, (1 << 64) - 1))
def test_integers_have_no_leading_zeros(value: int) -> None:
    assert rlp.as_int(rlp.decode(rlp.encode_int(value))) == value
    with pytest.raises(InvalidInputError, match="without leading zeros"):
        rlp.as_int(b"\0" + rlp.int_bytes(value), max_bytes=9)


@pytest.mark.parametrize(
    ("encoded", "told"),
    [
        ("", "exactly one item, found 0"),
        ("8080", "exactly one item, found 2"),
        ("8101", "stand for itself"),
        ("b801ff", "shortest form"),
        ("b90038" + "00" * 56, "shortest form"),
        ("f801c0", "shortest form"),
        ("83646f", "expected 3 bytes"),
        ("c483646f670101", "found 3 in 7"),
        ("c483646f67ff", "shortest form"),
        ("c2820000", "expected 2 bytes"),
        ("bfffffffffffffffff", "bytes behind byte"),
        ("ffffffffffffffffff", "bytes behind byte"),
        ("b8", "shortest form"),
    ],
)
def test_other_bytes_are_refused(encoded: str, told: str) -> None:
    with pytest.raises(InvalidInputError, match=told):
        rlp.decode(bytes.fromhex(encoded))


def test_a_string_in_a_list_does_not_reach_beyond_it() -> None:
    with pytest.raises(InvalidInputError, match="expected 3 bytes behind byte 3, found 1"):
        rlp.decode(bytes.fromhex("c5c28364" + "6f67"))


def test_deep_lists_are_refused_without_recursion() -> None:
    deep = b""
    for _ in range(5000):
        deep = rlp.encode_list([deep])
    with pytest.raises(InvalidInputError, match="at most 16 lists in each other"):
        rlp.decode(deep)


def test_a_list_of_countless_items_takes_bounded_memory() -> None:
    bomb = rlp.encode_list([b"\xc0" * 8_000_000])
    tracemalloc.start()
    try:
        with pytest.raises(InvalidInputError, match="at most 262144 items"):
            rlp.decode(bomb)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < 40_000_000  # bytes


def test_a_list_is_no_byte_string_and_the_other_way_round() -> None:
    with pytest.raises(InvalidInputError, match="found a list of 1 items"):
        rlp.as_bytes([b""])
    with pytest.raises(InvalidInputError, match="found a string of 2 bytes"):
        rlp.as_list(b"ab")
    with pytest.raises(InvalidInputError, match="expected 3 bytes, found 2"):
        rlp.as_bytes(b"ab", 3)
    with pytest.raises(InvalidInputError, match="expected a list of 2 items, found 1"):
        rlp.as_list([b""], 2)
