"""Readings, requests for them and erased images, on the real contracts on anvil."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from chain.errors import ContractRevertedError, InvalidInputError
from chain.merkle import image_leaf, image_leaves, merkle_proof, merkle_root
from chain.reader import LedgerReader
from chain.readings import (
    Agreement,
    Comparison,
    ReadingRequest,
    ReadingTerms,
    RequestState,
    RequestTerms,
)
from chain.readings_ledger import ReadingsWriter
from chain.types import DatasetState
from chain.wire import from_json_dict, to_json_dict
from tests.federation import HOSPITALS, Federation, dataset_terms, digest

OWNER, READER, THIRD = HOSPITALS
NONE = bytes(32)
HOUR = 3600
IMAGES = tuple(digest(f"image {number}") for number in range(3))
LEAVES = image_leaves(IMAGES)


def refusal(act: Callable[[], object]) -> str:
    """Act, and return the name of the contract's refusal."""
    with pytest.raises(ContractRevertedError) as caught:
        act()
    return caught.value.name


def proof(image: bytes) -> tuple[bytes, ...]:
    return merkle_proof(LEAVES, LEAVES.index(image_leaf(image)))


def readings_of(federation: Federation, name: str) -> ReadingsWriter:
    return federation.ledgers[name].readings


@pytest.fixture
def version(federation: Federation) -> bytes:
    """A version of three images whose tree is known."""
    terms = dataset_terms("scans", images=len(IMAGES), merkle_root=merkle_root(LEAVES))
    return federation.ledgers[OWNER].register_version(terms)


@pytest.fixture
def terms(federation: Federation, version: bytes) -> ReadingTerms:
    """What the owner says of the first image."""
    hospital, document, blob = federation.address(OWNER), digest("document"), digest("blob")
    return ReadingTerms(version, IMAGES[0], hospital, NONE, document, blob)


@pytest.fixture
def asked(federation: Federation, version: bytes) -> RequestTerms:
    """What the owner asks about the first image."""
    now = federation.reader.head().timestamp
    return RequestTerms(
        version=version,
        image=IMAGES[0],
        hospital=federation.address(OWNER),
        reader=None,
        opinion_on=NONE,
        take_by=now + HOUR,
        fulfil_by=now + 24 * HOUR,
        question=digest("question"),
    )


def answer(federation: Federation, terms: ReadingTerms, **changes: Any) -> ReadingTerms:
    """What the reading hospital says."""
    return replace(terms, hospital=federation.address(READER), blob=digest("answer"), **changes)


def test_a_reading_is_read_back_as_it_was_recorded(
    federation: Federation, terms: ReadingTerms
) -> None:
    reading = readings_of(federation, OWNER).record(terms, proof(IMAGES[0]))
    found = federation.reader.readings.reading(reading)
    assert (found.reading, found.terms) == (reading, terms)
    assert found.author == federation.address(OWNER)
    assert (found.request, found.corrects, found.corrected_by, found.reason) == (None,) * 4
    assert found.recorded_at == federation.reader.head().timestamp
    assert found.position.block == federation.reader.head().number
    assert federation.reader.readings.readings() == (found,)
    assert from_json_dict(type(found), to_json_dict(found)) == found
    with pytest.raises(InvalidInputError, match="no reading 0x"):
        federation.reader.readings.reading(digest("none"))


def test_readings_of_an_image_are_listed_with_what_corrects_them(
    federation: Federation, terms: ReadingTerms
) -> None:
    owner = readings_of(federation, OWNER)
    first = owner.record(terms, proof(IMAGES[0]))
    elsewhere = owner.record(replace(terms, image=IMAGES[1]), proof(IMAGES[1]))
    second = owner.correct(first, digest("better"), digest("better blob"), "wrong side")
    third = owner.correct(second, digest("best"), digest("best blob"), "typing error")

    found = federation.reader.readings.readings(IMAGES[0])
    assert [one.reading for one in found] == [first, second, third]
    assert [one.corrects for one in found] == [None, first, second]
    assert [one.corrected_by for one in found] == [second, third, None]
    assert [one.reason for one in found] == [None, "wrong side", "typing error"]
    newest = replace(terms, document=digest("best"), blob=digest("best blob"))
    assert [found[0].terms, found[2].terms] == [terms, newest]
    assert federation.reader.readings.reading(second) == found[1]
    everything = federation.reader.readings.readings()
    assert [one.reading for one in everything] == [first, elsewhere, second, third]
    assert refusal(lambda: owner.correct(first, NONE, NONE, "")) == "ReadingsAlreadyCorrected"


def test_a_clinician_reads_in_a_hospitals_name(federation: Federation, terms: ReadingTerms) -> None:
    owner, clinician = readings_of(federation, OWNER), readings_of(federation, "researcher")
    parties = federation.address(OWNER), federation.address("researcher")
    until = federation.reader.head().timestamp + HOUR
    first = owner.record(terms, proof(IMAGES[0]))
    opinion = replace(terms, opinion_on=first, document=digest("opinion"))

    def second() -> bytes:
        return clinician.record(opinion, proof(IMAGES[0]))

    assert refusal(second) == "ReadingsNotAppointed"
    owner.appoint(parties[1], until)
    assert federation.reader.readings.appointed_until(*parties) == until
    found = federation.reader.readings.reading(second())
    assert (found.author, found.terms) == (parties[1], opinion)
    owner.appoint(parties[1], 0)
    assert refusal(lambda: clinician.correct(found.reading, digest("a"), digest("b"), "")) == (
        "ReadingsNotAppointed"
    )


def test_of_comparisons_the_last_word_on_each_pair_is_read(
    federation: Federation, terms: ReadingTerms
) -> None:
    owner, clinician = readings_of(federation, OWNER), readings_of(federation, "researcher")
    owner.appoint(federation.address("researcher"), federation.reader.head().timestamp + HOUR)
    first = owner.record(terms, proof(IMAGES[0]))
    second = clinician.record(terms, proof(IMAGES[0]))
    clinician.compare(second, first, Agreement.MAJOR_DISCREPANCY)
    owner.compare(first, second, Agreement.AGREES)
    clinician.compare(second, first, Agreement.MINOR_DISCREPANCY)
    head = federation.reader.head()

    found = federation.reader.readings.comparisons(IMAGES[0])
    assert [(one.own, one.other, one.agreement) for one in found] == [
        (first, second, Agreement.AGREES),
        (second, first, Agreement.MINOR_DISCREPANCY),
    ]
    assert found[1] == Comparison(
        second,
        first,
        federation.address("researcher"),
        Agreement.MINOR_DISCREPANCY,
        head.timestamp,
        found[1].position,
    )
    assert found[1].position.block == head.number
    assert federation.reader.readings.comparisons() == found
    assert federation.reader.readings.comparisons(IMAGES[1]) == ()


def test_a_request_is_taken_given_back_taken_again_and_fulfilled(
    federation: Federation, terms: ReadingTerms, asked: RequestTerms
) -> None:
    owner, reader = readings_of(federation, OWNER), readings_of(federation, READER)
    requests = federation.reader.readings
    request = owner.ask(asked, proof(IMAGES[0]))
    position = requests.request(request).position
    asked_at = federation.reader.head().timestamp

    def expected(
        state: RequestState, taker: str | None = None, reading: bytes | None = None
    ) -> ReadingRequest:
        party = federation.address(taker) if taker else None
        return ReadingRequest(request, asked, state, party, reading, asked_at, position)

    assert requests.request(request) == expected(RequestState.OPEN)
    readings_of(federation, THIRD).take(request)
    assert requests.request(request) == expected(RequestState.TAKEN, THIRD)
    assert refusal(lambda: reader.take(request)) == "ReadingsUnexpectedState"
    readings_of(federation, THIRD).release(request)
    assert requests.request(request) == expected(RequestState.OPEN)
    reader.take(request)
    said = answer(federation, terms)
    reading = reader.fulfil(request, said)

    assert requests.request(request) == expected(RequestState.FULFILLED, READER, reading)
    found = requests.reading(reading)
    assert (found.terms, found.request) == (said, request)
    members = to_json_dict(requests.request(request))
    assert from_json_dict(ReadingRequest, members) == requests.request(request)
    with pytest.raises(InvalidInputError, match="taker: expected a checksummed address"):
        from_json_dict(ReadingRequest, {**members, "taker": federation.address(READER).lower()})
    assert refusal(lambda: reader.fulfil(request, said)) == "ReadingsUnexpectedState"
    with pytest.raises(InvalidInputError, match="no request for a reading 0x"):
        reader.take(digest("none"))


def test_a_clinician_takes_a_request_for_its_hospital(
    federation: Federation, asked: RequestTerms
) -> None:
    clinician = federation.address("researcher")
    until = federation.reader.head().timestamp + HOUR
    readings_of(federation, READER).appoint(clinician, until)
    request = readings_of(federation, OWNER).ask(asked, proof(IMAGES[0]))
    readings_of(federation, "researcher").take(request, federation.address(READER))
    assert federation.reader.readings.request(request).taker == federation.address(READER)


def test_requests_are_found_by_who_asked_and_where_they_stand(
    federation: Federation, asked: RequestTerms
) -> None:
    owner, requests = readings_of(federation, OWNER), federation.reader.readings
    assert requests.requests() == ()
    cancelled = owner.ask(asked, proof(IMAGES[0]))
    to_one = replace(asked, image=IMAGES[1], reader=federation.address(READER))
    still = owner.ask(to_one, proof(IMAGES[1]))
    assert refusal(lambda: readings_of(federation, THIRD).take(still)) == "ReadingsNotReader"
    owner.cancel(cancelled)
    assert [one.request for one in requests.requests()] == [cancelled, still]
    (found,) = requests.requests(state=RequestState.CANCELLED)
    assert (found.request, found.taker) == (cancelled, None)
    (found,) = requests.requests(federation.address(OWNER), RequestState.OPEN)
    assert (found.request, found.terms) == (still, to_one)
    assert requests.requests(federation.address(READER)) == ()


def test_nobody_answers_after_the_time_and_then_the_request_can_be_ended(
    federation: Federation, terms: ReadingTerms, asked: RequestTerms
) -> None:
    owner, reader = readings_of(federation, OWNER), readings_of(federation, READER)
    request = owner.ask(asked, proof(IMAGES[0]))
    reader.take(request)
    assert refusal(lambda: owner.cancel(request)) == "ReadingsTooEarly"
    federation.pass_time(24 * HOUR + 60)
    said = answer(federation, terms)
    assert refusal(lambda: reader.fulfil(request, said)) == "ReadingsTooLate"
    owner.cancel(request)
    assert federation.reader.readings.request(request).state is RequestState.CANCELLED


def test_an_erased_image_is_out_of_grants_readings_and_rounds(
    federation: Federation, version: bytes, terms: ReadingTerms
) -> None:
    hospital, reader = federation.ledgers[OWNER], federation.reader
    expiry = reader.head().timestamp + HOUR
    grant = hospital.grant_access(
        federation.address("researcher"),
        version,
        IMAGES[0],
        proof(IMAGES[0]),
        purpose=6,
        expiry=expiry,
    )
    first = hospital.readings.record(terms, proof(IMAGES[0]))
    assert not reader.is_erased(hospital.account_address, IMAGES[0])
    assert refusal(lambda: hospital.erase_image(version, IMAGES[0], proof(IMAGES[1]))) == (
        "DatasetRegistryNotInVersion"
    )
    hospital.erase_image(version, IMAGES[0], proof(IMAGES[0]))

    assert reader.is_erased(hospital.account_address, IMAGES[0])
    assert not reader.is_erased(federation.address(READER), IMAGES[0])
    assert reader.dataset_version(version).state is DatasetState.WITHDRAWN
    assert not reader.grant(grant).live
    again = replace(terms, document=digest("another"))
    assert refusal(lambda: hospital.readings.record(again, proof(IMAGES[0]))) == (
        "ReadingsWithdrawn"
    )
    assert refusal(lambda: hospital.erase_image(version, IMAGES[0], proof(IMAGES[0]))) == (
        "DatasetRegistryAlreadyErased"
    )
    hospital.readings.correct(first, digest("document 2"), digest("blob 2"), "after all")


def test_readings_and_erasures_are_among_the_events(
    federation: Federation, version: bytes, terms: ReadingTerms
) -> None:
    hospital, reader = federation.ledgers[OWNER], federation.reader
    before = reader.head().number + 1
    reading = hospital.readings.record(terms, proof(IMAGES[0]))
    hospital.erase_image(version, IMAGES[0], proof(IMAGES[0]))
    found = list(reader.events(before, reader.head().number))
    assert [(one.contract, one.name) for one in found] == [
        ("Readings", "ReadingRecorded"),
        ("DatasetRegistry", "ImageErased"),
        ("DatasetRegistry", "VersionWithdrawn"),
    ]
    assert found[0].args["reading"] == reading
    assert found[1].args == {
        "version": version,
        "image": IMAGES[0],
        "hospital": hospital.account_address,
    }
    without = LedgerReader(federation.rpc_url, federation.deployment.ledger)
    told = without.events(before, reader.head().number)
    assert {one.contract for one in told} == {"DatasetRegistry"}


def test_readings_need_the_address_of_the_federations_image_access(federation: Federation) -> None:
    reader = LedgerReader(federation.rpc_url, federation.deployment.ledger)
    with pytest.raises(InvalidInputError, match="ImageAccess"):
        reader.readings.readings()
