"""Tables of the hidden-state analysis, for its page."""

import numpy as np

from analysis.maps.hidden_state_figures import NAMES
from analysis.maps.map_artefacts import MapArtefacts
from analysis.plotting.page import Page

CLUSTER_LABELS = ("value", "entropy", "progress", "rewarded")


def numbers_tables(page: Page, numbers: dict) -> None:
    """Outliers, directions, clusters and maps, each with its baseline."""
    page.text(_variance_and_outliers(numbers))
    _add_methods(page, numbers)
    _add_reconstruction(page, numbers["equal_counts"])
    _add_cluster_scores(page, numbers["clusters"])
    _add_map_scores(page, numbers["maps"])


def _variance_and_outliers(numbers: dict) -> str:
    counts = numbers["spectrum"]["axes_for"]
    needed = ", ".join(f"{count} explain {share}" for share, count in counts.items())
    outliers = numbers["outliers"]
    simulated = f", {outliers['simulated']:.1%} of simulated ones" if "simulated" in outliers else ""
    return (
        f"Principal components and the variance they explain: {needed}. Outliers: {outliers['real']:.1%} of "
        f"real states{simulated}."
    )


def _add_methods(page: Page, numbers: dict) -> None:
    rows = []
    for name, fit in numbers["methods"].items():
        stable = "untested" if fit["stable"] is None else fit["stable"]
        rows.append(
            [NAMES[name], fit["directions"], fit["fit_on"], stable, "; ".join(fit["caveats"]) or "none"]
        )
    rows += [[NAMES[name], "left out", "", "", reason] for name, reason in numbers["refused"].items()]
    page.table(["method", "directions", "states fit on", "stable (median |cosine| >= 0.9)", "caveats"], rows)


def _add_reconstruction(page: Page, compared: list[dict]) -> None:
    counts = sorted({row["count"] for row in compared})
    explained = {(row["method"], row["count"]): row["explained"] for row in compared}
    rows = [
        [NAMES[method], *(_percent(explained.get((method, count))) for count in counts)]
        for method in dict.fromkeys(row["method"] for row in compared)
    ]
    page.table(["explained variance, held-out levels", *(f"K = {count}" for count in counts)], rows)


def _add_cluster_scores(page: Page, clusters: dict) -> None:
    scores = [
        ("adjusted Rand index of all labels", "rand"),
        ("stable clusters (Jaccard >= 0.75)", "stable"),
        ("silhouette", "silhouette"),
    ]
    rows = [
        [words, _number(clusters.get(key)), _number(clusters.get(f"null_{key}"))] for words, key in scores
    ]
    page.table([f"{clusters['count']} clusters", "hidden states", "Gaussian of equal covariance"], rows)


def _add_map_scores(page: Page, maps: dict) -> None:
    header = [
        "map",
        "trustworthiness (chance: 0.5)",
        "neighbours kept: real, projected",
        "simulated, projected",
        "chance",
    ]
    rows = [
        [
            NAMES[kind],
            f"{numbers['trustworthiness']:.3f}",
            _percent(numbers["placed_followed"]),
            _percent(numbers.get("placed_simulated"), "no store"),
            f"{numbers['by_chance']:.2%}",
        ]
        for kind, numbers in maps.items()
    ]
    page.table(header, rows)


def clusters_table(page: Page, artefacts: MapArtefacts) -> None:
    """One row per cluster: size, stability and mean labels."""
    labels = artefacts.labels["real"]
    clustering = artefacts.clustering
    rows = []
    for cluster in range(clustering["count"]):
        member = labels["cluster"] == cluster
        means = [f"{labels[name][member].mean():.2f}" if member.any() else "" for name in CLUSTER_LABELS]
        jaccard = _number(clustering["jaccard"][cluster]) if "jaccard" in clustering else "untested"
        rows.append([cluster, clustering["sizes"][cluster], jaccard, *means])
    header = [
        "cluster",
        "states",
        "Jaccard",
        "value",
        "entropy",
        "episode elapsed",
        "in episodes with a reward",
    ]
    page.table(header, rows)


def _percent(value: float | None, missing: str = "failed") -> str:
    return missing if value is None else f"{value:.1%}"


def _number(value: float | None) -> str:
    if value is None:
        return "untested"
    return f"{value:.2f}" if isinstance(value, float) and np.isfinite(value) else str(value)
