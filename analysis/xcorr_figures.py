"""Pictures of lagged correlations: a matrix for each lag with the marks of what stands, all clusters at one lag, and the strongest pairs lag
by lag."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from scipy.cluster.hierarchy import leaves_list, linkage
from scipy.spatial.distance import squareform

from analysis.style import NULL, add_caption, new_figure, save_figure
from interpret.lagged import Lagged

COLOURS = "RdBu_r"
NAMED = 36
"""So many scores have room for their names along a matrix."""
PANELS = 12
_UNKNOWN = "#dddddd"


def in_order(correlation: np.ndarray) -> np.ndarray:
    """An order [K] of scores in which those that go together at lag 0, whatever the sign, stand side by side: correlation [K, K]."""
    if len(correlation) < 3:
        return np.arange(len(correlation))
    distance = 1 - np.abs(np.nan_to_num((correlation + correlation.T) / 2))
    np.fill_diagonal(distance, 0)
    return leaves_list(linkage(squareform(distance, checks=False), "average", optimal_ordering=True))


def draw_matrices(
    found: Lagged, stands: np.ndarray, names: Sequence[str], order: np.ndarray, shown: Sequence[int], text: str, n: str, levels: str, path: Path
) -> Path:
    """One matrix per shown lag, later score across; a dot where a correlation stands. order [K]: of rows and columns. text: what is said first."""
    columns = min(len(shown), 3 if len(shown) in (5, 6, 9) else 4)
    rows = -(-len(shown) // columns)
    named = len(names) <= NAMED
    height = 3.0 + 0.9 / rows if named else 2.6 + 0.6 / rows  # names and caption take their height once
    figure, axes = new_figure(rows, columns, panel=(max(2.9, 4.6 / columns), height))
    limit = _limit(found.correlation[list(shown)])
    for ax, lag in zip(axes.flat, shown):
        image = _matrix(ax, found.correlation[lag], order, limit)
        _mark(ax, stands[lag], order)
        ax.set_title(f"lag {lag}")
        if named:
            for axis in (ax.xaxis, ax.yaxis):
                axis.set_ticks(range(len(names)), [names[i] for i in order], fontsize=min(5, 115 / len(names)))
            ax.tick_params("x", rotation=90)
    for row in axes:
        row[0].set_ylabel("score at step t")
    for ax in axes[-1]:
        ax.set_xlabel("score at step t + lag")
    for ax in axes.flat[len(shown) :]:
        ax.remove()
    figure.colorbar(image, ax=list(axes.flat[: len(shown)]), shrink=0.6, label="correlation", extend="both" if limit < 1 else "neither")
    add_caption(figure, f"{text} Dots: what neither null explains, at the false discovery rate of all that was tested.", n, levels)
    return save_figure(figure, path)[0]


def draw_overview(sets: dict[str, Lagged], order: np.ndarray, lag: int, text: str, n: str, levels: str, path: Path) -> Path:
    """The matrices of all sets at one lag, small, side by side."""
    columns = min(len(sets), 6)
    side = max(1.6, 8 / columns)
    figure, axes = new_figure(-(-len(sets) // columns), columns, panel=(side, side + 0.15))
    limit = _limit(np.stack([found.correlation[lag] for found in sets.values()]))
    for ax, (name, found) in zip(axes.flat, sets.items()):
        image = _matrix(ax, found.correlation[lag], order, limit)
        ax.set_title(f"{name} ({found.episodes})", fontsize=7, fontweight="normal")
        ax.set(xticks=[], yticks=[])
    for ax in axes.flat[len(sets) :]:
        ax.remove()
    figure.colorbar(image, ax=list(axes.flat[: len(sets)]), shrink=0.6, label=f"correlation at lag {lag}", extend="both" if limit < 1 else "neither")
    text = f"{text} Rows: score at step t; columns: score {lag} step{'s' * (lag != 1)} later, in the same order everywhere. In brackets: episodes."
    add_caption(figure, text, n, levels)
    return save_figure(figure, path)[0]


def draw_pairs(found: Lagged, stands: np.ndarray, names: Sequence[str], look: dict, text: str, n: str, levels: str, path: Path) -> Path | None:
    """The pairs of scores whose correlation is furthest from their nulls, at all lags both ways; None where nothing stands."""
    pairs = strongest(found, stands)
    if not pairs:
        return None
    columns = min(len(pairs), 4)
    figure, axes = new_figure(-(-len(pairs) // columns), columns, panel=(2.7, 2.1), sharex=True)
    lags = np.arange(len(found.pairs))
    both = np.concatenate([-lags[:0:-1], lags])
    for ax, (i, j) in zip(axes.flat, pairs):
        for null, style in (("shift", {"alpha": 0.35}), ("pairing", {"alpha": 0.18})):
            if null in found.mean:
                middle, spread = two_sided(found.mean[null], i, j), two_sided(found.std[null], i, j)
                band = {"color": NULL["color"], "linewidth": 0, "label": f"{null} null, 95%", **style}
                ax.fill_between(both, middle - 1.96 * spread, middle + 1.96 * spread, **band)
        ax.plot(both, two_sided(found.correlation, i, j), **look)
        marked = two_sided(stands, i, j)
        ax.plot(both[marked], two_sided(found.correlation, i, j)[marked], "o", markersize=3, color=look["color"], label="stands")
        ax.axvline(0, color="#bbbbbb", linewidth=0.8, zorder=0)
        ax.set_title(f"{names[i]}, {names[j]}", fontsize=8)
    for ax in axes.flat[len(pairs) :]:
        ax.remove()
    for row in axes:
        row[0].set_ylabel("correlation")
    for ax in axes[-1]:
        ax.set_xlabel("lag (steps)")
    figure.legend(*axes[0, 0].get_legend_handles_labels(), loc="outside upper center", ncols=3)
    text = f"{text} To the right, the second score comes later by that many steps; to the left, the first does."
    add_caption(figure, f"{text} The {len(pairs)} pairs furthest from both nulls.", n, levels)
    return save_figure(figure, path)[0]


def strongest(found: Lagged, stands: np.ndarray) -> list[tuple[int, int]]:
    """Up to PANELS pairs (i < j) with a correlation that stands, by how far it lies from the nearer of its nulls' means."""
    beyond = np.min([np.abs(found.correlation - mean) for mean in found.mean.values()], axis=0)
    most = np.where(stands, beyond, 0).max(0)
    most = np.triu(np.maximum(most, most.T), 1)
    ranked = np.argsort(-most, axis=None, kind="stable")[:PANELS]
    return [tuple(map(int, np.unravel_index(at, most.shape))) for at in ranked if most.flat[at] > 0]


def two_sided(values: np.ndarray, i: int, j: int) -> np.ndarray:
    """values [L + 1, K, K] of the scores i and j at lags -L .. L, [2L + 1]: at a negative lag it is j that comes first."""
    return np.concatenate([values[:0:-1, j, i], values[:, i, j]])


def mirrored(stands: np.ndarray) -> np.ndarray:
    """Marks [L + 1, K, K] with those of lag 0, where each pair is tested once, on both sides of the diagonal."""
    return np.concatenate([(stands[0] | stands[0].T)[None], stands[1:]])


def _matrix(ax, values: np.ndarray, order: np.ndarray, limit: float):
    image = ax.imshow(values[np.ix_(order, order)], cmap=COLOURS, vmin=-limit, vmax=limit)
    ax.set_facecolor(_UNKNOWN)
    ax.grid(False)
    return image


def _mark(ax, stands: np.ndarray, order: np.ndarray) -> None:
    rows, columns = np.nonzero(stands[np.ix_(order, order)])
    ax.scatter(columns, rows, s=60 / len(order), color="#111111", linewidths=0)


def _limit(values: np.ndarray) -> float:
    """The end of the colour scale: the largest correlation of two different scores, in tenths."""
    apart = np.abs(values[..., ~np.eye(values.shape[-1], dtype=bool)])
    return float(np.clip(np.ceil(10 * np.nanmax(apart, initial=0.1)) / 10, 0.1, 1))
