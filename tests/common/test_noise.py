"""The noise generator is Philox, is independent of order, and has the documented distributions."""

import numpy as np
from scipy.stats import chisquare, kstest

from common.noise import gumbel_noise, philox, uniform_noise

ONES = 0xFFFFFFFF
LOGITS = np.array([0.0, 1.0, -1.0, 2.0, 0.5])


def test_known_answers_of_philox():
    zero = philox(np.zeros((1, 4), np.uint64), np.zeros((1, 2), np.uint64))
    ones = philox(np.full((1, 4), ONES, np.uint64), np.full((1, 2), ONES, np.uint64))
    digits_of_pi = philox(
        np.array([[0x243F6A88, 0x85A308D3, 0x13198A2E, 0x03707344]]), np.array([[0xA4093822, 0x299F31D0]])
    )
    assert [f"{word:08x}" for word in zero[0]] == ["6627e8d5", "e169c58d", "bc57ac4c", "9b00dbd8"]
    assert [f"{word:08x}" for word in ones[0]] == ["408f276d", "41c83b0e", "a20bc7c6", "6d5451fd"]
    assert [f"{word:08x}" for word in digits_of_pi[0]] == ["d16cfe09", "94fdcceb", "5001e420", "24126ea1"]


def test_noise_is_the_same_in_any_order_and_company():
    streams = np.arange(50) * 7
    repeats = np.arange(50) % 3
    steps = np.arange(50)[::-1]
    together = uniform_noise(3, streams, repeats, steps, 15)
    order = np.random.default_rng(0).permutation(50)
    assert np.array_equal(uniform_noise(3, streams[order], repeats[order], steps[order], 15), together[order])
    alone = [uniform_noise(3, s, r, t, 15)[0] for s, r, t in zip(streams, repeats, steps)]
    assert np.array_equal(np.stack(alone), together)
    assert np.array_equal(uniform_noise(3, streams, repeats, steps, 6), together[:, :6])


def test_noise_depends_on_each_of_its_keys():
    draws = [
        uniform_noise(*key, 4)[0].tolist()
        for key in ((0, 0, 0, 0), (1, 0, 0, 0), (0, 1, 0, 0), (0, 0, 1, 0), (0, 0, 0, 1))
    ]
    assert len({tuple(draw) for draw in draws}) == 5


def test_no_environments_is_no_noise():
    assert uniform_noise(0, np.zeros(0, int), 0, 0, 15).shape == (0, 15)


def test_uniform_noise_is_uniform_and_never_0_or_1():
    draws = uniform_noise(0, np.arange(20_000), 0, 5, 3)
    assert draws.min() > 0
    assert draws.max() < 1
    assert all(kstest(column, "uniform").pvalue > 1e-3 for column in draws.T)
    assert np.abs(np.corrcoef(draws.T)[np.triu_indices(3, 1)]).max() < 0.03


def test_gumbel_moments():
    noise = gumbel_noise(0, np.arange(40_000), 0, 0, 5)
    assert noise.dtype == np.float32
    assert abs(noise.mean() - np.euler_gamma) < 0.01
    assert abs(noise.var() - np.pi**2 / 6) < 0.03


def choices_fit_softmax(noise: np.ndarray) -> float:
    """p-value of the chi-square test that argmax(logits + noise) draws from softmax(logits)."""
    counts = np.bincount((LOGITS + noise).argmax(1), minlength=len(LOGITS))
    share = np.exp(LOGITS) / np.exp(LOGITS).sum()
    return chisquare(counts, share * counts.sum()).pvalue


def test_gumbel_max_draws_from_softmax_and_the_test_would_notice_if_not():
    noise = gumbel_noise(1, np.arange(40_000), 0, 9, len(LOGITS))
    assert choices_fit_softmax(noise) > 1e-3
    assert choices_fit_softmax(0.9 * noise) < 1e-6
    assert choices_fit_softmax(-noise) < 1e-6
