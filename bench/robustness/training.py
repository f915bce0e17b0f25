"""All hospitals of a simulated federation trained at once, as one grouped network.

Ten small networks cost little more than one when their layers are groups of one convolution. The
network is that of `node.tasks.SmallCnn` made smaller: three strided layers.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor
from torch.nn import functional

WIDTHS = (1, 8, 16, 32)
CLASSES = 2
_NORM_GROUPS = 4
_FLAT = 1e-3
_JUDGED_AT_ONCE = 512

Vectors = npt.NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Recipe:
    """How hospitals train in one round: AdamW with a one-cycle schedule, as `node.training`.

    Attributes:
        steps: Batches in a round.
        batch: Images in a batch, drawn anew for each.
        rate: Peak learning rate.
        decay: Weight decay.
        shift: Greatest shift of a training image, in pixels each way.
    """

    steps: int = 12
    batch: int = 24
    rate: float = 1e-2
    decay: float = 1e-2
    shift: int = 2


def _shapes() -> tuple[tuple[int, ...], ...]:
    shapes: list[tuple[int, ...]] = []
    for before, after in pairwise(WIDTHS):
        shapes += [(after, before, 3, 3), (after,), (after,)]
    return (*shapes, (CLASSES, 2 * WIDTHS[-1]), (CLASSES,))


SHAPES = _shapes()
SIZES = tuple(int(np.prod(shape)) for shape in SHAPES)
PARAMETERS = sum(SIZES)


def first_model(seed: int) -> Vectors:
    """Return fresh weights as one flat vector (d,), drawn as PyTorch's layers draw theirs."""
    rng = np.random.default_rng((1, seed))
    parts: list[Vectors] = []
    for shape, size in zip(SHAPES, SIZES, strict=True):
        if len(shape) == 1:
            is_scale = shape[0] != CLASSES and len(parts) % 3 == 1
            parts.append(np.full(size, float(is_scale)))
        else:
            bound = 1.0 / np.sqrt(np.prod(shape[1:]))
            parts.append(rng.uniform(-bound, bound, size))
    return np.concatenate(parts).astype(np.float32).astype(np.float64)


def normalised(images: npt.NDArray[np.float32]) -> Tensor:
    """Bring each image to mean 0 and deviation 1, as `node.training` does."""
    pixels = torch.from_numpy(np.ascontiguousarray(images, dtype=np.float32))
    centred = pixels - pixels.mean(dim=(1, 2), keepdim=True)
    deviation = centred.square().mean(dim=(1, 2), keepdim=True).sqrt()
    return centred / deviation.clamp(min=_FLAT)


def forward(flat: Tensor, images: Tensor) -> Tensor:
    """Return logits (batch, hospitals, classes).

    Args:
        flat: Parameters, one row for each hospital, (hospitals, d).
        images: (batch, hospitals, side, side).
    """
    hospitals = len(flat)
    parts = torch.split(flat, list(SIZES), dim=1)
    x = images
    for layer in range(len(WIDTHS) - 1):
        weight, scale, offset = parts[3 * layer : 3 * layer + 3]
        kernels = weight.reshape(-1, *SHAPES[3 * layer][1:])
        x = functional.conv2d(x, kernels, stride=2, padding=1, groups=hospitals)
        groups = hospitals * _NORM_GROUPS
        x = functional.group_norm(x, groups, scale.reshape(-1), offset.reshape(-1))
        x = functional.relu(x)
    x = x.reshape(len(x), hospitals, WIDTHS[-1], -1)
    pooled = torch.cat([x.mean(dim=3), x.amax(dim=3)], dim=2)
    head = parts[-2].reshape(hospitals, CLASSES, -1)
    return torch.einsum("bhf,hcf->bhc", pooled, head) + parts[-1]


def train(
    base: Vectors,
    data: Sequence[tuple[Tensor, Tensor]],
    recipe: Recipe,
    generator: torch.Generator,
) -> Vectors:
    """Train every hospital from the base model and return their updates, (hospitals, d).

    Args:
        base: (d,).
        data: Normalised images and labels of each hospital.
        recipe: How.
        generator: The only source of chance.
    """
    flat = torch.from_numpy(base.astype(np.float32)).repeat(len(data), 1).requires_grad_()
    weights = torch.stack([_class_weights(labels) for _, labels in data])
    optimizer = torch.optim.AdamW([flat], lr=recipe.rate, weight_decay=recipe.decay)
    schedule = torch.optim.lr_scheduler.OneCycleLR(
        optimizer, recipe.rate, total_steps=max(recipe.steps, 4)
    )
    for _ in range(recipe.steps):
        picked = [torch.randint(len(y), (recipe.batch,), generator=generator) for _, y in data]
        images = torch.stack([x[one] for (x, _), one in zip(data, picked, strict=True)], dim=1)
        labels = torch.stack([y[one] for (_, y), one in zip(data, picked, strict=True)], dim=1)
        images = _shifted(images, recipe.shift, generator)
        logits = forward(flat, images)
        losses = functional.cross_entropy(
            logits.reshape(-1, CLASSES), labels.reshape(-1), reduction="none"
        ).view(labels.shape)
        share = torch.gather(weights, 1, labels.T).T
        loss = (losses * share).sum() / recipe.batch
        (flat.grad,) = torch.autograd.grad(loss, [flat])
        optimizer.step()
        schedule.step()
    return flat.detach().numpy().astype(np.float64)


def predict(model: Vectors, images: Tensor) -> npt.NDArray[np.int64]:
    """Return the model's answer to each normalised image, (n,)."""
    flat = torch.from_numpy(model.astype(np.float32))[None]
    with torch.no_grad():
        answers = [
            forward(flat, part[:, None])[:, 0].argmax(dim=1)
            for part in torch.split(images, _JUDGED_AT_ONCE)
        ]
    return torch.cat(answers).numpy()


def _class_weights(labels: Tensor) -> Tensor:
    counts = torch.bincount(labels, minlength=CLASSES).clamp(min=1)
    return len(labels) / (CLASSES * counts.to(torch.float32))


def _shifted(images: Tensor, most: int, generator: torch.Generator) -> Tensor:
    """Shift each image by up to ``most`` pixels each way; its border is repeated outwards."""
    batch, hospitals, height, width = images.shape
    flat = images.reshape(batch * hospitals, 1, height, width)
    wide = functional.pad(flat, (most,) * 4, mode="replicate")
    down, right = torch.randint(0, 2 * most + 1, (2, len(flat), 1), generator=generator)
    rows = (down + torch.arange(height))[:, :, None]
    columns = (right + torch.arange(width))[:, None, :]
    shifted = wide[torch.arange(len(flat))[:, None, None], 0, rows, columns]
    return shifted.view(images.shape)
