"""Waiting for what another thread or process does."""

import time
from collections.abc import Callable
from typing import TypeVar

# Only what never comes may fail a test: a busy machine may take its time.
PATIENCE_SECONDS = 300.0

T = TypeVar("T")


def eventually(
    ask: Callable[[], T | None], told: Callable[[], object] = lambda: "it never came to that"
) -> T:
    """Ask again and again until the answer is true, or another that holds something; return it.

    Args:
        ask: What is to be so.
        told: What to say where it never is.

    Raises:
        AssertionError: If there is none for five minutes.
    """
    end = time.monotonic() + PATIENCE_SECONDS
    while not (answer := ask()):
        assert time.monotonic() < end, told()
        time.sleep(0.02)
    return answer
