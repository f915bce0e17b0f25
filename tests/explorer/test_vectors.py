"""The vectors that the browser verifier is held to are what Python computes.

`tests/explorer/vectors.test.mjs` holds the browser to the same file.
"""

import json
from pathlib import Path
from typing import Any

import pytest

from chain import rlp
from chain.addresses import checked_address
from chain.cid import Layout, blob_cid
from chain.codec import decode_event
from chain.digests import keccak, sha256
from chain.errors import FedWitnessError, VerificationError
from chain.histories import genesis_history, next_history
from chain.merkle import image_leaves, merkle_root, verdicts_root
from chain.signing import recover_attestation_signer, recover_head_signer, update_struct_hash
from chain.trie import proven_value
from chain.types import Attestation, LedgerHead, Outcome, Reason, UpdateRecord, Verdict

PATH = Path(__file__).parents[1] / "vectors" / "verifier.json"
VECTORS: dict[str, list[Any]] = json.loads(PATH.read_text())
_bytes = bytes.fromhex


def test_hashes_and_addresses_are_those_of_the_vectors() -> None:
    for one in VECTORS["hashes"]:
        data = _bytes(one["data"])
        assert (sha256(data).hex(), keccak(data).hex()) == (one["sha256"], one["keccak"])
    for one in VECTORS["addresses"]:
        assert checked_address(f"0x{one['bytes']}") == one["address"]


def test_record_digests_are_those_of_the_vectors() -> None:
    for one in VECTORS["records"]:
        told = one["record"]
        record = UpdateRecord(
            chain_id=int(told["chainId"]),
            ledger=told["ledger"],
            round=int(told["round"]),
            hospital=told["hospital"],
            datasets=tuple(map(_bytes, told["datasets"])),
            purpose=told["purpose"],
            examples=told["examples"],
            base_model=_bytes(told["baseModel"]),
            update=_bytes(told["update"]),
            blob=_bytes(told["blob"]),
            code=_bytes(told["code"]),
            epsilon=int(told["epsilon"]),
            delta=int(told["delta"]),
        )
        assert update_struct_hash(record).hex() == one["digest"]


def test_signers_of_attestations_are_those_of_the_vectors_or_nobody() -> None:
    for one in VECTORS["attestations"]:
        told = one["proposal"]
        attestation = Attestation(
            int(one["round"]),
            told["number"],
            _bytes(told["model"]),
            _bytes(told["modelBlob"]),
            _bytes(told["verdicts"]),
        )
        place = int(one["chainId"]), one["ledger"], attestation, _bytes(one["signature"])
        if one["signer"] is None:
            with pytest.raises(VerificationError):
                recover_attestation_signer(*place)
        else:
            assert recover_attestation_signer(*place) == one["signer"]


def test_signers_of_heads_are_those_of_the_vectors() -> None:
    for one in VECTORS["heads"]:
        told = one["head"]
        head = LedgerHead(
            round=told["round"],
            number=told["number"],
            hash=_bytes(told["hash"]),
            blocks=told["blocks"],
            history=_bytes(told["history"]),
        )
        place = int(one["chainId"]), one["ledger"], head, _bytes(one["signature"])
        assert recover_head_signer(*place) == one["signer"]


def test_histories_are_those_of_the_vectors() -> None:
    for one in VECTORS["histories"]:
        where = int(one["chainId"]), one["ledger"], one["participants"], one["datasets"]
        history = genesis_history(*where)
        assert history.hex() == one["genesis"]
        for block in one["blocks"]:
            place = block["number"], _bytes(block["hash"]), block["logs"]
            history = next_history(history, *place)
            assert history.hex() == block["after"]


def test_merkle_roots_are_those_of_the_vectors() -> None:
    for one in VECTORS["verdicts"]:
        verdicts = [
            Verdict(
                told["hospital"],
                Outcome(told["outcome"]),
                Reason(told["reason"]),
                int(told["score"]),
                int(told["threshold"]),
                _bytes(told["content"]),
            )
            for told in one["verdicts"]
        ]
        assert verdicts_root(one["round"], verdicts).hex() == one["root"]
    for one in VECTORS["images"]:
        leaves = image_leaves(map(_bytes, one["commitments"]))
        assert [leaf.hex() for leaf in leaves] == one["leaves"]
        assert merkle_root(leaves).hex() == one["root"]


def test_cids_are_those_of_the_vectors() -> None:
    for one in VECTORS["blobs"]:
        content = bytes((at * 31 + (at >> 8)) & 255 for at in range(one["size"]))
        cid = blob_cid([content], Layout(one["leafBytes"], one["maxLinks"]))
        assert (cid.digest.hex(), str(cid)) == (one["digest"], one["cid"])


def test_logs_are_decoded_as_the_vectors_say() -> None:
    for one in VECTORS["logs"]:
        topics = [_bytes(topic) for topic in one["topics"]]
        name, args = decode_event(one["contract"], topics, _bytes(one["data"]))
        assert (name, _told(args)) == (one["name"], one["args"])


def test_trie_proofs_of_the_vectors_hold() -> None:
    for one in VECTORS["tries"]:
        nodes = [_bytes(node) for node in one["nodes"]]
        value = proven_value(_bytes(one["root"]), _bytes(one["key"]), nodes)
        assert value.hex() == one["value"]


def test_rlp_that_is_not_canonical_is_refused_here_too() -> None:
    for encoded in VECTORS["badRlp"]:
        with pytest.raises(FedWitnessError):
            rlp.decode(_bytes(encoded))


def _told(value: object) -> object:
    match value:
        case bytes():
            return value.hex()
        case tuple():
            return [_told(one) for one in value]
        case dict():
            return {name: _told(one) for name, one in value.items()}
        case _:
            return str(value)
