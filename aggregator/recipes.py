"""Recipes: pipelines that have a name, and pipelines declared by a name and parameters.

A recipe is a function of its parameters that returns a `Pipeline`. Its name is nothing but a
shorthand for whoever types it: what a round commits to, and what is printed, are the steps. A rule
is a recipe of one step. A screen or transform is none, as it makes no model by itself; so where a
recipe has the name of a step that is no rule, `--rule` means the recipe.
"""

import re
from collections.abc import Callable, Iterable, Mapping
from inspect import Parameter, signature
from pathlib import Path
from types import MappingProxyType
from typing import Any, Final

from aggregator import rules, screens, transforms
from aggregator.judgement import MILLION
from aggregator.pipeline import (
    STEPS,
    NoiseStep,
    Pipeline,
    Step,
    read_pipeline,
)
from aggregator.quarantine import Quarantine
from aggregator.rules import Rule
from chain.canonical import parse_json
from chain.errors import InvalidInputError

DEFAULT: Final = "default"
_MAX_FILE = 1 << 16  # bytes: a pipeline as people write it, with white space
_LOOK_UP = "`fedwitness rules` tells what they mean"
_INTEGER = re.compile(r"-?[0-9]{1,18}")


def default(f: int = 1) -> Pipeline:
    """Return the pipeline that rounds have where nobody names another one.

    Repeat offenders are left out, and updates far longer than usual, which no training makes. So
    are updates that are more alike than honest hospitals' are. The rest is shortened to a usual
    length (Sun et al. 2019, arXiv 1911.07963), and the extremes are dropped (Yin et al. 2018, arXiv
    1803.01498). No example count is taken at its word. docs/robustness.md shows what it holds
    against, and what not.

    Args:
        f: How many values are dropped at either end of each coordinate. Attackers who work together
            may be more: they are left out for their likeness.

    Raises:
        InvalidInputError: If `f` is out of range.
    """
    return Pipeline(
        (
            Quarantine(strikes=4, window=10, rounds=10),
            screens.norm_range(lower=0, upper=10 * MILLION),
            screens.sybils(least=2 * f + 2, limit=MILLION // 5),
            transforms.norm_clipping(MILLION),
            rules.trimmed_mean(f),
        )
    )


def norm_clipping(bound: int = MILLION) -> Pipeline:
    """Return weighted norm clipping: shorten, then average (Sun et al. 2019, arXiv 1911.07963).

    No hospital moves the model by more than its share of the examples times the bound.

    Args:
        bound: In millionths of the lower median length of the differences from the base model.

    Raises:
        InvalidInputError: If the bound is out of range.
    """
    return Pipeline((transforms.norm_clipping(bound), rules.fed_avg()))


def nnm_trimmed_mean(f: int) -> Pipeline:
    """Return the trimmed mean of neighbours' means (Allouah et al. 2023, arXiv 2302.01772).

    Args:
        f: How many attackers it withstands; it needs 2f + 1 updates.

    Raises:
        InvalidInputError: If `f` is out of range.
    """
    return Pipeline((transforms.nnm(f), rules.trimmed_mean(f)))


def sign_guard(lower: int = MILLION // 10, upper: int = 3 * MILLION) -> Pipeline:
    """Return SignGuard (Xu et al. 2022, arXiv 2109.05872).

    Updates of unusual norm or unusual signs are left out, the others shortened to the median norm
    and averaged. The bounds' defaults are the paper's.

    Args:
        lower: Least ratio to the median norm, in millionths.
        upper: Greatest ratio to the median norm, in millionths.

    Raises:
        InvalidInputError: If a bound is out of range.
    """
    return Pipeline(
        (
            screens.norm_range(lower, upper),
            screens.sign_clusters(),
            transforms.norm_clipping(MILLION),
            rules.mean(),
        )
    )


def dnc(f: int, iterations: int = 1, coordinates: int = 10_000) -> Pipeline:
    """Return Divide-and-Conquer (Shejwalkar and Houmansadr 2021, DnC, NDSS).

    Args:
        f: How many updates an iteration drops.
        iterations: How many there are.
        coordinates: How many are drawn in each.

    Raises:
        InvalidInputError: If a parameter is out of range.
    """
    return Pipeline((screens.dnc(f, iterations, coordinates), rules.mean()))


def flame(noise: int = MILLION // 1000) -> Pipeline:
    """Return FLAME (Nguyen et al. 2022, arXiv 2101.02281).

    The tightest majority by direction is shortened to the median norm and averaged, and noise is
    added. The noise's default is the paper's for images.

    Args:
        noise: Its standard deviation, in millionths of the lower median norm.

    Raises:
        InvalidInputError: If the noise is out of range.
    """
    return Pipeline(
        (
            screens.direction_cluster(),
            transforms.norm_clipping(MILLION),
            rules.mean(),
            NoiseStep(noise),
        )
    )


RECIPES: Final[Mapping[str, Callable[..., Pipeline]]] = MappingProxyType(
    {
        build.__name__: build
        for build in (default, norm_clipping, nnm_trimmed_mean, sign_guard, dnc, flame)
    }
)
RULES: Final[Mapping[str, Callable[..., Step]]] = MappingProxyType(
    {name: build for name, build in STEPS.items() if signature(build).return_annotation is Rule}
)


def declare(name: str, given: Iterable[str]) -> Pipeline:
    """Return the pipeline that a rule or recipe and its parameters stand for.

    Args:
        name: Of a rule or recipe.
        given: Parameters as ``KEY=VALUE``.

    Raises:
        InvalidInputError: If there is no such rule or recipe, or its parameters are others.
    """
    build = _find(name)
    params = _read(name, signature(build).parameters, given)
    built = build(**params)
    return built if isinstance(built, Pipeline) else Pipeline((built,))


def read_declared(path: Path) -> Pipeline:
    """Read a pipeline from a file: JSON in any layout.

    Raises:
        InvalidInputError: If it is no pipeline; the message begins with the file's name.
        OSError: If it cannot be read.
    """
    with path.open("rb") as file:
        data = file.read(_MAX_FILE + 1)
    try:
        return read_pipeline(parse_json(data, _MAX_FILE))
    except InvalidInputError as error:
        raise InvalidInputError(f"{path.name}: {error}") from error


def _find(name: str) -> Callable[..., Pipeline | Step]:
    build = RECIPES.get(name) or RULES.get(name)
    if build is not None:
        return build
    known = f"one of {', '.join(sorted({*RECIPES, *RULES}))}"
    if name in STEPS:
        raise InvalidInputError(
            f"{name} is a step that makes no model by itself: write it into a pipeline that has a "
            f"rule, and give that as a file; or name {known}"
        )
    raise InvalidInputError(f"expected a rule or recipe, {known}, found {name!r}: {_LOOK_UP}")


def _read(name: str, wanted: Mapping[str, Parameter], given: Iterable[str]) -> dict[str, Any]:
    params: dict[str, Any] = {}
    for text in given:
        key, equals, value = text.partition("=")
        if not equals or key in params:
            raise InvalidInputError(f"expected parameters as KEY=VALUE, each once, found {text!r}")
        if key not in wanted:
            takes = f"the parameters {', '.join(wanted)}" if wanted else "no parameters"
            raise InvalidInputError(f"{name} takes {takes}, found {key!r}")
        params[key] = _value(name, wanted[key], value)
    for key, parameter in wanted.items():
        if parameter.default is Parameter.empty and key not in params:
            raise InvalidInputError(f"{name} needs {key}: give it as {key}=VALUE; {_LOOK_UP}")
    return params


def _value(name: str, parameter: Parameter, text: str) -> int | str:
    if parameter.annotation is str:
        return text
    if not _INTEGER.fullmatch(text):
        raise InvalidInputError(f"{name} needs an integer {parameter.name}, found {text!r}")
    return int(text)
