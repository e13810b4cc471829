"""Summary numbers of maps of states: from arrays to plain values."""

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
"""Version of the hidden-state step that the plots read."""
COMMAND = "python analysis/hidden_analysis_precompute.py --data_dir STORE"


def choose_method(directory: Path, asked: str | None = None) -> str:
    """The method whose directions to use: the one asked for, else ICA, else PCA, which is always fit.

    Args:
        directory: of a finished hidden-state analysis.
        asked: method named by the user.

    Raises:
        UsageError: `asked` was not fit; the message says why.
    """
    numbers = read_numbers(directory)
    method = asked or "ica"
    if method in numbers["methods"]:
        return method
    reason = numbers["refused"].get(method, f"{directory} holds {', '.join(numbers['methods'])}")
    if asked:
        raise UsageError(f"no directions by {asked!r} ({reason}); choose another --method")
    logging.warning("using principal components, because ICA was not fit (%s)", reason)
    return "pca"


def outlier_shares(outliers: Mapping[str, np.ndarray]) -> dict:
    """The limit of the outlier score, and the fraction of real and simulated states above it."""
    limit = outliers["limit"].item()
    shares = {"limit": limit, "real": float(1 - outliers["kept"].mean())}
    if "sim_distance" in outliers:
        shares["simulated"] = float((outliers["sim_distance"] > limit).mean())
    return shares


def cluster_numbers(clusters: Mapping[str, np.ndarray], labels: np.ndarray) -> dict:
    """Sizes and stability of clusters, with those of Gaussian points of equal covariance (null_*).

    Args:
        clusters: arrays of `find_clusters`.
        labels: cluster of every inlier [n].
    """
    sizes = np.bincount(labels, minlength=len(clusters["centres"]))
    numbers = {"count": len(sizes), "sizes": sizes.tolist()}
    numbers |= {name: clusters[name].item() for name in ("silhouette", "null_silhouette")}
    if "rand" not in clusters:
        return numbers
    for prefix in ("", "null_"):
        stability = ClusterStability(clusters[f"{prefix}rand"], clusters[f"{prefix}jaccard"])
        numbers[f"{prefix}rand"] = float(stability.rand.mean())
        numbers[f"{prefix}stable"] = int(stability.stable.sum())
    return numbers | {name: clusters[name].mean(0).tolist() for name in ("jaccard", "null_jaccard")}


def map_numbers(
    maps: Mapping[str, Mapping[str, np.ndarray]], episodes: Mapping[str, np.ndarray] = {}
) -> dict:
    """Trustworthiness of each map, the fraction of neighbours that projected points keep, and its chance.

    Args:
        maps: {kind: arrays of `make_map`}.
        episodes: {name: episode [m] of each projected point}. Episodes then count equally: an agent that is
            stuck for a thousand steps contributes a thousand copies of one state.
    """
    numbers = {}
    for kind, arrays in maps.items():
        kept = {
            name.removeprefix("kept_"): values for name, values in arrays.items() if name.startswith("kept_")
        }
        placed = {
            f"placed_{name}": mean_over_episodes(values, episodes.get(name, np.arange(len(values))))
            for name, values in kept.items()
        }
        count = len(arrays["real"])
        trust = {"trustworthiness": arrays["trust"].item(), "points": count}
        numbers[kind] = trust | placed | {"by_chance": NEIGHBOURS / count}
    return numbers


def mean_over_episodes(values: np.ndarray, episode: np.ndarray) -> float:
    """Mean over episodes of the mean over each episode's steps: values [n], episode [n]."""
    index = np.unique(episode, return_inverse=True)[1]
    return float((np.bincount(index, values) / np.bincount(index)).mean())
