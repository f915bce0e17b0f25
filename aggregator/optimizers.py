"""Server optimisers: how far the model follows what a rule made of the updates.

A rule's result says where the hospitals went. An optimiser takes the way there from the base
model, Δ, for a gradient and makes a step of its own (docs/protocol.md, section 9.7). What it
remembers from round to round, a momentum `m` and a second moment `v`, are tensors of the model
itself whose names begin `server.`, so that whatever vouches for a model vouches for them too.

An optimiser computes each coordinate from that coordinate alone, by single IEEE 754 operations in
float64 in the order that is written here. Neither threads nor blocks can change a bit.
"""

import math
import mmap
import os
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from types import MappingProxyType
from typing import Final, TypeAlias

import numpy as np

from aggregator.arrays import Doubles
from aggregator.judgement import MILLION
from aggregator.params import require_integer
from chain.errors import InvalidInputError, UnfitRoundError
from chain.files import replacing
from chain.schema import Schema, state_name
from chain.tensors import Array, TensorFile

BLOCK = 1 << 17  # coordinates
_RATES = range(1, 1_000_000_001)  # millionths: learning rates and tau
_SHARES = range(MILLION)  # millionths: momenta

_Params: TypeAlias = Mapping[str, int]
_State: TypeAlias = Mapping[str, Doubles]  # by kind: `m`, `v`


@dataclass(frozen=True, slots=True)
class Optimizer:
    """A server optimiser with its parameters.

    Args:
        name: What it is called on the ledger.
        params: Its parameters by name, in millionths.

    Raises:
        InvalidInputError: If there is no such optimiser, a parameter is missing or unknown, or one
            is not an integer within its bounds.
    """

    name: str
    params: Mapping[str, int]

    def __post_init__(self) -> None:
        """Refuse what no round can be run with, and keep the parameters from changing."""
        if self.name not in _METHODS:
            message = f"expected an optimiser, one of {sorted(_METHODS)}, found {self.name!r}"
            raise InvalidInputError(message)
        bounds = _METHODS[self.name].bounds
        if self.params.keys() != bounds.keys():
            message = f"{self.name} has the parameters {sorted(bounds)}, found {list(self.params)}"
            raise InvalidInputError(message)
        for key, value in self.params.items():
            require_integer(self.name, key, value, bounds[key].start, bounds[key].stop - 1)
        object.__setattr__(self, "params", MappingProxyType(dict(self.params)))

    @property
    def state(self) -> tuple[str, ...]:
        """The kinds of state that it keeps, one of `chain.tensors.STATES`."""
        return _METHODS[self.name].state

    def model_schema(self, base: Schema) -> Schema:
        """Describe the models that it makes from a base model, with or without state.

        Raises:
            InvalidInputError: If no canonical file can hold the state beside the model, such as
                where a tensor's name is too long to get a prefix.
        """
        return base.trained().with_state(self.state)


def fed_avg_m(learning_rate: int, momentum: int) -> Optimizer:
    """Return the averaging with momentum of Hsu, Qi and Brown 2019 (arXiv:1909.06335).

    m ← μ·m + Δ, then x ← x + η·m, from m = 0.

    Args:
        learning_rate: η in millionths.
        momentum: μ in millionths, below 1,000,000.

    Raises:
        InvalidInputError: If a parameter is out of bounds.
    """
    return Optimizer("fed_avg_m", {"learning_rate": learning_rate, "momentum": momentum})


def fed_adagrad(learning_rate: int, tau: int) -> Optimizer:
    """Return FedAdagrad of Reddi et al. 2021, algorithm 2, with β₁ = 0 as in the paper.

    v ← v + Δ², then x ← x + η·Δ / (√v + τ), from v = τ².

    Args:
        learning_rate: η in millionths.
        tau: τ in millionths; it bounds how far a small Δ is blown up.

    Raises:
        InvalidInputError: If a parameter is out of bounds.
    """
    return Optimizer("fed_adagrad", {"learning_rate": learning_rate, "tau": tau})


def fed_adam(learning_rate: int, beta1: int, beta2: int, tau: int) -> Optimizer:
    """Return FedAdam of Reddi et al. 2021, algorithm 2, which corrects no bias.

    m ← β₁·m + (1 - β₁)·Δ and v ← β₂·v + (1 - β₂)·Δ², then x ← x + η·m / (√v + τ), from m = 0 and
    v = τ².

    Args:
        learning_rate: η in millionths.
        beta1: β₁ in millionths, below 1,000,000.
        beta2: β₂ in millionths, below 1,000,000.
        tau: τ in millionths.

    Raises:
        InvalidInputError: If a parameter is out of bounds.
    """
    return Optimizer("fed_adam", _adaptive(learning_rate, beta1, beta2, tau))


def fed_yogi(learning_rate: int, beta1: int, beta2: int, tau: int) -> Optimizer:
    """Return FedYogi of Reddi et al. 2021, algorithm 2.

    It is FedAdam but for v ← v - (1 - β₂)·Δ²·sign(v - Δ²), which forgets a large Δ more slowly.

    Args:
        learning_rate: η in millionths.
        beta1: β₁ in millionths, below 1,000,000.
        beta2: β₂ in millionths, below 1,000,000.
        tau: τ in millionths.

    Raises:
        InvalidInputError: If a parameter is out of bounds.
    """
    return Optimizer("fed_yogi", _adaptive(learning_rate, beta1, beta2, tau))


def apply(
    optimizer: Optimizer, base: TensorFile, aggregate: TensorFile, out: Path, threads: int
) -> None:
    """Make a step from the base model, and write the new model with the new state.

    The state is that of the base model if this holds exactly the kinds that the optimiser keeps,
    for every trained tensor and in the right shape and dtype; otherwise, as in a task's first
    round or after another optimiser, it is that of a first step. Model and state are computed from
    values that are not rounded yet, and each is rounded once. Memory is bounded by the blocks in
    work.

    Args:
        optimizer: The optimiser.
        base: The round's base model, with or without state.
        aggregate: What the rule made of the updates: the base model's trained part.
        out: The canonical file that is written; after an error it is as it was.
        threads: How many threads compute; no bit depends on it.

    Raises:
        UnfitRoundError: If a value of the model or the state is not finite, or no canonical file
            holds the state.
        InvalidInputError: If the aggregate is of other tensors than the base model's trained part.
        OSError: If the disk is full.
    """
    trained = base.schema.trained()
    if aggregate.schema != trained:
        message = (
            f"expected an aggregate of the schema {trained.digest().hex()}, found "
            f"{aggregate.schema.digest().hex()}"
        )
        raise InvalidInputError(message)
    try:
        schema = optimizer.model_schema(trained)
    except InvalidInputError as error:
        message = f"{optimizer.name} cannot keep its state in this model: {error}"
        raise UnfitRoundError(message) from error
    remembers = base.schema == schema
    with _new_tensors(out, schema) as model, ThreadPoolExecutor(threads) as pool:
        step = partial(_step_block, optimizer, base, aggregate, model, remembers)
        if not all(list(pool.map(step, _blocks(trained)))):
            message = (
                f"{optimizer.name} makes values that are not finite: its step overflows, or the "
                "base model holds a state that no step leaves behind"
            )
            raise UnfitRoundError(message)


@contextmanager
def _new_tensors(path: Path, schema: Schema) -> Iterator[TensorFile]:
    """Map a new canonical file for writing; it takes its name when the block ends well."""
    # Nothing is lost with a model that can be aggregated again, so nobody waits for the disk.
    with replacing(path, synced=False) as file:
        file.write(schema.header())
        file.flush()
        # Without the space reserved, a full disk would end the process at a write to the map.
        os.posix_fallocate(file.fileno(), 0, schema.file_size())
        with TensorFile(schema, mmap.mmap(file.fileno(), schema.file_size())) as tensors:
            yield tensors


def _step_block(
    optimizer: Optimizer,
    base: TensorFile,
    aggregate: TensorFile,
    model: TensorFile,
    remembers: bool,
    block: tuple[str, int],
) -> bool:
    """Compute one block of the model and its state, and tell whether it is finite."""
    name, start = block
    method = _METHODS[optimizer.name]
    names = {kind: state_name(kind, name) for kind in method.state}
    with np.errstate(all="ignore"):  # a value that is not finite is found below
        before = _doubles(_cut(base, name, start))
        delta = _doubles(_cut(aggregate, name, start)) - before
        if remembers:
            state = {kind: _doubles(_cut(base, key, start)) for kind, key in names.items()}
        else:
            state = _first_state(optimizer.params, before.size)
        way, after = method.step(optimizer.params, delta, state)
        written = [_cut(model, name, start)]
        written[0][:] = before + way
        for kind, key in names.items():
            written.append(_cut(model, key, start))
            written[-1][:] = after[kind]
    return all(bool(np.isfinite(values).all()) for values in written)


def _first_state(params: _Params, size: int) -> dict[str, Doubles]:
    """Return the state before the first step: a momentum of 0, a second moment of τ²."""
    tau = _decimal(params.get("tau", 0))
    return {"m": np.zeros(size), "v": np.full(size, tau * tau)}


_Step: TypeAlias = Callable[[_Params, Doubles, _State], tuple[Doubles, _State]]


def _fed_avg_m(params: _Params, delta: Doubles, state: _State) -> tuple[Doubles, _State]:
    momentum = _decimal(params["momentum"]) * state["m"] + delta
    return _decimal(params["learning_rate"]) * momentum, {"m": momentum}


def _fed_adagrad(params: _Params, delta: Doubles, state: _State) -> tuple[Doubles, _State]:
    second = state["v"] + delta * delta
    return _adapted(params, delta, second), {"v": second}


def _fed_adam(params: _Params, delta: Doubles, state: _State) -> tuple[Doubles, _State]:
    momentum = _momentum(params, delta, state)
    kept, new = _decimal(params["beta2"]), _decimal(MILLION - params["beta2"])
    second = kept * state["v"] + new * (delta * delta)
    return _adapted(params, momentum, second), {"m": momentum, "v": second}


def _fed_yogi(params: _Params, delta: Doubles, state: _State) -> tuple[Doubles, _State]:
    momentum = _momentum(params, delta, state)
    square, before = delta * delta, state["v"]
    change = _decimal(MILLION - params["beta2"]) * square
    second = before - change * np.sign(before - square)
    return _adapted(params, momentum, second), {"m": momentum, "v": second}


def _momentum(params: _Params, delta: Doubles, state: _State) -> Doubles:
    kept, new = _decimal(params["beta1"]), _decimal(MILLION - params["beta1"])
    return kept * state["m"] + new * delta


def _adapted(params: _Params, momentum: Doubles, second: Doubles) -> Doubles:
    rate, tau = _decimal(params["learning_rate"]), _decimal(params["tau"])
    return (rate * momentum) / (np.sqrt(second) + tau)


def _decimal(millionths: int) -> float:
    """Return a parameter as a float64, rounded once."""
    return float(millionths) / float(MILLION)


def _adaptive(learning_rate: int, beta1: int, beta2: int, tau: int) -> _Params:
    return {"learning_rate": learning_rate, "beta1": beta1, "beta2": beta2, "tau": tau}


def _doubles(values: Array) -> Doubles:
    """Return a copy in float64 without negative zeros."""
    widened: Doubles = np.add(values, 0.0, dtype=np.float64)
    return widened


def _blocks(trained: Schema) -> Iterator[tuple[str, int]]:
    for spec in trained.tensors:
        for start in range(0, math.prod(spec.shape), BLOCK):
            yield spec.name, start


def _cut(tensors: TensorFile, name: str, start: int) -> Array:
    """Return one block of a tensor, flattened row by row, as a view."""
    return tensors.arrays[name].reshape(-1)[start : start + BLOCK]


@dataclass(frozen=True, slots=True)
class _Method:
    """What makes up an optimiser: its parameters' bounds, its kinds of state, and its step.

    The step takes the parameters, Δ and the state of a block, and returns the way that the model
    goes and the state after it, all in float64.
    """

    bounds: Mapping[str, range]
    state: tuple[str, ...]
    step: _Step


_ADAPTIVE = {"learning_rate": _RATES, "beta1": _SHARES, "beta2": _SHARES, "tau": _RATES}
_METHODS: Final[Mapping[str, _Method]] = {
    "fed_avg_m": _Method({"learning_rate": _RATES, "momentum": _SHARES}, ("m",), _fed_avg_m),
    "fed_adagrad": _Method({"learning_rate": _RATES, "tau": _RATES}, ("v",), _fed_adagrad),
    "fed_adam": _Method(_ADAPTIVE, ("m", "v"), _fed_adam),
    "fed_yogi": _Method(_ADAPTIVE, ("m", "v"), _fed_yogi),
}
