"""`fedwitness`: one command for everyone in a federation.

To load every command takes two seconds, so only the one that was asked for is loaded; without one,
as for `--help`, all are.
"""

import logging
import sys
from collections.abc import Callable, Iterable, Mapping
from functools import cache
from importlib import import_module
from typing import Final, TypeAlias

import typer

_Command: TypeAlias = typer.Typer | Callable[..., None]


def _named(name: str, module: str) -> Callable[[], _Command]:
    """Return what loads the attribute of a module that has the command's name."""

    def load() -> _Command:
        command: _Command = getattr(import_module(f"cli.{module}"), name)
        return command

    return load


def _group(module: str) -> Callable[[], _Command]:
    return _named("app", module)


@cache
def _hospital() -> typer.Typer:
    from cli import erasing, gateway, hospital

    hospital.app.command()(erasing.erase)
    hospital.app.command()(gateway.gateway)
    hospital.app.add_typer(gateway.looks, name="looks")
    return hospital.app


@cache
def _readings() -> typer.Typer:
    from cli import reading_requests, readings

    readings.app.add_typer(reading_requests.app)
    return readings.app


_COMMANDS: Final[Mapping[str, Callable[[], _Command]]] = {
    "demo": _named("demo", "demo"),
    "up": _named("up", "network"),
    "down": _named("down", "network"),
    "status": _named("status", "network"),
    "audit": _named("audit", "audit"),
    "bundle": _named("bundle", "bundle"),
    "disputes": _named("disputes", "disputes"),
    "reputation": _named("reputation", "reputation"),
    "aggregate": _named("aggregate", "aggregate"),
    "rules": _named("rules", "rules"),
    "hospital": _hospital,
    "aggregator": _group("aggregator"),
    "witness": _group("witness"),
    "ask": _group("ask"),
    "index": _group("index"),
    "grants": _group("grants"),
    "looks": _group("looks"),
    "readings": _readings,
    "participants": _group("participants"),
}


def command_line(names: Iterable[str] = tuple(_COMMANDS)) -> typer.Typer:
    """Build the command line of some commands."""
    app = typer.Typer(
        name="fedwitness",
        no_args_is_help=True,
        pretty_exceptions_enable=False,
        help="Federated learning for hospitals that anyone can verify.\n\n"
        "Begin with `fedwitness demo`, which shows everything, or `fedwitness up`, which starts a "
        "federation on this machine to work on. Wherever it stands, federation.json holds the "
        "addresses; options and FEDWITNESS_* variables override it.\n\n"
        "Exit codes: 0 well done, 1 a check has findings, 2 it could not be done.",
    )
    app.callback()(_nothing)  # else a single command would take the place of the whole
    for name in names:
        command = _COMMANDS[name]()
        if isinstance(command, typer.Typer):
            app.add_typer(command, name=name)
        else:
            app.command(name)(command)
    return app


def _nothing() -> None:
    pass


def main() -> None:
    """Run the command line."""
    logging.basicConfig(level=logging.WARNING, format="%(name)s: %(message)s")
    asked = [name for name in sys.argv[1:2] if name in _COMMANDS]
    command_line(asked or _COMMANDS)()


if __name__ == "__main__":
    main()
