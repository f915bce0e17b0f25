"""`fedwitness aggregate`: what a round does with updates, done with files."""

import os
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from cli.command import command
from cli.pipelines import Params, PipelineFile, RuleName, declared
from cli.screen import Screen, plain
from cli.waiting import progress_bars

if TYPE_CHECKING:
    from aggregator.offline import FilesResult


@command
def aggregate(
    *,
    files: Annotated[
        list[Path],
        typer.Argument(metavar="UPDATE", help="The updates, each a safetensors file."),
    ],
    out: Annotated[Path, typer.Option("-o", "--out", help="Receives the model, as safetensors.")],
    screen: Screen,
    rule: RuleName = None,
    param: Params = [],  # noqa: B006 - Typer does not change it
    pipeline: PipelineFile = None,
    weights: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE.json",
            help='Numbers of examples by file, such as {"A.safetensors": 120}; each is 1 without.',
            show_default=False,
        ),
    ] = None,
    base: Annotated[
        Path | None,
        typer.Option(
            metavar="MODEL",
            help="The model that the updates were trained from. Without it that is all zeros, so "
            "that steps which measure differences from it measure the updates themselves.",
            show_default=False,
        ),
    ] = None,
    threads: Annotated[
        int | None,
        typer.Option(
            min=1, help="All cores where it is not given; no bit depends on it.", show_default=False
        ),
    ] = None,
) -> None:
    """Aggregate anyone's updates: files in, a model out, by the same code as a round.

    Files may be in any form that the safetensors library writes; tensors of BF16 become F32, which
    changes no value. A file is rejected for what a round would reject it for, such as a NaN, other
    tensors or another file's contents, and the others are aggregated. Neither the order of the
    files nor the number of threads changes a bit. Names stand for the hospitals (`fl_trust` takes
    a file's name for its root), and nobody is in quarantine.

    Scores and thresholds are in millionths in --json, as on the ledger. peak_anonymous_bytes is
    the most memory of its own that the process had (RssAnon, looked at a hundred times a second),
    interpreter and libraries included, mapped files not.

    Example: fedwitness aggregate --rule trimmed_mean --param f=1 A.safetensors B.safetensors
    C.safetensors -o model.safetensors --json
    """
    from aggregator.offline import aggregate_files, read_examples

    steps = declared(rule, param, pipeline)
    with progress_bars(screen) as progress:
        result = aggregate_files(
            steps,
            files,
            out,
            base=base,
            examples=None if weights is None else read_examples(weights, files),
            threads=threads or len(os.sched_getaffinity(0)),
            progress=progress,
        )
    screen.show(result.to_dict(), _human(result))


def _human(result: "FilesResult") -> RenderableType:
    table = Table(pad_edge=False)
    for name in ("file", "examples", "outcome", "reason", "score", "threshold"):
        right = name in {"examples", "score", "threshold"}
        table.add_column(name, overflow="fold", justify="right" if right else "left")
    for one in result.verdicts:
        reason = one.reason.name if one.reason else "-"
        figures = (f"{value / 1e6:.6g}" for value in (one.score, one.threshold))
        table.add_row(
            _on_one_line(one.file), str(one.examples), one.outcome.name.lower(), reason, *figures
        )
    remarks = [Text.from_markup(_on_one_line(one.remark)) for one in result.verdicts if one.remark]
    peak = result.peak_memory
    members = result.to_dict() | {
        "pipeline": result.pipeline.to_json(),
        "peak_anonymous_bytes": "-" if peak is None else f"{peak} ({peak / 1e6:.0f} MB)",
    }
    del members["verdicts"]
    # Lines and no table, which would break a digest that is there to be copied.
    lines = [
        Text.from_markup(f"[bold]{name:<22}[/]{_on_one_line(str(value or '-'))}")
        for name, value in members.items()
    ]
    return Group(table, *remarks, *lines)


def _on_one_line(text: str) -> str:
    """Make text safe to print on a line of its own: a file's name may hold a line's end."""
    return plain(text).replace("\n", "\\n")
