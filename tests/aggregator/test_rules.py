"""The rules against a slow reference that shares nothing with them, bit for bit."""

import random
import struct
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from aggregator.cohort import STRETCH, Member
from aggregator.pipeline import Pipeline, parse_pipeline
from aggregator.rules import Rule, fed_avg, trimmed_mean
from aggregator.sorting import network
from chain.digests import content_digest
from chain.errors import InvalidInputError, UnfitRoundError
from chain.tensors import Array, open_tensors, save_tensors
from chain.types import Outcome, Reason

CODES = {"<f8": "<d", "<f4": "<f", "<f2": "<e"}


def aggregate(
    rule: Rule,
    updates: list[dict[str, Array]],
    weights: list[int],
    folder: Path,
    threads: int = 1,
) -> tuple[bytes, list[tuple[Outcome, Reason, int, int]]]:
    """Run a rule on updates in memory; return the model's bytes and the judgements."""
    files = []
    for number, update in enumerate(updates):
        save_tensors(folder / f"{number}.safetensors", update)
        files.append(open_tensors(folder / f"{number}.safetensors"))
    out = folder / "model.safetensors"
    members = [
        Member(str(number), weight, content_digest(folder / f"{number}.safetensors"), file)
        for number, (weight, file) in enumerate(zip(weights, files, strict=True))
    ]
    judged = Pipeline((rule,)).aggregate(files[0], members, out, threads)
    return out.read_bytes(), [(one.outcome, one.reason, one.score, one.threshold) for one in judged]


def values_of(model: bytes, dtype: str) -> list[bytes]:
    """Cut the data behind the header into the raw bytes of each value."""
    size = np.dtype(dtype).itemsize
    data = model[8 + int.from_bytes(model[:8], "little") :]
    return [data[at : at + size] for at in range(0, len(data), size)]


def rounded(value: float, dtype: str) -> bytes:
    """Round a float64 to nearest, ties to even, as the struct module does."""
    return struct.pack(CODES[dtype], value)


def reference_mean(column: list[float], weights: list[int]) -> float:
    total = 0.0
    for value, weight in zip(column, weights, strict=True):
        # The product rounded once, from exact arithmetic: what a fused operation would skip.
        total += float(Fraction(value) * weight)
    return total / float(sum(weights))


def reference_trimmed(column: list[float], f: int) -> tuple[float, list[bool]]:
    kept = sorted(value + 0.0 for value in column)[f : len(column) - f]
    total = 0.0
    for value in kept:
        total += value
    return total / float(len(kept)), [not kept[0] <= value <= kept[-1] for value in column]


def finite(dtype: str) -> st.SearchStrategy[float]:
    width = np.dtype(dtype).itemsize * 8
    # Far from overflow, and with the signed zeros and subnormals in which rules could differ.
    bound = {16: 1000.0, 32: 2.0**100, 64: 2.0**900}[width]
    return st.floats(-bound, bound, width=width)  # type: ignore[arg-type]


@st.composite
def rounds(draw: st.DrawFn) -> tuple[str, list[list[float]], list[int]]:
    dtype = draw(st.sampled_from(sorted(CODES)))
    hospitals = draw(st.integers(1, 9))
    length = draw(st.integers(1, 12))
    column = st.lists(finite(dtype), min_size=length, max_size=length)
    updates = draw(st.lists(column, min_size=hospitals, max_size=hospitals))
    weights = st.lists(st.integers(1, 2**32 - 1), min_size=hospitals, max_size=hospitals)
    return dtype, updates, draw(weights)


@given(rounds())
@settings(max_examples=60, deadline=None)
def test_fed_avg_equals_the_reference_to_the_bit(
    tmp_path_factory: pytest.TempPathFactory, case: tuple[str, list[list[float]], list[int]]
) -> None:
    dtype, updates, weights = case
    arrays = [{"w": np.array(update, dtype)} for update in updates]
    model, judged = aggregate(fed_avg(), arrays, weights, tmp_path_factory.mktemp("round"))
    columns = list(zip(*updates, strict=True))
    expected = [rounded(reference_mean(list(column), weights), dtype) for column in columns]
    assert values_of(model, dtype) == expected
    assert judged == [(Outcome.ACCEPTED, Reason.NONE, 0, 0)] * len(updates)


def test_large_weights_are_exact(tmp_path: Path) -> None:
    """Float64 values, so that no rounding of the result hides a weight that lost its last bits."""
    weights = [2**32 - 2, 2**31 + 2, 2**24 + 2]
    values = np.random.default_rng(4).standard_normal((3, 200))
    model, _ = aggregate(fed_avg(), [{"w": row} for row in values], weights, tmp_path)
    expected = [reference_mean(list(column), weights) for column in values.T.tolist()]
    assert values_of(model, "<f8") == [rounded(mean, "<f8") for mean in expected]


@given(rounds(), st.integers(0, 4))
@settings(max_examples=80, deadline=None)
def test_trimmed_mean_equals_the_reference_to_the_bit(
    tmp_path_factory: pytest.TempPathFactory,
    case: tuple[str, list[list[float]], list[int]],
    f: int,
) -> None:
    dtype, updates, weights = case
    f = min(f, (len(updates) - 1) // 2)
    arrays = [{"w": np.array(update, dtype)} for update in updates]
    model, judged = aggregate(trimmed_mean(f), arrays, weights, tmp_path_factory.mktemp("round"))
    means, outside = zip(
        *(reference_trimmed(list(column), f) for column in zip(*updates, strict=True)), strict=True
    )
    assert values_of(model, dtype) == [rounded(mean, dtype) for mean in means]
    for number, judgement in enumerate(judged):
        share = Fraction(sum(flags[number] for flags in outside), len(means))
        clipped = share >= Fraction(9, 10)
        assert judgement == (
            Outcome.CLIPPED if clipped else Outcome.ACCEPTED,
            Reason.TRIMMED_BY_RULE if clipped else Reason.NONE,
            int(share * 1_000_000),
            900_000,
        )


def updates_of_three_stretches(hospitals: int = 7) -> list[dict[str, Array]]:
    """Make updates of several dtypes that no block boundary divides evenly."""
    generator = np.random.default_rng(20)
    shapes = {
        "wide": ("<f8", (3, 5)),
        "long": ("<f4", (2 * STRETCH + 77,)),
        "half": ("<f2", (101,)),
    }
    return [
        {
            name: generator.standard_normal(shape).astype(dtype)
            for name, (dtype, shape) in shapes.items()
        }
        for _ in range(hospitals)
    ]


@pytest.mark.parametrize("rule", [fed_avg(), trimmed_mean(2)], ids=lambda rule: rule.name)
def test_threads_change_no_bit(rule: Rule, tmp_path: Path) -> None:
    updates, weights = updates_of_three_stretches(), list(range(1, 8))
    one = aggregate(rule, updates, weights, tmp_path, threads=1)
    assert aggregate(rule, updates, weights, tmp_path, threads=2) == one
    assert aggregate(rule, updates, weights, tmp_path, threads=7) == one


def test_trimmed_mean_does_not_depend_on_the_order_of_updates(tmp_path: Path) -> None:
    updates, weights = updates_of_three_stretches(), [1] * 7
    model, judged = aggregate(trimmed_mean(2), updates, weights, tmp_path)
    order = random.Random(1).sample(range(7), 7)  # noqa: S311 - no secret
    shuffled = aggregate(trimmed_mean(2), [updates[i] for i in order], weights, tmp_path)
    assert shuffled == (model, [judged[i] for i in order])


def test_a_poisoned_update_is_trimmed_away_and_says_so(tmp_path: Path) -> None:
    generator = np.random.default_rng(3)
    updates: list[dict[str, Array]] = [
        {"w": generator.standard_normal(1000).astype("<f4")} for _ in range(5)
    ]
    updates[2]["w"] += np.float32(100)
    model, judged = aggregate(trimmed_mean(1), updates, [1, 1, 2**32 - 1, 1, 1], tmp_path)
    assert judged[2] == (Outcome.CLIPPED, Reason.TRIMMED_BY_RULE, 1_000_000, 900_000)
    assert [one[0] for one in judged].count(Outcome.ACCEPTED) == 4
    assert max(abs(struct.unpack("<f", value)[0]) for value in values_of(model, "<f4")) < 4


@pytest.mark.parametrize("outside", [899, 900])
def test_the_threshold_of_trimming_is_nine_tenths(outside: int, tmp_path: Path) -> None:
    low, middle, high = (np.full(1000, value, "<f4") for value in (-1, 0, 1))
    high[outside:] = 0
    updates: list[dict[str, Array]] = [{"w": low}, {"w": middle}, {"w": high}]
    _, judged = aggregate(trimmed_mean(1), updates, [1, 1, 1], tmp_path)
    expected = Outcome.CLIPPED if outside == 900 else Outcome.ACCEPTED
    assert judged[2][0] == expected
    assert judged[2][2] == outside * 1000


def test_a_negative_zero_counts_as_zero(tmp_path: Path) -> None:
    updates: list[dict[str, Array]] = [{"w": np.full(40, -0.0, "<f4")} for _ in range(3)]
    for rule in (fed_avg(), trimmed_mean(1)):
        model, judged = aggregate(rule, updates, [1, 1, 1], tmp_path)
        assert values_of(model, "<f4") == [bytes(4)] * 40
        assert {one[0] for one in judged} == {Outcome.ACCEPTED}


def test_an_overflowing_aggregate_is_unfit_and_leaves_no_file(tmp_path: Path) -> None:
    updates: list[dict[str, Array]] = [{"w": np.full(3, 1.7e308)} for _ in range(3)]
    for rule in (fed_avg(), trimmed_mean(0)):
        with pytest.raises(UnfitRoundError, match="not finite"):
            aggregate(rule, updates, [1, 1, 1], tmp_path)
    assert not (tmp_path / "model.safetensors").exists()


def test_trimming_more_than_there_is_is_unfit(tmp_path: Path) -> None:
    updates: list[dict[str, Array]] = [{"w": np.ones(3)} for _ in range(4)]
    with pytest.raises(UnfitRoundError, match="at least 5 updates, found 4"):
        aggregate(trimmed_mean(2), updates, [1] * 4, tmp_path)


@pytest.mark.parametrize("rule", [fed_avg(), trimmed_mean(0), trimmed_mean(3)])
def test_a_rule_is_read_back_from_its_json(rule: Rule) -> None:
    (read,) = parse_pipeline(Pipeline((rule,)).to_json()).steps
    assert isinstance(read, Rule)
    assert (read.name, read.params, read.least) == (rule.name, rule.params, rule.least)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "{}",
        '{"name":"fed_avg","params":{}}',
        "[]",
        '[{"name":"fed_avg"}]',
        '[{"name":"fed_avg","params":{"f":1}}]',
        '[{"name":"fed_avg","params":{},"x":1}]',
        '[{"name":"krum","params":{}}]',
        '[{"name":"trimmed_mean","params":{}}]',
        '[{"name":"trimmed_mean","params":{"f":-1}}]',
        '[{"name":"trimmed_mean","params":{"f":true}}]',
        '[{"name":"trimmed_mean","params":{"f":"1"}}]',
        '[{"name":"trimmed_mean","params":{"f":1.5}}]',
        '[{"name":"trimmed_mean","params":{"f":1,"g":2}}]',
        '[{"name": "fed_avg","params":{}}]',
        '[{"params":{},"name":"fed_avg"}]',
        '[{"name":"trimmed_mean","params":{"f":1.0}}]',
        '[{"name":"fed_avg","name":"fed_avg","params":{}}]',
        '[{"name":"trimmed_mean","params":{"f":NaN}}]',
        "[" * 1000,
        '[{"name":"' + "x" * 1024 + '","params":{}}]',
    ],
)
def test_any_other_text_is_no_rule(text: str) -> None:
    with pytest.raises(InvalidInputError):
        parse_pipeline(text)


@pytest.mark.parametrize("f", [-1, True, 1.0])
def test_trimmed_mean_takes_only_a_count(f: int) -> None:
    with pytest.raises(InvalidInputError, match="integer f"):
        trimmed_mean(f)


def sorted_by_network(columns: Array) -> Array:
    rows = columns.copy()
    for low, high in network(len(rows)):
        rows[[low, high]] = np.minimum(rows[low], rows[high]), np.maximum(rows[low], rows[high])
    return rows


@pytest.mark.parametrize("n", range(1, 11))
def test_the_network_sorts_every_sequence_of_zeros_and_ones(n: int) -> None:
    """By the 0-1 principle (Knuth, volume 3, 5.3.4, theorem Z) it then sorts everything."""
    columns = (np.arange(2**n)[np.newaxis, :] >> np.arange(n)[:, np.newaxis] & 1).astype("<f4")
    assert np.array_equal(sorted_by_network(columns), np.sort(columns, axis=0))


@pytest.mark.parametrize("n", [16, 31, 64, 127, 128])
def test_the_network_sorts_as_many_as_a_round_can_hold(n: int) -> None:
    columns = np.random.default_rng(n).standard_normal((n, 200))
    assert np.array_equal(sorted_by_network(columns), np.sort(columns, axis=0))
    assert all(low < high < n for low, high in network(n))
