"""Processes that are measured: each answers a line of JSON with a line of JSON.

What is compared runs in processes of its own, so that neither side inherits the other's memory,
threads or imports, and the asking process can watch their memory from outside.
"""

import json
import os
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from aggregator.memory import AnonymousMemory

THREADS = 2
_VARIABLES = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "NUMBA_NUM_THREADS")


class Child:
    """A process that is asked and watched, with two threads allowed to whatever library it uses.

    Attributes:
        peak: The most anonymous memory that it was seen to have while it answered, in bytes
            (see `aggregator.memory`).
    """

    def __init__(self, command: Sequence[str | Path], folder: Path) -> None:
        """Start it in a working folder."""
        self._command = " ".join(map(str, command))
        environment = os.environ | dict.fromkeys(_VARIABLES, str(THREADS))
        self.peak = 0
        self._process = subprocess.Popen(
            list(map(str, command)),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            cwd=folder,
            env=environment,
        )

    def ask(self, request: Mapping[str, object]) -> dict[str, Any]:
        """Send a request and wait for its answer.

        Raises:
            SystemExit: If the child ends instead; it has said why on standard error. Or if the
                system does not tell its memory.
        """
        if self._process.stdin is None or self._process.stdout is None:
            raise SystemExit("expected a child with pipes")
        with AnonymousMemory(self._process.pid) as memory:
            try:
                self._process.stdin.write(json.dumps(request) + "\n")
                self._process.stdin.flush()
                line = self._process.stdout.readline()
            except BrokenPipeError:
                line = ""
        if not line:
            raise SystemExit(f"expected an answer to {request}, found the end of {self}")
        if memory.peak is None:
            raise SystemExit("expected RssAnon in /proc/PID/status, found none: measure on Linux")
        self.peak = max(self.peak, memory.peak)
        answer: dict[str, Any] = json.loads(line)
        return answer

    def __str__(self) -> str:
        return f"process {self._process.pid}: {self._command}"

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """End it."""
        self._process.kill()
        self._process.communicate()
