"""Background threads that do one step at a time until they are stopped."""

import logging
from collections.abc import Callable
from threading import Event, Thread

from chain.errors import FedWitnessError

log = logging.getLogger("fedwitness.api")

GREATEST_PAUSE = 30.0


class Worker:
    """Repeats a step: at once while there is work, after a pause when there is none.

    A step that fails is tried again, each time after twice the pause up to 30 seconds: an
    unreachable chain or IPFS node delays the work and never ends it.

    Args:
        name: The thread's name, for the log.
        step: Does one piece of work; returns whether there may be more of it.
        pause: Seconds between two looks when there is nothing to do.
    """

    def __init__(self, name: str, step: Callable[[], bool], pause: float) -> None:
        self._name = name
        self._step = step
        self._pause = pause
        self._stopping = False
        self._woken = Event()
        self._thread = Thread(target=self._run, name=name, daemon=True)

    def start(self) -> None:
        """Start the thread."""
        self._thread.start()

    def wake(self) -> None:
        """End the present pause: there is work."""
        self._woken.set()

    def stop(self) -> None:
        """Ask the thread to end after its present step."""
        self._stopping = True
        self._woken.set()

    def has_ended(self, patience: float) -> bool:
        """Wait for the present step of a stopped worker and tell whether it ended.

        Args:
            patience: Seconds to wait. What a step leaves undone is done after the next start, so
                an end in its middle does no harm.
        """
        self._thread.join(patience)
        return not self._thread.is_alive()

    def _run(self) -> None:
        pause = self._pause
        while not self._stopping:
            self._woken.clear()
            try:
                pause = 0.0 if self._step() else self._pause
            except FedWitnessError as error:
                pause = self._longer(pause)
                log.warning("%s: tries again in %.0f s: %s", self._name, pause, error)
            except Exception:
                pause = self._longer(pause)
                log.exception("%s: tries again in %.0f s", self._name, pause)
            if not self._stopping:
                self._woken.wait(pause)

    def _longer(self, pause: float) -> float:
        return min(max(2 * pause, self._pause), GREATEST_PAUSE)
