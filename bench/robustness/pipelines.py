"""The pipelines that the benchmark sets against each other, run by the product's own code."""

import hashlib
from collections.abc import Mapping
from contextlib import ExitStack
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import numpy.typing as npt

from aggregator import recipes, rules
from aggregator.cohort import Member
from aggregator.pipeline import Pipeline, parse_pipeline
from bench.robustness.training import Vectors
from chain.errors import UnfitRoundError
from chain.tensors import open_tensors, save_tensors

Floats = npt.NDArray[np.float32]
Examples = npt.NDArray[np.int64]

_MEMORY = Path("/dev/shm")  # noqa: S108 - files that no disk need hold; elsewhere the usual place
_TENSOR = "model"


def pipelines(f: int) -> Mapping[str, str]:
    """Return the pipelines by name, as canonical JSON, made for ``f`` attackers."""
    single = {
        "weighted mean": rules.fed_avg(),
        "median": rules.median(),
        "trimmed mean": rules.trimmed_mean(f),
        "Krum": rules.krum(f),
        "Multi-Krum": rules.multi_krum(f),
        "geometric median": rules.geometric_median(iterations=8),
        "FoolsGold": rules.fools_gold(),
    }
    composed = {
        "norm clipping": recipes.norm_clipping(),
        "NNM + trimmed mean": recipes.nnm_trimmed_mean(f),
        "SignGuard": recipes.sign_guard(),
        "DnC": recipes.dnc(f),
        "FLAME": recipes.flame(),
        "default": recipes.default(),
    }
    alone = {name: Pipeline((rule,)) for name, rule in single.items()}
    return {name: one.to_json() for name, one in (alone | composed).items()}


def aggregate(text: str, base: Floats, updates: Floats, examples: Examples) -> Vectors:
    """Run a pipeline over one round's admitted updates, as the aggregator does.

    A quarantine is left out: what is measured is what a pipeline holds without a history.

    Args:
        text: The pipeline in canonical JSON.
        base: The base model, (d,).
        updates: One row for each hospital, (n, d).
        examples: What the hospitals claim, (n,).

    Returns:
        The round's model, (d,); the base model where the updates make none.
    """
    pipeline = parse_pipeline(text)
    place = _MEMORY if _MEMORY.is_dir() else None
    with TemporaryDirectory(dir=place) as name, ExitStack() as files:
        folder = Path(name)
        members = []
        for number, (update, count) in enumerate(zip(updates, examples, strict=True)):
            path = folder / f"{number}.safetensors"
            save_tensors(path, {_TENSOR: update})
            content = hashlib.sha256(update.tobytes()).digest()
            tensors = files.enter_context(open_tensors(path))
            members.append(Member(str(number), int(count), content, tensors))
        save_tensors(folder / "base.safetensors", {_TENSOR: base})
        opened = files.enter_context(open_tensors(folder / "base.safetensors"))
        out = folder / "out.safetensors"
        try:
            pipeline.aggregate(opened, members, out, threads=1)
        except UnfitRoundError:
            return base.astype(np.float64)
        with open_tensors(out) as model:
            return model.arrays[_TENSOR].astype(np.float64)
