"""The page of the hidden-state analysis: numbers, maps, clusters, animations and the explorer."""

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from analysis.maps.hidden_state_figures import NAMES, draw_numbers
from analysis.maps.hidden_state_tables import clusters_table, numbers_tables
from analysis.maps.map_artefacts import MapArtefacts
from analysis.maps.map_pictures import Fact, Figure, draw_clusters, grid_figures, path_figures
from analysis.maps.map_summary import COMMAND
from analysis.plotting.colourings import HIDDEN_COLOURINGS, Colouring, colour
from analysis.plotting.explorer import ExplorerData, write_explorer
from analysis.plotting.map_figures import draw_worlds
from analysis.plotting.page import Page
from analysis.plotting.rotating_map import write_rotation
from common.checkpoints import write_json
from common.progress import progress_bar
from envs.words import end_words

MAX_PATHS = 12
MAX_PATH_STEPS = 80
"""Episodes whose paths are drawn, and steps of each: the path of a longer episode is illegible."""
FACTS = (
    Fact("value", "value", ".2f"),
    Fact("entropy", "entropy", ".2f"),
    Fact("progress", "episode elapsed", ".0%"),
    Fact("rewarded", "in episodes with a reward", ".0%"),
)
"""Labels whose means describe a cluster."""


def draw_page(artefacts: MapArtefacts, out: Path, animations: Sequence[str], explorer: bool) -> Path:
    """Draws every figure into `out`, with a page that shows them. Returns the page's path.

    Args:
        artefacts: of the hidden-state analysis.
        out: directory of the figures.
        animations: labels that colour a rotating animation.
        explorer: write explorer.html.
    """
    colourings = artefacts.available(HIDDEN_COLOURINGS, COMMAND)
    page = Page("The agent's hidden states")
    page.text(
        "Standardised hidden states after each observation, without outliers. A map preserves "
        "neighbourhoods, not distances, and tests nothing."
    )
    _add_numbers(page, artefacts, out)
    for heading, caption, draw in progress_bar(
        _figures(artefacts, colourings, out), unit="figure", desc="draw"
    ):
        page.heading(heading)
        page.picture(draw(), caption)
    page.heading("Clusters")
    clusters_table(page, artefacts)
    draw_clusters(artefacts, FACTS, out)
    _add_animations(
        page, artefacts, [colouring for colouring in colourings if colouring.label in animations], out
    )
    if explorer:
        _add_explorer(page, artefacts, colourings, out)
    page.write(out / "hidden_analysis.html")
    return out / "hidden_analysis.html"


def _add_numbers(page: Page, artefacts: MapArtefacts, out: Path) -> None:
    write_json(out / "numbers.json", artefacts.numbers)
    page.heading("Numbers")
    page.picture(
        draw_numbers(artefacts.numbers, artefacts.caption.levels, out / "numbers"),
        "Explained variance, and the stability of directions and clusters.",
    )
    numbers_tables(page, artefacts.numbers)


def _figures(artefacts: MapArtefacts, colourings: Sequence[Colouring], out: Path) -> list[Figure]:
    figures = list(grid_figures(artefacts, colourings, out))
    paths = path_figures(artefacts, describe_episode(artefacts), out, MAX_PATH_STEPS, MAX_PATHS)
    figures = [figure for pair in zip(figures, paths) for figure in pair]
    return figures + ([_both_worlds(artefacts, out)] if "simulated" in artefacts.labels else [])


def describe_episode(artefacts: MapArtefacts):
    """Names an episode by its level and whether it was rewarded, in the game's words; see `episode_paths`."""
    reward = end_words(artefacts.numbers["stores"].get("game")).reward

    def describe(labels: Mapping[str, np.ndarray], row: int) -> tuple[str, str]:
        return f"level {labels['level'][row]}", reward if labels["rewarded"][row] else f"no {reward}"

    return describe


def _both_worlds(artefacts: MapArtefacts, out: Path) -> Figure:
    outliers = artefacts.numbers["outliers"]
    caption = (
        f"{outliers['simulated']:.0%} of simulated states lie beyond the outlier limit, which "
        f"{outliers['real']:.0%} of real states exceed."
    )
    notes = {
        kind: f"{numbers['placed_simulated']:.0%} of neighbours kept"
        for kind, numbers in artefacts.numbers["maps"].items()
    }
    draw = lambda: draw_worlds(artefacts.maps, notes, artefacts.caption, out / "worlds")  # noqa: E731
    return Figure("Real and simulated states in one map", caption, draw)


def _add_animations(page: Page, artefacts: MapArtefacts, colourings: Sequence[Colouring], out: Path) -> None:
    if not colourings:
        return
    clips = []
    for colouring in progress_bar(colourings, unit="clip", desc="animations"):
        painted = colour(colouring, artefacts.labels["real"][colouring.label], artefacts.actions)
        path = out / f"spin_{colouring.label}.mp4"
        clips.append((write_rotation(artefacts.axes, painted, colouring.title, path), colouring.title))
    page.heading("Three principal components, rotating")
    page.clips(clips)


def _add_explorer(page: Page, artefacts: MapArtefacts, colourings: Sequence[Colouring], out: Path) -> None:
    about = (
        f"Steps of random episodes of store {artefacts.numbers['stores']['real']}, levels "
        f"{artefacts.caption.levels}, in maps of {artefacts.caption.n} (grey)."
    )
    titles = {kind: NAMES[kind] for kind in artefacts.maps}
    shown = ExplorerData(artefacts.maps, artefacts.labels, artefacts.frames, artefacts.actions, titles)
    write_explorer(out / "explorer.html", shown, colourings, about)
    page.heading("Explorer")
    page.link(
        "explorer.html", "Interactive map: hover over a point for its frame, click to play its episode."
    )
