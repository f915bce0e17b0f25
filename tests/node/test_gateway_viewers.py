"""Viewers at the gateway: pages of other origins, and the forms in which images go out."""

import io
import json
import shutil
from collections.abc import Iterator
from dataclasses import replace
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from types import SimpleNamespace
from typing import Any

import numpy as np
import pydicom
import pytest
from PIL import Image
from playwright.sync_api import Browser, sync_playwright

from chain.errors import InvalidInputError
from chain.look_receipts import from_header
from chain.secret_file import kept_secret
from node.dataset import commit_images, erase_images
from node.gateway.accepting import (
    DICOM,
    EXPLICIT,
    FRAMES,
    INSTANCES,
    JPEG_2000,
    JPEG_LS,
    OCTETS,
    PICTURES,
    RLE,
    Form,
    acceptable,
)
from node.gateway.catalogue import AGAIN_SECONDS, Catalogue
from node.gateway.encoding import compress_frame, compress_instance, is_compressible
from node.gateway.origins import read_origin
from node.gateway.retrieval import MAX_ENLARGED, MAX_FRAMES, Rendering, bounded
from node.images import read_ingested
from node.ingest import ingest
from tests.federation import ROOT
from tests.node.gateway_room import (
    NOWHERE,
    REAL_FILES,
    VERSION,
    Room,
    four_scans,
    opened,
    receipt,
    take_in,
    told,
)

VIEWER = "https://viewer.example.org"
FLAGS = ["--no-sandbox", "--disable-gpu"]
FOREIGN = ("https://viewer.example.org.evil.net", "http://viewer.example.org", "null", "*")
PREFLIGHT = {
    "Access-Control-Request-Method": "GET",
    "Access-Control-Request-Headers": "authorization",
}


def granted(answer: Any) -> list[str]:
    return sorted(name for name in answer.headers if name.startswith("access-control-"))


@pytest.fixture
def shared(ingested: tuple[Path, Path], tmp_path: Path) -> Iterator[Room]:
    """A gateway that a viewer at another origin may use."""
    with opened(*ingested, tmp_path, origins=frozenset({VIEWER})) as found:
        yield found


# Pages of other origins


def test_no_page_of_another_origin_may_use_a_gateway_that_names_none(room: Room) -> None:
    room.give(None)
    for origin in (VIEWER, *FOREIGN):
        assert granted(room.get(room.url(0), Origin=origin)) == []
        asked = room.http.options(room.url(0), headers=PREFLIGHT | {"Origin": origin})
        assert (asked.status_code, granted(asked)) == (405, [])


def test_a_named_origin_reads_answers_refusals_and_receipts(shared: Room) -> None:
    shared.give(0)
    for path, status in (("", 200), ("/metadata", 200), ("x", 404), ("?accept=a/b", 406)):
        answer = shared.get(shared.url(0) + path, Origin=VIEWER)
        assert answer.status_code == status
        assert answer.headers["Access-Control-Allow-Origin"] == VIEWER
        assert "FedWitness-Receipt" in answer.headers["Access-Control-Expose-Headers"]
        assert answer.headers["Vary"] == "Origin"
        # Nothing here depends on cookies, and nothing may ever.
        assert "access-control-allow-credentials" not in answer.headers
    unsigned = shared.http.get("/dicomweb/studies", headers={"Origin": VIEWER})
    assert (unsigned.status_code, unsigned.headers["Access-Control-Allow-Origin"]) == (401, VIEWER)


@pytest.mark.parametrize("origin", FOREIGN)
def test_another_origin_is_told_nothing(shared: Room, origin: str) -> None:
    shared.give(0)
    assert granted(shared.get(shared.url(0), Origin=origin)) == []
    asked = shared.http.options(shared.url(0), headers=PREFLIGHT | {"Origin": origin})
    assert granted(asked) == []
    two = [("Origin", VIEWER), ("Origin", origin), *shared.headers.items()]
    assert granted(shared.http.get(shared.url(0), headers=two)) == []


def test_a_preflight_is_answered_alike_for_every_path_and_reaches_nothing(shared: Room) -> None:
    shared.give(0)
    shared.ledger.is_away = True  # nobody would get an answer that needs the chain
    asked = [
        told(shared.http.options(path, headers=PREFLIGHT | {"Origin": VIEWER}))
        for path in (
            shared.url(0),
            shared.url(2),
            NOWHERE,
            "/nothing",
            "/v1/auth/nonce",
            "/looks/0",
        )
    ]
    assert all(one == asked[0] for one in asked)
    status, answered, body = asked[0]
    assert (status, body) == (204, b"")
    assert answered["access-control-allow-methods"] == "GET, POST"
    assert "Authorization" in answered["access-control-allow-headers"]
    assert "FedWitness-Purpose" in answered["access-control-allow-headers"]
    assert shared.looks == 0


@pytest.mark.parametrize(
    ("text", "origin"),
    [
        ("https://Viewer.Example.org", "https://viewer.example.org"),
        ("https://viewer.example.org:8443", "https://viewer.example.org:8443"),
        ("https://viewer.example.org:443", "https://viewer.example.org"),
        ("http://localhost:3000", "http://localhost:3000"),
        ("http://127.0.0.1:3000", "http://127.0.0.1:3000"),
        ("http://[::1]:3000", "http://[::1]:3000"),
    ],
)
def test_an_origin_is_read_as_browsers_write_it(text: str, origin: str) -> None:
    assert read_origin(text) == origin


@pytest.mark.parametrize(
    "text",
    [
        *("*", "null", "", "https://", "https://*.example.org", "viewer.example.org"),
        *("http://viewer.example.org", "https://viewer.example.org/", "https://a.org/viewer"),
        *("https://a.org, https://b.org", "https://me@a.org", "https://a.org?x", "https://a.org:x"),
        *("file:///viewer.html", "https://a.org\n", "https://a.org:99999"),
    ],
)
def test_what_is_no_origin_or_no_safe_one_is_refused(text: str) -> None:
    with pytest.raises(InvalidInputError, match="expected one origin"):
        read_origin(text)


# What OHIF asks with, as its authors publish it.
CLIENT = ROOT / "node_modules" / "dicomweb-client" / "build" / "dicomweb-client.js"
PAGE = """<!doctype html><title>A viewer</title><script src="client.js"></script>"""
READ = """async ([url, token, study, series, uid, syntaxes]) => {
  const headers = { Authorization: `Bearer ${token}` };
  const client = new DICOMwebClient.api.DICOMwebClient({ url, headers });
  const where = { studyInstanceUID: study, seriesInstanceUID: series, sopInstanceUID: uid };
  const frame = async (mediaType, transferSyntaxUID) => {
    const mediaTypes = [{ mediaType, transferSyntaxUID }];
    const found = await client.retrieveInstanceFrames({ ...where, frameNumbers: [1], mediaTypes });
    return Array.from(new Uint8Array(found[0]));
  };
  const sizes = (found) => found.map((one) => one.byteLength);
  const options = { limit: 101, offset: 0, fuzzymatching: false, includefield: "00081030" };
  const [metadata] = await client.retrieveSeriesMetadata(where);
  const [bulk] = await client.retrieveBulkData({ BulkDataURI: metadata["7FE00010"].BulkDataURI });
  const mediaTypes = [{ mediaType: "image/png" }];
  const drawn = await client.retrieveInstanceRendered({ ...where, mediaTypes });
  return {
    studies: (await client.searchForStudies({ queryParams: options })).length,
    instances: (await client.searchForInstances({ studyInstanceUID: study })).length,
    whole: (await client.retrieveInstance(where)).byteLength,
    study: sizes(await client.retrieveStudy(where)),
    bulk: Array.from(new Uint8Array(bulk)),
    plain: await frame("application/octet-stream", "*"),
    compressed: await Promise.all(syntaxes.map(([media, syntax]) => frame(media, syntax))),
    drawn: sizes([drawn].flat())[0],
  };
}"""
LOOK = """async ([url, token]) => {
  try {
    const answer = await fetch(url, {
      headers: {
        Authorization: `Bearer ${token}`,
        Accept: 'multipart/related; type="application/octet-stream"; transfer-syntax=*',
        "FedWitness-Purpose": "6",
      },
    });
    const bytes = await answer.arrayBuffer();
    return [answer.status, answer.headers.get("FedWitness-Receipt"), bytes.byteLength];
  } catch (error) {
    return [error.name, null, 0];
  }
}"""


@pytest.fixture
def viewer(tmp_path: Path) -> Iterator[str]:
    """The origin of a page that has nothing to do with any gateway."""
    (tmp_path / "viewer").mkdir()
    (tmp_path / "viewer" / "index.html").write_text(PAGE)
    if CLIENT.exists():
        shutil.copy(CLIENT, tmp_path / "viewer" / "client.js")

    class Quiet(SimpleHTTPRequestHandler):
        def log_message(self, *_: object) -> None:
            pass

    handler = partial(Quiet, directory=str(tmp_path / "viewer"))
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    found = shutil.which("chromium")
    if found is None:
        pytest.skip("Chromium is not installed")
    with sync_playwright() as playwright:
        opened_browser = playwright.chromium.launch(executable_path=found, args=FLAGS)
        yield opened_browser
        opened_browser.close()


def test_a_page_in_a_browser_sees_an_image_and_its_receipt_only_from_a_named_origin(
    browser: Browser, ingested: tuple[Path, Path], tmp_path: Path, viewer: str
) -> None:
    with browser.new_page() as page:
        page.goto(viewer)
        for origins in (frozenset({read_origin(viewer)}), frozenset({VIEWER})):
            folder = tmp_path / str(len(list(tmp_path.iterdir())))
            folder.mkdir()
            with opened(*ingested, folder, origins=origins) as room:
                room.give(0)
                token = room.headers["Authorization"].removeprefix("Bearer ")
                frame = f"{room.root}{room.url(0)}/frames/1"
                status, shown, size = page.evaluate(LOOK, [frame, token])
                if origins == {VIEWER}:
                    assert (status, shown, room.looks) == ("TypeError", None, 0)
                    continue
                assert status == 200
                assert size > len(room.header(0).PixelData)
                assert room.writer.log.read(0, 1) == (from_header(shown),)
                (gone, *_) = page.evaluate(LOOK, [f"{room.root}{NOWHERE}/frames/1", token])
                assert gone == 404


def test_the_client_of_ohif_finds_and_reads_what_is_permitted(
    browser: Browser, ingested: tuple[Path, Path], tmp_path: Path, viewer: str
) -> None:
    syntaxes = [("image/jls", JPEG_LS), ("image/jp2", JPEG_2000)]
    (tmp_path / "gateway").mkdir()
    with (
        opened(*ingested, tmp_path / "gateway", origins=frozenset({viewer})) as room,
        browser.new_page() as page,
    ):
        room.give(0)
        room.give(1)
        page.goto(viewer)
        header = room.header(0)
        where = [header.StudyInstanceUID, header.SeriesInstanceUID, header.SOPInstanceUID]
        token = room.headers["Authorization"].removeprefix("Bearer ")
        asked = [f"{room.root}/dicomweb", token, *map(str, where), syntaxes]
        found = page.evaluate(READ, asked)
        sizes = [path.stat().st_size for path in room.paths[:2]]
        assert (found["studies"], found["instances"]) == (1, 2)
        assert (found["whole"], found["study"]) == (sizes[0], sizes)
        assert bytes(found["plain"]) == bytes(found["bulk"]) == header.PixelData
        for (_, syntax), stream in zip(syntaxes, found["compressed"], strict=True):
            assert bytes(stream) == compress_frame(header, header.PixelData, syntax)
        assert found["drawn"] > 100
        # A series' metadata, an image, a study of two, bulk data, three frames, a picture.
        assert room.looks == 9


# The forms in which images go out


def form(media: str, syntax: str, *, in_parts: bool = True) -> Form:
    return Form(media, syntax, in_parts)


IN_PARTS = 'multipart/related; type="application/octet-stream"'
ACCEPTED = [
    ("", INSTANCES, form(DICOM, EXPLICIT, in_parts=False)),
    ("*/*", FRAMES, form(OCTETS, EXPLICIT, in_parts=False)),
    # As dicomweb-client asks, in Python and in OHIF.
    ('multipart/related; type="application/dicom"', INSTANCES, form(DICOM, EXPLICIT)),
    ('multipart/related; type="*/*"', FRAMES, form(OCTETS, EXPLICIT)),
    (
        'multipart/related; type="application/octet-stream"; transfer-syntax=*',
        FRAMES,
        form(OCTETS, EXPLICIT),
    ),
    (
        f'multipart/related; type="application/dicom"; transfer-syntax={JPEG_2000}',
        INSTANCES,
        form(DICOM, JPEG_2000),
    ),
    (
        f'multipart/related; type="image/jls"; transfer-syntax={JPEG_LS}, {IN_PARTS}',
        FRAMES,
        form("image/jls", JPEG_LS),
    ),
    ('multipart/related; type="image/jp2"', FRAMES, form("image/jp2", JPEG_2000)),
    (f"application/dicom; transfer-syntax={RLE}", INSTANCES, form(DICOM, RLE, in_parts=False)),
    (
        "image/jls;q=0.5, application/octet-stream;q=0.9",
        FRAMES,
        form(OCTETS, EXPLICIT, in_parts=False),
    ),
    ("image/jls, application/octet-stream;q=0", FRAMES, form("image/jls", JPEG_LS, in_parts=False)),
    ("image/png", PICTURES, form("image/png", "", in_parts=False)),
    ("image/*", PICTURES, form("image/jpeg", "", in_parts=False)),
]


@pytest.mark.parametrize(("accept", "offers", "expected"), ACCEPTED)
def test_a_form_is_chosen_by_what_is_accepted(accept: str, offers: Any, expected: Form) -> None:
    assert acceptable(accept, offers, single=True)[0] == expected


@pytest.mark.parametrize(
    "accept",
    [
        *("text/html", "image/jpeg", "application/octet-stream; q=0", ";;;", 'a"b,c"d'),
        'multipart/related; type="image/jpeg"; transfer-syntax=1.2.840.10008.1.2.4.50',
        f'multipart/related; type="application/octet-stream"; transfer-syntax={JPEG_LS}',
        "application/octet-stream; transfer-syntax=1.2.840.10008.1.2",
    ],
)
def test_what_there_is_not_is_not_given(accept: str) -> None:
    assert acceptable(accept, FRAMES, single=True) == ()


COMPRESSED = ["MR_small.dcm", "CT_small.dcm", "examples_rgb_color.dcm"]


@pytest.mark.parametrize("syntax", [JPEG_LS, JPEG_2000, RLE])
@pytest.mark.parametrize("name", COMPRESSED)
def test_compressed_pixels_are_the_same_pixels(name: str, syntax: str) -> None:
    path = REAL_FILES / name
    before = pydicom.dcmread(path)
    assert is_compressible(before)
    raw = compress_instance(pydicom.dcmread(path), syntax)
    after = pydicom.dcmread(io.BytesIO(raw))
    assert after.file_meta.TransferSyntaxUID == syntax
    assert after.SOPInstanceUID == before.SOPInstanceUID
    assert np.array_equal(after.pixel_array, before.pixel_array)
    size = before.pixel_array.nbytes // int(before.get("NumberOfFrames") or 1)
    frame = compress_frame(before, before.PixelData[:size], syntax)
    assert 0 < len(frame) < len(raw)


def test_what_no_encoder_takes_is_not_offered_compressed() -> None:
    names = ("SC_rgb_small_odd.dcm", "rtdose_1frame.dcm", "liver_1frame.dcm", "rtplan.dcm")
    for name in (*names, "examples_palette.dcm", "SC_ybr_full_422_uncompressed.dcm"):
        (path,) = REAL_FILES.parent.rglob(name)
        assert not is_compressible(pydicom.dcmread(path)), name


def test_an_encoder_that_loses_a_pixel_is_found_out(monkeypatch: pytest.MonkeyPatch) -> None:
    dataset = pydicom.dcmread(REAL_FILES / "CT_small.dcm")
    whole = dataset.compress

    def lossy(syntax: str, **options: Any) -> None:
        changed = dataset.pixel_array.copy()
        changed[5, 5] += 1
        whole(syntax, changed, **options)

    monkeypatch.setattr(dataset, "compress", lossy)
    with pytest.raises(InvalidInputError, match="expected the same pixels"):
        compress_instance(dataset, JPEG_LS)


def test_an_image_goes_out_compressed_to_whoever_asks_for_it_so(room: Room) -> None:
    room.give(None)
    plain = room.header(1)
    for syntax, media in (
        (JPEG_LS, "image/jls"),
        (JPEG_2000, "image/jp2"),
        (RLE, "image/dicom-rle"),
    ):
        answer = room.get(room.url(1), Accept=f"application/dicom; transfer-syntax={syntax}")
        receipt(answer)
        assert answer.headers["Content-Type"] == f"application/dicom; transfer-syntax={syntax}"
        shown = pydicom.dcmread(io.BytesIO(answer.content))
        assert shown.file_meta.TransferSyntaxUID == syntax
        assert np.array_equal(shown.pixel_array, plain.pixel_array)
        assert (shown.SOPInstanceUID, shown.PatientID) == (plain.SOPInstanceUID, plain.PatientID)
        frame = room.get(f"{room.url(1)}/frames/1", Accept=media)
        assert receipt(frame).look.image == room.dataset.commitments[1]
        assert frame.headers["Content-Type"] == f"{media}; transfer-syntax={syntax}"
        assert len(frame.content) < len(plain.PixelData)
    study = room.url(0).split("/series/")[0]
    accept = f'multipart/related; type="application/dicom"; transfer-syntax={JPEG_LS}'
    answer = room.get(study, Accept=accept)
    assert answer.content.count(f"transfer-syntax={JPEG_LS}".encode()) == 2
    assert room.looks == 8


@pytest.fixture(scope="module")
def palette(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """Three frames whose colours stand in a palette."""
    scan = pydicom.dcmread(REAL_FILES / "examples_palette.dcm")
    scan.PixelData = np.stack([scan.pixel_array] * 3).tobytes()
    scan.NumberOfFrames = 3
    return take_in(tmp_path_factory.mktemp("palette"), [scan])


def test_frames_one_by_one_and_several_and_what_cannot_be_compressed(
    palette: tuple[Path, Path], tmp_path: Path
) -> None:
    with opened(*palette, tmp_path) as room:
        room.give(None)
        header = room.header(0)
        frames = room.get(f"{room.url(0)}/frames/1,2,3", Accept="*/*")
        assert frames.status_code == 200
        assert frames.headers["Content-Type"].startswith("multipart/related")
        size = len(header.PixelData) // 3
        parts = frames.content.split(b"\r\n\r\n")[1:]
        assert [part[:size] for part in parts] == [
            header.PixelData[number * size : (number + 1) * size] for number in range(3)
        ]
        accept = f'multipart/related; type="image/jls"; transfer-syntax={JPEG_LS}'
        looks = room.looks
        assert room.get(f"{room.url(0)}/frames/1", Accept=accept).status_code == 406
        assert room.looks == looks
        both = f"{accept}, multipart/related; type={OCTETS}"
        assert receipt(room.get(f"{room.url(0)}/frames/1", Accept=both))
        several = room.get(f"{room.url(0)}/frames/1,3/rendered", Accept="image/png")
        assert several.content.count(b"\x89PNG") == 2
        looks = room.looks
        for path in ("1,1", "2,3,2", "1,1/rendered"):
            assert told(room.get(f"{room.url(0)}/frames/{path}", Accept="*/*")) == told(
                room.get(NOWHERE)
            )
        assert room.looks == looks


def test_pictures_are_enlarged_only_as_far_as_there_is_memory_for_all_of_them() -> None:
    how = Rendering("image/png", viewport=(9999, 9999))
    for count in (1, 2, MAX_FRAMES):
        width, height = bounded(how, count).viewport or (0, 0)
        assert 0.9 * MAX_ENLARGED < count * width * height <= MAX_ENLARGED
    assert bounded(replace(how, viewport=(128, 9999)), 1).viewport == (128, 5792)
    assert bounded(replace(how, viewport=None), 1).viewport is None


def test_thumbnails_of_an_image_and_of_whatever_it_is_in(room: Room) -> None:
    room.give(None)
    for place, path in enumerate((room.url(0), *room.url(0).split("/instances/")[:1])):
        answer = room.get(f"{path}/thumbnail")
        picture = Image.open(io.BytesIO(answer.content))
        assert (picture.format, picture.size) == ("JPEG", (128, 128))
        assert receipt(answer).look.number == place
    study = room.url(0).split("/series/")[0]
    answer = room.get(f"{study}/thumbnail?viewport=32,64", Accept="image/png")
    assert Image.open(io.BytesIO(answer.content)).size == (32, 32)
    assert receipt(answer).look.image == room.dataset.commitments[1]
    nothing = NOWHERE.split("/series/")[0]
    assert told(room.get(f"{nothing}/thumbnail")) == told(room.get(NOWHERE))
    assert room.looks == 3


def test_a_window_has_the_standards_functions(room: Room) -> None:
    room.give(None)
    drawn = {}
    for function in ("linear", "linear-exact", "sigmoid"):
        answer = room.get(f"{room.url(0)}/rendered?window=600,600,{function}", Accept="image/png")
        drawn[function] = np.asarray(Image.open(io.BytesIO(answer.content))).astype(int)
    stored = room.header(0).pixel_array.astype(float)
    linear = np.clip((stored - 599.5) / 599 + 0.5, 0, 1) * 255
    exact = np.clip((stored - 600) / 600 + 0.5, 0, 1) * 255
    sigmoid = 255 / (1 + np.exp(-4 * (stored - 600) / 600))
    for expected, found in zip((linear, exact, sigmoid), drawn.values(), strict=True):
        assert np.abs(expected - found).max() <= 0.51
    assert room.get(f"{room.url(0)}/rendered?window=600,600,gamma").status_code == 400


LITERAL = "The fuzzymatching parameter is not supported. Only literal matching has been performed."


def test_a_search_says_what_it_does_not_do(room: Room) -> None:
    room.give(None)
    service = f"{room.root}/dicomweb"
    answer = room.get("/dicomweb/instances?limit=1&offset=1&fuzzymatching=true")
    literal, more = answer.headers.get_list("Warning")
    assert literal == f"299 {service}: {LITERAL}"
    assert more == f"299 {service}: There are 2 additional results that can be requested"
    assert "Warning" not in room.get("/dicomweb/instances?fuzzymatching=false").headers
    for query in ("includefield=00081030,Modality", "includefield=00081110.00081155"):
        assert room.get(f"/dicomweb/instances?{query}").status_code == 200
    for query in ("includefield=everything", "includefield=00081030,x", "fuzzymatching=perhaps"):
        assert room.get(f"/dicomweb/instances?{query}").status_code == 400
    plain = room.get("/dicomweb/studies", Accept="application/json")
    assert plain.headers["Content-Type"] == "application/json"
    xml = 'multipart/related; type="application/dicom+xml"'
    assert room.get("/dicomweb/studies", Accept=xml).status_code == 406
    assert room.looks == 0


# What is there changes while the gateway runs


def test_what_is_registered_ingested_and_erased_later_is_seen_without_a_restart(
    tmp_path: Path,
) -> None:
    out, key = take_in(tmp_path, four_scans()[:3])
    now = [0.0]
    versions: list[Any] = []
    (tmp_path / "datasets").mkdir()
    catalogue = Catalogue([out], tmp_path / "datasets", lambda: versions, lambda: now[0])
    npz = tmp_path / "datasets" / "heads.npz"
    dataset = commit_images(npz, "heads", read_ingested(out, key), frozenset({6}))
    assert catalogue.instances() == ()
    versions.append(SimpleNamespace(merkle_root=dataset.terms.merkle_root, version=VERSION))
    now[0] += AGAIN_SECONDS
    assert len(catalogue.instances()) == 3

    # One is erased: it is not there any more.
    erase_images(npz, {dataset.commitments[1]})
    assert [one.holdings[0].image for one in catalogue.instances()] == [
        dataset.commitments[0],
        dataset.commitments[2],
    ]

    # One's file is gone, and an ingest has noted it: it is not there any more, either.
    (tmp_path / "in" / "0.dcm").unlink()
    ingest(tmp_path / "in", out, key, kept_secret(key))
    assert [one.holdings[0].image for one in catalogue.instances()] == [dataset.commitments[2]]

    # A list without its attestation, as while an ingest ends, changes nothing.
    lines = (out / "files.jsonl").read_text().splitlines()
    (out / "files.jsonl").write_text("".join(f"{line}\n" for line in lines[:1]))
    assert len(json.loads(lines[0])) > 1
    assert len(catalogue.instances()) == 1
