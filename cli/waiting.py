"""Long work: progress bars for its stages, and an end in good order."""

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager

from rich.progress import TaskID

from aggregator.progress import Progress, ProgressCallback
from cli.screen import Screen


@contextmanager
def progress_bars(screen: Screen) -> Iterator[ProgressCallback]:
    """Show the stages of long work, each as a bar while it lasts."""
    with screen.progress() as bars:
        shown: dict[str, TaskID] = {}

        def tell(progress: Progress) -> None:
            if progress.stage not in shown:
                shown[progress.stage] = bars.add_task(progress.stage, total=progress.total)
            bar = shown[progress.stage]
            bars.update(bar, completed=progress.done, total=progress.total)
            if progress.done >= progress.total:
                bars.remove_task(shown.pop(progress.stage))

        yield tell


@contextmanager
def interruptible() -> Iterator[threading.Event]:
    """Turn the first Ctrl-C or SIGTERM into an event; the second one ends the program at once."""
    stop = threading.Event()

    def ask_to_stop(number: int, _frame: object) -> None:
        stop.set()
        signal.signal(number, before[signal.Signals(number)])

    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    for number in before:
        signal.signal(number, ask_to_stop)
    try:
        yield stop
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
