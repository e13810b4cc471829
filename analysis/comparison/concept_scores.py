"""What linear probes read from each network's sites: concepts, and the agent's own directions."""

from collections.abc import Callable, Iterable

import numpy as np
import torch

from analysis.probing.dataset import ProbeDataset
from interpret.directions.pca import fit_pca
from interpret.probing.bench import ProbeBench, Targets, reader_summary, score_reader


def principal_targets(hidden: np.ndarray, groups: np.ndarray, count: int) -> tuple[Targets, list[float]]:
    """Scores of the agent's first `count` principal directions as targets; their shares of the variance."""
    varied = np.flatnonzero(hidden.std(0) > 1e-6)
    directions = fit_pca(hidden[:, varied], groups, min(count, len(varied)))
    scores = directions.scores(torch.from_numpy(hidden[:, varied])).numpy().astype(np.float32)
    share = np.array(directions.provenance["variance"]) / len(varied)
    return Targets(list(directions.names), np.zeros(len(directions), bool), scores), share.tolist()


def score_readers(
    bench: ProbeBench,
    readers: Iterable[tuple[str, np.ndarray]],
    baselines: dict[str, np.ndarray],
    keep: Callable[[str, Callable[[], dict]], dict],
) -> dict[str, dict]:
    """{reader: {target: scores}}, with baselines, control task and intervals by layout.

    Args:
        bench: the targets.
        readers: pairs of a reader's name and its states [n, D].
        baselines: predictions [n, K] of every baseline but the majority; one of a reader's name is left out.
        keep: called with a name and a function that computes its arrays; returns them, as a part of the run.
    """
    return {
        name: reader_summary(bench, keep(name, lambda name=name: score_reader(bench, name, x, baselines)))
        for name, x in readers
    }


def direction_bench(targets: Targets, dataset: ProbeDataset, seed: int) -> ProbeBench:
    """A bench of other targets on the layouts, folds and resamples of a dataset."""
    return ProbeBench(targets, dataset.groups, dataset.folds, dataset.time, seed)
