"""The ledger client against the real contracts on anvil."""

import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from eth_abi.abi import encode

from chain.devnet.ports import free_port
from chain.digests import keccak
from chain.errors import (
    ContractRevertedError,
    InvalidInputError,
    LedgerError,
    RefusedRequestError,
    UnknownRoundError,
)
from chain.ledger import Ledger
from chain.membership import ROLE_IDS
from chain.merkle import image_leaves, merkle_proof, merkle_root, verdicts_root
from chain.reader import LedgerReader
from chain.rpc import RawLog
from chain.signing import update_struct_hash
from chain.types import DatasetState, Outcome, Phase, Purpose, Reason, Role, Tally
from tests.federation import (
    HOSPITALS,
    IMAGES,
    PARTIES,
    PURPOSE,
    TASK,
    WITNESSES,
    Federation,
    dataset_terms,
    digest,
)

ONE, TWO, THREE = HOSPITALS
ZERO = "0x" + "00" * 20
HOUR = 3600


def refusal(act: Callable[[], object]) -> tuple[str, dict[str, object]]:
    """Act, and return the name and the arguments of the contract's refusal."""
    with pytest.raises(ContractRevertedError) as caught:
        act()
    return caught.value.name, caught.value.arguments


def shown(value: bytes) -> str:
    return f"0x{value.hex()}"


# Rounds


def test_a_round_goes_from_open_to_final(federation: Federation) -> None:
    reader, number = federation.reader, federation.open_round()
    assert reader.round(number).phase is Phase.OPEN
    federation.record_all(number)
    assert reader.round(number).phase is Phase.COLLECTING
    federation.propose(number)
    federation.attest(number, WITNESSES[0])
    assert reader.round(number).attestations == 1
    assert reader.active_round(TASK) == reader.round(number)
    federation.attest(number, WITNESSES[1])

    assert reader.round(number).phase is Phase.FINAL
    assert reader.last_final(TASK) == (digest("model"), digest("model blob"), number)
    assert reader.active_round(TASK) is None
    assert [witness for witness, _ in reader.attestations(number, 1)] == [
        federation.address(name) for name in WITNESSES
    ]


def test_a_round_reads_back_as_it_was_opened(federation: Federation) -> None:
    terms = federation.terms(max_updates=7, min_updates=2, quorum=1)
    number = federation.ledgers["aggregator"].open_round(terms)
    found = federation.reader.round(number)
    assert (found.number, found.terms, found.aggregator) == (
        number,
        terms,
        federation.address("aggregator"),
    )
    assert (found.updates, found.attestations, found.disputed, found.proposal) == (
        0,
        0,
        False,
        None,
    )


def test_rounds_of_a_task_are_listed(federation: Federation) -> None:
    first = federation.open_round()
    other = federation.open_round(task="another task")
    federation.ledgers["steward"].abort(first, "to open another")
    second = federation.open_round()
    assert federation.reader.task_rounds(TASK) == (first, second)
    assert federation.reader.task_rounds("another task") == (other,)
    assert federation.reader.task_rounds("unheard of") == ()
    assert federation.reader.last_final("unheard of") is None
    assert federation.reader.round_count() == 3


def test_a_record_read_back_hashes_to_what_the_ledger_keeps(federation: Federation) -> None:
    number = federation.open_round()
    changes: dict[str, Any] = {"epsilon": 2**64 - 1, "delta": 1}
    federation.ledgers[TWO].record_update(federation.record(TWO, number, **changes))
    federation.ledgers[ONE].record_update(federation.record(ONE, number))

    records = federation.reader.records(number)
    assert [item.record for item in records] == [
        federation.record(TWO, number, **changes),
        federation.record(ONE, number),
    ]
    assert all(update_struct_hash(item.record) == item.record_digest for item in records)
    assert records[0].position.block < records[1].position.block


def test_anyone_may_relay_records_alone_or_in_a_batch(federation: Federation) -> None:
    number, relay = federation.open_round(), federation.ledgers["researcher"]
    signed = [(federation.record(name, number), name) for name in HOSPITALS]
    first, *others = [(record, federation.sign(record, name)) for record, name in signed]
    relay.relay_update(*first)
    relay.relay_updates(others)
    found = federation.reader.records(number)
    assert [item.record for item in found] == [record for record, _ in signed]
    assert found[1].position.transaction == found[2].position.transaction
    assert found[1].position.log_index < found[2].position.log_index


def test_verdicts_read_back_have_the_root_that_the_ledger_computed(federation: Federation) -> None:
    number = federation.open_round()
    federation.record_all(number)
    first, second, third = federation.verdicts()
    verdicts = (
        first,
        replace(second, outcome=Outcome.CLIPPED, reason=Reason.TRIMMED_BY_RULE, score=950_000),
        replace(third, outcome=Outcome.REJECTED, reason=Reason.NOT_A_NUMBER),
    )
    federation.ledgers["aggregator"].propose(number, digest("model"), digest("blob"), verdicts)
    proposal = federation.reader.round(number).proposal
    assert proposal is not None
    assert federation.reader.verdicts(number, proposal.number) == verdicts
    assert proposal.verdicts == verdicts_root(number, verdicts)


def test_the_ledger_counts_what_became_of_a_hospitals_updates(federation: Federation) -> None:
    number = federation.open_round()
    federation.record_all(number)
    first, *others = federation.verdicts()
    rejected = replace(first, outcome=Outcome.REJECTED, reason=Reason.NOT_A_NUMBER)
    verdicts = (rejected, *others)
    federation.ledgers["aggregator"].propose(number, digest("model"), digest("blob"), verdicts)
    reader = federation.reader
    assert reader.tally(TASK, first.hospital) == Tally(0, 0, 0)
    for witness in WITNESSES:
        federation.attest(number, witness)
    assert reader.tally(TASK, first.hospital) == Tally(0, 0, 1)
    assert reader.tally(TASK, others[0].hospital) == Tally(1, 0, 0)
    assert reader.tally("another", first.hospital) == Tally(0, 0, 0)


def test_a_reason_that_the_protocol_does_not_know_reads_as_unknown(federation: Federation) -> None:
    number = federation.open_round()
    federation.record_all(number)
    first, *others = federation.verdicts()
    no_reason: Any = 200
    unknown = replace(first, outcome=Outcome.REJECTED, reason=no_reason)
    federation.ledgers["aggregator"].propose(
        number, digest("model"), digest("blob"), [unknown, *others]
    )
    assert federation.reader.verdicts(number, 1)[0].reason is Reason.UNKNOWN


def test_a_recipient_with_a_key_of_low_order_is_left_out(federation: Federation) -> None:
    federation.ledgers["auditor"].set_encryption_key(b"\1" + bytes(31))
    number = federation.open_round()
    keys = {federation.identities[name].encryption_key for name in ("aggregator", *WITNESSES)}
    assert set(federation.reader.recipients(number)) == keys


def test_a_disputed_proposal_is_followed_by_another(federation: Federation) -> None:
    number = federation.open_round()
    federation.record_all(number)
    federation.propose(number)
    witness = federation.ledgers[WITNESSES[0]]
    witness.dispute(number, 1, digest("other model"), digest("other root"), digest("evidence"))
    assert federation.reader.round(number).disputed
    (dispute,) = federation.reader.disputes(number)
    assert (dispute.witness, dispute.proposal) == (witness.account_address, 1)
    assert (dispute.model, dispute.verdicts, dispute.evidence) == (
        digest("other model"),
        digest("other root"),
        digest("evidence"),
    )
    federation.propose(number)
    found = federation.reader.round(number)
    assert found.proposal is not None
    assert (found.proposal.number, found.disputed) == (2, False)


def test_a_round_that_there_is_not_is_told_so(federation: Federation) -> None:
    number = federation.open_round()
    for read in (
        federation.reader.round,
        federation.reader.records,
        federation.reader.disputes,
        federation.reader.recipients,
    ):
        for unknown in (0, number + 1, 2**200):
            with pytest.raises(UnknownRoundError, match=f"found number {unknown}"):
                read(unknown)
    with pytest.raises(InvalidInputError):
        federation.reader.round(-1)


def test_a_round_is_read_anew_where_the_chain_fell_back(federation: Federation) -> None:
    snapshot = federation.rpc("evm_snapshot")
    first = federation.open_round()
    assert federation.reader.round(first).terms.max_updates == 3
    federation.rpc("evm_revert", snapshot)
    federation.pass_time(60)
    other = federation.ledgers["aggregator"]
    other._sender.outbox.remove(other._sender.outbox.entries()[0].number)
    assert federation.open_round(max_updates=9) == first
    assert federation.reader.round(first).terms.max_updates == 9


# Refusals


def test_every_fault_of_a_record_is_refused_with_its_own_error(federation: Federation) -> None:
    number, reader = federation.open_round(), federation.reader
    good = federation.record(ONE, number)
    versions = federation.versions
    others = sorted([versions[ONE], versions[TWO]])
    owner = federation.address(TWO)
    refused: list[tuple[dict[str, Any], str, dict[str, object]]] = [
        ({"round": number + 1}, "RoundLedgerUnknownRound", {"round": number + 1}),
        ({"chain_id": 1}, "RoundLedgerWrongChain", {"expected": 31337, "found": 1}),
        (
            {"ledger": ZERO},
            "RoundLedgerWrongLedger",
            {"expected": reader.address, "found": ZERO},
        ),
        (
            {"purpose": Purpose.CLINICAL_CARE},
            "RoundLedgerPurposeMismatch",
            {"expected": PURPOSE, "found": Purpose.CLINICAL_CARE},
        ),
        (
            {"base_model": digest("another")},
            "RoundLedgerBaseModelMismatch",
            {"expected": shown(good.base_model), "found": shown(digest("another"))},
        ),
        ({"datasets": ()}, "DatasetRegistryNoVersions", {}),
        (
            {"datasets": (digest("none"),)},
            "DatasetRegistryUnknownVersion",
            {"version": shown(digest("none"))},
        ),
        (
            {"datasets": (versions[TWO],)},
            "DatasetRegistryNotOwner",
            {"version": shown(versions[TWO]), "hospital": owner, "account": good.hospital},
        ),
        (
            {"datasets": (versions[ONE], versions[ONE])},
            "DatasetRegistryVersionsNotAscending",
            {"version": shown(versions[ONE]), "next": shown(versions[ONE])},
        ),
        ({"examples": 0}, "RoundLedgerExamplesOutOfRange", {"examples": 0, "images": IMAGES}),
        (
            {"examples": IMAGES + 1},
            "RoundLedgerExamplesOutOfRange",
            {"examples": IMAGES + 1, "images": IMAGES},
        ),
        ({"update": bytes(32)}, "RoundLedgerEmptyDigest", {"field": "update"}),
        ({"blob": bytes(32)}, "RoundLedgerEmptyDigest", {"field": "blob"}),
        ({"code": bytes(32)}, "RoundLedgerEmptyDigest", {"field": "code"}),
    ]
    assert others, "two hospitals have versions"
    for changes, name, arguments in refused:
        record = replace(good, **changes)
        signature = federation.sign(record, ONE)
        expected = (name, arguments)
        assert refusal(lambda r=record, s=signature: reader.check_record(r, s)) == expected  # type: ignore[misc]
        assert (
            refusal(lambda r=record: federation.ledgers[ONE].record_update(r))  # type: ignore[misc]
            == expected
        )
    signature = federation.sign(good, ONE)
    reader.check_record(good, signature)
    assert refusal(lambda: reader.check_record(good, federation.sign(good, TWO))) == (
        "RoundLedgerBadSignature",
        {"expected": good.hospital, "recovered": federation.address(TWO)},
    )
    assert refusal(lambda: reader.check_record(good, b"short"))[0] == "RoundLedgerBadSignature"
    assert reader.records(number) == ()


def test_a_second_record_and_a_full_round_are_refused(federation: Federation) -> None:
    number = federation.open_round(max_updates=2)
    ledger, record = federation.ledgers[ONE], federation.record(ONE, number)
    ledger.record_update(record)
    assert refusal(lambda: ledger.record_update(record)) == (
        "RoundLedgerDuplicateRecord",
        {"round": number, "hospital": record.hospital},
    )
    federation.ledgers[TWO].record_update(federation.record(TWO, number))
    late = federation.record(THREE, number)
    assert refusal(lambda: federation.ledgers[THREE].record_update(late)) == (
        "RoundLedgerRoundFull",
        {"round": number, "maxUpdates": 2},
    )


def test_a_late_record_is_refused_by_the_time_of_the_next_block(federation: Federation) -> None:
    number = federation.open_round()
    deadline = federation.reader.round(number).terms.deadline
    federation.rpc("evm_increaseTime", HOUR + 1)
    record = federation.record(ONE, number)
    name, arguments = refusal(lambda: federation.ledgers[ONE].record_update(record))
    assert (name, arguments["deadline"]) == ("RoundLedgerLateRecord", deadline)
    assert int(str(arguments["timestamp"])) > deadline
    signature = federation.sign(record, ONE)
    assert refusal(lambda: federation.reader.check_record(record, signature))[0] == name


def test_a_suspended_hospital_is_refused_until_it_is_reinstated(federation: Federation) -> None:
    number, steward = federation.open_round(), federation.ledgers["steward"]
    hospital, record = federation.address(ONE), federation.record(ONE, number)
    assert steward.suspend(hospital, "lost its keys").gas_used > 0
    assert not federation.reader.is_active(hospital, Role.HOSPITAL)
    assert refusal(lambda: federation.ledgers[ONE].record_update(record)) == (
        "ParticipantRegistrySuspended",
        {"account": hospital},
    )
    steward.reinstate(hospital)
    assert federation.reader.is_active(hospital, Role.HOSPITAL)
    federation.ledgers[ONE].record_update(record)


def test_versions_that_may_not_be_used_are_refused(federation: Federation) -> None:
    number, ledger = federation.open_round(), federation.ledgers[ONE]
    first = federation.versions[ONE]
    plain = ledger.register_version(dataset_terms("plain", profile=0))
    record = federation.record(ONE, number)

    def refused(version: bytes) -> tuple[str, dict[str, object]]:
        return refusal(lambda: ledger.record_update(replace(record, datasets=(version,))))

    assert refused(plain) == ("DatasetRegistryNotDeidentified", {"version": shown(plain)})
    corrected = dataset_terms(ONE, merkle_root=digest("corrected"), previous=first)
    second = ledger.register_version(corrected)
    assert refused(first) == ("DatasetRegistrySuperseded", {"version": shown(first)})
    ledger.permit_purposes(second, frozenset({Purpose.CLINICAL_CARE}))
    assert refused(second) == (
        "DatasetRegistryPurposeNotPermitted",
        {"version": shown(second), "purpose": PURPOSE},
    )
    ledger.withdraw(second, "consent withdrawn")
    assert refused(second) == ("DatasetRegistryWithdrawn", {"version": shown(second)})


def test_a_round_that_may_not_be_opened_is_refused(federation: Federation) -> None:
    aggregator, terms = federation.ledgers["aggregator"], federation.terms()
    assert refusal(lambda: federation.ledgers[ONE].open_round(terms)) == (
        "ParticipantRegistryUnknownParticipant",
        {"account": federation.address(ONE), "role": shown(ROLE_IDS[Role.AGGREGATOR])},
    )
    faults: dict[str, dict[str, Any]] = {
        "task": {"task": ""},
        "rule": {"rule": "x" * 1025},
        "minUpdates": {"min_updates": 0},
        "maxUpdates": {"max_updates": 129},
        "deadline": {"deadline": 1},
        "witnesses": {"witnesses": terms.witnesses[::-1]},
    }
    for field, changes in faults.items():
        assert refusal(lambda c=changes: aggregator.open_round(replace(terms, **c))) == (  # type: ignore[misc]
            "RoundLedgerInvalidTerms",
            {"field": field},
        )
    number = aggregator.open_round(terms)
    name, arguments = refusal(lambda: aggregator.open_round(terms))
    assert (name, arguments["round"]) == ("RoundLedgerRoundActive", number)
    federation.finish(number)
    assert refusal(lambda: aggregator.open_round(terms)) == (
        "RoundLedgerBaseModelMismatch",
        {"expected": shown(digest("model")), "found": shown(terms.base_model)},
    )


def test_a_proposal_that_may_not_be_made_is_refused(federation: Federation) -> None:
    number = federation.open_round(min_updates=3)
    aggregator, verdicts = federation.ledgers["aggregator"], federation.verdicts()

    def refused(*given: Any, by: Ledger = aggregator) -> tuple[str, dict[str, object]]:
        return refusal(lambda: by.propose(number, digest("model"), digest("blob"), given))

    assert refused()[0] == "RoundLedgerUnexpectedPhase"
    federation.ledgers[ONE].record_update(federation.record(ONE, number))
    assert refused()[0] == "RoundLedgerStillCollecting"
    for name in (TWO, THREE):
        federation.ledgers[name].record_update(federation.record(name, number))
    assert refused(*verdicts, by=federation.ledgers[ONE])[0] == "RoundLedgerNotAggregator"
    assert refused(*verdicts[:2]) == (
        "RoundLedgerVerdictMissing",
        {"round": number, "expected": 3, "found": 2},
    )
    assert refused(*verdicts[::-1])[0] == "RoundLedgerVerdictsNotAscending"
    stranger = replace(verdicts[0], hospital="0x" + "00" * 19 + "01")
    assert refused(stranger, *verdicts[1:])[0] == "RoundLedgerNoRecord"
    odd = replace(verdicts[0], reason=Reason.NOT_A_NUMBER)
    assert refused(odd, *verdicts[1:])[0] == "RoundLedgerInvalidVerdict"
    rejected = replace(odd, outcome=Outcome.REJECTED)
    assert refused(rejected, *verdicts[1:]) == (
        "RoundLedgerTooFewUpdates",
        {"minimum": 3, "kept": 2},
    )


def test_a_witness_s_word_that_does_not_count_is_refused(federation: Federation) -> None:
    number = federation.open_round()
    federation.record_all(number)
    federation.propose(number)
    witness, other = (federation.ledgers[name] for name in WITNESSES)
    proposal = federation.reader.round(number).proposal
    assert proposal is not None
    ours = (number, 1, proposal.model, proposal.verdicts, digest("evidence"))
    assert refusal(lambda: witness.dispute(*ours))[0] == "RoundLedgerNothingToDispute"
    assert refusal(lambda: federation.ledgers[ONE].dispute(*ours))[0] == "RoundLedgerNotWitness"
    stale = (number, 2, bytes(32), bytes(32), digest("evidence"))
    assert refusal(lambda: witness.dispute(*stale)) == (
        "RoundLedgerProposalMismatch",
        {"expected": 1, "found": 2},
    )
    name = witness.account_address
    forged = refusal(lambda: witness.attest(number, 1, name, bytes(65)))
    assert forged == ("RoundLedgerBadSignature", {"expected": name, "recovered": ZERO})
    federation.attest(number, WITNESSES[0])
    assert refusal(lambda: federation.attest(number, WITNESSES[0])) == (
        "RoundLedgerAlreadySpoken",
        {"round": number, "proposal": 1, "witness": name},
    )
    other.dispute(number, 1, bytes(32), bytes(32), digest("evidence"))
    assert refusal(lambda: federation.attest(number, WITNESSES[1]))[0] == (
        "RoundLedgerProposalDisputed"
    )


def test_only_stewards_enrol_and_suspend(federation: Federation) -> None:
    newcomer, key = federation.address(ONE), digest("key")
    assert refusal(
        lambda: federation.ledgers[ONE].enroll(newcomer, Role.WITNESS, key, "hospital-1")
    ) == (
        "AccessControlUnauthorizedAccount",
        {"account": newcomer, "neededRole": shown(ROLE_IDS[Role.STEWARD])},
    )
    steward = federation.ledgers["steward"]
    alone = steward.account_address
    assert refusal(lambda: steward.suspend(alone, "me")) == (
        "ParticipantRegistryLastSteward",
        {"account": alone},
    )


# Parties


def test_everybody_is_found_with_role_key_and_name(federation: Federation) -> None:
    reader = federation.reader
    for name, role in PARTIES.items():
        party = reader.participant(federation.address(name))
        assert party is not None
        assert party.roles == {role}
        assert party.encryption_key == federation.identities[name].encryption_key
        assert party.name == ("Steward" if role is Role.STEWARD else name)
        assert party in reader.participants(role)
        assert party in reader.participants()
    assert len(reader.participants()) == len(PARTIES)
    assert [party.name for party in reader.participants(Role.AUDITOR)] == ["auditor"]
    assert reader.participant(ZERO) is None


def test_the_log_and_the_views_tell_the_same_of_a_party(federation: Federation) -> None:
    steward, hospital = federation.ledgers["steward"], federation.ledgers[ONE]
    hospital.set_encryption_key(digest("second key"))
    steward.enroll(hospital.account_address, Role.WITNESS, digest("second key"), "renamed")
    steward.suspend(hospital.account_address, "for a while")
    party = federation.reader.participant(hospital.account_address)
    assert party is not None
    assert (party.name, party.suspended) == ("renamed", True)
    assert party.roles == {Role.HOSPITAL, Role.WITNESS}
    assert party in federation.reader.participants(Role.WITNESS)


def test_a_role_that_was_revoked_is_no_longer_held(federation: Federation) -> None:
    steward, auditor = federation.ledgers["steward"], federation.address("auditor")
    values = (ROLE_IDS[Role.AUDITOR], auditor)
    # OpenZeppelin's own way to take a role, which needs no write of ours.
    steward._write(steward._participants, "revokeRole", values, "revoke a role")
    assert federation.reader.participants(Role.AUDITOR) == ()
    party = federation.reader.participant(auditor)
    assert party is not None
    assert party.roles == frozenset()
    recipients = federation.reader.recipients(federation.open_round())
    assert federation.identities["auditor"].encryption_key not in recipients


def test_recipients_are_those_of_the_opening_block(federation: Federation) -> None:
    identities, steward = federation.identities, federation.ledgers["steward"]
    number = federation.open_round()
    expected = sorted(
        identities[name].encryption_key for name in ("aggregator", "auditor", *WITNESSES)
    )
    assert federation.reader.recipients(number) == tuple(expected)

    # What comes later changes nothing for the open round.
    federation.ledgers["aggregator"].set_encryption_key(digest("new key"))
    steward.suspend(federation.address("auditor"), "left")
    steward.enroll(federation.address(ONE), Role.AUDITOR, identities[ONE].encryption_key, ONE)
    assert federation.reader.recipients(number) == tuple(expected)

    steward.abort(number, "for another")
    changed = sorted(
        [digest("new key")] + [identities[name].encryption_key for name in (ONE, *WITNESSES)]
    )
    assert federation.reader.recipients(federation.open_round()) == tuple(changed)


# Data sets and grants


def test_identifiers_are_computed_from_what_they_name(federation: Federation) -> None:
    """As docs/protocol.md, section 4.3, has it."""
    reader, terms = federation.reader, dataset_terms(ONE)
    types = ("uint256", "address", "address", "string")
    named = (reader.chain_id, reader.dataset_registry, federation.address(ONE), terms.name)
    found = reader.dataset_version(federation.versions[ONE])
    assert found.dataset == keccak(encode(types, named))
    root_and_previous = (terms.merkle_root, terms.previous)
    version = keccak(encode((*types, "bytes32", "bytes32"), (*named, *root_and_previous)))
    assert found.version == version


def test_versions_are_listed_with_their_state(federation: Federation) -> None:
    reader, ledger = federation.reader, federation.ledgers[ONE]
    first = federation.versions[ONE]
    terms = dataset_terms(
        ONE,
        merkle_root=digest("corrected"),
        previous=first,
        purposes=frozenset({0, 6, 42, 47}),
        modality="MODALITY_OF_16CS",
    )
    second = ledger.register_version(terms)
    found = reader.dataset_versions(ledger.account_address)
    assert [(item.version, item.state) for item in found] == [
        (first, DatasetState.SUPERSEDED),
        (second, DatasetState.ACTIVE),
    ]
    assert found[1] == reader.dataset_version(second)
    for field in ("merkle_root", "images", "modality", "purposes", "profile", "attestation"):
        assert getattr(found[1], field) == getattr(terms, field)
    assert found[0].modality == "DX"
    assert len(reader.dataset_versions()) == len(HOSPITALS) + 1
    with pytest.raises(InvalidInputError, match="no data-set version"):
        reader.dataset_version(digest("none"))


@pytest.mark.parametrize(
    "changes",
    [
        {"modality": "X" * 17},
        {"modality": "Röntgen"},
        {"purposes": frozenset({48})},
        {"images": -1},
    ],
    ids=str,
)
def test_terms_that_cannot_be_written_are_refused(
    federation: Federation, changes: dict[str, Any]
) -> None:
    with pytest.raises(InvalidInputError):
        federation.ledgers[ONE].register_version(dataset_terms(ONE, **changes))


def test_a_grant_lives_until_it_is_revoked(federation: Federation) -> None:
    hospital, researcher = federation.ledgers[ONE], federation.address("researcher")
    leaves = image_leaves([digest("image 1"), digest("image 2"), digest("image 3")])
    terms = dataset_terms("small", images=3, merkle_root=merkle_root(leaves))
    version = hospital.register_version(terms)
    proofs = [merkle_proof(leaves, index) for index in range(3)]
    expiry = int(time.time()) + HOUR

    def grant(image: bytes | None, proof: tuple[bytes, ...]) -> bytes:
        return hospital.grant_access(
            researcher, version, image, proof, purpose=PURPOSE, expiry=expiry
        )

    whole = grant(None, ())
    single = next(grant(digest("image 1"), proof) for proof in proofs if _leads(leaves, proof))
    assert refusal(lambda: grant(digest("image 9"), proofs[0]))[0] == "ImageAccessNotInVersion"

    answer = federation.reader.grants_of(researcher)
    assert answer.block == federation.reader.head()
    assert [(item.grant, item.image, item.live) for item in answer.grants] == [
        (whole, None, True),
        (single, digest("image 1"), True),
    ]
    hospital.revoke(single)
    found = federation.reader.grants_of(researcher).grants[-1]
    assert (found.revoked, found.live) == (True, False)
    assert (found.version, found.hospital, found.researcher) == (
        version,
        hospital.account_address,
        researcher,
    )
    assert refusal(lambda: hospital.revoke(single)) == (
        "ImageAccessAlreadyRevoked",
        {"grantId": "0x" + single.hex()},
    )
    assert refusal(lambda: grant(None, ())) == (
        "ImageAccessAlreadyGranted",
        {"grantId": "0x" + whole.hex()},
    )
    assert refusal(lambda: federation.ledgers[TWO].revoke(whole))[0] == "ImageAccessNotDelegate"
    with pytest.raises(InvalidInputError, match="no grant 0x"):
        hospital.revoke(digest("no grant"))


def test_a_grant_that_could_never_be_used_is_not_sent(federation: Federation) -> None:
    def grant(version: bytes, purpose: int) -> bytes:
        return federation.ledgers[ONE].grant_access(
            federation.address("researcher"),
            version,
            None,
            (),
            purpose=purpose,
            expiry=federation.reader.head().timestamp + HOUR,
        )

    foreign, own = federation.versions[TWO], federation.versions[ONE]
    assert refusal(lambda: grant(foreign, PURPOSE))[0] == "DatasetRegistryNotOwner"
    assert refusal(lambda: grant(own, 7))[0] == "DatasetRegistryPurposeNotPermitted"
    assert federation.reader.grants_of(federation.address("researcher")).grants == ()


def test_a_data_steward_grants_in_a_hospitals_name(federation: Federation) -> None:
    owner, data_steward = federation.ledgers[ONE], federation.ledgers[TWO]
    until = federation.reader.head().timestamp + HOUR
    owner.delegate(data_steward.account_address, until)
    reader = federation.reader
    delegated = reader.delegated_until(owner.account_address, data_steward.account_address)
    assert delegated == until
    granted = data_steward.grant_access(
        federation.address("researcher"),
        federation.versions[ONE],
        None,
        (),
        purpose=PURPOSE,
        expiry=until,
        hospital=owner.account_address,
    )
    found = reader.grant(granted)
    assert (found.hospital, found.live) == (owner.account_address, True)
    owner.delegate(data_steward.account_address, 0)
    assert refusal(lambda: data_steward.revoke(granted))[0] == "ImageAccessNotDelegate"


def test_a_hospital_anchors_its_looks_one_batch_behind_the_other(federation: Federation) -> None:
    hospital, reader = federation.ledgers[ONE], federation.reader
    address = hospital.account_address
    hospital.anchor_looks(digest("looks 0 to 4"), 0, 5)
    assert refusal(lambda: hospital.anchor_looks(digest("again"), 0, 5)) == (
        "AccessLogsOutOfOrder",
        {"expected": 5, "found": 0},
    )
    hospital.anchor_looks(digest("look 5"), 5, 1)
    federation.ledgers[TWO].anchor_looks(digest("another's"), 0, 2)
    assert reader.anchored(address) == (2, 6)
    batches = reader.anchored_batches(address)
    assert [(one.batch, one.root, one.first, one.entries) for one in batches] == [
        (1, digest("looks 0 to 4"), 0, 5),
        (2, digest("look 5"), 5, 1),
    ]
    assert len(reader.anchored_batches()) == 3


def _leads(leaves: tuple[bytes, ...], proof: tuple[bytes, ...]) -> bool:
    position = leaves.index(image_leaves([digest("image 1")])[0])
    return proof == merkle_proof(leaves, position)


def test_a_grant_ends_by_the_clock_on_a_chain_without_new_blocks(
    federation: Federation, monkeypatch: pytest.MonkeyPatch
) -> None:
    expiry = federation.reader.head().timestamp + HOUR
    federation.ledgers[ONE].grant_access(
        federation.address("researcher"),
        federation.versions[ONE],
        None,
        (),
        purpose=PURPOSE,
        expiry=expiry,
    )

    def is_live() -> bool:
        (found,) = federation.reader.grants_of(federation.address("researcher")).grants
        return found.live

    assert is_live()
    monkeypatch.setattr("chain.reader.time.time", lambda: expiry + 1.0)
    assert not is_live()


def test_grants_need_the_address_of_their_contract(federation: Federation) -> None:
    reader = LedgerReader(federation.rpc_url, federation.deployment.ledger)
    with pytest.raises(InvalidInputError, match="ImageAccess"):
        reader.grants_of(federation.address("researcher"))


# Everything, in order


def test_events_come_in_order_with_their_time_however_they_are_cut(
    federation: Federation, monkeypatch: pytest.MonkeyPatch
) -> None:
    number = federation.open_round()
    federation.record_all(number)
    federation.pass_time(100)
    federation.propose(number)
    head = federation.reader.head()
    events = list(federation.reader.events(0, head.number))
    positions = [(event.position.block, event.position.log_index) for event in events]
    assert positions == sorted(set(positions))
    assert [event.name for event in events[-4:]] == ["ModelProposed", *["VerdictRecorded"] * 3]
    assert events[-1].timestamp == head.timestamp
    assert events[-1].timestamp - events[-5].timestamp >= 100
    opened = next(event for event in events if event.name == "RoundOpened")
    assert opened.contract == "RoundLedger"
    assert opened.args["terms"]["witnesses"] == federation.terms().witnesses
    assert {event.contract for event in events} == {
        "ParticipantRegistry",
        "DatasetRegistry",
        "RoundLedger",
    }

    monkeypatch.setattr(federation.reader._rpc, "_blocks_per_query", 3)
    assert list(federation.reader.events(0, head.number)) == events
    tail = list(federation.reader.events(opened.position.block, head.number))
    assert tail == events[events.index(opened) :]


def test_a_node_that_refuses_long_ranges_is_asked_for_shorter_ones(
    federation: Federation, monkeypatch: pytest.MonkeyPatch
) -> None:
    head = federation.reader.head().number
    events = list(federation.reader.events(0, head))
    rpc, asked = federation.reader._rpc, []
    ask = rpc._logs

    def impatient(addresses: Any, topics: Any, first: int, last: int) -> list[RawLog]:
        asked.append(last - first + 1)
        if last - first + 1 > 4:
            raise RefusedRequestError("block range too large")
        return ask(addresses, topics, first, last)

    monkeypatch.setattr(rpc, "_logs", impatient)
    assert list(federation.reader.events(0, head)) == events
    assert max(asked[-3:]) <= 4
    monkeypatch.setattr(rpc, "_logs", lambda *_: impatient(None, None, 0, 9))
    with pytest.raises(RefusedRequestError):
        list(federation.reader.events(0, head))


# The chain itself


def test_a_chain_that_does_not_answer_is_named_without_its_credentials() -> None:
    port = free_port()
    reader = LedgerReader(f"http://user:secret@localhost:{port}/v3/secret?key=secret", ZERO)
    with pytest.raises(LedgerError, match=f"no chain answers at http://localhost:{port}") as caught:
        reader.head()
    assert "secret" not in str(caught.value)
    assert caught.value.__cause__ is None


def test_a_ledger_that_is_not_there_is_told_so(federation: Federation, tmp_path: Path) -> None:
    reader = LedgerReader(federation.rpc_url, federation.address(ONE))
    with pytest.raises(LedgerError, match="Is this address a FedWitness contract"):
        reader.round_count()
    ledger = Ledger(
        federation.rpc_url, ZERO, federation.identities[ONE].account, tmp_path / "outbox"
    )
    with pytest.raises(LedgerError, match="no contract at"):
        ledger.abort(1, "there is none")


@pytest.mark.parametrize("address", ["", "0x12", "0x" + "zz" * 20, 7, None], ids=str)
def test_what_is_no_address_is_refused(federation: Federation, address: Any) -> None:
    with pytest.raises(InvalidInputError, match="expected an address"):
        LedgerReader(federation.rpc_url, address)
    with pytest.raises(InvalidInputError, match="expected an address"):
        federation.reader.participant(address)


def test_another_contract_at_the_address_is_told(federation: Federation) -> None:
    stray = LedgerReader(federation.rpc_url, federation.deployment.datasets)
    with pytest.raises(LedgerError, match="as a RoundLedger does: is the address right"):
        stray.round_count()
