"""The list of files that an ingest wrote (`node.ingest`), read back a line at a time."""

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from chain.errors import InvalidInputError
from node.ingest import FILES
from node.journal import TAKEN

_LONGEST_LINE = 1 << 20  # bytes


def taken_files(out: Path) -> Iterator[Mapping[str, Any]]:
    """Yield what an ingest's list says of each file that it took, as `listed_files` does."""
    return (told for told in listed_files(out) if told["outcome"] == TAKEN)


def listed_files(out: Path) -> Iterator[Mapping[str, Any]]:
    """Yield what an ingest's list says of each file, in the list's order.

    Raises:
        InvalidInputError: If there is no list.
    """
    path = out / FILES
    if not path.is_file():
        raise InvalidInputError(f"{out}: expected what `hospital ingest` wrote, found no {FILES}")
    with path.open("rb") as file:
        while line := file.readline(_LONGEST_LINE):
            yield json.loads(line)
