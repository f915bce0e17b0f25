"""Pipelines: what a round declares that it does with its updates (docs/protocol.md, section 9).

A pipeline is a short list of steps in canonical JSON, which the ledger holds since the round was
opened: an optional quarantine, screens, transforms, one rule, optional noise, an optional server
optimiser, in this order. Whoever knows the steps and the updates gets the same model to the bit.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from inspect import signature
from pathlib import Path
from tempfile import TemporaryDirectory
from types import MappingProxyType
from typing import Any, Final, TypeAlias

from aggregator import optimizers, rules, screens, transforms
from aggregator.blend import Blend, lower_median
from aggregator.cohort import NO_NOISE, Cohort, Measure, Member, Noise
from aggregator.draws import Draws
from aggregator.judgement import KEPT, MILLION, Judgement
from aggregator.optimizers import Optimizer
from aggregator.params import require_integer
from aggregator.quarantine import Quarantine
from aggregator.rules import Average, Combination, Ranking, Rule, judge_trimmed
from aggregator.screens import Screen
from aggregator.transforms import Transform
from chain.canonical import canonical_json, parse_json
from chain.errors import InvalidInputError, UnfitRoundError
from chain.tensors import TensorFile, open_tensors, open_trained
from chain.types import Outcome

MAX_PIPELINE = 1_024  # bytes of JSON, the contract's bound


@dataclass(frozen=True, slots=True)
class NoiseStep:
    """Noise on every coordinate of the result (Nguyen et al. 2022, FLAME, arXiv 2101.02281).

    Its standard deviation is relative to the lower median norm of the updates' differences from
    the base model. Who replays the round draws the same noise, so it protects nobody's privacy.

    Args:
        scale: Its standard deviation, in millionths of the lower median norm of the updates'
            differences from the base model.

    Raises:
        InvalidInputError: If the scale is out of range.
    """

    scale: int

    def __post_init__(self) -> None:
        """Refuse a scale that is out of range."""
        require_integer("noise", "scale", self.scale, 1, MILLION)

    @property
    def name(self) -> str:
        """What it is called on the ledger."""
        return "noise"

    @property
    def params(self) -> Mapping[str, int]:
        """Its parameters by name."""
        return {"scale": self.scale}


Step: TypeAlias = Quarantine | Screen | Transform | Rule | NoiseStep | Optimizer

STEPS: Final[Mapping[str, Callable[..., Step]]] = MappingProxyType(
    {
        build.__name__: build
        for build in (
            screens.norm_range,
            screens.sign_clusters,
            screens.direction_cluster,
            screens.dnc,
            screens.sybils,
            transforms.norm_clipping,
            transforms.weight_cap,
            transforms.nnm,
            transforms.bucketing,
            rules.fed_avg,
            rules.mean,
            rules.median,
            rules.trimmed_mean,
            rules.krum,
            rules.multi_krum,
            rules.bulyan,
            rules.geometric_median,
            rules.centred_clipping,
            rules.fl_trust,
            rules.fools_gold,
            optimizers.fed_avg_m,
            optimizers.fed_adagrad,
            optimizers.fed_adam,
            optimizers.fed_yogi,
        )
    }
    | {"quarantine": Quarantine, "noise": NoiseStep}
)
_ORDER: Final = (Quarantine, Screen, Transform, Rule, NoiseStep, Optimizer)


@dataclass(frozen=True, slots=True)
class Pipeline:
    """A declared list of steps.

    Args:
        steps: In the order of the module's first lines.

    Raises:
        InvalidInputError: If they are in another order, without a rule, with more than one of a
            kind of which there can be one, or too long for the ledger.
    """

    steps: tuple[Step, ...]

    def __post_init__(self) -> None:
        """Refuse what no round can run."""
        places = [_ORDER.index(type(step)) for step in self.steps]
        single = [place for place in places if _ORDER[place] not in (Screen, Transform)]
        names = [step.name for step in self.steps]
        if (
            places != sorted(places)
            or len(set(single)) != len(single)
            or _ORDER.index(Rule) not in places
            or len(set(names)) != len(names)
        ):
            raise InvalidInputError(
                "expected a pipeline of at most one quarantine, screens, transforms, one rule, at "
                f"most one noise and one optimiser, in this order and each once, found {names}"
            )
        mixes = any(isinstance(step, Transform) and step.mixes for step in self.steps)
        if self.rule.name == "fl_trust" and mixes:
            raise InvalidInputError(
                "fl_trust measures all by the root's update as it was sent: expected no step that "
                f"mixes others into it, found {names}"
            )
        if len(self.to_json()) > MAX_PIPELINE:
            raise InvalidInputError(
                f"expected a pipeline of at most {MAX_PIPELINE} bytes of JSON, found "
                f"{len(self.to_json())}"
            )

    @property
    def rule(self) -> Rule:
        """The rule."""
        return next(step for step in self.steps if isinstance(step, Rule))

    @property
    def quarantine(self) -> Quarantine | None:
        """The policy by which repeat offenders are left out, None without one."""
        first = self.steps[0]
        return first if isinstance(first, Quarantine) else None

    @property
    def least_kept(self) -> int:
        """How many updates the rule needs, counted before the transforms and after the screens."""
        return self._least(Transform, self.rule.least)

    def least_admitted(self, kept: int) -> int:
        """Tell how many admitted updates it needs for `kept` to pass the screens.

        As far as it is sure how many the screens pass.

        Raises:
            InvalidInputError: If a screen may leave fewer of any number.
        """
        return self._least(Screen, max(kept, self.least_kept))

    def _least(self, kind: type[Screen] | type[Transform], least: int) -> int:
        for step in reversed(self.steps):
            if isinstance(step, kind):
                least = step.least(least)
        return least

    def to_json(self) -> str:
        """Return the pipeline as it stands on the ledger, in canonical JSON."""
        return canonical_json(self.to_list()).decode()

    def to_list(self) -> list[dict[str, Any]]:
        """Return the steps as a value of JSON."""
        return [{"name": step.name, "params": dict(step.params)} for step in self.steps]

    def aggregate(
        self, base: TensorFile, members: Sequence[Member], out: Path, threads: int
    ) -> tuple[Judgement, ...]:
        """Judge updates, and write the model that they make.

        Args:
            base: The base model, with or without a server optimiser's state.
            members: The admitted updates in the round's order, without hospitals in quarantine.
            out: The canonical file that is written; after an error it is as it was.
            threads: How many threads compute; no bit depends on it.

        Returns:
            A judgement for each update.

        Raises:
            UnfitRoundError: If they make no model.
            InvalidInputError: If an update has other tensors than the base model.
            OSError: If the disk is full.
        """
        with TemporaryDirectory(dir=out.parent, prefix=".aggregate-") as scratch:
            trained = open_trained(base, Path(scratch) / "base.safetensors")
            cohort = Cohort(trained, members, threads)
            optimizer = next((one for one in self.steps if isinstance(one, Optimizer)), None)
            if optimizer is None:
                return self._aggregate(cohort, out)
            target = Path(scratch) / "aggregate.safetensors"
            judgements = self._aggregate(cohort, target)
            with open_tensors(target) as aggregate:
                optimizers.apply(optimizer, base, aggregate, out, threads)
            return judgements

    def _aggregate(self, cohort: Cohort, out: Path) -> tuple[Judgement, ...]:
        verdicts = _Judgements(len(cohort))
        passed, noise = cohort, NO_NOISE
        measured = max(map(_measured, self.steps))
        if measured is Measure.PRODUCTS:
            cohort.products()  # now: lengths, which are a part of them, need no pass then
        if measured is not Measure.NOTHING:
            passed = verdicts.screen(passed, screens.judge_lengths(passed))
        for step in self.steps:
            if isinstance(step, Screen):
                _require(step.name, len(passed), 1)
                passed = verdicts.screen(passed, step.judge(passed))
        _require(self.rule.name, len(passed), self.least_kept)
        blend = Blend.of(passed)
        for step in self.steps:
            if isinstance(step, Transform):
                transformed, judged = step.apply(blend)
                verdicts.judge(blend, judged or [])
                blend = transformed
            elif isinstance(step, NoiseStep):
                noise = _noise(step, passed)
        _require(self.rule.name, len(blend), self.rule.least)
        combination = self.rule.combine(blend)
        verdicts.judge(blend, _write(combination, blend, out, noise))
        return verdicts.final()


def parse_pipeline(text: str | bytes) -> Pipeline:
    """Read a pipeline from the canonical JSON that is on the ledger.

    Raises:
        InvalidInputError: If it is not canonical JSON, names an unknown step or parameter, or puts
            steps together that do not go together.
    """
    data = text.encode() if isinstance(text, str) else text
    value = parse_json(data, MAX_PIPELINE)
    if canonical_json(value) != data:
        raise InvalidInputError(f"the pipeline is not in canonical JSON (RFC 8785): {data!r}")
    return read_pipeline(value)


def read_pipeline(value: object) -> Pipeline:
    """Read a pipeline from a value of JSON.

    Raises:
        InvalidInputError: If it is no pipeline.
    """
    if not isinstance(value, list):
        raise InvalidInputError(f"expected a list of steps, found {repr(value)[:100]}")
    return Pipeline(tuple(map(_step, value)))


def build_step(name: str, params: Mapping[str, Any]) -> Step:
    """Build a step from its name and parameters.

    Raises:
        InvalidInputError: If there is no such step, or its parameters are others.
    """
    if name not in STEPS:
        raise InvalidInputError(f"expected a step, one of {', '.join(STEPS)}, found {name!r}")
    build = STEPS[name]
    expected = list(signature(build).parameters)
    if sorted(params) != sorted(expected):
        raise InvalidInputError(
            f"{name} has the parameters {expected}, found {sorted(map(str, params))}"
        )
    return build(**params)


def _step(value: object) -> Step:
    match value:
        case {"name": str(name), "params": dict(params), **rest} if not rest:
            return build_step(name, params)
    raise InvalidInputError(
        f'expected a step {{"name":NAME,"params":{{…}}}}, found {repr(value)[:100]}'
    )


def _measured(step: Step) -> Measure:
    if isinstance(step, Screen | Transform | Rule):
        return step.measures
    return Measure.LENGTHS if isinstance(step, NoiseStep) else Measure.NOTHING


class _Judgements:
    """Collects what steps say of each update; the gravest word counts, of equal ones the last.

    A step that measured nothing says nothing, so it takes no score away that another one told.
    """

    def __init__(self, n: int) -> None:
        self._judged = [KEPT] * n
        self._left = list(range(n))

    def screen(self, cohort: Cohort, judged: Sequence[Judgement]) -> Cohort:
        """Take a screen's judgements of those who are left, and leave out the rejected."""
        self._enter(range(len(cohort)), judged)
        kept = [i for i, one in enumerate(judged) if one.outcome is not Outcome.REJECTED]
        if len(kept) == len(judged):
            return cohort
        self._left = [self._left[i] for i in kept]
        return cohort.only(kept)

    def judge(self, blend: Blend, judged: Sequence[Judgement]) -> None:
        """Take judgements of rows for the updates that they speak for."""
        for sources, judgement in zip(blend.sources, judged, strict=False):
            self._enter(sources, [judgement] * len(sources))

    def final(self) -> tuple[Judgement, ...]:
        """Return a judgement for each update."""
        return tuple(self._judged)

    def _enter(self, places: Iterable[int], judged: Sequence[Judgement]) -> None:
        for i, judgement in zip(places, judged, strict=True):
            place = self._left[i]
            if judgement != KEPT and judgement.outcome >= self._judged[place].outcome:
                self._judged[place] = judgement


def _noise(step: NoiseStep, cohort: Cohort) -> Noise:
    deviation = lower_median(Blend.of(cohort).norms()) * (step.scale / MILLION)
    return Noise(Draws("noise", cohort.contents).word(), deviation)


def _write(combination: Combination, blend: Blend, out: Path, noise: Noise) -> Sequence[Judgement]:
    match combination:
        case Average(weights, judgements, base):
            blend.cohort.write_mean(blend.combined(weights, base), out, noise)
            return judgements
        case Ranking(rows, ranks, judgements):
            if blend.is_plain:
                counts = blend.cohort.only(rows).write_sorted(None, ranks, out, noise)
            else:
                mixing = blend.mixing[list(rows)]
                counts = blend.cohort.write_sorted(mixing, ranks, out, noise)
            judged = list(judgements)
            for row, count in zip(rows, counts, strict=True):
                judged[row] = judge_trimmed(count / blend.cohort.coordinates)
            return judged


def _require(step: str, found: int, least: int) -> None:
    if found < least:
        raise UnfitRoundError(f"{step} needs at least {least} updates, found {found}")
