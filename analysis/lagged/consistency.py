"""Consistency of Jacobians with lagged correlations, for all episodes and for each behaviour."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from common.stats import json_number, level_weights, percentile_interval, ratio
from interpret.attribution.mean_jacobians import group_sums, sign_flip_p
from interpret.attribution.sign_agreement import (
    WithNull,
    magnitude_agreement,
    resampled_agreement,
    resampled_magnitudes,
    sign_agreement,
    signs,
)
from interpret.lagged import LaggedCorrelations, discoveries, hypothesis_mask
from interpret.lagged_resamples import episode_sums, resampled_correlations

NAME = "dynamics_grads_consistency"
VERSION = 1
COMMAND = "python analysis/dynamics_grads_consistency_precompute.py"


@dataclass(frozen=True)
class Members:
    """Samples of a subset, n of them.

    Args:
        jacobians: {path: [n, L, K, K]}, at lags 1 to L.
        group: [n].
        scores: of all steps of their episodes [sum of length, K].
        length: [n].
    """

    jacobians: Mapping[str, np.ndarray]
    group: np.ndarray
    scores: np.ndarray
    length: np.ndarray

    @property
    def lags(self) -> int:
        return next(iter(self.jacobians.values())).shape[1]

    def subset(self, member: np.ndarray) -> "Members":
        """Those of which member [n] is True."""
        return Members(
            {path: x[member] for path, x in self.jacobians.items()},
            self.group[member],
            self.scores[np.repeat(member, self.length)],
            self.length[member],
        )

    def means(self) -> dict[str, np.ndarray]:
        """Mean Jacobian [L, K, K] along each path."""
        return {path: x.mean(0) for path, x in self.jacobians.items()}

    def p_values(self) -> dict[str, np.ndarray]:
        """p-values [L, K, K] of the means along each path; NaN for effects of a score on itself."""
        index = np.unique(self.group, return_inverse=True)[1]
        tested = hypothesis_mask(self.lags + 1, self.scores.shape[1])[1:]
        return {
            path: np.where(tested, sign_flip_p(group_sums(x, index)), np.nan)
            for path, x in self.jacobians.items()
        }


def correlation_signs(found: LaggedCorrelations, significant: np.ndarray) -> np.ndarray:
    """Signs [L, K, K] of significant correlations at lags 1 to L.

    0 also where a correlation has another sign than its distance from a null: there the null has that sign.
    """
    beyond = [np.sign(found.correlation - mean) == np.sign(found.correlation) for mean in found.mean.values()]
    return signs(found.correlation[1:], (significant & np.all(beyond, axis=0))[1:])


def significant_by_subset(
    p: Mapping[str, Mapping[str, np.ndarray]], fdr: float
) -> dict[str, dict[str, np.ndarray]]:
    """{subset: {path: [...] bool}}: discoveries at one rate over all p-values {subset: {path: [...]}}."""
    keys = [(name, path) for name, by_path in p.items() for path in by_path]
    marks = discoveries(np.stack([p[name][path] for name, path in keys]), fdr)
    found: dict[str, dict[str, np.ndarray]] = {name: {} for name in p}
    for (name, path), one in zip(keys, marks):
        found[name][path] = one
    return found


@dataclass(frozen=True)
class Consistency:
    """Agreement of a mean Jacobian with correlations at L lags and over all of them.

    sign, magnitude: with their nulls. sign_interval, magnitude_interval: [L + 1, 2], by start episode.
    jacobian_signs, correlation_signs: [L, K, K], of which entries that are 0 in either count for nothing.
    """

    sign: WithNull
    magnitude: WithNull
    sign_interval: np.ndarray
    magnitude_interval: np.ndarray
    jacobian_signs: np.ndarray
    correlation_signs: np.ndarray


def consistency(
    members: Members,
    path: str,
    significant: np.ndarray,
    found: LaggedCorrelations,
    correlated: np.ndarray,
    orders: np.ndarray,
    resamples: int,
    seed: int,
) -> Consistency:
    """Agreement along a path.

    Args:
        members: of the subset.
        path: of their Jacobians.
        significant: entries of the mean Jacobian [L, K, K].
        found: correlations in the same episodes, at lags 0 to L.
        correlated: signs of the correlations, see `correlation_signs`.
        orders: relabellings [P, K].
        resamples: bootstrap resamples of start episodes.
        seed: of the resamples.
    """
    mean = members.jacobians[path].mean(0)
    caused = signs(mean, significant)
    jacobians, correlations = resampled(members, path, resamples, seed)
    shares = resampled_agreement(jacobians, correlations, caused * correlated != 0)
    sizes = resampled_magnitudes(jacobians, correlations)
    return Consistency(
        sign_agreement(caused, correlated, orders),
        magnitude_agreement(mean, found.correlation[1:], orders),
        np.stack(percentile_interval(shares), -1),
        np.stack(percentile_interval(sizes), -1),
        caused,
        correlated,
    )


def resampled(members: Members, path: str, resamples: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Mean Jacobians and correlations [1 + R, L, K, K] at lags 1 to L, in the same resamples."""
    weights = level_weights(members.group, resamples, seed=seed)
    x = members.jacobians[path]
    sums = episode_sums(members.scores, members.length, members.lags)
    return ratio(weights, x, np.ones((len(x), 1, 1, 1))), resampled_correlations(sums, weights)[:, 1:]


def consistency_rows(found: Consistency) -> list[dict]:
    """Numbers of each lag, and last those of all lags together, whose lag is "all"."""
    rows = []
    for at in range(len(found.sign.value)):
        lag = at + 1 if at + 1 < len(found.sign.value) else "all"
        rows.append(
            {
                "lag": lag,
                "sign": _numbers(found.sign, found.sign_interval, at),
                "magnitude": _numbers(found.magnitude, found.magnitude_interval, at),
            }
        )
    return rows


def _numbers(statistic: WithNull, interval: np.ndarray, at: int) -> dict:
    low, high = statistic.null_interval[at]
    null = {"mean": statistic.null_mean[at], "low": low, "high": high}
    return {
        "value": json_number(statistic.value[at]),
        "low": json_number(interval[at, 0]),
        "high": json_number(interval[at, 1]),
        "n": int(statistic.n[at]),
        "null": {name: json_number(x) for name, x in null.items()},
        "p": json_number(statistic.p[at]),
    }


def mark_significant(rows: Sequence[dict], fdr: float) -> None:
    """Adds `significant` to the numbers of each row, at one rate over all rows, for either statistic."""
    for kind in ("sign", "magnitude"):
        p = np.array([np.nan if row[kind]["p"] is None else row[kind]["p"] for row in rows])
        for row, one in zip(rows, discoveries(p, fdr)):
            row[kind]["significant"] = bool(one)
