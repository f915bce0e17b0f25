"""`fedwitness participants`: who may act, decided by a steward."""

from typing import Annotated

import typer

from chain.federation import Federation
from chain.keyring import Keyring
from chain.keystore import Identity
from chain.types import Role
from chain.wire import from_hex, to_json_dict
from cli.command import command
from cli.connect import reader, writer
from cli.screen import Screen

app = typer.Typer(
    no_args_is_help=True,
    help="Enrol, suspend and list the parties of a federation (stewards).",
)

Address = Annotated[str, typer.Argument(help="The party's address, 0x and 40 digits.")]


@app.command("list")
@command
def list_participants(
    *,
    federation: Federation,
    screen: Screen,
    role: Annotated[Role | None, typer.Option(help="Only parties of this role.")] = None,
) -> None:
    """List the enrolled parties.

    Example: fedwitness participants list --role HOSPITAL
    """
    found = reader(federation).participants(role)
    screen.show([to_json_dict(one) for one in found])


@app.command()
@command
def enroll(
    *,
    address: Address,
    role: Annotated[Role, typer.Option(help="What the party may do.")],
    encryption_key: Annotated[
        str, typer.Option(help="Its X25519 public key, 0x and 64 digits, from `hospital keygen`.")
    ],
    name: Annotated[str, typer.Option(help="What people call it; everyone can read it.")],
    federation: Federation,
    keyring: Keyring,
    identity: Identity,
    screen: Screen,
) -> None:
    """Give a party a role and publish its encryption key.

    Example: fedwitness participants enroll 0xAb…12 --role HOSPITAL --encryption-key 0x5f…
    --name "St. Mary" --key keys/steward.json
    """
    ledger = writer(federation, keyring, identity)
    key = from_hex(encryption_key, "encryption key")
    receipt = ledger.enroll(address, role, key, name)
    screen.show({"enrolled": address, "role": role.value, "block": receipt.block})


@app.command()
@command
def suspend(
    *,
    address: Address,
    reason: Annotated[str, typer.Option(help="Why; everyone can read it.")],
    federation: Federation,
    keyring: Keyring,
    identity: Identity,
    screen: Screen,
) -> None:
    """Lock a party out of every role at once.

    Example: fedwitness participants suspend 0xAb…12 --reason "key lost" --key keys/steward.json
    """
    receipt = writer(federation, keyring, identity).suspend(address, reason)
    screen.show({"suspended": address, "block": receipt.block})


@app.command()
@command
def reinstate(
    *,
    address: Address,
    federation: Federation,
    keyring: Keyring,
    identity: Identity,
    screen: Screen,
) -> None:
    """End a suspension.

    Example: fedwitness participants reinstate 0xAb…12 --key keys/steward.json
    """
    receipt = writer(federation, keyring, identity).reinstate(address)
    screen.show({"reinstated": address, "block": receipt.block})
