"""Debiased CKA: against the definition, on planted truths, without bias, and with intervals that cover."""

from itertools import permutations

import numpy as np
import pytest

from interpret.cka import BLOCKS, cka_of, debiased_hsic, jackknife, layout_cka

RNG = np.random.default_rng


def rotation(width: int, seed: int = 0) -> np.ndarray:
    return np.linalg.qr(RNG(seed).standard_normal((width, width)))[0]


def brute_force_hsic(x: np.ndarray, y: np.ndarray) -> float:
    """The mean of Gretton's kernel over all ordered quadruples of different steps."""
    a, b = x @ x.T, y @ y.T
    terms = [a[i, j] * (b[i, j] + b[q, r] - 2 * b[i, q]) for i, j, q, r in permutations(range(len(x)), 4)]
    return float(np.mean(terms))


def test_hsic_is_the_mean_over_quadruples_of_different_steps():
    x, y = RNG(0).standard_normal((7, 3)) + 2, RNG(1).standard_normal((7, 5))
    y[:, :3] += x
    found = debiased_hsic([x, y])
    for i, a in enumerate((x, y)):
        for j, b in enumerate((x, y)):
            assert found[i, j] == pytest.approx(brute_force_hsic(a, b), rel=1e-9)


def test_a_rotated_and_scaled_layer_has_one():
    x = RNG(0).standard_normal((60, 8)) * np.arange(1, 9)
    cka = cka_of(debiased_hsic([x, 3 * x @ rotation(8) + 5]))
    np.testing.assert_allclose(cka, 1, atol=1e-9)


def test_unrelated_wide_layers_have_zero_on_average_and_the_plain_estimate_does_not():
    x, y = RNG(0).standard_normal((2, 200, 40, 300))
    debiased = np.mean([cka_of(debiased_hsic([a, b]))[0, 1] for a, b in zip(x, y)])
    assert abs(debiased) < 0.02
    centred = [z[0] - z[0].mean(0) for z in (x, y)]
    grams = [z @ z.T for z in centred]
    plain = (grams[0] * grams[1]).sum() / np.sqrt((grams[0] ** 2).sum() * (grams[1] ** 2).sum())
    assert plain > 0.8


def layers(seed: int, layouts: int = 80, steps: int = 6, shared: float = 1.0):
    """Two layers of steps of layouts that share a part, and the layout of each step."""
    rng = RNG(seed)
    common = rng.standard_normal((layouts * steps, 4)) + 2 * rng.standard_normal((layouts, 1, 4)).repeat(
        steps, 1
    ).reshape(-1, 4)
    one = np.concatenate([shared * common, rng.standard_normal((len(common), 4))], 1)
    other = np.concatenate([shared * common, rng.standard_normal((len(common), 4))], 1) @ rotation(8, seed)
    return one, other, np.arange(layouts).repeat(steps)


def test_shuffled_steps_give_zero_within_the_interval_and_true_ones_do_not():
    one, other, layout = layers(0)
    shuffled = RNG(1).permutation(layout.max() + 1)[:, None] * 6 + np.arange(6)
    for second, related in ((other, True), (other[shuffled.ravel()], False)):
        _, low, high = (part[0, 1] for part in jackknife(layout_cka([one, second], layout, draws=5)))
        assert (low > 0.5) if related else (low < 0 < high)


def test_rows_of_one_layout_do_not_count_as_independent():
    """With every layout one constant, steps within it would look like many; one per layout is drawn."""
    one, other, layout = layers(2)
    constant = [x.reshape(80, 6, -1)[:, :1].repeat(6, 1).reshape(480, -1) for x in (one, other)]
    found = layout_cka(constant, layout, draws=3)
    np.testing.assert_allclose(found[0], cka_of(debiased_hsic([x[::6] for x in constant])), atol=1e-9)


def test_intervals_cover_the_truth_in_most_samples():
    truth = np.mean(
        [cka_of(debiased_hsic(layers(seed, layouts=1500, steps=1)[:2]))[0, 1] for seed in range(900, 904)]
    )
    covered = 0
    for seed in range(40):
        one, other, layout = layers(seed, layouts=100, steps=1)
        other = other @ rotation(8, seed).T @ rotation(8, seed)
        _, low, high = (part[0, 1] for part in jackknife(layout_cka([one, other], layout, draws=1)))
        covered += low <= truth <= high
    assert covered >= 34


def test_the_jackknife_of_a_mean_is_its_standard_error():
    x = RNG(0).standard_normal(BLOCKS)
    statistic = np.array([x.mean(), *((x.sum() - x) / (BLOCKS - 1))])
    value, low, high = jackknife(statistic)
    assert high - value == pytest.approx(2.093 * x.std(ddof=1) / np.sqrt(BLOCKS), rel=1e-3)
    assert value - low == pytest.approx(high - value)


def test_seed_and_draws_change_the_choice_of_steps():
    one, other, layout = layers(3)
    first = layout_cka([one, other], layout, draws=2)
    assert np.array_equal(first, layout_cka([one, other], layout, draws=2))
    assert not np.array_equal(first, layout_cka([one, other], layout, draws=2, seed=1))
    assert not np.array_equal(first, layout_cka([one, other], layout, draws=3))


def test_too_few_layouts_are_refused_and_constant_layers_have_no_score():
    one, other, layout = layers(0, layouts=39)
    with pytest.raises(ValueError, match="39 layouts are too few"):
        layout_cka([one, other], layout)
    assert np.isnan(cka_of(debiased_hsic([one[:50], np.ones((50, 3))]))[0, 1])
