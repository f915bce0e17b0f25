"""What rules and transforms promise whatever f hospitals send: ranges, shares and symmetries."""

import math
from collections.abc import Iterable, Sequence
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from chain.errors import UnfitRoundError
from chain.tensors import Array
from chain.types import Outcome, Reason
from tests.aggregator.pipelines import (
    CLIPPING,
    MILLION,
    PIPELINES,
    Sent,
    Steps,
    Tensors,
    run,
    values_of,
)

MEDIAN: Steps = (("median", {}),)
WEIGHTED: Steps = (CLIPPING, ("fed_avg", {}))

any_float = st.floats(-(2.0**127), 2.0**127, width=32)
usual = st.floats(-100.0, 100.0, width=32)


def model_of(
    steps: Steps, base: Array, updates: Iterable[Array], folder: Path, weights: Sequence[int] = ()
) -> Array:
    rows = list(updates)
    sent = [
        Sent(f"hospital-{i:03}", weight, {"w": row})
        for i, (row, weight) in enumerate(zip(rows, weights or [1] * len(rows), strict=True), 1)
    ]
    return values_of(run(steps, {"w": base}, sent, folder)[0], folder)["w"]


def columns(values: st.SearchStrategy[float], n: int, length: int) -> st.SearchStrategy[Array]:
    rows = st.lists(st.lists(values, min_size=length, max_size=length), min_size=n, max_size=n)
    return rows.map(lambda drawn: np.array(drawn, "<f4").reshape(n, length))


@st.composite
def attacked(draw: st.DrawFn) -> tuple[int, Array, Array, list[int]]:
    """F attackers among at least 2f + 1 updates, in any places."""
    f = draw(st.integers(0, 4))
    honest = draw(st.integers(f + 1, f + 5))
    length = draw(st.integers(1, 4))
    return (
        f,
        draw(columns(usual, honest, length)),
        draw(columns(any_float, f, length)),
        draw(st.permutations(range(honest + f))),
    )


@given(round_=attacked())
@settings(max_examples=60, deadline=None)
def test_median_and_trimmed_mean_stay_within_the_honest_range(
    round_: tuple[int, Array, Array, list[int]], tmp_path_factory: pytest.TempPathFactory
) -> None:
    f, honest, hostile, order = round_
    updates = np.concatenate([honest, hostile])[order]
    folder = tmp_path_factory.mktemp("round")
    rules: list[Steps] = [MEDIAN, (("trimmed_mean", {"f": f}),)]
    for steps in rules:
        model = model_of(steps, np.zeros(honest.shape[1], "<f4"), updates, folder)
        assert (honest.min(axis=0) <= model).all()
        assert (model <= honest.max(axis=0)).all()


@given(data=st.data())
@settings(max_examples=30, deadline=None)
def test_bulyan_stays_within_the_honest_range(
    data: st.DataObject, tmp_path_factory: pytest.TempPathFactory
) -> None:
    """Of n - 2f taken values at most f are hostile, and n - 4f nearest the median are averaged."""
    honest = data.draw(columns(usual, 6, 3))
    hostile = data.draw(columns(any_float, 1, 3))
    order = data.draw(st.permutations(range(7)))
    model = model_of(
        (("bulyan", {"f": 1}),),
        np.zeros(3, "<f4"),
        np.concatenate([honest, hostile])[order],
        tmp_path_factory.mktemp("round"),
    )
    reach = honest.max(axis=0) - honest.min(axis=0)
    assert (honest.min(axis=0) - reach <= model).all()
    assert (model <= honest.max(axis=0) + reach).all()


@pytest.mark.parametrize("name", ["krum", "multi_krum", "bulyan", "nnm and trimmed_mean"])
@pytest.mark.parametrize("distance", [10.0, 1e6, 1e30])
def test_colluding_outliers_are_not_taken(name: str, distance: float, tmp_path: Path) -> None:
    """As many as the rule withstands, all alike, so that each is a near neighbour of others."""
    f = 1 if name == "bulyan" else 2
    generator = np.random.default_rng(1)
    honest = generator.standard_normal((9 - f, 20)).astype("<f4")
    hostile = np.full((f, 20), distance, "<f4")
    model = model_of(
        PIPELINES[name], np.zeros(20, "<f4"), np.concatenate([hostile, honest]), tmp_path
    )
    assert np.abs(model).max() <= np.abs(honest).max()


# Weighted norm clipping.


def length(difference: Array) -> float:
    return math.sqrt(math.fsum(float(one) * float(one) for one in difference))


def clipped_share(
    base: Array, updates: Iterable[Array], weights: Sequence[int], left_out: int
) -> tuple[Array, float]:
    """Return where all but one hospital take the model, and how long the bound is."""
    differences = [np.asarray(update, "<f8") - base for update in updates]
    lengths = [length(one) for one in differences]
    bound = sorted(lengths)[(len(lengths) - 1) // 2]
    moved = np.asarray(base, "<f8").copy()
    for i, (one, own) in enumerate(zip(differences, lengths, strict=True)):
        if i != left_out:
            moved += one * (min(1.0, bound / own if own else 1.0) * weights[i] / sum(weights))
    return moved, bound


@given(data=st.data())
@settings(max_examples=60, deadline=None)
def test_no_hospital_moves_the_model_by_more_than_its_share_of_the_bound(
    data: st.DataObject, tmp_path_factory: pytest.TempPathFactory
) -> None:
    n = data.draw(st.integers(3, 8))
    base = data.draw(columns(usual, 1, 4))[0]
    updates = data.draw(columns(usual, n, 4))
    weights = data.draw(st.lists(st.integers(1, 10_000), min_size=n, max_size=n))
    hostile = data.draw(st.integers(0, n - 1))
    updates[hostile] = data.draw(columns(any_float, 1, 4))[0]
    model = model_of(
        WEIGHTED, base.astype("<f8"), updates.astype("<f8"), tmp_path_factory.mktemp("r"), weights
    )
    without, bound = clipped_share(base.astype("<f8"), updates.astype("<f8"), weights, hostile)
    share = weights[hostile] / sum(weights)
    assert length(model - without) <= share * bound * (1 + 1e-9) + 1e-10


def test_a_small_hospital_scaled_a_thousandfold_moves_the_model_by_its_share(
    tmp_path: Path,
) -> None:
    """0.6 % of the examples: without clipping it takes the model six bounds away."""
    generator = np.random.default_rng(6)
    base = generator.standard_normal(500).astype("<f4")
    steps = generator.standard_normal((10, 500)) / 100
    weights = [110, 111, 112, 109, 113, 108, 110, 111, 110, 6]
    assert weights[-1] / sum(weights) == 0.006
    updates = [(base + step).astype("<f4") for step in steps]
    attacked = [*updates[:-1], (base + 1000 * steps[-1]).astype("<f4")]
    bound = sorted(length(update - base) for update in updates)[4]
    honest = model_of(WEIGHTED, base, updates, tmp_path, weights)
    assert length(model_of(WEIGHTED, base, attacked, tmp_path, weights) - honest) < 0.006 * bound
    averaged = model_of((("fed_avg", {}),), base, attacked, tmp_path, weights)
    assert length(averaged - honest) > 5 * bound


def test_a_clipped_update_says_by_how_much_it_was_too_long(tmp_path: Path) -> None:
    base: Tensors = {"w": np.zeros(4)}
    sent = [Sent(str(i), 1, {"w": np.eye(4)[0] * size}) for i, size in enumerate((1.0, 2.0, 6.0))]
    model, judged = run(WEIGHTED, base, sent, tmp_path)
    assert judged == [
        (Outcome.ACCEPTED, Reason.NONE, MILLION // 2, MILLION),
        (Outcome.ACCEPTED, Reason.NONE, MILLION, MILLION),
        (Outcome.CLIPPED, Reason.CLIPPED_BY_RULE, 3 * MILLION, MILLION),
    ]
    assert values_of(model, tmp_path)["w"][0] == pytest.approx((1 + 2 + 2) / 3, abs=1e-15)


@pytest.mark.parametrize("claimed", [2**32 - 1, 2**20])
def test_a_claimed_count_of_examples_takes_no_capped_model_over(
    claimed: int, tmp_path: Path
) -> None:
    updates = [np.zeros(3), np.zeros(3), np.zeros(3), np.ones(3)]
    steps: Steps = (("weight_cap", {"bound": MILLION}), ("fed_avg", {}))
    model = model_of(steps, np.zeros(3), updates, tmp_path, [10, 10, 10, claimed])
    assert model.tolist() == [0.25] * 3


# Centred clipping and FLTrust.


@given(data=st.data())
@settings(max_examples=30, deadline=None)
def test_centred_clipping_moves_by_at_most_its_radius_in_each_iteration(
    data: st.DataObject, tmp_path_factory: pytest.TempPathFactory
) -> None:
    n, iterations = data.draw(st.integers(3, 8)), data.draw(st.integers(1, 3))
    base = np.zeros(4)
    updates = data.draw(columns(any_float, n, 4)).astype("<f8")
    steps: Steps = (("centred_clipping", {"radius": MILLION, "iterations": iterations}),)
    model = model_of(steps, base, updates, tmp_path_factory.mktemp("round"))
    middle = sorted(length(one) for one in updates)[(n - 1) // 2]
    assert length(model) <= middle * iterations * (1 + 1e-6) + 1e-300


@pytest.mark.parametrize("size", [1e-300, 1e-150, 1e-30, 1e-12, 1e-7, 1e-3, 1.0, 1e3, 1e140])
def test_fl_trust_never_goes_farther_than_its_root(size: float, tmp_path: Path) -> None:
    """Also where an update is so short that all of it would be lost beside the base model."""
    base = np.append(np.linspace(1, 2, 9), 0.0)
    root = np.append(np.full(9, 0.01), 0.01)
    hostile = base.copy()
    hostile[9] = size  # where the base model is 0, float64 resolves everything
    updates = [base + root, base + root * 1.5 + 0.001 * np.arange(10), hostile]
    model = model_of((("fl_trust", {"root": "hospital-001"}),), base, updates, tmp_path)
    assert length(model - base) <= length(root) * (1 + 1e-9)
    # What of the model the hostile update does not touch is still right to ten digits.
    assert np.abs(model[:9] - base[:9]).max() < 0.02
    assert (model[:9] > base[:9] + 0.002).all()


def test_fl_trust_gives_no_weight_to_who_goes_the_other_way(tmp_path: Path) -> None:
    base: Tensors = {"w": np.zeros(2)}
    ways = [(1.0, 0.0), (2.0, 2.0), (-5.0, 0.0), (0.0, 3.0)]
    sent = [Sent(f"hospital-{i}", 1, {"w": np.array(way)}) for i, way in enumerate(ways, 1)]
    model, judged = run(PIPELINES["fl_trust"], base, sent, tmp_path)
    against = Reason.AGAINST_ROOT_UPDATE
    assert [one[1] for one in judged] == [0, 0, against, against]
    assert [one[2] for one in judged] == [0, 292_893, 2 * MILLION, MILLION]
    half = 0.5**0.5  # the second update's direction at the root's length
    assert values_of(model, tmp_path)["w"].tolist() == pytest.approx([half, half])


@pytest.mark.parametrize("sent", [["hospital-2", "hospital-3"], ["hospital-1"]])
def test_fl_trust_needs_its_root_and_another_one(sent: list[str], tmp_path: Path) -> None:
    base: Tensors = {"w": np.zeros(2)}
    updates = [Sent(name, 1, {"w": np.ones(2)}) for name in sent]
    with pytest.raises(UnfitRoundError, match="fl_trust needs"):
        run(PIPELINES["fl_trust"], base, updates, tmp_path)


# FoolsGold.


def test_fools_gold_weighs_sybils_down_and_different_hospitals_not(tmp_path: Path) -> None:
    base: Tensors = {"w": np.zeros(6)}
    honest = [np.eye(6)[i] + 0.1 for i in range(4)]
    sybil = np.eye(6)[5] * 3
    updates = [*honest, sybil, sybil + 1e-3 * np.eye(6)[0], sybil - 1e-3 * np.eye(6)[1]]
    sent = [Sent(str(i), 1, {"w": update}) for i, update in enumerate(updates)]
    model, judged = run(PIPELINES["fools_gold"], base, sent, tmp_path)
    assert [one[1] for one in judged] == [0] * 4 + [Reason.WEIGHED_DOWN_BY_RULE] * 3
    assert values_of(model, tmp_path)["w"][5] < 0.2


def test_who_is_unlike_everybody_is_not_suspected_for_it(tmp_path: Path) -> None:
    """Its greatest cosine is negative: pardoning must not turn that into a likeness."""
    base: Tensors = {"w": np.zeros(2)}
    ways = [(1.0, 0.3), (0.3, 1.0), (-1.0, -1.0)]
    sent = [Sent(str(i), 1, {"w": np.array(way)}) for i, way in enumerate(ways)]
    judged = run(PIPELINES["fools_gold"], base, sent, tmp_path)[1]
    assert judged[2] == (Outcome.ACCEPTED, Reason.NONE, 0, 900_000)


# The geometric median.


def test_the_geometric_median_is_that_of_points_whose_median_is_known(tmp_path: Path) -> None:
    """Of the corners of a square and its centre, and of a triangle its Fermat point."""
    square = [np.array(p, "<f8") for p in ((0, 0), (2, 0), (0, 2), (2, 2), (1, 1))]
    steps: Steps = (("geometric_median", {"iterations": 500}),)
    assert model_of(steps, np.zeros(2), square, tmp_path) == pytest.approx([1, 1], abs=1e-6)
    height = 3**0.5
    triangle = [np.array(p, "<f8") for p in ((-1, 0), (1, 0), (0, height))]
    found = model_of(steps, np.array([7.0, -3.0]), triangle, tmp_path)
    assert found == pytest.approx([0, height / 3], abs=1e-6)


def test_the_geometric_median_follows_the_majority_of_the_examples(tmp_path: Path) -> None:
    points = [np.array([0.0, 0.0]), np.array([5.0, 1.0]), np.array([2.0, 9.0])]
    steps: Steps = (("geometric_median", {"iterations": 500}),)
    found = model_of(steps, np.ones(2), points, tmp_path, [10, 10, 100])
    assert found == pytest.approx([2, 9], abs=1e-4)


# Symmetries, to the bit where sums are exact.


def exact(n: int, seed: int) -> Array:
    """Draw small integers, so that every sum and difference of them is exact."""
    return np.random.default_rng(seed).integers(-64, 64, (n, 30)).astype("<f8")


SCALED = [
    name for name in PIPELINES if name not in {"geometric_median", "clipped geometric_median"}
]


@pytest.mark.parametrize("power", [-40, 3, 60])
@pytest.mark.parametrize("name", SCALED)
def test_scaling_by_a_power_of_two_scales_the_model_and_no_judgement(
    name: str, power: int, tmp_path: Path
) -> None:
    """But for the geometric median, whose smoothing is a length, and what is drawn by contents."""
    if any(step in {"dnc", "bucketing", "noise"} for step, _ in PIPELINES[name]):
        return
    base, updates = exact(1, 0)[0], exact(9, 1)
    scaled = [
        Sent(f"hospital-{i}", i, {"w": update * 2.0**power}) for i, update in enumerate(updates, 1)
    ]
    plain = [Sent(f"hospital-{i}", i, {"w": update}) for i, update in enumerate(updates, 1)]
    model, judged = run(PIPELINES[name], {"w": base}, plain, tmp_path)
    one = values_of(model, tmp_path)["w"]
    model, again = run(PIPELINES[name], {"w": base * 2.0**power}, scaled, tmp_path)
    assert values_of(model, tmp_path)["w"].tolist() == (one * 2.0**power).tolist()
    assert again == judged


@pytest.mark.parametrize("name", SCALED)
def test_shifting_by_what_is_exact_changes_no_judgement(name: str, tmp_path: Path) -> None:
    """Base model and updates alike: rules look at differences, and at orders."""
    if any(step in {"dnc", "bucketing", "noise"} for step, _ in PIPELINES[name]):
        return
    base, updates, shift = exact(1, 0)[0], exact(9, 1), exact(1, 2)[0] * 1024

    def judged(by: Array) -> tuple[Array, object]:
        sent = [Sent(f"hospital-{i}", i, {"w": u + by}) for i, u in enumerate(updates, 1)]
        model, found = run(PIPELINES[name], {"w": base + by}, sent, tmp_path)
        return values_of(model, tmp_path)["w"], found

    (plain, before), (moved, after) = judged(shift * 0), judged(shift)
    if name not in {"nnm and trimmed_mean", "nnm and bulyan"}:
        assert after == before
    assert moved - shift == pytest.approx(plain, abs=1e-8)
    if name in {"median", "krum"}:
        assert (moved - shift).tolist() == plain.tolist()


@pytest.mark.parametrize("name", ["median", "trimmed_mean", "krum", "mean"])
def test_a_permutation_of_coordinates_permutes_the_model(name: str, tmp_path: Path) -> None:
    base, updates = exact(1, 0)[0], exact(9, 1)
    order = np.random.default_rng(3).permutation(30)
    plain = model_of(PIPELINES[name], base, list(updates), tmp_path)
    moved = model_of(PIPELINES[name], base[order], updates[:, order], tmp_path)
    assert moved.tolist() == plain[order].tolist()


def test_mixing_with_nearest_neighbours_evens_out_what_differs(tmp_path: Path) -> None:
    """Krum takes one row; a mean of seven hospitals is nearer to all of them than one is."""
    updates = np.random.default_rng(8).standard_normal((9, 100))
    base, mean = np.zeros(100), updates.mean(axis=0)
    alone = model_of((("krum", {"f": 2}),), base, list(updates), tmp_path)
    mixed = model_of((("nnm", {"f": 2}), ("krum", {"f": 2})), base, list(updates), tmp_path)
    assert length(mixed - mean) < length(alone - mean) / 2


def test_exact_values_of_small_cases(tmp_path: Path) -> None:
    """By hand: five points on a line, where sums of squared distances are whole numbers."""
    points = [np.array([value]) for value in (0.0, 1.0, 2.0, 4.0, 100.0)]
    base: Tensors = {"w": np.zeros(1)}
    sent = [Sent(str(i), 1, {"w": point}) for i, point in enumerate(points)]
    model, judged = run((("krum", {"f": 1}),), base, sent, tmp_path)
    # Two nearest others each: 1 + 4, 1 + 1, 1 + 4, 4 + 9, 96² + 98².
    assert values_of(model, tmp_path)["w"].tolist() == [1.0]
    scores = [5, 2, 5, 13, 96**2 + 98**2]
    assert [one[2] for one in judged] == [int(Fraction(s, 2) * MILLION) for s in scores]
    model, _ = run((("multi_krum", {"f": 1}),), base, sent, tmp_path)
    assert values_of(model, tmp_path)["w"].tolist() == [7 / 4]
    centred: Steps = (("centred_clipping", {"radius": MILLION, "iterations": 1}),)
    # Each shortened to the median length 2: (0 + 1 + 2 + 2 + 2) / 5.
    assert values_of(run(centred, base, sent, tmp_path)[0], tmp_path)["w"][0] == pytest.approx(1.4)
