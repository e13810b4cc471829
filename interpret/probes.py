"""Linear probes: what a concept's value is read from, with the number on held-out levels that says whether it can be read at all."""

from collections.abc import Callable, Mapping, Sequence

import numpy as np
from sklearn.linear_model import LogisticRegression, Ridge
from sklearn.metrics import r2_score, roc_auc_score
from sklearn.model_selection import GridSearchCV, GroupKFold

from common.runs import UsageError
from interpret.directions import Directions
from interpret.fitting import Sample, checked, columns_of, held_out, write_columns
from interpret.resampling import Estimate, estimate
from rollouts.growth import RECORD_MORE

MOST_ROWS = 100_000
"""More states than this are thinned out at random, for the fit and for the check apart."""
PENALTIES = np.logspace(-1, 5, 7)
"""Strengths of the L2 penalty that are tried, in units of one state's error."""
FOLDS = 5
RESAMPLES = 200


def fit_probes(x, groups, concepts: Mapping[str, Sequence], seed: int = 0, write: str = "pattern") -> Directions:
    """One direction per concept {name: [n]} of x [n, D]: logistic regression for truth values (the score is the logit), ridge for numbers.

    The penalty of each is chosen by cross-validation over the groups [n] (give layouts: levels of different seeds repeat each other) within
    three quarters of them. The rest give `held_out` {name: [value, low, high]}: AUROC or R^2 with its interval over levels. write: see
    `fitting.write_columns`, jointly for all concepts, so that R E = I. Raises UsageError for a concept whose number is not above
    chance: it cannot be decoded here, and its direction would mean nothing.
    """
    columns = columns_of(concepts, len(x))
    whole = checked(x, groups, len(columns))
    test = held_out(whole.groups, seed)
    train, test = (_thinned(np.flatnonzero(part), seed) for part in (~test, test))
    sample, unseen = whole.rows(train), Sample(whole.x[test], whole.groups[test], whole.mean, whole.covariance)
    z, z_unseen = ((part.x - sample.mean) / sample.std for part in (sample, unseen))
    rows, offsets, found, penalties = [], [], {}, {}
    for name, values in columns.items():
        weights, offset, penalties[name] = _probe(z, values[train], sample.groups, name)
        found[name] = _decodable(name, values[test], z_unseen @ weights + offset, unseen.groups, seed)
        rows.append(weights), offsets.append(offset)
    read = np.stack(rows)
    columns_out = write_columns(read, sample.correlation, write)
    told = {"write_kind": write, "held_out": {name: list(number) for name, number in found.items()}, "penalties": penalties}
    origin = -columns_out @ np.array(offsets)  # at the mean state, where z is zero, a reconstruction is the mean state
    return sample.directions(read, offsets, columns_out, origin, list(columns), "probes", seed, **told)


def _probe(z: np.ndarray, values: np.ndarray, groups: np.ndarray, name: str) -> tuple[np.ndarray, float, float]:
    """Weights [D], offset and penalty of the probe for one concept."""
    classes = values.dtype == bool
    folds = min(FOLDS, len(np.unique(groups)))
    _check_both_sides(values, groups, name, folds)
    if classes:
        search = GridSearchCV(LogisticRegression(solver="newton-cholesky", tol=1e-6), {"C": 1 / PENALTIES}, scoring="roc_auc", cv=GroupKFold(folds))
    else:
        search = GridSearchCV(Ridge(), {"alpha": PENALTIES}, scoring="r2", cv=GroupKFold(folds))
    search.fit(z, values, groups=groups)
    model, (setting,) = search.best_estimator_, search.best_params_.values()
    return model.coef_.ravel().astype(np.float64), float(np.ravel(model.intercept_)[0]), float(1 / setting if classes else setting)


def _check_both_sides(values: np.ndarray, groups: np.ndarray, name: str, folds: int) -> None:
    """Raises UsageError where a concept of truth values is true, or false, in too few levels to be told apart in every fold."""
    if values.dtype != bool:
        return
    for side in (True, False):
        levels = len(np.unique(groups[values == side]))
        if levels < 2 * folds:
            raise UsageError(f"concept {name!r} is {side} in only {levels} of the levels that it is fit on, and {2 * folds} are needed: {RECORD_MORE}")


def decoded(values: np.ndarray, read: np.ndarray, groups: np.ndarray, seed: int) -> Estimate:
    """AUROC (truth values) or R^2 (numbers) of what was read [n] against values [n], with a 95% interval over levels groups [n]."""
    metric = roc_auc_score if values.dtype == bool else r2_score
    return estimate(_resampled(metric, values, read, groups, seed))


def _decodable(name: str, values: np.ndarray, read: np.ndarray, groups: np.ndarray, seed: int) -> Estimate:
    if (values == values[0]).all():
        raise UsageError(f"concept {name!r} is {values[0]} in all held-out levels: {RECORD_MORE}")
    found, (measure, chance) = decoded(values, read, groups, seed), ("AUROC", 0.5) if values.dtype == bool else ("R^2", 0.0)
    if not found.low > chance:
        raise UsageError(f"concept {name!r} cannot be decoded here: {measure} {found} on held-out levels, and chance is {chance}: take another site or leave it out")
    return found


def _resampled(metric: Callable, values: np.ndarray, read: np.ndarray, groups: np.ndarray, seed: int) -> np.ndarray:
    """The metric of the data and of RESAMPLES draws of levels, [1 + RESAMPLES]; NaN where a draw has one class only."""
    _, codes = np.unique(groups, return_inverse=True)
    count, rng = codes.max() + 1, np.random.default_rng([seed, 3])
    draws = [np.ones(count), *rng.multinomial(count, np.full(count, 1 / count), size=RESAMPLES).astype(float)]

    def of(weights):
        kept = weights > 0
        defined = values.dtype != bool or len(np.unique(values[kept])) == 2
        return metric(values[kept], read[kept], sample_weight=weights[kept]) if defined else np.nan

    return np.array([of(draw[codes]) for draw in draws])


def _thinned(rows: np.ndarray, seed: int) -> np.ndarray:
    return rows if len(rows) <= MOST_ROWS else np.sort(np.random.default_rng(seed).choice(rows, MOST_ROWS, replace=False))
