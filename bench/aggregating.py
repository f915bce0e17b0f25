"""The child process that aggregates as a round does: from files to a finished model file."""

import json
import sys
import time
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path

from aggregator.rules import parse_rule
from bench.children import THREADS
from bench.updates import EXAMPLES, update_file
from chain.canonical import canonical_json
from chain.tensors import open_tensors


def main() -> None:
    """Answer ``{"pipeline": [...], "count": N}`` with ``{"seconds": S}`` until there is no more."""
    folder = Path(sys.argv[1])
    for line in sys.stdin:
        request = json.loads(line)
        begin = time.perf_counter()
        aggregate(folder, request["pipeline"], request["count"])
        print(json.dumps({"seconds": time.perf_counter() - begin}), flush=True)


def aggregate(folder: Path, pipeline: Sequence[object], count: int) -> None:
    """Map the first `count` updates, judge them all and write ``model.safetensors``."""
    with ExitStack() as files:
        base = files.enter_context(open_tensors(folder / "base.safetensors"))
        updates = [
            files.enter_context(open_tensors(update_file(folder, index))) for index in range(count)
        ]
        rule = parse_rule(canonical_json(pipeline[-1]))
        rule.aggregate(base, updates, [EXAMPLES] * count, folder / "model.safetensors", THREADS)


if __name__ == "__main__":
    main()
