"""Exports: PROV-JSON that others' tools read, tables that run nothing, and no memory for length."""

import csv
import gc
import io
import json
import tracemalloc
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import pytest
from prov.dot import prov_to_dot
from prov.model import (
    ProvActivity,
    ProvAgent,
    ProvAssociation,
    ProvAttribution,
    ProvDelegation,
    ProvDerivation,
    ProvDocument,
    ProvEntity,
    ProvGeneration,
    ProvInvalidation,
    ProvUsage,
)

from aggregator.index import IndexedBlock
from aggregator.queries import (
    Contribution,
    CosignatureEntry,
    DatasetUse,
    Descendant,
    MembershipChange,
    ProposalEntry,
    ReadingEntry,
    RoundEntry,
    RoundHistory,
    VerdictEntry,
    VersionChange,
    VersionEntry,
    WitnessWord,
)
from audit.exports import COLUMNS, Format, export
from audit.facts import DescendantFact, Fact, Facts, LedgerState, PartyFact
from chain.errors import IndexDatabaseError
from chain.types import DatasetState, LogPosition, Outcome, Phase

LEDGER = "0x5FbDB2315678afecb367f032d93F642f64180aa3"
HOSPITALS = (
    "0x70997970C51812dc3A010C7d01b50e0d17dc79C8",
    "0x3C44CdDdB6a900fa2b585dd299e03d12FA4293BC",
)
AGGREGATOR = "0x90F79bf6EB2c4f870365E785982E1f101E93b906"
WITNESS = "0x15d34AAf54267DB7D7c367839AAf71A00a2C6A65"
NOON = 1_767_268_800
VERSION = b"\xda" * 32
MODELS = (b"\xb0" * 32, b"\xb1" * 32, b"\xb2" * 32)


def at(block: int) -> LogPosition:
    return LogPosition(block, 0, bytes([block]) * 32)


def verdict(number: int, proposal: int, hospital: str) -> VerdictEntry:
    kept = hospital == HOSPITALS[0]
    return VerdictEntry(
        number,
        "lesion",
        proposal,
        hospital,
        Outcome.ACCEPTED if kept else Outcome.REJECTED,
        "NONE" if kept else "NOT_A_NUMBER",
        0,
        0,
        b"\xce" * 32,
        at(30 + number),
    )


def contribution(number: int, hospital: str) -> Contribution:
    return Contribution(
        number,
        "lesion",
        Phase.FINAL,
        hospital,
        480,
        b"\x0d" * 32,
        b"\xb1" * 32,
        b"\xc0" * 32,
        NOON + 60,
        at(20 + number),
        (DatasetUse(VERSION, b"\xd5" * 32, "MRI 2025", DatasetState.WITHDRAWN, 500),),
        verdict(number, 2, hospital),
    )


def history(number: int) -> RoundHistory:
    """A round whose first proposal was disputed and whose second became final."""
    words = (
        (WitnessWord(WITNESS, False, NOON + 120, at(35), b"\xee" * 32),),
        (WitnessWord(WITNESS, True, NOON + 180, at(36), None),),
    )
    proposals = tuple(
        ProposalEntry(
            proposal,
            MODELS[number] if proposal == 2 else b"\xbb" * 32,
            b"\x0f" * 32,
            NOON + 60 * proposal,
            at(30 + number),
            tuple(verdict(number, proposal, hospital) for hospital in HOSPITALS),
            words[proposal - 1],
        )
        for proposal in (1, 2)
    )
    signed = CosignatureEntry(
        WITNESS, 40, b"\x40" * 32, 9, b"\x41" * 32, b"\x5a" * 65, NOON, at(41)
    )
    entry = RoundEntry(
        number=number,
        task="lesion",
        phase=Phase.FINAL,
        purpose=6,
        base_model=MODELS[number - 1],
        base_round=number - 1 or None,
        generation=number - 1,
        origin=MODELS[0],
        rule='[{"name":"fed_avg","params":{}}]',
        min_updates=1,
        max_updates=2,
        quorum=1,
        deadline=NOON + 3600,
        aggregator=AGGREGATOR,
        model=MODELS[number],
        model_blob=b"\x0f" * 32,
        aborted_by=None,
        abortion=None,
        records=2,
        accepted=1,
        clipped=0,
        rejected=1,
        attestations=1,
        disputes=1,
        opened_at=NOON,
        position=at(10 + number),
        ended_at=NOON + 200,
        ended=at(40),
    )
    updates = tuple(contribution(number, hospital) for hospital in HOSPITALS)
    return RoundHistory(entry, (WITNESS,), updates, proposals, (signed,))


def version(**changes: Any) -> VersionEntry:
    withdrawal = "consent =was+ revoked"
    entry = VersionEntry(
        version=VERSION,
        dataset=b"\xd5" * 32,
        hospital=HOSPITALS[0],
        name="MRI 2025",
        state=DatasetState.WITHDRAWN,
        merkle_root=b"\x3e" * 32,
        images=500,
        modality="MR",
        purposes=(6, 42),
        profile=1,
        attestation=b"\xa7" * 32,
        previous=b"\xd9" * 32,
        withdrawal=withdrawal,
        registered_at=NOON - 60,
        position=at(5),
        changes=(
            VersionChange("REGISTERED", (6, 42), None, None, NOON - 60, at(5)),
            VersionChange("WITHDRAWN", None, withdrawal, None, NOON + 500, at(50)),
        ),
    )
    return replace(entry, **changes)


def party(name: str = "North") -> PartyFact:
    change = MembershipChange("SUSPENDED", None, "-late-", NOON, at(4))
    return PartyFact(HOSPITALS[0], name, ("HOSPITAL",), False, None, NOON, at(3), (change,))


IMAGE = b"\x1a" * 32


def read(number: int, **changes: Any) -> ReadingEntry:
    entry = ReadingEntry(
        reading=bytes([0xE0 + number]) * 32,
        version=VERSION,
        image=IMAGE,
        owner=HOSPITALS[0],
        hospital=HOSPITALS[0],
        author=WITNESS,
        opinion_on=None,
        request=None,
        document=b"\xd0" * 32,
        blob=b"\xb0" * 32,
        corrects=None,
        corrected_by=None,
        reason=None,
        recorded_at=NOON + 60 * number,
        position=at(45 + number),
    )
    return replace(entry, **changes)


def erased() -> VersionEntry:
    told = VersionChange("ERASED", None, None, None, NOON + 600, at(51), IMAGE)
    return version(changes=(*version().changes, told))


OPINION = {"hospital": HOSPITALS[1], "author": HOSPITALS[1], "opinion_on": b"\xe1" * 32}
STATE = LedgerState(31337, LEDGER, 57, b"\x57" * 32)
OF_MODEL: tuple[Fact, ...] = (STATE, version(), history(2), history(1))
OF_OTHERS: tuple[Fact, ...] = (
    STATE,
    party(),
    version(),
    DescendantFact(
        VERSION, Descendant("lesion", 2, MODELS[2], b"\x0f" * 32, True, (6,), NOON + 200, at(40))
    ),
    read(1),
    contribution(2, HOSPITALS[0]),
    replace(contribution(1, HOSPITALS[0]), verdict=None),
)


def text(facts: tuple[Fact, ...], kind: Format) -> str:
    return "".join(export(facts, kind))


def document(facts: tuple[Fact, ...]) -> ProvDocument:
    return ProvDocument.deserialize(content=text(facts, Format.PROV), format="json")


def ends(document: ProvDocument, kind: type) -> set[tuple[str, ...]]:
    """The ends of each relation of a kind, without the ledger's prefix."""
    return {
        tuple(str(value).removeprefix("ledger:") for _, value in record.formal_attributes if value)
        for record in document.get_records(kind)
    }


def names(document: ProvDocument, kind: type) -> set[str]:
    return {str(record.identifier).removeprefix("ledger:") for record in document.get_records(kind)}


def test_a_models_provenance_is_read_by_the_prov_library() -> None:
    found = document(OF_MODEL)
    model, base, kept = f"model-{'b2' * 32}", f"model-{'b1' * 32}", f"update-2-{HOSPITALS[0]}"
    rejected = f"update-2-{HOSPITALS[1]}"
    data, images = f"version-{'da' * 32}", f"images-{'3e' * 32}"
    assert names(found, ProvEntity) >= {model, base, kept, rejected, data, images}
    assert names(found, ProvActivity) >= {
        f"training-2-{HOSPITALS[0]}",
        "aggregation-2-2",
        f"witnessing-2-1-{WITNESS}",
        f"withdrawal-{'da' * 32}",
    }
    assert names(found, ProvAgent) == {
        f"party-{address}" for address in (*HOSPITALS, AGGREGATOR, WITNESS)
    }
    derived = ends(found, ProvDerivation)
    assert (model, kept, "aggregation-2-2") in derived
    assert (model, base, "aggregation-2-2") in derived
    assert (data, images) in derived
    assert (data, f"version-{'d9' * 32}") in derived
    # What was rejected was looked at, and is in no model.
    assert ("aggregation-2-2", rejected) in ends(found, ProvUsage)
    assert not any(rejected in one[1:] for one in derived)
    assert (f"training-2-{HOSPITALS[0]}", data) in ends(found, ProvUsage)
    assert (kept, f"party-{HOSPITALS[0]}") in ends(found, ProvAttribution)
    assert (f"witnessing-2-2-{WITNESS}", f"party-{WITNESS}") in ends(found, ProvAssociation)
    assert ("aggregation-2-2", f"party-{AGGREGATOR}", "pipeline-2") in ends(found, ProvAssociation)
    made = {one[:2] for one in ends(found, ProvGeneration)}
    assert {(model, "aggregation-2-2"), ("proposed-2-1", "aggregation-2-1")} <= made
    ((what, by, when),) = ends(found, ProvInvalidation)
    assert (what, by) == (data, f"withdrawal-{'da' * 32}")
    assert when.startswith("2026-01-01")


def test_readings_and_an_erasure_are_read_by_the_prov_library() -> None:
    corrects = {"corrects": b"\xe1" * 32, "reason": "left, not right"}
    found = document((STATE, erased(), read(1), read(2, **OPINION), read(3, **corrects)))
    first, second, third = (f"reading-{f'e{number}' * 32}" for number in (1, 2, 3))
    image, reading = f"image-{'1a' * 32}", f"interpretation-{'e1' * 32}"
    assert names(found, ProvEntity) >= {first, second, third, image}
    assert (reading, image) in ends(found, ProvUsage)
    assert (first, f"party-{WITNESS}") in ends(found, ProvAttribution)
    derived = ends(found, ProvDerivation)
    assert {(second, first), (third, first), (image, f"images-{'3e' * 32}")} <= derived
    # A clinician acts in a hospital's name, and a hospital in its own.
    delegations = ends(found, ProvDelegation)
    assert (f"party-{WITNESS}", f"party-{HOSPITALS[0]}", reading) in delegations
    assert not any(f"party-{HOSPITALS[1]}" in one for one in delegations)
    ended = {one[:2] for one in ends(found, ProvInvalidation)}
    assert (image, f"erasure-{'1a' * 32}-{'da' * 32}") in ended
    lines = [
        json.loads(line) for line in text((STATE, erased(), read(1)), Format.JSONL).splitlines()
    ]
    assert [line["kind"] for line in lines][-2:] == ["version_change", "reading"]
    assert (lines[-2]["what"], lines[-2]["image"]) == ("ERASED", "0x" + "1a" * 32)


def test_a_statement_says_what_proves_it() -> None:
    found = document(OF_MODEL)
    (update,) = found.get_record(f"ledger:update-2-{HOSPITALS[0]}")
    told = {str(name): value for name, value in update.attributes}
    assert told["fedwitness:block"] == 22
    assert told["fedwitness:transaction"] == "0x" + "16" * 32
    (state,) = found.get_record("ledger:block-57")
    told = {str(name): value for name, value in state.attributes}
    assert (told["fedwitness:chain_id"], told["fedwitness:block_hash"]) == (31337, "0x" + "57" * 32)
    assert {one.uri for one in found.namespaces} >= {f"urn:fedwitness:31337:{LEDGER}:"}


@pytest.mark.parametrize("facts", [OF_MODEL, OF_OTHERS], ids=["model", "others"])
def test_a_document_comes_back_the_same_and_is_drawn(facts: tuple[Fact, ...]) -> None:
    found = document(facts)
    again = ProvDocument.deserialize(content=found.serialize(format="json"), format="json")
    assert again == found
    drawn = prov_to_dot(found).to_string()
    assert drawn.startswith("digraph")
    assert "training-2-" in drawn
    assert "wasDerivedFrom" in drawn


def test_every_end_of_a_relation_in_a_models_provenance_is_told() -> None:
    found = document(OF_MODEL)
    told = names(found, ProvEntity) | names(found, ProvActivity) | names(found, ProvAgent)
    kinds = (ProvUsage, ProvAttribution, ProvAssociation)
    named = {end for kind in kinds for one in ends(found, kind) for end in one}
    assert named <= told


def test_json_lines_say_all_and_each_stands_alone() -> None:
    lines = [json.loads(line) for line in text(OF_MODEL, Format.JSONL).splitlines()]
    kinds = [line["kind"] for line in lines]
    assert kinds[:4] == ["ledger", "version", "version_change", "version_change"]
    assert kinds.count("update") == 4
    assert kinds.count("word") == 4
    assert kinds.count("earlier_verdict") == 4
    assert kinds.count("cosignature") == 2
    update = lines[kinds.index("update")]
    assert update["position"] == {"block": 22, "log_index": 0, "transaction": "0x" + "16" * 32}
    assert update["verdict"]["outcome"] == "ACCEPTED"
    assert lines[0] == {
        "kind": "ledger",
        "chain_id": 31337,
        "ledger": LEDGER,
        "block": 57,
        "block_hash": "0x" + "57" * 32,
    }


@pytest.mark.parametrize("facts", [OF_MODEL, OF_OTHERS], ids=["model", "others"])
def test_a_table_has_a_row_for_each_line_and_loses_nothing(facts: tuple[Fact, ...]) -> None:
    written = text(facts, Format.CSV)
    rows = list(csv.DictReader(io.StringIO(written, newline=""), strict=True))
    lines = [json.loads(line) for line in text(facts, Format.JSONL).splitlines()]
    assert [row["kind"] for row in rows] == [line["kind"] for line in lines]
    assert all(row.keys() == set(COLUMNS) for row in rows)
    assert written.count("\r\n") == len(rows) + 1 == written.count("\n")
    update = next(row for row in rows if row["kind"] == "update")
    assert (update["block"], update["transaction"]) == ("22", "0x" + "16" * 32)
    assert (update["verdict_outcome"], update["verdict_block"]) == ("ACCEPTED", "32")
    assert update["datasets"] == "0x" + "da" * 32


HOSTILE = (
    "=1+1",
    "+1",
    "-1",
    "@SUM(A1)",
    " =cmd|' /C calc'!A0",
    "\t=1",
    "\r=1",
    "\uff1d1",
    "\u200b=1",
)


@pytest.mark.parametrize("name", HOSTILE)
def test_no_cell_is_a_formula(name: str) -> None:
    (_, row, _) = csv.DictReader(io.StringIO(text((STATE, party(name)), Format.CSV), newline=""))
    assert row["name"].lstrip()[0] in "'\\"


def test_no_export_steers_a_terminal_or_breaks_a_line() -> None:
    hostile = 'a\x1b[31m\u202e"b",\r\nc\x00'
    for kind in Format:
        written = text((STATE, party(hostile), version(name=hostile)), kind)
        assert not any(not (char.isprintable() or char in "\r\n") for char in written), (
            kind,
            written,
        )
    rows = csv.DictReader(io.StringIO(text((STATE, party(hostile)), Format.CSV), newline=""))
    assert [row["kind"] for row in rows] == ["ledger", "party", "membership_change"]
    (agent,) = document((STATE, party(hostile))).get_records(ProvAgent)
    assert hostile in {value for _, value in agent.attributes}


def test_a_moment_that_no_calendar_has_is_left_out() -> None:
    found = document((STATE, replace(version(), registered_at=2**60)))
    told = {
        str(one.identifier): {str(name) for name, _ in one.attributes}
        for one in found.get_records(ProvActivity)
    }
    assert "prov:endTime" not in told[f"ledger:registration-{'da' * 32}"]
    assert "prov:endTime" in told[f"ledger:withdrawal-{'da' * 32}"]


def test_an_index_that_goes_back_ends_an_export() -> None:
    blocks = iter((57, 57, 56))

    class Rewound:
        def ask(self, _question: object) -> tuple[Any, IndexedBlock]:
            number = next(blocks)
            answers: dict[int, Any] = {57: (31337, LEDGER), 56: None}
            return answers[number], IndexedBlock(number, b"\x57" * 32)

    facts = Facts(Rewound())
    assert facts._ask(lambda _: None)
    assert facts._state() == STATE
    with pytest.raises(IndexDatabaseError, match="went back from block 57 to 56"):
        facts._ask(lambda _: None)


@pytest.mark.parametrize("kind", Format)
def test_memory_does_not_grow_with_an_export(kind: Format, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("audit.prov._IN_MEMORY", 1 << 14)
    one, judged = contribution(1, HOSPITALS[0]), verdict(1, 2, HOSPITALS[0])

    held: list[int] = []

    def many(count: int) -> Iterator[Fact]:
        yield STATE
        for number in range(count):
            yield replace(one, round=number, verdict=replace(judged, round=number))
        gc.collect()
        held.append(tracemalloc.get_traced_memory()[0])

    sizes = []
    for count in (100, 300, 900):
        tracemalloc.start()
        sizes.append(sum(map(len, export(many(count), kind))))
        tracemalloc.stop()
    written = sizes[2] - sizes[1]
    assert written > 300_000
    # Of each round an export of updates keeps the name of its aggregation, and no more. The rest
    # is for what the interpreter happens to keep.
    assert held[2] - held[1] < written / 5
