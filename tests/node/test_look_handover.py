"""Handing anchored looks to the server: whole batches, each once, whatever happens between."""

import json
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
import pytest

from chain.errors import LedgerError, ServerError
from chain.keystore import Identity
from chain.rpc import Head
from chain.sending import Receipt
from chain.types import AnchoredBatch, LogPosition
from node.client import RestClient
from node.look_anchors import Pace, anchor_waiting
from node.look_handover import hand_over_anchored
from node.look_log import LookLog, LookLogError, LookWriter, Sight
from tests.node.fake_server import CHAIN_ID, FakeServer, unreachable
from tests.node.gateway_room import opened
from tests.waiting import eventually

ACCESS_LOGS = "0x5FbDB2315678afecb367f032d93F642f64180aa3"
RESEARCHER = "0x70997970C51812dc3A010C7d01b50e0d17dc79C8"


@dataclass
class Ledger:
    """The chain; batch 1 is anchored in block 1."""

    hospital: str
    batches: list[AnchoredBatch] = field(default_factory=list)

    def head(self) -> Head:
        return Head(len(self.batches), bytes(32), 1000)

    def anchored(self, _: str) -> tuple[int, int]:
        return len(self.batches), sum(one.entries for one in self.batches)

    def anchored_batches(self, _: str | None = None) -> tuple[AnchoredBatch, ...]:
        return tuple(self.batches)

    def anchor_looks(self, root: bytes, first: int, entries: int) -> Receipt:
        number = len(self.batches) + 1
        place = LogPosition(number, 0, bytes(32))
        self.batches.append(AnchoredBatch(self.hospital, number, root, first, entries, place))
        return Receipt(bytes(32), number, 60_000)


@dataclass
class Hospital:
    """A hospital with a log, a chain and a server that knows the chain."""

    log: LookLog
    writer: LookWriter
    ledger: Ledger
    server: FakeServer

    def anchor(self, looks: int) -> None:
        sight = Sight(RESEARCHER, b"\x01" * 32, b"\x02" * 32, b"\x03" * 32)
        for _ in range(looks):
            self.writer.append([sight], 1000, "GET", "/dicomweb/studies")
        anchor_waiting(self.log, self.ledger, now=True)
        self.server.anchored = {one.batch: one for one in self.ledger.batches}
        self.server.index_block = len(self.ledger.batches)


@pytest.fixture
def own(tmp_path: Path, identity: Identity, server: FakeServer) -> Hospital:
    log = LookLog.beside(tmp_path, CHAIN_ID, ACCESS_LOGS, identity.address)
    return Hospital(log, LookWriter(log, identity.account), Ledger(identity.address), server)


def numbers(body: bytes) -> list[int]:
    return [json.loads(line)["number"] for line in body.splitlines()]


def test_what_is_anchored_is_handed_over_once(own: Hospital, client: RestClient) -> None:
    for looks in (3, 1, 2):
        own.anchor(looks)
    own.writer.append([Sight(RESEARCHER, *[bytes(32)] * 3)], 1000, "GET", "/")  # not anchored
    steps: list[tuple[int, int]] = []
    done = hand_over_anchored(
        own.log, own.ledger, client, lambda done, of: steps.append((done, of))
    )
    assert done == tuple(own.ledger.batches)
    assert steps == [(0, 3), (1, 3), (2, 3), (3, 3)]
    assert {batch: numbers(body) for batch, body in own.server.looks.items()} == {
        1: [0, 1, 2],
        2: [3],
        3: [4, 5],
    }
    assert hand_over_anchored(own.log, own.ledger, client) == ()
    assert own.server.asked.count(("POST", "/v1/looks")) == 3


def test_a_batch_that_the_servers_index_does_not_know_yet_is_asked_for_again(
    own: Hospital, client: RestClient, pauses: list[float]
) -> None:
    own.anchor(1)
    hand_over_anchored(own.log, own.ledger, client)
    own.anchor(2)
    own.server.index_block = 1
    (done,) = hand_over_anchored(own.log, own.ledger, client)
    assert done.batch == 2
    assert numbers(own.server.looks[2]) == [1, 2]
    assert pauses == [2.0]


def test_interrupted_it_goes_on_where_it_stopped(own: Hospital, client: RestClient) -> None:
    for _ in range(3):
        own.anchor(1)
    taken = own.server.handle_request

    def lost(request: httpx.Request) -> httpx.Response:
        if request.method == "POST" and request.url.params.get("batch") == "2":
            unreachable(request)
        return taken(request)

    own.server.handle_request = lost  # type: ignore[method-assign]
    with pytest.raises(ServerError, match="cannot be reached"):
        hand_over_anchored(own.log, own.ledger, client)
    own.server.handle_request = taken  # type: ignore[method-assign]
    assert sorted(own.server.looks) == [1]
    assert [one.batch for one in hand_over_anchored(own.log, own.ledger, client)] == [2, 3]


def test_a_log_that_is_not_what_was_anchored_is_not_handed_over(
    own: Hospital, client: RestClient
) -> None:
    own.anchor(2)
    own.ledger.batches[0] = AnchoredBatch(
        own.log.hospital, 1, bytes(32), 0, 2, LogPosition(1, 0, bytes(32))
    )
    with pytest.raises(LookLogError, match="not those that were anchored"):
        hand_over_anchored(own.log, own.ledger, client)
    assert own.server.looks == {}


def test_a_server_that_wants_other_looks_is_believed_at_once(
    own: Hospital, client: RestClient, pauses: list[float]
) -> None:
    own.anchor(1)
    own.server.anchored[1] = AnchoredBatch(
        own.log.hospital, 1, bytes(32), 0, 1, LogPosition(1, 0, bytes(32))
    )
    with pytest.raises(ServerError, match="other-looks"):
        hand_over_anchored(own.log, own.ledger, client)
    assert pauses == []


def test_a_server_that_never_ends_its_list_is_left(own: Hospital, client: RestClient) -> None:
    page = {"as_of": {"number": 1}, "entries": [], "cursor": "again"}
    taken = own.server.handle_request

    def endless(request: httpx.Request) -> httpx.Response:
        if request.url.path == "/v1/looks/batches":
            return httpx.Response(200, json=page)
        return taken(request)

    own.server.handle_request = endless  # type: ignore[method-assign]
    begun = time.monotonic()
    with pytest.raises(ServerError, match="pages"):
        hand_over_anchored(own.log, own.ledger, client)
    assert time.monotonic() - begun < 30


def test_without_the_chain_nothing_is_handed_over(own: Hospital, client: RestClient) -> None:
    own.anchor(1)

    class Away(Ledger):
        def anchored_batches(self, _: str | None = None) -> tuple[AnchoredBatch, ...]:
            raise LedgerError("the chain cannot be reached")

    with pytest.raises(LedgerError):
        hand_over_anchored(own.log, Away(own.log.hospital), client)
    assert own.server.looks == {}


def test_a_gateway_hands_over_what_it_anchored_and_tries_again_after_a_failure(
    ingested: tuple[Path, Path], tmp_path: Path
) -> None:
    calls: list[int] = []

    def hand_over() -> None:
        calls.append(len(calls))
        if len(calls) in {1, 3}:
            raise ServerError("the server cannot be reached")

    changes: dict[str, Any] = {"hand_over": hand_over, "pace": Pace(batch=1), "poll_seconds": 0.05}
    with opened(*ingested, tmp_path, **changes) as room:
        # At the start, for what an earlier run may have left, and again since that failed.
        eventually(lambda: len(calls) == 2)
        time.sleep(0.3)
        assert len(calls) == 2
        room.give(0)
        assert room.get(room.url(0)).status_code == 200
        eventually(lambda: len(calls) == 4)
        time.sleep(0.3)
        assert len(calls) == 4
        assert len(room.ledger.batches) == 1
