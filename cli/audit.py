"""`fedwitness audit`: check everything that a federation claims, from chain and IPFS alone."""

import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from audit.index import audit_index
from audit.replay import audit_task
from audit.verify import INDEX, AuditReport
from chain.cid import Cid
from chain.errors import InvalidInputError
from chain.ledger import LedgerReader
from chain.types import Phase
from chain.wire import from_hex
from cli.command import FINDINGS, command
from cli.connect import blobs, reader
from cli.screen import Screen, plain
from cli.waiting import replay_progress
from demo.federation import Federation
from demo.parties import Keyring

app = typer.Typer()

Database = Annotated[
    str | None,
    typer.Option(
        envvar="FEDWITNESS_DATABASE",
        help="An index to hold against the chain, too.",
        show_default=False,
    ),
]
Threads = Annotated[int, typer.Option(help="Threads that aggregate; no digest depends on it.")]


@app.callback(invoke_without_command=True)
@command
def audit(
    *,
    context: typer.Context,
    federation: Federation,
    keyring: Keyring | None,
    screen: Screen,
    task: Annotated[str | None, typer.Option(help="Only this task.", show_default=False)] = None,
    database: Database = None,
    threads: Threads = 1,
) -> None:
    """Check everything that a federation claims, from chain and IPFS alone.

    Without a key all is checked but the replay, for which an auditor's key is needed.

    Exit code 0: all is as it should be. 1: there are findings, each named. 2: chain or IPFS cannot
    be reached.

    Example: fedwitness audit --rpc http://127.0.0.1:8545 --ipfs /ip4/127.0.0.1/tcp/5001
    --ledger 0x… --json
    """
    if context.invoked_subcommand is None:
        ledger = reader(federation)
        tasks = _all_tasks(ledger) if task is None else (task,)
        _audit(
            ledger,
            federation,
            keyring=keyring,
            screen=screen,
            tasks=tasks,
            database=database,
            threads=threads,
        )


@app.command("task")
@command
def audit_one(
    *,
    name: Annotated[str, typer.Argument(help="The task, such as lesion-2d.")],
    federation: Federation,
    keyring: Keyring | None,
    screen: Screen,
    threads: Threads = 1,
) -> None:
    """Audit one task.

    Example: fedwitness audit task lesion-2d --key keys/auditor.json
    """
    _audit(
        reader(federation),
        federation,
        keyring=keyring,
        screen=screen,
        tasks=(name,),
        threads=threads,
    )


@app.command("model")
@command
def audit_model(
    *,
    digest: Annotated[str, typer.Argument(help="The model's digest, 0x and 64 digits.")],
    federation: Federation,
    keyring: Keyring | None,
    screen: Screen,
    threads: Threads = 1,
) -> None:
    """Find the round that made a model, and audit the task that it descends from.

    Example: fedwitness audit model 0x5f… --key keys/auditor.json
    """
    ledger = reader(federation)
    task = _task_of(ledger, from_hex(digest))
    _audit(ledger, federation, keyring=keyring, screen=screen, tasks=(task,), threads=threads)


@app.command("index")
@command
def audit_database(
    *,
    database: Annotated[
        str, typer.Option(envvar="FEDWITNESS_DATABASE", help="The index's database.")
    ],
    federation: Federation,
    screen: Screen,
) -> None:
    """Hold an index against the chain.

    Example: fedwitness audit index --database sqlite:///index.db
    """
    federation.needs("image_access")
    findings = audit_index(reader(federation), database)
    _show(AuditReport.of(findings, {INDEX}), screen)


def _audit(
    ledger: LedgerReader,
    federation: Federation,
    *,
    keyring: Keyring | None,
    screen: Screen,
    tasks: Sequence[str],
    threads: int,
    database: str | None = None,
) -> None:
    if database is not None:
        # Without ImageAccess the grants in the index would look invented.
        federation.needs("image_access")
    key = None if keyring is None else keyring.unlock().encryption_private_key
    reports = []
    with (
        blobs(federation) as store,
        replay_progress(screen) as progress,
        tempfile.TemporaryDirectory(prefix="fedwitness-audit-") as folder,
    ):
        # An IPFS node that does not answer at all is no finding about the federation.
        store.has(Cid.from_blob_digest(ledger.round(1).terms.base_blob))
        for name in tasks:
            workdir = Path(folder)
            options = {"threads": threads, "workdir": workdir, "progress": progress}
            reports.append(audit_task(ledger, store, name, key, **options))  # type: ignore[arg-type]
    if database is not None:
        reports.append(AuditReport.of(audit_index(ledger, database), {INDEX}))
    _show(_together(reports), screen)


def _all_tasks(ledger: LedgerReader) -> tuple[str, ...]:
    rounds = (ledger.round(number) for number in range(1, ledger.round_count() + 1))
    tasks = tuple(dict.fromkeys(one.terms.task for one in rounds))
    if not tasks:
        message = f"the ledger {ledger.address} has no round yet: there is nothing to audit"
        raise InvalidInputError(message)
    return tasks


def _task_of(ledger: LedgerReader, model: bytes) -> str:
    for number in range(1, ledger.round_count() + 1):
        one = ledger.round(number)
        if one.phase is Phase.FINAL and one.proposal is not None and one.proposal.model == model:
            return one.terms.task
    message = f"expected a final model of {ledger.address}, found 0x{model.hex()}: no round made it"
    raise InvalidInputError(message)


def _together(reports: Sequence[AuditReport]) -> AuditReport:
    """Sum up the reports of several tasks: a step counts as run where one of them ran it."""
    findings = [finding for report in reports for finding in report.findings]
    steps = (step for report in reports for step in report.steps)
    return AuditReport.of(findings, {step.number for step in steps if step.ok is not None})


def _show(report: AuditReport, screen: Screen) -> None:
    screen.show(report.to_dict(), _human(report))
    if not report.ok:
        raise typer.Exit(FINDINGS)


def _human(report: AuditReport) -> RenderableType:
    table = Table("", "step", "", box=None, pad_edge=False)
    words = {True: "[green]ok[/]", False: "[red]findings[/]", None: "[dim]not run[/]"}
    for step in report.steps:
        table.add_row(str(step.number), step.title, words[step.ok])
    findings = [
        Text.from_markup(
            f"[red]({one.step})[/] [bold]{plain(one.subject)}[/]: {plain(one.message)}\n"
            f"    expected {plain(one.expected)}\n    found    {plain(one.found)}"
        )
        for one in report.findings
    ]
    return Group(table, *findings)
