"""Clusters among a few points, found in a fixed order."""

import math
from collections.abc import Sequence

from aggregator.arrays import Doubles

_MOST_SHIFTS = 300
_STILL = 1e-3  # of the bandwidth


def majority_cluster(distances: Doubles) -> tuple[list[int], float]:
    """Find the tightest group of more than half of the points.

    This is what HDBSCAN (Campello, Moulavi and Sander 2013) comes to with clusters of more than
    half of all points and distances as they are: the first component of that size when points are
    joined by ascending distance. Equal distances are taken in the order of the points.

    Args:
        distances: float64 (n, n), symmetric.

    Returns:
        The group, ascending, and the distance that joined its last part.
    """
    n = len(distances)
    groups = [[i] for i in range(n)]
    if n == 1:
        return [0], 0.0
    pairs = sorted((float(distances[i, j]), i, j) for i in range(n) for j in range(i + 1, n))
    for distance, i, j in pairs:
        if groups[i] is groups[j]:
            continue
        groups[i].extend(groups[j])
        for member in groups[j]:
            groups[member] = groups[i]
        if 2 * len(groups[i]) > n:
            return sorted(groups[i]), distance
    raise AssertionError("all points are in one group after the last pair")


def largest_cluster(points: Sequence[Sequence[float]]) -> tuple[list[int], list[float], float]:
    """Find the largest cluster of mean shift (Comaniciu and Meer 2002) with a flat kernel.

    The bandwidth is the mean distance of a point to the farthest of its nearer half, as
    scikit-learn estimates it with quantile 0.5; of up to three points to the nearest other one.

    Args:
        points: n points of some dimension.

    Returns:
        The cluster, ascending; each point's distance from its centre; and the bandwidth.
    """
    n = len(points)
    nearer = min(n, max(2, n // 2))
    bandwidth = math.fsum(sorted(_distance(a, b) for b in points)[nearer - 1] for a in points) / n
    centres: list[list[float]] = []
    sizes: list[int] = []
    for point in points:
        centre, size = _shift(list(point), points, bandwidth)
        if all(_distance(centre, other) > bandwidth for other in centres):
            centres.append(centre)
            sizes.append(size)
        else:
            place = next(k for k, c in enumerate(centres) if _distance(centre, c) <= bandwidth)
            if size > sizes[place]:
                centres[place], sizes[place] = centre, size
    nearest = [
        min(range(len(centres)), key=lambda k: (_distance(point, centres[k]), k))
        for point in points
    ]
    largest = max(range(len(centres)), key=lambda k: (nearest.count(k), -k))
    distances = [_distance(point, centres[largest]) for point in points]
    return [i for i in range(n) if nearest[i] == largest], distances, bandwidth


def _distance(a: Sequence[float], b: Sequence[float]) -> float:
    """Return the Euclidean distance; `math.dist` rounds differently from version to version."""
    return math.sqrt(math.fsum((x - y) * (x - y) for x, y in zip(a, b, strict=True)))


def _shift(
    centre: list[float], points: Sequence[Sequence[float]], bandwidth: float
) -> tuple[list[float], int]:
    """Move a centre to the mean of the points around it until it rests."""
    near = [point for point in points if _distance(point, centre) <= bandwidth]
    for _ in range(_MOST_SHIFTS):
        if not near:
            break
        moved = [math.fsum(axis) / len(near) for axis in zip(*near, strict=True)]
        step = _distance(moved, centre)
        centre = moved
        near = [point for point in points if _distance(point, centre) <= bandwidth]
        if step <= _STILL * bandwidth:
            break
    return centre, len(near)
