"""A model's figures are those of their definitions."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from chain.errors import InvalidInputError
from node.metrics import area_under_curve, binary_metrics


@given(st.lists(st.tuples(st.integers(-3, 3), st.booleans()), min_size=2, max_size=40))
def test_the_area_is_the_share_of_pairs_in_the_right_order(pairs: list[tuple[int, bool]]) -> None:
    scores = np.array([score for score, _ in pairs], dtype=np.float64)
    positive = np.array([label for _, label in pairs])
    if positive.all() or not positive.any():
        return
    ill, well = scores[positive][:, None], scores[~positive][None, :]
    expected = ((ill > well) + 0.5 * (ill == well)).mean()
    assert area_under_curve(scores, positive) == pytest.approx(expected)


def test_the_figures_of_four_images() -> None:
    logits = np.array([[0.0, 2.0], [0.0, -1.0], [0.0, 1.0], [0.0, -3.0]])
    found = binary_metrics(logits, np.array([1, 1, 0, 0]))
    assert (found.accuracy, found.sensitivity, found.specificity) == (0.5, 0.5, 0.5)
    assert found.auc == 0.75
    expected = np.log1p(np.exp([-2.0, 1.0, 1.0, -3.0])).mean()
    assert found.loss == pytest.approx(expected)


def test_one_class_alone_is_refused() -> None:
    with pytest.raises(InvalidInputError, match="both classes"):
        binary_metrics(np.zeros((3, 2)), np.ones(3, dtype=np.int64))
