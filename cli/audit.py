"""`fedwitness audit`: check everything that a federation claims, from chain and IPFS alone."""

import tempfile
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from audit.heads import audit_heads
from audit.index import audit_index
from audit.journal import HeadJournal, read_heads
from audit.replay import audit_task
from audit.tasks import all_tasks, task_of_model
from audit.verify import HEADS, INDEX, AuditReport
from chain.cid import Cid
from chain.errors import InvalidInputError, LedgerError
from chain.federation import Federation
from chain.keyring import Keyring
from chain.reader import LedgerReader
from chain.wire import from_hex
from cli.command import FINDINGS, command
from cli.connect import blobs, reader
from cli.screen import Screen, plain
from cli.waiting import progress_bars

Database = Annotated[
    str | None,
    typer.Option(
        envvar="FEDWITNESS_DATABASE",
        help="An index to hold against the chain, too.",
        show_default=False,
    ),
]
Heads = Annotated[
    list[Path] | None,
    typer.Option(
        help="Heads that another party has seen, which the chain must have: its heads.jsonl, or a "
        "bundle. Can be given more than once.",
        exists=True,
        dir_okay=False,
        show_default=False,
    ),
]
Threads = Annotated[int, typer.Option(help="Threads that aggregate; no digest depends on it.")]


@command
def audit(
    *,
    federation: Federation,
    keyring: Keyring | None,
    screen: Screen,
    task: Annotated[str | None, typer.Option(help="Only this task.", show_default=False)] = None,
    model: Annotated[
        str | None,
        typer.Option(
            help="Only the task that made the model of this digest, 0x and 64 digits.",
            show_default=False,
        ),
    ] = None,
    heads: Heads = None,
    database: Database = None,
    threads: Threads = 1,
) -> None:
    """Check everything that a federation claims, from chain and IPFS alone.

    Without a key all is checked but the replay, for which an auditor's key is needed. With a key
    the heads of final rounds are kept beside it, in NAME.work/heads.jsonl, and the next audit
    tells whether the chain still has them; --heads adds those that others kept.

    Exit code 0: all is as it should be. 1: there are findings, each named. 2: chain or IPFS cannot
    be reached.

    Example: fedwitness audit --rpc http://127.0.0.1:8545 --ipfs /ip4/127.0.0.1/tcp/5001
    --ledger 0x… --json
    """
    if task is not None and model is not None:
        raise typer.BadParameter("give --task or --model, not both")
    if database is not None:
        # Without ImageAccess the grants in the index would look invented.
        federation.needs("image_access")
    ledger = reader(federation)
    key = None if keyring is None else keyring.unlock().encryption_private_key
    place = (ledger.chain_id, ledger.address)
    handed = [one for path in heads or () for one in read_heads(path, *place)]
    journal = None if keyring is None else HeadJournal(keyring.work / "heads.jsonl", *place)
    chain = AuditReport.of(audit_heads(ledger, journal, handed), {HEADS})
    reports = [chain]
    try:
        tasks = _tasks(ledger, task, model)
        with (
            blobs(federation) as store,
            progress_bars(screen) as progress,
            tempfile.TemporaryDirectory(prefix="fedwitness-audit-") as folder,
        ):
            if tasks:
                # An IPFS node that does not answer at all is no finding about the federation.
                store.has(Cid.from_blob_digest(ledger.round(1).terms.base_blob))
            else:
                screen.say("the ledger has no round yet: there is no model to check")
            for name in tasks:
                workdir = Path(folder)
                options = {"threads": threads, "workdir": workdir, "progress": progress}
                reports.append(audit_task(ledger, store, name, key, **options))  # type: ignore[arg-type]
        if database is not None:
            reports.append(AuditReport.of(audit_index(ledger, database), {INDEX}))
    except (InvalidInputError, LedgerError):
        # On a chain that was rewound there may be nothing left to audit: that is the finding.
        if chain.ok:
            raise
    _show(AuditReport.together(reports), screen)


def _tasks(ledger: LedgerReader, task: str | None, model: str | None) -> tuple[str, ...]:
    if model is not None:
        return (task_of_model(ledger, from_hex(model, "model")),)
    return all_tasks(ledger) if task is None else (task,)


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
    notices = [
        Text.from_markup(f"[yellow]notice[/] {plain(one.message)}") for one in report.notices
    ]
    return Group(table, *findings, *notices)
