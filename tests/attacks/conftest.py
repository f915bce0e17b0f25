"""A devnet for the attacks of a file that a witness has to see."""

from collections.abc import Iterator

import pytest

from chain.devnet.anvil import start_anvil, stop_anvil
from chain.devnet.ports import free_port
from tests.attacks.devnet import Devnet, watched
from tests.federation import found_federation


@pytest.fixture(scope="module")
def devnet(ipfs: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Devnet]:
    """A chain of its own, which nobody sets back while the witness watches.

    It ends with the file: a witness that polls ten times a second would slow what comes after.
    """
    folder = tmp_path_factory.mktemp("watched")
    try:
        rpc_url = start_anvil(folder / "anvil", free_port())
        federation = found_federation(rpc_url, folder / "outboxes")
        with watched(federation, ipfs, folder) as running:
            yield running
    finally:
        stop_anvil(folder / "anvil")
