"""What the same training gives without a federation: on all data in one place, and alone."""

from collections.abc import Mapping
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import numpy as np

from demo.hospitals import WORKERS, DemoData
from demo.report import Baselines, Score
from node.dataset import CommittedDataset
from node.tasks import task_named
from node.training import evaluate, train


def measure(
    data: DemoData,
    datasets: Mapping[str, CommittedDataset],
    first_model: Path,
    rounds: int,
    folder: Path,
) -> Baselines:
    """Train from the federation's first model for as many epochs as all of its rounds together.

    Args:
        data: The task, and the images to judge on.
        datasets: The honest hospitals' data, by name.
        first_model: What the federation began from.
        rounds: How many rounds the federation had.
        folder: Receives the models.
    """
    parts: dict[str, tuple[Any, Any]] = {
        "pooled": (
            np.concatenate([one.images for one in datasets.values()]),
            np.concatenate([one.labels for one in datasets.values()]),
        ),
        **{name: (one.images, one.labels) for name, one in datasets.items()},
    }
    epochs = rounds * task_named(data.task).epochs
    with ProcessPoolExecutor(WORKERS, get_context("spawn")) as pool:
        trained = {
            name: pool.submit(
                train,
                data.task,
                first_model,
                images,
                labels,
                folder / f"{name}.safetensors",
                seed=1,
                epochs=epochs,
            )
            for name, (images, labels) in parts.items()
        }
        for one in trained.values():
            one.result()
    scores = {name: score(data, folder / f"{name}.safetensors") for name in parts}
    alone = [scores[name] for name in datasets]
    mean = Score(
        float(np.mean([one.accuracy for one in alone])), float(np.mean([one.auc for one in alone]))
    )
    return Baselines(scores["pooled"], mean)


def score(data: DemoData, model: Path) -> Score:
    """Judge a model on the test images."""
    metrics = evaluate(data.task, model, data.test.images, data.test.labels, WORKERS)
    return Score(metrics.accuracy, metrics.auc)
