"""Draws what directions represent from the artefacts of analysis.tuning_precompute: tuning curves, a table of
directions and concepts with their marks, and a card for each direction.
"""

from dataclasses import dataclass
from pathlib import Path

from analysis.io.shared_args import PlotArgs
from common.cli import parse, run_main


@dataclass
class Args(PlotArgs):
    rows: tuple[str, ...] = ()
    """Directions with a row of tuning curves; default: those named after an object, or the first eight."""
    cards: tuple[str, ...] = ()
    """Directions with a card; default: all. Cards are not copied to --images."""


if __name__ == "__main__":
    ARGS = parse(Args, __doc__)

import numpy as np
from matplotlib.patches import Rectangle

from analysis.io.publish import publish
from analysis.io.steps import find_step, read_numbers, read_part
from analysis.plotting.style import GROUPS, NULL, REAL, add_caption, new_figure, save_figure
from analysis.tuning_precompute import CLIP, COMMAND, NAME, VERSION
from common.progress import progress_bar
from common.runs import UsageError
from common.stats import estimate, level_weights, mean
from rollouts.scene_bank import WITH, WITHOUT

RESAMPLES = 500
RESPONDS = GROUPS[-1]
MIN_WIDTH = 7.5
"""Inches that a caption needs."""


def main(args: Args) -> None:
    directory = find_step(args.out_dir, NAME, VERSION, COMMAND, args.precomp_dir)
    about = read_numbers(directory)
    plots = args.out_dir / f"{NAME}_plots" / directory.name
    scenes = read_part(directory, "scenes")
    objects = [f"{kind}_ahead" for kind in about["kinds"]]
    rows = (
        chosen(args.rows, about["names"])
        or [name for name in objects if name in about["names"]]
        or about["names"][:8]
    )
    pictures = [draw_tuning(about, scenes, rows, plots / "tuning"), draw_marks(about, plots / "marks")]
    decoding = read_part(directory, "decoding")
    clips = read_part(directory, "clips")
    for name in progress_bar(chosen(args.cards, about["names"]) or about["names"], desc="cards", unit="card"):
        draw_card(about, scenes, decoding, clips["frames"], name, plots / f"card_{name}")
    publish(args, quotable(about), pictures)


def chosen(names: tuple[str, ...], known: list[str]) -> list[str]:
    """The names as a list. Raises UsageError for an unknown one."""
    for name in names:
        if name not in known:
            raise UsageError(f"no direction {name!r}; these were measured: {', '.join(known)}")
    return list(names)


def quotable(about: dict) -> dict:
    """The numbers for documentation pages; of the table only own concepts and pairs with a further mark."""
    own = {entry["concept"]: entry for entry in about["table"] if entry["direction"] == entry["concept"]}
    marked = [entry for entry in about["table"] if entry["beyond"] or entry["responds"]]
    return {name: value for name, value in about.items() if name != "table"} | {"own": own, "marked": marked}


def curve(scores: np.ndarray, distance: np.ndarray, layout: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Distances [m], and the mean score at each with its 95% interval by layout [3, m].

    Args:
        scores: [n].
        distance: [n].
        layout: [n].
    """
    where = np.unique(distance)
    found = []
    for one in where:
        rows = distance == one
        found.append(estimate(mean(level_weights(layout[rows], RESAMPLES), scores[rows])))
    return where, np.array(found).T


def draw_tuning(about: dict, scenes: dict[str, np.ndarray], rows: list[str], path: Path) -> Path:
    """Tuning curves. Rows: directions; columns: objects. Blue: with the object; grey: without it."""
    kinds = np.unique(scenes["kind"])
    panel = max(1.25, MIN_WIDTH / len(kinds)), max(1.05, 3.0 / len(rows))
    figure, axes = new_figure(len(rows), len(kinds), panel=panel, sharex=True, sharey="row")
    figure.get_layout_engine().set(w_pad=0.02, h_pad=0.03, wspace=0.02, hspace=0.02)
    marks = {(entry["direction"], entry["concept"]): entry for entry in about["table"]}
    for name, line in zip(rows, axes):
        for kind, axis in zip(kinds, line):
            _tuned(axis, scenes, about["names"].index(name), kind)
            concept = f"{about['kinds'][kind]}_ahead"
            entry = marks.get((name, concept), {})
            if entry.get("responds"):
                look = {"ha": "right", "va": "top", "fontsize": 6.5, "color": RESPONDS, "fontweight": "bold"}
                axis.text(0.97, 0.95, "responds", transform=axis.transAxes, **look)
            if concept == name:
                axis.set_facecolor("#f3f6fb")
            axis.tick_params(labelsize=6.5)
        label = about["labels"][about["names"].index(name)].replace(" (", "\n(")
        line[0].set_ylabel(label, fontsize=7.5, fontweight="bold")
    for kind, axis in zip(kinds, axes[0]):
        axis.set_title(about["kinds"][kind], fontsize=9, loc="center")
    for axis in axes[-1]:
        axis.set(xticks=[0, 2, 4, 6])
        axis.set_xlabel("tiles", fontsize=7)
    figure.supylabel("score (sd)", fontsize=8)
    text = (
        "Score of each direction (rows) against tiles to an object (columns), in standard deviations over "
        "recorded states. Blue: with the object; grey: the same scenes without it, with the same memory. "
        "Bands: 95%, by layout. Shaded: the direction's own object. 'responds': the object moves the score, "
        "and significantly more than any other object of that size and distance."
    )
    add_caption(figure, text, _pairs(about), about["levels"])
    return save_figure(figure, path)[0]


def _pairs(about: dict) -> str:
    return f"{about['pairs']:,} pairs on {about['scene_layouts']:,} layouts"


def _tuned(axis, scenes: dict[str, np.ndarray], k: int, kind: int) -> None:
    """Both curves of one direction and kind."""
    rows = scenes["kind"] == kind
    for side, look in ((WITHOUT, NULL), (WITH, REAL)):
        where, (value, low, high) = curve(
            scenes["scores"][rows, side, k], scenes["distance"][rows], scenes["layout"][rows]
        )
        axis.fill_between(where, low, high, color=look["color"], alpha=0.2, linewidth=0)
        axis.plot(where, value, color=look["color"], linewidth=1.4)


def draw_marks(about: dict, path: Path) -> Path:
    """Heat map of directions by concepts: how well the score alone decodes each concept, with marks."""
    names = about["names"]
    concepts = list(dict.fromkeys(entry["concept"] for entry in about["table"]))
    entries = {(entry["direction"], entry["concept"]): entry for entry in about["table"]}
    strength = np.array([[_strength(entries[name, concept]) for concept in concepts] for name in names])
    figure, axes = new_figure(panel=(max(MIN_WIDTH, 1.6 + 0.27 * len(concepts)), 2.2 + 0.24 * len(names)))
    axis = axes[0, 0]
    image = axis.imshow(strength, cmap="Blues", vmin=0, vmax=1, aspect="auto")
    for i, name in enumerate(names):
        for j, concept in enumerate(concepts):
            _draw_marks(axis, j, i, entries[name, concept], strength[i, j])
            if name == concept:
                axis.add_patch(_frame(j, i))
    axis.set_xticks(
        range(len(concepts)), concepts, rotation=60, ha="left", rotation_mode="anchor", fontsize=7
    )
    axis.xaxis.tick_top()
    axis.set_yticks(range(len(names)), about["labels"], fontsize=7)
    axis.tick_params(length=0)
    axis.grid(False)
    axis.spines[:].set_visible(False)
    figure.colorbar(image, ax=axis, fraction=0.025, pad=0.01, label="decoded from the score alone")
    text = (
        "Directions (rows) and concepts (columns). Colour: R², or 2 AUROC - 1, of the concept from that "
        "score alone on held-out layouts. Small dot: decodable, that is significantly above the majority and "
        "the control task; large dot: above every baseline; red ring: the score responds to the object. "
        "Framed: a direction's own concept."
    )
    n = f"{about['steps']:,} steps on {about['layouts']:,} layouts; {_pairs(about)} of scenes"
    add_caption(figure, text, n, about["levels"])
    return save_figure(figure, path)[0]


def _strength(entry: dict) -> float:
    value = entry["value"]["value"]
    return 0.0 if value is None else max(2 * value - 1 if entry["measure"] == "AUROC" else value, 0.0)


def _draw_marks(axis, x: int, y: int, entry: dict, strength: float) -> None:
    """The marks of one pair."""
    color = "white" if strength > 0.6 else "#1a1a1a"
    if entry["decodable"]:
        axis.plot(x, y, "o", markersize=5.0 if entry["beyond"] else 2.4, color=color, zorder=3)
    if entry["responds"]:
        axis.plot(
            x,
            y,
            "o",
            markersize=8.5,
            markerfacecolor="none",
            markeredgecolor=RESPONDS,
            markeredgewidth=1.3,
            zorder=4,
        )


def _frame(x: int, y: int) -> Rectangle:
    return Rectangle((x - 0.5, y - 0.5), 1, 1, fill=False, edgecolor="#1a1a1a", linewidth=0.9, zorder=5)


def draw_card(
    about: dict,
    scenes: dict[str, np.ndarray],
    decoding: dict[str, np.ndarray],
    clips: np.ndarray,
    name: str,
    path: Path,
) -> Path:
    """The card of one direction: responses, score distribution, decoded concepts, and clips by score.

    Args:
        about: the numbers.
        scenes: the part `scenes`.
        decoding: the part `decoding`.
        clips: frames [K, 3, count, F, H, W, C].
        name: of the direction.
        path: where the figure goes.
    """
    k = about["names"].index(name)
    kinds = np.unique(scenes["kind"])
    figure, _ = new_figure(panel=(8.6, 7.6))
    figure.clear()
    top, upper, lower = figure.subfigures(3, 1, height_ratios=[0.72, 0.9, 1.45])
    _response_curves(top, about, scenes, k, kinds)
    spread, decoded = upper.subplots(1, 2, width_ratios=[1, 1.2])
    edges = np.linspace(-4, 4, decoding["histogram"].shape[1] + 1)
    spread.stairs(decoding["histogram"][k], edges, fill=True, color=REAL["color"], alpha=0.8)
    spread.set(xlabel="score (sd)", yticks=[])
    spread.set_title("recorded states")
    _decoded_bars(decoded, about, name)
    figure.suptitle(
        f"{about['labels'][k]}: {_stability(about, k)}", fontsize=11, fontweight="bold", x=0.01, ha="left"
    )
    _strips(lower, clips[k])
    text = (
        f"Clips from different layouts: frames {', '.join(map(str, CLIP))} steps from the scored step, which "
        "is the last. Bands: 95%, by layout. Grey bars: not decodable."
    )
    add_caption(
        figure,
        text,
        f"{about['steps']:,} steps on {about['layouts']:,} layouts; {_pairs(about)}",
        about["levels"],
    )
    return save_figure(figure, path)[0]


def _response_curves(figure, about: dict, scenes: dict[str, np.ndarray], k: int, kinds: np.ndarray) -> None:
    """Change of the score by an object against its distance, a panel for each kind."""
    axes = figure.subplots(1, len(kinds), sharex=True, sharey=True, squeeze=False)[0]
    for axis, kind in zip(axes, kinds):
        rows = scenes["kind"] == kind
        change = scenes["scores"][rows, WITH, k] - scenes["scores"][rows, WITHOUT, k]
        where, (value, low, high) = curve(change, scenes["distance"][rows], scenes["layout"][rows])
        axis.axhline(0, **NULL | {"linewidth": 1.0})
        axis.fill_between(where, low, high, color=REAL["color"], alpha=0.2, linewidth=0)
        axis.plot(where, value, color=REAL["color"], linewidth=1.4)
        axis.set_title(about["kinds"][kind], fontsize=8, loc="center")
        axis.tick_params(labelsize=7)
        axis.set_xlabel("tiles", fontsize=7)
    axes[0].set_ylabel("change of score (sd)\nby the object", fontsize=8)


def _stability(about: dict, k: int) -> str:
    """Stability of the direction over resamples, in words."""
    found, written = (about["provenance"].get(name) for name in ("stability", "written"))
    if found is None:
        return "stability untested"
    if written is None:
        return f"stability |cosine| {found['median'][k]:.2f}, median of {found['draws']} resamples of layouts"
    read, write = found["median"][k], written["median"][k]
    resamples = f"medians of {found['draws']} resamples of layouts"
    return f"stability of reading |r| {read:.2f}, of writing |cosine| {write:.2f}, {resamples}"


def _decoded_bars(axis, about: dict, name: str) -> None:
    """The concepts that the score alone decodes best."""
    entries = sorted(
        (entry for entry in about["table"] if entry["direction"] == name), key=lambda entry: -_strength(entry)
    )[:8]
    colors = [(REAL if entry["decodable"] else NULL)["color"] for entry in entries]
    axis.barh(range(len(entries)), [_strength(entry) for entry in entries], color=colors, height=0.65)
    labels = [f"{entry['concept']}{', responds' if entry['responds'] else ''}" for entry in entries]
    axis.set_yticks(range(len(entries)), labels, fontsize=7)
    axis.set(xlim=(0, 1), xlabel="R² or 2 AUROC - 1")
    axis.invert_yaxis()
    axis.grid(axis="y", visible=False)
    axis.set_title("the score alone decodes")


def _strips(figure, clips: np.ndarray) -> None:
    """Clips [3, count, F, H, W, C] by score: highest, median and lowest."""
    axes = figure.subplots(3, clips.shape[1], squeeze=False)
    for line, name, strips in zip(axes, ("highest", "median", "lowest"), clips):
        for axis, strip in zip(line, strips):
            gap = np.full((strip.shape[1], 2, 3), 255, np.uint8)
            axis.imshow(np.concatenate([part for frame in strip for part in (frame, gap)][:-1], 1))
            axis.set(xticks=[], yticks=[])
            axis.grid(False)
            axis.spines[:].set_visible(False)
        line[0].set_ylabel(name, fontsize=9, fontweight="bold")


if __name__ == "__main__":
    run_main(main, ARGS)
