"""Whatever a hospital has on its disks: every file is told of, none stops the run."""

import contextlib
import gzip
import json
import os
import random
import signal
import stat
import subprocess
import sys
import warnings
from collections import Counter
from pathlib import Path
from typing import Any

import nibabel
import numpy as np
import pydicom
import pytest
from PIL import Image, PngImagePlugin

from chain.commitments import image_digest
from chain.errors import InvalidInputError
from chain.secret_file import kept_secret
from node.ingest import Choices, Ingested, IngestError, Limits, ingest
from node.journal import Entry, Journal
from tests.waiting import eventually

REAL = Path(pydicom.__file__).parent / "data" / "test_files"
NIFTI = Path(nibabel.__file__).parent / "tests" / "data"
NAME = "Quixotada"


def run(source: Path, out: Path, **limits: float) -> Ingested:
    key = out.with_name("hospital.key")
    return ingest(source, out, key, kept_secret(key), Choices(), Limits(**limits))  # type: ignore[arg-type]


def told(out: Path) -> dict[str, Entry]:
    """Return what became of each file, by its name."""
    (path,) = out.with_name("hospital.key.private").glob("*.sqlite")
    journal = Journal(path)
    found = {os.fsdecode(entry.path): entry for entry in journal.entries()}
    journal.close()
    return found


def slices(folder: Path, count: int) -> Path:
    """Write as many little slices of one patient."""
    folder.mkdir(parents=True)
    dataset = pydicom.dcmread(REAL / "MR_small.dcm")
    for number in range(count):
        dataset.SOPInstanceUID = f"1.2.3.4567.{number}"
        dataset.file_meta.MediaStorageSOPInstanceUID = dataset.SOPInstanceUID
        dataset.save_as(folder / f"{number:04d}.dcm")
    return folder


def contents(out: Path) -> dict[str, bytes]:
    return {
        path.relative_to(out).as_posix(): path.read_bytes()
        for path in sorted(out.rglob("*"))
        if path.is_file() and path.name != ".ingest"
    }


def test_broken_empty_double_hidden_and_strange_files_are_told_of_and_stop_nothing(
    tmp_path: Path,
) -> None:
    source = slices(tmp_path / "in", 1)
    good = (source / "0000.dcm").read_bytes()
    (source / "copy.dcm").write_bytes(good)
    (source / "empty.dcm").touch()
    (source / ".DS_Store").write_bytes(b"x")
    (source / "DICOMDIR").write_bytes(b"x")
    (source / "letter.pdf").write_bytes(b"%PDF-1.7" + b"x" * 200)
    (source / "cut.dcm").write_bytes(good[:-3000])
    (source / "half.dcm").write_bytes(good[:400])
    (source / "link.dcm").symlink_to("/etc/passwd")
    (source / "huge.dcm").touch()
    os.truncate(source / "huge.dcm", 3 << 30)  # of holes, which take no room
    os.mkfifo(source / "pipe.dcm")
    done = run(source, tmp_path / "out")
    reasons = {name: entry.reason for name, entry in told(tmp_path / "out").items()}
    assert reasons == {
        "0000.dcm": "",
        "copy.dcm": "duplicate",
        "empty.dcm": "empty",
        ".DS_Store": "hidden",
        "DICOMDIR": "an index of other files",
        "letter.pdf": "unknown format",
        "cut.dcm": "damaged",
        "half.dcm": reasons["half.dcm"],
        "link.dcm": "a link",
        "huge.dcm": "too large",
        "pipe.dcm": "no regular file",
    }
    assert done.report["counts"]["taken"] + done.report["counts"]["skipped"] == 11
    words = {*done.report["counts"], *done.report["reasons"]}
    assert done.report["meanings"].keys() == words
    assert len((tmp_path / "out" / "files.jsonl").read_text().splitlines()) == 11


def test_a_volume_comes_out_with_its_voxels_and_none_of_its_header(tmp_path: Path) -> None:
    source = tmp_path / "in"
    source.mkdir()
    # All but a matrix of connections, which is no volume.
    samples = {one.name for one in NIFTI.glob("*.nii*")} - {"row_major.dconn.nii"}
    for name in sorted(samples):
        image: Any = nibabel.load(NIFTI / name)
        image.header["descrip"] = f"{NAME} Dulcinea"[:79]
        extension = nibabel.nifti1.Nifti1Extension("comment", f"{NAME}, born 1947".encode())
        image.header.extensions.append(extension)
        nibabel.save(image, source / f"{NAME}_{name}")
    done = run(source, tmp_path / "out")
    assert done.report["counts"]["taken"] == len(samples) == 7
    for name, entry in told(tmp_path / "out").items():
        output = tmp_path / "out" / "files" / entry.id[:2] / f"{entry.id}.nii"
        before: Any = nibabel.load(source / name)
        after: Any = nibabel.load(output)
        assert np.array_equal(before.get_fdata(), after.get_fdata(), equal_nan=True)
        assert np.allclose(before.affine, after.affine, atol=1e-4)
        assert before.header.get_zooms() == pytest.approx(after.header.get_zooms())
        assert not after.header.extensions
    for content in contents(tmp_path / "out").values():
        assert NAME.encode() not in content


def test_a_picture_comes_out_with_its_pixels_and_none_of_its_texts(tmp_path: Path) -> None:
    source = tmp_path / "in"
    source.mkdir()
    texts = PngImagePlugin.PngInfo()
    texts.add_text("Patient", f"{NAME} Dulcinea")
    grey = np.add.outer(np.arange(48), np.arange(64)).astype(np.uint8)
    Image.fromarray(grey).save(source / "grey.png", pnginfo=texts)
    Image.fromarray(np.stack([grey, grey[::-1], grey], axis=2)).save(
        source / "colour.jpg", comment=f"{NAME} Dulcinea".encode(), quality=95
    )
    (source / "labels.csv").write_text("file,label\ngrey.png,1\ncolour.jpg,0\n")
    run(source, tmp_path / "out")
    entries = told(tmp_path / "out")
    output = tmp_path / "out" / next(iter(entries["grey.png"].result["files"]))
    assert np.array_equal(np.asarray(Image.open(output)), grey)
    assert entries["colour.jpg"].outcome == "taken"
    for content in contents(tmp_path / "out").values():
        assert NAME.encode() not in content


def test_an_archive_goes_through_part_by_part(tmp_path: Path) -> None:
    source = tmp_path / "in"
    source.mkdir()
    images = np.random.default_rng(0).integers(0, 255, (40, 28, 28), dtype=np.uint8)
    labels = np.arange(40, dtype=np.uint8).reshape(-1, 1) % 2
    np.savez(
        source / "scans.npz",
        train_images=images,
        train_labels=labels,
        test_images=images[:7],
        test_labels=labels[:7],
    )
    done = run(source, tmp_path / "out")
    assert done.report["counts"]["images"] == 47
    (entry,) = (one for one in told(tmp_path / "out").values())
    train = next(one for one in entry.result["images"] if one["part"] == "train")
    assert np.array_equal(np.load(tmp_path / "out" / train["name"]), images)


def test_arrays_have_the_digest_that_a_commitment_is_made_of(tmp_path: Path) -> None:
    run(slices(tmp_path / "in", 1), tmp_path / "out")
    (entry,) = told(tmp_path / "out").values()
    (image,) = entry.result["images"]
    assert image_digest(np.load(tmp_path / "out" / image["name"])).hex() == image["digest"]


def kill_midway(child: subprocess.Popen[bytes], out: Path) -> None:
    """Kill a run once it has written eight more files."""

    def written() -> int:
        return len(list(out.rglob("*.dcm")))

    enough = min(written() + 8, 59)
    eventually(lambda: child.poll() is not None or written() > enough)
    child.send_signal(signal.SIGKILL)
    child.wait()


def test_a_killed_run_goes_on_and_comes_to_the_same(tmp_path: Path) -> None:
    source = slices(tmp_path / "in", 60)
    key = tmp_path / "hospital.key"
    kept_secret(key)
    program = (
        "import sys; from pathlib import Path; from node.ingest import ingest\n"
        "from chain.secret_file import kept_secret\n"
        "s, o, k = map(Path, sys.argv[1:]); ingest(s, o, k, kept_secret(k))"
    )
    out = tmp_path / "killed"
    for _ in range(3):
        child = subprocess.Popen([sys.executable, "-c", program, source, out, key])
        kill_midway(child, out)
    ingest(source, out, key, kept_secret(key))
    ingest(source, tmp_path / "whole", key, kept_secret(key))
    assert contents(out) == contents(tmp_path / "whole")
    assert len(list(out.rglob("*.dcm"))) == 60


def test_what_is_new_is_taken_in_and_what_is_gone_is_deleted(tmp_path: Path) -> None:
    source = slices(tmp_path / "in", 3)
    run(source, tmp_path / "out")
    first = told(tmp_path / "out")
    (source / "0001.dcm").unlink()
    (source / "new.dcm").write_bytes((REAL / "CT_small.dcm").read_bytes())
    done = run(source, tmp_path / "out")
    assert done.report["counts"]["taken"] == 3
    assert not list((tmp_path / "out").rglob(f"{first['0001.dcm'].id}*"))


def test_a_file_that_takes_too_long_costs_its_process_and_no_more(tmp_path: Path) -> None:
    source = slices(tmp_path / "in", 3)
    slow = pydicom.dcmread(REAL / "examples_ybr_color.dcm")  # of thirty frames
    slow.save_as(source / "0001_slow.dcm")
    done = run(source, tmp_path / "out", seconds=0.15)
    assert told(tmp_path / "out")["0001_slow.dcm"].reason == "too slow"
    counts = done.report["counts"]
    assert counts["taken"] + counts["skipped"] == 4


def test_processes_that_cannot_be_started_are_no_files_fault(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sys.executable", "/bin/false")
    with pytest.raises(IngestError, match="cannot be started"):
        run(slices(tmp_path / "in", 2), tmp_path / "out")
    monkeypatch.undo()
    assert run(tmp_path / "in", tmp_path / "out").report["counts"]["taken"] == 2


def test_a_file_that_needs_too_much_memory_is_passed_over(tmp_path: Path) -> None:
    source = slices(tmp_path / "in", 1)
    with gzip.open(source / "bomb.nii.gz", "wb") as file:
        header = nibabel.Nifti1Header()  # type: ignore[no-untyped-call]
        header.set_data_dtype(np.uint8)  # type: ignore[no-untyped-call]
        header.set_data_shape((1024, 1024, 200))  # type: ignore[no-untyped-call]
        file.write(header.binaryblock + b"\0" * 4 + b"\0" * 1000)
    run(source, tmp_path / "out")
    found = told(tmp_path / "out")
    assert found["bomb.nii.gz"].outcome == "skipped"
    assert found["0000.dcm"].outcome == "taken"


def test_nobody_is_named_in_anything_but_the_list_beside_the_key(tmp_path: Path) -> None:
    source = slices(tmp_path / NAME, 1)
    (source / f"{NAME}.dcm").write_bytes(b"x" * 200)
    done = run(source, tmp_path / "out")
    assert NAME in done.private.read_text()
    assert stat.S_IMODE(done.private.stat().st_mode) == 0o600
    assert stat.S_IMODE(done.private.parent.stat().st_mode) == 0o700
    assert NAME not in json.dumps(done.report)
    for name, content in contents(tmp_path / "out").items():
        assert NAME.encode() not in content
        assert NAME not in name


def test_an_output_belongs_to_one_source(tmp_path: Path) -> None:
    run(slices(tmp_path / NAME, 1), tmp_path / "out")
    with pytest.raises(InvalidInputError, match="one of something else") as refusal:
        run(slices(tmp_path / "other", 1), tmp_path / "out")
    assert NAME not in str(refusal.value)
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "mine.txt").touch()
    with pytest.raises(InvalidInputError, match="expected an empty folder"):
        run(tmp_path / "other", tmp_path / "full")
    with pytest.raises(InvalidInputError, match="one in the other"):
        run(tmp_path / "other", tmp_path / "other" / "out")
    with pytest.raises(InvalidInputError, match="found nothing there") as refusal:
        run(tmp_path / f"{NAME} missing", tmp_path / "out")
    assert NAME not in str(refusal.value)


def test_an_output_belongs_to_one_key(tmp_path: Path) -> None:
    run(slices(tmp_path / "in", 1), tmp_path / "out")
    other = tmp_path / "other.key"
    before = contents(tmp_path / "out")
    with pytest.raises(InvalidInputError, match="expected the key that this folder was begun with"):
        ingest(tmp_path / "in", tmp_path / "out", other, kept_secret(other))
    assert contents(tmp_path / "out") == before


def test_a_key_file_is_made_once_and_refused_where_others_can_read_it(tmp_path: Path) -> None:
    key = tmp_path / "keys" / "hospital.key"
    made = kept_secret(key)
    assert len(made) == 32
    assert kept_secret(key) == made
    assert stat.S_IMODE(key.stat().st_mode) == 0o600
    key.chmod(0o640)
    with pytest.raises(InvalidInputError, match=r"mode 0600\), found mode 0640"):
        kept_secret(key)
    written = tmp_path / "hexadecimal"
    written.write_text(made.hex() + "\n")
    written.chmod(0o600)
    assert kept_secret(written) == made
    written.write_text("a password")
    with pytest.raises(InvalidInputError, match="expected a key of 32 bytes") as refusal:
        kept_secret(written)
    assert "password" not in str(refusal.value)


MUTANTS = int(os.environ.get("FEDWITNESS_MUTANTS", "2000"))
SEED = int(os.environ.get("FEDWITNESS_MUTANTS_SEED", "7"))
LARGEST = 41_000  # bytes of a file that is worth damaging often


def of_somebody(folder: Path) -> list[bytes]:
    """Return every small file of pydicom's that can be written again, with a name in it."""
    found = []
    for path in sorted(REAL.parent.rglob("*.dcm")):
        if path.stat().st_size > LARGEST:
            continue
        with warnings.catch_warnings(), contextlib.suppress(Exception):
            warnings.simplefilter("ignore")
            dataset = pydicom.dcmread(path)
            dataset.PatientName = f"{NAME}^Dulcinea"
            dataset.InstitutionName = f"{NAME} Hospital"
            dataset.save_as(folder / path.name)
            found.append((folder / path.name).read_bytes())
    return found


def test_thousands_of_damaged_files_neither_crash_nor_hang_nor_name_anybody(
    tmp_path: Path, capfd: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture
) -> None:
    source = tmp_path / "in"
    source.mkdir()
    rng = random.Random(SEED)  # noqa: S311 - the same damage in every run
    originals = of_somebody(tmp_path)
    assert len(originals) > 70
    for number in range(MUTANTS):
        raw = bytearray(rng.choice(originals))
        for _ in range(rng.randint(1, 12)):
            if len(raw) < 64:
                break
            at = rng.randrange(min(len(raw), 4000))
            match rng.randrange(4):
                case 0:
                    raw[at] = rng.randrange(256)
                case 1:
                    raw[at : at + 4] = rng.randbytes(4)
                case 2:
                    del raw[at : at + rng.randrange(64)]
                case _:
                    raw = raw[: max(200, at)] if rng.random() < 0.2 else raw
        (source / f"{number:05d}.dcm").write_bytes(raw)
    done = run(source, tmp_path / "out", seconds=60.0)
    counts = done.report["counts"]
    assert counts["taken"] + counts["skipped"] + counts["held"] == MUTANTS
    assert counts["taken"] > MUTANTS // 10
    reasons = Counter(entry.reason for entry in told(tmp_path / "out").values())
    assert reasons.keys() <= {
        *("", "damaged", "duplicate", "unknown format", "leak scan", "text in the pixels"),
        *("no decoder", "too large", "an encapsulated document", "a video", "empty"),
        *("an index of other files", "its process ended"),
    }, reasons
    # GDCM ends its process on some damaged JPEG, which costs that process and no other file.
    assert reasons["its process ended"] <= MUTANTS // 50, reasons
    lines = (tmp_path / "out" / "files.jsonl").read_text().splitlines()
    kept = {name for line in lines for name in json.loads(line).get("files", ())}
    assert kept == {name for name in contents(tmp_path / "out") if "/" in name}
    # Where damage has turned a name into another attribute nobody can tell that it is one; but no
    # report, list or message tells it.
    for name in ("report.json", "files.jsonl", "attestation.json"):
        assert NAME.lower() not in (tmp_path / "out" / name).read_text().lower()
    printed = capfd.readouterr()
    assert NAME.lower() not in (printed.out + printed.err).lower()
    assert NAME.lower() not in caplog.text.lower()
    print(f"{MUTANTS} files damaged from {len(originals)}, seed {SEED}: {dict(reasons)}")  # noqa: T201 - for -rP
