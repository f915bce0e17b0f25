"""`fedwitness witness`: repeat what an aggregator proposes, and say so on the ledger."""

from typing import Annotated

import typer

from audit.settings import WitnessSettings
from audit.witness import Witness, Word
from chain.federation import Federation
from chain.keyring import Keyring
from chain.keystore import Identity
from cli.command import command
from cli.connect import blobs, writer
from cli.screen import Screen
from cli.waiting import interruptible, replay_progress

app = typer.Typer(
    no_args_is_help=True,
    help="Repeat every proposal and attest it, or dispute it (witnesses).",
)


@app.command()
@command
def run(
    *,
    federation: Federation,
    keyring: Keyring,
    identity: Identity,
    screen: Screen,
    poll_seconds: Annotated[float, typer.Option(help="Pause between two looks.")] = 2.0,
    patience_seconds: Annotated[
        float, typer.Option(help="How long to ask for a missing blob before disputing.")
    ] = 600.0,
    threads: Annotated[int, typer.Option(help="Threads that aggregate.")] = 1,
    once: Annotated[bool, typer.Option("--once", help="Look once and return.")] = False,
) -> None:
    """Watch the ledger and give this witness's word on every proposal.

    Whatever was said is on the chain: a witness that was killed goes on from there.

    Example: fedwitness witness run --key keys/witness-1.json --password-file witness-1.password
    """
    settings = WitnessSettings(keyring.work / "witness", threads, poll_seconds, patience_seconds)
    ledger = writer(federation, keyring, identity)

    def told(word: Word) -> None:
        where = f"round {word.round}, proposal {word.proposal}: " if word.round else ""
        screen.say(f"{where}{word.said.value}: {word.told}")

    with blobs(federation) as store, replay_progress(screen) as progress:
        witness = Witness(ledger, store, identity, settings, progress=progress)
        if once:
            words = witness.watch()
        else:
            with interruptible() as stop:
                witness.run(stop, told)
            words = ()
    screen.show(
        [
            {"round": one.round, "proposal": one.proposal, "said": one.said.value, "told": one.told}
            for one in words
        ]
    )
