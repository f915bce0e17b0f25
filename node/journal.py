"""What an ingest has found and done so far, in one private SQLite file beside the hospital's key.

It knows the files' real names, which may hold patients', so it never lies with the output. Every
finished file is written before the next result is asked for; killed anywhere, an ingest goes on
behind the last finished file. Nothing here grows in memory with the number of files.
"""

import json
import os
import sqlite3
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

TAKEN, SKIPPED, HELD = "taken", "skipped", "held"

_SCHEMA = """
CREATE TABLE IF NOT EXISTS facts (name TEXT PRIMARY KEY, value TEXT NOT NULL) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS files (
    path BLOB PRIMARY KEY,
    id TEXT NOT NULL UNIQUE,
    size INTEGER NOT NULL,
    changed INTEGER NOT NULL,
    run INTEGER NOT NULL,
    content BLOB,
    outcome TEXT,
    reason TEXT,
    result TEXT,
    identities TEXT
) WITHOUT ROWID;
CREATE INDEX IF NOT EXISTS by_content ON files (content) WHERE content IS NOT NULL;
CREATE TABLE IF NOT EXISTS labels (name TEXT PRIMARY KEY, label INTEGER NOT NULL) WITHOUT ROWID;
"""


@dataclass(frozen=True, slots=True)
class Entry:
    """A file that was finished.

    Attributes:
        path: Its name below the source, as the system has it.
        id: What stands for the name.
        outcome: `TAKEN`, `SKIPPED` or `HELD`.
        reason: Why, where it was not taken.
        content: SHA-256 of the file, or nothing where it was not read.
        result: What became of it, as `node.treatment` told it.
    """

    path: bytes
    id: str
    outcome: str
    reason: str
    content: bytes
    result: Mapping[str, Any]


class Journal:
    """An ingest's memory. One process at a time writes it."""

    def __init__(self, path: Path) -> None:
        """Open it, or make one that only its owner can read."""
        path.touch(mode=0o600)
        self._base = sqlite3.connect(path, isolation_level=None)
        # Survives kill -9 at any point; what a power cut takes is done again.
        self._base.execute("PRAGMA journal_mode=WAL")
        self._base.execute("PRAGMA synchronous=NORMAL")
        self._base.executescript(_SCHEMA)
        self.run = int(self.fact("run") or 0)

    def begin_run(self) -> None:
        """Begin to look anew for what is there."""
        self.run += 1
        self.set_fact("run", str(self.run))

    def fact(self, name: str) -> str | None:
        """Return what was noted under a name."""
        row = self._base.execute("SELECT value FROM facts WHERE name = ?", (name,)).fetchone()
        return None if row is None else str(row[0])

    def set_fact(self, name: str, value: str) -> None:
        """Note something under a name."""
        self._base.execute("INSERT OR REPLACE INTO facts VALUES (?, ?)", (name, value))

    def begin(self) -> None:
        """Gather many small changes into one that is whole or not at all."""
        self._base.execute("BEGIN")

    def commit(self) -> None:
        """End what `begin` began."""
        self._base.execute("COMMIT")

    def see(self, path: bytes, name: str, size: int, changed: int) -> None:
        """Note that a file is there; if it is another than before, it is to be done again."""
        self._base.execute(
            "INSERT INTO files (path, id, size, changed, run) VALUES (?, ?, ?, ?, ?) "
            "ON CONFLICT (path) DO UPDATE SET run = excluded.run, "
            "outcome = CASE WHEN size = excluded.size AND changed = excluded.changed "
            "THEN outcome END, "
            "content = CASE WHEN size = excluded.size AND changed = excluded.changed "
            "THEN content END, "
            "size = excluded.size, changed = excluded.changed",
            (path, name, size, changed, self.run),
        )

    def set_label(self, name: str, label: int) -> None:
        """Note the label of a file (by its name below the source) or an instance (by its UID)."""
        self._base.execute("INSERT OR REPLACE INTO labels VALUES (?, ?)", (name, label))

    def forget_labels(self) -> None:
        """Forget every label, before they are read anew."""
        self._base.execute("DELETE FROM labels")

    def label(self, *names: str) -> int | None:
        """Return the label of the first of several names that has one."""
        for name in names:
            row = self._base.execute("SELECT label FROM labels WHERE name = ?", (name,)).fetchone()
            if row is not None:
                return int(row[0])
        return None

    def waiting(self) -> Iterator[tuple[bytes, str, int]]:
        """Yield name, pseudonym and size of every file that is still to be done, by name."""
        last = b""
        while True:
            row = self._base.execute(
                "SELECT path, id, size FROM files WHERE path > ? AND run = ? AND outcome IS NULL "
                "ORDER BY path LIMIT 1",
                (last, self.run),
            ).fetchone()
            if row is None:
                return
            last = bytes(row[0])
            yield last, str(row[1]), int(row[2])

    def counted(self) -> tuple[int, int]:
        """Return how many files there are, and how many of them are done."""
        row = self._base.execute(
            "SELECT count(*), count(outcome) FROM files WHERE run = ?", (self.run,)
        ).fetchone()
        return int(row[0]), int(row[1])

    def same_content(self, path: bytes, content: bytes) -> str | None:
        """Return what stands for another file with this content that comes first, if any."""
        row = self._base.execute(
            "SELECT id FROM files WHERE content = ? AND path <> ? AND run = ? "
            "AND (reason IS NULL OR reason <> 'duplicate') ORDER BY path LIMIT 1",
            (content, path, self.run),
        ).fetchone()
        return None if row is None else str(row[0])

    def note_content(self, path: bytes, content: bytes) -> None:
        """Note a file's digest, once it was read."""
        self._base.execute("UPDATE files SET content = ? WHERE path = ?", (content, path))

    def finish(self, path: bytes, outcome: str, reason: str, result: Mapping[str, Any]) -> None:
        """Note what became of a file."""
        told = dict(result)
        identities = told.pop("identities", {})
        self._base.execute(
            "UPDATE files SET outcome = ?, reason = ?, result = ?, identities = ? WHERE path = ?",
            (outcome, reason, json.dumps(told), json.dumps(identities), path),
        )

    def identities(self) -> Iterator[tuple[str, Mapping[str, Any]]]:
        """Yield what stands for each file that was taken, and what identified somebody in it."""
        rows = self._base.execute(
            "SELECT id, identities FROM files WHERE outcome = ? ORDER BY path", (TAKEN,)
        )
        for name, identities in rows:
            yield name, json.loads(identities)

    def reopen(self, name: str) -> bool:
        """Let a file be done again, by what stands for it; tell whether there is one."""
        done = self._base.execute("UPDATE files SET outcome = NULL WHERE id = ?", (name,))
        return done.rowcount > 0

    def entries(self) -> Iterator[Entry]:
        """Yield every finished file that is still there, by name."""
        yield from self._entries("run = ?")

    def gone(self) -> Iterator[Entry]:
        """Yield every finished file that is there no more."""
        yield from self._entries("run <> ?")

    def forget_gone(self) -> None:
        """Forget the files that are there no more."""
        self._base.execute("DELETE FROM files WHERE run <> ?", (self.run,))

    def erase(self, names: Iterable[str], contents: Iterable[str]) -> None:
        """Forget files for good, by what stands for them, and note that none may come again.

        Args:
            names: What stands for the files' names.
            contents: What stands for their contents, under whatever name.
        """
        self._base.execute("PRAGMA secure_delete = ON")
        self.begin()
        for name in names:
            row = self._base.execute(
                "SELECT path, result FROM files WHERE id = ?", (name,)
            ).fetchone()
            if row is not None:
                told = json.loads(row[1] or "{}")
                for labelled in (os.fsdecode(row[0]), told.get("instance", "")):
                    self._base.execute("DELETE FROM labels WHERE name = ?", (labelled,))
            self._base.execute("DELETE FROM files WHERE id = ?", (name,))
            self._base.execute("DELETE FROM facts WHERE name = ?", (f"looked at {name}",))
            self.set_fact(f"erased {name}", "yes")
        for content in contents:
            self.set_fact(f"erased content {content}", "yes")
        self.commit()
        # What was deleted is still in the log of changes, until that is emptied.
        self._base.execute("VACUUM")
        self._base.execute("PRAGMA wal_checkpoint(TRUNCATE)")

    def facts(self, beginning: str) -> frozenset[str]:
        """Return the ends of all names of facts that have this beginning."""
        rows = self._base.execute(
            "SELECT name FROM facts WHERE substr(name, 1, ?) = ?", (len(beginning), beginning)
        )
        return frozenset(str(name)[len(beginning) :] for (name,) in rows)

    def close(self) -> None:
        """Close the file."""
        self._base.close()

    def _entries(self, which: str) -> Iterator[Entry]:
        rows = self._base.execute(
            "SELECT path, id, outcome, reason, content, result FROM files "  # noqa: S608 - ours
            f"WHERE {which} AND outcome IS NOT NULL ORDER BY path",
            (self.run,),
        )
        for path, name, outcome, reason, content, result in rows:
            yield Entry(path, name, outcome, reason or "", content or b"", json.loads(result))
