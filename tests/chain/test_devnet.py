"""The local network keeps what it was given, whatever happens to its processes."""

import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
from eth_account import Account

from chain.blobs import IpfsBlobStore
from chain.cid import blob_blocks, blob_cid
from chain.devnet import anvil as anvil_process
from chain.devnet import ipfs as ipfs_process
from chain.devnet import keeper, network
from chain.devnet.anvil import fund, rpc, start_anvil, stop_anvil
from chain.devnet.ports import free_port
from chain.devnet.process import ProcessIdentity, end, remembered, spawn, start_time
from chain.errors import BlobUnavailableError, DevnetError
from tests.waiting import eventually

ALICE = "0x00000000000000000000000000000000000A11cE"
BOB = "0x0000000000000000000000000000000000000B0b"


def balance(rpc_url: str, address: str) -> int:
    return int(rpc(rpc_url, "eth_getBalance", address, "latest"), 16)


def height(rpc_url: str) -> int:
    return int(rpc(rpc_url, "eth_blockNumber"), 16)


def kill(pid_file: Path) -> None:
    process = remembered(pid_file)
    assert process is not None
    os.kill(process.pid, signal.SIGKILL)
    eventually(lambda: remembered(pid_file) is None)


def written(folder: Path, blocks: int) -> bool:
    """Whether the keeper's copy holds a chain of this height."""
    copy = folder / "state.copy.json"
    return copy.exists() and int(json.loads(copy.read_text())["block"]["number"], 16) >= blocks


@pytest.fixture
def folder(tmp_path: Path) -> Iterator[Path]:
    """A folder whose network is stopped after the test, come what may."""
    try:
        yield tmp_path
    finally:
        network.stop(tmp_path)


# --- the chain ---


def test_an_account_can_be_funded(anvil: str) -> None:
    fund(anvil, ALICE, 10**18)

    assert balance(anvil, ALICE) == 10**18


def test_the_chain_has_no_accounts_of_its_own(anvil: str) -> None:
    assert rpc(anvil, "eth_accounts") == []


def test_a_refused_request_says_what_was_refused(anvil: str) -> None:
    with pytest.raises(DevnetError, match="eth_noSuchMethod"):
        rpc(anvil, "eth_noSuchMethod")


def test_an_absent_chain_is_named() -> None:
    with pytest.raises(DevnetError, match="no JSON-RPC answer to eth_chainId"):
        rpc(f"http://127.0.0.1:{free_port()}", "eth_chainId")


def test_a_chain_killed_while_it_wrote_its_state_is_not_lost(folder: Path) -> None:
    chain, port = folder / "chain", free_port()
    url = start_anvil(chain, port)
    fund(url, ALICE, 77)
    rpc(url, "anvil_mine", "0x5")
    eventually(lambda: written(chain, 5))
    kill(chain / "anvil.pid")
    state = chain / "state.json"
    state.write_bytes(state.read_bytes()[:1000])

    url = start_anvil(chain, port)

    assert (height(url), balance(url, ALICE)) == (5, 77)
    assert (chain / "state.json.broken").stat().st_size == 1000


def test_a_chain_killed_when_its_state_lacked_a_transaction_comes_back_with_it(
    folder: Path,
) -> None:
    chain, port, sender = folder / "chain", free_port(), Account.create()
    url = start_anvil(chain, port)
    fund(url, sender.address, 10**18)
    for nonce in range(3):
        signed = sender.sign_transaction(
            {
                "to": BOB,
                "value": 1,
                "nonce": nonce,
                "gas": 21_000,
                "gasPrice": 10**10,
                "chainId": 31337,
            }
        )
        rpc(url, "eth_sendRawTransaction", f"0x{signed.raw_transaction.hex()}")
    eventually(lambda: written(chain, 3))
    kill(chain / "anvil.pid")
    state = json.loads((chain / "state.json").read_text())
    state["transactions"] = [each for each in state["transactions"] if each["block_number"] < 3]
    (chain / "state.json").write_text(json.dumps(state))

    url = start_anvil(chain, port)

    hash_ = f"0x{signed.hash.hex()}"
    assert balance(url, BOB) == 3
    assert int(rpc(url, "eth_getTransactionReceipt", hash_)["blockNumber"], 16) == 3


def test_a_killed_chain_comes_back_with_its_last_written_state(folder: Path) -> None:
    chain, port = folder / "chain", free_port()
    url = start_anvil(chain, port)
    rpc(url, "anvil_mine", "0x3")
    eventually(lambda: written(chain, 3))
    before = rpc(url, "eth_getBlockByNumber", "0x3", False)
    kill(chain / "anvil.pid")

    url = start_anvil(chain, port)

    assert rpc(url, "eth_getBlockByNumber", "0x3", False)["hash"] == before["hash"]


def test_a_chain_that_came_back_has_a_keeper_again(folder: Path) -> None:
    chain, port = folder / "chain", free_port()
    start_anvil(chain, port)
    keeper_before = remembered(chain / "keeper.pid")
    kill(chain / "anvil.pid")
    url = start_anvil(chain, port)
    rpc(url, "anvil_mine", "0x4")

    eventually(lambda: written(chain, 4))
    assert remembered(chain / "keeper.pid") not in (None, keeper_before)


def test_a_stopped_chain_has_written_everything(folder: Path) -> None:
    chain, port = folder / "chain", free_port()
    url = start_anvil(chain, port)
    rpc(url, "anvil_mine", "0x9")
    stop_anvil(chain)

    assert written(chain, 9)
    assert height(start_anvil(chain, port)) == 9


def test_a_chain_whose_state_cannot_be_read_is_not_started(folder: Path) -> None:
    (folder / "chain").mkdir()
    (folder / "chain" / "state.json").write_text("no state")

    with pytest.raises(DevnetError, match="not a whole state of a chain"):
        start_anvil(folder / "chain", free_port())
    assert (folder / "chain" / "state.json").read_text() == "no state"
    assert remembered(folder / "chain" / "anvil.pid") is None


# --- the keeper of its state ---


def state_of(*, number: int = 2, sent: int = 2, nonce: int = 2, last_sent_in: int = 2) -> str:
    """A state of anvil's whose sender has sent a transaction in each of its last blocks."""
    sending = [{"info": {"from": ALICE}, "block_number": last_sent_in - n} for n in range(sent)]
    return json.dumps(
        {
            "block": {"number": hex(number)},
            "accounts": {
                ALICE: {"nonce": nonce, "code": "0x"},
                BOB: {"nonce": 1, "code": "0xfe"},
            },
            "blocks": [{"header": {"number": hex(n)}} for n in (0, 2, 1)],
            "transactions": sending,
        }
    )


def test_half_a_state_does_not_replace_a_whole_copy(tmp_path: Path) -> None:
    state, copy = tmp_path / "state.json", tmp_path / "copy.json"
    whole = state_of()
    state.write_text(whole)
    digest = keeper.keep_copy(state, copy, b"")

    for length in range(len(whole)):
        state.write_text(whole[:length])
        assert keeper.keep_copy(state, copy, digest) == digest

    assert copy.read_text() == whole


@pytest.mark.parametrize(
    "torn",
    [
        state_of(sent=1),  # a transaction's effect without the transaction
        state_of(nonce=1),  # a transaction without its effect
        state_of(last_sent_in=3),  # a transaction without its block
        state_of(number=3),
        state_of(number=1),
    ],
)
def test_a_state_of_two_moments_does_not_replace_a_whole_copy(tmp_path: Path, torn: str) -> None:
    state, copy = tmp_path / "state.json", tmp_path / "copy.json"
    state.write_text(torn)
    copy.write_text(state_of())

    assert keeper.keep_copy(state, copy, b"") == b""
    assert keeper.recover(state, copy)

    assert state.read_text() == copy.read_text() == state_of()
    assert (tmp_path / "state.json.broken").read_text() == torn


def test_a_whole_state_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "state").write_text(state_of())
    (tmp_path / "copy").write_text(state_of(sent=1, nonce=1))

    assert not keeper.recover(tmp_path / "state", tmp_path / "copy")
    assert (tmp_path / "state").read_text() == state_of()


def test_half_a_state_without_a_copy_is_left_for_a_person(tmp_path: Path) -> None:
    (tmp_path / "state").write_text('{"block":')
    (tmp_path / "copy").write_text("[]")

    with pytest.raises(DevnetError, match="there is no whole copy"):
        keeper.recover(tmp_path / "state", tmp_path / "copy")
    assert (tmp_path / "state").read_text() == '{"block":'


# --- the IPFS node ---


def test_blocks_and_pins_outlive_a_killed_ipfs_node(folder: Path) -> None:
    node, port = folder / "ipfs", free_port()
    with IpfsBlobStore(ipfs_process.start_ipfs(node, port)) as blobs:
        cid = blobs.put([b"x" * 3_000_000])
        kill(node / "ipfs.pid")
        (node / "incoming" / "half-a-block").write_bytes(b"x")

        ipfs_process.start_ipfs(node, port)

        assert blobs.get(cid, 3_000_000) == b"x" * 3_000_000
        assert pins(port) == [str(cid)]
        assert list((node / "incoming").iterdir()) == []


def test_storing_a_blob_again_heals_its_damaged_blocks(folder: Path) -> None:
    node = folder / "ipfs"
    with IpfsBlobStore(ipfs_process.start_ipfs(node, free_port())) as blobs:
        cid = blobs.put([b"x" * 1000])
        for block in (node / "blocks").rglob("*.data"):
            block.write_bytes(b"")

        assert blobs.put([b"x" * 1000]) == cid
        assert blobs.get(cid, 1000) == b"x" * 1000


def test_an_ipfs_node_that_cannot_write_says_so_and_keeps_what_it_has(folder: Path) -> None:
    node = folder / "ipfs"
    with IpfsBlobStore(ipfs_process.start_ipfs(node, free_port())) as blobs:
        kept = blobs.put([b"kept"])
        (node / "incoming").rmdir()
        (node / "incoming").write_text("a file where a folder should be")

        with pytest.raises(BlobUnavailableError, match="ENOTDIR"):
            blobs.put([b"lost"])

        assert blobs.get(kept, 4) == b"kept"
        assert not blobs.has(blob_cid([b"lost"]))


def test_a_blob_is_pinned_only_as_a_whole(folder: Path) -> None:
    node, port = folder / "ipfs", free_port()
    with IpfsBlobStore(ipfs_process.start_ipfs(node, port)) as blobs:
        *_, (root, block) = blob_blocks([b"half of this is missing"])
        blobs._put_block(root, block)

        answer = httpx.post(
            f"http://127.0.0.1:{port}/api/v0/pin/add", params={"arg": str(root)}, trust_env=False
        )

        assert answer.status_code == 500
        assert "cannot have the whole" in answer.json()["Message"]
        assert pins(port) == []


def test_two_ipfs_nodes_share_blocks_once_connected(
    folder: Path, ipfs: str, ipfs_http: str
) -> None:
    port = free_port()
    api = ipfs_process.start_ipfs(folder / "ipfs", port)
    with IpfsBlobStore(api) as near, IpfsBlobStore(ipfs) as far:
        cid = far.put([b"from afar " * 200_000])
        assert not near.has(cid)
        far_address = ask(ipfs_http, "id")["Addresses"][0]
        ask(f"http://127.0.0.1:{port}", "swarm/connect", arg=far_address)

        assert near.get(cid, 2_000_000) == b"from afar " * 200_000


def ask(url: str, command: str, **params: str) -> dict[str, list[str]]:
    answer = httpx.post(f"{url}/api/v0/{command}", params=params, timeout=10, trust_env=False)
    found: dict[str, list[str]] = answer.raise_for_status().json()
    return found


def pins(port: int) -> list[str]:
    return list(ask(f"http://127.0.0.1:{port}", "pin/ls")["Keys"])


def test_a_web_page_cannot_use_the_ipfs_node(ipfs_http: str) -> None:
    answer = httpx.post(
        f"{ipfs_http}/api/v0/id", headers={"Origin": "http://evil.example"}, trust_env=False
    )

    assert (answer.status_code, answer.json()["Type"]) == (403, "error")
    assert httpx.get(f"{ipfs_http}/api/v0/id", trust_env=False).status_code == 405


@pytest.mark.parametrize(
    ("command", "status"),
    [
        ("block/get", 400),
        ("block/get?arg=nonsense", 400),
        ("block/get?arg=" + "b" * 5000, 400),
        ("block/put", 500),
        ("block/put?cid-codec=git", 400),
        ("id?timeout=for-ever", 400),
        ("add?chunker=rabin", 400),
        ("pin/rm?arg=bafkreifzjut3te2nhyekklss27nh3k72ysco7y32koao5eei66wof36n5a", 500),
        ("key/gen", 404),
        ("../../etc/passwd", 404),
    ],
)
def test_a_malformed_command_gets_kubos_form_of_error(
    ipfs_http: str, command: str, status: int
) -> None:
    answer = httpx.post(f"{ipfs_http}/api/v0/{command}", trust_env=False)

    assert answer.status_code == status
    assert set(answer.json()) == {"Message", "Code", "Type"}


def test_an_oversized_block_is_refused_and_leaves_nothing(folder: Path) -> None:
    port = free_port()
    ipfs_process.start_ipfs(folder / "ipfs", port)
    url = f"http://127.0.0.1:{port}"

    answer = httpx.post(
        f"{url}/api/v0/block/put", files={"file": bytes(2 * 1024 * 1024 + 1)}, trust_env=False
    )

    assert answer.status_code == 413
    assert ask(url, "repo/stat")["NumObjects"] == 0  # type: ignore[comparison-overlap]


# --- both ---


def test_the_network_starts_again_where_it_was(folder: Path) -> None:
    first = network.start(folder)
    fund(first.rpc_url, BOB, 5)
    with IpfsBlobStore(first.ipfs_api) as blobs:
        cid = blobs.put([b"kept"])
    assert network.start(folder) == first  # a second start finds it running
    running = network.Status(first, chain_answers=True, ipfs_answers=True)
    assert network.status(folder) == running
    network.stop(folder)
    assert network.status(folder) == network.Status(first, chain_answers=False, ipfs_answers=False)

    again = network.start(folder)

    assert again == first
    assert balance(again.rpc_url, BOB) == 5
    with IpfsBlobStore(again.ipfs_api) as blobs:
        assert blobs.get(cid, 4) == b"kept"


def test_a_port_that_another_program_took_is_replaced_and_told(folder: Path) -> None:
    with socket.socket() as squatter:
        squatter.bind(("127.0.0.1", 0))
        squatter.listen()
        taken = squatter.getsockname()[1]
        ports = {"chain_port": taken, "ipfs_port": free_port()}
        (folder / "devnet.json").write_text(json.dumps(ports))

        addresses = network.start(folder)

        assert str(taken) not in addresses.rpc_url
        assert f"port {taken} is taken" in addresses.notices[0]
        assert addresses.ipfs_api.endswith(f"/{ports['ipfs_port']}/http")
    assert network.start(folder).notices == ()


@pytest.mark.parametrize("content", ["", "[]", '{"chain_port": 99999999, "ipfs_port": 1}'])
def test_a_spoilt_file_of_ports_is_as_good_as_none(tmp_path: Path, content: str) -> None:
    (tmp_path / "devnet.json").write_text(content)

    assert network.status(tmp_path).addresses is None


def test_stopping_a_network_that_never_ran_does_nothing(tmp_path: Path) -> None:
    network.stop(tmp_path / "nowhere")

    assert not (tmp_path / "nowhere").exists()


def test_without_its_programs_the_network_says_make_setup(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(anvil_process, "REPOSITORY", folder)
    monkeypatch.setattr(ipfs_process, "REPOSITORY", folder)
    monkeypatch.setenv("PATH", str(folder))

    with pytest.raises(DevnetError, match="make setup"):
        start_anvil(folder / "chain", free_port())
    with pytest.raises(DevnetError, match="make setup"):
        ipfs_process.start_ipfs(folder / "ipfs", free_port())


# --- processes ---


def test_a_stranger_with_the_id_of_our_dead_process_is_left_alone(tmp_path: Path) -> None:
    with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE) as stranger:
        claim = ProcessIdentity(stranger.pid, "long ago")
        (tmp_path / "ours.pid").write_text(json.dumps({"pid": claim.pid, "started": "long ago"}))

        assert remembered(tmp_path / "ours.pid") is None
        end(claim, grace_seconds=0.1)

        assert stranger.poll() is None
        stranger.communicate(b"\n", timeout=5)


@pytest.mark.parametrize("content", ["", "[]", '{"pid": 1}', '{"pid": "x", "started": ""}', "\0"])
def test_a_spoilt_pid_file_names_nobody(tmp_path: Path, content: str) -> None:
    (tmp_path / "pid").write_text(content)

    assert remembered(tmp_path / "pid") is None


def test_a_process_that_does_not_listen_is_killed(tmp_path: Path) -> None:
    stubborn = (
        "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); "
        "open('ready', 'w').close(); time.sleep(60)"
    )
    pid_file = tmp_path / "pid"
    process = spawn(
        [sys.executable, "-c", stubborn], cwd=tmp_path, log=tmp_path / "log", pid_file=pid_file
    )
    eventually((tmp_path / "ready").exists)

    began = time.monotonic()
    end(process, grace_seconds=0.2)

    assert time.monotonic() - began < 5
    assert start_time(process.pid) is None
