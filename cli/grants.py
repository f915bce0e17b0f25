"""`fedwitness grants`: who may look at which images."""

import time
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

import typer

from chain.errors import VerificationError
from chain.federation import Federation
from chain.image_proofs import read_proof, verify_image
from chain.keyring import Keyring
from chain.keystore import Identity
from chain.types import Purpose
from chain.wire import from_hex, to_hex, to_json_dict
from cli.command import FINDINGS, command
from cli.connect import reader, writer
from cli.screen import Screen, as_lines, moment, numbered

SECONDS_PER_DAY = 86_400

app = typer.Typer(
    no_args_is_help=True,
    help="Give, revoke and list permissions to look at images (hospitals and researchers).",
)


@app.command()
@command
def mine(
    *,
    federation: Federation,
    screen: Screen,
    identity: Identity,
) -> None:
    """List what you may see, by whom and until when, as the chain has it at a named block.

    Example: fedwitness grants mine --key keys/researcher.json
    """
    federation.needs("image_access")
    answer = reader(federation).grants_of(identity.address)
    grants = [to_json_dict(one) for one in answer.grants]
    data = {"block": answer.block.number, "grants": grants}
    screen.show(data, as_lines({**data, "grants": numbered(map(_for_people, grants))}))


@app.command()
@command
def give(
    *,
    researcher: Annotated[str, typer.Argument(help="The researcher's address.")],
    version: Annotated[str, typer.Option(help="The data-set version, 0x and 64 digits.")],
    federation: Federation,
    keyring: Keyring,
    identity: Identity,
    screen: Screen,
    days: Annotated[float, typer.Option(help="How long it lasts.")] = 30.0,
    purpose: Annotated[Purpose, typer.Option(help="For what.")] = Purpose.HEALTH_RESEARCH,
    image: Annotated[
        int | None, typer.Option(help="Only the image of this number, from 0.")
    ] = None,
    dataset: Annotated[
        Path | None, typer.Option(help="The committed data set, needed with --image.")
    ] = None,
    hospital: Annotated[
        str | None, typer.Option(help="In whose name, for its data steward; yours if not given.")
    ] = None,
) -> None:
    """Let a researcher look at a version, or at one image in it.

    A researcher who is not enrolled yet sees nothing until then.

    Example: fedwitness grants give 0xAb…12 --version 0x5f… --days 30 --key keys/hospital.json
    """
    federation.needs("image_access")
    commitment: bytes | None = None
    proof: tuple[bytes, ...] = ()
    if image is not None:
        if dataset is None:
            raise typer.BadParameter("give the committed data set with --dataset")
        from node.dataset import load_dataset, prove_image

        proven = prove_image(load_dataset(dataset), image)
        commitment, proof = proven.commitment, proven.proof
    ledger = writer(federation, keyring, identity)
    grant = ledger.grant_access(
        researcher,
        from_hex(version, "version"),
        commitment,
        proof,
        purpose=int(purpose),
        expiry=int(time.time() + days * SECONDS_PER_DAY),
        hospital=hospital,
    )
    data = {"grant": to_hex(grant), "image": None if commitment is None else to_hex(commitment)}
    screen.show(data, as_lines({**data, "image": data["image"] or "the whole version"}))


@app.command()
@command
def revoke(
    *,
    grant: Annotated[str, typer.Argument(help="The grant, 0x and 64 digits.")],
    federation: Federation,
    keyring: Keyring,
    identity: Identity,
    screen: Screen,
) -> None:
    """Take a grant back.

    Example: fedwitness grants revoke 0x7c… --key keys/hospital.json
    """
    federation.needs("image_access")
    receipt = writer(federation, keyring, identity).revoke(from_hex(grant, "grant"))
    screen.show({"revoked": grant, "block": receipt.block})


@app.command()
@command
def delegate(
    *,
    data_steward: Annotated[str, typer.Argument(help="Who may, by address.")],
    federation: Federation,
    keyring: Keyring,
    identity: Identity,
    screen: Screen,
    days: Annotated[float, typer.Option(help="For how long; 0 ends it now.")] = 365.0,
) -> None:
    """Let a data steward give and revoke grants in your hospital's name.

    Example: fedwitness grants delegate 0xAb…12 --days 90 --key keys/hospital.json
    """
    federation.needs("image_access")
    until = int(time.time() + days * SECONDS_PER_DAY) if days > 0 else 0
    receipt = writer(federation, keyring, identity).delegate(data_steward, until)
    data = {"data_steward": data_steward, "until": until, "block": receipt.block}
    screen.show(data, as_lines({**data, "until": moment(until) if until else "ended"}))


@app.command()
@command
def verify(
    *,
    proof: Annotated[Path, typer.Argument(help="What `hospital prove` wrote.")],
    federation: Federation,
    screen: Screen,
) -> None:
    """Check that an image which a hospital showed you is in its version on the ledger.

    Exit code 0: the image of this digest is in it. 1: it is not. 2: the proof or the chain cannot
    be read.

    Example: fedwitness grants verify proof.json --federation federation.json
    """
    version, shown = read_proof(proof)
    found = reader(federation).dataset_version(version)
    fault = ""
    try:
        verify_image(shown, found.merkle_root)
    except VerificationError as error:
        fault = str(error)
    screen.show(
        {
            "ok": not fault,
            "fault": fault or None,
            "version": to_hex(version),
            "hospital": found.hospital,
            "state": found.state.name,
            "image_digest": to_hex(shown.image_digest),
        }
    )
    if fault:
        raise typer.Exit(FINDINGS)


def _for_people(grant: Mapping[str, Any]) -> dict[str, object]:
    """Say in words for when and what, and leave out the researcher, who is reading this."""
    words = {
        "expiry": moment(int(grant["expiry"])),  # text where it is 2^53 or more
        "image": grant["image"] or "the whole version",
    }
    return {key: value for key, value in grant.items() if key != "researcher"} | words
