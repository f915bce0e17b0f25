"""Canonical JSON is RFC 8785, and foreign JSON is read within bounds."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from chain.canonical import canonical_json, parse_json
from chain.errors import InvalidInputError

JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**53) + 1, 2**53 - 1) | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=12,
)


def test_members_are_sorted_and_nothing_is_padded() -> None:
    assert (
        canonical_json({"b": [1, 2.5], "a": {"é": None}}) == '{"a":{"é":null},"b":[1,2.5]}'.encode()
    )


@given(JSON)
def test_what_was_written_is_read_back(value: object) -> None:
    written = canonical_json(value)
    assert parse_json(written, len(written)) == value


@pytest.mark.parametrize("value", [2**53, float("nan"), float("inf"), {1: 2}, object(), "\ud800"])
def test_a_value_without_a_canonical_form_is_refused(value: object) -> None:
    with pytest.raises(InvalidInputError, match="canonical JSON"):
        canonical_json(value)


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"{",
        b'{"a":1,"a":2}',
        b"NaN",
        b"-Infinity",
        b"1e999",
        b"\xff",
        b"9" * 5000,
        b"[" * 9999,
    ],
)
def test_doubtful_json_is_refused(data: bytes) -> None:
    with pytest.raises(InvalidInputError, match="expected JSON"):
        parse_json(data, 10_000)


def test_json_beyond_the_bound_is_refused_unread() -> None:
    with pytest.raises(InvalidInputError, match="at most 3 bytes of JSON, found 4"):
        parse_json(b"[[]]", 3)
