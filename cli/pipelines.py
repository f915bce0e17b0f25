"""The options by which commands are told what to do with updates."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from chain.errors import InvalidInputError

if TYPE_CHECKING:
    from aggregator.pipeline import Pipeline

RuleName = Annotated[
    str | None,
    typer.Option(
        "--rule",
        metavar="NAME",
        help="A rule or recipe, with --param for its parameters; `fedwitness rules` lists them. "
        "Without --rule and --pipeline it is `default`.",
        show_default=False,
    ),
]
Params = Annotated[
    list[str],
    typer.Option(
        "--param",
        metavar="KEY=VALUE",
        help="A parameter of --rule, such as f=3; repeat for more.",
        show_default=False,
    ),
]
PipelineFile = Annotated[
    Path | None,
    typer.Option(
        "--pipeline",
        metavar="FILE.json",
        help="Instead of --rule: a list of steps as docs/protocol.md, section 9, has them.",
        show_default=False,
    ),
]


def declared(rule: str | None, params: list[str], file: Path | None) -> "Pipeline":
    """Return the pipeline that the options stand for.

    Raises:
        InvalidInputError: If they contradict each other, or stand for none.
        OSError: If the file cannot be read.
    """
    from aggregator.recipes import DEFAULT, declare, read_declared

    if file is None:
        return declare(rule or DEFAULT, params)
    if rule is not None or params:
        raise InvalidInputError("give --pipeline, or --rule with --param, and not both")
    return read_declared(file)
