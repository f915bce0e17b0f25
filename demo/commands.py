"""`fedwitness` commands, run as processes of their own by those who act in the story."""

import json
import subprocess
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from chain.errors import FedWitnessError
from demo.local import fedwitness

SECONDS = 900.0
FINDINGS = 1


class CommandFailedError(FedWitnessError):
    """A party's command failed, and the story cannot go on."""


@dataclass(frozen=True, slots=True)
class Answer:
    """What a command came to: its exit code and the JSON that it printed."""

    code: int
    data: Any


def run(*arguments: str, cwd: Path | None = None, codes: Sequence[int] = (0,)) -> Answer:
    """Run a command with ``--json`` and wait for it.

    Args:
        arguments: After `fedwitness`.
        cwd: Where it runs.
        codes: Exit codes that are fine.

    Raises:
        CommandFailedError: If it ends with another code, says no JSON or takes too long.
    """
    words = " ".join(one for one in arguments if not one.startswith("/"))
    try:
        done = subprocess.run(
            fedwitness(*arguments, "--json"),
            cwd=cwd,
            capture_output=True,
            text=True,
            timeout=SECONDS,
            check=False,
        )
        if done.returncode in codes:
            return Answer(done.returncode, json.loads(done.stdout))
    except (subprocess.TimeoutExpired, ValueError) as error:
        raise CommandFailedError(f"`fedwitness {words}` failed: {error}") from error
    told = done.stderr.strip().splitlines()[-1:] or ["it said nothing"]
    message = f"`fedwitness {words}` ended with {done.returncode}: {told[0]}"
    raise CommandFailedError(message)


def run_all(
    commands: Mapping[str, Sequence[str]], at_once: int, on_done: Callable[[str], None]
) -> dict[str, Any]:
    """Run several commands, a few at once, and return their JSON by name.

    Raises:
        CommandFailedError: If one fails; those that wait are not begun.
    """

    def one(name: str) -> Any:
        answer = run(*commands[name])
        on_done(name)
        return answer.data

    with ThreadPoolExecutor(at_once) as pool:
        answers = {name: pool.submit(one, name) for name in commands}
        try:
            return {name: answer.result() for name, answer in answers.items()}
        except BaseException:
            pool.shutdown(wait=False, cancel_futures=True)
            raise
