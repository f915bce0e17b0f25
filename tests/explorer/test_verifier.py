"""The browser's verifier and Python's come to the same about the same bundles."""

import hashlib
import json
import random
import shutil
import subprocess
from collections.abc import Sequence
from pathlib import Path
from typing import Any, cast

import pytest

from audit.bundle import Trust, verify_bundle
from audit.verify import TITLES
from chain.cid import Cid
from chain.errors import BundleError
from tests.aggregator.training import Training
from tests.audit.bundles import bundle_of, model_of
from tests.federation import WITNESSES, Federation
from tests.memory_blobs import MemoryBlobStore

ROOT = Path(__file__).parents[2]
FLIPS = 500
BOTH = 25  # of the flips, Python is asked about as well


@pytest.fixture
def training(federation: Federation, tmp_path: Path) -> Training:
    return Training(federation, MemoryBlobStore(), tmp_path)


@pytest.fixture
def bundle(training: Training, tmp_path: Path) -> Path:
    """A light bundle of two rounds of real updates."""
    for _ in range(2):
        training.finish(training.open_round())
    return bundle_of(training, 2, tmp_path / "light.bundle").path


def in_the_browsers_words(
    files: Sequence[Path], known: dict[str, Any] | None = None, flips: int = 0
) -> list[dict[str, Any]]:
    """Ask the browser's verifier, in Node.js, about bundles."""
    node = shutil.which("node", path=str(ROOT / ".venv" / "bin")) or shutil.which("node")
    if node is None:
        pytest.skip("Node.js is not installed: `make setup` does it")
    question = {"files": [str(file) for file in files], "known": known or {}, "flips": flips}
    answer = subprocess.run(
        [node, str(Path(__file__).with_name("verify_files.mjs"))],
        input=json.dumps(question),
        capture_output=True,
        text=True,
        check=True,
    )
    return cast("list[dict[str, Any]]", json.loads(answer.stdout))


def failed(report: dict[str, Any]) -> set[int]:
    return {check["number"] for check in report["checks"] if check["ok"] is False}


def test_a_real_bundle_passes_in_the_browser_as_in_python(bundle: Path, training: Training) -> None:
    (report,) = in_the_browsers_words([bundle])
    assert report["findings"] == []
    told = verify_bundle(bundle, workdir=training.folder / "work")
    assert report["ok"]
    assert told.audit.ok
    ran = {step.number for step in told.audit.steps if step.ok}
    assert {check["number"] for check in report["checks"]} == ran
    assert all(TITLES[check["number"]] == check["title"] for check in report["checks"])
    assert report["model"]["digest"] == model_of(training, 2).hex()
    assert report["trust"]["signers"] == list(told.signers)


def test_a_full_bundle_passes_in_the_browser_as_in_python(
    training: Training, tmp_path: Path
) -> None:
    for _ in range(2):
        training.finish(training.open_round())
    path = bundle_of(training, 2, tmp_path / "full.bundle", full=True, key="auditor").path
    (report,) = in_the_browsers_words([path])
    assert report["findings"] == []
    told = verify_bundle(path, workdir=tmp_path / "work")
    ran = {step.number for step in told.audit.steps if step.ok}
    assert {check["number"] for check in report["checks"]} == ran == {*range(1, 9), 11, 12, 13}
    assert all(TITLES[check["number"]] == check["title"] for check in report["checks"])


@pytest.mark.parametrize("kind", ["model", "envelope"])
def test_an_exchanged_blob_is_found_in_the_browser_as_in_python(
    training: Training, tmp_path: Path, kind: str
) -> None:
    training.finish(training.open_round())
    path = bundle_of(training, 1, tmp_path / "full.bundle", full=True).path
    proposal = training.federation.reader.round(1).proposal
    assert proposal is not None
    records = training.federation.reader.records(1)
    blob = proposal.model_blob if kind == "model" else records[0].record.blob
    path.write_bytes(exchanged(path.read_bytes(), f"blob/{Cid.from_blob_digest(blob)}"))
    (report,) = in_the_browsers_words([path])
    told = verify_bundle(path, workdir=tmp_path / "work")
    assert failed(report) == {one.step for one in told.audit.findings} == {7}


def test_a_witness_who_did_not_sign_is_missed_in_the_browser_as_in_python(
    bundle: Path, training: Training
) -> None:
    stranger = training.federation.address("auditor")
    known = (training.federation.address(WITNESSES[0]), stranger)
    (report,) = in_the_browsers_words([bundle], {"witnesses": list(known)})
    told = verify_bundle(bundle, Trust(None, known), workdir=training.folder / "work")
    assert failed(report) == {one.step for one in told.audit.findings} == {12}


def test_every_flipped_bit_of_a_real_ledger_is_found_in_the_browser(bundle: Path) -> None:
    (report,) = in_the_browsers_words([bundle], flips=FLIPS)
    assert report["unfound"] == []


def test_browser_and_python_blame_the_same_step_for_a_flipped_bit(
    bundle: Path, tmp_path: Path
) -> None:
    draw = random.Random(5)  # noqa: S311 - tampering is no secret
    content = bundle.read_bytes()
    files = [tmp_path / f"flip-{number}" for number in range(BOTH)]
    for file in files:
        file.write_bytes(flipped(content, draw))
    for file, report in zip(files, in_the_browsers_words(files), strict=True):
        try:
            told = verify_bundle(file, workdir=tmp_path / "work")
        except BundleError:
            assert failed(report) == {11}
            continue
        assert failed(report) == {one.step for one in told.audit.findings} == {13}, file.name


def exchanged(content: bytes, name: str) -> bytes:
    """Flip a bit of a part, and make all checksums anew."""
    start = 12 + int.from_bytes(content[8:12], "big")
    header = json.loads(content[12:start])
    parts = bytearray(content[start:-32])
    place = 0
    for part in header["parts"]:
        if part["name"] == name:
            parts[place] ^= 1
            own = parts[place : place + int(part["size"])]
            part["sha256"] = hashlib.sha256(own).hexdigest()
        place += int(part["size"])
    return sealed(content[:8], header, parts)


def sealed(magic: bytes, header: dict[str, Any], parts: bytes | bytearray) -> bytes:
    text = json.dumps(header, sort_keys=True, separators=(",", ":")).encode()
    before = magic + len(text).to_bytes(4, "big") + text + parts
    return before + hashlib.sha256(before).digest()


def flipped(content: bytes, draw: random.Random) -> bytes:
    """Flip a bit of the ledger, and make all checksums anew."""
    size = int.from_bytes(content[8:12], "big")
    start, end = 12 + size, len(content) - 32
    parts = bytearray(content[start:end])
    parts[draw.randrange(len(parts))] ^= 1 << draw.randrange(8)
    header = json.loads(content[12:start])
    header["parts"][0]["sha256"] = hashlib.sha256(parts).hexdigest()
    return sealed(content[:8], header, parts)
