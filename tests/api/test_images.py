"""An image's history, readings, requests and looks, asked of a server before a real chain."""

import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any, cast

import httpx
import pytest

from chain.canonical import canonical_json
from chain.types import Look
from chain.wire import to_hex, to_json_dict
from tests.aggregator import data_room
from tests.aggregator.data_room import IMAGE, IMAGES, OWNER, READER, STRANGER, DataRoom
from tests.api.conftest import Running, running
from tests.federation import Federation, connect, digest, unchanged
from tests.memory_blobs import MemoryBlobStore
from tests.waiting import eventually

JSONL = "application/jsonl"
UNKNOWN = to_hex(digest("unknown"))


@dataclass(frozen=True)
class Asked:
    """A federation in whose data room something happened, and a server that has read it."""

    federation: Federation
    room: DataRoom
    server: Running
    sessions: dict[str, dict[str, str]]

    def __call__(self, path: str, name: str = "auditor") -> httpx.Response:
        return self.server.http.get(path, headers=self.session(name))

    def session(self, name: str) -> dict[str, str]:
        if name and name not in self.sessions:
            account = self.federation.identities[name].account
            self.sessions[name] = self.server.sign_in(account)
        return self.sessions.get(name, {})

    def hand_over(
        self,
        batch: int,
        looks: Sequence[Look],
        name: str = OWNER,
        body: bytes | None = None,
        media_type: str = JSONL,
    ) -> httpx.Response:
        lines = b"".join(canonical_json(to_json_dict(look)) + b"\n" for look in looks)
        return self.server.http.post(
            f"/v1/looks?batch={batch}",
            content=lines if body is None else body,
            headers=self.session(name) | {"Content-Type": media_type},
        )

    def catch_up(self) -> None:
        """Wait until the server has read the whole chain."""
        head = self.federation.reader.head()
        newest = {"number": head.number, "hash": to_hex(head.hash)}
        eventually(lambda: self("/v1/rounds").json().get("as_of") == newest)


@pytest.fixture(scope="module")
def lasting(
    founded_federation: Federation, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Asked]:
    founded, folder = founded_federation, tmp_path_factory.mktemp("images")
    with unchanged(founded.rpc_url):
        federation = connect(
            founded.rpc_url, founded.deployment, folder / "outboxes", dict(founded.versions)
        )
        room = data_room.furnish(federation)
        ledger = cast("Any", federation.ledgers["steward"])
        with running(folder, ledger, MemoryBlobStore()) as server:
            found = Asked(federation, room, server, {})
            found.catch_up()
            yield found


@pytest.fixture
def asked(lasting: Asked) -> Iterator[Asked]:
    """The same for each test: what it does to the chain is taken back."""
    with unchanged(lasting.federation.rpc_url):
        yield lasting
    lasting.catch_up()


def kinds(answer: httpx.Response) -> list[str]:
    return [one["what"] for one in answer.json()["timeline"]["entries"]]


def history(image: bytes = IMAGE) -> str:
    return f"/v1/images/{to_hex(image)}/history"


def test_batches_wait_until_they_are_handed_over(asked: Asked) -> None:
    whole = asked("/v1/looks/batches", OWNER).json()["entries"]
    assert [(one["batch"], one["first"], one["entries"]) for one in whole] == [(1, 0, 3), (2, 3, 3)]
    before = asked(history()).json()
    assert [log["missing"] for log in before["logs"]] == [2]
    assert "LOOKED" not in kinds(asked(history()))

    taken = asked.hand_over(1, asked.room.looks[0])
    assert taken.status_code == 201, taken.text
    assert taken.json() == whole[0] | {"handed_at": taken.json()["handed_at"]}
    assert taken.json()["handed_at"] > 0
    again = asked.hand_over(1, asked.room.looks[0])
    assert (again.status_code, again.json()) == (200, taken.json())

    (missing,) = asked("/v1/looks/batches?handed=false", OWNER).json()["entries"]
    assert missing["batch"] == 2
    told = asked(history()).json()
    assert [log["missing"] for log in told["logs"]] == [1]
    looked = [one["look"] for one in told["timeline"]["entries"] if one["what"] == "LOOKED"]
    assert [(one["batch"], one["number"]) for one in looked] == [(1, 0), (1, 1), (1, 2)]
    mine = asked("/v1/looks/mine", "researcher").json()["entries"]
    assert mine == looked

    day = time.strftime("%Y-%m-%d", time.gmtime(looked[0]["time"]))
    path = f"/v1/datasets/{to_hex(asked.room.version)}/viewers?day={day}&image={to_hex(IMAGE)}"
    viewed = asked(f"{path}&limit=2", OWNER).json()
    assert viewed["looks"]["log"]["missing"] == 1
    rest = asked(f"{path}&looks_cursor={viewed['looks']['found']['cursor']}", OWNER).json()
    found = viewed["looks"]["found"]["entries"] + rest["looks"]["found"]["entries"]
    assert found == looked


def refused(answer: httpx.Response) -> tuple[int, str]:
    assert answer.headers["Content-Type"] == "application/problem+json"
    return answer.status_code, answer.json()["type"]


def test_looks_that_were_not_anchored_are_refused_and_why_is_said(asked: Asked) -> None:
    first, second = asked.room.looks
    lines = b"".join(canonical_json(to_json_dict(look)) + b"\n" for look in second)
    hidden = (second[0], replace(second[1], image=IMAGES[1]), second[2])
    assert refused(asked.hand_over(2, hidden)) == (409, "other-looks")
    assert refused(asked.hand_over(3, second)) == (409, "batch-not-anchored")
    assert refused(asked.hand_over(1 << 60, second)) == (422, "malformed-request")
    assert refused(asked.hand_over(2, first)) == (422, "malformed-request")
    assert refused(asked.hand_over(2, second[:2])) == (422, "malformed-request")
    assert refused(asked.hand_over(2, ())) == (422, "malformed-request")
    assert refused(asked.hand_over(2, (), body=b"x" * 4_096)) == (413, "body-too-large")
    for body in (b"[]\n", b"\n" + lines, b"\xff\xff\n", lines[:-40], lines + b"{}\n"):
        answer = asked.hand_over(2, (), body=body)
        assert refused(answer) == (422, "malformed-request")
        assert "line " in answer.json()["detail"]
    wrong = asked.hand_over(2, second, media_type="application/json")
    assert refused(wrong) == (415, "wrong-media-type")
    assert refused(asked.hand_over(2, second, READER)) == (409, "batch-not-anchored")
    assert refused(asked.hand_over(2, second, "")) == (401, "sign-in-needed")
    assert refused(asked.hand_over(2, second, "auditor")) == (403, "role-not-admitted")
    (missing, *_) = asked("/v1/looks/batches?handed=false", OWNER).json()["entries"][::-1]
    assert missing["batch"] == 2


def test_a_batch_larger_than_other_bodies_is_taken(asked: Asked) -> None:
    mine = replace(asked.room.looks[0][0], hospital=asked.federation.address(STRANGER))
    many = [replace(mine, number=number) for number in range(200)]
    data_room.anchor(asked.federation, many, STRANGER)
    asked.catch_up()
    lines = b"".join(canonical_json(to_json_dict(look)) + b"\n" for look in many)
    assert len(lines) > asked.server.settings.max_body_bytes
    assert asked.hand_over(1, many, STRANGER).status_code == 201


def test_a_hospital_hands_over_one_batch_at_a_time(asked: Asked) -> None:
    hospital = asked.federation.address(OWNER)
    asked.server.app.state.backend.handing_over.add(hospital)
    answer = asked.hand_over(1, asked.room.looks[0])
    assert refused(answer) == (409, "one-at-a-time")
    assert answer.headers["Retry-After"]
    asked.server.app.state.backend.handing_over.remove(hospital)
    assert asked.hand_over(1, asked.room.looks[0]).status_code in (200, 201)
    assert not asked.server.app.state.backend.handing_over


def test_looks_of_a_chain_that_went_back_do_not_answer(asked: Asked) -> None:
    snapshot = asked.federation.rpc("evm_snapshot")
    more = tuple(replace(look, number=look.number + 3) for look in asked.room.looks[1])
    data_room.anchor(asked.federation, more)
    asked.catch_up()
    assert asked.hand_over(3, more).status_code == 201
    assert [one["look"]["batch"] for one in looks_of(asked) if one["look"]["batch"] == 3] == [3] * 3
    asked.federation.rpc("evm_revert", snapshot)
    asked.federation.rpc("evm_mine")
    asked.catch_up()
    assert 3 not in {one["look"]["batch"] for one in looks_of(asked)}
    assert refused(asked.hand_over(3, more)) == (409, "batch-not-anchored")


def looks_of(asked: Asked) -> list[dict[str, Any]]:
    entries = asked(f"{history()}?limit=200").json()["timeline"]["entries"]
    return [one for one in entries if one["what"] == "LOOKED"]


EVENTS = ["REGISTERED", "GRANTED", "READ", "REQUESTED", "TAKEN", "SECOND_OPINION", "FULFILLED"]
EVENTS += ["CORRECTED", "COMPARED", "COMPARED"]


def test_an_images_history_is_one_timeline(asked: Asked) -> None:
    told = [kind for kind in kinds(asked(history())) if kind != "LOOKED"]
    assert told == EVENTS
    data_room.erase(asked.federation, asked.room)
    asked.catch_up()
    after = [kind for kind in kinds(asked(history())) if kind != "LOOKED"]
    assert set(after[-2:]) == {"ERASED", "WITHDRAWN"}
    answer = asked(history()).json()
    assert [one["version"] for one in answer["erasures"]] == [to_hex(asked.room.version)]
    (version,) = answer["versions"]
    assert "ERASED" in {one["what"] for one in version["changes"]}


def test_a_history_comes_in_pages(asked: Asked) -> None:
    found: list[Any] = []
    path = f"{history()}?limit=4"
    cursor = ""
    while True:
        page = asked(path + cursor).json()["timeline"]
        found += page["entries"]
        if page["cursor"] is None:
            break
        cursor = f"&cursor={page['cursor']}"
    assert found == asked(f"{history()}?limit=200").json()["timeline"]["entries"]


def test_a_hospital_sees_its_own_images_and_those_that_it_reads(asked: Asked) -> None:
    asked.hand_over(1, asked.room.looks[0])
    whole, reading = asked(history(), OWNER), asked(history(), READER)
    assert "LOOKED" in kinds(whole)
    # Who looked at another hospital's image is that one's to tell.
    assert kinds(reading) == [kind for kind in kinds(whole) if kind != "LOOKED"]
    assert reading.json()["logs"] == []
    # Whether there is such an image is told to none who has nothing to do with it.
    known, unknown = asked(history(), STRANGER), asked(history(digest("x")), STRANGER)
    assert refused(known) == refused(unknown) == (403, "not-your-image")
    assert known.json() == unknown.json()
    assert refused(asked(history(IMAGES[1]), READER)) == (403, "not-your-image")
    assert refused(asked(history(), "researcher")) == (403, "role-not-admitted")
    assert refused(asked(history(), "")) == (401, "sign-in-needed")
    assert refused(asked(history(digest("x")))) == (404, "not-found")
    assert refused(asked(f"{history()}?cursor=W10")) == (422, "malformed-request")
    assert refused(asked("/v1/images/0x12/history")) == (422, "malformed-request")


def test_readings_are_listed_and_looked_up(asked: Asked) -> None:
    room, of = asked.room, asked.federation.address
    corrected, second, first = (to_hex(one) for one in (room.corrected, room.second, room.first))

    def listed(query: str = "", name: str = "auditor") -> list[str]:
        return [one["reading"] for one in asked(f"/v1/readings{query}", name).json()["entries"]]

    assert listed() == listed(f"?image={to_hex(IMAGE)}") == [corrected, second, first]
    assert listed(f"?hospital={of(READER)}") == listed(f"?author={of(READER)}") == [second]
    assert listed("", OWNER) == [corrected, second, first]
    assert listed("", READER) == [second]
    assert listed(f"?image={to_hex(IMAGE)}", READER) == [corrected, second, first]
    assert listed("", STRANGER) == []
    known = asked(f"/v1/readings?image={to_hex(IMAGE)}", STRANGER)
    unknown = asked(f"/v1/readings?image={UNKNOWN}", STRANGER)
    assert refused(known) == refused(unknown) == (403, "not-your-image")

    told = asked(f"/v1/readings/{first}", READER).json()
    assert [one["reading"] for one in told["line"]] == [first, corrected]
    assert [one["agreement"] for one in told["comparisons"]] == ["AGREES"]
    assert [one["reading"] for one in told["opinions"]] == [second]
    known = asked(f"/v1/readings/{first}", STRANGER)
    unknown = asked(f"/v1/readings/{UNKNOWN}", STRANGER)
    assert refused(known) == refused(unknown) == (403, "not-your-image")
    assert known.json() == unknown.json()
    assert refused(asked(f"/v1/readings/{UNKNOWN}")) == (404, "not-found")
    assert refused(asked("/v1/readings", "researcher")) == (403, "role-not-admitted")


def test_requests_are_listed_by_state_and_to_whom_they_are_open(asked: Asked) -> None:
    room, of = asked.room, asked.federation.address

    def listed(query: str = "", name: str = "auditor") -> list[tuple[str, str]]:
        found = asked(f"/v1/reading-requests{query}", name).json()["entries"]
        return [(one["request"], one["state"]) for one in found]

    open_, done = (to_hex(room.open), "OPEN"), (to_hex(room.request), "FULFILLED")
    assert listed() == listed("", OWNER) == listed(f"?hospital={of(OWNER)}") == [open_, done]
    assert listed("?state=OPEN") == listed("", STRANGER) == [open_]
    assert listed(f"?taker={of(READER)}", READER) == [done]
    assert listed(f"?image={to_hex(IMAGE)}") == [done]
    for name in (READER, STRANGER):
        assert listed(f"?open_to={of(name)}", name) == [open_]
    assert listed(f"?open_to={of(OWNER)}", OWNER) == []
    for query in ("?state=WHIM", "?hospital=0x12", f"?open_to={of(READER)}", "?cursor=W10"):
        answer = asked(f"/v1/reading-requests{query}", STRANGER)
        assert refused(answer) == (422, "malformed-request"), query


def test_clinicians_are_listed_to_their_hospital(asked: Asked) -> None:
    path = f"/v1/hospitals/{asked.federation.address(OWNER)}/clinicians"
    (entry,) = asked(path, OWNER).json()["entries"]
    assert entry["clinician"] == asked.federation.address("researcher")
    assert refused(asked(path, READER)) == (403, "not-your-history")
    assert asked(path).json()["entries"] == [entry]


def test_a_hospital_sees_its_own_batches_alone(asked: Asked) -> None:
    path = f"/v1/looks/batches?hospital={asked.federation.address(OWNER)}"
    assert refused(asked(path, READER)) == (403, "not-your-log")
    assert len(asked(path).json()["entries"]) == 2
    assert asked("/v1/looks/batches", READER).json()["entries"] == []
    assert refused(asked("/v1/looks/mine", OWNER)) == (403, "role-not-admitted")
