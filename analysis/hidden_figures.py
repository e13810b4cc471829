"""Figures of the numbers beside the maps of hidden states: variance, reconstruction, stability, trust."""

from pathlib import Path

import numpy as np

from analysis.clusters import STABLE as STABLE_CLUSTER
from analysis.map_figures import Caption
from analysis.style import GROUPS, NULL, REAL, add_caption, new_figure, save_figure
from interpret.stability import STABLE

NAMES = {"pca": "PCA", "ica": "ICA", "nmf": "NMF", "dictionary": "TopK dictionary", "tsne": "t-SNE", "umap": "UMAP"}


def draw_numbers(numbers: dict, levels: str, path: Path) -> Path:
    """Explained variance, reconstruction at equal K, stability of directions and of clusters."""
    figure, axes = new_figure(2, 2, panel=(4.3, 2.9))
    _spectrum(axes[0, 0], numbers["spectrum"])
    _equal_counts(axes[0, 1], numbers["equal_counts"])
    _directions(axes[1, 0], numbers["methods"])
    _clusters(axes[1, 1], numbers["clusters"])
    text = (
        "Fits on inliers; reconstruction on a quarter of the levels that the fit has not seen, a dictionary counted by the units that a state "
        "uses. Stability over levels drawn again, matched |cosine| in whitened space; of clusters the Jaccard overlap."
    )
    stores, methods = numbers["stores"], numbers["methods"]
    fit_on = max(found["fit_on"] for found in methods.values())
    add_caption(figure, text, f"{fit_on:,} inliers of {stores['states']:,} steps in {stores['episodes']:,} episodes", levels)
    return save_figure(figure, path)[0]


def _spectrum(axis, spectrum: dict) -> None:
    shares = np.array(spectrum["shares"]) * 100
    axis.bar(np.arange(1, len(shares) + 1), shares, color=REAL["color"], width=0.8)
    axis.set(xlabel="principal component", ylabel="share of variance (%)", title="explained variance")
    whole = axis.twinx()
    whole.plot(np.arange(1, len(shares) + 1), np.cumsum(shares), color="#444444", linewidth=1.2)
    needed = spectrum["axes_for"]["95%"]
    if needed is not None:
        whole.axvline(needed, **NULL | {"linestyle": ":"})
        whole.annotate(f"95% in {needed}", (needed, 60), xytext=(-4, 0), textcoords="offset points", ha="right", fontsize=8)
    whole.set(ylim=(0, 102), ylabel="sum (%)")
    whole.grid(False)
    whole.spines["right"].set_visible(True)


def _equal_counts(axis, rows: list[dict]) -> None:
    for look, method in zip(GROUPS, dict.fromkeys(row["method"] for row in rows)):
        mine = [row for row in rows if row["method"] == method and row["explained"] is not None]
        axis.plot([row["count"] for row in mine], [row["explained"] for row in mine], "o-", color=look, label=NAMES.get(method, method), markersize=4)
    axis.set(xlabel="scores that a state uses", ylabel="variance that they hold", title="reconstruction, held-out levels", ylim=(0, 1))
    axis.set_xticks(sorted({row["count"] for row in rows}))
    axis.legend()


def _directions(axis, methods: dict) -> None:
    for look, (method, found) in zip(GROUPS, methods.items()):
        if found["median_cosine"]:
            shown = np.sort(found["median_cosine"])[::-1]
            axis.plot(np.linspace(0, 1, len(shown)), shown, color=look, label=f"{NAMES.get(method, method)}: {found['stable']} of {len(shown)}")
        else:
            axis.plot([], [], color=look, label=f"{NAMES.get(method, method)}: untested")
    if not any(found["median_cosine"] for found in methods.values()):
        axis.text(0.5, 0.5, "untested", transform=axis.transAxes, ha="center")
    axis.axhline(STABLE, **NULL | {"linestyle": ":"})
    axis.set(xlim=(0, 1), xlabel="directions, best first (share)", ylabel="median |cosine|", title="stability of directions", ylim=(0, 1.02))
    axis.legend(loc="lower left")


def _clusters(axis, clusters: dict) -> None:
    axis.set(title="stability of clusters", xlabel="cluster, largest first", ylabel="Jaccard overlap", ylim=(0, 1))
    if "jaccard" not in clusters:
        axis.text(0.5, 0.5, "untested", transform=axis.transAxes, ha="center")
        return
    axis.bar(np.arange(clusters["count"]), clusters["jaccard"], color=REAL["color"])
    axis.axhline(np.mean(clusters["null_jaccard"]), **NULL, label="mean, Gaussian of the same covariance")
    axis.axhline(STABLE_CLUSTER, **NULL | {"linestyle": ":"}, label="stable from here")
    axis.legend(loc="upper right")
