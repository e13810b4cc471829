"""The numbers that stand beside the pictures of hidden states: from the arrays of the parts to plain values."""

import logging
from collections.abc import Mapping
from pathlib import Path

import numpy as np

from analysis.io.steps import read_numbers
from common.runs import UsageError
from interpret.clustering import ClusterStability
from interpret.embedding import NEIGHBOURS

STEP = "hx_analysis"
VERSION = 2
"""The step that the plots read."""
COMMAND = "python analysis/hidden_analysis_precompute.py --data_dir STORE"


def choose_method(directory: Path, asked: str | None = None) -> str:
    """The method whose directions of a finished step are taken: the one asked for, else ICA and, where it was
    left out, PCA, which always is there.

    Raises UsageError, with the reason, where the one asked for is not there.
    """
    numbers = read_numbers(directory)
    method = asked or "ica"
    if method in numbers["methods"]:
        return method
    why = numbers["refused"].get(method, f"{directory} holds {', '.join(numbers['methods'])}")
    if asked:
        raise UsageError(f"no directions by {asked!r} ({why}); choose another --method")
    logging.warning("principal components are taken, for there are no independent ones (%s)", why)
    return "pca"


def outlier_shares(outliers: Mapping[str, np.ndarray]) -> dict:
    """The limit, and the share of real and simulated states beyond it."""
    limit = outliers["limit"].item()
    shares = {"limit": limit, "real": float(1 - outliers["kept"].mean())}
    return shares | (
        {"simulated": float((outliers["sim_distance"] > limit).mean())} if "sim_distance" in outliers else {}
    )


def cluster_numbers(found: Mapping[str, np.ndarray], labels: np.ndarray) -> dict:
    """Sizes [C] and stability of clusters, beside those of Gaussian points with the same covariance. labels
    [n]: of all inliers.
    """
    sizes = np.bincount(labels, minlength=len(found["centres"]))
    told = {"count": len(sizes), "sizes": sizes.tolist()}
    told |= {name: found[name].item() for name in ("silhouette", "null_silhouette")}
    if "rand" not in found:
        return told
    for prefix in ("", "null_"):
        stability = ClusterStability(found[f"{prefix}rand"], found[f"{prefix}jaccard"])
        told |= {
            f"{prefix}rand": float(stability.rand.mean()),
            f"{prefix}stable": int(stability.stable.sum()),
        }
    return told | {name: found[name].mean(0).tolist() for name in ("jaccard", "null_jaccard")}


def map_numbers(
    maps: Mapping[str, Mapping[str, np.ndarray]], episodes: Mapping[str, np.ndarray] = {}
) -> dict:
    """Trust in each map, and how many of their nearest states placed ones keep; `by_chance`: were they placed
    at random.

    episodes: the episode [m] of each placed point, by name; these then count equally: an agent that is stuck
    for a thousand steps gives a thousand copies of one state, whose neighbours mean nothing.
    """
    told = {}
    for kind, arrays in maps.items():
        placed = [name.removeprefix("kept_") for name in arrays if name.startswith("kept_")]
        kept = {name: arrays[f"kept_{name}"] for name in placed}
        kept = {
            f"placed_{name}": by_episode(values, episodes.get(name, np.arange(len(values))))
            for name, values in kept.items()
        }
        count = len(arrays["real"])
        told[kind] = (
            {"trustworthiness": arrays["trust"].item(), "points": count}
            | kept
            | {"by_chance": NEIGHBOURS / count}
        )
    return told


def by_episode(values: np.ndarray, episode: np.ndarray) -> float:
    """The mean over episodes of the mean over each one's steps: values [n], episode [n]."""
    index = np.unique(episode, return_inverse=True)[1]
    return float((np.bincount(index, values) / np.bincount(index)).mean())
