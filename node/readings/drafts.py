"""What was sealed and is not on the ledger yet, so that nothing is recorded twice.

Whoever is interrupted and says the same again goes on with the envelope that is there, which the
ledger may know already. A draft has a folder of its own, named by the digest of what was wanted:

    envelope     the sealed document
    draft.json   what goes to the ledger
    done.json    what the ledger calls it; the envelope is deleted then
"""

import hashlib
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from fcntl import LOCK_EX, LOCK_NB, flock
from pathlib import Path

from chain.canonical import canonical_json, parse_json
from chain.errors import InvalidInputError
from chain.files import private_folder, replacing
from chain.wire import from_hex, to_hex

_MAX_FILE = 1 << 16  # bytes


class Draft:
    """One thing that is to be said once."""

    def __init__(self, folder: Path) -> None:
        self.envelope = folder / "envelope"
        self._terms = folder / "draft.json"
        self._done = folder / "done.json"

    def terms(self) -> Mapping[str, object] | None:
        """Return what was to go to the ledger, or None before it was sealed."""
        return _read(self._terms)

    def keep(self, terms: Mapping[str, object]) -> None:
        """Keep what is to go to the ledger; the envelope, if any, lies there already."""
        with replacing(self._terms) as file:
            file.write(canonical_json(terms))

    def done(self) -> bytes | None:
        """Return what the ledger calls it, or None while it is not known to be there."""
        found = _read(self._done)
        return None if found is None else from_hex(found.get("id"), "id")

    def finish(self, identifier: bytes) -> None:
        """Note what the ledger calls it."""
        with replacing(self._done) as file:
            file.write(canonical_json({"id": to_hex(identifier)}))
        self.envelope.unlink(missing_ok=True)

    def discard(self) -> None:
        """Begin anew."""
        for path in (self._done, self._terms, self.envelope):
            path.unlink(missing_ok=True)


@contextmanager
def draft_of(folder: Path, wanted: Mapping[str, object]) -> Iterator[Draft]:
    """Open the draft of what is wanted, for one process at a time.

    Args:
        folder: The party's folder of drafts; made if missing.
        wanted: What is to be said, whole: what is said again in the same words is the same.

    Raises:
        InvalidInputError: If another process is at it.
    """
    name = hashlib.sha256(canonical_json(wanted)).hexdigest()[:32]
    place = private_folder(private_folder(folder) / name)
    descriptor = os.open(place, os.O_RDONLY | os.O_CLOEXEC)
    try:
        try:
            flock(descriptor, LOCK_EX | LOCK_NB)
        except BlockingIOError:
            raise InvalidInputError(
                "another process is recording the same at this moment: wait for it"
            ) from None
        yield Draft(place)
    finally:
        os.close(descriptor)


def _read(path: Path) -> Mapping[str, object] | None:
    if not path.is_file():
        return None
    with path.open("rb") as file:
        found = parse_json(file.read(_MAX_FILE + 1), _MAX_FILE)
    if not isinstance(found, dict):
        raise InvalidInputError(f"{path}: expected a JSON object, found something else; delete it")
    return found
