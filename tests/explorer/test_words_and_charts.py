"""What codes mean in words, where bars stand, and which accuracies are taken."""

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from aggregator.oddities import Oddity
from aggregator.pipeline import STEPS
from aggregator.recipes import default
from api.explorer import charts, words
from api.explorer.accuracy import MAX_BYTES, Claim, read_claims
from api.explorer.rendering import clock, figure, iso, short, utc
from chain.errors import InvalidInputError
from chain.types import DatasetState, Outcome, Phase, Purpose, Reason


def test_each_code_of_the_protocol_has_its_words() -> None:
    assert set(words.REASONS) == {reason.name for reason in Reason}
    assert len(set(words.REASONS.values())) == len(words.REASONS)
    for oddity in Oddity:
        assert words.oddity(oddity.value) != oddity.value
    for purpose in Purpose:
        assert words.purpose(purpose).endswith(f"(DUO:{purpose:07d})")
    for member in (*map(words.phase, Phase), *map(words.dataset_state, DatasetState)):
        assert all(member)
    assert len({words.outcome(one)[2] for one in Outcome}) == len(Outcome)


def test_a_code_that_nobody_knows_is_named() -> None:
    assert "61" in words.sentence("CODE_61")
    assert words.purpose(17) == "DUO:0000017"


def test_a_pipeline_is_told_step_by_step() -> None:
    steps = words.pipeline(default(2).to_json())
    assert steps is not None
    assert [step.name for step in steps] == [
        "quarantine",
        "norm_range",
        "sybils",
        "norm_clipping",
        "trimmed_mean",
    ]
    assert all(step.description for step in steps)
    assert ("f", "2", steps[-1].parameters[0][2]) == steps[-1].parameters[0]
    (unknown,) = words.pipeline('[{"name":"magic","params":{"a":[1]}}]') or ()
    assert (unknown.kind, unknown.parameters) == ("Unknown step", (("a", "[1]", ""),))


def test_each_step_that_a_pipeline_can_have_is_explained() -> None:
    for name in STEPS:
        (step,) = words.pipeline(f'[{{"name":"{name}","params":{{}}}}]') or ()
        assert step.description, name


@pytest.mark.parametrize(
    "rule", ["", "{}", "[1]", '[{"name":1,"params":{}}]', "[" * 3000, "\ud800"]
)
def test_what_is_no_pipeline_is_told_as_none(rule: str) -> None:
    assert words.pipeline(rule) is None


def test_hidden_characters_are_shown() -> None:
    assert words.plain("a\u202eb\u200bc\u0007\u00e9") == "a\\u202eb\\u200bc\\u0007\u00e9"


@given(st.lists(st.tuples(*3 * [st.integers(0, 5_000)]), max_size=80))
def test_bars_stand_on_the_axis_and_within_the_chart(counts: list[tuple[int, int, int]]) -> None:
    kinds = ("accepted", "clipped", "rejected")
    rounds = [(place, list(zip(kinds, one, strict=True))) for place, one in enumerate(counts)]
    chart = charts.stacked_bars(rounds)
    unit = charts.HEIGHT - charts.TOP - charts.BOTTOM
    assert len(chart.ticks) <= 5 + 1
    top = int(chart.ticks[-1].label)
    for bar, one in zip(chart.bars, counts, strict=True):
        assert bar.x + chart.step <= charts.WIDTH
        bottom: float = charts.HEIGHT - charts.BOTTOM
        for segment, count in zip(bar.segments, filter(None, one), strict=True):
            assert segment.count == count
            assert segment.y + segment.height == pytest.approx(bottom, abs=0.03)
            assert segment.height == pytest.approx(unit * count / top, abs=0.02)
            bottom = segment.y
        assert bottom >= charts.TOP - 0.02
        assert sum(one) <= top


@pytest.mark.parametrize(
    ("millionths", "told"),
    [(0, "0"), (41_250_000, "41.25"), (1, "0.000001"), (10**7, "10"), (2**64 - 1, "beyond bounds")],
)
def test_scores_are_told_in_decimals(millionths: int, told: str) -> None:
    assert figure(millionths) == told


def test_times_are_told_in_utc_and_none_is_too_great() -> None:
    assert iso(1_788_220_800) == "2026-09-01T00:00:00Z"
    assert utc(1_788_220_800) == "2026-09-01 00:00:00"
    assert utc(2**64 - 1) == f"second {2**64 - 1}"
    assert clock(1_788_220_800 + 3_660) == "01:01"
    assert clock(2**64 - 1) == f"second {2**64 - 1}"


def test_digests_are_cut_and_short_words_are_not() -> None:
    assert short("0x" + "ab" * 32) == "0xababab\N{HORIZONTAL ELLIPSIS}abab"
    assert short("0x12") == "0x12"


def test_the_last_claim_on_a_round_counts(tmp_path: Path) -> None:
    path = tmp_path / "claims.jsonl"
    lines = ('{"round": 2, "accuracy": 0.5, "source": "a"}', "", *claims(2, 1, 3))
    path.write_text("\n".join(lines))
    assert read_claims(path) == tuple(Claim(number, 0.75, "b") for number in (1, 2, 3))


@pytest.mark.parametrize(
    "line",
    [
        "[]",
        '{"round": 1}',
        '{"round": true, "accuracy": 0.5, "source": "a"}',
        '{"round": 1, "accuracy": 1.5, "source": "a"}',
        '{"round": 1, "accuracy": "1", "source": "a"}',
        '{"round": 1, "accuracy": NaN, "source": "a"}',
        '{"round": 1, "accuracy": 1, "source": 7}',
        "no JSON",
    ],
)
def test_a_claim_of_another_form_is_refused(tmp_path: Path, line: str) -> None:
    path = tmp_path / "claims.jsonl"
    path.write_text(line)
    with pytest.raises(InvalidInputError):
        read_claims(path)


def test_a_file_of_claims_is_bounded_and_must_be_there(tmp_path: Path) -> None:
    path = tmp_path / "claims.jsonl"
    with pytest.raises(InvalidInputError, match="cannot be read"):
        read_claims(path)
    path.write_text("\n" * (MAX_BYTES + 1))
    with pytest.raises(InvalidInputError, match="at most"):
        read_claims(path)


def claims(*numbers: int) -> list[str]:
    return [f'{{"round": {number}, "accuracy": 0.75, "source": "b"}}' for number in numbers]
