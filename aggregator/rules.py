"""Aggregation rules whose result is the same to the bit on any machine (docs/protocol.md, 9).

A rule reads the admitted updates block by block. What it computes for a coordinate depends on
nothing but that coordinate's values in the canonical order of the updates, so neither the number of
threads nor the order in which blocks are done can change a bit. NumPy's `add`, `multiply` and
`divide` are single IEEE 754 operations for each element; a sum over hospitals is therefore a loop
of such calls, and never `np.sum`, which adds pairwise.
"""

import mmap
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TypeAlias

import numpy as np
import numpy.typing as npt

from aggregator.sorting import sort_rows
from chain.canonical import canonical_json, parse_json
from chain.errors import InvalidInputError, UnfitRoundError
from chain.files import replacing
from chain.tensors import Array, Schema, TensorFile
from chain.types import Outcome, Reason

# A block of 10 float32 updates, sorted in place, still fits into a core's second-level cache.
BLOCK = 16_384  # coordinates
MAX_RULE = 1_024  # bytes of JSON, the contract's bound
MILLION = 1_000_000
TRIM_THRESHOLD = 900_000  # millionths of all coordinates

Doubles: TypeAlias = npt.NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Judgement:
    """What a rule says of one update. ``score`` and ``threshold`` are in millionths."""

    outcome: Outcome
    reason: Reason
    score: int
    threshold: int


KEPT = Judgement(Outcome.ACCEPTED, Reason.NONE, 0, 0)

Aggregate: TypeAlias = Callable[
    [TensorFile, Sequence[TensorFile], Sequence[int], Path, int], tuple[Judgement, ...]
]


@dataclass(frozen=True, slots=True)
class Rule:
    """An aggregation rule with its parameters.

    Args:
        name: What it is called on the ledger.
        params: Its parameters by name.
        least_updates: How many admitted updates it needs.
        aggregate: Called with the base model, the admitted updates ascending by hospital address,
            their weights, the path of the model to write and the number of threads; returns a
            judgement for each update. Raises `UnfitRoundError` where there are too few updates or
            a result is not finite; the file at the path is then of no use.
    """

    name: str
    params: Mapping[str, int]
    least_updates: int
    aggregate: Aggregate

    def to_json(self) -> str:
        """Return the rule as it stands on the ledger, in canonical JSON."""
        return canonical_json({"name": self.name, "params": dict(self.params)}).decode()


def fed_avg() -> Rule:
    """Return the weighted mean of McMahan et al. 2017 (docs/protocol.md, 9)."""

    def aggregate(
        base: TensorFile,
        updates: Sequence[TensorFile],
        weights: Sequence[int],
        out: Path,
        threads: int,
    ) -> tuple[Judgement, ...]:
        _require_updates("fed_avg", len(updates), 1)
        _fold_blocks(partial(_weighted_mean, weights), base, updates, out, threads)
        return (KEPT,) * len(updates)

    return Rule("fed_avg", {}, 1, aggregate)


def trimmed_mean(f: int) -> Rule:
    """Return the coordinate-wise trimmed mean of Yin et al. 2018 (docs/protocol.md, 9).

    Args:
        f: How many values are dropped at either end of each coordinate.

    Raises:
        InvalidInputError: If `f` is not an integer of at least 0.
    """
    if type(f) is not int or f < 0:
        message = f"trimmed_mean needs an integer f of at least 0, found {f!r}"
        raise InvalidInputError(message)

    def aggregate(
        base: TensorFile,
        updates: Sequence[TensorFile],
        weights: Sequence[int],  # noqa: ARG001 - every rule is called alike
        out: Path,
        threads: int,
    ) -> tuple[Judgement, ...]:
        _require_updates(f"trimmed_mean with f={f}", len(updates), 2 * f + 1)
        outside = _fold_blocks(partial(_mean_of_kept, f), base, updates, out, threads)
        coordinates = sum(array.size for array in base.arrays.values())
        return tuple(_judge_trimmed(count, coordinates) for count in outside)

    return Rule("trimmed_mean", {"f": f}, 2 * f + 1, aggregate)


def parse_rule(text: str | bytes) -> Rule:
    """Read a rule from the canonical JSON that is on the ledger.

    Raises:
        InvalidInputError: If it is not canonical JSON, or names an unknown rule or parameter.
    """
    data = text.encode() if isinstance(text, str) else text
    value = parse_json(data, MAX_RULE)
    if canonical_json(value) != data:
        message = f"the rule is not in canonical JSON (RFC 8785): {data!r}"
        raise InvalidInputError(message)
    match value:
        case {"name": "fed_avg", "params": {**params}, **rest} if not params and not rest:
            return fed_avg()
        case {"name": "trimmed_mean", "params": {"f": int(f), **params}, **rest} if (
            not params and not rest
        ):
            return trimmed_mean(f)
    message = (
        'expected {"name":"fed_avg","params":{}} or {"name":"trimmed_mean","params":{"f":F}}, '
        f"found {data.decode()}"
    )
    raise InvalidInputError(message)


@dataclass(frozen=True, slots=True)
class _Folded:
    """One block of the result, float64, and how often each update lies outside what was kept."""

    values: Doubles
    outside: Sequence[int]


_Fold: TypeAlias = Callable[[Sequence[Array]], _Folded]


def _weighted_mean(weights: Sequence[int], columns: Sequence[Array]) -> _Folded:
    total = np.zeros(columns[0].size, np.float64)
    value = np.empty_like(total)
    for weight, column in zip(weights, columns, strict=True):
        np.add(column, 0.0, out=value)
        np.multiply(value, float(weight), out=value)
        np.add(total, value, out=total)
    np.divide(total, float(sum(weights)), out=total)
    return _Folded(total, (0,) * len(columns))


def _mean_of_kept(f: int, columns: Sequence[Array]) -> _Folded:
    kept = sort_rows([_widened(column) for column in columns])[f : len(columns) - f]
    total = np.zeros(columns[0].size, np.float64)
    for row in kept:
        np.add(total, row, out=total)
    np.divide(total, float(len(kept)), out=total)
    outside = [
        int(np.count_nonzero(column < kept[0]) + np.count_nonzero(column > kept[-1]))
        for column in columns
    ]
    return _Folded(total, outside)


def _widened(column: Array) -> Array:
    """Return a copy without negative zeros; float16 as float32, for which NumPy is fast."""
    wide = np.promote_types(column.dtype, np.float32)
    widened: Array = np.add(column, wide.type(0), dtype=wide)
    return widened


def _judge_trimmed(outside: int, coordinates: int) -> Judgement:
    score = outside * MILLION // coordinates
    if score >= TRIM_THRESHOLD:
        return Judgement(Outcome.CLIPPED, Reason.TRIMMED_BY_RULE, score, TRIM_THRESHOLD)
    return Judgement(Outcome.ACCEPTED, Reason.NONE, score, TRIM_THRESHOLD)


def _require_updates(rule: str, found: int, least: int) -> None:
    if found < least:
        message = f"{rule} needs at least {least} admitted updates, found {found}"
        raise UnfitRoundError(message)


def _fold_blocks(
    fold: _Fold, base: TensorFile, updates: Sequence[TensorFile], out: Path, threads: int
) -> list[int]:
    """Write the folded blocks to `out`; memory is bounded by the blocks in work."""
    with _new_tensors(out, base.schema) as model, ThreadPoolExecutor(threads) as pool:

        def work(block: tuple[str, int]) -> tuple[bool, Sequence[int]]:
            name, start = block
            with np.errstate(all="ignore"):  # a value that is not finite is found below
                folded = fold([_cut(update, name, start) for update in updates])
                target = _cut(model, name, start)
                target[:] = folded.values
            return bool(np.isfinite(target).all()), folded.outside

        outside = [0] * len(updates)
        finite = True
        for block_finite, counts in pool.map(work, _blocks(base)):
            finite = finite and block_finite
            outside = [a + b for a, b in zip(outside, counts, strict=True)]
        if not finite:
            message = "the aggregate overflows: some of its values are not finite"
            raise UnfitRoundError(message)
    return outside


@contextmanager
def _new_tensors(path: Path, schema: Schema) -> Iterator[TensorFile]:
    """Map a new canonical file for writing; it takes its name when the block ends well."""
    with replacing(path) as file:
        file.write(schema.header())
        file.flush()
        # Without the space reserved, a full disk would end the process at a write to the map.
        os.posix_fallocate(file.fileno(), 0, schema.file_size())
        with TensorFile(schema, mmap.mmap(file.fileno(), schema.file_size())) as tensors:
            yield tensors


def _blocks(base: TensorFile) -> Iterator[tuple[str, int]]:
    for name, array in base.arrays.items():
        for start in range(0, array.size, BLOCK):
            yield name, start


def _cut(tensors: TensorFile, name: str, start: int) -> Array:
    """Return one block of a tensor, flattened row by row, as a view."""
    return tensors.arrays[name].reshape(-1)[start : start + BLOCK]
