"""Files: written whole or not at all, read a piece at a time."""

import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

PIECE = 1 << 20  # bytes


@contextmanager
def replacing(path: Path, *, synced: bool = True) -> Iterator[BinaryIO]:
    """Open a new file that takes the place of `path` when the block ends without an error.

    The bytes are on the disk (fsync) before the file takes its name, unless `synced` is false.
    After an error nothing is left, and what was at `path` is still there. Only the owner can read
    the file.

    Raises:
        OSError: If the disk is full or the folder cannot be written to.
    """
    descriptor, name = tempfile.mkstemp(prefix=f".{path.name}.", dir=path.parent)
    unfinished = Path(name)
    try:
        with os.fdopen(descriptor, "wb") as file:
            yield file
            file.flush()
            if synced:
                os.fsync(file.fileno())
        unfinished.replace(path)
        if synced:
            _sync_folder(path.parent)
    finally:
        unfinished.unlink(missing_ok=True)


def private_folder(path: Path) -> Path:
    """Make a folder that only its owner can look into, and return it."""
    path.mkdir(mode=0o700, parents=True, exist_ok=True)
    path.chmod(0o700)
    return path


def pieces(path: Path) -> Iterator[bytes]:
    """Yield a file's bytes in pieces of a mebibyte.

    Raises:
        OSError: If it cannot be read.
    """
    with path.open("rb") as file:
        while piece := file.read(PIECE):
            yield piece


def _sync_folder(folder: Path) -> None:
    # A rename is durable only once the folder that holds the name is.
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
