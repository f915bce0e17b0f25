"""`fedwitness rules`: what pipelines can be made of."""

from typing import TYPE_CHECKING

from rich.console import Group, RenderableType
from rich.table import Table

from chain.wire import to_json_dict
from cli.command import command
from cli.screen import Screen, plain

if TYPE_CHECKING:
    from aggregator.catalogue import Entry


@command
def rules(*, screen: Screen) -> None:
    """List the rules and recipes that --rule takes, and the steps that a --pipeline is made of.

    Example: fedwitness rules --json
    """
    from aggregator.catalogue import catalogue

    entries = catalogue()
    screen.show([to_json_dict(entry) for entry in entries], _human(entries))


def _human(entries: "tuple[Entry, ...]") -> RenderableType:
    table = Table(pad_edge=False, show_lines=False)
    for name in ("kind", "name", "parameters", "what it is"):
        table.add_column(name, overflow="fold", vertical="top")
    kind = ""
    for entry in entries:
        if entry.kind != kind and kind:
            table.add_section()
        told = entry.description
        if entry.steps:
            told += f"\n= {' → '.join(entry.steps)}"
        parameters = (
            f"{one.name}{'' if one.default is None else f' ({one.default})'}: {one.description}"
            for one in entry.parameters
        )
        kind_told = entry.kind if entry.kind != kind else ""
        table.add_row(kind_told, entry.name, plain("\n".join(parameters)), plain(told))
        kind = entry.kind
    names = "--rule takes a recipe or a rule, --param its parameters; defaults are in brackets."
    order = (
        "A --pipeline is a list of steps, each with all its parameters: at most one quarantine, "
        "screens, transforms, one rule, at most one noise, at most one optimiser."
    )
    return Group(table, names, order)
