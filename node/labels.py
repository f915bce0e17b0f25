"""The table of labels beside a folder of images."""

import csv
from collections.abc import Iterator
from pathlib import Path

from chain.errors import InvalidInputError

LABELS = "labels.csv"
MAX_LABELS = 1 << 27  # bytes of labels.csv
_LONGEST = 9  # digits of a label


def read_labels(path: Path) -> Iterator[tuple[str, int]]:
    """Yield the rows of a table with the columns ``file`` or ``SOPInstanceUID``, and ``label``.

    Raises:
        InvalidInputError: If it is another table, or a row is damaged. Neither names nor values
            are told, only the line.
    """
    if path.stat().st_size > MAX_LABELS:
        raise InvalidInputError(f"{LABELS}: expected at most {MAX_LABELS} bytes")
    seen: set[str] = set()
    try:
        with path.open(encoding="utf-8", newline="") as file:
            rows = csv.DictReader(file, strict=True)
            key = _key_column(rows.fieldnames or ())
            for row in rows:
                where = f"{LABELS}:{rows.line_num}"
                name, label = row.get(key), row.get("label")
                if not name or label is None or not _is_label(label):
                    raise InvalidInputError(
                        f"{where}: expected an image and its label, a whole number from 0"
                    )
                if name in seen:
                    raise InvalidInputError(f"{where}: the image has a label already")
                seen.add(name)
                yield name, int(label)
    except (csv.Error, UnicodeDecodeError):
        raise InvalidInputError(f"{LABELS}: expected CSV in UTF-8, found something else") from None


def _is_label(text: str) -> bool:
    return text.isascii() and text.isdigit() and len(text) <= _LONGEST


def _key_column(columns: object) -> str:
    for key in ("file", "SOPInstanceUID"):
        if sorted(columns) == sorted((key, "label")):  # type: ignore[call-overload]
            return key
    raise InvalidInputError(
        f"{LABELS}: expected the columns file,label or SOPInstanceUID,label, found others"
    )
