"""Files are judged and aggregated as a round would, whoever wrote them and however they come."""

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import safetensors.torch
import torch

from aggregator.cohort import Member
from aggregator.memory import AnonymousMemory
from aggregator.offline import MAX_EXAMPLES, FilesResult, aggregate_files, read_examples
from aggregator.pipeline import Pipeline
from aggregator.progress import Progress
from aggregator.recipes import declare, read_declared
from aggregator.rules import fed_avg, fl_trust, mean, median, trimmed_mean
from chain.digests import content_digest
from chain.errors import InvalidInputError, UnfitRoundError
from chain.tensors import Array, open_tensors, save_tensors, tensor_bytes
from chain.types import Outcome, Reason
from tests.aggregator.training import Training, tensors_of
from tests.federation import HOSPITALS

MEDIAN = Pipeline((median(),))


def write(folder: Path, seeds: Sequence[int]) -> list[Path]:
    """Write an update for each seed."""
    for seed in seeds:
        save_tensors(folder / f"U{seed}.safetensors", tensors_of(seed))
    return [folder / f"U{seed}.safetensors" for seed in seeds]


def changed(path: Path, change: Callable[[dict[str, Array]], Any]) -> Path:
    """Write the same tensors with a change."""
    with open_tensors(path) as file:
        tensors = {name: array.copy() for name, array in file.arrays.items()}
    change(tensors)
    save_tensors(path, tensors)
    return path


def reasons(result: FilesResult) -> list[Reason]:
    return [one.reason for one in result.verdicts]


def test_files_make_the_model_and_verdicts_of_a_round(training: Training) -> None:
    """In a rule without weights, whose sums do not depend on the order of the hospitals."""
    number = training.open_round(trimmed_mean(1), min_updates=3)
    training.send_all(number)
    training.advance(number)
    proposal = training.federation.reader.round(number).proposal
    assert proposal is not None
    files = []
    for seed, hospital in enumerate(HOSPITALS, 1):
        path = training.folder / training.federation.address(hospital)
        save_tensors(path, tensors_of(100 * number + seed))
        files.append(path)
    out = training.folder / "by-hand.safetensors"
    pipeline = Pipeline((trimmed_mean(1),))
    result = aggregate_files(pipeline, files, out, threads=1, base=training.genesis())
    assert result.model == proposal.model == content_digest(out)
    found = {
        one.file: (one.outcome, one.reason, one.score, one.threshold, one.content)
        for one in result.verdicts
    }
    assert found == {
        one.hospital: (one.outcome, one.reason, one.score, one.threshold, one.content)
        for one in training.federation.reader.verdicts(number, 1)
    }


@pytest.mark.parametrize("pipeline", ["default", "fed_avg", "dnc f=1", "flame", "geometric"])
def test_neither_the_order_of_files_nor_threads_change_a_bit(tmp_path: Path, pipeline: str) -> None:
    name, *params = pipeline.split()
    if name == "geometric":
        name, params = "geometric_median", ["iterations=3"]
    files = write(tmp_path, range(1, 8))
    weights = dict(zip(files, (5, 2, 9, 1, 7, 7, 3), strict=True))
    seen = set()
    for turn in range(4):
        order = [files[i] for i in np.random.default_rng(turn).permutation(len(files))]
        out = tmp_path / f"model-{turn}"
        result = aggregate_files(
            declare(name, params),
            order,
            out,
            threads=1 + turn % 2,
            examples=[weights[path] for path in order],
        )
        assert [one.file for one in result.verdicts] == [path.name for path in order]
        assert [one.examples for one in result.verdicts] == [weights[path] for path in order]
        judged = sorted(result.verdicts, key=lambda one: one.file)
        seen.add((out.read_bytes(), tuple(judged)))
    assert len(seen) == 1


def test_updates_are_taken_by_content_digest(tmp_path: Path) -> None:
    """Each order of adding has its own rounding, so that another order would show."""
    files = write(tmp_path, range(1, 9))
    ordered = sorted(files, key=content_digest)
    opened = [open_tensors(path) for path in ordered]
    members = [
        Member(path.name, 1, content_digest(path), file)
        for path, file in zip(ordered, opened, strict=True)
    ]
    Pipeline((mean(),)).aggregate(opened[0], members, tmp_path / "expected", 1)
    result = aggregate_files(Pipeline((mean(),)), files, tmp_path / "model", threads=1)
    assert result.model == content_digest(tmp_path / "expected")


def test_weights_reach_the_rule(tmp_path: Path) -> None:
    save_tensors(tmp_path / "a", {"w": np.array([1.0])})
    save_tensors(tmp_path / "b", {"w": np.array([4.0])})
    files = [tmp_path / "b", tmp_path / "a"]
    result = aggregate_files(
        Pipeline((fed_avg(),)), files, tmp_path / "m", threads=1, examples=(1, 2)
    )
    with open_tensors(result.path) as model:
        assert model.arrays["w"].tolist() == [2.0]


def test_what_a_round_would_reject_is_rejected_with_a_reason_and_the_rest_is_aggregated(
    tmp_path: Path,
) -> None:
    files = write(tmp_path, range(1, 4))
    alone = aggregate_files(MEDIAN, files, tmp_path / "alone", threads=1)

    def spoil(name: str, change: Callable[[dict[str, Array]], Any]) -> Path:
        path = tmp_path / name
        save_tensors(path, tensors_of(50 + len(name)))
        return changed(path, change)

    def both(tensors: dict[str, Array]) -> None:
        tensors["bias"][0], tensors["weight"][3, 2] = np.inf, np.nan

    (tmp_path / "text").write_text("no tensors")
    torch_file = {"weight": torch.ones(8, 4), "steps": torch.tensor(3)}
    safetensors.torch.save_file(torch_file, tmp_path / "integers")
    spoiled = {
        tmp_path / "text": (Reason.TENSORS_MALFORMED, "text: expected the length"),
        tmp_path / "integers": (Reason.TENSORS_MALFORMED, "integers: tensor 'steps'"),
        spoil("name", lambda t: t.update(more=t["bias"])): (
            Reason.TENSOR_NAME_MISMATCH,
            "name: tensor more: expected none",
        ),
        spoil("lack", lambda t: t.pop("bias")): (
            Reason.TENSOR_NAME_MISMATCH,
            "lack: tensor bias: not found",
        ),
        spoil("dtype", lambda t: t.update(bias=t["bias"].astype("<f4"))): (
            Reason.TENSOR_DTYPE_MISMATCH,
            "dtype: tensor bias: expected F64, found F32",
        ),
        spoil("shape", lambda t: t.update(bias=t["bias"].reshape(2, 2))): (
            Reason.TENSOR_SHAPE_MISMATCH,
            "shape: tensor bias: expected the shape [4], found [2, 2]",
        ),
        spoil("nan", both): (Reason.NOT_A_NUMBER, "nan: tensor weight: expected numbers"),
        spoil("inf", lambda t: t["bias"].fill(-np.inf)): (
            Reason.INFINITE_VALUE,
            "inf: tensor bias: expected finite",
        ),
    }
    result = aggregate_files(MEDIAN, [*spoiled, *files], tmp_path / "model", threads=2)
    assert result.model == alone.model
    rejected, kept = result.verdicts[: len(spoiled)], result.verdicts[len(spoiled) :]
    assert kept == alone.verdicts
    for one, (reason, remark) in zip(rejected, spoiled.values(), strict=True):
        assert (one.outcome, one.reason) == (Outcome.REJECTED, reason)
        assert one.remark.startswith(remark)
        assert (one.content is None) == (reason is Reason.TENSORS_MALFORMED)


def test_of_equal_files_the_one_whose_name_comes_first_is_kept(tmp_path: Path) -> None:
    files = write(tmp_path, (1, 2))
    (tmp_path / "A").write_bytes(files[0].read_bytes())
    # The same tensors in another form are the same contents.
    tensors = {name: torch.from_numpy(array) for name, array in tensors_of(2).items()}
    safetensors.torch.save_file(tensors, tmp_path / "Z", metadata={"format": "pt"})
    alone = aggregate_files(MEDIAN, files, tmp_path / "alone", threads=1)
    order = [tmp_path / "Z", *files, tmp_path / "A"]
    for turn, given in enumerate((order, order[::-1])):
        result = aggregate_files(MEDIAN, given, tmp_path / f"m{turn}", threads=1)
        found = {one.file: one.reason for one in result.verdicts}
        assert found == {
            "A": Reason.NONE,
            "U1.safetensors": Reason.COPIED_FROM_PEER,
            "U2.safetensors": Reason.NONE,
            "Z": Reason.COPIED_FROM_PEER,
        }
        assert result.model == alone.model


def test_the_base_model_sent_back_is_rejected(tmp_path: Path) -> None:
    files = write(tmp_path, (1, 2, 3))
    result = aggregate_files(MEDIAN, files, tmp_path / "m", threads=1, base=files[1])
    assert reasons(result) == [Reason.NONE, Reason.REPLAYED_UPDATE, Reason.NONE]
    assert result.base == content_digest(files[1])


def test_a_base_model_with_a_servers_state_is_measured_by_its_trained_part(tmp_path: Path) -> None:
    files = write(tmp_path, (1, 2, 3))
    base = tmp_path / "base"
    state = {f"server.m.{name}": array for name, array in tensors_of(9).items()}
    save_tensors(base, tensors_of(3) | state)
    result = aggregate_files(MEDIAN, files, tmp_path / "m", threads=1, base=base)
    assert reasons(result) == [Reason.NONE, Reason.NONE, Reason.REPLAYED_UPDATE]
    assert result.coordinates == 36


def test_a_base_model_that_is_not_finite_ends_it(tmp_path: Path) -> None:
    files = write(tmp_path, (1, 2, 3))
    base = changed(write(tmp_path, [4])[0], lambda t: t["bias"].fill(np.nan))
    with pytest.raises(InvalidInputError, match=r"U4\.safetensors: tensor bias: expected numbers"):
        aggregate_files(MEDIAN, files, tmp_path / "m", threads=1, base=base)


def test_without_a_base_model_steps_measure_the_updates_themselves(tmp_path: Path) -> None:
    files = write(tmp_path, (1, 2, 3))
    zeros = {name: np.zeros_like(array) for name, array in tensors_of(1).items()}
    save_tensors(tmp_path / "zeros", zeros)
    clipping = declare("norm_clipping", [])
    bare = aggregate_files(clipping, files, tmp_path / "bare", threads=1)
    based = aggregate_files(clipping, files, tmp_path / "m", threads=1, base=tmp_path / "zeros")
    other = aggregate_files(clipping, files[1:], tmp_path / "n", threads=1, base=files[0])
    same = aggregate_files(clipping, files[1:], tmp_path / "o", threads=1)
    assert (bare.model, bare.verdicts) == (based.model, based.verdicts)
    assert bare.base is None
    assert other.model != same.model


def test_without_a_base_model_the_tensors_that_most_files_have_are_expected(tmp_path: Path) -> None:
    save_tensors(tmp_path / "first", {"other": np.ones(3)})
    files = [tmp_path / "first", *write(tmp_path, (1, 2))]
    result = aggregate_files(MEDIAN, files, tmp_path / "m", threads=1)
    assert reasons(result) == [Reason.TENSOR_NAME_MISMATCH, Reason.NONE, Reason.NONE]
    # Where as many have one as the other, it is at least the same in any order.
    models = {
        aggregate_files(MEDIAN, pair, tmp_path / f"m{i}", threads=1).model
        for i, pair in enumerate((files[:2], files[1::-1]))
    }
    assert len(models) == 1


def test_torchs_files_of_bfloat16_are_aggregated_and_said_to_be_so(tmp_path: Path) -> None:
    generator = torch.Generator().manual_seed(1)
    files, wide = [], []
    for number in range(3):
        values = torch.randn(5, 3, generator=generator).bfloat16()
        files.append(tmp_path / f"{number}.bf16")
        safetensors.torch.save_file({"w": values}, files[-1], metadata={"format": "pt"})
        wide.append(tmp_path / f"{number}.f32")
        wide[-1].write_bytes(tensor_bytes({"w": values.float().numpy()}))
    result = aggregate_files(MEDIAN, files, tmp_path / "m", threads=2)
    assert result.model == aggregate_files(MEDIAN, wide, tmp_path / "n", threads=1).model
    assert "BF16 read as F32: 1" in result.verdicts[0].remark


def test_names_are_file_names_and_so_is_a_root(tmp_path: Path) -> None:
    files = write(tmp_path, (1, 2, 3))
    root = Pipeline((fl_trust("U2.safetensors"),))
    assert aggregate_files(root, files, tmp_path / "m", threads=1).verdicts[1].score == 0
    with pytest.raises(UnfitRoundError, match="needs the update of nobody, found none"):
        aggregate_files(Pipeline((fl_trust("nobody"),)), files, tmp_path / "n", threads=1)


def test_files_of_one_name_in_two_folders_go_by_their_paths(tmp_path: Path) -> None:
    files = []
    for seed in (1, 2):
        (tmp_path / str(seed)).mkdir()
        files += [path.rename(tmp_path / str(seed) / "u") for path in write(tmp_path, [seed])]
    result = aggregate_files(MEDIAN, files, tmp_path / "m", threads=1)
    assert [one.file for one in result.verdicts] == list(map(str, files))


def test_too_few_updates_say_how_many_are_needed(tmp_path: Path) -> None:
    files = write(tmp_path, range(1, 7))
    with pytest.raises(
        InvalidInputError, match=r"at least 7 updates, found 6: give more .*lower f"
    ):
        aggregate_files(Pipeline((trimmed_mean(3),)), files, tmp_path / "m", threads=1)
    changed(files[0], lambda t: t["bias"].fill(np.nan))
    words = r"at least 5 updates, found 4; not admitted: U1\.safetensors: tensor bias: expected"
    with pytest.raises(UnfitRoundError, match=words):
        aggregate_files(Pipeline((trimmed_mean(2),)), files[:5], tmp_path / "m", threads=1)


def test_nothing_is_left_of_a_failure_and_nothing_is_replaced(tmp_path: Path) -> None:
    files = write(tmp_path, (1, 2, 3))
    (tmp_path / "there").write_text("mine")
    before = sorted(tmp_path.iterdir())
    cases: list[tuple[list[Path], Path, type[Exception], str]] = [
        (files, tmp_path / "there", InvalidInputError, "exists already"),
        (files, tmp_path / "no" / "m", InvalidInputError, "make it first"),
        ([*files, files[0]], tmp_path / "m", InvalidInputError, "each file once"),
        ([*files, tmp_path / "none"], tmp_path / "m", OSError, "none"),
        ([], tmp_path / "m", InvalidInputError, "at least 1 updates, found 0"),
        ([tmp_path / "there"], tmp_path / "m", UnfitRoundError, "no update can be read.*there"),
        ([tmp_path / f"{n}" for n in range(129)], tmp_path / "m", InvalidInputError, "most 128"),
    ]
    for given, out, kind, words in cases:
        with pytest.raises(kind, match=words):
            aggregate_files(MEDIAN, given, out, threads=1)
    assert sorted(tmp_path.iterdir()) == before
    assert (tmp_path / "there").read_text() == "mine"


def test_a_screen_that_leaves_too_few_makes_no_model(tmp_path: Path) -> None:
    for name, size in (("a", 1.0), ("b", 1.1), ("c", 100.0)):
        save_tensors(tmp_path / name, {"w": np.array([size, size])})
    path = tmp_path / "p.json"
    path.write_text(
        '[{"name":"norm_range","params":{"lower":0,"upper":2000000}},'
        '{"name":"trimmed_mean","params":{"f":1}}]'
    )
    files = [tmp_path / name for name in "abc"]
    with pytest.raises(UnfitRoundError, match="trimmed_mean needs at least 3 updates, found 2"):
        aggregate_files(read_declared(path), files, tmp_path / "m", threads=1)
    assert not (tmp_path / "m").exists()


def test_progress_is_told_by_stage(tmp_path: Path) -> None:
    told: list[Progress] = []
    files = write(tmp_path, (1, 2, 3))
    aggregate_files(MEDIAN, files, tmp_path / "m", threads=2, progress=told.append)
    assert [(one.stage, one.done) for one in told] == [
        *(("read", done) for done in range(4)),
        *(("admit", done) for done in range(4)),
        ("aggregate", 0),
        ("aggregate", 1),
    ]


def test_the_result_is_a_value_of_json(tmp_path: Path) -> None:
    files = write(tmp_path, (1, 2, 3))
    result = aggregate_files(MEDIAN, files, tmp_path / "m", threads=2)
    told = json.loads(json.dumps(result.to_dict()))
    assert told["model"] == f"0x{content_digest(tmp_path / 'm').hex()}"
    assert told["pipeline"] == [{"name": "median", "params": {}}]
    assert (told["coordinates"], told["threads"], told["base"]) == (36, 2, None)
    assert told["seconds"] > 0
    assert told["verdicts"][0]["outcome"] == "ACCEPTED"


def test_peak_memory_is_anonymous_and_sees_what_was_freed(tmp_path: Path) -> None:
    size = 1 << 26  # bytes
    path = tmp_path / "zeros"
    path.write_bytes(bytes(size))
    with AnonymousMemory() as bare:
        pass
    with AnonymousMemory() as mapped:
        np.memmap(path, np.uint8, "r").max()
    with AnonymousMemory() as filled:
        values = np.ones(size, np.uint8)
        for _ in range(20):
            values += 1
        del values
    assert bare.peak is not None
    assert mapped.peak is not None
    assert filled.peak is not None
    assert mapped.peak < bare.peak + size / 4
    assert filled.peak > bare.peak + size / 2


def test_weights_are_read_by_name_or_path(tmp_path: Path) -> None:
    files = [tmp_path / "a", tmp_path / "b"]
    path = tmp_path / "w.json"
    path.write_text(json.dumps({"b": MAX_EXAMPLES, str(files[0]): 1}))
    assert read_examples(path, files) == (1, MAX_EXAMPLES)


@pytest.mark.parametrize(
    ("members", "words"),
    [
        ([1, 2], "an object"),
        ({"a": 1}, "expected b once, found it 0 times"),
        ({"a": 1, "b": 1, "c": 1}, "found 'c'"),
        ({"a": 1, "b": 0}, "b: expected examples, an integer from 1 to 4294967295, found 0"),
        ({"a": 1, "b": MAX_EXAMPLES + 1}, "found 4294967296"),
        ({"a": 1, "b": 1.0}, "found 1.0"),
        ({"a": 1, "b": True}, "found True"),
        ({"a": 1, "b": "1"}, "found '1'"),
    ],
)
def test_weights_that_are_not_clear_are_refused(tmp_path: Path, members: Any, words: str) -> None:
    path = tmp_path / "w.json"
    path.write_text(json.dumps(members))
    with pytest.raises(InvalidInputError, match=f"w.json: .*{words}"):
        read_examples(path, [tmp_path / "a", tmp_path / "b"])


def test_a_file_that_is_weighed_twice_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "w.json"
    path.write_text(json.dumps({"a": 1, str(tmp_path / "a"): 2}))
    with pytest.raises(InvalidInputError, match="expected a once, found it 2 times"):
        read_examples(path, [tmp_path / "a"])
