"""The index at size: how fast it is rebuilt from a million events, and how fast it answers.

The events are generated (`bench.ledger_events`): what is measured is the index, not a chain's node.
Generating them is part of the time that a rebuild takes. Each question is asked many times, of
rounds, models, data sets, hospitals, images and days drawn from the whole history, first pages and
deep ones; the figure is the 99th percentile, with the session that `aggregator.index.reading`
opens for each.

``make bench-index`` runs it; rows go to ``bench/results.json``, with the time by the target's as
their ratio.
"""

import argparse
import random
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, TypeAlias

from rich.console import Console
from rich.table import Table
from sqlalchemy import Engine, func, select
from sqlalchemy.orm import Session

from aggregator import queries
from aggregator.index import open_index, reading, rebuild
from aggregator.memory import AnonymousMemory
from aggregator.oddities import Oddity
from aggregator.queries.pages import write_cursor
from aggregator.tables import (
    DatasetVersionRow,
    GrantRow,
    ImageVersionRow,
    ParticipantRoleRow,
    ReadingRequestRow,
    ReadingRow,
    RecordDatasetRow,
    RoundRow,
    TaskRow,
)
from bench.ledger_events import BEGINNING, GeneratedLedger
from bench.results import Row, keep
from chain.readings import RequestState
from chain.types import Outcome, Phase, Reason, Role
from tests.aggregator.postgresql import find_programs, running_server

EVENTS = 1_000_000
EVENTS_PER_SECOND = 10_000  # at least
P99_SECONDS = 0.050  # at most
ASKED = 300  # times
SUBJECTS = 500  # drawn of each kind
WARM_UP = 10
MEGABYTE = 1e6
REBUILD = "rebuild"

Question: TypeAlias = Callable[[Session], object]


@dataclass(frozen=True, slots=True)
class Subjects:
    """What questions are asked about, drawn from the whole history."""

    models: Sequence[tuple[bytes, int | None]]  # with an ancestor of it, if it has some
    rounds: Sequence[int]
    tasks: Sequence[str]
    hospitals: Sequence[str]
    researchers: Sequence[str]
    versions: Sequence[bytes]
    oldest: bytes  # the version with the most descendants
    looked: Sequence[tuple[bytes, bytes | None, int]]  # version, image, when granted
    images: Sequence[bytes]
    busiest: bytes  # the image to which most happened
    readings: Sequence[bytes]
    now: int  # when the newest request was made
    blocks: int  # how many there are


def main() -> None:
    """Measure, print and keep."""
    parser = argparse.ArgumentParser(prog="python -m bench.index")
    parser.add_argument("--events", type=int, default=EVENTS, help="how many (default: a million)")
    parser.add_argument("--asked", type=int, default=ASKED, help="how often each question is asked")
    settings = parser.parse_args()
    table = Table(title=f"The index of {settings.events:,} events")
    for title in ("database", "what", "ours", "target", "ours / target", "memory"):
        table.add_column(title, justify="left" if title in {"database", "what"} else "right")
    rows: list[Row] = []
    console = Console()
    for name, opened in databases().items():
        with opened() as engine:
            for row in measured(engine, name, settings.events, settings.asked):
                rows.append(row)
                shown = told(row)
                console.print(*shown)
                table.add_row(*shown)
    console.print(table)
    keep("index", rows)


def databases() -> Mapping[str, Callable[[], Any]]:
    """Return what this machine has: SQLite, and PostgreSQL where a server is installed."""
    found: dict[str, Callable[[], Any]] = {"sqlite": _sqlite}
    if (programs := find_programs()) is None:
        print("PostgreSQL is left out: no server is installed here (Debian: postgresql)")
    else:
        found["postgresql"] = lambda: _postgresql(programs)
    return found


@contextmanager
def _sqlite() -> Iterator[Engine]:
    with tempfile.TemporaryDirectory() as folder:
        engine = open_index(f"sqlite:///{folder}/index.sqlite")
        yield engine
        engine.dispose()


@contextmanager
def _postgresql(programs: Path) -> Iterator[Engine]:
    with running_server(programs) as url:
        engine = open_index(url)
        yield engine
        engine.dispose()


def measured(engine: Engine, database: str, events: int, asked: int) -> Iterator[Row]:
    """Measure one database: the rebuild, then every question."""
    with AnonymousMemory() as memory:
        begin = time.perf_counter()
        rebuild(engine, GeneratedLedger(events))
        took = time.perf_counter() - begin
    target = events / EVENTS_PER_SECOND
    yield _row(f"index.{database}.{REBUILD}", events, took, target, memory.peak)
    draw = random.Random(7)  # noqa: S311 - a sample, no secret
    with reading(engine) as session:
        subjects = drawn(session, draw)
    for name, ask in questions(subjects, draw).items():
        with AnonymousMemory() as memory:
            p99 = percentile([_timed(engine, ask()) for _ in range(WARM_UP + asked)][WARM_UP:])
        yield _row(f"index.{database}.{name}", events, p99, P99_SECONDS, memory.peak)


def drawn(session: Session, draw: random.Random) -> Subjects:
    """Draw what to ask about."""

    def some(column: Any, *which: Any) -> list[Any]:
        found = sorted(session.scalars(select(column).where(*which)))
        return draw.sample(found, min(len(found), SUBJECTS))

    used = session.execute(
        select(RecordDatasetRow.version, func.count())
        .group_by(RecordDatasetRow.version)
        .order_by(func.count().desc())
        .limit(1)
    ).one()
    role = ParticipantRoleRow.role
    grants = session.execute(
        select(GrantRow.version, GrantRow.image, GrantRow.granted_at).order_by(
            GrantRow.block, GrantRow.log_index
        )
    ).all()
    return Subjects(
        models=_models(session, draw),
        rounds=some(RoundRow.number),
        tasks=some(TaskRow.task),
        hospitals=some(ParticipantRoleRow.address, role == Role.HOSPITAL.value),
        researchers=some(ParticipantRoleRow.address, role == Role.RESEARCHER.value),
        versions=some(DatasetVersionRow.version),
        oldest=used.version,
        looked=[
            (version, image, granted_at)
            for version, image, granted_at in draw.sample(grants, min(len(grants), SUBJECTS))
        ],
        images=some(ImageVersionRow.image),
        busiest=session.execute(
            select(ReadingRow.image)
            .group_by(ReadingRow.image)
            .order_by(func.count().desc())
            .limit(1)
        ).scalar_one(),
        readings=some(ReadingRow.reading),
        now=session.scalar(select(func.max(ReadingRequestRow.asked_at))) or 0,
        blocks=session.scalar(select(func.max(GrantRow.block))) or 0,
    )


def _models(session: Session, draw: random.Random) -> list[tuple[bytes, int | None]]:
    """Draw final models, each with one of the rounds that it descends from."""
    columns = (RoundRow.number, RoundRow.model, RoundRow.base_round)
    finals = session.execute(
        select(*columns).where(RoundRow.phase == Phase.FINAL.value).order_by(RoundRow.number)
    ).all()
    bases = {row.number: row.base_round for row in finals}
    found: list[tuple[bytes, int | None]] = []
    for row in draw.sample(finals, min(len(finals), SUBJECTS)):
        ancestor = row.base_round
        for _ in range(draw.randrange(len(finals))):
            if ancestor is None or bases[ancestor] is None:
                break
            ancestor = bases[ancestor]
        found.append((row.model, ancestor))
    return found


def questions(of: Subjects, draw: random.Random) -> dict[str, Callable[[], Question]]:
    """Return what draws each question; drawing is not timed.

    A page is drawn from the whole list, so most pages are deep ones.
    """
    some = draw.choice
    last = max(of.rounds)
    descended = [(model, ancestor) for model, ancestor in of.models if ancestor is not None]

    def page(*rest: int | str) -> str:
        return write_cursor(draw.randrange(2, last + 2), *rest)

    def provenance() -> Question:
        model, _ = some(of.models)
        return lambda s: queries.provenance(s, model)

    def provenance_page() -> Question:
        model, ancestor = some(descended)
        return lambda s: queries.provenance(s, model, cursor=write_cursor(ancestor))

    def round_history() -> Question:
        number = some(of.rounds)
        return lambda s: queries.round_history(s, number)

    def dataset_history() -> Question:
        version = some([*of.versions, of.oldest])
        return lambda s: queries.dataset_history(s, version, cursor=page(""))

    def dataset_history_oldest() -> Question:
        return lambda s: queries.dataset_history(s, of.oldest, cursor=page(""))

    def hospital_history() -> Question:
        hospital = some(of.hospitals)
        return lambda s: queries.hospital_history(s, hospital, cursor=page(""))

    def descendants() -> Question:
        version = some(of.versions)
        return lambda s: queries.descendants(s, version)

    def descendants_oldest() -> Question:
        cursor = write_cursor(some(of.tasks), draw.randrange(1, last))
        return lambda s: queries.descendants(s, of.oldest, cursor=cursor)

    def viewers() -> Question:
        version, image, at = some(of.looked)
        day = datetime.fromtimestamp(at + draw.randrange(60) * 86_400, UTC).date()
        return lambda s: queries.viewers(s, version, image, day)

    def grants() -> Question:
        by: dict[str, Any] = some(
            ({"researcher": some(of.researchers)}, {"hospital": some(of.hospitals)}, {})
        )
        cursor = write_cursor(draw.randrange(of.blocks), 0)
        return lambda s: queries.grants(s, cursor=cursor, **by)

    def image_history() -> Question:
        image = some(of.images)
        return lambda s: queries.image_history(s, image, now=of.now)

    def image_history_busiest() -> Question:
        at = draw.randrange(BEGINNING, of.now)
        cursor = write_cursor(at, 0, 1, 1, "")
        return lambda s: queries.image_history(s, of.busiest, now=of.now, cursor=cursor)

    def reading_history() -> Question:
        reading = some(of.readings)
        return lambda s: queries.reading_history(s, reading)

    def readings() -> Question:
        by: dict[str, Any] = some(
            ({"hospital": some(of.hospitals)}, {"party": some(of.hospitals)}, {"image": of.busiest})
        )
        cursor = write_cursor(draw.randrange(of.blocks), 0)
        return lambda s: queries.readings(s, cursor=cursor, **by)

    def reading_requests() -> Question:
        by: dict[str, Any] = some(
            (
                {"hospital": some(of.hospitals)},
                {"party": some(of.hospitals)},
                {"state": some([*RequestState][1:])},
            )
        )
        cursor = write_cursor(draw.randrange(of.blocks), 0)
        return lambda s: queries.requests(s, now=of.now, cursor=cursor, **by)

    def open_requests() -> Question:
        hospital = some(of.hospitals)
        return lambda s: queries.open_requests(s, hospital, now=of.now)

    def rounds() -> Question:
        phase = some((None, Phase.FINAL, Phase.ABORTED, Phase.OPEN))
        task = some((None, some(of.tasks)))
        return lambda s: queries.rounds(s, task=task, phase=phase, cursor=page())

    def verdicts() -> Question:
        by: dict[str, Any] = {
            "outcome": some((None, *Outcome)),
            "reason": some((None, None, *Reason)),
            "hospital": some((None, some(of.hospitals))),
            "task": some((None, some(of.tasks))),
        }
        return lambda s: queries.verdicts(s, cursor=page(""), **by)

    def rejections() -> Question:
        by: dict[str, Any] = {
            "hospital": some((None, some(of.hospitals))),
            "task": some((None, some(of.tasks))),
        }
        return lambda s: queries.verdicts(s, outcome=Outcome.REJECTED, **by)

    def oddities() -> Question:
        kind = some((None, *(one.value for one in Oddity)))
        return lambda s: queries.oddities(s, kind=kind, round_number=some((None, some(of.rounds))))

    def parties() -> Question:
        role = some((None, *Role))
        return lambda s: queries.parties(s, role=role)

    def overview() -> Question:
        return lambda s: queries.overview(s, days=some((90, 3_660)))

    asked = (
        provenance,
        provenance_page,
        round_history,
        dataset_history,
        dataset_history_oldest,
        hospital_history,
        descendants,
        descendants_oldest,
        viewers,
        grants,
        image_history,
        image_history_busiest,
        reading_history,
        readings,
        reading_requests,
        open_requests,
        rounds,
        verdicts,
        rejections,
        oddities,
        parties,
        overview,
    )
    return {one.__name__: one for one in asked}


def percentile(times: Sequence[float]) -> float:
    """Return the time that 99 of 100 stay below."""
    return sorted(times)[int(len(times) * 0.99)]


def told(row: Row) -> tuple[str, ...]:
    """Return a row for the screen."""
    _, database, what = str(row["name"]).split(".")
    ours, target = float(row["ours_s"] or 0), float(row["peer_s"] or 0)
    shown = f"{ours:.1f} s" if what == REBUILD else f"{ours * 1e3:.1f} ms"
    wanted = f"{target:.0f} s" if what == REBUILD else f"{target * 1e3:.0f} ms"
    return database, what, shown, wanted, f"{row['ratio']}", f"{row['peak_rss_mb']} MB"


def _timed(engine: Engine, ask: Question) -> float:
    begin = time.perf_counter()
    with reading(engine) as session:
        ask(session)
    return time.perf_counter() - begin


def _row(name: str, events: int, ours: float, target: float, peak: int | None) -> Row:
    return {
        "name": name,
        "n": events,
        "dim": 0,
        "ours_s": round(ours, 4),
        "peer": "target, at most",
        "peer_s": target,
        "ratio": round(ours / target, 2),
        "peak_rss_mb": None if peak is None else round(peak / MEGABYTE),
    }


if __name__ == "__main__":
    main()
