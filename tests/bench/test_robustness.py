"""The simulator of federations under attack, on images small in number."""

import numpy as np
import pytest
import torch

from bench.attacks import Attack, backdoor, corner_square, scale_up, send_not_finite
from bench.robustness.data import TaskData, split_by_label, split_evenly
from bench.robustness.pipelines import Examples, Floats, aggregate, pipelines
from bench.robustness.simulation import HOSPITALS, SPLITS, simulate
from bench.robustness.training import PARAMETERS, Recipe, Vectors, first_model, normalised, train

RECIPE = Recipe(steps=2, batch=4)


@pytest.fixture
def task() -> TaskData:
    rng = np.random.default_rng(5)
    images = rng.random((400, 28, 28), dtype=np.float32)
    labels = rng.integers(0, 2, 400)
    return TaskData("noise", images[:300], labels[:300], images[300:], labels[300:])


def plain_mean(base: Floats, updates: Floats, examples: Examples) -> Vectors:
    del base, examples
    mean: Vectors = updates.astype(np.float64).mean(axis=0)
    return mean


def test_a_split_gives_every_image_to_exactly_one_hospital(task: TaskData) -> None:
    rng = np.random.default_rng(0)
    for parts in (
        split_evenly(task.labels, HOSPITALS, rng),
        split_by_label(task.labels, HOSPITALS, 0.3, rng, least=5),
    ):
        assert len(parts) == HOSPITALS
        assert np.array_equal(np.sort(np.concatenate(parts)), np.arange(300))


def test_hospitals_trained_together_learn_what_each_would_learn_alone(task: TaskData) -> None:
    everything = (normalised(task.images), torch.from_numpy(task.labels))
    base = first_model(0)
    alone = train(base, [everything], RECIPE, torch.Generator().manual_seed(1))
    other = (everything[0][:10], everything[1][:10])
    # A hospital more draws other numbers; with a single batch of every image nothing is drawn.
    first = (everything[0][:1], everything[1][:1])
    no_chance = Recipe(steps=2, batch=4, shift=0)
    single = train(base, [first], no_chance, torch.Generator().manual_seed(1))
    together = train(base, [first, other], no_chance, torch.Generator().manual_seed(1))
    assert alone.shape == (1, PARAMETERS)
    assert np.allclose(single[0], together[0], atol=1e-4)
    assert not np.allclose(together[0], together[1], atol=1e-4)


@pytest.mark.parametrize("split", SPLITS)
def test_the_same_seed_gives_the_same_outcome(task: TaskData, split: str) -> None:
    attack = backdoor("backdoor", corner_square, 0, scale_up)
    outcomes = [
        simulate(task, split, attack, plain_mean, 3, 2, RECIPE, first=first_model(3))
        for _ in range(2)
    ]
    assert outcomes[0].accuracy == outcomes[1].accuracy
    assert outcomes[0].success == outcomes[1].success
    assert outcomes[0].success is not None


def test_what_is_not_finite_never_reaches_a_pipeline(task: TaskData) -> None:
    seen: list[int] = []

    def counting(base: Floats, updates: Floats, examples: Examples) -> Vectors:
        seen.append(len(updates))
        return plain_mean(base, updates, examples)

    attack = Attack("NaN and infinity", forge=send_not_finite)
    simulate(task, "iid", attack, counting, 0, 1, RECIPE, first=first_model(0))
    assert seen == [HOSPITALS - 2]


def test_every_pipeline_runs_by_the_products_own_code() -> None:
    rng = np.random.default_rng(0)
    base = rng.normal(size=500).astype(np.float32)
    updates = base + 0.1 + rng.normal(0.0, 0.1, (HOSPITALS, 500)).astype(np.float32)
    examples = np.arange(1, HOSPITALS + 1, dtype=np.int64)
    for name, text in pipelines(2).items():
        model = aggregate(text, base, updates.astype(np.float32), examples)
        assert model.shape == (500,), name
        assert np.isfinite(model).all(), name
