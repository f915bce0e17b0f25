"""A reading, a second opinion, a correction and a request: on a real chain, in API and browser."""

import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Browser, expect

from tests.api.server_process import serving
from tests.explorer.data_room import OTHER, OWNER, READER, REASON, DataRoom, furnish
from tests.explorer.pictures import take
from tests.explorer.test_in_a_browser import PHONE, opened, violations
from tests.federation import Federation, connect, unchanged

HAPPENED = {
    "REGISTERED": OWNER,
    "READ": OWNER,
    "REQUESTED": OWNER,
    "GRANTED": OWNER,
    "TAKEN": READER,
    "LOOKED": OWNER,
    "SECOND_OPINION": READER,
    "FULFILLED": READER,
    "COMPARED": READER,
    "CORRECTED": OWNER,
}
ORDER = [*HAPPENED, "COMPARED"]
WORDS = [
    "Registered",
    "Reading",
    "Second opinion asked",
    "Access granted",
    "Request taken",
    "Looked at",
    "Second opinion",
    "Request fulfilled",
    "Comparison",
    "Correction",
    "Comparison",
]


@pytest.fixture(scope="module")
def room(
    founded_federation: Federation, ipfs: str, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[DataRoom]:
    founded, folder = founded_federation, tmp_path_factory.mktemp("room")
    with unchanged(founded.rpc_url):
        federation = connect(
            founded.rpc_url, founded.deployment, folder / "outboxes", dict(founded.versions)
        )
        with serving(federation, ipfs, folder) as server:
            yield furnish(federation, ipfs, folder, server)


def cookie(room: DataRoom, name: str) -> dict[str, str]:
    return {"Cookie": room.cookie(name)}


def link(reading: str) -> str:
    """The selector of links to a reading."""
    return f'a[href="/readings/{reading}"]'


def test_the_api_tells_the_images_history_in_order(room: DataRoom) -> None:
    told = room.ask(f"/v1/images/{room.image}/history")
    entries = told["timeline"]["entries"]
    assert [one["what"] for one in entries] == ORDER
    whose = {one["what"]: one["hospital"] for one in entries}
    assert whose == {what: room.federation.address(name) for what, name in HAPPENED.items()}
    (log,) = told["logs"]
    assert (log["batches"], log["missing"]) == (1, 0)
    looked = next(one for one in entries if one["what"] == "LOOKED")
    assert looked["actor"] == room.federation.address(READER)
    assert (looked["look"]["batch"], looked["look"]["number"]) == (1, 0)
    said = [one["comparison"]["agreement"] for one in entries if one["what"] == "COMPARED"]
    assert said == ["MAJOR_DISCREPANCY", "AGREES"]


def test_the_api_tells_readings_and_requests(room: DataRoom) -> None:
    told = room.ask(f"/v1/readings/{room.first}")
    assert [one["reading"] for one in told["line"]] == [room.first, room.corrected]
    assert told["line"][1]["reason"] == REASON
    assert [one["reading"] for one in told["opinions"]] == [room.second]
    assert told["opinions"][0]["request"] == room.request
    asked = room.ask("/v1/reading-requests")["entries"]
    states = {one["request"]: (one["state"], one["lapsed"]) for one in asked}
    assert states == {room.request: ("FULFILLED", False), room.still_open: ("OPEN", False)}
    by_another = room.ask("/v1/reading-requests", OTHER)["entries"]
    assert [one["request"] for one in by_another] == [room.still_open]


def test_the_browser_shows_what_happened_to_the_image(
    room: DataRoom, browser: Browser, tmp_path: Path
) -> None:
    with opened(browser, room, cookie(room, "auditor")) as page:
        page.goto(f"{room.url}/readings")
        page.get_by_label("Image (its commitment)").fill(room.image)
        page.get_by_role("button", name="What happened to it?").click()
        page.wait_for_url(f"**/images/{room.image}")
        assert page.locator(".event .head strong").all_inner_texts() == WORDS
        timeline = page.locator("main")
        expect(timeline.locator(f"s {link(room.first)}").first).to_be_visible()
        expect(timeline).to_contain_text(f"“{REASON}”")
        expect(timeline).to_contain_text("✗ major discrepancy says hospital-2")
        expect(timeline).to_contain_text("✓ agrees says hospital-2")
        expect(timeline).to_contain_text("look 0, batch 1")
        expect(timeline).to_contain_text("handed over the only batch of looks")
        assert all(page.locator(".event .mark svg use").evaluate_all(DRAWN))
        assert violations(page, "document") == []
        take(page, tmp_path / "image.png")
        page.set_viewport_size(PHONE)  # type: ignore[arg-type]
        assert page.evaluate("document.documentElement.scrollWidth") <= PHONE["width"]
        take(page, tmp_path / "phone.png")
    sizes = [(tmp_path / name).stat().st_size for name in ("image.png", "phone.png")]
    assert min(sizes) > 20_000


def test_the_browser_leads_from_the_image_to_its_readings_and_its_request(
    room: DataRoom, browser: Browser
) -> None:
    with opened(browser, room, cookie(room, READER)) as page:
        page.goto(f"{room.url}/images/{room.image}")
        page.get_by_role("link", name="readings", exact=True).click()
        page.wait_for_url("**?show=readings")
        page.locator(link(room.first)).first.click()
        page.wait_for_url(f"**/readings/{room.first}")
        expect(page.locator("main")).to_contain_text("This reading was corrected.")
        page.locator(f".notice {link(room.corrected)}").click()
        page.wait_for_url(f"**/readings/{room.corrected}")
        expect(page.locator("main")).to_contain_text(f"fedwitness readings open {room.corrected}")
        assert violations(page, "document") == []
        page.locator(link(room.second)).first.click()
        page.get_by_role("link", name="a request").click()
        page.wait_for_url(f"**#request-{room.request}")
        card = page.locator(f"#request-{room.request}")
        expect(card).to_contain_text("fulfilled hospital-1 asks any hospital")
        expect(card).to_contain_text("Taken by hospital-2")
        assert page.locator(f"#request-{room.still_open}").count() == 0


def test_a_hospital_that_nobody_asked_sees_the_open_request_alone(
    room: DataRoom, browser: Browser
) -> None:
    with opened(browser, room, cookie(room, OTHER)) as page:
        page.goto(f"{room.url}/requests")
        cards = page.locator("[id^=request-]")
        expect(cards).to_have_count(1)
        expect(cards).to_have_id(re.compile(room.still_open))
        expect(cards).to_contain_text(re.compile(r"Take by.* in (1 d|23 h 5\d min)\s"))
        answer = page.request.get(
            f"{room.url}/images/{room.image}", headers={"Accept": "text/html"}
        )
        assert answer.status == 403


# Whether the sign that a mark refers to is drawn at all.
DRAWN = """uses => uses.map(use => use.getBBox().width > 0)"""
