"""The local Ethereum chain: anvil, with its state kept on disk."""

import platform
import shutil
import sys
from pathlib import Path
from typing import Any

import httpx

from chain.devnet import keeper
from chain.devnet.process import (
    end,
    is_running,
    last_lines,
    remembered,
    spawn,
    wait_until,
)
from chain.errors import DevnetError

CHAIN_ID = 31337
# OpenZeppelin 5.7 uses `mcopy`, so the chain needs Cancun (EIP-5656) or later.
HARDFORK = "osaka"
START_SECONDS = 20.0
# anvil writes its whole state while it ends.
STOP_SECONDS = 30.0
RPC_SECONDS = 10.0

REPOSITORY = Path(__file__).resolve().parents[2]

_ARCHITECTURES = {"x86_64": "amd64", "amd64": "amd64", "aarch64": "arm64", "arm64": "arm64"}


def start_anvil(folder: Path, port: int) -> str:
    """Start anvil on the state kept in `folder`, or find it running there.

    If anvil was killed while it wrote its state, the last whole copy is used (see `keeper`).

    Args:
        folder: Holds the state, its copy, the log and the process files. Made if missing.
        port: TCP port on 127.0.0.1.

    Returns:
        The URL of its JSON-RPC interface.

    Raises:
        DevnetError: If anvil is missing, does not start within 20 seconds or finds no use in
            its state.
    """
    folder.mkdir(parents=True, exist_ok=True)
    rpc_url = f"http://127.0.0.1:{port}"
    if remembered(folder / "anvil.pid") is None:
        _spawn_anvil(folder, port)
    if remembered(folder / "keeper.pid") is None:
        _spawn_keeper(folder)
    process = remembered(folder / "anvil.pid")
    wait_until(
        lambda: process is None or not is_running(process) or answers(rpc_url),
        seconds=START_SECONDS,
    )
    if process is None or not is_running(process) or not answers(rpc_url):
        log = folder / "anvil.log"
        stop_anvil(folder)
        raise DevnetError(
            f"anvil did not answer at {rpc_url}; the end of {log}:\n{last_lines(log)}"
        )
    return rpc_url


def stop_anvil(folder: Path) -> None:
    """End the anvil of this folder after it has written its state; do nothing if there is none.

    Raises:
        DevnetError: If it cannot be ended, or the copy of its state cannot be written.
    """
    process = remembered(folder / "anvil.pid")
    if process is not None:
        end(process, grace_seconds=STOP_SECONDS)
    _end_keeper(folder)
    (folder / "anvil.pid").unlink(missing_ok=True)
    try:
        keeper.keep_copy(_state(folder), _copy(folder), b"")
    except FileNotFoundError:
        return  # it ended before it wrote any state
    except OSError as error:
        raise DevnetError(
            f"anvil has stopped, but the copy of its state could not be written: {error}. "
            f"Free some space before the next start; the state itself is {_state(folder)}."
        ) from error


def answers(rpc_url: str) -> bool:
    """Tell whether a local chain of ours answers at this URL."""
    try:
        return bool(rpc(rpc_url, "eth_chainId") == hex(CHAIN_ID))
    except DevnetError:
        return False


def fund(rpc_url: str, address: str, wei: int) -> None:
    """Set the balance of an account on the local chain (`anvil_setBalance`).

    Args:
        rpc_url: JSON-RPC URL of the local chain.
        address: Account, 20 bytes in hexadecimal with 0x.
        wei: New balance.

    Raises:
        DevnetError: If the chain does not answer or is not anvil.
    """
    rpc(rpc_url, "anvil_setBalance", address, hex(wei))


def rpc(rpc_url: str, method: str, *params: Any) -> Any:
    """Call a JSON-RPC 2.0 method and return its result.

    Raises:
        DevnetError: If there is no answer within 10 seconds, or the answer is an error.
    """
    request = {"jsonrpc": "2.0", "id": 1, "method": method, "params": params}
    try:
        # The chain is on this machine: a proxy from the environment must not come between.
        with httpx.Client(trust_env=False, timeout=RPC_SECONDS) as client:
            answer = client.post(rpc_url, json=request).json()
    except (httpx.HTTPError, ValueError) as error:
        raise DevnetError(
            f"no JSON-RPC answer to {method} from {rpc_url}: {error!r}. Is the network up?"
        ) from error
    if not isinstance(answer, dict) or "result" not in answer:
        raise DevnetError(f"{rpc_url} refused {method}: {answer}")
    return answer["result"]


def anvil_program() -> Path:
    """Find anvil: first the platform's package in node_modules, then on the path.

    The `anvil` in node_modules/.bin is a Node.js wrapper that leaves the real process running
    when it is ended, so the platform package's own binary is used.

    Raises:
        DevnetError: If there is neither.
    """
    machine = _ARCHITECTURES.get(platform.machine().lower(), "unknown")
    package = REPOSITORY / "node_modules" / "@foundry-rs" / f"anvil-{sys.platform}-{machine}"
    program = package / "bin" / "anvil"
    if program.is_file():
        return program
    on_path = shutil.which("anvil")
    if on_path is not None:
        return Path(on_path)
    raise DevnetError(f"anvil is neither at {program} nor on the path: run `make setup`")


def _spawn_anvil(folder: Path, port: int) -> None:
    # A keeper that still watches for a killed anvil would end just after the new one's start.
    _end_keeper(folder)
    keeper.recover(_state(folder), _copy(folder))
    command = [str(anvil_program()), "--quiet", "--host", "127.0.0.1", "--port", str(port)]
    command += ["--chain-id", str(CHAIN_ID), "--hardfork", HARDFORK, "--accounts", "0"]
    command += ["--state", str(_state(folder)), "--state-interval", "1"]
    command += ["--cache-path", str(folder.resolve() / "cache")]
    spawn(command, cwd=folder, log=folder / "anvil.log", pid_file=folder / "anvil.pid")


def _spawn_keeper(folder: Path) -> None:
    files = (folder.resolve() / "anvil.pid", _state(folder), _copy(folder))
    command = [sys.executable, "-m", "chain.devnet.keeper", *map(str, files)]
    spawn(command, cwd=REPOSITORY, log=folder / "keeper.log", pid_file=folder / "keeper.pid")


def _end_keeper(folder: Path) -> None:
    process = remembered(folder / "keeper.pid")
    if process is not None:
        end(process, grace_seconds=1.0)
    (folder / "keeper.pid").unlink(missing_ok=True)


def _state(folder: Path) -> Path:
    return folder.resolve() / "state.json"


def _copy(folder: Path) -> Path:
    return folder.resolve() / "state.copy.json"
