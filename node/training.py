"""Local training: from a base model's file to an update's file.

The same inputs and seed give the same bytes on the same machine with the same number of threads:
every random choice comes from one generator, and torch is held to deterministic algorithms. Between
machines training is not reproducible to the bit, and nothing in the protocol asks for it.
"""

import hashlib
import math
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional

from chain.errors import InvalidInputError
from chain.schema import Schema
from chain.tensors import Array, open_tensors, save_tensors
from chain.tensors import schema_of as schema_of_tensors
from node.metrics import Metrics
from node.tasks import Task, task_named

Images = NDArray[np.uint8] | NDArray[np.float32]
Labels = NDArray[np.int64]

_CODE_TAG = b"fedwitness.code.v1"
_FLAT = 1e-3  # standard deviation below which an image has no contrast to bring up
_JUDGED_AT_ONCE = 256  # images


@dataclass(frozen=True, slots=True)
class Progress:
    """Where training stands after an epoch: ``loss`` is the mean over its steps, in nats."""

    epoch: int
    epochs: int
    loss: float


@dataclass(frozen=True, slots=True)
class TrainingReport:
    """What training did.

    Attributes:
        content: Content digest of the update (docs/protocol.md, section 3.2).
        examples: Images that were learned from.
        losses: Mean loss of each epoch, in nats.
        seconds: Wall time.
    """

    content: bytes
    examples: int
    losses: tuple[float, ...]
    seconds: float


def schema_of(task_name: str) -> Schema:
    """Return the schema of a task's updates, and of its models but for a server optimiser's state.

    Raises:
        InvalidInputError: If there is no such task.
    """
    with torch.random.fork_rng(devices=[]):
        return schema_of_tensors(_arrays(task_named(task_name).model()))


def initial_model(task_name: str, seed: int, path: Path) -> bytes:
    """Write a task's first model, with fresh weights from a seed, and return its content digest.

    Raises:
        InvalidInputError: If there is no such task.
        OSError: If the file cannot be written.
    """
    with _deterministic(threads=1), torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return save_tensors(path, _arrays(task_named(task_name).model()))


def train(
    task_name: str,
    base: Path,
    images: Images,
    labels: Labels,
    out: Path,
    seed: int,
    epochs: int | None = None,
    on_epoch: Callable[[Progress], None] = lambda _: None,
    threads: int = 1,
) -> TrainingReport:
    """Train a task from a base model on a hospital's images, and write the update.

    Classes are weighted by the inverse of their frequency, so that hospitals with different shares
    of the ill learn the same question.

    Args:
        task_name: A key of `node.tasks.TASKS`.
        base: Canonical tensor file of the task's schema, with a server optimiser's state or not.
        images: Of shape (n, height, width).
        labels: int64 of shape (n,).
        out: Canonical tensor file that is written; after an error it is as it was.
        seed: Of shuffling and augmentation.
        epochs: Passes over the images; the task's own number where None.
        on_epoch: Told after each epoch.
        threads: CPU threads. Another number gives other bytes.

    Raises:
        InvalidInputError: If base or data do not suit the task, or the loss is not finite.
        OSError: If a file cannot be read or written.
    """
    task = task_named(task_name)
    epochs = task.epochs if epochs is None else epochs
    if not 1 <= epochs <= 1000:  # noqa: PLR2004
        raise InvalidInputError(f"expected 1 to 1000 epochs, found {epochs}")
    started = time.monotonic()
    with _deterministic(threads):
        inputs, targets = _inputs(task, images), _targets(task, images, labels)
        model = _load(task, base)
        model.train()
        generator = torch.Generator().manual_seed(seed)
        losses = tuple(_epochs(task, model, inputs, targets, generator, epochs, on_epoch))
        content = save_tensors(out, _arrays(model))
    return TrainingReport(content, len(labels), losses, time.monotonic() - started)


def evaluate(
    task_name: str, model: Path, images: Images, labels: Labels, threads: int = 1
) -> Metrics:
    """Measure a model on labelled images that it has not learned from.

    Raises:
        InvalidInputError: If model or data do not suit the task, the model's answers are not
            finite, or the labels hold only one class.
        OSError: If the model cannot be read.
    """
    task = task_named(task_name)
    with _deterministic(threads), torch.no_grad():
        inputs, _ = _inputs(task, images), _targets(task, images, labels)
        network = _load(task, model)
        network.eval()
        logits = torch.cat([network(part) for part in torch.split(inputs, _JUDGED_AT_ONCE)])
    answers = logits.numpy().astype(np.float64)
    if not np.isfinite(answers).all():
        raise InvalidInputError(f"{model.name}: expected finite answers of the model, found others")
    return task.metrics(answers, labels)


def code_digest() -> bytes:
    """Return the digest of the code that trains, which an update's record names.

    SHA-256 of ``fedwitness.code.v1`` and then, for every ``.py`` and ``.csv`` file of this room in
    the byte order of its path below the room (``/`` between folders): u64 length of the path, the
    path in UTF-8, u64 length of the content, the content. Lengths are big-endian.
    """
    room = Path(__file__).parent
    files = {
        path.relative_to(room).as_posix().encode(): path
        for path in room.rglob("*")
        if path.suffix in {".py", ".csv"}
    }
    hasher = hashlib.sha256(_CODE_TAG)
    for name in sorted(files):
        for piece in (name, files[name].read_bytes()):
            hasher.update(len(piece).to_bytes(8, "big") + piece)
    return hasher.digest()


def _epochs(
    task: Task,
    model: nn.Module,
    inputs: Tensor,
    targets: Tensor,
    generator: torch.Generator,
    epochs: int,
    on_epoch: Callable[[Progress], None],
) -> Iterator[float]:
    """Train epoch by epoch and give each one's mean loss."""
    weights = _class_weights(task, targets)
    optimizer = torch.optim.AdamW(
        model.parameters(), lr=task.learning_rate, weight_decay=task.weight_decay
    )
    steps = epochs * math.ceil(len(targets) / task.batch)
    # A cycle that ended with its first step would divide by zero.
    schedule = torch.optim.lr_scheduler.OneCycleLR(
        optimizer, task.learning_rate, total_steps=max(steps, 4)
    )
    for epoch in range(1, epochs + 1):
        losses = []
        for picked in _batches(len(targets), task.batch, generator):
            optimizer.zero_grad()
            logits = model(_shifted(inputs[picked], task.shift, generator))
            loss = task.loss(logits, targets[picked], weights)
            losses.append(float(loss.detach()))
            if not math.isfinite(losses[-1]):
                raise InvalidInputError(
                    f"training stopped in epoch {epoch}: expected a finite loss, found "
                    f"{losses[-1]}. The base model or the images hold extreme values"
                )
            torch.autograd.backward(loss)
            optimizer.step()
            schedule.step()
        mean = sum(losses) / len(losses)
        on_epoch(Progress(epoch, epochs, mean))
        yield mean


def _batches(examples: int, batch: int, generator: torch.Generator) -> tuple[Tensor, ...]:
    """Return all examples' numbers in random order, a batch at a time."""
    return torch.split(torch.randperm(examples, generator=generator), batch)


def _class_weights(task: Task, targets: Tensor) -> Tensor:
    counts = np.bincount(targets.numpy(), minlength=task.classes)
    weights = len(targets) / (task.classes * np.maximum(counts, 1))
    return torch.from_numpy(weights.astype(np.float32))


def _inputs(task: Task, images: Images) -> Tensor:
    """Bring images to mean 0 and deviation 1, each by itself, as (n, 1, height, width) float32.

    That takes out a scanner's gain and offset, which differ from hospital to hospital.
    """
    least, greatest = task.sides
    if images.ndim != 3 or len(images) == 0 or min(images.shape[1:]) < least:  # noqa: PLR2004
        raise InvalidInputError(
            f"task {task.name}: expected images (n, height, width) with sides of at least {least}, "
            f"found {images.shape}"
        )
    pixels = torch.from_numpy(np.ascontiguousarray(images, dtype=np.float32))[:, None]
    if max(images.shape[1:]) > greatest:
        size = tuple(min(side, greatest) for side in images.shape[1:])
        pixels = functional.interpolate(pixels, size=size, mode="area")
    centred = pixels - pixels.mean(dim=(2, 3), keepdim=True)
    deviation = centred.square().mean(dim=(2, 3), keepdim=True).sqrt()
    inputs = centred / deviation.clamp(min=_FLAT)
    if not bool(torch.isfinite(inputs).all()):
        raise InvalidInputError(f"task {task.name}: expected finite images, found others")
    return inputs


def _targets(task: Task, images: Images, labels: Labels) -> Tensor:
    if labels.shape != (len(images),) or labels.min() < 0 or labels.max() >= task.classes:
        raise InvalidInputError(
            f"task {task.name}: expected a label from 0 to {task.classes - 1} for each of "
            f"{len(images)} images, found {labels.shape} from {labels.min(initial=0)} to "
            f"{labels.max(initial=0)}"
        )
    return torch.from_numpy(np.ascontiguousarray(labels, dtype=np.int64))


def _shifted(images: Tensor, most: int, generator: torch.Generator) -> Tensor:
    """Shift each image by up to ``most`` pixels each way; its border is repeated outwards."""
    n, _, height, width = images.shape
    wide = functional.pad(images, (most,) * 4, mode="replicate")
    down, right = torch.randint(0, 2 * most + 1, (2, n, 1), generator=generator)
    rows = (down + torch.arange(height))[:, :, None]
    columns = (right + torch.arange(width))[:, None, :]
    return wide[torch.arange(n)[:, None, None], 0, rows, columns][:, None]


def _load(task: Task, path: Path) -> nn.Module:
    """Build a task's model with the weights of a canonical tensor file.

    What a server optimiser keeps in the file is left out (docs/protocol.md, 3.2).
    """
    with torch.random.fork_rng(devices=[]):
        model = task.model()
    expected = schema_of_tensors(_arrays(model))
    with open_tensors(path) as file:
        found = file.schema.trained()
        if found != expected:
            raise InvalidInputError(
                f"{path.name}: expected a model of task {task.name} (schema "
                f"{expected.digest().hex()}), found schema {found.digest().hex()}"
            )
        weights = {
            spec.name: torch.from_numpy(file.arrays[spec.name].copy()) for spec in found.tensors
        }
    if not all(bool(torch.isfinite(weight).all()) for weight in weights.values()):
        raise InvalidInputError(f"{path.name}: expected a model of finite numbers, found others")
    model.load_state_dict(weights)
    return model


def _arrays(model: nn.Module) -> Mapping[str, Array]:
    arrays: dict[str, NDArray[Any]] = {
        name: tensor.detach().numpy() for name, tensor in model.state_dict().items()
    }
    return arrays


@contextmanager
def _deterministic(threads: int) -> Iterator[None]:
    """Hold torch to algorithms whose result depends on the inputs and the number of threads."""
    before = torch.get_num_threads(), torch.are_deterministic_algorithms_enabled()
    torch.set_num_threads(threads)
    torch.use_deterministic_algorithms(True)
    try:
        yield
    finally:
        torch.set_num_threads(before[0])
        torch.use_deterministic_algorithms(before[1])
