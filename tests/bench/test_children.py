import sys
from pathlib import Path

import pytest

from bench.children import Child

TAKES_MEMORY_FOR_A_MOMENT = """
import json, mmap, sys, time
for line in sys.stdin:
    request = json.loads(line)
    size = request["bytes"]
    if "file" in request:
        with open(request["file"], "rb") as file:
            taken = mmap.mmap(file.fileno(), size, access=mmap.ACCESS_READ)
        for start in range(0, size, 4096):
            taken[start]
    else:
        taken = bytearray(size)
        taken[::4096] = bytes([1]) * len(range(0, size, 4096))
    time.sleep(0.05)
    del taken
    print(json.dumps({"size": size}), flush=True)
"""
LARGE = 200_000_000


def test_memory_that_is_given_back_before_the_answer_is_in_the_peak(tmp_path: Path) -> None:
    with Child((sys.executable, "-c", TAKES_MEMORY_FOR_A_MOMENT), tmp_path) as child:
        child.ask({"bytes": 1})
        assert child.peak < LARGE / 2
        assert child.ask({"bytes": LARGE}) == {"size": LARGE}
        assert LARGE <= child.peak < 1.5 * LARGE


def test_pages_of_a_mapped_file_are_not_in_the_peak(tmp_path: Path) -> None:
    file = tmp_path / "large"
    file.write_bytes(bytes(LARGE))
    with Child((sys.executable, "-c", TAKES_MEMORY_FOR_A_MOMENT), tmp_path) as child:
        child.ask({"bytes": LARGE, "file": str(file)})
        assert child.peak < LARGE / 2


def test_a_child_that_ends_without_an_answer_ends_the_measuring(tmp_path: Path) -> None:
    with (
        Child((sys.executable, "-c", "input()"), tmp_path) as child,
        pytest.raises(SystemExit, match="expected an answer"),
    ):
        child.ask({})
