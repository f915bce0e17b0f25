"""A hospital that is merely different keeps its place beside attackers, with the real screens.

Simulated: ten hospitals train a small softmax regression on Gaussian classes, not on images. One
honest hospital has three of the ten classes only.
"""

from collections.abc import Callable, Sequence
from contextlib import ExitStack
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest

from aggregator.cohort import Member
from aggregator.pipeline import parse_pipeline
from aggregator.quarantine import Quarantine
from aggregator.reputation import FinalRound, standings
from chain.canonical import canonical_json
from chain.digests import content_digest
from chain.tensors import Array, open_tensors, save_tensors
from chain.types import Outcome, Reason, Verdict

CLASSES, FEATURES, EXAMPLES = 10, 16, 60
HOSPITALS = tuple(f"0x{place:040d}" for place in range(10))
DIFFERENT, *ATTACKERS = HOSPITALS[7:]
ROUNDS = 30
# What docs/protocol.md recommends.
POLICY = Quarantine(strikes=4, window=10, rounds=10)

Attack = Callable[[Array, np.random.Generator], Array]


def scaled_backwards(step: Array, _: np.random.Generator) -> Array:
    return np.multiply(step, -10.0)


def noise(step: Array, random: np.random.Generator) -> Array:
    return np.asarray(random.normal(0.0, 5.0, step.shape))


Step = tuple[str, dict[str, int]]
NORMS: Step = ("norm_range", {"lower": 100_000, "upper": 3_000_000})
SIGNS: Step = ("sign_clusters", {})
DIRECTIONS: Step = ("direction_cluster", {})
DNC: Step = ("dnc", {"coordinates": 100, "f": 2, "iterations": 1})


def pipeline_json(screens: Sequence[Step]) -> str:
    steps = [("quarantine", POLICY.params), *screens, ("mean", {})]
    return canonical_json([{"name": name, "params": params} for name, params in steps]).decode()


def softmax_step(model: Array, images: Array, labels: npt.NDArray[np.int64]) -> Array:
    """Train for ten full-batch steps and return the difference."""
    trained = model.copy()
    for _ in range(10):
        scores = np.exp(images @ trained)
        scores /= scores.sum(axis=1, keepdims=True)
        scores[np.arange(len(labels)), labels] -= 1
        trained -= 0.5 / len(labels) * images.T @ scores
    return trained - model


def play(folder: Path, pipeline: str, attack: Attack, seed: int) -> list[FinalRound]:
    """Take a task through its rounds, with quarantine as the pipeline says."""
    random = np.random.default_rng(seed)
    middles = random.standard_normal((CLASSES, FEATURES))
    held = [3 if hospital == DIFFERENT else CLASSES for hospital in HOSPITALS]
    labels = [random.integers(0, classes, EXAMPLES) for classes in held]
    images = [middles[own] + random.standard_normal((EXAMPLES, FEATURES)) for own in labels]
    parsed = parse_pipeline(pipeline)
    model = np.zeros((FEATURES, CLASSES))
    history: list[FinalRound] = []
    for number in range(1, ROUNDS + 1):
        found = standings(history, parsed.quarantine)
        steps = [softmax_step(model, *own) for own in zip(images, labels, strict=True)]
        for attacker in ATTACKERS:
            place = HOSPITALS.index(attacker)
            steps[place] = attack(steps[place], random)
        with ExitStack() as stack:
            members, verdicts = [], []
            for place, hospital in enumerate(HOSPITALS):
                if hospital in found and found[hospital].quarantined:
                    shut_out = (Outcome.REJECTED, Reason.QUARANTINED)
                    verdicts.append(Verdict(hospital, *shut_out, 0, 0, bytes(32)))
                    continue
                path = folder / hospital
                save_tensors(path, {"weight": (model + steps[place]).astype("<f4")})
                tensors = stack.enter_context(open_tensors(path))
                members.append(Member(hospital, EXAMPLES, content_digest(path), tensors))
            save_tensors(folder / "base", {"weight": model.astype("<f4")})
            base = stack.enter_context(open_tensors(folder / "base"))
            judged = parsed.aggregate(base, members, folder / "next", threads=1)
            for member, one in zip(members, judged, strict=True):
                said = (one.outcome, one.reason, one.score, one.threshold)
                verdicts.append(Verdict(member.name, *said, member.content))
        with open_tensors(folder / "next") as tensors:
            model = tensors.arrays["weight"].astype(np.float64)
        history.append(FinalRound(number, tuple(verdicts)))
    return history


def share(history: Sequence[FinalRound], hospital: str, *reasons: Reason) -> float:
    """The share of rounds in which a hospital was rejected for one of some reasons."""
    verdicts = [v for one in history for v in one.verdicts if v.hospital == hospital]
    return sum(v.reason in reasons for v in verdicts) / len(history)


@pytest.mark.parametrize("attack", [scaled_backwards, noise])
@pytest.mark.parametrize("seed", [1, 2])
def test_attackers_are_shut_out_and_the_different_hospital_is_not(
    tmp_path: Path, attack: Attack, seed: int
) -> None:
    screens = [NORMS, SIGNS, DIRECTIONS]
    history = play(tmp_path, pipeline_json(screens), attack, seed)
    for attacker in ATTACKERS:
        assert share(history, attacker, Reason.QUARANTINED) >= 0.3
        # Eight half strikes shut it out; whatever is beyond them came after it was let back.
        assert share(history, attacker, Reason.NORM_OUT_OF_RANGE) * ROUNDS > 8
    for hospital in HOSPITALS[:8]:
        assert share(history, hospital, Reason.QUARANTINED) == 0


@pytest.mark.parametrize("screen", [DIRECTIONS, DNC])
def test_a_comparison_that_leaves_the_different_hospital_out_does_not_drive_it_out(
    tmp_path: Path, screen: Step
) -> None:
    history = play(tmp_path, pipeline_json([screen]), lambda step, _: step, seed=3)
    # So often that even half a strike each would shut it out: this is why it is none.
    left_out = (Reason.DIRECTION_OUT_OF_CLUSTER, Reason.OUTLYING_PROJECTION)
    assert share(history, DIFFERENT, *left_out) > 0.6
    assert share(history, DIFFERENT, Reason.QUARANTINED) == 0
