"""A server process before a real chain and a real IPFS node."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from multiprocessing import get_context
from multiprocessing.process import BaseProcess
from pathlib import Path

import httpx

from api.server import serve
from api.settings import Settings
from chain.devnet.anvil import fund
from chain.devnet.ports import free_port
from chain.keystore import create_identity
from tests.federation import ETHER, Federation
from tests.waiting import eventually


@dataclass
class Server:
    """A server process that can be killed and started again."""

    settings: Settings
    http: httpx.Client
    running: list[BaseProcess] = field(default_factory=list)

    def start(self) -> None:
        process = get_context("spawn").Process(target=serve, args=(self.settings,))
        process.start()
        self.running.append(process)
        eventually(self._answers)

    def kill(self) -> None:
        process = self.running.pop()
        process.kill()
        process.join(10)

    def _answers(self) -> bool:
        try:
            return self.http.get("/healthz").status_code == 200
        except httpx.TransportError:
            return False


@contextmanager
def serving(federation: Federation, ipfs: str, folder: Path) -> Iterator[Server]:
    """Start a server for a federation, and end it."""
    relayer = create_identity(folder / "keys", "relayer", "a password", scrypt_n=2)
    fund(federation.rpc_url, relayer.address, ETHER)
    password = folder / "password"
    password.write_text("a password")
    password.chmod(0o600)
    port = free_port()
    settings = Settings(
        rpc_url=federation.rpc_url,
        ledger=federation.reader.address,
        image_access=federation.deployment.image_access,
        ipfs=ipfs,
        index_url=f"sqlite:///{folder / 'index.sqlite'}",
        spool=folder / "spool",
        keystore=folder / "keys",
        relayer="relayer",
        password_file=password,
        port=port,
        poll_seconds=0.1,
        spool_reserve_bytes=0,
    )
    with httpx.Client(base_url=f"http://127.0.0.1:{port}", trust_env=False, timeout=30) as http:
        found = Server(settings, http)
        found.start()
        try:
            yield found
        finally:
            for process in found.running:
                process.terminate()
                process.join(30)
