"""Figures of cross-causation: mean Jacobians by lag, by path and by subset, and the strongest effects."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from analysis.lagged.jacobian_figures import UNIT
from analysis.lagged.matrices import (
    FigureText,
    finish_grid,
    mark,
    name_scores,
    named,
    scale_of,
    show_matrix,
)
from analysis.plotting.style import GROUPS, add_caption, new_figure, save_figure
from common.words import counted

PATH_TITLES = {"total": "all paths", "agent": "memory alone", "mixed": "through actions\nand frames"}
NOT_SIGNIFICANT = "Grey: not different from 0 at the false discovery rate."
DISTINCT = "Dots: different from the other samples."
AXES = "Rows: earlier score; columns: later score."
PANELS = 12
LEGIBLE = 1.8
"""Inches of a panel's side from which on the names of its scores are written."""
Arrays = Mapping[str, np.ndarray]
"""Arrays of a subset, as `cross_causation.read_means` returns them."""


@dataclass(frozen=True)
class Scores:
    """The K scores of a figure: their names, and the order [K] of rows and columns."""

    names: Sequence[str]
    order: np.ndarray

    @property
    def ordered(self) -> list[str]:
        return [self.names[i] for i in self.order]


def shown(arrays: Arrays, path: str) -> np.ndarray:
    """Mean Jacobian [L, K, K] along a path; NaN where it does not differ from 0."""
    return np.where(arrays[f"significant/{path}"], arrays[f"mean/{path}"], np.nan)


def draw_paths(
    arrays: Arrays,
    scores: Scores,
    lags: Sequence[int],
    text: FigureText,
    path: Path,
    greyed: Sequence[str] = (),
) -> Path:
    """Mean Jacobians of a subset: a column for each lag; rows: all paths, memory alone, and their difference.

    Args:
        arrays: of the subset.
        scores: of rows and columns.
        lags: from 1 on.
        text: of the caption.
        path: of the figure.
        greyed: of "total", "mixed" and others, the paths whose gradients cannot be trusted.
    """
    rows = {name: shown(arrays, name) for name in ("total", "agent")}
    rows["mixed"] = arrays["mean/total"] - arrays["mean/agent"]
    limits = dict.fromkeys(("total", "agent"), scale_of(arrays["mean/total"][list(lags)]))
    limits["mixed"] = scale_of(rows["mixed"][list(lags)])
    side = max(1.7, 7.6 / len(lags))
    figure, axes = new_figure(3, len(lags), panel=(side, side))
    for line, (name, values) in zip(axes, rows.items()):
        for ax, lag in zip(line, lags):
            image = show_matrix(ax, values[lag], scores.order, limits[name], name in greyed)
            if arrays.get(f"distinct/{name}", np.zeros(1)).any():
                mark(ax, arrays[f"distinct/{name}"][lag], scores.order)
            ax.set(xticks=[], yticks=[])
        figure.colorbar(image, ax=list(line), shrink=0.85, extend="both", aspect=12)
        line[0].set_ylabel(PATH_TITLES[name])
    for ax, lag in zip(axes[0], lags):
        ax.set_title(f"lag {lag}")
    if named(scores.names) and side >= LEGIBLE:
        name_scores(axes[-1, 0], scores.ordered)
    sentences = [text.first, AXES, f"Colour: {UNIT}.", NOT_SIGNIFICANT]
    sentences += [DISTINCT] if any(arrays[f"distinct/{name}"].any() for name in ("total", "agent")) else []
    if set(greyed) & rows.keys():
        sentences.append("Paths that the check of gradients does not confirm are drawn without colour.")
    add_caption(figure, " ".join(sentences), text.n, text.levels)
    return save_figure(figure, path)[0]


def draw_subsets(
    subsets: Mapping[str, Arrays], which: str, scores: Scores, lag: int, text: FigureText, path: Path
) -> Path:
    """Mean Jacobians of all subsets along one path at one lag; dots: different from the other samples."""
    columns = 3 if len(subsets) in (5, 6, 9) else min(len(subsets), 4)
    side = max(1.9, 7.6 / columns)
    figure, axes = new_figure(-(-len(subsets) // columns), columns, panel=(side, side + 0.15))
    limit = scale_of(np.stack([arrays[f"mean/{which}"][lag] for arrays in subsets.values()]))
    for ax, (name, arrays) in zip(axes.flat, subsets.items()):
        image = show_matrix(ax, shown(arrays, which)[lag], scores.order, limit)
        mark(ax, arrays[f"distinct/{which}"][lag], scores.order)
        ax.set_title(name, fontsize=8, fontweight="normal")
        ax.set(xticks=[], yticks=[])
    if named(scores.names) and side >= LEGIBLE:
        name_scores(axes[0, 0], scores.ordered)
    finish_grid(figure, axes, len(subsets), image, "effect (SD per SD)", True)
    sentences = [text.first, f"Lag {lag}.", AXES, f"Colour: {UNIT}.", NOT_SIGNIFICANT, DISTINCT]
    add_caption(figure, " ".join(sentences), text.n, text.levels)
    return save_figure(figure, path)[0]


def draw_extremes(
    ends: Mapping[str, Arrays], whole: Arrays, scores: Scores, lag: int, text: FigureText, path: Path
) -> Path:
    """How the Jacobian of samples with an extreme score differs from that of all samples, where it does."""
    columns = min(len(ends), 8)
    figure, axes = new_figure(-(-len(ends) // columns), columns, panel=(1.35, 1.5))
    differences = {
        name: np.where(arrays["distinct/total"], arrays["mean/total"] - whole["mean/total"], np.nan)[lag]
        for name, arrays in ends.items()
    }
    limit = scale_of(np.stack(list(differences.values())))
    for ax, (name, values) in zip(axes.flat, differences.items()):
        image = show_matrix(ax, values, scores.order, limit)
        ax.set_title(f"{name} ({np.isfinite(values).sum()})", fontsize=6, fontweight="normal")
        ax.set(xticks=[], yticks=[])
    finish_grid(figure, axes, len(ends), image, "difference (SD per SD)", True)
    sentences = (
        f"Lag {lag}, all paths. {AXES} Grey: not different from the other samples; in brackets: entries "
    )
    add_caption(figure, f"{text.first} {sentences}that are.", text.n, text.levels)
    return save_figure(figure, path)[0]


def draw_strongest(arrays: Arrays, scores: Scores, text: FigureText, path: Path) -> Path | None:
    """The largest significant effects of one score on another, at all lags from 1 on, with 95% intervals.

    Returns the path; None if nothing is significant.
    """
    pairs = strongest_effects(arrays)
    if not pairs:
        return None
    columns = min(len(pairs), 4)
    figure, axes = new_figure(-(-len(pairs) // columns), columns, panel=(2.6, 2.0), sharex=True)
    for ax, (i, j) in zip(axes.flat, pairs):
        _draw_effect(ax, arrays, i, j)
        ax.set_title(f"{scores.names[i]} on {scores.names[j]}", fontsize=8)
    for ax in axes.flat[len(pairs) :]:
        ax.remove()
    for row in axes:
        row[0].set_ylabel("effect (SD per SD)")
    for ax in axes[-1]:
        ax.set_xlabel("lag (steps)")
    figure.legend(*axes[0, 0].get_legend_handles_labels(), loc="outside upper center", ncols=3)
    title = f"The {counted(len(pairs), 'largest effect')} of one score on another."
    add_caption(figure, f"{text.first} {title} Bands: 95%, by start episode.", text.n, text.levels)
    return save_figure(figure, path)[0]


def _draw_effect(ax, arrays: Arrays, i: int, j: int) -> None:
    lags = np.arange(1, len(arrays["mean/total"]))
    for (which, line), color in zip((("total", "-"), ("agent", "--")), (GROUPS[0], GROUPS[5])):
        low, middle, high = (arrays[f"{kind}/{which}"][1:, i, j] for kind in ("low", "mean", "high"))
        ax.fill_between(lags, low, high, color=color, alpha=0.2, linewidth=0)
        ax.plot(lags, middle, line, color=color, label=PATH_TITLES[which])
    ax.axhline(0, color="#bbbbbb", linewidth=0.8, zorder=0)


def strongest_effects(arrays: Arrays) -> list[tuple[int, int]]:
    """Up to PANELS pairs (earlier, later) of different scores by their largest significant effect."""
    size = np.nanmax(np.abs(np.nan_to_num(shown(arrays, "total")[1:])), axis=0)
    np.fill_diagonal(size, 0)
    ranked = np.argsort(-size, axis=None, kind="stable")[:PANELS]
    return [tuple(map(int, np.unravel_index(at, size.shape))) for at in ranked if size.flat[at] > 0]
