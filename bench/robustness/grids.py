"""Tables that are printed and written from the same cells."""

from collections.abc import Sequence
from dataclasses import dataclass

from rich.table import Table

from bench.robustness.summary import LEAST_SEEDS, Spread, percent

MISSING = "\N{EN DASH}"
TO = "\N{EN DASH}"


@dataclass(frozen=True, slots=True)
class Grid:
    """A table of text, with headings and a title."""

    title: str
    headings: Sequence[str]
    rows: Sequence[Sequence[str]]

    def to_markdown(self) -> str:
        """Return the table for a page: its title in bold, figures to the right."""
        marks = ["---", *["---:" if self._is_figure(at) else "---" for at in self._others()]]
        lines = [self.headings, marks, *self.rows]
        table = "\n".join(f"| {' | '.join(line)} |" for line in lines)
        return f"**{self.title}**\n\n{table}"

    def to_rich(self) -> Table:
        """Return the table for a terminal."""
        table = Table(title=self.title, title_justify="left")
        table.add_column(self.headings[0])
        for at in self._others():
            justify = "right" if self._is_figure(at) else "left"
            table.add_column(self.headings[at], justify=justify)  # type: ignore[arg-type]
        for row in self.rows:
            table.add_row(*(text.replace(" (", "\n(").replace("**", "") for text in row))
        return table

    def _others(self) -> range:
        return range(1, len(self.headings))

    def _is_figure(self, column: int) -> bool:
        return all(row[column][:1] in f"0123456789-{MISSING}" for row in self.rows)


def cell(found: Spread | None) -> str:
    """Write a mean with least and greatest in per cent, and the seeds where they are others."""
    if found is None:
        return MISSING
    if found.seeds == 1:
        return f"{percent(found.mean)} (1 seed)"
    few = "" if found.seeds == LEAST_SEEDS else f", {found.seeds} seeds"
    return f"{percent(found.mean)} ({percent(found.least)}{TO}{percent(found.greatest)}{few})"
