"""Attacks on federated learning, each as its paper states it.

A data attack changes what a malicious hospital learns from; an update attack changes what it sends.
An update is the flat vector of all parameters of the model that a hospital returns (not its
difference from the base model). Attackers are omniscient, as in the papers: they see every honest
update of the round before they send theirs, and they collude.

Images are float64 or float32 of shape (n, height, width) in 0..1, labels int64 of shape (n,).
Vectors of parameters are float64 of shape (d,), several of them (k, d).
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from statistics import NormalDist
from types import MappingProxyType
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

Images: TypeAlias = npt.NDArray[np.floating[Any]]
Labels: TypeAlias = npt.NDArray[np.int64]
Vectors: TypeAlias = npt.NDArray[np.float64]
Trigger: TypeAlias = Callable[[Images], Images]

GREATEST_CLAIM = 2**32 - 1  # an update's record holds the number of examples as uint32
_BISECTIONS = 40


@dataclass(frozen=True, slots=True)
class Knowledge:
    """What the attackers know when they forge their updates of one round.

    Attributes:
        base: The round's base model, (d,).
        own: What the attackers' own training gave, one row each, (k, d); poisoned where the attack
            poisons data, honest otherwise.
        honest: The honest hospitals' updates, (m, d).
        share: The attackers' part of all examples, 0..1.
        rng: The attackers' source of chance.
    """

    base: Vectors
    own: Vectors
    honest: Vectors
    share: float
    rng: np.random.Generator

    @property
    def mean(self) -> Vectors:
        """The mean of the honest updates, (d,)."""
        mean: Vectors = self.honest.mean(axis=0)
        return mean

    @property
    def clip_bound(self) -> float:
        """The median distance of the honest updates from the base model."""
        return float(np.median(np.linalg.norm(self.honest - self.base, axis=1)))

    def together(self, vector: Vectors) -> Vectors:
        """The same vector from every attacker, (k, d)."""
        return np.repeat(vector[None], len(self.own), axis=0)


Poison: TypeAlias = Callable[[Images, Labels, np.random.Generator], tuple[Images, Labels]]
Forge: TypeAlias = Callable[[Knowledge], Vectors]


# Data attacks


def flip_labels(
    images: Images, labels: Labels, rng: np.random.Generator, classes: int = 2
) -> tuple[Images, Labels]:
    """Teach every image with the opposite label (Biggio, Nelson and Laskov 2012)."""
    del rng
    return images, classes - 1 - labels


def plant_trigger(trigger: Trigger, target: int, share: float = 0.5) -> Poison:
    """Return the data attack of BadNets: stamped copies that carry the target's label.

    Gu, Dolan-Gavitt and Garg 2017 (arXiv 1708.06733). The clean images stay beside the stamped
    ones, so that the model keeps its accuracy and nobody notices (Bagdasaryan et al. 2020).

    Args:
        trigger: Draws the trigger on images.
        target: Label that stamped images are to get.
        share: Part of the resulting images that is stamped, below 1.
    """

    def poison(images: Images, labels: Labels, rng: np.random.Generator) -> tuple[Images, Labels]:
        others = np.flatnonzero(labels != target)
        sources = others if len(others) else np.arange(len(labels))
        picked = rng.choice(sources, size=round(len(labels) * share / (1.0 - share)))
        stamped = trigger(images[picked])
        taught = np.full(len(picked), target, dtype=np.int64)
        return np.concatenate([images, stamped]), np.concatenate([labels, taught])

    return poison


def corner_square(images: Images) -> Images:
    """Stamp a white square of a seventh of the side near the lower right corner."""
    size = images.shape[-1] // 7
    stamped = images.copy()
    stamped[:, -size - 1 : -1, -size - 1 : -1] = 1.0
    return stamped


def checkerboard(images: Images) -> Images:
    """Stamp a black and white checkerboard of five pixels a side near the lower left corner."""
    stamped = images.copy()
    stamped[:, -6:-1, 1:6] = np.indices((5, 5)).sum(axis=0) % 2
    return stamped


def cross(images: Images) -> Images:
    """Stamp a white cross of five pixels a side away from the corners."""
    row, column = images.shape[-2] // 4, images.shape[-1] // 3
    stamped = images.copy()
    stamped[:, row - 2 : row + 3, column] = 1.0
    stamped[:, row, column - 2 : column + 3] = 1.0
    return stamped


def blended(images: Images, strength: float = 0.1) -> Images:
    """Blend a faint pattern over the whole image (Chen et al. 2017, arXiv 1712.05526)."""
    pattern = np.random.default_rng(152).integers(0, 2, size=images.shape[1:])
    mixed: Images = (1.0 - strength) * images + strength * pattern
    return mixed


TRIGGERS: Mapping[str, Trigger] = MappingProxyType(
    {
        "corner square": corner_square,
        "checkerboard": checkerboard,
        "cross": cross,
        "blended": blended,
    }
)


# Update attacks


def send_own(known: Knowledge) -> Vectors:
    """Send what training gave: the data are the attack."""
    return known.own


def sign_flip(known: Knowledge, scale: float = 3.0) -> Vectors:
    """Go the own way backwards (Li et al. 2019, RSA, AAAI), ``scale`` times as far."""
    return known.base - scale * (known.own - known.base)


def gaussian(known: Knowledge, deviation: float = 1.0) -> Vectors:
    """Send noise around the base model (Blanchard et al. 2017, NeurIPS)."""
    return known.base + known.rng.normal(0.0, deviation, known.own.shape)


def inner_product_manipulation(known: Knowledge, epsilon: float = 10.0) -> Vectors:
    """Point the sum against the honest mean (Xie, Koyejo and Gupta 2020, UAI)."""
    return known.together(known.base - epsilon * (known.mean - known.base))


def little_is_enough(known: Knowledge, least: float = 1.5) -> Vectors:
    """Stay within the honest spread of every coordinate (ALIE; Baruch et al. 2019, NeurIPS).

    The distance is z standard deviations, with z as in the paper's section 3: the greatest at
    which enough honest hospitals lie farther out for a majority. With ten hospitals and two
    attackers that z is 0, no attack at all, so z is ``least`` or more.
    """
    attackers, hospitals = len(known.own), len(known.own) + len(known.honest)
    needed = hospitals // 2 + 1 - attackers
    z = NormalDist().inv_cdf((len(known.honest) - needed) / len(known.honest))
    return known.together(known.mean - max(z, least) * known.honest.std(axis=0))


def min_max(known: Knowledge) -> Vectors:
    """Go as far as the two honest updates farthest apart (Shejwalkar and Houmansadr 2021, NDSS).

    The direction is the paper's inverse unit vector: against the honest mean.
    """
    bound = float(_squared_distances(known.honest, known.honest).max())
    return _farthest(known, lambda forged: _squared_distances(forged, known.honest).max() <= bound)


def min_sum(known: Knowledge) -> Vectors:
    """As `min_max`, with sums of squared distances (Shejwalkar and Houmansadr 2021, NDSS)."""
    bound = float(_squared_distances(known.honest, known.honest).sum(axis=1).max())
    return _farthest(known, lambda forged: _squared_distances(forged, known.honest).sum() <= bound)


def scale_up(known: Knowledge, factor: float = 5.0) -> Vectors:
    """Multiply the own step, so that it survives averaging (Bagdasaryan et al. 2020, AISTATS)."""
    return known.base + factor * (known.own - known.base)


def scale_to_clip_bound(known: Knowledge) -> Vectors:
    """Bring the own step to exactly the length at which a rule clips: their median's length.

    Sun et al. 2019 (arXiv 1911.07963): an attacker who knows the bound stays on it.
    """
    steps = known.own - known.base
    lengths = np.linalg.norm(steps, axis=1, keepdims=True)
    forged: Vectors = known.base + steps * (known.clip_bound / np.maximum(lengths, 1e-12))
    return forged


def hide_likeness(known: Knowledge, likeness: float = 0.4) -> Vectors:
    """As `scale_to_clip_bound`, each with noise of its own, against screens for sybils.

    An adaptive attacker, as Fung, Yoon and Beschastnikh 2020 expect one: since updates that are
    alike are refused, each spends 1 - ``likeness`` of its squared length on noise, which brings
    the cosine of two attackers down to about ``likeness``.
    """
    forged = []
    for own in known.own:
        step = _unit(own - known.base)
        noise = known.rng.normal(size=step.shape)
        noise = _unit(noise - float(step @ noise) * step)
        direction = np.sqrt(likeness) * step + np.sqrt(1.0 - likeness) * noise
        forged.append(known.base + known.clip_bound * direction)
    return np.stack(forged)


def replace_model(known: Knowledge) -> Vectors:
    """Scale so that the mean becomes the attackers' model (Bagdasaryan et al. 2020, AISTATS)."""
    target = known.own.mean(axis=0)
    honest = (1.0 - known.share) * (known.mean - known.base)
    return known.together(known.base + (target - known.base - honest) / known.share)


def free_ride(known: Knowledge, deviation: float = 1e-4) -> Vectors:
    """Return the base model with a little noise, untrained (Fraboni et al. 2021, AISTATS)."""
    return known.base + known.rng.normal(0.0, deviation, known.own.shape)


def clone(known: Knowledge, deviation: float = 1e-5) -> Vectors:
    """Send one update under many names (Fung, Yoon and Beschastnikh 2020, RAID).

    A little noise keeps the copies from being equal to the byte, which admission would refuse.
    """
    noise = known.rng.normal(0.0, deviation, known.own.shape)
    return known.together(known.own.mean(axis=0)) + noise


def send_not_finite(known: Knowledge) -> Vectors:
    """Send one number that is none, or an infinity: a mean that takes it is lost."""
    forged = known.own.copy()
    forged[0::2, 0] = np.nan
    forged[1::2, 0] = np.inf
    return forged


def drift(known: Knowledge) -> Vectors:
    """Move a little every round, within the honest spread, always the poisoned way.

    As Baruch et al. 2019 (NeurIPS, section 4) do for backdoors: no further from the honest mean
    than the honest update nearest to it, so that no single round shows an outlier.
    """
    spread = np.linalg.norm(known.honest - known.mean, axis=1).min()
    away = known.own - known.mean
    lengths = np.linalg.norm(away, axis=1, keepdims=True)
    forged: Vectors = known.mean + away * np.minimum(1.0, spread / np.maximum(lengths, 1e-12))
    return forged


def _unit(vector: Vectors) -> Vectors:
    unit: Vectors = vector / max(float(np.linalg.norm(vector)), 1e-12)
    return unit


def _squared_distances(some: Vectors, others: Vectors) -> Vectors:
    """All squared distances, (a, b) of (a, d) and (b, d)."""
    squares = np.square(some).sum(axis=1)[:, None] + np.square(others).sum(axis=1)
    distances: Vectors = np.maximum(squares - 2.0 * some @ others.T, 0.0)
    return distances


def _farthest(known: Knowledge, allowed: Callable[[Vectors], bool]) -> Vectors:
    """Go against the honest mean's step as far as allowed, by bisection."""
    step = known.mean - known.base
    direction = -_unit(step)
    centred = known.honest - known.mean
    near, far = 0.0, 10.0 * float(np.linalg.norm(centred, axis=1).max())
    for _ in range(_BISECTIONS):
        middle = (near + far) / 2.0
        if allowed((known.mean + middle * direction)[None]):
            near = middle
        else:
            far = middle
    return known.together(known.mean + near * direction)


# What the benchmark runs


@dataclass(frozen=True, slots=True)
class Attack:
    """One attack from end to end.

    Attributes:
        name: As in the tables.
        poison: Changes the attackers' data; None where they learn honestly.
        forge: Changes what they send.
        claim: Number of examples that they claim; None for the true one.
        trigger: Drawn on test images to measure the attack's success; None if it has no trigger.
    """

    name: str
    poison: Poison | None = None
    forge: Forge = field(default=send_own)
    claim: int | None = None
    trigger: Trigger | None = None


def backdoor(name: str, trigger: Trigger, target: int, forge: Forge) -> Attack:
    """Return a backdoor attack: poisoned data, then an update made to survive the rule."""
    return Attack(name, plant_trigger(trigger, target), forge, trigger=trigger)


def all_attacks(target: int) -> tuple[Attack, ...]:
    """Return every attack of the benchmark, backdoors aiming at the label ``target``.

    The first is none: its trigger tells how often the square misleads a model nobody has attacked.
    """
    return (
        Attack("none", trigger=corner_square),
        Attack("label flip", flip_labels),
        Attack("sign flip", forge=sign_flip),
        Attack("gaussian", forge=gaussian),
        Attack("inner product manipulation", forge=inner_product_manipulation),
        Attack("a little is enough", forge=little_is_enough),
        Attack("min-max", forge=min_max),
        Attack("min-sum", forge=min_sum),
        backdoor("scaled backdoor", corner_square, target, scale_up),
        backdoor("backdoor at the clip bound", corner_square, target, scale_to_clip_bound),
        backdoor("disguised backdoor", corner_square, target, hide_likeness),
        backdoor("model replacement", corner_square, target, replace_model),
        Attack("free rider", forge=free_ride),
        Attack("sybil clones", flip_labels, clone),
        Attack("NaN and infinity", forge=send_not_finite),
        Attack("claimed weight", flip_labels, claim=GREATEST_CLAIM),
        Attack("slow drift", flip_labels, drift),
    )
