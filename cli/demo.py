"""`fedwitness demo`: a whole federation and those who attack it, in a few minutes."""

import signal
from pathlib import Path
from typing import Annotated

import typer

from cli.command import FINDINGS, command
from cli.screen import Screen


@command
def demo(
    *,
    screen: Screen,
    data: Annotated[
        Path | None,
        typer.Option(
            help="An .npz in MedMNIST's form, such as PneumoniaMNIST, in place of head scans "
            "with simulated lesions.",
            show_default=False,
        ),
    ] = None,
    out: Annotated[Path, typer.Option(help="Receives everything; begun anew.")] = Path("runs/demo"),
    rounds: Annotated[int, typer.Option(min=3, max=20, help="How many rounds.")] = 4,
    keep_running: Annotated[
        bool, typer.Option("--keep-running", help="Leave chain, IPFS node and server running.")
    ] = False,
) -> None:
    """Tell the whole story on real parts: hospitals train together, some cheat, all is audited.

    Ends with a table, two pictures and report.json in the output folder. Exit code 1 if the audit
    or the detection of a tampering failed.

    Example: fedwitness demo --data pneumoniamnist.npz --out runs/pneumonia
    """
    # The story brings torch and matplotlib along, which no other command should wait for.
    from demo.report import as_tables
    from demo.story import tell

    # Ended in any way, the story stops the processes that it has started.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    report = tell(out, data, count=rounds, keep_running=keep_running, screen=screen.remarks)
    screen.show(report.to_dict(), as_tables(report))
    if not report.held():
        raise typer.Exit(FINDINGS)
