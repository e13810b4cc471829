"""Outliers, clusters, embeddings and labels of states: arrays in, arrays out."""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np
from sklearn.metrics import silhouette_score

from analysis.maps.hidden_states import HiddenStates, step_labels
from common.runs import UsageError
from envs.vecenv import ActionSpace
from interpret.clustering import Clusters, cluster_stability, fit_clusters, gaussian_null
from interpret.directions.directions import Directions
from interpret.directions.fitting import sample_of
from interpret.embedding import embed, neighbour_preservation, trustworthiness
from interpret.subsample import inliers, median_neighbour_distance, scores_of

SILHOUETTE_POINTS = 5000


class MapSample(NamedTuple):
    """Rows of `states` that a map shows."""

    states: HiddenStates
    rows: np.ndarray


def find_outliers(
    real: HiddenStates,
    simulated: HiddenStates | None,
    columns: np.ndarray,
    neighbours: int,
    sigmas: float,
    seed: int,
) -> dict[str, np.ndarray]:
    """Outlier scores: each state's median distance to its nearest real neighbours, in standardised features.

    Args:
        real: states that define the neighbours and the limit.
        simulated: further states, scored against the same real neighbours.
        columns: features that vary.
        neighbours: number of nearest neighbours.
        sigmas: the limit lies this many standard deviations above the mean score.
        seed: of the choice of reference states.

    Returns:
        kept [n] bool, distance [n] and limit of the real states; sim_distance [m] of the simulated ones.
    """
    sample = sample_of(real.x[:, columns], real.level)
    z = sample.standardised()
    scored = inliers(z, neighbours, sigmas, seed)
    arrays = {"kept": scored.kept, "distance": scored.distance, "limit": np.array(scored.limit)}
    if simulated is None:
        return arrays
    sim_z = ((simulated.x[:, columns] - sample.mean) / sample.std).astype(np.float32)
    return arrays | {"sim_distance": median_neighbour_distance(sim_z, z[scored.reference], neighbours)}


def find_clusters(
    points: np.ndarray, groups: np.ndarray, count: int, rows: np.ndarray, draws: int, seed: int
) -> dict[str, np.ndarray]:
    """k-means clusters with stability and silhouette, and both for Gaussian points of equal covariance.

    Args:
        points: [n, D].
        groups: level or episode of each point [n]; resamples draw whole groups.
        count: number of clusters C.
        rows: points that test stability and silhouette.
        draws: refits for the stability; 0 skips it.
        seed: of the fits and resamples.

    Returns:
        centres [C, D]; rand [draws] and jaccard [draws, C] (see ClusterStability); silhouette (Rousseeuw
        1987) of SILHOUETTE_POINTS points; null_rand, null_jaccard and null_silhouette of the Gaussian points.
    """
    arrays = {"centres": fit_clusters(points, groups, count, seed).centres}
    tested = points[rows]
    for prefix, cloud in (("", tested), ("null_", gaussian_null(tested, seed))):
        labels = fit_clusters(cloud, groups[rows], count, seed).assign(cloud)
        scored = np.random.default_rng([seed, 13]).permutation(len(cloud))[:SILHOUETTE_POINTS]
        arrays[f"{prefix}silhouette"] = np.array(silhouette_score(cloud[scored], labels[scored]))
        if draws:
            stability = cluster_stability(cloud, groups[rows], count, draws, seed)
            arrays |= {f"{prefix}rand": stability.rand, f"{prefix}jaccard": stability.jaccard}
    return arrays


def check_maps(kinds: Sequence[str]) -> None:
    """Raises UsageError for an unknown kind of embedding."""
    unknown = [kind for kind in kinds if kind not in ("tsne", "umap")]
    if unknown:
        raise UsageError(
            f"unknown map {unknown[0]!r}; give --maps tsne, --maps umap, both words, or --maps alone for none"
        )


def make_map(
    kind: str, points: dict[str, np.ndarray], seed: int, threads: int, own: Mapping[str, np.ndarray] = {}
) -> dict[str, np.ndarray]:
    """An embedding fit on points["real"], with the other points projected onto it.

    Args:
        kind: pca, tsne or umap.
        points: {name: [., K]}.
        seed: of the embedding.
        threads: of the embedding.
        own: {name: [m]}: row in points["real"] of each projected point that is part of the fit, else -1.

    Returns:
        {name: [., 2]}; trust, the trustworthiness of the fit; and kept_<name>, the fraction of neighbours
        that each projected point keeps.
    """
    embedding = embed(kind, points["real"], seed, threads)
    trust = trustworthiness(points["real"], embedding.points, seed=seed)
    arrays = {"real": embedding.points, "trust": np.array(trust)}
    for name, others in points.items():
        if name != "real":
            arrays[name] = embedding.place(others)
            arrays[f"kept_{name}"] = neighbour_preservation(
                others, arrays[name], points["real"], embedding.points, own.get(name)
            )
    return arrays


def index_in(rows: np.ndarray, sample: np.ndarray) -> np.ndarray:
    """Index of each of rows [m] in the ascending sample [n], or -1: [m]."""
    at = np.searchsorted(sample, rows).clip(max=len(sample) - 1)
    return np.where(sample[at] == rows, at, -1)


def sample_labels(
    sample: MapSample,
    actions: ActionSpace,
    clusters: Clusters,
    space: Directions,
    factors: Mapping[str, Directions],
) -> dict[str, np.ndarray]:
    """All labels [m] of a sample's states: episode, t, level, `step_labels`, cluster, strongest factors.

    Args:
        sample: of m states.
        actions: of the agent.
        clusters: fit in `space`.
        space: principal components whose scores are clustered.
        factors: {name: directions}; the label is the direction with the largest score, for ICA the largest
            magnitude.
    """
    states, rows = sample
    columns = {"episode": states.episode, "t": states.step, "level": states.level}
    columns |= step_labels(states, actions)
    labels = {name: np.asarray(values)[rows] for name, values in columns.items()}
    labels["cluster"] = clusters.assign(scores_of(space, states.x[rows]))
    for name, directions in factors.items():
        scores = scores_of(directions, states.x[rows])
        labels[name] = (np.abs(scores) if name == "ica" else scores).argmax(1)
    return labels


def by_sample(labels: Mapping[str, Mapping[str, np.ndarray]]) -> dict[str, np.ndarray]:
    """{sample: {label: [n]}} as one part: {"sample.label": [n]}; `read_labels` reads it."""
    return {
        f"{name}.{label}": column for name, columns in labels.items() for label, column in columns.items()
    }
