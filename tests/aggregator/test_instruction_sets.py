"""The same bits from the oldest processors' instructions as from the newest's.

Each kind of processor is a child process that compiles the kernels for it, into a folder of its
own, and computes all golden cases. The children run beside each other.
"""

import json
import os
import platform
import subprocess
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest

from tests.aggregator.pipelines import VECTORS, numpys_choices

ROOT = Path(__file__).parents[2]
ASSEMBLIES = 10  # five kernels, each for float32 and float64
X86 = platform.machine() in {"x86_64", "AMD64"}
CHOICES = numpys_choices()
HAS_AVX2 = {"AVX2", "X86_V3"} & set(CHOICES)
HAS_AVX512 = {"AVX512F", "X86_V4"} & set(CHOICES)

Told = dict[str, Any]


KINDS: dict[str, Mapping[str, str]] = {
    "native": {},
    "baseline": {
        "NUMBA_CPU_NAME": "x86-64",
        "NUMBA_CPU_FEATURES": "",
        "NPY_DISABLE_CPU_FEATURES": " ".join(CHOICES),
    },
    "AVX2": {"NUMBA_CPU_NAME": "x86-64-v3", "NUMBA_CPU_FEATURES": "+avx2,+fma"},
}


@pytest.fixture(scope="module")
def processors(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, Told]]:
    """What each kind of processor computed, and with which instructions."""
    kinds = [kind for kind in KINDS if kind != "AVX2" or HAS_AVX2]
    children = {}
    for kind in kinds if X86 else ["native"]:
        cache = tmp_path_factory.mktemp("numba")
        environment = os.environ | KINDS[kind] | {"NUMBA_CACHE_DIR": str(cache)}
        children[kind] = subprocess.Popen(
            [sys.executable, "-m", "tests.aggregator.pipelines"],
            cwd=ROOT,
            env=environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
        )
    try:
        told = {}
        for kind, child in children.items():
            output, errors = child.communicate(timeout=300)
            assert child.returncode == 0, errors.decode()
            told[kind] = json.loads(output)
        yield told
    finally:
        for child in children.values():
            child.kill()
            child.wait()


def registers(instructions: Mapping[str, int], width: str) -> int:
    return sum(count for name, count in instructions.items() if name.endswith(width))


def is_fused(instruction: str) -> bool:
    """Tell whether an instruction multiplies and adds with one rounding, as those of FMA do."""
    return (
        instruction.split(maxsplit=1)[0]
        .lstrip("v")
        .startswith(("fmadd", "fmsub", "fnmadd", "fnmsub", "fmla"))
    )


@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_of_processor_computes_the_golden_vectors(
    kind: str, processors: dict[str, Told]
) -> None:
    if kind not in processors:
        pytest.skip(f"this host has no {kind}")
    assert processors[kind]["digests"] == json.loads(VECTORS.read_text())


@pytest.mark.parametrize("kind", KINDS)
def test_no_kernel_multiplies_and_adds_in_one_operation(
    kind: str, processors: dict[str, Told]
) -> None:
    if kind not in processors:
        pytest.skip(f"this host has no {kind}")
    instructions = processors[kind]["instructions"]
    assert processors[kind]["assemblies"] >= ASSEMBLIES
    assert sum(instructions.values()) > 100 * ASSEMBLIES
    assert not list(filter(is_fused, instructions))


@pytest.mark.skipif(not X86, reason="the registers of x86-64")
def test_the_baseline_knows_no_avx_and_the_others_use_it(processors: dict[str, Told]) -> None:
    """Else the comparison above would compare a kind of processor with itself."""
    counts = {kind: told["instructions"] for kind, told in processors.items()}
    assert not any(name.startswith("v") for name in counts["baseline"])
    assert registers(counts["baseline"], "xmm") > 100
    assert not registers(counts["baseline"], "ymm") + registers(counts["baseline"], "zmm")
    if "AVX2" in counts:
        assert registers(counts["AVX2"], "ymm") > 100
        assert not registers(counts["AVX2"], "zmm")
    if HAS_AVX512:
        assert registers(counts["native"], "zmm") > 100


@pytest.mark.skipif(not X86, reason="the features of x86-64")
def test_numpy_does_without_what_it_would_choose_by_itself(processors: dict[str, Told]) -> None:
    assert processors["baseline"]["numpy"] == []
    assert processors["native"]["numpy"] == CHOICES


@pytest.mark.parametrize("name", ["vfmadd231pd zmm", "vfnmadd213sd", "fmla", "vfmsub132ps ymm"])
def test_a_fused_instruction_would_be_seen(name: str) -> None:
    assert is_fused(name)
    assert not is_fused("vmulpd zmm")
