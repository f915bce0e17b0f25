"""`fedwitness hospital gateway` and `hospital looks`: showing images, and the log of it."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from chain.errors import InvalidInputError
from chain.federation import Federation
from chain.keyring import Keyring
from chain.keystore import Identity
from chain.ledger import Ledger
from chain.look_receipts import LookReceipt, write_receipt
from chain.types import AnchoredBatch, Look, Role
from chain.wire import from_hex, to_hex, to_json_dict
from cli.command import command
from cli.connect import writer
from cli.screen import Screen, as_lines, moment

if TYPE_CHECKING:
    from node.look_log import LookLog

_MAX_CONNECTIONS = 256
_MAX_HEAD = 16_384  # bytes
_MOST = 1000  # looks that are listed
_SHORT = 12  # characters of a digest, with 0x

looks = typer.Typer(
    no_args_is_help=True,
    help="The log of who looked at what: list it, anchor it, prove entries, hand it over.",
)


@command
def gateway(
    *,
    data: Annotated[
        list[Path], typer.Option(help="What `hospital ingest` wrote; repeat for more.")
    ],
    federation: Federation,
    keyring: Keyring,
    identity: Identity,
    screen: Screen,
    host: Annotated[str, typer.Option(help="The address to listen on.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(help="The port to listen on.", min=1, max=65535)] = 8042,
    url: Annotated[
        str | None,
        typer.Option(
            help="How researchers reach it, https://…, where a proxy stands before it.",
            show_default=False,
        ),
    ] = None,
    origin: Annotated[
        list[str] | None,
        typer.Option(
            help="Whose pages may use it from a browser, https://viewer.example.org; repeat for "
            "more. None but its own, else.",
            show_default=False,
        ),
    ] = None,
    batch: Annotated[
        int, typer.Option(help="Anchor as soon as so many looks wait.", min=1, max=65536)
    ] = 1024,
    age: Annotated[
        int, typer.Option(help="Anchor as soon as one waits for so many seconds.", min=0)
    ] = 3600,
    hand_over: Annotated[
        bool,
        typer.Option(
            help="Hand anchored looks to the federation's server, where auditors can ask."
        ),
    ] = False,
) -> None:
    """Show permitted images to researchers by DICOMweb, and log each look before it.

    Shows what was ingested and registered, to who has a live grant on chain at that moment. It has
    no TLS of its own: beyond this machine, put a proxy with TLS before it and name it with --url.

    Example: fedwitness hospital gateway --data scans/ --port 8042 --key keys/st-mary.json
    """
    import uvicorn

    from api.server import PromptProtocol
    from node.gateway.app import Gateway, build_app
    from node.gateway.catalogue import Catalogue
    from node.gateway.origins import read_origin
    from node.gateway.sessions import Place, Sessions
    from node.look_anchors import Pace, check_against_ledger
    from node.look_log import LookWriter

    origins = frozenset(map(read_origin, origin or ()))
    federation.needs("image_access")
    ledger = writer(federation, keyring, identity)
    hospital = identity.address
    if not ledger.is_active(hospital, Role.HOSPITAL):
        raise InvalidInputError(f"{hospital} is no active hospital of this federation")
    catalogue = Catalogue(data, keyring.datasets, lambda: ledger.dataset_versions(hospital))
    shown = len(catalogue.instances())
    if not shown:
        raise InvalidInputError(
            "expected DICOM images that are registered, found none: give what `hospital ingest` "
            "wrote and `hospital register` registered"
        )
    if hand_over:
        federation.needs("api_url")
    looks_at = LookWriter(_log(ledger, keyring, hospital), identity.account)
    uri = (url or f"http://{host}:{port}").rstrip("/")
    try:
        check_against_ledger(looks_at.log, ledger)
        app = build_app(
            Gateway(
                ledger,
                catalogue,
                looks_at,
                Sessions(Place(uri), ledger),
                uri,
                Pace(batch, age),
                poll_seconds=min(15.0, max(1.0, age / 4)),
                origins=origins,
                hand_over=(lambda: _hand_over(federation, identity, ledger, looks_at.log))
                if hand_over
                else None,
            )
        )
        screen.say(f"{shown} images at {uri}/dicomweb; Ctrl-C ends it")
        settings = uvicorn.Config(
            app,
            host=host,
            port=port,
            http=PromptProtocol,
            ws="none",
            proxy_headers=False,
            server_header=False,
            # The log of looks says who looked; a second one would hold no more, and less securely.
            access_log=False,
            log_level="warning",
            limit_concurrency=_MAX_CONNECTIONS,
            h11_max_incomplete_event_size=_MAX_HEAD,
            timeout_graceful_shutdown=10,
        )
        uvicorn.Server(settings).run()
        screen.show({"looks": len(looks_at.log)})
    finally:
        looks_at.close()


@looks.command(name="list")
@command
def list_looks(
    *,
    federation: Federation,
    keyring: Keyring,
    identity: Identity,
    screen: Screen,
    image: Annotated[
        str | None,
        typer.Option(help="Only of this image, by its commitment.", show_default=False),
    ] = None,
    researcher: Annotated[
        str | None, typer.Option(help="Only of this researcher.", show_default=False)
    ] = None,
    last: Annotated[int, typer.Option(help="How many, the newest.", min=1, max=_MOST)] = 100,
) -> None:
    """List who looked at what, the newest last, and how many looks are anchored.

    Shows an image by the beginning of its commitment; --json has all of it, and grant and version.

    Example: fedwitness hospital looks list --image 0x1a… --key keys/st-mary.json
    """
    federation.needs("image_access")
    ledger = writer(federation, keyring, identity)
    log = _reading(ledger, keyring, identity.address)
    wanted = None if image is None else from_hex(image, "image")
    matching = (
        one.look
        for one in _backwards(log)
        if wanted in {None, one.look.image} and researcher in {None, one.look.researcher}
    )
    found = list(islice(matching, last))[::-1]
    _, entries = ledger.anchored(identity.address)
    counts = {"logged": len(log), "anchored": entries}
    rows = [_for_people(one) for one in found]
    screen.show(
        {"looks": [to_json_dict(one) for one in found], **counts},
        as_lines({"looks": rows, **counts}),
    )


@looks.command()
@command
def anchor(*, federation: Federation, keyring: Keyring, identity: Identity, screen: Screen) -> None:
    """Anchor all that waits now. A running gateway anchors by itself, too.

    Example: fedwitness hospital looks anchor --key keys/st-mary.json
    """
    from node.look_anchors import anchor_waiting

    federation.needs("image_access")
    ledger = writer(federation, keyring, identity)
    log = _reading(ledger, keyring, identity.address)
    with _bar(screen, "anchoring") as advance:
        done = anchor_waiting(log, ledger, now=True, on_progress=advance)
    screen.show(
        {
            "batches": [{"first": first, "entries": entries} for first, entries in done],
            "logged": len(log),
        }
    )


@looks.command(name="hand-over")
@command
def hand_over_looks(
    *, federation: Federation, keyring: Keyring, identity: Identity, screen: Screen
) -> None:
    """Hand anchored looks to the federation's server, which then tells auditors who saw an image.

    The server checks each batch against its root on the chain. What it has is not sent again, so
    the command can be repeated. Looks that are not anchored yet stay here: `looks anchor` first.

    Example: fedwitness hospital looks hand-over --key keys/st-mary.json
    """
    federation.needs("image_access")
    federation.needs("api_url")
    ledger = writer(federation, keyring, identity)
    log = _reading(ledger, keyring, identity.address)
    with _bar(screen, "handing over") as advance:
        done = _hand_over(federation, identity, ledger, log, advance)
    _, entries = ledger.anchored(identity.address)
    screen.show(
        {
            "handed_over": [
                {"batch": one.batch, "first": one.first, "entries": one.entries} for one in done
            ],
            "anchored": entries,
            "logged": len(log),
        }
    )


@looks.command(name="prove")
@command
def prove_look(
    *,
    number: Annotated[int, typer.Option(help="The look's number, from 0.", min=0)],
    out: Annotated[Path, typer.Option(help="Receives the proof, as JSON.")],
    federation: Federation,
    keyring: Keyring,
    identity: Identity,
    screen: Screen,
) -> None:
    """Prove that a look is in the anchored log, to whoever may know of it.

    The proof tells who looked at which image. It is checked by `fedwitness looks verify`.

    Example: fedwitness hospital looks prove --number 17 --out look-17.json --key keys/st-mary.json
    """
    from node.look_anchors import prove

    federation.needs("image_access")
    ledger = writer(federation, keyring, identity)
    found = prove(_reading(ledger, keyring, identity.address), ledger, number)
    write_receipt(out, found)
    batch = None if found.anchor is None else found.anchor.batch
    screen.show({"proof": str(out), "number": number, "batch": batch})


def _for_people(one: Look) -> dict[str, object]:
    return {
        "number": one.number,
        "time": moment(one.time),
        "researcher": one.researcher,
        "image": f"{to_hex(one.image)[:_SHORT]}…",
    }


@contextmanager
def _bar(screen: Screen, told: str) -> Iterator[Callable[[int, int], None]]:
    with screen.progress() as bars:
        bar = bars.add_task(told, total=None)

        def advance(done: int, of: int) -> None:
            bars.update(bar, completed=done, total=of)

        yield advance


def _hand_over(
    federation: Federation,
    identity: Identity,
    ledger: Ledger,
    log: "LookLog",
    on_progress: Callable[[int, int], None] = lambda _done, _all: None,
) -> tuple[AnchoredBatch, ...]:
    from node.client import RestClient
    from node.look_handover import hand_over_anchored

    with RestClient(federation.api_url, identity, ledger.chain_id, ledger.address) as client:
        return hand_over_anchored(log, ledger, client, on_progress)


def _log(ledger: Ledger, keyring: Keyring, hospital: str) -> "LookLog":
    from node.look_log import LookLog

    return LookLog.beside(keyring.work, ledger.chain_id, ledger.access_logs, hospital)


def _reading(ledger: Ledger, keyring: Keyring, hospital: str) -> "LookLog":
    log = _log(ledger, keyring, hospital)
    if not log.path.is_file():
        raise InvalidInputError(
            f"{log.path}: expected the log of a gateway, found none: no look was ever logged here"
        )
    return log


def _backwards(log: "LookLog") -> Iterator[LookReceipt]:
    last = len(log)
    while last:
        first = max(0, last - _MOST)
        yield from reversed(log.read(first, last - first))
        last = first
