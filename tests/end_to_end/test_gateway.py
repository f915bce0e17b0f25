"""A hospital's gateway on a real chain, asked by an unmodified DICOMweb client."""

import io
import json
import signal
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, cast

import numpy as np
import pydicom
import pytest
import requests
from dicomweb_client.api import DICOMwebClient
from PIL import Image
from pydicom.dataset import Dataset
from pydicom.encaps import get_frame
from pydicom.uid import generate_uid
from requests.exceptions import ConnectionError as RequestsConnectionError
from requests.exceptions import HTTPError, RequestException

from chain.devnet.ports import free_port
from chain.look_receipts import LookReceipt, from_header, request_digest, write_receipt
from chain.types import Role
from node.gateway.visiting import Visit
from node.look_log import LookLog, LookWriter, Sight
from tests.api.conftest import running
from tests.cli.conftest import Party, run, with_key_files
from tests.federation import Federation
from tests.memory_blobs import MemoryBlobStore
from tests.waiting import PATIENCE_SECONDS, eventually

ROOT = Path(__file__).resolve().parents[2]
COMPRESSED = {
    "1.2.840.10008.1.2.4.80": "image/jls",
    "1.2.840.10008.1.2.4.90": "image/jp2",
    "1.2.840.10008.1.2.5": "image/dicom-rle",
}
SOURCE = Path(pydicom.__file__).parent / "data" / "test_files" / "MR_small.dcm"


@dataclass(frozen=True)
class Shown:
    """An image of the hospital: its number, and what it goes by in DICOM."""

    number: int
    path: Path
    study: str
    series: str
    uid: str

    def __str__(self) -> str:
        return f"/dicomweb/studies/{self.study}/series/{self.series}/instances/{self.uid}"


@dataclass
class Gateway:
    """A gateway's process."""

    hospital: Party
    data: Path
    version: str
    images: list[Shown]
    port: int
    process: subprocess.Popen[bytes] | None = None
    sessions: list[requests.Session] = field(default_factory=list)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    @property
    def log(self) -> LookLog:
        reader = self.hospital.federation.reader
        where = (
            reader.chain_id,
            reader.access_logs,
            self.hospital.federation.address("hospital-1"),
        )
        return LookLog.beside(self.hospital.keyring.work, *where)

    def start(self) -> None:
        deployment = self.hospital.federation.deployment
        command = [sys.executable, "-m", "cli.main", "hospital", "gateway"]
        command += ["--data", str(self.data), "--port", str(self.port)]
        command += ["--rpc", self.hospital.federation.rpc_url, "--ledger", deployment.ledger]
        command += ["--image-access", deployment.image_access, *self.hospital.keyring.options()]
        self.process = subprocess.Popen(command, cwd=ROOT)
        eventually(self._answers)

    def end(self, number: int = signal.SIGTERM) -> None:
        if self.process is not None:
            self.process.send_signal(number)
            self.process.wait(PATIENCE_SECONDS)
            self.process = None

    def session(self, name: str = "researcher") -> requests.Session:
        federation = self.hospital.federation
        identity = federation.identities[name]
        with Visit(self.url, identity, federation.reader.chain_id) as visit:
            token, _ = visit.sign_in()
        session = requests.Session()
        self.sessions.append(session)
        session.trust_env = False
        session.headers["Authorization"] = f"Bearer {token}"
        return session

    def client(self) -> DICOMwebClient:
        return DICOMwebClient(f"{self.url}/dicomweb", session=self.session())

    def give(self, image: int) -> str:
        researcher = self.hospital.federation.address("researcher")
        dataset = self.hospital.keyring.work / "datasets" / "heads.npz"
        which = ("--version", self.version, "--image", str(image), "--dataset", str(dataset))
        code, told = self.hospital.run("grants", "give", researcher, *which)
        assert code == 0, told
        return str(told["grant"])

    def _answers(self) -> bool:
        assert self.process is not None
        assert self.process.poll() is None, "the gateway ended"
        try:
            return requests.get(f"{self.url}/looks/0", timeout=5).status_code == 401
        except RequestException:
            return False


def scans(folder: Path) -> None:
    """Two studies of two instances each."""
    folder.mkdir()
    rows = ["file,label"]
    for study in range(2):
        study_uid, series_uid = generate_uid(), generate_uid()
        for number in range(2):
            scan = pydicom.dcmread(SOURCE)
            scan.StudyInstanceUID, scan.SeriesInstanceUID = study_uid, series_uid
            scan.SOPInstanceUID = scan.file_meta.MediaStorageSOPInstanceUID = generate_uid()
            scan.PatientName, scan.InstanceNumber = f"Patient^{study}", number + 1
            scan.PixelData = np.roll(scan.pixel_array, 7 * study + number, axis=0).tobytes()
            name = f"{study}-{number}.dcm"
            scan.save_as(folder / name)
            rows.append(f"{name},{study}")
    (folder / "labels.csv").write_text("\n".join(rows) + "\n")


@pytest.fixture
def gateway(federation: Federation, tmp_path: Path) -> Iterator[Gateway]:
    """A running gateway over four registered images, of which nobody may see any yet."""
    hospital = with_key_files(federation, "hospital-1", tmp_path / "keys" / "hospital.json")
    scans(tmp_path / "in")
    data = tmp_path / "out"
    key = str(hospital.keyring.pseudonym_key)
    code, told = run_plain("hospital", "ingest", str(tmp_path / "in"), "--out", str(data), key)
    assert (code, told["taken"]) == (0, 4), told
    code, told = hospital.run("hospital", "register", "--data", str(data), "--name", "heads")
    assert code == 0, told
    lines = [json.loads(line) for line in (data / "files.jsonl").read_text().splitlines()]
    paths = [data / name for one in lines for name in one.get("files", ()) if name.endswith("dcm")]
    images = []
    for number, path in enumerate(paths):
        header = pydicom.dcmread(path, stop_before_pixels=True)
        uids = (header.StudyInstanceUID, header.SeriesInstanceUID, header.SOPInstanceUID)
        images.append(Shown(number, path, *map(str, uids)))
    found = Gateway(hospital, data, str(told["version"]), images, free_port())
    try:
        found.start()
        yield found
    finally:
        found.end(signal.SIGKILL)
        for session in found.sessions:
            session.close()


def run_plain(*words: str) -> tuple[int, Any]:
    from tests.cli.conftest import invoke

    *others, key = words
    return invoke(*others, "--key", key)


def plain(answer: requests.Response) -> tuple[int, dict[str, str], bytes]:
    """What an answer shows, but for the time of day."""
    headers = {name: value for name, value in answer.headers.items() if name != "date"}
    return answer.status_code, headers, answer.content


def receipt_of(answer: requests.Response) -> LookReceipt:
    return from_header(answer.headers["FedWitness-Receipt"])


def test_an_unmodified_client_sees_what_is_permitted_and_nothing_else(
    gateway: Gateway, tmp_path: Path
) -> None:
    seen, *hidden = gateway.images
    other_study = next(one for one in hidden if one.study != seen.study)
    client = gateway.client()
    assert client.search_for_studies() == []
    grant = gateway.give(seen.number)

    # Searched: what is permitted is found, and counted alone.
    (study,) = (Dataset.from_json(one) for one in client.search_for_studies())
    assert (study.StudyInstanceUID, study.NumberOfStudyRelatedInstances) == (seen.study, 1)
    (series,) = client.search_for_series(study_instance_uid=seen.study)
    assert Dataset.from_json(series).SeriesInstanceUID == seen.series
    (found,) = client.search_for_instances(search_filters={"Modality": "MR"})
    assert Dataset.from_json(found).SOPInstanceUID == seen.uid
    assert client.search_for_instances(search_filters={"Modality": "CT"}) == []
    assert client.search_for_series(study_instance_uid=other_study.study) == []
    assert len(gateway.log) == 0

    # Retrieved.
    where = (seen.study, seen.series, seen.uid)
    expected = pydicom.dcmread(seen.path)
    assert client.retrieve_instance(*where) == expected
    (whole,) = client.retrieve_study(seen.study)
    assert whole == expected
    (frame,) = client.retrieve_instance_frames(*where, frame_numbers=[1])
    assert frame == expected.PixelData
    (told,) = client.retrieve_study_metadata(seen.study)
    assert told["00080018"]["Value"] == [seen.uid]
    (bulk,) = client.retrieve_bulkdata(told["7FE00010"]["BulkDataURI"])
    assert bulk == expected.PixelData
    for kind in ("image/png", "image/jpeg"):
        drawn = client.retrieve_instance_rendered(*where, media_types=(kind,))
        assert Image.open(io.BytesIO(drawn)).size == (64, 64)
    assert len(gateway.log) == 7

    # Retrieved compressed, as whoever is far away asks for it.
    for syntax, media in COMPRESSED.items():
        asked = (("application/dicom", syntax),)
        compressed = client.retrieve_instance(*where, media_types=asked)
        assert compressed.file_meta.TransferSyntaxUID == syntax
        assert np.array_equal(compressed.pixel_array, expected.pixel_array)
        (frame,) = client.retrieve_instance_frames(
            *where, frame_numbers=[1], media_types=((media, syntax),)
        )
        assert frame == get_frame(compressed.PixelData, 0, number_of_frames=1)
    with pytest.raises(HTTPError, match="406"):
        client.retrieve_instance(
            *where, media_types=(("application/dicom", "1.2.840.10008.1.2.4.50"),)
        )
    assert len(gateway.log) == 13

    # Refused: what may not be seen is like what is not there.
    session = gateway.session()
    for one in (*hidden, seen):
        nowhere = str(one)[:-1] + "x" if one is seen else str(one)
        for path in ("", "/metadata", "/frames/1", "/rendered", "/frames/1/rendered"):
            refused = plain(session.get(f"{gateway.url}{nowhere}{path}"))
            assert refused == plain(session.get(f"{gateway.url}/dicomweb/studies/1.2.3{path}"))
            assert refused[0] == 404
    with pytest.raises(HTTPError, match="404"):
        client.retrieve_instance(other_study.study, other_study.series, other_study.uid)
    assert len(gateway.log) == 13

    # Every retrieval stands in the anchored log, with a proof that verifies.
    answer = session.get(f"{gateway.url}{seen}")
    receipt = receipt_of(answer)
    head = gateway.hospital.federation.reader.head()
    assert (receipt.look.number, receipt.look.time) == (13, head.timestamp)
    assert f"0x{receipt.look.grant.hex()}" == grant
    assert receipt.look.request == request_digest(receipt.salt, "GET", str(seen))
    code, told = gateway.hospital.run("hospital", "looks", "anchor")
    assert (code, told["batches"]) == (0, [{"first": 0, "entries": 14}])
    proofs = []
    for number in range(14):
        proofs.append(str(tmp_path / f"{number}.json"))
        which = ("--number", str(number), "--out", proofs[-1])
        assert gateway.hospital.run("hospital", "looks", "prove", *which)[0] == 0
    write_receipt(tmp_path / "receipt.json", receipt)
    shown = (*proofs, str(tmp_path / "receipt.json"))
    for mode in ((), ("--offline",)):
        code, told = run(gateway.hospital.federation, "looks", "verify", *shown, *mode)
        assert (code, told["ok"], told["proven"], told["pending"]) == (0, True, 14, 0)
    own = session.get(f"{gateway.url}/looks/13").json()
    assert own["anchor"]["batch"] == 1
    code, told = gateway.hospital.run("hospital", "looks", "list", "--last", "3")
    assert [one["number"] for one in told["looks"]] == [11, 12, 13]

    # Refused at once after revocation.
    assert gateway.hospital.run("grants", "revoke", grant)[0] == 0
    assert plain(session.get(f"{gateway.url}{seen}")) == refused
    assert client.search_for_instances() == []
    assert len(gateway.log) == 14


def test_looks_that_are_handed_over_tell_who_saw_an_image(gateway: Gateway, tmp_path: Path) -> None:
    seen, other = gateway.images[0], gateway.images[3]
    federation, hospital = gateway.hospital.federation, gateway.hospital
    for one in (seen, other):
        gateway.give(one.number)
        assert gateway.session().get(f"{gateway.url}{one}").status_code == 200
    assert hospital.run("hospital", "looks", "anchor")[0] == 0
    assert gateway.session().get(f"{gateway.url}{seen}").status_code == 200
    (tmp_path / "server").mkdir()
    ledger = cast("Any", federation.ledgers["steward"])
    with running(tmp_path / "server", ledger, MemoryBlobStore()) as server:
        words = ("hospital", "looks", "hand-over", "--api", server.url)
        code, told = hospital.run(*words)
        assert code == 0, told
        assert told["handed_over"] == [{"batch": 1, "first": 0, "entries": 2}]
        assert (told["anchored"], told["logged"]) == (2, 3)
        code, told = hospital.run(*words)
        assert (code, told["handed_over"]) == (0, [])
        assert hospital.run("hospital", "looks", "anchor")[0] == 0
        code, told = hospital.run(*words)
        assert (code, told["handed_over"]) == (0, [{"batch": 2, "first": 2, "entries": 1}])

        # The auditors' answer is the hospital's own.
        image = gateway.log.read(0, 1)[0].look.image
        session = server.sign_in(federation.identities["auditor"].account)
        history = server.http.get(f"/v1/images/0x{image.hex()}/history", headers=session).json()
        entries = history["timeline"]["entries"]
        looked = [one["look"] for one in entries if one["what"] == "LOOKED"]
        assert [one["number"] for one in looked] == [0, 2]
        assert {one["researcher"] for one in looked} == {federation.address("researcher")}
        assert [one["missing"] for one in history["logs"]] == [0]


def test_nobody_gets_in_who_is_not_signed_in_or_no_researcher_any_more(gateway: Gateway) -> None:
    seen = gateway.images[0]
    gateway.give(seen.number)
    federation = gateway.hospital.federation
    for headers in ({}, {"Authorization": "Bearer " + "0" * 64}, {"Authorization": "Basic eDp5"}):
        for path in (str(seen), "/dicomweb/studies", "/looks/0", "/dicomweb/studies/1.2"):
            assert requests.get(gateway.url + path, headers=headers, timeout=9).status_code == 401
    with pytest.raises(Exception, match="no active researcher"):
        gateway.session("hospital-2")
    session = gateway.session()
    assert session.get(f"{gateway.url}{seen}").status_code == 200
    federation.ledgers["steward"].suspend(federation.address("researcher"), "left")
    assert not federation.reader.is_active(federation.address("researcher"), Role.RESEARCHER)
    assert session.get(f"{gateway.url}{seen}").status_code == 404


def test_a_killed_gateway_has_logged_whatever_it_gave_a_receipt_for(gateway: Gateway) -> None:
    seen = gateway.images[0]
    gateway.give(seen.number)
    receipts: list[LookReceipt] = []

    def look(_: int) -> None:
        session = gateway.session()
        try:
            while True:
                with session.get(f"{gateway.url}{seen}", stream=True) as answer:
                    receipts.append(receipt_of(answer))
        except (RequestsConnectionError, KeyError):
            return

    for _ in range(2):
        before = len(receipts)
        with ThreadPoolExecutor(2) as pool:
            for one in range(2):
                pool.submit(look, one)
            eventually(lambda: len(receipts) >= before + 6)  # noqa: B023 - waited for here
            gateway.end(signal.SIGKILL)
        gateway.start()
    logged = gateway.log.read(0, len(gateway.log))
    numbers = [one.look.number for one in receipts]
    assert len(set(numbers)) == len(numbers)
    assert [one.look.number for one in logged] == list(range(len(logged)))
    assert all(logged[one.look.number] == one for one in receipts)
    code, told = gateway.hospital.run("hospital", "looks", "anchor")
    assert (code, told["logged"]) == (0, len(logged))


def test_a_hidden_entry_is_caught_by_its_receipt(gateway: Gateway, tmp_path: Path) -> None:
    seen = gateway.images[0]
    gateway.give(seen.number)
    receipt = receipt_of(gateway.session().get(f"{gateway.url}{seen}"))
    shown = str(tmp_path / "receipt.json")
    write_receipt(Path(shown), receipt)
    federation = gateway.hospital.federation

    def verify(*files: str) -> tuple[int, list[str], int]:
        code, told = run(federation, "looks", "verify", *files, "--within", "3600")
        return code, [one["fault"] for one in told["findings"]], told["pending"]

    # Not anchored in time, though others' looks might be.
    assert verify(shown) == (0, [], 1)
    federation.pass_time(3700)
    assert verify(shown) == (1, ["SHORT_LOG"], 0)

    # Another look in its place.
    gateway.end()
    gateway.log.path.unlink()
    account = federation.identities["hospital-1"].account
    writer = LookWriter(gateway.log, account)
    look = receipt.look
    sight = Sight(look.researcher, look.grant, look.version, bytes(32))
    writer.append([sight], look.time, "GET", "/")
    writer.close()
    assert gateway.hospital.run("hospital", "looks", "anchor")[0] == 0
    assert verify(shown) == (1, ["UNPROVEN"], 0)
    proof = str(tmp_path / "proof.json")
    which = ("--number", "0", "--out", proof)
    assert gateway.hospital.run("hospital", "looks", "prove", *which)[0] == 0
    assert verify(proof) == (0, [], 0)
    assert verify(shown, proof) == (1, ["TWO_LOOKS", "HIDDEN"], 0)

    # Nor does it start again with a log that the ledger knows otherwise.
    gateway.log.path.unlink()
    with pytest.raises(AssertionError, match="the gateway ended"):
        gateway.start()
