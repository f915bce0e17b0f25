"""Clusters of a few points against their definitions."""

import itertools

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from aggregator.arrays import Doubles
from aggregator.clusters import largest_cluster, majority_cluster


@st.composite
def distance_tables(draw: st.DrawFn) -> Doubles:
    """Symmetric distances with many ties."""
    n = draw(st.integers(1, 9))
    pairs = n * (n - 1) // 2
    drawn = draw(st.lists(st.integers(0, 5), min_size=pairs, max_size=pairs))
    table = np.zeros((n, n))
    table[np.triu_indices(n, 1)] = np.array(drawn) / 4
    return table + table.T


def joined_within(distances: Doubles, radius: float, start: int) -> set[int]:
    """Walk from a point over steps that are no longer than the radius."""
    reached, edge = {start}, [start]
    while edge:
        here = edge.pop()
        for there in range(len(distances)):
            if there not in reached and distances[here, there] <= radius:
                reached.add(there)
                edge.append(there)
    return reached


@given(distances=distance_tables())
def test_the_majority_is_joined_within_its_radius_and_by_no_shorter_one(distances: Doubles) -> None:
    n = len(distances)
    cluster, radius = majority_cluster(distances)
    assert cluster == sorted(set(cluster))
    assert 2 * len(cluster) > n
    assert set(cluster) <= joined_within(distances, radius, cluster[0])
    for start in range(n if radius else 0):
        assert 2 * len(joined_within(distances, radius - 0.1, start)) <= n


def test_two_attackers_of_five_who_stand_together_are_no_majority() -> None:
    distances = np.array([[abs(a - b) for a in (0, 1, 2, 9, 9)] for b in (0, 1, 2, 9, 9)], "<f8")
    assert majority_cluster(distances) == ([0, 1, 2], 1.0)


def test_a_tie_goes_to_the_first_pair() -> None:
    assert majority_cluster(np.ones((4, 4)) - np.eye(4)) == ([0, 1, 2], 1.0)


def on_a_line(values: tuple[float, ...]) -> list[tuple[float, float, float]]:
    return [(value, 1 - value, 0.0) for value in values]


def test_mean_shift_finds_the_larger_of_two_groups() -> None:
    points = on_a_line((0.50, 0.51, 0.52, 0.49, 0.10, 0.11))
    for order in itertools.permutations(range(6), 6):
        cluster, distances, bandwidth = largest_cluster([points[i] for i in order])
        assert {order[i] for i in cluster} == {0, 1, 2, 3}
        assert all(distances[i] <= bandwidth < 0.3 for i in cluster)
        assert all(distances[i] > 0.5 for i in range(6) if i not in cluster)


@pytest.mark.parametrize("n", [1, 2, 7])
def test_equal_points_are_one_cluster(n: int) -> None:
    assert largest_cluster(on_a_line((0.3,) * n)) == (list(range(n)), [0.0] * n, 0.0)


def test_two_points_are_one_cluster_and_an_outlier_of_three_is_none() -> None:
    """With a bandwidth of 0 the first of three hospitals alone would pass."""
    assert largest_cluster(on_a_line((0.3, 0.31)))[0] == [0, 1]
    assert largest_cluster(on_a_line((0.9, 0.31, 0.3)))[0] == [1, 2]
