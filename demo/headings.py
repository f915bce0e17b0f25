"""Headings between the parts of the demo's output."""

from rich.console import Console
from rich.rule import Rule

_WIDEST = 80  # columns; output that goes to a file or pipe has no width of its own


def heading(screen: Console, title: str) -> None:
    """Begin a part of the output."""
    rule = Rule(f"[bold]{title}[/]", align="left")
    screen.print(rule, width=min(screen.width, _WIDEST))
