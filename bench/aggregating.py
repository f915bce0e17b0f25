"""The child process that aggregates as a round does: updates to a finished model file.

From files, opening them is part of what is timed. Mapped, updates are what a peer is given too: in
memory before the clock starts, every page of them known to the process.
"""

import json
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from aggregator.cohort import Member
from aggregator.pipeline import read_pipeline
from bench.children import THREADS
from bench.updates import EXAMPLES, update_file
from chain.digests import sha256
from chain.tensors import TensorFile, open_tensors

MODEL = "model.safetensors"


@dataclass(frozen=True, slots=True)
class Updates:
    """Open updates and their base model."""

    base: TensorFile
    members: tuple[Member, ...]

    def touch(self) -> None:
        """Read everything once, so that no page fault is left."""
        for tensors in (self.base, *(member.tensors for member in self.members)):
            for vector in tensors.vectors:
                np.max(vector)


def main() -> None:
    """Answer ``{"pipeline": [...], "count": N, "mapped": B}`` with seconds.

    Every request of one process is about as many updates.
    """
    folder = Path(sys.argv[1])
    with ExitStack() as files:
        mapped: Updates | None = None
        for line in sys.stdin:
            request = json.loads(line)
            if request["mapped"] and mapped is None:
                mapped = files.enter_context(opened(folder, request["count"]))
                mapped.touch()
            # As in a round, the model is a new file: nobody waits for the end of an old one.
            out = folder / MODEL
            out.unlink(missing_ok=True)
            begin = time.perf_counter()
            pipeline = read_pipeline(request["pipeline"])
            if request["mapped"] and mapped:
                pipeline.aggregate(mapped.base, mapped.members, out, THREADS)
            else:
                with opened(folder, request["count"]) as updates:
                    pipeline.aggregate(updates.base, updates.members, out, THREADS)
            print(json.dumps({"seconds": time.perf_counter() - begin}), flush=True)


@contextmanager
def opened(folder: Path, count: int) -> Iterator[Updates]:
    """Map the base model and the first `count` updates."""
    with ExitStack() as files:
        base = files.enter_context(open_tensors(folder / "base.safetensors"))
        members = []
        for index in range(count):
            path = update_file(folder, index)
            # Admission has computed content digests; rules only draw lots by them.
            content = sha256(path.name.encode())
            tensors = files.enter_context(open_tensors(path))
            members.append(Member(path.name, EXAMPLES, content, tensors))
        yield Updates(base, tuple(members))


if __name__ == "__main__":
    main()
