"""`fedwitness reputation`: what became of each hospital's updates, and who is quarantined."""

from typing import Annotated

import typer
from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from aggregator.quarantine import FAULT
from aggregator.reputation import Reputation, Standing, read_reputation
from audit.tasks import all_tasks
from chain.federation import Federation
from chain.wire import to_json_dict
from cli.command import command
from cli.connect import reader
from cli.screen import Screen, plain


@command
def reputation(
    *,
    federation: Federation,
    screen: Screen,
    task: Annotated[str | None, typer.Option(help="Only this task.", show_default=False)] = None,
) -> None:
    """Show what became of each hospital's updates, and who is quarantined, from the chain alone.

    Counted are the verdicts of final rounds. Strikes and quarantine are by the policy of the
    task's latest round, as they stand before the next round becomes final.

    Example: fedwitness reputation --task lesion-2d --json
    """
    ledger = reader(federation)
    tasks = all_tasks(ledger) if task is None else (task,)
    if not tasks:
        screen.say("the ledger has no round yet: nobody has a reputation")
    found = [read_reputation(ledger, name) for name in tasks]
    screen.show([to_json_dict(one) for one in found], Group(*map(_human, found)))


def _human(found: Reputation) -> RenderableType:
    table = Table(pad_edge=False)
    for name in ("hospital", "accepted", "clipped", "rejected", "reasons", "strikes", "standing"):
        table.add_column(name, overflow="fold")
    for one in found.hospitals:
        reasons = ", ".join(f"{count.reason.name} {count.updates}" for count in one.reasons)
        counts = map(str, (one.accepted, one.clipped, one.rejected))
        table.add_row(one.hospital, *counts, reasons or "-", *_standing(one, found))
    policy = found.policy
    told = (
        "no quarantine"
        if policy is None
        else f"quarantine at {policy.strikes} strikes in {policy.window} records, "
        f"for {policy.rounds} rounds"
    )
    title = f"[bold]{plain(found.task)}[/]: {found.rounds} final rounds, {told}"
    return Group(Text.from_markup(title), table)


def _standing(one: Standing, found: Reputation) -> tuple[str, str]:
    if found.policy is None:
        return "-", "-"
    standing = f"quarantined for {one.rounds_left} more" if one.quarantined else "admitted"
    return f"{one.strikes / FAULT:g} of {found.policy.strikes}", standing
