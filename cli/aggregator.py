"""`fedwitness aggregator`: open and lead rounds, and serve the REST interface."""

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import typer

from aggregator.rounds import RoundPlan, Step, open_round, run
from aggregator.settings import AggregatorSettings
from api.settings import HOSPITAL_QUOTA_BYTES, LOCAL_HOSTS, MAX_UPLOAD_BYTES, MEBIBYTE
from api.settings import Settings as ServerSettings
from chain.errors import InvalidInputError
from chain.federation import Federation
from chain.keyring import Keyring
from chain.keystore import Identity
from chain.ledger import Ledger
from chain.reader import LedgerReader
from chain.types import Purpose, Role
from chain.wire import from_hex, to_hex, to_json_dict
from cli.command import command
from cli.connect import blobs, reader, writer
from cli.pipelines import Params, PipelineFile, RuleName, declared
from cli.screen import Screen, moment
from cli.waiting import interruptible, progress_bars

app = typer.Typer(
    no_args_is_help=True,
    help="Open rounds, aggregate what hospitals send, and serve them (aggregators).",
)

Task = Annotated[str, typer.Option(help="The task's name, such as lesion-2d.")]
Model = Annotated[
    Path | None,
    typer.Option(help="The task's first model; needed where it has none on the ledger yet."),
]
MinUpdates = Annotated[int, typer.Option(help="Least number of updates that must be kept.")]
MaxUpdates = Annotated[int, typer.Option(help="This many records end the collecting.")]
Quorum = Annotated[int, typer.Option(help="k: equal attestations that make a round final.")]
Collecting = Annotated[int, typer.Option(help="Seconds from opening to the deadline.")]
DataUse = Annotated[Purpose, typer.Option(help="What the data is used for (Data Use Ontology).")]
Despite = Annotated[
    list[str] | None,
    typer.Option(
        "--despite-withdrawn",
        metavar="VERSION",
        help="A data-set version that the task's model descends from, and with whose withdrawal "
        "the federation has agreed to go on; repeat for more.",
        show_default=False,
    ),
]


@app.command("model")
@command
def first_model(
    *,
    task: Task,
    out: Annotated[Path, typer.Option(help="Receives the model, as safetensors.")],
    screen: Screen,
    seed: Annotated[int, typer.Option(help="Its weights are drawn from this.")] = 0,
) -> None:
    """Make a task's first model, with fresh weights, for `open` and `run`.

    Example: fedwitness aggregator model --task lesion-2d --out first.safetensors
    """
    from node.training import initial_model  # brings torch along

    if out.exists():
        raise InvalidInputError(f"{out} exists already: take another name")
    digest = initial_model(task, seed, out)
    screen.show({"model": to_hex(digest), "file": str(out)})


@app.command("open")
@command
def open_one(
    *,
    task: Task,
    federation: Federation,
    keyring: Keyring,
    identity: Identity,
    screen: Screen,
    model: Model = None,
    rule: RuleName = None,
    param: Params = [],  # noqa: B006 - Typer does not change it
    pipeline: PipelineFile = None,
    min_updates: MinUpdates = 3,
    max_updates: MaxUpdates = 16,
    quorum: Quorum = 2,
    collecting_seconds: Collecting = 3600,
    purpose: DataUse = Purpose.HEALTH_RESEARCH,
    despite_withdrawn: Despite = None,
) -> None:
    """Open a task's next round; every active witness of the federation may attest it.

    Example: fedwitness aggregator open --task lesion-2d --model first.safetensors
    --rule trimmed_mean --param f=1 --key keys/aggregator.json
    """
    steps = declared(rule, param, pipeline)
    ledger = writer(federation, keyring, identity)
    counts = (min_updates, max_updates, quorum, collecting_seconds)
    plan = _plan(ledger, task, purpose, steps.to_json(), counts, despite_withdrawn or ())
    with blobs(federation) as store:
        number = open_round(ledger, store, plan, model)
    screen.show(to_json_dict(ledger.round(number)))


@app.command()
@command
def abort(
    *,
    round_number: Annotated[int, typer.Argument(metavar="ROUND", help="The round's number.")],
    reason: Annotated[str, typer.Option(help="Why; everyone can read it.")],
    federation: Federation,
    keyring: Keyring,
    identity: Identity,
    screen: Screen,
) -> None:
    """End a round without a model; the task's model stays as it was.

    Its aggregator can while nothing is proposed, a steward until the round is final.

    Example: fedwitness aggregator abort 7 --reason "disputed for good" --key keys/steward.json
    """
    receipt = writer(federation, keyring, identity).abort(round_number, reason)
    screen.show({"aborted": round_number, "block": receipt.block})


@app.command("run")
@command
def lead(
    *,
    task: Task,
    federation: Federation,
    keyring: Keyring,
    identity: Identity,
    screen: Screen,
    rounds: Annotated[
        int,
        typer.Option(
            help="Open rounds until the task has this many, then end; 0 leads those that "
            "`aggregator open` opened, until interrupted."
        ),
    ] = 0,
    model: Model = None,
    rule: RuleName = None,
    param: Params = [],  # noqa: B006 - Typer does not change it
    pipeline: PipelineFile = None,
    min_updates: MinUpdates = 3,
    max_updates: MaxUpdates = 16,
    quorum: Quorum = 2,
    collecting_seconds: Collecting = 3600,
    purpose: DataUse = Purpose.HEALTH_RESEARCH,
    despite_withdrawn: Despite = None,
    poll_seconds: Annotated[float, typer.Option(help="Pause between two looks.")] = 2.0,
    threads: Annotated[int, typer.Option(help="Threads that aggregate.")] = 1,
) -> None:
    """Lead a task's rounds: collect, judge, aggregate, propose, until each is final.

    Killed at any point and started again, it goes on from the chain and IPFS.

    Example: fedwitness aggregator run --task lesion-2d --rounds 3 --model first.safetensors
    --key keys/aggregator.json --password-file aggregator.password
    """
    steps = declared(rule, param, pipeline)
    ledger = writer(federation, keyring, identity)
    counts = (min_updates, max_updates, quorum, collecting_seconds)
    plan = _plan(ledger, task, purpose, steps.to_json(), counts, despite_withdrawn or ())

    def told(step: Step) -> None:
        screen.say(f"round {step.round}: {step.action.value}: {step.told}")

    settings = AggregatorSettings(keyring.work / "aggregator", threads, poll_seconds)
    with (
        blobs(federation) as store,
        progress_bars(screen) as progress,
        interruptible() as stop,
    ):
        while not stop.is_set():
            if rounds or _leads(ledger, task):
                run(
                    ledger,
                    store,
                    plan,
                    rounds=rounds,
                    genesis=model,
                    private_key=identity.encryption_private_key,
                    settings=settings,
                    stop=stop,
                    told=told,
                    progress=progress,
                )
            if rounds:
                break
            stop.wait(poll_seconds)
    screen.show({"task": task, "rounds": list(ledger.task_rounds(task))})


@app.command()
@command
def status(*, task: Task, federation: Federation, screen: Screen) -> None:
    """Show a task's rounds as the ledger has them.

    Example: fedwitness aggregator status --task lesion-2d
    """
    ledger = reader(federation)
    rounds = [ledger.round(number) for number in ledger.task_rounds(task)]
    screen.show(
        [
            {
                "round": one.number,
                "phase": one.phase.name,
                "updates": f"{one.updates} of {one.terms.max_updates}",
                "attestations": f"{one.attestations} of {one.terms.quorum}",
                "disputed": one.disputed,
                "deadline": moment(one.terms.deadline),
                "model": None if one.proposal is None else f"0x{one.proposal.model.hex()}",
            }
            for one in rounds
        ]
    )


@app.command()
@command
def serve(
    *,
    federation: Federation,
    keyring: Keyring,
    screen: Screen,
    port: Annotated[int, typer.Option(help="Port to listen on.")] = 8000,
    host: Annotated[str, typer.Option(help="Address to listen on.")] = "127.0.0.1",
    origin: Annotated[
        str | None, typer.Option(help="How clients reach it, such as https://fed.example.")
    ] = None,
    database: Annotated[
        str | None,
        typer.Option(
            envvar="FEDWITNESS_DATABASE",
            help="The index's database; an SQLite file beside the key where none is given.",
        ),
    ] = None,
    max_upload_mib: Annotated[
        int,
        typer.Option(help="Largest envelope in MiB.", min=1, max=HOSPITAL_QUOTA_BYTES // MEBIBYTE),
    ] = MAX_UPLOAD_BYTES // MEBIBYTE,
    host_name: Annotated[
        list[str], typer.Option(help="A further name that clients reach it by; repeat for more.")
    ] = [],  # noqa: B006 - Typer does not change it
    accuracies: Annotated[
        Path | None,
        typer.Option(
            help="JSON lines of round, accuracy and source, shown as the consortium's word.",
            exists=True,
            dir_okay=False,
        ),
    ] = None,
) -> None:
    """Serve the REST interface and the explorer's pages.

    The key pays for the records that the server relays; it needs no role.

    Example: fedwitness aggregator serve --key keys/relayer.json --password-file relayer.password
    """
    # FastAPI takes a second, which no other command should wait for.
    from api.server import serve as serve_api

    federation.needs("rpc_url", "ledger", "image_access", "ipfs")
    if keyring.password_file is None:
        message = "the server runs unattended: give its password with --password-file"
        raise InvalidInputError(message)
    screen.say(f"serving on http://{host}:{port}")
    serve_api(
        ServerSettings(
            rpc_url=federation.rpc_url,
            ledger=federation.ledger,
            image_access=federation.image_access,
            ipfs=federation.ipfs,
            index_url=database or f"sqlite:///{keyring.work / 'index.db'}",
            spool=keyring.work,
            keystore=keyring.key.parent,
            relayer=keyring.name,
            password_file=keyring.password_file,
            host=host,
            port=port,
            origin=origin,
            hosts=(*LOCAL_HOSTS, *host_name),
            max_upload_bytes=max_upload_mib * MEBIBYTE,
            explorer_metrics=accuracies,
        )
    )


def _leads(ledger: Ledger, task: str) -> bool:
    """Tell whether the task has a round in work that this aggregator opened."""
    active = ledger.active_round(task)
    return active is not None and active.aggregator == ledger.account_address


def _plan(
    ledger: LedgerReader,
    task: str,
    purpose: Purpose,
    rule: str,
    counts: tuple[int, int, int, int],
    despite: Sequence[str],
) -> RoundPlan:
    active = [one.address for one in ledger.participants(Role.WITNESS) if not one.suspended]
    versions = frozenset(from_hex(one, "--despite-withdrawn") for one in despite)
    return RoundPlan(task, int(purpose), rule, *counts, witnesses=tuple(active), despite=versions)
