"""`fedwitness looks`: for whoever looked, and whoever checks who did."""

from pathlib import Path
from typing import Annotated

import typer

from chain.errors import InvalidInputError
from chain.federation import Federation
from chain.keystore import Identity
from chain.look_receipts import DAY, judge, read_receipt, write_receipt
from chain.wire import to_json_dict
from cli.command import FINDINGS, command
from cli.connect import reader
from cli.screen import Screen, as_lines, moment

app = typer.Typer(
    no_args_is_help=True,
    help="Sign in at a hospital's gateway, and check that looks stand in its anchored log "
    "(researchers and auditors).",
)

_Gateway = Annotated[str, typer.Option(help="The gateway's URL.")]


@app.command()
@command
def sign_in(
    *, gateway: _Gateway, federation: Federation, identity: Identity, screen: Screen
) -> None:
    """Begin a session at a gateway, and print its token for DICOMweb clients.

    The token goes as `Authorization: Bearer TOKEN`, lasts 15 minutes, and is a secret. A
    federation's server is signed in to in the same way, with its URL for the gateway's.

    Example: fedwitness looks sign-in --gateway https://images.st-mary.org --key keys/ada.json
    """
    from node.gateway.visiting import Visit

    with Visit(gateway, identity, reader(federation).chain_id) as visit:
        token, expires = visit.sign_in()
    url = f"{gateway.rstrip('/')}/dicomweb"
    data = {"token": token, "expires": expires, "dicomweb": url}
    screen.show(data, as_lines({**data, "expires": moment(expires)}))


@app.command()
@command
def fetch(
    *,
    number: Annotated[int, typer.Argument(help="The look's number, as its receipt tells it.")],
    gateway: _Gateway,
    out: Annotated[Path, typer.Option(help="Receives the receipt or proof, as JSON.")],
    federation: Federation,
    identity: Identity,
    screen: Screen,
) -> None:
    """Fetch the receipt of your own look, with its proof once it is anchored.

    Example: fedwitness looks fetch 17 --gateway https://images.st-mary.org --out look-17.json
    """
    from node.gateway.visiting import Visit

    with Visit(gateway, identity, reader(federation).chain_id) as visit:
        token, _ = visit.sign_in()
        found = visit.proof(token, number)
    if (found.look.number, found.look.researcher) != (number, identity.address):
        raise InvalidInputError(
            f"expected your look {number}, found look {found.look.number} of "
            f"{found.look.researcher}"
        )
    write_receipt(out, found)
    look, anchored = to_json_dict(found.look), found.anchor is not None
    shown = {"look": {**look, "time": moment(found.look.time)}, "anchored": anchored}
    screen.show({"look": look, "anchored": anchored}, as_lines(shown))


@app.command()
@command
def verify(
    *,
    files: Annotated[list[Path], typer.Argument(help="Receipts and proofs of looks.")],
    federation: Federation,
    screen: Screen,
    offline: Annotated[
        bool,
        typer.Option("--offline", help="Check signatures and proofs alone."),
    ] = False,
    within: Annotated[
        int, typer.Option(help="Seconds after which a look has to be anchored.", min=0)
    ] = DAY,
) -> None:
    """Check receipts and proofs of looks against each other and against the ledger.

    Give the receipt that you got and the proof that the hospital shows: a hospital that hides a
    look has another one under its number, or an anchored log that ends before it. Without the chain
    nothing says that a batch was anchored.

    Exit code 0: nothing is wrong. 1: something is. 2: a file or the chain cannot be read.

    Example: fedwitness looks verify receipt-17.json look-17.json --federation federation.json
    """
    if not offline:
        federation.needs("image_access")
    receipts = [read_receipt(path) for path in files]
    found = judge(receipts, None if offline else reader(federation), within)
    screen.show(
        {
            "ok": not found.findings,
            "proven": found.proven,
            "pending": found.pending,
            "against": None if offline else "the ledger",
            "findings": [
                {
                    "hospital": one.hospital,
                    "number": one.number,
                    "fault": one.fault.name,
                    "message": f"{one.fault.value}: {one.told}",
                }
                for one in found.findings
            ],
        }
    )
    if found.findings:
        raise typer.Exit(FINDINGS)
