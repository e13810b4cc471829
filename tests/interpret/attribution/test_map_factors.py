"""Regions of saliency maps: planted ones are found, with their shares and stability."""

import numpy as np
import pytest

from common.runs import UsageError
from interpret.attribution.map_factors import fit_map_factors, pool_magnitude

LEVELS = np.repeat(np.arange(30), 4)


def planted(noise: float = 0.01) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Maps [120, 6, 8] that are sums of three regions, the regions [3, 6, 8] and their weights [120, 3]."""
    rng = np.random.default_rng(0)
    regions = np.zeros((3, 6, 8))
    regions[0, :, :3], regions[1, :2, 4:], regions[2, 3:, 5:] = 1, 1, 1
    weights = rng.exponential(size=(len(LEVELS), 3)) * [1, 2, 0.5]
    maps = np.einsum("nk,khw->nhw", weights, regions) + noise * rng.random((len(LEVELS), 6, 8))
    return maps.astype(np.float32), regions, weights


def test_magnitudes_are_averaged_over_squares():
    maps = np.random.default_rng(0).normal(size=(2, 8, 12))
    pooled = pool_magnitude(maps, 4)
    assert pooled.shape == (2, 2, 3)
    assert pooled[1, 0, 2] == pytest.approx(np.abs(maps[1, 0:4, 8:12]).mean(), rel=1e-6)


def test_opposite_signs_do_not_cancel():
    checks = np.where(np.indices((4, 4)).sum(0) % 2, 1.0, -1.0)[None]
    assert pool_magnitude(checks, 4).item() == pytest.approx(1)


def test_squares_divide_the_frame():
    assert pool_magnitude(np.ones((1, 9, 6)), 4).shape == (1, 3, 2)


def test_integers_of_eight_bits_do_not_overflow():
    assert pool_magnitude(np.full((1, 4, 4), -128, np.int8)).item() == 128


def test_planted_regions_are_found_the_largest_share_first():
    maps, regions, weights = planted()
    found = fit_map_factors(maps, LEVELS, 3)
    mass = weights.sum(0) * regions.sum((1, 2))
    order = np.argsort(-mass)
    assert np.abs(found.regions - regions[order]).max() < 0.05
    assert found.share == pytest.approx(mass[order] / mass.sum(), abs=0.02)
    for k, planted_weights in enumerate(weights[:, order].T):
        assert np.corrcoef(found.weights[:, k], planted_weights)[0, 1] > 0.99


def test_explained_is_the_share_of_the_sum_of_squares():
    maps, *_ = planted(noise=0.5)
    found = fit_map_factors(maps, LEVELS, 2)
    rebuilt = np.einsum("nk,khw->nhw", found.weights, found.regions)
    assert found.explained == pytest.approx(1 - ((maps - rebuilt) ** 2).sum() / (maps**2).sum(), abs=1e-5)


def test_planted_regions_are_stable_and_those_of_noise_are_not():
    maps, *_ = planted()
    noise = np.random.default_rng(1).exponential(size=maps.shape).astype(np.float32)
    assert fit_map_factors(maps, LEVELS, 3, 20).stable.all()
    assert not fit_map_factors(noise, LEVELS, 3, 20).stable.any()


def test_the_seed_draws_other_resamples():
    maps, *_ = planted(noise=0.5)
    one, same, other = (fit_map_factors(maps, LEVELS, 3, 20, seed).cosines for seed in (0, 0, 1))
    assert np.array_equal(one, same)
    assert not np.array_equal(one, other)


def test_stability_of_few_levels_is_untested():
    maps, *_ = planted()
    assert fit_map_factors(maps, LEVELS % 19, 3, 20).stable is None


@pytest.mark.parametrize(
    ("scale", "count", "draws", "words"),
    [(1, 200, 0, "ask for 1 to 48"), (1, 3, 5, "take at least 20"), (0, 3, 0, "every saliency map is zero")],
)
def test_bad_requests_are_refused(scale, count, draws, words):
    maps, *_ = planted()
    with pytest.raises(UsageError, match=words):
        fit_map_factors(scale * maps, LEVELS, count, draws)
