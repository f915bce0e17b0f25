"""How the story begins, and what data it works on."""

from pathlib import Path

import numpy as np
import pytest
from rich.console import Console

from chain.errors import InvalidInputError
from demo.hospitals import CHEATS, FEW, HOSPITALS, planted_words, split_archive
from demo.scans import SITES, write_hospital
from demo.story import tell
from node.images import read_npz


def test_a_folder_that_is_no_earlier_demo_is_left_alone(tmp_path: Path) -> None:
    thesis = tmp_path / "thesis.txt"
    thesis.write_text("years of work")
    with pytest.raises(InvalidInputError, match="--out"):
        tell(tmp_path, None, count=3, keep_running=False, screen=Console(quiet=True))
    assert thesis.read_text() == "years of work"


def test_each_hospital_has_scans_of_its_own_site() -> None:
    assert tuple(site.name for site in SITES) == HOSPITALS


def test_an_archive_is_split_without_losing_or_doubling_an_image(tmp_path: Path) -> None:
    count = 200
    images = np.arange(count, dtype=np.uint8)[:, None, None] * np.ones((1, 28, 28), np.uint8)
    labels = (np.arange(count) % 2).reshape(-1, 1)
    archive = tmp_path / "some.npz"
    np.savez(
        archive,
        train_images=images,
        train_labels=labels,
        test_images=images[:10],
        test_labels=labels[:10],
    )
    data = split_archive(archive, tmp_path / "hospitals", seed=1)
    split = {name: read_npz(source, "train") for name, source in data.sources.items()}
    seen = np.concatenate([one.images[:, 0, 0] for one in split.values()])
    assert sorted(seen) == list(range(count))
    assert all(len(split[cheat].labels) == FEW for cheat in CHEATS)
    assert all((one.labels == one.images[:, 0, 0] % 2).all() for one in split.values())
    assert not data.report.simulated
    assert (data.report.images, data.report.test_images) == (count, 10)


def test_the_planted_identities_of_a_folder_are_known(tmp_path: Path) -> None:
    write_hospital(tmp_path, site=0, images=2, seed=1)
    assert any(b"^" in word for word in planted_words(tmp_path))
    assert b"AURORA-0000001" in planted_words(tmp_path)
