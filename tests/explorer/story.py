"""A federation's two months as a ledger in memory, told by the events that its contracts log.

Six hospitals train two tasks; one of them sends poison, one withdraws its data, a proposal is
disputed, a round is aborted, and access to images is given and taken away.
"""

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

from eth_account import Account
from eth_account.signers.local import LocalAccount

from aggregator.recipes import default
from chain.events import LedgerEvent
from chain.membership import ROLE_IDS
from chain.rpc import Head
from chain.types import LogPosition, Outcome, Reason, Role
from tests.api.fake_ledger import FakeLedger

BEGINNING = 1_788_220_800  # 2026-09-01 00:00:00 UTC
HOUR = 3_600
MILLION = 1_000_000
PURPOSE = 6

HOSPITALS = {
    "albatross": "St Mary, Albany",
    "bittern": "Universitätsklinikum Bremen",
    "curlew": "Centre hospitalier de Caen",
    "dotterel": "Dundee Royal Infirmary",
    "egret": "Hospital Clínico de Évora",
    "fjord": "Fjord Regional",
}
WITNESSES = {"w1": "Patients and Kin Council", "w2": "University of Ghent", "w3": "Data Trust Oslo"}
LESION = "lesion-2d"
PNEUMONIA = "pneumonia-2d"


def digest(text: str) -> bytes:
    return hashlib.sha256(text.encode()).digest()


def account(name: str) -> LocalAccount:
    found: LocalAccount = Account.from_key(digest(f"account of {name}"))
    return found


@dataclass
class StoryLedger(FakeLedger):
    """A ledger with a past. Each call of `log` is a transaction in a block of its own."""

    told: list[LedgerEvent] = field(default_factory=list)
    at: int = BEGINNING
    number: int = 0
    branch: str = "main"
    opened: int = 0
    given_grants: int = 0

    def log(self, *events: tuple[str, dict[str, Any]], after: int = 12) -> None:
        self.number += 1
        self.at += after
        transaction = digest(f"transaction {self.number}")
        for place, (name, args) in enumerate(events):
            position = LogPosition(self.number, place, transaction)
            self.told.append(LedgerEvent(name, args, position, "RoundLedger", self.at))

    def head(self) -> Head:
        self._answer()
        return self.block(self.number)

    def block(self, number: int) -> Head:
        times = [one.timestamp for one in self.told if one.position.block <= number]
        return Head(number, digest(f"{self.branch} block {number}"), max(times, default=BEGINNING))

    def events(self, from_block: int, to_block: int) -> Iterator[LedgerEvent]:
        self._answer()
        for one in self.told:
            if from_block <= one.position.block <= to_block:
                yield one

    def enroll_party(self, key: str, name: str, role: Role) -> str:
        address = account(key).address
        self.enroll(address, role)
        self.log(
            ("RoleGranted", {"account": address, "role": ROLE_IDS[role], "sender": address}),
            (
                "ParticipantEnrolled",
                {"account": address, "encryptionKey": digest(f"key of {key}"), "name": name}
                | {"role": ROLE_IDS[role]},
            ),
        )
        return address

    def register(self, key: str, name: str, images: int, previous: bytes = bytes(32)) -> bytes:
        version = digest(f"version of {key}: {name}, {images} images")
        dataset = version if not any(previous) else self.dataset_of(previous)
        terms = {
            "name": name,
            "merkleRoot": digest(f"images of {name}, {images}"),
            "images": images,
            "modality": b"MR".ljust(16, b"\0"),
            "purposes": 1 << PURPOSE | 1 << 42,
            "profile": 1,
            "attestation": digest(f"report on {name}"),
            "previous": previous,
        }
        registered = {
            "version": version,
            "dataset": dataset,
            "hospital": account(key).address,
            "terms": terms,
        }
        events = [("VersionRegistered", registered)]
        if any(previous):
            events.append(("VersionSuperseded", {"version": previous, "successor": version}))
        self.log(*events)
        return version

    def dataset_of(self, version: bytes) -> bytes:
        for one in self.told:
            if one.name == "VersionRegistered" and one.args["version"] == version:
                found: bytes = one.args["dataset"]
                return found
        raise KeyError(version)

    def open_round(self, task: str, base: bytes, *, after: int = 20 * HOUR, **changes: Any) -> int:
        self.opened += 1
        terms = {
            "task": task,
            "purpose": PURPOSE,
            "baseModel": base,
            "baseBlob": digest("blob of " + base.hex()),
            "schema": digest("schema of " + task),
            "rule": default(1).to_json(),
            "minUpdates": 3,
            "maxUpdates": 6,
            "quorum": 2,
            "deadline": self.at + after + 6 * HOUR,
            "witnesses": tuple(sorted((account(one).address for one in WITNESSES), key=str.lower)),
        } | changes
        opened = {
            "round": self.opened,
            "task": digest(task),
            "aggregator": account("aggregator").address,
            "terms": terms,
        }
        self.log(("RoundOpened", opened), after=after)
        return self.opened

    def record(self, round_: int, key: str, *datasets: bytes, after: int = 700) -> None:
        place = f"{key} in round {round_}"
        self.log(
            (
                "UpdateRecorded",
                {
                    "round": round_,
                    "hospital": account(key).address,
                    "recordDigest": digest(f"record of {place}"),
                    "datasets": datasets,
                    "purpose": PURPOSE,
                    "examples": 120 + 40 * (len(key) % 4),
                    "baseModel": bytes(32),
                    "update": digest(f"update of {place}"),
                    "blob": digest(f"envelope of {place}"),
                    "code": digest("code"),
                    "epsilon": 0,
                    "delta": 0,
                },
            ),
            after=after,
        )

    def propose(
        self, round_: int, number: int, verdicts: dict[str, tuple[Outcome, int, int, int]]
    ) -> bytes:
        model = digest(f"model of round {round_}, proposal {number}")
        proposed = {
            "round": round_,
            "proposal": number,
            "model": model,
            "modelBlob": digest("blob of " + model.hex()),
            "verdicts": digest(f"verdicts of {round_} {number}"),
        }
        judged = [
            (
                "VerdictRecorded",
                {
                    "round": round_,
                    "proposal": number,
                    "hospital": account(key).address,
                    "outcome": outcome.value,
                    "reason": reason,
                    "score": score,
                    "threshold": threshold,
                    "content": digest(f"content of {key} in {round_}"),
                },
            )
            for key, (outcome, reason, score, threshold) in verdicts.items()
        ]
        self.log(("ModelProposed", proposed), *judged, after=900)
        return model

    def attest(self, round_: int, number: int, witness: str) -> tuple[str, dict[str, Any]]:
        return "ProposalAttested", {
            "round": round_,
            "proposal": number,
            "witness": account(witness).address,
            "signature": bytes(65),
        }

    def dispute(self, round_: int, number: int, witness: str) -> None:
        self.log(
            (
                "ProposalDisputed",
                {
                    "round": round_,
                    "proposal": number,
                    "witness": account(witness).address,
                    "model": digest(f"what {witness} got in {round_}"),
                    "verdicts": digest(f"verdicts of {witness} in {round_}"),
                    "evidence": digest(f"evidence of {witness} in {round_}"),
                },
            ),
            after=400,
        )

    def finish(self, round_: int, number: int, model: bytes) -> None:
        self.log(self.attest(round_, number, "w1"), after=240)
        final = {"round": round_, "task": digest("task"), "model": model}
        final |= {"proposal": number, "modelBlob": digest("blob of " + model.hex())}
        self.log(self.attest(round_, number, "w2"), ("RoundFinalized", final), after=60)
        for witness in ("w1", "w2"):
            head = {
                "round": round_,
                "witness": account(witness).address,
                "number": self.number,
                "hash": digest(f"main block {self.number}"),
                "blocks": self.number,
                "history": digest(f"history {self.number}"),
                "signature": bytes(65),
            }
            self.log(("HeadCosigned", head))

    def abort(self, round_: int, reason: str) -> None:
        by = account("steward").address
        self.log(
            ("RoundAborted", {"round": round_, "task": digest("task"), "by": by, "reason": reason})
        )

    def grant(self, version: bytes, image: bytes, days: int) -> bytes:
        self.given_grants += 1
        grant = digest(f"grant {self.given_grants}")
        self.log(
            (
                "AccessGranted",
                {
                    "grantId": grant,
                    "version": version,
                    "image": image,
                    "hospital": account("albatross").address,
                    "researcher": account("researcher").address,
                    "purpose": PURPOSE,
                    "expiry": self.at + days * 24 * HOUR,
                    "by": account("albatross").address,
                },
            )
        )
        return grant


ACCEPTED = (Outcome.ACCEPTED, 0, 0, 0)
CLIPPED = (Outcome.CLIPPED, Reason.CLIPPED_BY_RULE.value, 1_734_000, MILLION)
TRIMMED = (Outcome.CLIPPED, Reason.TRIMMED_BY_RULE.value, 962_114, 900_000)
TOO_LONG = (Outcome.REJECTED, Reason.NORM_OUT_OF_RANGE.value, 41_250_000, 10 * MILLION)
NAN = (Outcome.REJECTED, Reason.NOT_A_NUMBER.value, 0, 0)
COPIED = (Outcome.REJECTED, Reason.COPIED_FROM_PEER.value, 0, 0)
QUARANTINED = (Outcome.REJECTED, Reason.QUARANTINED.value, 4 * MILLION, 4 * MILLION)
OF_FJORD = (TOO_LONG, TRIMMED, NAN, TOO_LONG, TOO_LONG, NAN, QUARANTINED, QUARANTINED)


@dataclass(frozen=True, slots=True)
class Story:
    """The ledger, and what tests ask for by name."""

    ledger: StoryLedger
    versions: dict[str, bytes]
    models: list[bytes]
    disputed: int
    aborted: int
    open: int


def told() -> Story:
    """Tell the whole story."""
    ledger = StoryLedger()
    ledger.enroll_party("steward", "Federation office", Role.STEWARD)
    ledger.enroll_party("aggregator", "Compute centre Leiden", Role.AGGREGATOR)
    for key, name in HOSPITALS.items():
        ledger.enroll_party(key, name, Role.HOSPITAL)
    for key, name in WITNESSES.items():
        ledger.enroll_party(key, name, Role.WITNESS)
    ledger.enroll_party("auditor", "Health inspectorate", Role.AUDITOR)
    ledger.enroll_party("researcher", "Dr Ines Okafor", Role.RESEARCHER)
    versions = {
        key: ledger.register(key, f"{key.capitalize()} head MR", 180 + 40 * place)
        for place, key in enumerate(HOSPITALS)
    }
    models = [digest("first model of lesion-2d")]
    disputed = aborted = 0
    for turn in range(14):
        if turn == 7:
            versions["bittern"] = ledger.register(
                "bittern", "Bittern head MR", 268, versions["bittern"]
            )
        round_ = ledger.open_round(LESION, models[-1])
        if turn == 5:
            aborted = round_
            ledger.record(round_, "curlew", versions["curlew"])
            ledger.abort(round_, "too few hospitals took part before the holidays")
            continue
        keys = [key for place, key in enumerate(HOSPITALS) if (turn + place) % 7 != 3]
        for key in keys:
            ledger.record(round_, key, versions[key])
        verdicts = dict.fromkeys(keys, ACCEPTED)
        if "fjord" in verdicts:
            verdicts["fjord"] = OF_FJORD[turn % len(OF_FJORD)]
        if "egret" in verdicts and turn % 3 == 0:
            verdicts["egret"] = CLIPPED
        if "dotterel" in verdicts and turn == 9:
            verdicts["dotterel"] = COPIED
        verdicts = dict(sorted(verdicts.items(), key=lambda one: account(one[0]).address.lower()))
        model, number = ledger.propose(round_, 1, verdicts), 1
        if turn == 8:
            disputed = round_
            ledger.dispute(round_, 1, "w3")
            model, number = ledger.propose(round_, 2, verdicts), 2
        ledger.finish(round_, number, model)
        models.append(model)
    base = digest("first model of pneumonia-2d")
    for _ in range(2):
        round_ = ledger.open_round(PNEUMONIA, base)
        for key in ("albatross", "curlew", "dotterel", "egret"):
            ledger.record(round_, key, versions[key])
        chosen = ("albatross", "curlew", "dotterel", "egret")
        base = ledger.propose(round_, 1, dict.fromkeys(chosen, ACCEPTED))
        ledger.finish(round_, 1, base)
    ledger.log(
        (
            "VersionWithdrawn",
            {"version": versions["curlew"], "reason": "patients took their consent back"},
        ),
        after=2 * HOUR,
    )
    first = ledger.grant(versions["albatross"], digest("image 17"), 30)
    ledger.grant(versions["albatross"], bytes(32), 14)
    ledger.log(("AccessRevoked", {"grantId": first}), after=5 * HOUR)
    last = ledger.open_round(LESION, models[-1])
    for key in ("albatross", "dotterel"):
        ledger.record(last, key, versions[key])
    return Story(ledger, versions, models, disputed, aborted, last)


HOSTILE = (
    "<script>alert(1)</script>",
    '"><img src=x onerror=alert(1)>',
    "'-alert(1)-'{{7*7}}",
    "\u202etxt.exe\u0007",
)


def hostile() -> Story:
    """Tell of parties, data, tasks and reasons with names that would break out of a page."""
    ledger = StoryLedger()
    ledger.enroll_party("aggregator", HOSTILE[0], Role.AGGREGATOR)
    ledger.enroll_party("albatross", HOSTILE[1], Role.HOSPITAL)
    ledger.enroll_party("auditor", HOSTILE[2], Role.AUDITOR)
    for witness in WITNESSES:
        ledger.enroll_party(witness, HOSTILE[3], Role.WITNESS)
    version = ledger.register("albatross", HOSTILE[0], 10)
    base = digest("first")
    for task in HOSTILE:
        rule = f'[{{"name":"{task[:4]}<b>","params":{{"<i>":"</code><script>"}}}}]'
        round_ = ledger.open_round(task, base, rule=rule.replace("\u202e", ""))
        ledger.record(round_, "albatross", version)
        model = ledger.propose(round_, 1, {"albatross": (Outcome.CLIPPED, 61, 5, 2**64 - 1)})
        ledger.finish(round_, 1, model)
    ledger.abort(ledger.open_round(HOSTILE[1], base, rule="<script>"), HOSTILE[0])
    ledger.log(("VersionWithdrawn", {"version": version, "reason": HOSTILE[1]}))
    ledger.log(
        ("ParticipantSuspended", {"account": account("albatross").address, "reason": HOSTILE[0]})
    )
    ledger.grant(version, bytes(32), 10)
    return Story(ledger, {"albatross": version}, [model], 0, ledger.opened, 1)
