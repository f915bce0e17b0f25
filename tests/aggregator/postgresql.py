"""A PostgreSQL server for a test, from whatever installation this machine has."""

import os
import pwd
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from chain.devnet.ports import free_port


def find_programs() -> Path | None:
    """Find the folder of the server's programs; Debian keeps them off the path."""
    found = sorted(Path("/usr/lib/postgresql").glob("*/bin/pg_ctl"), key=_version)
    on_path = shutil.which("pg_ctl")
    if found:
        return found[-1].parent
    return Path(on_path).resolve().parent if on_path else None


@contextmanager
def running_server(programs: Path) -> Iterator[str]:
    """Run a server on 127.0.0.1 in a folder of its own, and give its URL for SQLAlchemy."""
    port, user = free_port(), _unprivileged_user()
    with tempfile.TemporaryDirectory(prefix="fedwitness-postgresql-") as name:
        folder = Path(name)
        if user is not None:
            shutil.chown(folder, user)

        def call(program: str, *arguments: str) -> None:
            command = [str(programs / program), "-D", str(folder / "data"), *arguments]
            # The server's own output goes to its log; a pipe would wait for the server's end.
            subprocess.run(
                command, check=True, user=user, cwd=folder, stdout=subprocess.DEVNULL, timeout=60
            )

        call("initdb", "--username=index", "--auth=trust", "--no-sync", "--encoding=UTF8")
        options = f"-p {port} -c listen_addresses=127.0.0.1 -c fsync=off -k {folder}"
        call("pg_ctl", "start", "--wait", "--log", str(folder / "log"), "-o", options)
        try:
            yield f"postgresql+psycopg://index@127.0.0.1:{port}/postgres"
        finally:
            call("pg_ctl", "stop", "--wait", "--mode", "immediate")


def _version(program: Path) -> float:
    return float(program.parts[-3])


def _unprivileged_user() -> str | None:
    """PostgreSQL refuses to run as root, as which tests run in many containers."""
    if os.geteuid() != 0:
        return None
    names = {entry.pw_name for entry in pwd.getpwall()}
    return "postgres" if "postgres" in names else "nobody"
