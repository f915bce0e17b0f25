"""Pipelines against the reference, over orders and threads, under hostile values, and refused."""

import json
import random
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from aggregator import cohort, screens
from aggregator.offline import aggregate_files
from aggregator.pipeline import STEPS, Pipeline, build_step, parse_pipeline, read_pipeline
from aggregator.rounds import RoundPlan, _require_safe
from chain.digests import content_digest
from chain.errors import InvalidInputError, UnfitRoundError
from chain.tensors import save_tensors, tensor_bytes
from chain.types import Outcome, Reason
from tests.aggregator import reference
from tests.aggregator.pipelines import (
    BUCKETING,
    CLIPPING,
    DIRECTIONS,
    DNC,
    MILLION,
    NNM,
    NOISE,
    NORMS,
    OPTIMIZED,
    PIPELINES,
    ROOT,
    SIGNS,
    VECTORS,
    Judged,
    Sent,
    Step,
    Steps,
    Tensors,
    aggregate,
    data_of,
    golden_cases,
    nine_updates,
    opened,
    pipeline_of,
    run,
    values_of,
    verdict_digest,
)

GREATEST = 2**64 - 1
each_pipeline = pytest.mark.parametrize("steps", PIPELINES.values(), ids=PIPELINES)
EVERY = PIPELINES | OPTIMIZED
every_pipeline = pytest.mark.parametrize("steps", EVERY.values(), ids=EVERY)


def expected(
    steps: Steps, base: Tensors, sent: Sequence[Sent], stretch: int
) -> tuple[bytes, list[Judged]]:
    updates = [
        reference.Update(
            one.name,
            one.weight,
            content_digest(tensor_bytes(one.tensors)),
            reference.flat(one.tensors)[0],
        )
        for one in sent
    ]
    return reference.aggregate(steps, base, updates, stretch)


def found(
    steps: Steps, base: Tensors, sent: Sequence[Sent], folder: Path, threads: int = 1
) -> tuple[bytes, list[Judged]]:
    model, judged = run(steps, base, sent, folder, threads)
    return data_of(model), judged


# Against the reference, bit for bit.


@each_pipeline
def test_a_pipeline_equals_the_reference_to_the_bit(
    steps: Steps, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """On three dtypes, with stretches that no block divides and a last one of a few values."""
    monkeypatch.setattr(cohort, "STRETCH", 600)
    base, sent = nine_updates(columns=403)
    assert found(steps, base, sent, tmp_path) == expected(steps, base, sent, stretch=600)


@pytest.mark.parametrize(
    "steps",
    [
        (NORMS, ("mean", {})),
        (NORMS, SIGNS, CLIPPING, ("mean", {})),
        (CLIPPING, ("fed_avg", {})),
        (("fed_avg", {}), NOISE),
        (DNC, ("mean", {})),
    ],
)
def test_lengths_take_no_products_of_all_pairs_and_are_the_same_to_the_bit(
    steps: Steps, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    base, sent = nine_updates()
    with monkeypatch.context() as patched:
        patched.setattr(cohort.Cohort, "products", lambda _: pytest.fail("products"))
        lengths_alone = run(steps, base, sent, tmp_path)
    monkeypatch.setattr(cohort.Cohort, "squares", lambda one: one.products().diagonal())
    assert run(steps, base, sent, tmp_path) == lengths_alone


@pytest.mark.parametrize("length", [255, 256, 257, 599, 600, 601, 856, 1200])
def test_sums_equal_the_reference_at_the_ends_of_blocks_and_stretches(
    length: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cohort, "STRETCH", 600)
    generator = np.random.default_rng(length)
    base: Tensors = {"w": generator.standard_normal(length).astype("<f4"), "v": np.ones(3)}
    sent = [
        Sent(str(i), 1, {"w": base["w"] * 2**i, "v": generator.standard_normal(3)})
        for i in range(5)
    ]
    every: list[Steps] = [(("geometric_median", {"iterations": 5}),), (CLIPPING, ("fed_avg", {}))]
    for steps in every:
        assert found(steps, base, sent, tmp_path) == expected(steps, base, sent, stretch=600)


def test_sums_equal_the_reference_over_stretches_of_their_true_length(tmp_path: Path) -> None:
    generator, stretch = np.random.default_rng(5), 262_144
    base: Tensors = {"w": generator.standard_normal(2 * stretch + 300).astype("<f4")}
    updates = [generator.standard_normal(2 * stretch + 300).astype("<f4") for _ in range(2)]
    values, runs = reference.flat(base)
    slow = reference.Cohort(
        values,
        runs,
        tuple(reference.Update("", 1, b"", reference.flat({"w": one})[0]) for one in updates),
        stretch,
    )
    sent = [Sent("", 1, {"w": one}) for one in updates]
    with opened(base, sent, tmp_path) as (start, members):
        assert cohort.Cohort(start, members, threads=2).products().tolist() == slow.products()


@st.composite
def small_rounds(draw: st.DrawFn) -> tuple[Tensors, list[Sent]]:
    """Rounds of a few values, with ties, zeros of both signs, copies and extreme values."""
    n = draw(st.integers(1, 12))
    shapes = draw(st.sampled_from([{"f8": 3, "f2": 2}, {"f4": 5}, {"f8": 1, "f4": 2, "f2": 9}]))
    usual = st.sampled_from([0.0, -0.0, 1.0, -1.0, 0.5, 0.1, 3.0, 2.0**-14])
    seldom = {
        "f8": st.floats(-(2.0**900), 2.0**900),
        "f4": st.floats(-(2.0**120), 2.0**120, width=32),
        "f2": st.floats(-1000.0, 1000.0, width=16),
    }

    def tensors() -> Tensors:
        return {
            dtype: np.array(
                draw(
                    st.lists(
                        st.one_of(usual, usual, usual, seldom[dtype]),
                        min_size=size,
                        max_size=size,
                    )
                ),
                f"<{dtype}",
            )
            for dtype, size in shapes.items()
        }

    base = tensors()
    sent = [
        Sent(f"hospital-{i}", draw(st.integers(1, 2**32 - 1)), tensors()) for i in range(1, n + 1)
    ]
    return base, sent


@each_pipeline
@given(round_=small_rounds())
@settings(max_examples=25, deadline=None)
def test_hostile_values_make_what_the_reference_makes_or_an_unfit_round(
    steps: Steps,
    round_: tuple[Tensors, list[Sent]],
    tmp_path_factory: pytest.TempPathFactory,
) -> None:
    base, sent = round_
    folder = tmp_path_factory.mktemp("round")
    try:
        model, judged = found(steps, base, sent, folder)
    except UnfitRoundError:
        with pytest.raises((reference.Unfit, OverflowError)):
            finite(expected(steps, base, sent, 1 << 18)[0], base)
    else:
        assert (model, judged) == expected(steps, base, sent, 1 << 18)


def finite(data: bytes, base: Tensors) -> None:
    begin = 0
    for dtype in ("<f8", "<f4", "<f2"):
        count = sum(array.size for array in base.values() if array.dtype == np.dtype(dtype))
        values = np.frombuffer(data, dtype, count, begin)
        begin += values.nbytes
        if not np.isfinite(values).all():
            raise reference.Unfit


# Over threads, orders and time.


def test_models_and_judgements_are_those_of_the_golden_vectors(tmp_path: Path) -> None:
    assert golden_cases(tmp_path) == json.loads(VECTORS.read_text())


def test_every_step_that_there_is_has_a_golden_vector() -> None:
    texts = json.loads(VECTORS.read_text())
    named = {step.name for text in texts for step in parse_pipeline(text).steps}
    assert named == set(STEPS) - {"quarantine"}


@every_pipeline
def test_threads_change_no_bit(
    steps: Steps, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cohort, "STRETCH", 1_000)
    base, sent = nine_updates(columns=2_000)
    with opened(base, sent, tmp_path) as (start, members):
        models = [
            aggregate(steps, start, members, tmp_path / "model", threads) for threads in (1, 2, 7)
        ]
    assert models[0] == models[1] == models[2]


_T = TypeVar("_T")


def shuffles(some: Sequence[_T]) -> Iterator[list[_T]]:
    for seed in range(20):
        yield random.Random(seed).sample(some, len(some))  # noqa: S311 - no secret


@every_pipeline
def test_twenty_orders_of_arrival_change_no_bit(steps: Steps, tmp_path: Path) -> None:
    """Given as files, since there the product, and not the test, puts updates in order."""
    base, sent = nine_updates(columns=60)
    save_tensors(tmp_path / "base", base)
    for one in sent:
        save_tensors(tmp_path / one.name, one.tensors)
    seen = set()
    for turn, arrived in enumerate(shuffles(sent)):
        result = aggregate_files(
            pipeline_of(steps),
            [tmp_path / one.name for one in arrived],
            tmp_path / f"model-{turn}",
            threads=1,
            base=tmp_path / "base",
            examples=[one.weight for one in arrived],
        )
        seen.add((result.model, frozenset(result.verdicts)))
    assert len(seen) == 1


@pytest.mark.parametrize("name", ["median", "trimmed_mean", "krum"])
def test_what_is_sorted_or_taken_depends_on_no_order_at_all(name: str, tmp_path: Path) -> None:
    """Not even where nobody puts the updates into the order of their addresses."""
    with opened(*nine_updates(columns=60), tmp_path) as (start, members):
        out = tmp_path / "model"
        model, judged = aggregate(PIPELINES[name], start, members, out, threads=1)
        for order in shuffles(members):
            expected = model, [judged[members.index(member)] for member in order]
            assert aggregate(PIPELINES[name], start, order, out, threads=1) == expected


# An update whose change can show: that of a hospital which FoolsGold gives any weight.
SEEN = {"fools_gold": (8,)}


@pytest.mark.parametrize(
    ("name", "hospital"),
    [(name, hospital) for name in EVERY for hospital in SEEN.get(name, (1, 4, 7))],
)
def test_a_changed_bit_in_one_value_changes_the_model_or_the_judgements(
    name: str, hospital: int, tmp_path: Path
) -> None:
    """Also where Krum does not take the update: its score tells of it."""
    base, sent = nine_updates(columns=40)
    before = run(EVERY[name], base, sent, tmp_path)
    one = sent[hospital - 1]
    changed = one.tensors["a"].copy()
    place = np.argmax(np.abs(changed))
    changed.reshape(-1).view("<u4")[place : place + 1] ^= np.uint32(1 << 31)
    sent[hospital - 1] = replace(one, tensors=one.tensors | {"a": changed})
    assert run(EVERY[name], base, sent, tmp_path) != before


# Hostile values.


def attacked(n: int, hostile: Tensors, honest_scale: float = 0.1) -> tuple[Tensors, list[Sent]]:
    """Make n updates of 30 float64 values, of which the last one is hostile."""
    generator = np.random.default_rng(n)
    base: Tensors = {"w": generator.standard_normal(30)}
    sent = [
        Sent(
            f"hospital-{i}",
            10,
            {"w": base["w"] + honest_scale * (1 + generator.standard_normal(30))},
        )
        for i in range(1, n)
    ]
    return base, [*sent, Sent(f"hospital-{n}", 10, hostile)]


SIGNED = np.resize([1.0, -1.0, 1.0], 30)
# The others say nothing of lengths: means, what weighs by direction, and what starts at the mean.
BOUNDED = [
    name
    for name in PIPELINES
    if name
    not in {"fed_avg", "mean", "bucketing and fed_avg", "capped weights", "fools_gold", "no sybils"}
    and name != "geometric_median"
]


@pytest.mark.parametrize("length", [1e100, 1e151, 1.7e308])
@pytest.mark.parametrize("name", BOUNDED)
def test_one_hospitals_greatest_values_neither_end_a_round_nor_carry_its_model_away(
    name: str, length: float, tmp_path: Path
) -> None:
    base, sent = attacked(11, {"w": SIGNED * length})
    model, judged = run(PIPELINES[name], base, sent, tmp_path)
    assert np.abs(values_of(model, tmp_path)["w"] - base["w"]).max() < 2
    assert judged[-1][0] != Outcome.ACCEPTED or name in {"bucketing and median", "fl_trust"}


@pytest.mark.parametrize("name", ["geometric_median", "fools_gold", "no sybils"])
def test_an_update_that_is_too_long_to_be_measured_is_left_out(name: str, tmp_path: Path) -> None:
    base, sent = attacked(11, {"w": SIGNED * 1e151})
    model, judged = run(PIPELINES[name], base, sent, tmp_path)
    assert judged[-1] == (Outcome.REJECTED, Reason.NORM_OUT_OF_RANGE, GREATEST, GREATEST)
    assert [one[1] for one in judged].count(Reason.NORM_OUT_OF_RANGE) == 1
    assert np.abs(values_of(model, tmp_path)["w"] - base["w"]).max() < 2


def test_the_longest_update_that_can_be_measured_is(tmp_path: Path) -> None:
    base: Tensors = {"w": np.zeros(4)}
    for length, is_measured in ((2.0**500, True), (2.0**500 * 1.001, False)):
        sent = [Sent(f"hospital-{i}", 1, {"w": np.eye(4)[i] + 1}) for i in range(3)]
        sent.append(Sent("hospital-9", 1, {"w": np.eye(4)[3] * length}))
        steps: Steps = (("geometric_median", {"iterations": 1}),)
        reason = run(steps, base, sent, tmp_path)[1][3][1]
        assert (reason != Reason.NORM_OUT_OF_RANGE) == is_measured


SAME = [0.0, 1e-300, 1.0]


@pytest.mark.parametrize("value", SAME)
@pytest.mark.parametrize("name", [name for name in EVERY if name != "fools_gold"])
def test_equal_updates_make_their_own_model(name: str, value: float, tmp_path: Path) -> None:
    """Also where all of them are the base model: no division by a length of zero."""
    base: Tensors = {"w": np.linspace(-1, 1, 20)}
    sent = [Sent(f"hospital-{i}", i, {"w": base["w"] + value}) for i in range(1, 10)]
    if name == "fl_trust" and np.array_equal(sent[0].tensors["w"], base["w"]):
        with pytest.raises(UnfitRoundError, match="no update that agrees"):
            run(EVERY[name], base, sent, tmp_path)
        return
    model, judged = run(EVERY[name], base, sent, tmp_path)
    if name not in OPTIMIZED:
        noise = 0.02 if "noise" in dict(EVERY[name]) else 1e-12
        assert np.abs(values_of(model, tmp_path)["w"] - sent[0].tensors["w"]).max() <= noise
    assert not any(one[2] == GREATEST for one in judged)


def test_sybils_alone_make_no_model_with_fools_gold(tmp_path: Path) -> None:
    base: Tensors = {"w": np.zeros(4)}
    sent = [Sent(str(i), 1, {"w": np.ones(4)}) for i in range(4)]
    with pytest.raises(UnfitRoundError, match="all updates alike"):
        run(PIPELINES["fools_gold"], base, sent, tmp_path)


@pytest.mark.parametrize("name", PIPELINES)
@pytest.mark.parametrize("n", [1, 2, 3])
def test_few_updates_make_a_model_or_an_unfit_round(name: str, n: int, tmp_path: Path) -> None:
    base, sent = nine_updates(columns=40)
    least = pipeline_of(PIPELINES[name]).least_kept
    if n < least:
        with pytest.raises(UnfitRoundError, match="needs at least"):
            run(PIPELINES[name], base, sent[:n], tmp_path)
        return
    with suppress(UnfitRoundError):
        model, _ = run(PIPELINES[name], base, sent[:n], tmp_path)
        assert np.isfinite(values_of(model, tmp_path)["a"]).all()


# What is refused, and when.


def of(*steps: Step) -> Pipeline:
    return read_pipeline([{"name": name, "params": params} for name, params in steps])


MEAN: Step = ("mean", {})
TRIMMED = ("trimmed_mean", {"f": 2})
TRUST = ("fl_trust", {"root": ROOT})
QUARANTINE = ("quarantine", {"strikes": 4, "window": 10, "rounds": 10})
AVG_M = ("fed_avg_m", {"learning_rate": 1, "momentum": 0})


@pytest.mark.parametrize(
    "steps",
    [
        (NORMS,),
        (NORMS, NNM),
        (MEAN, NORMS),
        (MEAN, TRIMMED),
        (MEAN, MEAN),
        (NNM, NORMS, TRIMMED),
        (NNM, NNM, TRIMMED),
        (NORMS, NORMS, MEAN),
        (TRIMMED, NNM),
        (NOISE, MEAN),
        (MEAN, NOISE, NOISE),
        (MEAN, AVG_M, NOISE),
        (MEAN, AVG_M, ("fed_adam", {"learning_rate": 1, "beta1": 0, "beta2": 0, "tau": 1})),
        (NORMS, QUARANTINE, MEAN),
        (QUARANTINE, QUARANTINE, MEAN),
        (QUARANTINE,),
        (NNM, TRUST),
        (BUCKETING, TRUST),
        tuple((name, {"bound": 1}) for name in ("norm_clipping", "weight_cap")),
    ],
    ids=lambda steps: ", ".join(name for name, _ in steps),
)
def test_steps_that_do_not_go_together_are_refused(
    steps: Steps,
) -> None:
    with pytest.raises(InvalidInputError):
        of(*steps)


@pytest.mark.parametrize(
    ("name", "params"),
    [
        ("krum", {"f": 64}),
        ("krum", {"f": -1}),
        ("multi_krum", {"f": 1.5}),
        ("bulyan", {"f": 32}),
        ("trimmed_mean", {"f": 64}),
        ("geometric_median", {"iterations": 0}),
        ("geometric_median", {"iterations": 1001}),
        ("centred_clipping", {"radius": 0, "iterations": 1}),
        ("centred_clipping", {"radius": 1}),
        ("fl_trust", {"root": ""}),
        ("fl_trust", {"root": "x" * 129}),
        ("fl_trust", {"root": "a\nb"}),
        ("fl_trust", {"root": 5}),
        ("norm_range", {"lower": MILLION + 1, "upper": 2 * MILLION}),
        ("norm_range", {"lower": 0, "upper": MILLION - 1}),
        ("dnc", {"f": 0, "iterations": 17, "coordinates": 1}),
        ("dnc", {"f": 0, "iterations": 1, "coordinates": 100_001}),
        ("dnc", {"f": 128, "iterations": 1, "coordinates": 1}),
        ("sybils", {"least": 0, "limit": 1}),
        ("sybils", {"least": 1, "limit": 0}),
        ("norm_clipping", {"bound": 0}),
        ("weight_cap", {"bound": 1000 * MILLION + 1}),
        ("nnm", {"f": 64}),
        ("nnm", {"f": True}),
        ("bucketing", {"size": 0}),
        ("bucketing", {"size": 65}),
        ("noise", {"scale": 0}),
        ("noise", {"scale": MILLION + 1}),
        ("quarantine", {"strikes": 1.5, "window": 10, "rounds": 10}),
        ("quarantine", {"strikes": True, "window": 10, "rounds": 10}),
        ("mystery", {}),
    ],
)
def test_parameters_out_of_range_are_refused(name: str, params: dict[str, Any]) -> None:
    with pytest.raises(InvalidInputError):
        build_step(name, params)


LEAST = [
    ((TRIMMED,), 5, 5),
    ((("krum", {"f": 2}),), 7, 7),
    ((("multi_krum", {"f": 3}),), 9, 9),
    ((("bulyan", {"f": 2}),), 11, 11),
    ((("fools_gold", {}),), 2, 2),
    ((TRUST,), 2, 2),
    ((NNM, TRIMMED), 5, 5),
    ((NNM, MEAN), 5, 5),
    ((BUCKETING, TRIMMED), 9, 9),
    ((BUCKETING, ("nnm", {"f": 3}), TRIMMED), 13, 13),
    ((DIRECTIONS, TRIMMED), 5, 8),
    ((DIRECTIONS, MEAN), 1, 1),
    ((DNC, TRIMMED), 5, 9),
    ((DIRECTIONS, DNC, BUCKETING, TRIMMED), 9, 24),
    ((("sybils", {"least": 5, "limit": 1}), TRIMMED), 5, 5),
    ((NORMS, SIGNS, CLIPPING, TRIMMED), 5, 5),
]


@pytest.mark.parametrize(("steps", "kept", "admitted"), LEAST)
def test_a_pipeline_says_how_many_updates_it_needs(steps: Steps, kept: int, admitted: int) -> None:
    assert (of(*steps).least_kept, of(*steps).least_admitted(1)) == (kept, admitted)


def test_a_screen_that_may_leave_fewer_than_are_needed_is_refused() -> None:
    pipeline = of(("sybils", {"least": 5, "limit": 1}), TRIMMED)
    assert pipeline.least_admitted(5) == 5
    with pytest.raises(InvalidInputError, match="as few as 5 updates, but 6 have to pass"):
        pipeline.least_admitted(6)


PLAN = RoundPlan("task", 6, "", 5, 12, 1, 60, ())


@pytest.mark.parametrize(
    ("steps", "least", "most"),
    [
        ((TRIMMED,), 4, 12),
        ((("krum", {"f": 2}),), 6, 12),
        ((("bulyan", {"f": 1}),), 6, 12),
        ((NNM, MEAN), 4, 12),
        ((BUCKETING, TRIMMED), 8, 12),
        ((DIRECTIONS, TRIMMED), 5, 7),
        ((DNC, TRIMMED), 5, 8),
    ],
)
def test_a_round_with_too_few_updates_for_its_pipeline_is_not_opened(
    steps: Steps, least: int, most: int
) -> None:
    rule = pipeline_of(steps).to_json()
    with pytest.raises(InvalidInputError, match="needs at least"):
        _require_safe(replace(PLAN, rule=rule, min_updates=least, max_updates=most))
    least, most = (least + 1, most) if most == PLAN.max_updates else (least, most + 1)
    _require_safe(replace(PLAN, rule=rule, min_updates=least, max_updates=most))


@pytest.mark.parametrize("n", range(1, 14))
def test_of_as_many_updates_as_it_asks_for_a_screen_passes_enough(n: int, tmp_path: Path) -> None:
    """And of one less it may not: each update points its own way, so nothing is cut off by luck."""
    steps: Steps = (DIRECTIONS, MEAN)
    needed = screens.direction_cluster().least(n)
    for count, enough in ((needed, True), (needed - 1, n < 2)):
        base: Tensors = {"w": np.zeros(32)}
        sent = [Sent(f"{i:02}", 1, {"w": np.eye(32)[i] + 1 / (i + 1)}) for i in range(count)]
        if sent:
            judged = run(steps, base, sent, tmp_path)[1]
            passed = sum(one[0] != Outcome.REJECTED for one in judged)
            assert (passed >= n) == enough


def test_what_the_screens_leave_must_be_enough_for_the_transforms_too(tmp_path: Path) -> None:
    """A mean of two nearest rows less three would be a mean of none."""
    base, sent = nine_updates(columns=40)
    steps: Steps = (("dnc", {"f": 7, "iterations": 1, "coordinates": 9}), ("nnm", {"f": 3}), MEAN)
    with pytest.raises(UnfitRoundError, match="mean needs at least 7 updates, found 2"):
        run(steps, base, sent, tmp_path)


@pytest.mark.parametrize("f", [3, 4, 5, 127])
def test_a_screen_that_drops_more_than_there_are_leaves_nobody(f: int, tmp_path: Path) -> None:
    base, sent = nine_updates(columns=40)
    steps: Steps = (("dnc", {"f": f, "iterations": 1, "coordinates": 9}), MEAN)
    with pytest.raises(UnfitRoundError, match="found 0"):
        run(steps, base, sent[:3], tmp_path)


def test_a_rule_that_measures_nothing_takes_no_score_away(tmp_path: Path) -> None:
    base, sent = nine_updates(columns=40)
    judged = run((NORMS, MEAN), base, sent, tmp_path)[1]
    assert all(one[3] == 3 * MILLION for one in judged)
    assert judged[8][:2] == (Outcome.REJECTED, Reason.NORM_OUT_OF_RANGE)


def test_the_gravest_judgement_counts_and_of_equal_ones_the_last(tmp_path: Path) -> None:
    base, sent = nine_updates(columns=40)
    alone = run((TRIMMED,), base, sent, tmp_path)[1]
    both = run((CLIPPING, TRIMMED), base, sent, tmp_path)[1]
    assert alone[8][1] == Reason.TRIMMED_BY_RULE
    clipped = [one[1] for one in run((CLIPPING, MEAN), base, sent, tmp_path)[1]]
    assert [one[0] for one in both] == [
        max(a[0], int(b != Reason.NONE)) for a, b in zip(alone, clipped, strict=True)
    ]


def test_judgements_have_digests_of_their_own() -> None:
    assert verdict_digest([(0, 0, 1, 2)]) != verdict_digest([(0, 0, 2, 1)])
