"""Audit bundles on disk, so that the chain is read once for many who ask."""

import os
from collections.abc import Callable
from pathlib import Path
from threading import Lock
from typing import BinaryIO

from chain.files import private_folder

_SUFFIX = ".bundle"


class BundleCache:
    """Bundles on disk; where there is no room, those go that nobody asked for longest.

    Args:
        folder: Where they are kept; it is this cache's alone.
        max_bytes: Most bytes of all of them together.
    """

    def __init__(self, folder: Path, max_bytes: int) -> None:
        self._folder = private_folder(folder)
        self._max_bytes = max_bytes
        self._making = Lock()

    def open(self, name: str, make: Callable[[Path], None]) -> BinaryIO | None:
        """Open a bundle, made first where it is not kept.

        Args:
            name: What it is called: model and head.
            make: Writes it to a file that it is given.

        Returns:
            The open file, which stays readable when the cache lets go of it; None where another
            bundle is being made at this moment.
        """
        path = self._folder / f"{name}{_SUFFIX}"
        if (kept := _opened(path)) is not None:
            return kept
        if not self._making.acquire(blocking=False):
            return None
        try:
            if (kept := _opened(path)) is not None:
                return kept
            make(path)
            made = path.open("rb")
            self._make_room()
        finally:
            self._making.release()
        return made

    def _make_room(self) -> None:
        files = sorted(self._folder.iterdir(), key=lambda one: one.stat().st_mtime_ns)
        total = sum(one.stat().st_size for one in files)
        for one in files:
            if total <= self._max_bytes:
                return
            total -= one.stat().st_size
            one.unlink()


def _opened(path: Path) -> BinaryIO | None:
    try:
        file = path.open("rb")
    except FileNotFoundError:
        return None
    # By the open file, as the cache may let go of it at this moment.
    os.utime(file.fileno())
    return file
