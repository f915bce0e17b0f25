"""How good a model is: the figures of a binary task."""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from chain.errors import InvalidInputError


@dataclass(frozen=True, slots=True)
class Metrics:
    """A model's figures on labelled images; all but ``loss`` are shares from 0 to 1.

    Attributes:
        accuracy: Share of images whose more probable class is the label.
        auc: Area under the receiver operating characteristic.
        sensitivity: Share of the positive images that were found.
        specificity: Share of the negative images that were left alone.
        loss: Mean cross-entropy, in nats.
        images: How many there were.
    """

    accuracy: float
    auc: float
    sensitivity: float
    specificity: float
    loss: float
    images: int


def binary_metrics(logits: NDArray[np.float64], labels: NDArray[np.int64]) -> Metrics:
    """Compute the figures of a task with the classes 0 and 1.

    Args:
        logits: float64 of shape (n, 2).
        labels: int64 of shape (n,), each 0 or 1.

    Raises:
        InvalidInputError: If one of the classes does not occur, for then half of the figures are
            undefined.
    """
    positive = labels == 1
    if not positive.any() or positive.all():
        raise InvalidInputError(
            "expected images of both classes, found one: a model can be judged only on both"
        )
    margin = logits[:, 1] - logits[:, 0]
    found = margin > 0
    return Metrics(
        accuracy=float((found == positive).mean()),
        auc=area_under_curve(margin, positive),
        sensitivity=float(found[positive].mean()),
        specificity=float((~found)[~positive].mean()),
        loss=float(np.logaddexp(0.0, np.where(positive, -margin, margin)).mean()),
        images=len(labels),
    )


def area_under_curve(scores: NDArray[np.float64], positive: NDArray[np.bool_]) -> float:
    """Compute the area under the ROC curve by ranks (Mann and Whitney 1947); ties count half.

    Args:
        scores: float64 of shape (n,).
        positive: bool of shape (n,), with both values.
    """
    _, place, count = np.unique(scores, return_inverse=True, return_counts=True)
    ranks: NDArray[Any] = (np.cumsum(count) - (count - 1) / 2)[place]
    n = int(positive.sum())
    return float((ranks[positive].sum() - n * (n + 1) / 2) / (n * (len(scores) - n)))
