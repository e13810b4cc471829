"""The pictures of a map of simulated steps, from its artefacts alone: colourings, paths, clusters, and a page with the numbers beside them."""

import logging
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from analysis.args import MapPlotArgs
from analysis.hidden_figures import NAMES
from analysis.map_figures import Caption, draw_cluster, draw_grid, draw_paths
from analysis.page import Page
from analysis.state_map_figures import draw_held
from analysis.state_steps import Step
from analysis.steps import find_step, read_labels, read_numbers, read_part
from common.progress import progress_bar
from common.words import counted


@dataclass(frozen=True)
class Artefacts:
    """What the precompute step wrote: numbers, maps {kind: {"real", "followed": [., 2]}}, labels of both, frames of cluster members."""

    numbers: dict
    maps: dict[str, dict[str, np.ndarray]]
    labels: dict[str, dict[str, np.ndarray]]
    frames: dict[str, np.ndarray]

    @property
    def caption(self) -> Caption:
        shown, told = len(self.maps["pca"]["real"]), self.numbers
        return Caption(f"{shown:,} of {counted(told['steps'], 'simulated step')} in {counted(told['episodes'], 'episode')}", told["levels"])


def draw_step(step: Step, args: MapPlotArgs) -> Path:
    """Draws everything into <out_dir>/<name>_plots/<key>, with a page. Returns the page's path."""
    directory = find_step(args.out_dir, step.name, step.version, step.command, args.precomp_dir)
    made, out = read_artefacts(directory), args.out_dir / f"{step.name}_plots" / directory.name
    page = Page(step.title)
    page.text(
        f"Simulated steps in the space of {step.space}. "
        "Every picture is drawn from artefacts; a map shows neighbourhoods, not distances, and is no test."
    )
    for heading, draw in progress_bar(list(_pictures(step, made, out)), unit="picture", desc="draw"):
        page.heading(heading)
        page.picture(draw(), heading)
    page.heading("Trust in the maps")
    rows = [
        [NAMES[kind], f"{told['trustworthiness']:.3f}", f"{told['placed_followed']:.1%}", f"{told['by_chance']:.2%}"]
        for kind, told in made.numbers["maps"].items()
    ]
    page.table(["map", "trustworthiness (0.5 by chance)", "neighbours kept by followed steps", "by chance"], rows)
    if args.clusters:
        draw_clusters(made, out)
    page.write(out / f"{step.name}.html")
    logging.info("pictures and page: %s", out / f"{step.name}.html")
    return out / f"{step.name}.html"


def read_artefacts(directory: Path) -> Artefacts:
    """Raises UsageError where a part is missing or damaged."""
    numbers = read_numbers(directory)
    maps = {kind: read_part(directory, f"map_{kind}") for kind in numbers["maps"]}
    return Artefacts(numbers, maps, read_labels(directory), read_part(directory, "frames"))


def _pictures(step: Step, made: Artefacts, out: Path) -> Iterator[tuple[str, Callable[[], Path]]]:
    """(heading, what draws it and returns its path)."""
    colourings = [how for how in step.colourings if how.label in made.labels["real"]]
    yield "What the axes hold, and whether clusters come back", lambda: draw_held(made.numbers, made.caption, out / "numbers")
    labels, actions = made.labels["real"], made.numbers["actions"]
    for kind, arrays in made.maps.items():
        points = arrays["real"]
        yield (
            f"Colourings: {NAMES[kind]}",
            lambda kind=kind, points=points: draw_grid(kind, points, labels, colourings, actions, made.caption, out / f"grid_{kind}"),
        )
        yield (
            f"Paths: {NAMES[kind]}",
            lambda kind=kind, points=points: draw_paths(kind, points, paths_of(made, kind), made.caption, out / f"paths_{kind}"),
        )


def paths_of(made: Artefacts, kind: str) -> list[tuple[str, np.ndarray]]:
    """Title and places [T, 2] of the followed episodes."""
    labels, points = made.labels["followed"], made.maps[kind]["followed"]
    paths = []
    for episode in np.unique(labels["episode"]):
        rows = np.flatnonzero(labels["episode"] == episode)
        end = "ends" if labels["ever_done"][rows[0]] else "cut"
        paths.append((f"episode {episode}, {counted(len(rows), 'step')}, {end}", points[rows]))
    return paths


def draw_clusters(made: Artefacts, out: Path) -> list[Path]:
    """One picture per cluster, every cluster included."""
    maps, labels = {kind: arrays["real"] for kind, arrays in made.maps.items()}, made.labels["real"]
    members, found = made.frames["members"], made.numbers["clusterings"]["cluster"]
    ends, drawn = np.cumsum((members >= 0).sum(1)), []
    for cluster in progress_bar(range(found["count"]), unit="cluster", desc="clusters"):
        inside = labels["cluster"] == cluster
        frames = made.frames["member_frames"][ends[cluster] - (members[cluster] >= 0).sum() : ends[cluster]]
        title = f"cluster {cluster}: {counted(found['sizes'][cluster], 'step')}"
        path = out / "clusters" / f"cluster_{cluster:03d}"
        drawn.append(draw_cluster(maps, inside, frames, title, cluster_facts(made, cluster, inside), made.caption, path))
    return drawn


def cluster_facts(made: Artefacts, cluster: int, inside: np.ndarray) -> str:
    """A cluster in two sentences."""
    labels, found = made.labels["real"], made.numbers["clusterings"]["cluster"]
    if not inside.any():
        return "No member is in the map's sample."
    acts, counts = np.unique(labels["taken"][inside], return_counts=True)
    stable = f"Jaccard overlap over draws {found['jaccard'][cluster]:.2f}" if "jaccard" in found else "stability untested"
    return (
        f"{inside.sum()} members in the map (blue). {stable}. Mean value {labels['value'][inside].mean():.2f} (all {labels['value'].mean():.2f}), entropy "
        f"{labels['entropy'][inside].mean():.2f} ({labels['entropy'].mean():.2f}), commonest act {made.numbers['actions'][acts[counts.argmax()]]} "
        f"({counts.max() / counts.sum():.0%}), in episodes that the model ends {labels['ever_done'][inside].mean():.0%} ({labels['ever_done'].mean():.0%})."
    )
