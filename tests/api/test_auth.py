"""Sign-In with Ethereum, sessions and roles (EIP-4361; docs/protocol.md, section 2)."""

from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from eth_account import Account
from eth_account.signers.local import LocalAccount
from fastapi import FastAPI

from api import auth
from chain.sessions import NONCES_PER_CLIENT
from chain.types import Role
from tests.api.conftest import (
    AUDITOR,
    HOSPITAL,
    OTHER_HOSPITAL,
    STRANGER,
    Running,
    record_for,
    running,
)
from tests.api.fake_ledger import FakeLedger
from tests.api.signing_in import begin, message, moment, offered, signature
from tests.memory_blobs import MemoryBlobStore

ROUND = "/v1/rounds/1"


def test_a_signed_message_begins_a_session(server: Running) -> None:
    session = server.sign_in(HOSPITAL)
    assert server.http.get(ROUND, headers=session).status_code == 200


def test_the_message_of_the_specification_is_understood(server: Running) -> None:
    offer = offered(server.http, HOSPITAL.address)
    now = server.clock()
    rest = (
        f"\nExpiration Time: {moment(now + 60)}\nNot Before: {moment(now - 60)}"
        "\nRequest ID: 7\nResources:\n- ipfs://bafy\n- https://example.org/terms"
    )
    text = "http://" + message(offer, HOSPITAL.address, now, rest=rest)
    assert begin(server.http, text, HOSPITAL).status_code == 201


def test_a_message_without_a_statement_is_understood(server: Running) -> None:
    offer = offered(server.http, HOSPITAL.address)
    text = message(offer, HOSPITAL.address, server.clock())
    text = text.replace("Sign in to FedWitness.\n", "")
    assert begin(server.http, text, HOSPITAL).status_code == 201


def test_a_nonce_works_once(server: Running) -> None:
    text = message(offered(server.http, HOSPITAL.address), HOSPITAL.address, server.clock())
    assert begin(server.http, text, HOSPITAL).status_code == 201
    again = begin(server.http, text, HOSPITAL)
    assert again.status_code == 401
    assert again.headers["WWW-Authenticate"] == "Bearer"


def test_of_many_uses_of_a_nonce_at_once_one_succeeds(server: Running) -> None:
    text = message(offered(server.http, HOSPITAL.address), HOSPITAL.address, server.clock())
    with ThreadPoolExecutor(8) as pool:
        answers = list(pool.map(lambda _: begin(server.http, text, HOSPITAL), range(16)))
    assert Counter(answer.status_code for answer in answers) == {201: 1, 401: 15}


def test_a_failed_attempt_uses_the_nonce_up(server: Running) -> None:
    text = message(offered(server.http, HOSPITAL.address), HOSPITAL.address, server.clock())
    assert begin(server.http, text, OTHER_HOSPITAL).status_code == 401
    assert begin(server.http, text, HOSPITAL).status_code == 401


def test_a_nonce_ends_after_five_minutes(server: Running) -> None:
    offer = offered(server.http, HOSPITAL.address)
    server.clock.ahead = 301
    text = message(offer, HOSPITAL.address, server.clock())
    assert begin(server.http, text, HOSPITAL).status_code == 401


def test_a_nonce_of_another_party_is_refused(server: Running) -> None:
    offer = offered(server.http, OTHER_HOSPITAL.address)
    text = message(offer, HOSPITAL.address, server.clock())
    assert begin(server.http, text, HOSPITAL).status_code == 401


def test_asking_for_more_nonces_ends_the_oldest(server: Running) -> None:
    first = offered(server.http, HOSPITAL.address)
    for _ in range(NONCES_PER_CLIENT):
        last = offered(server.http, HOSPITAL.address)
    for offer, status in ((first, 401), (last, 201)):
        text = message(offer, HOSPITAL.address, server.clock())
        assert begin(server.http, text, HOSPITAL).status_code == status


@pytest.mark.parametrize(
    ("part", "value"),
    [
        ("domain", "evil.example"),
        ("uri", "http://evil.example"),
        ("chain_id", "1"),
        ("issued_at", "2020-01-01T00:00:00Z"),
        ("issued_at", "2099-01-01T00:00:00Z"),
        ("rest", "\nExpiration Time: 2020-01-01T00:00:00Z"),
        ("rest", "\nNot Before: 2099-01-01T00:00:00Z"),
    ],
)
def test_a_message_for_elsewhere_or_another_time_is_refused(
    server: Running, part: str, value: str
) -> None:
    offer = offered(server.http, HOSPITAL.address)
    text = message(offer, HOSPITAL.address, server.clock(), **{part: value})
    answer = begin(server.http, text, HOSPITAL)
    assert answer.status_code == 401
    assert answer.json()["type"] == "sign-in-needed"


@pytest.mark.parametrize(
    "spoil",
    [
        lambda text: text.replace("Version: 1", "Version: 2"),
        lambda text: text.replace(HOSPITAL.address, HOSPITAL.address.lower()),
        lambda text: text.replace("Issued At: 20", "Issued At: 20x"),
        lambda text: text[: text.index("Issued At")] + "Issued At: 2026-13-45T99:99:99Z",
        lambda text: text + "\n",
        lambda text: text + "\nAdmin: true",
        lambda text: text.replace("\n", "\r\n"),
        lambda text: text[:0],
        lambda text: text[:1] * 2048,
        lambda text: text.replace("FedWitness.", "FedWitn\u00e9ss."),
    ],
)
def test_a_malformed_message_is_refused(server: Running, spoil: object) -> None:
    offer = offered(server.http, HOSPITAL.address)
    text = message(offer, HOSPITAL.address, server.clock())
    assert callable(spoil)
    assert begin(server.http, spoil(text), HOSPITAL).status_code == 422


@pytest.mark.parametrize("signed", ["0x", "0x" + "00" * 65, "0x" + "ff" * 65, "xyz", "0x1b"])
def test_a_malformed_signature_is_refused(server: Running, signed: str) -> None:
    text = message(offered(server.http, HOSPITAL.address), HOSPITAL.address, server.clock())
    answer = server.http.post("/v1/auth/session", json={"message": text, "signature": signed})
    assert answer.status_code in (401, 422)
    assert answer.headers["Content-Type"] == "application/problem+json"


def test_a_forged_signature_is_refused(server: Running) -> None:
    text = message(offered(server.http, HOSPITAL.address), HOSPITAL.address, server.clock())
    forged = signature(text, STRANGER)
    answer = server.http.post("/v1/auth/session", json={"message": text, "signature": forged})
    assert answer.status_code == 401


def test_a_stranger_is_not_signed_in(server: Running) -> None:
    text = message(offered(server.http, STRANGER.address), STRANGER.address, server.clock())
    answer = begin(server.http, text, STRANGER)
    assert (answer.status_code, answer.json()["type"]) == (403, "not-enrolled")


def test_a_suspended_party_is_not_signed_in(server: Running) -> None:
    server.ledger.suspend(HOSPITAL.address)
    text = message(offered(server.http, HOSPITAL.address), HOSPITAL.address, server.clock())
    answer = begin(server.http, text, HOSPITAL)
    assert (answer.status_code, answer.json()["type"]) == (403, "suspended")


def test_suspension_ends_a_session_for_good(server: Running) -> None:
    session = server.sign_in(HOSPITAL)
    assert server.http.get(ROUND, headers=session).status_code == 200
    server.ledger.suspend(HOSPITAL.address)
    assert server.http.get(ROUND, headers=session).json()["type"] == "suspended"
    server.ledger.reinstate(HOSPITAL.address)
    assert server.http.get(ROUND, headers=session).status_code == 401


def test_an_unreachable_chain_lets_nobody_in_and_ends_no_session(server: Running) -> None:
    session = server.sign_in(HOSPITAL)
    server.ledger.down = True
    answer = server.http.get(ROUND, headers=session)
    assert (answer.status_code, answer.headers["Retry-After"]) == (503, "5")
    server.ledger.down = False
    assert server.http.get(ROUND, headers=session).status_code == 200


def test_a_session_ends_after_fifteen_minutes(server: Running) -> None:
    session = server.sign_in(HOSPITAL)
    server.clock.ahead = 899
    assert server.http.get(ROUND, headers=session).status_code == 200
    server.clock.ahead = 901
    assert server.http.get(ROUND, headers=session).status_code == 401


def test_signing_out_ends_the_session(server: Running) -> None:
    session = server.sign_in(HOSPITAL)
    assert server.http.delete("/v1/auth/session", headers=session).status_code == 204
    assert server.http.get(ROUND, headers=session).status_code == 401
    assert server.http.delete("/v1/auth/session", headers=session).status_code == 401


@pytest.mark.parametrize("header", ["", "Bearer", "Bearer x", "Basic YTpi", "Bearer " + "0" * 64])
def test_no_or_a_wrong_token_is_refused(server: Running, header: str) -> None:
    answer = server.http.get(ROUND, headers={"Authorization": header})
    assert answer.status_code == 401


def test_only_a_hash_of_the_token_is_kept(server: Running) -> None:
    token = server.sign_in(HOSPITAL)["Authorization"].removeprefix("Bearer ")
    assert token not in repr(vars(server.app.state.backend.sessions))


def test_each_role_enters_only_where_it_is_admitted(server: Running) -> None:
    hospital, auditor = server.sign_in(HOSPITAL), server.sign_in(AUDITOR)
    assert server.http.get("/v1/grants/mine", headers=hospital).status_code == 403
    answer = server.announce(auditor, AUDITOR, record_for(b"x", AUDITOR), 1)
    assert (answer.status_code, answer.json()["type"]) == (403, "role-not-admitted")


def test_an_address_must_be_in_checksummed_form(server: Running) -> None:
    for address in (HOSPITAL.address.lower(), "0x12", "x" * 42, "x" * 10_000):
        answer = server.http.post("/v1/auth/nonce", json={"address": address})
        assert answer.status_code == 422


def test_a_client_asks_for_nonces_only_so_often(
    tmp_path: Path, ledger: FakeLedger, blobs: MemoryBlobStore
) -> None:
    with running(tmp_path, ledger, blobs, sign_ins_per_minute=3) as server:
        body = {"address": HOSPITAL.address}
        # The minute may turn over between two requests: then there are twice as many.
        answers = [server.http.post("/v1/auth/nonce", json=body) for _ in range(7)]
    assert answers[-1].status_code == 429
    assert answers[-1].headers["Retry-After"] == "60"


def test_a_route_that_admits_nobody_by_name_keeps_the_server_from_starting() -> None:
    app = FastAPI()

    @app.get("/open")
    def forgotten() -> str:
        return "everybody reads this"

    with pytest.raises(RuntimeError, match="/open does not declare whom it admits"):
        auth.require_declared_roles(app)


def test_a_party_of_two_roles_uses_both(server: Running) -> None:
    both = Account.from_key(b"\x09" * 32)
    server.ledger.enroll(both.address, Role.AUDITOR, Role.RESEARCHER)
    session = server.sign_in(both)
    assert server.http.get("/v1/grants/mine", headers=session).status_code == 200


def with_cookie(server: Running, account: LocalAccount) -> str:
    """Sign in as the explorer's page does; return the header that sets the cookie."""
    text = message(offered(server.http, account.address), account.address, server.clock())
    body = {"message": text, "signature": signature(text, account), "cookie": True}
    answer = server.http.post("/v1/auth/session", json=body)
    assert (answer.status_code, answer.json()["token"]) == (201, None)
    return answer.headers["Set-Cookie"]


def test_a_cookie_opens_what_changes_nothing(server: Running) -> None:
    header = with_cookie(server, HOSPITAL)
    parts = {part.strip().lower() for part in header.split(";")[1:]}
    assert parts == {"httponly", "samesite=strict", "path=/", "max-age=900"}
    assert server.http.get(ROUND).status_code == 200
    server.http.cookies.clear()
    assert server.http.get(ROUND).status_code == 401


def test_a_cookie_changes_nothing_but_its_own_session(server: Running) -> None:
    with_cookie(server, HOSPITAL)
    assert server.announce({}, HOSPITAL, record_for(b"x"), 1).status_code == 401
    assert server.http.request("PATCH", "/v1/uploads/" + "4b" * 32).status_code == 401
    kept = dict(server.http.cookies)
    answer = server.http.delete("/v1/auth/session")
    assert (answer.status_code, "Max-Age=0" in answer.headers["Set-Cookie"]) == (204, True)
    for name, value in kept.items():
        server.http.cookies.set(name, value)
    assert server.http.get(ROUND).status_code == 401


def test_a_cookie_does_not_stand_in_for_a_wrong_token(server: Running) -> None:
    with_cookie(server, HOSPITAL)
    wrong = {"Authorization": "Bearer " + "0" * 64}
    assert server.http.get(ROUND, headers=wrong).status_code == 401


def test_over_https_the_cookie_is_secure_and_the_hosts_own(
    tmp_path: Path, ledger: FakeLedger, blobs: MemoryBlobStore
) -> None:
    with running(tmp_path, ledger, blobs, origin="https://fed.example") as server:
        header = with_cookie(server, HOSPITAL)
    assert header.startswith("__Host-fedwitness=")
    assert "Secure" in header
    assert "Domain" not in header


def test_a_session_without_a_cookie_sets_none(server: Running) -> None:
    server.sign_in(HOSPITAL)
    assert not server.http.cookies
