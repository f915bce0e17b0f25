"""`fedwitness disputes`: evidence is read as the words of a stranger, who may be hostile."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
from typer.testing import CliRunner

from audit.evidence import MAX_EVIDENCE, VERSION, Evidence, Inputs, RecordInput, ReplayStep
from audit.verify import REPLAY, Finding
from chain.blobs import IpfsBlobStore
from chain.cid import Cid
from cli.main import command_line
from tests.cli.conftest import run
from tests.federation import Federation, digest

OWN, ROOT = digest("own model"), digest("own root")
HOSTILE = "\x1b[2J\x1b]0;owned\x07[red]markup[/] \u202e\nround 9, proposal 9"


def evidence_of(federation: Federation, number: int) -> Evidence:
    """Evidence against a round's newest proposal."""
    reader = federation.reader
    round_ = reader.round(number)
    assert round_.proposal is not None
    records = tuple(
        RecordInput(one.hospital, one.update, one.blob, one.examples, bytes(32))
        for one in (recorded.record for recorded in reader.records(number))
    )
    terms = round_.terms
    return Evidence(
        version=VERSION,
        chain_id=reader.chain_id,
        ledger=reader.address,
        round=number,
        proposal=round_.proposal,
        step=ReplayStep.AGGREGATION,
        inputs=Inputs(terms.base_model, terms.base_blob, terms.rule, records),
        known_as=None,
        model=OWN,
        verdicts_root=ROOT,
        verdicts=(),
        findings=(Finding(REPLAY, "the model", "one", "other", "it is another"),),
    )


def disputed(federation: Federation, number: int, blob: bytes) -> None:
    ledger = federation.ledgers["witness-1"]
    proposal = ledger.round(number).proposal
    assert proposal is not None
    ledger.dispute(number, proposal.number, OWN, ROOT, blob)


@pytest.fixture
def number(federation: Federation) -> int:
    number = federation.open_round()
    federation.record_all(number)
    federation.propose(number)
    return number


@pytest.fixture
def blobs(ipfs: str) -> IpfsBlobStore:
    return IpfsBlobStore(ipfs)


def ask(federation: Federation, blobs: IpfsBlobStore, *words: str) -> Any:
    code, found = run(federation, "disputes", *words, "--ipfs", blobs.address)
    assert code == 0
    return found


def read(federation: Federation, blobs: IpfsBlobStore) -> str:
    where = ["--rpc", federation.rpc_url, "--ledger", federation.deployment.ledger]
    words = ["disputes", "--ipfs", blobs.address, *where]
    return CliRunner().invoke(command_line(), words, env={"COLUMNS": "200"}).stdout


def test_a_dispute_is_shown_with_its_evidence(
    federation: Federation, number: int, blobs: IpfsBlobStore
) -> None:
    evidence = evidence_of(federation, number)
    blob = blobs.put([evidence.to_json()])
    disputed(federation, number, blob.digest)
    (found,) = ask(federation, blobs, str(number))
    assert found["evidence"] == evidence.to_dict()
    assert (found["round"], found["proposal"], found["phase"]) == (number, 1, "PROPOSED")
    assert (found["newest"], found["faults"]) == (True, [])
    assert found["witness"] == federation.address("witness-1")
    assert found["evidence_blob"] == str(blob)
    assert ask(federation, blobs) == [found]


def test_what_became_of_the_proposal_is_told(
    federation: Federation, number: int, blobs: IpfsBlobStore
) -> None:
    blob = blobs.put([evidence_of(federation, number).to_json()])
    disputed(federation, number, blob.digest)
    assert "which cannot become final" in read(federation, blobs)
    federation.propose(number)
    assert "which was replaced since" in read(federation, blobs)
    disputed(federation, number, blob.digest)
    federation.ledgers["steward"].abort(number, "for good")
    assert "proposal 2, whose round was aborted since" in read(federation, blobs)


Changes: dict[str, tuple[Callable[[Evidence], Evidence], str]] = {
    "chain": (lambda one: replace(one, chain_id=1), "expected evidence for chain 31337"),
    "round": (lambda one: replace(one, round=77), "proposal 1, found that for 31337"),
    "proposal": (lambda one: replace(one, proposal=replace(one.proposal, number=7)), ", 7"),
    "disputed model": (
        lambda one: replace(one, proposal=replace(one.proposal, model=OWN)),
        "found another proposal",
    ),
    "model": (lambda one: replace(one, model=digest("x")), f"for the model {OWN.hex()}"),
    "root": (lambda one: replace(one, verdicts_root=bytes(32)), f"the verdicts {ROOT.hex()}"),
}


@pytest.mark.parametrize("changed", Changes)
def test_evidence_of_another_dispute_is_told_by_its(
    federation: Federation, number: int, blobs: IpfsBlobStore, changed: str
) -> None:
    change, told = Changes[changed]
    blob = blobs.put([change(evidence_of(federation, number)).to_json()])
    disputed(federation, number, blob.digest)
    (found,) = ask(federation, blobs)
    (fault,) = found["faults"]
    assert told in fault
    assert "fault" in read(federation, blobs)


@pytest.mark.parametrize(
    ("content", "told"),
    [
        (b"not JSON", "expected JSON"),
        (b"{}", "version 1, found None"),
        (b"x" * (MAX_EVIDENCE + 1), "expected"),
    ],
)
def test_what_is_no_evidence_is_a_fault_and_no_failure(
    federation: Federation, number: int, blobs: IpfsBlobStore, content: bytes, told: str
) -> None:
    disputed(federation, number, blobs.put([content]).digest)
    (found,) = ask(federation, blobs)
    assert found["evidence"] is None
    assert told in found["faults"][0]


def test_evidence_that_nobody_has_is_a_fault_and_no_failure(
    federation: Federation, number: int, blobs: IpfsBlobStore
) -> None:
    disputed(federation, number, digest("nowhere"))
    (found,) = ask(federation, blobs)
    assert found["evidence"] is None
    assert str(Cid.from_blob_digest(digest("nowhere"))) in found["faults"][0]
    assert "fault" in read(federation, blobs)


def test_hostile_words_steer_no_terminal(
    federation: Federation, number: int, blobs: IpfsBlobStore
) -> None:
    finding = Finding(REPLAY, HOSTILE, HOSTILE, HOSTILE, HOSTILE)
    evidence = evidence_of(federation, number)
    inputs = replace(evidence.inputs, pipeline=HOSTILE)
    hostile = replace(evidence, findings=(finding,), inputs=inputs)
    disputed(federation, number, blobs.put([hostile.to_json()]).digest)
    told = read(federation, blobs)
    assert not {"\x1b", "\x07", "\u202e"} & set(told)
    assert "[red]markup[/]" in told
    # Nor can they pass for another dispute, whose title begins a line.
    assert [line for line in told.splitlines() if line.startswith("round ")] == [
        f"round {number}, proposal 1, which cannot become final"
    ]
    (found,) = ask(federation, blobs)
    assert found["evidence"]["findings"][0]["subject"] == HOSTILE


def test_a_federation_without_a_dispute_says_so(
    federation: Federation, number: int, blobs: IpfsBlobStore
) -> None:
    assert ask(federation, blobs, str(number)) == []
    assert read(federation, blobs) == "no dispute\n"


def test_a_round_that_is_not_there_is_an_error(
    federation: Federation, blobs: IpfsBlobStore
) -> None:
    code, told = run(federation, "disputes", "9", "--ipfs", blobs.address)
    assert code == 2
    assert told["error"]["kind"] == "UnknownRoundError"
