"""`fedwitness hospital` on a real chain: purposes, erasure and proofs."""

import json
from pathlib import Path

import numpy as np
import pytest

from chain.types import Purpose
from cli.hospital import _active_dataset
from node.dataset import load_dataset
from tests.cli.conftest import Party, invoke, run


@pytest.fixture
def version(hospital: Party, tmp_path: Path) -> str:
    """A version of five images that the hospital has registered by command."""
    data = tmp_path / "scans.npz"
    images = np.arange(5 * 28 * 28, dtype=np.uint8).reshape(5, 28, 28)
    labels = np.arange(5, dtype=np.uint8).reshape(5, 1) % 2
    np.savez(data, train_images=images, train_labels=labels)
    code, told = hospital.run("hospital", "register", "--data", str(data), "--name", "scans")
    assert code == 0, told
    return str(told["version"])


def dataset(hospital: Party) -> Path:
    return hospital.keyring.work / "datasets" / "scans.npz"


def test_permitted_purposes_change_on_the_ledger_and_in_what_the_hospital_goes_by(
    hospital: Party, version: str
) -> None:
    purposes = ("--purpose", "42", "--purpose", "6")
    code, told = hospital.run("hospital", "permit", version, *purposes)
    assert (code, told["purposes"]) == (0, [6, 42])
    reader = hospital.federation.reader
    expected = {Purpose.HEALTH_RESEARCH, Purpose.GENERAL_RESEARCH}
    assert reader.dataset_version(bytes.fromhex(version[2:])).purposes == expected
    address = hospital.federation.address("hospital-1")
    found, _ = _active_dataset(reader, address, dataset(hospital).parent, "scans")
    assert found.terms.purposes == expected


def test_an_erased_image_is_gone_and_the_others_are_proved_as_before(
    hospital: Party, version: str, tmp_path: Path
) -> None:
    code, told = invoke("hospital", "erase", str(dataset(hospital)), "--image", "1")
    assert (code, told) == (0, {"erased": 1, "kept": 4, "committed": 5})
    assert load_dataset(dataset(hospital)).kept.tolist() == [0, 2, 3, 4]
    gone = tmp_path / "gone.json"
    assert hospital.run("hospital", "prove", "--image", "1", "--out", str(gone))[0] == 2
    assert not gone.exists()
    proof = tmp_path / "proof.json"
    code, told = hospital.run("hospital", "prove", "--image", "4", "--out", str(proof))
    assert (code, told["version"]) == (0, version)
    code, told = run(hospital.federation, "grants", "verify", str(proof))
    assert (code, told["ok"]) == (0, True)
    assert told["hospital"] == hospital.federation.address("hospital-1")


def test_a_proof_about_another_image_or_version_is_a_finding(
    hospital: Party, version: str, tmp_path: Path
) -> None:
    proof = tmp_path / "proof.json"
    assert hospital.run("hospital", "prove", "--image", "0", "--out", str(proof))[0] == 0
    members = json.loads(proof.read_text())
    other = f"0x{hospital.federation.versions['hospital-2'].hex()}"
    assert members["version"] == version
    for changes in ({"image_digest": f"0x{'11' * 32}"}, {"version": other}):
        proof.write_text(json.dumps(members | changes))
        code, told = run(hospital.federation, "grants", "verify", str(proof))
        assert (code, told["ok"]) == (1, False)
        assert "expected" in told["fault"]
