"""Anyone's safetensors files become canonical, and hostile ones are refused by name."""

import json
import os
import struct
import tracemalloc
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import safetensors.numpy
import safetensors.torch
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from chain.errors import InvalidInputError
from chain.foreign_tensors import MAX_FOREIGN_HEADER, canonical_form
from chain.tensors import open_tensors, save_tensors, tensor_bytes

EXAMPLE: dict[str, Any] = {
    "b.weight": np.arange(6, dtype=np.float32).reshape(2, 3),
    "a": np.array(2.5, dtype=np.float16),
    "z": np.array([1.5, -0.0, 3.0]),
}


def written(folder: Path, data: bytes) -> Path:
    path = folder / "update.safetensors"
    path.write_bytes(data)
    return path


def made_canonical(folder: Path, data: bytes) -> bytes:
    form = canonical_form(written(folder, data), folder / "copy")
    form.path.replace(folder / "moved")
    return (folder / "moved").read_bytes()


def foreign(header: dict[str, Any] | str | bytes, data: bytes = b"") -> bytes:
    """A file with any header."""
    text = header if isinstance(header, str | bytes) else json.dumps(header)
    raw = text if isinstance(text, bytes) else text.encode()
    return len(raw).to_bytes(8, "little") + raw + data


def entry(begin: int, end: int, dtype: str = "F32", shape: Any = (1,)) -> dict[str, Any]:
    return {"dtype": dtype, "shape": list(shape), "data_offsets": [begin, end]}


def test_a_canonical_file_is_taken_as_it_is_and_not_copied(tmp_path: Path) -> None:
    path = tmp_path / "update.safetensors"
    save_tensors(path, EXAMPLE)
    assert canonical_form(path, tmp_path / "copy").path == path
    assert not (tmp_path / "copy").exists()


def test_a_file_that_torch_saved_with_metadata_becomes_canonical(tmp_path: Path) -> None:
    tensors = {name: torch.from_numpy(np.asarray(array)) for name, array in EXAMPLE.items()}
    data = safetensors.torch.save(tensors, metadata={"format": "pt", "note": "ü"})
    with pytest.raises(InvalidInputError):
        open_tensors(written(tmp_path, data))
    assert made_canonical(tmp_path, data) == tensor_bytes(EXAMPLE)


def test_other_orders_spaces_and_paddings_become_the_same_bytes(tmp_path: Path) -> None:
    a, b, z = (EXAMPLE[name].tobytes() for name in ("a", "b.weight", "z"))
    header = {
        "a": {"shape": [], "data_offsets": [0, 2], "dtype": "F16"},
        "z": entry(26, 50, "F64", [3]),
        "b.weight": entry(2, 26, "F32", [2, 3]),
    }
    text = json.dumps(header, indent=3) + " " * 5
    assert made_canonical(tmp_path, foreign(text, a + b + z)) == tensor_bytes(EXAMPLE)


def test_bfloat16_becomes_float32_with_every_value_as_it_was(tmp_path: Path) -> None:
    every = torch.arange(1 << 16, dtype=torch.int32).to(torch.int16).view(torch.bfloat16)
    data = safetensors.torch.save({"w": every.reshape(256, 256), "b": torch.ones(3)})
    path = written(tmp_path, data)
    form = canonical_form(path, tmp_path / "copy")
    assert form.widened == ("w",)
    with open_tensors(form.path) as file:
        assert file.schema.to_json() == (
            b'{"b":{"dtype":"F32","shape":[3]},"w":{"dtype":"F32","shape":[256,256]}}'
        )
        expected = every.to(torch.float32).view(torch.int32).numpy().reshape(256, 256)
        is_nan = torch.isnan(every).numpy().reshape(256, 256)
        np.testing.assert_array_equal(np.isnan(file.arrays["w"]), is_nan)
        found = file.arrays["w"].view(np.int32)
        np.testing.assert_array_equal(found[~is_nan], expected[~is_nan])


@given(
    st.dictionaries(
        st.text("abcXYZ019._-", min_size=1, max_size=8),
        st.tuples(
            st.sampled_from(["float64", "float32", "float16"]),
            st.lists(st.integers(1, 4), max_size=3),
        ),
        min_size=1,
        max_size=6,
    ),
    st.randoms(use_true_random=False),
)
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
def test_tensors_in_any_order_come_out_as_the_library_writes_them(
    tmp_path: Path, kinds: dict[str, tuple[str, list[int]]], random: Any
) -> None:
    generator = np.random.default_rng(1)
    tensors = {
        name: np.asarray(generator.standard_normal(shape)).astype(dtype)
        for name, (dtype, shape) in kinds.items()
    }
    order = list(tensors)
    random.shuffle(order)
    header, data = {}, b""
    for name in order:
        raw = tensors[name].tobytes()
        dtype = f"F{tensors[name].dtype.itemsize * 8}"
        header[name] = entry(len(data), len(data) + len(raw), dtype, tensors[name].shape)
        data += raw
    (tmp_path / "copy").unlink(missing_ok=True)
    raw = foreign({"__metadata__": {"k": "v"}, **header}, data)
    assert made_canonical(tmp_path, raw) == safetensors.numpy.save(tensors)


def test_a_large_file_is_copied_without_holding_it(tmp_path: Path) -> None:
    size = 1 << 25  # bytes
    path = written(tmp_path, foreign({"w": entry(0, size, "BF16", [size // 2])}, bytes(size)))
    tracemalloc.start()
    canonical_form(path, tmp_path / "copy")
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert (tmp_path / "copy").stat().st_size > 2 * size
    assert peak < size / 2


HOSTILE: dict[str, tuple[bytes, str]] = {
    "empty": (b"", "an empty file"),
    "a short length": (b"\x08\0\0", "080000"),
    "a header beyond the file": (foreign("{}")[:-1], "within the file's 9 bytes"),
    "a huge header": (struct.pack("<Q", 1 << 63) + b"{}", "up to 8388608"),
    "a header above the bound": (
        struct.pack("<Q", MAX_FOREIGN_HEADER + 1) + bytes(MAX_FOREIGN_HEADER + 1),
        "up to 8388608",
    ),
    "no JSON": (foreign("{'a': 1}"), "JSON"),
    "no UTF-8": (foreign(b'{"\xff": 1}'), "UTF-8"),
    "nesting": (foreign("[" * 100_000), "JSON"),
    "long digits": (foreign('{"a": ' + "9" * 5000 + "}"), "JSON"),
    "a list": (foreign("[]"), "a member for each tensor"),
    "no tensor": (foreign({"__metadata__": {"format": "pt"}}), "found 0"),
    "too many tensors": (
        foreign({str(n): entry(4 * n, 4 * n + 4) for n in range(4097)}, bytes(4 * 4097)),
        "found 4097",
    ),
    "metadata of numbers": (
        foreign({"__metadata__": {"a": 1}, "w": entry(0, 4)}, bytes(4)),
        "__metadata__",
    ),
    "a repeated name": (
        foreign(f'{{"w":{json.dumps(entry(0, 4))},"w":{json.dumps(entry(0, 4))}}}', bytes(4)),
        "twice",
    ),
    "a member too many": (foreign({"w": {**entry(0, 4), "x": 1}}, bytes(4)), "'w'"),
    "a member missing": (foreign({"w": {"dtype": "F32", "shape": [1]}}, bytes(4)), "'w'"),
    "no object": (foreign({"w": [0, 4]}, bytes(4)), "'w'"),
    "a strange name": (foreign({"a/b": entry(0, 4)}, bytes(4)), "'a/b'"),
    "an endless name": (foreign({"a" * (1 << 20): entry(0, 4)}, bytes(4)), "'aaaa"),
    "integers": (foreign({"steps": entry(0, 8, "I64")}, bytes(8)), "'steps'"),
    "an unknown dtype": (foreign({"w": entry(0, 4, "F33")}, bytes(4)), "'F33'"),
    "a dtype that is no text": (foreign({"w": {**entry(0, 4), "dtype": ["F32"]}}), "F32"),
    "a dimension of zero": (foreign({"w": entry(0, 0, shape=[0])}), "at least 1"),
    "a negative dimension": (foreign({"w": entry(0, 4, shape=[-1, -1])}, bytes(4)), "at least 1"),
    "a dimension that is no integer": (foreign({"w": entry(0, 4, shape=[1.0])}, bytes(4)), "shape"),
    "a dimension that is true": (foreign({"w": entry(0, 4, shape=[True])}, bytes(4)), "shape"),
    "a shape that overflows": (
        foreign({"w": entry(0, 4, shape=[1 << 53] * 8)}, bytes(4)),
        "at least 1",
    ),
    "a product that overflows 64 bits": (
        foreign({"w": entry(0, 0, shape=[1 << 32, 1 << 32])}),
        "73786976294838206464 bytes apart",
    ),
    "nine dimensions": (foreign({"w": entry(0, 4, shape=[1] * 9)}, bytes(4)), "at most 8"),
    "a shape of other size": (foreign({"w": entry(0, 4, shape=[2])}, bytes(4)), "8 bytes apart"),
    "offsets backwards": (foreign({"w": entry(4, 0)}, bytes(4)), "4 bytes apart"),
    "a negative offset": (foreign({"w": entry(-4, 0)}, bytes(4)), "4 bytes apart"),
    "offsets that are no pair": (
        foreign({"w": {**entry(0, 4), "data_offsets": [0, 2, 4]}}, bytes(4)),
        "4 bytes apart",
    ),
    "offsets that are no integers": (
        foreign({"w": {**entry(0, 4), "data_offsets": [0.0, 4]}}, bytes(4)),
        "data_offsets",
    ),
    "an overlap": (
        foreign({"v": entry(0, 4), "w": entry(2, 6)}, bytes(6)),
        "tensor 'w': expected its data behind those of 'v', at 4, found 2",
    ),
    "the same place twice": (foreign({"v": entry(0, 4), "w": entry(0, 4)}, bytes(4)), "'w'"),
    "a hole": (foreign({"v": entry(0, 4), "w": entry(6, 10)}, bytes(10)), "found 6"),
    "a hole at the beginning": (foreign({"w": entry(2, 6)}, bytes(6)), "begin at offset 0"),
    "bytes behind the data": (foreign({"w": entry(0, 4)}, bytes(5)), "found 5"),
    "data cut short": (foreign({"w": entry(0, 4)}, bytes(3)), "found 3"),
    "data beyond the file": (foreign({"w": entry(0, 1 << 40, shape=[1 << 38])}), "found 0"),
}


@pytest.mark.parametrize("case", HOSTILE, ids=str)
def test_a_hostile_file_is_refused_by_name_and_leaves_no_copy(tmp_path: Path, case: str) -> None:
    data, words = HOSTILE[case]
    path = written(tmp_path, data)
    with pytest.raises(InvalidInputError) as error:
        canonical_form(path, tmp_path / "copy")
    assert str(error.value).startswith("update.safetensors: ")
    assert words in str(error.value)
    assert len(str(error.value)) < 500
    assert not (tmp_path / "copy").exists()


def test_a_tensor_that_cannot_be_averaged_is_named_with_what_to_do(tmp_path: Path) -> None:
    tensors = {"bn.num_batches_tracked": torch.tensor(3), "w": torch.ones(2)}
    path = written(tmp_path, safetensors.torch.save(tensors))
    with pytest.raises(InvalidInputError, match=r"'bn\.num_batches_tracked'.*'I64': leave .* out"):
        canonical_form(path, tmp_path / "copy")


def test_no_pipe_or_folder_is_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    for path in (tmp_path / "pipe", tmp_path):
        with pytest.raises(InvalidInputError, match="expected a safetensors file"):
            canonical_form(path, tmp_path / "copy")


@given(st.data())
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=200)
def test_a_changed_header_is_refused_or_read_and_never_another_error(
    tmp_path: Path, data: st.DataObject
) -> None:
    raw = bytearray(foreign({"__metadata__": {"a": "b"}, "w": entry(0, 4)}, bytes(4)))
    for _ in range(data.draw(st.integers(1, 3))):
        at = data.draw(st.integers(0, len(raw) - 1))
        raw[at] = data.draw(st.integers(0, 255))
    (tmp_path / "copy").unlink(missing_ok=True)
    try:
        form = canonical_form(written(tmp_path, bytes(raw)), tmp_path / "copy")
    except InvalidInputError:
        return
    with open_tensors(form.path) as file:
        assert len(file.schema.tensors) == 1
