"""What happens to two images of the story: they are read, asked about, looked at, and erased."""

from typing import Any

import httpx

from chain.canonical import canonical_json
from chain.looks import looks_root
from chain.readings import Agreement
from chain.types import Look
from chain.wire import to_json_dict
from tests.explorer.story import HOUR, StoryLedger, account, digest

IMAGE = digest("image 17")
ERASED = digest("an image of Curlew's")
DAY = 24 * HOUR
FAR_AHEAD = 40 * 365 * DAY
NONE = bytes(32)
NOBODY = "0x" + "0" * 40
REASON = "left, not right"

OWNER, READER, OTHER = "albatross", "dotterel", "egret"
FIRST, CORRECTED, SECOND = (digest(name) for name in ("first", "corrected", "second"))


class Clinic:
    """Clinicians of a story, and what they do with one image.

    Args:
        ledger: Where it is logged.
        version: The version of the owner.
        image: The image in it.
        owner: Whose it is.
    """

    def __init__(
        self, ledger: StoryLedger, version: bytes, image: bytes = IMAGE, owner: str = OWNER
    ) -> None:
        self.ledger = ledger
        self.place = {"version": version, "image": image}
        self.owner = account(owner).address

    def read(self, name: str, by: str, author: str, **changes: Any) -> None:
        told: dict[str, Any] = {"reading": digest(name), "hospital": account(by).address}
        told |= {"author": account(author).address, "opinionOn": NONE, "request": NONE}
        told |= self.place | {
            "document": digest(f"document {name}"),
            "blob": digest(f"blob {name}"),
        }
        events = [("ReadingRecorded", told | changes)]
        if request := changes.get("request"):
            events.append(("RequestFulfilled", {"request": request, "reading": digest(name)}))
        self.ledger.log(*events, after=2 * HOUR)

    def correct(self, name: str, correction: str, author: str, reason: str) -> None:
        told: dict[str, Any] = {"reading": digest(name), "correction": digest(correction)}
        told["reason"] = reason
        told |= {"hospital": self.owner, "author": account(author).address}
        told |= {"image": self.place["image"], "document": digest(correction)}
        self.ledger.log(("ReadingCorrected", told | {"blob": digest(correction)}), after=DAY)

    def compare(self, own: str, other: str, author: str, agreement: Agreement) -> None:
        told: dict[str, Any] = {
            "own": digest(own),
            "other": digest(other),
            "image": self.place["image"],
        }
        told |= {"author": account(author).address, "agreement": agreement.value}
        self.ledger.log(("ReadingsCompared", told), after=HOUR)

    def ask(self, name: str, *, within: int, reader: str = "", opinion_on: bytes = NONE) -> None:
        now = self.ledger.at
        told: dict[str, Any] = {"request": digest(name), "hospital": self.owner}
        told |= {"reader": account(reader).address if reader else NOBODY, "opinionOn": opinion_on}
        told |= {"takeBy": now + within, "fulfilBy": now + 2 * within, "question": digest("why")}
        self.ledger.log(("ReadingRequested", told | self.place), after=HOUR)

    def change(self, event: str, name: str, by: str) -> None:
        """Take a request, or give it back."""
        who = account(by).address
        told = {"request": digest(name), "hospital": who, "author": who}
        self.ledger.log((event, told), after=HOUR)

    def cancel(self, name: str) -> None:
        self.ledger.log(("RequestCancelled", {"request": digest(name), "author": self.owner}))

    def erase(self) -> None:
        self.ledger.log(("ImageErased", self.place | {"hospital": self.owner}))

    def looks(self, first: int, count: int) -> list[Look]:
        """Looks of the researcher, ten seconds apart, until now."""
        return [
            Look(
                hospital=self.owner,
                number=first + place,
                researcher=account("researcher").address,
                grant=digest("grant 2"),
                version=self.place["version"],
                image=self.place["image"],
                time=self.ledger.at + 10 * place,
                request=digest(f"request {first + place}"),
            )
            for place in range(count)
        ]

    def anchor(self, batch: int, looks: list[Look]) -> None:
        told = {"hospital": self.owner, "batch": batch, "root": looks_root(looks)}
        told |= {"first": looks[0].number, "entries": len(looks)}
        self.ledger.log(("LogAnchored", told), after=HOUR)


def read_and_asked(ledger: StoryLedger, versions: dict[str, bytes]) -> list[Look]:
    """Tell what becomes of the two images.

    Returns:
        The looks of the first batch, which the owner may hand over; it keeps the second back.
    """
    clinic = Clinic(ledger, versions[OWNER])
    clinic.read("first", OWNER, "clinician")
    clinic.ask("opinion", within=2 * DAY, opinion_on=FIRST)
    clinic.change("RequestTaken", "opinion", OTHER)
    clinic.change("RequestReleased", "opinion", OTHER)
    clinic.change("RequestTaken", "opinion", READER)
    clinic.read("second", READER, READER, opinionOn=FIRST, request=digest("opinion"))
    clinic.compare("second", "first", READER, Agreement.MAJOR_DISCREPANCY)
    clinic.correct("first", "corrected", "researcher", REASON)
    clinic.compare("second", "corrected", READER, Agreement.AGREES)
    clinic.ask("still open", within=FAR_AHEAD)
    clinic.ask("to be fulfilled", within=FAR_AHEAD, reader=OTHER)
    clinic.change("RequestTaken", "to be fulfilled", OTHER)
    clinic.ask("too late", within=DAY)
    clinic.ask("not needed", within=DAY)
    clinic.cancel("not needed")
    looks = clinic.looks(0, 3)
    clinic.anchor(1, looks)
    clinic.anchor(2, clinic.looks(3, 2))
    Clinic(ledger, versions["curlew"], ERASED, "curlew").erase()
    return looks


def lines(looks: list[Look]) -> bytes:
    """Write looks as a hospital hands them over."""
    return b"".join(canonical_json(to_json_dict(look)) + b"\n" for look in looks)


def hand_over(http: httpx.Client, session: dict[str, str], batch: int, looks: list[Look]) -> None:
    """Hand a batch over as its hospital does."""
    answer = http.post(
        f"/v1/looks?batch={batch}",
        content=lines(looks),
        headers=session | {"Content-Type": "application/jsonl"},
    )
    assert answer.status_code in (200, 201), answer.text
