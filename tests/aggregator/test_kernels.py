"""Where compiled loops are kept; what they compute is tested through pipelines."""

import shutil
from pathlib import Path

import pytest

from aggregator import kernels

ROOM = Path(kernels.__file__).parent


@pytest.mark.parametrize("changed", ["kernels.py", "lanes.py", "sorting.py"])
def test_loops_that_were_compiled_from_other_sources_are_not_used(
    changed: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By itself numba looks at the kernels' own file alone, and would go on with other bits."""
    for name in ("kernels.py", "lanes.py", "sorting.py"):
        shutil.copy(ROOM / name, tmp_path)
    monkeypatch.setattr(kernels, "__file__", str(tmp_path / "kernels.py"))
    before = kernels._cache_folder()
    assert before.parent == tmp_path / "__pycache__"
    with (tmp_path / changed).open("a") as file:
        file.write("# another version\n")
    assert kernels._cache_folder() != before


def test_another_compiler_compiles_anew(monkeypatch: pytest.MonkeyPatch) -> None:
    before = kernels._cache_folder()
    monkeypatch.setattr("numba.__version__", "1000.0")
    assert kernels._cache_folder() != before


def test_a_place_that_the_user_names_is_used(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("numba.config.CACHE_DIR", str(tmp_path))
    assert kernels._cache_folder().parent == tmp_path
