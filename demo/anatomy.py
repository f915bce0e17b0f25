"""Head scans with simulated lesions, drawn over the real anatomy of the MNI152 atlas.

The atlas is an average of 152 people (Fonov et al. 2011, *NeuroImage* 54), shipped in nilearn's
wheel. No patient was ever scanned for these images: each one is the atlas, bent a little and
seen through one hospital's simulated scanner, and **every lesion is simulated**. Accuracy on
them says that a federation learns, nothing about a clinic.
"""

import importlib.util
from dataclasses import dataclass
from pathlib import Path

import nibabel
import numpy as np
from numpy.typing import NDArray
from scipy import ndimage  # type: ignore[import-untyped]

from chain.errors import InvalidInputError

SIZE = 48  # pixels along each side of an image
FIELD_OF_VIEW_MM = 208.0
PIXEL_MM = FIELD_OF_VIEW_MM / SIZE
GREATEST_VALUE = 4095  # 12 bits, as scanners store them

# Axial slices (index along z, at 1 mm) from the basal ganglia to the centrum semiovale.
_LOWEST_SLICE = 70
_HIGHEST_SLICE = 110
# Sampled twice as densely as stored and averaged, so that fine structure does not alias.
_OVERSAMPLING = 2
# The brightness of each tissue in a fluid-suppressed (FLAIR) image, relative to the brightest.
_GREY, _WHITE, _OTHER = 0.62, 0.48, 0.12

FloatImage = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Scanner:
    """What one hospital's scanner does to an image.

    Attributes:
        maker: Manufacturer, as it stands in the DICOM files.
        bias: Strength of the smooth brightness field, as a share.
        gamma: Exponent of the contrast curve.
        noise: Standard deviation of the Rician noise, as a share of the brightest tissue.
        blur: Standard deviation of the point spread, in pixels.
        gain: Stored value of the brightest tissue.
    """

    maker: str
    bias: float
    gamma: float
    noise: float
    blur: float
    gain: float


@dataclass(frozen=True, slots=True)
class Atlas:
    """Tissue maps at 1 mm, each float32 of shape (x, y, z) in 0..1."""

    brain: NDArray[np.float32]
    grey: NDArray[np.float32]
    white: NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class Scan:
    """One image: ``pixels`` is uint16 of shape (48, 48); ``lesion`` is the truth about it."""

    pixels: NDArray[np.uint16]
    lesion: bool


def read_atlas() -> Atlas:
    """Read the MNI152 maps out of nilearn's wheel, without a download.

    Raises:
        InvalidInputError: If nilearn is not installed or holds other files than expected.
    """
    # Finding the package does not import it, which would take seconds.
    package = importlib.util.find_spec("nilearn")
    if package is None or package.origin is None:
        message = "nilearn, which holds the MNI152 atlas, is not installed: run `make setup`"
        raise InvalidInputError(message)
    folder = Path(package.origin).parent / "datasets" / "data"
    return Atlas(
        brain=_read_map(folder, "t1"), grey=_read_map(folder, "gm"), white=_read_map(folder, "wm")
    )


def draw_scan(atlas: Atlas, scanner: Scanner, lesion: bool, rng: np.random.Generator) -> Scan:
    """Draw one simulated patient, seen by one scanner.

    Args:
        atlas: The anatomy.
        scanner: The scanner's effects.
        lesion: Whether to simulate a lesion.
        rng: The only source of chance: the same state draws the same image.
    """
    brain, grey, white = _bent_slice(atlas, rng)
    tissue = _GREY * grey + _WHITE * white + _OTHER * np.clip(brain - grey - white, 0.0, 1.0)
    tissue *= 0.85 + 0.15 * brain  # the atlas' own T1 brightness gives the tissue some texture
    if lesion:
        tissue += _lesion(white, rng)
    return Scan(_scanned(tissue, scanner, rng), lesion)


def _read_map(folder: Path, kind: str) -> NDArray[np.float32]:
    path = folder / f"mni_icbm152_{kind}_tal_nlin_sym_09a_converted.nii.gz"
    if not path.is_file():
        message = f"nilearn has no {path.name}: expected version 0.14.1; run `make setup`"
        raise InvalidInputError(message)
    values = np.asarray(nibabel.load(path).dataobj)  # type: ignore[attr-defined]
    return values.astype(np.float32) / np.float32(255.0)


def _bent_slice(
    atlas: Atlas, rng: np.random.Generator
) -> tuple[FloatImage, FloatImage, FloatImage]:
    """Return one slice of each map, turned, scaled and bent alike: an anatomy of its own."""
    z = int(rng.integers(_LOWEST_SLICE, _HIGHEST_SLICE))
    dense = SIZE * _OVERSAMPLING
    step = FIELD_OF_VIEW_MM / dense
    rows, columns = np.mgrid[0:dense, 0:dense] * step - FIELD_OF_VIEW_MM / 2
    turn = rng.normal(0.0, 0.06)
    width, height = rng.normal(1.0, 0.04, size=2)
    x = width * (np.cos(turn) * columns - np.sin(turn) * rows) + rng.normal(0.0, 3.0)
    y = height * (np.sin(turn) * columns + np.cos(turn) * rows) + rng.normal(0.0, 3.0)
    x = x * rng.choice([-1.0, 1.0]) + _smooth_field(dense, 3.0, rng)
    y = y + _smooth_field(dense, 3.0, rng)
    # Images are stored front up, as radiologists look at them.
    middle_x, middle_y = atlas.brain.shape[0] / 2, atlas.brain.shape[1] / 2
    where = np.stack([middle_x + x, middle_y - y])
    brain, grey, white = (
        _shrunk(ndimage.map_coordinates(volume[:, :, z], where, order=1).astype(np.float64))
        for volume in (atlas.brain, atlas.grey, atlas.white)
    )
    return brain, grey, white


def _shrunk(image: FloatImage) -> FloatImage:
    shape = (SIZE, _OVERSAMPLING, SIZE, _OVERSAMPLING)
    averaged: FloatImage = image.reshape(shape).mean(axis=(1, 3))
    return averaged


def _smooth_field(size: int, strength: float, rng: np.random.Generator) -> FloatImage:
    """Return a smooth random field (size, size) around 0, from a coarse 4 by 4 grid."""
    coarse = rng.normal(0.0, strength, size=(4, 4))
    field: FloatImage = ndimage.zoom(coarse, size / 4, order=3)
    return field


def _lesion(white: FloatImage, rng: np.random.Generator) -> FloatImage:
    """Return the brightness that a lesion adds: an irregular blob in the white matter."""
    inside = np.argwhere(white > 0.6)  # noqa: PLR2004 - a voxel that is mostly white matter
    centre = inside[rng.integers(len(inside))]
    radius = rng.uniform(4.0, 9.0) / PIXEL_MM
    rows, columns = np.mgrid[0:SIZE, 0:SIZE]
    blob = np.zeros((SIZE, SIZE))
    for _ in range(4):
        row, column = centre + rng.normal(0.0, 0.55 * radius, size=2)
        stretch = rng.uniform(0.6, 1.2, size=2) * radius
        distance = ((rows - row) / stretch[0]) ** 2 + ((columns - column) / stretch[1]) ** 2
        blob += np.exp(-distance)
    contrast = rng.uniform(0.18, 0.42)
    # Grey matter is spared for the most part: these lesions grow along the fibres.
    brightness: FloatImage = contrast * np.clip(blob, 0.0, 1.0) * (0.3 + 0.7 * white)
    return brightness


def _scanned(tissue: FloatImage, scanner: Scanner, rng: np.random.Generator) -> NDArray[np.uint16]:
    """Return the image as the scanner stores it: blurred, uneven, curved, noisy, in whole numbers.

    The noise is Rician, since scanners store the magnitude of a complex signal (Gudbjartsson and
    Patz 1995, *Magnetic Resonance in Medicine* 34).
    """
    image = ndimage.gaussian_filter(tissue, scanner.blur)
    image = image * np.exp(_smooth_field(SIZE, scanner.bias, rng))
    image = np.clip(image, 0.0, None) ** scanner.gamma
    real = image + rng.normal(0.0, scanner.noise, size=image.shape)
    imaginary = rng.normal(0.0, scanner.noise, size=image.shape)
    stored = np.hypot(real, imaginary) * scanner.gain * rng.uniform(0.9, 1.1)
    pixels: NDArray[np.uint16] = np.clip(np.rint(stored), 0, GREATEST_VALUE).astype(np.uint16)
    return pixels
