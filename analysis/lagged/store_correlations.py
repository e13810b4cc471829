"""Lagged correlations of direction scores over a store, for all episodes and for each cluster of episodes."""

import logging
from pathlib import Path

import numpy as np

from analysis.io.steps import find_step, read_numbers, read_part
from analysis.maps import map_summary
from analysis.maps.map_summary import choose_method
from analysis.maps.step_fields import direction_scores
from common.runs import UsageError, read_config
from interpret.directions.directions import Directions, load_directions
from interpret.lagged import MIN_EPISODES, NULLS, LaggedCorrelations, discoveries
from rollouts.store import Rollouts

NAME = "xcorr"
VERSION = 2
COMMAND = "python analysis/xcorr_and_xcaus_precompute.py --directions FILE --data_dir STORE"
ALL = "all"
_SHORT = {"hidden_after": "agent", "env_state": "env"}


def part_name(subset: str) -> str:
    """Name of the part that holds the correlations of a subset of episodes."""
    return subset.replace(" ", "_")


def latest_directions(out_dir: Path) -> tuple[Directions, Path]:
    """Directions of the latest hidden-state analysis, and their file.

    Where ICA was not fit, they are the same number of leading principal components.
    """
    step = map_summary.STEP, map_summary.VERSION, map_summary.COMMAND
    directory = find_step(out_dir, *step)
    method = choose_method(directory)
    path = directory / f"{method}.safetensors"
    directions = load_directions(path)
    logging.info("directions: %s of %s", method, directory)
    if method == "pca":
        directions = directions.first(read_config(directory)["components"])
    return directions, path


def joint_scores(
    rollouts: Rollouts, mask: np.ndarray, fields: dict[str, Directions]
) -> tuple[np.ndarray, list[str]]:
    """Scores of several sets of directions side by side.

    Args:
        rollouts: the store.
        mask: steps that are used [num_steps] bool.
        fields: {step field: directions that read it}.

    Returns:
        Scores [n, K] at the masked steps, and the K names, prefixed by the field if there are several.
    """
    names = [
        name if len(fields) == 1 else f"{_SHORT[field]} {name}"
        for field, directions in fields.items()
        for name in directions.names
    ]
    scores = [direction_scores(rollouts, field, directions, mask) for field, directions in fields.items()]
    return np.concatenate(scores, 1), names


def episode_subsets(rollouts: Rollouts, mask: np.ndarray, clusters_dir: Path | None) -> dict[str, np.ndarray]:
    """`cluster_subsets` of the masked steps [num_steps] of a store."""
    return cluster_subsets(rollouts.step_table()[mask, 0], rollouts.id, clusters_dir)


def cluster_subsets(episode: np.ndarray, store: str, clusters_dir: Path | None) -> dict[str, np.ndarray]:
    """{subset: [n] bool}: all steps or samples, and those of the episodes of each cluster.

    Args:
        episode: of each step or sample [n].
        store: id of the store of these episodes.
        clusters_dir: a finished map of simulated steps, whose part `behaviours` holds the most common cluster
            of each episode.

    Raises:
        UsageError: the clusters are of another store.
    """
    subsets = {ALL: np.ones(len(episode), bool)}
    if clusters_dir is None:
        return subsets
    behaviours = read_part(clusters_dir, "behaviours")
    numbers = read_numbers(clusters_dir)
    if numbers["store"] != store:
        raise UsageError(
            f"{clusters_dir} holds clusters of another store ({numbers['store']}) than {store}: give those "
            "of this store"
        )
    cluster = np.full(max(episode.max(), behaviours["episode"].max()) + 1, -1)
    cluster[behaviours["episode"]] = behaviours["cluster"]
    return subsets | {f"cluster {c}": cluster[episode] == c for c in range(numbers["clusters"])}


def large_enough(
    subsets: dict[str, np.ndarray], episode: np.ndarray
) -> tuple[dict[str, np.ndarray], list[str]]:
    """The subsets with MIN_EPISODES or more, and the names of the others; episode [n] of each step."""
    kept = {
        name: member
        for name, member in subsets.items()
        if name == ALL or len(np.unique(episode[member])) >= MIN_EPISODES
    }
    return kept, [name for name in subsets if name not in kept]


def as_arrays(found: LaggedCorrelations) -> dict[str, np.ndarray]:
    """Correlations as the arrays of a part; `from_arrays` reads them."""
    by_null = {
        f"{kind}/{null}": array for kind in ("mean", "std") for null, array in getattr(found, kind).items()
    }
    arrays = {"correlation": found.correlation, "pairs": found.pairs, "p": found.p}
    return arrays | {"episodes": np.array(found.episodes)} | by_null


def from_arrays(arrays: dict[str, np.ndarray]) -> LaggedCorrelations:
    """Correlations from the arrays of a part."""
    mean, std = (
        {null: arrays[f"{kind}/{null}"] for null in NULLS if f"{kind}/{null}" in arrays}
        for kind in ("mean", "std")
    )
    return LaggedCorrelations(
        arrays["correlation"], arrays["pairs"], int(arrays["episodes"]), mean, std, arrays["p"]
    )


def significant_correlations(subsets: dict[str, LaggedCorrelations], fdr: float) -> dict[str, np.ndarray]:
    """{subset: [L + 1, K, K] bool}: discoveries at one false discovery rate over subsets, lags and pairs."""
    marks = discoveries(np.stack([found.p for found in subsets.values()]), fdr)
    return dict(zip(subsets, marks))


def summarise_correlations(
    subsets: dict[str, LaggedCorrelations], significant: dict[str, np.ndarray], names: list[str]
) -> dict:
    """Number of tests and discoveries of each subset, and its largest significant correlation."""
    rows = {}
    for subset, found in subsets.items():
        marks = significant[subset]
        rows[subset] = {
            "episodes": found.episodes,
            "pairs": found.pairs.tolist(),
            "tests": int(np.isfinite(found.p).sum()),
            "significant": int(marks.sum()),
        }
        if marks.any():
            size = np.where(marks, np.abs(found.correlation), -1)
            lag, i, j = np.unravel_index(size.argmax(), marks.shape)
            rows[subset]["largest"] = {
                "earlier": names[i],
                "later": names[j],
                "lag": int(lag),
                "correlation": float(found.correlation[lag, i, j]),
            }
    return rows
