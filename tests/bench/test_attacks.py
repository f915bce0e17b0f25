"""Every attack does what its paper says, on vectors small enough to check."""

from statistics import NormalDist

import numpy as np
import pytest

from bench.attacks import (
    GREATEST_CLAIM,
    TRIGGERS,
    Knowledge,
    Vectors,
    all_attacks,
    clone,
    drift,
    flip_labels,
    free_ride,
    hide_likeness,
    inner_product_manipulation,
    little_is_enough,
    min_max,
    min_sum,
    plant_trigger,
    replace_model,
    scale_to_clip_bound,
    scale_up,
    send_not_finite,
    sign_flip,
)

DIMENSION = 200


@pytest.fixture
def known() -> Knowledge:
    rng = np.random.default_rng(3)
    base = rng.normal(size=DIMENSION)
    honest = base + 0.5 + rng.normal(0.0, 0.3, (8, DIMENSION))
    own = base - 0.2 + rng.normal(0.0, 0.3, (2, DIMENSION))
    return Knowledge(base, own, honest, 0.2, rng)


def distances(vectors: Vectors, others: Vectors) -> Vectors:
    return np.asarray(np.linalg.norm(vectors[:, None] - others, axis=2))


def test_every_attack_has_a_name_of_its_own_and_gives_one_update_for_each_attacker(
    known: Knowledge,
) -> None:
    attacks = all_attacks(target=0)
    assert len({attack.name for attack in attacks}) == len(attacks)
    assert all(attack.forge(known).shape == (2, DIMENSION) for attack in attacks)


def test_flipped_labels_are_all_wrong() -> None:
    labels = np.array([0, 1, 1, 0])
    images = np.zeros((4, 28, 28))
    assert not np.any(flip_labels(images, labels, np.random.default_rng(0))[1] == labels)


@pytest.mark.parametrize("name", TRIGGERS)
def test_a_trigger_is_the_same_change_on_every_image_and_spares_the_original(name: str) -> None:
    images = np.random.default_rng(0).random((3, 28, 28))
    before = images.copy()
    once = TRIGGERS[name](images)
    assert np.array_equal(images, before)
    assert once.min() >= 0.0
    assert once.max() <= 1.0
    changed = np.any(once != images, axis=0)
    assert changed.any()
    if name != "blended":
        assert changed.mean() < 0.05
        assert np.array_equal(once[0][changed], once[1][changed])


def test_poisoned_data_keep_the_clean_images_and_add_stamped_ones_with_the_target_label() -> None:
    rng = np.random.default_rng(0)
    images, labels = rng.random((40, 28, 28)), np.arange(40) % 2
    poison = plant_trigger(TRIGGERS["cross"], target=0, share=0.5)
    poisoned, taught = poison(images, labels, rng)
    assert np.array_equal(poisoned[:40], images)
    assert np.array_equal(taught[:40], labels)
    assert len(poisoned) == 80
    assert np.all(taught[40:] == 0)
    stamped_ill = TRIGGERS["cross"](images[labels == 1])
    assert all(np.any(np.all(one == stamped_ill, axis=(1, 2))) for one in poisoned[40:])


def test_sign_flip_goes_backwards(known: Knowledge) -> None:
    flipped = sign_flip(known, scale=2.0) - known.base
    assert np.allclose(flipped, -2.0 * (known.own - known.base))


def test_inner_product_manipulation_turns_the_mean_against_the_honest(known: Knowledge) -> None:
    forged = inner_product_manipulation(known)
    mean = np.concatenate([known.honest, forged]).mean(axis=0) - known.base
    assert mean @ (known.mean - known.base) < 0


def test_a_little_is_enough_stays_within_the_spread_of_every_coordinate(known: Knowledge) -> None:
    z = (known.mean - little_is_enough(known, least=1.5)[0]) / known.honest.std(axis=0)
    assert np.allclose(z, 1.5)


def test_a_little_is_enough_goes_further_where_the_paper_lets_many_attackers(
    known: Knowledge,
) -> None:
    many = Knowledge(known.base, np.repeat(known.own, 3, axis=0), known.honest, 0.4, known.rng)
    z = (known.mean - little_is_enough(many, least=0.0)[0]) / known.honest.std(axis=0)
    # Fourteen hospitals, six attackers: two honest ones of eight give them the majority.
    assert np.allclose(z, NormalDist().inv_cdf(6 / 8))


def test_min_max_goes_as_far_as_the_farthest_honest_pair_and_no_further(known: Knowledge) -> None:
    farthest = distances(min_max(known)[:1], known.honest).max()
    assert farthest == pytest.approx(distances(known.honest, known.honest).max(), rel=1e-6)


def test_min_sum_goes_as_far_as_the_most_distant_honest_update(known: Knowledge) -> None:
    total = np.square(distances(min_sum(known)[:1], known.honest)).sum()
    bound = np.square(distances(known.honest, known.honest)).sum(axis=1).max()
    assert total == pytest.approx(bound, rel=1e-6)


def test_scaling_survives_averaging(known: Knowledge) -> None:
    forged = scale_up(known, factor=5.0)
    assert np.allclose((forged - known.base) / 5.0, known.own - known.base)


def test_an_attacker_at_the_clip_bound_is_as_long_as_the_median_honest_step(
    known: Knowledge,
) -> None:
    lengths = np.linalg.norm(scale_to_clip_bound(known) - known.base, axis=1)
    honest = np.linalg.norm(known.honest - known.base, axis=1)
    assert np.allclose(lengths, np.median(honest))


def test_disguised_attackers_keep_the_bound_and_are_less_alike(known: Knowledge) -> None:
    same = Knowledge(known.base, known.together(known.own[0]), known.honest, 0.2, known.rng)
    steps = hide_likeness(same, likeness=0.4) - known.base
    lengths = np.linalg.norm(steps, axis=1)
    assert np.allclose(lengths, known.clip_bound)
    assert steps[0] @ steps[1] / lengths.prod() == pytest.approx(0.4, abs=0.15)


def test_model_replacement_makes_the_weighted_mean_the_attackers_model(known: Knowledge) -> None:
    forged = replace_model(known)
    mean = 0.8 * known.mean + 0.2 * forged.mean(axis=0)
    assert np.allclose(mean, known.own.mean(axis=0))


def test_a_free_rider_stays_at_the_base_model(known: Knowledge) -> None:
    assert np.abs(free_ride(known) - known.base).max() < 1e-3


def test_clones_are_alike_but_not_equal(known: Knowledge) -> None:
    first, second = clone(known)
    assert np.allclose(first, second, atol=1e-3)
    assert not np.array_equal(first.astype(np.float32), second.astype(np.float32))


def test_what_is_not_finite_is_sent_by_every_attacker(known: Knowledge) -> None:
    sent = send_not_finite(known)
    assert np.isnan(sent[0::2]).any(axis=1).all()
    assert np.isinf(sent[1::2]).any(axis=1).all()


def test_a_claimed_weight_is_the_greatest_that_a_record_can_hold() -> None:
    claims = {attack.name: attack.claim for attack in all_attacks(target=0)}
    assert claims["claimed weight"] == GREATEST_CLAIM == 2**32 - 1


def test_slow_drift_is_never_further_out_than_the_nearest_honest_update(known: Knowledge) -> None:
    out = np.linalg.norm(drift(known) - known.mean, axis=1)
    assert np.all(out <= np.linalg.norm(known.honest - known.mean, axis=1).min() + 1e-9)
