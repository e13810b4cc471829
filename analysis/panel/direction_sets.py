"""The directions that a page shows, and the scores of hidden states and gradients in them."""

import logging
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch

from analysis.panel.run_samples import RunSamples
from common.runs import UsageError
from common.words import counted
from interpret.directions.by_kind import load_by_kind
from interpret.directions.directions import Directions, load_directions
from interpret.directions.pca import fit_pca
from interpret.directions.stability import labels
from interpret.subsample import scores_of, varying_columns


class DirectionScores(NamedTuple):
    """K directions of all sets, one set after the other."""

    names: list[str]
    """[K]."""
    sets: list[str]
    """[K]: name of each direction's set."""
    status: list[str]
    """[K]: stable, unstable or untested."""
    scores: np.ndarray
    """[N, T, K] float32: of the hidden state after each frame."""
    gradients: dict[str, np.ndarray]
    """{function: [N, S, K]} float32: what one unit of a score, written to the hidden state after a frame,
    adds to the function.
    """


def choose_sets(samples: RunSamples, paths: Sequence[Path], count: int) -> dict[str, Directions]:
    """{kind: directions} of the files, else those that the run was given, else principal components.

    Args:
        samples: of the run.
        paths: files of a fit.
        count: number of principal components.

    Raises:
        UsageError: for directions of another agent, or too few levels to fit any.
    """
    if paths:
        return load_by_kind(paths, samples.hidden.shape[-1], samples.agent)
    if samples.store.direction_files:
        kinds = samples.store.facts["directions"]
        return dict(zip(kinds, map(load_directions, samples.store.direction_files)))
    logging.info("no directions given: showing principal components of the samples' hidden states")
    return {"pca": principal_directions(samples, count)}


def principal_directions(samples: RunSamples, count: int) -> Directions:
    """Principal components of the samples' own hidden states.

    Raises UsageError for too few levels.
    """
    n, steps, width = samples.hidden.shape
    x = samples.hidden.reshape(n * steps, width)
    columns = varying_columns(x)
    levels = len(np.unique(samples.groups))
    if levels < 3:
        raise UsageError(
            f"{samples.store.path} is of {counted(levels, 'level')}, too few to fit directions: give "
            "--directions"
        )
    fit = fit_pca(x[:, columns], np.repeat(samples.groups, steps), min(count, levels - 1, len(columns)))
    return fit.within(columns, width)


def score_samples(samples: RunSamples, sets: Mapping[str, Directions], most: int) -> DirectionScores:
    """Scores of hidden states and gradients in the first `most` directions of every set."""
    kept = {name: min(len(one), most) for name, one in sets.items()}
    n, steps, width = samples.hidden.shape
    flat = samples.hidden.reshape(n * steps, width)
    scores = [scores_of(one, flat)[:, : kept[name]].reshape(n, steps, -1) for name, one in sets.items()]
    gradients = {
        function: np.concatenate(
            [
                one.score_gradients(torch.from_numpy(gradient)).float().numpy()[..., : kept[name]]
                for name, one in sets.items()
            ],
            -1,
        )
        for function, gradient in samples.gradients.items()
    }
    return DirectionScores(
        [one.names[i] for name, one in sets.items() for i in range(kept[name])],
        [name for name in sets for _ in range(kept[name])],
        [status for name, one in sets.items() for status in _status(one)[: kept[name]]],
        np.concatenate(scores, -1),
        gradients,
    )


def _status(directions: Directions) -> list[str]:
    """What each direction's label says of its stability."""
    marks = (label.removeprefix(name) for label, name in zip(labels(directions), directions.names))
    return [mark.strip(" ()") or "stable" for mark in marks]
