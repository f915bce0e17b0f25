"""Pipelines of every kind, updates to run them on, and what came of them before.

Run as a program, it computes all golden cases and prints their digests and the instructions that
the kernels were compiled to: `tests/aggregator/test_instruction_sets.py` does so on the oldest
processors that the project runs on.
"""

import hashlib
import json
import struct
import sys
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
from numba.core.dispatcher import Dispatcher

from aggregator import kernels
from aggregator.cohort import Member
from aggregator.pipeline import Pipeline, build_step
from chain.digests import content_digest
from chain.tensors import Array, TensorFile, open_tensors, tensor_bytes

VECTORS = Path(__file__).parents[1] / "vectors" / "rules.json"
MILLION = 1_000_000
ROOT = "hospital-1"  # of fl_trust

Step = tuple[str, dict[str, Any]]
Steps = tuple[Step, ...]
Tensors = dict[str, Array]
Judged = tuple[int, int, int, int]  # outcome, reason, score, threshold

NORMS = ("norm_range", {"lower": MILLION // 10, "upper": 3 * MILLION})
SIGNS: Step = ("sign_clusters", {})
DIRECTIONS: Step = ("direction_cluster", {})
DNC = ("dnc", {"f": 2, "iterations": 2, "coordinates": 150})
SYBILS = ("sybils", {"least": 6, "limit": 250_000})
CLIPPING = ("norm_clipping", {"bound": MILLION})
NNM = ("nnm", {"f": 2})
BUCKETING = ("bucketing", {"size": 2})
NOISE = ("noise", {"scale": 1_000})
RATES = {"learning_rate": 30_000, "beta1": 900_000, "beta2": 990_000, "tau": 1_000}

# Each of them takes nine updates, two of them hostile.
PIPELINES: dict[str, Steps] = {
    "fed_avg": (("fed_avg", {}),),
    "mean": (("mean", {}),),
    "median": (("median", {}),),
    "trimmed_mean": (("trimmed_mean", {"f": 2}),),
    "krum": (("krum", {"f": 2}),),
    "multi_krum": (("multi_krum", {"f": 2}),),
    "bulyan": (("bulyan", {"f": 1}),),
    "geometric_median": (("geometric_median", {"iterations": 8}),),
    "centred_clipping": (("centred_clipping", {"radius": MILLION, "iterations": 3}),),
    "fl_trust": (("fl_trust", {"root": ROOT}),),
    "fools_gold": (("fools_gold", {}),),
    "weighted norm clipping": (CLIPPING, ("fed_avg", {})),
    "capped weights": (("weight_cap", {"bound": 2 * MILLION}), ("fed_avg", {})),
    "nnm and trimmed_mean": (NNM, ("trimmed_mean", {"f": 2})),
    "nnm and bulyan": (("nnm", {"f": 1}), ("bulyan", {"f": 1})),
    "bucketing and median": (BUCKETING, ("median", {})),
    "bucketing and fed_avg": (BUCKETING, ("fed_avg", {})),
    "bucketing, nnm and krum": (BUCKETING, ("nnm", {"f": 1}), ("krum", {"f": 1})),
    "norms and centred_clipping": (
        NORMS,
        ("centred_clipping", {"radius": MILLION // 2, "iterations": 2}),
    ),
    "SignGuard": (NORMS, SIGNS, CLIPPING, ("mean", {})),
    "DnC": (DNC, ("mean", {})),
    "no sybils": (SYBILS, ("mean", {})),
    "FLAME": (DIRECTIONS, CLIPPING, ("mean", {}), NOISE),
    "noisy median": (("median", {}), NOISE),
    "clipped geometric_median": (CLIPPING, ("geometric_median", {"iterations": 4})),
}
OPTIMIZED: dict[str, Steps] = {
    "fed_avg_m": (
        ("trimmed_mean", {"f": 2}),
        ("fed_avg_m", {"learning_rate": 700_000, "momentum": 900_000}),
    ),
    "fed_adagrad": (
        CLIPPING,
        ("fed_avg", {}),
        ("fed_adagrad", {"learning_rate": 100_000, "tau": 1_000}),
    ),
    "fed_adam": (("median", {}), ("fed_adam", RATES)),
    "fed_yogi": (DIRECTIONS, ("mean", {}), NOISE, ("fed_yogi", RATES)),
}


@dataclass(frozen=True, slots=True)
class Sent:
    """What a hospital sent."""

    name: str
    weight: int
    tensors: Tensors


def pipeline_of(steps: Steps) -> Pipeline:
    return Pipeline(tuple(build_step(name, params) for name, params in steps))


def run(
    steps: Steps, base: Tensors, sent: Sequence[Sent], folder: Path, threads: int = 1
) -> tuple[bytes, list[Judged]]:
    """Aggregate tensors in memory; return the model's file and the judgements."""
    with opened(base, sent, folder) as (start, members):
        return aggregate(steps, start, members, folder / "model", threads)


@contextmanager
def opened(
    base: Tensors, sent: Sequence[Sent], folder: Path
) -> Iterator[tuple[TensorFile, list[Member]]]:
    """Write tensors to files that are not synced, and open those."""
    with ExitStack() as stack:

        def file(name: str, tensors: Tensors) -> tuple[bytes, TensorFile]:
            data = tensor_bytes(tensors)
            (folder / name).write_bytes(data)
            return content_digest(data), stack.enter_context(open_tensors(folder / name))

        members = [
            Member(one.name, one.weight, *file(f"{number}", one.tensors))
            for number, one in enumerate(sent)
        ]
        yield file("base", base)[1], members


def aggregate(
    steps: Steps, start: TensorFile, members: Sequence[Member], out: Path, threads: int
) -> tuple[bytes, list[Judged]]:
    """Aggregate open files; return the model's file and the judgements."""
    found = pipeline_of(steps).aggregate(start, members, out, threads)
    return out.read_bytes(), [
        (int(one.outcome), int(one.reason), one.score, one.threshold) for one in found
    ]


def data_of(model: bytes) -> bytes:
    """Cut off the header of a file of tensors."""
    return model[8 + int.from_bytes(model[:8], "little") :]


def values_of(model: bytes, folder: Path) -> Tensors:
    """Read a model's tensors."""
    (folder / "read").write_bytes(model)
    with open_tensors(folder / "read") as file:
        return {name: array.copy() for name, array in file.arrays.items()}


def verdict_digest(judged: Sequence[Judged]) -> str:
    """Tell judgements apart by one digest."""
    return hashlib.sha256(b"".join(struct.pack(">BBQQ", *one) for one in judged)).hexdigest()


def nine_updates(columns: int = 16_389) -> tuple[Tensors, list[Sent]]:
    """Build a base model and updates from integers, which any version of NumPy builds alike.

    Hospital 8 sends its update the other way, hospital 9 sends it 64 times as long.
    """
    steps = np.arange(3 * columns, dtype=np.float64).reshape(3, -1)
    few = min(columns, 50)
    base: Tensors = {
        "a": (steps % 911 / 1024).astype("<f4"),
        "b": (steps[0, :few] % 61 / 128).astype("<f2"),
        "c": (steps[1, :few] % 71 / 3).astype("<f8"),
    }
    sent = []
    for number in range(1, 10):
        factor = {8: -2, 9: 64}.get(number, 1)
        # What all have in common, and what is each hospital's own.
        way = {
            "a": steps % 307 - 140 + (steps * (number + 2)) % 1013 / 8 - 62,
            "b": steps[0, :few] % 13 - 6 + (steps[0, :few] * (number + 4)) % 17 / 4 - 2,
            "c": steps[1, :few] % 19 - 9 + (steps[1, :few] * (number + 6)) % 23 / 7 - 1,
        }
        tensors = {
            name: (base[name].astype("<f8") + way[name] * factor / 4096).astype(base[name].dtype)
            for name in base
        }
        sent.append(Sent(f"hospital-{number}", 10 * number * number, tensors))
    return base, sent


def five_updates() -> tuple[Tensors, list[Sent]]:
    """Build those updates whose digests are the oldest golden vectors."""
    steps = np.arange(3 * 16_389, dtype=np.float64).reshape(3, -1)
    updates: list[Tensors] = [
        {
            "a": ((steps * (hospital + 3)) % 1013 / 1024 - hospital).astype("<f4"),
            "b": ((steps[0, :50] * (hospital + 5)) % 97 / 128).astype("<f2"),
            "c": ((steps[1, :50] * (hospital + 7)) % 89 / 3).astype("<f8"),
        }
        for hospital in range(5)
    ]
    weights = [1, 20, 300, 4000, 50000]
    return updates[0], [
        Sent(str(i), weight, update)
        for i, (weight, update) in enumerate(zip(weights, updates, strict=True))
    ]


def golden_cases(folder: Path) -> dict[str, dict[str, str]]:
    """Compute the digests of models and judgements of all golden cases."""
    oldest: list[Steps] = [(("trimmed_mean", {"f": f}),) for f in range(3)]
    cases = [(steps, five_updates()) for steps in ((("fed_avg", {}),), *oldest)]
    nine = nine_updates()
    for name, steps in (PIPELINES | OPTIMIZED).items():
        if name not in {"fed_avg", "trimmed_mean"}:
            cases.append((steps, nine))
    digests = {}
    for steps, (base, sent) in cases:
        model, judged = run(steps, base, sent, folder)
        digests[pipeline_of(steps).to_json()] = {
            "model": content_digest(model).hex(),
            "verdicts": verdict_digest(judged),
        }
    return digests


def compiled() -> list[str]:
    """Return each kernel's assembly for each of its signatures."""
    kinds = (vars(kernels)[name] for name in sorted(vars(kernels)))
    return [
        text
        for kernel in kinds
        if isinstance(kernel, Dispatcher) and kernel.targetoptions.get("nogil")
        for text in kernel.inspect_asm().values()
    ]


def instructions(text: str) -> Iterator[str]:
    """Name each instruction of an assembly by its mnemonic and its widest register."""
    for line in text.splitlines():
        parts = line.strip().split(None, 1)
        if parts and not parts[0].startswith((".", "#")) and not parts[0].endswith(":"):
            operands = parts[1] if len(parts) > 1 else ""
            widest = next((r for r in ("zmm", "ymm", "xmm") if f"%{r}" in operands), "")
            yield f"{parts[0]} {widest}".strip()


def numpys_choices() -> list[str]:
    """Name the features of this processor that NumPy uses beyond those that it needs."""
    extensions: Any = np.show_config(mode="dicts")["SIMD Extensions"]
    return [str(name) for name in extensions.get("found", [])]


if __name__ == "__main__":
    with TemporaryDirectory() as scratch:
        digests = golden_cases(Path(scratch))
    assembly = compiled()
    told = {
        "digests": digests,
        "assemblies": len(assembly),
        "instructions": Counter(name for text in assembly for name in instructions(text)),
        "numpy": numpys_choices(),
    }
    json.dump(told, sys.stdout)
