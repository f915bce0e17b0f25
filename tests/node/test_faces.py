"""A face goes from a T1 volume; the brain stays, and so does what is no head."""

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy import ndimage  # type: ignore[import-untyped]

from demo.anatomy import read_atlas
from node.faces import _affine, _template, deface, is_head
from node.volumes import Volume

ZOOM = 2.0
SHAPE = (98, 124, 128)


def volume(voxels: NDArray[np.int16], affine: NDArray[np.float64]) -> Volume:
    return Volume(voxels, affine, (1.0, 0.0), (ZOOM,) * 3, [])


def head(seed: int) -> tuple[Volume, NDArray[np.bool_]]:
    """Draw a head of another size, turn and brightness than the average, and where its face is."""
    rng = np.random.default_rng(seed)
    average, face, grid = _template()
    turned = np.concatenate((rng.uniform(-12, 12, 3), rng.uniform(-0.2, 0.2, 3)))
    placed = _affine(np.concatenate((turned, rng.uniform(-0.1, 0.1, 3))), np.zeros(3))
    affine = np.diag([ZOOM, ZOOM, ZOOM, 1.0])
    affine[:3, 3] = [-97.0, -123.0, -138.0]
    to_template = np.linalg.inv(grid) @ np.linalg.inv(placed) @ affine
    at = to_template[:3, :3] @ np.indices(SHAPE).reshape(3, -1) + to_template[:3, 3:]
    drawn = ndimage.map_coordinates(average.astype(np.float32), at, order=1).reshape(SHAPE)
    where = ndimage.map_coordinates(face.astype(np.float32), at, order=0, mode="nearest")
    shading = 1 + 0.3 * np.sin(np.indices(SHAPE)[1] / 45)
    noisy = np.clip(drawn**0.9 * shading * 7 + rng.normal(0, 25, SHAPE), 0, None)
    return volume(noisy.astype(np.int16), affine), where.reshape(SHAPE) > 0.5


@pytest.mark.parametrize("seed", [1, 2])
def test_the_face_of_a_simulated_head_goes_and_the_rest_stays(seed: int) -> None:
    found, face = head(seed)
    assert is_head(found)
    kept = deface(found)
    assert kept is not None
    tissue = found.voxels > 0.2 * np.percentile(found.voxels, 99)
    assert (kept[face & tissue] == 0).mean() > 0.95
    assert (kept[~face & tissue] != 0).mean() > 0.99
    assert np.array_equal(kept[kept != 0], found.voxels[kept != 0])


def test_a_brain_without_a_face_stays_as_it_is() -> None:
    atlas = read_atlas()
    voxels = (atlas.brain[::2, ::2, ::2] * 1000).astype(np.int16)
    affine = np.diag([2.0, 2.0, 2.0, 1.0])
    affine[:3, 3] = [-98.0, -134.0, -72.0]
    found = volume(voxels, affine)
    kept = deface(found)
    assert kept is None or np.array_equal(kept, voxels)


def test_what_is_no_head_is_left_alone() -> None:
    noise = np.random.default_rng(0).integers(0, 900, (90, 90, 90)).astype(np.int16)
    assert deface(volume(noise, np.diag([2.0, 2.0, 2.0, 1.0]))) is None
    assert not is_head(volume(noise[:20], np.diag([2.0, 2.0, 2.0, 1.0])))
