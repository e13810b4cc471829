"""Figures of a map from its artefacts: colourings, episode paths and clusters, for every kind of map."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from analysis.maps.hidden_state_figures import NAMES
from analysis.maps.map_artefacts import MapArtefacts
from analysis.plotting.colourings import Colouring
from analysis.plotting.map_figures import draw_cluster, draw_grid, draw_paths
from common.progress import progress_bar
from common.words import counted

Describe = Callable[[Mapping[str, np.ndarray], int], tuple[str, str]]
"""(labels of a sample, first row of an episode) -> the episode's name and how it ended."""


class Fact(NamedTuple):
    """A label whose mean describes a cluster, the words for it, and its number format."""

    label: str
    words: str
    form: str


class Figure(NamedTuple):
    """A figure of a page: its heading, its caption, and the function that draws it and returns its path."""

    heading: str
    caption: str
    draw: Callable[[], Path]


def grid_figures(artefacts: MapArtefacts, colourings: Sequence[Colouring], out: Path) -> Iterator[Figure]:
    """For each map, one panel per colouring."""
    for kind, arrays in artefacts.maps.items():

        def draw(kind: str = kind, points: np.ndarray = arrays["real"]) -> Path:
            labels, actions = artefacts.labels["real"], artefacts.actions
            return draw_grid(
                kind, points, labels, colourings, actions, artefacts.caption, out / f"grid_{kind}"
            )

        yield Figure(f"Colourings: {NAMES[kind]}", "The same points in every panel.", draw)


def path_figures(
    artefacts: MapArtefacts,
    describe: Describe,
    out: Path,
    max_steps: int | None = None,
    max_paths: int | None = None,
) -> Iterator[Figure]:
    """For each map, one panel per followed episode; see `episode_paths`."""
    caption = "Episodes drawn at random."
    if max_steps is not None:
        caption = f"Random episodes, short ones first; of longer ones the first {max_steps} steps."
    for kind, arrays in artefacts.maps.items():

        def draw(kind: str = kind, points: np.ndarray = arrays["real"]) -> Path:
            paths = episode_paths(artefacts, kind, describe, max_steps, max_paths)
            return draw_paths(kind, points, paths, artefacts.caption, out / f"paths_{kind}")

        yield Figure(f"Paths: {NAMES[kind]}", caption, draw)


def episode_paths(
    artefacts: MapArtefacts,
    kind: str,
    describe: Describe,
    max_steps: int | None = None,
    max_paths: int | None = None,
) -> list[tuple[str, np.ndarray]]:
    """Title and points [T, 2] of the followed episodes in one map.

    Args:
        artefacts: of the map.
        kind: pca, tsne or umap.
        describe: gives an episode's name and how it ended.
        max_steps: longer episodes come last and are cut to this length, so that their paths stay legible.
        max_paths: number of episodes.
    """
    labels = artefacts.labels["followed"]
    points = artefacts.maps[kind]["followed"]
    episodes, length = np.unique(labels["episode"], return_counts=True)
    limit = length.max() if max_steps is None else max_steps
    paths = []
    for episode in episodes[np.argsort(length > limit, kind="stable")][:max_paths]:
        rows = np.flatnonzero(labels["episode"] == episode)
        steps = counted(len(rows), "step") if len(rows) <= limit else f"first {limit} of {len(rows)} steps"
        name, end = describe(labels, rows[0])
        paths.append((f"{name}, {steps}, {end}", points[rows[:limit]]))
    return paths


def draw_clusters(artefacts: MapArtefacts, facts: Sequence[Fact], out: Path) -> list[Path]:
    """One figure per cluster, in out/clusters."""
    maps = {kind: arrays["real"] for kind, arrays in artefacts.maps.items()}
    sizes = artefacts.clustering["sizes"]
    paths = []
    for cluster in progress_bar(range(artefacts.clustering["count"]), unit="cluster", desc="clusters"):
        member = artefacts.labels["real"]["cluster"] == cluster
        title = f"cluster {cluster}: {counted(sizes[cluster], artefacts.unit)}"
        text = cluster_description(artefacts, cluster, facts)
        path = out / "clusters" / f"cluster_{cluster:03d}"
        paths.append(
            draw_cluster(maps, member, artefacts.members(cluster), title, text, artefacts.caption, path)
        )
    return paths


def cluster_description(artefacts: MapArtefacts, cluster: int, facts: Sequence[Fact]) -> str:
    """Size, stability, means of the facts and most common action of a cluster, in words."""
    labels = artefacts.labels["real"]
    member = labels["cluster"] == cluster
    if not member.any():
        return "No member is in the map's sample."
    stability = "Stability untested"
    if "jaccard" in artefacts.clustering:
        stability = f"Jaccard overlap over refits {artefacts.clustering['jaccard'][cluster]:.2f}"
    means = (
        f"{words} {labels[label][member].mean():{form}} ({labels[label].mean():{form}})"
        for label, words, form in facts
    )
    return (
        f"{member.sum()} members in the map (blue). {stability}. Means over members (over all): "
        f"{', '.join(means)}. Most common action: {_most_common(labels['taken'][member], artefacts.actions)}."
    )


def _most_common(taken: np.ndarray, actions: Sequence[str]) -> str:
    values, counts = np.unique(taken, return_counts=True)
    return f"{actions[values[counts.argmax()]]} ({counts.max() / counts.sum():.0%})"
