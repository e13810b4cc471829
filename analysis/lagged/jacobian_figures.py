"""Figures of mean Jacobians of clusters: effects of earlier scores of the agent and of the environment."""

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from analysis.lagged.matrices import FigureText, name_scores, named, scale_of, show_values
from analysis.plotting.style import add_caption, new_figure, save_figure
from common.words import counted

SHOWN = 16
"""Components of the environment state that have a row."""
UNIT = "change of the later score (SD) per SD of the earlier one"


class ClusterMeans(NamedTuple):
    """Mean Jacobians of C clusters.

    Args:
        agent: [C, K, K] at one lag, rows earlier, columns later.
        environment: [C, width, K], likewise.
        sizes: [C].
        stable: [C] bool, or None if that was not tested.
    """

    agent: np.ndarray
    environment: np.ndarray
    sizes: Sequence[int]
    stable: Sequence[bool] | None


def draw_cluster_jacobians(
    means: ClusterMeans, names: Sequence[str], order: np.ndarray, lag: int, text: FigureText, path: Path
) -> list[Path]:
    """Pages of up to six clusters: above, effects of the agent's scores; below, of the environment's.

    Args:
        means: of the clusters.
        names: of the K scores.
        order: of the scores [K].
        lag: of the Jacobians.
        text: of the caption.
        path: of the first page; further ones end in _2, _3, ...
    """
    count = len(means.sizes)
    limits = [scale_of(x) for x in (means.agent, means.environment[:, :SHOWN])]
    paths = []
    for page, begin in enumerate(range(0, count, 6)):
        clusters = range(begin, min(begin + 6, count))
        name = path.name if page == 0 else f"{path.name}_{page + 1}"
        paths.append(_draw_page(means, clusters, names, order, lag, limits, text, path.with_name(name)))
    return paths


def _draw_page(means, clusters: range, names, order, lag: int, limits, text: FigureText, path: Path) -> Path:
    columns = max(len(clusters), 2)
    side = max(1.9, 7.6 / columns)
    heights = [1.0, min(means.environment.shape[1], SHOWN) / len(names)]
    figure, axes = new_figure(2, columns, panel=(side, side * sum(heights) / 2 + 0.35), height_ratios=heights)
    for column, cluster in enumerate(clusters):
        shown = (
            means.agent[cluster][np.ix_(order, order)],
            means.environment[cluster][:SHOWN, order],
        )
        images = [show_values(ax, x, limit) for ax, x, limit in zip(axes[:, column], shown, limits)]
        axes[0, column].set_title(_title(means, cluster), fontsize=7, fontweight="normal")
        for ax in axes[:, column]:
            ax.set(xticks=[], yticks=[])
    if named(names):
        name_scores(axes[0, 0], [names[i] for i in order])
    earlier = f"{counted(lag, 'step')} earlier"
    axes[0, 0].set_ylabel(f"agent's score,\n{earlier}")
    axes[1, 0].set_ylabel(f"environment's PC,\n{earlier}")
    axes[1, 0].set_xlabel("agent's score")
    for ax in axes[:, len(clusters) :].flat:
        ax.remove()
    for row, image in enumerate(images):
        bar = figure.colorbar(image, ax=list(axes[row, : len(clusters)]), shrink=0.8, extend="both")
        bar.ax.tick_params(labelsize=6)
    add_caption(figure, f"{text.first} Colour: {UNIT}.", text.n, text.levels)
    return save_figure(figure, path)[0]


def _title(means: ClusterMeans, cluster: int) -> str:
    stable = "" if means.stable is None or means.stable[cluster] else ", unstable"
    return f"cluster {cluster} ({means.sizes[cluster]}{stable})"
