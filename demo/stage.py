"""The stage of the story: the federation, the data, and what came of it so far."""

import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeAlias

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

from chain.errors import FedWitnessError
from chain.reader import LedgerReader
from chain.types import RecordedUpdate
from demo.hospitals import HONEST, DemoData
from demo.local import LocalFederation
from demo.report import Attempt, Report
from node.dataset import CommittedDataset, load_dataset

SEED = 2026
TRIM = 1  # f of the rule: one poisoner
LEAST_UPDATES = 2 * TRIM + 1
QUORUM = 2  # k of three witnesses
ROUND_SECONDS = 3600  # for collecting; a round ends earlier, with its last record
MAX_MODEL = 1 << 26  # bytes
PATIENCE = 900.0  # seconds that anything may take, also on a busy machine
LOOK_SECONDS = 0.2  # between two looks at the ledger

Advance: TypeAlias = Callable[[int], None]


class UnexpectedEndError(FedWitnessError):
    """The federation came to another end than it must: FedWitness is broken, and the story ends."""


@dataclass(slots=True)
class Stage:
    """The state of the story between its acts.

    Attributes:
        out: Its folder.
        rounds: How many rounds it has.
        screen: Where it is told.
        data: What the hospitals have.
        local: The federation.
        reader: The ledger.
        report: What came of it so far.
        versions: Each hospital's data-set version, by name.
        models: The model that each round made, by round; 0 is the first model.
    """

    out: Path
    rounds: int
    screen: Console
    data: DemoData
    local: LocalFederation
    reader: LedgerReader
    report: Report = field(default_factory=Report)
    versions: dict[str, bytes] = field(default_factory=dict)
    models: dict[int, Path] = field(default_factory=dict)

    def bar(self, what: str, total: int | None = None) -> AbstractContextManager[Advance]:
        """Show a progress bar while the block runs; it lends the call that advances the bar."""
        return progress_bar(self.screen, what, total)

    def say(self, text: str) -> None:
        """Say a line; markup is allowed."""
        self.screen.print(f"  {text}", highlight=False)

    def tell_attempt(self, attempt: Attempt) -> None:
        """Tell of an attempt that was refused."""
        self.report.attempts.append(attempt)
        self.say(
            f"[yellow]refused[/]  {attempt.hospital}: {attempt.attempt}  "
            f"[dim]({attempt.by}: {attempt.reason})[/]"
        )

    def dataset_file(self, name: str) -> Path:
        """Return where a hospital keeps its committed data set."""
        return self.local.cast[name].keyring.datasets / f"{name}-images.npz"

    def dataset(self, name: str) -> CommittedDataset:
        """Return a hospital's committed data set."""
        return load_dataset(self.dataset_file(name))

    def record_of(self, name: str, number: int) -> RecordedUpdate:
        """Find a hospital's record in a round."""
        address = self.local.cast[name].address
        records = self.reader.records(number)
        return next(one for one in records if one.record.hospital == address)

    def wait_for_updates(self, number: int) -> None:
        """Wait until the updates of all honest hospitals are recorded in a round."""
        wanted = {self.local.cast[name].address for name in HONEST}
        with self.bar("training and sending", len(wanted)) as advance:
            arrived: set[str] = set()

            def all_there() -> bool:
                found = {one.record.hospital for one in self.reader.records(number)} & wanted
                advance(len(found - arrived))
                arrived.update(found)
                return arrived == wanted

            self.wait(all_there, "the hospitals' updates", quiet=True)

    def wait(self, condition: Callable[[], bool], what: str, *, quiet: bool = False) -> None:
        """Wait until a condition holds.

        Raises:
            UnexpectedEndError: If that takes too long.
        """
        status = nullcontext() if quiet else self.screen.status(f"  waiting for {what}")
        with status:
            if not _holds_in_time(condition):
                logs = self.out / "processes"
                message = f"waited {PATIENCE:.0f} s for {what}: the logs in {logs} tell why"
                raise UnexpectedEndError(message)


def _holds_in_time(condition: Callable[[], bool]) -> bool:
    ends = time.monotonic() + PATIENCE
    while not condition():
        if time.monotonic() > ends:
            return False
        time.sleep(LOOK_SECONDS)
    return True


@contextmanager
def progress_bar(screen: Console, what: str, total: int | None = None) -> Iterator[Advance]:
    """Show a progress bar while the block runs; it lends the call that advances the bar."""
    columns = (TextColumn("  {task.description}"), BarColumn(), TimeElapsedColumn())
    with Progress(*columns, console=screen, transient=True) as bars:
        bar = bars.add_task(what, total=total)
        yield lambda count: bars.advance(bar, count)
