"""What happens to one image on a real chain: grants, readings, a request, looks, its erasure."""

from collections.abc import Sequence
from dataclasses import dataclass

from chain.looks import looks_root
from chain.merkle import image_leaf, image_leaves, merkle_proof, merkle_root
from chain.readings import Agreement, ReadingTerms, RequestTerms
from chain.types import Look, Purpose
from tests.federation import HOSPITALS, PURPOSE, Federation, dataset_terms, digest

OWNER, READER, STRANGER = HOSPITALS
IMAGES = tuple(digest(f"image {number}") for number in range(3))
IMAGE = IMAGES[0]
HOUR = 3600
_LEAVES = image_leaves(IMAGES)
_NONE = bytes(32)


@dataclass(frozen=True)
class DataRoom:
    """The owner's version and what happened to its first image.

    Attributes:
        version: The version, of three images.
        grant: The researcher's, of the image.
        first: The owner's reading.
        second: The reading hospital's second opinion, which fulfils the request.
        corrected: The owner's reading, corrected after that.
        request: The request for a second opinion.
        open: A request that any hospital may take.
        looks: The researcher's looks at the image, three in each of two anchored batches.
    """

    version: bytes
    grant: bytes
    first: bytes
    second: bytes
    corrected: bytes
    request: bytes
    open: bytes
    looks: tuple[tuple[Look, ...], ...]


def proof(image: bytes) -> tuple[bytes, ...]:
    """Prove that an image is in the owner's version."""
    return merkle_proof(_LEAVES, _LEAVES.index(image_leaf(image)))


def furnish(federation: Federation) -> DataRoom:
    """Let all but the erasure happen."""
    owner, reader = federation.ledgers[OWNER], federation.ledgers[READER]
    version = owner.register_version(
        dataset_terms(
            "scans",
            images=len(IMAGES),
            merkle_root=merkle_root(_LEAVES),
            purposes=frozenset({PURPOSE.value, Purpose.CLINICAL_CARE.value}),
        )
    )
    now = federation.reader.head().timestamp
    researcher = federation.address("researcher")
    grant = owner.grant_access(
        researcher, version, IMAGE, proof(IMAGE), purpose=PURPOSE, expiry=now + HOUR
    )
    owner.readings.appoint(researcher, now + HOUR)
    mine, theirs = federation.address(OWNER), federation.address(READER)
    said = ReadingTerms(version, IMAGE, mine, _NONE, digest("first"), digest("first blob"))
    first = owner.readings.record(said, proof(IMAGE))
    wanted = RequestTerms(
        version, IMAGE, mine, None, first, now + HOUR, now + 2 * HOUR, digest("question")
    )
    request = owner.readings.ask(wanted, proof(IMAGE))
    reader.readings.take(request)
    answer = ReadingTerms(version, IMAGE, theirs, first, digest("second"), digest("second blob"))
    second = reader.readings.fulfil(request, answer)
    corrected = owner.readings.correct(first, digest("better"), digest("better blob"), "typing\0")
    owner.readings.compare(corrected, second, Agreement.MINOR_DISCREPANCY)
    owner.readings.compare(corrected, second, Agreement.AGREES)
    anybody = RequestTerms(version, IMAGES[1], mine, None, _NONE, now + HOUR, now + 2 * HOUR, _NONE)
    open_ = owner.readings.ask(anybody, proof(IMAGES[1]))
    looks = tuple(
        tuple(
            Look(
                hospital=mine,
                number=number,
                researcher=researcher,
                grant=grant,
                version=version,
                image=IMAGE,
                time=now + number,
                request=digest(f"request {number}"),
            )
            for number in range(first_number, first_number + 3)
        )
        for first_number in (0, 3)
    )
    for batch in looks:
        anchor(federation, batch)
    return DataRoom(version, grant, first, second, corrected, request, open_, looks)


def anchor(federation: Federation, looks: Sequence[Look], hospital: str = OWNER) -> None:
    """Anchor looks, as a hospital."""
    federation.ledgers[hospital].anchor_looks(looks_root(looks), looks[0].number, len(looks))


def erase(federation: Federation, room: DataRoom) -> None:
    """Erase the image."""
    federation.ledgers[OWNER].erase_image(room.version, IMAGE, proof(IMAGE))
