"""A federation is deployed, or it is said what keeps it from that."""

from pathlib import Path

import pytest

from chain.compiler import compile_contracts
from chain.deploy import deploy
from chain.devnet.ports import free_port
from chain.errors import InvalidInputError, LedgerError
from chain.reader import LedgerReader
from chain.types import Role
from tests.federation import ROOT, Federation, identity


def test_a_deployment_knows_its_parts_and_its_first_steward(federation: Federation) -> None:
    deployment = federation.deployment
    reader = LedgerReader(federation.rpc_url, deployment.ledger, deployment.image_access)
    assert reader.chain_id == deployment.chain_id
    assert reader.participant_registry == deployment.participants
    assert reader.dataset_registry == deployment.datasets
    assert reader.deployed_at == deployment.block
    assert reader.is_active(federation.address("steward"), Role.STEWARD)


def test_an_account_without_funds_is_told_so(anvil: str, tmp_path: Path) -> None:
    poor = identity("nobody funds me")
    with pytest.raises(LedgerError, match=f"Insufficient funds.*{poor.address}"):
        deploy(anvil, poor, compile_contracts(ROOT), tmp_path)


def test_a_chain_that_does_not_answer_is_named_without_its_credentials(tmp_path: Path) -> None:
    port = free_port()
    rpc_url = f"http://user:secret@127.0.0.1:{port}/v3/secret?key=secret"
    with pytest.raises(LedgerError, match=f"http://127.0.0.1:{port} ") as caught:
        deploy(rpc_url, identity("steward"), compile_contracts(ROOT), tmp_path)
    assert "secret" not in str(caught.value)


@pytest.mark.parametrize("rpc_url", ["", "127.0.0.1:8545", "ftp://host", "http://", "http://h:x"])
def test_what_is_no_url_is_refused(rpc_url: str) -> None:
    with pytest.raises(InvalidInputError, match="http or https URL"):
        LedgerReader(rpc_url, "0x" + "11" * 20)
