"""Faces in volumes of heads: recognised as such, and removed from T1 volumes.

To be written.
"""

from typing import Any

from numpy.typing import NDArray

from node.volumes import Volume


def is_head(volume: Volume) -> bool:
    """Tell whether a volume may show a head."""
    del volume
    return False


def deface(volume: Volume) -> NDArray[Any] | None:
    """Return the voxels without a face, or None where that cannot be done."""
    del volume
    return None
