"""Figures of the consistency of gradients and dynamics: matrices by lag, and agreement beyond its null."""

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from matplotlib.colors import ListedColormap
from matplotlib.patches import Patch

from analysis.lagged.jacobian_figures import UNIT
from analysis.lagged.matrices import FigureText, name_scores, named, scale_of, show_matrix
from analysis.lagged.xcaus_figures import LEGIBLE, Scores
from analysis.plotting.style import GROUPS, NULL, add_caption, new_figure, save_figure

AGREE, DISAGREE, NOT_COUNTED = GROUPS[1], GROUPS[5], "#e4e4e4"
COLUMNS = (
    ("jacobian/total", "mean gradient,\nall paths"),
    ("jacobian/agent", "mean gradient,\nmemory alone"),
    ("correlation", "lagged\ncorrelation"),
    ("agreement/total", "signs,\nall paths"),
    ("agreement/agent", "signs,\nmemory alone"),
)
PATH_NAMES = {"total": "all paths", "agent": "memory alone"}


def draw_stories(
    arrays: Mapping[str, np.ndarray],
    rows: Mapping[str, Sequence[dict]],
    scores: Scores,
    lags: Sequence[int],
    text: FigureText,
    path: Path,
) -> Path:
    """A row for each lag: gradients, correlations, and where their signs agree.

    Args:
        arrays: "jacobian/<path>", "correlation" and "agreement/<path>" [L, K, K], from lag 1 on.
        rows: numbers of each path by lag, see `consistency_rows`.
        scores: of rows and columns.
        lags: that have a row.
        text: of the caption.
        path: of the figure.
    """
    height = 1.5 + 2.0 / len(lags)  # titles, colour bars and caption take theirs once
    figure, axes = new_figure(len(lags), len(COLUMNS), panel=(1.75, height))
    limits = {
        "jacobian": scale_of(arrays["jacobian/total"][np.array(lags) - 1]),
        "correlation": scale_of(
            arrays["correlation"][np.array(lags) - 1][:, ~np.eye(len(scores.order), dtype=bool)]
        ),
    }
    images = {}
    for line, lag in zip(axes, lags):
        for ax, (name, _) in zip(line, COLUMNS):
            kind, _, which = name.partition("/")
            values = arrays[name][lag - 1]
            if kind == "agreement":
                _show_signs(ax, values, scores.order)
                ax.set_title(_share(rows[which][lag - 1]["sign"]), fontsize=6.5, fontweight="normal")
            else:
                images[kind] = show_matrix(ax, values, scores.order, limits[kind])
            ax.set(xticks=[], yticks=[])
        line[0].set_ylabel(f"lag {lag}")
    for ax, (_, title) in zip(axes[0], COLUMNS):
        ax.annotate(title, (0.5, 1.22), xycoords="axes fraction", ha="center", fontsize=8, fontweight="bold")
    if named(scores.names) and axes[-1, 0].get_window_extent().width / figure.dpi >= LEGIBLE:
        name_scores(axes[-1, 0], scores.ordered)
    for kind, columns, label in (
        ("jacobian", slice(0, 2), "SD per SD"),
        ("correlation", slice(2, 3), "correlation"),
    ):
        bar = figure.colorbar(
            images[kind],
            ax=list(axes[:, columns].flat),
            location="bottom",
            shrink=0.7,
            extend="both",
            label=label,
        )
        bar.set_ticks([-limits[kind], 0, limits[kind]])
        bar.ax.tick_params(labelsize=7)
    patches = [
        Patch(color=color, label=label)
        for color, label in ((AGREE, "same sign"), (DISAGREE, "opposite"), (NOT_COUNTED, "not counted"))
    ]
    figure.legend(handles=patches, loc="outside upper right", ncols=3)
    sentences = (
        f"{text.first} Rows: earlier score; columns: later score. Gradients: {UNIT}. Signs count where both "
        "are significant; above them: share that agrees, and its mean when directions are relabelled."
    )
    add_caption(figure, sentences, text.n, text.levels)
    return save_figure(figure, path)[0]


def _show_signs(ax, agreement: np.ndarray, order: np.ndarray) -> None:
    """Entries [K, K] that agree (1), disagree (-1) or do not count (0)."""
    colours = ListedColormap([DISAGREE, NOT_COUNTED, AGREE])
    ax.imshow(agreement[np.ix_(order, order)], cmap=colours, vmin=-1.5, vmax=1.5)
    ax.grid(False)


def _share(numbers: dict) -> str:
    """Agreement and its mean under the null, in words."""
    if numbers["value"] is None:
        return "nothing counts"
    mean = numbers["null"]["mean"]
    share = f"{numbers['value']:.0%} of {numbers['n']}"
    return share if mean is None else f"{share} (chance {mean:.0%})"


def draw_agreement(
    sets: Mapping[str, Mapping[str, Sequence[dict]]], statistic: str, text: FigureText, path: Path
) -> Path:
    """Agreement by lag of every subset, along both paths, over the 95% bands of the null.

    Args:
        sets: {subset: {path: numbers by lag}}, see `consistency_rows`.
        statistic: sign or magnitude.
        text: of the caption.
        path: of the figure.
    """
    columns = 3 if len(sets) in (5, 6, 9) else min(len(sets), 4)
    figure, axes = new_figure(
        -(-len(sets) // columns), columns, panel=(max(2.5, 7.6 / columns), 2.3), sharex=True, sharey=True
    )
    for ax, (name, by_path) in zip(axes.flat, sets.items()):
        _draw_null(ax, by_path["total"], statistic)
        for (which, rows), color, offset in zip(by_path.items(), (GROUPS[0], GROUPS[5]), (-0.12, 0.12)):
            _draw_values(ax, rows, statistic, color, offset, PATH_NAMES[which])
        ax.set_title(name, fontsize=8)
    for ax in axes.flat[len(sets) :]:
        ax.remove()
    label = {"sign": "share of equal signs", "magnitude": "rank correlation\nof magnitudes"}[statistic]
    for row in axes:
        row[0].set_ylabel(label)
    for ax in axes.flat[max(len(sets) - columns, 0) : len(sets)]:
        ax.set_xlabel("lag (steps)")
        ax.tick_params(labelbottom=True)
    figure.legend(*axes[0, 0].get_legend_handles_labels(), loc="outside upper center", ncols=3)
    sentences = (
        f"{text.first} Bars: 95%, by start episode. Band: 95% of relabelled directions, all paths; line: "
        "their mean. Open marks: not significant at the false discovery rate."
    )
    if statistic == "sign":
        sentences += " Below: entries that count, all paths; the bars hold them fixed."
    add_caption(figure, sentences, text.n, text.levels)
    return save_figure(figure, path)[0]


def _draw_null(ax, rows: Sequence[dict], statistic: str) -> None:
    lags = np.array([row["lag"] for row in rows[:-1]])
    mean, low, high = (
        np.array([row[statistic]["null"][name] for row in rows[:-1]], float)
        for name in ("mean", "low", "high")
    )
    ax.fill_between(lags, low, high, color=NULL["color"], alpha=0.3, linewidth=0, label="null, 95%")
    ax.plot(lags, mean, color=NULL["color"], linewidth=1)
    ax.axhline(0.5 if statistic == "sign" else 0, color="#bbbbbb", linewidth=0.8, linestyle=":", zorder=0)
    if statistic == "sign":
        ax.set_ylim(-0.2, 1.06)
        for row in rows[:-1]:
            ax.text(row["lag"], -0.17, row[statistic]["n"], ha="center", fontsize=6, color="#777777")


def _draw_values(ax, rows: Sequence[dict], statistic: str, color: str, offset: float, label: str) -> None:
    for row in rows[:-1]:
        numbers = row[statistic]
        if numbers["value"] is None:
            continue
        x = row["lag"] + offset
        ends = [np.nan if numbers[name] is None else numbers[name] for name in ("low", "high")]
        ax.plot([x, x], ends, color=color, linewidth=1)
        filled = color if numbers["significant"] else "white"
        ax.plot(x, numbers["value"], "o", color=color, markerfacecolor=filled, markersize=4)
    ax.plot([], [], "o", color=color, markersize=4, label=label)
