"""The parts of the hidden-state analysis: each takes arrays and gives arrays or plain numbers; nothing here
knows files.
"""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np
from sklearn.metrics import silhouette_score

from analysis.maps.hidden_states import States, labels_of
from common.runs import UsageError
from envs.vecenv import ActionSpace
from interpret.clustering import Clusters, cluster_stability, fit_clusters, without_clusters
from interpret.directions.directions import Directions
from interpret.directions.fitting import sample_of
from interpret.embedding import embed, neighbours_kept, trustworthiness
from interpret.subsample import inliers, scores_of, typical_distance

SILHOUETTES = 5000


class Sample(NamedTuple):
    """States of which a map shows some: rows of `states`, or all of them."""

    states: States
    rows: np.ndarray


def find_outliers(
    states: States, placed: States | None, columns: np.ndarray, neighbours: int, sigmas: float, seed: int
) -> dict[str, np.ndarray]:
    """kept [n], distance [n] and limit of real states; sim_distance [m] of simulated ones to the same real
    neighbours. Features are standardised.
    """
    sample = sample_of(states.x[:, columns], states.level)
    z = sample.standardised()
    found = inliers(z, neighbours, sigmas, seed)
    arrays = {"kept": found.kept, "distance": found.distance, "limit": np.array(found.limit)}
    if placed is None:
        return arrays
    simulated = ((placed.x[:, columns] - sample.mean) / sample.std).astype(np.float32)
    return arrays | {"sim_distance": typical_distance(simulated, z[found.reference], neighbours)}


def find_clusters(
    points: np.ndarray, groups: np.ndarray, count: int, rows: np.ndarray, draws: int, seed: int
) -> dict[str, np.ndarray]:
    """Clusters of points [n, D] with groups [n]: centres [C, D], and how stable they are over `draws` fits to
    the points numbered `rows`.

    rand, jaccard: see ClusterStability; null_rand, null_jaccard: of Gaussian points with the same covariance;
    silhouette, null_silhouette (Rousseeuw 1987), each of a random few thousand.
    """
    centres = fit_clusters(points, groups, count, seed).centres
    arrays = {"centres": centres}
    few = points[rows]
    for prefix, cloud in (("", few), ("null_", without_clusters(few, seed))):
        labels = fit_clusters(cloud, groups[rows], count, seed).assign(cloud)
        some = np.random.default_rng([seed, 13]).permutation(len(cloud))[:SILHOUETTES]
        arrays[f"{prefix}silhouette"] = np.array(silhouette_score(cloud[some], labels[some]))
        if draws:
            found = cluster_stability(cloud, groups[rows], count, draws, seed)
            arrays |= {f"{prefix}rand": found.rand, f"{prefix}jaccard": found.jaccard}
    return arrays


def check_maps(kinds: Sequence[str]) -> None:
    """Raises UsageError for a flat map that there is not."""
    unknown = [kind for kind in kinds if kind not in ("tsne", "umap")]
    if unknown:
        raise UsageError(
            f"unknown map {unknown[0]!r}; give --maps tsne, --maps umap, both words, or --maps alone for none"
        )


def make_map(
    kind: str, points: dict[str, np.ndarray], seed: int, threads: int, own: Mapping[str, np.ndarray] = {}
) -> dict[str, np.ndarray]:
    """A map of points["real"] [n, K] with the others placed into it: [.., 2] by name; its trust; and
    kept_<name>, the share of neighbours that each placed point keeps. own {name: [m]}: which of the real ones
    each of the others is, or -1, where some are.
    """
    made = embed(kind, points["real"], seed, threads)
    arrays = {"real": made.points, "trust": np.array(trustworthiness(points["real"], made.points, seed=seed))}
    for name, others in points.items():
        if name != "real":
            arrays[name] = made.place(others)
            arrays[f"kept_{name}"] = neighbours_kept(
                others, arrays[name], points["real"], made.points, own.get(name)
            )
    return arrays


def places_among(rows: np.ndarray, sample: np.ndarray) -> np.ndarray:
    """Where each of rows [m] stands in sample [n], ascending, or -1: [m]."""
    at = np.searchsorted(sample, rows).clip(max=len(sample) - 1)
    return np.where(sample[at] == rows, at, -1)


def point_labels(
    sample: Sample,
    actions: ActionSpace,
    clusters: Clusters,
    space: Directions,
    factors: Mapping[str, Directions],
) -> dict[str, np.ndarray]:
    """Every label [m] of a sample's states: episode, t, level, what `labels_of` says, cluster, and for each
    set of factors the strongest.

    The strongest of ICA is that of largest magnitude in standard deviations, of NMF and a dictionary that of
    largest score.
    """
    states, rows = sample
    named = {"episode": states.episode, "t": states.step, "level": states.level} | labels_of(states, actions)
    labels = {name: np.asarray(values)[rows] for name, values in named.items()}
    labels["cluster"] = clusters.assign(scores_of(space, states.x[rows]))
    for name, directions in factors.items():
        scores = scores_of(directions, states.x[rows])
        labels[name] = (np.abs(scores) if name == "ica" else scores).argmax(1)
    return labels
