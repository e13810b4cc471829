"""Figures of lagged correlations: a matrix for each lag, all clusters at one lag, and the strongest pairs."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from scipy.cluster.hierarchy import leaves_list, linkage
from scipy.spatial.distance import squareform

from analysis.lagged.matrices import FigureText, finish_grid, mark, name_scores, named, show_matrix
from analysis.plotting.style import NULL, add_caption, new_figure, save_figure
from interpret.lagged import LaggedCorrelations

PANELS = 12


def clustered_order(correlation: np.ndarray) -> np.ndarray:
    """Order [K] of scores by hierarchical clustering of |correlation| [K, K]."""
    if len(correlation) < 3:
        return np.arange(len(correlation))
    distance = 1 - np.abs(np.nan_to_num((correlation + correlation.T) / 2))
    np.fill_diagonal(distance, 0)
    return leaves_list(linkage(squareform(distance, checks=False), "average", optimal_ordering=True))


def effect_order(effects: np.ndarray) -> np.ndarray:
    """`clustered_order` by effects [K, K] of any size."""
    size = np.abs(np.nan_to_num(effects))
    return clustered_order(size / max(size.max(), 1e-12))


def draw_matrices(
    found: LaggedCorrelations,
    significant: np.ndarray,
    names: Sequence[str],
    order: np.ndarray,
    lags: Sequence[int],
    text: FigureText,
    path: Path,
) -> Path:
    """One matrix per lag; dots mark significant correlations.

    Args:
        found: correlations.
        significant: [L + 1, K, K] bool.
        names: of the K scores.
        order: of rows and columns [K].
        lags: that have a matrix.
        text: of the caption.
        path: of the figure.
    """
    columns = min(len(lags), 3 if len(lags) in (5, 6, 9) else 4)
    rows = -(-len(lags) // columns)
    height = 3.0 + 0.9 / rows if named(names) else 2.6 + 0.6 / rows  # names and caption count once
    figure, axes = new_figure(rows, columns, panel=(max(2.9, 4.6 / columns), height))
    limit = _limit(found.correlation[list(lags)])
    for ax, lag in zip(axes.flat, lags):
        image = show_matrix(ax, found.correlation[lag], order, limit)
        mark(ax, significant[lag], order)
        ax.set_title(f"lag {lag}")
        if named(names):
            name_scores(ax, [names[i] for i in order])
    for row in axes:
        row[0].set_ylabel("score at step t")
    for ax in axes[-1]:
        ax.set_xlabel("score at step t + lag")
    finish_grid(figure, axes, len(lags), image, "correlation", image.norm.vmax < 1)
    dots = "Dots: significant against both nulls, at one false discovery rate over all tests."
    add_caption(figure, f"{text.first} {dots}", text.n, text.levels)
    return save_figure(figure, path)[0]


def draw_overview(
    subsets: dict[str, LaggedCorrelations], order: np.ndarray, lag: int, text: FigureText, path: Path
) -> Path:
    """The matrices of all subsets of episodes at one lag, side by side."""
    columns = min(len(subsets), 6)
    side = max(1.6, 8 / columns)
    figure, axes = new_figure(-(-len(subsets) // columns), columns, panel=(side, side + 0.15))
    limit = _limit(np.stack([found.correlation[lag] for found in subsets.values()]))
    for ax, (name, found) in zip(axes.flat, subsets.items()):
        image = show_matrix(ax, found.correlation[lag], order, limit)
        ax.set_title(f"{name} ({found.episodes})", fontsize=7, fontweight="normal")
        ax.set(xticks=[], yticks=[])
    finish_grid(figure, axes, len(subsets), image, f"correlation at lag {lag}", image.norm.vmax < 1)
    axes_text = (
        f"Rows: score at step t; columns: score {lag} step{'s' * (lag != 1)} later, in the same order."
    )
    add_caption(figure, f"{text.first} {axes_text} In brackets: episodes.", text.n, text.levels)
    return save_figure(figure, path)[0]


def draw_pairs(
    found: LaggedCorrelations,
    significant: np.ndarray,
    names: Sequence[str],
    look: dict,
    text: FigureText,
    path: Path,
) -> Path | None:
    """The pairs of scores whose correlation is furthest from both nulls, at all lags in both directions.

    Args:
        found: correlations.
        significant: [L + 1, K, K] bool.
        names: of the K scores.
        look: colour and line style.
        text: of the caption.
        path: of the figure.

    Returns:
        The path; None if nothing is significant.
    """
    pairs = strongest(found, significant)
    if not pairs:
        return None
    columns = min(len(pairs), 4)
    figure, axes = new_figure(-(-len(pairs) // columns), columns, panel=(2.7, 2.1), sharex=True)
    for ax, (i, j) in zip(axes.flat, pairs):
        _draw_pair(ax, found, significant, (i, j), look)
        ax.set_title(f"{names[i]}, {names[j]}", fontsize=8)
    for ax in axes.flat[len(pairs) :]:
        ax.remove()
    for row in axes:
        row[0].set_ylabel("correlation")
    for ax in axes[-1]:
        ax.set_xlabel("lag (steps)")
    figure.legend(*axes[0, 0].get_legend_handles_labels(), loc="outside upper center", ncols=3)
    axes_text = "Positive lag: the second score comes later; negative lag: the first does."
    pairs_text = f"The {len(pairs)} pairs furthest from both nulls."
    add_caption(figure, f"{text.first} {axes_text} {pairs_text}", text.n, text.levels)
    return save_figure(figure, path)[0]


def _draw_pair(
    ax, found: LaggedCorrelations, significant: np.ndarray, pair: tuple[int, int], look: dict
) -> None:
    """Correlation of a pair of scores at all lags, over the 95% bands of the nulls."""
    largest = len(found.pairs) - 1
    lags = np.arange(-largest, largest + 1)
    for null, opacity in (("shift", 0.35), ("pairing", 0.18)):
        if null in found.mean:
            middle = two_sided(found.mean[null], *pair)
            spread = 1.96 * two_sided(found.std[null], *pair)
            band = {"color": NULL["color"], "linewidth": 0, "alpha": opacity}
            ax.fill_between(lags, middle - spread, middle + spread, label=f"{null} null, 95%", **band)
    correlation = two_sided(found.correlation, *pair)
    marked = two_sided(significant, *pair)
    dots = {"markersize": 3, "color": look["color"], "label": "significant"}
    ax.plot(lags, correlation, **look)
    ax.plot(lags[marked], correlation[marked], "o", **dots)
    ax.axvline(0, color="#bbbbbb", linewidth=0.8, zorder=0)


def strongest(found: LaggedCorrelations, significant: np.ndarray) -> list[tuple[int, int]]:
    """Up to PANELS pairs (i < j) with a significant correlation, by distance from the nearer null's mean."""
    beyond = np.min([np.abs(found.correlation - mean) for mean in found.mean.values()], axis=0)
    most = np.where(significant, beyond, 0).max(0)
    most = np.triu(np.maximum(most, most.T), 1)
    ranked = np.argsort(-most, axis=None, kind="stable")[:PANELS]
    return [tuple(map(int, np.unravel_index(at, most.shape))) for at in ranked if most.flat[at] > 0]


def two_sided(values: np.ndarray, i: int, j: int) -> np.ndarray:
    """Values [L + 1, K, K] of scores i and j at lags -L .. L: [2L + 1]; at a negative lag, j comes first."""
    return np.concatenate([values[:0:-1, j, i], values[:, i, j]])


def symmetric_at_lag_0(significant: np.ndarray) -> np.ndarray:
    """Marks [L + 1, K, K] with lag 0, where each pair is tested once, mirrored at the diagonal."""
    return np.concatenate([(significant[0] | significant[0].T)[None], significant[1:]])


def _limit(values: np.ndarray) -> float:
    """End of the colour scale: the largest |correlation| of two different scores, rounded up to tenths."""
    apart = np.abs(values[..., ~np.eye(values.shape[-1], dtype=bool)])
    return float(np.clip(np.ceil(10 * np.nanmax(apart, initial=0.1)) / 10, 0.1, 1))
