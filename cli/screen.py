"""What a command prints on: results on standard output, everything else on standard error."""

import json
import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

from rich.cells import cell_len
from rich.console import Console, Group, RenderableType
from rich.markup import escape
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Table

from chain.canonical import canonical_json
from chain.escaping import escaped

_UNBOUNDED = 500  # columns: room for a row of digests where no terminal bounds it
_GAP = 2  # columns between a name and its value


def _console(*, stderr: bool = False) -> Console:
    """Return a console as wide as its terminal, or as its words need where there is none."""
    console = Console(stderr=stderr, soft_wrap=True, emoji=False)
    if not console.is_terminal and "COLUMNS" not in os.environ:
        console.width = _UNBOUNDED  # a digest in a file or pipe is searched for and cut out whole
    return console


@dataclass(frozen=True, slots=True)
class Screen:
    """Where a command's words go.

    With ``as_json`` standard output holds one JSON value and nothing else, for machines.
    """

    as_json: bool = False
    output: Console = field(default_factory=_console)
    remarks: Console = field(default_factory=lambda: _console(stderr=True))

    def show(self, data: object, human: RenderableType | None = None) -> None:
        """Show a result: `data` as JSON, or `human` where people read it."""
        if self.as_json:
            self.output.print_json(json.dumps(data), ensure_ascii=True)
        else:
            self.output.print(as_lines(data) if human is None else human)

    def say(self, remark: str) -> None:
        """Say how things go; the remark is plain text."""
        self.remarks.print(plain(remark))

    def fail(self, kind: str, message: str) -> None:
        """Say why a command failed, in one line, and in JSON too where that was asked for."""
        line = " ".join(message.split("\n"))
        self.remarks.print(f"[bold red]error:[/] {plain(line)}")
        if self.as_json:
            error = {"error": {"kind": kind, "message": line}}
            self.output.print_json(json.dumps(error), ensure_ascii=True)

    @contextmanager
    def progress(self) -> Iterator[Progress]:
        """Show progress bars while the block runs."""
        columns = (
            TextColumn("{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            TimeElapsedColumn(),
        )
        with Progress(*columns, console=self.remarks, transient=True) as bars:
            yield bars


def plain(text: str) -> str:
    """Make text safe to print: no markup, and no character that steers a terminal.

    Names on the ledger are strangers' words; escape sequences and overrides of the writing
    direction in them are shown and not obeyed.
    """
    return escape(escaped(text, keep="\n"))


def moment(seconds: int) -> str:
    """Write a time on the ledger (Unix seconds) for people; a stranger may have set any."""
    try:
        return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%d %H:%M:%SZ")
    except (OverflowError, ValueError, OSError):
        return f"{seconds} s after 1970"


def as_lines(data: object) -> RenderableType:
    """Render a JSON value for people: objects as two columns, lists of objects as tables."""
    if isinstance(data, Mapping):
        if not data:
            return "-"
        return Group(*(_line(*one) for one in _fields(data)))
    if isinstance(data, Sequence) and not isinstance(data, str):
        return _rows(data)
    return plain(_cell(data))


def numbered(rows: Iterable[Mapping[str, object]]) -> dict[str, object]:
    """Put rows below each other, without what is None, for identifiers are too long for tables."""
    return {str(number): without_none(row) for number, row in enumerate(rows, 1)}


def without_none(row: Mapping[str, object]) -> dict[str, object]:
    """Return a row without what is None."""
    return {name: value for name, value in row.items() if value is not None}


def _fields(data: Mapping[Any, object]) -> Iterator[tuple[str, int, RenderableType]]:
    """Yield, for each line, the names before the value, as markup; their width; the value."""
    labels = [escaped(str(name), keep="\n") for name in data]
    width = max(map(cell_len, labels)) + _GAP
    for label, value in zip(labels, data.values(), strict=True):
        before = f"[bold]{escape(label)}[/]{' ' * (width - cell_len(label))}"
        if not (isinstance(value, Mapping) and value):
            yield before, width, as_lines(value)
            continue
        for names, inner, shown in _fields(value):
            yield before + names, width + inner, shown
            before = " " * width


def _line(names: str, width: int, shown: RenderableType) -> RenderableType:
    """Put names before a value, which is folded beside them if it is longer than one word."""
    if isinstance(shown, str) and not any(map(str.isspace, shown)):
        return names + shown  # never folded: digests and paths are there to be copied
    table = Table(show_header=False, box=None, pad_edge=False, padding=0)
    table.add_column(width=width, no_wrap=True)
    table.add_column(overflow="fold")
    table.add_row(names, shown)
    return table


def _rows(rows: Sequence[object]) -> RenderableType:
    if not rows:
        return "-"
    if not all(isinstance(row, Mapping) for row in rows):
        return plain("\n".join(_cell(row) for row in rows))
    names = list(dict.fromkeys(name for row in rows for name in row))  # type: ignore[attr-defined]
    table = Table(pad_edge=False)
    for name in names:
        table.add_column(name, overflow="fold")  # addresses are there to be copied
    for row in rows:
        table.add_row(*(plain(_cell(row.get(name))) for name in names))  # type: ignore[attr-defined]
    return table


def _cell(value: object) -> str:
    if value is None:
        return "-"
    if isinstance(value, (list, tuple)) and all(isinstance(one, (str, int)) for one in value):
        return ", ".join(map(str, value)) or "-"
    if isinstance(value, (dict, list, tuple)):
        return canonical_json(value).decode()
    return str(value)
