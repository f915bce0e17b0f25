"""A patient withdraws: what was kept of the images goes, wherever it is, and stays gone."""

import copy
import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pydicom
import pytest
from pydicom.uid import generate_uid

from chain.errors import InvalidInputError
from chain.merkle import image_leaf, verify_inclusion
from chain.secret_file import kept_secret
from chain.types import DatasetState
from node.dataset import commit_images, erase_images, load_dataset, prove_image, register
from node.erasing import (
    ErasedFrom,
    Output,
    Wanted,
    carry_out,
    keep_plan,
    plan_erasure,
    read_plan,
)
from node.gateway.catalogue import Catalogue
from node.images import read_ingested
from node.ingest import Ingested, attestation_without, ingest
from node.pseudonyms import Pseudonyms
from tests.node.registry import HOSPITAL, Registry

SOURCE = Path(pydicom.__file__).parent / "data" / "test_files" / "MR_small.dcm"
PATIENTS, SLICES = 3, 2


class KilledError(BaseException):
    """Ends a run as kill -9 does: nobody catches it."""


class Room:
    """A hospital's data room: three patients with two slices each, ingested and registered."""

    def __init__(self, folder: Path, patients: int = PATIENTS) -> None:
        self._lie_in(folder)
        self.registry = Registry()
        _scans(self.source, patients)
        self.datasets.mkdir()
        self.ingest()
        images = read_ingested(self.out, self.key)
        dataset = commit_images(self.datasets / "heads.npz", "heads", images, frozenset({6}))
        self.version = register(dataset, self.registry, HOSPITAL)

    def copied(self, folder: Path) -> "Room":
        shutil.copytree(self.folder, folder)
        room = copy.copy(self)
        room._lie_in(folder)
        room.registry = copy.deepcopy(self.registry)
        return room

    def _lie_in(self, folder: Path) -> None:
        self.folder, self.source = folder, folder / "in"
        self.out, self.key = folder / "out", folder / "hospital.key"
        self.datasets, self.plans = folder / "datasets", folder / "erasures"

    def ingest(self) -> Ingested:
        return ingest(self.source, self.out, self.key, kept_secret(self.key))

    def pseudonym(self, patient: int) -> str:
        return Pseudonyms(kept_secret(self.key)).patient(f"P{patient}")

    @property
    def outputs(self) -> tuple[Output, ...]:
        return (Output(self.out, self.key),)

    def plan(self, wanted: Wanted) -> Path:
        return keep_plan(plan_erasure(wanted, self.datasets, self.outputs), self.plans)

    def erase(
        self, wanted: Wanted, on_step: Callable[[str], None] = lambda _: None
    ) -> tuple[ErasedFrom, ...]:
        return self.carry_out(self.plan(wanted), on_step)

    def carry_out(
        self, plan: Path, on_step: Callable[[str], None] = lambda _: None
    ) -> tuple[ErasedFrom, ...]:
        return carry_out(plan, self.datasets, self.registry, HOSPITAL, on_step)

    def bytes_of(self, *names: str) -> bytes:
        """Everything that the hospital's own folders hold, but what was taken in."""
        paths = [path for name in names for path in (self.folder / name).rglob("*")]
        return b"".join(path.read_bytes() for path in sorted(paths) if path.is_file())


def _scans(folder: Path, patients: int) -> None:
    folder.mkdir()
    rows = ["file,label"]
    for patient in range(patients):
        study = generate_uid()
        for number in range(SLICES):
            scan = pydicom.dcmread(SOURCE)
            scan.PatientID = f"P{patient}"
            scan.PatientName = f"Quixotada{patient}^Dulcinea"
            scan.StudyInstanceUID = study
            scan.SOPInstanceUID = scan.file_meta.MediaStorageSOPInstanceUID = generate_uid()
            shifted = np.roll(scan.pixel_array, 5 * patient + number, axis=0)
            scan.PixelData = shifted.tobytes()
            name = f"Quixotada{patient}-{number}.dcm"
            scan.save_as(folder / name)
            rows.append(f"{name},{patient % 2}")
    (folder / "labels.csv").write_text("\n".join(rows) + "\n")


@pytest.fixture(scope="module")
def original(tmp_path_factory: pytest.TempPathFactory) -> Room:
    """A room that no test changes."""
    return Room(tmp_path_factory.mktemp("original"))


@pytest.fixture
def room(original: Room, tmp_path: Path) -> Room:
    """A copy of it. What is copied cannot be ingested again: that goes by where it lies."""
    return original.copied(tmp_path / "room")


def of_patient(room: Room, patient: int) -> Wanted:
    return Wanted(patients=frozenset({room.pseudonym(patient)}))


def test_all_images_of_a_patient_go_and_the_others_stay_as_they_were(room: Room) -> None:
    before = load_dataset(room.datasets / "heads.npz")
    places = {2, 3}  # in the order of the files' names
    secrets = [before.salts[place].tobytes() for place in places]
    pixels = [before.images[place].tobytes() for place in places]
    held = room.bytes_of("out", "datasets", "hospital.key.private")
    for one in (*secrets, *pixels, b"Quixotada1", room.pseudonym(1).encode()):
        assert one in held
    (told,) = room.erase(of_patient(room, 1))

    # On the ledger: superseded by one without the images, which were erased one by one.
    old, new = room.registry.versions.values()
    assert (told.version, told.images, told.correction) == (old.version, 2, new.version)
    assert (old.state, new.state) == (DatasetState.SUPERSEDED, DatasetState.ACTIVE)
    assert (new.previous, new.images, new.purposes) == (old.version, 4, old.purposes)
    gone = {before.commitments[place] for place in places}
    assert set(room.registry.erased) == {(old.version, one) for one in gone}

    # Here: nothing is left of them, under no name and in no leftover.
    held = room.bytes_of("out", "datasets", "hospital.key.private", "erasures")
    for one in (*secrets, *pixels, b"Quixotada1"):
        assert one not in held
    assert b"Quixotada0" in held
    # Beside the key it stays known whom nothing is taken in of any more.
    assert room.pseudonym(1).encode() not in room.bytes_of("out", "datasets", "erasures")

    # The others are proved as before, in the old version and in the new one.
    rest = load_dataset(room.datasets / "heads.npz")
    (path,) = (one for one in room.datasets.glob("*.npz") if one.name != "heads.npz")
    corrected = load_dataset(path)
    assert corrected.commitments == tuple(
        one for place, one in enumerate(before.commitments) if place not in places
    )
    for number, place in enumerate(sorted(set(range(6)) - places)):
        assert prove_image(rest, place) == prove_image(before, place)
        again = prove_image(corrected, number)
        assert (again.salt, again.commitment) == (
            prove_image(before, place).salt,
            before.commitments[place],
        )
        verify_inclusion(new.merkle_root, image_leaf(again.commitment), again.proof)
    for place in places:
        with pytest.raises(InvalidInputError, match="image that is kept"):
            prove_image(rest, place)


def test_what_is_attested_of_the_rest_stands_with_the_correction(tmp_path: Path) -> None:
    room = Room(tmp_path)
    room.erase(of_patient(room, 0))
    new = list(room.registry.versions.values())[-1]
    assert read_ingested(room.out, room.key).attestation.digest() == new.attestation
    lines = [json.loads(one) for one in (room.out / "files.jsonl").read_text().splitlines()]
    assert [one["outcome"] for one in lines] == ["taken"] * 4 + ["skipped"]
    assert room.ingest().attestation.digest() != new.attestation  # which tells what was refused


def test_an_erased_patient_is_not_taken_in_again(tmp_path: Path) -> None:
    room = Room(tmp_path)
    room.erase(of_patient(room, 1))
    shutil.copy(room.source / "Quixotada1-0.dcm", room.source / "another-name.dcm")
    scan = pydicom.dcmread(room.source / "Quixotada1-1.dcm")
    scan.SOPInstanceUID = scan.file_meta.MediaStorageSOPInstanceUID = generate_uid()
    scan.save_as(room.source / "a-new-scan.dcm")
    report = room.ingest().report
    assert (report["counts"]["taken"], report["reasons"]["skipped: erased"]) == (4, 4)
    assert room.pseudonym(1).encode() not in room.bytes_of("out")
    assert len(read_ingested(room.out, room.key).labels) == 4


@pytest.mark.parametrize("step", range(8))
def test_killed_at_any_point_it_is_gone_on_with(room: Room, step: int) -> None:
    before = load_dataset(room.datasets / "heads.npz")
    count = 0

    def kill(_: str) -> None:
        nonlocal count
        count += 1
        if count > step:
            raise KilledError

    plan = room.plan(of_patient(room, 2))
    try:
        room.carry_out(plan, kill)
    except KilledError:
        assert plan.exists()
        (told,) = room.carry_out(plan)
        assert told.correction is not None
    assert len(room.registry.versions) == 2
    assert len(room.registry.erased) == 2
    assert sorted(load_dataset(room.datasets / "heads.npz").kept) == [0, 1, 2, 3]
    assert before.salts[4].tobytes() not in room.bytes_of("datasets", "erasures", "out")
    assert list(room.plans.iterdir()) == []
    read_ingested(room.out, room.key)


def test_what_was_revoked_while_an_erasure_was_interrupted_stays_revoked(
    room: Room, monkeypatch: pytest.MonkeyPatch
) -> None:
    def killed(*_: object) -> None:
        raise KilledError

    plan = room.plan(of_patient(room, 2))
    with monkeypatch.context() as patched:
        patched.setattr(room.registry, "register_version", killed)
        with pytest.raises(KilledError):
            room.carry_out(plan)
    version = room.registry.versions[room.version]
    room.registry.versions[room.version] = replace(version, purposes=frozenset())
    (told,) = room.carry_out(plan)
    assert told.correction is not None
    assert room.registry.versions[told.correction].purposes == frozenset()


def test_an_unfinished_step_on_disk_is_done_again(
    room: Room, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Killed behind each write: after files are deleted, and before their list is written."""
    plan = room.plan(of_patient(room, 0))

    def killed(*_: object) -> None:
        raise KilledError

    for name in ("_finish", "_take_back"):
        with monkeypatch.context() as patched:
            patched.setattr(f"node.ingest.{name}", killed)
            with pytest.raises(KilledError):
                room.carry_out(plan)
    with monkeypatch.context() as patched:
        patched.setattr("node.dataset._save", killed)
        with pytest.raises(KilledError):
            room.carry_out(plan)
    room.carry_out(plan)
    assert len(read_ingested(room.out, room.key).labels) == 4
    assert load_dataset(room.datasets / "heads.npz").kept.tolist() == [2, 3, 4, 5]


def test_nothing_is_shown_that_was_erased(room: Room) -> None:
    def catalogue() -> Catalogue:
        return Catalogue([room.out], room.datasets, room.registry.dataset_versions)

    running = catalogue()
    assert len(running.instances()) == 6
    room.erase(of_patient(room, 1))
    for found in (running, catalogue()):
        shown = found.instances()
        assert len(shown) == 4
        told = {header["00100020"]["Value"][0] for header in (one.attributes for one in shown)}
        assert told == {room.pseudonym(0), room.pseudonym(2)}
        assert {holding.version for one in shown for holding in one.holdings} == set(
            room.registry.versions
        )


def test_a_data_set_of_which_nothing_would_be_left_is_withdrawn(tmp_path: Path) -> None:
    room = Room(tmp_path, patients=1)
    (told,) = room.erase(of_patient(room, 0))
    assert (told.images, told.correction) == (2, None)
    (version,) = room.registry.versions.values()
    assert version.state is DatasetState.WITHDRAWN
    assert load_dataset(room.datasets / "heads.npz").kept.tolist() == []


def test_one_image_goes_from_every_version_that_it_is_in(room: Room) -> None:
    dataset = load_dataset(room.datasets / "heads.npz")
    again = replace(read_ingested(room.out, room.key))
    path = room.datasets / "again.npz"
    newer = commit_images(path, "heads", again, frozenset({6}), previous=room.version)
    second = register(newer, room.registry, HOSPITAL)
    told = room.erase(Wanted(images={path: frozenset({3})}))
    assert {one.version: one.correction is not None for one in told} == {
        room.version: False,
        second: True,
    }
    assert set(room.registry.erased) == {
        (room.version, dataset.commitments[3]),
        (second, newer.commitments[3]),
    }
    assert not list((room.out / "files").rglob("Quixotada1-1*"))
    assert len(read_ingested(room.out, room.key).labels) == 5


def test_an_image_is_told_from_one_with_the_same_pixels(tmp_path: Path) -> None:
    """Two patients' empty slices: only that of the patient who withdrew goes."""
    room = Room(tmp_path)
    for patient in (0, 1):
        scan = pydicom.dcmread(room.source / f"Quixotada{patient}-0.dcm")
        scan.PixelData = bytes(len(scan.PixelData))
        scan.save_as(room.source / f"Quixotada{patient}-0.dcm")
    room.ingest()
    path = room.datasets / "empty.npz"
    images = read_ingested(room.out, room.key)
    newer = commit_images(path, "empty", images, frozenset({6}))
    version = register(newer, room.registry, HOSPITAL)
    room.erase(of_patient(room, 1))
    erased = {image for which, image in room.registry.erased if which == version}
    assert erased == {newer.commitments[2], newer.commitments[3]}


def test_only_what_is_there_is_planned(room: Room) -> None:
    for wanted in (
        Wanted(),
        Wanted(patients=frozenset({"FWNOBODY"})),
        Wanted(files=frozenset({"00" * 16})),
    ):
        with pytest.raises(InvalidInputError, match="expected images to erase, found none"):
            room.plan(wanted)
    with pytest.raises(InvalidInputError, match="found 9"):
        room.plan(Wanted(images={room.datasets / "heads.npz": frozenset({9})}))
    elsewhere = (Output(room.out, room.folder / "other.key"),)
    with pytest.raises(InvalidInputError, match=r"other\.key"):
        plan_erasure(of_patient(room, 0), room.datasets, elsewhere)
    assert not (room.folder / "other.key").exists()
    assert not room.plans.exists()


def test_a_plan_is_read_back_as_it_was_and_a_damaged_one_is_refused(room: Room) -> None:
    plan = plan_erasure(of_patient(room, 1), room.datasets, room.outputs)
    path = keep_plan(plan, room.plans)
    assert read_plan(path) == replace(
        plan,
        outputs=tuple(
            replace(one, output=Output(room.out.resolve(), room.key.resolve()))
            for one in plan.outputs
        ),
    )
    assert path.stat().st_mode & 0o777 == 0o600
    assert plan.sources == ("Quixotada1-0.dcm", "Quixotada1-1.dcm")
    path.write_bytes(b"{}")
    with pytest.raises(InvalidInputError, match="erasure that was begun"):
        room.carry_out(path)


def test_leftovers_of_killed_writers_go_too(room: Room) -> None:
    left = room.datasets / ".heads.npz.abc123"
    shutil.copy(room.datasets / "heads.npz", left)
    path = room.datasets / "heads.npz"
    erase_images(path, {load_dataset(path).commitments[0]})
    assert not left.exists()


def test_lists_that_killed_processes_left_half_written_name_the_patient_no_more(
    room: Room,
) -> None:
    (private,) = room.folder.glob("*.private/*.csv")
    plan = room.plan(of_patient(room, 0))
    lists = (private, room.out / "files.jsonl", plan)
    for path in lists:
        shutil.copy(path, path.with_name(f".{path.name}.abc123"))
    room.carry_out(plan)
    assert [path.name for path in room.folder.rglob(".*.abc123")] == []
    assert b"Quixotada0" not in room.bytes_of("hospital.key.private", "out", "erasures")
    assert b"Quixotada1" in room.bytes_of("hospital.key.private")


def test_an_attestation_without_files_is_that_of_the_rest(room: Room) -> None:
    lines = [json.loads(one) for one in (room.out / "files.jsonl").read_text().splitlines()]
    gone = frozenset({lines[0]["id"]})
    secret = kept_secret(room.key)
    expected = attestation_without(room.out, room.key, secret, gone)
    room.erase(Wanted(files=gone))
    assert read_ingested(room.out, room.key).attestation == expected
