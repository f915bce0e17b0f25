"""How much memory of its own a process takes."""

import threading
from pathlib import Path
from types import TracebackType
from typing import Self

_INTERVAL = 0.01  # seconds between two looks


class AnonymousMemory:
    """Watches a process's anonymous memory while a block runs.

    That is `RssAnon` of proc(5): heap, stacks and buffers, with those of the interpreter and its
    libraries. The pages of mapped files are not counted, as they are the page cache's and go when
    somebody else needs room; so `VmHWM` and `ru_maxrss`, which count them, tell another thing.
    Linux keeps no high-water mark of it, hence the looking, a hundred times a second.

    Args:
        process: Its number; this process where it is not given.

    Attributes:
        peak: The most that was seen, in bytes; None where the system does not tell.
    """

    def __init__(self, process: int | None = None) -> None:
        self._status = Path("/proc", "self" if process is None else str(process), "status")
        self.peak: int | None = None
        self._done = threading.Event()
        self._watcher = threading.Thread(target=self._watch, daemon=True)

    def __enter__(self) -> Self:
        """Begin to watch."""
        self._watcher.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """Look once more, and stop."""
        self._done.set()
        self._watcher.join()

    def _watch(self) -> None:
        while True:
            last = self._done.is_set()
            found = _anonymous(self._status)
            if found is None:
                return
            self.peak = max(found, self.peak or 0)
            if last:
                return
            self._done.wait(_INTERVAL)


def _anonymous(status: Path) -> int | None:
    """Return the anonymous memory of a process in bytes."""
    try:
        lines = status.read_text().splitlines()
    except OSError:  # another system, or the process has ended
        return None
    for line in lines:
        if line.startswith("RssAnon:"):
            return int(line.split()[1]) * 1024
    return None
