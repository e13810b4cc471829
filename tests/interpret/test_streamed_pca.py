"""Streamed principal components equal those of the whole for any pieces, in the memory of one piece."""

import tracemalloc

import numpy as np
import pytest
import torch

from common.runs import UsageError
from interpret.directions.pca import fit_pca
from interpret.directions.streamed_pca import streamed_moments, streamed_pca


def states(n: int = 3000, width: int = 60, seed: int = 0) -> np.ndarray:
    """Features of many scales over twelve factors of falling size, and noise."""
    rng = np.random.default_rng(seed)
    factors = rng.normal(size=(n, 12)) * 0.8 ** np.arange(12)
    return (
        (factors @ rng.normal(size=(12, width)) + 0.3 * rng.normal(size=(n, width)))
        * np.exp(rng.normal(size=width))
        + 5
    ).astype(np.float32)


def in_pieces(x, *cuts):
    return lambda: iter(np.split(x, cuts))


def test_axes_scores_and_variance_are_those_of_the_whole():
    x = states()
    whole = fit_pca(x, np.arange(len(x)), 6)
    found = streamed_pca(in_pieces(x, 700, 701, 2500), 6)
    assert found.names == whole.names
    assert found.provenance["n"] == 3000
    assert found.provenance["total_variance"] == 60
    np.testing.assert_allclose(found.provenance["variance"], whole.provenance["variance"], rtol=1e-3)
    for name in ("read", "write"):
        a, b = (
            torch.nn.functional.normalize(getattr(which, name), dim=int(name == "read"))
            for which in (found, whole)
        )
        assert (a * b).sum(int(name == "read")).min() > 0.999
    np.testing.assert_allclose(
        found.scores(torch.from_numpy(x)), whole.scores(torch.from_numpy(x)), atol=0.05
    )
    assert torch.allclose(found.read @ found.write, torch.eye(6, dtype=torch.float64), atol=1e-4)


def test_results_do_not_depend_on_pieces_or_float16():
    x = states()
    one = streamed_pca(in_pieces(x), 5)
    many = streamed_pca(in_pieces(x, *range(100, 3000, 100)), 5)
    torch.testing.assert_close(one.write, many.write, rtol=1e-3, atol=1e-3)
    half = streamed_pca(in_pieces((x / 20).astype(np.float16), 1000), 5)
    np.testing.assert_allclose(half.provenance["variance"], one.provenance["variance"], rtol=0.01)


def test_more_passes_are_more_accurate_and_one_is_not_enough():
    x = states(width=200)
    true = np.array(fit_pca(x, np.arange(len(x)), 12).provenance["variance"])
    error = [
        np.abs(np.array(streamed_pca(in_pieces(x), 12, passes=p).provenance["variance"]) / true - 1).max()
        for p in (1, 4)
    ]
    assert error[1] < 0.01 < error[0]


def test_constant_features_are_left_out():
    x = states()
    dead = np.insert(x, 7, 3.0, axis=1)
    found = streamed_pca(in_pieces(dead, 1000), 4)
    without = streamed_pca(in_pieces(x, 1000), 4)
    assert found.width == 61
    assert not found.read[:, 7].any()
    assert not found.write[7].any()
    torch.testing.assert_close(np.delete(found.read, 7, 1), without.read, rtol=1e-4, atol=1e-6)
    assert len(streamed_pca(in_pieces(x[:, :3]), 10)) == 3  # no more than there are features


def test_moments_are_those_of_the_whole_even_far_from_zero():
    x = states() + 1000
    n, mean, std = streamed_moments(in_pieces(x, 17, 900))
    assert n == 3000
    np.testing.assert_allclose(mean, x.mean(0, dtype=np.float64), rtol=1e-12)
    np.testing.assert_allclose(std, x.std(0, dtype=np.float64), rtol=1e-9)


def test_memory_grows_with_a_piece_not_with_the_store():
    def peak(pieces):
        def made():
            rng = np.random.default_rng(0)
            return (rng.normal(size=(100, 500)).astype(np.float32) for _ in range(pieces))

        tracemalloc.start()
        streamed_pca(made, 4, passes=1)
        most = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        return most

    assert peak(12) < 1.2 * peak(3)


def test_bad_states_are_refused_in_one_line():
    x = states()
    x[5, 5] = np.nan
    with pytest.raises(UsageError, match="NaN"):
        streamed_pca(in_pieces(x), 3)
    with pytest.raises(UsageError, match="3 directions need more than 3 states, and there are 2"):
        streamed_pca(in_pieces(states()[:2]), 3)
    with pytest.raises(UsageError, match="no states"):
        streamed_pca(lambda: iter(()), 3)
