"""Latents of a world model: posteriors of recorded windows against samples from the prior."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch

from common.runs import UsageError, file_id
from common.stats import Estimate
from generative.simulator import Simulator
from interpret.directions.fitting import leading_eigenvectors, orientation_signs
from interpret.overlap import StateSample, auroc, out_of_fold_scores
from interpret.posterior import AggregatePosterior, aggregate_posterior
from rollouts.store import Rollouts
from rollouts.windows import Windows

STEP = "bottleneck_vec_analysis"
VERSION = 1
COMMAND = (
    "python analysis/bottleneck_vec_analysis_precompute.py "
    "--world_model_file MODEL --agent_file AGENT --data_dir STORE"
)
_BATCH = 64
_PERMUTATIONS = 200


def check_origin(store: Rollouts, world_model_file: Path, real: Rollouts | None) -> None:
    """Raises UsageError unless the simulated store is of this model and starts as expected.

    Args:
        store: of simulated rollouts.
        world_model_file: the world model.
        real: the store whose frames the episodes start from; None for random latents.
    """
    if not store.simulated:
        raise UsageError(
            f"{store.path} holds real episodes, which have no latents: give a store recorded with "
            "record_gen_samples.py"
        )
    inputs = store.manifest["inputs"]
    informed = bool((store.episodes["source_episode"] >= 0).all())
    if inputs["world_model_file"] != file_id(world_model_file):
        raise UsageError(
            f"{store.path} is of world model {inputs['world_model_file']}, not "
            f"{world_model_file}: record it again with this model"
        )
    if informed != (real is not None):
        start = "recorded frames" if informed else "random latents"
        raise UsageError(
            f"{store.path} starts from {start}: record the informed store without --rand_init, and the "
            "random one with it"
        )
    if real is not None and inputs["data_dir"] != real.id:
        raise UsageError(
            f"{store.path} starts from frames of another store than {real.path}: give the store it was "
            "recorded from"
        )


def posteriors(
    simulator: Simulator,
    real: Rollouts,
    store: Rollouts,
    episodes: np.ndarray,
    device,
    advance: Callable = lambda count: None,
) -> tuple[np.ndarray, np.ndarray | None]:
    """q(z) of the windows that simulated episodes start from.

    Args:
        simulator: whose encoder is used.
        real: store that holds the windows.
        store: of the simulated episodes.
        episodes: indices of simulated episodes [n].
        device: of the simulator.
        advance: called with the number of windows of each finished batch.

    Returns:
        mean and log-variance [n, Z]; the log-variance is None for latents on a sphere.
    """
    k = simulator.model.config.num_initializing_steps
    first = store.episodes["source_step"][episodes] - k + 1
    table = np.stack([store.episodes["source_episode"][episodes], first], 1)
    windows = Windows(real, k, table)
    means: list[np.ndarray] = []
    log_variances: list[np.ndarray] = []
    for at in range(0, len(table), _BATCH):
        frames = windows.batch(np.arange(at, min(at + _BATCH, len(table)))).obs
        with torch.no_grad():
            latent = simulator.encode(frames.to(device))
        means.append(latent.mean.float().cpu().numpy())
        if latent.log_variance is not None:
            log_variances.append(latent.log_variance.float().cpu().numpy())
        advance(frames.shape[1])
    return np.concatenate(means), np.concatenate(log_variances) if log_variances else None


def latent_outcomes(store: Rollouts, episodes: np.ndarray) -> dict[str, np.ndarray]:
    """What each latent leads to [n]: largest predicted reward, whether the model ends it, and mean value."""
    first = store.first_step
    columns = {
        "reward": np.maximum.reduceat(store.steps("reward"), first),
        "done": np.logical_or.reduceat(store.steps("terminated"), first),
        "value": np.add.reduceat(store.steps("value"), first) / store.episodes["length"],
    }
    return {name: column[episodes] for name, column in columns.items()}


def principal_axes(latents: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Principal axes [Z, Z] of latents [n, Z], unscaled; their variances [Z]; the mean [Z]."""
    mean = latents.mean(0, dtype=np.float64)
    axes, variance = leading_eigenvectors(np.cov(latents.T, bias=True), latents.shape[1])
    return axes * orientation_signs(axes.T)[:, None], variance, mean


def sample_distance(
    a: np.ndarray, b: np.ndarray, groups_a: np.ndarray, groups_b: np.ndarray, seed: int
) -> dict:
    """How well a linear classifier and an MMD separate two samples of latents, on held-out levels.

    Args:
        a: latents [n, Z].
        b: latents [m, Z].
        groups_a: level of each latent [n].
        groups_b: level of each latent [m].
        seed: of folds and permutations.

    Returns:
        AUROC from values alone, and from values and squares, which adds spreads and correlations; mmd, the
        root of MMD^2, and mmd_null, its 95th percentile under permutation of levels.
    """
    both = np.concatenate([a, b]).astype(np.float64)
    axes, _, mean = principal_axes(both)
    rotated = (both - mean) @ axes.T
    groups = np.unique(np.concatenate([groups_a, groups_b]), return_inverse=True)[1]
    features = {"values": rotated, "values and squares": np.concatenate([rotated, rotated**2], 1)}
    rows = np.split(np.arange(len(both)), [len(a)])
    numbers = {}
    for name, x in features.items():
        clouds = [StateSample(x[mine], groups[mine], np.zeros(len(mine))) for mine in rows]
        score, first = out_of_fold_scores(*clouds, "linear", seed)
        numbers[name] = _as_dict(auroc(*clouds, score, first, np.ones(len(x), bool), seed))
    mmd, null = permutation_mmd(both, len(a), groups, np.random.default_rng([seed, 18]))
    return numbers | {"mmd": mmd, "mmd_null": null}


def permutation_mmd(
    both: np.ndarray, count: int, groups: np.ndarray, rng: np.random.Generator
) -> tuple[float, float]:
    """Root of the unbiased MMD^2 (Gretton et al. 2012), and its 95th percentile under permutation of groups.

    The kernel is Gaussian, with the median distance as its bandwidth.

    Args:
        both: two samples, one after the other [n, Z].
        count: size of the first sample.
        groups: integer group of each row [n]; permutations move whole groups.
        rng: of the permutations.
    """
    square = (both**2).sum(1)
    distance2 = np.maximum(square[:, None] + square - 2 * both @ both.T, 0)
    kernel = np.exp(-distance2 / (2 * np.median(distance2[np.triu_indices(len(both), 1)])))
    np.fill_diagonal(kernel, 0)
    permuted = (_permuted(groups, count, rng) for _ in range(_PERMUTATIONS))
    first = np.stack([np.arange(len(both)) < count, *permuted], 1).astype(np.float64)  # [n, 1 + P]
    n = first.sum(0)
    m = len(both) - n
    across = kernel @ first
    aa = (first * across).sum(0)
    ab = across.sum(0) - aa
    bb = kernel.sum() - aa - 2 * ab
    roots = np.sqrt(np.maximum(aa / (n * (n - 1)) + bb / (m * (m - 1)) - 2 * ab / (n * m), 0))
    return float(roots[0]), float(np.quantile(roots[1:], 0.95))


def _permuted(groups: np.ndarray, count: int, rng: np.random.Generator) -> np.ndarray:
    """[n] bool: whole groups [n], in random order, until they hold `count` rows."""
    sizes = np.bincount(groups)
    order = rng.permutation(len(sizes))
    return np.isin(groups, order[: np.searchsorted(np.cumsum(sizes[order]), count) + 1])


def _as_dict(estimate: Estimate) -> dict:
    return {"value": estimate.value, "low": estimate.low, "high": estimate.high}


def aggregate_arrays(posterior: AggregatePosterior) -> dict[str, np.ndarray]:
    """Statistics of every dimension [Z]."""
    names = ("kl", "mean", "variance", "kurtosis", "of_means", "marginal_kl")
    return {name: getattr(posterior, name) for name in names}


def aggregate_numbers(posterior: AggregatePosterior) -> dict:
    """Sums and extremes over dimensions; the rate is in nats per window, None for latents on a sphere."""
    rate = float(posterior.kl.sum())
    return {
        "rate": rate if np.isfinite(rate) else None,
        "marginal_kl": float(posterior.marginal_kl.sum()),
        "active": int(posterior.active.sum()),
        "mean_norm": float(np.linalg.norm(posterior.mean)),
        "variance": [float(x) for x in np.quantile(posterior.variance, [0, 0.5, 1])],
        "kurtosis": [float(x) for x in np.quantile(posterior.kurtosis, [0, 0.5, 1])],
    }


def aggregate_of_samples(latents: np.ndarray) -> AggregatePosterior:
    """The same statistics of samples from the prior, each taken as a posterior without variance."""
    return aggregate_posterior(latents, None)
