"""Tasks: what a federation can learn, each with its model, loss, metrics and way of training.

A task's name stands on the ledger (docs/protocol.md, section 7); every hospital that takes part
knows the task by that name. torch stays behind this module and `node.training`.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import cast

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional

from chain.errors import InvalidInputError
from node.metrics import Metrics, binary_metrics


@dataclass(frozen=True, slots=True)
class Task:
    """A task that hospitals train together.

    Attributes:
        name: As on the ledger.
        modalities: DICOM modalities whose images suit it.
        sides: Least and greatest side of an image in pixels; larger images are scaled down.
        classes: How many; labels are 0 to ``classes`` - 1.
        model: Builds the model with fresh weights, all of them float32.
        loss: Loss of logits (n, classes), labels (n,) and class weights (classes,).
        metrics: Figures of logits (n, classes) and labels (n,).
        epochs: Passes over the images in one round.
        batch: Images in one step.
        learning_rate: Its peak in a one-cycle schedule (Smith and Topin 2018, arXiv 1708.07120).
        weight_decay: Of AdamW (Loshchilov and Hutter 2019, arXiv 1711.05101).
        shift: Greatest shift of a training image, in pixels each way.
    """

    name: str
    modalities: frozenset[str]
    sides: tuple[int, int]
    classes: int
    model: Callable[[], nn.Module]
    loss: Callable[[Tensor, Tensor, Tensor], Tensor]
    metrics: Callable[[NDArray[np.float64], NDArray[np.int64]], Metrics]
    epochs: int
    batch: int
    learning_rate: float
    weight_decay: float
    shift: int


class SmallCnn(nn.Module):
    """A small convolutional network over grey images of any size, about 25,000 parameters.

    Group normalisation (Wu and He 2018, arXiv 1803.08494) instead of batch normalisation: it keeps
    no running statistics, which hospitals with different scanners could not average, and no
    counters, so that all of the model is float32 parameters.
    """

    def __init__(self, classes: int, width: int = 8) -> None:
        """Build the layers with fresh weights."""
        super().__init__()
        self.features = nn.Sequential(
            *_block(1, width),
            *_block(width, 2 * width),
            nn.MaxPool2d(2),
            *_block(2 * width, 4 * width),
            nn.MaxPool2d(2),
            *_block(4 * width, 8 * width),
        )
        self.head = nn.Linear(16 * width, classes)

    def forward(self, images: Tensor) -> Tensor:
        """Return logits (n, classes) of images (n, 1, height, width)."""
        features = self.features(images)
        # The greatest answer finds what is small and anywhere, the mean what is spread out.
        pooled = torch.cat([features.mean(dim=(2, 3)), features.amax(dim=(2, 3))], dim=1)
        return cast("Tensor", self.head(pooled))


def task_named(name: str) -> Task:
    """Return the task of this name.

    Raises:
        InvalidInputError: If there is none.
    """
    try:
        return TASKS[name]
    except KeyError:
        raise InvalidInputError(f"expected one of {', '.join(TASKS)}, found {name!r}") from None


def _block(channels_in: int, channels_out: int) -> tuple[nn.Module, ...]:
    return (
        nn.Conv2d(channels_in, channels_out, 3, padding=1, bias=False),
        nn.GroupNorm(4, channels_out),
        nn.ReLU(),
    )


def _binary_model() -> nn.Module:
    return SmallCnn(classes=2)


def _cross_entropy(logits: Tensor, labels: Tensor, weights: Tensor) -> Tensor:
    return functional.cross_entropy(logits, labels, weight=weights)


def _binary_task(name: str, modalities: set[str], epochs: int, batch: int, rate: float) -> Task:
    return Task(
        name=name,
        modalities=frozenset(modalities),
        sides=(28, 64),
        classes=2,
        model=_binary_model,
        loss=_cross_entropy,
        metrics=binary_metrics,
        epochs=epochs,
        batch=batch,
        learning_rate=rate,
        weight_decay=1e-2,
        shift=2,
    )


TASKS: Mapping[str, Task] = MappingProxyType(
    {
        task.name: task
        for task in (
            _binary_task("lesion-2d", {"MR", "CT"}, epochs=8, batch=16, rate=1e-2),
            _binary_task("pneumonia-2d", {"CR", "DX", "OT"}, epochs=6, batch=32, rate=5e-3),
        )
    }
)
