"""Long-lived processes that are remembered in a file, so that only our own are ever ended."""

import json
import os
import signal
import subprocess
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from chain.errors import DevnetError
from chain.files import replacing

MAX_PID_FILE_BYTES = 4096
MAX_LOG_BYTES = 8 * 1024 * 1024
POLL_SECONDS = 0.02


@dataclass(frozen=True, slots=True)
class ProcessIdentity:
    """A process as the system knows it.

    Attributes:
        pid: Process id. The system gives it to another process some time after ours has ended.
        started: When the process began, in the system's own words. Together with `pid` it names
            one process and no other.
    """

    pid: int
    started: str


def spawn(command: Sequence[str], *, cwd: Path, log: Path, pid_file: Path) -> ProcessIdentity:
    """Start a process in its own group, logging to a file, and remember it in `pid_file`.

    Args:
        command: Program and arguments.
        cwd: Working folder of the process.
        log: File that receives its output. A log that has grown beyond 8 MiB is begun anew.
        pid_file: File that will name the process.

    Raises:
        DevnetError: If the program cannot be started.
    """
    mode = "wb" if log.exists() and log.stat().st_size > MAX_LOG_BYTES else "ab"
    try:
        with log.open(mode) as output:
            process = subprocess.Popen(
                command,
                cwd=cwd,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
    except OSError as error:
        raise DevnetError(
            f"cannot start {command[0]}: {error}. Run `make setup` and try again."
        ) from error
    identity = ProcessIdentity(process.pid, start_time(process.pid) or "")
    with replacing(pid_file) as file:
        file.write(json.dumps(asdict(identity)).encode())
    _children[process.pid] = process
    return identity


def remembered(pid_file: Path) -> ProcessIdentity | None:
    """Return the process that `pid_file` names if it still runs, else None."""
    try:
        with pid_file.open("rb") as file:
            identity = ProcessIdentity(**json.loads(file.read(MAX_PID_FILE_BYTES)))
    except (OSError, ValueError, TypeError):
        return None
    return identity if is_running(identity) else None


def is_running(identity: ProcessIdentity) -> bool:
    """Tell whether this very process, not a later one of the same id, still runs."""
    running = bool(identity.started) and start_time(identity.pid) == identity.started
    if not running:
        _reap(identity.pid)
    return running


def end(identity: ProcessIdentity, *, grace_seconds: float) -> None:
    """Ask a process to end (SIGTERM), wait, and kill its group if it does not.

    Args:
        identity: The process. If it no longer runs, nothing happens.
        grace_seconds: Time it gets to put its affairs in order.

    Raises:
        DevnetError: If it outlives even SIGKILL, or belongs to another user.
    """
    for number, patience in ((signal.SIGTERM, grace_seconds), (signal.SIGKILL, 5.0)):
        if not is_running(identity):
            return
        try:
            os.killpg(identity.pid, number)
        except ProcessLookupError:
            return
        except PermissionError as error:
            raise DevnetError(
                f"process {identity.pid} belongs to another user: end it as that user"
            ) from error
        wait_until(lambda: not is_running(identity), seconds=patience)
    if is_running(identity):
        raise DevnetError(f"process {identity.pid} did not end after SIGKILL: look at it with `ps`")


def wait_until(condition: Callable[[], bool], *, seconds: float) -> bool:
    """Poll a condition until it holds or the time is up; return whether it held."""
    deadline = time.monotonic() + seconds
    while not condition():
        if time.monotonic() >= deadline:
            return False
        time.sleep(POLL_SECONDS)
    return True


def last_lines(log: Path, *, count: int = 5) -> str:
    """Return the end of a log, for an error message."""
    try:
        with log.open("rb") as file:
            file.seek(max(0, log.stat().st_size - 4096))
            tail = file.read(4096)
    except OSError:
        return ""
    return "\n".join(tail.decode(errors="replace").splitlines()[-count:])


def start_time(pid: int) -> str | None:
    """Return when a process began, or None if it does not run (a zombie does not run).

    Linux: field 22 of /proc/PID/stat, in clock ticks since boot (proc(5)). Elsewhere: `ps`.
    """
    try:
        # The name in field 2 may hold spaces and brackets: count from the last bracket.
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except FileNotFoundError:
        return None if Path("/proc/self/stat").exists() else _start_time_by_ps(pid)
    except ProcessLookupError:
        return None
    state, started = fields[0], fields[19]
    return None if state in "ZX" else started


def _start_time_by_ps(pid: int) -> str | None:
    answer = subprocess.run(
        ["ps", "-o", "stat=,lstart=", "-p", str(pid)],
        capture_output=True,
        text=True,
        timeout=5,
        check=False,
    )
    state, _, started = answer.stdout.strip().partition(" ")
    return started.strip() if started and not state.startswith("Z") else None


# Children of this very process stay zombies until somebody asks for their exit status, and
# their Popen objects warn when they are dropped unasked.
_children: dict[int, "subprocess.Popen[bytes]"] = {}


def _reap(pid: int) -> None:
    child = _children.pop(pid, None)
    if child is not None:
        child.wait()
