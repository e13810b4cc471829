"""Subsamples, outliers, leading components, clusters and embeddings of planted points."""

import numpy as np
import pytest

from analysis.maps.direction_fits import spectrum
from analysis.maps.map_parts import index_in
from common.runs import UsageError
from interpret.clustering import Clusters, best_jaccard, cluster_stability, fit_clusters, gaussian_null
from interpret.directions.fitting import sample_of
from interpret.directions.pca import fit_pca
from interpret.embedding import embed, neighbour_preservation, trustworthiness
from interpret.subsample import (
    inliers,
    leading_components,
    nearest_neighbours,
    num_components_for,
    principal_space,
    scores_of,
    subsample,
    varying_columns,
)

EPISODES = 60
STEPS = 20
CENTRES = 6


def blobs(seed: int = 0, width: int = 8) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Points [1200, width] around six centres, the centre of each, and its episode."""
    rng = np.random.default_rng(seed)
    centres = np.random.default_rng(99).normal(scale=6, size=(CENTRES, width))
    kind = rng.integers(CENTRES, size=EPISODES * STEPS)
    points = centres[kind] + rng.normal(size=(len(kind), width))
    return points.astype(np.float32), kind, np.repeat(np.arange(EPISODES), STEPS)


def test_a_subsample_is_proportional_to_episode_length():
    groups = np.repeat([3, 1, 2], [100, 300, 600])
    rows = subsample(np.random.default_rng(0).permutation(groups), 100)
    assert len(np.unique(rows)) == 100
    assert (np.diff(rows) > 0).all()
    for _ in range(5):
        order = np.random.default_rng(1).permutation(groups)
        assert np.abs(np.bincount(order[subsample(order, 100)])[1:] - [30, 60, 10]).max() <= 1
    assert not np.array_equal(subsample(groups, 100, 0), subsample(groups, 100, 1))
    assert np.array_equal(subsample(groups, 100, 1), subsample(groups, 100, 1))
    assert np.array_equal(subsample(groups, 5000), np.arange(1000))
    assert all(
        len(np.unique(subsample(groups, most, seed))) == most for most in (333, 700, 999) for seed in range(5)
    )
    with pytest.raises(UsageError, match="--points is 0: give 1 or more"):
        subsample(groups, 0)


def test_a_uniform_sample_is_not_stratified():
    groups = np.repeat(np.arange(100), 10)
    spread = [
        np.bincount(groups[rows], minlength=100).std()
        for rows in (subsample(groups, 500), np.random.default_rng(0).permutation(1000)[:500])
    ]
    assert spread[0] < 0.8 < spread[1]


def test_far_points_are_outliers_and_near_ones_inliers():
    points, _, _ = blobs()
    points[:7] += 40 * np.random.default_rng(5).choice([-1, 1], points[:7].shape)
    found = inliers(points)
    assert not found.kept[:7].any()
    assert found.kept[7:].mean() > 0.97
    shares = [inliers(blobs()[0], sigmas=sigmas).kept.mean() for sigmas in (0.5, 2, 20)]
    assert shares[0] < shares[1] < shares[2] == 1
    by_hand = np.sort(np.linalg.norm(points[:, None] - points, axis=2), 1)[
        :, 1:6
    ]  # the first is the point itself
    assert np.allclose(found.distance, np.median(by_hand, 1), atol=1e-3)
    assert not np.allclose(inliers(points, neighbours=9).distance, found.distance)
    with pytest.raises(UsageError, match="neighbours"):
        inliers(points[:4])
    with pytest.raises(UsageError, match="leave none of"):
        inliers(points, sigmas=-50.0)


def test_a_point_is_not_its_own_neighbour_even_among_duplicates():
    points = np.zeros((6, 2), np.float32)
    distance, row = nearest_neighbours(points, points, 3, np.arange(6))
    assert (row != np.arange(6)[:, None]).all()
    assert not distance.any()


def test_index_in_finds_rows_of_a_sample():
    sample = np.array([2, 5, 6, 9])
    assert index_in(np.array([0, 2, 6, 7, 9, 11]), sample).tolist() == [-1, 0, 2, -1, 3, -1]


def test_fewer_components_than_features_explain_less_than_all_variance(caplog):
    rng = np.random.default_rng(0)
    x = rng.normal(size=(2000, 12))
    groups = np.arange(2000) % 8
    numbers = spectrum(fit_pca(x, groups, 7))
    z = sample_of(x, groups).standardised()
    held = np.linalg.eigvalsh(z.T @ z / len(z))[::-1][:7].sum() / 12
    assert np.isclose(sum(numbers["shares"]), held, atol=0.02)
    assert held < 0.8
    assert numbers["axes_for"]["95%"] is None
    assert numbers["axes_for"]["50%"] == 6
    assert len(leading_components(fit_pca(x, groups, 7), 0.95)) == 7
    assert "hold less than 95%" in caplog.text
    assert len(leading_components(fit_pca(x, groups, 7), 0.01)) == 2, "a map has two axes"
    whole = spectrum(fit_pca(x, np.arange(2000), 12))
    assert np.isclose(sum(whole["shares"]), 1)
    assert whole["axes_for"]["99%"] == 12


def test_leading_components_reach_the_variance_share_minimally():
    assert num_components_for(np.array([90, 5, 4, 1.0])) == 2  # exactly 95%
    assert num_components_for(np.array([90, 4, 4, 2.0])) == 3
    points, _, groups = blobs()
    for share in (0.5, 0.8, 0.95):
        space = principal_space(points, groups, share)
        held = np.sum(space.provenance["variance"]) / space.width
        assert held >= share > (np.sum(space.provenance["variance"][:-1])) / space.width
    pca = fit_pca(points, groups, 8)
    assert len(leading_components(pca.within(np.arange(8), 20), 0.8)) == len(leading_components(pca, 0.8)), (
        "features that were left out have no variance to hold"
    )
    scores = scores_of(principal_space(points, groups, 1.0), points)
    z = sample_of(points, groups).standardised()
    assert np.allclose(
        np.linalg.norm(scores[:50, None] - scores[50:90], axis=2),
        np.linalg.norm(z[:50, None] - z[50:90], axis=2),
        atol=1e-3,
    )


def test_too_few_states_are_refused():
    points, _, groups = blobs()
    points[3, 2] = np.nan
    with pytest.raises(UsageError, match="NaN"):
        principal_space(points, groups)
    with pytest.raises(UsageError, match="never change"):
        principal_space(np.ones_like(points), groups)


def test_constant_features_are_found():
    points = blobs()[0]
    points[:, [2, 5]] = 3.25
    assert varying_columns(points).tolist() == [0, 1, 3, 4, 6, 7]
    with pytest.raises(UsageError, match="nothing to map"):
        varying_columns(np.ones((5, 3)))


def test_planted_clusters_are_recovered_and_new_points_assigned():
    points, kind, groups = blobs()
    found = fit_clusters(points, groups, CENTRES)
    labels = found.assign(points)
    assert best_jaccard(kind, labels, CENTRES).min() > 0.99
    assert (np.diff(np.bincount(labels)) <= 0).all(), "the largest comes first"
    new, true, _ = blobs(seed=1)
    assert best_jaccard(true, found.assign(new), CENTRES).min() > 0.99
    by_hand = np.linalg.norm(new[:, None].astype(float) - found.centres, axis=2).argmin(1)
    assert np.array_equal(by_hand, found.assign(new))
    assert best_jaccard(true, Clusters(found.centres[::-1]).assign(new)[::-1], CENTRES).min() < 0.9, (
        "the test sees wrong labels"
    )
    with pytest.raises(UsageError, match="ask for fewer, or record more"):
        fit_clusters(points, groups, EPISODES + 1)


def test_clusters_are_stable_only_if_the_points_have_clusters():
    points, _, groups = blobs()
    found = cluster_stability(points, groups, CENTRES, draws=5)
    nothing = cluster_stability(gaussian_null(points), groups, CENTRES, draws=5)
    assert found.rand.mean() > 0.95
    assert found.stable.all()
    assert found.jaccard.shape == (5, CENTRES)
    assert nothing.rand.mean() < 0.8
    assert not nothing.stable.all()
    assert np.allclose(np.cov(gaussian_null(points).T), np.cov(points.T), rtol=0.3, atol=2)


@pytest.mark.parametrize("kind", ["pca", "tsne", pytest.param("umap", marks=pytest.mark.slow)])
def test_maps_separate_planted_clusters_and_project_new_points_into_them(kind):
    points, own, groups = (part[::3] for part in blobs())
    scores = principal_space(points, groups, 1.0)
    x = scores_of(scores, points)
    made = embed(kind, x)
    middle = np.stack([made.points[own == i].mean(0) for i in range(CENTRES)])
    new, true, _ = blobs(seed=1)
    placed = made.place(scores_of(scores, new[:100]))
    nearest_middle = np.linalg.norm(placed[:, None] - middle, axis=2).argmin(1)
    floor = 0.6 if kind == "pca" else 0.97  # two of eight axes do not hold six blobs apart
    assert (nearest_middle == true[:100]).mean() > floor
    trust, shuffled = (
        trustworthiness(x, flat) for flat in (made.points, np.random.default_rng(0).permutation(made.points))
    )
    assert trust > (0.75 if kind == "pca" else 0.9)
    assert abs(shuffled - 0.5) < 0.06
    for _ in range(2):
        twins = made.place(x[:50])
        assert np.median(np.linalg.norm(twins - made.points[:50], axis=1)) < 0.1 * made.points.std(), (
            "what is placed again lies where it was"
        )
    itself = neighbour_preservation(x[:100], made.points[:100], x, made.points)
    without = neighbour_preservation(x[:100], made.points[:100], x, made.points, np.arange(100))
    assert without.mean() < itself.mean() - 0.01, "a point is no neighbour of itself"
    kept = neighbour_preservation(scores_of(scores, new[:100]), placed, x, made.points)
    wrong = neighbour_preservation(scores_of(scores, new[:100]), placed[::-1], x, made.points)
    assert kept.shape == (100,)
    assert kept.mean() > 3 * wrong.mean()


def test_a_map_needs_a_known_kind_and_enough_points():
    with pytest.raises(UsageError, match="pca, tsne, umap"):
        embed("isomap", np.zeros((500, 3)))
    with pytest.raises(UsageError, match="record more"):
        embed("tsne", np.zeros((20, 3)))
