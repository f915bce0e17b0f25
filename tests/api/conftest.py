"""A running server with a ledger and a blob store in memory."""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from threading import Thread
from typing import Any, cast

import httpx
import pytest
import uvicorn
from eth_account import Account
from eth_account.signers.local import LocalAccount
from fastapi import FastAPI

from api.app import build_app
from api.server import configuration
from api.settings import Settings
from chain.cid import blob_cid
from chain.devnet.ports import free_port
from chain.ledger import Ledger
from chain.signing import sign_update
from chain.types import Role, UpdateRecord
from chain.wire import to_json_dict
from tests.api.fake_ledger import LEDGER, FakeLedger
from tests.api.signing_in import session_headers
from tests.memory_blobs import MemoryBlobStore
from tests.waiting import eventually

HOSPITAL: LocalAccount = Account.from_key(b"\x01" * 32)
OTHER_HOSPITAL: LocalAccount = Account.from_key(b"\x02" * 32)
AUDITOR: LocalAccount = Account.from_key(b"\x03" * 32)
RESEARCHER: LocalAccount = Account.from_key(b"\x04" * 32)
STRANGER: LocalAccount = Account.from_key(b"\x05" * 32)
OFFSET_STREAM = "application/offset+octet-stream"


class Clock:
    """Real time, which a test can move on."""

    def __init__(self) -> None:
        self.ahead = 0.0

    def __call__(self) -> float:
        return time.time() + self.ahead


@dataclass
class Running:
    """A server under test and what stands behind it."""

    url: str
    http: httpx.Client
    app: FastAPI
    settings: Settings
    ledger: FakeLedger
    blobs: MemoryBlobStore
    clock: Clock

    def sign_in(self, account: LocalAccount) -> dict[str, str]:
        return session_headers(self.http, account, self.clock())

    def announce(
        self, session: dict[str, str], account: LocalAccount, record: UpdateRecord, size: int
    ) -> httpx.Response:
        body = {
            "record": to_json_dict(record),
            "signature": "0x" + sign_update(record, account).hex(),
            "size": size,
        }
        return self.http.post("/v1/uploads", json=body, headers=session)

    def send(
        self, session: dict[str, str], location: str, offset: int, content: Any
    ) -> httpx.Response:
        headers = session | {"Upload-Offset": str(offset), "Content-Type": OFFSET_STREAM}
        return self.http.patch(location, content=content, headers=headers)

    def outcome(self, session: dict[str, str], location: str) -> dict[str, Any]:
        """Wait until an upload came to its end."""
        return self.wait_for(
            session, location, lambda upload: upload["state"] in ("recorded", "refused")
        )

    def wait_for(
        self,
        session: dict[str, str],
        location: str,
        is_so: Callable[[dict[str, Any]], bool],
    ) -> dict[str, Any]:
        def upload() -> dict[str, Any]:
            return cast("dict[str, Any]", self.http.get(location, headers=session).json())

        def so() -> dict[str, Any] | None:
            found = upload()
            return found if is_so(found) else None

        return eventually(so, upload)

    def wait_until_ready(self) -> None:
        """Wait until all parts answer and the index has read the whole chain."""
        eventually(
            lambda: self.http.get("/readyz").status_code == 200,
            lambda: self.http.get("/readyz").text,
        )


def record_for(content: bytes, account: LocalAccount = HOSPITAL, **changes: Any) -> UpdateRecord:
    record = UpdateRecord(
        chain_id=31337,
        ledger=LEDGER,
        round=1,
        hospital=account.address,
        datasets=(b"\xda" * 32,),
        purpose=6,
        examples=480,
        base_model=b"\xba" * 32,
        update=b"\x0d" * 32,
        blob=blob_cid([content]).digest,
        code=b"\xc0" * 32,
    )
    return replace(record, **changes)


def settings_for(folder: Path, port: int) -> Settings:
    """Settings for a ledger and a blob store in memory, with all files in one folder."""
    return Settings(
        rpc_url="",
        ledger=LEDGER,
        image_access="",
        ipfs="",
        index_url=f"sqlite:///{folder / 'index.sqlite'}",
        spool=folder / "spool",
        keystore=folder,
        relayer="relayer",
        password_file=folder / "password",
        port=port,
        poll_seconds=0.02,
        spool_reserve_bytes=0,
    )


@contextmanager
def running(
    folder: Path, ledger: FakeLedger, blobs: MemoryBlobStore, /, **changes: Any
) -> Iterator[Running]:
    settings = replace(settings_for(folder, free_port()), **changes)
    clock = Clock()
    app = build_app(settings, cast("Ledger", ledger), blobs, clock)
    server = uvicorn.Server(configuration(app, settings))
    thread = Thread(target=server.run)
    thread.start()
    url = f"http://{settings.host}:{settings.port}"
    try:
        while not server.started:
            if not thread.is_alive():
                raise RuntimeError("the server did not start")
            time.sleep(0.005)
        with httpx.Client(base_url=url, trust_env=False, timeout=20) as http:
            yield Running(url, http, app, settings, ledger, blobs, clock)
    finally:
        server.should_exit = True
        thread.join()


@pytest.fixture
def ledger() -> FakeLedger:
    found = FakeLedger()
    found.enroll(HOSPITAL.address, Role.HOSPITAL)
    found.enroll(OTHER_HOSPITAL.address, Role.HOSPITAL)
    found.enroll(AUDITOR.address, Role.AUDITOR)
    found.enroll(RESEARCHER.address, Role.RESEARCHER)
    found.open()
    return found


@pytest.fixture
def blobs() -> MemoryBlobStore:
    return MemoryBlobStore()


@pytest.fixture
def server(tmp_path: Path, ledger: FakeLedger, blobs: MemoryBlobStore) -> Iterator[Running]:
    with running(tmp_path, ledger, blobs) as found:
        yield found
