"""The local network for every test that needs a real chain or a real IPFS node."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import settings

from chain.devnet.anvil import start_anvil, stop_anvil
from chain.devnet.ipfs import start_ipfs, stop_ipfs
from chain.devnet.ports import free_port
from tests.federation import Federation, connect, found_federation, unchanged

# A busy machine must not fail a property: the number of examples bounds its time.
settings.register_profile("fedwitness", deadline=None)
settings.load_profile("fedwitness")


@pytest.fixture(scope="session")
def anvil(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A running anvil for the whole session, as its JSON-RPC URL.

    Tests share it: isolate what they change with `evm_snapshot` and `evm_revert`.
    """
    folder = tmp_path_factory.mktemp("anvil")
    try:
        yield start_anvil(folder, free_port())
    finally:
        stop_anvil(folder)


@pytest.fixture(scope="session")
def ipfs(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A running IPFS node for the whole session, as the multiaddr of its RPC."""
    folder = tmp_path_factory.mktemp("ipfs")
    try:
        yield start_ipfs(folder, free_port())
    finally:
        stop_ipfs(folder)


@pytest.fixture(scope="session")
def ipfs_http(ipfs: str) -> str:
    """The URL of the same IPFS node, for requests without a client."""
    return f"http://127.0.0.1:{ipfs.split('/')[4]}"


@pytest.fixture(scope="session")
def founded_federation(anvil: str, tmp_path_factory: pytest.TempPathFactory) -> Federation:
    """A federation as it was founded; ask for `federation`, which no other test has changed."""
    return found_federation(anvil, tmp_path_factory.mktemp("outboxes"))


@pytest.fixture
def federation(founded_federation: Federation, tmp_path: Path) -> Iterator[Federation]:
    """A small federation on the session's anvil, just founded (see `tests/federation.py`)."""
    rpc_url, deployment = founded_federation.rpc_url, founded_federation.deployment
    with unchanged(rpc_url):
        versions = dict(founded_federation.versions)
        yield connect(rpc_url, deployment, tmp_path / "outboxes", versions)
