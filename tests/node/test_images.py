"""Images come out of an ingest as they went in, and nothing else comes out."""

import json
import struct
import zipfile
from dataclasses import replace
from pathlib import Path

import numpy as np
import pydicom
import pytest
from pydicom.dataset import FileDataset

from chain.digests import sha256
from chain.errors import InvalidInputError
from chain.secret_file import kept_secret
from node.attestation import read_attestation
from node.images import NO_LABEL, ImageSet, read_ingested, read_npz
from node.ingest import ingest

REAL_FILES = Path(pydicom.__file__).parent / "data" / "test_files"


def write_npz(path: Path, **arrays: np.ndarray) -> Path:
    np.savez_compressed(path, **arrays)  # type: ignore[arg-type]
    return path


def images(n: int = 4, side: int = 28) -> np.ndarray:
    return np.arange(n * side * side, dtype=np.uint8).reshape(n, side, side)


def scan(number: int) -> FileDataset:
    dataset = pydicom.dcmread(REAL_FILES / "MR_small.dcm")
    dataset.SOPInstanceUID = f"1.2.3.4567.{number}"
    dataset.file_meta.MediaStorageSOPInstanceUID = dataset.SOPInstanceUID
    dataset.PatientName = "Quixote^Alonso"
    return dataset


def hospital_folder(folder: Path, *datasets: FileDataset, key: str = "file") -> Path:
    (folder / "series").mkdir(parents=True)
    rows = [f"{key},label"]
    for number, dataset in enumerate(datasets):
        dataset.save_as(folder / "series" / f"{number}.dcm", enforce_file_format=True)
        name = f"series/{number}.dcm" if key == "file" else dataset.SOPInstanceUID
        rows.append(f"{name},{number % 2}")
    (folder / "labels.csv").write_text("\n".join(rows) + "\n")
    return folder


def read(folder: Path) -> ImageSet:
    """Take a folder in, and read what came of it."""
    key = folder.with_suffix(".key")
    out = folder.with_suffix(".out")
    ingest(folder, out, key, kept_secret(key))
    return read_ingested(out, key)


def test_a_folder_of_real_files_is_read_with_its_labels(tmp_path: Path) -> None:
    found = read(hospital_folder(tmp_path / "in", scan(0), scan(1), scan(2)))
    assert found.images.shape == (3, 64, 64)
    assert found.images.dtype == np.float32
    assert found.labels.tolist() == [0, 1, 0]
    assert found.modality == "MR"
    assert found.attestation.counts["taken"] == 3
    assert np.array_equal(found.images[0], scan(0).pixel_array.astype(np.float32))


def test_labels_may_go_by_instance(tmp_path: Path) -> None:
    folder = hospital_folder(tmp_path / "in", scan(0), scan(1), key="SOPInstanceUID")
    assert read(folder).labels.tolist() == [0, 1]


def test_inverted_images_are_turned_so_that_brighter_is_more(tmp_path: Path) -> None:
    inverted = scan(0)
    inverted.PhotometricInterpretation = "MONOCHROME1"
    found = read(hospital_folder(tmp_path / "in", scan(1), inverted))
    assert np.array_equal(found.images[1], found.images[0].max() - found.images[0])


def test_an_image_without_a_label_is_refused_without_its_name(tmp_path: Path) -> None:
    folder = hospital_folder(tmp_path / "in", scan(0))
    (folder / "series" / "0.dcm").rename(folder / "series" / "Quixote.dcm")
    with pytest.raises(InvalidInputError, match=r"there is no label") as refusal:
        read(folder)
    assert "Quixote" not in str(refusal.value)


def test_without_any_label_images_are_read_and_it_is_told(tmp_path: Path) -> None:
    folder = hospital_folder(tmp_path / "in", scan(0), scan(1))
    (folder / "labels.csv").unlink()
    found = read(folder)
    assert found.labels.tolist() == [NO_LABEL, NO_LABEL]
    assert "no round learns from them" in found.notes[0]


def test_a_table_of_labels_that_fits_no_image_is_no_absent_one(tmp_path: Path) -> None:
    folder = hospital_folder(tmp_path / "in", scan(0))
    (folder / "labels.csv").write_text("file,label\nelsewhere.dcm,1\n")
    with pytest.raises(InvalidInputError, match=r"there is no label"):
        read(folder)


@pytest.mark.parametrize(
    "table",
    [
        "",
        "name,label\n",
        "file,label\nx,-1\n",
        "file,label\nx,1.5\n",
        "file,label\nx\n",
        "file,label\nx,1\nx,1\n",
        "file,label\nx,\u0663\n",
        'file,label\n"x,1\n',
    ],
)
def test_a_damaged_table_is_refused(tmp_path: Path, table: str) -> None:
    folder = hospital_folder(tmp_path / "in", scan(0))
    (folder / "labels.csv").write_text(table)
    with pytest.raises(InvalidInputError, match=r"labels\.csv"):
        read(folder)


def test_two_sizes_in_one_folder_are_refused(tmp_path: Path) -> None:
    small = scan(1)
    small.Rows = small.Columns = 32
    small.PixelData = scan(1).pixel_array[:32, :32].tobytes()
    with pytest.raises(InvalidInputError, match="one modality, size"):
        read(hospital_folder(tmp_path / "in", scan(0), small))


def test_a_file_that_was_changed_after_the_ingest_is_refused(tmp_path: Path) -> None:
    folder = hospital_folder(tmp_path / "in", scan(0))
    read(folder)
    out, key = folder.with_suffix(".out"), folder.with_suffix(".key")
    (changed,) = (out / "files").rglob("*.dcm")
    changed.write_bytes(changed.read_bytes().replace(b"FW", b"QX"))
    with pytest.raises(InvalidInputError, match="expected the file that the ingest wrote"):
        read_ingested(out, key)


def test_a_list_that_was_changed_after_the_ingest_is_refused(tmp_path: Path) -> None:
    folder = hospital_folder(tmp_path / "in", scan(0))
    read(folder)
    out, key = folder.with_suffix(".out"), folder.with_suffix(".key")
    listed = out / "files.jsonl"
    listed.write_bytes(listed.read_bytes().replace(b'"label":0', b'"label":1'))
    with pytest.raises(InvalidInputError, match="list of files that is attested"):
        read_ingested(out, key)


def test_identity_in_the_output_is_refused_even_where_everything_is_listed(tmp_path: Path) -> None:
    folder = hospital_folder(tmp_path / "in", scan(0))
    read(folder)
    out, key = folder.with_suffix(".out"), folder.with_suffix(".key")
    (changed,) = (out / "files").rglob("*.dcm")
    leaking = pydicom.dcmread(changed)
    leaking.SeriesDescription = "for QUIXOTE"
    leaking.save_as(changed)
    listed = (out / "files.jsonl").read_text().splitlines()
    told = json.loads(listed[-1])
    told["files"][f"files/{changed.parent.name}/{changed.name}"] = sha256(
        changed.read_bytes()
    ).hex()
    listed[-1] = json.dumps(told)
    (out / "files.jsonl").write_text("\n".join(listed) + "\n")
    attested = read_attestation((out / "attestation.json").read_bytes())
    forged = replace(attested, output=sha256((out / "files.jsonl").read_bytes()))
    (out / "attestation.json").write_bytes(forged.to_bytes())
    with pytest.raises(InvalidInputError, match="leak scan found identity") as refusal:
        read_ingested(out, key)
    assert "QUIXOTE" not in str(refusal.value)


def test_an_output_is_not_read_without_its_journal(tmp_path: Path) -> None:
    folder = hospital_folder(tmp_path / "in", scan(0))
    read(folder)
    other = tmp_path / "other.key"
    with pytest.raises(InvalidInputError, match="expected the journal"):
        read_ingested(folder.with_suffix(".out"), other)


def test_an_archive_is_read_part_by_part(tmp_path: Path) -> None:
    path = write_npz(
        tmp_path / "a.npz",
        train_images=images(4),
        train_labels=np.array([[0], [1], [1], [0]], dtype=np.uint8),
        test_images=images(2),
        test_labels=np.array([1, 0]),
    )
    train: ImageSet = read_npz(path, "train")
    assert np.array_equal(train.images, images(4))
    assert train.labels.tolist() == [0, 1, 1, 0]
    assert train.labels.dtype == np.int64
    assert train.sources[3] == "train_images[3]"
    assert "not an official MedMNIST archive" in train.notes[0]
    assert read_npz(path, "test").labels.tolist() == [1, 0]
    with pytest.raises(InvalidInputError, match="val_images"):
        read_npz(path, "val")
    with pytest.raises(InvalidInputError, match="one of the parts train, val, test"):
        read_npz(path, "all")


@pytest.mark.parametrize(
    ("pixels", "labels", "told"),
    [
        (np.zeros((2, 28, 5000), np.uint8), np.zeros(2, np.uint8), "sides of 1 to 4096"),
        (np.zeros((0, 28, 28), np.uint8), np.zeros(0, np.uint8), "images of shape"),
        (np.zeros((2, 28, 28), np.uint8), np.zeros(3, np.uint8), "one whole number as label"),
        (np.zeros((2, 28, 28), np.uint8), np.zeros(2), "one whole number as label"),
        (np.zeros((2, 28, 28), np.uint8), np.array([0, -1]), "labels from 0"),
        (np.full((2, 28, 28), np.nan), np.array([0, 1]), "finite images"),
        (np.array([[["a"]], [["b"]]]), np.array([0, 1]), "expected numbers"),
    ],
)
def test_arrays_of_another_form_are_refused(
    tmp_path: Path, pixels: np.ndarray, labels: np.ndarray, told: str
) -> None:
    path = write_npz(tmp_path / "a.npz", train_images=pixels, train_labels=labels)
    with pytest.raises(InvalidInputError, match=told):
        read_npz(path, "train")


def test_pickled_objects_are_refused_and_not_run(tmp_path: Path) -> None:
    path = tmp_path / "a.npz"
    np.savez(path, train_images=np.array([print], dtype=object), train_labels=np.array([1]))
    with pytest.raises(InvalidInputError, match="expected numbers"):
        read_npz(path, "train")


def npy_header(shape: tuple[int, ...]) -> bytes:
    text = f"{{'descr': '|u1', 'fortran_order': False, 'shape': {shape}, }}".encode()
    text += b" " * (-(len(text) + 11) % 64) + b"\n"
    return b"\x93NUMPY\x01\x00" + struct.pack("<H", len(text)) + text


def test_an_array_that_claims_to_be_larger_than_its_member_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "a.npz"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("train_images.npy", npy_header((1 << 20, 28, 28)) + b"\0" * 100)
        archive.writestr("train_labels.npy", npy_header((1 << 20,)) + b"\0" * 100)
    with pytest.raises(InvalidInputError, match="fill the member"):
        read_npz(path, "train")


def test_a_zip_bomb_is_refused_by_its_directory(tmp_path: Path) -> None:
    path = tmp_path / "a.npz"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("train_images.npy", b"\0" * 100)
    raw = path.read_bytes()
    directory = raw.rindex(b"PK\x01\x02")
    bomb = raw[: directory + 24] + struct.pack("<I", 0xF0000000) + raw[directory + 28 :]
    path.write_bytes(bomb)
    with pytest.raises(InvalidInputError, match="at most 2147483648 bytes in all"):
        read_npz(path, "train")


def test_an_archive_with_anything_else_in_it_is_refused(tmp_path: Path) -> None:
    path = write_npz(tmp_path / "a.npz", train_images=images(), secrets=images())
    with pytest.raises(InvalidInputError, match="each at most once"):
        read_npz(path, "train")


@pytest.mark.parametrize("raw", [b"", b"PK\x03\x04", b"not a zip file at all"])
def test_what_is_no_archive_is_refused(tmp_path: Path, raw: bytes) -> None:
    path = tmp_path / "a.npz"
    path.write_bytes(raw)
    with pytest.raises(InvalidInputError, match=r"a\.npz: the archive is damaged"):
        read_npz(path, "train")


def test_flipped_bytes_in_an_archive_are_noticed(tmp_path: Path) -> None:
    path = write_npz(tmp_path / "a.npz", train_images=images(), train_labels=np.zeros(4, np.uint8))
    raw = bytearray(path.read_bytes())
    raw[raw.index(b"train_images.npy") + 60] ^= 0xFF
    path.write_bytes(raw)
    with pytest.raises(InvalidInputError, match=r"a\.npz"):
        read_npz(path, "train")


def test_a_missing_path_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InvalidInputError, match=r"found none"):
        read_npz(tmp_path / "nothing", "train")
