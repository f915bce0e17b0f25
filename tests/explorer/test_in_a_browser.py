"""The pages in a real browser: by keyboard, on a phone, in the dark, and for screen readers."""

import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Protocol

import pytest
from eth_account.messages import encode_defunct
from playwright.sync_api import Browser, Page, expect

from tests.api.conftest import Running
from tests.explorer.conftest import session_cookie
from tests.explorer.readings_story import IMAGE
from tests.explorer.story import Story, account
from tests.explorer.test_pages import pages_of
from tests.federation import ROOT

AXE = ROOT / "node_modules" / "axe-core" / "axe.min.js"
PHONE = {"width": 360, "height": 740}
DESK = {"width": 1280, "height": 900}
# An auditor's wallet, as EIP-1193 has it: the page asks, `signWith` answers from outside.
WALLET = """
window.ethereum = {
  request: async ({ method, params }) => {
    if (method === "eth_requestAccounts") return [(await window.whoAmI()).toLowerCase()];
    if (method === "personal_sign") return window.signWith(params[0]);
    throw new Error(`unknown method ${method}`);
  },
};
"""


class Site(Protocol):
    """A server that is running."""

    @property
    def url(self) -> str:
        """Where it is."""


@contextmanager
def opened(
    browser: Browser, site: Site, cookie: dict[str, str] | None = None, **options: Any
) -> Iterator[Page]:
    """Open a page that may ask this server alone, and must have nothing to complain of."""
    context = browser.new_context(**{"viewport": DESK, "reduced_motion": "reduce"} | options)
    if cookie:
        name, _, value = cookie["Cookie"].partition("=")
        context.add_cookies([{"name": name, "value": value, "url": site.url}])
    page = context.new_page()
    asked: list[str] = []
    complaints: list[str] = []
    page.on("request", lambda request: asked.append(request.url))
    page.on("pageerror", lambda error: complaints.append(str(error)))
    page.on("console", lambda said: complaints.append(said.text) if said.type == "error" else None)
    yield page
    context.close()
    assert complaints == []
    assert asked
    assert [url for url in asked if not url.startswith(f"{site.url}/")] == []


def test_axe_finds_nothing_on_any_page_be_it_light_or_dark(
    browser: Browser, site: Running, story: Story, auditor: dict[str, str]
) -> None:
    paths = (*pages_of(story), f"/rounds/{story.disputed}", f"/rounds/{story.aborted}")
    withdrawn = f"/datasets/0x{story.versions['curlew'].hex()}"
    with opened(browser, site, auditor, color_scheme="light") as page:
        for path in (*paths, withdrawn):
            page.goto(f"{site.url}{path}")
            assert violations(page, "document") == [], path
            # Nothing but colours is another in the dark.
            page.emulate_media(color_scheme="dark")
            assert violations(page, "document, {runOnly: ['color-contrast']}") == [], path
            page.emulate_media(color_scheme="light")


@pytest.mark.parametrize("viewport", [PHONE, DESK], ids=["phone", "desk"])
def test_no_page_scrolls_sideways(
    browser: Browser,
    site: Running,
    story: Story,
    auditor: dict[str, str],
    viewport: dict[str, int],
) -> None:
    with opened(browser, site, auditor, viewport=viewport) as page:
        for path in pages_of(story):
            page.goto(f"{site.url}{path}")
            width = page.evaluate("document.documentElement.scrollWidth")
            assert width <= viewport["width"], path


def test_the_keyboard_leads_from_the_overview_to_an_image_commitment(
    browser: Browser, site: Running, story: Story, auditor: dict[str, str]
) -> None:
    with opened(browser, site, auditor) as page:
        page.goto(f"{site.url}/")
        page.keyboard.press("Tab")
        assert focused(page) == "Skip to the content"
        page.keyboard.press("Enter")
        press_tab_to(page, r"^Round 14, final: 4 accepted")
        page.keyboard.press("Enter")
        page.wait_for_url("**/rounds/14")
        press_tab_to(page, r"^Where it comes from$")
        page.keyboard.press("Enter")
        page.wait_for_url("**/models/0x*")
        press_tab_to(page, r"^Data set Albatross head MR")
        page.keyboard.press("Enter")
        page.wait_for_url("**/datasets/0x*")
        press_tab_to(page, r"^Check an image against the commitment$")
        page.keyboard.press("Enter")
        page.wait_for_url("**/verify?*")
        registered = next(one for one in story.ledger.told if one.name == "VersionRegistered")
        root = f"0x{registered.args['terms']['merkleRoot'].hex()}"
        expect(page.locator("main")).to_contain_text(root)


def test_what_has_the_focus_is_seen(
    browser: Browser, site: Running, story: Story, auditor: dict[str, str]
) -> None:
    with opened(browser, site, auditor) as page:
        page.goto(f"{site.url}/models/0x{story.models[-1].hex()}")
        for _ in range(60):
            page.keyboard.press("Tab")
            assert page.evaluate(SEEN), page.evaluate("document.activeElement.outerHTML")


def test_a_wallet_signs_in_and_out(browser: Browser, site: Running) -> None:
    who = account("auditor")

    def sign(message: str) -> str:
        signed = who.sign_message(encode_defunct(hexstr=message))
        return "0x" + signed.signature.hex()

    with opened(browser, site) as page:
        page.expose_function("whoAmI", lambda: who.address)
        page.expose_function("signWith", sign)
        page.add_init_script(WALLET)
        page.goto(f"{site.url}/hospitals")
        expect(page.get_by_role("heading", level=1)).to_have_text("Sign in")
        page.get_by_role("button", name="Sign in with a wallet").click()
        page.wait_for_url("**/hospitals")
        expect(page.get_by_role("heading", level=1)).to_have_text("Parties and data")
        assert page.evaluate("document.cookie") == "", "no script can read the session"
        page.get_by_role("button", name="Sign out").click()
        page.wait_for_url(f"{site.url}/")
        page.goto(f"{site.url}/hospitals")
        page.wait_for_url("**/sign-in?next=/hospitals")


def test_without_a_wallet_the_page_says_so(browser: Browser, site: Running) -> None:
    with opened(browser, site) as page:
        page.goto(f"{site.url}/sign-in")
        page.get_by_role("button", name="Sign in with a wallet").click()
        expect(page.get_by_role("status")).to_contain_text("No wallet answers")


def test_a_digest_is_copied_whole(browser: Browser, site: Running, story: Story) -> None:
    digest = f"0x{story.models[-1].hex()}"
    with opened(browser, site, permissions=["clipboard-read", "clipboard-write"]) as page:
        page.goto(f"{site.url}/models/{digest}")
        page.get_by_role("button", name="Copy the model’s digest").first.click()  # noqa: RUF001
        expect(page.get_by_role("button", name="Copied")).to_be_visible()
        assert page.evaluate("navigator.clipboard.readText()") == digest


def test_pages_say_all_without_scripts(browser: Browser, site: Running, story: Story) -> None:
    with opened(browser, site, java_script_enabled=False) as page:
        for path in ("/", "/rounds/1", f"/models/0x{story.models[-1].hex()}", "/findings"):
            page.goto(f"{site.url}{path}")
            expect(page.get_by_role("heading", level=1)).to_be_visible()
            assert page.get_by_role("button", name=re.compile("Copy")).count() == 0
        page.goto(f"{site.url}/sign-in")
        expect(page.get_by_text("Signing in needs JavaScript")).to_be_visible()


def test_hostile_names_run_nothing(browser: Browser, hostile_site: Running) -> None:
    cookie = session_cookie(hostile_site, account("auditor"))
    with opened(browser, hostile_site, cookie) as page:
        image = f"/images/0x{IMAGE.hex()}"
        page.on("dialog", lambda dialog: pytest.fail(f"a dialog opened: {dialog.message}"))
        for path in (
            "/",
            "/rounds/1",
            "/rounds/5",
            "/hospitals",
            "/findings",
            "/grants",
            "/readings",
            image,
        ):
            page.goto(f"{hostile_site.url}{path}")
            assert page.locator("main script, main img").count() == 0


SEEN = """() => {
  const element = document.activeElement;
  const style = getComputedStyle(element);
  const box = element.querySelector("rect");
  const isOutlined = style.outlineStyle !== "none" && parseFloat(style.outlineWidth) >= 2;
  const isFramed = box !== null && parseFloat(getComputedStyle(box).strokeWidth) >= 2;
  return element === document.body || isOutlined || isFramed;
}"""

NAME = """() => {
  const element = document.activeElement;
  return element.getAttribute("aria-label") ?? element.textContent.trim();
}"""


def focused(page: Page) -> str:
    found: str = page.evaluate(NAME)
    return found


def press_tab_to(page: Page, name: str) -> None:
    """Press Tab until what has this name has the focus."""
    for _ in range(250):
        page.keyboard.press("Tab")
        if re.search(name, focused(page)):
            return
    raise AssertionError(f"the keyboard never came to {name!r} on {page.url}")


def violations(page: Page, what: str) -> list[str]:
    """Return what axe finds of moderate impact or worse, each with its first place."""
    if page.evaluate("typeof axe") == "undefined":
        page.evaluate(Path(AXE).read_text("utf-8"))
    found: dict[str, Any] = page.evaluate(f"axe.run({what})")
    return [
        f"{one['id']}: {one['help']}: {one['nodes'][0]['html'][:200]} "
        f"{one['nodes'][0]['failureSummary'][:300]}"
        for one in found["violations"]
        if one["impact"] in ("serious", "critical", "moderate")
    ]
