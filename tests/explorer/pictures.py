"""Pictures of the pages for README and guides, of a federation that runs.

fedwitness demo --keep-running
python -m tests.explorer.pictures runs/demo docs/images
"""

import re
import shutil
import sys
import time
from pathlib import Path

import httpx
from playwright.sync_api import Browser, Page, expect, sync_playwright

from chain.federation import FILE_NAME, read_federation
from chain.keystore import load_identity, read_password
from tests.api.signing_in import message, offered, signature

DESK = {"width": 1280, "height": 860}
PHONE = {"width": 390, "height": 844}
TALLEST = 1_500  # pixels that a picture may have


def main(folder: Path, images: Path) -> None:
    """Take all pictures.

    Args:
        folder: A demo's, kept running.
        images: Where the pictures go.
    """
    site = read_federation(folder / FILE_NAME).api_url
    with httpx.Client(base_url=site, trust_env=False, timeout=60) as http:
        cookie = session(http, folder / "keys")
        rounds = http.get("/v1/rounds", headers={"Cookie": cookie}).json()["entries"]
    finals = [one for one in rounds if one["phase"] == "FINAL"]
    newest, told = finals[0], max(finals, key=lambda one: one["clipped"] + one["rejected"])
    paths = {
        "overview": "/",
        "round": f"/rounds/{told['number']}",
        "model": f"/models/{newest['model']}",
        "verify": f"/verify?model={newest['model']}",
    }
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(
            executable_path=shutil.which("chromium"), args=["--no-sandbox", "--disable-gpu"]
        )
        for name, scheme, kind in (
            ("overview", "light", "desk"),
            ("overview", "dark", "desk"),
            ("overview", "light", "phone"),
            ("round", "light", "desk"),
            ("model", "dark", "desk"),
            ("verify", "light", "desk"),
        ):
            page = opened(browser, site, cookie, scheme, PHONE if kind == "phone" else DESK)
            page.goto(f"{site}{paths[name]}")
            if name == "verify":
                verify(page)
            suffix = kind if kind == "phone" else scheme
            take(page, images / f"explorer-{name}-{suffix}.png")
            page.context.close()
        browser.close()


def session(http: httpx.Client, keys: Path) -> str:
    """Sign in as the federation's auditor and return the cookie."""
    password = read_password(keys / "auditor.password", "")
    who = load_identity(keys, "auditor", password).account
    text = message(offered(http, who.address), who.address, time.time())
    body = {"message": text, "signature": signature(text, who), "cookie": True}
    answer = http.post("/v1/auth/session", json=body).raise_for_status()
    http.cookies.clear()
    return answer.headers["set-cookie"].partition(";")[0]


def opened(browser: Browser, site: str, cookie: str, scheme: str, viewport: dict[str, int]) -> Page:
    """Open a page in light or dark, on a desk or a phone."""
    context = browser.new_context(
        viewport={"width": viewport["width"], "height": viewport["height"]},
        color_scheme="dark" if scheme == "dark" else "light",
        reduced_motion="reduce",
    )
    name, _, value = cookie.partition("=")
    context.add_cookies([{"name": name, "value": value, "url": site}])
    return context.new_page()


def verify(page: Page) -> None:
    """Let the browser verify, against the witnesses that it is shown."""
    page.get_by_role("button", name="Fetch and verify").click()
    page.get_by_role("button", name=re.compile("I have compared them")).click(timeout=60_000)
    page.get_by_role("button", name="Fetch and verify").click()
    expect(page.locator("#verdict")).to_contain_text("Verified.", timeout=60_000)


def take(page: Page, path: Path, tallest: int = TALLEST) -> None:
    """Take a picture of the page's upper part."""
    page.evaluate("window.scrollTo(0, 0)")
    size = page.viewport_size
    assert size is not None
    height = page.evaluate("document.documentElement.scrollHeight")
    area = {"x": 0, "y": 0, "width": size["width"], "height": min(height, tallest)}
    page.screenshot(path=path, full_page=True, clip=area)  # type: ignore[arg-type]
    print(path)  # noqa: T201 - what a script says


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
