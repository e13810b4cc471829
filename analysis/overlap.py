"""How far two samples of states differ, as effect sizes: a classifier's AUROC on levels that it has not seen, and the maximum mean discrepancy.

Both are to be read beside the same number for two real samples: p-values say nothing at such n, and neither does a number alone.
"""

from typing import NamedTuple

import numpy as np
from sklearn.ensemble import HistGradientBoostingClassifier
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from analysis.outcome_scores import ranking
from common.runs import UsageError
from common.words import counted
from interpret.resampling import Estimate, estimate, level_weights
from rollouts.growth import RECORD_MORE

STEP, VERSION = "hx_overlap", 1
"""The step whose numbers these are."""
FOLDS, RESAMPLES = 5, 200
CLASSIFIERS = {
    "linear": lambda seed: make_pipeline(StandardScaler(), LogisticRegression(C=0.1, max_iter=300)),
    "trees": lambda seed: HistGradientBoostingClassifier(max_iter=100, random_state=seed),
}


class Cloud(NamedTuple):
    """States x [n, D], the level of each [n], and how many steps after the start that it shares with others of its level: k [n]."""

    x: np.ndarray
    level: np.ndarray
    k: np.ndarray

    def where(self, rows: np.ndarray) -> "Cloud":
        return Cloud(*(column[rows] for column in self))


def split_levels(levels: np.ndarray, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Two random halves of the distinct levels. Raises UsageError for too few to part them into folds."""
    unique = np.random.default_rng([seed, 15]).permutation(np.unique(levels))
    if len(unique) < 4 * FOLDS:
        raise UsageError(f"too few to tell samples apart on unseen levels: {counted(len(unique), 'level')}, and it takes {4 * FOLDS}: {RECORD_MORE}")
    return unique[: len(unique) // 2], unique[len(unique) // 2 :]


def out_of_fold(a: Cloud, b: Cloud, kind: str, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """The score [n] that each state is of the first sample, by a classifier that has not seen its level, and whether it is [n].

    Each fold holds its share of either sample's levels, which differ. Where nothing tells small samples apart the area is below 0.5: what is missing
    from the levels at hand is in those held out. The floor has the same bias.
    """
    x, first = np.concatenate([a.x, b.x]), np.repeat([True, False], [len(a.x), len(b.x)])
    fold = np.concatenate([_folds(sample.level, seed) for sample in (a, b)])
    scores = np.empty(len(x))
    for held_out in range(FOLDS):
        test = fold == held_out
        model = CLASSIFIERS[kind](seed).fit(x[~test], first[~test])
        scores[test] = model.predict_proba(x[test])[:, 1]
    return scores, first


def _folds(level: np.ndarray, seed: int) -> np.ndarray:
    """A fold [n] for each state, the same for all of a level."""
    levels, index = np.unique(level, return_inverse=True)
    return (np.random.default_rng([seed, 16]).permutation(len(levels)) % FOLDS)[index]


def auroc(a: Cloud, b: Cloud, scores: np.ndarray, first: np.ndarray, rows: np.ndarray, seed: int = 0) -> Estimate:
    """AUROC of out-of-fold scores over some rows [n] bool, its interval over levels drawn again: 0.5 where nothing tells the samples apart."""
    levels, index = np.unique(np.concatenate([a.level, b.level]), return_inverse=True)
    return estimate(ranking(level_weights(levels, RESAMPLES, seed), scores, first, rows, index)["auroc"])


def mmd2(a: np.ndarray, b: np.ndarray, bandwidth: float) -> float:
    """The squared maximum mean discrepancy of a [n, D] and b [m, D] with a Gaussian kernel, without bias (Gretton et al. 2012): 0 on average for equal
    distributions, which may come out below 0."""

    def kernel(p, q):
        return np.exp(-_squared(p, q) / (2 * bandwidth**2))

    n, m = len(a), len(b)
    within = (kernel(a, a).sum() - n) / (n * (n - 1)) + (kernel(b, b).sum() - m) / (m * (m - 1))
    return float(within - 2 * kernel(a, b).mean())


def median_distance(x: np.ndarray) -> float:
    """The median distance between two of x [n, D]: the usual bandwidth."""
    return float(np.sqrt(np.median(_squared(x, x)[np.triu_indices(len(x), 1)])))


def _squared(p: np.ndarray, q: np.ndarray) -> np.ndarray:
    return np.maximum((p**2).sum(1)[:, None] - 2 * p @ q.T + (q**2).sum(1), 0)
