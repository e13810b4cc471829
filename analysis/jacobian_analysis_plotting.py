"""Draws the Jacobians of direction scores: maps of samples, mean Jacobians of clusters, and numbers.

Reads only what analysis/jacobian_analysis_precompute.py wrote.
"""

from dataclasses import dataclass

from analysis.io.shared_args import PlotArgs
from common.cli import parse, run_main


@dataclass
class Args(PlotArgs):
    cluster_figures: bool = True
    """Draw one figure per cluster."""


if __name__ == "__main__":
    ARGS = parse(Args, __doc__)

import logging
from pathlib import Path

import numpy as np

from analysis.io.publish import publish
from analysis.io.steps import find_step, read_part
from analysis.lagged.figures import effect_order
from analysis.lagged.jacobian_figures import ClusterMeans, draw_cluster_jacobians
from analysis.lagged.matrices import FigureText
from analysis.maps.map_artefacts import MapArtefacts, read_simulated_state_map
from analysis.maps.map_pictures import draw_clusters, grid_figures
from analysis.maps.simulated_state_figures import draw_explained_variance
from analysis.maps.simulated_state_pages import FACTS, add_trustworthiness
from analysis.maps.simulated_state_steps import JACOBIAN
from analysis.plotting.page import Page
from common.words import counted
from interpret.clustering import STABLE


def main(args: Args) -> Path:
    """Draws every figure into <out_dir>/<name>_plots/<key>, with a page. Returns the page's path."""
    directory = find_step(args.out_dir, JACOBIAN.name, JACOBIAN.version, JACOBIAN.command, args.precomp_dir)
    artefacts = read_simulated_state_map(directory)
    out = args.out_dir / f"{JACOBIAN.name}_plots" / directory.name
    page = Page(JACOBIAN.title)
    page.text(about(artefacts.numbers["jacobians"]))
    page.heading("Mean Jacobians of clusters")
    means = draw_means(directory, artefacts, out)
    for path in means:
        page.picture(path, "Clusters differ in these Jacobians by construction: they were made of them.")
    for heading, caption, draw in grid_figures(
        artefacts, artefacts.available(JACOBIAN.colourings, JACOBIAN.command), out
    ):
        page.heading(heading)
        page.picture(draw(), caption)
    page.heading("Explained variance, and stability of clusters")
    page.picture(
        draw_explained_variance(artefacts.numbers, artefacts.caption, out / "numbers"),
        "Clusters over refits on resampled episodes.",
    )
    add_trustworthiness(page, artefacts)
    if args.cluster_figures:
        draw_clusters(artefacts, FACTS, out)
    page.write(out / f"{JACOBIAN.name}.html")
    names = ("jacobians", "norms", "clusterings", "maps", "store")
    publish(args, {name: artefacts.numbers[name] for name in names}, [*means, out / "grid_pca.png"])
    logging.info("figures and page: %s", out / f"{JACOBIAN.name}.html")
    return out / f"{JACOBIAN.name}.html"


def about(facts: dict) -> str:
    """What a point of the maps is."""
    return (
        f"A point is a simulated episode: the Jacobian of {len(facts['names'])} scores ({facts['method']}) "
        f"at step {facts['step']} with respect to the states of agent and environment "
        f"{counted(facts['lag'], 'step')} earlier. Labels are those of step {facts['step']}."
    )


def draw_means(directory: Path, artefacts: MapArtefacts, out: Path) -> list[Path]:
    """Figures of the mean Jacobian of every cluster."""
    facts = artefacts.numbers["jacobians"]
    arrays = read_part(directory, "cluster_means")
    lagged = arrays["agent"]
    clustering = artefacts.clustering
    stable = np.array(clustering["jaccard"]) >= STABLE if "jaccard" in clustering else None
    means = ClusterMeans(lagged, arrays["environment"], clustering["sizes"], stable)
    first = (
        f"Mean Jacobian over the samples of each cluster, {counted(facts['lag'], 'step')} before "
        f"step {facts['step']}; in brackets: samples."
    )
    text = FigureText(first, facts["n"], artefacts.numbers["levels"])
    order = effect_order(np.nanmean(lagged, 0))
    return draw_cluster_jacobians(means, facts["names"], order, facts["lag"], text, out / "cluster_jacobians")


if __name__ == "__main__":
    run_main(main, ARGS)
