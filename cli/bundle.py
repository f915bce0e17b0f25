"""`fedwitness bundle`: write one file that proves a model, for those who have no network."""

import time
from dataclasses import replace
from pathlib import Path
from typing import Annotated, Any

import typer

from audit.bundling import Bundle, build_bundle
from chain.blobs import IpfsBlobStore
from chain.errors import InvalidInputError, UncosignedError
from chain.federation import Federation
from chain.keyring import Keyring
from chain.reader import LedgerReader
from chain.wire import from_hex
from cli.command import command
from cli.connect import blobs, reader
from cli.screen import Screen
from cli.waiting import progress_bars

_LOOK_SECONDS = 1.0  # between two looks at the ledger

Target = Annotated[Path, typer.Option("--output", "-o", help="The file to write.")]


@command
def bundle(
    *,
    federation: Federation,
    keyring: Keyring | None,
    screen: Screen,
    model: Annotated[str, typer.Argument(help="The model's digest, 0x and 64 digits.")],
    output: Target,
    full: Annotated[
        bool, typer.Option("--full", help="Put models and envelopes in, from IPFS.")
    ] = False,
    wait: Annotated[
        float,
        typer.Option(help="Seconds to wait until enough witnesses signed the ledger's head."),
    ] = 60.0,
) -> None:
    """Write one file that proves a final model back to the data commitments, without a network.

    It holds block headers, receipts with their proofs, and the witnesses' signatures over the
    ledger's head: whoever knows the witnesses needs nobody else. With --full models and envelopes
    are in it, too. With --full and an auditor's --key it also holds the keys of the envelopes, so
    that anyone can repeat the aggregation: whoever gets that file sees every update.

    It is verified by `python -m audit FILE`, on any machine that has this project's code.

    Example: fedwitness bundle 0x… -o model.bundle --full --key auditor.json
    """
    if keyring is not None and not full:
        message = "--key opens the envelopes of a full bundle: give --full too, or leave it out"
        raise InvalidInputError(message)
    # Without ImageAccess, whose grants prove nothing about a model.
    ledger, digest = reader(replace(federation, image_access="")), from_hex(model, "model")
    key = None if keyring is None else keyring.unlock().encryption_private_key
    store = blobs(federation) if full else None
    try:
        written = _write(ledger, store, digest, output, key, wait, screen)
    finally:
        if store is not None:
            store.close()
    screen.show(_told(written))


def _write(
    ledger: LedgerReader,
    store: IpfsBlobStore | None,
    model: bytes,
    output: Path,
    key: bytes | None,
    wait: float,
    screen: Screen,
) -> Bundle:
    """Write the bundle once enough witnesses signed; raises `UncosignedError` if they do not."""
    ends, is_waiting = time.monotonic() + wait, False
    while True:
        try:
            with progress_bars(screen) as progress:
                return build_bundle(
                    ledger, store, model, output, private_key=key, progress=progress
                )
        except UncosignedError as error:
            if time.monotonic() > ends:
                raise
            if not is_waiting:
                screen.say(f"waiting up to {wait:g} s: {error}")
            is_waiting = True
            time.sleep(_LOOK_SECONDS)


def _told(written: Bundle) -> dict[str, Any]:
    return {
        "file": str(written.path),
        "bytes": written.size,
        "mode": written.mode.value,
        "task": written.task,
        "round": written.round,
        "blocks": written.blocks,
        "blobs": written.blobs,
        "keys": written.keys,
        "cosigners": list(written.cosigners),
        "quorum": written.quorum,
    }
