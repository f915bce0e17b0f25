"""From what a hospital has to what it may use: every file opened once, freed of identity, counted.

Works alone: no chain, no IPFS, no network. The output's folder holds, beside the files of
`node.treatment`:

    attestation.json   what the data set's versions carry the digest of (protocol 4.4)
    files.jsonl        a line for each file that came in, taken or not: what became of it
    report.json        the counts

Nothing in it names anybody. The names that the files had stand in a folder beside the key, with
the journal that lets a run go on where it was killed:

    KEY.private/RUN.sqlite    the journal
    KEY.private/RUN.csv       which file became what, for the hospital's own eyes

Files are opened in processes of their own, one file at a time, within bounds of time and memory.
One that is broken, or breaks its process, costs that process and no more.
"""

import csv
import hashlib
import json
import os
import secrets
import selectors
import stat
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from fcntl import LOCK_EX, LOCK_NB, flock
from pathlib import Path
from typing import Any, BinaryIO, Self

from chain.canonical import canonical_json
from chain.errors import FedWitnessError, InvalidInputError
from chain.files import PIECE, pieces, replacing
from node.archives import MAX_ARCHIVE
from node.attestation import Attestation, attest
from node.deidentify import OPTIONS
from node.dicom import patient_of
from node.journal import HELD, SKIPPED, TAKEN, Entry, Journal
from node.labels import LABELS, read_labels
from node.profile import CLEAN_FACES, CLEAN_PIXELS
from node.pseudonyms import Pseudonyms

TABLE_OF_LABELS = "the table of labels"
ATTESTATION, FILES, REPORT = "attestation.json", "files.jsonl", "report.json"
_MARK = ".ingest"  # names the run, and so the journal beside the key
_FOLDERS = ("files", "arrays")
_RECYCLED = 400  # files; after so many a process is replaced, whatever it leaks
_MOST = MAX_ARCHIVE  # bytes of a file that is opened at all
_READY = b"ready\n"
_STARTING = 300.0  # seconds until a process is ready, on a machine that has much to do
_BATCH = 1000  # files noted at once
_DUPLICATE, _ERASED = "duplicate", "erased"

# What the counts and reasons of a report mean, for whoever reads it.
MEANINGS = {
    "taken": "files that are in the output, free of identity",
    "skipped": "files that are not in the output, for the reasons given",
    "held": "files that a person has to look at first; --looked-at ID releases one",
    "images": "images in the files that were taken: slices, volumes, pictures",
    "blanked": "boxes of burned-in text that were blanked in the pixels",
    "heads": "files that may show a face: slices and volumes of heads",
    "faces removed": "heads whose face was removed",
    "faces kept": "heads that still show what face there is",
    "leaks": "places where the leak scan found identity in a result; such files are held",
    "skipped: a link": "it leads to another file, which is not followed",
    "skipped: an index of other files": "a DICOMDIR; the files that it names are taken themselves",
    "skipped: damaged": "it cannot be read as what it begins as",
    "skipped: duplicate": "another file has the same bytes",
    "skipped: empty": "it has no bytes",
    "skipped: erased": "it, or its patient, was erased for good",
    "skipped: gone": "it was there when the run began, and then no more",
    "skipped: hidden": "its name begins with a dot",
    "skipped: its process ended": "a decoder crashed on it",
    "skipped: no decoder": "its pixels are compressed in a way that nothing here decodes",
    "skipped: no regular file": "a pipe, socket or device",
    "skipped: not readable": "whoever runs this may not read it",
    f"skipped: {TABLE_OF_LABELS}": "it was read as such",
    "skipped: too large": "it, or what it unpacks to, is larger than what is opened",
    "skipped: too slow": "it took longer than --seconds",
    "skipped: unknown format": "no DICOM, NIfTI, PNG, JPEG or archive in MedMNIST's form",
    "held: a video": "nobody can look for text in every frame of it but a person",
    "held: an encapsulated document": "a PDF, CDA or model, which may say anything",
    "held: leak scan": "the result still held identity",
    "held: text in the pixels": "there may be text that was not blanked",
}


class IngestError(FedWitnessError):
    """The run cannot go on, for no file's fault; what was done is kept."""


@dataclass(frozen=True, slots=True)
class Limits:
    """What one file may take.

    Attributes:
        seconds: Of time, before its process is ended.
        memory: Bytes of address space of its process.
        processes: How many files are opened at once.
    """

    seconds: float = 120.0
    memory: int = 6 << 30
    processes: int = 2


@dataclass(frozen=True, slots=True)
class Choices:
    """What whoever runs it has chosen.

    Attributes:
        looked_at: What stands for files whose pixels somebody has looked at, and found no identity
            in: nothing in them is blanked, and none of them is held back for what it shows.
        deface: Whether faces are removed where that can be done.
    """

    looked_at: frozenset[str] = frozenset()
    deface: bool = True


@dataclass(frozen=True, slots=True)
class Ingested:
    """What a run came to.

    Attributes:
        report: The counts, as `REPORT` holds them.
        attestation: What is attested.
        private: The list of names, beside the key.
    """

    report: dict[str, Any]
    attestation: Attestation
    private: Path


@dataclass(slots=True)
class _Process:
    """A process that opens files, and the file that it has open."""

    child: subprocess.Popen[bytes]
    done: int = 0
    ready: bool = False
    job: tuple[bytes, str] | None = None
    until: float = 0.0
    answer: bytearray = field(default_factory=bytearray)


def ingest(
    source: Path,
    out: Path,
    key: Path,
    secret: bytes,
    choices: Choices = Choices(),
    limits: Limits = Limits(),
    on_progress: Callable[[int, int], None] = lambda _done, _all: None,
) -> Ingested:
    """Take in everything below a folder, or one file; run again, go on where it stopped.

    Args:
        source: A folder or a file; it is read and never changed.
        out: The output's folder; made if missing.
        key: The key file, beside which the names are kept.
        secret: What the key file holds.
        choices: See there.
        limits: See there.
        on_progress: Called with how many files are done, of how many.

    Raises:
        InvalidInputError: If there is nothing at the source, the output belongs to another run, or
            somebody else is writing it.
        IngestError: If the disk is full, or the processes cannot be started.
        OSError: If the output cannot be written.
    """
    if not source.exists():
        raise InvalidInputError("expected a folder or a file to take in, found nothing there")
    inside, outside = source.resolve(), out.resolve()
    if outside == inside or outside.is_relative_to(inside) or inside.is_relative_to(outside):
        raise InvalidInputError(
            "expected the output apart from what is taken in, found one in the other"
        )
    pseudonyms = Pseudonyms(secret)
    with _opened(out, key, pseudonyms, source) as (journal, private):
        _reopen(journal, choices)
        _find(source, journal, pseudonyms)
        _forget_gone(journal, out)
        all_files, done = journal.counted()
        on_progress(done, all_files)
        with _Pool(secret, limits) as pool:
            for number, _ in enumerate(_work(source, out, journal, pool, choices), start=1):
                on_progress(done + number, all_files)
        return _finish(out, journal, pseudonyms, private)


def journal_of(out: Path, key: Path) -> Path:
    """Return where the journal of an output is, beside the key that it was made with.

    Raises:
        InvalidInputError: If it is no output of an ingest.
    """
    mark = out / _MARK
    run = mark.read_text(encoding="ascii") if mark.is_file() else ""
    if len(run) != 32 or not run.isalnum():  # noqa: PLR2004 - hexadecimal digits
        raise InvalidInputError(f"{out}: expected the output of an ingest, found something else")
    return key.with_name(f"{key.name}.private") / f"{run}.sqlite"


@contextmanager
def _opened(
    out: Path, key: Path, pseudonyms: Pseudonyms, source: Path
) -> Iterator[tuple[Journal, Path]]:
    """Open the run that an output's folder belongs to, or begin one."""
    mark = out / _MARK
    if not mark.exists():
        if out.exists() and any(out.iterdir()):
            raise InvalidInputError(
                f"{out}: expected an empty folder, or one that an ingest has begun, found another"
            )
        out.mkdir(mode=0o700, parents=True, exist_ok=True)
        with replacing(mark) as file:
            file.write(secrets.token_hex(16).encode())
    path = journal_of(out, key)
    path.parent.mkdir(mode=0o700, exist_ok=True)
    with _held(out):
        if not path.exists() and any(entry.name != _MARK for entry in out.iterdir()):
            raise InvalidInputError(
                f"{out}: expected the key that this folder was begun with, found {key}, beside "
                "which nothing is known of it; give that key, or another folder"
            )
        journal = Journal(path)
        try:
            whose = pseudonyms.file(str(source.resolve()))
            if journal.fact("source") not in {None, whose}:
                raise InvalidInputError(
                    f"{out}: expected an output of what is taken in, found one of something else; "
                    "give each its own folder"
                )
            journal.set_fact("source", whose)
            journal.begin_run()
            yield journal, path.with_suffix(".csv")
        finally:
            journal.close()


@contextmanager
def _held(out: Path) -> Iterator[None]:
    """Keep others from writing an output."""
    with (out / _MARK).open("rb") as held:
        try:
            flock(held, LOCK_EX | LOCK_NB)
        except OSError:
            raise InvalidInputError(f"{out}: another ingest is writing it") from None
        yield


@contextmanager
def _again(out: Path, key: Path) -> Iterator[tuple[Journal, Path]]:
    """Open the run that an output is of, as it was left."""
    path = journal_of(out, key)
    if not path.exists():
        raise InvalidInputError(
            f"{out}: expected the journal of this output beside {key}, found none: give the key "
            "that it was ingested with"
        )
    with _held(out):
        journal = Journal(path)
        try:
            yield journal, path.with_suffix(".csv")
        finally:
            journal.close()


def attestation_without(out: Path, key: Path, secret: bytes, names: frozenset[str]) -> Attestation:
    """Tell what will be attested of an output once `erase_files` was done.

    Raises:
        InvalidInputError: If it is no output of an ingest with this key.
    """
    with _again(out, key) as (journal, _), Path(os.devnull).open("wb") as nowhere:
        gone = _with_duplicates(journal, names)
        return _sum_up(journal, Pseudonyms(secret), nowhere, nowhere, gone)[1]


def erase_files(
    out: Path,
    key: Path,
    secret: bytes,
    names: frozenset[str],
    patients: frozenset[str] = frozenset(),
) -> Attestation:
    """Delete what came of some files, their lines and their names, and take none in again.

    Done again it changes nothing. The files that were taken in are not touched; where they are
    still there, the next ingest passes them over, also under other names.

    Args:
        out: An ingest's output.
        key: The key file that it was made with.
        secret: What the key file holds.
        names: What stands for the files' names.
        patients: Pseudonyms of whom nothing is to be taken in any more.

    Returns:
        What is attested of the rest.

    Raises:
        InvalidInputError: If it is no output of an ingest with this key.
        OSError: If the output cannot be written.
    """
    pseudonyms = Pseudonyms(secret)
    with _again(out, key) as (journal, private):
        gone = _with_duplicates(journal, names)
        for patient in patients:
            journal.set_fact(f"erased patient {patient}", "yes")
        contents = set()
        for entry in journal.entries():
            if entry.id in gone:
                for name in entry.result.get("files", {}):
                    (out / name).unlink(missing_ok=True)
                if entry.content:
                    contents.add(pseudonyms.content(entry.content))
        for name in gone:
            _take_back(out, name)
        # What a killed process left behind of lists names everybody, and nobody else clears it.
        for left in (*private.parent.glob(f".{private.name}.*"), *out.glob(f".{FILES}.*")):
            left.unlink(missing_ok=True)
        journal.erase(gone, contents)
        return _finish(out, journal, pseudonyms, private).attestation


def names_of(out: Path, key: Path, names: frozenset[str]) -> tuple[str, ...]:
    """Tell the names that files had, below what was taken in; for the hospital's own eyes.

    Raises:
        InvalidInputError: If it is no output of an ingest with this key.
    """
    with _again(out, key) as (journal, _):
        gone = _with_duplicates(journal, names)
        return tuple(os.fsdecode(one.path) for one in journal.entries() if one.id in gone)


def _with_duplicates(journal: Journal, names: frozenset[str]) -> frozenset[str]:
    """Add the files that were passed over because they are the same as one of some files."""
    same = {
        entry.id
        for entry in journal.entries()
        if entry.reason == _DUPLICATE and journal.same_content(entry.path, entry.content) in names
    }
    return names | same


def _reopen(journal: Journal, choices: Choices) -> None:
    for name in sorted(choices.looked_at):
        if journal.fact(f"looked at {name}") is None and not journal.reopen(name):
            raise InvalidInputError(
                f"expected the id of a file of this folder, 32 digits as {FILES} has them, found "
                f"{name!r}"
            )
        journal.set_fact(f"looked at {name}", "yes")


def _find(source: Path, journal: Journal, pseudonyms: Pseudonyms) -> None:
    """Note every file below the source, without opening one."""
    journal.begin()
    for number, (name, found) in enumerate(_names(source), start=1):
        token = pseudonyms.file(os.fsdecode(name))
        journal.see(name, token, found.st_size, found.st_mtime_ns)
        if number % _BATCH == 0:
            journal.commit()
            journal.begin()
    journal.forget_labels()
    table = source / LABELS
    if source.is_dir() and table.is_file():
        for labelled, label in read_labels(table):
            journal.set_label(labelled, label)
    journal.commit()


def _names(source: Path) -> Iterator[tuple[bytes, os.stat_result]]:
    """Yield everything below a folder that is no folder, by its name from there."""
    if not source.is_dir():
        yield os.fsencode(source.name), source.stat()
        return
    waiting = [b""]
    while waiting:
        below = waiting.pop()
        try:
            with os.scandir(os.path.join(os.fsencode(source), below)) as entries:  # noqa: PTH118 - names of any bytes
                for entry in entries:
                    name = os.path.join(below, entry.name)  # noqa: PTH118
                    if entry.is_dir(follow_symlinks=False):
                        waiting.append(name)
                    else:
                        yield name, entry.stat(follow_symlinks=False)
        except PermissionError:
            # Noted as one file, so that the report tells of it.
            yield below, os.stat(os.path.join(os.fsencode(source), below))  # noqa: PTH116, PTH118


def _forget_gone(journal: Journal, out: Path) -> None:
    """Delete what came of files that are there no more, as of a patient who withdrew."""
    for entry in journal.gone():
        for name in entry.result.get("files", {}):
            (out / name).unlink(missing_ok=True)
    journal.forget_gone()


def _work(
    source: Path, out: Path, journal: Journal, pool: "_Pool", choices: Choices
) -> Iterator[None]:
    """Have every waiting file treated; yield whenever one is done."""
    erased = journal.facts("erased patient ")
    root = source if source.is_dir() else source.parent
    for name, token, size in journal.waiting():
        path = root / os.fsdecode(name)
        reason = _passed_over(path, size)
        if not reason and journal.fact(f"erased {token}") is not None:
            reason = _ERASED
        if not reason:
            reason = _content(path, name, journal, pool.pseudonyms)
        if reason:
            journal.finish(name, SKIPPED, reason, {})
            yield
            continue
        job = {
            "source": os.fsencode(path).hex(),
            "name": name.hex(),
            "id": token,
            "out": str(out.resolve()),
            "looked_at": token in choices.looked_at
            or journal.fact(f"looked at {token}") is not None,
            "deface": choices.deface,
        }
        while not pool.takes(name, token, job):
            yield from _gather(out, journal, pool, erased)
    while pool.busy():
        yield from _gather(out, journal, pool, erased)


def _gather(out: Path, journal: Journal, pool: "_Pool", erased: frozenset[str]) -> Iterator[None]:
    for name, token, answer in pool.answers():
        told = answer
        if told["outcome"] == "failed":
            raise IngestError(
                f"{out}: the output cannot be written ({told['reason']}); make room, and run the "
                "same command again"
            )
        if _is_of(erased, out, told):
            for written in told["files"]:
                (out / written).unlink(missing_ok=True)
            told = {"outcome": SKIPPED, "reason": _ERASED, "files": {}}
        if not told["files"]:  # perhaps its process was ended while it wrote
            _take_back(out, token)
        journal.finish(name, told["outcome"], told["reason"], told)
        yield


def _is_of(erased: frozenset[str], out: Path, told: dict[str, Any]) -> bool:
    """Tell whether a file is of a patient who withdrew before."""
    names = [name for name in told["files"] if name.endswith(".dcm")]
    return bool(erased and names) and patient_of(out / names[0]) in erased


def _take_back(out: Path, token: str) -> None:
    for folder in _FOLDERS:
        place = out / folder / token[:2]
        if place.is_dir():
            for path in (*place.glob(f"{token}*"), *place.glob(f".{token}*")):
                path.unlink(missing_ok=True)


def _passed_over(path: Path, size: int) -> str:
    """Tell why a file is not to be opened, or nothing."""
    try:
        found = path.lstat()
    except OSError:
        return "not readable"
    if path.name == LABELS:
        return TABLE_OF_LABELS
    if path.name.startswith("."):
        return "hidden"
    if path.name == "DICOMDIR":
        return "an index of other files"
    if stat.S_ISLNK(found.st_mode):
        return "a link"
    if stat.S_ISDIR(found.st_mode):
        return "not readable"
    if not stat.S_ISREG(found.st_mode):
        return "no regular file"
    if size == 0:
        return "empty"
    return "too large" if size > _MOST else ""


def _content(path: Path, name: bytes, journal: Journal, pseudonyms: Pseudonyms) -> str:
    """Note a file's digest; tell why it is not to be opened, or nothing."""
    hasher = hashlib.sha256()
    try:
        for piece in pieces(path):
            hasher.update(piece)
    except OSError:
        return "not readable"
    journal.note_content(name, hasher.digest())
    if journal.fact(f"erased content {pseudonyms.content(hasher.digest())}") is not None:
        return _ERASED
    return _DUPLICATE if journal.same_content(name, hasher.digest()) else ""


class _Pool:
    """The processes that open files."""

    def __init__(self, secret: bytes, limits: Limits) -> None:
        self.pseudonyms = Pseudonyms(secret)
        self._secret = secret
        self._limits = limits
        self._ready = selectors.DefaultSelector()
        self._processes: list[_Process] = []

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        for process in list(self._processes):
            self._end(process)
        self._ready.close()

    def takes(self, name: bytes, token: str, job: dict[str, Any]) -> bool:
        """Hand a file to a process that has none; tell whether there was one."""
        process = next((one for one in self._processes if one.job is None), None)
        if process is None:
            if len(self._processes) >= self._limits.processes:
                return False
            process = self._start()
        process.job = (name, token)
        process.until = time.monotonic() + (self._limits.seconds if process.ready else _STARTING)
        try:
            _pipe(process.child.stdin).write(json.dumps(job).encode() + b"\n")
            _pipe(process.child.stdin).flush()
        except BrokenPipeError:
            pass  # its end is read as such, and told of the file
        return True

    def busy(self) -> bool:
        """Tell whether a file is open."""
        return any(process.job is not None for process in self._processes)

    def answers(self) -> Iterator[tuple[bytes, str, dict[str, Any]]]:
        """Wait for a file to be done, or its time to be over, and yield what became of it."""
        busy = [process for process in self._processes if process.job is not None]
        wait = max(0.0, min(process.until for process in busy) - time.monotonic())
        for key, _ in self._ready.select(wait):
            process = key.data
            read = os.read(_pipe(process.child.stdout).fileno(), PIECE)
            process.answer += read
            if not process.ready and process.answer.startswith(_READY):
                del process.answer[: len(_READY)]
                process.ready = True
                process.until = time.monotonic() + self._limits.seconds
            if not read:
                yield from self._lost(process, "its process ended")
            elif process.answer.endswith(b"\n"):
                yield self._done(process)
        for process in busy:
            if process.job is not None and time.monotonic() >= process.until:
                yield from self._lost(process, "too slow")

    def _done(self, process: _Process) -> tuple[bytes, str, dict[str, Any]]:
        name, token = process.job or (b"", "")
        told = json.loads(process.answer)
        process.answer.clear()
        process.job = None
        process.done += 1
        if process.done >= _RECYCLED:
            self._end(process)
        return name, token, told

    def _lost(self, process: _Process, reason: str) -> Iterator[tuple[bytes, str, dict[str, Any]]]:
        self._end(process)
        if not process.ready:  # no file's fault: none was opened
            raise IngestError(
                "the processes that open files cannot be started; `python -m node.ingest_worker` "
                "says why"
            )
        if process.job is not None:
            yield *process.job, {"outcome": SKIPPED, "reason": reason, "files": {}}

    def _start(self) -> _Process:
        package = Path(__file__).resolve().parent.parent
        # -P: a folder called node where the command is run must not be taken for this one.
        child = subprocess.Popen(
            [sys.executable, "-P", "-m", "node.ingest_worker"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            env=os.environ | {"PYTHONPATH": str(package), "OMP_NUM_THREADS": "1"},
        )
        process = _Process(child)
        self._processes.append(process)
        self._ready.register(_pipe(child.stdout), selectors.EVENT_READ, process)
        start = {"secret": self._secret.hex(), "memory": self._limits.memory}
        with suppress(BrokenPipeError):
            _pipe(child.stdin).write(json.dumps(start).encode() + b"\n")
        return process

    def _end(self, process: _Process) -> None:
        self._processes.remove(process)
        self._ready.unregister(_pipe(process.child.stdout))
        process.child.kill()
        with suppress(BrokenPipeError):
            process.child.communicate()


def _pipe(pipe: Any) -> Any:
    if pipe is None:
        raise IngestError("expected a process with pipes")
    return pipe


def _finish(out: Path, journal: Journal, pseudonyms: Pseudonyms, private: Path) -> Ingested:
    """Write the list, the attestation and the report from the journal."""
    with replacing(out / FILES) as listed, replacing(private) as named:
        report, attestation = _sum_up(journal, pseudonyms, listed, named)
    with replacing(out / ATTESTATION) as file:
        file.write(attestation.to_bytes())
    with replacing(out / REPORT) as file:
        file.write(json.dumps(report, indent=1).encode() + b"\n")
    return Ingested(report, attestation, private)


def _sum_up(
    journal: Journal,
    pseudonyms: Pseudonyms,
    listed: BinaryIO,
    named: BinaryIO,
    without: frozenset[str] = frozenset(),
) -> tuple[dict[str, Any], Attestation]:
    """Write the list of files and that of their names, a line at a time, and count."""
    counts: Counter[str] = Counter(
        dict.fromkeys(("taken", "skipped", "held", "images", "blanked", "heads", "leaks"), 0)
    )
    reasons: Counter[str] = Counter()
    actions: Counter[str] = Counter()
    modalities: Counter[str] = Counter()
    options = OPTIONS | {CLEAN_PIXELS}
    hasher = hashlib.sha256()
    names = csv.writer(_Encoded(named))
    names.writerow(("id", "outcome", "reason", "number", "name"))
    for entry in journal.entries():
        if entry.id in without:
            continue
        told = entry.result
        line = canonical_json(_line(entry, journal, pseudonyms)) + b"\n"
        hasher.update(line)
        listed.write(line)
        first = counts["images"] if told.get("images") else ""
        names.writerow((entry.id, entry.outcome, entry.reason, first, os.fsdecode(entry.path)))
        counts[entry.outcome] += 1
        counts["leaks"] += len(told.get("leaks", ()))
        if entry.outcome != TAKEN:
            reasons[f"{entry.outcome}: {entry.reason}"] += 1
            continue
        actions.update(told["actions"])
        counts["blanked"] += told["blanked"]
        counts["heads"] += told["head"]
        if told["face"] != "none":
            counts[f"faces {told['face']}"] += 1
        for image in told["images"]:
            counts["images"] += image["count"]
            modalities[image["modality"]] += image["count"]
        if told["images"]:
            options &= frozenset(told["options"])
    if counts["heads"] and counts["heads"] == counts["faces removed"]:
        options |= {CLEAN_FACES}
    attestation = attest(counts, actions, options, hasher.digest())
    report = {
        "counts": dict(counts),
        "reasons": dict(sorted(reasons.items())),
        "meanings": {one: MEANINGS[one] for one in (*counts, *sorted(reasons)) if one in MEANINGS},
        "modalities": dict(sorted(modalities.items())),
        "actions": dict(sorted(actions.items())),
        "output": hasher.hexdigest(),
        "attestation": attestation.digest().hex(),
        "methods": attestation.to_dict()["methods"],
    }
    return report, attestation


def _line(entry: Entry, journal: Journal, pseudonyms: Pseudonyms) -> dict[str, Any]:
    told = entry.result
    line: dict[str, Any] = {"id": entry.id, "outcome": entry.outcome}
    if entry.outcome != TAKEN:
        line["reason"] = entry.reason
    if entry.content:
        line["content"] = pseudonyms.content(entry.content)
    if entry.outcome == SKIPPED and entry.reason == _DUPLICATE:
        line["of"] = journal.same_content(entry.path, entry.content)
    if entry.outcome == HELD:
        line["leaks"] = told.get("leaks", [])
    if entry.outcome == TAKEN:
        name = os.fsdecode(entry.path)
        line |= {
            "kind": told["kind"],
            "files": told["files"],
            "images": told["images"],
            "label": journal.label(name, told["instance"]),
            "blanked": told["blanked"],
            "head": told["head"],
            "face": told["face"],
        }
    return line


class _Encoded:
    """Lets the csv module write to a file of bytes, whatever bytes a name is made of."""

    def __init__(self, file: Any) -> None:
        self._file = file

    def write(self, text: str) -> None:
        self._file.write(text.encode("utf-8", "surrogateescape"))
