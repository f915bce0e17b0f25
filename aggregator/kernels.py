"""The loops over a model's parameters, compiled (docs/protocol.md, section 9.2).

Every loop takes the updates as addresses of flat vectors, so that mapped files are read where they
lie, works on a tile of coordinates that fits into a core's cache, and writes its results once. No
operation is fused or reassociated: what is computed for a coordinate depends on nothing but that
coordinate's values, and sums over coordinates keep to eight lanes in a fixed order. So the bits
depend neither on the processor nor on the number of threads.

Callers own the memory behind the addresses and answer for its length: `aggregator.cohort`.
"""

import os
from collections.abc import Callable
from hashlib import sha256
from pathlib import Path
from typing import Any, Final

import llvmlite
import numba
import numpy as np
from numba import carray, config, njit, types

from aggregator.arrays import Doubles, Integers
from aggregator.lanes import (
    LANES,
    RUN,
    VECTOR_BYTES,
    add,
    add_product,
    add_up,
    count_outside,
    divide,
    fold,
    load,
    none_counted,
    pointer,
    prefetch,
    sort_run,
    spread,
    store,
    zeros,
)

BLOCK: Final = 256  # coordinates: a sum's lanes are folded after each block
_TILE: Final = 128  # columns that are averaged or sorted at once
_AHEAD: Final = 4  # tiles
_CACHE_LINE: Final = 64  # bytes
_NEAREST_OFF: Final = 0

# Of the sum of four 16-bit integers: its mean, and 1 / sqrt(4 (2^32 - 1) / 12).
_NOISE_MEAN: Final = 131_070.0
_NOISE_SCALE: Final = 2.6429509957766487e-05
_WEYL: Final = np.uint64(0x9E3779B97F4A7C15)
_MIX_1: Final = np.uint64(0xBF58476D1CE4E5B9)
_MIX_2: Final = np.uint64(0x94D049BB133111EB)
_LOW: Final = np.uint64(0xFFFF)

_ADDRESSES = types.int64[::1]
_DOUBLES = types.float64[::1]
_MATRIX = types.float64[:, ::1]
_COUNTS = types.int64[::1]
_PAIRS = types.int64[:, ::1]
_INT = types.int64
_FLOATS = (types.float32[::1], types.float64[::1])
_MAPPED = tuple(types.Array(one.dtype, 1, "C", readonly=True) for one in _FLOATS)


def _cache_folder() -> Path:
    """Return where compiled loops are kept: a folder for each version of what they are made of.

    numba looks at the file of a function alone, so it would not notice a change in
    `aggregator.lanes` or an upgrade of its own, and would go on with other bits.
    """
    digest = sha256(f"{numba.__version__} {llvmlite.__version__}".encode())
    here = Path(__file__)
    for name in ("kernels.py", "lanes.py", "sorting.py"):
        digest.update(sha256((here.parent / name).read_bytes()).digest())
    if config.CACHE_DIR:
        root = Path(config.CACHE_DIR)
    elif os.access(here.parent, os.W_OK):
        root = here.parent / "__pycache__"
    else:
        root = Path.home() / ".cache" / "fedwitness"
    return root / f"kernels-{digest.hexdigest()[:16]}"


def _compiled(*signatures: Any) -> Callable[[Any], Any]:
    """Compile for these types when the module is imported, or load what was compiled before."""

    def compile_now(function: Any) -> Any:
        before, config.CACHE_DIR = config.CACHE_DIR, str(_CACHE)
        try:
            kernel = njit(list(signatures), cache=True, nogil=True, error_model="numpy")
            return kernel(function)
        finally:
            config.CACHE_DIR = before

    return compile_now


_CACHE = _cache_folder()


_inlined = njit(error_model="numpy", inline="always")


@_inlined
def _ask_ahead(begin: int, size: int) -> None:
    """Have a row's bytes in the cache by the time that they are read, a few tiles after this one.

    Processors themselves do not look past a page.
    """
    for place in range(begin + _AHEAD * size, begin + (_AHEAD + 1) * size, _CACHE_LINE):
        prefetch(place)


@_inlined
def _take_difference(
    addresses: Integers, i: int, like: Any, start: int, count: int, row: Doubles
) -> None:
    """Write a block of an update's difference from the base model, filled up with zeros."""
    skip = start * like.itemsize
    base = carray(pointer(addresses[0] + skip, like), (count,))
    _ask_ahead(addresses[i + 1] + skip, BLOCK * like.itemsize)
    update = carray(pointer(addresses[i + 1] + skip, like), (count,))
    for t in range(count):
        row[t] = np.float64(update[t]) - np.float64(base[t])
    for t in range(count, BLOCK):
        row[t] = 0.0


@_inlined
def _noise(seed: Any, coordinate: int) -> float:
    """Return a value of mean 0 and deviation 1, near normal: four uniform values added up.

    The generator is SplitMix64 (Steele, Lea and Flood 2014) at the coordinate's place.
    """
    bits = seed + (np.uint64(coordinate) + np.uint64(1)) * _WEYL
    bits = (bits ^ (bits >> np.uint64(30))) * _MIX_1
    bits = (bits ^ (bits >> np.uint64(27))) * _MIX_2
    bits = bits ^ (bits >> np.uint64(31))
    total = (
        (bits & _LOW)
        + ((bits >> np.uint64(16)) & _LOW)
        + ((bits >> np.uint64(32)) & _LOW)
        + (bits >> np.uint64(48))
    )
    return (np.float64(total) - _NOISE_MEAN) * _NOISE_SCALE


@_inlined
def _write(values: Doubles, out: Any, seed: Any, first: int, deviation: float) -> None:
    if deviation != 0.0:
        for t in range(out.size):
            values[t] += deviation * _noise(seed, first + t)
    for t in range(out.size):
        out[t] = values[t]


@_inlined
def _used_columns(weights: Doubles) -> tuple[Integers, Integers]:
    """Return for each four rows of weights the columns that are not all zero, and how many."""
    groups = weights.shape[0] // 4
    columns = np.zeros((groups, weights.shape[1]), np.int64)
    counts = np.zeros(groups, np.int64)
    for group in range(groups):
        for k in range(weights.shape[1]):
            if np.any(weights[4 * group : 4 * group + 4, k] != 0.0):
                columns[group, counts[group]] = k
                counts[group] += 1
    return columns, counts


@_inlined
def _mix(
    vectors: Doubles, weights: Doubles, columns: Integers, counts: Integers, mixtures: Doubles
) -> None:
    """Write each row of weights times the vectors, four rows at once; products add up in order.

    What is left out for its zero weights would have added zeros.
    """
    for i in range(0, weights.shape[0], 4):
        used = columns[i // 4, : counts[i // 4]]
        row_0, row_1, row_2, row_3 = mixtures[i], mixtures[i + 1], mixtures[i + 2], mixtures[i + 3]
        for t in range(0, _TILE, 8):
            sum_0, sum_1, sum_2, sum_3 = zeros(), zeros(), zeros(), zeros()
            for k in used:
                value = load(vectors[k], t)
                sum_0 = add_product(sum_0, spread(weights[i, k]), value)
                sum_1 = add_product(sum_1, spread(weights[i + 1, k]), value)
                sum_2 = add_product(sum_2, spread(weights[i + 2, k]), value)
                sum_3 = add_product(sum_3, spread(weights[i + 3, k]), value)
            store(row_0, t, sum_0)
            store(row_1, t, sum_1)
            store(row_2, t, sum_2)
            store(row_3, t, sum_3)


@_inlined
def _sort_columns(rows: Any, ordered: Any, comparators: Integers) -> None:
    """Sort each column: runs of 16 rows in registers, then the comparators that merge the runs."""
    flat, result = rows.reshape(-1), ordered.reshape(-1)
    for first in range(0, flat.size, RUN * _TILE):
        for column in range(0, _TILE, VECTOR_BYTES // rows.itemsize):
            sort_run(flat, result, first + column, _TILE)
    for c in range(comparators.shape[0]):
        lower, upper = ordered[comparators[c, 0]], ordered[comparators[c, 1]]
        for t in range(_TILE):
            a, b = lower[t], upper[t]
            lower[t] = min(b, a)
            upper[t] = max(a, b)


@_inlined
def _mean_of_rows(rows: Any, low: int, high: int, values: Doubles) -> None:
    flat = rows.reshape(-1)
    count = spread(np.float64(high - low))
    for t in range(0, _TILE, LANES):
        total = zeros()
        for place in range(low * _TILE + t, high * _TILE, _TILE):
            total = add(total, load(flat, place))
        store(values, t, divide(total, count))


@_inlined
def _mean_of_nearest(rows: Any, nearest: int, values: Doubles) -> None:
    """Average each column's run of ``nearest`` values that lie closest to its median."""
    n = rows.shape[0]
    middle = np.empty(_TILE, np.float64)
    _mean_of_rows(rows, (n - 1) // 2, n // 2 + 1, middle)
    first = np.zeros(_TILE, np.int64)
    reach = np.empty(_TILE, np.float64)
    reach[:] = np.inf
    for start in range(n - nearest + 1):
        below, above = rows[start], rows[start + nearest - 1]
        for t in range(_TILE):
            down = middle[t] - np.float64(below[t])
            up = np.float64(above[t]) - middle[t]
            far = max(up, down)
            closer = far < reach[t]
            reach[t] = far if closer else reach[t]
            first[t] = np.int64(start) if closer else first[t]
    values[:] = 0.0
    for i in range(n):
        row = rows[i]
        for t in range(_TILE):
            inside = (first[t] <= i) & (i < first[t] + nearest)
            values[t] += np.float64(row[t]) if inside else 0.0
    for t in range(_TILE):
        values[t] /= np.float64(nearest)


@_inlined
def _average_sorted(
    rows: Any, ordered: Any, n: int, comparators: Integers, ranks: Integers, values: Doubles
) -> None:
    """Sort each column's first ``n`` values, and average those that the ranks say."""
    low, high, nearest = ranks[0], ranks[1], ranks[2]
    _sort_columns(rows, ordered, comparators)
    if nearest == _NEAREST_OFF:
        _mean_of_rows(ordered, low, high, values)
    else:
        _mean_of_nearest(ordered[:n], nearest, values)


@_inlined
def _add_outside(rows: Any, ordered: Any, ranks: Integers, outside: Integers) -> None:
    """Count for each row its values outside the band that two ranks of the sorted ones bound."""
    flat, sorted_flat = rows.reshape(-1), ordered.reshape(-1)
    low, high = ranks[3] * _TILE, ranks[4] * _TILE
    for i in range(outside.size):
        counts = none_counted()
        for t in range(0, _TILE, LANES):
            counts = count_outside(counts, flat, i * _TILE + t, sorted_flat, low + t, high + t)
        outside[i] += add_up(counts)


@_compiled(*(types.void(_ADDRESSES, mapped, _MATRIX) for mapped in _MAPPED))
def add_products(addresses: Integers, like: Any, totals: Doubles) -> None:
    """Add the dot products of the updates' differences from the base model to ``totals``.

    Args:
        addresses: int64 (1 + n,): the base model, then n updates.
        like: Any vector of their dtype and length.
        totals: float64 (p, p) where p is n rounded up to a multiple of 4. Only the entries [i, j]
            with i <= j < n mean anything afterwards.
    """
    padded = totals.shape[0]
    length = like.size
    raw = np.zeros(padded * BLOCK + 8, np.float64)
    skip = ((64 - (raw.ctypes.data & 63)) & 63) >> 3  # to a cache line's start
    rows = raw[skip : skip + padded * BLOCK].reshape(padded, BLOCK)
    for start in range(0, length, BLOCK):
        count = min(BLOCK, length - start)
        for i in range(addresses.size - 1):
            _take_difference(addresses, i, like, start, count, rows[i])
        # Four rows stay in the first-level cache while the others pass by in pairs.
        for j in range(0, padded, 4):
            right_0, right_1, right_2, right_3 = rows[j], rows[j + 1], rows[j + 2], rows[j + 3]
            for i in range(0, min(j + 4, addresses.size - 1), 2):
                left_0, left_1 = rows[i], rows[i + 1]
                sum_00, sum_01, sum_02, sum_03 = zeros(), zeros(), zeros(), zeros()
                sum_10, sum_11, sum_12, sum_13 = zeros(), zeros(), zeros(), zeros()
                for t in range(0, BLOCK, 8):
                    a, b = load(left_0, t), load(left_1, t)
                    c, d = load(right_0, t), load(right_1, t)
                    e, f = load(right_2, t), load(right_3, t)
                    sum_00, sum_10 = add_product(sum_00, a, c), add_product(sum_10, b, c)
                    sum_01, sum_11 = add_product(sum_01, a, d), add_product(sum_11, b, d)
                    sum_02, sum_12 = add_product(sum_02, a, e), add_product(sum_12, b, e)
                    sum_03, sum_13 = add_product(sum_03, a, f), add_product(sum_13, b, f)
                totals[i, j] += fold(sum_00)
                totals[i, j + 1] += fold(sum_01)
                totals[i, j + 2] += fold(sum_02)
                totals[i, j + 3] += fold(sum_03)
                totals[i + 1, j] += fold(sum_10)
                totals[i + 1, j + 1] += fold(sum_11)
                totals[i + 1, j + 2] += fold(sum_12)
                totals[i + 1, j + 3] += fold(sum_13)


@_compiled(*(types.void(_ADDRESSES, mapped, _DOUBLES) for mapped in _MAPPED))
def add_squares(addresses: Integers, like: Any, totals: Doubles) -> None:
    """Add the products of the updates' differences with themselves to ``totals``.

    The same bits as the diagonal of ``add_products``, for what one pass over the updates takes.

    Args:
        addresses: int64 (1 + n,): the base model, then n updates.
        like: Any vector of their dtype and length.
        totals: float64 (n,).
    """
    length = like.size
    row = np.empty(BLOCK, np.float64)
    for start in range(0, length, BLOCK):
        count = min(BLOCK, length - start)
        for i in range(addresses.size - 1):
            _take_difference(addresses, i, like, start, count, row)
            sums = zeros()
            for t in range(0, BLOCK, 8):
                value = load(row, t)
                sums = add_product(sums, value, value)
            totals[i] += fold(sums)


@_compiled(*(types.void(_ADDRESSES, mapped, _PAIRS) for mapped in _MAPPED))
def add_signs(addresses: Integers, like: Any, counts: Integers) -> None:
    """Count the coordinates in which each update is above and below the base model.

    Args:
        addresses: int64 (1 + n,): the base model, then n updates.
        like: Any vector of their dtype and length.
        counts: int64 (n, 2), added to: how many are above, how many below.
    """
    length = like.size
    for start in range(0, length, _TILE):
        count = min(_TILE, length - start)
        skip = start * like.itemsize
        base = carray(pointer(addresses[0] + skip, like), (count,))
        for i in range(addresses.size - 1):
            _ask_ahead(addresses[i + 1] + skip, _TILE * like.itemsize)
            update = carray(pointer(addresses[i + 1] + skip, like), (count,))
            above = np.int32(0)
            below = np.int32(0)
            for t in range(count):
                above += np.int32(update[t] > base[t])
                below += np.int32(update[t] < base[t])
            counts[i, 0] += above
            counts[i, 1] += below


@_compiled(
    *(
        types.void(_ADDRESSES, _DOUBLES, floats, types.uint64, _INT, types.float64)
        for floats in _FLOATS
    )
)
def weighted_mean(
    addresses: Integers, weights: Doubles, out: Any, seed: Any, first: int, deviation: float
) -> None:
    """Write the weighted mean of vectors, with noise of a standard deviation where it is not 0.

    Args:
        addresses: int64 (n,): the vectors.
        weights: float64 (n,). A vector whose weight is 0 is not read.
        out: Of their dtype and length.
        seed: uint64 of the noise.
        first: Number of the first coordinate, for the noise.
        deviation: Standard deviation of the noise.
    """
    length = out.size
    values = np.empty(_TILE, np.float64)
    total = 0.0
    for weight in weights:
        total += weight
    used = np.flatnonzero(weights)
    read = weights[used]
    fours = used.size - used.size % 4
    for start in range(0, length, _TILE):
        count = min(_TILE, length - start)
        values[:] = 0.0
        begins = addresses[used] + start * out.itemsize
        # Four at once: sums are loaded and stored a quarter as often, and add up in the same order.
        for i in range(0, fours, 4):
            for k in range(i, i + 4):
                _ask_ahead(begins[k], _TILE * out.itemsize)
            row_0 = carray(pointer(begins[i], out), (count,))
            row_1 = carray(pointer(begins[i + 1], out), (count,))
            row_2 = carray(pointer(begins[i + 2], out), (count,))
            row_3 = carray(pointer(begins[i + 3], out), (count,))
            w_0, w_1, w_2, w_3 = read[i], read[i + 1], read[i + 2], read[i + 3]
            for t in range(count):
                both = values[t] + w_0 * np.float64(row_0[t]) + w_1 * np.float64(row_1[t])
                values[t] = both + w_2 * np.float64(row_2[t]) + w_3 * np.float64(row_3[t])
        for i in range(fours, used.size):
            _ask_ahead(begins[i], _TILE * out.itemsize)
            row = carray(pointer(begins[i], out), (count,))
            for t in range(count):
                values[t] += read[i] * np.float64(row[t])
        for t in range(count):
            values[t] /= total
        _write(values, out[start : start + count], seed, first + start, deviation)


@_compiled(
    *(
        types.void(_ADDRESSES, _PAIRS, _COUNTS, floats, types.uint64, _INT, types.float64, _COUNTS)
        for floats in _FLOATS
    )
)
def sorted_mean(
    addresses: Integers,
    comparators: Integers,
    ranks: Integers,
    out: Any,
    seed: Any,
    first: int,
    deviation: float,
    outside: Integers,
) -> None:
    """Sort each coordinate's values and write the mean of some of them.

    Args:
        addresses: int64 (n,): the vectors.
        comparators: int64 (k, 2): what merges sorted runs of 16 (`aggregator.sorting`).
        ranks: int64 (5,): low and high, the mean of the sorted values [low, high) is written;
            nearest, where it is not 0 the mean of so many values nearest the median is written
            instead; band_low and band_high, the ranks whose values bound the band.
        out: Of their dtype and length.
        seed: uint64 of the noise.
        first: Number of the first coordinate, for the noise.
        deviation: Standard deviation of the noise.
        outside: int64 (n,), added to: in how many coordinates a vector lies outside the band.
    """
    n = addresses.size
    # Whole runs; what fills the last one up stays behind all updates.
    rows = np.full((-(-n // RUN) * RUN, _TILE), np.inf, out.dtype)
    ordered = np.empty_like(rows)
    values = np.empty(_TILE, np.float64)
    for start in range(0, out.size, _TILE):
        count = min(_TILE, out.size - start)
        for i in range(n):
            begin = addresses[i] + start * out.itemsize
            _ask_ahead(begin, _TILE * out.itemsize)
            vector = carray(pointer(begin, out), (count,))
            row = rows[i]
            for t in range(count):
                row[t] = vector[t] + out.dtype.type(0)  # a negative zero becomes zero
            for t in range(count, _TILE):
                row[t] = 0  # alike in all rows, so outside no band
        _average_sorted(rows, ordered, n, comparators, ranks, values)
        _write(values, out[start : start + count], seed, first + start, deviation)
        _add_outside(rows, ordered, ranks, outside)


@_compiled(
    *(
        types.void(
            _ADDRESSES,
            _MATRIX,
            _PAIRS,
            _COUNTS,
            floats,
            types.uint64,
            _INT,
            types.float64,
            _COUNTS,
        )
        for floats in _FLOATS
    )
)
def mixed_sorted_mean(
    addresses: Integers,
    mixing: Doubles,
    comparators: Integers,
    ranks: Integers,
    out: Any,
    seed: Any,
    first: int,
    deviation: float,
    outside: Integers,
) -> None:
    """Mix vectors, then sort and average the mixtures as `sorted_mean` does.

    Args:
        addresses: int64 (n,): the vectors.
        mixing: float64 (m, n): each row the weights of one mixture.
        comparators: For m values.
        ranks: As for `sorted_mean`.
        out: As there.
        seed: As there.
        first: As there.
        deviation: As there.
        outside: int64 (m,), of the mixtures.
    """
    m = mixing.shape[0]
    padded = -(-m // 4) * 4
    weights = np.zeros((padded, addresses.size), np.float64)
    weights[:m] = mixing
    columns, counts = _used_columns(weights)
    vectors = np.zeros((addresses.size, _TILE), np.float64)
    rows = np.full((-(-m // RUN) * RUN, _TILE), np.inf, np.float64)
    ordered = np.empty_like(rows)
    values = np.empty(_TILE, np.float64)
    for start in range(0, out.size, _TILE):
        count = min(_TILE, out.size - start)
        for k in range(addresses.size):
            begin = addresses[k] + start * out.itemsize
            _ask_ahead(begin, _TILE * out.itemsize)
            vector = carray(pointer(begin, out), (count,))
            wide = vectors[k]
            for t in range(count):
                wide[t] = np.float64(vector[t])
            for t in range(count, _TILE):
                wide[t] = 0.0  # as in `sorted_mean`
        _mix(vectors, weights, columns, counts, rows)
        rows[m:padded] = np.inf
        _average_sorted(rows, ordered, m, comparators, ranks, values)
        _write(values, out[start : start + count], seed, first + start, deviation)
        _add_outside(rows, ordered, ranks, outside)
