"""Calibration of return conditioning: the return achieved against the return asked for."""

import logging
from collections.abc import Callable, Sequence

import numpy as np
from scipy.stats import rankdata

from agents.evaluate import Episodes, evaluate
from common.policy import Policy
from common.stats import Estimate, estimate, level_weights, mean
from decision.model import DecisionTransformer
from decision.policy import DTPolicy
from rollouts.play import EpisodeSpec


def episodes_per_target(
    model: DecisionTransformer,
    targets: Sequence[float],
    env,
    jobs: Sequence[EpisodeSpec],
    seed: int,
    behaviour: Callable[[Policy], Policy] = lambda policy: policy,
    device="cpu",
    progress: bool = False,
) -> list[Episodes]:
    """Plays the same episodes, with the same action noise, once for each target return.

    Args:
        model: a Decision Transformer.
        targets: [K], in units of reward.
        env: VecEnv, see `rollouts.play.play`.
        jobs: episodes to play.
        seed: of the action noise.
        behaviour: wraps the policy (agents/behaviours.py); default: samples it.
        device: where the model is.
        progress: whether to show progress bars.
    """
    return [
        evaluate(behaviour(DTPolicy(model, target)), env, jobs, seed, device, progress) for target in targets
    ]


class PeriodicRollouts:
    """Mean returns of the same episodes for each target, as columns of the training log.

    Args:
        env: VecEnv, see `rollouts.play.play`.
        jobs: episodes to play.
        targets: returns to ask for.
        seed: of the action noise.
        device: where the model is.
    """

    def __init__(self, env, jobs: Sequence[EpisodeSpec], targets: Sequence[float], seed: int, device="cpu"):
        self.env = env
        self.jobs = jobs
        self.targets = targets
        self.seed = seed
        self.device = device
        self.columns = tuple(f"return_asked_{target:g}" for target in targets)

    def __call__(self, model: DecisionTransformer) -> dict[str, float]:
        played = episodes_per_target(model, self.targets, self.env, self.jobs, self.seed, device=self.device)
        return {name: float(e.total_reward.mean()) for name, e in zip(self.columns, played)}


def warn_of_targets_outside(targets: Sequence[float], low: float, high: float) -> None:
    """Logs a warning that names the targets outside the training data's returns, which lie in [low, high]."""
    outside = [target for target in targets if not low <= target <= high]
    if outside:
        logging.warning(
            "returns %s lie outside the training data, which has %g to %g",
            ", ".join(f"{target:g}" for target in outside),
            low,
            high,
        )


def rank_correlation(targets: Sequence[float], returns: np.ndarray, levels: np.ndarray) -> Estimate:
    """Spearman correlation of target and mean achieved return, over targets; the interval resamples levels.

    Args:
        targets: [K], two or more different ones.
        returns: [K, n], of the same n episodes for each target.
        levels: [n].

    Returns:
        NaN where every target achieves the same.
    """
    achieved = _means(returns, levels)
    return estimate(_correlation(rankdata(achieved, axis=1), rankdata(targets)))


def slope(targets: Sequence[float], returns: np.ndarray, levels: np.ndarray) -> Estimate:
    """Slope of the least-squares line of achieved on asked return; 1 where the model does as it is asked, 0
    where asking changes nothing. Arguments as in `rank_correlation`.
    """
    asked = np.asarray(targets, float) - np.mean(targets)
    return estimate(_means(returns, levels) @ asked / (asked @ asked))


def difference(returns: np.ndarray, baseline: np.ndarray, levels: np.ndarray) -> Estimate:
    """Mean paired difference [n] of the returns of the same episodes, bootstrapped by level."""
    return estimate(mean(level_weights(levels), np.asarray(returns, float) - baseline))


def _means(returns: np.ndarray, levels: np.ndarray) -> np.ndarray:
    """Mean return of each target in the data and in each resample, [1 + R, K]."""
    return mean(level_weights(levels), np.asarray(returns, float).T)


def _correlation(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """Pearson correlation of each row of x [R, K] with y [K]; NaN where a row is constant."""
    x = x - x.mean(1, keepdims=True)
    y = y - y.mean()
    scale = np.sqrt((x**2).sum(1) * (y**2).sum())
    return np.divide(x @ y, scale, out=np.full(len(x), np.nan), where=scale > 0)
