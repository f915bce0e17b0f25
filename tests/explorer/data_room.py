"""A data room that is real, with pictures of its pages for README and guides.

Two hospitals work by the commands that people work by, on a real chain, IPFS node and server.

python -m tests.explorer.data_room docs/images
"""

import shutil
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pydicom
import requests
from playwright.sync_api import sync_playwright

from chain.devnet.anvil import start_anvil, stop_anvil
from chain.devnet.ipfs import start_ipfs, stop_ipfs
from chain.devnet.ports import free_port
from chain.types import Role
from tests.api.server_process import Server, serving
from tests.api.signing_in import message, offered, session_headers, signature
from tests.cli.clinics import Clinic, ingest, open_clinic
from tests.end_to_end.test_readings import done, showing
from tests.explorer.pictures import DESK, PHONE, TALLEST, opened, take
from tests.federation import Federation, found_federation
from tests.waiting import eventually

OWNER, READER, OTHER = "hospital-1", "hospital-2", "hospital-3"
NAMES = {
    OWNER: "St Mary, Albany",
    READER: "Universitätsklinikum Bremen",
    OTHER: "Hospital Clínico de Évora",
}
HOUR = 3600
REASON = "seen on review"


@dataclass(frozen=True)
class DataRoom:
    """A server, and what happened to the first image of a hospital.

    Attributes:
        server: The server.
        federation: The federation.
        version: The data-set version.
        image: The image's commitment.
        first: The owner's reading.
        second: The reading hospital's second opinion.
        corrected: The owner's correction.
        request: The request that the second opinion fulfilled.
        still_open: Another request, which any hospital can take.
    """

    server: Server
    federation: Federation
    version: str
    image: str
    first: str
    second: str
    corrected: str
    request: str
    still_open: str

    @property
    def url(self) -> str:
        """Where the server is."""
        return str(self.server.http.base_url).rstrip("/")

    def ask(self, path: str, name: str = "auditor") -> Any:
        """Ask the server as a party."""
        account = self.federation.identities[name].account
        headers = session_headers(self.server.http, account, time.time())
        answer = self.server.http.get(path, headers=headers)
        assert answer.status_code == 200, answer.text
        return answer.json()

    def cookie(self, name: str = "auditor") -> str:
        """Sign in as the pages do."""
        http, account = self.server.http, self.federation.identities[name].account
        text = message(offered(http, account.address), account.address, time.time())
        body = {"message": text, "signature": signature(text, account), "cookie": True}
        answer = http.post("/v1/auth/session", json=body).raise_for_status()
        http.cookies.clear()
        return answer.headers["set-cookie"].partition(";")[0]

    def catch_up(self) -> None:
        """Wait until the server has read the whole chain."""
        newest = self.federation.reader.head().number
        eventually(lambda: self.ask("/v1/rounds")["as_of"]["number"] == newest)


def furnish(federation: Federation, ipfs: str, folder: Path, server: Server) -> DataRoom:
    """Let a hospital's image be read, asked about, looked at, read again, and compared."""
    owner = open_clinic(federation, ipfs, folder, OWNER, ingest(folder))
    reader = open_clinic(federation, ipfs, folder, READER)

    # The owner reads, and asks the other hospital, which may look for clinical care.
    first = owner.record(0, "--impression", "No lesion.", "--clinician", "Roe^Richard")
    federation.pass_time(2 * HOUR)
    question = ("--question", "Is there a lesion?", "--take-hours", "24", "--fulfil-hours", "72")
    asked = done(owner.readings("ask", *owner.image(0), "--opinion-on", first, *question))
    key = federation.identities[READER].encryption_key
    steward = federation.ledgers["steward"]
    party = federation.reader.participant(reader.address)
    assert party is not None
    steward.enroll(reader.address, Role.RESEARCHER, key, party.name)
    named = ("--version", owner.version, "--image", "0", "--dataset", owner.dataset)
    done(owner.party.run("grants", "give", reader.address, *named, "--purpose", "43"))
    proof = folder / "proof.json"
    done(owner.party.run("hospital", "prove", "--image", "0", "--out", str(proof)))

    # It takes the request, looks at the image, and reads it.
    federation.pass_time(5 * HOUR)
    request, image = str(asked["request"]), str(asked["image"])
    done(reader.readings("take", request))
    federation.pass_time(HOUR)
    seen = look(owner, reader, folder)
    words = ("--clinician", "Doe^Jane", "--impression", "A lesion of 4 mm.")
    held = ("--instance", str(seen), "--proof", str(proof), "--form", "dicom")
    second = str(done(reader.readings("fulfil", request, *held, *words))["reading"])
    done(reader.readings("compare", second, first, "major"))
    hand_over(owner, server)

    # The owner corrects its reading; now they agree.
    federation.pass_time(20 * HOUR)
    why = ("--reason", REASON, "--impression", "A lesion.", "--to", reader.address)
    corrected = str(done(owner.readings("correct", first, *why))["correction"])
    federation.pass_time(HOUR)
    done(reader.readings("compare", second, corrected, "agree"))
    still_open = str(done(owner.readings("ask", *owner.image(1)))["request"])
    room = DataRoom(
        server, federation, owner.version, image, first, second, corrected, request, still_open
    )
    room.catch_up()
    return room


def look(owner: Clinic, reader: Clinic, folder: Path) -> Path:
    """Retrieve the owner's first image from its gateway, and keep it."""
    assert owner.data is not None
    header = pydicom.dcmread(owner.data.instance(0), stop_before_pixels=True)
    uids = (header.StudyInstanceUID, header.SeriesInstanceUID, header.SOPInstanceUID)
    path = "/dicomweb/studies/{}/series/{}/instances/{}".format(*uids)
    with showing(owner) as url:
        token = done(reader.party.run("looks", "sign-in", "--gateway", url))["token"]
        headers = {"Authorization": f"Bearer {token}", "Accept": "application/dicom"}
        answer = requests.get(url + path, headers=headers, timeout=30)
        answer.raise_for_status()
    seen = folder / "image.dcm"
    seen.write_bytes(answer.content)
    return seen


def hand_over(owner: Clinic, server: Server) -> None:
    """Anchor the owner's access log, and hand it over."""
    done(owner.party.run("hospital", "looks", "anchor"))
    url = str(server.http.base_url)
    told = done(owner.party.run("hospital", "looks", "hand-over", "--api", url))
    assert told["handed_over"], told


@contextmanager
def local_network(folder: Path) -> Iterator[tuple[str, str]]:
    """Start a chain and an IPFS node, and end them."""
    chain, blobs = folder / "chain", folder / "ipfs"
    try:
        yield start_anvil(chain, free_port()), start_ipfs(blobs, free_port())
    finally:
        stop_anvil(chain)
        stop_ipfs(blobs)


def main(images: Path) -> None:
    """Take all pictures.

    Args:
        images: Where the pictures go.
    """
    with TemporaryDirectory() as kept, local_network(Path(kept)) as (rpc_url, ipfs):
        folder = Path(kept)
        federation = found_federation(rpc_url, folder / "outboxes", NAMES)
        with serving(federation, ipfs, folder) as server:
            room = furnish(federation, ipfs, folder, server)
            picture(room, images)


def picture(room: DataRoom, images: Path) -> None:
    """Take a picture of each page of the data room."""
    paths = {
        "image": f"/images/{room.image}",
        "reading": f"/readings/{room.corrected}",
        "requests": "/requests",
    }
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(
            executable_path=shutil.which("chromium"), args=["--no-sandbox", "--disable-gpu"]
        )
        cookie = room.cookie()
        for name, scheme, kind in (
            ("image", "light", "desk"),
            ("image", "light", "phone"),
            ("reading", "dark", "desk"),
            ("requests", "light", "desk"),
        ):
            viewport = PHONE if kind == "phone" else DESK
            page = opened(browser, room.url, cookie, scheme, viewport)
            page.goto(f"{room.url}{paths[name]}")
            suffix = kind if kind == "phone" else scheme
            end = page.locator("#versions")
            box = end.bounding_box() if end.count() else None
            tallest = min(int(box["y"]) - 16, TALLEST) if box else TALLEST
            take(page, images / f"explorer-{name}-{suffix}.png", tallest)
            page.context.close()
        browser.close()


if __name__ == "__main__":
    main(Path(sys.argv[1]))
