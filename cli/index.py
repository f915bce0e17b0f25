"""`fedwitness index`: the database that is an index of the chain."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Annotated

import typer
from sqlalchemy import Engine

from aggregator.index import compare, index_digest, indexed_block, open_index, rebuild
from chain.federation import Federation
from chain.wire import to_hex
from cli.command import FINDINGS, command
from cli.connect import reader
from cli.screen import Screen
from cli.waiting import progress_bars

app = typer.Typer(
    no_args_is_help=True,
    help="Build and check the index: a database that answers questions about the chain, and that "
    "the chain alone can fill.",
)

Database = Annotated[
    str,
    typer.Option(
        envvar="FEDWITNESS_DATABASE",
        help="sqlite:///FILE or postgresql+psycopg://USER@HOST/NAME.",
        show_default=False,
    ),
]


@app.command("rebuild")
@command
def rebuild_index(*, database: Database, federation: Federation, screen: Screen) -> None:
    """Drop the index and build it from the chain; on an error it stays as it was.

    Example: fedwitness index rebuild --database sqlite:///index.db
    """
    federation.needs("image_access")
    ledger = reader(federation)
    with opened(database) as engine, progress_bars(screen) as progress:
        block = rebuild(engine, ledger, progress)
        digest = index_digest(engine)
    screen.show({"block": block.number, "block_hash": to_hex(block.hash), "digest": f"0x{digest}"})


@app.command()
@command
def check(*, database: Database, federation: Federation, screen: Screen) -> None:
    """Hold every row of the index against the chain.

    Exit code 0: every row is what the chain says. 1: one differs. 2: the index was never filled,
    or index or chain cannot be read.

    Example: fedwitness index check --database sqlite:///index.db --json
    """
    federation.needs("image_access")
    ledger = reader(federation)
    with opened(database) as engine:
        differences = compare(engine, ledger)
        at = indexed_block(engine)
    rows = [
        {
            "table": one.table,
            "key": [str(part) for part in one.key],
            "column": one.column,
            "expected": _text(one.expected),
            "found": _text(one.found),
        }
        for one in differences
    ]
    block = None if at is None else at.number
    screen.show({"ok": not rows, "block": block, "differences": rows})
    if rows:
        raise typer.Exit(FINDINGS)


@contextmanager
def opened(database: str) -> Iterator[Engine]:
    """Connect to an index while the block runs."""
    engine = open_index(database)
    try:
        yield engine
    finally:
        engine.dispose()


def _text(value: object) -> str | None:
    if isinstance(value, bytes):
        return f"0x{value.hex()}"
    return None if value is None else str(value)
