"""`fedwitness hospital ingest` alone, and what registers its output."""

from pathlib import Path

import numpy as np
import pydicom
import pytest

from tests.cli.conftest import Party, invoke

REAL = Path(pydicom.__file__).parent / "data" / "test_files"


@pytest.fixture
def scans(tmp_path: Path) -> Path:
    """A folder of four slices with labels, of a patient with a name."""
    folder = tmp_path / "scans"
    folder.mkdir()
    dataset = pydicom.dcmread(REAL / "MR_small.dcm")
    rows = ["file,label"]
    for number in range(4):
        dataset.PatientName = "Quixotada^Dulcinea"
        dataset.SOPInstanceUID = f"1.2.3.4567.{number}"
        dataset.save_as(folder / f"{number}.dcm")
        rows.append(f"{number}.dcm,{number % 2}")
    (folder / "labels.csv").write_text("\n".join(rows))
    return folder


def test_ingest_works_alone_and_makes_its_key(scans: Path, tmp_path: Path) -> None:
    out, key = tmp_path / "out", tmp_path / "hospital.key"
    code, told = invoke("hospital", "ingest", str(scans), "--out", str(out), "--key", str(key))
    assert code == 0, told
    assert (told["taken"], told["skipped"], told["held"], told["images"]) == (4, 1, 0, 4)
    assert told["methods"] == ["113100", "113101", "113104", "113105", "113107", "113111"]
    assert key.stat().st_mode & 0o777 == 0o600
    assert "Quixotada" not in str(told)
    assert len(list(out.rglob("*.dcm"))) == len(list(out.rglob("*.npy"))) == 4


def test_an_open_key_file_is_refused_in_words(scans: Path, tmp_path: Path) -> None:
    key = tmp_path / "hospital.key"
    key.write_bytes(bytes(32))
    key.chmod(0o644)
    out = tmp_path / "out"
    code, told = invoke("hospital", "ingest", str(scans), "--out", str(out), "--key", str(key))
    assert code == 2
    assert "chmod 600" in told["error"]["message"]
    assert not out.exists()


def test_what_was_ingested_is_registered_with_its_attestation(
    hospital: Party, scans: Path, tmp_path: Path
) -> None:
    out, key = str(tmp_path / "out"), str(tmp_path / "hospital.key")
    code, told = invoke("hospital", "ingest", str(scans), "--out", out, "--key", key)
    assert code == 0, told
    words = ("hospital", "register", "--data", out, "--name", "head")
    code, refused = hospital.run(*words)
    assert code == 2
    assert "expected the journal" in refused["error"]["message"]
    code, registered = hospital.run(*words, "--ingest-key", key)
    assert code == 0, registered
    version = hospital.federation.reader.dataset_version(bytes.fromhex(registered["version"][2:]))
    assert version.images == 4
    assert version.profile == 0b1000_1011_0011
    assert version.attestation.hex() == told["attestation"]


def test_what_a_keystore_ingested_is_found_again_by_naming_the_keystore(
    hospital: Party, scans: Path, tmp_path: Path
) -> None:
    out, key = str(tmp_path / "out"), str(hospital.keyring.key)
    assert invoke("hospital", "ingest", str(scans), "--out", out, "--key", key)[0] == 0
    words = ("hospital", "register", "--data", out, "--name", "again", "--ingest-key", key)
    code, registered = hospital.run(*words)
    assert code == 0, registered
    assert Path(registered["dataset"]).name == "again.npz"


def test_nothing_is_registered_of_an_output_that_was_changed(
    hospital: Party, scans: Path, tmp_path: Path
) -> None:
    out, key = tmp_path / "out", hospital.keyring.key
    code, told = invoke("hospital", "ingest", str(scans), "--out", str(out), "--key", str(key))
    assert code == 0, told
    array = next((out / "arrays").rglob("*.npy"))
    np.save(array, np.zeros((64, 64), np.float32))
    code, told = hospital.run("hospital", "register", "--data", str(out), "--name", "changed")
    assert code == 2
    assert "expected the file that the ingest wrote" in told["error"]["message"]
