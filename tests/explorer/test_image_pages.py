"""An image's timeline, a reading's page and the board of requests: what they say, and to whom."""

import re
from dataclasses import replace
from html import unescape

import pytest

from aggregator.queries import TimelineEntry
from api.explorer import timeline, words
from api.explorer.assets import FOLDER
from chain.readings import Agreement, RequestState
from chain.types import LogPosition
from tests.api.conftest import Running
from tests.explorer.conftest import session_cookie
from tests.explorer.readings_story import (
    CORRECTED,
    ERASED,
    FIRST,
    IMAGE,
    OWNER,
    READER,
    REASON,
    SECOND,
)
from tests.explorer.story import Story, account, digest
from tests.explorer.test_pages import BROWSER, Reader, get

TAGS = re.compile(r"<(?!/?(?:s|time)\b)[^>]*>")


def seen(text: str) -> str:
    """What a reader sees of a page, in one line; what is struck out stays marked."""
    return " ".join(unescape(TAGS.sub(" ", text)).split())


def events(text: str) -> list[str]:
    """The words of each event on a timeline."""
    return re.findall(r'<p class="head"><strong>([^<]*)</strong>', text)


def image_page(site: Running, cookie: dict[str, str], query: str = "") -> str:
    return get(site, f"/images/0x{IMAGE.hex()}{query}", **cookie)


def test_an_images_timeline_tells_everything_from_registration_to_looks(
    site: Running, auditor: dict[str, str]
) -> None:
    text = image_page(site, auditor)
    assert events(text) == [
        "Registered",
        "Access granted",
        "Access granted",
        "Access revoked",
        "Reading",
        "Second opinion asked",
        "Request taken",
        "Request given back",
        "Request taken",
        "Second opinion",
        "Request fulfilled",
        "Comparison",
        "Correction",
        "Comparison",
        "Reading asked",
        "Reading asked",
        "Request taken",
        "Reading asked",
        "Reading asked",
        "Request cancelled",
        "Looked at",
    ]
    told = seen(text)
    for part in ("usable at St Mary, Albany", "Dr Ines Okafor , 3 times", "by its clinician"):
        assert part in told, part
    assert f"“ {REASON} ”" in told
    assert "✗ major discrepancy says Dundee Royal Infirmary" in told
    assert "✓ agrees says Dundee Royal Infirmary" in told
    assert "look 2 of the log, in batch 1" in told
    for path in (f"/readings/0x{FIRST.hex()}", f"/readings/0x{CORRECTED.hex()}"):
        assert f'href="{path}"' in text
    assert f'href="/requests?image=0x{IMAGE.hex()}#request-0x{digest("opinion").hex()}"' in text


def test_what_is_missing_of_the_access_log_is_said_before_the_timeline(
    site: Running, auditor: dict[str, str]
) -> None:
    text = image_page(site, auditor)
    told = seen(text)
    missing = "anchored 2 batches of looks and did not hand 1 of them over"
    assert told.index(missing) < told.index("Timeline")
    erased = seen(get(site, f"/images/0x{ERASED.hex()}", **auditor))
    assert "has anchored no look at any of its images" in erased


def test_a_corrected_reading_stays_and_is_struck_out(
    site: Running, auditor: dict[str, str]
) -> None:
    short = rf"<s>(?:(?!</s>).)*{FIRST.hex()}(?:(?!</s>).)*</s>"
    text = image_page(site, auditor)
    assert re.search(short + r'\s*<span class="badge plain">corrected since', text)
    page = get(site, f"/readings/0x{FIRST.hex()}", **auditor)
    assert "This reading was corrected." in page
    assert re.search(short, page)
    assert "This reading was corrected." not in get(
        site, f"/readings/0x{CORRECTED.hex()}", **auditor
    )


def test_an_erased_image_is_said_to_be_erased(site: Running, auditor: dict[str, str]) -> None:
    text = get(site, f"/images/0x{ERASED.hex()}", **auditor)
    assert "erased at Centre hospitalier de Caen" in seen(text)
    assert "Erased" in events(text)
    assert "usable" not in seen(text)


@pytest.mark.parametrize(
    ("show", "found"),
    [
        ("readings", ["Reading", "Second opinion", "Comparison", "Correction", "Comparison"]),
        ("looks", ["Looked at"]),
        ("data", ["Registered"]),
    ],
)
def test_a_timeline_shows_one_kind_alone(
    site: Running, auditor: dict[str, str], show: str, found: list[str]
) -> None:
    text = image_page(site, auditor, f"?show={show}")
    assert events(text) == found
    assert re.search(rf'<a href="[^"]*show={show}" aria-current="true">', text)


def test_an_unknown_kind_is_refused(site: Running, auditor: dict[str, str]) -> None:
    for path in (f"/images/0x{IMAGE.hex()}?show=everything", "/requests?state=lost"):
        assert site.http.get(path, headers=BROWSER | auditor).status_code == 422


def test_a_long_timeline_comes_in_pages(
    site: Running, auditor: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("api.explorer.data_room.OF_A_PAGE", 5)
    path, found = f"/images/0x{IMAGE.hex()}", []
    for _ in range(5):
        text = get(site, path, **auditor)
        found += events(text)
        following = [one for one in Reader(text).all("a") if one.get("rel") == "next"]
        if not following:
            break
        path = following[0]["href"]
    assert found[:-1] == events(image_page_whole(site, auditor, monkeypatch))[:-1]
    assert found[-1] == "Looked at"


def image_page_whole(
    site: Running, auditor: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> str:
    monkeypatch.setattr("api.explorer.data_room.OF_A_PAGE", 50)
    return image_page(site, auditor)


def test_a_form_leads_to_an_image(site: Running, auditor: dict[str, str]) -> None:
    answer = site.http.get(f"/images?commitment=%200x{IMAGE.hex()}%20", headers=BROWSER | auditor)
    assert (answer.status_code, answer.headers["location"]) == (303, f"/images/0x{IMAGE.hex()}")
    refused = site.http.get("/images?commitment=17", headers=BROWSER | auditor)
    assert refused.status_code == 422
    assert site.http.get("/images", headers=BROWSER | auditor).status_code == 422


def test_a_reading_tells_author_digest_opinions_agreement_and_how_to_open_it(
    site: Running, auditor: dict[str, str]
) -> None:
    text = get(site, f"/readings/0x{CORRECTED.hex()}", **auditor)
    told = seen(text)
    assert f"fedwitness readings open 0x{CORRECTED.hex()} --out reading --show" in told
    assert "it is never on this server, which could not open it" in told
    assert f"0x{CORRECTED.hex()}" in told
    assert account("clinician").address in text
    assert "by its clinician Dr Ines Okafor" in told
    assert f'href="/readings/0x{SECOND.hex()}"' in text
    assert "✓ agrees" in told
    assert "✗ major discrepancy one was corrected since" in told
    second = seen(get(site, f"/readings/0x{SECOND.hex()}", **auditor))
    assert "A second opinion by Dundee Royal Infirmary" in second
    assert "Asked for by St Mary, Albany" in second


def test_the_board_has_each_request_in_its_column(site: Running, auditor: dict[str, str]) -> None:
    text = get(site, "/requests", **auditor)
    columns = {
        name: re.findall(r'id="request-0x([0-9a-f]{64})"', rest)
        for name, rest in re.findall(
            r'<section class="column (\w+)"(.*?)</section>', text, re.DOTALL
        )
    }
    names = {
        "open": ["still open"],
        "taken": ["to be fulfilled"],
        "fulfilled": ["opinion"],
        "lapsed": ["too late"],
        "cancelled": ["not needed"],
    }
    assert columns == {name: [digest(one).hex() for one in found] for name, found in names.items()}
    assert "Taken by Dundee Royal Infirmary" in seen(text)
    lapsed = get(site, "/requests?state=lapsed", **auditor)
    assert re.findall(r'id="request-0x([0-9a-f]{64})"', lapsed) == columns["lapsed"]
    assert "Take by" in lapsed
    of_image = get(site, f"/requests?image=0x{ERASED.hex()}", **auditor)
    assert "No request is like that." in of_image


def test_readings_are_listed_by_version_and_hospital(
    site: Running, story: Story, auditor: dict[str, str]
) -> None:
    def listed(query: str) -> set[str]:
        found = get(site, f"/readings{query}", **auditor)
        return set(re.findall(r'<th scope="row">.*?href="/readings/0x([0-9a-f]{64})"', found))

    both = {FIRST.hex(), SECOND.hex(), CORRECTED.hex()}
    assert listed(f"?version=0x{story.versions[OWNER].hex()}") == both
    assert listed(f"?hospital={account(READER).address}") == {SECOND.hex()}
    assert listed("") == both
    assert "No reading was recorded like that." in get(
        site, f"/readings?hospital={account('fjord').address}", **auditor
    )


def test_pages_lead_to_the_data_room(site: Running, story: Story, auditor: dict[str, str]) -> None:
    version = f"0x{story.versions[OWNER].hex()}"
    hospital = account(OWNER).address
    assert f'href="/readings?version={version}"' in get(site, f"/datasets/{version}", **auditor)
    text = get(site, f"/hospitals/{hospital}", **auditor)
    assert f'href="/readings?hospital={hospital}"' in text
    assert f'href="/requests?hospital={hospital}"' in text
    assert f'href="/images/0x{IMAGE.hex()}"' in get(site, "/grants", **auditor)
    of_erased = get(site, f"/datasets/0x{story.versions['curlew'].hex()}", **auditor)
    assert f'href="/images/0x{ERASED.hex()}"' in of_erased
    assert "Readings of images 2 5 requests for readings" in seen(get(site, "/"))


def test_a_hospital_sees_what_it_has_to_do_with_and_its_own_log_alone(site: Running) -> None:
    image, reading = f"/images/0x{IMAGE.hex()}", f"/readings/0x{FIRST.hex()}"
    owner = session_cookie(site, account(OWNER))
    assert "3 times" in seen(get(site, image, **owner))
    reader = session_cookie(site, account(READER))
    told = seen(get(site, image, **reader))
    assert "Second opinion" in told
    assert "Dr Ines Okafor , 3 times" not in told
    assert "Who looked is shown to the image’s own hospital" in told  # noqa: RUF001
    get(site, reading, **reader)
    stranger = session_cookie(site, account("fjord"))
    none = digest("none").hex()
    for path in (image, reading, f"/images/0x{none}", f"/readings/0x{none}"):
        answer = site.http.get(path, headers=BROWSER | stranger)
        assert answer.status_code == 403, path
        assert "The image is not yours, nor asked of you" in answer.text
    assert "No reading was recorded." in get(site, "/readings", **stranger)
    researcher = session_cookie(site, account("researcher"))
    for path in (image, reading, "/readings", "/requests", f"/images?commitment=0x{IMAGE.hex()}"):
        assert site.http.get(path, headers=BROWSER | researcher).status_code == 403, path


def test_a_stranger_sees_open_requests_alone(site: Running) -> None:
    stranger = session_cookie(site, account("fjord"))
    text = get(site, "/requests", **stranger)
    found = re.findall(r'id="request-0x([0-9a-f]{64})"', text)
    assert set(found) == {digest("still open").hex(), digest("too late").hex()}


def test_without_signing_in_nothing_of_images_is_shown(site: Running) -> None:
    for path in (f"/images/0x{IMAGE.hex()}", f"/readings/0x{FIRST.hex()}", "/requests"):
        assert site.http.get(path, headers=BROWSER).status_code == 303, path


def test_unknown_images_and_readings_are_not_found(site: Running, auditor: dict[str, str]) -> None:
    for path in (f"/images/0x{'1' * 64}", f"/readings/0x{'1' * 64}"):
        assert site.http.get(path, headers=BROWSER | auditor).status_code == 404, path
    for path in ("/images/17", "/readings/17"):
        assert site.http.get(path, headers=BROWSER | auditor).status_code == 422, path


def test_every_kind_of_event_has_words_and_a_sign_of_its_own() -> None:
    text = (FOLDER / "timeline.svg").read_text("utf-8")
    signs = dict(re.findall(r'<symbol id="(\w+)"[^>]*>(.*?)</symbol>', text))
    assert {what.lower() for what in timeline.KINDS} == signs.keys()
    assert len(set(signs.values())) == len(signs)
    assert {what for kinds in timeline.FILTERS.values() for what in kinds} == set(timeline.KINDS)
    assert len({words.agreement(one)[2] for one in Agreement}) == len(Agreement)
    states = [words.request_state(one, lapsed=False)[0] for one in RequestState]
    assert len(set(states)) == len(RequestState)
    assert words.request_state(RequestState.OPEN, lapsed=True) == ("lapsed", "bad")


@pytest.mark.parametrize(
    ("seconds", "told"),
    [
        (0, "in 0 min"),
        (3_599, "in 59 min"),
        (-3_600, "1 h ago"),
        (3_660, "in 1 h 1 min"),
        (-86_400, "1 d ago"),
        (90_000, "in 1 d 1 h"),
        (2**63, "far ahead"),
        (-(2**40), "long ago"),
    ],
)
def test_a_deadline_is_told_from_now(seconds: int, told: str) -> None:
    assert words.distance(1_000 + seconds, 1_000.7) == told


def test_a_time_that_no_calendar_has_is_a_day_of_its_own() -> None:
    entry = TimelineEntry("ERASED", 0, LogPosition(1, 0, bytes(32)), bytes(32), "0x", None)
    found = timeline.days((entry, replace(entry, at=1), replace(entry, at=2**62)))
    assert [day.date for day in found] == ["1970-01-01", "a time that no calendar has"]
    assert [len(day.events) for day in found] == [2, 1]
