"""The story's two pictures."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.figure import Figure
from numpy.typing import NDArray

from demo.report import Baselines, DataReport, RoundReport

_DPI = 130


def plot_rounds(
    path: Path, rounds: Sequence[RoundReport], baselines: Baselines, data: DataReport
) -> None:
    """Draw accuracy and AUC of each round's model against the baselines, as PNG."""
    figure = Figure(figsize=(9, 3.8), layout="constrained")
    numbers = [one.round for one in rounds]
    panels = zip(figure.subplots(1, 2), ("accuracy", "auc"), ("accuracy", "AUC"), strict=True)
    for axes, key, label in panels:
        axes.plot(numbers, [getattr(one, key) for one in rounds], "o-", label="federated")
        axes.axhline(getattr(baselines.pooled, key), ls="--", color="0.3", label="pooled data")
        alone = getattr(baselines.local_mean, key)
        axes.axhline(alone, ls=":", color="tab:red", label="hospitals alone (mean)")
        axes.set(xlabel="round", ylabel=label, xticks=numbers)
        axes.grid(alpha=0.3)
    axes.legend(loc="lower right")
    figure.suptitle(_title(data), fontsize=10)
    _save(figure, path)


def plot_examples(
    path: Path, images: NDArray[Any], labels: NDArray[np.int64], data: DataReport
) -> None:
    """Draw a strip of images as the model sees them, positive ones below, as PNG.

    Args:
        path: Where to write.
        images: Shape (n, height, width) or (n, 1, height, width).
        labels: Shape (n,), 0 or 1.
        data: What the images are of.
    """
    columns = 8
    figure = Figure(figsize=(columns * 1.1, 2.8), layout="constrained")
    for row, label in zip(figure.subplots(2, columns), (0, 1), strict=True):
        chosen = images[labels == label][:columns]
        for axes in row:
            axes.axis("off")
        for axes, image in zip(row, chosen, strict=False):
            axes.imshow(image.reshape(image.shape[-2:]), cmap="gray")
        row[0].set_title(("without", "with")[label], fontsize=9, loc="left")
    figure.suptitle(_title(data), fontsize=10)
    _save(figure, path)


def _title(data: DataReport) -> str:
    return f"{data.name}{', SIMULATED lesions' if data.simulated else ''}"


def _save(figure: Figure, path: Path) -> None:
    figure.savefig(path, dpi=_DPI)
