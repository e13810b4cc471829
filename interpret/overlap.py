"""How far two samples of states differ: a classifier's AUROC on unseen levels, and the maximum mean
discrepancy.

Compare both with the same numbers for two real samples. At such n every difference is significant.
"""

from typing import NamedTuple

import numpy as np
from sklearn.ensemble import HistGradientBoostingClassifier
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from common.runs import UsageError
from common.stats import Estimate, estimate, level_weights
from common.words import counted
from interpret.classification_scores import ranking_scores
from rollouts.growth import RECORD_MORE

STEP = "hx_overlap"
VERSION = 1
"""Of the step that computes these numbers."""
FOLDS = 5
RESAMPLES = 200
CLASSIFIERS = {
    "linear": lambda seed: make_pipeline(StandardScaler(), LogisticRegression(C=0.1, max_iter=300)),
    "trees": lambda seed: HistGradientBoostingClassifier(max_iter=100, random_state=seed),
}


class StateSample(NamedTuple):
    """States with their levels."""

    x: np.ndarray
    """[n, D]."""
    level: np.ndarray
    """[n]."""
    k: np.ndarray
    """[n]: steps since the start."""

    def where(self, rows: np.ndarray) -> "StateSample":
        return StateSample(*(column[rows] for column in self))


def split_levels(levels: np.ndarray, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Two random halves of the distinct levels. Raises UsageError for too few to make folds of."""
    unique = np.random.default_rng([seed, 15]).permutation(np.unique(levels))
    if len(unique) < 4 * FOLDS:
        raise UsageError(
            f"too few to tell samples apart on unseen levels: {counted(len(unique), 'level')}, "
            f"and it takes {4 * FOLDS}: {RECORD_MORE}"
        )
    return unique[: len(unique) // 2], unique[len(unique) // 2 :]


def out_of_fold_scores(
    a: StateSample, b: StateSample, kind: str, seed: int = 0
) -> tuple[np.ndarray, np.ndarray]:
    """Scores [n] that each state is from the first sample, by a classifier that has not seen its level; and
    labels [n].

    Each fold holds its share of the levels of either sample. Between small samples of the same distribution
    the AUROC falls below 0.5, because levels missing from training are those held out; the comparison of two
    real samples has the same bias.
    """
    x = np.concatenate([a.x, b.x])
    first = np.repeat([True, False], [len(a.x), len(b.x)])
    fold = np.concatenate([_folds(sample.level, seed) for sample in (a, b)])
    scores = np.empty(len(x))
    for held_out in range(FOLDS):
        test = fold == held_out
        model = CLASSIFIERS[kind](seed).fit(x[~test], first[~test])
        scores[test] = model.predict_proba(x[test])[:, 1]
    return scores, first


def _folds(level: np.ndarray, seed: int) -> np.ndarray:
    """The fold [n] of each state, one for all states of a level."""
    levels, index = np.unique(level, return_inverse=True)
    return (np.random.default_rng([seed, 16]).permutation(len(levels)) % FOLDS)[index]


def auroc(
    a: StateSample, b: StateSample, scores: np.ndarray, first: np.ndarray, rows: np.ndarray, seed: int = 0
) -> Estimate:
    """AUROC of out-of-fold scores over some rows, with its interval by level; 0.5 for equal distributions.

    Args:
        a, b: the samples.
        scores: [n], of both samples concatenated.
        first: [n] bool, which are of sample a.
        rows: [n] bool, which are scored.
        seed: of the resamples.
    """
    levels, index = np.unique(np.concatenate([a.level, b.level]), return_inverse=True)
    return estimate(
        ranking_scores(level_weights(levels, RESAMPLES, seed=seed), scores, first, rows, index)["auroc"]
    )


def mmd2(a: np.ndarray, b: np.ndarray, bandwidth: float) -> float:
    """Unbiased squared maximum mean discrepancy of a [n, D] and b [m, D] with a Gaussian kernel (Gretton et
    al. 2012).

    Its mean is 0 for equal distributions, so it can be negative.
    """

    def kernel(p, q):
        return np.exp(-_squared(p, q) / (2 * bandwidth**2))

    n = len(a)
    m = len(b)
    within = (kernel(a, a).sum() - n) / (n * (n - 1)) + (kernel(b, b).sum() - m) / (m * (m - 1))
    return float(within - 2 * kernel(a, b).mean())


def median_distance(x: np.ndarray) -> float:
    """Median distance between two of x [n, D]: the usual kernel bandwidth."""
    return float(np.sqrt(np.median(_squared(x, x)[np.triu_indices(len(x), 1)])))


def _squared(p: np.ndarray, q: np.ndarray) -> np.ndarray:
    return np.maximum((p**2).sum(1)[:, None] - 2 * p @ q.T + (q**2).sum(1), 0)
