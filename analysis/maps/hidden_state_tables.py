"""Tables of the hidden-state analysis, for its page."""

import numpy as np

from analysis.maps.hidden_state_figures import NAMES
from analysis.plotting.page import Page


def numbers_tables(page: Page, numbers: dict) -> None:
    """Directions, clusters and maps, each in a table with what it is to be compared with."""
    outliers = numbers["outliers"]
    counts = numbers["spectrum"]["axes_for"]
    shares = ", ".join(f"{share} in {count}" for share, count in counts.items())
    beyond = f", {outliers['simulated']:.1%} of simulated ones" if "simulated" in outliers else ""
    page.text(
        f"Variance of principal components: {shares}. Outliers: {outliers['real']:.1%} of real states{beyond}."
    )
    rows = [
        [
            NAMES[name],
            found["directions"],
            found["fit_on"],
            _or(found["stable"], "untested"),
            "; ".join(found["caveats"]) or "none",
        ]
        for name, found in numbers["methods"].items()
    ]
    rows += [[NAMES[name], "left out", "", "", reason] for name, reason in numbers["refused"].items()]
    page.table(["method", "directions", "states fit on", "stable (median |cosine| >= 0.9)", "caveats"], rows)
    compared = numbers["equal_counts"]
    columns = sorted({row["count"] for row in compared})
    of = {(row["method"], row["count"]): row["explained"] for row in compared}
    methods = dict.fromkeys(row["method"] for row in compared)
    rows = [[NAMES[method], *(_share(of.get((method, count))) for count in columns)] for method in methods]
    page.table(["variance held, unseen levels", *(f"K = {count}" for count in columns)], rows)
    clusters = numbers["clusters"]
    words = [
        ("adjusted Rand index of all labels", "rand"),
        ("stable clusters (Jaccard >= 0.75)", "stable"),
        ("silhouette", "silhouette"),
    ]
    rows = [[word, _number(clusters.get(key)), _number(clusters.get(f"null_{key}"))] for word, key in words]
    page.table([f"{clusters['count']} clusters", "hidden states", "Gaussian of the same covariance"], rows)
    rows = []
    for kind, told in numbers["maps"].items():
        placed = _share(told["placed_followed"]), _share(told.get("placed_simulated"), "no store")
        rows.append([NAMES[kind], f"{told['trustworthiness']:.3f}", *placed, f"{told['by_chance']:.2%}"])
    page.table(
        [
            "map",
            "trustworthiness (0.5 by chance)",
            "neighbours kept: real, placed",
            "simulated, placed",
            "by chance",
        ],
        rows,
    )


def clusters_table(page: Page, made) -> None:
    """Every cluster in a row; their pictures are files of their own."""
    labels = made.labels["real"]
    numbers = made.numbers["clusters"]
    rows = []
    for cluster in range(numbers["count"]):
        inside = labels["cluster"] == cluster
        means = [
            f"{labels[name][inside].mean():.2f}" if inside.any() else ""
            for name in ("value", "entropy", "progress", "rewarded")
        ]
        rows.append(
            [
                cluster,
                numbers["sizes"][cluster],
                _number(numbers["jaccard"][cluster]) if "jaccard" in numbers else "untested",
                *means,
            ]
        )
    page.table(
        ["cluster", "states", "Jaccard", "value", "entropy", "episode gone", "in episodes with a reward"],
        rows,
    )


def _or(value, word: str) -> str:
    return word if value is None else str(value)


def _share(value: float | None, missing: str = "refused") -> str:
    return missing if value is None else f"{value:.1%}"


def _number(value: float | None) -> str:
    return (
        "untested"
        if value is None
        else f"{value:.2f}"
        if isinstance(value, float) and np.isfinite(value)
        else str(value)
    )
