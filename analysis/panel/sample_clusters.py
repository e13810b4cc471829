"""Clusters of samples: by a map of the agent's hidden states, or by k-means of the samples themselves."""

import logging
from pathlib import Path

import numpy as np

from analysis.io.steps import find_step, read_numbers, read_part
from analysis.maps.map_summary import COMMAND, STEP, VERSION
from analysis.panel.run_samples import RunSamples
from common.runs import UsageError
from common.words import counted
from interpret.clustering import Clusters, fit_clusters
from interpret.directions.directions import load_directions
from interpret.subsample import principal_space, scores_of, varying_columns

FEWEST_LEVELS = 3
"""With fewer, all samples are in one cluster."""


def clusters_of_map(samples: RunSamples, map_dir: Path) -> np.ndarray:
    """Cluster [N] of a finished hidden-state analysis that each sample's hidden state belongs to.

    Raises UsageError for a map of another agent.
    """
    directory = find_step(map_dir, STEP, VERSION, COMMAND, map_dir)
    numbers = read_numbers(directory)
    agent = samples.agent
    if agent not in numbers["stores"]["agents"]:
        raise UsageError(
            f"{directory} maps hidden states of agent {', '.join(numbers['stores']['agents'])}, and these "
            f"samples are of agent {agent}: give --map_dir a map of that agent, or leave it out"
        )
    space = load_directions(directory / "pca.safetensors").first(numbers["axes"])
    return Clusters(read_part(directory, "clusters")["centres"]).assign(scores_of(space, _states(samples)))


def clusters_of_samples(samples: RunSamples, count: int, seed: int) -> np.ndarray:
    """Cluster [N] of each sample by k-means of its hidden state, the largest cluster first.

    The states are standardised and reduced to the principal components of all steps. `count` is lowered to
    half the number of levels, with a warning.
    """
    levels = len(np.unique(samples.groups))
    fitted = max(min(count, levels // 2), 1)
    if fitted < count:
        logging.warning(
            "%s in place of %d: the samples are of %s",
            counted(fitted, "cluster"),
            count,
            counted(levels, "level"),
        )
    if fitted == 1 or levels < FEWEST_LEVELS:
        return np.zeros(len(samples.ids), int)
    n, steps, width = samples.hidden.shape
    x = samples.hidden.reshape(n * steps, width)
    columns = varying_columns(x)
    space = principal_space(x[:, columns], np.repeat(samples.groups, steps)).within(columns, width)
    points = scores_of(space, _states(samples))
    return fit_clusters(points, samples.groups, fitted, seed).assign(points)


def _states(samples: RunSamples) -> np.ndarray:
    """The hidden state [N, D] that stands for each sample."""
    return samples.hidden[:, samples.sorting_step]
