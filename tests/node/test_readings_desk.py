"""A clinician's desk: what is said is stored first, said once, and opened by whom it is for."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from chain.cid import Cid
from chain.errors import ContractRevertedError, DigestMismatchError, InvalidInputError
from chain.keystore import Identity
from chain.readings import RequestState, RequestTerms
from node.readings import fhir_report
from node.readings.desk import (
    Desk,
    ask,
    correct,
    fulfil,
    open_question,
    open_reading,
    record,
    share,
)
from node.readings.documents import words_of
from node.readings.fhir_report import Question
from node.readings.lines import copies_among, lines_of
from node.readings.sealing import (
    SealedToOthersError,
    reading_context,
    recipients_of,
    seal_document,
    store,
)
from tests.memory_blobs import MemoryBlobStore
from tests.node.readings import (
    CLINICIAN,
    COMMITMENT,
    IMAGE,
    NOW,
    OWNER,
    READER,
    STRANGER,
    VERSION,
    Town,
    spoken,
)

HOUR = 3600


class CutError(Exception):
    """The process ends here."""


def cut() -> None:
    raise CutError


@pytest.fixture
def town(tmp_path: Path) -> Town:
    return Town(tmp_path)


def asked(desk: Desk, **choices: object) -> bytes:
    times = {"take_within": HOUR, "fulfil_within": 2 * HOUR}
    return ask(desk, IMAGE, "Is it new?", **(times | choices)).id  # type: ignore[arg-type]


def test_a_reading_stands_on_the_ledger_and_opens_to_its_hospital(town: Town) -> None:
    document = spoken()
    said = record(town.desk(OWNER), IMAGE, document)
    assert not said.before
    found = open_reading(town.desk(OWNER), said.id)
    assert found.document == document.raw
    assert found.reading.author == OWNER.address
    assert found.reading.terms.image == COMMITMENT
    with pytest.raises(SealedToOthersError):
        open_reading(town.desk(READER), said.id)


def test_the_same_words_are_recorded_once_and_others_again(town: Town) -> None:
    first = record(town.desk(OWNER), IMAGE, spoken())
    again = record(town.desk(OWNER), IMAGE, spoken())
    assert (again.id, again.before) == (first.id, True)
    other = record(town.desk(OWNER), IMAGE, spoken("A fracture."))
    assert other.id != first.id
    assert len(town.ledger.readings.known) == 2


@pytest.mark.parametrize("moment", ["stored", "before", "after"])
@pytest.mark.parametrize("what", ["record", "correct", "fulfil", "ask"])
def test_whoever_is_interrupted_says_it_once(town: Town, what: str, moment: str) -> None:
    readings = town.ledger.readings
    first = record(town.desk(OWNER), IMAGE, spoken("First.")).id
    request = asked(town.desk(OWNER), reader=READER.address)
    readings.take(request, READER.address)
    count = len(readings.known), len(readings.asked)

    def say() -> object:
        if what == "record":
            return record(town.desk(OWNER), IMAGE, spoken())
        if what == "correct":
            return correct(town.desk(OWNER), first, spoken(), "wrong side")
        if what == "fulfil":
            return fulfil(town.desk(READER), request, spoken())
        return asked(town.desk(OWNER), reader=STRANGER.address)

    class Cut(MemoryBlobStore):
        def put(self, source: object) -> Cid:
            super().put(source)  # type: ignore[arg-type]
            raise CutError

    whole = town.blobs
    if moment == "stored":
        town.blobs = Cut()
    else:
        setattr(readings, moment, cut)
    with pytest.raises(CutError):
        say()
    town.blobs = whole
    readings.before = readings.after = lambda: None
    # When the process comes back it is later, and what is made anew has another time.
    town.ledger.now += 60
    say()
    say()
    added = len(readings.known) - count[0], len(readings.asked) - count[1]
    assert added == ((0, 1) if what == "ask" else (1, 0))


def test_what_the_ledger_has_already_is_neither_stored_nor_sent_again(town: Town) -> None:
    readings = town.ledger.readings
    readings.after = cut
    with pytest.raises(CutError):
        record(town.desk(OWNER), IMAGE, spoken())
    ((reading, _),) = readings.known.items()
    readings.after, readings.before = lambda: None, cut

    class Away(MemoryBlobStore):
        def put(self, source: object) -> Cid:
            raise CutError(source)

    town.blobs = Away()
    said = record(town.desk(OWNER), IMAGE, spoken())
    assert (said.id, said.before) == (reading, True)
    assert not list(town.folder.rglob("envelope"))


def test_nothing_is_said_before_the_envelope_can_be_read_back(town: Town) -> None:
    class Forgetful(MemoryBlobStore):
        def put(self, source: object) -> Cid:
            cid = super().put(source)  # type: ignore[arg-type]
            self.blocks.clear()
            return cid

    town.blobs = Forgetful()
    with pytest.raises(Exception, match="put it there first"):
        record(town.desk(OWNER), IMAGE, spoken())
    assert not town.ledger.readings.known


def test_drafts_hold_no_word_in_the_clear_and_are_their_owners_alone(town: Town) -> None:
    town.ledger.readings.before = cut
    with pytest.raises(CutError):
        record(town.desk(OWNER), IMAGE, spoken("Carcinoma."))
    files = [one for one in town.folder.rglob("*") if one.is_file()]
    assert {one.name for one in files} == {"envelope", "draft.json"}
    assert not any(b"arcinoma" in one.read_bytes() for one in files)
    assert all(one.stat().st_mode & 0o077 == 0 for one in files)


def test_a_refusal_of_the_ledger_is_told(town: Town) -> None:
    def refuse() -> None:
        raise ContractRevertedError("ReadingsWithdrawn", {})

    town.ledger.readings.before = refuse
    with pytest.raises(ContractRevertedError, match="ReadingsWithdrawn"):
        record(town.desk(OWNER), IMAGE, spoken())


def test_a_clinician_reads_while_appointed_and_opens_what_she_wrote(town: Town) -> None:
    with pytest.raises(InvalidInputError, match="readings appoint"):
        record(town.desk(CLINICIAN, OWNER.address), IMAGE, spoken())
    assert not town.blobs.blocks
    until = town.ledger.now + HOUR
    town.ledger.readings.appointed[OWNER.address, CLINICIAN.address] = until
    said = record(town.desk(CLINICIAN, OWNER.address), IMAGE, spoken())
    for who in (CLINICIAN, OWNER):
        found = open_reading(town.desk(who), said.id)
        assert (found.reading.author, found.reading.terms.hospital) == (
            CLINICIAN.address,
            OWNER.address,
        )
    town.ledger.now = until + 1
    with pytest.raises(InvalidInputError, match="readings appoint"):
        correct(town.desk(CLINICIAN), said.id, spoken("Other."), "wrong side")


def test_a_correction_opens_to_whoever_could_open_the_reading(town: Town) -> None:
    said = record(town.desk(OWNER, None, READER.address), IMAGE, spoken())
    open_reading(town.desk(READER), said.id)
    fixed = correct(town.desk(OWNER), said.id, spoken("Left."), "wrong side")
    assert "Left." in words_of(open_reading(town.desk(READER), fixed.id).document)
    assert open_reading(town.desk(READER), said.id).reading.corrected_by == fixed.id
    (line,) = lines_of(town.ledger.readings.readings(COMMITMENT))
    assert [one.reading for one in line.readings] == [said.id, fixed.id]
    assert line.newest.reason == "wrong side"
    with pytest.raises(InvalidInputError, match="correct its correction"):
        correct(town.desk(OWNER), said.id, spoken("Right."), "wrong again")


def test_a_correction_is_possible_where_the_reading_cannot_be_had_any_more(town: Town) -> None:
    said = record(town.desk(OWNER), IMAGE, spoken())
    town.blobs.blocks.clear()
    fixed = correct(town.desk(OWNER), said.id, spoken("Left."), "wrong side")
    assert "Left." in words_of(open_reading(town.desk(OWNER), fixed.id).document)


def test_who_does_not_own_it_may_not_correct_it(town: Town) -> None:
    said = record(town.desk(OWNER), IMAGE, spoken())
    with pytest.raises(InvalidInputError, match="does not read in the name"):
        correct(town.desk(READER), said.id, spoken("Left."), "wrong side")


def test_a_request_is_read_by_who_took_it_and_its_reading_by_both(town: Town) -> None:
    request = asked(town.desk(OWNER), reader=READER.address)
    assert fhir_report.words_of(open_question(town.desk(READER), request)) == "Is it new?"
    with pytest.raises(SealedToOthersError):
        open_question(town.desk(STRANGER), request)
    with pytest.raises(InvalidInputError, match="readings take"):
        fulfil(town.desk(READER), request, spoken())
    town.ledger.readings.take(request, READER.address)
    with pytest.raises(InvalidInputError, match="readings take"):
        fulfil(town.desk(STRANGER), request, spoken())
    said = fulfil(town.desk(READER), request, spoken("It is new."))
    for who in (OWNER, READER):
        assert "It is new." in words_of(open_reading(town.desk(who), said.id).document)
    with pytest.raises(SealedToOthersError):
        open_reading(town.desk(STRANGER), said.id)
    assert town.ledger.readings.asked[request].state is RequestState.FULFILLED
    again = fulfil(town.desk(READER), request, spoken("It is new."))
    assert (again.id, again.before) == (said.id, True)


def test_a_reading_that_was_asked_as_an_opinion_is_recorded_as_one(town: Town) -> None:
    first = record(town.desk(OWNER), IMAGE, spoken()).id
    request = asked(town.desk(OWNER), opinion_on=first)
    town.ledger.readings.take(request, READER.address)
    said = fulfil(town.desk(READER), request, spoken("It is new."))
    assert town.ledger.readings.known[said.id].terms.opinion_on == first


def test_a_late_reading_is_refused_before_it_is_stored(town: Town) -> None:
    request = asked(town.desk(OWNER))
    town.ledger.readings.take(request, READER.address)
    town.ledger.now += 2 * HOUR + 1
    stored = len(town.blobs.blocks)
    with pytest.raises(InvalidInputError, match="time to be fulfilled is over"):
        fulfil(town.desk(READER), request, spoken())
    assert len(town.blobs.blocks) == stored


def test_a_question_for_anybody_opens_to_every_active_hospital(town: Town) -> None:
    request = asked(town.desk(OWNER))
    for who in (OWNER, READER, STRANGER):
        open_question(town.desk(who), request)
    with pytest.raises(SealedToOthersError):
        open_question(town.desk(CLINICIAN), request)
    plain = ask(town.desk(OWNER), IMAGE, "", take_within=HOUR, fulfil_within=HOUR)
    with pytest.raises(InvalidInputError, match="without a question"):
        open_question(town.desk(OWNER), plain.id)


@pytest.mark.parametrize("question", ["Is it new?", ""])
def test_a_request_that_came_to_nothing_can_be_made_again(town: Town, question: str) -> None:
    def again() -> bytes:
        desk = town.desk(OWNER)
        return ask(desk, IMAGE, question, take_within=HOUR, fulfil_within=HOUR).id

    first = again()
    assert again() == first
    town.ledger.readings.cancel(first)
    second = again()
    town.ledger.now += HOUR + 2
    third = again()
    assert len({first, second, third}) == 3


def test_a_question_that_names_the_patient_is_neither_stored_nor_sent(town: Town) -> None:
    def refuse(raw: bytes) -> None:
        assert b"Is it new?" in raw
        raise InvalidInputError("it tells who the patient is")

    with pytest.raises(InvalidInputError, match="who the patient is"):
        asked(town.desk(OWNER), check=refuse)
    assert not town.blobs.blocks
    assert not town.ledger.readings.asked


def test_times_and_shown_readings_have_to_make_sense(town: Town) -> None:
    for times in ({"take_within": 0}, {"take_within": 3 * HOUR}):
        with pytest.raises(InvalidInputError, match="expected a time to take"):
            asked(town.desk(OWNER), **times)
    with pytest.raises(InvalidInputError, match="--opinion-on"):
        asked(town.desk(OWNER), shown=True)


def test_the_reading_that_an_opinion_is_asked_on_is_shown_only_if_that_was_chosen(
    town: Town,
) -> None:
    said = record(town.desk(OWNER), IMAGE, spoken("It is old."))
    asked(town.desk(OWNER), opinion_on=said.id, reader=READER.address)
    with pytest.raises(SealedToOthersError):
        open_reading(town.desk(READER), said.id)
    asked(town.desk(OWNER), opinion_on=said.id, reader=READER.address, shown=True)
    assert "It is old." in words_of(open_reading(town.desk(READER), said.id).document)
    with pytest.raises(SealedToOthersError):
        open_reading(town.desk(STRANGER), said.id)


@pytest.mark.parametrize("asker", [STRANGER, OWNER])
def test_questions_that_show_false_copies_keep_nobody_from_the_true_one(
    town: Town, asker: Identity
) -> None:
    """Whoever registered the same commitment can ask about the reading; an owner's may be gone."""
    said = record(town.desk(OWNER), IMAGE, spoken("It is old."))
    other = record(town.desk(OWNER), IMAGE, spoken("It is new."))
    asked(town.desk(OWNER), opinion_on=said.id, shown=True)
    unshared = Cid.from_blob_digest(b"\x07" * 32)
    for shown in (unshared, share(town.desk(OWNER, None, READER.address), other.id)):
        desk = town.desk(asker)
        raw = fhir_report.make_question(Question("?", NOW, NOW + HOUR, shown))
        place = (town.ledger.chain_id, town.ledger.readings.address, COMMITMENT, asker.address)
        keys = recipients_of([READER.encryption_key])
        envelope = town.folder / "question"
        blob = seal_document(raw, reading_context(*place), keys, envelope).blob
        store(envelope, blob, desk.blobs)
        times = (NOW + HOUR, NOW + HOUR)
        terms = RequestTerms(VERSION, COMMITMENT, asker.address, None, said.id, *times, blob)
        desk.ledger.readings.ask(terms, IMAGE.proof)
    assert "It is old." in words_of(open_reading(town.desk(READER), said.id).document)


def test_a_hospital_with_a_key_that_opens_nothing_keeps_nobody_from_asking(town: Town) -> None:
    parties = town.ledger.parties
    parties[STRANGER.address] = replace(parties[STRANGER.address], encryption_key=bytes(32))
    request = asked(town.desk(OWNER))
    assert "Is it new?" in fhir_report.words_of(open_question(town.desk(READER), request))
    with pytest.raises(InvalidInputError, match="keys that can be sealed to"):
        asked(town.desk(OWNER), reader=STRANGER.address)


def test_a_wrong_reading_is_corrected_though_the_images_hospital_has_a_key_that_opens_nothing(
    town: Town,
) -> None:
    request = asked(town.desk(OWNER))
    town.ledger.readings.take(request, READER.address)
    said = fulfil(town.desk(READER), request, spoken("It is new."))
    parties, honest = town.ledger.parties, town.ledger.parties[OWNER.address]
    parties[OWNER.address] = replace(honest, encryption_key=bytes(32))
    better = correct(town.desk(READER), said.id, spoken("It is old."), "typing")
    assert "It is old." in words_of(open_reading(town.desk(READER), better.id).document)
    parties[OWNER.address] = honest
    with pytest.raises(SealedToOthersError):
        open_reading(town.desk(OWNER), better.id)


def test_a_colleague_who_records_anothers_envelope_as_an_own_reading_is_told_of(
    town: Town,
) -> None:
    """The envelope names the hospital and not the author, so it opens under either's name."""
    said = record(town.desk(OWNER), IMAGE, spoken("It is old."))
    record(town.desk(OWNER), IMAGE, spoken("It is old."))
    honest = town.ledger.readings.known[said.id]
    assert copies_among(town.ledger.readings.readings(COMMITMENT)) == ()
    copy = town.desk(CLINICIAN).ledger.readings.record(honest.terms, IMAGE.proof)
    assert "It is old." in words_of(open_reading(town.desk(OWNER), copy).document)
    ((first, second),) = copies_among(town.ledger.readings.readings(COMMITMENT))
    assert (first.reading, second.reading) == (said.id, copy)


def test_a_shared_copy_is_held_against_the_ledger(town: Town) -> None:
    said = record(town.desk(OWNER), IMAGE, spoken("It is old."))
    other = record(town.desk(OWNER), IMAGE, spoken("It is new."))
    with pytest.raises(InvalidInputError, match="--to"):
        share(town.desk(OWNER), said.id)
    copy = share(town.desk(OWNER, None, READER.address), said.id)
    assert "It is old." in words_of(open_reading(town.desk(READER), said.id, copy).document)
    with pytest.raises(DigestMismatchError):
        open_reading(town.desk(READER), other.id, copy)
    with pytest.raises(SealedToOthersError):
        open_reading(town.desk(STRANGER), said.id, copy)
    readings = town.ledger.readings
    honest = readings.known[said.id]
    readings.known[said.id] = replace(honest, terms=replace(honest.terms, document=bytes(32)))
    with pytest.raises(DigestMismatchError):
        share(town.desk(OWNER, None, READER.address), said.id)
    drafts = town.folder / OWNER.address / "drafts"
    assert not list(drafts.glob("copy-*"))


def test_it_can_be_sealed_to_a_key_of_somebody_who_is_not_enrolled(town: Town) -> None:
    key = "0x" + CLINICIAN.encryption_key.hex()
    said = record(town.desk(OWNER, None, key), IMAGE, spoken())
    open_reading(town.desk(CLINICIAN), said.id)
    with pytest.raises(InvalidInputError, match="nobody in this federation"):
        record(town.desk(OWNER, None, CLINICIAN.address), IMAGE, spoken())


def test_two_processes_do_not_say_the_same_at_once(town: Town) -> None:
    def meanwhile() -> None:
        town.ledger.readings.before = lambda: None
        with pytest.raises(InvalidInputError, match="another process"):
            record(town.desk(OWNER), IMAGE, spoken())

    before: Callable[[], None] = meanwhile
    town.ledger.readings.before = before
    record(town.desk(OWNER), IMAGE, spoken())
    assert len(town.ledger.readings.known) == 1
