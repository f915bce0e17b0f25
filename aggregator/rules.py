"""Aggregation rules: from updates to a model (docs/protocol.md, section 9.6).

A rule is a function of its parameters that returns a `Rule`. What it decides follows from the
updates' dot products; the parameters of the models are touched once, by the pass that writes the
result. So a rule says what to write, an `Average` or a `Ranking`, and never reads a model. A rule
does not reject: an update that it gives less than full weight, be it none at all, is clipped.
"""

import math
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from decimal import Context, Decimal
from typing import TypeAlias

import numpy as np

from aggregator.arrays import Doubles
from aggregator.blend import (
    Blend,
    cosines,
    distances_from,
    lower_median,
    norms,
    ratio,
    shares,
    smallest,
    squared_distances,
)
from aggregator.cohort import Measure, Ranks
from aggregator.judgement import KEPT, MILLION, Judgement, accepted, clipped
from aggregator.params import require_integer
from chain.errors import InvalidInputError, UnfitRoundError
from chain.types import Reason

TRIM_THRESHOLD = 0.9  # of all coordinates
_FAR = 10.0  # in median distances: so far out an update has a tenth of a usual one's influence
_WEAK = 0.1  # of the greatest weight
_SMOOTHING = 1e-6  # of distances in the geometric median
_MOST_STRETCH = 1e6  # of an update that is shorter than the root's
_MOST_FAULTY = 63
_NAME = re.compile(r"[ -~]{1,128}")  # what is printable is another matter in each Unicode version


@dataclass(frozen=True, slots=True)
class Average:
    """The weighted mean of the rows, and of the base model with `base` for a weight.

    Args:
        weights: float64 (m,).
        judgements: One for each row.
        base: The base model's weight.
    """

    weights: Doubles
    judgements: Sequence[Judgement]
    base: float = 0.0


@dataclass(frozen=True, slots=True)
class Ranking:
    """The mean of some of each coordinate's sorted values.

    A row is judged by the share of coordinates in which it lies outside the band.

    Args:
        rows: The rows that are sorted, ascending.
        ranks: Which of their sorted values are averaged.
        judgements: One for each row of the blend; those of `rows` are judged anew.
    """

    rows: tuple[int, ...]
    ranks: Ranks
    judgements: Sequence[Judgement]


Combination: TypeAlias = Average | Ranking


@dataclass(frozen=True, slots=True)
class Rule:
    """An aggregation rule with its parameters.

    Args:
        name: What it is called on the ledger.
        params: Its parameters by name.
        least: How many rows it needs.
        combine: Called with that many rows or more, tells what is to be written. Raises
            `UnfitRoundError` where they make no model.
        measures: What it looks at of rows.
    """

    name: str
    params: Mapping[str, int | str]
    least: int
    combine: Callable[[Blend], Combination]
    measures: Measure


def fed_avg() -> Rule:
    """Return the mean weighted by example counts (McMahan et al. 2017, arXiv 1602.05629)."""

    def combine(blend: Blend) -> Average:
        return Average(blend.weights, [KEPT] * len(blend))

    return Rule("fed_avg", {}, 1, combine, Measure.NOTHING)


def mean() -> Rule:
    """Return the mean in which all updates weigh alike."""

    def combine(blend: Blend) -> Average:
        return Average(np.ones(len(blend)), [KEPT] * len(blend))

    return Rule("mean", {}, 1, combine, Measure.NOTHING)


def median() -> Rule:
    """Return the coordinate-wise median (Yin et al. 2018, arXiv 1803.01498).

    Of an even number of values it is the mean of the two in the middle. The band by which an
    update is judged leaves out a quarter of the values at either end, rounded down.
    """

    def combine(blend: Blend) -> Ranking:
        n = len(blend)
        quarter = n // 4
        return _ranking(range(n), Ranks((n - 1) // 2, n // 2 + 1, 0, quarter, n - 1 - quarter), n)

    return Rule("median", {}, 1, combine, Measure.NOTHING)


def trimmed_mean(f: int) -> Rule:
    """Return the coordinate-wise trimmed mean (Yin et al. 2018, arXiv 1803.01498).

    Args:
        f: How many values are dropped at either end of each coordinate.

    Raises:
        InvalidInputError: If `f` is out of range.
    """
    require_integer("trimmed_mean", "f", f, 0, _MOST_FAULTY)

    def combine(blend: Blend) -> Ranking:
        n = len(blend)
        return _ranking(range(n), Ranks(f, n - f, 0, f, n - 1 - f), n)

    return Rule("trimmed_mean", {"f": f}, 2 * f + 1, combine, Measure.NOTHING)


def krum(f: int) -> Rule:
    """Return the update with the nearest neighbours (Blanchard et al. 2017, arXiv 1703.02757).

    An update's score is the sum of its squared distances to its n - f - 2 nearest others; the
    least one is taken, of equal ones the first.

    Args:
        f: How many attackers it withstands; it needs 2f + 3 updates.

    Raises:
        InvalidInputError: If `f` is out of range.
    """
    require_integer("krum", "f", f, 0, _MOST_FAULTY)
    return Rule(
        "krum",
        {"f": f},
        2 * f + 3,
        lambda blend: _least_krum_scores(blend, f, 1),
        Measure.PRODUCTS,
    )


def multi_krum(f: int) -> Rule:
    """Return the mean of the n - f updates with the least scores of `krum`.

    Args:
        f: How many attackers it withstands; it needs 2f + 3 updates.

    Raises:
        InvalidInputError: If `f` is out of range.
    """
    require_integer("multi_krum", "f", f, 0, _MOST_FAULTY)
    return Rule(
        "multi_krum",
        {"f": f},
        2 * f + 3,
        lambda blend: _least_krum_scores(blend, f, len(blend) - f),
        Measure.PRODUCTS,
    )


def bulyan(f: int) -> Rule:
    """Return Bulyan over Krum (El Mhamdi, Guerraoui and Rouault 2018, arXiv 1802.07927).

    Krum takes n - 2f updates, one after the other; then each coordinate is the mean of the n - 4f
    values nearest the median. An update that was not taken has n - 2f for its score and threshold.

    Args:
        f: How many attackers it withstands; it needs 4f + 3 updates.

    Raises:
        InvalidInputError: If `f` is out of range.
    """
    require_integer("bulyan", "f", f, 0, 31)

    def combine(blend: Blend) -> Ranking:
        n = len(blend)
        distances = squared_distances(blend.products())
        left, taken = list(range(n)), list[int]()
        while len(taken) < n - 2 * f:
            scores = _krum_scores(distances[np.ix_(left, left)], f)
            taken.append(left.pop(smallest(scores, 1)[0]))
        size = len(taken)
        judged = [clipped(Reason.NOT_SELECTED_BY_RULE, size, size)] * n
        edge = min(f, (size - 1) // 2)
        ranks = Ranks(0, size, n - 4 * f, edge, size - 1 - edge)
        return Ranking(tuple(sorted(taken)), ranks, judged)

    return Rule("bulyan", {"f": f}, 4 * f + 3, combine, Measure.PRODUCTS)


def geometric_median(iterations: int) -> Rule:
    """Return the geometric median (Pillutla, Kakade and Harchaoui 2022, RFA, arXiv 1912.13445).

    Smoothed Weiszfeld iterations from the mean, weighted by example counts. All iterates are
    mixtures of the updates, so each takes n x n operations and not a pass over the models. The
    score of an update is its distance in lower median distances, the threshold 10.

    Args:
        iterations: How many, at most 1,000.

    Raises:
        InvalidInputError: If the number is out of range.
    """
    require_integer("geometric_median", "iterations", iterations, 1, 1000)

    def combine(blend: Blend) -> Average:
        products = blend.products()
        weights = shares(blend.weights)
        for _ in range(iterations):
            distances = distances_from(products, weights)
            weights = shares(blend.weights / np.maximum(np.array(distances), _SMOOTHING))
        distances = distances_from(products, weights)
        middle = lower_median(distances)
        judged = []
        for distance in distances:
            score = ratio(distance, middle)
            judged.append(
                clipped(Reason.WEIGHED_DOWN_BY_RULE, score, _FAR)
                if score >= _FAR
                else accepted(score, _FAR)
            )
        return Average(weights, judged)

    return Rule("geometric_median", {"iterations": iterations}, 1, combine, Measure.PRODUCTS)


def centred_clipping(radius: int, iterations: int) -> Rule:
    """Return centred clipping (Karimireddy, He and Jaggi 2021, arXiv 2012.10333).

    From the base model on, each iteration moves the centre by the mean of the updates' differences
    from it, each shortened to the radius. The score of an update is its distance from the centre
    before the last iteration in radii, the threshold 1.

    Args:
        radius: In millionths of the lower median norm of the updates' differences from the base.
        iterations: How many, at most 1,000.

    Raises:
        InvalidInputError: If a parameter is out of range.
    """
    require_integer("centred_clipping", "radius", radius, 1, 1000 * MILLION)
    require_integer("centred_clipping", "iterations", iterations, 1, 1000)

    def combine(blend: Blend) -> Average:
        products = blend.products()
        reach = lower_median(norms(products)) * (radius / MILLION)
        centre = np.zeros(len(blend))
        distances = [0.0] * len(blend)
        for _ in range(iterations):
            distances = distances_from(products, centre)
            scales = np.array([reach / one if one > reach else 1.0 for one in distances])
            moved = centre * (1.0 - math.fsum(scales) / len(blend))
            centre = moved + scales / len(blend)
        judged = []
        for distance in distances:
            score = ratio(distance, reach)
            judged.append(
                clipped(Reason.CLIPPED_BY_RULE, score, 1.0)
                if distance > reach
                else accepted(score, 1.0)
            )
        return Average(centre, judged, base=1.0 - math.fsum(centre))

    params = {"radius": radius, "iterations": iterations}
    return Rule("centred_clipping", params, 1, combine, Measure.PRODUCTS)


def fl_trust(root: str) -> Rule:
    """Return the mean of updates weighted by their trust (Cao et al. 2021, arXiv 2012.13995).

    The consortium trains on a small set of its own, and its update is a record like any other. An
    update's trust is the cosine to it, at least 0; its difference from the base model is brought
    to the root's length, but lengthened a millionfold at the most: what is hidden in the last bits
    of the base model would be noise by then. The score of an update is 1 - cosine, the threshold 1.

    Args:
        root: The address whose update is the root.

    Raises:
        InvalidInputError: If the root is no name.
    """
    if type(root) is not str or not _NAME.fullmatch(root):
        raise InvalidInputError(f"fl_trust needs the root's address, found {root!r}")

    def combine(blend: Blend) -> Average:
        names = [member.name for member in blend.cohort.members]
        if root not in names:
            raise UnfitRoundError(f"fl_trust needs the update of {root}, found none")
        place = names.index(root)
        products = blend.products()
        cosine = [float(one) for one in cosines(products)[place]]
        lengths = norms(products)
        trust = [0.0 if i == place else max(one, 0.0) for i, one in enumerate(cosine)]
        total = math.fsum(trust)
        if total == 0:
            raise UnfitRoundError("fl_trust found no update that agrees with the root's")
        weights = np.array(
            [
                one / total * min(lengths[place] / length, _MOST_STRETCH) if one else 0.0
                for one, length in zip(trust, lengths, strict=True)
            ]
        )
        judged = [
            accepted(1.0 - one, 1.0)
            if one > 0 or i == place
            else clipped(Reason.AGAINST_ROOT_UPDATE, 1.0 - one, 1.0)
            for i, one in enumerate(cosine)
        ]
        return Average(weights, judged, base=1.0 - math.fsum(weights))

    return Rule("fl_trust", {"root": root}, 2, combine, Measure.PRODUCTS)


def fools_gold() -> Rule:
    """Return FoolsGold's mean (Fung, Yoon and Beschastnikh 2020, arXiv 1808.04866).

    Updates that point the same way weigh little: sybils are more alike than honest hospitals with
    different patients. This is the paper's form without memory, on the round's own updates. The
    score of an update is 1 - weight, the threshold 0.9.
    """

    def combine(blend: Blend) -> Average:
        weights = _fools_gold_weights(cosines(blend.products()))
        if not any(weights):
            raise UnfitRoundError("fools_gold found all updates alike, and none to trust")
        judged = [
            clipped(Reason.WEIGHED_DOWN_BY_RULE, 1.0 - one, 1.0 - _WEAK)
            if one <= _WEAK
            else accepted(1.0 - one, 1.0 - _WEAK)
            for one in weights
        ]
        return Average(np.array(weights), judged)

    return Rule("fools_gold", {}, 2, combine, Measure.PRODUCTS)


def judge_trimmed(share: float) -> Judgement:
    """Judge a row by the share of coordinates in which it lies outside the band."""
    if share >= TRIM_THRESHOLD:
        return clipped(Reason.TRIMMED_BY_RULE, share, TRIM_THRESHOLD)
    return accepted(share, TRIM_THRESHOLD)


def _ranking(rows: Sequence[int], ranks: Ranks, n: int) -> Ranking:
    return Ranking(tuple(rows), ranks, [KEPT] * n)


def _least_krum_scores(blend: Blend, f: int, count: int) -> Average:
    scores = _krum_scores(squared_distances(blend.products()), f)
    chosen = smallest(scores, count)
    greatest = max(scores[i] for i in chosen)
    weights = np.zeros(len(blend))
    weights[chosen] = 1.0
    judged = [
        accepted(ratio(score, greatest), 1.0)
        if i in chosen
        else clipped(Reason.NOT_SELECTED_BY_RULE, ratio(score, greatest), 1.0)
        for i, score in enumerate(scores)
    ]
    return Average(weights, judged)


def _krum_scores(distances: Doubles, f: int) -> list[float]:
    n = len(distances)
    nearest = max(1, n - f - 2)
    # The first of the sorted distances is an update's own, zero.
    return [math.fsum(row[1 : nearest + 1]) for row in np.sort(distances, axis=1)]


def _fools_gold_weights(similarity: Doubles) -> list[float]:
    n = len(similarity)
    alike = [[float(one) for one in row] for row in similarity]
    # At least 0, as in the authors' code, whose matrix has zeros for an update and itself.
    greatest = [max(0.0, *(row[j] for j in range(n) if j != i)) for i, row in enumerate(alike)]
    for i in range(n):
        for j in range(n):
            # Pardoning: who is less suspect than the one it resembles is let off.
            if i != j and greatest[i] < greatest[j]:
                alike[i][j] *= greatest[i] / greatest[j]
    raw = [1.0 - max(alike[i][j] for j in range(n) if j != i) for i in range(n)]
    raw = [min(max(one, 0.0), 1.0) for one in raw]
    top = max(raw)
    return [0.0 if top == 0 else _logit(one / top) for one in raw]


def _logit(share: float) -> float:
    """Return ln(a / (1 - a)) + 0.5 within 0 and 1; the decimal logarithm is correctly rounded."""
    share = 0.99 if share >= 1 else share  # as the authors' code has it
    if share <= 0:
        return 0.0
    decimal = Context(prec=30)
    rest = decimal.subtract(Decimal(1), Decimal(share))
    value = float(decimal.divide(Decimal(share), rest).ln(decimal)) + 0.5
    return min(max(value, 0.0), 1.0)
