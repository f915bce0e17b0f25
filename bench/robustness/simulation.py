"""One simulated federation: ten hospitals, two of them malicious, one pipeline."""

import time
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch

from bench.attacks import Attack, Knowledge
from bench.robustness.data import ROOT, Labels, TaskData, split_by_label, split_evenly
from bench.robustness.training import (
    PARAMETERS,
    Recipe,
    Vectors,
    first_model,
    normalised,
    predict,
    train,
)

HOSPITALS = 10
MALICIOUS = 2
HONEST_ROUNDS = 60  # before the attackers come
ROUNDS = 12
DIRICHLET = 0.3
SPLITS = ("iid", "dirichlet")
FIRST_RECIPE = Recipe(steps=16, batch=32)
HOSPITALS_RECIPE = Recipe()
ATTACKERS_RECIPE = Recipe(steps=24)  # who poisons takes the time to learn it well
FIRST_MODELS = ROOT / "artifacts"
HEALTHY = 0  # what the backdoor wants to read: an illness that is missed

Examples = npt.NDArray[np.int64]
# From base model (d,), updates (n, d) as float32 and their claimed example counts (n,) to a model.
Aggregate = Callable[[npt.NDArray[np.float32], npt.NDArray[np.float32], Examples], Vectors]


@dataclass(frozen=True, slots=True)
class Outcome:
    """What a run came to.

    Attributes:
        accuracy: Mean of both classes' accuracies on the test set, 0..1.
        success: Share of the ill test patients, of those whom the model finds, that are read as
            healthy once the attack's trigger is drawn on their images; None without a trigger.
        seconds: Wall time.
    """

    accuracy: float
    success: float | None
    seconds: float


def simulate(
    task: TaskData,
    split: str,
    attack: Attack,
    aggregate: Aggregate,
    seed: int,
    rounds: int = ROUNDS,
    recipe: Recipe = HOSPITALS_RECIPE,
    first: Vectors | None = None,
) -> Outcome:
    """Run one federation and measure its last model.

    The first two hospitals are malicious in every round. They put their images together, so that
    label skew does not leave them without images to stamp.

    Args:
        task: What is learned.
        split: One of `SPLITS`.
        attack: What the malicious hospitals do.
        aggregate: The pipeline.
        seed: Of everything.
        rounds: How many, all of them under attack.
        recipe: How hospitals train.
        first: Model to start from, (d,); `honest_model` where None.
    """
    started = time.perf_counter()
    rng = np.random.default_rng((2, seed))
    generator = torch.Generator().manual_seed(seed)
    parts = _split(task.labels, split, rng)
    examples = np.array([len(part) for part in parts], dtype=np.int64)
    share = float(examples[:MALICIOUS].sum() / examples.sum())
    data = _data(task, parts, attack, rng)
    if attack.claim is not None:
        examples[:MALICIOUS] = attack.claim
    model = honest_model(task, seed) if first is None else first
    for _ in range(rounds):
        updates = train(model, data, recipe, generator)
        if attack.poison is not None:
            updates[:MALICIOUS] = train(model, data[:MALICIOUS], ATTACKERS_RECIPE, generator)
        known = Knowledge(model, updates[:MALICIOUS], updates[MALICIOUS:], share, rng)
        if attack.name != "none":
            updates[:MALICIOUS] = attack.forge(known)
        # Admission refuses what is not finite before a rule sees it (docs/protocol.md, section 8).
        sent = updates.astype(np.float32)
        kept = np.isfinite(sent).all(axis=1)
        model = aggregate(model.astype(np.float32), sent[kept], examples[kept])
        model = model.astype(np.float32).astype(np.float64)
    return _measure(model, task, attack, started)


def honest_model(task: TaskData, seed: int) -> Vectors:
    """Return the model of a federation that has been honest so far, (d,), kept from run to run.

    Attackers find it easier to plant something in a model that has learned its task, since honest
    updates are small by then (Bagdasaryan et al. 2020, section 5); and accuracy lost is lost from
    a level worth having.
    """
    kept = FIRST_MODELS / f"bench-first-model-{task.name}-{seed}-{HONEST_ROUNDS}-{PARAMETERS}.npy"
    if not kept.is_file():
        rng, generator = np.random.default_rng((3, seed)), torch.Generator().manual_seed(seed)
        parts = split_evenly(task.labels, HOSPITALS, rng)
        data = _data(task, parts, Attack("none"), rng)
        model = first_model(seed)
        for _ in range(HONEST_ROUNDS):
            model = train(model, data, FIRST_RECIPE, generator).mean(axis=0)
        kept.parent.mkdir(exist_ok=True)
        np.save(kept, model.astype(np.float32))
    return np.asarray(np.load(kept), dtype=np.float64)


def attack_success(model: Vectors, task: TaskData, attack: Attack) -> float | None:
    """Return how many ill test patients the attack's trigger hides from the model.

    Of those whom the model finds without the trigger, the share that it reads as healthy with it.
    Whom it misses anyway is lost to its accuracy and not to the attack.
    """
    if attack.trigger is None:
        return None
    ill = task.test_images[task.test_labels != HEALTHY]
    found = predict(model, normalised(ill)) != HEALTHY
    stamped = attack.trigger(ill).astype(np.float32)
    hidden = predict(model, normalised(stamped)) == HEALTHY
    return float(hidden[found].mean()) if found.any() else 0.0


def _measure(model: Vectors, task: TaskData, attack: Attack, started: float) -> Outcome:
    right = predict(model, normalised(task.test_images)) == task.test_labels
    accuracies = [float(right[task.test_labels == label].mean()) for label in (0, 1)]
    return Outcome(
        sum(accuracies) / len(accuracies),
        attack_success(model, task, attack),
        time.perf_counter() - started,
    )


def _split(labels: Labels, split: str, rng: np.random.Generator) -> list[Labels]:
    if split == "iid":
        return split_evenly(labels, HOSPITALS, rng)
    return split_by_label(labels, HOSPITALS, DIRICHLET, rng)


def _data(
    task: TaskData, parts: list[Labels], attack: Attack, rng: np.random.Generator
) -> list[tuple[torch.Tensor, torch.Tensor]]:
    poison, pooled = attack.poison, np.concatenate(parts[:MALICIOUS])
    data = []
    for hospital, part in enumerate(parts):
        images, labels = task.images[part], task.labels[part]
        if poison is not None and hospital < MALICIOUS:
            poisoned, labels = poison(task.images[pooled], task.labels[pooled], rng)
            images = poisoned.astype(np.float32)
        data.append((normalised(images), torch.from_numpy(labels)))
    return data
