"""How much memory of its own this process takes."""

import threading
from pathlib import Path
from types import TracebackType
from typing import Self

_INTERVAL = 0.01  # seconds between two looks
_STATUS = Path("/proc/self/status")


class AnonymousMemory:
    """Watches this process's anonymous memory while a block runs.

    That is `RssAnon` of proc(5): heap, stacks and buffers, with those of the interpreter and its
    libraries. The pages of mapped files are not counted, as they are the page cache's and go when
    somebody else needs room; so `VmHWM` and `ru_maxrss`, which count them, tell another thing.
    Linux keeps no high-water mark of it, hence the looking, a hundred times a second.

    Attributes:
        peak: The most that was seen, in bytes; None where the system does not tell.
    """

    def __init__(self) -> None:
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
            found = _anonymous()
            if found is None:
                return
            self.peak = max(found, self.peak or 0)
            if last:
                return
            self._done.wait(_INTERVAL)


def _anonymous() -> int | None:
    """Return this process's anonymous memory in bytes."""
    if not _STATUS.exists():
        return None
    for line in _STATUS.read_text().splitlines():
        if line.startswith("RssAnon:"):
            return int(line.split()[1]) * 1024
    return None
