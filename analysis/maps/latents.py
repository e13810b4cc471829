"""The bottleneck of a world model: latents of recorded windows beside draws from the prior, and how far the
former are from the latter.
"""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch

from common.runs import UsageError, file_id
from common.stats import Estimate
from generative.simulator import Simulator
from interpret.directions.fitting import orient, principal
from interpret.overlap import Cloud, auroc, out_of_fold
from interpret.posterior import Aggregate, aggregate
from rollouts.store import Rollouts
from rollouts.windows import Windows

STEP = "bottleneck_vec_analysis"
VERSION = 1
COMMAND = "python analysis/bottleneck_vec_analysis_precompute.py --model_file MODEL --agent_file AGENT --data_dir STORE"
_BATCH = 64
_PERMUTATIONS = 200


def check_origin(store: Rollouts, model_file: Path, real: Rollouts | None) -> None:
    """Raises UsageError unless the simulated store is of this model and begins in frames of the real store,
    or at random latents for None.
    """
    if not store.simulated:
        raise UsageError(
            f"{store.path} holds real episodes, which have no latents: give a store that record_gen_samples.py made"
        )
    inputs = store.manifest["inputs"]
    informed = bool((store.episodes["source_episode"] >= 0).all())
    if inputs["model_file"] != file_id(model_file):
        raise UsageError(
            f"{store.path} is of world model {inputs['model_file']}, not {model_file}: record it again with this one"
        )
    if informed != (real is not None):
        begun = "recorded frames" if informed else "random latents"
        raise UsageError(
            f"{store.path} begins in {begun}: the informed store is recorded without --rand_init, the random one with it"
        )
    if real is not None and inputs["data_dir"] != real.id:
        raise UsageError(
            f"{store.path} begins in frames of another store than {real.path}: give the one that it was recorded from"
        )


def posteriors(
    simulator: Simulator,
    real: Rollouts,
    store: Rollouts,
    episodes: np.ndarray,
    device,
    advance: Callable = lambda count: None,
) -> tuple[np.ndarray, np.ndarray | None]:
    """Mean and log-variance [n, Z] of q(z) for the windows that simulated episodes began in; no log-variance
    on the sphere.
    """
    k = simulator.model.config.num_initializing_steps
    table = np.stack(
        [store.episodes["source_episode"][episodes], store.episodes["source_step"][episodes] - k + 1], 1
    )
    windows = Windows(real, k, table)
    means = []
    spreads = []
    for at in range(0, len(table), _BATCH):
        frames = windows.batch(np.arange(at, min(at + _BATCH, len(table)))).obs
        with torch.no_grad():
            latent = simulator.encode(frames.to(device))
        means.append(latent.mean.float().cpu().numpy())
        spreads += [] if latent.log_variance is None else [latent.log_variance.float().cpu().numpy()]
        advance(frames.shape[1])
    return np.concatenate(means), np.concatenate(spreads) if spreads else None


def by_episode(store: Rollouts, episodes: np.ndarray) -> dict[str, np.ndarray]:
    """What came of each latent [n]: the largest expected reward, whether the model ended the episode, and the
    mean value.
    """
    first = store.first_step
    columns = {
        "reward": np.maximum.reduceat(store.steps("reward"), first),
        "done": np.logical_or.reduceat(store.steps("terminated"), first),
        "value": np.add.reduceat(store.steps("value"), first) / store.episodes["length"],
    }
    return {name: column[episodes] for name, column in columns.items()}


def prior_axes(informed: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Principal axes [Z, Z] of informed latents [n, Z] in the prior's own units, in which each has variance
    1; their variances [Z]; their mean.
    """
    mean = informed.mean(0, dtype=np.float64)
    axes, variance = principal(np.cov(informed.T, bias=True), informed.shape[1])
    return axes * orient(axes.T)[:, None], variance, mean


def distance(a: np.ndarray, b: np.ndarray, groups_a: np.ndarray, groups_b: np.ndarray, seed: int) -> dict:
    """How well two samples of latents [n, Z], [m, Z] are told apart on levels unseen: AUROC from values
    alone, and from values and squares, so that spreads and correlations count; the root of MMD^2 and the 95th
    percentile of what it is where levels are dealt out at random.
    """
    both = np.concatenate([a, b]).astype(np.float64)
    axes, _, mean = prior_axes(both)
    turned = (both - mean) @ axes.T
    groups = np.unique(np.concatenate([groups_a, groups_b]), return_inverse=True)[1]
    found = {}
    for name, x in (("values", turned), ("values and squares", np.concatenate([turned, turned**2], 1))):
        clouds = [
            Cloud(x[rows], groups[rows], np.zeros(len(rows)))
            for rows in (np.arange(len(a)), len(a) + np.arange(len(b)))
        ]
        score, first = out_of_fold(*clouds, "linear", seed)
        found[name] = plain(auroc(*clouds, score, first, np.ones(len(x), bool), seed))
    mmd, limit = discrepancy(both, len(a), groups, np.random.default_rng([seed, 18]))
    return found | {"mmd": mmd, "mmd_null": limit}


def discrepancy(
    both: np.ndarray, count: int, groups: np.ndarray, rng: np.random.Generator
) -> tuple[float, float]:
    """Root of the unbiased MMD^2 (Gretton et al. 2012) of the first `count` of both [n, Z] and the rest, with
    a Gaussian kernel as wide as the median distance; and the 95th percentile of what it is where whole groups
    [n] are dealt to the two samples at random.
    """
    square = (both**2).sum(1)
    apart = np.maximum(square[:, None] + square - 2 * both @ both.T, 0)
    kernel = np.exp(-apart / (2 * np.median(apart[np.triu_indices(len(both), 1)])))
    np.fill_diagonal(kernel, 0)
    first = np.stack(
        [np.arange(len(both)) < count, *(_dealt(groups, count, rng) for _ in range(_PERMUTATIONS))], 1
    ).astype(np.float64)  # [n, 1 + P]
    n = first.sum(0)
    across = kernel @ first
    m = len(both) - n
    aa = (first * across).sum(0)
    ab = across.sum(0) - aa
    bb = kernel.sum() - aa - 2 * ab
    roots = np.sqrt(np.maximum(aa / (n * (n - 1)) + bb / (m * (m - 1)) - 2 * ab / (n * m), 0))
    return float(roots[0]), float(np.quantile(roots[1:], 0.95))


def _dealt(groups: np.ndarray, count: int, rng: np.random.Generator) -> np.ndarray:
    """[n] bool: whole groups [n], in random order, until they hold `count`."""
    sizes = np.bincount(groups)
    order = rng.permutation(len(sizes))
    return np.isin(groups, order[: np.searchsorted(np.cumsum(sizes[order]), count) + 1])


def plain(estimate: Estimate) -> dict:
    return {"value": estimate.value, "low": estimate.low, "high": estimate.high}


def aggregate_arrays(found: Aggregate) -> dict[str, np.ndarray]:
    return {
        name: getattr(found, name)
        for name in ("kl", "mean", "variance", "kurtosis", "of_means", "marginal_kl")
    }


def aggregate_numbers(found: Aggregate) -> dict:
    """Sums and extremes; the rate in nats per window, None on the sphere."""
    rate = float(found.kl.sum())
    return {
        "rate": rate if np.isfinite(rate) else None,
        "marginal_kl": float(found.marginal_kl.sum()),
        "active": int(found.active.sum()),
        "mean_norm": float(np.linalg.norm(found.mean)),
        "variance": [float(x) for x in np.quantile(found.variance, [0, 0.5, 1])],
        "kurtosis": [float(x) for x in np.quantile(found.kurtosis, [0, 0.5, 1])],
    }


def of_draws(latents: np.ndarray) -> Aggregate:
    """The same of latents drawn from the prior, each a posterior without spread: what so many draws look
    like, mean by mean.
    """
    return aggregate(latents, None)
