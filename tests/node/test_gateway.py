"""The gateway's answers: searches, retrievals, refusals, and a log entry before every byte."""

import io
import json
import shutil
import time
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from urllib.parse import quote

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image

from chain.errors import InvalidInputError
from chain.look_receipts import from_header, from_json, judge
from node.attestation import attest
from node.dataset import commit_images, erase_images, load_dataset
from node.gateway import app
from node.gateway.catalogue import Catalogue
from node.gateway.search import QueryError, _pattern, read_query
from node.images import read_ingested
from node.look_anchors import anchor_waiting
from node.look_log import LookWriter
from tests.node.gateway_room import (
    NOW,
    NOWHERE,
    OTHER,
    RESEARCHER,
    VERSION,
    Room,
    receipt,
    told,
)


def test_an_instance_goes_out_as_it_was_ingested_with_a_receipt(room: Room) -> None:
    room.give(1)
    answer = room.get(room.url(1), Accept="application/dicom")
    assert answer.content == room.paths[1].read_bytes()
    found = receipt(answer)
    assert room.writer.log.read(0, 1) == (found,)
    assert found.look.researcher == RESEARCHER.address
    assert (found.look.version, found.look.image) == (VERSION, room.dataset.commitments[1])
    assert (found.look.grant, found.look.time) == (b"\x01" * 32, NOW)
    assert answer.headers["FedWitness-Looks"] == "0"
    assert answer.headers["Cache-Control"] == "no-store"


def test_each_image_of_a_study_has_a_look_and_a_receipt_of_its_own(room: Room) -> None:
    room.give(None)
    study = room.url(0).split("/series/")[0]
    answer = room.get(study)
    assert (answer.status_code, answer.headers["FedWitness-Looks"]) == (200, "0-1")
    heads = [part.split(b"\r\n\r\n")[0] for part in answer.content.split(b"\r\n--")[1:-1]]
    lines = [dict(line.split(": ", 1) for line in one.decode().split("\r\n")[1:]) for one in heads]
    receipts = [from_header(one["FedWitness-Receipt"]) for one in lines]
    assert room.writer.log.read(0, 2) == tuple(receipts)
    images = {one.look.image for one in receipts}
    assert images == set(room.dataset.commitments[:2])
    # Within which viewers look for the end of a part's headers.
    assert max(map(len, heads)) < 1000
    assert all(room.paths[place].read_bytes() in answer.content for place in range(2))


REFUSED: dict[str, dict[str, Any]] = {
    "revoked or expired": {"live": False},
    "of another hospital": {"hospital": OTHER.address},
    "to another researcher": {"researcher": OTHER.address},
    "of another version": {"version": bytes(32)},
    "of another image": {"image": bytes(32)},
}


@pytest.mark.parametrize("changes", REFUSED.values(), ids=REFUSED)
def test_a_grant_that_does_not_cover_an_image_is_none(room: Room, changes: dict[str, Any]) -> None:
    room.give(1, **changes)
    assert told(room.get(room.url(1))) == told(room.get(NOWHERE))
    assert room.get(NOWHERE).status_code == 404
    assert room.get("/dicomweb/studies").status_code == 204
    assert room.looks == 0


def test_a_grant_for_one_purpose_is_none_for_another(room: Room) -> None:
    room.give(1, purpose=6)
    room.give(1, purpose=42)
    for purpose, status in (("6", 200), ("42", 200), ("43", 404), ("x", 400)):
        answer = room.get(room.url(1), **{"FedWitness-Purpose": purpose})
        assert answer.status_code == status, purpose
    assert room.looks == 2


HOSTILE = [
    "/dicomweb/studies/../../../../etc/passwd",
    "/dicomweb/studies/%2e%2e%2f%2e%2e%2fetc%2fpasswd",
    "/dicomweb/studies/%00",
    "/dicomweb/studies/*",
    "/dicomweb/studies/?",
    "/dicomweb/studies/" + "1" * 5000,
    "/dicomweb/studies/1.2'%20OR%20'1'='1",
    "/dicomweb/studies/%F0%9F%92%A9/metadata",
    "/dicomweb//studies",
    "/dicomweb/studies/",
    "/looks/-1",
    "/looks/99999999999999999999",
    "/looks/0",
    "/looks/%D9%A3",
    "/",
]


@pytest.mark.parametrize("path", HOSTILE)
def test_hostile_addresses_are_answered_like_what_is_not_there(room: Room, path: str) -> None:
    room.give(None)
    assert told(room.get(path)) == told(room.get(NOWHERE))
    assert room.looks == 0


@pytest.mark.parametrize("frames", ["0", "2", "1,2", "-1", "1-2", "x", "1,", "9" * 99, "\u0661"])
def test_frames_that_are_not_there_are_no_look(room: Room, frames: str) -> None:
    room.give(1)
    for path in (f"{room.url(1)}/frames/{frames}", f"{room.url(1)}/frames/{frames}/rendered"):
        assert told(room.get(path)) == told(room.get(NOWHERE))
    assert room.looks == 0


QUERIES = [
    "limit=x",
    "limit=-1",
    "offset=1e9",
    "limit=" + "9" * 40,
    "PatientWeight=1",
    "00101030=1",
    "nonsense=1",
    "SOPInstanceUID[]=1",
    "StudyDate=" + "1" * 2000,
    "&".join(["Modality=MR"] * 40),
]


@pytest.mark.parametrize("query", QUERIES)
def test_a_query_that_cannot_be_understood_is_refused_whatever_there_is(
    room: Room, query: str
) -> None:
    before = told(room.get(f"/dicomweb/instances?{query}"))
    assert before[0] == 400
    room.give(None)
    assert told(room.get(f"/dicomweb/instances?{query}")) == before


FOUND = [
    ("studies", "", 2),
    ("series", "", 4),
    ("instances", "", 4),
    ("instances", "InstanceNumber=2", 1),
    ("instances", "00200013=2", 1),
    ("instances", "InstanceNumber=2&Modality=CT", 0),
    ("instances", "Modality=M*", 4),
    ("instances", "Modality=?R&limit=3", 3),
    ("instances", "Modality=*R*&offset=3", 1),
    ("instances", "limit=0", 0),
    ("instances", "offset=4", 0),
    ("studies", "ModalitiesInStudy=MR", 2),
    ("studies", "StudyDate=19000101-", 2),
    ("studies", "StudyDate=-19000101", 0),
    ("studies", "StudyDate=19000101-29991231", 2),
    ("studies", "StudyDate=19000101", 0),
    ("studies", "PatientName=*&includefield=all&fuzzymatching=true", 2),
    ("studies", "StudyInstanceUID=1.2.3,4.5.6", 0),
]


@pytest.mark.parametrize(("level", "query", "count"), FOUND)
def test_a_search_finds_what_matches(room: Room, level: str, query: str, count: int) -> None:
    room.give(None)
    answer = room.get(f"/dicomweb/{level}?{query}")
    assert answer.status_code == (200 if count else 204), answer.text
    assert len(answer.json() if count else []) == count
    is_less = "limit=3" in query or "limit=0" in query or "fuzzymatching=true" in query
    assert ("Warning" in answer.headers) == is_less
    assert room.looks == 0


def test_pages_of_a_search_together_are_all_of_it(room: Room) -> None:
    room.give(None)
    pages = [room.get(f"/dicomweb/instances?limit=1&offset={one}").json() for one in range(4)]
    assert [one for page in pages for one in page] == room.get("/dicomweb/instances").json()


def test_what_is_not_permitted_is_not_counted(room: Room) -> None:
    room.give(0)
    (study,) = room.get("/dicomweb/studies").json()
    assert study["00201206"]["Value"] == study["00201208"]["Value"] == [1]
    (series,) = room.get("/dicomweb/series").json()
    assert series["00201209"]["Value"] == [1]
    other = room.url(2).split("/series/")[0]
    assert room.get(f"{other}/series").status_code == 204


def test_a_study_is_retrieved_as_far_as_it_is_permitted(room: Room) -> None:
    room.give(0)
    answer = room.get(room.url(0).split("/series/")[0])
    assert room.paths[0].read_bytes() in answer.content
    assert room.paths[1].read_bytes() not in answer.content
    assert room.looks == 1


def test_an_erased_image_is_not_there_from_then_on(room: Room) -> None:
    room.give(None)
    assert room.get(room.url(1)).status_code == 200
    erase_images(room.npz, {load_dataset(room.npz).commitments[1]})
    assert told(room.get(room.url(1))) == told(room.get(NOWHERE))
    assert room.get(room.url(2)).status_code == 200
    assert len(room.get("/dicomweb/instances").json()) == 3


def test_what_is_committed_is_shown_though_more_was_ingested_since(
    ingested: tuple[Path, Path], tmp_path: Path
) -> None:
    found = read_ingested(*ingested)
    earlier = replace(
        found, images=found.images[:3], labels=found.labels[:3], attestation=attest({"images": 3})
    )
    dataset = commit_images(tmp_path / "heads.npz", "heads", earlier, frozenset({6}))
    registered: Any = SimpleNamespace(merkle_root=dataset.terms.merkle_root, version=VERSION)
    shown = Catalogue([ingested[0]], tmp_path, lambda: [registered]).instances()
    assert [one.holdings[0].image for one in shown] == list(dataset.commitments)
    assert Catalogue([ingested[0]], tmp_path, list).instances() == ()


def test_a_list_of_files_that_is_not_attested_is_refused(
    ingested: tuple[Path, Path], tmp_path: Path
) -> None:
    shutil.copytree(ingested[0], tmp_path / "out")
    with (tmp_path / "out" / "files.jsonl").open("a") as file:
        file.write("{}\n")
    with pytest.raises(InvalidInputError, match="list of files that is attested"):
        Catalogue([tmp_path / "out"], tmp_path, list)


def test_a_file_that_was_changed_is_not_shown(room: Room) -> None:
    room.give(None)
    whole = room.paths[3].read_bytes()
    try:
        room.paths[3].write_bytes(whole[:-1] + b"\x55")
        for path in ("", "/metadata", "/frames/1", "/rendered"):
            answer = room.get(room.url(3) + path)
            assert answer.status_code == 500
            assert whole[200:260] not in answer.content
    finally:
        room.paths[3].write_bytes(whole)
    assert room.looks == 0


def test_nothing_is_shown_that_cannot_be_logged(
    room: Room, monkeypatch: pytest.MonkeyPatch
) -> None:
    room.give(None)

    def full(_: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("node.look_log.os.fsync", full)
    for path in ("", "/metadata", "/frames/1", "/rendered", "/bulkdata/7FE00010"):
        answer = room.get(room.url(1) + path)
        assert answer.status_code == 503
        assert len(answer.content) < 200


def test_the_look_is_logged_before_a_byte_is_out(
    room: Room, monkeypatch: pytest.MonkeyPatch
) -> None:
    room.give(None)
    order: list[str] = []
    append, part_head = room.writer.append, app._part_head

    def note_look(_: LookWriter, *args: Any) -> Any:
        done = append(*args)
        order.append("log")
        return done

    def note_byte(*args: Any) -> bytes:
        order.append("byte")
        return part_head(*args)

    monkeypatch.setattr(LookWriter, "append", note_look)
    monkeypatch.setattr("node.gateway.app._part_head", note_byte)
    assert room.get(room.url(0).split("/series/")[0]).status_code == 200
    assert order == ["log", "byte", "byte"]


def test_nothing_is_shown_while_the_chain_is_away(room: Room) -> None:
    room.give(None)
    room.ledger.is_away = True
    answers = [told(room.get(path)) for path in (room.url(1), NOWHERE, "/dicomweb/studies")]
    assert answers[0] == answers[1] == answers[2]
    assert answers[0][0] == 503
    assert room.looks == 0


def test_frames_bulk_data_and_pictures(room: Room) -> None:
    room.give(1)
    pixels = room.header(1).PixelData
    frame = room.get(f"{room.url(1)}/frames/1", Accept="application/octet-stream")
    assert frame.content == pixels
    (metadata,) = room.get(f"{room.url(1)}/metadata").json()
    bulk = room.get(
        metadata["7FE00010"]["BulkDataURI"].removeprefix(room.root),
        Accept="application/octet-stream",
    )
    assert bulk.content == pixels
    for kind, form in (("image/png", "PNG"), ("image/jpeg", "JPEG")):
        answer = room.get(f"{room.url(1)}/rendered?window=600,1200", Accept=kind)
        picture = Image.open(io.BytesIO(answer.content))
        assert (picture.format, picture.size) == (form, (64, 64))
        assert len(np.unique(np.asarray(picture))) > 10
        receipt(answer)
    assert room.looks == 5
    for bad in ("window=1", "window=1,x", "quality=0", "viewport=1e9,1e9", "viewport=0,9"):
        assert room.get(f"{room.url(1)}/rendered?{bad}").status_code == 400
    assert room.get(f"{room.url(1)}/bulkdata/00100010").status_code == 404
    assert room.looks == 5


@pytest.mark.parametrize(
    "accept",
    [
        "text/html",
        "image/jpeg",
        'multipart/related; type="application/dicom"; transfer-syntax=1.2.840.10008.1.2.4.50',
        ";;;",
        'a"b,c"d',
    ],
)
def test_a_form_that_there_is_not_is_refused_whatever_there_is(room: Room, accept: str) -> None:
    room.give(1)
    answers = [told(room.get(path, Accept=accept)) for path in (room.url(1), NOWHERE)]
    assert answers[0] == answers[1]
    assert answers[0][0] == 406
    assert room.looks == 0


def test_a_receipt_is_handed_out_again_to_whoever_looked_and_nobody_else(room: Room) -> None:
    room.give(1)
    room.give(1, researcher=OTHER.address)
    found = receipt(room.get(room.url(1)))
    assert from_json(room.get("/looks/0").content) == found
    other = room.sign_in(OTHER)
    hers = room.http.get(room.url(1), headers=other)
    assert receipt(hers).look.number == 1
    assert told(room.http.get("/looks/0", headers=other)) == told(room.get("/looks/1"))
    assert told(room.get("/looks/1")) == told(room.get("/looks/2"))
    ledger: Any = room.ledger
    anchor_waiting(room.writer.log, ledger, now=True)
    proof = from_json(room.get("/looks/0").content)
    assert replace(proof, anchor=None) == found
    judged = judge([found, proof], ledger)
    assert (judged.proven, judged.findings) == (1, ())


@pytest.mark.parametrize(
    ("path", "body"),
    [
        ("nonce", b""),
        ("nonce", b"{}"),
        ("nonce", b'{"address":"0x00"}'),
        ("nonce", b'{"address":1}'),
        ("session", b"[" * 4000),
        ("session", b'{"message":1,"signature":2}'),
        ("session", b'{"message":"x","signature":"0x"}'),
        ("session", b'{"message":"x","signature":"0x' + b"0" * 130 + b'"}'),
    ],
)
def test_a_malformed_sign_in_is_refused(room: Room, path: str, body: bytes) -> None:
    assert room.http.post(f"/v1/auth/{path}", content=body).status_code == 400


def test_a_sign_in_is_bounded(room: Room) -> None:
    assert room.http.post("/v1/auth/nonce", content=b" " * 9000).status_code == 413
    body = json.dumps({"address": RESEARCHER.address})
    answers = [room.http.post("/v1/auth/nonce", content=body).status_code for _ in range(70)]
    assert answers[0] == 200
    assert answers[-1] == 429


@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(path=st.text(max_size=40), query=st.text(max_size=40))
def test_nothing_that_is_asked_makes_the_gateway_stumble(room: Room, path: str, query: str) -> None:
    for root in ("/dicomweb/studies/", "/dicomweb/", "/looks/"):
        answer = room.get(f"{root}{quote(path)}?{quote(query)}=*")
        assert answer.status_code in {204, 400, 404, 406}, answer.text
    assert room.looks == 0


@given(value=st.text("ab", max_size=6), wanted=st.text("ab*?", max_size=6))
def test_wildcards_match_as_in_a_shell(value: str, wanted: str) -> None:
    from fnmatch import fnmatchcase

    assert _pattern(wanted, folded=False)(value) == fnmatchcase(value, wanted)


def test_wildcards_take_no_time_whatever_is_asked() -> None:
    begun = time.monotonic()
    assert not _pattern("*a" * 500 + "b", folded=False)("a" * 4000)
    assert time.monotonic() - begun < 5


def test_a_query_has_bounds() -> None:
    assert read_query("studies", [("limit", "999999")]).limit == 1000
    with pytest.raises(QueryError):
        read_query("studies", [("limit", "\u0663")])
