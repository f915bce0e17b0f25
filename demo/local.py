"""A whole federation on this machine: network, contracts, parties and their processes.

Everything that has to last lies in one folder, so that a federation that was stopped goes on
where it was::

    federation.json   addresses
    network/          chain and IPFS node
    keys/             keystore files and random passwords, for the owner alone; beside them
                      each party's outbox and working files
    processes/        process files and logs
"""

import sys
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import httpx

from chain.blobs import IpfsBlobStore
from chain.compiler import compile_contracts
from chain.deploy import deploy
from chain.devnet import anvil, network
from chain.devnet.ports import free_port, is_free
from chain.devnet.process import end, is_running, last_lines, remembered, spawn, wait_until
from chain.errors import DevnetError
from chain.federation import FILE_NAME, Federation, read_federation, write_federation
from chain.ledger import Ledger
from chain.reader import LedgerReader
from chain.types import Role
from demo.parties import Cast, Party, gather

REPOSITORY = Path(__file__).resolve().parents[1]
ETHER = 10**18
ALLOWANCE_WEI = 100 * ETHER
START_SECONDS = 60.0
STOP_SECONDS = 15.0
POLL_SECONDS = 0.5  # asking costs little where chain and processes share a machine

STEWARD, RELAYER, AGGREGATOR, AUDITOR = "steward", "relayer", "aggregator", "auditor"
RESEARCHER = "researcher"
WITNESSES = ("witness-1", "witness-2", "witness-3")
STAFF: tuple[tuple[str, Role | None], ...] = (
    (STEWARD, Role.STEWARD),
    (RELAYER, None),
    (AGGREGATOR, Role.AGGREGATOR),
    *((name, Role.WITNESS) for name in WITNESSES),
    (AUDITOR, Role.AUDITOR),
    (RESEARCHER, Role.RESEARCHER),
)


@dataclass(frozen=True, slots=True)
class LocalFederation:
    """A federation on this machine, its chain and IPFS node running."""

    folder: Path
    addresses: Federation
    cast: Cast

    @property
    def file(self) -> Path:
        """The federation's file."""
        return self.folder / FILE_NAME

    @property
    def database_url(self) -> str:
        """SQLAlchemy URL of the server's index of the chain."""
        return f"sqlite:///{self.cast[RELAYER].keyring.work / 'index.db'}"

    @property
    def accuracies(self) -> Path:
        """What the consortium claims of its models, for the server's pages to show."""
        return self.folder / "accuracies.jsonl"

    def options(self, name: str) -> tuple[str, ...]:
        """Return the options that let a command act for this party in this federation."""
        return ("--federation", str(self.file), *self.cast[name].keyring.options())

    def reader(self) -> LedgerReader:
        """Return the ledger to read from."""
        where = self.addresses
        return LedgerReader(where.rpc_url, where.ledger, where.image_access)

    def ledger(self, party: Party) -> Ledger:
        """Return the ledger to write to in a party's name."""
        where = self.addresses
        keys = (party.identity.account, party.keyring.outbox)
        return Ledger(where.rpc_url, where.ledger, *keys, where.image_access)

    def blobs(self) -> IpfsBlobStore:
        """Return the IPFS node."""
        return IpfsBlobStore(self.addresses.ipfs)


def set_up(
    folder: Path, others: Iterable[tuple[str, Role]], say: Callable[[str], None]
) -> LocalFederation:
    """Start the network, deploy the contracts and enrol the parties, as far as that is not done.

    Args:
        folder: Holds everything; made if missing.
        others: Names and roles of parties besides the `STAFF`, such as hospitals.
        say: Told what goes on.

    Raises:
        FedWitnessError: If a part is missing, or does not start.
    """
    folder = folder.resolve()
    say("starting chain and IPFS node")
    addresses = network.start(folder / "network")
    for notice in addresses.notices:
        say(notice)
    cast = gather(folder / "keys", (*STAFF, *others))
    for party in cast.parties.values():
        anvil.fund(addresses.rpc_url, party.address, ALLOWANCE_WEI)
    known = _deployed(folder, addresses.rpc_url, cast[STEWARD], say)
    known = replace(known, rpc_url=addresses.rpc_url, ipfs=addresses.ipfs_api)
    write_federation(folder / FILE_NAME, known)
    local = LocalFederation(folder, known, cast)
    _enroll(local, say)
    return local


def start_staff(local: LocalFederation, say: Callable[[str], None]) -> LocalFederation:
    """Start the REST server and the witnesses as processes of their own.

    Returns:
        The federation with the server's address, which its file has now, too.

    Raises:
        DevnetError: If one does not start.
    """
    port = _server_port(local)
    local = replace(local, addresses=replace(local.addresses, api_url=f"http://127.0.0.1:{port}"))
    write_federation(local.file, local.addresses)
    for name, arguments in _staff_commands(local, port).items():
        say(f"starting {name}")
        start_process(local, name, arguments)
    _wait_for_server(local)
    return local


def start_aggregator(local: LocalFederation, task: str, *options: str) -> None:
    """Start the aggregator of a task as a process of its own."""
    often = ("--task", task, "--poll-seconds", str(POLL_SECONDS))
    start_process(
        local, AGGREGATOR, ("aggregator", "run", *local.options(AGGREGATOR), *often, *options)
    )


def start_process(local: LocalFederation, name: str, arguments: Iterable[str]) -> None:
    """Start a `fedwitness` command as a process of its own, unless it runs already."""
    folder = local.folder / "processes"
    folder.mkdir(parents=True, exist_ok=True)
    if remembered(folder / f"{name}.pid") is None:
        spawn(
            fedwitness(*arguments),
            cwd=REPOSITORY,
            log=folder / f"{name}.log",
            pid_file=folder / f"{name}.pid",
        )


def stop_process(folder: Path, name: str) -> None:
    """End a process that `start_process` started; do nothing if it does not run."""
    process = remembered(folder / "processes" / f"{name}.pid")
    if process is not None:
        end(process, grace_seconds=STOP_SECONDS)


def stop(folder: Path) -> None:
    """Stop every process of a federation, then its network; what they wrote stays."""
    for pid_file in sorted((folder / "processes").glob("*.pid")):
        stop_process(folder, pid_file.stem)
    network.stop(folder / "network")


def running(folder: Path) -> Mapping[str, bool]:
    """Tell of every part of a federation whether it runs."""
    state = network.status(folder / "network")
    processes = sorted((folder / "processes").glob("*.pid"))
    return {
        "chain": state.chain_answers,
        "ipfs": state.ipfs_answers,
        **{pid_file.stem: remembered(pid_file) is not None for pid_file in processes},
    }


def fedwitness(*arguments: str) -> tuple[str, ...]:
    """Return the command line of a `fedwitness` command, run by this very Python."""
    return (sys.executable, "-m", "cli.main", *arguments)


def _deployed(folder: Path, rpc_url: str, steward: Party, say: Callable[[str], None]) -> Federation:
    path = folder / FILE_NAME
    if path.is_file():
        known = read_federation(path)
        if anvil.rpc(rpc_url, "eth_getCode", known.ledger, "latest") != "0x":
            return known
        message = (
            f"the chain in {folder / 'network'} does not hold the federation that {path} names: "
            f"its state is lost. Move {folder} away to begin a new one"
        )
        raise DevnetError(message)
    say("compiling and deploying the contracts")
    compiled = compile_contracts(REPOSITORY)
    deployed = deploy(rpc_url, steward.identity, compiled, steward.keyring.outbox, steward.name)
    return Federation(
        chain_id=deployed.chain_id, ledger=deployed.ledger, image_access=deployed.image_access
    )


def _enroll(local: LocalFederation, say: Callable[[str], None]) -> None:
    steward = local.ledger(local.cast[STEWARD])
    for party in local.cast.parties.values():
        if party.role is None or steward.is_active(party.address, party.role):
            continue
        say(f"enrolling {party.name} as {party.role.value.lower()}")
        steward.enroll(party.address, party.role, party.identity.encryption_key, party.name)


def _server_port(local: LocalFederation) -> int:
    """Return the server's port of the last time, or a free one where somebody has taken it."""
    last = local.addresses.api_url.rpartition(":")[2]
    runs = remembered(local.folder / "processes" / "server.pid") is not None
    if last.isdigit() and (runs or is_free(int(last))):
        return int(last)
    return free_port()


def _staff_commands(local: LocalFederation, port: int) -> Mapping[str, tuple[str, ...]]:
    often = ("--poll-seconds", str(POLL_SECONDS))
    local.accuracies.touch()
    claims = ("--accuracies", str(local.accuracies))
    serve = ("--port", str(port), "--database", local.database_url, *claims)
    return {
        "server": ("aggregator", "serve", *local.options(RELAYER), *serve),
        **{name: ("witness", "run", *local.options(name), *often) for name in WITNESSES},
    }


def _wait_for_server(local: LocalFederation) -> None:
    pid_file = local.folder / "processes" / "server.pid"
    process = remembered(pid_file)

    def settled() -> bool:
        return process is None or not is_running(process) or _is_healthy(local.addresses.api_url)

    wait_until(settled, seconds=START_SECONDS)
    if not _is_healthy(local.addresses.api_url):
        log = pid_file.with_suffix(".log")
        message = f"the server did not answer; the end of {log}:\n{last_lines(log)}"
        raise DevnetError(message)


def _is_healthy(api_url: str) -> bool:
    try:
        with httpx.Client(trust_env=False, timeout=2.0) as client:
            return client.get(f"{api_url}/healthz").is_success
    except httpx.HTTPError:
        return False
