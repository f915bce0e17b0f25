"""Sorting networks: comparators that sort any n values, whatever they are."""

from collections.abc import Iterator
from functools import lru_cache


@lru_cache
def network(n: int, run: int = 1) -> tuple[tuple[int, int], ...]:
    """Return the comparators of Batcher's odd-even merge sort for n values.

    Knuth, The Art of Computer Programming, volume 3, 5.2.2, algorithm M.

    Args:
        n: How many values.
        run: A power of two. Each run of so many values is sorted already; the last may be shorter.

    Returns:
        Pairs (low, high): the smaller value goes to `low`, the greater one to `high`.
    """
    return tuple(_comparators(n, run))


def _comparators(n: int, sorted_run: int) -> Iterator[tuple[int, int]]:
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
