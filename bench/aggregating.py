"""The child process that aggregates as a round does: from files to a finished model file."""

import json
import sys
import time
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path

from aggregator.cohort import Member
from aggregator.pipeline import read_pipeline
from bench.children import THREADS
from bench.updates import EXAMPLES, update_file
from chain.digests import sha256
from chain.tensors import open_tensors

MODEL = "model.safetensors"


def main() -> None:
    """Answer ``{"pipeline": [...], "count": N}`` with ``{"seconds": S}`` until there is no more."""
    folder = Path(sys.argv[1])
    for line in sys.stdin:
        request = json.loads(line)
        # As in a round, the model is a new file: nobody waits for the end of an old one.
        (folder / MODEL).unlink(missing_ok=True)
        begin = time.perf_counter()
        aggregate(folder, request["pipeline"], request["count"])
        print(json.dumps({"seconds": time.perf_counter() - begin}), flush=True)


def aggregate(folder: Path, steps: Sequence[object], count: int) -> None:
    """Map the first `count` updates, judge them all and write the model."""
    pipeline = read_pipeline(steps)
    with ExitStack() as files:
        base = files.enter_context(open_tensors(folder / "base.safetensors"))
        members = []
        for index in range(count):
            path = update_file(folder, index)
            # Admission has computed content digests; rules only draw lots by them.
            content = sha256(path.name.encode())
            tensors = files.enter_context(open_tensors(path))
            members.append(Member(path.name, EXAMPLES, content, tensors))
        pipeline.aggregate(base, members, folder / MODEL, THREADS)


if __name__ == "__main__":
    main()
