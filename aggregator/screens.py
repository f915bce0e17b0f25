"""Screens: steps that leave out updates before a rule sees them (docs/protocol.md, section 9.4).

A screen compares updates with each other. It knows no data, so it cannot tell an attacker from a
hospital that is merely unlike the others: such a hospital may lose rounds, but it keeps its place
(docs/protocol.md, section 9.8).
"""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from aggregator.arrays import Doubles
from aggregator.blend import (
    cosines,
    distances_from,
    lower_median,
    multiply,
    norms,
    ratio,
    roots,
    shares,
    smallest,
)
from aggregator.clusters import largest_cluster, majority_cluster
from aggregator.cohort import Cohort, Measure, dot_products
from aggregator.draws import Draws
from aggregator.judgement import KEPT, MILLION, Judgement, accepted, rejected
from aggregator.params import require_integer
from chain.errors import InvalidInputError
from chain.types import Reason

_POWER_ROUNDS = 100
_CENTRING_ROUNDS = 32
_NEAR = 1e-6  # of the lower median norm
_LONGEST = 2.0**500  # so that sums of a cohort's squared distances stay within float64


@dataclass(frozen=True, slots=True)
class Screen:
    """A screen with its parameters.

    Args:
        name: What it is called on the ledger.
        params: Its parameters by name.
        least: How many updates it needs so that a given number passes, as far as that is sure
            beforehand. Raises `InvalidInputError` where it may leave fewer of any number.
        judge: Called with the cohort; returns a judgement for each update.
        measures: What it looks at of updates.
    """

    name: str
    params: Mapping[str, int]
    least: Callable[[int], int]
    judge: Callable[[Cohort], Sequence[Judgement]]
    measures: Measure


def norm_range(lower: int, upper: int) -> Screen:
    """Pass updates whose norm is within bounds around the median (Xu et al. 2022, SignGuard).

    The norm is that of the difference from the base model, the median the lower one of two.

    Args:
        lower: Least ratio to the median norm, in millionths, at most 1,000,000.
        upper: Greatest ratio to the median norm, in millionths, at least 1,000,000.

    Raises:
        InvalidInputError: If a bound is out of range.
    """
    require_integer("norm_range", "lower", lower, 0, MILLION)
    require_integer("norm_range", "upper", upper, MILLION, 1000 * MILLION)

    def judge(cohort: Cohort) -> list[Judgement]:
        lengths = roots(cohort.squares())
        median = lower_median(lengths)
        return [_within(ratio(norm, median), lower / MILLION, upper / MILLION) for norm in lengths]

    params = {"lower": lower, "upper": upper}
    return Screen("norm_range", params, lambda n: n, judge, Measure.LENGTHS)


def sign_clusters() -> Screen:
    """Pass the largest cluster by shares of signs (Xu et al. 2022, SignGuard, arXiv 2109.05872).

    An update's point is its shares of coordinates above, below and at the base model, over all
    coordinates where the paper takes a sample. Clusters are those of mean shift. The score is the
    distance from the cluster's centre, the threshold the bandwidth.
    """

    def judge(cohort: Cohort) -> list[Judgement]:
        size = cohort.coordinates
        counts = cohort.signs().tolist()
        points = [(up / size, down / size, (size - up - down) / size) for up, down in counts]
        cluster, distances, bandwidth = largest_cluster(points)
        return [
            accepted(distance, bandwidth)
            if i in cluster
            else rejected(Reason.SIGNS_OUT_OF_CLUSTER, distance, bandwidth)
            for i, distance in enumerate(distances)
        ]

    return Screen("sign_clusters", {}, lambda n: n, judge, Measure.NOTHING)


def direction_cluster() -> Screen:
    """Pass the tightest majority by direction (Nguyen et al. 2022, FLAME, arXiv 2101.02281).

    Updates are clustered by the cosine distance of their differences from the base model. More
    than half of the updates pass. The score is the distance to the nearest other member of the
    majority, the threshold the distance at which it became one.
    """

    def judge(cohort: Cohort) -> list[Judgement]:
        distances = np.clip(1.0 - cosines(cohort.products()), 0.0, 2.0)
        cluster, radius = majority_cluster(distances)
        judged = []
        for i in range(len(cohort)):
            nearest = min((float(distances[i, j]) for j in cluster if j != i), default=0.0)
            judged.append(
                accepted(nearest, radius)
                if i in cluster
                else rejected(Reason.DIRECTION_OUT_OF_CLUSTER, nearest, radius)
            )
        return judged

    # Of n updates n // 2 + 1 pass.
    return Screen("direction_cluster", {}, lambda n: max(1, 2 * n - 2), judge, Measure.PRODUCTS)


def dnc(f: int, iterations: int, coordinates: int) -> Screen:
    """Drop outliers along the leading direction (Shejwalkar and Houmansadr 2021, DnC, NDSS).

    In each iteration some coordinates are drawn, the differences from the base model are centred
    there, and the f updates with the greatest projections on the leading singular direction are
    dropped. An update passes that no iteration drops. The score is the update's greatest squared
    projection in any iteration, relative to the greatest that is kept there; the threshold is 1.

    Args:
        f: How many updates an iteration drops.
        iterations: How many there are, at most 16.
        coordinates: How many are drawn, at most 20,000.

    Raises:
        InvalidInputError: If a parameter is out of range.
    """
    require_integer("dnc", "f", f, 0, 127)
    require_integer("dnc", "iterations", iterations, 1, 16)
    require_integer("dnc", "coordinates", coordinates, 1, 20_000)

    def judge(cohort: Cohort) -> list[Judgement]:
        draws = Draws("dnc", cohort.contents)
        n = len(cohort)
        scores = [0.0] * n
        dropped: set[int] = set()
        for _ in range(iterations):
            sample = cohort.sample(draws.distinct(coordinates, cohort.coordinates))
            found = _projections(sample)
            kept = smallest(found, max(n - f, 0))
            dropped |= set(range(n)) - set(kept)
            greatest = max((found[i] for i in kept), default=0.0)
            scores = [max(a, ratio(b, greatest)) for a, b in zip(scores, found, strict=True)]
        return [
            rejected(Reason.OUTLYING_PROJECTION, score, 1.0)
            if i in dropped
            else accepted(score, 1.0)
            for i, score in enumerate(scores)
        ]

    params = {"f": f, "iterations": iterations, "coordinates": coordinates}
    return Screen("dnc", params, lambda n: n + f * iterations, judge, Measure.LENGTHS)


def judge_lengths(cohort: Cohort) -> list[Judgement]:
    """Reject updates that are too long to be measured: float64 cannot hold their products.

    Only float64 values reach that far. One such update would make the products of others with it,
    and what is computed from them, infinite or no numbers (docs/protocol.md, section 9.2).
    """
    if all(vector.dtype != np.float64 for vector in cohort.vectors[0]):
        return [KEPT] * len(cohort)
    lengths = roots(cohort.squares())
    return [
        KEPT if length <= _LONGEST else rejected(Reason.NORM_OUT_OF_RANGE, length, _LONGEST)
        for length in lengths
    ]


def sybils(least: int, limit: int) -> Screen:
    """Leave out updates that are more alike than honest hospitals' are.

    FoolsGold's observation (Fung, Yoon and Beschastnikh 2020, arXiv 1808.04866): who works for one
    purpose under several names sends like updates, also where each by itself is no outlier, as with
    a backdoor among hospitals whose patients differ. Honest updates share the way that all go; so
    the differences from the base model, each shortened to the lower median norm, are taken from
    their geometric median. An update's score is its greatest cosine to another one, the threshold
    the limit. Those that reach it are rejected from the greatest score down, of equal scores the
    later update first, as long as enough are left.

    All who are alike have to go: were their number limited, honest hospitals that see the same
    illness, and are alike for that, could take the places of those who mean it.

    Args:
        least: How many updates it leaves at the least.
        limit: Cosine in millionths, from 1 to 1,000,000.

    Raises:
        InvalidInputError: If a parameter is out of range.
    """
    require_integer("sybils", "least", least, 1, 128)
    require_integer("sybils", "limit", limit, 1, MILLION)

    def judge(cohort: Cohort) -> list[Judgement]:
        likeness = cosines(_centred(cohort.products()))
        n = len(cohort)
        scores = [
            max((float(likeness[i, j]) for j in range(n) if j != i), default=-1.0) for i in range(n)
        ]
        spared = smallest(scores, least)
        return [
            rejected(Reason.TOO_MUCH_ALIKE, score, limit / MILLION)
            if i not in spared and score >= limit / MILLION
            else accepted(score, limit / MILLION)
            for i, score in enumerate(scores)
        ]

    def needed(wanted: int) -> int:
        if wanted > least:
            raise InvalidInputError(
                f"sybils may leave as few as {least} updates, but {wanted} have to pass: raise its "
                "least, or ask for fewer"
            )
        return wanted

    params = {"least": least, "limit": limit}
    return Screen("sybils", params, needed, judge, Measure.PRODUCTS)


def _centred(products: Doubles) -> Doubles:
    """Return products of vectors that were shortened to the lower median norm and centred.

    The centre is the geometric median, since few cannot move it far. Around a mean, which one
    update can pull back, all who go forward together look alike.
    """
    lengths = norms(products)
    limit = lower_median(lengths)
    scales = np.array([limit / one if one > limit else 1.0 for one in lengths])
    short = np.multiply(products, np.multiply.outer(scales, scales))
    weights = shares(np.ones(len(short)))
    for _ in range(_CENTRING_ROUNDS if limit > 0 else 0):
        distances = np.maximum(np.array(distances_from(short, weights)), limit * _NEAR)
        weights = shares(1.0 / distances)
    inner = multiply(short, weights[:, np.newaxis])[:, 0]
    centred: Doubles = (short - np.add.outer(inner, inner)) + math.fsum(inner * weights)
    return centred


def _within(found: float, lower: float, upper: float) -> Judgement:
    if lower <= found <= upper:
        return accepted(found, upper)
    return rejected(Reason.NORM_OUT_OF_RANGE, found, lower if found < lower else upper)


def _projections(sample: Doubles) -> list[float]:
    """Return the rows' squared projections on the leading direction of the centred rows."""
    n = len(sample)
    total = np.zeros(sample.shape[1])
    for row in sample:
        np.add(total, row, out=total)
    centred = sample - total / n
    return _leading_scores(dot_products(centred))


def _leading_scores(products: Doubles) -> list[float]:
    """Return the squared projections of vectors on their leading singular direction.

    Found by the power method from the row with the greatest norm, always with as many
    multiplications (Golub and Van Loan, Matrix Computations, 8.2.1).

    Args:
        products: float64 (n, n), the vectors' dot products.

    Returns:
        Up to one common factor.
    """
    start = int(np.argmax(products.diagonal()))
    direction = products[start].copy()
    for _ in range(_POWER_ROUNDS):
        greatest = float(np.max(np.abs(direction)))
        if greatest == 0.0:
            break
        direction = multiply(products, np.divide(direction, greatest)[:, np.newaxis])[:, 0]
    greatest = float(np.max(np.abs(direction)))
    if greatest > 0:
        direction = np.divide(direction, greatest)  # its squares neither overflow nor vanish
    return [float(value) * float(value) for value in direction]
