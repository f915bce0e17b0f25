"""A REST server in memory, as a transport of httpx: it keeps what it takes and can fail on order.

It checks what a server checks of a hospital's requests: session, media type, offset, size and the
CID of what arrived.
"""

import json
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any

import httpx
from eth_account import Account
from eth_account.messages import encode_defunct

from chain.canonical import canonical_json
from chain.cid import Cid, blob_cid
from chain.looks import looks_root
from chain.signing import recover_update_signer, update_struct_hash
from chain.types import (
    AnchoredBatch,
    LogPosition,
    Look,
    Outcome,
    Phase,
    Reason,
    Round,
    UpdateRecord,
    Verdict,
)
from chain.wire import from_json_dict, to_hex, to_json_dict

URL = "http://127.0.0.1:8000"
DOMAIN = "127.0.0.1:8000"
CHAIN_ID = 31337
LEDGER = "0x5FbDB2315678afecb367f032d93F642f64180aa3"

Fault = Callable[[httpx.Request], httpx.Response | None]


@dataclass
class Upload:
    """An upload and how far it came."""

    record: UpdateRecord
    length: int
    data: bytearray = field(default_factory=bytearray)
    state: str = "receiving"
    problem: dict[str, Any] | None = None


class FakeServer(httpx.BaseTransport):
    """The server; put faults into `faults`, each is asked once before a request is served."""

    def __init__(self) -> None:
        self.rounds: dict[int, Round] = {}
        self.recipients: dict[int, tuple[bytes, ...]] = {}
        self.models: dict[str, bytes] = {}
        self.uploads: dict[str, Upload] = {}
        self.records: dict[tuple[int, str], UpdateRecord] = {}
        self.verdicts: dict[tuple[int, str], Verdict] = {}
        self.faults: deque[Fault] = deque()
        self.patch_faults: deque[int] = deque()
        self.asked: list[tuple[str, str]] = []
        self.sign_ins = 0
        self.tokens: set[str] = set()
        self.chain_id = CHAIN_ID
        self.ledger = LEDGER
        self.domain = DOMAIN
        self.records_at_once = True
        self.anchored: dict[int, AnchoredBatch] = {}
        self.looks: dict[int, bytes] = {}
        self.index_block = 0

    def handle_request(self, request: httpx.Request) -> httpx.Response:
        self.asked.append((request.method, request.url.path))
        if self.faults:
            answer = self.faults.popleft()(request)
            if answer is not None:
                return answer
        parts = request.url.path.strip("/").split("/")
        if parts[:2] == ["v1", "auth"]:
            return self._auth(parts[2], json.loads(request.read()))
        if request.headers.get("Authorization", "")[7:] not in self.tokens:
            return problem(401, "sign-in-needed")
        match request.method, parts:
            case "GET", ["v1", "tasks", task, "round"]:
                return self._active_round(task)
            case "GET", ["v1", "rounds", number]:
                return self._round(int(number))
            case "GET", ["v1", "rounds", number, "updates", hospital]:
                return self._update(int(number), hospital)
            case "GET", ["v1", "blobs", cid] if cid in self.models:
                return httpx.Response(200, content=self.models[cid])
            case "POST", ["v1", "uploads"]:
                return self._announce(json.loads(request.read()))
            case "GET", ["v1", "looks", "batches"]:
                return self._batches(dict(request.url.params))
            case "POST", ["v1", "looks"]:
                return self._take_looks(request)
            case _, ["v1", "uploads", upload] if upload in self.uploads:
                return self._upload(request, upload)
        return problem(404, "not-found")

    def lock_out(self) -> None:
        """End all sessions."""
        self.tokens.clear()

    def record(self, upload: str) -> None:
        """Put a complete upload's record on the ledger."""
        found = self.uploads[upload]
        found.state = "recorded"
        self.records[found.record.round, found.record.hospital] = found.record

    def judge(self, number: int, hospital: str, phase: Phase) -> None:
        """Accept a hospital's update and bring the round into a phase."""
        self.rounds[number] = replace(self.rounds[number], phase=phase)
        self.verdicts[number, hospital] = Verdict(
            hospital, Outcome.ACCEPTED, Reason.NONE, 0, 900_000, b"\x0c" * 32
        )

    def _auth(self, what: str, body: dict[str, str]) -> httpx.Response:
        if what == "nonce":
            return httpx.Response(
                200,
                json={
                    "nonce": "a1b2c3d4e5f6",
                    "domain": self.domain,
                    "uri": f"http://{self.domain}",
                    "chain_id": self.chain_id,
                    "expires": 1,
                },
            )
        message = body["message"]
        signer = Account.recover_message(
            encode_defunct(text=message), signature=bytes.fromhex(body["signature"][2:])
        )
        if signer not in message or "Nonce: a1b2c3d4e5f6\nIssued At: 20" not in message:
            return problem(401, "sign-in-needed")
        self.sign_ins += 1
        token = f"token-{self.sign_ins}"
        self.tokens.add(token)
        return httpx.Response(201, json={"token": token, "expires": 1})

    def _active_round(self, task: str) -> httpx.Response:
        for found in self.rounds.values():
            if found.terms.task == task and found.phase < Phase.FINAL:
                return self._round(found.number)
        return problem(404, "no-active-round")

    def _round(self, number: int) -> httpx.Response:
        if number not in self.rounds:
            return problem(404, "unknown-round")
        return httpx.Response(
            200,
            json={
                "chain_id": self.chain_id,
                "ledger": self.ledger,
                "round": to_json_dict(self.rounds[number]),
                "recipients": [to_hex(key) for key in self.recipients[number]],
            },
        )

    def _update(self, number: int, hospital: str) -> httpx.Response:
        record = self.records.get((number, hospital))
        if record is None:
            return problem(404, "not-found")
        verdict = self.verdicts.get((number, hospital))
        return httpx.Response(
            200,
            json={
                "record": to_json_dict(record),
                "record_digest": to_hex(b"\x4b" * 32),
                "position": to_json_dict(LogPosition(1, 0, b"\x11" * 32)),
                "verdict": to_json_dict(verdict) if verdict else None,
                "round": {
                    "phase": self.rounds[number].phase.name,
                    "proposal": 1 if verdict else None,
                    "attestations": 0,
                    "quorum": 1,
                    "disputed": False,
                },
            },
        )

    def _announce(self, body: dict[str, Any]) -> httpx.Response:
        record = from_json_dict(UpdateRecord, body["record"])
        signer = recover_update_signer(record, bytes.fromhex(body["signature"][2:]))
        if signer != record.hospital or (record.round, record.hospital) in self.records:
            return problem(409, "refused-by-contract", "RoundLedgerDuplicateRecord")
        name = update_struct_hash(record).hex()
        status = 200 if name in self.uploads else 201
        self.uploads.setdefault(name, Upload(record, body["size"]))
        return httpx.Response(status, json=self._status(name))

    def _batches(self, query: dict[str, str]) -> httpx.Response:
        """List what is not handed over, of what the index knows, one in a page."""
        assert query["handed"] == "false"
        known = [one for one in self.anchored.values() if one.position.block <= self.index_block]
        waiting = [one.batch for one in known if one.batch not in self.looks]
        place = int(query.get("cursor", "0"))
        page = [{"batch": one, "handed_at": None} for one in waiting[place : place + 1]]
        cursor = str(place + 1) if place + 1 < len(waiting) else None
        as_of = {"number": self.index_block, "hash": to_hex(b"\x11" * 32)}
        return httpx.Response(200, json={"as_of": as_of, "entries": page, "cursor": cursor})

    def _take_looks(self, request: httpx.Request) -> httpx.Response:
        assert request.headers["Content-Type"] == "application/jsonl"
        batch = self.anchored.get(int(request.url.params["batch"]))
        if batch is None or batch.position.block > self.index_block:
            self.index_block += 1  # the index catches up
            answer = problem(409, "batch-not-anchored")
            answer.headers["Retry-After"] = "2"
            return answer
        body = request.read()
        lines = body.splitlines(keepends=True)
        looks = [from_json_dict(Look, json.loads(line)) for line in lines]
        assert lines == [canonical_json(to_json_dict(look)) + b"\n" for look in looks]
        if looks_root(looks) != batch.root:
            return problem(409, "other-looks")
        is_new = batch.batch not in self.looks
        self.looks[batch.batch] = body
        return httpx.Response(201 if is_new else 200, json={"batch": batch.batch})

    def _upload(self, request: httpx.Request, name: str) -> httpx.Response:
        upload = self.uploads[name]
        if request.method == "GET":
            return httpx.Response(200, json=self._status(name))
        headers = {"Upload-Offset": str(len(upload.data)), "Upload-Length": str(upload.length)}
        if request.method == "HEAD":
            return httpx.Response(200, headers=headers)
        assert request.headers["Content-Type"] == "application/offset+octet-stream"
        if int(request.headers["Upload-Offset"]) != len(upload.data):
            return problem(409, "offset-mismatch")
        body = request.read()
        assert len(body) == int(request.headers["Content-Length"])
        if self.patch_faults:
            upload.data += body[: self.patch_faults.popleft()]
            raise httpx.ReadError("the connection broke off")
        upload.data += body
        if len(upload.data) == upload.length:
            self._finish(name)
        return httpx.Response(204, headers={"Upload-Offset": str(len(upload.data))})

    def _finish(self, name: str) -> None:
        upload = self.uploads[name]
        if blob_cid([bytes(upload.data)]) != Cid.from_blob_digest(upload.record.blob):
            upload.state, upload.problem = "refused", {"detail": "another CID"}
        elif self.records_at_once:
            self.record(name)
        else:
            upload.state = "storing"

    def _status(self, name: str) -> dict[str, Any]:
        upload = self.uploads[name]
        return {
            "id": name,
            "round": upload.record.round,
            "hospital": upload.record.hospital,
            "state": upload.state,
            "offset": len(upload.data),
            "length": upload.length,
            "cid": str(Cid.from_blob_digest(upload.record.blob)),
            "transaction": to_hex(b"\x77" * 32) if upload.state == "recorded" else None,
            "gas": None,
            "problem": upload.problem,
        }


def problem(status: int, slug: str, contract_error: str = "") -> httpx.Response:
    """Return problem details (RFC 9457)."""
    members: dict[str, Any] = {
        "type": slug,
        "title": slug,
        "status": status,
        "detail": f"the detail of {slug}",
    }
    if contract_error:
        members["contract_error"] = {"name": contract_error, "args": {}}
    return httpx.Response(
        status, json=members, headers={"Content-Type": "application/problem+json"}
    )


def unreachable(request: httpx.Request) -> None:
    """Lose a request before it arrives."""
    raise httpx.ConnectError("connection refused", request=request)


def busy(_request: httpx.Request) -> httpx.Response:
    """Say that the server is overloaded."""
    answer = problem(503, "chain-unreachable")
    answer.headers["Retry-After"] = "7"
    return answer
