"""The rooms are this repository's, and whole wherever they are installed."""

import importlib
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
ROOMS = ["chain", "node", "aggregator", "audit", "api", "demo", "cli"]
SETUPTOOLS = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["setuptools"]
# What makes files that are installed, and is not needed where they are.
MAKERS = {ROOT / "api" / "explorer" / "build.mjs"}


# `node` and `chain` are also names of unrelated packages.
@pytest.mark.parametrize("room", ROOMS)
def test_a_room_is_imported_from_this_repository(room: str) -> None:
    module = importlib.import_module(room)
    assert module.__file__ is not None
    assert Path(module.__file__).resolve().is_relative_to(ROOT / room)


@pytest.mark.parametrize("room", ROOMS)
def test_an_installed_room_has_every_package_and_file_of_it(room: str) -> None:
    packages = {package: ROOT / package.replace(".", "/") for package in SETUPTOOLS["packages"]}
    with_code = {path.parent for path in (ROOT / room).rglob("*.py")}
    assert with_code <= set(packages.values())
    installed = {
        path
        for package, patterns in SETUPTOOLS["package-data"].items()
        for pattern in patterns
        for path in packages[package].glob(pattern)
    }
    beside_code = {
        path
        for path in (ROOT / room).rglob("*")
        if path.is_file() and path.suffix != ".py" and "__pycache__" not in path.parts
    }
    assert beside_code - MAKERS <= installed
