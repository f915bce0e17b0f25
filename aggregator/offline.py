"""Aggregating files at hand, without ledger or IPFS: a round's own checks and its own pipeline.

What takes the ledger's place: a file's name stands for the hospital, its weight is given or 1, and
updates are taken in ascending order of their content digests. So neither the order in which files
are given nor the number of threads changes a bit of the model or a verdict.
"""

import math
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from collections.abc import Set as AbstractSet
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass, replace
from itertools import repeat
from pathlib import Path
from tempfile import TemporaryDirectory
from time import perf_counter
from typing import Any

from aggregator.admission import NO_CONTENT, Fault, find_fault
from aggregator.cohort import Member
from aggregator.judgement import KEPT, Judgement
from aggregator.memory import AnonymousMemory
from aggregator.pipeline import Pipeline
from aggregator.progress import Progress, ProgressCallback, unheard
from chain.canonical import parse_json
from chain.digests import content_digest
from chain.errors import InvalidInputError, UnfitRoundError
from chain.foreign_tensors import canonical_form
from chain.schema import Schema
from chain.tensors import open_tensors, trained_content
from chain.types import Outcome, Reason
from chain.wire import to_hex, to_json_dict

MAX_FILES = 128  # as in a round
MAX_EXAMPLES = (1 << 32) - 1
_MAX_JSON = 1 << 20  # bytes
_MOST_TOLD = 5  # of rejected files, in an error


@dataclass(frozen=True, slots=True)
class FileVerdict:
    """What became of a file.

    Args:
        file: Its name; the path as given where two files have one name.
        examples: Its weight.
        outcome: As in a round.
        reason: As in a round.
        score: In millionths, as on the ledger.
        threshold: In millionths.
        content: Its content digest, None where it is no tensor file.
        remark: What was expected and found where it was rejected, or how it was read; may be empty.
    """

    file: str
    examples: int
    outcome: Outcome
    reason: Reason
    score: int
    threshold: int
    content: bytes | None
    remark: str


@dataclass(frozen=True, slots=True)
class FilesResult:
    """What files come to.

    Args:
        model: The content digest of the model.
        path: Its file.
        pipeline: The steps.
        base: The content digest of the base model, None where it was all zeros.
        verdicts: One for each file, in the order in which they were given.
        coordinates: How many the model has, without a server optimiser's state.
        threads: How many computed.
        admit_seconds: What reading and checking the files took.
        aggregate_seconds: What judging them and writing the model took.
        peak_memory: In bytes: see `aggregator.memory`.
    """

    model: bytes
    path: Path
    pipeline: Pipeline
    base: bytes | None
    verdicts: tuple[FileVerdict, ...]
    coordinates: int
    threads: int
    admit_seconds: float
    aggregate_seconds: float
    peak_memory: int | None

    def to_dict(self) -> dict[str, Any]:
        """Return the result as a value of JSON."""
        return {
            "model": to_hex(self.model),
            "file": str(self.path),
            "pipeline": self.pipeline.to_list(),
            "base": None if self.base is None else to_hex(self.base),
            "verdicts": [to_json_dict(verdict) for verdict in self.verdicts],
            "coordinates": self.coordinates,
            "threads": self.threads,
            "seconds": round(self.admit_seconds + self.aggregate_seconds, 6),
            "admit_seconds": round(self.admit_seconds, 6),
            "aggregate_seconds": round(self.aggregate_seconds, 6),
            "peak_anonymous_bytes": self.peak_memory,
        }


@dataclass(frozen=True, slots=True)
class _Update:
    """A file on its way: where its canonical form lies, and what keeps it out, if anything."""

    name: str
    examples: int
    path: Path
    schema: Schema | None = None
    content: bytes | None = None
    remark: str = ""
    fault: Fault | None = None

    def refused(self, fault: Fault) -> "_Update":
        return replace(self, fault=fault, remark=fault.told)


@dataclass(frozen=True, slots=True)
class _Base:
    """The base model: its trained part's schema, and the contents that no update may have."""

    path: Path
    content: bytes | None
    schema: Schema
    known: frozenset[bytes]


def aggregate_files(
    pipeline: Pipeline,
    files: Sequence[Path],
    out: Path,
    *,
    threads: int,
    base: Path | None = None,
    examples: Sequence[int] | None = None,
    progress: ProgressCallback = unheard,
) -> FilesResult:
    """Judge updates that are files, and write the model that they make.

    A file is rejected where a round would reject it, and the rest is aggregated: because it is no
    safetensors file of floating-point tensors, has other tensors than the base model, holds a
    value that is not finite, has the contents of another file (that whose name comes first is
    kept) or of the base model. Nobody is in quarantine, as there are no earlier rounds.

    Args:
        pipeline: What is done with them.
        files: Safetensors files by whomever; see `chain.foreign_tensors`.
        out: The canonical file that is written, whole or not at all.
        threads: How many threads compute; no bit depends on it.
        base: The base model. Without one it is all zeros, of the tensors that most files have.
        examples: The weight of each file; 1 where none are given.
        progress: Called as each stage moves on.

    Raises:
        InvalidInputError: If the output exists, a file is given twice, or there are too few or
            too many.
        UnfitRoundError: If they make no model; the message names the rejected files.
        OSError: If a file cannot be read, or the disk is full.
    """
    names = name_files(files)
    weights = (1,) * len(files) if examples is None else examples
    _require_possible(pipeline, files, out, threads)
    with (
        TemporaryDirectory(dir=out.parent, prefix=f".{out.name}.") as folder,
        AnonymousMemory() as memory,
        ThreadPoolExecutor(threads) as pool,
    ):
        start = perf_counter()
        scratch = Path(folder)
        given = map(_Update, names, weights, files)
        reading = pool.map(_read, given, (scratch / str(number) for number in range(len(files))))
        updates = list(_told(progress, "read", len(files), reading))
        model = _base_model(base, updates, scratch)
        checking = pool.map(_check, updates, repeat(model.schema))
        updates = _without_copies(_told(progress, "admit", len(files), checking), model.known)
        admitted = perf_counter()
        progress(Progress("aggregate", 0, 1))
        judgements = _aggregate(pipeline, model.path, updates, out, threads)
        digest = content_digest(out)
        progress(Progress("aggregate", 1, 1))
        done = perf_counter()
    return FilesResult(
        digest,
        out,
        pipeline,
        model.content,
        tuple(map(_verdict, updates, judgements)),
        sum(math.prod(spec.shape) for spec in model.schema.tensors),
        threads,
        admitted - start,
        done - admitted,
        memory.peak,
    )


def name_files(files: Sequence[Path]) -> tuple[str, ...]:
    """Name files: by their own names, or as given where two have the same.

    Raises:
        InvalidInputError: If a file is given twice.
    """
    paths = Counter(map(str, files))
    for path, times in paths.items():
        if times > 1:
            raise InvalidInputError(f"expected each file once, found {path} {times} times")
    names = Counter(path.name for path in files)
    return tuple(path.name if names[path.name] == 1 else str(path) for path in files)


def read_examples(path: Path, files: Sequence[Path]) -> tuple[int, ...]:
    """Read the weights of files: JSON of an object that gives each one's number of examples.

    Args:
        path: The JSON file. Its members are the files' names, or their paths as given.
        files: The files.

    Returns:
        The weights in the order of the files.

    Raises:
        InvalidInputError: If a file is not named or named twice, a name is of no file, or a weight
            is no integer within 32 bits.
        OSError: If it cannot be read.
    """
    with path.open("rb") as file:
        data = file.read(_MAX_JSON + 1)
    try:
        return _examples(parse_json(data, _MAX_JSON), files)
    except InvalidInputError as error:
        raise InvalidInputError(f"{path.name}: {error}") from error


def _examples(members: object, files: Sequence[Path]) -> tuple[int, ...]:
    if not isinstance(members, dict):
        raise InvalidInputError('expected an object such as {"A.safetensors": 120}')
    found: list[int] = []
    left = set(members)
    for name, path in zip(name_files(files), files, strict=True):
        keys = {name, str(path)} & members.keys()
        if len(keys) != 1:
            raise InvalidInputError(f"expected {name} once, found it {len(keys)} times")
        (key,) = keys
        left.remove(key)
        # `True` is an int to Python, and 1.0 equals 1.
        if type(members[key]) is not int or not 1 <= members[key] <= MAX_EXAMPLES:
            raise InvalidInputError(
                f"{key}: expected examples, an integer from 1 to {MAX_EXAMPLES}, found "
                f"{repr(members[key])[:50]}"
            )
        found.append(members[key])
    if left:
        raise InvalidInputError(f"expected the names of the files given, found {min(left)!r}")
    return tuple(found)


def _require_possible(pipeline: Pipeline, files: Sequence[Path], out: Path, threads: int) -> None:
    if out.exists():
        raise InvalidInputError(f"{out} exists already: take another name")
    if not out.parent.is_dir():
        raise InvalidInputError(f"{out}: expected a folder {out.parent}, found none: make it first")
    if threads < 1:
        raise InvalidInputError(f"expected at least 1 thread, found {threads}")
    least = pipeline.least_admitted(1)
    if len(files) < least:
        raise InvalidInputError(
            f"the pipeline {pipeline.to_json()} needs at least {least} updates, found "
            f"{len(files)}: give more of them, or withstand fewer attackers (a lower f)"
        )
    if len(files) > MAX_FILES:
        raise InvalidInputError(f"expected at most {MAX_FILES} updates, found {len(files)}")


def _told(
    progress: ProgressCallback, stage: str, total: int, updates: Iterable[_Update]
) -> Iterator[_Update]:
    progress(Progress(stage, 0, total))
    for done, update in enumerate(updates, 1):
        progress(Progress(stage, done, total))
        yield update


def _read(update: _Update, copy: Path) -> _Update:
    """Bring a file into canonical form."""
    try:
        form = canonical_form(update.path, copy)
        with open_tensors(form.path) as tensors:
            schema = tensors.schema
    except InvalidInputError as error:
        return update.refused(Fault(Reason.TENSORS_MALFORMED, str(error)))
    widened = len(form.widened)
    remark = f"{update.name}: tensors of BF16 read as F32: {widened}" if widened else ""
    return replace(update, path=form.path, schema=schema, remark=remark)


def _base_model(given: Path | None, updates: Iterable[_Update], scratch: Path) -> _Base:
    """Read the base model, or make one of zeros."""
    zeros = scratch / "base"
    if given is None:
        schema = _usual_schema(updates).trained()
        with zeros.open("xb") as file:
            file.write(schema.header())
            file.truncate(schema.file_size())
        return _Base(zeros, None, schema, frozenset())
    path = canonical_form(given, zeros).path
    with open_tensors(path) as tensors:
        fault = find_fault(tensors, tensors.schema)
        if fault is not None:
            raise InvalidInputError(f"{given.name}: {fault.told}")
        content = content_digest(path)
        known = frozenset({content, trained_content(tensors)})
        return _Base(path, content, tensors.schema.trained(), known)


def _usual_schema(updates: Iterable[_Update]) -> Schema:
    """Return the schema that most files have, of equally many the one of the smallest digest."""
    schemas = Counter(one.schema for one in updates if one.schema is not None)
    if not schemas:
        raise UnfitRoundError(f"no update can be read: {_rejections(updates)}")
    return min(schemas, key=lambda schema: (-schemas[schema], schema.digest()))


def _check(update: _Update, schema: Schema) -> _Update:
    """Hold a file against the base model's schema, and look for values that are not finite."""
    if update.fault is not None:
        return update
    with open_tensors(update.path) as tensors:
        fault = find_fault(tensors, schema)
    update = replace(update, content=content_digest(update.path))
    if fault is None:
        return update
    return update.refused(Fault(fault.reason, f"{update.name}: {fault.told}"))


def _without_copies(updates: Iterable[_Update], known: AbstractSet[bytes]) -> list[_Update]:
    """Reject what has the contents of another file or of the base model."""
    listed = list(updates)
    owners: dict[bytes, str] = {}
    for update in sorted(listed, key=lambda one: one.name):
        if update.fault is None and update.content is not None:
            owners.setdefault(update.content, update.name)

    def look(update: _Update) -> _Update:
        if update.fault is not None or update.content is None:
            return update
        owner = owners[update.content]
        if owner != update.name:
            told = f"{update.name}: has the contents of {owner}"
            return update.refused(Fault(Reason.COPIED_FROM_PEER, told))
        if update.content in known:
            told = f"{update.name}: is the base model"
            return update.refused(Fault(Reason.REPLAYED_UPDATE, told))
        return update

    return [look(update) for update in listed]


def _aggregate(
    pipeline: Pipeline, base: Path, updates: Sequence[_Update], out: Path, threads: int
) -> list[Judgement | None]:
    """Write the model, and return a judgement for each update that was admitted."""
    admitted = [i for i, one in enumerate(updates) if one.fault is None]
    admitted.sort(key=lambda i: updates[i].content or NO_CONTENT)
    judgements: list[Judgement | None] = [None] * len(updates)
    try:
        _require_admitted(pipeline, len(admitted))
        with ExitStack() as stack:
            model = stack.enter_context(open_tensors(base))
            members = [
                Member(
                    updates[i].name,
                    updates[i].examples,
                    updates[i].content or NO_CONTENT,
                    stack.enter_context(open_tensors(updates[i].path)),
                )
                for i in admitted
            ]
            judged = pipeline.aggregate(model, members, out, threads)
    except UnfitRoundError as error:
        rejections = _rejections(updates)
        message = f"{error}; not admitted: {rejections}" if rejections else str(error)
        raise UnfitRoundError(message) from error
    for i, judgement in zip(admitted, judged, strict=True):
        judgements[i] = judgement
    return judgements


def _require_admitted(pipeline: Pipeline, found: int) -> None:
    # A round makes sure of this by its least number of updates.
    if found < pipeline.least_kept:
        raise UnfitRoundError(
            f"the pipeline {pipeline.to_json()} needs at least {pipeline.least_kept} updates, "
            f"found {found}"
        )


def _rejections(updates: Iterable[_Update]) -> str:
    """Tell what keeps the first few of the rejected files out."""
    told = [one.remark for one in updates if one.fault is not None]
    more = f", and {len(told) - _MOST_TOLD} more" if len(told) > _MOST_TOLD else ""
    return "; ".join(told[:_MOST_TOLD]) + more


def _verdict(update: _Update, judgement: Judgement | None) -> FileVerdict:
    if update.fault is not None:
        judgement = Judgement(Outcome.REJECTED, update.fault.reason, 0, 0)
    judged = judgement or KEPT
    return FileVerdict(
        update.name,
        update.examples,
        judged.outcome,
        judged.reason,
        judged.score,
        judged.threshold,
        update.content,
        update.remark,
    )
