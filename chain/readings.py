"""Readings of images and requests for them, as the ledger has them: docs/protocol.md, section 16.

Values, as in `chain.types`: digests are 32 raw bytes, addresses EIP-55 checksummed strings, times
Unix seconds. Terms are what a party says; a digest in them is zero where there is none.
"""

from dataclasses import dataclass
from enum import IntEnum
from typing import Final

from chain.types import LogPosition

NONE: Final = bytes(32)  # in terms, where there is no reading or question


class Agreement(IntEnum):
    """How far two readings of an image agree, after the scores 1, 2 and 3 of ACR RADPEER."""

    UNKNOWN = 0
    AGREES = 1
    MINOR_DISCREPANCY = 2
    MAJOR_DISCREPANCY = 3


class RequestState(IntEnum):
    """Where a request for a reading stands."""

    UNKNOWN = 0
    OPEN = 1
    TAKEN = 2
    FULFILLED = 3
    CANCELLED = 4


def has_lapsed(state: RequestState, take_by: int, fulfil_by: int, now: int) -> bool:
    """Tell whether a request is past the deadline of its state, so that nobody can fulfil it.

    Args:
        state: Where it stands.
        take_by: The last second, in Unix time, in which it can be taken.
        fulfil_by: The last second in which it can be fulfilled.
        now: Unix time.
    """
    if state is RequestState.OPEN:
        return now > take_by
    return state is RequestState.TAKEN and now > fulfil_by


@dataclass(frozen=True, slots=True)
class ReadingTerms:
    """What a clinician says of an image.

    Attributes:
        version: The data-set version that the image is in.
        image: The image's commitment.
        hospital: In whose name it is read.
        opinion_on: The reading that this is a second opinion on, zero for none.
        document: SHA-256 of the salted document.
        blob: SHA-256 of the envelope that holds it.
    """

    version: bytes
    image: bytes
    hospital: str
    opinion_on: bytes
    document: bytes
    blob: bytes


@dataclass(frozen=True, slots=True)
class Reading:
    """A recorded reading. What it has not is None.

    Attributes:
        reading: Its identifier.
        terms: What it says; a correction has version, image, hospital and opinion of its line.
        author: Who sent it.
        request: The request that it fulfilled.
        corrects: The reading that it corrects.
        corrected_by: The reading that corrects it; the newest of a line has none.
        reason: Why it corrects another, in its author's words.
        recorded_at: Time of its block.
        position: Where it stands on the chain.
    """

    reading: bytes
    terms: ReadingTerms
    author: str
    request: bytes | None
    corrects: bytes | None
    corrected_by: bytes | None
    reason: str | None
    recorded_at: int
    position: LogPosition


@dataclass(frozen=True, slots=True)
class RequestTerms:
    """What a hospital asks of other hospitals.

    Attributes:
        version: The data-set version that the image is in.
        image: The image's commitment.
        hospital: Who asks, and whose version it is.
        reader: Who may take it, None for any hospital.
        opinion_on: The reading that a second opinion is wanted on, zero for none.
        take_by: The last second in which it can be taken.
        fulfil_by: The last second in which it can be fulfilled.
        question: SHA-256 of the envelope that holds the question, zero for none.
    """

    version: bytes
    image: bytes
    hospital: str
    reader: str | None
    opinion_on: bytes
    take_by: int
    fulfil_by: int
    question: bytes


@dataclass(frozen=True, slots=True)
class ReadingRequest:
    """A request as it stands; ``taker`` is None while nobody has it, ``reading`` fulfilled it."""

    request: bytes
    terms: RequestTerms
    state: RequestState
    taker: str | None
    reading: bytes | None
    asked_at: int
    position: LogPosition


@dataclass(frozen=True, slots=True)
class Comparison:
    """An author's last word on how far a reading of its own agrees with another's."""

    own: bytes
    other: bytes
    author: str
    agreement: Agreement
    compared_at: int
    position: LogPosition
