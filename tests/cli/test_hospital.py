"""`fedwitness hospital` on a real chain: purposes, erasure and proofs."""

import json
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

from chain.errors import InvalidInputError
from chain.types import DatasetState, Purpose
from chain.wire import to_hex
from cli.main import command_line
from node.dataset import active_dataset, load_dataset
from tests.cli.conftest import Party, run


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
    found = active_dataset(dataset(hospital).parent, reader, address, "scans")
    assert found.dataset.terms.purposes == expected


def test_an_erased_image_is_gone_and_the_others_are_proved_as_before(
    hospital: Party, version: str, tmp_path: Path
) -> None:
    before = load_dataset(dataset(hospital))
    old_proof = tmp_path / "before.json"
    prove = ("hospital", "prove", "--image")
    assert hospital.run(*prove, "4", "--out", str(old_proof))[0] == 0
    erase = ("hospital", "erase", "--image", "1", "--dataset", "scans")
    code, told = hospital.run(*erase)
    assert (code, told["error"]["message"]) == (2, "with --json nobody can be asked: say --yes")
    code, told = hospital.run(*erase, "--yes")
    assert code == 0, told
    (one,) = told["versions"]
    assert (told["erased"], one["version"], one["images"]) == (1, version, 1)
    assert told["seen_by"] == []
    assert load_dataset(dataset(hospital)).kept.tolist() == [0, 2, 3, 4]
    assert before.salts[1].tobytes() not in dataset(hospital).read_bytes()

    reader, address = hospital.federation.reader, hospital.federation.address("hospital-1")
    old, new = (
        reader.dataset_version(bytes.fromhex(one[n][2:])) for n in ("version", "correction")
    )
    assert (old.state, new.state) == (DatasetState.SUPERSEDED, DatasetState.ACTIVE)
    assert (new.images, new.previous, new.attestation) == (4, old.version, old.attestation)
    assert load_dataset(Path(one["dataset"])).terms.merkle_root == new.merkle_root
    assert reader.is_erased(address, before.commitments[1])
    assert not reader.is_erased(address, before.commitments[2])

    # The old proof still verifies, and a new one of the same image, now number 3, does.
    proof = tmp_path / "proof.json"
    code, told = hospital.run(*prove, "3", "--out", str(proof))
    assert (code, told["version"], told["dataset"]) == (0, one["correction"], one["dataset"])
    assert told["commitment"] == to_hex(before.commitments[4])
    for shown in (old_proof, proof):
        code, told = run(hospital.federation, "grants", "verify", str(shown))
        assert (code, told["ok"]) == (0, True)
        assert told["hospital"] == address
    assert json.loads(proof.read_text())["salt"] == json.loads(old_proof.read_text())["salt"]
    code, _ = hospital.run(*erase[:3], "9", "--yes")
    assert code == 2


@pytest.mark.usefixtures("version")
def test_an_erasure_that_nobody_confirms_erases_nothing_and_says_so(hospital: Party) -> None:
    deployment = hospital.federation.deployment
    contracts = ("--ledger", deployment.ledger, "--image-access", deployment.image_access)
    words = ("hospital", "erase", "--image", "1", "--rpc", hospital.federation.rpc_url, *contracts)
    for answer in ("", "n\n"):
        done = CliRunner().invoke(
            command_line(), [*words, *hospital.keyring.options()], input=answer
        )
        assert done.exit_code == 2
        assert "nothing was erased" in done.stderr
    assert load_dataset(dataset(hospital)).kept.tolist() == [0, 1, 2, 3, 4]


def test_whoever_withdrew_everything_is_told_so_when_asked_to_train(
    hospital: Party, version: str
) -> None:
    assert hospital.run("hospital", "withdraw", version, "--reason", "consent revoked")[0] == 0
    reader, address = hospital.federation.reader, hospital.federation.address("hospital-1")
    with pytest.raises(InvalidInputError, match="scans is WITHDRAWN, so nobody trains on it"):
        active_dataset(dataset(hospital).parent, reader, address)


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
