"""Section of the demo's report: a map of hidden states."""

from pathlib import Path

import numpy as np

from analysis.demo_report.demo_results import DemoResults
from analysis.demo_report.figures import draw_map_by_value, draw_map_of_worlds
from analysis.io.steps import find_step, read_labels, read_numbers, read_part
from analysis.maps.map_summary import COMMAND, STEP, VERSION
from analysis.plotting.page import Page

MAP_POINTS = 4000


def add_hidden_map(page: Page, results: DemoResults, out: Path) -> None:
    """Real states coloured by value, and simulated states on the same map."""
    directory = find_step(results.artefacts, STEP, VERSION, COMMAND)
    points = read_part(directory, "map_tsne")
    value = read_labels(directory)["real"]["value"]
    numbers = read_numbers(directory)
    page.text(_explanation(numbers["maps"]["tsne"]))
    stores = numbers["stores"]
    n = (
        f"n = {len(points['real']):,} real steps of {stores['episodes']} episodes, levels "
        f"{stores['levels'][0]:,}-{stores['levels'][1]:,}"
    )
    shown = np.random.default_rng(0).permutation(len(points["simulated"]))[:MAP_POINTS]
    model = "shipped model" if results.shipped else "demo's model"
    worlds = draw_map_of_worlds(points["real"], points["simulated"][shown], out / "map_worlds")
    worlds_caption = (
        f"Simulated states (of the {model}) among real ones. {n}; {len(shown):,} simulated steps of "
        f"{stores['sim_episodes']} episodes."
    )
    by_value = draw_map_by_value(points["real"], value, out / "map_value")
    page.row([(by_value, f"Real states, coloured by the agent's value. {n}."), (worlds, worlds_caption)])
    page.text(
        "A map tests nothing: overlap in two dimensions does not show that two distributions agree.",
        note=True,
    )


def _explanation(numbers: dict) -> str:
    return (
        "Each point is the agent's hidden state after one frame. The map is fit on real states only; "
        "simulated states are projected onto it. It keeps "
        f"{numbers['placed_simulated']:.0%} of the nearest real neighbours of a projected simulated state, "
        f"{numbers['placed_followed']:.0%} of those of a projected real state, and "
        f"{numbers['by_chance']:.1%} by chance."
    )
