"""The rows of ``bench/results.json``: every script replaces its own and keeps the others'."""

import json
from collections.abc import Iterable, Mapping
from pathlib import Path

RESULTS = Path(__file__).with_name("results.json")

Row = Mapping[str, str | int | float | None]


def keep(family: str, rows: Iterable[Row]) -> None:
    """Put rows into the place of all that are there under a family's name.

    Args:
        family: What the names of all `rows` begin with, up to a dot.
        rows: Each with name, n, dim, ours_s, peer, peer_s, ratio and peak_rss_mb.
    """
    known = json.loads(RESULTS.read_text()) if RESULTS.exists() else []
    others = [row for row in known if not row["name"].startswith(f"{family}.")]
    RESULTS.write_text(json.dumps([*others, *rows], indent=1) + "\n")
