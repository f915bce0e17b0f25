"""Rows that rules work on: each a mixture of base model and updates.

Clipping, mixing and averaging are linear, so no step but the last one needs to touch a parameter:
the steps before it work on a small matrix of weights, and on dot products that follow from it.
"""

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Self

import numpy as np

from aggregator.arrays import Doubles
from aggregator.cohort import Cohort


@dataclass(frozen=True, slots=True)
class Blend:
    """Mixtures of a cohort's updates.

    Args:
        cohort: The updates.
        mixing: float64 (m, 1 + n): the weights of base model and updates in each row. A row's
            weights add up to 1.
        weights: float64 (m,): the examples behind each row.
        sources: For each row the updates that it speaks for.
    """

    cohort: Cohort
    mixing: Doubles
    weights: Doubles
    sources: tuple[tuple[int, ...], ...]

    @classmethod
    def of(cls, cohort: Cohort) -> Self:
        """Take each update for a row."""
        n = len(cohort)
        mixing = np.concatenate([np.zeros((n, 1)), np.eye(n)], axis=1)
        return cls(cohort, mixing, cohort.weights, tuple((i,) for i in range(n)))

    def __len__(self) -> int:
        """Count the rows."""
        return len(self.mixing)

    @property
    def is_plain(self) -> bool:
        """Whether the rows are the updates themselves."""
        return np.array_equal(self.mixing, Blend.of(self.cohort).mixing)

    def products(self) -> Doubles:
        """Return the dot products of the rows' differences from the base model, float64 (m, m)."""
        products = self.cohort.products()
        if self.is_plain:
            return products
        left = multiply(self.mixing[:, 1:], products)
        return multiply(left, np.ascontiguousarray(self.mixing[:, 1:].T))

    def norms(self) -> list[float]:
        """Return how far each row is from the base model."""
        return roots(self.cohort.squares()) if self.is_plain else norms(self.products())

    def combined(self, weights: Doubles, base: float = 0.0) -> Doubles:
        """Return the weights of base model and updates in a combination of rows.

        Args:
            weights: float64 (m,).
            base: The base model's own weight.
        """
        total = np.zeros(self.mixing.shape[1])
        total[0] = base
        for weight, row in zip(weights, self.mixing, strict=True):
            np.add(total, np.multiply(row, weight), out=total)
        return total


def multiply(left: Doubles, right: Doubles) -> Doubles:
    """Multiply matrices, adding products up in order; BLAS would add as the processor likes."""
    total = np.zeros((left.shape[0], right.shape[1]))
    for column, row in zip(left.T, right, strict=True):
        np.add(total, np.multiply.outer(column, row), out=total)
    return total


def norms(products: Doubles) -> list[float]:
    """Return the lengths of vectors whose dot products these are."""
    return roots(products.diagonal())


def roots(squares: Iterable[float]) -> list[float]:
    """Return the square roots of numbers, 0 of those below 0."""
    return [math.sqrt(max(float(square), 0.0)) for square in squares]


def squared_distances(products: Doubles) -> Doubles:
    """Return the squared distances between vectors whose dot products these are."""
    squares = products.diagonal()
    distances = np.add.outer(squares, squares) - 2.0 * products
    np.maximum(distances, 0.0, out=distances)
    np.fill_diagonal(distances, 0.0)
    return distances


def cosines(products: Doubles) -> Doubles:
    """Return the cosines between vectors whose dot products these are; 0 for a vector of zeros."""
    lengths = np.array(norms(products))
    scale = np.multiply.outer(lengths, lengths)
    found = np.divide(products, scale, out=np.zeros_like(products), where=scale > 0)
    limited: Doubles = np.clip(found, -1.0, 1.0)
    return limited


def distances_from(products: Doubles, weights: Doubles) -> list[float]:
    """Return the distances of vectors, whose dot products these are, from their weighted sum."""
    inner = multiply(products, weights[:, np.newaxis])[:, 0]
    square = math.fsum(inner * weights)
    return [
        math.sqrt(max(float(own) - 2.0 * float(cross) + square, 0.0))
        for own, cross in zip(products.diagonal(), inner, strict=True)
    ]


def shares(weights: Doubles) -> Doubles:
    """Return weights divided by their sum."""
    parts: Doubles = weights / math.fsum(weights)
    return parts


def lower_median(values: Iterable[float]) -> float:
    """Return the middle value, of two the lower one."""
    ordered = sorted(values)
    return ordered[(len(ordered) - 1) // 2]


def ratio(value: float, to: float) -> float:
    """Divide where both are at least 0; equal values are in the ratio 1, also two zeros."""
    if value == to:
        return 1.0
    return value / to if to > 0 else math.inf


def smallest(values: Sequence[float], count: int) -> list[int]:
    """Return the places of the smallest values, of equal ones the first, in ascending order."""
    return sorted(sorted(range(len(values)), key=lambda i: (values[i], i))[:count])
