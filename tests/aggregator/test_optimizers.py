"""The server optimisers against the formulas of their papers, worked out value by value."""

import json
import math
import struct
from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from aggregator.optimizers import (
    BLOCK,
    Optimizer,
    apply,
    fed_adagrad,
    fed_adam,
    fed_avg_m,
    fed_yogi,
)
from aggregator.pipeline import Pipeline, build_step, parse_pipeline, read_pipeline
from aggregator.rules import mean
from chain.canonical import canonical_json, parse_json
from chain.digests import content_digest
from chain.errors import InvalidInputError, UnfitRoundError
from chain.tensors import Array, open_tensors, save_tensors, schema_of, tensor_bytes

Tensors = dict[str, Array]
CODES = {"<f8": "<d", "<f4": "<f", "<f2": "<e"}
STATE_OF = {"<f8": "<f8", "<f4": "<f4", "<f2": "<f4"}
LONG = 2 * BLOCK + 77  # coordinates: more than are computed at once, and no multiple of that
VECTORS = Path(__file__).parents[1] / "vectors" / "optimizers.json"

AVG_M = fed_avg_m(700_000, 900_000)
ADAGRAD = fed_adagrad(100_000, 1_000)
ADAM = fed_adam(30_000, 900_000, 990_000, 1_000)
YOGI = fed_yogi(30_000, 900_000, 990_000, 1_000)
OPTIMIZERS = [AVG_M, ADAGRAD, ADAM, YOGI]
named = pytest.mark.parametrize("optimizer", OPTIMIZERS, ids=lambda one: str(one.name))


def step(
    optimizer: Optimizer,
    base: Mapping[str, Array],
    aggregate: Mapping[str, Array],
    folder: Path,
    threads: int = 1,
) -> bytes:
    """Make one step on tensors in memory, and return the new model's bytes."""
    save_tensors(folder / "base", base)
    save_tensors(folder / "aggregate", aggregate)
    out = folder / "model"
    with open_tensors(folder / "base") as start, open_tensors(folder / "aggregate") as end:
        apply(optimizer, start, end, out, threads)
    return out.read_bytes()


def tensors_of(model: bytes, folder: Path) -> Tensors:
    (folder / "read").write_bytes(model)
    with open_tensors(folder / "read") as file:
        return {name: array.copy() for name, array in file.arrays.items()}


def rounded(value: float, dtype: str) -> float:
    """Round a float64 to nearest, ties to even, as the struct module does."""
    return float(struct.unpack(CODES[dtype], struct.pack(CODES[dtype], value))[0])


Moments = tuple[float, float, float]


def paper_fed_avg_m(p: dict[str, float], x: float, delta: float, m: float, v: float) -> Moments:
    """Hsu et al. 2019, section 4.3, with a learning rate: v of theirs is m here."""
    m = p["momentum"] * m + delta
    return x + p["learning_rate"] * m, m, v


def paper_adaptive(
    second: Callable[[float, float, float], float],
) -> Callable[[dict[str, float], float, float, float, float], Moments]:
    """Reddi et al. 2021, algorithm 2, with one of its three lines for the second moment."""

    def step_of(p: dict[str, float], x: float, delta: float, m: float, v: float) -> Moments:
        m = p.get("beta1", 0.0) * m + p.get("1-beta1", 1.0) * delta
        v = second(v, delta * delta, p.get("1-beta2", math.nan))
        return x + p["learning_rate"] * m / (math.sqrt(v) + p["tau"]), m, v

    return step_of


def paper_yogi(v: float, square: float, new: float) -> float:
    sign = (v > square) - (v < square)
    return v - new * square * sign


PAPERS = {
    "fed_avg_m": paper_fed_avg_m,
    "fed_adagrad": paper_adaptive(lambda v, square, _: v + square),
    # 0.99 is the one β₂ of these tests.
    "fed_adam": paper_adaptive(lambda v, square, new: 0.99 * v + new * square),
    "fed_yogi": paper_adaptive(paper_yogi),
}


def expected_rounds(
    optimizer: Optimizer, start: list[float], aggregates: list[list[float]], dtype: str
) -> dict[str, list[float]]:
    """Carry a tensor and its state through rounds by the paper, value by value."""
    params = {key: value / 1e6 for key, value in optimizer.params.items()}
    params |= {f"1-{key}": (10**6 - value) / 1e6 for key, value in optimizer.params.items()}
    first = params.get("tau", 0.0) * params.get("tau", 0.0)
    columns: list[Moments] = [(value + 0.0, 0.0, first) for value in start]
    for aggregate in aggregates:
        for at, (x, m, v) in enumerate(columns):
            x_, m_, v_ = PAPERS[optimizer.name](params, x, aggregate[at] - x, m, v)
            state = STATE_OF[dtype]
            columns[at] = rounded(x_, dtype), rounded(m_, state), rounded(v_, state)
    x_s, m_s, v_s = (list(column) for column in zip(*columns, strict=True))
    kept = {"server.m.w": m_s, "server.v.w": v_s}
    return {"w": x_s} | {key: kept[key] for key in kept if key[7] in optimizer.state}


@st.composite
def histories(draw: st.DrawFn) -> tuple[str, list[float], list[list[float]]]:
    """A dtype, a first model, and what the rule made of the updates of some rounds."""
    dtype = draw(st.sampled_from(sorted(CODES)))
    width = np.dtype(dtype).itemsize * 8
    # Far from overflow, but with the zeros and subnormals in which an order could show itself.
    bound = {16: 100.0, 32: 2.0**50, 64: 2.0**400}[width]
    length = draw(st.integers(1, 6))
    value = st.floats(-bound, bound, width=width)  # type: ignore[arg-type]
    column = st.lists(value, min_size=length, max_size=length)
    return dtype, draw(column), draw(st.lists(column, min_size=1, max_size=4))


@named
@given(history=histories())
@settings(max_examples=60, deadline=None)
def test_rounds_in_a_row_equal_the_papers_to_the_bit(
    optimizer: Optimizer,
    history: tuple[str, list[float], list[list[float]]],
    tmp_path_factory: pytest.TempPathFactory,
) -> None:
    dtype, start, aggregates = history
    folder = tmp_path_factory.mktemp("rounds")
    model: Tensors = {"w": np.array(start, dtype)}
    for aggregate in aggregates:
        model = tensors_of(
            step(optimizer, model, {"w": np.array(aggregate, dtype)}, folder), folder
        )
    found = {name: array.tolist() for name, array in model.items()}
    assert found == expected_rounds(optimizer, start, aggregates, dtype)
    assert {name: array.dtype.str for name, array in model.items()} == {
        name: dtype if name == "w" else STATE_OF[dtype] for name in found
    }


def test_one_step_of_each_by_hand(tmp_path: Path) -> None:
    """Exact powers of two: x = 1, Δ = 2, τ = 1/2, all rates and momenta 1/2."""
    half, base, end = 500_000, {"w": np.ones(1)}, {"w": np.full(1, 3.0)}
    both = {"learning_rate": half, "beta1": half, "beta2": half, "tau": half}
    root = {"fed_adam": 2.125, "fed_yogi": 2.25}  # 0.25/2 + 4/2, and 0.25 + 4/2
    for optimizer, state in (
        (fed_avg_m(half, half), {"m": 2.0}),
        (fed_adagrad(half, half), {"v": 4.25}),
        (fed_adam(**both), {"m": 1.0, "v": 2.125}),
        (fed_yogi(**both), {"m": 1.0, "v": 2.25}),
    ):
        model = tensors_of(step(optimizer, base, end, tmp_path), tmp_path)
        assert {name: array.item() for name, array in model.items() if name != "w"} == {
            f"server.{kind}.w": value for kind, value in state.items()
        }
        way = {"fed_avg_m": 1.0, "fed_adagrad": 1.0 / (math.sqrt(4.25) + 0.5)}.get(
            optimizer.name, 0.5 / (math.sqrt(root.get(optimizer.name, 0.0)) + 0.5)
        )
        assert model["w"].item() == 1.0 + way


def test_averaging_without_momentum_at_full_rate_is_the_rules_own_result(tmp_path: Path) -> None:
    base, end = ({"w": np.arange(9, dtype="<f4") * factor} for factor in (1, 3))
    model = tensors_of(step(fed_avg_m(1_000_000, 0), base, end, tmp_path), tmp_path)
    assert np.array_equal(model["w"], end["w"])
    again = tensors_of(step(fed_avg_m(1_000_000, 0), model, end, tmp_path), tmp_path)
    assert np.array_equal(again["w"], end["w"])


def test_yogi_forgets_a_large_second_moment_more_slowly_than_adam(tmp_path: Path) -> None:
    base: Tensors = {
        "w": np.zeros(1),
        "server.m.w": np.zeros(1),
        "server.v.w": np.full(1, 100.0),
    }
    end: Tensors = {"w": np.ones(1)}
    adam, yogi = (tensors_of(step(one, base, end, tmp_path), tmp_path) for one in (ADAM, YOGI))
    assert 99.0 < adam["server.v.w"].item() < yogi["server.v.w"].item() < 100.0


def large_model(seed: int) -> Tensors:
    """Tensors of several dtypes that no block boundary divides evenly."""
    generator = np.random.default_rng(seed)
    shapes = {"wide": ("<f8", (3, 5)), "long": ("<f4", (LONG,)), "half": ("<f2", (101,))}
    return {
        name: generator.standard_normal(shape).astype(dtype)
        for name, (dtype, shape) in shapes.items()
    }


@named
def test_threads_change_no_bit(optimizer: Optimizer, tmp_path: Path) -> None:
    model = step(optimizer, large_model(1), large_model(2), tmp_path)
    base = tensors_of(model, tmp_path)
    one = step(optimizer, base, large_model(3), tmp_path, threads=1)
    assert one != model
    assert step(optimizer, base, large_model(3), tmp_path, threads=2) == one
    assert step(optimizer, base, large_model(3), tmp_path, threads=7) == one


@named
def test_a_long_tensor_becomes_what_its_pieces_become(optimizer: Optimizer, tmp_path: Path) -> None:
    def cut(tensors: Tensors) -> Tensors:
        values = tensors["long"]
        return {f"{at:06}": values[at : at + 1000] for at in range(0, LONG, 1000)}

    whole, pieces = large_model(1), cut(large_model(1))
    for seed in (2, 3):
        whole = tensors_of(step(optimizer, whole, large_model(seed), tmp_path), tmp_path)
        pieces = tensors_of(step(optimizer, pieces, cut(large_model(seed)), tmp_path), tmp_path)
    joined = np.concatenate([pieces[name] for name in sorted(cut(whole))])
    assert np.array_equal(joined, whole["long"])


@named
def test_the_model_is_a_canonical_file_that_starts_with_the_trained_part(
    optimizer: Optimizer, tmp_path: Path
) -> None:
    base, end = large_model(1), large_model(2)
    model = step(optimizer, base, end, tmp_path)
    found = tensors_of(model, tmp_path)
    assert tensor_bytes(found) == model
    assert schema_of(found) == optimizer.model_schema(schema_of(base))
    assert optimizer.model_schema(schema_of(found)) == schema_of(found)
    assert schema_of(found).trained() == schema_of(base)


def with_state(optimizer: Optimizer, folder: Path) -> Tensors:
    return tensors_of(step(optimizer, large_model(1), large_model(2), folder), folder)


def without(tensors: Tensors, name: str) -> Tensors:
    return {key: array for key, array in tensors.items() if key != name}


@pytest.mark.parametrize(
    "spoil",
    [
        pytest.param(lambda base: without(base, "server.v.half"), id="a tensor lacks"),
        pytest.param(
            lambda base: {**base, "server.v.half": np.zeros(100, "<f4")}, id="another shape"
        ),
        pytest.param(
            lambda base: {**base, "server.v.half": np.zeros(101, "<f2")}, id="another dtype"
        ),
        pytest.param(lambda base: {**base, "server.x": np.ones(1)}, id="one too many"),
        pytest.param(lambda base: {**base, "server.m.x": np.ones(1)}, id="of no tensor"),
        pytest.param(
            lambda base: {
                name: array for name, array in base.items() if not name.startswith("server.m")
            },
            id="of another optimiser",
        ),
    ],
)
def test_a_state_that_is_not_the_optimisers_own_counts_as_none(
    spoil: Callable[[Tensors], Tensors], tmp_path: Path
) -> None:
    base, end = with_state(ADAM, tmp_path), large_model(3)
    bare = {name: base[name] for name in large_model(1)}
    expected = step(ADAM, bare, end, tmp_path)
    assert step(ADAM, base, end, tmp_path) != expected
    assert step(ADAM, spoil(base), end, tmp_path) == expected


@named
@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_a_base_model_whose_state_is_not_finite_makes_no_model(
    optimizer: Optimizer, value: float, tmp_path: Path
) -> None:
    base = with_state(optimizer, tmp_path)
    for kind in optimizer.state:
        spoiled = base[f"server.{kind}.wide"].copy()
        spoiled[1, 1] = value
        with pytest.raises(UnfitRoundError, match="not finite"):
            step(optimizer, {**base, f"server.{kind}.wide": spoiled}, large_model(3), tmp_path)


@pytest.mark.parametrize("optimizer", [ADAGRAD, ADAM, YOGI], ids=lambda one: str(one.name))
def test_a_negative_second_moment_makes_no_model_and_leaves_no_file(
    optimizer: Optimizer, tmp_path: Path
) -> None:
    base = with_state(optimizer, tmp_path)
    base["server.v.long"][-1] = -1000.0
    (tmp_path / "model").unlink()
    with pytest.raises(UnfitRoundError, match="holds a state that no step leaves behind"):
        step(optimizer, base, large_model(3), tmp_path, threads=2)
    assert not list(tmp_path.glob("*model*"))


@pytest.mark.parametrize("optimizer", [ADAGRAD, ADAM, YOGI], ids=lambda one: str(one.name))
def test_a_second_moment_beyond_its_dtype_makes_no_model(
    optimizer: Optimizer, tmp_path: Path
) -> None:
    base, end = {"w": np.zeros(3, "<f4")}, {"w": np.full(3, 1e30, "<f4")}
    with pytest.raises(UnfitRoundError, match="overflows"):
        step(optimizer, base, end, tmp_path)


def test_a_model_beyond_its_dtype_makes_no_model(tmp_path: Path) -> None:
    base, end = {"w": np.zeros(3, "<f2")}, {"w": np.full(3, 60_000, "<f2")}
    with pytest.raises(UnfitRoundError, match="overflows"):
        step(fed_avg_m(2_000_000, 0), base, end, tmp_path)


def test_float16_models_keep_second_moments_beyond_float16(tmp_path: Path) -> None:
    base, end = {"w": np.zeros(3, "<f2")}, {"w": np.full(3, 60_000, "<f2")}
    model = tensors_of(step(ADAGRAD, base, end, tmp_path), tmp_path)
    assert model["server.v.w"].tolist() == [float(np.float32(60_000.0**2 + 1e-6))] * 3


def test_a_name_without_room_for_a_prefix_is_told_of(tmp_path: Path) -> None:
    for length in (119, 120):
        base, end = {"w" * length: np.zeros(1)}, {"w" * length: np.ones(1)}
        if length == 119:
            step(AVG_M, base, end, tmp_path)
        else:
            with pytest.raises(UnfitRoundError, match=r"fed_avg_m cannot keep its state.*128"):
                step(AVG_M, base, end, tmp_path)
            with pytest.raises(InvalidInputError, match="128"):
                AVG_M.model_schema(schema_of(base))


def test_more_tensors_than_a_file_holds_with_their_state_are_told_of(tmp_path: Path) -> None:
    base = {f"t{n}": np.zeros(1) for n in range(1400)}
    step(AVG_M, base, base, tmp_path)
    with pytest.raises(UnfitRoundError, match="1 to 4096 tensors, found 4200"):
        step(ADAM, base, base, tmp_path)


def test_an_aggregate_of_other_tensors_is_refused(tmp_path: Path) -> None:
    base = with_state(AVG_M, tmp_path)
    for other in ({"w": np.ones(1)}, base):
        with pytest.raises(InvalidInputError, match="expected an aggregate of the schema"):
            step(AVG_M, base, other, tmp_path)


def test_a_negative_zero_counts_as_zero(tmp_path: Path) -> None:
    """The way is so short that it rounds to -0, and -0 + -0 would be -0."""
    base, end = {"w": np.full(4, -0.0)}, {"w": np.full(4, -5e-324)}
    model = tensors_of(step(fed_avg_m(400_000, 0), base, end, tmp_path), tmp_path)
    assert model["server.m.w"].tolist() == [-5e-324] * 4
    assert not np.signbit(model["w"]).any()


def golden_cases(folder: Path) -> dict[str, str]:
    """Digests of models after three rounds on fixed values, which any NumPy builds alike."""
    steps = np.arange(4 * ((1 << 14) + 5), dtype=np.float64).reshape(4, -1)
    models: list[Tensors] = [
        {
            "a": ((row * 7) % 1013 / 1024 - 0.5).astype("<f4"),
            "b": ((row[:50] * 5) % 97 / 128).astype("<f2"),
            "c": ((row[:50] * 11) % 89 / 3).astype("<f8"),
        }
        for row in steps
    ]
    digests = {}
    for optimizer in OPTIMIZERS:
        base = models[0]
        for aggregate in models[1:]:
            model = step(optimizer, base, aggregate, folder, threads=2)
            base = tensors_of(model, folder)
        digests[json_of(optimizer)] = content_digest(model).hex()
    return digests


def test_models_are_those_of_the_golden_vectors(tmp_path: Path) -> None:
    assert golden_cases(tmp_path) == json.loads(VECTORS.read_text())


def json_of(optimizer: Optimizer) -> str:
    return canonical_json({"name": optimizer.name, "params": dict(optimizer.params)}).decode()


def read(text: str) -> object:
    steps = parse_json(f'[{{"name":"mean","params":{{}}}},{text}]'.encode(), 2048)
    return read_pipeline(steps).steps[1]


@named
def test_an_optimiser_is_read_back_from_a_pipelines_json(optimizer: Optimizer) -> None:
    pipeline = Pipeline((mean(), optimizer))
    assert parse_pipeline(pipeline.to_json()).steps[1] == optimizer == read(json_of(optimizer))
    assert optimizer != read(json_of(fed_avg_m(1, 1)))


def test_parameters_cannot_be_changed_afterwards() -> None:
    params = {"learning_rate": 1, "momentum": 1}
    optimizer = Optimizer("fed_avg_m", params)
    params["momentum"] = 10**9
    assert optimizer.params["momentum"] == 1
    with pytest.raises(TypeError):
        optimizer.params["momentum"] = 2  # type: ignore[index]


@pytest.mark.parametrize(
    "text",
    [
        "",
        "[]",
        "{}",
        '{"name":"fed_avg_m"}',
        '{"name":"fed_avg_m","params":{}}',
        '{"name":"fed_avg_m","params":[]}',
        '{"name":"fed_avg_m","params":{"learning_rate":1}}',
        '{"name":"fed_avg_m","params":{"learning_rate":1,"momentum":1,"tau":1}}',
        '{"name":"fed_avg_m","params":{"learning_rate":1,"momentum":1},"x":1}',
        '{"name":"fed_avg_m","params":{"learning_rate":1,"momentum":true}}',
        '{"name":"fed_avg_m","params":{"learning_rate":1,"momentum":"1"}}',
        '{"name":"fed_avg_m","params":{"learning_rate":1,"momentum":0.5}}',
        '{"name":"fed_avg_m","params":{"learning_rate":1,"momentum":1.0}}',
        '{"name":"fed_avg_m","params":{"learning_rate":1,"momentum":null}}',
        '{"name":"fed_avg_m","params":{"learning_rate":1,"momentum":-1}}',
        '{"name":"fed_avg_m","params":{"learning_rate":1,"momentum":1000000}}',
        '{"name":"fed_avg_m","params":{"learning_rate":0,"momentum":1}}',
        '{"name":"fed_avg_m","params":{"learning_rate":1000000001,"momentum":1}}',
        '{"name":"fed_adagrad","params":{"learning_rate":1,"tau":0}}',
        '{"name":"fed_adagrad","params":{"learning_rate":1,"tau":1000000001}}',
        '{"name":"fed_adam","params":{"beta1":0,"beta2":1000000,"learning_rate":1,"tau":1}}',
        '{"name":"fed_yogi","params":{"beta1":1000000,"beta2":0,"learning_rate":1,"tau":1}}',
        '{"name":"fed_sgd","params":{}}',
        '{"name":1,"params":{}}',
        '{"name":"fed_adagrad","params":{"learning_rate":1,"tau":1,"tau":1}}',
        '{"name":"' + "x" * 1024 + '","params":{}}',
    ],
)
def test_any_other_text_is_no_optimiser(text: str) -> None:
    with pytest.raises(InvalidInputError):
        read(text)


def test_the_bounds_themselves_are_taken() -> None:
    least = fed_adam(1, 0, 0, 1)
    most = fed_yogi(10**9, 999_999, 999_999, 10**9)
    assert read(json_of(least)) == least
    assert read(json_of(most)) == most


def test_a_boolean_is_no_number() -> None:
    with pytest.raises(InvalidInputError, match=r"integer tau.*found True"):
        build_step("fed_adagrad", {"learning_rate": 1, "tau": True})
