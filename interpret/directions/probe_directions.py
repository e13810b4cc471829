"""Ridge probes as directions that can be read and written, and their stability over resampled levels."""

from collections.abc import Callable, Mapping, Sequence

import numpy as np

from common.runs import UsageError
from common.stats import Estimate, estimate, level_counts
from interpret.directions.directions import Directions
from interpret.directions.fitting import Sample, checked_sample, columns_of, held_out_rows, write_columns
from interpret.directions.stability import MIN_RESAMPLES, Stability, matched_cosines, whitened_metric
from interpret.probing.decoding import CHANCE, decoding_scores, group_resamples
from interpret.probing.ridge import LinearProbes, cross_validate, fit_ridge

MAX_ROWS = 100_000
"""More states than this are subsampled at random, separately for the fit and for the held-out score."""
FOLDS = 5


def fit_probes(
    x, groups, concepts: Mapping[str, Sequence], seed: int = 0, write: str = "pattern"
) -> Directions:
    """One direction per concept: a ridge probe whose penalty is chosen by cross-validation over levels.

    Args:
        x: [n, D] states.
        groups: [n], the level of each state. Give layouts: levels of different seeds can repeat a layout.
        concepts: {name: [n]}, booleans or numbers.
        seed: of the split into fitted and held-out levels, and of the bootstrap.
        write: kind of write columns (`fitting.write_columns`), jointly for all concepts, so that R E = I.

    Returns:
        Directions fit on three quarters of the levels. Provenance: `penalties` {name: penalty} and
        `held_out` {name: [value, low, high]}, AUROC or R^2 on the other quarter with its interval by level.

    Raises:
        UsageError: if a concept is not decodable on the held-out levels (the interval reaches chance), or if
            a boolean is true, or false, in too few levels.
    """
    columns = columns_of(concepts, len(x))
    whole = checked_sample(x, groups, len(columns))
    test = held_out_rows(whole.groups, seed)
    train, test = (_subsampled(np.flatnonzero(part), seed) for part in (~test, test))
    sample = whole.rows(train)
    truth = np.stack([values.astype(np.float32) for values in columns.values()], 1)
    folds = _level_folds(sample.num_groups)
    for name, values in columns.items():
        _check_both_classes(name, values[train], sample.groups, folds.max() + 1)
    probes = cross_validate(sample.x, truth[train], folds[sample.groups]).probes
    predicted = whole.x[test] @ probes.weights.T + probes.offset
    binary = np.array([values.dtype == bool for values in columns.values()])
    scores = _held_out_scores(columns, truth[test], binary, predicted, whole.groups[test], seed)
    facts = {
        "held_out": {name: list(score) for name, score in scores.items()},
        "penalties": dict(zip(columns, probes.penalty.tolist())),
    }
    return _as_directions(sample, probes, list(columns), write, "probes", seed, facts)


def probe_directions(
    x: np.ndarray,
    y: np.ndarray,
    groups: np.ndarray,
    names: Sequence[str],
    penalty: np.ndarray,
    weights: np.ndarray | None = None,
) -> Directions:
    """Ridge probes with given penalties as directions: scores are what the probes read, write columns are the
    pattern, jointly for all concepts, so that R E = I.

    Args:
        x: [n, D] states.
        y: [n, K] concepts, NaN where not known.
        groups: [n], the layout of each state.
        names: of the K concepts.
        penalty: [K], out of `ridge.PENALTIES`.
        weights: [G], how often each layout counts; once each by default.
    """
    sample = checked_sample(x, groups, len(names))
    row_weights = None if weights is None else weights[sample.groups]
    probes = fit_ridge(x, y, penalty, row_weights)
    if weights is not None:
        sample = sample.rows(np.repeat(np.arange(len(x)), row_weights.astype(int)))
    facts = {"penalties": dict(zip(names, penalty.tolist()))}
    return _as_directions(sample, probes, names, "pattern", "ridge probes", 0, facts)


def probe_stability(
    x: np.ndarray,
    y: np.ndarray,
    groups: np.ndarray,
    names: Sequence[str],
    penalty: np.ndarray,
    seed: int,
    advance: Callable[[], object] = lambda: None,
) -> tuple[Stability, Stability]:
    """Stability of the scores and the write columns of `probe_directions` over resampled layouts.

    Of scores: |correlation| with those of the refit, which equals the whitened |cosine| of the patterns of
    the two probes alone (Haufe et al. 2014). Of write columns: |cosine| in whitened space. Joint patterns
    exclude what a concept shares with the others, which leaves little of correlated concepts.

    Args:
        x, y, groups, names, penalty: see `probe_directions`.
        seed: of the resamples.
        advance: called after each refit.
    """
    reference = probe_directions(x, y, groups, names, penalty)
    sample = checked_sample(x, groups, 1)
    metric = whitened_metric(sample.covariance)
    of_scores = []
    of_columns = []
    for weights in level_counts(sample.num_groups, MIN_RESAMPLES, seed=[seed, 14])[1:]:
        refit = probe_directions(x, y, groups, names, penalty, weights)
        of_scores.append(_score_correlations(reference.read.numpy(), refit.read.numpy(), sample.covariance))
        of_columns.append(matched_cosines(reference.write.numpy(), refit.write.numpy(), metric))
        advance()
    return tuple(Stability(tuple(names), np.stack(cosines)) for cosines in (of_scores, of_columns))


def _as_directions(
    sample: Sample,
    probes: LinearProbes,
    names: Sequence[str],
    write: str,
    method: str,
    seed: int,
    facts: dict,
) -> Directions:
    """Probes of raw states as directions; scores of zero reconstruct to the sample's mean state."""
    read = probes.weights * sample.std
    offset = probes.offset + probes.weights @ sample.mean
    columns = write_columns(read, sample.correlation, write)
    facts = {"write_kind": write} | facts
    return sample.directions(read, offset, columns, -columns @ offset, names, method, seed, **facts)


def _level_folds(num_levels: int) -> np.ndarray:
    """Fold [G] of each level."""
    return np.arange(num_levels) % min(FOLDS, num_levels)


def _check_both_classes(name: str, values: np.ndarray, groups: np.ndarray, folds: int) -> None:
    """Raises UsageError where a boolean concept is true, or false, in fewer than two levels per fold."""
    if values.dtype != bool:
        return
    for side in (True, False):
        levels = len(np.unique(groups[values == side]))
        if levels < 2 * folds:
            raise UsageError(
                f"concept {name!r} is {side} in only {levels} of the levels that it is fit on, "
                f"and {2 * folds} are needed: record more"
            )


def _held_out_scores(
    columns: Mapping[str, np.ndarray],
    truth: np.ndarray,
    binary: np.ndarray,
    predicted: np.ndarray,
    groups: np.ndarray,
    seed: int,
) -> dict[str, Estimate]:
    """AUROC or R^2 of each concept on held-out levels. Raises UsageError for one that is not above chance."""
    for name, values in zip(columns, truth.T):
        if (values == values[0]).all():
            value = bool(values[0]) if columns[name].dtype == bool else values[0]
            raise UsageError(f"concept {name!r} is {value} in all held-out levels: record more")
    codes = np.unique(groups, return_inverse=True)[1]
    resampled = decoding_scores(truth, binary, predicted, codes, group_resamples(codes, seed=[seed, 3]))
    scores = {name: estimate(resampled[:, k]) for k, name in enumerate(columns)}
    for (name, score), is_binary in zip(scores.items(), binary.tolist()):
        chance = CHANCE[is_binary]
        if not score.low > chance:
            raise UsageError(
                f"concept {name!r} cannot be decoded here: {'AUROC' if is_binary else 'R^2'} {score} "
                f"on held-out levels, and chance is {chance}: take another site or leave it out"
            )
    return scores


def _subsampled(rows: np.ndarray, seed: int) -> np.ndarray:
    if len(rows) <= MAX_ROWS:
        return rows
    return np.sort(np.random.default_rng(seed).choice(rows, MAX_ROWS, replace=False))


def _score_correlations(one: np.ndarray, other: np.ndarray, covariance: np.ndarray) -> np.ndarray:
    """|correlation| [K] of the scores of read rows `one` and `other` [K, D] under a covariance [D, D]."""
    together, own, others = (
        np.einsum("kd,de,ke->k", a, covariance, b) for a, b in ((one, other), (one, one), (other, other))
    )
    return np.abs(together) / np.sqrt(own * others)
