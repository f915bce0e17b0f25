"""The local network keeps what it was given, whatever happens to its processes."""

from chain.devnet.anvil import fund, rpc

ALICE = "0x00000000000000000000000000000000000A11cE"


def test_an_account_can_be_funded(anvil: str) -> None:
    fund(anvil, ALICE, 10**18)

    assert int(rpc(anvil, "eth_getBalance", ALICE, "latest"), 16) == 10**18
