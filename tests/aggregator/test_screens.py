"""Screens on cohorts whose outliers are known, at their bounds, and where nobody differs."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest

from aggregator import screens
from chain.tensors import Array
from chain.types import Outcome, Reason
from tests.aggregator.pipelines import MILLION, Judged, Sent, Step, run

MEAN: Step = ("mean", {})


def judged(
    screen: Step, updates: Sequence[Array], folder: Path, base: Array | None = None
) -> list[Judged]:
    start = np.zeros_like(updates[0]) if base is None else base
    sent = [Sent(f"hospital-{i}", 1, {"w": update}) for i, update in enumerate(updates, 1)]
    return run((screen, MEAN), {"w": start}, sent, folder)[1]


def reasons(found: list[Judged]) -> list[int]:
    return [one[1] for one in found]


def test_norms_at_the_bounds_pass_and_beyond_them_do_not(tmp_path: Path) -> None:
    screen: Step = ("norm_range", {"lower": MILLION // 2, "upper": 2 * MILLION})
    lengths = [0.5, 1.0, 1.0, 2.0, 0.499, 2.001, 1.0]
    found = judged(screen, [np.array([0.0, length]) for length in lengths], tmp_path)
    away = Reason.NORM_OUT_OF_RANGE
    assert reasons(found) == [0, 0, 0, 0, away, away, 0]
    assert found[4][2:] == (499_000, MILLION // 2)
    assert found[5][2:] == (2_001_000 - 1, 2 * MILLION) or found[5][2:] == (2_001_000, 2 * MILLION)
    assert found[3][2:] == (2 * MILLION, 2 * MILLION)


def test_norms_are_those_of_differences_from_the_base_model(tmp_path: Path) -> None:
    screen: Step = ("norm_range", {"lower": 0, "upper": 3 * MILLION})
    base = np.array([1e6, -1e6])
    updates = [base + way for way in ((1.0, 0.0), (0.0, 2.0), (-1.0, 0.0), (0.0, 9.0))]
    found = judged(screen, updates, tmp_path, base)
    assert reasons(found) == [0, 0, 0, Reason.NORM_OUT_OF_RANGE]


def test_of_hospitals_that_mostly_send_nothing_the_one_that_does_is_out_of_range(
    tmp_path: Path,
) -> None:
    screen: Step = ("norm_range", {"lower": 0, "upper": 3 * MILLION})
    found = judged(screen, [np.zeros(2), np.zeros(2), np.ones(2)], tmp_path)
    assert reasons(found) == [0, 0, Reason.NORM_OUT_OF_RANGE]
    assert found[2][2] == 2**64 - 1


def test_flipped_signs_are_out_of_the_cluster(tmp_path: Path) -> None:
    generator = np.random.default_rng(2)
    honest = [generator.standard_normal(400) + 1 for _ in range(7)]
    found = judged(("sign_clusters", {}), [*honest, -honest[0], -honest[1]], tmp_path)
    assert reasons(found)[7:] == [Reason.SIGNS_OUT_OF_CLUSTER] * 2
    assert reasons(found)[:7].count(0) >= 5


def test_signs_do_not_change_with_lengths(tmp_path: Path) -> None:
    generator = np.random.default_rng(2)
    updates = [generator.standard_normal(400) + 1 for _ in range(7)]
    longer = [update * 2.0**i for i, update in enumerate(updates)]
    assert judged(("sign_clusters", {}), updates, tmp_path) == judged(
        ("sign_clusters", {}), longer, tmp_path
    )


def test_a_direction_of_its_own_is_out_of_the_cluster_whatever_its_length(tmp_path: Path) -> None:
    generator = np.random.default_rng(2)
    honest = [generator.standard_normal(100) / 4 + 1 for _ in range(6)]
    other = np.where(np.arange(100) % 2, 1.0, -1.0)
    found = judged(("direction_cluster", {}), [*honest, other, other / 100], tmp_path)
    assert reasons(found)[6:] == [Reason.DIRECTION_OUT_OF_CLUSTER] * 2
    assert [one[0] for one in found].count(Outcome.ACCEPTED) >= 5


@pytest.mark.parametrize("n", range(1, 9))
def test_more_than_half_pass_by_direction(n: int, tmp_path: Path) -> None:
    generator = np.random.default_rng(n)
    found = judged(
        ("direction_cluster", {}), [generator.standard_normal(9) for _ in range(n)], tmp_path
    )
    assert reasons(found).count(0) > n / 2


def test_dnc_drops_those_who_pull_the_same_way(tmp_path: Path) -> None:
    generator = np.random.default_rng(4)
    honest = [generator.standard_normal(200) for _ in range(8)]
    pull = generator.standard_normal(200) * 2
    screen: Step = ("dnc", {"f": 2, "iterations": 3, "coordinates": 120})
    found = judged(screen, [*honest, honest[0] + pull, honest[1] + pull], tmp_path)
    assert reasons(found)[8:] == [Reason.OUTLYING_PROJECTION] * 2
    assert all(one[2] > MILLION for one in found[8:])


def test_dnc_without_attackers_drops_f_in_each_iteration(tmp_path: Path) -> None:
    generator = np.random.default_rng(4)
    screen: Step = ("dnc", {"f": 1, "iterations": 1, "coordinates": 120})
    found = judged(screen, [generator.standard_normal(200) for _ in range(8)], tmp_path)
    assert sorted(reasons(found)) == [0] * 7 + [Reason.OUTLYING_PROJECTION]


def test_whom_any_iteration_of_dnc_drops_is_left_out(tmp_path: Path) -> None:
    """Three coordinates a time see other outliers each time."""
    generator = np.random.default_rng(4)
    screen: Step = ("dnc", {"f": 1, "iterations": 9, "coordinates": 3})
    found = judged(screen, [generator.standard_normal(200) for _ in range(12)], tmp_path)
    assert 3 <= reasons(found).count(Reason.OUTLYING_PROJECTION) <= 9
    assert all((one[2] > MILLION) == (one[1] != 0) for one in found)


def alike(seed: int) -> list[Array]:
    """Seven hospitals that share a way, and three that share another one besides."""
    generator = np.random.default_rng(seed)
    common, backdoor = generator.standard_normal((2, 300))
    honest = [common + generator.standard_normal(300) for _ in range(7)]
    return [*honest, *(common + 0.8 * backdoor + update / 4 for update in honest[:3])]


@pytest.mark.parametrize("seed", range(3))
def test_sybils_are_left_out_and_the_way_that_all_share_counts_for_nothing(
    seed: int, tmp_path: Path
) -> None:
    found = judged(("sybils", {"least": 4, "limit": 300_000}), alike(seed), tmp_path)
    assert reasons(found) == [0] * 7 + [Reason.TOO_MUCH_ALIKE] * 3


@pytest.mark.parametrize("attackers", [1, 2, 3])
@pytest.mark.parametrize("pull", [-0.8, -0.4])
def test_honest_hospitals_that_go_one_way_are_not_made_alike_by_who_pulls_back(
    attackers: int, pull: float, tmp_path: Path
) -> None:
    """Around the mean, which one such update moves, most honest ones would reach the limit."""
    generator = np.random.default_rng(attackers)
    common = unit(generator.standard_normal(3_000))
    honest = [
        np.sqrt(0.9) * common + np.sqrt(0.1) * unit(generator.standard_normal(3_000))
        for _ in range(10 - attackers)
    ]
    against = [
        pull * common + np.sqrt(1 - pull**2) * unit(generator.standard_normal(3_000))
        for _ in range(attackers)
    ]
    found = judged(("sybils", {"least": 4, "limit": 200_000}), [*honest, *against], tmp_path)
    assert reasons(found)[: len(honest)] == [0] * len(honest)


def unit(vector: Array) -> Array:
    length: Array = vector / np.linalg.norm(vector)
    return length


def test_sybils_leave_as_many_as_they_must(tmp_path: Path) -> None:
    same = [np.array([1.0, 0.0]), np.array([0.0, 1.0])] * 4
    found = judged(("sybils", {"least": 5, "limit": 1}), same, tmp_path)
    # All scores are 1: of equal ones the later are left out first.
    assert reasons(found) == [0] * 5 + [Reason.TOO_MUCH_ALIKE] * 3
    assert reasons(judged(("sybils", {"least": 9, "limit": 1}), same, tmp_path)) == [0] * 8


@pytest.mark.parametrize("scale", [1e-140, 1.0, 1e140])
@pytest.mark.parametrize("seed", range(5))
def test_leading_scores_are_those_of_the_singular_decomposition(seed: int, scale: float) -> None:
    rows = np.random.default_rng(seed).standard_normal((9, 40))
    rows[3] *= 4
    rows -= rows.mean(axis=0)
    left, singular, _ = np.linalg.svd(rows)
    exact = (left[:, 0] * singular[0]) ** 2
    found = np.array(screens._leading_scores((rows * scale) @ (rows * scale).T))
    assert found / found.max() == pytest.approx(exact / exact.max(), rel=1e-6, abs=1e-9)


def test_rows_without_a_direction_have_no_scores() -> None:
    assert screens._leading_scores(np.zeros((3, 3))) == [0.0] * 3
