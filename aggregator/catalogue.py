"""What pipelines can be made of, told from the code itself: names, parameters, descriptions."""

import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from inspect import Parameter, getdoc, signature
from typing import Any, Final

from aggregator.optimizers import Optimizer
from aggregator.pipeline import STEPS, NoiseStep
from aggregator.quarantine import Quarantine
from aggregator.recipes import RECIPES
from aggregator.rules import Rule
from aggregator.screens import Screen
from aggregator.transforms import Transform

_KINDS: Final[Mapping[type, str]] = {
    Rule: "rule",
    Quarantine: "quarantine",
    Screen: "screen",
    Transform: "transform",
    NoiseStep: "noise",
    Optimizer: "optimiser",
}
_ARGUMENT = re.compile(r" {4}(\w+): (.*(?:\n {8}.*)*)")


@dataclass(frozen=True, slots=True)
class Setting:
    """A parameter: its type as JSON has it, its value where none is given, and what it means."""

    name: str
    type: str
    default: int | None
    description: str


@dataclass(frozen=True, slots=True)
class Entry:
    """A recipe or step.

    Args:
        name: What it is called.
        kind: `recipe`, or which of the kinds of steps.
        parameters: In order.
        description: One sentence.
        steps: A recipe's steps by name; empty for a step.
    """

    name: str
    kind: str
    parameters: tuple[Setting, ...]
    description: str
    steps: tuple[str, ...] = ()


def catalogue() -> tuple[Entry, ...]:
    """List the recipes, then the rules, then all other steps in the order of a pipeline."""
    recipes = [_entry(name, "recipe", build) for name, build in RECIPES.items()]
    steps = [_entry(name, _kind(build), build) for name, build in STEPS.items()]
    kinds = list(_KINDS.values())
    return (*recipes, *sorted(steps, key=lambda entry: kinds.index(entry.kind)))


def _entry(name: str, kind: str, build: Callable[..., Any]) -> Entry:
    told = getdoc(build) or ""
    first = told.partition("\n")[0].removeprefix("Return ")
    meanings = dict(_arguments(told))
    parameters = tuple(
        Setting(
            one.name,
            "text" if one.annotation is str else "integer",
            None if one.default is Parameter.empty else one.default,
            meanings.get(one.name, ""),
        )
        for one in signature(build).parameters.values()
    )
    return Entry(name, kind, parameters, first[:1].upper() + first[1:], _steps(kind, build))


def _kind(build: Callable[..., Any]) -> str:
    made = build if isinstance(build, type) else signature(build).return_annotation
    return _KINDS[made]


def _steps(kind: str, build: Callable[..., Any]) -> tuple[str, ...]:
    if kind != "recipe":
        return ()
    needed = [one for one in signature(build).parameters.values() if one.default is Parameter.empty]
    return tuple(step.name for step in build(**{one.name: 1 for one in needed}).steps)


def _arguments(told: str) -> Iterator[tuple[str, str]]:
    """Read the section on arguments of a docstring in Google's style."""
    section = told.partition("\nArgs:\n")[2].partition("\n\n")[0]
    for name, meaning in _ARGUMENT.findall(section):
        yield name, " ".join(meaning.split())
