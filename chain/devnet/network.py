"""The local network as one thing: started, checked and stopped together, at steady addresses."""

import fcntl
import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from chain.devnet import anvil, ipfs
from chain.devnet.ports import free_port, is_free
from chain.devnet.process import remembered
from chain.errors import DevnetError
from chain.files import replacing

MAX_PORTS_FILE_BYTES = 4096


@dataclass(frozen=True, slots=True)
class Addresses:
    """Where the local network answers.

    Attributes:
        rpc_url: JSON-RPC of the chain.
        ipfs_api: Multiaddr of the IPFS node's RPC.
        notices: What the user should know, for example that a port had to change.
    """

    rpc_url: str
    ipfs_api: str
    notices: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Status:
    """How the local network is.

    Attributes:
        addresses: Where it answers, or would answer after a start; None if never started.
        chain_answers: Whether the chain answers now.
        ipfs_answers: Whether the IPFS node answers now.
    """

    addresses: Addresses | None
    chain_answers: bool
    ipfs_answers: bool


@dataclass(frozen=True, slots=True)
class _Ports:
    chain: int
    ipfs: int


def start(folder: Path) -> Addresses:
    """Start chain and IPFS node on what `folder` holds, or find them running.

    The ports of the last start are used again. Where another program has taken one meanwhile, a
    free one takes its place and a notice says so.

    Args:
        folder: Holds everything of this network. Made if missing.

    Raises:
        DevnetError: If a part is missing or does not answer in time. Neither runs after
            that.
    """
    with _alone_in(folder):
        before = _read_ports(folder)
        wanted = before or _Ports(free_port(), free_port())
        ports = _Ports(
            _usable(wanted.chain, folder / "chain" / "anvil.pid"),
            _usable(wanted.ipfs, folder / "ipfs" / "ipfs.pid"),
        )
        _write_ports(folder, ports)
        try:
            anvil.start_anvil(folder / "chain", ports.chain)
            ipfs.start_ipfs(folder / "ipfs", ports.ipfs)
        except BaseException:
            _stop_both(folder)
            raise
        return _addresses(ports, _notices(wanted, ports))


def stop(folder: Path) -> None:
    """Stop chain and IPFS node after they have written everything; do nothing if none runs.

    Raises:
        DevnetError: If one cannot be ended.
    """
    if folder.is_dir():
        with _alone_in(folder):
            _stop_both(folder)


def status(folder: Path) -> Status:
    """Tell how the network of this folder is, without changing anything."""
    ports = _read_ports(folder)
    if ports is None:
        return Status(None, chain_answers=False, ipfs_answers=False)
    addresses = _addresses(ports, ())
    return Status(
        addresses,
        chain_answers=remembered(folder / "chain" / "anvil.pid") is not None
        and anvil.answers(addresses.rpc_url),
        ipfs_answers=remembered(folder / "ipfs" / "ipfs.pid") is not None
        and ipfs.answers(ports.ipfs),
    )


def _usable(port: int, pid_file: Path) -> int:
    """Return the port if ours already listens there or nobody does, else a free one."""
    return port if remembered(pid_file) is not None or is_free(port) else free_port()


def _notices(wanted: _Ports, ports: _Ports) -> tuple[str, ...]:
    pairs = (("chain", wanted.chain, ports.chain), ("IPFS node", wanted.ipfs, ports.ipfs))
    return tuple(
        f"port {old} is taken by another program: the {name} is on port {new} from now on"
        for name, old, new in pairs
        if old != new
    )


def _addresses(ports: _Ports, notices: tuple[str, ...]) -> Addresses:
    return Addresses(f"http://127.0.0.1:{ports.chain}", ipfs.multiaddr(ports.ipfs), notices)


def _stop_both(folder: Path) -> None:
    try:
        anvil.stop_anvil(folder / "chain")
    finally:
        ipfs.stop_ipfs(folder / "ipfs")


def _read_ports(folder: Path) -> _Ports | None:
    """Read the ports of the last start; a file that holds none is as good as no file."""
    try:
        with (folder / "devnet.json").open("rb") as file:
            found = json.loads(file.read(MAX_PORTS_FILE_BYTES))
        ports = _Ports(int(found["chain_port"]), int(found["ipfs_port"]))
    except (OSError, ValueError, KeyError, TypeError):
        return None
    return ports if all(0 < port < 1 << 16 for port in (ports.chain, ports.ipfs)) else None


def _write_ports(folder: Path, ports: _Ports) -> None:
    content = json.dumps({"chain_port": ports.chain, "ipfs_port": ports.ipfs})
    with replacing(folder / "devnet.json") as file:
        file.write(content.encode())


@contextmanager
def _alone_in(folder: Path) -> Iterator[None]:
    """Keep other starts and stops out of this folder meanwhile."""
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / "devnet.lock").open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise DevnetError(
                f"another command starts or stops the network in {folder}: wait for its end"
            ) from error
        yield
