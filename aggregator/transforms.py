"""Transforms: steps that make other rows of the updates before a rule reads them.

None touches a parameter of a model: a transform is a matrix (`aggregator.blend`), which the rule's
own pass over the updates applies (docs/protocol.md, section 9.5).
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from aggregator.blend import Blend, lower_median, multiply, ratio, smallest, squared_distances
from aggregator.cohort import Measure
from aggregator.draws import Draws
from aggregator.judgement import MILLION, Judgement, accepted, clipped
from aggregator.params import require_integer
from chain.types import Reason


@dataclass(frozen=True, slots=True)
class Transform:
    """A transform with its parameters.

    Args:
        name: What it is called on the ledger.
        params: Its parameters by name.
        least: How many rows it needs to make a given number.
        apply: Called with a blend; returns the new one, and a judgement for each row of the old.
        measures: What it looks at of rows.
        mixes: Whether a row that it makes holds more than one of the old.
    """

    name: str
    params: Mapping[str, int]
    least: Callable[[int], int]
    apply: Callable[[Blend], tuple[Blend, Sequence[Judgement] | None]]
    measures: Measure
    mixes: bool = False


def norm_clipping(bound: int) -> Transform:
    """Shorten rows that are longer than a bound (Sun et al. 2019, arXiv 1911.07963).

    A row's length is that of its difference from the base model; the bound is relative to the
    lower median length. Followed by `fed_avg`, no hospital moves the model by more than its share
    of the examples times the bound. The score is a row's length in bounds, the threshold 1.

    Args:
        bound: In millionths of the lower median length.

    Raises:
        InvalidInputError: If the bound is out of range.
    """
    require_integer("norm_clipping", "bound", bound, 1, 1000 * MILLION)

    def apply(blend: Blend) -> tuple[Blend, Sequence[Judgement]]:
        lengths = blend.norms()
        limit = lower_median(lengths) * (bound / MILLION)
        excess = [ratio(length, limit) if length > limit else 0.0 for length in lengths]
        scales = [limit / length if length > limit else 1.0 for length in lengths]
        mixing = np.multiply(blend.mixing, np.array(scales)[:, np.newaxis])
        mixing[:, 0] = mixing[:, 0] + (1.0 - np.array(scales))
        judged = [
            clipped(Reason.CLIPPED_BY_RULE, over, 1.0)
            if over
            else accepted(ratio(length, limit), 1.0)
            for over, length in zip(excess, lengths, strict=True)
        ]
        return replace(blend, mixing=mixing), judged

    return Transform("norm_clipping", {"bound": bound}, lambda n: n, apply, Measure.LENGTHS)


def weight_cap(bound: int) -> Transform:
    """Cap the example counts, so that none takes the model over with a number that it claims.

    The score is a count in bounds, the threshold 1.

    Args:
        bound: In millionths of the lower median count.

    Raises:
        InvalidInputError: If the bound is out of range.
    """
    require_integer("weight_cap", "bound", bound, 1, 1000 * MILLION)

    def apply(blend: Blend) -> tuple[Blend, Sequence[Judgement]]:
        counts = [float(weight) for weight in blend.weights]
        limit = lower_median(counts) * (bound / MILLION)
        judged = [
            clipped(Reason.CLIPPED_BY_RULE, ratio(count, limit), 1.0)
            if count > limit
            else accepted(ratio(count, limit), 1.0)
            for count in counts
        ]
        return replace(blend, weights=np.minimum(blend.weights, limit)), judged

    return Transform("weight_cap", {"bound": bound}, lambda n: n, apply, Measure.NOTHING)


def nnm(f: int) -> Transform:
    """Replace each row by the mean of its nearest rows, itself among them.

    Nearest-neighbour mixing of Allouah et al. 2023 (arXiv 2302.01772), which evens out what differs
    between honest hospitals before a robust rule reads it: each row becomes the mean of the n - f
    rows that are nearest to it, of equal distances the first.

    Args:
        f: How many rows are left out of each mean.

    Raises:
        InvalidInputError: If `f` is out of range.
    """
    require_integer("nnm", "f", f, 0, 63)

    def apply(blend: Blend) -> tuple[Blend, None]:
        n = len(blend)
        near = np.zeros((n, n))
        for i, distances in enumerate(squared_distances(blend.products())):
            near[i, smallest([float(one) for one in distances], n - f)] = 1.0
        mixing = multiply(near, blend.mixing) / float(n - f)
        return replace(blend, mixing=mixing), None

    return Transform(
        "nnm", {"f": f}, lambda n: max(n, 2 * f + 1), apply, Measure.PRODUCTS, mixes=True
    )


def bucketing(size: int) -> Transform:
    """Average rows in random buckets (Karimireddy, He and Jaggi 2022, arXiv 2006.09365).

    The order is drawn after all updates are in. The last bucket may be smaller. A bucket weighs
    what its rows weigh together, and its verdict is that of all its updates.

    Args:
        size: Rows in a bucket.

    Raises:
        InvalidInputError: If the size is out of range.
    """
    require_integer("bucketing", "size", size, 1, 64)

    def apply(blend: Blend) -> tuple[Blend, None]:
        n = len(blend)
        order = Draws("bucketing", blend.cohort.contents).permutation(n)
        buckets = [sorted(order[start : start + size]) for start in range(0, n, size)]
        members = np.zeros((len(buckets), n))
        for row, bucket in zip(members, buckets, strict=True):
            row[bucket] = 1.0
        counts = np.array([[float(len(bucket))] for bucket in buckets])
        return Blend(
            blend.cohort,
            multiply(members, blend.mixing) / counts,
            multiply(members, blend.weights[:, np.newaxis])[:, 0],
            tuple(
                tuple(sorted(source for i in bucket for source in blend.sources[i]))
                for bucket in buckets
            ),
        ), None

    return Transform(
        "bucketing",
        {"size": size},
        lambda n: (n - 1) * size + 1,
        apply,
        Measure.NOTHING,
        mixes=True,
    )
