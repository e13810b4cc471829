"""The probe bench: readers of concepts side by side, each with the baselines it has to beat, on the same
layouts and the same bootstrap resamples.
"""

from typing import NamedTuple

import numpy as np

from common.stats import json_estimate, percentile_interval
from interpret.probing.decoding import (
    CHANCE,
    control_labels,
    decoding_scores,
    gain_over_best,
    group_resamples,
)
from interpret.probing.ridge import CrossValidated, cross_validate

BASELINES = ("majority", "encoder", "frame network", "untrained recurrence", "nuisances")
CONTROL_BLOCK = 8
"""Steps that share a fold when a control task is tested on other steps of the layouts it was fit on."""
ALL_ROWS = slice(None)


class Targets(NamedTuple):
    """K concepts that probes predict."""

    names: list[str]
    classes: np.ndarray
    """[K] bool: which are binary."""
    truth: np.ndarray
    """[n, K] float32: binary concepts as 0 and 1, NaN where a concept is not known."""


class ProbeBench:
    """Fits linear probes of the targets on any states; scores readers on the same resamples of layouts."""

    def __init__(self, targets: Targets, groups: np.ndarray, folds: np.ndarray, time: np.ndarray, seed: int):
        """
        Args:
            targets: K concepts of n steps.
            groups: [n], the layout of each step, numbered from 0.
            folds: [n], numbered from 0; steps of one layout are in one fold.
            time: [n], the step's number in its episode.
            seed: of the control task.
        """
        self.targets = targets
        self.groups = groups
        self.folds = folds
        self.seed = seed
        self.resamples = group_resamples(groups)
        self.control = control_labels(targets.truth, groups, seed)
        self.control_folds = time // CONTROL_BLOCK % (folds.max() + 1)

    def fit(self, x: np.ndarray, rows: np.ndarray | slice = ALL_ROWS) -> CrossValidated:
        """Linear probes of states x [m, D] at some rows."""
        return cross_validate(x, self.targets.truth[rows], self.folds[rows])

    def score(self, predicted: np.ndarray, rows: np.ndarray | slice = ALL_ROWS) -> np.ndarray:
        """AUROC or R^2 [1 + R, K] of predictions [m, K] at some rows."""
        return self._scores(self.targets.truth, predicted, rows)

    def control_task_score(self, x: np.ndarray, rows: np.ndarray | slice = ALL_ROWS) -> np.ndarray:
        """Score [1 + R, K] of probes of x on the control task, tested on other steps of the same layouts.

        At least chance.
        """
        predicted = cross_validate(x, self.control[rows], self.control_folds[rows]).predictions
        return np.maximum(self._scores(self.control, predicted, rows), self.chance())

    def chance(self) -> np.ndarray:
        """Score [1 + R, K] of predicting the majority (or the mean)."""
        by_concept = [CHANCE[bool(binary)] for binary in self.targets.classes]
        return np.broadcast_to(by_concept, (len(self.resamples), len(by_concept)))

    def _scores(self, truth: np.ndarray, predicted: np.ndarray, rows) -> np.ndarray:
        return decoding_scores(
            truth[rows], self.targets.classes, predicted, self.groups[rows], self.resamples
        )


def score_reader(
    bench: ProbeBench,
    name: str,
    x: np.ndarray,
    baselines: dict[str, np.ndarray],
    rows: np.ndarray | slice = ALL_ROWS,
) -> dict[str, np.ndarray]:
    """Everything about one reader: its score by resample, with baselines and control task, and its probes.

    Args:
        bench: the targets and their layouts.
        name: of the reader; a baseline of that name is left out.
        x: [m, D], the reader's states at some rows.
        baselines: predictions [n, K] of every baseline but the majority.
        rows: which rows x has.

    Returns:
        `value`, `gain` over the best baseline, `selectivity` over the control task and `baseline/<name>`, all
        [1 + R, K]; `best` [K], the best baseline's number in BASELINES; `weights` [K, D], `offset` [K] and
        `penalty` [K] of the probes; `n` [K] known steps and `layouts` [K] that they are from.
    """
    fitted = bench.fit(x, rows)
    value = bench.score(fitted.predictions, rows)
    others = {"majority": bench.chance()} | {
        one: bench.score(predicted[rows], rows) for one, predicted in baselines.items() if one != name
    }
    gain, best = gain_over_best(value, np.stack(list(others.values())))
    known = np.isfinite(bench.targets.truth[rows])
    groups = bench.groups[rows]
    return {
        "value": value,
        "gain": gain,
        "selectivity": value - bench.control_task_score(x, rows),
        "best": np.array([BASELINES.index(one) for one in others])[best],
        **fitted.probes._asdict(),
        **{f"baseline/{one}": scores for one, scores in others.items()},
        "n": known.sum(0),
        "layouts": np.array([len(np.unique(groups[column])) for column in known.T]),
    }


def decodability(arrays: dict[str, np.ndarray], classes: np.ndarray) -> dict[str, np.ndarray]:
    """Verdicts [K] from a reader's arrays: which concepts it decodes, and which better than every baseline.

    decodable: the intervals of `value` above chance and of `selectivity` above 0. beyond: decodable, and the
    interval of `gain` above 0. classes [K]: which concepts are binary.
    """
    low = {name: percentile_interval(arrays[name])[0] for name in ("value", "gain", "selectivity")}
    chance = np.where(classes, CHANCE[True], CHANCE[False])
    decodable = (low["value"] > chance) & (low["selectivity"] > 0)
    return {"decodable": decodable, "beyond": decodable & (low["gain"] > 0)}


def reader_summary(bench: ProbeBench, arrays: dict[str, np.ndarray]) -> dict[str, dict]:
    """A reader's scores with intervals by layout, as JSON: {concept: {...}}. arrays: see `score_reader`."""
    targets = bench.targets
    verdicts = decodability(arrays, targets.classes)
    scored = [one for one in BASELINES if f"baseline/{one}" in arrays]
    entries = {}
    for k, name in enumerate(targets.names):
        n = arrays["n"][k]
        entry = {"measure": "AUROC" if targets.classes[k] else "R2", "layouts": int(arrays["layouts"][k])}
        entry |= {one: json_estimate(arrays[one][:, k], n) for one in ("value", "gain", "selectivity")}
        entry["best_baseline"] = BASELINES[arrays["best"][k]]
        entry["baselines"] = {one: json_estimate(arrays[f"baseline/{one}"][:, k], n) for one in scored}
        entries[name] = entry | {verdict: bool(holds[k]) for verdict, holds in verdicts.items()}
    return entries
