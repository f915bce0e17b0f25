"""A hospital's and a patient's withdrawal in a running federation: it has effect, and is seen."""

import json
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pydicom
import pytest
from pydicom.uid import generate_uid

from chain.cid import blob_cid
from chain.digests import content_digest, sha256, update_digest
from chain.envelope import EnvelopeContext, seal
from chain.errors import ContractRevertedError, FedWitnessError
from chain.merkle import image_leaf, verify_inclusion
from chain.signing import sign_update
from chain.tensors import save_tensors
from chain.types import DatasetState, Phase, Role, Round, UpdateRecord
from demo.local import fedwitness, set_up, start_aggregator, start_staff, stop, stop_process
from node.dataset import load_dataset, prove_image
from node.pseudonyms import Pseudonyms
from tests.api.signing_in import message, offered, session_headers, signature
from tests.end_to_end.local import Prepared, Runner, model

ROOT = Path(__file__).resolve().parents[2]
SCAN = Path(pydicom.__file__).parent / "data" / "test_files" / "MR_small.dcm"
NORTH, SOUTH, TASK = "north", "south", "lesion"
REASON = "the ethics board took its approval back"


@dataclass(frozen=True)
class Consortium:
    """Two hospitals with real data sets, in a federation of real processes."""

    runner: Runner
    data: Path  # what the northern hospital ingested

    def run(self, *words: str, party: str | None = None) -> tuple[int, Any]:
        """Run a command, as a party or as anybody, and return its exit code and JSON."""
        local = self.runner.local
        own = () if party is None else local.cast[party].keyring.options()
        where = ("--federation", str(local.file))
        done = subprocess.run(
            fedwitness(*words, *where, *own, "--json"),
            cwd=ROOT,
            capture_output=True,
            timeout=300,
            check=False,
        )
        assert done.stdout, done.stderr.decode()
        return done.returncode, json.loads(done.stdout)

    def version(self, name: str) -> bytes:
        """The hospital's active version, or its last one."""
        versions = self.runner.reader.dataset_versions(self.address(name))
        return next(
            (one for one in versions if one.state is DatasetState.ACTIVE), versions[-1]
        ).version

    def address(self, name: str) -> str:
        return self.runner.local.cast[name].address

    def work(self, name: str) -> Path:
        return self.runner.local.cast[name].keyring.work

    def prepare(self, name: str, round_: Round, version: bytes) -> Prepared:
        """Seal and sign an update that says that it was trained on a version."""
        party, reader, files = self.runner.local.cast[name], self.runner.reader, self.runner.files
        plain = files / f"{name}-{round_.number}.safetensors"
        save_tensors(plain, model(round_.number + (0.25 if name == NORTH else 0.5)))
        place = (reader.chain_id, reader.address, round_.number, party.address)
        envelope = files / f"{name}-{round_.number}.envelope"
        recipients = reader.recipients(round_.number)
        seal(plain, plain.stat().st_size, EnvelopeContext(*place), recipients, envelope)
        record = UpdateRecord(
            chain_id=reader.chain_id,
            ledger=reader.address,
            round=round_.number,
            hospital=party.address,
            datasets=(version,),
            purpose=round_.terms.purpose,
            examples=2,
            base_model=round_.terms.base_model,
            update=update_digest(*place, content_digest(plain)),
            blob=blob_cid([envelope.read_bytes()]).digest,
            code=sha256(b"code"),
        )
        return Prepared(party, record, sign_update(record, party.identity.account), envelope)

    def lead(self, rounds: int, *more: str) -> None:
        stop_process(self.runner.local.folder, "aggregator")
        plan = ("--rule", "fed_avg", "--min-updates", "1", "--max-updates", "2")
        first = ("--model", str(self.runner.files / "genesis.safetensors"))
        start_aggregator(self.runner.local, TASK, "--rounds", str(rounds), *plan, *first, *more)

    def final(self, number: int) -> Round:
        """Wait until a round is final."""

        def ended() -> Round | None:
            found = self.runner.reader.round(number)
            return found if found.phase is Phase.FINAL else None

        return self.runner.until(ended, f"round {number} is final")

    def held_by(self, name: str) -> bytes:
        """All bytes that a hospital keeps, but what was taken in."""
        key = self.runner.local.cast[name].keyring.key
        beside = [one for one in key.parent.iterdir() if one.name.startswith(key.stem)]
        paths = [path for one in (self.data, *beside) for path in (one, *one.rglob("*"))]
        return b"".join(path.read_bytes() for path in paths if path.is_file())


@pytest.fixture(scope="module")
def consortium(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Consortium]:
    folder, files = tmp_path_factory.mktemp("federation"), tmp_path_factory.mktemp("files")
    hospitals = ((NORTH, Role.HOSPITAL), (SOUTH, Role.HOSPITAL))
    try:
        local = start_staff(set_up(folder, hospitals, lambda _: None), lambda _: None)
        found = Consortium(Runner(local, files), files / "north-out")
        _register_north(found, files / "north-in")
        _register_south(found, files / "south.npz")
        save_tensors(files / "genesis.safetensors", model(0.0))
        yield found
    finally:
        stop(folder)


def _register_north(consortium: Consortium, source: Path) -> None:
    """Two patients with two slices each."""
    source.mkdir()
    rows = ["file,label"]
    for patient in range(2):
        study = generate_uid()
        for number in range(2):
            scan = pydicom.dcmread(SCAN)
            scan.PatientID, scan.PatientName = f"P{patient}", f"Quixotada{patient}^Dulcinea"
            scan.StudyInstanceUID = study
            scan.SOPInstanceUID = scan.file_meta.MediaStorageSOPInstanceUID = generate_uid()
            scan.PixelData = np.roll(scan.pixel_array, 9 * patient + number, axis=0).tobytes()
            scan.save_as(source / f"{patient}-{number}.dcm")
            rows.append(f"{patient}-{number}.dcm,{patient}")
    (source / "labels.csv").write_text("\n".join(rows) + "\n")
    keyring = consortium.runner.local.cast[NORTH].keyring
    ingest = ("hospital", "ingest", str(source), "--out", str(consortium.data))
    done = subprocess.run(
        fedwitness(*ingest, "--key", str(keyring.pseudonym_key), "--json"),
        cwd=ROOT,
        capture_output=True,
        timeout=300,
        check=False,
    )
    assert done.returncode == 0, done.stderr.decode()
    register = ("hospital", "register", "--data", str(consortium.data), "--name", "north-mr")
    code, told = consortium.run(*register, party=NORTH)
    assert code == 0, told


def _register_south(consortium: Consortium, data: Path) -> None:
    images = np.arange(4 * 28 * 28, dtype=np.uint8).reshape(4, 28, 28)
    np.savez(data, train_images=images, train_labels=np.arange(4, dtype=np.uint8)[:, None] % 2)
    register = ("hospital", "register", "--data", str(data), "--name", "south-xr")
    code, told = consortium.run(*register, party=SOUTH)
    assert code == 0, told


def test_a_withdrawal_has_effect_and_is_seen(consortium: Consortium, tmp_path: Path) -> None:
    runner, run = consortium.runner, consortium.run
    reader, local = runner.reader, runner.local

    # A round of both hospitals becomes final.
    north, south = consortium.version(NORTH), consortium.version(SOUTH)
    consortium.lead(1)
    first = runner.active_round(TASK)
    for name, version in ((NORTH, north), (SOUTH, south)):
        runner.upload(consortium.prepare(name, first, version))
    before = consortium.final(first.number)

    # The southern hospital withdraws its data set.
    code, told = run("hospital", "withdraw", "0x" + south.hex(), "--reason", REASON, party=SOUTH)
    assert code == 0, told

    # The aggregator opens no round on the model, until the federation says so.
    opening = ("aggregator", "open", "--task", TASK, "--rule", "fed_avg", "--min-updates", "1")
    code, told = run(*opening, "--max-updates", "1", party="aggregator")
    assert code == 2
    assert REASON in told["error"]["message"]
    assert f"0x{south.hex()}" in told["error"]["message"]
    agreed = ("--despite-withdrawn", f"0x{south.hex()}")
    code, told = run(*opening, "--max-updates", "1", *agreed, party="aggregator")
    assert code == 0, told
    second = runner.active_round(TASK)

    # The hospital itself trains no more, and an update that it sends is refused, with the reason.
    code, told = run("hospital", "train-once", "--task", TASK, party=SOUTH)
    assert code == 2
    assert "south-xr is WITHDRAWN" in told["error"]["message"]
    late = consortium.prepare(SOUTH, second, south)
    with runner.client(late.party) as client:
        client.sign_in()
        with pytest.raises(FedWitnessError, match="DatasetRegistryWithdrawn"):
            client.upload(late.record, late.signature, late.envelope)
    with pytest.raises(ContractRevertedError, match="DatasetRegistryWithdrawn"):
        local.ledger(local.cast[NORTH]).relay_update(late.record, late.signature)

    # A patient of the northern hospital withdraws, too.
    path = consortium.work(NORTH) / "datasets" / "north-mr.npz"
    dataset = load_dataset(path)
    secret = local.cast[NORTH].keyring.pseudonym_secret()
    patient = Pseudonyms(secret).patient("P1")
    gone, stays = dataset.commitments[2:], dataset.commitments[:2]
    proof = {name: tmp_path / f"{name}.json" for name in ("gone", "stays")}
    for number, target in ((2, proof["gone"]), (0, proof["stays"])):
        prove = ("hospital", "prove", "--image", str(number), "--out", str(target))
        assert run(*prove, party=NORTH)[0] == 0
    shown = prove_image(dataset, 0)
    salts = [dataset.salts[place].tobytes() for place in (2, 3)]
    pixels = [dataset.images[place].tobytes() for place in (2, 3)]
    held = consortium.held_by(NORTH)
    assert all(one in held for one in (*salts, *pixels))
    erase = ("hospital", "erase", "--patient", patient, "--data", str(consortium.data), "--yes")
    code, told = run(*erase, party=NORTH)
    assert code == 0, told
    assert (told["erased"], told["files"]) == (2, 2)
    assert told["sources"] == ["1-0.dcm", "1-1.dcm"]
    corrected = consortium.version(NORTH)
    assert told["versions"] == [
        {
            "version": f"0x{north.hex()}",
            "images": 2,
            "correction": f"0x{corrected.hex()}",
            "dataset": str(path.with_name(f"north-mr-after-{north.hex()[:16]}.npz")),
        }
    ]

    # What was committed to cannot be linked any more; the others are proved as before.
    held = consortium.held_by(NORTH)
    assert not any(one in held for one in (*salts, *pixels, b"Quixotada1"))
    assert all(reader.is_erased(consortium.address(NORTH), one) for one in gone)
    assert not any(reader.is_erased(consortium.address(NORTH), one) for one in stays)
    code, told = run("grants", "verify", str(proof["stays"]))
    assert (code, told["ok"]) == (0, True)
    verify_inclusion(reader.dataset_version(north).merkle_root, image_leaf(stays[0]), shown.proof)
    assert prove_image(load_dataset(path), 0) == shown
    code, told = run("hospital", "prove", "--image", "2", "--out", str(tmp_path / "x"), party=NORTH)
    assert code == 2

    # The next round takes the corrected data, and is final.
    consortium.lead(2, *agreed)
    stale = consortium.prepare(NORTH, second, north)
    with pytest.raises(ContractRevertedError, match="DatasetRegistrySuperseded"):
        local.ledger(local.cast[SOUTH]).relay_update(stale.record, stale.signature)
    runner.upload(consortium.prepare(NORTH, second, corrected))
    after = consortium.final(second.number)

    assert_flagged_by_server(consortium, before, after, south, north, gone[0])
    assert_told_by_audits(consortium, after, tmp_path)


def assert_flagged_by_server(
    consortium: Consortium,
    before: Round,
    after: Round,
    south: bytes,
    north: bytes,
    erased: bytes,
) -> None:
    """Ask the API and the explorer, as an auditor, once the index has caught up."""
    auditor = consortium.runner.local.cast["auditor"].identity.account
    url = consortium.runner.local.addresses.api_url
    assert before.proposal is not None
    assert after.proposal is not None
    with httpx.Client(base_url=url, trust_env=False, timeout=30) as http:
        session = session_headers(http, auditor, time.time())

        def asked(path: str) -> Any:
            answer = http.get(path, headers=session)
            return answer.json() if answer.status_code == 200 else None

        newest = f"/v1/provenance/models/0x{after.proposal.model.hex()}"
        told = consortium.runner.until(lambda: asked(newest), "the index has the last model")
        flags = {(one["kind"], one["version"], one["first_round"]) for one in told["flags"]}
        assert flags == {
            ("WITHDRAWN", f"0x{south.hex()}", before.number),
            ("IMAGE_ERASED", f"0x{north.hex()}", before.number),
        }
        assert told["purposes"] == [6]
        assert [one["count"] for one in told["flags"]] == [1, 2]
        assert told["flags"][0]["reason"] == REASON
        # The model that was made before is flagged in the same way.
        first = asked(f"/v1/provenance/models/0x{before.proposal.model.hex()}")
        assert first["flags"] == told["flags"]
        descendants = asked(f"/v1/datasets/0x{south.hex()}/descendants")
        assert [one["round"] for one in descendants["models"]["entries"]] == [
            after.number,
            before.number,
        ]
        assert [one["kind"] for one in descendants["flags"]] == ["WITHDRAWN"]
        history = asked(f"/v1/datasets/0x{north.hex()}/history")
        version = next(one for one in history["versions"] if one["version"] == f"0x{north.hex()}")
        happened = [one["what"] for one in version["changes"]]
        assert sorted(happened) == ["ERASED", "ERASED", "REGISTERED", "SUPERSEDED"]
        image = asked(f"/v1/images/0x{erased.hex()}/history")
        assert "ERASED" in json.dumps(image)

        page = http.get(f"/models/0x{after.proposal.model.hex()}").text
        assert "Data were withdrawn since." in page
        assert REASON in page
        assert "2 images erased" in page
        cookie = _cookie(http, auditor)
        page = http.get(f"/datasets/0x{north.hex()}", headers=cookie).text
        assert "It changed since models were trained on it." in page
        page = http.get(f"/datasets/0x{south.hex()}", headers=cookie).text
        assert "each of these models is touched by the withdrawal" in page


def assert_told_by_audits(consortium: Consortium, after: Round, folder: Path) -> None:
    """Audit chain and IPFS, and then a bundle on its own: both tell, and both pass."""
    assert after.proposal is not None
    code, report = consortium.run("audit", "--task", TASK, party="auditor")
    assert code == 0, report
    assert [one["kind"] for one in report["notices"]] == ["WITHDRAWN", "IMAGE_ERASED"]
    for one in report["notices"]:
        assert (one["first_round"], one["last_round"]) == (1, after.number)
        assert f"at block {one['block']}" in one["message"]
    digest = f"0x{after.proposal.model.hex()}"
    target = str(folder / "model.bundle")
    code, told = consortium.run("bundle", digest, "-o", target, "--wait", "60")
    assert code == 0, told
    done = subprocess.run(
        (sys.executable, "-m", "audit", target, "--json"),
        cwd=ROOT,
        capture_output=True,
        timeout=300,
        check=False,
    )
    assert done.returncode == 0, done.stdout.decode()
    assert json.loads(done.stdout)["notices"] == report["notices"]


def _cookie(http: httpx.Client, account: Any) -> dict[str, str]:
    text = message(offered(http, account.address), account.address, time.time())
    body = {"message": text, "signature": signature(text, account), "cookie": True}
    answer = http.post("/v1/auth/session", json=body)
    assert answer.status_code == 201, answer.text
    name, _, value = answer.headers["set-cookie"].partition(";")[0].partition("=")
    http.cookies.clear()
    return {"Cookie": f"{name}={value}"}
