"""Each page: what it says, to whom, and that nothing on it comes from elsewhere."""

import re
from datetime import UTC, datetime
from html.parser import HTMLParser
from itertools import pairwise
from pathlib import Path

import pytest

from tests.api.conftest import Running
from tests.explorer.conftest import explorer, session_cookie
from tests.explorer.readings_story import ERASED, FIRST, IMAGE, SECOND
from tests.explorer.story import HOSTILE, Story, StoryLedger, account
from tests.waiting import eventually

BROWSER = {"Accept": "text/html,application/xhtml+xml,*/*;q=0.8"}
PUBLIC = ("/", "/rounds", "/findings", "/verify", "/sign-in")


def get(server: Running, path: str, **headers: str) -> str:
    answer = server.http.get(path, headers=BROWSER | headers)
    assert answer.status_code == 200, f"{path}: {answer.status_code} {answer.text[:400]}"
    assert answer.headers["content-type"] == "text/html; charset=utf-8"
    return answer.text


def pages_of(story: Story) -> tuple[str, ...]:
    """Every kind of page, public ones first."""
    address, version = account("albatross").address, f"0x{story.versions['albatross'].hex()}"
    return (
        *PUBLIC,
        f"/rounds/{story.ledger.opened}",
        "/rounds/1",
        f"/models/0x{story.models[-1].hex()}",
        "/hospitals",
        f"/hospitals/{address}",
        f"/datasets/{version}",
        "/grants",
        f"/grants?version={version}",
        "/readings",
        f"/readings?version={version}",
        f"/readings/0x{FIRST.hex()}",
        f"/readings/0x{SECOND.hex()}",
        f"/images/0x{IMAGE.hex()}",
        f"/images/0x{ERASED.hex()}",
        "/requests",
        "/requests?state=lapsed",
    )


class Reader(HTMLParser):
    """What a page loads, runs and links to, and how it is built."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str]]] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, {key: value or "" for key, value in attrs}))

    def all(self, tag: str) -> list[dict[str, str]]:
        return [attributes for name, attributes in self.tags if name == tag]


def test_every_page_answers_and_loads_nothing_from_elsewhere(
    site: Running, story: Story, auditor: dict[str, str]
) -> None:
    for path in pages_of(story):
        page = Reader(get(site, path, **auditor))
        for tag, attributes in page.tags:
            where = f"{path}: <{tag} {attributes}>"
            assert "style" not in attributes, where
            assert not any(name.startswith("on") for name in attributes), where
            for name in ("src", "href", "action"):
                target = attributes.get(name, "/")
                assert re.match(r"[/#?](?!/)", target), where
        assert all("src" in script for script in page.all("script"))
        assert not page.all("style")


def test_every_page_has_a_strict_policy(
    site: Running, story: Story, auditor: dict[str, str]
) -> None:
    for path in (*pages_of(story), "/nowhere"):
        answer = site.http.get(path, headers=BROWSER | auditor)
        policy = answer.headers["content-security-policy"]
        assert policy.startswith("default-src 'none'; script-src 'self'; style-src 'self'"), path
        assert "unsafe" not in policy
        assert "http" not in policy
        assert "frame-ancestors 'none'" in policy
        assert "base-uri 'none'" in policy


def test_every_page_is_built_for_screen_readers(
    site: Running, story: Story, auditor: dict[str, str]
) -> None:
    for path in pages_of(story):
        page = Reader(get(site, path, **auditor))
        names = [tag for tag, _ in page.tags]
        assert names.count("h1") == 1, path
        assert names.count("main") == 1, path
        headings = [int(name[1]) for name in names if re.fullmatch(r"h[1-6]", name)]
        assert all(after <= before + 1 for before, after in pairwise(headings)), (path, headings)
        assert names.count("table") == names.count("caption"), path
        assert all("scope" in cell for cell in page.all("th")), path
        ids = [attributes["id"] for _, attributes in page.tags if "id" in attributes]
        assert len(ids) == len(set(ids)), path


def test_hostile_texts_stay_text(hostile_site: Running) -> None:
    # The hospital is suspended and the steward missing: the auditor sees all the same.
    cookie = session_cookie(hostile_site, account("auditor"))
    ledger = hostile_site.ledger
    assert isinstance(ledger, StoryLedger)
    models = [one.args["model"] for one in ledger.told if one.name == "RoundFinalized"]
    version = next(one.args["version"] for one in ledger.told if one.name == "VersionRegistered")
    paths = (
        *PUBLIC,
        *(f"/rounds/{number}" for number in range(1, ledger.opened + 1)),
        *(f"/models/0x{model.hex()}" for model in models),
        f"/hospitals/{account('albatross').address}",
        f"/datasets/0x{version.hex()}",
        "/hospitals",
        "/grants",
        "/readings",
        "/requests",
        f"/readings/0x{FIRST.hex()}",
        f"/images/0x{IMAGE.hex()}",
        "/rounds?task=%22%3E%3Cscript%3Ealert(1)%3C%2Fscript%3E",
        "/sign-in?next=/%22%3E%3Cscript%3E",
    )
    seen = ""
    for path in paths:
        text = get(hostile_site, path, **cookie)
        seen += text
        page = Reader(text)
        assert all(one.get("src", "").startswith("/static/") for one in page.all("script")), path
        assert not page.all("img"), path
        assert not page.all("i"), path
        assert "\u202e" not in text, path
        assert "\u0007" not in text, path
    escaped = "&lt;script&gt;alert(1)&lt;/script&gt;", "&#39;-alert(1)-&#39;{{7*7}}"
    for name in (*escaped, "\\u202etxt.exe\\u0007"):
        assert name in seen
    assert HOSTILE[0] not in seen


def test_private_pages_lead_to_the_sign_in_and_back(site: Running, story: Story) -> None:
    for path in pages_of(story)[len(PUBLIC) + 3 :]:
        answer = site.http.get(path, headers=BROWSER)
        assert answer.status_code == 303, path
        assert answer.headers["location"].startswith("/sign-in?next=/"), path
    assert site.http.get("/hospitals").status_code == 401, "clients of REST get the problem"


def test_a_hospital_sees_its_own_pages_and_no_others(site: Running, story: Story) -> None:
    cookie = session_cookie(site, account("albatross"))
    own, other = account("albatross").address, account("bittern").address
    assert "St Mary, Albany" in get(site, f"/hospitals/{own}", **cookie)
    get(site, f"/datasets/0x{story.versions['albatross'].hex()}", **cookie)
    refused = (
        f"/hospitals/{other}",
        f"/datasets/0x{story.versions['bittern'].hex()}",
        f"/grants?version=0x{story.versions['bittern'].hex()}",
    )
    for path in refused:
        answer = site.http.get(path, headers=BROWSER | cookie)
        assert answer.status_code == 403, path
        assert "Bittern" not in answer.text
        assert "Bremen" not in answer.text


def test_a_researcher_is_told_that_the_pages_are_not_theirs(site: Running) -> None:
    cookie = session_cookie(site, account("researcher"))
    answer = site.http.get("/hospitals", headers=BROWSER | cookie)
    assert answer.status_code == 403
    assert "<h1>Your role does not admit you here</h1>" in answer.text


@pytest.mark.parametrize("target", ["//evil.example", "/\\evil.example", "https://evil.example"])
def test_nobody_is_led_to_another_site_after_the_sign_in(site: Running, target: str) -> None:
    text = get(site, f"/sign-in?next={target}")
    (place,) = [one for one in Reader(text).all("div") if one.get("id") == "sign-in"]
    assert place["data-next"] == "/"


def test_errors_are_pages_for_readers_and_problems_for_clients(site: Running) -> None:
    for path, status in (
        ("/nowhere", 404),
        ("/rounds/999", 404),
        ("/rounds/none", 422),
        ("/rounds?phase=OVER", 422),
        ("/rounds?cursor=forged", 422),
        (f"/models/0x{'00' * 32}", 404),
        ("/models/short", 422),
        ("/verify?model=1", 422),
    ):
        page = site.http.get(path, headers=BROWSER)
        assert page.status_code == status, path
        assert page.headers["content-type"].startswith("text/html"), path
        assert page.headers["cache-control"] == "no-store"
        assert "<h1>" in page.text
        problem = site.http.get(path)
        assert problem.status_code == status, path
        assert problem.headers["content-type"] == "application/problem+json"
    rest = site.http.get("/v1/nowhere", headers=BROWSER)
    assert rest.headers["content-type"] == "application/problem+json"


def test_an_unforeseen_failure_is_a_page_with_its_incident(
    site: Running, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(_: object) -> None:
        raise ZeroDivisionError

    monkeypatch.setattr("api.explorer.public.words.pipeline", fail)
    answer = site.http.get("/rounds/1", headers=BROWSER)
    assert answer.status_code == 500
    assert "incident number" in answer.text
    assert "ZeroDivisionError" not in answer.text


def test_the_overview_draws_each_round(site: Running, story: Story) -> None:
    text = get(site, "/")
    assert text.count('class="column"') == story.ledger.opened
    assert "Round 5, lesion-2d, final: 5 accepted, 0 clipped, 1 rejected" in text
    assert "These figures are the consortium" in text
    assert "0.861" in text


def test_a_broken_file_of_accuracies_is_told_and_spoils_nothing(
    tmp_path: Path, story: Story
) -> None:
    claims = tmp_path / "claims.jsonl"
    claims.write_text('{"round": 1, "accuracy": 7, "source": "x"}\n')
    with explorer(tmp_path, story.ledger, explorer_metrics=claims) as server:
        text = get(server, "/")
    assert "line 1: expected a round, a share of 1 and a source" in text


def test_a_round_tells_terms_pipeline_verdicts_and_witnesses(site: Running, story: Story) -> None:
    text = get(site, f"/rounds/{story.disputed}")
    for part in (
        "got something else",
        "Proposal 2",
        "health or medical research (DUO:0000006)",
        "<code>trimmed_mean</code>",
        "University of Ghent",
        "Its length is too far from that of the others.",
        "41.25",
        "Cosigned ledger heads",
    ):
        assert part in text, part
    aborted = get(site, f"/rounds/{story.aborted}")
    assert "too few hospitals took part before the holidays" in aborted
    assert "Federation office" in aborted


def test_each_row_names_its_block_and_transaction(site: Running, story: Story) -> None:
    text = get(site, "/rounds/1")
    record = next(one for one in story.ledger.told if one.name == "UpdateRecorded")
    assert f"block {record.position.block}" in text
    assert f'data-copy="0x{record.position.transaction.hex()}"' in text


def test_a_model_is_traced_to_data_that_were_withdrawn(site: Running, story: Story) -> None:
    text = get(site, f"/models/0x{story.models[-1].hex()}")
    assert "Data were withdrawn since." in text
    assert "patients took their consent back" in text
    assert "general research" in text
    page = Reader(text)
    nodes = [one["data-node"] for one in page.all("a") if "data-node" in one]
    edges = [(one["data-from"], one["data-to"]) for one in page.all("path") if "data-from" in one]
    assert len(nodes) == len(set(nodes))
    assert {end for edge in edges for end in edge} == set(nodes)
    assert f"/models/0x{story.models[-2].hex()}" in text


def test_a_data_set_tells_which_models_descend_from_it(
    site: Running, story: Story, auditor: dict[str, str]
) -> None:
    text = get(site, f"/datasets/0x{story.versions['curlew'].hex()}", **auditor)
    assert "patients took their consent back" in text
    assert f"/models/0x{story.models[-1].hex()}" in text
    assert "each of these models is touched by the withdrawal" in text


def test_who_could_see_an_image_is_answered(
    site: Running, story: Story, auditor: dict[str, str]
) -> None:
    granted = next(one for one in story.ledger.told if one.name == "AccessGranted")
    day = get(site, "/grants", **auditor)
    assert "Dr Ines Okafor" in day
    date = datetime.fromtimestamp(granted.timestamp, UTC)
    query = f"version=0x{story.versions['albatross'].hex()}&day={date:%Y-%m-%d}"
    text = get(site, f"/grants?{query}", **auditor)
    assert "the hospital anchored 2 batches of its access log and did not hand 1 of them" in text
    assert "No look of that day was handed over." in text
    assert "the whole version" in text
    empty = get(site, f"/grants?{query.replace('2026', '2020')}", **auditor)
    assert "Nobody could." in empty


def test_a_researcher_sees_their_own_grants_alone(site: Running, story: Story) -> None:
    cookie = session_cookie(site, account("researcher"))
    assert "St Mary, Albany" in get(site, "/grants", **cookie)
    path = f"/grants?version=0x{story.versions['albatross'].hex()}"
    assert site.http.get(path, headers=BROWSER | cookie).status_code == 403


def test_an_empty_federation_says_what_to_do(empty_site: Running) -> None:
    assert "fedwitness aggregator open" in get(empty_site, "/")
    assert "fedwitness aggregator open" in get(empty_site, "/rounds")
    get(empty_site, "/findings")
    get(empty_site, "/verify")


def test_rounds_are_filtered_and_paged(site: Running) -> None:
    text = get(site, "/rounds?task=pneumonia-2d&phase=FINAL")
    assert text.count('<th scope="row"') == 2
    none = get(site, "/rounds?task=pneumonia-2d&phase=ABORTED")
    assert "No round is like that." in none


def test_static_files_are_sent_once(site: Running) -> None:
    for path, kind in (("style.css", "text/css"), ("explorer.js", "text/javascript")):
        first = site.http.get(f"/static/{path}")
        assert first.headers["content-type"].startswith(kind)
        assert first.headers["content-encoding"] == "gzip"
        etag = first.headers["etag"]
        again = site.http.get(f"/static/{path}", headers={"If-None-Match": etag})
        assert (again.status_code, again.content) == (304, b"")
        plain = site.http.get(f"/static/{path}", headers={"Accept-Encoding": "identity"})
        assert plain.content == first.content


@pytest.mark.parametrize(
    "path", ["../rendering.py", "%2e%2e/rendering.py", "..%2frendering.py", "nothing.css", ""]
)
def test_no_path_leads_out_of_the_static_files(site: Running, path: str) -> None:
    assert site.http.get(f"/static/{path}").status_code == 404


def test_a_signed_in_page_is_kept_nowhere(site: Running, auditor: dict[str, str]) -> None:
    answer = site.http.get("/hospitals", headers=BROWSER | auditor)
    assert answer.headers["cache-control"] == "no-store"
    assert account("auditor").address in answer.text


def test_a_chain_that_cannot_be_reached_does_not_silence_the_index(
    tmp_path: Path,
) -> None:
    ledger = StoryLedger()
    ledger.log()
    with explorer(tmp_path, ledger) as server:
        ledger.down = True
        assert "No round was opened yet." in get(server, "/")


@pytest.mark.parametrize("how", ["reorganised", "rewound"])
def test_a_chain_that_is_not_what_it_was_is_reported(tmp_path: Path, how: str) -> None:
    ledger = StoryLedger()
    for _ in range(4):
        ledger.log()
    with explorer(tmp_path, ledger) as server:
        assert "the chain still had every block" in get(server, "/findings")
        if how == "reorganised":
            ledger.branch = "another branch"
        else:
            ledger.number -= 2
        eventually(
            lambda: "The chain was not what it had been." in get(server, "/findings"),
            lambda: get(server, "/findings"),
        )
        text = get(server, "/findings")
        assert f'<span class="badge bad">{how}</span>' in text
        assert "the chain was rewound or reorganised 1 time" in get(server, "/")
