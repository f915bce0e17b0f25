"""Tensor files have one canonical form, and the reader takes no other."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import safetensors.numpy
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from chain.digests import content_digest
from chain.errors import InvalidInputError
from chain.schema import Schema, TensorSpec, read_schema
from chain.tensors import (
    open_tensors,
    open_trained,
    save_tensors,
    schema_of,
    tensor_bytes,
    trained_content,
)

NAMES = st.text("abcXYZ019._-", min_size=1, max_size=12)
SHAPES = arrays.array_shapes(min_dims=0, max_dims=4, max_side=4)
DTYPES = st.sampled_from([np.float64, np.float32, np.float16])
TENSORS = st.dictionaries(NAMES, arrays.arrays(DTYPES, SHAPES), min_size=1, max_size=6)
EXAMPLE: dict[str, Any] = {
    "a.weight": np.arange(6, dtype=np.float32).reshape(2, 3),
    "b": np.array(2.5, dtype=np.float16),
    "z": np.ones(3, dtype=np.float64),
}


@given(TENSORS)
def test_the_bytes_are_those_of_the_safetensors_library(tensors: dict[str, Any]) -> None:
    assert tensor_bytes(tensors) == safetensors.numpy.save(tensors)


def test_many_tensors_of_mixed_dtypes_come_out_as_in_the_library() -> None:
    dtypes = (np.float32, np.float16, np.float64)
    tensors = {f"layer.{n}": np.full((n % 5 + 1, 2), n, dtypes[n % 3]) for n in range(300)}
    assert tensor_bytes(tensors) == safetensors.numpy.save(tensors)


@given(TENSORS)
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_what_was_saved_is_read_back(tmp_path: Path, tensors: dict[str, Any]) -> None:
    path = tmp_path / "model"
    digest = save_tensors(path, tensors)
    assert digest == content_digest(path) == content_digest(tensor_bytes(tensors))
    with open_tensors(path) as file:
        assert file.schema == schema_of(tensors)
        assert file.schema.file_size() == path.stat().st_size
        assert file.arrays.keys() == tensors.keys()
        for name, array in tensors.items():
            np.testing.assert_array_equal(file.arrays[name], array)


def test_arrays_in_another_memory_order_are_written_row_by_row() -> None:
    transposed = {"a": np.arange(6, dtype=np.float32).reshape(2, 3).T}
    assert tensor_bytes(transposed) == tensor_bytes({"a": np.ascontiguousarray(transposed["a"])})
    swapped = {"a": np.arange(6, dtype=">f4")}
    assert tensor_bytes(swapped) == tensor_bytes({"a": np.arange(6, dtype="<f4")})


def test_views_are_read_only_and_outlive_the_file(tmp_path: Path) -> None:
    save_tensors(tmp_path / "model", EXAMPLE)
    with open_tensors(tmp_path / "model") as file:
        view = file.arrays["z"]
    assert not view.flags.writeable
    assert not view.flags.owndata
    np.testing.assert_array_equal(view, EXAMPLE["z"])
    assert not file.arrays


@given(st.data())
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=300)
def test_a_flipped_byte_in_the_header_is_refused_or_is_another_schema(
    tmp_path: Path, data: st.DataObject
) -> None:
    original = tensor_bytes(EXAMPLE)
    end = 8 + int.from_bytes(original[:8], "little")
    at = data.draw(st.integers(0, end - 1))
    flipped = bytearray(original)
    flipped[at] ^= data.draw(st.integers(1, 255))
    path = tmp_path / "model"
    path.write_bytes(flipped)
    try:
        with open_tensors(path) as file:
            assert file.schema.digest() != schema_of(EXAMPLE).digest()
    except InvalidInputError:
        pass
    assert content_digest(path) != content_digest(original)


@given(st.binary(max_size=200))
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_any_bytes_are_refused_without_another_error(tmp_path: Path, data: bytes) -> None:
    path = tmp_path / "model"
    path.write_bytes(data)
    with pytest.raises(InvalidInputError):
        open_tensors(path)


def with_header(text: str, data: bytes = bytes(4)) -> bytes:
    return len(text).to_bytes(8, "little") + text.encode() + data


def one(shape: str, end: int, dtype: str = "F32") -> str:
    text = f'{{"a":{{"dtype":"{dtype}","shape":{shape},"data_offsets":[0,{end}]}}}}'
    return text + " " * (-len(text) % 8)


def test_the_hand_written_header_of_these_tests_is_taken(tmp_path: Path) -> None:
    (tmp_path / "model").write_bytes(with_header(one("[1]", 4)))
    with open_tensors(tmp_path / "model") as file:
        assert file.arrays["a"].shape == (1,)


@pytest.mark.parametrize(
    "data",
    [
        pytest.param(b"", id="nothing"),
        pytest.param(b"\1\2\3", id="less than a length"),
        pytest.param((1 << 62).to_bytes(8, "little") + b"{}", id="a length beyond the file"),
        pytest.param((1 << 62).to_bytes(8, "little") + b" " * 64, id="a huge length"),
        pytest.param(with_header(one("[1]", 4) + " "), id="a length that is no multiple of 8"),
        pytest.param(with_header(one("[1]", 4) + " " * 8), id="more padding than needed"),
        pytest.param(with_header(one("[1]", 4), bytes(5)), id="a byte too many"),
        pytest.param(with_header(one("[1]", 4), bytes(3)), id="a byte too few"),
        pytest.param(with_header(one("[0]", 0), b""), id="an empty tensor"),
        pytest.param(with_header(one("[true]", 4)), id="a dimension that is no number"),
        pytest.param(with_header(one("[1.0]", 4)), id="a dimension with a point"),
        pytest.param(with_header(one("[-1,-1]", 4)), id="negative dimensions"),
        pytest.param(with_header(one("[1]", 8)), id="offsets that do not fit the shape"),
        pytest.param(with_header(one("[1,1,1,1,1,1,1,1,1]", 4)), id="rank 9"),
        pytest.param(with_header(one(f"[{1 << 60},{1 << 60}]", 4)), id="a shape that overflows"),
        pytest.param(with_header(one("[1]", 4, "I32")), id="integers"),
        pytest.param(with_header('{"__metadata__":{"a":"b"}}      '), id="metadata"),
        pytest.param(with_header("{}      ", b""), id="no tensors"),
        pytest.param(with_header("[]      ", b""), id="no object"),
    ],
)
def test_a_file_in_another_form_is_refused(tmp_path: Path, data: bytes) -> None:
    (tmp_path / "model").write_bytes(data)
    with pytest.raises(InvalidInputError):
        open_tensors(tmp_path / "model")


def test_a_repeated_name_is_refused(tmp_path: Path) -> None:
    member = '"a":{"dtype":"F32","shape":[1],"data_offsets":[0,4]}'
    text = f"{{{member},{member}}}"
    (tmp_path / "model").write_bytes(with_header(text + " " * (-len(text) % 8)))
    with pytest.raises(InvalidInputError, match="twice"):
        open_tensors(tmp_path / "model")


@pytest.mark.parametrize(
    "tensors",
    [
        {},
        {"": np.ones(1)},
        {"ä": np.ones(1)},
        {"a" * 129: np.ones(1)},
        {"a": np.ones(0)},
        {"a": np.ones(1, dtype=np.int64)},
        {"a": np.ones(1, dtype=np.complex64)},
        {"a": np.ones((1,) * 9)},
        {f"t{n}": np.ones(1) for n in range(4097)},
    ],
)
def test_tensors_that_no_canonical_file_holds_are_not_saved(
    tmp_path: Path, tensors: dict[str, Any]
) -> None:
    with pytest.raises(InvalidInputError):
        save_tensors(tmp_path / "model", tensors)
    assert list(tmp_path.iterdir()) == []


def test_a_schema_names_dtypes_and_shapes() -> None:
    schema = schema_of(EXAMPLE)
    assert json.loads(schema.to_json())["a.weight"] == {"dtype": "F32", "shape": [2, 3]}


def test_a_schema_in_another_order_is_refused() -> None:
    with pytest.raises(InvalidInputError, match="order"):
        Schema((TensorSpec("a", "F16", ()), TensorSpec("b", "F32", ())))


STATEFUL: dict[str, Any] = {
    **EXAMPLE,
    "server.m.b": np.zeros((), np.float32),
    "server.v.z": np.ones(3, np.float64),
    "server.anything": np.ones(2, np.float16),
}


def test_a_schemas_trained_part_leaves_out_the_servers_tensors() -> None:
    assert schema_of(STATEFUL).trained() == schema_of(EXAMPLE)
    assert schema_of(EXAMPLE).trained() == schema_of(EXAMPLE)
    near = {"server": np.ones(1), "Server.m": np.ones(1), "a.server.m": np.ones(1)}
    assert schema_of(near).trained() == schema_of(near)


def test_a_schema_of_server_tensors_alone_has_no_trained_part() -> None:
    with pytest.raises(InvalidInputError, match="found only names that begin"):
        schema_of({"server.m.a": np.ones(1), "server.": np.ones(1)}).trained()


def test_state_stands_beside_each_tensor_in_a_dtype_of_at_least_float32() -> None:
    schema = schema_of(EXAMPLE).with_state(("m", "v"))
    found = {spec.name: (spec.dtype, spec.shape) for spec in schema.tensors}
    assert found == {
        "z": ("F64", (3,)),
        "server.m.z": ("F64", (3,)),
        "server.v.z": ("F64", (3,)),
        "a.weight": ("F32", (2, 3)),
        "server.m.a.weight": ("F32", (2, 3)),
        "server.v.a.weight": ("F32", (2, 3)),
        "b": ("F16", ()),
        "server.m.b": ("F32", ()),
        "server.v.b": ("F32", ()),
    }
    assert schema.trained() == schema_of(EXAMPLE)


def test_a_trained_part_belongs_to_four_kinds_of_models() -> None:
    schema = schema_of(EXAMPLE)
    assert schema.models() == tuple(map(schema.with_state, [(), ("m",), ("v",), ("m", "v")]))


def test_a_name_that_leaves_no_room_for_the_prefix_has_no_state() -> None:
    fits, long = ({"a" * n: np.ones(1)} for n in (119, 120))
    assert len(schema_of(fits).models()) == 4
    assert schema_of(long).models() == (schema_of(long),)
    with pytest.raises(InvalidInputError, match="128"):
        schema_of(long).with_state(("m",))


def test_a_model_without_state_is_its_own_trained_part(tmp_path: Path) -> None:
    save_tensors(tmp_path / "model", EXAMPLE)
    with open_tensors(tmp_path / "model") as file:
        assert open_trained(file, tmp_path / "copy") is file
        assert trained_content(file) == content_digest(tmp_path / "model")
    assert not (tmp_path / "copy").exists()


def test_the_trained_part_of_a_model_is_a_canonical_file_of_its_own(tmp_path: Path) -> None:
    save_tensors(tmp_path / "model", STATEFUL)
    with open_tensors(tmp_path / "model") as file:
        with open_trained(file, tmp_path / "copy") as trained:
            assert trained.schema == schema_of(EXAMPLE)
        assert trained_content(file) == content_digest(tensor_bytes(EXAMPLE))
    assert (tmp_path / "copy").read_bytes() == tensor_bytes(EXAMPLE)


@pytest.mark.parametrize("size", [1, 7, 8, 9, 1000])
def test_a_schema_is_read_from_the_first_pieces_alone(size: int) -> None:
    model = tensor_bytes({**EXAMPLE, "long": np.ones(5000)})
    end = 8 + int.from_bytes(model[:8], "little")
    pieces = iter([model[at : at + size] for at in range(0, len(model), size)])
    assert read_schema(pieces) == schema_of({**EXAMPLE, "long": np.ones(5000)})
    assert len(b"".join(pieces)) > len(model) - end - size - 1


@pytest.mark.parametrize(
    "data",
    [b"", b"\0" * 7, b"\xff" * 8, b"\xff" * (2 << 20), tensor_bytes(EXAMPLE)[:100]],
    ids=["nothing", "half a length", "a length alone", "a huge length", "half a header"],
)
def test_no_schema_is_read_from_other_bytes(data: bytes) -> None:
    with pytest.raises(InvalidInputError):
        read_schema([data])
