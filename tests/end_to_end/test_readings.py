"""A second opinion from a hospital elsewhere: real chain, real IPFS node, real gateway."""

import json
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import pydicom
import pytest
import requests

from chain.blobs import IpfsBlobStore
from chain.cid import Cid
from chain.devnet.ports import free_port
from chain.readings import ReadingTerms
from chain.types import Role
from node.dataset import load_dataset, prove_image
from tests.cli.clinics import Clinic, Ingested, ingest, open_clinic
from tests.cli.conftest import with_key_files
from tests.federation import Federation
from tests.waiting import PATIENCE_SECONDS, eventually

ROOT = Path(__file__).resolve().parents[2]
HOUR = 3600


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Ingested:
    return ingest(tmp_path_factory.mktemp("scans"))


@pytest.fixture
def owner(federation: Federation, ipfs: str, tmp_path: Path, data: Ingested) -> Clinic:
    """Hospital A, which has the images."""
    return open_clinic(federation, ipfs, tmp_path, "hospital-1", data)


@pytest.fixture
def reader(federation: Federation, ipfs: str, tmp_path: Path) -> Clinic:
    """Hospital B, which reads for others."""
    return open_clinic(federation, ipfs, tmp_path, "hospital-2")


@pytest.fixture
def outsiders(federation: Federation, ipfs: str, tmp_path: Path) -> list[Clinic]:
    """Another hospital, a researcher and an auditor."""
    names = ("hospital-3", "researcher", "auditor")
    parties = (with_key_files(federation, one, tmp_path / one / f"{one}.json") for one in names)
    return [Clinic(party, ipfs) for party in parties]


def done(answer: tuple[int, dict[str, object]]) -> dict[str, object]:
    code, told = answer
    assert code == 0, told
    return told


def refused(answer: tuple[int, dict[str, object]]) -> str:
    code, told = answer
    assert code == 2, told
    error = told["error"]
    assert isinstance(error, dict)
    return f"{error['kind']}: {error['message']}"


@contextmanager
def showing(owner: Clinic) -> Iterator[str]:
    """Run the hospital's gateway, and give its URL."""
    assert owner.data is not None
    federation = owner.party.federation
    port = free_port()
    command = [sys.executable, "-m", "cli.main", "hospital", "gateway", "--port", str(port)]
    command += ["--data", str(owner.data.out), "--rpc", federation.rpc_url]
    command += ["--ledger", federation.deployment.ledger]
    command += ["--image-access", federation.deployment.image_access]
    process = subprocess.Popen([*command, *owner.party.keyring.options()], cwd=ROOT)
    url = f"http://127.0.0.1:{port}"
    try:
        eventually(lambda: process.poll() is not None or _answers(url))
        assert process.poll() is None, "the gateway ended"
        yield url
    finally:
        process.terminate()
        process.wait(PATIENCE_SECONDS)


def _answers(url: str) -> bool:
    try:
        return requests.get(f"{url}/looks/0", timeout=5).status_code == 401
    except requests.RequestException:
        return False


def test_a_second_opinion_from_its_request_to_the_comparison(
    owner: Clinic,
    reader: Clinic,
    outsiders: list[Clinic],
    federation: Federation,
    data: Ingested,
    tmp_path: Path,
) -> None:
    # A reads its image, and asks B.
    first = owner.record(0, "--impression", "No lesion.", "--clinician", "Roe^Richard")
    question = ("--question", "Is there a lesion?", "--reader", reader.address)
    asked = done(owner.readings("ask", *owner.image(0), "--opinion-on", first, *question))
    request, image = str(asked["request"]), str(asked["image"])

    # A lets B look: a grant for clinical care, and a steward the role.
    key = federation.identities["hospital-2"].encryption_key
    steward = federation.ledgers["steward"]
    steward.enroll(reader.address, Role.RESEARCHER, key, "hospital-2")
    named = ("--version", owner.version, "--image", "0", "--dataset", owner.dataset)
    done(owner.party.run("grants", "give", reader.address, *named, "--purpose", "43"))
    proof = tmp_path / "proof.json"
    done(owner.party.run("hospital", "prove", "--image", "0", "--out", str(proof)))

    # B takes the request, looks at the image, and reads.
    (open_,) = reader.board("requests", "--state", "open")["requests"]
    assert (open_["request"], open_["reader"]) == (request, reader.address)
    assert done(reader.readings("question", request))["asks"] == "Is there a lesion?"
    done(reader.readings("take", request))
    seen = tmp_path / "image.dcm"
    header = pydicom.dcmread(data.instance(0), stop_before_pixels=True)
    uids = (header.StudyInstanceUID, header.SeriesInstanceUID, header.SOPInstanceUID)
    path = "/dicomweb/studies/{}/series/{}/instances/{}".format(*uids)
    with showing(owner) as url:
        token = done(reader.party.run("looks", "sign-in", "--gateway", url))["token"]
        headers = {"Authorization": f"Bearer {token}", "Accept": "application/dicom"}
        answer = requests.get(url + path, headers=headers, timeout=30)
        assert answer.status_code == 200
        seen.write_bytes(answer.content)
    held = ("--instance", str(seen), "--proof", str(proof), "--form", "dicom")
    words = ("--clinician", "Doe^Jane", "--impression", "A lesion of 4 mm.")
    other_image = ("--instance", str(data.instance(1)), "--proof", str(proof), "--form", "dicom")
    assert "DigestMismatchError" in refused(
        reader.readings("fulfil", request, *other_image, *words)
    )
    second = str(done(reader.readings("fulfil", request, *held, *words))["reading"])
    assert done(reader.readings("fulfil", request, *held, *words))["before"] is True

    # A opens B's reading; B opens A's once A shares it.
    opened = tmp_path / "opened"
    told = done(owner.readings("open", second, "--out", str(opened), "--show"))
    assert (told["hospital"], told["opinion_on"], told["request"]) == (
        reader.address,
        first,
        request,
    )
    assert "A lesion of 4 mm." in str(told["says"])
    assert pydicom.dcmread(opened).StudyInstanceUID == header.StudyInstanceUID
    assert "SealedToOthers" in refused(reader.readings("open", first, "--out", str(opened)))
    copy = str(done(owner.readings("share", first, "--to", reader.address))["copy"])
    told = done(reader.readings("open", first, "--copy", copy, "--out", str(opened), "--show"))
    assert told["says"] == "Impression: No lesion."

    # A corrects; only the newest can be compared, and the first stays to be seen.
    why = ("--reason", "seen on review", "--impression", "A lesion.", "--to", reader.address)
    fixed = str(done(owner.readings("correct", first, *why))["correction"])
    assert "correct its correction" in refused(
        owner.readings("correct", first, "--reason", "again", "--impression", "Two.")
    )
    assert "AlreadyCorrected" in refused(reader.readings("compare", second, first, "agree"))
    assert "NotAuthor" in refused(owner.readings("compare", second, fixed, "agree"))
    done(reader.readings("compare", second, fixed, "major"))
    done(reader.readings("compare", second, fixed, "minor"))
    told = done(reader.readings("open", fixed, "--out", str(opened), "--show"))
    assert told["says"] == "Impression: A lesion."
    shown = owner.board("list", "--image", image)
    lines = [[one["reading"] for one in line["readings"]] for line in shown["lines"]]
    assert lines == [[first, fixed], [second]]
    assert shown["lines"][0]["readings"][1]["reason"] == "seen on review"
    (compared,) = shown["comparisons"]
    assert (compared["own"], compared["other"]) == (second, fixed)
    assert compared["agreement"] == "MINOR_DISCREPANCY"

    # Nobody else opens any of it, and the chain and IPFS hold nothing in the clear.
    for one in outsiders:
        for reading in (first, fixed, second):
            assert "SealedToOthers" in refused(
                one.readings("open", reading, "--out", str(tmp_path / "stolen"))
            )
        assert "SealedToOthers" in refused(one.readings("question", request))
    assert not (tmp_path / "stolen").exists()
    (kept,) = [one for one in federation.reader.readings.readings() if one.corrects is not None]
    with IpfsBlobStore(owner.ipfs) as store:
        assert b"lesion" not in store.get(Cid.from_blob_digest(kept.terms.blob), 1 << 20)


def test_what_is_not_what_the_ledger_has_is_refused_with_its_reason(
    owner: Clinic, federation: Federation, tmp_path: Path
) -> None:
    """A hospital that records the digest of one document, or of another place's envelope."""
    reading = owner.record(0, "--impression", "No lesion.")
    ledger = federation.ledgers["hospital-1"]
    honest = federation.reader.readings.reading(bytes.fromhex(reading[2:])).terms
    dataset = load_dataset(Path(owner.dataset))

    def opened(terms: ReadingTerms, number: int) -> str:
        found = ledger.readings.record(terms, prove_image(dataset, number).proof)
        out = str(tmp_path / "reading")
        return refused(owner.readings("open", f"0x{found.hex()}", "--out", out))

    # Another salt or document than the envelope's.
    told = opened(replace(honest, document=b"\x01" * 32), 0)
    assert "DigestMismatchError: salt and document, against the ledger" in told
    # An envelope that was made for another image, as if its reading were this one's.
    told = opened(replace(honest, image=prove_image(dataset, 1).commitment), 1)
    assert "EnvelopeError: expected an envelope for" in told
    # A blob that nobody has.
    told = opened(replace(honest, blob=b"\x02" * 32), 0)
    assert "BlobUnavailableError" in told
    assert not (tmp_path / "reading").exists()


def test_deadlines_refuse_and_what_came_to_nothing_is_asked_anew(
    owner: Clinic, reader: Clinic, federation: Federation
) -> None:
    hours = ("--take-hours", "1", "--fulfil-hours", "2")
    words = ("--impression", "A lesion.")
    late = str(done(owner.readings("ask", *owner.image(0), *hours))["request"])
    assert "OwnRequest" in refused(owner.readings("take", late))
    federation.pass_time(HOUR + 60)
    assert "TooLate" in refused(reader.readings("take", late))
    second = str(done(owner.readings("ask", *owner.image(0), *hours))["request"])
    assert second != late
    done(reader.readings("take", second))
    assert "TooEarly" in refused(owner.readings("cancel", second))
    federation.pass_time(2 * HOUR + 60)
    told = refused(reader.readings("fulfil", second, *words))
    assert "time to be fulfilled is over" in told
    done(owner.readings("cancel", second))
    assert owner.board("list", "--image", "0", "--dataset", owner.dataset)["lines"] == []
    states = [one["state"] for one in owner.board("requests")["requests"]]
    assert states == ["OPEN", "CANCELLED"]


def test_a_run_that_could_not_store_is_repeated_and_recorded_once(owner: Clinic) -> None:
    away = Clinic(owner.party, f"/ip4/127.0.0.1/tcp/{free_port()}", owner.data, owner.version)
    words = (*owner.image(0), "--impression", "No lesion.")
    assert "BlobUnavailableError" in refused(away.readings("record", *words))
    named = ("--image", "0", "--dataset", owner.dataset)
    assert owner.board("list", *named)["lines"] == []
    first = done(owner.readings("record", *words))
    again = done(owner.readings("record", *words))
    assert (first["before"], again["before"]) == (False, True)
    (line,) = owner.board("list", *named)["lines"]
    assert [one["reading"] for one in line["readings"]] == [first["reading"]]
    drafts = owner.party.keyring.work / "readings" / "drafts"
    kept = [json.loads(one.read_bytes()) for one in drafts.rglob("done.json")]
    assert [one["id"] for one in kept] == [first["reading"]]
    assert not list(drafts.rglob("envelope"))
