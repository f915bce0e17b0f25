"""Standings: strikes, quarantine and return, from verdicts alone and from a real ledger."""

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from aggregator.pipeline import build_step, parse_pipeline
from aggregator.quarantine import FAULT, FLAG, Quarantine, strikes_of
from aggregator.reputation import (
    FinalRound,
    ReasonCount,
    Standing,
    read_reputation,
    standings,
    verdict_history,
)
from chain.errors import ContractRevertedError, InvalidInputError, LedgerError
from chain.types import Outcome, Phase, Reason, Role, Verdict
from tests.federation import HOSPITALS, TASK, WITNESSES, Federation, digest

HOSPITAL = "0x70997970C51812dc3A010C7d01b50e0d17dc79C8"
OTHER = "0x3C44CdDdB6a900fa2b585dd299e03d12FA4293BC"
POLICY = Quarantine(strikes=2, window=4, rounds=3)

KEPT, CLIPPED, FAULTY, FLAGGED, UNSELECTED, MISSING, QUARANTINED = "kcfsumq"


def verdict(kind: str, hospital: str = HOSPITAL) -> Verdict:
    outcome, code = {
        KEPT: (Outcome.ACCEPTED, 0),
        CLIPPED: (Outcome.CLIPPED, 32),
        FAULTY: (Outcome.REJECTED, 13),
        FLAGGED: (Outcome.REJECTED, 18),
        UNSELECTED: (Outcome.REJECTED, 34),
        MISSING: (Outcome.REJECTED, 1),
        QUARANTINED: (Outcome.REJECTED, 17),
    }[kind]
    return judged(outcome, code, hospital)


def judged(outcome: Outcome, code: int, hospital: str = HOSPITAL) -> Verdict:
    # A code's name belongs to whoever wrote the screen or rule; standings go by the number.
    reason = Reason(code) if code in Reason.__members__.values() else code
    return Verdict(hospital, outcome, reason, 0, 0, bytes(32))  # type: ignore[arg-type]


def rounds(kinds: str) -> list[FinalRound]:
    """Final rounds with the hospital's verdict in each; a blank is a round without its record."""
    return [
        FinalRound(number, (verdict(KEPT, OTHER), *(verdict(one) for one in kind.strip())))
        for number, kind in enumerate(kinds, 1)
    ]


def standing(kinds: str, policy: Quarantine | None = POLICY) -> Standing:
    return standings(rounds(kinds), policy)[HOSPITAL]


def quarantined_rounds(kinds: str, policy: Quarantine = POLICY) -> list[int]:
    """Places of the rounds, from 1, in which the hospital's record was to be rejected."""
    shut_out = []
    for place in range(1, len(kinds) + 2):
        found = standings(rounds(kinds[: place - 1]), policy).get(HOSPITAL)
        if found is not None and found.quarantined:
            shut_out.append(place)
    return shut_out


def test_a_repeat_offender_is_quarantined_and_let_back_with_a_clean_slate() -> None:
    assert standing("kf") == Standing(
        HOSPITAL, 1, 0, 1, (ReasonCount(Outcome.REJECTED, Reason.NOT_A_NUMBER, 1),), FAULT, False, 0
    )
    assert quarantined_rounds("ff" + "qqq" + "kk") == [3, 4, 5]
    shut_out = standing("ffqq")
    assert (shut_out.quarantined, shut_out.rounds_left, shut_out.strikes) == (True, 1, 2 * FAULT)
    back = standing("ffqqq")
    assert (back.quarantined, back.rounds_left, back.strikes) == (False, 0, 0)
    # One strike more is again the first of two.
    assert not standing("ffqqqf").quarantined
    assert standing("ffqqqff").quarantined


def test_a_hospital_that_nobody_has_judged_has_no_standing() -> None:
    assert standings([], POLICY) == {}
    assert HOSPITAL not in standings(rounds("  "), POLICY)


def test_without_a_policy_updates_are_only_counted() -> None:
    assert standing("fffkc", None) == Standing(
        HOSPITAL,
        accepted=1,
        clipped=1,
        rejected=3,
        reasons=(
            ReasonCount(Outcome.CLIPPED, Reason(32), 1),
            ReasonCount(Outcome.REJECTED, Reason.NOT_A_NUMBER, 3),
        ),
        strikes=0,
        quarantined=False,
        rounds_left=0,
    )


def test_one_hospitals_faults_are_not_anothers() -> None:
    assert not standings(rounds("ffff"), POLICY)[OTHER].quarantined


@pytest.mark.parametrize("code", [*range(3, 15), 16])
def test_a_fault_that_the_bytes_prove_is_a_strike(code: int) -> None:
    assert strikes_of(judged(Outcome.REJECTED, code)) == FAULT


def test_a_norm_out_of_range_is_half_a_strike() -> None:
    assert strikes_of(judged(Outcome.REJECTED, 18)) == FLAG
    assert strikes_of(judged(Outcome.CLIPPED, 18)) == 0


@pytest.mark.parametrize("code", range(19, 64))
def test_what_is_left_out_for_being_unlike_the_others_is_no_strike(code: int) -> None:
    assert strikes_of(judged(Outcome.REJECTED, code)) == 0


@pytest.mark.parametrize(
    "reason",
    [
        Reason.BLOB_UNAVAILABLE,
        Reason.BLOB_DIGEST_MISMATCH,
        Reason.COPIED_FROM_PEER,
        Reason.QUARANTINED,
        Reason.UNKNOWN,
    ],
)
def test_what_another_may_be_to_blame_for_counts_neither_way(reason: Reason) -> None:
    assert strikes_of(judged(Outcome.REJECTED, reason)) is None


def test_clean_records_alone_push_strikes_out_of_the_window() -> None:
    assert standing("fkkk").strikes == FAULT
    assert standing("fkkkk").strikes == 0
    assert standing("fuuuu").strikes == 0
    assert standing("fkkf").quarantined
    assert not standing("fkkkf").quarantined


def test_half_strikes_add_up_with_whole_ones() -> None:
    assert quarantined_rounds("fss") == [4]
    assert quarantined_rounds("ssss") == [5]
    assert quarantined_rounds("ssks") == []


@pytest.mark.parametrize("pause", [" ", "m"])
@pytest.mark.parametrize("length", [1, 4, 50])
def test_an_offender_sheds_no_strike_by_skipping_rounds_or_sending_nothing(
    pause: str, length: int
) -> None:
    assert standing("f" + pause * length).strikes == FAULT
    assert standing("f" + pause * length + "f").quarantined


def test_a_quarantine_ends_whether_or_not_anything_is_sent() -> None:
    assert quarantined_rounds("ff" + "   " + "k") == [3, 4, 5]
    assert quarantined_rounds("ff" + "qmq" + "k") == [3, 4, 5]


def test_faults_within_a_quarantine_make_it_longer() -> None:
    assert quarantined_rounds("ffqffqqqkk") == [3, 4, 5, 6, 7, 8]


def test_quarantine_itself_is_no_strike() -> None:
    assert standing("ff" + "q" * 3 + "k").strikes == 0


Kinds = st.text(alphabet="kcfsumq ", max_size=40)
Policies = st.builds(
    lambda strikes, more, length: Quarantine(strikes, strikes + more, length),
    st.integers(1, 4),
    st.integers(0, 6),
    st.integers(1, 6),
)


@given(Kinds, Policies)
def test_records_that_say_nothing_change_no_strike(kinds: str, policy: Quarantine) -> None:
    told = [one for one in kinds if one not in "mq "]
    if not told:
        return
    with_pauses, without = standing(kinds, policy), standing("".join(told), policy)
    # A quarantine counts rounds, so strikes can be compared only outside of one.
    if not with_pauses.quarantined and not without.quarantined:
        assert with_pauses.strikes == without.strikes


@given(Kinds, Policies)
def test_nobody_is_quarantined_without_enough_strikes(kinds: str, policy: Quarantine) -> None:
    worst = sum(strikes_of(verdict(one)) or 0 for one in kinds if one != " ")
    shut_out = quarantined_rounds(kinds, policy)
    if worst < policy.threshold:
        assert shut_out == []
    assert len(shut_out) <= policy.rounds * (worst // policy.threshold)


@given(Kinds, Policies)
def test_whoever_is_quarantined_comes_back(kinds: str, policy: Quarantine) -> None:
    if "f" not in kinds:
        return
    later = standing(kinds + " " * policy.rounds, policy)
    assert not later.quarantined
    assert later.strikes < policy.threshold


# Policies


def test_a_policy_is_read_from_a_pipeline() -> None:
    step = '{"name":"quarantine","params":{"rounds":3,"strikes":2,"window":4}}'
    rule = '{"name":"fed_avg","params":{}}'
    assert parse_pipeline(f"[{step},{rule}]").quarantine == POLICY
    assert parse_pipeline(f"[{rule}]").quarantine is None
    with pytest.raises(InvalidInputError, match="at most one quarantine"):
        parse_pipeline(f"[{step},{step},{rule}]")
    assert build_step("quarantine", POLICY.params) == POLICY


@pytest.mark.parametrize(
    "params",
    [
        {},
        {"strikes": 2, "window": 4},
        {"strikes": 2, "window": 4, "rounds": 3, "mercy": 1},
        {"strikes": 0, "window": 4, "rounds": 3},
        {"strikes": 5, "window": 4, "rounds": 3},
        {"strikes": 2, "window": 4, "rounds": 0},
        {"strikes": 2, "window": 1001, "rounds": 3},
        {"strikes": 2, "window": 4, "rounds": 1001},
        {"strikes": 2.0, "window": 4, "rounds": 3},
        {"strikes": True, "window": 4, "rounds": 3},
        {"strikes": "2", "window": 4, "rounds": 3},
        {"strikes": 2, "window": "4", "rounds": 3},
    ],
)
def test_a_malformed_policy_is_refused(params: dict[str, object]) -> None:
    with pytest.raises(InvalidInputError, match=r"quarantine (needs|has)"):
        build_step("quarantine", params)


# On a real ledger


def pipeline_of(policy: Quarantine) -> str:
    return (
        f'[{{"name":"quarantine","params":{{"rounds":{policy.rounds},'
        f'"strikes":{policy.strikes},"window":{policy.window}}}}},'
        '{"name":"fed_avg","params":{}}]'
    )


OFFENDER = HOSPITALS[0]
TWO_OF_THREE = Quarantine(strikes=2, window=3, rounds=2)


def play(federation: Federation, offends: str, end: Phase = Phase.FINAL) -> int:
    """Take a round to its end, in which the first hospital's update is as `offends` says.

    It is judged as the round's own pipeline demands, by what the ledger holds before it.
    """
    last = federation.reader.last_final(TASK)
    base = {} if last is None else {"base_model": last[0], "base_blob": last[1]}
    number = federation.open_round(rule=pipeline_of(TWO_OF_THREE), **base)
    federation.record_all(number)
    if end is Phase.FINAL:
        address = federation.address(OFFENDER)
        found = standing_before(federation, number)
        kind = QUARANTINED if found is not None and found.quarantined else offends
        verdicts = [
            verdict(kind, address) if one.hospital == address else one
            for one in federation.verdicts()
        ]
        model, blob = digest(f"model {number}"), digest(f"blob {number}")
        federation.ledgers["aggregator"].propose(number, model, blob, verdicts)
        for witness in WITNESSES:
            federation.attest(number, witness)
    else:
        federation.ledgers["steward"].abort(number, "a test")
    return number


def standing_before(federation: Federation, number: int) -> Standing | None:
    policy = parse_pipeline(federation.reader.round(number).terms.rule).quarantine
    history = verdict_history(federation.reader, TASK, number)
    return standings(history, policy).get(federation.address(OFFENDER))


def test_whoever_reads_the_ledger_later_comes_to_the_same_quarantine(
    federation: Federation,
) -> None:
    numbers = [play(federation, FAULTY), play(federation, KEPT, end=Phase.ABORTED)]
    numbers += [play(federation, kind) for kind in (FAULTY, KEPT, KEPT, KEPT)]
    # The witness comes afterwards, with a reader of its own.
    history = verdict_history(federation.reader, TASK)
    address = federation.address(OFFENDER)
    assert [one.number for one in history] == [1, 3, 4, 5, 6]
    found = [next(v.reason for v in one.verdicts if v.hospital == address) for one in history]
    shut_out = Reason.QUARANTINED
    assert found == [Reason.NOT_A_NUMBER, Reason.NOT_A_NUMBER, shut_out, shut_out, Reason.NONE]
    before = [standing_before(federation, number) for number in numbers]
    assert [one is not None and one.quarantined for one in before] == [False] * 3 + [True] * 2 + [
        False
    ]
    told = read_reputation(federation.reader, TASK)
    assert (told.rounds, told.policy) == (5, TWO_OF_THREE)
    by_address = {one.hospital: one for one in told.hospitals}
    assert (by_address[address].accepted, by_address[address].rejected) == (1, 4)
    assert by_address[federation.address(HOSPITALS[1])].accepted == 5


def test_nobody_changes_the_policy_of_a_round_that_is_open(federation: Federation) -> None:
    number = federation.open_round(rule=pipeline_of(TWO_OF_THREE))
    steward = federation.ledgers["steward"]
    lax = federation.terms(rule=pipeline_of(replace(TWO_OF_THREE, strikes=3)))
    with pytest.raises(ContractRevertedError):
        steward.open_round(lax)
    identity = federation.identities["steward"]
    steward.enroll(identity.address, Role.AGGREGATOR, identity.encryption_key, "both")
    with pytest.raises(ContractRevertedError, match="RoundActive"):
        steward.open_round(lax)
    assert parse_pipeline(federation.reader.round(number).terms.rule).quarantine == TWO_OF_THREE


def test_a_log_with_gaps_is_not_taken_for_a_clean_one(
    federation: Federation, monkeypatch: pytest.MonkeyPatch
) -> None:
    play(federation, FAULTY)
    whole = federation.reader.verdicts
    address = federation.address(OFFENDER)

    def embellished(number: int, proposal: int) -> tuple[Verdict, ...]:
        kept = verdict(KEPT, address)
        return tuple(kept if v.hospital == address else v for v in whole(number, proposal))

    monkeypatch.setattr(federation.reader, "verdicts", embellished)
    with pytest.raises(LedgerError, match="keep logs"):
        read_reputation(federation.reader, TASK)


def test_a_task_that_the_ledger_does_not_have_has_no_reputation(federation: Federation) -> None:
    with pytest.raises(InvalidInputError, match="no round of the task"):
        read_reputation(federation.reader, "another")


def test_a_pipeline_that_nobody_can_read_hides_no_count(federation: Federation) -> None:
    play(federation, FAULTY)
    last = federation.reader.last_final(TASK)
    assert last is not None
    federation.open_round(rule="rubbish", base_model=last[0], base_blob=last[1])
    told = read_reputation(federation.reader, TASK)
    assert told.policy is None
    assert sum(one.rejected for one in told.hospitals) == 1
