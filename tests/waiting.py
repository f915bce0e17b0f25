"""Waiting for what another thread or process does."""

import time
from collections.abc import Callable

# Only what never comes may fail a test: a busy machine may take its time.
PATIENCE_SECONDS = 300.0


def eventually(
    is_so: Callable[[], bool], told: Callable[[], object] = lambda: "it never came to that"
) -> None:
    """Ask until it is so.

    Args:
        is_so: Asked again and again.
        told: What to say where it never is.

    Raises:
        AssertionError: If it is not so for five minutes.
    """
    end = time.monotonic() + PATIENCE_SECONDS
    while not is_so():
        assert time.monotonic() < end, told()
        time.sleep(0.02)
