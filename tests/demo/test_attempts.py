"""What the demo's poisoner sends."""

from pathlib import Path

import numpy as np

from chain.tensors import open_tensors, save_tensors
from demo.attempts import POISON_STRENGTH, poisoned, tricks_of_round
from demo.hospitals import CHEATS


def test_poison_points_against_what_was_learned(tmp_path: Path) -> None:
    base, honest, poison = (tmp_path / name for name in ("base", "honest", "poison"))
    state = {"server.m.layer": np.array([9.0, 9.0], np.float32)}
    save_tensors(base, {"layer": np.array([1.0, 2.0], np.float32)} | state)
    save_tensors(honest, {"layer": np.array([1.5, 1.0], np.float32)})
    poisoned(base, honest, poison)
    with open_tensors(poison) as file:
        assert file.arrays.keys() == {"layer"}
        step = file.arrays["layer"] - np.array([1.0, 2.0])
        assert file.arrays["layer"].dtype == np.float32
    np.testing.assert_allclose(step, -POISON_STRENGTH * np.array([0.5, -1.0]), rtol=1e-5)


def test_each_cheat_records_one_trick_in_each_round() -> None:
    for number in range(1, 6):
        assert tuple(trick.cheat for trick in tricks_of_round(number)) == CHEATS
