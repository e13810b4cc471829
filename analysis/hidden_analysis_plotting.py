"""Draws the hidden-state analysis from its artefacts alone: twelve colourings of every map, paths, clusters, animations, numbers, explorer.

Reads what analysis/hidden_analysis_precompute.py wrote; needs neither agent nor store nor simulator.
"""

import logging
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from common.cli import parse, run_main


@dataclass
class Args:
    precomp_dir: Path | None = None
    """Directory that the precompute step wrote; left out, the latest in <out_dir>/hx_analysis_precomp."""
    out_dir: Path = Path("results")
    """Where hx_plots is written, and hx_analysis_precomp is looked for."""
    spins: tuple[str, ...] | None = None
    """Variables of which a rotating animation is made; left out, all; no word for no animation."""
    explorer: bool = True
    """Write explorer.html, a page of its own in which points show their frames and play their episodes."""
    log_level: int = logging.INFO
    """Python logging level: 10 debug, 20 info, 30 warnings, 40 errors."""


if __name__ == "__main__":
    ARGS = parse(Args, __doc__)

import numpy as np

from analysis.colourings import HIDDEN, Colouring, colour
from analysis.explorer import Shown, write_explorer
from analysis.hidden_figures import NAMES, draw_numbers
from analysis.hidden_numbers import COMMAND, STEP, VERSION
from analysis.hidden_pages import clusters_table, numbers_tables
from analysis.map_figures import Caption, draw_cluster, draw_grid, draw_paths, draw_worlds
from analysis.map_spin import write_spin
from analysis.page import Page
from analysis.steps import find_step, read_numbers, read_part
from common.checkpoints import write_json
from common.progress import progress_bar
from common.runs import UsageError
from common.words import counted
from envs.words import end_words

PATHS, LONGEST = 12, 80
"""Episodes whose paths are drawn, and their most steps: a longer episode is cut, for its path could not be read."""


@dataclass(frozen=True)
class Artefacts:
    """What the precompute step wrote: numbers, maps {kind: {name: [n, 2]}}, labels {name: {label: [n]}}, frames."""

    numbers: dict
    maps: dict[str, dict[str, np.ndarray]]
    labels: dict[str, dict[str, np.ndarray]]
    frames: dict[str, np.ndarray]
    scores: np.ndarray
    """Leading three axes [n, 3] of the real sample."""


def main(args: Args) -> None:
    known = [how.label for how in HIDDEN]
    spins = known if args.spins is None else args.spins
    unknown = [label for label in spins if label not in known]
    if unknown:
        raise UsageError(f"no variable {unknown[0]!r} to colour an animation by; choose from: {', '.join(known)}, or give --spins alone for none")
    directory = find_step(args.out_dir, STEP, VERSION, COMMAND, args.precomp_dir)
    out = args.out_dir / "hx_plots" / directory.name
    page = draw_all(read_artefacts(directory), out, spins, args.explorer)
    logging.info("pictures, numbers and page: %s", page)


def read_artefacts(directory: Path) -> Artefacts:
    """Raises UsageError where a part is missing or damaged."""
    numbers = read_numbers(directory)
    maps = {kind: read_part(directory, f"map_{kind}") for kind in numbers["maps"]}
    labels: dict[str, dict[str, np.ndarray]] = {}
    for name, column in read_part(directory, "labels").items():
        of, label = name.split(".")
        labels.setdefault(of, {})[label] = column
    return Artefacts(numbers, maps, labels, read_part(directory, "frames"), read_part(directory, "axes")["real"])


def draw_all(made: Artefacts, out: Path, spins: Sequence[str], explorer: bool) -> Path:
    """Every picture into `out`, and a page with all of them. Returns the page's path."""
    stores, colourings = made.numbers["stores"], [how for how in HIDDEN if how.label in made.labels["real"]]
    shown = f"{len(made.maps['pca']['real']):,} of {stores['states']:,} steps in {stores['episodes']:,} episodes"
    caption = Caption(shown, "{}-{}".format(*stores["levels"]))
    page = Page("The agent's hidden states")
    page.text(
        "States after each observation, standardised, without outliers. Every picture is drawn from artefacts; a map shows neighbourhoods, "
        "not distances, and is no test."
    )
    write_json(out / "numbers.json", made.numbers)
    page.heading("Numbers")
    page.picture(draw_numbers(made.numbers, caption.levels, out / "numbers"), "How much the directions hold, and whether they and the clusters come back.")
    numbers_tables(page, made.numbers)
    work = list(_pictures(made, colourings, caption, out))
    for heading, words, draw in progress_bar(work, unit="picture", desc="draw"):
        page.heading(heading)
        page.picture(draw(), words)
    page.heading("Clusters")
    clusters_table(page, made)
    draw_clusters(made, caption, out)
    turning = [how for how in colourings if how.label in spins]
    clips = [(_spin(made, how, out), how.title) for how in progress_bar(turning, unit="clip", desc="animations", disable=not turning)]
    if clips:
        page.heading("Three principal axes, from all sides")
        page.clips(clips)
    if explorer:
        about = f"Steps of episodes drawn at random from store {stores['real']}, levels {caption.levels}, in maps of {caption.n} (grey)."
        shown = Shown(made.maps, made.labels, made.frames, made.numbers["actions"], {kind: NAMES[kind] for kind in made.maps})
        write_explorer(out / "explorer.html", shown, colourings, about)
        page.heading("Explorer")
        page.link("explorer.html", "Points with their frames and episodes, in a page of its own.")
    page.write(out / "hidden_analysis.html")
    return out / "hidden_analysis.html"


def _spin(made: Artefacts, how: Colouring, out: Path) -> Path:
    painted = colour(how, made.labels["real"][how.label], made.numbers["actions"])
    return write_spin(made.scores, painted, how.title, out / f"spin_{how.label}.mp4")


def _pictures(made: Artefacts, colourings: list[Colouring], caption: Caption, out: Path) -> Iterator[tuple]:
    """(heading, caption, what draws it and returns its path) of every picture of a whole map."""
    labels, actions = made.labels["real"], made.numbers["actions"]
    for kind, arrays in made.maps.items():

        def grid(kind=kind, points=arrays["real"]):
            return draw_grid(kind, points, labels, colourings, actions, caption, out / f"grid_{kind}")

        def paths(kind=kind, points=arrays["real"]):
            return draw_paths(kind, points, paths_of(made, kind), caption, out / f"paths_{kind}")

        yield f"Colourings: {NAMES[kind]}", "Simulated states are in the picture of both worlds.", grid
        yield f"Paths: {NAMES[kind]}", f"Episodes drawn at random, short ones first; of longer ones the first {LONGEST} steps.", paths
    if "simulated" in made.labels:
        outliers = made.numbers["outliers"]
        words = f"{outliers['simulated']:.0%} of simulated states lie beyond the distance that {outliers['real']:.0%} of real ones do."
        notes = {kind: f"{numbers['placed_simulated']:.0%} of neighbours kept" for kind, numbers in made.numbers["maps"].items()}
        yield "Both worlds in one map", words, lambda: draw_worlds(made.maps, notes, caption, out / "worlds")


def paths_of(made: Artefacts, kind: str) -> list[tuple[str, np.ndarray]]:
    """Title and places [T, 2] of PATHS followed episodes: those of at most LONGEST steps first, of others the first LONGEST steps."""
    labels, points = made.labels["followed"], made.maps[kind]["followed"]
    reward = end_words(made.numbers["stores"].get("game")).reward
    episodes, first = np.unique(labels["episode"], return_index=True)
    short_first = episodes[np.argsort(labels["length"][first] > LONGEST, kind="stable")]
    paths = []
    for episode in short_first[:PATHS]:
        rows = np.flatnonzero(labels["episode"] == episode)
        length = counted(len(rows), "step") if len(rows) <= LONGEST else f"first {LONGEST} of {len(rows)} steps"
        end = reward if labels["rewarded"][rows[0]] else f"no {reward}"
        paths.append((f"level {labels['level'][rows[0]]}, {length}, {end}", points[rows[:LONGEST]]))
    return paths


def draw_clusters(made: Artefacts, caption: Caption, out: Path) -> list[Path]:
    """One picture per cluster, every cluster included."""
    maps = {kind: arrays["real"] for kind, arrays in made.maps.items()}
    labels, numbers, members = made.labels["real"], made.numbers["clusters"], made.frames["members"]
    ends, drawn = np.cumsum((members >= 0).sum(1)), []
    for cluster in progress_bar(range(numbers["count"]), unit="cluster", desc="clusters"):
        inside = labels["cluster"] == cluster
        frames = made.frames["member_frames"][ends[cluster] - (members[cluster] >= 0).sum() : ends[cluster]]
        title, path = f"cluster {cluster}: {counted(numbers['sizes'][cluster], 'state')}", out / "clusters" / f"cluster_{cluster:02d}"
        drawn.append(draw_cluster(maps, inside, frames, title, cluster_facts(made, cluster, inside), caption, path))
    return drawn


def cluster_facts(made: Artefacts, cluster: int, inside: np.ndarray) -> str:
    """A cluster in a sentence."""
    labels, numbers = made.labels["real"], made.numbers["clusters"]
    if not inside.any():
        return "No member is in the map's sample."
    acts, counts = np.unique(labels["taken"][inside], return_counts=True)
    commonest = f"{made.numbers['actions'][acts[counts.argmax()]]} ({counts.max() / counts.sum():.0%})"
    stable = f"Jaccard overlap over draws {numbers['jaccard'][cluster]:.2f}" if "jaccard" in numbers else "Stability untested"
    both = {name: (labels[name][inside].mean(), labels[name].mean()) for name in ("value", "entropy", "progress", "rewarded")}
    return (
        f"{inside.sum()} members in the map (blue). {stable}. Means of members (of all): value {{:.2f}} ({{:.2f}}), entropy {{:.2f}} ({{:.2f}}), episode gone "
        f"{{:.0%}} ({{:.0%}}), in episodes with a reward {{:.0%}} ({{:.0%}}). Commonest act: {commonest}."
    ).format(*(number for pair in both.values() for number in pair))


if __name__ == "__main__":
    run_main(main, ARGS)
