"""A gateway over a few scans, on a chain that does as the test says, and whoever asks it."""

import json
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pydicom
import uvicorn
from eth_account import Account
from pydicom.dataset import FileDataset
from pydicom.uid import UID

from chain.devnet.ports import free_port
from chain.errors import ContractRevertedError, LedgerError
from chain.keystore import Identity
from chain.look_receipts import LookReceipt, from_header, verify_receipt
from chain.reader import GrantsAnswer
from chain.rpc import Head
from chain.secret_file import kept_secret
from chain.sending import Receipt
from chain.types import AccessGrant, AnchoredBatch, DatasetState, DatasetVersion, LogPosition, Role
from node.dataset import CommittedDataset, commit_images
from node.gateway.app import Gateway, build_app
from node.gateway.catalogue import Catalogue
from node.gateway.sessions import Place, Sessions
from node.gateway.visiting import Visit
from node.images import read_ingested
from node.ingest import ingest
from node.look_log import LookLog, LookWriter

CHAIN, NOW = 31337, 1_800_000_000
HOSPITAL = Account.from_key(b"\x01" * 32)
ACCESS_LOGS = Account.from_key(b"\x02" * 32).address
RESEARCHER = Identity(Account.from_key(b"\x03" * 32), b"\x04" * 32)
OTHER = Identity(Account.from_key(b"\x05" * 32), b"\x06" * 32)
VERSION = b"\xda" * 32
REAL_FILES = Path(pydicom.__file__).parent / "data" / "test_files"
STUDIES = ("1.2.826.1", "1.2.826.2")
NOWHERE = f"/dicomweb/studies/{STUDIES[0]}0/series/1.2/instances/1.2"


@dataclass
class Ledger:
    """A chain on which one hospital gives grants."""

    version: DatasetVersion
    grants: list[AccessGrant] = field(default_factory=list)
    batches: list[AnchoredBatch] = field(default_factory=list)
    is_away: bool = False
    chain_id: int = CHAIN
    access_logs: str = ACCESS_LOGS

    def head(self) -> Head:
        return Head(7, bytes(32), NOW)

    def is_active(self, address: str, role: Role) -> bool:
        assert address in {RESEARCHER.address, OTHER.address}
        return role is Role.RESEARCHER

    def grants_of(self, researcher: str) -> GrantsAnswer:
        if self.is_away:
            raise LedgerError("the chain cannot be reached")
        # Others' as well, which a client must not be shown anything by.
        assert researcher in {RESEARCHER.address, OTHER.address}
        return GrantsAnswer(self.head(), tuple(self.grants))

    def dataset_versions(self, _: str | None = None) -> tuple[DatasetVersion, ...]:
        return (self.version,)

    def anchored(self, _: str) -> tuple[int, int]:
        return len(self.batches), sum(one.entries for one in self.batches)

    def anchored_batches(self, _: str | None = None) -> tuple[AnchoredBatch, ...]:
        return tuple(self.batches)

    def anchor_looks(self, root: bytes, first: int, entries: int) -> Receipt:
        if first != self.anchored("")[1]:
            raise ContractRevertedError("AccessLogsOutOfOrder", {})
        number, position = len(self.batches) + 1, LogPosition(1, 0, bytes(32))
        batch = AnchoredBatch(HOSPITAL.address, number, root, first, entries, position)
        self.batches.append(batch)
        return Receipt(bytes(32), 1, 60_000)


@dataclass
class Room:
    """A gateway, and whoever asks it."""

    out: Path
    npz: Path
    ledger: Ledger
    dataset: CommittedDataset
    writer: LookWriter
    http: httpx.Client
    root: str
    paths: list[Path] = field(default_factory=list)
    headers: dict[str, str] = field(default_factory=dict)

    def sign_in(self, who: Identity) -> dict[str, str]:
        token, _ = Visit(self.root, who, CHAIN, http=self.http).sign_in()
        return {"Authorization": f"Bearer {token}"}

    def get(self, path: str, **headers: str) -> Any:
        return self.http.get(path, headers=self.headers | headers)

    def header(self, image: int) -> FileDataset:
        return pydicom.dcmread(self.paths[image])

    def url(self, image: int) -> str:
        one = self.header(image)
        return (
            f"/dicomweb/studies/{one.StudyInstanceUID}/series/{one.SeriesInstanceUID}"
            f"/instances/{one.SOPInstanceUID}"
        )

    def give(self, place: int | None, **changes: Any) -> None:
        grant = AccessGrant(
            grant=bytes([len(self.ledger.grants) + 1]) * 32,
            version=VERSION,
            image=None if place is None else self.dataset.commitments[place],
            hospital=HOSPITAL.address,
            researcher=RESEARCHER.address,
            purpose=6,
            expiry=NOW + 3600,
            revoked=False,
            live=True,
        )
        self.ledger.grants.append(replace(grant, **changes))

    @property
    def looks(self) -> int:
        return len(self.writer.log)


def four_scans() -> list[FileDataset]:
    """Two studies of two slices each."""
    scans = []
    for number in range(4):
        scan = pydicom.dcmread(REAL_FILES / "MR_small.dcm")
        study = STUDIES[number // 2]
        scan.StudyInstanceUID, scan.SeriesInstanceUID = study, f"{study}.{number % 2}"
        scan.SOPInstanceUID = scan.file_meta.MediaStorageSOPInstanceUID = UID(f"{study}.9.{number}")
        scan.InstanceNumber = number + 1
        scan.PixelData = np.roll(scan.pixel_array, number, axis=0).tobytes()
        scans.append(scan)
    return scans


def take_in(folder: Path, scans: Sequence[FileDataset]) -> tuple[Path, Path]:
    """Ingest scans; return the output and the key."""
    (folder / "in").mkdir()
    rows = ["file,label"]
    for number, scan in enumerate(scans):
        scan.save_as(folder / "in" / f"{number}.dcm")
        rows.append(f"{number}.dcm,0")
    (folder / "in" / "labels.csv").write_text("\n".join(rows) + "\n")
    key = folder / "secret.key"
    ingest(folder / "in", folder / "out", key, kept_secret(key))
    return folder / "out", key


@contextmanager
def opened(out: Path, key: Path, folder: Path, **changes: Any) -> Iterator[Room]:
    """Register what was ingested, open the gateway with what is to be other, and sign in."""
    npz = folder / "datasets" / "heads.npz"
    npz.parent.mkdir()
    dataset = commit_images(npz, "heads", read_ingested(out, key), frozenset({6}))
    version = DatasetVersion(
        version=VERSION,
        dataset=bytes(32),
        hospital=HOSPITAL.address,
        state=DatasetState.ACTIVE,
        merkle_root=dataset.terms.merkle_root,
        images=dataset.terms.images,
        modality=dataset.terms.modality,
        purposes=frozenset({6}),
        profile=1,
        attestation=dataset.terms.attestation,
        previous=bytes(32),
    )
    ledger: Any = Ledger(version)
    log = LookLog.beside(folder, CHAIN, ACCESS_LOGS, HOSPITAL.address)
    writer = LookWriter(log, HOSPITAL)
    catalogue = Catalogue([out], npz.parent, ledger.dataset_versions)
    port = free_port()
    root = f"http://127.0.0.1:{port}"
    sessions = Sessions(Place(root), ledger, time.time)
    gateway = build_app(Gateway(ledger, catalogue, writer, sessions, root, **changes))
    lines = [json.loads(line) for line in (out / "files.jsonl").read_text().splitlines()]
    paths = [out / name for one in lines for name in one.get("files", ()) if name.endswith("dcm")]
    server = uvicorn.Server(uvicorn.Config(gateway, port=port, log_level="error"))
    thread = threading.Thread(target=server.run)
    thread.start()
    try:
        while not server.started:
            assert thread.is_alive()
            time.sleep(0.01)
        with httpx.Client(base_url=root, trust_env=False, timeout=60) as http:
            found = Room(out, npz, ledger, dataset, writer, http, root, paths)
            found.headers = found.sign_in(RESEARCHER)
            yield found
    finally:
        server.should_exit = True
        thread.join(30)
        writer.close()


def told(answer: Any) -> tuple[int, dict[str, str], bytes]:
    headers = {name: value for name, value in answer.headers.items() if name != "date"}
    return answer.status_code, headers, answer.content


def receipt(answer: Any) -> LookReceipt:
    assert answer.status_code == 200, answer.text
    found = from_header(answer.headers["FedWitness-Receipt"])
    verify_receipt(found)
    return found
