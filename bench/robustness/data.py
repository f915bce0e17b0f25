"""Data of the robustness benchmark, and how they are split over hospitals."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
from scipy import ndimage  # type: ignore[import-untyped]

from demo.anatomy import draw_scan, read_atlas
from demo.scans import SITES

ROOT = Path(__file__).resolve().parents[2]
PNEUMONIA = ROOT.parent / "shared" / "data" / "pneumoniamnist-3882.npz"
LESIONS = ROOT / "artifacts" / "bench-lesions.npz"  # drawn once, kept outside the repository
SIDE = 28  # pixels

_TRAINING, _TEST = 2000, 600  # simulated scans

Images = npt.NDArray[np.float32]
Labels = npt.NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class TaskData:
    """A task's images, float32 (n, 28, 28) in 0..1, and labels.

    Attributes:
        name: As in the tables.
        images: To learn from.
        labels: 0 healthy, 1 ill; (n,).
        test_images: Of patients that no hospital has.
        test_labels: Theirs.
    """

    name: str
    images: Images
    labels: Labels
    test_images: Images
    test_labels: Labels


def pneumonia() -> TaskData | None:
    """Read PneumoniaMNIST (real chest X-rays), or return None where it is absent.

    Three of four pneumonias are left out, so that the classes are 388 to 874: with 90 % ill, a
    Dirichlet split leaves most hospitals without a healthy patient.
    """
    if not PNEUMONIA.is_file():
        return None
    with np.load(PNEUMONIA) as file:
        images, labels = _unit(file["train_images"]), file["train_labels"].ravel()
        kept = np.flatnonzero((labels == 0) | (np.cumsum(labels) % 4 == 0))
        return TaskData(
            "pneumonia",
            images[kept],
            labels[kept].astype(np.int64),
            _unit(file["test_images"]),
            file["test_labels"].ravel().astype(np.int64),
        )


def lesions() -> TaskData:
    """Draw SIMULATED lesions over the MNI152 atlas, seen by eight simulated scanners."""
    if not LESIONS.is_file():
        images, labels = _draw(_TRAINING + _TEST)
        LESIONS.parent.mkdir(exist_ok=True)
        np.savez(LESIONS, images=images, labels=labels)
    with np.load(LESIONS) as file:
        images, labels = file["images"], file["labels"]
    return TaskData(
        "lesion", images[:_TRAINING], labels[:_TRAINING], images[_TRAINING:], labels[_TRAINING:]
    )


def split_evenly(labels: Labels, hospitals: int, rng: np.random.Generator) -> list[Labels]:
    """Return the image numbers of each hospital, all alike (IID)."""
    return [np.sort(part) for part in np.array_split(rng.permutation(len(labels)), hospitals)]


def split_by_label(
    labels: Labels, hospitals: int, alpha: float, rng: np.random.Generator, least: int = 20
) -> list[Labels]:
    """Return the image numbers of each hospital, labels skewed (Hsu, Qi and Brown 2019).

    Each class is dealt out by a Dirichlet distribution of its own; drawn again until every hospital
    has at least ``least`` images.
    """
    while True:
        parts: list[list[int]] = [[] for _ in range(hospitals)]
        for label in np.unique(labels):
            numbers = rng.permutation(np.flatnonzero(labels == label))
            cuts = np.cumsum(rng.dirichlet(np.full(hospitals, alpha)))[:-1] * len(numbers)
            for part, dealt in zip(parts, np.split(numbers, cuts.astype(int)), strict=True):
                part.extend(dealt.tolist())
        if min(map(len, parts)) >= least:
            return [np.sort(np.array(part, dtype=np.int64)) for part in parts]


def _unit(images: npt.NDArray[np.uint8]) -> Images:
    return images.astype(np.float32) / np.float32(255.0)


def _draw(count: int) -> tuple[Images, Labels]:
    atlas = read_atlas()
    labels = np.arange(count, dtype=np.int64) // len(SITES) % 2
    images = np.empty((count, SIDE, SIDE), dtype=np.float32)
    for number, label in enumerate(labels):
        rng = np.random.default_rng((152, number))
        scan = draw_scan(atlas, SITES[number % len(SITES)].scanner, bool(label), rng)
        pixels = scan.pixels[3:45, 3:45].astype(np.float32)  # the margin is empty
        images[number] = ndimage.zoom(
            pixels / pixels.max(), SIDE / 42, order=1, grid_mode=True, mode="nearest"
        )
    return images, labels
