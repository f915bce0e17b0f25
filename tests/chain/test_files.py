"""A file appears whole or not at all, and is read a piece at a time."""

import stat
from pathlib import Path

import pytest

from chain.files import PIECE, pieces, replacing


def test_a_file_takes_the_place_of_the_old_one_at_the_end(tmp_path: Path) -> None:
    path = tmp_path / "model"
    path.write_bytes(b"old")
    with replacing(path) as file:
        file.write(b"new")
        file.flush()
        assert path.read_bytes() == b"old"
    assert path.read_bytes() == b"new"
    assert stat.S_IMODE(path.stat().st_mode) == 0o600


def test_after_an_error_the_folder_is_as_it_was(tmp_path: Path) -> None:
    path = tmp_path / "model"
    path.write_bytes(b"old")
    with pytest.raises(TypeError), replacing(path) as file:
        file.writelines([b"new", "no bytes"])  # type: ignore[list-item]
    assert [entry.name for entry in tmp_path.iterdir()] == ["model"]
    assert path.read_bytes() == b"old"


def test_a_file_without_line_ends_is_read_a_mebibyte_at_a_time(tmp_path: Path) -> None:
    path = tmp_path / "model"
    path.write_bytes(bytes(2 * PIECE + 1))
    assert [len(piece) for piece in pieces(path)] == [PIECE, PIECE, 1]
