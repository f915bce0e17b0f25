"""`fedwitness readings` on a real chain and a real IPFS node, command by command."""

import json
from pathlib import Path

import pydicom
import pytest
from typer.testing import CliRunner

from chain.wire import to_hex
from cli import readings
from cli.main import command_line
from node.dataset import load_dataset, prove_image
from tests.cli.clinics import Clinic, Ingested, ingest, open_clinic
from tests.cli.conftest import with_key_files
from tests.federation import ETHER, Federation, identity

NORMAL = ("--impression", "No acute abnormality.")


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Ingested:
    return ingest(tmp_path_factory.mktemp("scans"))


@pytest.fixture
def owner(federation: Federation, ipfs: str, tmp_path: Path, data: Ingested) -> Clinic:
    """A hospital that has registered two images."""
    return open_clinic(federation, ipfs, tmp_path, "hospital-1", data)


@pytest.fixture
def reader(federation: Federation, ipfs: str, tmp_path: Path) -> Clinic:
    """A hospital that reads others' images."""
    return open_clinic(federation, ipfs, tmp_path, "hospital-2")


def test_a_reading_is_recorded_once_listed_and_opened(owner: Clinic, tmp_path: Path) -> None:
    words = (*NORMAL, "--clinician", "Roe^Richard", "--organization", "St Mary")
    reading = owner.record(0, *words)
    code, told = owner.readings("record", *owner.image(0), *words)
    assert (code, told["reading"], told["before"]) == (0, reading, True)
    out = tmp_path / "reading.json"
    code, told = owner.readings("open", reading, "--out", str(out), "--show")
    assert (code, told["form"], told["author"]) == (0, "fhir", owner.address)
    assert told["says"] == "Impression: No acute abnormality."
    assert json.loads(out.read_bytes())["conclusion"] == "No acute abnormality."
    assert out.stat().st_mode & 0o777 == 0o600
    for image in (("--image", told["image"]), ("--image", "0", "--dataset", owner.dataset)):
        (line,) = owner.board("list", *image)["lines"]
        assert line["newest"] == reading
    assert owner.board("list", "--image", "1", "--dataset", owner.dataset)["lines"] == []


def test_texts_stand_in_files_too_and_become_a_structured_report(
    owner: Clinic, data: Ingested, tmp_path: Path
) -> None:
    (tmp_path / "findings.txt").write_text("Größe unverändert.\n")
    words = (*NORMAL, "--findings", f"@{tmp_path}/findings.txt", "--form", "dicom")
    reading = owner.record(1, *words)
    out = tmp_path / "reading.dcm"
    code, told = owner.readings("open", reading, "--out", str(out), "--show")
    assert (code, told["form"]) == (0, "dicom")
    assert "Größe unverändert." in told["says"]
    report = pydicom.dcmread(out)
    image = pydicom.dcmread(data.instance(1))
    assert report.StudyInstanceUID == image.StudyInstanceUID
    # What a reporting system wrote is taken as it is.
    code, told = owner.readings("record", *owner.image(1), "--document", str(out))
    assert (code, told["before"]) == (0, False)
    again = tmp_path / "again.dcm"
    assert owner.readings("open", told["reading"], "--out", str(again))[0] == 0
    assert again.read_bytes() == out.read_bytes()


def test_a_document_about_another_image_is_not_recorded(owner: Clinic, tmp_path: Path) -> None:
    reading = owner.record(1, *NORMAL, "--form", "dicom")
    out = tmp_path / "reading.dcm"
    assert owner.readings("open", reading, "--out", str(out))[0] == 0
    code, told = owner.readings("record", *owner.image(0), "--document", str(out))
    assert code == 2
    assert "references the image" in told["error"]["message"]
    assert owner.board("list", "--image", "0", "--dataset", owner.dataset)["lines"] == []


def test_a_reading_that_names_the_patient_is_not_recorded(owner: Clinic, tmp_path: Path) -> None:
    named = ("--impression", "Mrs Lovelace (47110815) has improved.")
    code, told = owner.readings("record", *owner.image(0), *named)
    assert code == 2
    assert "may tell who the patient is" in told["error"]["message"]
    assert "ovelace" not in told["error"]["message"]
    assert owner.readings("record", *owner.image(0), *named, "--looked-at")[0] == 0
    report = {
        "resourceType": "DiagnosticReport",
        "status": "final",
        "code": {"text": "MR"},
        "subject": {"reference": "Patient/47110815", "display": "Ada Lovelace"},
        "conclusion": "Normal.",
    }
    path = tmp_path / "report.json"
    path.write_text(json.dumps(report))
    code, told = owner.readings("record", *owner.image(0), "--document", str(path), "--looked-at")
    assert code == 2
    assert "tells who the patient is" in told["error"]["message"]
    assert "4711" not in told["error"]["message"]


def test_a_correction_and_its_reason_are_held_against_the_image_and_its_patient(
    owner: Clinic, data: Ingested
) -> None:
    reading = owner.record(0, *NORMAL)
    held = ("--dataset", owner.dataset, "--instance", str(data.out), "--ingest-key", str(data.key))
    words = ("--impression", "A lesion.", "--form", "dicom")
    named = ("--reason", "this was Lovelace's", "--looked-at")
    code, told = owner.readings("correct", reading, *held, *words, *named)
    assert code == 2
    assert "everybody can read it" in told["error"]["message"]
    code, told = owner.readings("correct", reading, *held, *words, "--reason", "seen on review")
    assert code == 0, told
    (line,) = owner.board("list", "--image", "0", "--dataset", owner.dataset)["lines"]
    assert [one["reason"] for one in line["readings"]] == [None, "seen on review"]
    # The folder is not searched without the data set, which tells the image's digest.
    code, told = owner.readings("correct", told["correction"], *held[2:], *words, *named[:2])
    assert "--dataset" in told["error"]["message"]


def test_either_a_document_or_words_are_wanted(owner: Clinic, tmp_path: Path) -> None:
    for words in ((), (*NORMAL, "--document", str(tmp_path / "report.json"))):
        code, told = owner.readings("record", *owner.image(0), *words)
        assert code == 2
        assert "either" in told["error"]["message"]
    bare = ("--dataset", owner.dataset, "--image", "0", "--form", "dicom", *NORMAL)
    code, told = owner.readings("record", *bare)
    assert code == 2
    assert "--instance" in told["error"]["message"]
    assert owner.readings("record", *bare, "--form", "fhir")[0] == 0


def test_an_appointed_clinician_reads_until_it_ends(
    owner: Clinic, federation: Federation, ipfs: str, tmp_path: Path
) -> None:
    who = identity("clinician")
    federation.rpc("anvil_setBalance", who.address, hex(ETHER))
    federation.identities["clinician"] = who
    party = with_key_files(federation, "clinician", tmp_path / "clinician" / "clinician.json")
    clinician = Clinic(party, ipfs, owner.data)
    asked = ("--hospital", owner.address, "--dataset", owner.dataset, "--image", "0", *NORMAL)
    code, told = clinician.readings("record", *asked)
    assert code == 2
    assert "readings appoint" in told["error"]["message"]
    assert owner.readings("appoint", who.address, "--days", "1")[0] == 0
    code, told = clinician.readings("record", *asked)
    assert code == 0, told
    for one in (clinician, owner):
        out = str(tmp_path / "reading.json")
        code, opened = one.readings("open", told["reading"], "--out", out)
        assert (code, opened["author"], opened["hospital"]) == (0, who.address, owner.address)
    # Her hospital's own word is a second opinion on hers.
    second = owner.record(0, "--impression", "I agree.", "--opinion-on", told["reading"])
    assert owner.readings("compare", second, told["reading"], "agree")[0] == 0
    # Appointed by this machine's clock, which may be ahead of the chain's.
    federation.pass_time(2 * 86_400)
    words = ("--reason", "late", "--impression", "Late.")
    code, told = clinician.readings("correct", told["reading"], *words)
    assert code == 2
    assert "readings appoint" in told["error"]["message"]


def test_the_board_says_what_has_lapsed_and_deadlines_refuse(
    owner: Clinic, reader: Clinic, federation: Federation
) -> None:
    hours = ("--take-hours", "1", "--fulfil-hours", "2")
    ids = []
    for image in (0, 1):
        code, told = owner.readings("ask", *owner.image(image), *hours)
        assert code == 0, told
        ids.append(told["request"])
    assert owner.readings("cancel", ids[0])[0] == 0
    code, told = reader.readings("take", ids[0])
    assert (code, told["error"]["kind"]) == (2, "ContractRevertedError")
    assert reader.readings("take", ids[1])[0] == 0
    assert reader.readings("release", ids[1])[0] == 0
    federation.pass_time(3660)
    (one,) = owner.board("requests", "--state", "open")["requests"]
    assert (one["request"], one["lapsed"], one["taker"]) == (ids[1], True, None)
    code, told = reader.readings("take", ids[1])
    assert "TooLate" in told["error"]["message"]
    states = [
        one["state"] for one in owner.board("requests", "--hospital", owner.address)["requests"]
    ]
    assert states == ["CANCELLED", "OPEN"]
    assert owner.board("requests", "--hospital", reader.address)["requests"] == []
    assert owner.readings("cancel", ids[1])[0] == 0


def test_a_question_for_one_hospital_is_read_by_it(
    owner: Clinic, reader: Clinic, ipfs: str, federation: Federation, tmp_path: Path
) -> None:
    words = ("--question", "Is it new?", "--reader", reader.address)
    code, told = owner.readings("ask", *owner.image(0), *words)
    assert code == 0, told
    out = tmp_path / "question.json"
    code, asked = reader.readings("question", told["request"], "--out", str(out))
    assert (code, asked["asks"]) == (0, "Is it new?")
    assert json.loads(out.read_bytes())["resourceType"] == "ServiceRequest"
    other = open_clinic(federation, ipfs, tmp_path, "hospital-3")
    code, refused = other.readings("question", told["request"])
    assert (code, refused["error"]["kind"]) == (2, "SealedToOthersError")
    code, refused = other.readings("take", told["request"])
    assert "NotReader" in refused["error"]["message"]
    named = ("--question", "Did Mrs Lovelace improve?")
    code, told = owner.readings("ask", *owner.image(0), *named)
    assert code == 2
    assert "may tell who the patient is" in told["error"]["message"]


def test_a_shared_copy_opens_for_whom_it_was_made(
    owner: Clinic, reader: Clinic, tmp_path: Path
) -> None:
    reading = owner.record(0, *NORMAL)
    out = str(tmp_path / "reading.json")
    code, told = reader.readings("open", reading, "--out", out)
    assert (code, told["error"]["kind"]) == (2, "SealedToOthersError")
    assert not Path(out).exists()
    code, told = owner.readings("share", reading, "--to", reader.address)
    assert code == 0, told
    assert reader.readings("open", reading, "--out", out, "--copy", told["copy"])[0] == 0


def test_people_are_shown_each_with_its_identifier_in_one_piece(owner: Clinic) -> None:
    reading = owner.record(0, *NORMAL)
    code, told = owner.readings("ask", *owner.image(0), "--opinion-on", reading)
    assert code == 0, told
    deployment = owner.party.federation.deployment
    contracts = ("--ledger", deployment.ledger, "--image-access", deployment.image_access)
    where = (*contracts, "--rpc", owner.party.federation.rpc_url)
    for words, shown in (
        (("list", "--image", "0", "--dataset", owner.dataset), reading),
        (("requests",), told["request"]),
    ):
        done = CliRunner().invoke(
            command_line(), ["readings", *words, *where], env={"COLUMNS": "100"}
        )
        assert done.exit_code == 0
        assert shown in done.stdout
        assert "None" not in done.stdout


def test_every_command_teaches_with_an_example() -> None:
    for one in readings.app.registered_commands:
        assert one.callback is not None
        name = one.name or one.callback.__name__
        done = CliRunner().invoke(command_line(), ["readings", name, "--help"])
        assert done.exit_code == 0
        assert f"fedwitness readings {name}" in " ".join(done.stdout.split())


def test_a_reading_that_was_copied_from_the_ledger_is_told_with_its_copy(
    owner: Clinic, federation: Federation, tmp_path: Path
) -> None:
    reading = owner.record(0, *NORMAL)
    colleague = federation.ledgers["hospital-2"]
    assert owner.readings("appoint", federation.address("hospital-2"))[0] == 0
    (honest,) = colleague.readings.readings()
    proof = prove_image(load_dataset(Path(owner.dataset)), 0).proof
    copy = to_hex(colleague.readings.record(honest.terms, proof))
    told = owner.board("list", "--image", "0", "--dataset", owner.dataset)
    assert told["copies"] == [[reading, copy]]
    out = tmp_path / "reading.json"
    assert owner.readings("open", copy, "--out", str(out))[0] == 0
