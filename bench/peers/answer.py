"""The child process that aggregates with Flower or ByzFL. It runs in the peers' environment.

It knows nothing of FedWitness. Updates are read into memory before anything is timed, and the clock
runs from arrays in memory to the array that comes back, each library called as its users call it:

- Flower, functions: ``flwr.server.strategy.aggregate`` on lists of layers;
- Flower, strategies: ``aggregate_train`` of ``flwr.serverapp.strategy`` on replies;
- ByzFL, NumPy and ByzFL, torch: its aggregators on one array of updates, in either library.
"""

import gc
import importlib
import importlib.util
import json
import logging
import os
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from types import ModuleType
from typing import Any

os.environ["FLWR_TELEMETRY_ENABLED"] = "0"

import numpy as np
import torch
from safetensors.numpy import load_file, save_file

Call = Callable[[], Any]


@dataclass(frozen=True, slots=True)
class Updates:
    """All updates in memory, once.

    Args:
        stack: float32, one row for each update.
        layers: The same memory, as a list of layers for each update.
        weights: Examples of each update.
    """

    stack: np.ndarray[Any, Any]
    layers: list[list[np.ndarray[Any, Any]]]
    weights: list[int]


def main() -> None:
    """Answer ``{"rule": R, "way": W, "f": F, "save": PATH}`` with seconds, or why there are none.

    ``{}`` is answered with the names of all ways and rules, ``{"files": true}`` with the seconds of
    reading all updates from their files and of writing one model.
    """
    torch.set_num_threads(int(os.environ["OMP_NUM_THREADS"]))
    calls = _flower_functions() | _flower_strategies() | _byzfl()
    updates = _read(Path(sys.argv[1]), json.loads(sys.argv[2]))
    for line in sys.stdin:
        request = json.loads(line)
        if not request:
            print(json.dumps({"ways": [list(key) for key in calls]}), flush=True)
            continue
        if "files" in request:
            print(json.dumps({"seconds": _files(Path(sys.argv[1]), updates)}), flush=True)
            continue
        prepare = calls[request["way"], request["rule"]]
        print(json.dumps(_timed(prepare(updates, request["f"]), request["save"])), flush=True)


def _timed(call: Call, save: str) -> dict[str, object]:
    gc.collect()
    begin = time.perf_counter()
    try:
        result = call()
    except RuntimeError as error:  # such as torch's, where a tensor is too large for a function
        return {"failed": str(error).splitlines()[0]}
    seconds = time.perf_counter() - begin
    if save:
        np.save(save, _flat(result))
    return {"seconds": seconds}


def _files(folder: Path, updates: Updates) -> float:
    """Time what an aggregation's files cost with the safetensors library."""
    model = folder / "peers.safetensors"
    model.unlink(missing_ok=True)
    begin = time.perf_counter()
    for index in range(len(updates.weights)):
        load_file(folder / f"update-{index:03}.safetensors")
    save_file({f"layer{k:02}": layer for k, layer in enumerate(updates.layers[0])}, model)
    return time.perf_counter() - begin


def _read(folder: Path, weights: list[int]) -> Updates:
    """Read one update for each weight."""
    stack: np.ndarray[Any, Any] = np.empty((0, 0), np.float32)
    layers = []
    for index in range(len(weights)):
        tensors = load_file(folder / f"update-{index:03}.safetensors")
        if index == 0:
            stack = np.empty((len(weights), sum(one.size for one in tensors.values())), np.float32)
        row, begin = [], 0
        for name in sorted(tensors):
            array = tensors[name]
            place = stack[index, begin : begin + array.size].reshape(array.shape)
            place[:] = array
            row.append(place)
            begin += array.size
        layers.append(row)
    return Updates(stack, layers, weights)


def _flat(result: Any) -> np.ndarray[Any, Any]:
    if isinstance(result, list):
        return np.concatenate([layer.ravel() for layer in result])
    if isinstance(result, torch.Tensor):
        return result.numpy()
    if isinstance(result, np.ndarray):
        return result
    # Flower's ArrayRecord
    return np.concatenate([result[name].numpy().ravel() for name in sorted(result)])


Prepare = Callable[[Updates, int], Call]


def _flower_functions() -> dict[tuple[str, str], Prepare]:
    flower = importlib.import_module("flwr.server.strategy.aggregate")
    way = f"Flower {version('flwr')}, functions"

    def results(updates: Updates) -> list[tuple[list[np.ndarray[Any, Any]], int]]:
        return list(zip(updates.layers, updates.weights, strict=True))

    return {
        (way, "fed_avg"): lambda u, _: lambda: flower.aggregate(results(u)),
        (way, "median"): lambda u, _: lambda: flower.aggregate_median(results(u)),
        (way, "trimmed_mean"): lambda u, f: (
            lambda: flower.aggregate_trimmed_avg(results(u), f / len(u.weights))
        ),
        (way, "krum"): lambda u, f: lambda: flower.aggregate_krum(results(u), f, 0),
        (way, "multi_krum"): lambda u, f: (
            lambda: flower.aggregate_krum(results(u), f, len(u.weights) - f)
        ),
    }


def _flower_strategies() -> dict[tuple[str, str], Prepare]:
    strategy = importlib.import_module("flwr.serverapp.strategy")
    app = importlib.import_module("flwr.app")
    # A reply can only be built inside a run, and this is none.
    identity = importlib.import_module("flwr.supercore.task_identity").TaskIdentity
    identity.run_id = identity.node_id = identity.task_id = 1
    logging.getLogger("flwr").setLevel(logging.WARNING)
    way = f"Flower {version('flwr')}, strategies"

    def replies(updates: Updates) -> list[Any]:
        made = []
        for layers, examples in zip(updates.layers, updates.weights, strict=True):
            arrays = {f"layer{k:02}.weight": app.Array(one) for k, one in enumerate(layers)}
            content = app.RecordDict(
                {
                    "arrays": app.ArrayRecord(arrays),
                    "metrics": app.MetricRecord({"num-examples": examples}),
                }
            )
            made.append(app.Message(content, dst_node_id=1, message_type="train"))
        return made

    def prepare(make: Callable[[int, int], Any]) -> Prepare:
        def of(updates: Updates, f: int) -> Call:
            # Some strategies empty the replies, so that each call needs new ones.
            received = replies(updates)
            chosen = make(len(updates.weights), f)
            return lambda: chosen.aggregate_train(1, received)[0]

        return of

    return {
        (way, "fed_avg"): prepare(lambda _n, _f: strategy.FedAvg()),
        (way, "median"): prepare(lambda _n, _f: strategy.FedMedian()),
        (way, "trimmed_mean"): prepare(lambda n, f: strategy.FedTrimmedAvg(beta=f / n)),
        (way, "krum"): prepare(lambda _, f: strategy.Krum(num_malicious_nodes=f)),
        (way, "multi_krum"): prepare(
            lambda n, f: strategy.MultiKrum(num_malicious_nodes=f, num_nodes_to_select=n - f)
        ),
        (way, "bulyan"): prepare(lambda _, f: strategy.Bulyan(num_malicious_nodes=f)),
    }


def _byzfl() -> dict[tuple[str, str], Prepare]:
    aggregators = _import_byzfl_aggregators()
    makes: dict[str, Callable[[int], Any]] = {
        "fed_avg": lambda _: aggregators.Average(),
        "median": lambda _: aggregators.Median(),
        "trimmed_mean": aggregators.TrMean,
        "krum": aggregators.Krum,
        "multi_krum": aggregators.MultiKrum,
        "geometric_median": lambda _: aggregators.GeometricMedian(),
        "centred_clipping": lambda _: aggregators.CenteredClipping(),
    }

    def prepare(make: Callable[[int], Any], as_torch: bool) -> Prepare:
        def of(updates: Updates, f: int) -> Call:
            # One that remembers (centred clipping) begins anew, as ours does.
            aggregator = make(f)
            vectors = torch.from_numpy(updates.stack) if as_torch else updates.stack
            return lambda: aggregator(vectors)

        return of

    ways = {f"ByzFL {version('byzfl')}, NumPy": False, f"ByzFL {version('byzfl')}, torch": True}
    return {
        (way, rule): prepare(make, as_torch)
        for way, as_torch in ways.items()
        for rule, make in makes.items()
    }


def _import_byzfl_aggregators() -> Any:
    """Import ByzFL's aggregators and no more of it.

    Its package imports torchvision for data sets, and torchvision does not import beside this
    torch. An empty package in its place leaves the aggregators' own code as it is.
    """
    spec = importlib.util.find_spec("byzfl")
    if spec is None or spec.submodule_search_locations is None:
        raise SystemExit("expected byzfl in the peers' environment, found none")
    package = ModuleType("byzfl")
    package.__path__ = list(spec.submodule_search_locations)
    sys.modules["byzfl"] = package
    return importlib.import_module("byzfl.aggregators")


if __name__ == "__main__":
    main()
