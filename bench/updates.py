"""Updates to measure with: a model of 15 layers, and hospitals that each went a little way from it.

Nothing is trained: values are random, the base model's from N(0, 1) and each hospital's from
N(0, 0.01²) around it. No rule that is measured here takes longer for other values.
"""

from pathlib import Path

import numpy as np

from chain.tensors import Array, save_tensors

LAYERS = 15
COLUMNS = 1_000
PARAMETERS = 11_175_000  # 44.7 MB of float32
SPREAD = np.float32(0.01)
EXAMPLES = 100  # of every hospital: not every peer's mean takes weights


def write_updates(folder: Path, count: int, parameters: int) -> None:
    """Write ``base.safetensors`` and ``update-000.safetensors`` and on in canonical form.

    Args:
        folder: Where to; the files stay in the page cache as far as there is memory.
        count: How many updates.
        parameters: Coordinates of the model, a multiple of 15,000.
    """
    base = _normal(0, parameters)
    save_tensors(folder / "base.safetensors", _layers(base))
    for index in range(count):
        update = _normal(1 + index, parameters)
        update *= SPREAD
        update += base
        save_tensors(update_file(folder, index), _layers(update))


def update_file(folder: Path, index: int) -> Path:
    """Return where one hospital's update lies."""
    return folder / f"update-{index:03}.safetensors"


def _normal(seed: int, parameters: int) -> Array:
    return np.random.default_rng(seed).standard_normal(parameters, dtype=np.float32)


def _layers(values: Array) -> dict[str, Array]:
    # Two digits, so that the order of the file is the order of the flat array.
    rows = values.reshape(LAYERS, -1, COLUMNS)
    return {f"layer{index:02}.weight": rows[index] for index in range(LAYERS)}
