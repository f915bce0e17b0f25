"""Rounds, models and grants, answered from the chain."""

from dataclasses import replace

import httpx
import pytest

from chain.cid import LAYOUT, RAW, Cid
from chain.types import AccessGrant, Phase, Proposal
from chain.wire import from_json_dict
from tests.api.conftest import AUDITOR, HOSPITAL, RESEARCHER, Running


def test_a_hospital_finds_all_that_it_needs_to_take_part(server: Running) -> None:
    session = server.sign_in(HOSPITAL)
    answer = server.http.get("/v1/tasks/lesion/round", headers=session).json()
    assert answer["chain_id"] == 31337
    assert answer["ledger"] == server.ledger.address
    assert answer["round"]["terms"]["deadline"] == 4_000_000_000
    assert answer["recipients"] == ["0x" + "01" * 32]
    assert answer == server.http.get("/v1/rounds/1", headers=session).json()


def test_a_task_without_a_round_says_so(server: Running) -> None:
    session = server.sign_in(HOSPITAL)
    answer = server.http.get("/v1/tasks/other/round", headers=session)
    assert (answer.status_code, answer.json()["type"]) == (404, "no-active-round")


def test_base_models_and_final_models_are_handed_out(server: Running) -> None:
    session = server.sign_in(HOSPITAL)
    model = b"tensors" * 500_000
    cid = server.blobs.put(iter([model]))
    path = f"/v1/blobs/{cid}"
    assert server.http.get(path, headers=session).status_code == 404
    server.ledger.change(
        1, phase=Phase.PROPOSED, proposal=Proposal(1, b"\1" * 32, cid.digest, b"\2" * 32)
    )
    assert server.http.get(path, headers=session).status_code == 404
    server.ledger.change(1, phase=Phase.FINAL)
    assert server.http.get(path, headers=session).content == model
    base = server.blobs.put(iter([b"base"]))
    server.ledger.open(base_blob=base.digest)
    assert server.http.get(f"/v1/blobs/{base}", headers=session).content == b"base"
    assert server.http.get(path).status_code == 401


def test_envelopes_are_not_handed_out(server: Running) -> None:
    cid = server.blobs.put(iter([b"an envelope"]))
    session = server.sign_in(HOSPITAL)
    assert server.http.get(f"/v1/blobs/{cid}", headers=session).status_code == 404


def test_a_model_that_ipfs_does_not_have_is_a_problem(server: Running) -> None:
    session = server.sign_in(HOSPITAL)
    cid = Cid.from_blob_digest(server.ledger.rounds[1].terms.base_blob)
    answer = server.http.get(f"/v1/blobs/{cid}", headers=session)
    assert (answer.status_code, answer.json()["type"]) == (503, "blob-unavailable")


def test_a_model_with_a_swapped_byte_is_not_handed_out(server: Running) -> None:
    cid = server.blobs.put(iter([b"base"]))
    server.ledger.open(base_blob=cid.digest)
    for block in server.blobs.blocks:
        if block != cid:
            server.blobs.blocks[block] = b"bbse"
    answer = server.http.get(f"/v1/blobs/{cid}", headers=server.sign_in(HOSPITAL))
    assert (answer.status_code, answer.json()["type"]) == (502, "verification-failed")


def test_a_model_that_breaks_off_cannot_be_taken_for_a_whole_one(server: Running) -> None:
    pieces = [bytes([number]) * LAYOUT.leaf_bytes for number in range(20)]
    cid = server.blobs.put(iter(pieces))
    server.ledger.open(base_blob=cid.digest)
    del server.blobs.blocks[Cid.of_block(RAW, pieces[-1])]
    session = server.sign_in(HOSPITAL)
    with pytest.raises(httpx.RemoteProtocolError):
        server.http.get(f"/v1/blobs/{cid}", headers=session)


def test_a_researcher_sees_its_own_grants_and_the_block(server: Running) -> None:
    grant = AccessGrant(
        grant=b"\x7c" * 32,
        version=b"\xda" * 32,
        image=None,
        hospital=HOSPITAL.address,
        researcher=RESEARCHER.address,
        purpose=6,
        expiry=4_000_000_000,
        revoked=False,
        live=True,
    )
    server.ledger.grants += [grant, replace(grant, grant=b"\x7d" * 32, researcher=AUDITOR.address)]
    answer = server.http.get("/v1/grants/mine", headers=server.sign_in(RESEARCHER)).json()
    assert [from_json_dict(AccessGrant, found) for found in answer["grants"]] == [grant]
    assert answer["block"] == {
        "number": 0,
        "hash": "0x" + "57" * 32,
        "timestamp": server.ledger.timestamp,
    }
