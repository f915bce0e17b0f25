"""`fedwitness`: one command for everyone in a federation."""

import logging

import typer

from cli import (
    aggregator,
    ask,
    erasing,
    gateway,
    grants,
    hospital,
    index,
    looks,
    participants,
    reading_requests,
    readings,
    witness,
)
from cli.aggregate import aggregate
from cli.audit import audit
from cli.bundle import bundle
from cli.demo import demo
from cli.disputes import disputes
from cli.network import down, status, up
from cli.reputation import reputation
from cli.rules import rules

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
app.command()(demo)
app.command()(up)
app.command()(down)
app.command()(status)
app.command()(audit)
app.command()(bundle)
app.command()(disputes)
app.command()(reputation)
app.command()(aggregate)
app.command()(rules)
hospital.app.command()(erasing.erase)
hospital.app.command()(gateway.gateway)
hospital.app.add_typer(gateway.looks, name="looks")
app.add_typer(hospital.app, name="hospital")
app.add_typer(aggregator.app, name="aggregator")
app.add_typer(witness.app, name="witness")
app.add_typer(ask.app, name="ask")
app.add_typer(index.app, name="index")
app.add_typer(grants.app, name="grants")
app.add_typer(looks.app, name="looks")
readings.app.add_typer(reading_requests.app)
app.add_typer(readings.app, name="readings")
app.add_typer(participants.app, name="participants")


def main() -> None:
    """Run the command line."""
    logging.basicConfig(level=logging.WARNING, format="%(name)s: %(message)s")
    app()


if __name__ == "__main__":
    main()
