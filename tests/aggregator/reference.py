"""A slow reference of docs/protocol.md, section 9: plain loops that share nothing with the product.

Every number is a Python float, every operation a single one; `exact_sum` is the exact sum rounded
once. Nothing here is optimised: it is to be held beside the protocol, and beside the product.
"""

import hashlib
import math
import struct
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from decimal import Context, Decimal
from fractions import Fraction
from typing import Any

from chain.tensors import Array

CODES = {"float64": "d", "float32": "f", "float16": "e"}
WIDEST_FIRST = tuple(CODES)
BLOCK, LANES = 256, 8
GREATEST = 2**64 - 1
ACCEPTED, CLIPPED, REJECTED = range(3)
LONGEST = 2.0**500

Vector = list[float]
Matrix = list[Vector]
Judged = tuple[int, int, int, int]  # outcome, reason, score, threshold
SILENT: Judged = (ACCEPTED, 0, 0, 0)
Step = tuple[str, Mapping[str, Any]]


class Unfit(Exception):  # noqa: N818 - a result, not a fault
    """The updates make no model."""


@dataclass(frozen=True)
class Update:
    """What a hospital sent; `values` in the order of the file, all dtypes behind each other."""

    name: str
    weight: int
    content: bytes
    values: Vector


@dataclass(frozen=True)
class Cohort:
    """The updates that are left, the base model, and where its dtypes begin and end."""

    base: Vector
    runs: tuple[tuple[str, int, int], ...]
    updates: tuple[Update, ...]
    stretch: int

    @property
    def differences(self) -> Matrix:
        return [[x - b for x, b in zip(u.values, self.base, strict=True)] for u in self.updates]

    def products(self) -> Matrix:
        rows = self.differences
        n = len(rows)
        upper = {(i, j): self._product(rows[i], rows[j]) for i in range(n) for j in range(i, n)}
        return [[upper[min(i, j), max(i, j)] for j in range(n)] for i in range(n)]

    def _product(self, left: Vector, right: Vector) -> float:
        total = 0.0
        for _, begin, end in self.runs:
            for start in range(begin, end, self.stretch):
                stop = min(start + self.stretch, end)
                total += stretch_product(left[start:stop], right[start:stop])
        return total


def stretch_product(left: Vector, right: Vector) -> float:
    total = 0.0
    for start in range(0, len(left), BLOCK):
        lanes = [0.0] * LANES
        pairs = zip(left[start : start + BLOCK], right[start : start + BLOCK], strict=True)
        for place, (a, b) in enumerate(pairs):
            lanes[place % LANES] += a * b
        a, b, c, d, e, f, g, h = lanes
        total += ((a + e) + (c + g)) + ((b + f) + (d + h))
    return total


@dataclass(frozen=True)
class Rows:
    """Mixtures of base model (place 0) and updates, and whom each speaks for."""

    cohort: Cohort
    mixing: Matrix
    weights: Vector
    sources: tuple[tuple[int, ...], ...]

    @property
    def is_plain(self) -> bool:
        return self.mixing == identity(len(self.cohort.updates))

    def products(self) -> Matrix:
        products = self.cohort.products()
        if self.is_plain:
            return products
        mixing = [row[1:] for row in self.mixing]
        return multiply(multiply(mixing, products), [list(column) for column in columns_of(mixing)])

    def norms(self) -> Vector:
        return norms(self.products())


def identity(n: int) -> Matrix:
    return [[0.0] + [float(i == j) for j in range(n)] for i in range(n)]


def multiply(left: Matrix, right: Matrix) -> Matrix:
    columns = columns_of(right)
    return [
        [ordered_sum(a * b for a, b in zip(row, column, strict=True)) for column in columns]
        for row in left
    ]


def columns_of(rows: Sequence[Sequence[float]]) -> list[tuple[float, ...]]:
    return list(zip(*rows, strict=True))


def ordered_sum(values: Any) -> float:
    total = 0.0
    for value in values:
        total += value
    return total


def exact_sum(values: Any) -> float:
    return float(sum(map(Fraction, values)))


def lower_median(values: Sequence[float]) -> float:
    return sorted(values)[(len(values) - 1) // 2]


def ratio(value: float, to: float) -> float:
    return 1.0 if value == to else value / to if to > 0 else math.inf


def norms(products: Matrix) -> Vector:
    return [math.sqrt(max(0.0, products[i][i])) for i in range(len(products))]


def squared_distances(g: Matrix) -> Matrix:
    n = range(len(g))
    return [[0.0 if i == j else max(0.0, (g[i][i] + g[j][j]) - 2 * g[i][j]) for j in n] for i in n]


def cosines(g: Matrix) -> Matrix:
    long = norms(g)
    return [
        [
            min(1.0, max(-1.0, g[i][j] / (long[i] * long[j]))) if long[i] * long[j] > 0 else 0.0
            for j in range(len(g))
        ]
        for i in range(len(g))
    ]


def nearest(values: Sequence[float], count: int) -> list[int]:
    """Places of the least values, of equal ones the first."""
    left = list(range(len(values)))
    taken = []
    for _ in range(count):
        best = left[0]
        for i in left:
            if values[i] < values[best]:
                best = i
        left.remove(best)
        taken.append(best)
    return sorted(taken)


def millionths(value: float) -> int:
    scaled = value * 1_000_000
    return GREATEST if scaled >= GREATEST else max(0, math.floor(scaled))


def judged(outcome: int, reason: int, score: float, threshold: float) -> Judged:
    return outcome, reason if outcome else 0, millionths(score), millionths(threshold)


# 9.3 Draws


class Words:
    def __init__(self, step: str, contents: Sequence[bytes]) -> None:
        text = b"fedwitness.draws.v1" + step.encode() + b"\x00" + b"".join(contents)
        self.seed, self.drawn = hashlib.sha256(text).digest(), 0

    def word(self) -> int:
        text = self.seed + struct.pack(">Q", self.drawn)
        self.drawn += 1
        return int(struct.unpack(">Q", hashlib.sha256(text).digest()[:8])[0])

    def below(self, bound: int) -> int:
        while True:
            word = self.word()
            if word < 2**64 - 2**64 % bound:
                return word % bound

    def permutation(self, n: int) -> list[int]:
        order = [*range(n)]
        while n > 1:
            n -= 1
            place = self.below(n + 1)
            order[n], order[place] = order[place], order[n]
        return order

    def distinct(self, size: int, bound: int) -> list[int]:
        if size >= bound:
            return [*range(bound)]
        found: list[int] = []
        while len(found) < size:
            drawn = self.below(bound)
            if drawn not in found:
                found.append(drawn)
        return sorted(found)


def words_for(step: str, cohort: Cohort) -> Words:
    return Words(step, [update.content for update in cohort.updates])


# 9.4 Screens


def norm_range(cohort: Cohort, lower: int, upper: int) -> list[Judged]:
    lengths = norms(cohort.products())
    found = []
    for length in lengths:
        share = ratio(length, lower_median(lengths))
        if share < lower / 1e6:
            found.append(judged(REJECTED, 18, share, lower / 1e6))
        else:
            is_far = share > upper / 1e6
            found.append(judged(REJECTED if is_far else ACCEPTED, 18, share, upper / 1e6))
    return found


def distance(a: Sequence[float], b: Sequence[float]) -> float:
    return math.sqrt(exact_sum((x - y) * (x - y) for x, y in zip(a, b, strict=True)))


def sign_clusters(cohort: Cohort) -> list[Judged]:
    size = len(cohort.base)
    points = []
    for update in cohort.updates:
        pairs = list(zip(update.values, cohort.base, strict=True))
        up, down = sum(x > b for x, b in pairs), sum(x < b for x, b in pairs)
        points.append((up / size, down / size, (size - up - down) / size))
    n = len(points)
    reach = min(n, max(2, n // 2))
    bandwidth = exact_sum(sorted(distance(p, q) for q in points)[reach - 1] for p in points) / n
    centres: list[tuple[tuple[float, ...], int]] = []
    for point in points:
        centre, around = shifted(point, points, bandwidth)
        for k, (other, others) in enumerate(centres):
            if distance(centre, other) <= bandwidth:
                if around > others:
                    centres[k] = (centre, around)
                break
        else:
            centres.append((centre, around))
    belongs = [nearest([distance(p, centre) for centre, _ in centres], 1)[0] for p in points]
    largest = nearest([-belongs.count(k) for k in range(len(centres))], 1)[0]
    away = [distance(point, centres[largest][0]) for point in points]
    return [
        judged(ACCEPTED if k == largest else REJECTED, 19, far, bandwidth)
        for k, far in zip(belongs, away, strict=True)
    ]


def shifted(
    centre: tuple[float, ...], points: Sequence[tuple[float, ...]], bandwidth: float
) -> tuple[tuple[float, ...], int]:
    for _ in range(300):
        around = [point for point in points if distance(point, centre) <= bandwidth]
        if not around:
            break
        before, centre = centre, tuple(exact_sum(axis) / len(around) for axis in columns_of(around))
        if distance(centre, before) <= 0.001 * bandwidth:
            break
    return centre, sum(distance(point, centre) <= bandwidth for point in points)


def direction_cluster(cohort: Cohort) -> list[Judged]:
    cosine = cosines(cohort.products())
    n = len(cosine)
    apart = [[min(2.0, max(0.0, 1.0 - value)) for value in row] for row in cosine]
    component = {i: {i} for i in range(n)}
    cluster, radius = {0}, 0.0
    pairs = sorted((apart[i][j], i, j) for i in range(n) for j in range(i + 1, n))
    for far, i, j in pairs:
        joined = component[i] | component[j]
        is_new = component[i] is not component[j]
        for member in joined:
            component[member] = joined
        if is_new and len(joined) > n / 2:
            cluster, radius = joined, far
            break
    found = []
    for i in range(n):
        least = min((apart[i][j] for j in cluster if j != i), default=0.0)
        found.append(judged(ACCEPTED if i in cluster else REJECTED, 20, least, radius))
    return found


def dnc(cohort: Cohort, f: int, iterations: int, coordinates: int) -> list[Judged]:
    draws, n = words_for("dnc", cohort), len(cohort.updates)
    rejected, scores = set[int](), [0.0] * n
    for _ in range(iterations):
        chosen = draws.distinct(coordinates, len(cohort.base))
        sample = [[row[c] for c in chosen] for row in cohort.differences]
        middle = [ordered_sum(column) / n for column in columns_of(sample)]
        centred = [[x - m for x, m in zip(row, middle, strict=True)] for row in sample]
        found = projections([[stretch_product(a, b) for b in centred] for a in centred])
        kept = nearest(found, max(0, n - f))
        rejected |= set(range(n)) - set(kept)
        greatest = max((found[i] for i in kept), default=0.0)
        scores = [max(old, ratio(new, greatest)) for old, new in zip(scores, found, strict=True)]
    return [
        judged(REJECTED if i in rejected else ACCEPTED, 21, score, 1.0)
        for i, score in enumerate(scores)
    ]


def projections(g: Matrix) -> Vector:
    n = range(len(g))
    start = nearest([-g[i][i] for i in n], 1)[0]
    direction = list(g[start])
    for _ in range(100):
        direction = by_greatest(direction)
        direction = [ordered_sum(g[k][i] * direction[k] for k in n) for i in n]
    return [value * value for value in by_greatest(direction)]


def by_greatest(values: Vector) -> Vector:
    greatest = max(map(abs, values))
    return [value / greatest for value in values] if greatest > 0 else values


def sybils(cohort: Cohort, least: int, limit: int) -> list[Judged]:
    g = cohort.products()
    n, long = len(g), norms(g)
    short = [min(1.0, lower_median(long) / one) if one > 0 else 1.0 for one in long]
    p = [[g[i][j] * (short[i] * short[j]) for j in range(n)] for i in range(n)]
    middle = lower_median(long)
    weights = shares([1.0] * n)
    for _ in range(32 if middle > 0 else 0):
        far = from_centre(p, weights)
        weights = shares([1.0 / max(distance, middle * 1e-6) for distance in far])
    row = [ordered_sum([p[i][j] * weights[j] for j in range(n)]) for i in range(n)]
    whole = exact_sum([a * b for a, b in zip(row, weights, strict=True)])
    centred = [[(p[i][j] - (row[i] + row[j])) + whole for j in range(n)] for i in range(n)]
    alike = cosines(centred)
    scores = [max((alike[i][j] for j in range(n) if j != i), default=-1.0) for i in range(n)]
    spared = nearest(scores, min(n, least))
    return [
        judged(ACCEPTED if i in spared or score < limit / 1e6 else REJECTED, 22, score, limit / 1e6)
        for i, score in enumerate(scores)
    ]


SCREENS: Mapping[str, Callable[..., list[Judged]]] = {
    "norm_range": norm_range,
    "sign_clusters": sign_clusters,
    "direction_cluster": direction_cluster,
    "dnc": dnc,
    "sybils": sybils,
}

# 9.5 Transforms


def norm_clipping(rows: Rows, bound: int) -> tuple[Rows, list[Judged]]:
    lengths = rows.norms()
    limit = lower_median(lengths) * (bound / 1e6)
    mixing, found = [], []
    for length, row in zip(lengths, rows.mixing, strict=True):
        scale = limit / length if length > limit else 1.0
        mixing.append([row[0] * scale + (1.0 - scale)] + [value * scale for value in row[1:]])
        outcome = CLIPPED if length > limit else ACCEPTED
        found.append(judged(outcome, 33, ratio(length, limit), 1.0))
    return replace(rows, mixing=mixing), found


def weight_cap(rows: Rows, bound: int) -> tuple[Rows, list[Judged]]:
    limit = lower_median(rows.weights) * (bound / 1e6)
    found = [
        judged(CLIPPED if count > limit else ACCEPTED, 33, ratio(count, limit), 1.0)
        for count in rows.weights
    ]
    return replace(rows, weights=[min(count, limit) for count in rows.weights]), found


def nnm(rows: Rows, f: int) -> tuple[Rows, list[Judged]]:
    distances, size = squared_distances(rows.products()), len(rows.mixing) - f
    mixing = []
    for row in distances:
        chosen = nearest(row, size)
        mixing.append(mean_of([rows.mixing[i] for i in chosen]))
    return replace(rows, mixing=mixing), []


def mean_of(rows: Matrix) -> Vector:
    return [ordered_sum(column) / len(rows) for column in columns_of(rows)]


def bucketing(rows: Rows, size: int) -> tuple[Rows, list[Judged]]:
    order = words_for("bucketing", rows.cohort).permutation(len(rows.mixing))
    buckets = [sorted(order[k : k + size]) for k in range(0, len(order), size)]
    return Rows(
        rows.cohort,
        [mean_of([rows.mixing[i] for i in bucket]) for bucket in buckets],
        [ordered_sum(rows.weights[i] for i in bucket) for bucket in buckets],
        tuple(tuple(sorted(s for i in bucket for s in rows.sources[i])) for bucket in buckets),
    ), []


TRANSFORMS: Mapping[str, Callable[..., tuple[Rows, list[Judged]]]] = {
    "norm_clipping": norm_clipping,
    "weight_cap": weight_cap,
    "nnm": nnm,
    "bucketing": bucketing,
}

# 9.6 Rules: each returns the values, unrounded, and judgements of the rows.

Result = tuple[Vector, list[Judged]]


def linear(rows: Rows, weights: Vector, base: float = 0.0) -> Vector:
    total = [base] + [0.0] * len(rows.cohort.updates)
    for weight, row in zip(weights, rows.mixing, strict=True):
        total = [old + value * weight for old, value in zip(total, row, strict=True)]
    vectors = [rows.cohort.base, *(update.values for update in rows.cohort.updates)]
    divisor = ordered_sum(total)
    return [
        ordered_sum(a * x for a, x in zip(total, column, strict=True)) / divisor
        for column in columns_of(vectors)
    ]


def fed_avg(rows: Rows) -> Result:
    return linear(rows, rows.weights), [SILENT] * len(rows.weights)


def mean(rows: Rows) -> Result:
    return linear(rows, [1.0] * len(rows.weights)), [SILENT] * len(rows.weights)


def krum_scores(distances: Matrix, among: Sequence[int], f: int) -> Vector:
    count = max(1, len(among) - f - 2)
    return [exact_sum(sorted(distances[i][j] for j in among if j != i)[:count]) for i in among]


def krum(rows: Rows, f: int, keep: Callable[[int], int] = lambda _: 1) -> Result:
    n = len(rows.mixing)
    scores = krum_scores(squared_distances(rows.products()), range(n), f)
    taken = nearest(scores, keep(n))
    worst = max(scores[i] for i in taken)
    found = [
        judged(ACCEPTED if i in taken else CLIPPED, 34, ratio(score, worst), 1.0)
        for i, score in enumerate(scores)
    ]
    return linear(rows, [float(i in taken) for i in range(n)]), found


def multi_krum(rows: Rows, f: int) -> Result:
    return krum(rows, f, lambda n: n - f)


def from_centre(g: Matrix, weights: Vector) -> Vector:
    inner = [ordered_sum(a * b for a, b in zip(row, weights, strict=True)) for row in g]
    square = exact_sum(a * b for a, b in zip(inner, weights, strict=True))
    return [math.sqrt(max(0.0, g[i][i] - 2.0 * inner[i] + square)) for i in range(len(g))]


def shares(weights: Vector) -> Vector:
    return [weight / exact_sum(weights) for weight in weights]


def geometric_median(rows: Rows, iterations: int) -> Result:
    g, weights = rows.products(), shares(rows.weights)
    for _ in range(iterations):
        far = from_centre(g, weights)
        weights = shares([w / max(d, 1e-6) for w, d in zip(rows.weights, far, strict=True)])
    far = from_centre(g, weights)
    scores = [ratio(d, lower_median(far)) for d in far]
    found = [judged(CLIPPED if score >= 10 else ACCEPTED, 35, score, 10.0) for score in scores]
    return linear(rows, weights), found


def centred_clipping(rows: Rows, radius: int, iterations: int) -> Result:
    g, n = rows.products(), len(rows.mixing)
    reach = lower_median(norms(g)) * (radius / 1e6)
    centre, far = [0.0] * n, [0.0] * n
    for _ in range(iterations):
        far = from_centre(g, centre)
        scales = [reach / d if d > reach else 1.0 for d in far]
        kept = 1.0 - exact_sum(scales) / n
        centre = [old * kept + scale / n for old, scale in zip(centre, scales, strict=True)]
    found = [judged(CLIPPED if d > reach else ACCEPTED, 33, ratio(d, reach), 1.0) for d in far]
    return linear(rows, centre, 1.0 - exact_sum(centre)), found


def fl_trust(rows: Rows, root: str) -> Result:
    names = [update.name for update in rows.cohort.updates]
    if root not in names:
        raise Unfit
    at, g = names.index(root), rows.products()
    cosine, long = cosines(g)[at], norms(g)
    trust = [max(0.0, value) if i != at else 0.0 for i, value in enumerate(cosine)]
    total = exact_sum(trust)
    if total == 0:
        raise Unfit
    weights = [
        one / total * min(long[at] / length, 1e6) if one else 0.0
        for one, length in zip(trust, long, strict=True)
    ]
    found = [
        judged(ACCEPTED if value > 0 or i == at else CLIPPED, 36, 1.0 - value, 1.0)
        for i, value in enumerate(cosine)
    ]
    return linear(rows, weights, 1.0 - exact_sum(weights)), found


def fools_gold(rows: Rows) -> Result:
    """As the authors' code has it, with zeros for an update and itself."""
    cosine = cosines(rows.products())
    n = range(len(cosine))
    for i in n:
        cosine[i][i] = 0.0
    greatest = [max(row) for row in cosine]
    pardoned = [
        [
            cosine[i][j] * (greatest[i] / greatest[j] if greatest[i] < greatest[j] else 1.0)
            for j in n
        ]
        for i in n
    ]
    alpha = [min(1.0, max(0.0, 1.0 - max(row))) for row in pardoned]
    if max(alpha) == 0:
        raise Unfit
    weights = [logit(value / max(alpha)) for value in alpha]
    if max(weights) == 0:
        raise Unfit
    found = [judged(CLIPPED if w <= 0.1 else ACCEPTED, 35, 1.0 - w, 1.0 - 0.1) for w in weights]
    return linear(rows, weights), found


def logit(alpha: float) -> float:
    alpha = 0.99 if alpha == 1 else alpha
    if alpha == 0:
        return 0.0
    digits = Context(prec=30)
    odds = digits.divide(Decimal(alpha), digits.subtract(Decimal(1), Decimal(alpha)))
    return min(1.0, max(0.0, float(digits.ln(odds)) + 0.5))


def ranked(
    rows: Rows, taken: Sequence[int], average: Callable[[Vector], float], low: int
) -> Result:
    """Average each coordinate's sorted values; the band leaves out `low` at either end."""
    vectors = [rows.cohort.base, *(update.values for update in rows.cohort.updates)]
    values, outside = [], [0] * len(taken)
    for column in columns_of(vectors):
        mixed = [
            ordered_sum(a * x for a, x in zip(rows.mixing[i], column, strict=True)) for i in taken
        ]
        order = sorted(mixed)
        values.append(average(order))
        for place, value in enumerate(mixed):
            outside[place] += not order[low] <= value <= order[-1 - low]
    found = []
    for count in outside:
        share = count / len(values)
        found.append(judged(CLIPPED if share >= 0.9 else ACCEPTED, 32, share, 0.9))
    return values, found


def average(values: Vector) -> float:
    return ordered_sum(values) / len(values)


def middle(order: Vector) -> float:
    return average(order[(len(order) - 1) // 2 : len(order) // 2 + 1])


def median(rows: Rows) -> Result:
    n = len(rows.mixing)
    return ranked(rows, range(n), middle, n // 4)


def trimmed_mean(rows: Rows, f: int) -> Result:
    n = len(rows.mixing)
    return ranked(rows, range(n), lambda order: average(order[f : n - f]), f)


def bulyan(rows: Rows, f: int) -> Result:
    n = len(rows.mixing)
    distances, left, taken = squared_distances(rows.products()), [*range(n)], list[int]()
    while len(taken) < n - 2 * f:
        best = left[nearest(krum_scores(distances, left, f), 1)[0]]
        taken.append(best)
        left.remove(best)
    size = n - 4 * f

    def closest(order: Vector) -> float:
        centre = middle(order)
        runs = [order[k : k + size] for k in range(len(order) - size + 1)]
        far = [max(run[-1] - centre, centre - run[0]) for run in runs]
        return average(runs[nearest(far, 1)[0]])

    taken.sort()
    values, of_taken = ranked(rows, taken, closest, min(f, (n - 2 * f - 1) // 2))
    found = [judged(CLIPPED, 34, n - 2 * f, n - 2 * f)] * n
    for i, one in zip(taken, of_taken, strict=True):
        found[i] = one
    return values, found


RULES: Mapping[str, Callable[..., Result]] = {
    "fed_avg": fed_avg,
    "mean": mean,
    "median": median,
    "trimmed_mean": trimmed_mean,
    "krum": krum,
    "multi_krum": multi_krum,
    "bulyan": bulyan,
    "geometric_median": geometric_median,
    "centred_clipping": centred_clipping,
    "fl_trust": fl_trust,
    "fools_gold": fools_gold,
}
LEAST: Mapping[str, Callable[[Mapping[str, Any]], int]] = {
    "trimmed_mean": lambda p: 2 * p["f"] + 1,
    "krum": lambda p: 2 * p["f"] + 3,
    "multi_krum": lambda p: 2 * p["f"] + 3,
    "bulyan": lambda p: 4 * p["f"] + 3,
    "fl_trust": lambda _: 2,
    "fools_gold": lambda _: 2,
}
LEAST_BEFORE: Mapping[str, Callable[[Mapping[str, Any], int], int]] = {
    "nnm": lambda p, n: max(n, 2 * p["f"] + 1),
    "bucketing": lambda p, n: (n - 1) * p["size"] + 1,
}
UNMEASURED = {
    "sign_clusters", "weight_cap", "bucketing", "fed_avg", "mean", "median", "trimmed_mean"
}  # fmt: skip


def noise(cohort: Cohort, values: Vector, scale: int) -> Vector:
    deviation = lower_median(norms(cohort.products())) * (scale / 1e6)
    seed = words_for("noise", cohort).word()
    return [value + deviation * bell(seed, c) for c, value in enumerate(values)]


def bell(seed: int, coordinate: int) -> float:
    z = (seed + (coordinate + 1) * 0x9E3779B97F4A7C15) % 2**64
    z = (z ^ (z >> 30)) * 0xBF58476D1CE4E5B9 % 2**64
    z = (z ^ (z >> 27)) * 0x94D049BB133111EB % 2**64
    z ^= z >> 31
    parts = sum(struct.unpack("<4H", struct.pack("<Q", z)))
    return float(parts - 131_070) * 2.6429509957766487e-05


def flat(tensors: Mapping[str, Array]) -> tuple[Vector, tuple[tuple[str, int, int], ...]]:
    """Lay tensors behind each other as a file does; -0 is read as 0."""
    values: Vector = []
    runs = []
    for dtype in WIDEST_FIRST:
        begin = len(values)
        for name in sorted(tensors, key=str.encode):
            if tensors[name].dtype.name == dtype:
                values += [float(value) + 0.0 for value in tensors[name].reshape(-1)]
        if len(values) > begin:
            runs.append((dtype, begin, len(values)))
    return values, tuple(runs)


def aggregate(
    steps: Sequence[Step], base: Mapping[str, Array], updates: Sequence[Update], stretch: int
) -> tuple[bytes, list[Judged]]:
    """Return the data section of the model's file and a judgement for each update.

    Raises:
        Unfit: If the updates make no model.
    """
    values, runs = flat(base)
    cohort = Cohort(values, runs, tuple(updates), stretch)
    verdicts, left = [SILENT] * len(updates), list(range(len(updates)))

    def enter(place: int, one: Judged) -> None:
        if one != SILENT and one[0] >= verdicts[place][0]:
            verdicts[place] = one

    def screen(found: list[Judged]) -> None:
        nonlocal cohort, left
        for place, one in zip(left, found, strict=True):
            enter(place, one)
        kept = [i for i, one in enumerate(found) if one[0] != REJECTED]
        left = [left[i] for i in kept]
        cohort = replace(cohort, updates=tuple(cohort.updates[i] for i in kept))
        if not kept:
            raise Unfit

    if {name for name, _ in steps} - UNMEASURED and "float64" in {dtype for dtype, *_ in runs}:
        lengths = norms(cohort.products())
        far = [not length <= LONGEST for length in lengths]
        screen([(REJECTED, 18, GREATEST, GREATEST) if one else SILENT for one in far])
    for name, params in steps:
        if name in SCREENS:
            screen(SCREENS[name](cohort, **params))
    n = len(left)
    rows = Rows(
        cohort,
        identity(n),
        [float(update.weight) for update in cohort.updates],
        tuple((i,) for i in range(n)),
    )
    ((rule, params),) = [step for step in steps if step[0] in RULES]
    least = LEAST[rule](params) if rule in LEAST else 1
    for name, own in reversed(steps):
        least = LEAST_BEFORE[name](own, least) if name in LEAST_BEFORE else least
    if n < least:
        raise Unfit
    for name, own in steps:
        if name in TRANSFORMS:
            sources = rows.sources
            rows, found = TRANSFORMS[name](rows, **own)
            for group, one in zip(sources, found or [SILENT] * len(sources), strict=True):
                for i in group:
                    enter(left[i], one)
    result, found = RULES[rule](rows, **params)
    for group, one in zip(rows.sources, found, strict=True):
        for i in group:
            enter(left[i], one)
    for name, own in steps:
        if name == "noise":
            result = noise(cohort, result, **own)
    return b"".join(
        struct.pack(f"<{end - begin}{CODES[dtype]}", *result[begin:end])
        for dtype, begin, end in runs
    ), verdicts
