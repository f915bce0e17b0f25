"""A running server over a federation's past, and a browser in front of it."""

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from eth_account.signers.local import LocalAccount
from playwright.sync_api import Browser, sync_playwright

from chain.types import Look
from tests.api.conftest import Running, running
from tests.api.signing_in import message, offered, signature
from tests.explorer.readings_story import FIRST, OWNER, Clinic, hand_over, read_and_asked
from tests.explorer.story import HOSTILE, HOUR, Story, StoryLedger, account, hostile, told
from tests.memory_blobs import MemoryBlobStore

FLAGS = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]


@contextmanager
def explorer(folder: Path, ledger: StoryLedger, **changes: object) -> Iterator[Running]:
    """Serve a ledger, and wait until the index has read all of it."""
    with running(folder, ledger, MemoryBlobStore(), **changes) as server:
        server.wait_until_ready()
        yield server


@pytest.fixture(scope="session")
def story() -> Story:
    return told()


@pytest.fixture(scope="session")
def looks(story: Story) -> list[Look]:
    """What becomes of two images of the story, and the looks that are handed over."""
    return read_and_asked(story.ledger, story.versions)


@pytest.fixture(scope="session")
def site(
    story: Story, looks: list[Look], tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Running]:
    """The explorer over the whole story; no test changes it."""
    folder = tmp_path_factory.mktemp("explorer")
    claims = folder / "accuracies.jsonl"
    lines = (
        f'{{"round": {round_}, "accuracy": {share}, "source": "test images of the consortium"}}\n'
        for round_, share in ((1, 0.61), (2, 0.7), (3, 0.745), (4, 0.81), (5, 0.842), (7, 0.861))
    )
    claims.write_text("".join(lines), "utf-8")
    with explorer(folder, story.ledger, explorer_metrics=claims) as server:
        hand_over(server.http, server.sign_in(account(OWNER)), 1, looks)
        yield server


@pytest.fixture(scope="session")
def hostile_site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    """The explorer over a ledger whose every text would break out of a page."""
    story = hostile()
    clinic = Clinic(story.ledger, story.versions[OWNER])
    clinic.read("first", OWNER, OWNER)
    clinic.correct("first", "corrected", OWNER, HOSTILE[1])
    clinic.ask("request", within=HOUR, opinion_on=FIRST)
    with explorer(tmp_path_factory.mktemp("hostile"), story.ledger) as server:
        yield server


@pytest.fixture(scope="session")
def empty_site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    """The explorer over a federation in which nothing happened yet."""
    ledger = StoryLedger()
    ledger.log()
    with explorer(tmp_path_factory.mktemp("empty"), ledger) as server:
        yield server


def session_cookie(server: Running, who: LocalAccount) -> dict[str, str]:
    """Sign in as the pages do, and return the cookie as a header."""
    offer = offered(server.http, who.address)
    text = message(offer, who.address, server.clock())
    body = {"message": text, "signature": signature(text, who), "cookie": True}
    answer = server.http.post("/v1/auth/session", json=body)
    assert answer.status_code == 201, answer.text
    name, _, value = answer.headers["set-cookie"].partition(";")[0].partition("=")
    server.http.cookies.clear()
    return {"Cookie": f"{name}={value}"}


@pytest.fixture(scope="session")
def auditor(site: Running) -> dict[str, str]:
    return session_cookie(site, account("auditor"))


@pytest.fixture(scope="module")
def browser(chromium: str) -> Iterator[Browser]:
    with sync_playwright() as playwright:
        found = playwright.chromium.launch(executable_path=chromium, args=FLAGS)
        yield found
        found.close()


@pytest.fixture(scope="session")
def chromium() -> str:
    """The path of Debian's Chromium."""
    found = shutil.which("chromium")
    if found is None:
        pytest.skip(
            "Chromium is not installed: `apt-get install chromium` as root, then `make test`"
        )
    return found
