"""`fedwitness ask`: an auditor's questions, answered from the chain or from an index of it."""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from functools import partial
from pathlib import Path
from typing import Annotated, Any, TypeVar

import typer
from rich.console import RenderableType

from aggregator import queries
from aggregator.index import IndexedBlock
from aggregator.oddities import Oddity
from aggregator.queries import Page
from audit.asking import OpenIndex, own_index
from audit.exports import Format, export
from audit.facts import Fact, Facts
from chain.addresses import read_address
from chain.federation import Federation
from chain.files import replacing
from chain.readings import RequestState
from chain.types import Outcome, Reason
from chain.wire import from_hex, to_hex, to_json_dict
from cli import answers
from cli.command import command
from cli.connect import reader
from cli.index import opened
from cli.screen import Screen
from cli.waiting import progress_bars

A = TypeVar("A")

app = typer.Typer(
    no_args_is_help=True,
    help="Ask where a model comes from, what became of data and updates, who could look, and what "
    "looked odd.\n\n"
    "Without --database the answer comes from the chain alone: it is read into an index that is "
    "thrown away again, so that nobody's server needs to be trusted. With --database it comes from "
    "an index that is there; `fedwitness index check` holds that against the chain.\n\n"
    "Each answer says as of which block it is, and of each fact at which block and by which "
    "transaction it came to the ledger: --json shows them all.",
)

Database = Annotated[
    str | None,
    typer.Option(
        envvar="FEDWITNESS_DATABASE",
        help="An index to ask instead of the chain: sqlite:///FILE or "
        "postgresql+psycopg://USER@HOST/NAME.",
        show_default=False,
    ),
]
Limit = Annotated[int, typer.Option(min=1, help="How many entries to show at most.")]
Wanted = Annotated[
    Format | None,
    typer.Option(
        "--format",
        help="Give the whole history away: prov (W3C PROV-JSON), csv, or jsonl (all that is known, "
        "a fact a line).",
        show_default=False,
    ),
]
Output = Annotated[
    Path | None,
    typer.Option("--output", "-o", help="Write it to this file.", show_default=False),
]
Digest = Annotated[str, typer.Argument(help="0x and 64 digits.")]


@app.command()
@command
def model(
    *,
    digest: Digest,
    federation: Federation,
    screen: Screen,
    database: Database = None,
    limit: Limit = 50,
    wanted: Wanted = None,
    output: Output = None,
) -> None:
    """Where does this model come from?

    Shows the rounds that it descends from, back to the first model, with the updates that were
    kept in each and the data that they were trained on. With --format the file also has what was
    rejected, and what each witness said.

    Example: fedwitness ask model 0x3f…9a --format prov -o model.prov.json
    """
    content = from_hex(digest, "model")
    _tell_whole(
        lambda facts: facts.of_model(content),
        partial(queries.provenance, model=content),
        answers.provenance,
        "ancestors",
        _Asking(database, federation, screen, limit),
        wanted,
        output,
    )


@app.command()
@command
def dataset(
    *,
    identifier: Digest,
    federation: Federation,
    screen: Screen,
    database: Database = None,
    limit: Limit = 50,
    wanted: Wanted = None,
    output: Output = None,
) -> None:
    """What became of this data set, or of the data set of this version?

    Shows its versions with all that happened to them, and the updates that were trained on any of
    them, newest first. With --format the file also has the models that descend from them.

    Example: fedwitness ask dataset 0x5f…12 --format csv -o data-set.csv
    """
    name = from_hex(identifier, "data set")
    _tell_whole(
        lambda facts: facts.of_dataset(name),
        partial(queries.dataset_history, dataset=name),
        answers.dataset,
        "uses",
        _Asking(database, federation, screen, limit),
        wanted,
        output,
    )


@app.command()
@command
def hospital(
    *,
    address: Annotated[str, typer.Argument(help="The hospital's address.")],
    federation: Federation,
    screen: Screen,
    database: Database = None,
    limit: Limit = 50,
    wanted: Wanted = None,
    output: Output = None,
) -> None:
    """What did this hospital send, and what became of it?

    Shows who it is, its data-set versions, and its updates with their verdicts, newest first.

    Example: fedwitness ask hospital 0xAb…12 --format jsonl -o hospital.jsonl
    """
    party = read_address(address)
    _tell_whole(
        lambda facts: facts.of_hospital(party),
        partial(queries.hospital_history, hospital=party),
        answers.hospital,
        "contributions",
        _Asking(database, federation, screen, limit),
        wanted,
        output,
    )


@app.command("round")
@command
def one_round(
    *,
    number: Annotated[int, typer.Argument(min=1, help="The round's number.")],
    federation: Federation,
    screen: Screen,
    database: Database = None,
) -> None:
    """What happened in this round?

    Shows its updates and verdicts, each proposal, what each witness said of it, and who signed the
    ledger's head.

    Example: fedwitness ask round 3
    """
    with _index(database, federation, screen) as index:
        found, at = index.ask(lambda s: queries.round_history(s, number))
    _show(screen, found, at, answers.one_round)


@app.command()
@command
def descendants(
    *,
    version: Digest,
    federation: Federation,
    screen: Screen,
    database: Database = None,
    limit: Limit = 50,
) -> None:
    """Which models is this data-set version in?

    These are what its withdrawal touches: every final model that was trained on it, or made from
    one that was.

    Example: fedwitness ask descendants 0x5f…12 --json
    """
    name = from_hex(version, "version")
    _tell(
        partial(queries.descendants, version=name),
        answers.descendants,
        "models",
        _Asking(database, federation, screen, limit),
    )


@app.command()
@command
def viewers(
    *,
    version: Digest,
    day: Annotated[datetime, typer.Option(formats=["%Y-%m-%d"], help="In UTC.")],
    federation: Federation,
    screen: Screen,
    image: Annotated[
        str | None,
        typer.Option(help="The image's commitment; without it any image.", show_default=False),
    ] = None,
    database: Database = None,
    limit: Limit = 50,
) -> None:
    """Who could see an image of this version on a day, and who did?

    Shows the grants that were live at some time of that day. Who did look is shown as far as the
    hospital handed its anchored access log over to the index of --database: of the log itself, the
    ledger holds the roots alone.

    Example: fedwitness ask viewers 0x5f…12 --day 2026-11-23
    """
    name = from_hex(version, "version")
    commitment = None if image is None else from_hex(image, "image")
    _tell(
        partial(queries.viewers, version=name, image=commitment, day=day.date()),
        answers.viewers,
        "could",
        _Asking(database, federation, screen, limit),
    )


@app.command("image-history")
@command
def image_history(
    *,
    image: Annotated[str, typer.Argument(help="The image's commitment, 0x and 64 digits.")],
    federation: Federation,
    screen: Screen,
    database: Database = None,
    limit: Limit = 50,
) -> None:
    """What happened to this image?

    Shows, oldest first, its versions, grants, readings, requests and erasure, and who looked as far
    as hospitals handed their anchored access logs over to the index of --database.

    Example: fedwitness ask image-history 0x1a…7c --database sqlite:///index.db
    """
    commitment = from_hex(image, "image")
    _tell(
        partial(queries.image_history, image=commitment, now=int(time.time())),
        answers.image_history,
        "timeline",
        _Asking(database, federation, screen, limit),
    )


@app.command()
@command
def readings(
    *,
    federation: Federation,
    screen: Screen,
    image: Annotated[
        str | None, typer.Option(help="Only of this image, by its commitment.", show_default=False)
    ] = None,
    hospital: Annotated[
        str | None, typer.Option(help="Only of this hospital.", show_default=False)
    ] = None,
    author: Annotated[
        str | None, typer.Option(help="Only by this author.", show_default=False)
    ] = None,
    database: Database = None,
    limit: Limit = 50,
) -> None:
    """Who read which images?

    Shows readings, second opinions and corrections, newest first. What they say is sealed: the
    ledger holds digests, authors and times.

    Example: fedwitness ask readings --image 0x1a…7c
    """
    which: dict[str, Any] = {
        "image": None if image is None else from_hex(image, "image"),
        "hospital": None if hospital is None else read_address(hospital, "hospital"),
        "author": None if author is None else read_address(author, "author"),
    }
    _tell(
        partial(queries.readings, **which),
        answers.readings,
        "",
        _Asking(database, federation, screen, limit),
    )


@app.command("reading-requests")
@command
def reading_requests(
    *,
    federation: Federation,
    screen: Screen,
    hospital: Annotated[
        str | None, typer.Option(help="Only by this hospital.", show_default=False)
    ] = None,
    state: Annotated[
        str | None, typer.Option(help="Only those that are OPEN, TAKEN …", show_default=False)
    ] = None,
    open_to: Annotated[
        str | None,
        typer.Option(
            help="Only what this hospital can take now, due first; nothing else is asked then.",
            show_default=False,
        ),
    ] = None,
    database: Database = None,
    limit: Limit = 50,
) -> None:
    """Which readings are asked for?

    Shows requests with their deadlines, newest first; one is lapsed when the deadline of its state
    is past.

    Example: fedwitness ask reading-requests --state OPEN
    """
    if state is not None and state not in RequestState.__members__:
        raise typer.BadParameter(f"expected one of {', '.join(RequestState.__members__)}")
    now = int(time.time())
    if open_to is not None:
        reader_ = read_address(open_to, "open-to")
        question: Any = partial(queries.open_requests, reader=reader_, now=now)
    else:
        by = None if hospital is None else read_address(hospital, "hospital")
        standing = None if state is None else RequestState[state]
        question = partial(queries.requests, hospital=by, state=standing, now=now)
    _tell(question, answers.reading_requests, "", _Asking(database, federation, screen, limit))


@app.command()
@command
def rejections(
    *,
    federation: Federation,
    screen: Screen,
    task: Annotated[str | None, typer.Option(help="Only of this task.", show_default=False)] = None,
    number: Annotated[
        int | None, typer.Option("--round", min=1, help="Only of this round.", show_default=False)
    ] = None,
    hospital: Annotated[
        str | None, typer.Option(help="Only of this hospital.", show_default=False)
    ] = None,
    reason: Annotated[
        str | None, typer.Option(help="Only for this reason: NOT_A_NUMBER …", show_default=False)
    ] = None,
    database: Database = None,
    limit: Limit = 50,
) -> None:
    """What was rejected, and why?

    Shows the rejected updates of each round's newest proposal, newest rounds first, with the score
    that decided it and the threshold that it was held against, in millionths.

    Example: fedwitness ask rejections --task lesion-2d --reason NOT_A_NUMBER
    """
    if reason is not None and reason not in Reason.__members__:
        raise typer.BadParameter(f"expected one of {', '.join(Reason.__members__)}")
    which: dict[str, Any] = {
        "task": task,
        "round_number": number,
        "hospital": None if hospital is None else read_address(hospital, "hospital"),
        "reason": None if reason is None else Reason[reason],
        "outcome": Outcome.REJECTED,
    }
    _tell(
        partial(queries.verdicts, **which),
        answers.rejections,
        "",
        _Asking(database, federation, screen, limit),
    )


@app.command()
@command
def oddities(
    *,
    federation: Federation,
    screen: Screen,
    number: Annotated[
        int | None, typer.Option("--round", min=1, help="Only of this round.", show_default=False)
    ] = None,
    kind: Annotated[
        Oddity | None, typer.Option(help="Only of this kind.", show_default=False)
    ] = None,
    database: Database = None,
    limit: Limit = 50,
) -> None:
    """Did any clock or order look odd?

    Shows what a person should look at: late records, clocks that jump, disputes, and, from an
    index that follows the chain, blocks that were read and are not there any more.

    Example: fedwitness ask oddities --database sqlite:///index.db
    """
    _tell(
        partial(queries.oddities, kind=None if kind is None else kind.value, round_number=number),
        answers.oddities,
        "entries",
        _Asking(database, federation, screen, limit),
    )


@app.command()
@command
def overview(
    *,
    federation: Federation,
    screen: Screen,
    days: Annotated[int, typer.Option(min=1, max=366, help="Newest days to count.")] = 30,
    database: Database = None,
) -> None:
    """How does the federation fare?

    Counts rounds, verdicts, parties and oddities, over all and by task, witness and day.

    Example: fedwitness ask overview
    """
    with _index(database, federation, screen) as index:
        found, at = index.ask(lambda s: queries.overview(s, days=days))
    _show(screen, found, at, answers.overview)


@dataclass(frozen=True, slots=True)
class _Asking:
    """What every question is asked of, and where its answer goes."""

    database: str | None
    federation: Federation
    screen: Screen
    limit: int


def _tell_whole(
    told: Callable[[Facts], Iterator[Fact]],
    question: Callable[..., A],
    human: Callable[[A], RenderableType],
    pages: str,
    asking: _Asking,
    wanted: Format | None,
    output: Path | None,
) -> None:
    """Answer a question that can be exported as a whole."""
    if wanted is None:
        if output is not None:
            raise typer.BadParameter("--output takes an export: say which --format")
        _tell(question, human, pages, asking)
        return
    screen = asking.screen
    if screen.as_json and output is None:
        raise typer.BadParameter("give --format or --json, or write the export to a file with -o")
    with _index(asking.database, asking.federation, screen) as index:
        pieces = export(told(Facts(index)), wanted)
        if output is None:
            for piece in pieces:
                typer.echo(piece, nl=False)
            return
        with replacing(output) as file:
            size = sum(file.write(piece.encode()) for piece in pieces)
    screen.show({"file": str(output), "format": wanted.value, "bytes": size})


def _tell(
    question: Callable[..., A],
    human: Callable[[A], RenderableType],
    pages: str,
    asking: _Asking,
) -> None:
    """Answer a question whose list comes in pages, as far as the limit.

    Args:
        question: Takes a session, the cursor of the page before and the size of a page.
        human: Shows an answer to people.
        pages: The answer's member that is the page; empty where the answer is one.
        asking: The index or the chain, the screen, and the limit.
    """
    screen, limit = asking.screen, asking.limit

    def page(index: OpenIndex, cursor: str | None, wanted: int) -> tuple[A, IndexedBlock]:
        size = min(wanted, queries.MAX_PAGE)
        return index.ask(partial(question, cursor=cursor, limit=size))

    with _index(asking.database, asking.federation, screen) as index:
        found, at = page(index, None, limit)
        whole = answers.page_of(found, pages)
        while whole.cursor is not None and len(whole.entries) < limit:
            more, _ = page(index, whole.cursor, limit - len(whole.entries))
            added = answers.page_of(more, pages)
            whole = Page(whole.entries + added.entries, added.cursor)
    _show(screen, answers.with_page(found, pages, whole), at, human)
    if whole.cursor is not None:
        screen.say(f"there are more: these are the first {len(whole.entries)}; raise --limit")


def _show(screen: Screen, found: A, at: IndexedBlock, human: Callable[[A], RenderableType]) -> None:
    as_of = {"number": at.number, "hash": to_hex(at.hash)}
    screen.show({"as_of": as_of, **to_json_dict(found)}, human(found))
    if not screen.as_json:
        screen.say(f"as of block {at.number}, {to_hex(at.hash)}")


@contextmanager
def _index(database: str | None, federation: Federation, screen: Screen) -> Iterator[OpenIndex]:
    """Open the index that was named, or make one from the chain."""
    if database is not None:
        with opened(database) as engine:
            yield OpenIndex(engine)
        return
    # Without ImageAccess there would be no grants, and nobody would seem to have seen an image.
    federation.needs("image_access")
    ledger = reader(federation)
    with progress_bars(screen) as progress, own_index(ledger, progress) as index:
        yield index
