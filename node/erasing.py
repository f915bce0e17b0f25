"""Erasing images for good: on the ledger, in the data sets, in what was ingested.

What is to be erased is first written down, in KEY.work/erasures. Killed at any point, the erasure
is gone on with by running it again:

1. Of a version that rounds still take, one without the images is made, with the salts and so the
   commitments of the others.
2. It is registered as the correction: from now on no round trains on the images, and no grant for
   the old version is live.
3. Each image is erased on the ledger, from each version that it is in.
4. The files that came of it go, with their lines and names: a gateway finds nothing to show.
5. Images, labels and salts go from the data sets: nobody can tell any more what was committed to.

A version of which no image would be left has no correction; erasing withdraws it.
"""

import hashlib
import json
from collections import defaultdict, deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Protocol

from chain.canonical import canonical_json
from chain.commitments import image_digest
from chain.errors import ContractRevertedError, InvalidInputError
from chain.files import private_folder, replacing
from chain.secret_file import kept_secret
from chain.types import DatasetState
from node.attestation import read_attestation
from node.dataset import (
    CommittedDataset,
    VersionRegistry,
    correct,
    erase_images,
    load_dataset,
    prove_commitment,
    register,
    registered,
    row_of,
)
from node.dicom import patient_of
from node.file_list import taken_files
from node.ingest import ATTESTATION, FILES, attestation_without, erase_files, names_of

_ALREADY = "AlreadyErased"  # how the name of the registry's refusal of a second erasure ends


class ErasureLedger(VersionRegistry, Protocol):
    """The part of `chain.ledger.Ledger` that erasing needs."""

    def erase_image(self, version: bytes, image: bytes, proof: Sequence[bytes]) -> object:
        """Record that an image was erased from a version."""


@dataclass(frozen=True, slots=True)
class Output:
    """What an ingest wrote, and the key file that it was made with."""

    out: Path
    key: Path


@dataclass(frozen=True, slots=True)
class Wanted:
    """What is to be erased.

    Attributes:
        patients: Pseudonyms; every image of them goes.
        files: What stands for files in an ingest's list.
        images: Numbers of images, by the file that holds their data set.
    """

    patients: frozenset[str] = frozenset()
    files: frozenset[str] = frozenset()
    images: Mapping[Path, frozenset[int]] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class PlannedDataset:
    """What goes from one data set.

    Attributes:
        file: Its private file's name.
        commitments: Of the images.
        attestation: What is attested of the rest, None where that is not known anew.
        profile: The methods that are attested, as bits.
    """

    file: str
    commitments: tuple[bytes, ...]
    attestation: bytes | None = None
    profile: int = 0


@dataclass(frozen=True, slots=True)
class PlannedOutput:
    """What goes from one ingest's output: the names of files, and patients for good."""

    output: Output
    names: tuple[str, ...]
    patients: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Plan:
    """An erasure that is to be carried out.

    Attributes:
        datasets: What goes from the data sets.
        outputs: What goes from what was ingested.
        sources: The names that the files had, below what was taken in.
    """

    datasets: tuple[PlannedDataset, ...]
    outputs: tuple[PlannedOutput, ...]
    sources: tuple[str, ...]

    @property
    def images(self) -> int:
        """How many commitments lose what they were made of."""
        return len({one for dataset in self.datasets for one in dataset.commitments})


@dataclass(frozen=True, slots=True)
class ErasedFrom:
    """What became of a version.

    Attributes:
        version: Its identifier, None where this ledger does not have it.
        images: How many were erased from it.
        correction: The version that took its place, None where there is none.
        file: The correction's private file, in the folder of data sets; None where there is none.
    """

    version: bytes | None
    images: int
    correction: bytes | None
    file: str | None


@dataclass(frozen=True, slots=True)
class _Line:
    """A file that was taken, by what stands for it, with the digests of its images in order."""

    name: str
    digests: tuple[str, ...]
    path: Path | None  # of the DICOM file


def plan_erasure(wanted: Wanted, datasets: Path, outputs: Sequence[Output]) -> Plan:
    """Find all that is kept of what is to be erased; nothing is changed.

    Args:
        wanted: What is to be erased.
        datasets: The folder of committed data sets.
        outputs: What the hospital's ingests wrote.

    Raises:
        InvalidInputError: If nothing of it is found, or a data set or an output is damaged.
    """
    for output in outputs:
        if not output.key.is_file():
            raise InvalidInputError(f"expected the key of {output.out}, found no file {output.key}")
    lines = {output: tuple(_lines(output.out)) for output in outputs}
    kept = {path: load_dataset(path) for path in sorted(datasets.glob("*.npz"))}
    digests = {path: [image_digest(image).hex() for image in kept[path].images] for path in kept}
    names = {output: _named(wanted, lines[output]) for output in outputs}
    rows: dict[Path, set[int]] = defaultdict(set)
    for path, numbers in wanted.images.items():
        for number in numbers:
            row = row_of(kept[path], number)
            for other in kept:
                rows[other] |= _same(kept, digests, path, row, other)
    for path in kept:
        for output in outputs:
            for row, name in _pairs(digests[path], lines[output]):
                if row in rows[path]:  # an image that was asked for by its number
                    names[output].add(name)
    for path in kept:
        for output in outputs:
            pairs = _pairs(digests[path], lines[output])
            rows[path] |= {row for row, name in pairs if name in names[output]}
    found = tuple(
        _planned(path, kept[path], rows[path], names) for path in sorted(rows) if rows[path]
    )
    gone = tuple(
        PlannedOutput(output, tuple(sorted(names[output])), tuple(sorted(wanted.patients)))
        for output in outputs
        if names[output]
    )
    if not found and not gone:
        raise InvalidInputError(
            "expected images to erase, found none: --patient takes a pseudonym (FW…) and --file "
            f"the id of a file in {FILES}; give every output of an ingest with --data. What was "
            "erased before is not found again"
        )
    sources = [
        name
        for one in gone
        for name in names_of(one.output.out, one.output.key, frozenset(one.names))
    ]
    return Plan(found, gone, tuple(sources))


def keep_plan(plan: Plan, folder: Path) -> Path:
    """Write a plan down, and return the file that stands for it until it is carried out.

    Raises:
        OSError: If it cannot be written.
    """
    text = canonical_json(
        {
            "datasets": [
                {
                    "file": one.file,
                    "commitments": [image.hex() for image in one.commitments],
                    "attestation": None if one.attestation is None else one.attestation.hex(),
                    "profile": one.profile,
                }
                for one in plan.datasets
            ],
            "outputs": [
                {
                    "out": str(one.output.out.resolve()),
                    "key": str(one.output.key.resolve()),
                    "names": list(one.names),
                    "patients": list(one.patients),
                }
                for one in plan.outputs
            ],
            "sources": list(plan.sources),
        }
    )
    path = private_folder(folder) / f"{hashlib.sha256(text).hexdigest()[:32]}.json"
    with replacing(path) as file:
        file.write(text)
    return path


def read_plan(path: Path) -> Plan:
    """Read a plan back.

    Raises:
        InvalidInputError: If it is damaged.
    """
    try:
        told = json.loads(path.read_bytes())
        return Plan(
            tuple(map(_read_dataset, told["datasets"])),
            tuple(map(_read_output, told["outputs"])),
            tuple(told["sources"]),
        )
    except (KeyError, TypeError, ValueError) as error:
        raise InvalidInputError(f"{path}: expected an erasure that was begun: {error}") from error


def carry_out(
    path: Path,
    datasets: Path,
    ledger: ErasureLedger,
    hospital: str,
    on_step: Callable[[str], None] = lambda _: None,
) -> tuple[ErasedFrom, ...]:
    """Erase what a plan says, or go on where that stopped, and forget the plan.

    Args:
        path: The plan's file.
        datasets: The folder of committed data sets.
        ledger: Signs as the hospital.
        hospital: Its address.
        on_step: Told what is done next, in a few words.

    Returns:
        What became of each version.

    Raises:
        InvalidInputError: If a data set is missing or damaged.
        ContractRevertedError: If the registry refuses.
        LedgerError: If the chain cannot be reached; what is done stays done.
        OSError: If a file cannot be written.
    """
    plan = read_plan(path)
    # (1) to (3) On the ledger, while everything is there to go on with.
    done = tuple(
        _erase_on_ledger(one, datasets, ledger, hospital, on_step) for one in plan.datasets
    )
    # (4) What can be shown. Before the data sets: an image of the same pixels must not be taken
    # for one whose grant is still live.
    for one in plan.outputs:
        on_step(f"deleting {len(one.names)} files")
        secret = kept_secret(one.output.key)
        gone, patients = frozenset(one.names), frozenset(one.patients)
        erase_files(one.output.out, one.output.key, secret, gone, patients)
    # (5) What links a commitment to an image.
    for dataset in plan.datasets:
        on_step(f"deleting {len(dataset.commitments)} salts and images")
        erase_images(datasets / dataset.file, frozenset(dataset.commitments))
    for left in path.parent.glob(".*.json.*"):  # of a killed process; it has the files' names
        left.unlink(missing_ok=True)
    path.unlink()
    return done


def _erase_on_ledger(
    planned: PlannedDataset,
    folder: Path,
    ledger: ErasureLedger,
    hospital: str,
    on_step: Callable[[str], None],
) -> ErasedFrom:
    dataset, gone = load_dataset(folder / planned.file), frozenset(planned.commitments)
    version = registered(dataset, ledger, hospital)
    if version is None:
        return ErasedFrom(None, len(gone), None, None)
    correction = None
    name = dataset.terms.name
    path = folder / f"{name}-after-{version.version.hex()[:16]}.npz"
    others = {dataset.commitments[place] for place in dataset.kept} - gone
    if version.state is DatasetState.ACTIVE and others:
        # (1) The version without the images.
        on_step(f"correcting {name}")
        terms = replace(
            dataset.terms,
            purposes=version.purposes,
            attestation=planned.attestation or version.attestation,
            profile=version.profile if planned.attestation is None else planned.profile,
            previous=version.version,
        )
        # (2) In its place on the ledger.
        correction = register(correct(path, dataset, gone, terms), ledger, hospital)
    elif path.exists():
        successor = registered(load_dataset(path), ledger, hospital)
        correction = None if successor is None else successor.version
    # (3) Each image, once.
    for number, image in enumerate(planned.commitments, start=1):
        on_step(f"erasing {number} of {len(planned.commitments)} from {name} on the ledger")
        try:
            ledger.erase_image(version.version, image, prove_commitment(dataset, image))
        except ContractRevertedError as error:
            if not error.name.endswith(_ALREADY):
                raise
    file = None if correction is None else path.name
    return ErasedFrom(version.version, len(gone), correction, file)


def _lines(out: Path) -> Iterator[_Line]:
    """Yield the files that an ingest took, in its order."""
    for told in taken_files(out):
        scans = [out / name for name in told["files"] if name.endswith(".dcm")]
        digests = tuple(one["digest"] for one in told["images"] if "digest" in one)
        yield _Line(told["id"], digests, scans[0] if scans else None)


def _named(wanted: Wanted, lines: Sequence[_Line]) -> set[str]:
    """Find the files that are to go, by their names or their patients."""
    names = {line.name for line in lines if line.name in wanted.files}
    if wanted.patients:
        scans = (line for line in lines if line.path is not None and line.path.is_file())
        names |= {one.name for one in scans if one.path and patient_of(one.path) in wanted.patients}
    return names


def _pairs(digests: Sequence[str], lines: Sequence[_Line]) -> list[tuple[int, str]]:
    """Tell which image of a data set came of which file, as the gateway does.

    Images with the same pixels stand in both in the order in which they were read.
    """
    waiting: dict[str, deque[int]] = defaultdict(deque)
    for row, digest in enumerate(digests):
        waiting[digest].append(row)
    return [
        (waiting[digest].popleft(), line.name)
        for line in lines
        for digest in line.digests
        if waiting[digest]
    ]


def _same(
    kept: Mapping[Path, CommittedDataset],
    digests: Mapping[Path, Sequence[str]],
    path: Path,
    row: int,
    other: Path,
) -> set[int]:
    """Find an image of one data set in another one: by its commitment, or else by its pixels."""
    commitment = kept[path].commitments[int(kept[path].kept[row])]
    for place, number in enumerate(kept[other].kept):
        if kept[other].commitments[int(number)] == commitment:
            return {place}
    before = sum(one == digests[path][row] for one in digests[path][:row])
    places = [place for place, one in enumerate(digests[other]) if one == digests[path][row]]
    return set(places[before : before + 1])


def _planned(
    path: Path, dataset: CommittedDataset, rows: set[int], names: Mapping[Output, set[str]]
) -> PlannedDataset:
    commitments = tuple(dataset.commitments[int(dataset.kept[row])] for row in sorted(rows))
    for output, gone in names.items():
        raw = (output.out / ATTESTATION).read_bytes()
        if gone and read_attestation(raw).digest() == dataset.terms.attestation:
            # The report on this very data set; the rest will have one of its own.
            rest = attestation_without(
                output.out, output.key, kept_secret(output.key), frozenset(gone)
            )
            return PlannedDataset(path.name, commitments, rest.digest(), rest.profile_bits())
    return PlannedDataset(path.name, commitments)


def _read_dataset(told: Any) -> PlannedDataset:
    attestation = told["attestation"]
    return PlannedDataset(
        told["file"],
        tuple(map(bytes.fromhex, told["commitments"])),
        None if attestation is None else bytes.fromhex(attestation),
        told["profile"],
    )


def _read_output(told: Any) -> PlannedOutput:
    output = Output(Path(told["out"]), Path(told["key"]))
    return PlannedOutput(output, tuple(told["names"]), tuple(told["patients"]))
