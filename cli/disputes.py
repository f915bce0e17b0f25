"""`fedwitness disputes`: what witnesses give as the reason for a dispute."""

from collections.abc import Iterator
from typing import Annotated

import typer
from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from audit.disputes import TracedDispute, trace_disputes
from audit.evidence import STEP_TITLES, Evidence, KnownModel
from chain.federation import Federation
from chain.types import Phase
from cli.command import command
from cli.connect import blobs, reader
from cli.screen import Screen, plain


@command
def disputes(
    *,
    federation: Federation,
    screen: Screen,
    round_number: Annotated[
        int | None,
        typer.Argument(metavar="[ROUND]", help="Only this round's.", show_default=False),
    ] = None,
) -> None:
    """Show why witnesses disputed proposals: what they got, of what, and the step that differs.

    Evidence is a witness's word; nothing is recomputed. `fedwitness audit` with an auditor's key
    does that.

    Example: fedwitness disputes 7 --json
    """
    ledger = reader(federation)
    numbers = range(1, ledger.round_count() + 1) if round_number is None else (round_number,)
    with blobs(federation) as store:
        found = [one for number in numbers for one in trace_disputes(ledger, store, number)]
    human = Group(*map(_human, found)) if found else "no dispute"
    screen.show([one.to_dict() for one in found], human)


def _human(traced: TracedDispute) -> RenderableType:
    dispute = traced.dispute
    title = (
        f"[bold]round {traced.round}, proposal {dispute.proposal}[/], {_fate(traced)}\n"
        f"disputed by {dispute.witness} in block {dispute.position.block}, "
        f"transaction 0x{dispute.position.transaction.hex()}"
    )
    table = Table(show_header=False, box=None, pad_edge=False)
    table.add_column()
    table.add_column(overflow="fold")  # digests are there to be copied
    for fault in traced.faults:
        table.add_row("[red]fault[/]", plain(fault))
    if traced.evidence is not None:
        for name, told in _lines(traced.evidence):
            table.add_row(f"[bold]{name}[/]", plain(told))
    return Group(Text.from_markup(title), table, "")


def _fate(traced: TracedDispute) -> str:
    if not traced.newest:
        return "which was replaced since"
    aborted = traced.phase is Phase.ABORTED
    return "whose round was aborted since" if aborted else "which cannot become final"


def _lines(evidence: Evidence) -> Iterator[tuple[str, str]]:
    """Give what evidence says, as names and strangers' words."""
    yield "step", f"{evidence.step.value}: {STEP_TITLES[evidence.step]}"
    known = "" if evidence.known_as is None else f", {_known(evidence.known_as)}"
    yield "proposed", f"model 0x{evidence.proposal.model.hex()}{known}"
    yield "witness got", f"model 0x{evidence.model.hex()}" if any(evidence.model) else "no model"
    for one in evidence.findings:
        found = f"expected {one.expected}\nfound    {one.found}"
        yield "difference", f"{one.subject}: {one.message}\n{found}"
    inputs = evidence.inputs
    yield "base model", f"0x{inputs.base_model.hex()}"
    yield "pipeline", inputs.pipeline
    for record in inputs.records:
        content = f"content 0x{record.content.hex()}" if any(record.content) else "never opened"
        yield "record", f"{record.hospital}, {record.examples} examples, {content}"


def _known(model: KnownModel) -> str:
    made = f"that round {model.round} made" if model.round else "that the task began with"
    return f"the base model, {made}" if model.is_base else f"an earlier model, {made}"
