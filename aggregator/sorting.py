"""Sorting many short columns at once with a network of minima and maxima."""

from collections.abc import Iterator, Sequence
from functools import lru_cache

import numpy as np

from chain.tensors import Array


def sort_rows(rows: Sequence[Array]) -> list[Array]:
    """Sort each column of the stacked rows; about ten times as fast as `np.sort` over columns.

    Minima and maxima are exact, so the result is that of any other sorting, to the bit, as long as
    no value is a NaN or a negative zero.

    Args:
        rows: n arrays of one shape and dtype. They are used as scratch space.

    Returns:
        n arrays: element-wise the smallest values, the second smallest, and so on.
    """
    ordered = list(rows)
    spare = np.empty_like(ordered[0])
    for low, high in network(len(ordered)):
        np.minimum(ordered[low], ordered[high], out=spare)
        np.maximum(ordered[low], ordered[high], out=ordered[high])
        ordered[low], spare = spare, ordered[low]
    return ordered


@lru_cache
def network(n: int) -> tuple[tuple[int, int], ...]:
    """Return the comparators of Batcher's odd-even merge sort for n values.

    Knuth, The Art of Computer Programming, volume 3, 5.2.2, algorithm M.
    """
    return tuple(_comparators(n))


def _comparators(n: int) -> Iterator[tuple[int, int]]:
    sorted_run = 1
    while sorted_run < n:
        distance = sorted_run
        while distance >= 1:
            for start in range(distance % sorted_run, n - distance, 2 * distance):
                for low in range(start, min(start + distance, n - distance)):
                    high = low + distance
                    # Both ends in one pair of runs: runs of other pairs are not merged yet.
                    if low // (2 * sorted_run) == high // (2 * sorted_run):
                        yield low, high
            distance //= 2
        sorted_run *= 2
