"""Faces in volumes of heads: recognised as such, and removed from T1 volumes.

A face can be drawn from a volume of a head and recognised. The region that holds it is known on an
average head (``head.npz``, made from pydeface's; see ``head.txt``). That head is laid over the
volume by an affine registration (nine parameters: shift, turn, size along each axis) that maximises
the correlation of their brightness, as Gulban et al. do in pydeface with FSL's FLIRT; what the face
region covers then becomes 0. Below `_LEAST_FIT` the volume is no T1 volume of a whole head, or the
registration has failed: nothing is removed, and the volume stays flagged.

Limits: eyes, nose, mouth and jaw go; ears stay, as they do with pydeface. Other contrasts than T1,
and heads that fill less than the volume's usual field, do not fit well enough and are left to a
person.
"""

from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage, optimize  # type: ignore[import-untyped]

from node.volumes import Volume

TEMPLATE = Path(__file__).with_name("head.npz")

_LEAST_FIT = 0.9  # correlation of the average head and a volume; without skull about 0.84
_SMALLEST, _LARGEST = 120.0, 340.0  # millimetres of a head's field of view, along each axis
_COARSEST = 4.0  # millimetres of a voxel; in coarser ones no face can be recognised
_FEWEST = 24  # voxels along each axis
_DIMENSIONS = 3
_STEP = 8.0  # millimetres between two points that are compared
_PITCHES = (0.0, -0.35, 0.35)  # radians of nodding from which the search begins
_SEARCHING, _REFINING = 6, 3  # turns of the search, by Powell's method, from afar and close by
_STEPS = np.diag([10.0, 10.0, 10.0, 0.1, 0.1, 0.1, 0.08, 0.08, 0.08])
_LEAST_SEEN = 0.5  # of the average head that has to lie in the volume
_BRIGHT = 99.5  # percentile that counts as white
_BLOCK = 1 << 20  # voxels that are looked up at once


def is_head(volume: Volume) -> bool:
    """Tell by size and resolution whether a volume may be one of a head that shows a face."""
    shape = volume.voxels.shape[:_DIMENSIONS]
    zooms = np.sqrt((volume.affine[:3, :3] ** 2).sum(axis=0))
    extent = zooms * shape
    return bool(
        min(shape) >= _FEWEST
        and zooms.max() <= _COARSEST
        and (extent >= _SMALLEST).all()
        and (extent <= _LARGEST).all()
    )


def deface(volume: Volume) -> NDArray[Any] | None:
    """Return the voxels without a face, or None where the average head does not fit.

    Args:
        volume: Of three dimensions; the first of several where there is a fourth.
    """
    first = volume.voxels.reshape(*volume.voxels.shape[:_DIMENSIONS], -1)[..., 0]
    fit, found = _registered(_normal(first), volume.affine)
    if fit < _LEAST_FIT:
        return None
    face = _face(volume.voxels.shape[:_DIMENSIONS], volume.affine, found)
    kept = volume.voxels.copy()
    kept[face] = 0
    return kept


def _registered(
    brightness: NDArray[np.float32], affine: NDArray[np.float64]
) -> tuple[float, NDArray[np.float64]]:
    """Lay the average head over a volume.

    Returns:
        The correlation, and the affine from the average head's millimetres to the volume's.
    """
    head, _, grid = _template()
    zooms = np.sqrt((affine[:3, :3] ** 2).sum(axis=0))
    smooth = ndimage.gaussian_filter(brightness, _STEP / 2.355 / zooms)
    centre = _points(head.shape, grid, _STEP).mean(axis=1)
    middle = _centre(brightness, affine) - _centre(head, grid)
    placed = np.array([*middle, *np.zeros(6)])
    starts = [placed + np.array([0, 0, 0, pitch, 0, 0, 0, 0, 0]) for pitch in _PITCHES]
    misfit = 1.0
    for step, turns in ((2 * _STEP, _SEARCHING), (_STEP, _REFINING)):
        compare = _Comparison(head, grid, smooth, affine, _points(head.shape, grid, step), centre)
        tried = [
            optimize.minimize(
                compare.misfit,
                start,
                method="Powell",
                options={"direc": _STEPS, "maxiter": turns, "ftol": 1e-4, "xtol": 1e-3},
            )
            for start in starts
        ]
        best = min(tried, key=lambda one: float(one.fun))
        misfit, starts = float(best.fun), [best.x]
    return 1.0 - misfit, _affine(starts[0], centre)


class _Comparison:
    """How badly the average head, placed somewhere, fits a volume."""

    def __init__(
        self,
        head: NDArray[Any],
        grid: NDArray[np.float64],
        smooth: NDArray[np.float32],
        affine: NDArray[np.float64],
        points: NDArray[np.float64],
        centre: NDArray[np.float64],
    ) -> None:
        self._wanted = np.nan_to_num(_sampled(head, _inverse(grid), points))
        self._smooth = smooth
        self._to_voxel = np.linalg.inv(affine)
        self._points = points
        self._centre = centre

    def misfit(self, parameters: NDArray[np.float64]) -> float:
        """Return 1 less the correlation, over the points that lie in the volume."""
        at = self._to_voxel @ _affine(parameters, self._centre)
        found = _sampled(self._smooth, at, self._points)
        inside = np.isfinite(found)
        if inside.mean() < _LEAST_SEEN:
            return 1.0
        return 1.0 - _correlation(self._wanted[inside], found[inside])


def _face(
    shape: tuple[int, ...], affine: NDArray[np.float64], placed: NDArray[np.float64]
) -> NDArray[np.bool_]:
    """Return which voxels the average head's face region covers, with what lies beyond it."""
    _, face, grid = _template()
    to_template = np.linalg.inv(grid) @ np.linalg.inv(placed) @ affine
    region = face.astype(np.float32)
    covered = np.zeros(shape, dtype=np.bool_)
    thick = max(1, _BLOCK // (shape[1] * shape[2]))
    for start in range(0, shape[0], thick):
        block = np.indices((min(thick, shape[0] - start), *shape[1:]), dtype=np.float32)
        block[0] += start
        flat = block.reshape(3, -1)
        at = to_template[:3, :3] @ flat + to_template[:3, 3:]
        values = ndimage.map_coordinates(region, at, order=1, mode="nearest")
        covered[start : start + thick] = (values >= 0.5).reshape(block.shape[1:])  # noqa: PLR2004
    return covered


def _affine(parameters: NDArray[np.float64], centre: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the affine that shifts, turns and stretches about a point."""
    shift, angles, sizes = parameters[:3], parameters[3:6], np.exp(parameters[6:9])
    turned = np.eye(3)
    for axis, angle in enumerate(angles):
        one = np.eye(3)
        rows = [other for other in range(3) if other != axis]
        one[np.ix_(rows, rows)] = [
            [np.cos(angle), -np.sin(angle)],
            [np.sin(angle), np.cos(angle)],
        ]
        turned = turned @ one
    matrix = np.eye(4)
    matrix[:3, :3] = turned * sizes
    matrix[:3, 3] = shift + centre - matrix[:3, :3] @ centre
    return matrix


def _inverse(affine: NDArray[np.float64]) -> NDArray[np.float64]:
    return np.asarray(np.linalg.inv(affine), dtype=np.float64)


def _points(shape: tuple[int, ...], grid: NDArray[np.float64], step: float) -> NDArray[np.float64]:
    """Return the average head's points that are compared, in millimetres, of shape (3, n)."""
    zooms = np.sqrt((grid[:3, :3] ** 2).sum(axis=0))
    axes = [np.arange(0, side, step / zoom) for side, zoom in zip(shape, zooms, strict=True)]
    at = np.stack([one.ravel() for one in np.meshgrid(*axes, indexing="ij")]).astype(np.float64)
    return np.asarray(grid[:3, :3] @ at + grid[:3, 3:], dtype=np.float64)


def _sampled(
    values: NDArray[Any], to_voxel: NDArray[np.float64], points: NDArray[np.float64]
) -> NDArray[np.float32]:
    at = to_voxel[:3, :3] @ points + to_voxel[:3, 3:]
    sampled: NDArray[np.float32] = ndimage.map_coordinates(
        np.asarray(values, dtype=np.float32), at, order=1, mode="constant", cval=np.nan
    )
    return sampled


def _correlation(one: NDArray[np.float32], other: NDArray[np.float32]) -> float:
    a, b = one - one.mean(), other - other.mean()
    size = float(np.sqrt((a * a).sum() * (b * b).sum()))
    return float((a * b).sum()) / size if size > 0 else 0.0


def _centre(values: NDArray[Any], affine: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the middle of what is brighter than the background, in millimetres."""
    bright = np.argwhere(values > 0.15 * np.percentile(values, _BRIGHT))
    return np.asarray(affine[:3, :3] @ bright.mean(axis=0) + affine[:3, 3])


def _normal(voxels: NDArray[Any]) -> NDArray[np.float32]:
    """Return brightness from 0 to 1."""
    values = np.nan_to_num(voxels.astype(np.float32))
    low, high = float(np.percentile(values, 1)), float(np.percentile(values, _BRIGHT))
    scaled: NDArray[np.float32] = np.clip((values - low) / max(high - low, 1e-6), 0, 1)
    return scaled


@cache
def _template() -> tuple[NDArray[np.uint8], NDArray[np.bool_], NDArray[np.float64]]:
    with np.load(TEMPLATE, allow_pickle=False) as arrays:
        return arrays["head"], arrays["face"], arrays["affine"]
