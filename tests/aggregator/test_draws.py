"""Draws that everyone makes alike: known answers, fair choices, streams of their own."""

import hashlib
from collections import Counter
from itertools import islice

import pytest

from aggregator.draws import Draws

CONTENTS = [bytes([i]) * 32 for i in range(3)]


def test_words_are_those_of_the_protocol() -> None:
    """Worked out by hand from section 9.3."""
    seed = hashlib.sha256(b"fedwitness.draws.v1noise\0" + b"".join(CONTENTS)).digest()
    draws = Draws("noise", CONTENTS)
    for number in range(3):
        text = seed + number.to_bytes(8, "big")
        assert draws.word() == int.from_bytes(hashlib.sha256(text).digest()[:8], "big")


def test_known_answers_stay_as_they_are() -> None:
    assert Draws("dnc", CONTENTS).word() == 0xC998F100F7D1018E
    assert Draws("bucketing", CONTENTS).permutation(10) == [4, 0, 6, 3, 7, 5, 2, 9, 1, 8]
    assert Draws("dnc", CONTENTS).distinct(5, 1000) == [511, 638, 682, 933, 970]


def test_each_step_and_each_set_of_updates_has_a_stream_of_its_own() -> None:
    streams = [
        Draws("dnc", CONTENTS),
        Draws("noise", CONTENTS),
        Draws("dnc", CONTENTS[::-1]),
        Draws("dnc", CONTENTS[:2]),
        Draws("dnc", []),
    ]
    assert len({draws.word() for draws in streams}) == len(streams)


@pytest.mark.parametrize("bound", [1, 2, 7, 2**63 + 1])
def test_draws_below_a_bound_stay_below_it(bound: int) -> None:
    draws = Draws("test", CONTENTS)
    assert all(0 <= draws.below(bound) < bound for _ in range(100))


def test_a_word_that_would_favour_small_integers_is_passed_over() -> None:
    """Of the words, 2^64 mod (2^63 + 1) = 2^63 - 1 come too often: nearly half are passed over."""
    bound, draws, words = 2**63 + 1, Draws("test", CONTENTS), Draws("test", CONTENTS)
    fit = [word for word in islice(iter(words.word, None), 200) if word < bound]
    assert [draws.below(bound) for _ in fit] == fit
    assert 50 < len(fit) < 150


def test_every_order_of_three_is_as_likely() -> None:
    draws = Draws("test", CONTENTS)
    orders = Counter(tuple(draws.permutation(3)) for _ in range(6_000))
    assert len(orders) == 6
    assert all(850 < count < 1150 for count in orders.values())


@pytest.mark.parametrize(("size", "bound"), [(0, 5), (3, 5), (5, 5), (9, 5), (99, 100)])
def test_distinct_draws_are_distinct_ascending_and_as_many_as_there_are(
    size: int, bound: int
) -> None:
    found = Draws("test", CONTENTS).distinct(size, bound)
    assert found == sorted(set(found))
    assert len(found) == min(size, bound)
    assert set(found) <= set(range(bound))
