"""Training gives the same bytes for the same inputs, learns, and refuses what it cannot learn."""

from pathlib import Path

import numpy as np
import pytest
import torch

from chain.digests import content_digest
from chain.errors import InvalidInputError
from chain.tensors import open_tensors, save_tensors
from node import training
from node.tasks import TASKS, task_named
from node.training import Progress, code_digest, evaluate, initial_model, schema_of, train

TASK = "pneumonia-2d"


def bright_squares(n: int = 24, side: int = 28, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Noise, with a bright square in every second image: a question that is quickly learned."""
    rng = np.random.default_rng(seed)
    images = rng.normal(100.0, 10.0, (n, side, side)).astype(np.float32)
    labels = (np.arange(n) % 2).astype(np.int64)
    images[labels == 1, 10:18, 10:18] += 120.0
    return images, labels


@pytest.fixture
def base(tmp_path: Path) -> Path:
    path = tmp_path / "base.safetensors"
    initial_model(TASK, 1, path)
    return path


def test_training_twice_gives_the_same_bytes(base: Path, tmp_path: Path) -> None:
    images, labels = bright_squares()
    torch.manual_seed(1)
    first = train(TASK, base, images, labels, tmp_path / "1", seed=5, epochs=2)
    torch.manual_seed(2)
    second = train(TASK, base, images, labels, tmp_path / "2", seed=5, epochs=2)
    assert (tmp_path / "1").read_bytes() == (tmp_path / "2").read_bytes()
    assert first.content == second.content == content_digest(tmp_path / "1")
    assert first.losses == second.losses
    assert train(TASK, base, images, labels, tmp_path / "3", seed=6, epochs=2) != first


def test_training_learns(base: Path, tmp_path: Path) -> None:
    images, labels = bright_squares(48)
    train(TASK, base, images, labels, tmp_path / "update", seed=1, epochs=12)
    before = evaluate(TASK, base, *bright_squares(40, seed=9))
    after = evaluate(TASK, tmp_path / "update", *bright_squares(40, seed=9))
    assert after.auc > 0.95
    assert after.loss < before.loss


def test_an_update_has_the_schema_of_its_task(base: Path, tmp_path: Path) -> None:
    images, labels = bright_squares(4)
    train(TASK, base, images, labels, tmp_path / "update", seed=1, epochs=1)
    with open_tensors(tmp_path / "update") as file:
        assert file.schema == schema_of(TASK)
        assert {array.dtype for array in file.arrays.values()} == {np.dtype(np.float32)}
    assert (tmp_path / "update").stat().st_size == schema_of(TASK).file_size()


@pytest.mark.parametrize("name", sorted(TASKS))
@pytest.mark.parametrize("shape", [(28, 28), (48, 48), (64, 40), (100, 120)])
def test_a_task_takes_images_of_many_sizes(
    name: str, shape: tuple[int, int], tmp_path: Path
) -> None:
    initial_model(name, 0, tmp_path / "base")
    images = np.random.default_rng(0).normal(size=(4, *shape)).astype(np.float32)
    found = evaluate(name, tmp_path / "base", images, np.array([0, 1, 0, 1]))
    assert np.isfinite(found.loss)


def test_a_models_parameters_are_float32_and_few_enough() -> None:
    for name in TASKS:
        schema = schema_of(name)
        assert {spec.dtype for spec in schema.tensors} == {"F32"}
        assert 20_000 <= schema.file_size() / 4 <= 100_000


def test_first_models_differ_by_their_seed_alone(tmp_path: Path) -> None:
    torch.manual_seed(3)
    one = initial_model(TASK, 1, tmp_path / "1")
    assert initial_model(TASK, 1, tmp_path / "2") == one
    assert initial_model(TASK, 2, tmp_path / "3") != one


def test_progress_is_told_epoch_by_epoch(base: Path, tmp_path: Path) -> None:
    told: list[Progress] = []
    images, labels = bright_squares(4)
    report = train(
        TASK, base, images, labels, tmp_path / "u", seed=1, epochs=3, on_epoch=told.append
    )
    assert [step.epoch for step in told] == [1, 2, 3]
    assert tuple(step.loss for step in told) == report.losses
    assert report.examples == 4


def test_a_brighter_scanner_changes_nothing(base: Path) -> None:
    images, labels = bright_squares()
    plain = evaluate(TASK, base, images, labels)
    brighter = evaluate(TASK, base, images * 16 + 1000, labels)
    assert brighter.loss == pytest.approx(plain.loss, abs=1e-4)


def test_a_hospital_with_one_class_can_train(base: Path, tmp_path: Path) -> None:
    images, _ = bright_squares(8)
    report = train(TASK, base, images, np.ones(8, np.int64), tmp_path / "u", seed=1, epochs=1)
    assert np.isfinite(report.losses).all()


def test_a_single_image_without_contrast_can_be_trained_on(base: Path, tmp_path: Path) -> None:
    images = np.full((1, 28, 28), 7, dtype=np.uint8)
    train(TASK, base, images, np.zeros(1, np.int64), tmp_path / "u", seed=1, epochs=1)


@pytest.mark.parametrize(
    ("images", "labels", "told"),
    [
        (np.zeros((2, 27, 28), np.float32), np.array([0, 1]), "sides of at least 28"),
        (np.zeros((0, 28, 28), np.float32), np.zeros(0, np.int64), "sides of at least 28"),
        (np.zeros((2, 28, 28), np.float32), np.array([0, 2]), "label from 0 to 1"),
        (np.zeros((2, 28, 28), np.float32), np.array([0]), "label from 0 to 1"),
        (np.full((2, 28, 28), np.inf, np.float32), np.array([0, 1]), "finite images"),
    ],
)
def test_data_that_do_not_suit_the_task_are_refused(
    base: Path, tmp_path: Path, images: np.ndarray, labels: np.ndarray, told: str
) -> None:
    with pytest.raises(InvalidInputError, match=told):
        train(TASK, base, images, labels, tmp_path / "u", seed=1)
    assert not (tmp_path / "u").exists()


def changed(base: Path, factor: float) -> Path:
    with open_tensors(base) as file:
        arrays = {name: array * np.float32(factor) for name, array in file.arrays.items()}
    path = base.with_name("changed")
    save_tensors(path, arrays)
    return path


def test_a_server_optimisers_state_in_the_base_changes_nothing(base: Path, tmp_path: Path) -> None:
    images, labels = bright_squares(8)
    bare = train(TASK, base, images, labels, tmp_path / "1", seed=1, epochs=1)
    with open_tensors(base) as file:
        state = {f"server.m.{name}": array + np.inf for name, array in file.arrays.items()}
        save_tensors(tmp_path / "stateful", {**file.arrays, **state})
    with_state = train(TASK, tmp_path / "stateful", images, labels, tmp_path / "2", 1, epochs=1)
    assert with_state.content == bare.content
    assert evaluate(TASK, tmp_path / "stateful", images, labels) == evaluate(
        TASK, base, images, labels
    )


def test_a_base_model_of_state_alone_is_refused(tmp_path: Path) -> None:
    save_tensors(tmp_path / "state", {"server.m.w": np.zeros(3, np.float32)})
    with pytest.raises(InvalidInputError, match="expected a tensor to train"):
        train(TASK, tmp_path / "state", *bright_squares(4), tmp_path / "u", seed=1)


def test_a_loss_that_is_not_finite_stops_training(base: Path, tmp_path: Path) -> None:
    images, labels = bright_squares(8)
    with pytest.raises(InvalidInputError, match="training stopped in epoch 1"):
        train(TASK, changed(base, 1e38), images, labels, tmp_path / "u", seed=1)
    assert not (tmp_path / "u").exists()


def test_a_base_model_of_another_task_or_with_infinities_is_refused(
    base: Path, tmp_path: Path
) -> None:
    images, labels = bright_squares(4)
    with np.errstate(invalid="ignore"), pytest.raises(InvalidInputError, match="finite numbers"):
        train(TASK, changed(base, float("inf")), images, labels, tmp_path / "u", seed=1)
    save_tensors(tmp_path / "other", {"weight": np.zeros(3, np.float32)})
    with pytest.raises(InvalidInputError, match="expected a model of task"):
        train(TASK, tmp_path / "other", images, labels, tmp_path / "u", seed=1)


@pytest.mark.parametrize("epochs", [0, -1, 1001])
def test_a_senseless_number_of_epochs_is_refused(base: Path, tmp_path: Path, epochs: int) -> None:
    with pytest.raises(InvalidInputError, match="1 to 1000 epochs"):
        train(TASK, base, *bright_squares(4), tmp_path / "u", 1, epochs)


def test_an_unknown_task_is_refused_with_the_known_ones() -> None:
    with pytest.raises(InvalidInputError, match="lesion-2d, pneumonia-2d, found 'cats'"):
        task_named("cats")


def test_torch_is_left_as_it_was_found(base: Path) -> None:
    threads = torch.get_num_threads()
    evaluate(TASK, base, *bright_squares(4))
    assert torch.get_num_threads() == threads
    assert not torch.are_deterministic_algorithms_enabled()


@pytest.fixture
def room(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    (tmp_path / "room" / "inner").mkdir(parents=True)
    (tmp_path / "room" / "a.py").write_text("x = 1\n")
    monkeypatch.setattr(training, "__file__", str(tmp_path / "room" / "training.py"))
    return tmp_path / "room"


def test_the_code_digest_names_every_source_and_nothing_else(room: Path) -> None:
    first = code_digest()
    (room / "notes.txt").write_text("x")
    assert code_digest() == first
    (room / "inner" / "b.py").write_text("")
    second = code_digest()
    assert second != first
    (room / "inner" / "b.py").rename(room / "inner" / "c.py")
    assert code_digest() not in {first, second}
