"""A secret of 32 bytes in a file of its own, made once and readable by its owner alone."""

import os
import secrets
import stat
from contextlib import suppress
from pathlib import Path

from chain.errors import InvalidInputError
from chain.files import replacing

SECRET_BYTES = 32
_OTHERS = 0o077  # what everybody but the owner could do
_MOST = 4096  # bytes of a key file


def kept_secret(path: Path) -> bytes:
    """Read the secret, or make one where there is no file yet.

    The file holds the 32 bytes themselves, or 64 hexadecimal digits and perhaps a line end.

    Raises:
        InvalidInputError: If others than its owner can reach the file, or it holds anything else.
        OSError: If it cannot be read or written.
    """
    if not os.path.lexists(path):
        _make(path)
    return _read(path)


def _make(path: Path) -> None:
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    drawn = path.with_name(f"{path.name}.{secrets.token_hex(8)}")
    with replacing(drawn) as file:
        file.write(secrets.token_bytes(SECRET_BYTES))
    try:
        # Unlike renaming, linking never takes the place of a secret that another process made.
        with suppress(FileExistsError):
            os.link(drawn, path)
    finally:
        drawn.unlink()


def _read(path: Path) -> bytes:
    descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK)
    with os.fdopen(descriptor, "rb") as file:
        found = os.fstat(descriptor)
        if not stat.S_ISREG(found.st_mode):
            raise InvalidInputError(f"{path}: expected a key file, found something else")
        if found.st_mode & _OTHERS:
            raise InvalidInputError(
                f"{path}: expected a key file that only its owner can reach (mode 0600), found "
                f"mode {stat.S_IMODE(found.st_mode):04o}; if nobody else has read it, run "
                f"`chmod 600` on it, otherwise make another"
            )
        held = file.read(_MOST)
    if len(held) == SECRET_BYTES:
        return held
    with suppress(ValueError):
        read = bytes.fromhex(held.decode("ascii").strip())
        if len(read) == SECRET_BYTES:
            return read
    raise InvalidInputError(
        f"{path}: expected a key of {SECRET_BYTES} bytes, or {2 * SECRET_BYTES} hexadecimal "
        f"digits, found {len(held)} bytes of another kind"
    )
