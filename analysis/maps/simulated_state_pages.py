"""The page of a map of simulated steps, drawn from its artefacts."""

import logging
from collections.abc import Mapping
from pathlib import Path

import numpy as np

from analysis.io.shared_args import MapPlotArgs
from analysis.io.steps import find_step
from analysis.maps.hidden_state_figures import NAMES
from analysis.maps.map_artefacts import MapArtefacts, read_simulated_state_map
from analysis.maps.map_pictures import Fact, Figure, draw_clusters, grid_figures, path_figures
from analysis.maps.simulated_state_figures import draw_explained_variance
from analysis.maps.simulated_state_steps import MapStep
from analysis.plotting.page import Page
from common.progress import progress_bar

FACTS = (
    Fact("value", "value", ".2f"),
    Fact("entropy", "entropy", ".2f"),
    Fact("ever_done", "in episodes that the model ends", ".0%"),
)
"""Labels whose means describe a cluster."""


def draw_page(step: MapStep, args: MapPlotArgs) -> Path:
    """Draws every figure into <out_dir>/<name>_plots/<key>, with a page. Returns the page's path."""
    directory = find_step(args.out_dir, step.name, step.version, step.command, args.precomp_dir)
    artefacts = read_simulated_state_map(directory)
    out = args.out_dir / f"{step.name}_plots" / directory.name
    page = Page(step.title)
    page.text(
        f"Simulated steps in the space of {step.space}. A map preserves neighbourhoods, not distances, and "
        "tests nothing."
    )
    for heading, caption, draw in progress_bar(_figures(step, artefacts, out), unit="figure", desc="draw"):
        page.heading(heading)
        page.picture(draw(), caption)
    add_trustworthiness(page, artefacts)
    if args.clusters:
        draw_clusters(artefacts, FACTS, out)
    page.write(out / f"{step.name}.html")
    logging.info("figures and page: %s", out / f"{step.name}.html")
    return out / f"{step.name}.html"


def _figures(step: MapStep, artefacts: MapArtefacts, out: Path) -> list[Figure]:
    colourings = artefacts.available(step.colourings, step.command)
    numbers = Figure(
        "Explained variance, and stability of clusters",
        "Principal components of each space; clusters over refits on resampled episodes.",
        lambda: draw_explained_variance(artefacts.numbers, artefacts.caption, out / "numbers"),
    )
    maps = zip(grid_figures(artefacts, colourings, out), path_figures(artefacts, _describe_episode, out))
    return [numbers, *(figure for pair in maps for figure in pair)]


def _describe_episode(labels: Mapping[str, np.ndarray], row: int) -> tuple[str, str]:
    return f"episode {labels['episode'][row]}", "ends" if labels["ever_done"][row] else "truncated"


def add_trustworthiness(page: Page, artefacts: MapArtefacts) -> None:
    """Adds a table of how far each map can be trusted."""
    page.heading("Trustworthiness of the maps")
    header = ["map", "trustworthiness (chance: 0.5)", "neighbours kept by projected episodes", "chance"]
    rows = [
        [
            NAMES[kind],
            f"{numbers['trustworthiness']:.3f}",
            f"{numbers['placed_followed']:.1%}",
            f"{numbers['by_chance']:.2%}",
        ]
        for kind, numbers in artefacts.numbers["maps"].items()
    ]
    page.table(header, rows)
