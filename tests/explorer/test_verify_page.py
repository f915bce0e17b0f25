"""The auditor's path in a real browser: from a model's page to an image's commitment."""

import hashlib
import json
import os
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import pytest
from playwright.sync_api import Browser, Page, Route, expect, sync_playwright

from chain.cid import Cid
from chain.commitments import commit
from chain.image_proofs import ImageProof, write_proof
from chain.merkle import image_leaf, image_leaves, merkle_proof, merkle_root
from chain.signing import sign_head
from tests.aggregator.training import Training
from tests.api.conftest import Running, running
from tests.audit.bundles import model_of
from tests.explorer.conftest import FLAGS, session_cookie
from tests.explorer.test_in_a_browser import violations
from tests.federation import (
    WITNESSES,
    Federation,
    connect,
    dataset_terms,
    digest,
    unchanged,
)
from tests.memory_blobs import MemoryBlobStore

IMAGES = 7
SHOWN = 4  # the image whose proof is shown
PICTURES = os.environ.get("FEDWITNESS_PICTURES")  # a folder, where one wants to see the pages


@dataclass(frozen=True, slots=True)
class Site:
    """A server over two final rounds, cosigned, with a model's file and an image's proof."""

    server: Running
    federation: Federation
    model: bytes
    model_file: bytes
    version: bytes
    proof: Path

    @property
    def url(self) -> str:
        return self.server.url

    @property
    def witnesses(self) -> str:
        return "\n".join(self.federation.address(name) for name in WITNESSES)


@pytest.fixture(scope="module")
def site(
    founded_federation: Federation, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Site]:
    folder = tmp_path_factory.mktemp("verify")
    rpc_url, deployment = founded_federation.rpc_url, founded_federation.deployment
    with unchanged(rpc_url):
        versions = dict(founded_federation.versions)
        federation = connect(rpc_url, deployment, folder / "outboxes", versions)
        proof = register_images(federation, folder)
        training = Training(federation, MemoryBlobStore(), folder)
        for _ in range(2):
            training.finish(training.open_round())
        cosign(federation, 2)
        changes = {
            "rpc_url": rpc_url,
            "ledger": federation.reader.address,
            "image_access": deployment.image_access,
        }
        ledger = cast("Any", federation.ledgers["steward"])
        with running(folder, ledger, training.blobs, **changes) as server:
            server.wait_until_ready()
            model = model_of(training, 2)
            yield Site(
                server=server,
                federation=federation,
                model=model,
                model_file=model_file(training, 2),
                version=federation.versions["hospital-1"],
                proof=proof,
            )


def register_images(federation: Federation, folder: Path) -> Path:
    """Register real commitments for hospital-1, and write the proof of one of them."""
    salts = [digest(f"salt {number}") for number in range(IMAGES)]
    images = [digest(f"image {number}") for number in range(IMAGES)]
    commitments = [commit(salt, image) for salt, image in zip(salts, images, strict=True)]
    leaves = image_leaves(commitments)
    root = merkle_root(leaves)
    terms = dataset_terms("hospital-1", name="chest, followed up", merkle_root=root)
    federation.versions["hospital-1"] = federation.ledgers["hospital-1"].register_version(terms)
    place = leaves.index(image_leaf(commitments[SHOWN]))
    shown = ImageProof(
        root=root,
        commitment=commitments[SHOWN],
        proof=merkle_proof(leaves, place),
        salt=salts[SHOWN],
        image_digest=images[SHOWN],
    )
    path = folder / "image.json"
    write_proof(path, federation.versions["hospital-1"], shown)
    return path


def cosign(federation: Federation, round_number: int) -> None:
    reader = federation.reader
    head = reader.head_of_final(round_number)
    for name in WITNESSES:
        account = federation.identities[name].account
        signature = sign_head(reader.chain_id, reader.address, head, account)
        federation.ledgers[name].cosign(head, federation.address(name), signature)


def model_file(training: Training, round_number: int) -> bytes:
    proposal = training.federation.reader.round(round_number).proposal
    assert proposal is not None
    return training.blobs.get(Cid.from_blob_digest(proposal.model_blob), 1 << 20)


@pytest.fixture(scope="module")
def browser(chromium: str) -> Iterator[Browser]:
    with sync_playwright() as playwright:
        found = playwright.chromium.launch(executable_path=chromium, args=FLAGS)
        # Making a bundle reads a whole chain, and a busy machine must not fail a test.
        expect.set_options(timeout=60_000)
        yield found
        found.close()


@pytest.fixture
def page(browser: Browser) -> Iterator[Page]:
    """A page of a fresh browser; whatever it complains of fails the test."""
    context = browser.new_context(viewport={"width": 1200, "height": 900}, reduced_motion="reduce")
    found = context.new_page()
    complaints: list[str] = []
    found.on("pageerror", lambda error: complaints.append(str(error)))
    found.on(
        "console",
        lambda said: complaints.append(said.text) if said.type == "error" else None,
    )
    yield found
    context.close()
    assert complaints == []


def state_of(page: Page, step: int) -> str | None:
    return page.locator(f'#checks [data-step="{step}"]').get_attribute("data-state")


def test_an_auditor_gets_from_a_model_to_an_image_commitment(site: Site, page: Page) -> None:
    page.goto(f"{site.url}/models/0x{site.model.hex()}")
    page.get_by_role("link", name="Verify it in your browser").click()
    page.get_by_role("textbox", name="addresses, one a line").fill(site.witnesses)
    page.locator("#known-ledger").fill(site.federation.reader.address)
    page.get_by_role("button", name="Fetch and verify").click()
    expect(page.locator("#verdict")).to_contain_text("Verified.")
    assert {state_of(page, step) for step in (11, 12, 13, 1, 2, 3, 4, 5, 6)} == {"ok"}
    expect(page.locator("#result-head")).to_be_focused()
    trust = page.locator("#trust")
    for name in WITNESSES:
        expect(trust).to_contain_text(site.federation.address(name))
    picture(page, "verified")

    page.locator("#model-file").set_input_files(
        {"name": "model", "mimeType": "application/octet-stream", "buffer": site.model_file}
    )
    expect(page.locator("#model-result")).to_contain_text("is the model that the ledger names")

    page.locator("#image-text").fill(site.proof.read_text())
    page.get_by_role("button", name="Verify the proof").click()
    result = page.locator("#image-result")
    expect(result).to_contain_text("Proven.")
    expect(result).to_contain_text(f"version 0x{site.version.hex()}")
    expect(result).to_contain_text(f"model 0x{site.model.hex()} of round 2")
    expect(result).to_contain_text("chest, followed up")
    picture(page, "image")


def test_what_the_reader_knows_is_remembered(site: Site, page: Page) -> None:
    page.goto(f"{site.url}/verify")
    page.locator("#known-witnesses").fill(site.witnesses)
    page.locator("#known-witnesses").blur()
    expect(page.locator("#known-kept")).to_contain_text("Remembered")
    page.goto(f"{site.url}/verify?model=0x{site.model.hex()}")
    expect(page.locator("#known-witnesses")).to_have_value(site.witnesses)
    page.get_by_role("button", name="Fetch and verify").click()
    expect(page.locator("#verdict")).to_contain_text("Verified.")


def test_without_a_known_witness_the_page_does_not_say_verified(site: Site, page: Page) -> None:
    page.goto(f"{site.url}/verify?model=0x{site.model.hex()}")
    page.get_by_role("button", name="Fetch and verify").click()
    expect(page.locator("#verdict")).to_contain_text("Consistent, but not anchored.")
    page.get_by_role("button", name=re.compile("I have compared them")).click()
    expect(page.locator("#known-witnesses")).to_have_value(site.witnesses)


def test_another_witness_than_those_who_signed_fails_at_step_12(site: Site, page: Page) -> None:
    page.goto(f"{site.url}/verify?model=0x{site.model.hex()}")
    page.locator("#known-witnesses").fill(site.federation.address("auditor"))
    page.get_by_role("button", name="Fetch and verify").click()
    expect(page.locator("#verdict")).to_contain_text("step 12")
    expect(page.locator("#after")).to_be_hidden()


@pytest.mark.parametrize(
    ("what", "step"), [("a byte", 11), ("a byte, resealed", 13), ("the model", 11)]
)
def test_a_lying_server_fails_at_the_step_that_sees_it(
    site: Site, page: Page, what: str, step: int
) -> None:
    def lie(route: Route) -> None:
        honest = route.fetch().body()
        route.fulfill(body=tampered(honest, what), content_type="application/octet-stream")

    page.route("**/v1/models/*/bundle", lie)
    page.goto(f"{site.url}/verify?model=0x{site.model.hex()}")
    page.locator("#known-witnesses").fill(site.witnesses)
    page.get_by_role("button", name="Fetch and verify").click()
    expect(page.locator("#verdict")).to_contain_text("Not verified.")
    expect(page.locator("#verdict")).to_contain_text(f"step {step}")
    assert state_of(page, step) == "failed"
    assert state_of(page, 1) == "not-run"
    expect(page.locator("#after")).to_be_hidden()
    picture(page, f"lie-{step}")


def test_a_dropped_bundle_is_verified_without_asking_the_server(site: Site, page: Page) -> None:
    content = site.server.http.get(f"/v1/models/0x{site.model.hex()}/bundle").content
    page.goto(f"{site.url}/verify")
    expect(page.locator("#ready")).to_contain_text("Ready")
    page.locator("#known-witnesses").fill(site.witnesses)
    asked: list[str] = []
    page.on("request", lambda request: asked.append(request.url))
    page.locator("#bundle-file").set_input_files(
        {"name": "light.bundle", "mimeType": "application/octet-stream", "buffer": content}
    )
    expect(page.locator("#verdict")).to_contain_text("Verified.")
    assert asked == []


def test_another_models_file_and_another_proof_are_refused(site: Site, page: Page) -> None:
    page.goto(f"{site.url}/verify?model=0x{site.model.hex()}")
    page.locator("#known-witnesses").fill(site.witnesses)
    page.get_by_role("button", name="Fetch and verify").click()
    expect(page.locator("#verdict")).to_contain_text("Verified.")
    other = bytes([site.model_file[0] ^ 1]) + site.model_file[1:]
    page.locator("#model-file").set_input_files(
        {"name": "model", "mimeType": "application/octet-stream", "buffer": other}
    )
    expect(page.locator("#model-result")).to_contain_text("is not the model")
    proof = json.loads(site.proof.read_text())
    proof["salt"] = f"0x{digest('another salt').hex()}"
    page.locator("#image-text").fill(json.dumps(proof))
    page.get_by_role("button", name="Verify the proof").click()
    expect(page.locator("#image-result")).to_contain_text("Not proven.")


@pytest.mark.parametrize("is_honest", [True, False], ids=["verified", "failed"])
def test_what_came_of_it_is_fit_for_screen_readers_phones_and_keyboards(
    site: Site, page: Page, is_honest: bool
) -> None:
    if not is_honest:
        page.route(
            "**/v1/models/*/bundle",
            lambda route: route.fulfill(body=tampered(route.fetch().body(), "a byte, resealed")),
        )
    page.set_viewport_size({"width": 360, "height": 740})
    page.goto(f"{site.url}/verify?model=0x{site.model.hex()}")
    expect(page.locator("#ready")).to_contain_text("Ready")
    page.locator("#known-witnesses").focus()
    page.keyboard.insert_text(site.witnesses)
    page.locator("#model").focus()
    page.keyboard.press("Enter")
    verdict = "Verified." if is_honest else "Not verified."
    expect(page.locator("#verdict")).to_contain_text(verdict)
    # What is said aloud is what stands there.
    expect(page.locator("#state")).to_contain_text(verdict)
    expect(page.locator("#result-head")).to_be_focused()
    if is_honest:
        page.locator("#image-text").fill(site.proof.read_text())
        page.get_by_role("button", name="Verify the proof").click()
        expect(page.locator("#image-result")).to_contain_text("Proven.")
    assert page.evaluate("document.documentElement.scrollWidth") <= 360
    assert violations(page, "document") == []
    page.emulate_media(color_scheme="dark")
    assert violations(page, "document, {runOnly: ['color-contrast']}") == []
    picture(page, f"phone-{'honest' if is_honest else 'failed'}")


def test_the_model_is_fetched_by_who_is_signed_in_and_refused_to_others(
    site: Site, browser: Browser
) -> None:
    context = browser.new_context()
    page = context.new_page()
    page.goto(f"{site.url}/verify?model=0x{site.model.hex()}")
    page.get_by_role("button", name="Fetch and verify").click()
    expect(page.locator("#verdict")).to_contain_text("Consistent")
    page.get_by_role("button", name="Fetch the model").click()
    expect(page.locator("#model-result")).to_contain_text("does not hand out the model (401)")
    expect(page.locator("#verdict")).to_contain_text("Consistent")
    account = site.federation.identities["auditor"].account
    cookie = session_cookie(site.server, account)["Cookie"].partition("=")
    context.add_cookies([{"name": cookie[0], "value": cookie[2], "url": site.url}])
    page.get_by_role("button", name="Fetch the model").click()
    expect(page.locator("#model-result")).to_contain_text("is the model that the ledger names")
    context.close()


def test_a_model_that_no_round_made_has_no_bundle(site: Site, browser: Browser) -> None:
    page = browser.new_page()
    page.goto(f"{site.url}/verify?model=0x{digest('no model').hex()}")
    page.get_by_role("button", name="Fetch and verify").click()
    expect(page.locator("#verdict")).to_contain_text("does not hand out the bundle")
    page.context.close()


def test_what_is_mistyped_is_told_and_nothing_begins(site: Site, page: Page) -> None:
    page.goto(f"{site.url}/verify?model=0x{site.model.hex()}")
    page.locator("#known-witnesses").fill("0x1234")
    page.get_by_role("button", name="Fetch and verify").click()
    expect(page.locator("#known-fault")).to_contain_text("expected 0x and 40 hexadecimal digits")
    expect(page.locator("#result")).to_be_hidden()


def tampered(bundle: bytes, what: str) -> bytes:
    """Lie as a server could."""
    size = int.from_bytes(bundle[8:12], "big")
    header, parts = json.loads(bundle[12 : 12 + size]), bytearray(bundle[12 + size : -32])
    if what == "the model":
        header["model"] = digest("another model").hex()
    else:
        parts[len(parts) // 2] ^= 1
    if what == "a byte":
        return bundle[: 12 + size] + parts + bundle[-32:]
    header["parts"][0]["sha256"] = hashlib.sha256(parts).hexdigest()
    text = json.dumps(header, sort_keys=True, separators=(",", ":")).encode()
    before = bundle[:8] + len(text).to_bytes(4, "big") + text + parts
    return before + hashlib.sha256(before).digest()


def picture(page: Page, name: str) -> None:
    if PICTURES is not None:
        page.screenshot(path=Path(PICTURES) / f"{name}.png", full_page=True)
