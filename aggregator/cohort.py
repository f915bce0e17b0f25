"""The updates of a round as rules see them: flat vectors that are read where they lie.

A canonical file holds its tensors one behind the other, ordered by dtype, so a model is at most
three flat vectors. Each pass cuts them into stretches, hands stretches to threads, and takes the
results in order; so the number of threads changes nothing, and memory is bounded by the stretches
in work and by n x n numbers, never by the models.
"""

import os
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from enum import IntEnum
from pathlib import Path
from typing import Any, TypeVar

import numpy as np

from aggregator.arrays import Doubles, Integers
from aggregator.sorting import network
from chain.errors import InvalidInputError, UnfitRoundError
from chain.files import replacing
from chain.tensors import Array, TensorFile

STRETCH = 1 << 18  # coordinates

_T = TypeVar("_T")


@dataclass(frozen=True, slots=True)
class Member:
    """An update that was admitted.

    Args:
        name: Whose it is: the hospital's address, in `fedwitness aggregate` the file's name.
        weight: How many examples it was learned from.
        content: Its content digest.
        tensors: The open file.
    """

    name: str
    weight: int
    content: bytes
    tensors: TensorFile


class Measure(IntEnum):
    """What a step looks at of updates; each holds what the one before it does."""

    NOTHING = 0
    LENGTHS = 1
    PRODUCTS = 2


@dataclass(frozen=True, slots=True)
class Ranks:
    """Which of a coordinate's sorted values are averaged, counted from 0.

    Args:
        low: The first of them.
        high: Behind the last of them.
        nearest: Where it is not 0, so many values nearest the median are averaged instead.
        band_low: Rank of the lower bound of the band that updates are judged by.
        band_high: Rank of its upper bound.
    """

    low: int
    high: int
    nearest: int
    band_low: int
    band_high: int


@dataclass(frozen=True, slots=True)
class Noise:
    """Noise for every coordinate: `deviation` is its standard deviation."""

    seed: int
    deviation: float


NO_NOISE = Noise(0, 0.0)


@dataclass(frozen=True, slots=True)
class _Stretch:
    """A run of coordinates: of which dtype's vector, from where, and which number is its first."""

    vector: int
    start: int
    stop: int
    first: int


@dataclass(frozen=True, slots=True)
class _Rows:
    """A stretch of base model and updates where kernels find them.

    Args:
        base: The base model's.
        addresses: Where each row begins, int64 (1 + n,), the base model's first.
        kept: What must live as long as its addresses are used.
    """

    base: Array
    addresses: Integers
    kept: Sequence[Array]


class Cohort:
    """The admitted updates over their base model.

    Args:
        base: The base model, without a server optimiser's state.
        members: The updates in the round's order, of the base model's schema.
        threads: How many threads read them; no bit depends on it.

    Raises:
        InvalidInputError: If an update has another schema.
    """

    def __init__(self, base: TensorFile, members: Sequence[Member], threads: int) -> None:
        for member in members:
            if member.tensors.schema != base.schema:
                message = f"{member.name}: expected the tensors of the base model, found others"
                raise InvalidInputError(message)
        self.base = base
        self.members = tuple(members)
        self.threads = threads
        self.vectors = tuple(one.vectors for one in (base, *(m.tensors for m in members)))
        self.coordinates = sum(vector.size for vector in self.vectors[0])
        self._places = [_addresses(rows) for rows in zip(*self.vectors, strict=True)]
        self._products: Doubles | None = None
        self._squares: Doubles | None = None
        self._kernels = _kernels()

    def __len__(self) -> int:
        """Count the updates."""
        return len(self.members)

    @property
    def weights(self) -> Doubles:
        """The example counts, float64 (n,)."""
        return np.array([member.weight for member in self.members], np.float64)

    @property
    def contents(self) -> tuple[bytes, ...]:
        """The content digests, in the round's order."""
        return tuple(member.content for member in self.members)

    def only(self, chosen: Sequence[int]) -> "Cohort":
        """Return a cohort of some of the updates, ascending."""
        cohort = Cohort(self.base, [self.members[i] for i in chosen], self.threads)
        if self._products is not None:
            cohort._products = self._products[np.ix_(chosen, chosen)]
        if self._squares is not None:
            cohort._squares = self._squares[list(chosen)]
        return cohort

    def products(self) -> Doubles:
        """Return the dot products of the updates' differences from the base model.

        Returns:
            float64 (n, n), symmetric; computed once (docs/protocol.md, section 9.2).
        """
        if self._products is None:
            padded = -(-len(self) // 4) * 4
            totals = np.zeros((padded, padded))
            self._add_up(self._kernels.add_products, totals)
            self._products = _mirrored(totals, len(self))
        return self._products

    def squares(self) -> Doubles:
        """Return the squared norms of the updates' differences from the base model.

        Returns:
            float64 (n,), the diagonal of the products; where these are not known, computed without
            them, as it takes far less.
        """
        if self._products is not None:
            return self._products.diagonal()
        if self._squares is None:
            totals = np.zeros(len(self))
            self._add_up(self._kernels.add_squares, totals)
            self._squares = totals
        return self._squares

    def signs(self) -> Integers:
        """Count where updates differ from the base model.

        Returns:
            int64 (n, 2): in how many coordinates an update is above it, and below it.
        """
        totals = np.zeros((len(self), 2), np.int64)
        self._add_up(self._kernels.add_signs, totals)
        return totals

    def sample(self, coordinates: Sequence[int]) -> Doubles:
        """Take some coordinates of the updates' differences from the base model.

        Args:
            coordinates: Ascending numbers below `self.coordinates`.

        Returns:
            float64 (n, number of coordinates).
        """
        numbers = np.array(coordinates, np.int64)
        parts = []
        first = 0
        for k, base in enumerate(self.vectors[0]):
            here = numbers[(numbers >= first) & (numbers < first + base.size)] - first
            updates = [vectors[k][here].astype(np.float64) for vectors in self.vectors[1:]]
            parts.append(np.array(updates) - base[here].astype(np.float64))
            first += base.size
        return np.concatenate(parts, axis=1)

    def write_mean(self, weights: Doubles, out: Path, noise: Noise = NO_NOISE) -> None:
        """Write the weighted mean of base model and updates.

        Args:
            weights: float64 (1 + n,), the base model's first.
            out: A canonical file of the base model's schema; after an error it is as it was.
            noise: Added before the values are rounded to their dtype.

        Raises:
            UnfitRoundError: If a value is not finite.
            OSError: If the disk is full.
        """
        seed = np.uint64(noise.seed)

        def work(addresses: Integers, first: int, target: Array) -> None:
            self._kernels.weighted_mean(addresses, weights, target, seed, first, noise.deviation)

        self._write(work, out)

    def write_sorted(
        self, mixing: Doubles | None, ranks: Ranks, out: Path, noise: Noise = NO_NOISE
    ) -> list[int]:
        """Sort each coordinate's values and write the mean of some of them.

        Args:
            mixing: float64 (m, 1 + n): the weights of base model and updates in each of m
                mixtures, which are sorted in the updates' place; None to sort the updates.
            ranks: Which values are averaged.
            out: A canonical file of the base model's schema; after an error it is as it was.
            noise: Added before the values are rounded to their dtype.

        Returns:
            In how many coordinates each update, or mixture, lies outside the band.

        Raises:
            UnfitRoundError: If a value is not finite.
            OSError: If the disk is full.
        """
        m = len(self) if mixing is None else len(mixing)
        comparators = np.array(network(m, self._kernels.RUN), np.int64).reshape(-1, 2)
        numbers = (ranks.low, ranks.high, ranks.nearest, ranks.band_low, ranks.band_high)
        ranked = np.array(numbers, np.int64)
        seed = np.uint64(noise.seed)

        def work(addresses: Integers, first: int, target: Array) -> Integers:
            outside = np.zeros(m, np.int64)
            tail = (target, seed, first, noise.deviation, outside)
            if mixing is None:
                self._kernels.sorted_mean(addresses[1:], comparators, ranked, *tail)
            else:
                self._kernels.mixed_sorted_mean(addresses, mixing, comparators, ranked, *tail)
            return outside

        counts = np.zeros(m, np.int64)
        for outside in self._write(work, out):
            counts += outside
        return [int(count) for count in counts]

    def _add_up(self, kernel: Callable[..., None], totals: Doubles | Integers) -> None:
        """Add to ``totals`` what a kernel finds in each stretch."""

        def work(stretch: _Stretch) -> Doubles | Integers:
            part = np.zeros_like(totals)
            rows = self._rows(stretch)
            kernel(rows.addresses, rows.base, part)
            return part

        # Updates too long to be measured are left out after this.
        with np.errstate(over="ignore", invalid="ignore"):
            for part in self._map(work):
                np.add(totals, part, out=totals)

    def _write(self, work: Callable[[Integers, int, Array], _T], out: Path) -> list[_T]:
        """Write what `work` makes of each stretch, and return what it returns."""
        schema = self.base.schema
        header = schema.header()
        begins = [len(header) + begin for _, _, begin in schema.vectors()]
        # Nothing is lost with a model that can be aggregated again, so nobody waits for the disk.
        with replacing(out, synced=False) as file:
            file.write(header)
            file.flush()

            def write(stretch: _Stretch) -> tuple[bool, _T]:
                rows = self._rows(stretch)
                values = np.empty_like(rows.base)
                result = work(rows.addresses, stretch.first, values)
                dtype = self.vectors[0][stretch.vector].dtype
                with np.errstate(over="ignore"):  # what is not finite is found below
                    rounded = values.astype(dtype, copy=False)
                _write_at(
                    file.fileno(), rounded, begins[stretch.vector] + stretch.start * dtype.itemsize
                )
                return bool(np.isfinite(rounded).all()), result

            written = list(self._map(write))
            if not all(finite for finite, _ in written):
                message = "the aggregate overflows: some of its values are not finite"
                raise UnfitRoundError(message)
        return [result for _, result in written]

    def _rows(self, stretch: _Stretch) -> _Rows:
        """Return a stretch of base model and updates; float16 as float64, which is exact."""
        cut = slice(stretch.start, stretch.stop)
        base = self.vectors[0][stretch.vector][cut]
        if base.dtype == np.float16:
            widened = [vectors[stretch.vector][cut].astype(np.float64) for vectors in self.vectors]
            return _Rows(widened[0], _addresses(widened), widened)
        return _Rows(base, self._places[stretch.vector] + stretch.start * base.itemsize, ())

    def _map(self, work: Callable[[_Stretch], _T]) -> Iterator[_T]:
        with ThreadPoolExecutor(self.threads) as pool:
            yield from pool.map(work, self._stretches())

    def _stretches(self) -> Iterator[_Stretch]:
        first = 0
        for k, vector in enumerate(self.vectors[0]):
            for start in range(0, vector.size, STRETCH):
                stop = min(start + STRETCH, vector.size)
                yield _Stretch(k, start, stop, first)
                first += stop - start


def _write_at(descriptor: int, values: Array, place: int) -> None:
    """Write all values to a file; threads do so beside each other."""
    left = values.view(np.uint8).data
    while left:
        written = os.pwrite(descriptor, left, place)
        left, place = left[written:], place + written


def _kernels() -> Any:
    """Load the compiled loops when they are needed: most commands aggregate nothing."""
    from aggregator import kernels

    return kernels


def dot_products(rows: Doubles) -> Doubles:
    """Return the dot products of the rows of a small float64 matrix (n, d), as float64 (n, n)."""
    n = len(rows)
    padded = -(-n // 4) * 4
    totals = np.zeros((padded, padded))
    origin = np.zeros(rows.shape[1])
    _kernels().add_products(_addresses([origin, *rows]), origin, totals)
    return _mirrored(totals, n)


def _mirrored(totals: Doubles, n: int) -> Doubles:
    upper = np.triu(totals[:n, :n])
    mirrored: Doubles = upper + np.triu(upper, 1).T
    return mirrored


def _addresses(rows: Sequence[Any]) -> Integers:
    """Return where rows lie; whoever uses the addresses keeps the rows."""
    return np.array([row.ctypes.data for row in rows], np.int64)
