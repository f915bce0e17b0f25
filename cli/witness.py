"""`fedwitness witness`: repeat what an aggregator proposes, and say so on the ledger."""

from pathlib import Path
from typing import Annotated, Any

import typer

from audit.settings import WitnessSettings
from audit.witness import Witness, Word
from chain.federation import Federation
from chain.keyring import Keyring
from chain.keystore import Identity
from cli.command import FINDINGS, command
from cli.connect import blobs, writer
from cli.screen import Screen
from cli.waiting import interruptible, progress_bars

app = typer.Typer(
    no_args_is_help=True,
    help="Repeat every proposal and attest it, or dispute it; sign the ledger's heads (witnesses).",
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
    settle_seconds: Annotated[
        float, typer.Option(help="How long a final round's block must have stood to be cosigned.")
    ] = 3.0,
    heads: Annotated[
        list[Path] | None,
        typer.Option(
            help="Heads that another party has seen: its heads.jsonl, or a bundle. Repeatable.",
            exists=True,
            dir_okay=False,
            show_default=False,
        ),
    ] = None,
    threads: Annotated[int, typer.Option(help="Threads that aggregate.")] = 1,
    once: Annotated[bool, typer.Option("--once", help="Look once and return.")] = False,
) -> None:
    """Watch the ledger and give this witness's word on every proposal.

    Runs at a hospital beside its node, or alone: it needs a key of its own, an Ethereum endpoint,
    an IPFS node and a folder, and nothing of the aggregator's or the server's. At a hospital, give
    it a WITNESS key that is not the hospital's, and let both use the hospital's endpoints.

    Whatever was said is on the chain: a witness that was killed goes on from there. The heads of
    final rounds are kept beside the key, in NAME.work/witness/heads.jsonl. Where the chain no
    longer has one of them it was rewound, reorganised or split: that is reported as a finding, and
    nothing is attested or cosigned on such a chain. Ended, it gives exit code 1 if it had findings.

    Example: fedwitness witness run --key keys/witness-1.json --password-file witness-1.password
    """
    settings = WitnessSettings(
        keyring.work / "witness",
        threads=threads,
        poll_seconds=poll_seconds,
        patience_seconds=patience_seconds,
        settle_seconds=settle_seconds,
        heads=tuple(heads or ()),
    )
    ledger = writer(federation, keyring, identity)
    # Of a long watch only what must not be missed is shown again at its end, each once.
    findings: dict[Word, None] = {}

    def told(word: Word) -> None:
        proposal = f", proposal {word.proposal}" if word.proposal else ""
        where = f"round {word.round}{proposal}: " if word.round else ""
        screen.say(f"{where}{word.said.value}: {word.told}")
        if word.finding is not None:
            findings[word] = None

    with blobs(federation) as store, progress_bars(screen) as progress:
        witness = Witness(ledger, store, identity, settings, progress=progress)
        if once:
            words = witness.watch()
        else:
            with interruptible() as stop:
                witness.run(stop, told)
            words = tuple(findings)
    screen.show([_row(word) for word in words])
    if any(word.finding is not None for word in words):
        raise typer.Exit(FINDINGS)


def _row(word: Word) -> dict[str, Any]:
    return {
        "round": word.round,
        "proposal": word.proposal,
        "said": word.said.value,
        "told": word.told,
        "finding": word.finding.to_dict() if word.finding is not None else None,
    }
