"""An auditor's questions, exports and bundles, asked of a server before a real chain."""

import csv
import io
import json
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path
from threading import Event
from typing import Any, cast

import httpx
import pytest
from prov.model import ProvDocument, ProvInvalidation

from api.bundle_cache import BundleCache
from audit.bundle import Trust, verify_bundle
from chain.errors import IndexDatabaseError
from chain.signing import sign_head
from chain.types import Outcome, Reason
from chain.wire import to_hex
from tests.api.conftest import Running, running
from tests.federation import (
    PURPOSE,
    WITNESSES,
    Federation,
    connect,
    digest,
    unchanged,
)
from tests.memory_blobs import MemoryBlobStore
from tests.waiting import eventually

MODEL = to_hex(digest("model"))


@dataclass(frozen=True)
class Asked:
    """A federation with a history, and a server that has read it."""

    federation: Federation
    server: Running
    sessions: dict[str, dict[str, str]]

    def __call__(self, path: str, name: str = "auditor") -> httpx.Response:
        if name not in self.sessions and name:
            account = self.federation.identities[name].account
            self.sessions[name] = self.server.sign_in(account)
        return self.server.http.get(path, headers=self.sessions.get(name, {}))

    def version(self, name: str) -> str:
        return to_hex(self.federation.versions[name])


@pytest.fixture(scope="module")
def asked(
    founded_federation: Federation, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Asked]:
    """A final round with a rejected update, a grant, a withdrawal; and one that one cosigned."""
    founded, folder = founded_federation, tmp_path_factory.mktemp("questions")
    with unchanged(founded.rpc_url):
        federation = connect(
            founded.rpc_url, founded.deployment, folder / "outboxes", dict(founded.versions)
        )
        number = federation.open_round()
        federation.record_all(number)
        bad, *others = federation.verdicts()
        rejected = replace(bad, outcome=Outcome.REJECTED, reason=Reason.NOT_A_NUMBER)
        federation.ledgers["aggregator"].propose(
            number, digest("model"), digest("model blob"), [rejected, *others]
        )
        for witness in WITNESSES:
            federation.attest(number, witness)
        cosign(federation, number)
        second = federation.open_round(base_model=digest("model"), base_blob=digest("model blob"))
        federation.record_all(second)
        federation.ledgers["aggregator"].propose(
            second, digest("second"), digest("second blob"), federation.verdicts()
        )
        for witness in WITNESSES:
            federation.attest(second, witness)
        cosign(federation, second, WITNESSES[:1])
        hospital = federation.ledgers["hospital-1"]
        hospital.grant_access(
            federation.address("researcher"),
            federation.versions["hospital-1"],
            None,
            (),
            purpose=PURPOSE,
            expiry=federation.reader.head().timestamp + 3600,
        )
        hospital.withdraw(federation.versions["hospital-1"], "=consent revoked")
        ledger = cast("Any", federation.ledgers["steward"])
        with running(folder, ledger, MemoryBlobStore(), bundles_per_minute=1_000) as server:
            found = Asked(federation, server, {})
            head = federation.reader.head().number
            eventually(
                lambda: found("/v1/rounds").json().get("as_of", {}).get("number", -1) >= head
            )
            yield found


def cosign(federation: Federation, number: int, witnesses: Sequence[str] = WITNESSES) -> None:
    head = federation.reader.head_of_final(number)
    for witness in witnesses:
        account = federation.identities[witness].account
        signed = sign_head(federation.reader.chain_id, federation.reader.address, head, account)
        federation.ledgers[witness].cosign(head, federation.address(witness), signed)


def test_what_descends_from_a_version_and_is_touched_by_its_withdrawal(asked: Asked) -> None:
    told = asked(f"/v1/datasets/{asked.version('hospital-2')}/descendants?limit=1").json()
    assert told["withdrawn_at"] is None
    assert [one["round"] for one in told["models"]["entries"]] == [2]
    path = f"/v1/datasets/{asked.version('hospital-2')}/descendants?limit=1"
    rest = asked(f"{path}&cursor={told['models']['cursor']}").json()["models"]
    assert ([one["round"] for one in rest["entries"]], rest["cursor"]) == ([1], None)
    withdrawn = asked(f"/v1/datasets/{asked.version('hospital-1')}/descendants").json()
    assert withdrawn["withdrawn_at"] is not None
    for entry in withdrawn["models"]["entries"]:
        assert entry["position"]["transaction"].startswith("0x")
        assert entry["position"]["block"] <= withdrawn["as_of"]["number"]


def test_who_could_see_an_image_on_a_day(asked: Asked) -> None:
    day = time.strftime("%Y-%m-%d", time.gmtime(asked.federation.reader.head().timestamp))
    path = f"/v1/datasets/{asked.version('hospital-1')}/viewers"
    told = asked(f"{path}?day={day}").json()
    (sight,) = told["could"]["entries"]
    assert sight["grant"]["researcher"] == asked.federation.address("researcher")
    assert sight["live"][0]["since"] <= sight["live"][0]["until"]
    assert told["looks"]["found"]["entries"] == []
    assert (told["looks"]["log"]["batches"], told["looks"]["log"]["missing"]) == (0, 0)
    assert asked(f"{path}?day=2001-01-01").json()["could"]["entries"] == []
    image = to_hex(digest("some image"))
    assert asked(f"{path}?day={day}&image={image}").json()["image"] == image
    assert asked(f"{path}?day={day}", "hospital-1").json() == told
    refused = asked(f"{path}?day={day}", "hospital-2")
    assert (refused.status_code, refused.json()["type"]) == (403, "not-your-data")


def test_what_was_rejected_and_why(asked: Asked) -> None:
    (found,) = asked("/v1/verdicts?outcome=REJECTED").json()["entries"]
    assert (found["round"], found["reason"]) == (1, "NOT_A_NUMBER")
    assert found["position"]["block"] > 0


def test_anybody_sees_the_overview_and_what_looked_odd(asked: Asked) -> None:
    told = asked("/v1/overview", "").json()
    assert (told["rounds"], told["final"]) == (2, 2)
    assert told["as_of"]["number"] == asked.federation.reader.head().number
    odd = asked("/v1/oddities", "").json()
    assert odd["findings"] == []
    assert odd["entries"]["cursor"] is None


def test_a_models_provenance_comes_in_pages(asked: Asked) -> None:
    path = f"/v1/provenance/models/{to_hex(digest('second'))}?limit=1"
    first = asked(path).json()["ancestors"]
    second = asked(f"{path}&cursor={first['cursor']}").json()["ancestors"]
    rounds = [one["round"]["number"] for one in (*first["entries"], *second["entries"])]
    assert (rounds, second["cursor"]) == ([2, 1], None)


def test_malformed_questions_are_refused(asked: Asked) -> None:
    version = asked.version("hospital-1")
    unknown = to_hex(digest("unknown"))
    for path, status in (
        (f"/v1/datasets/{unknown}/descendants", 404),
        (f"/v1/datasets/{unknown}/viewers?day=2026-01-01", 404),
        (f"/v1/datasets/{version}/viewers", 422),
        (f"/v1/datasets/{version}/viewers?day=yesterday", 422),
        (f"/v1/datasets/{version}/viewers?day=2026-01-01&image=0x12", 422),
        (f"/v1/datasets/{version}/descendants?cursor=x", 422),
        (f"/v1/datasets/{version}/descendants?limit=201", 422),
        ("/v1/oddities?kind=whim", 422),
        ("/v1/oddities?cursor=W10", 422),
        ("/v1/overview?days=0", 422),
        (f"/v1/provenance/models/{MODEL}/export", 422),
        (f"/v1/provenance/models/{MODEL}/export?format=xml", 422),
        (f"/v1/provenance/models/{unknown}/export?format=csv", 404),
        (f"/v1/datasets/{unknown}/export?format=prov", 404),
        (f"/v1/hospitals/{asked.federation.deployment.ledger}/export?format=csv", 404),
        (f"/v1/models/{unknown}/bundle", 404),
        ("/v1/models/0x12/bundle", 422),
    ):
        answer = asked(path)
        assert answer.status_code == status, (path, answer.text)
        assert answer.headers["Content-Type"] == "application/problem+json"


@pytest.mark.parametrize("path", ["viewers?day=2026-01-01", "descendants", "export?format=csv"])
def test_what_is_not_public_is_not(asked: Asked, path: str) -> None:
    whole = f"/v1/datasets/{asked.version('hospital-1')}/{path}"
    assert asked(whole, "").status_code == 401
    assert asked(whole, "researcher").status_code == 403


def test_a_models_provenance_is_taken_away_as_prov(asked: Asked) -> None:
    answer = asked(f"/v1/provenance/models/{MODEL}/export?format=prov")
    assert answer.headers["Content-Type"].startswith("application/json")
    assert f"model-{MODEL}.prov.json" in answer.headers["Content-Disposition"]
    document = ProvDocument.deserialize(content=answer.text, format="json")
    (invalid,) = document.get_records(ProvInvalidation)
    assert asked.version("hospital-1")[2:] in str(invalid.formal_attributes)


def test_histories_are_taken_away_as_tables_and_lines(asked: Asked) -> None:
    answer = asked(f"/v1/datasets/{asked.version('hospital-1')}/export?format=csv")
    assert answer.headers["Content-Type"].startswith("text/csv")
    rows = list(csv.DictReader(io.StringIO(answer.text, newline="")))
    assert rows[0]["kind"] == "ledger"
    (version,) = (row for row in rows if row["kind"] == "version")
    assert version["withdrawal"] == "'=consent revoked"
    hospital = asked.federation.address("hospital-1")
    path = f"/v1/hospitals/{hospital}/export?format=jsonl"
    lines = [json.loads(line) for line in asked(path).text.splitlines()]
    assert {line["hospital"] for line in lines if line["kind"] == "update"} == {hospital}
    assert asked(path, "hospital-1").text == asked(path).text
    assert asked(path, "hospital-2").status_code == 403


def test_an_export_that_breaks_off_cannot_be_taken_for_a_whole_one(
    asked: Asked, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(_facts: object, _number: int) -> None:
        raise IndexDatabaseError("the index went away")

    monkeypatch.setattr("audit.facts.Facts._round", fail)
    with pytest.raises(httpx.RemoteProtocolError):
        asked(f"/v1/provenance/models/{MODEL}/export?format=jsonl")


def test_anybody_gets_a_bundle_that_proves_itself(asked: Asked, tmp_path: Path) -> None:
    answer = asked(f"/v1/models/{MODEL}/bundle", "")
    assert answer.headers["Content-Type"] == "application/octet-stream"
    assert int(answer.headers["Content-Length"]) == len(answer.content)
    path = tmp_path / "model.bundle"
    path.write_bytes(answer.content)
    trust = Trust(asked.federation.reader.address, tuple(map(asked.federation.address, WITNESSES)))
    report = verify_bundle(path, trust, workdir=tmp_path)
    assert report.audit.ok, report.audit
    # It is not made again: what was made is sent, even where the chain cannot be read any more.
    assert asked(f"/v1/models/{MODEL}/bundle", "").content == answer.content
    kept = list((asked.server.settings.spool / "bundles").iterdir())
    assert [one.read_bytes() for one in kept] == [answer.content]


def test_a_model_whose_head_is_not_signed_yet_has_no_bundle(asked: Asked) -> None:
    answer = asked(f"/v1/models/{to_hex(digest('second'))}/bundle", "")
    assert (answer.status_code, answer.json()["type"]) == (409, "not-cosigned-yet")
    assert answer.headers["Retry-After"]
    assert "round 2" in answer.json()["detail"]


def test_a_bundle_that_too_few_signed_is_not_begun_and_keeps_nobody_waiting(
    asked: Asked, monkeypatch: pytest.MonkeyPatch
) -> None:
    begun: list[object] = []
    monkeypatch.setattr("api.bundles.build_bundle", lambda *told: begun.append(told))
    answer = asked(f"/v1/models/{to_hex(digest('second'))}/bundle", "")
    assert (answer.status_code, answer.json()["type"]) == (409, "not-cosigned-yet")
    assert asked.federation.address(WITNESSES[0]) in answer.json()["detail"]
    assert begun == []


def test_a_client_gets_only_so_many_bundles(asked: Asked, tmp_path: Path) -> None:
    ledger = cast("Any", asked.federation.ledgers["steward"])
    with running(tmp_path, ledger, MemoryBlobStore(), bundles_per_minute=2) as server:
        # The minute may turn over between two requests: then there are twice as many.
        answers = [server.http.get("/v1/models/0x12/bundle") for _ in range(5)]
    assert (answers[0].status_code, answers[-1].status_code) == (422, 429)
    assert answers[-1].json()["type"] == "too-many-bundles"


def test_a_bundle_that_is_too_large_is_not_kept(asked: Asked, tmp_path: Path) -> None:
    ledger = cast("Any", asked.federation.ledgers["steward"])
    small = {"max_bundle_bytes": 100, "bundles_per_minute": 10_000}
    with running(tmp_path, ledger, MemoryBlobStore(), **small) as server:
        bundle = f"/v1/models/{MODEL}/bundle"
        eventually(lambda: server.http.get(bundle).status_code not in (404, 503))
        answer = server.http.get(bundle)
        assert (answer.status_code, answer.json()["type"]) == (507, "bundle-too-large")
        assert list((server.settings.spool / "bundles").iterdir()) == []


def written(path: Path) -> None:
    path.write_bytes(path.name.encode() * 10)


def taken(cache: BundleCache, name: str, make: Callable[[Path], None] = written) -> bytes:
    file = cache.open(name, make)
    assert file is not None
    with file:
        return file.read()


def names(folder: Path) -> list[str]:
    return sorted(one.name for one in folder.iterdir())


def test_kept_bundles_have_a_bound_and_the_least_asked_for_goes(tmp_path: Path) -> None:
    cache = BundleCache(tmp_path, 3 * len("a.bundle") * 10)
    for name in "abcad":
        assert taken(cache, name) == f"{name}.bundle".encode() * 10
        time.sleep(0.01)
    assert names(tmp_path) == ["a.bundle", "c.bundle", "d.bundle"]


def test_a_bundle_larger_than_the_cache_is_sent_and_not_kept(tmp_path: Path) -> None:
    assert taken(BundleCache(tmp_path, 10), "a")
    assert names(tmp_path) == []


def test_one_bundle_is_made_at_a_time_and_others_are_told_to_wait(tmp_path: Path) -> None:
    cache, begun, go_on = BundleCache(tmp_path, 1_000), Event(), Event()

    def slow(path: Path) -> None:
        begun.set()
        assert go_on.wait(10)
        written(path)

    with ThreadPoolExecutor(1) as pool:
        first = pool.submit(taken, cache, "a", slow)
        assert begun.wait(10)
        assert cache.open("b", written) is None
        go_on.set()
        assert first.result()
    assert taken(cache, "b")


def test_a_bundle_that_could_not_be_made_is_tried_again(tmp_path: Path) -> None:
    cache = BundleCache(tmp_path, 1_000)

    def fail(_path: Path) -> None:
        raise OSError(28, "No space left on device")

    with pytest.raises(OSError, match="No space"):
        cache.open("a", fail)
    assert taken(cache, "a")
