"""`fedwitness up`, `down` and `status`: a whole federation on this machine."""

from pathlib import Path
from typing import Annotated

import typer

from chain.errors import InvalidInputError
from chain.federation import FILE_NAME, read_federation
from chain.types import Role
from cli.command import command
from cli.screen import Screen
from cli.waiting import interruptible
from demo.local import running, set_up, start_aggregator, start_staff, stop

HOSPITALS = tuple((f"hospital-{number}", Role.HOSPITAL) for number in (1, 2, 3))

Folder = Annotated[Path, typer.Option("--folder", help="Holds everything that lasts.")]


@command
def up(
    *,
    screen: Screen,
    folder: Folder = Path("runs/up"),
    task: Annotated[str, typer.Option(help="The task that the aggregator leads.")] = "lesion-2d",
    detach: Annotated[bool, typer.Option("--detach", help="Leave it running and return.")] = False,
) -> None:
    """Start chain, IPFS node, contracts, server, aggregator and witnesses, and say where they are.

    What they keep lies in the folder: stopped and started again, they go on where they were.
    Identities for every role lie in FOLDER/keys, each with its password in NAME.password.

    Example: fedwitness up --detach && fedwitness status
    """
    try:
        with screen.remarks.status("starting"):
            local = start_staff(set_up(folder, HOSPITALS, screen.say), screen.say)
            start_aggregator(local, task)
        data = {**read_federation(local.file).to_dict(), "federation": str(local.file)}
        screen.show(data)
        if not detach:
            screen.say("running; Ctrl-C stops it")
            with interruptible() as stopped:
                stopped.wait()
    except BaseException:
        stop(folder)
        raise
    if not detach:
        screen.say("stopping")
        stop(folder)


@command
def down(*, screen: Screen, folder: Folder = Path("runs/up")) -> None:
    """Stop what `up` started; everything that it kept stays.

    Example: fedwitness down
    """
    if not folder.is_dir():
        raise InvalidInputError(f"{folder}: nothing was started there; give its folder: --folder")
    stop(folder)
    screen.show({"stopped": str(folder)})


@command
def status(*, screen: Screen, folder: Folder = Path("runs/up")) -> None:
    """Tell which parts of a local federation run, and where.

    Example: fedwitness status --json
    """
    file = folder / FILE_NAME
    addresses = read_federation(file).to_dict() if file.is_file() else {}
    screen.show({"running": dict(running(folder)), "addresses": addresses})
