"""Draws the probes' scores from the numbers of analysis.probes_precompute: readers, baselines and gains by
concept.
"""

from collections.abc import Sequence
from pathlib import Path

from analysis.io.shared_args import PlotArgs
from common.cli import parse, run_main

if __name__ == "__main__":
    ARGS = parse(PlotArgs, __doc__)

import numpy as np

from analysis.io.publish import publish
from analysis.io.steps import find_step, read_numbers
from analysis.plotting.style import GROUPS, NULL, REAL, add_caption, new_figure, save_figure
from analysis.probes_precompute import COMMAND, NAME, VERSION

SHAPES = {"encoder": "s", "frame network": "^", "untrained recurrence": "x", "nuisances": "d"}
CHANCE = {"AUROC": 0.5, "R2": 0.0}
WORDS = {"AUROC": ("binary concepts", "AUROC"), "R2": ("numbers", "R²")}
MEMORY = GROUPS[1]
LOWEST = -1.0
LOWEST_GAIN = -1.5
"""R² has no lower bound: lower values are drawn at the edge of the axis, with their number."""
_USUAL = {"AUROC": (0.45, 1.0), "R2": (-0.1, 1.0)}
_USUAL_GAIN = (-0.1, 0.1)
_MARGIN = 0.03


def main(args: PlotArgs) -> None:
    directory = find_step(args.out_dir, NAME, VERSION, COMMAND, args.precomp_dir)
    about = read_numbers(directory)
    plots = args.out_dir / f"{NAME}_plots" / directory.name
    publish(args, about, [draw_gains(about, plots / "probes"), draw_readers(about, plots / "probes_readers")])


def sample_of(about: dict) -> tuple[str, str]:
    """Sample sizes and levels, for captions."""
    return (
        f"{about['steps']:,} steps of {about['episodes']:,} episodes on {about['layouts']:,} layouts",
        about["levels"],
    )


def by_measure(about: dict) -> dict[str, list[str]]:
    """The concepts of each measure, best decoded from the hidden state first."""
    entries = about["readers"]["hidden"]
    best_first = sorted(entries, key=lambda name: -entries[name]["value"]["value"])
    return {
        measure: [name for name in best_first if entries[name]["measure"] == measure] for measure in CHANCE
    }


def draw_gains(about: dict, path: Path) -> Path:
    """Left: scores of the hidden state and of each baseline. Right: gain of the hidden state over the best
    baseline, and of memory over the encoder.
    """
    groups = by_measure(about)
    entries = about["readers"]["hidden"]
    heights = [max(len(names), 1) for names in groups.values()]
    figure, axes = new_figure(2, 2, panel=(4.4, 3.6), height_ratios=heights, width_ratios=[1.25, 1])
    figure.set_size_inches(8.8, 1.7 + 0.2 * sum(map(len, groups.values())))
    for row, (measure, names) in enumerate(groups.items()):
        left, right = axes[row]
        place = np.arange(len(names))
        for baseline, shape in SHAPES.items():
            known = [(y, entries[name]["baselines"][baseline]["value"]) for y, name in zip(place, names)]
            look = {"s": 16, "color": NULL["color"], "linewidths": 1.1, "zorder": 2}
            left.scatter([x for _, x in known], [y for y, _ in known], marker=shape, label=baseline, **look)
        _ranges(left, [entries[name]["value"] for name in names], place, REAL["color"], "hidden state")
        _ranges(
            right,
            [entries[name]["gain"] for name in names],
            place + 0.14,
            REAL["color"],
            "hidden state over the best baseline",
        )
        _ranges(
            right,
            [about["memory"][name] for name in names],
            place - 0.14,
            MEMORY,
            "memory added to the encoder's output",
        )
        right.axvline(0, **NULL | {"linewidth": 1.0})
        left.axvline(
            CHANCE[measure], label="majority", **NULL | {"linewidth": 1.0}
        )  # its score is chance, by definition
        left.set_xlabel(f"{WORDS[measure][1]} on held-out layouts")
        right.set_xlabel(f"gain in {WORDS[measure][1]}")
        hidden = [entries[name] for name in names]
        read = [(y, entry["baselines"][baseline]) for y, entry in zip(place, hidden) for baseline in SHAPES]
        fit_axis(
            left, [*read, *((y, entry["value"]) for y, entry in zip(place, hidden))], _USUAL[measure], LOWEST
        )
        gains = [(y - 0.14, about["memory"][name]) for y, name in zip(place, names)]
        fit_axis(
            right,
            [*gains, *((y + 0.14, entry["gain"]) for y, entry in zip(place, hidden))],
            _USUAL_GAIN,
            LOWEST_GAIN,
        )
        left.set_yticks(place, [_named(name, entries[name]) for name in names])
        right.set_yticks(place, [""] * len(names))
        left.set_title(WORDS[measure][0])
        for axis in (left, right):
            axis.set_ylim(len(names) - 0.4, -0.6)
    axes[0, 0].legend(
        loc="lower right",
        bbox_to_anchor=(1.0, 1.0),
        ncols=3,
        fontsize=6.3,
        handletextpad=0.1,
        handlelength=1.1,
        columnspacing=0.6,
        borderaxespad=0.0,
    )
    axes[0, 1].legend(loc="lower left", bbox_to_anchor=(-0.05, 1.0), fontsize=7, borderaxespad=0.1)
    text = (
        "Linear probes tested on held-out layouts; grey: baselines. Bars: 95%, bootstrapped by layout. In "
        "brackets: not decodable, that is not significantly above the majority and the control task. Arrows: "
        "values beyond the axis; a bar that reaches the edge continues beyond it."
    )
    add_caption(figure, text, *sample_of(about))
    return save_figure(figure, path)[0]


def fit_axis(axis, points: Sequence[tuple[float, dict]], usual: tuple[float, float], lowest: float) -> None:
    """Sets the limits of an axis so that every value and interval is visible.

    Values below `lowest` get an arrow at the edge, with their number.

    Args:
        axis: to fit.
        points: y and estimate of each.
        usual: the smallest range shown.
        lowest: the lower limit, at most.
    """
    known = [
        (y, one["value"], one.get("low"), one.get("high")) for y, one in points if one["value"] is not None
    ]
    ends = [*usual, *(end for _, *three in known for end in three if end is not None)]
    low = max(min(ends), lowest)
    high = max(ends)
    room = _MARGIN * (high - low)
    axis.set_xlim(low - room, high + room)
    for y, value, *_ in known:
        if value < low:
            axis.plot(low, y, "<", markersize=4, color="#444444", zorder=4)
            axis.annotate(
                f"{value:.2g}",
                (low, y),
                (4, 0),
                textcoords="offset points",
                va="center",
                fontsize=6.5,
                color="#444444",
            )


def _named(name: str, entry: dict) -> str:
    return name if entry["decodable"] else f"({name})"


def _ranges(axis, numbers: list[dict], place: np.ndarray, color: str, label: str) -> None:
    """Points with horizontal intervals; undefined ones are left out."""
    kept = [(y, one) for y, one in zip(place, numbers) if one["value"] is not None]
    value = np.array([one["value"] for _, one in kept])
    low, high = (np.array([one[end] for _, one in kept]) for end in ("low", "high"))
    error = np.abs(np.stack([value - low, high - value]))
    axis.errorbar(
        value,
        [y for y, _ in kept],
        xerr=error,
        fmt="o",
        markersize=3.8,
        color=color,
        elinewidth=1.1,
        label=label,
        zorder=3,
    )


def draw_readers(about: dict, path: Path) -> Path:
    """Heat map of scores: concepts by readers, baselines last."""
    groups = by_measure(about)
    readers = about["readers"]
    names = [name for measure in groups.values() for name in measure]
    columns = [*readers, *(name for name in about["baselines"] if name not in ("majority", *readers))]
    table = np.full((len(names), len(columns)), np.nan)
    for i, name in enumerate(names):
        for j, column in enumerate(columns):
            entry = (
                readers[column][name]["value"]
                if column in readers
                else readers["hidden"][name]["baselines"][column]
            )
            table[i, j] = entry["value"] if entry["value"] is not None else np.nan
    figure, axes = new_figure(panel=(2.0 + 0.85 * len(columns), 2.0 + 0.21 * len(names)))
    axis = axes[0, 0]
    truth = np.arange(len(names)) < len(groups["AUROC"])
    strength = np.where(truth[:, None], 2 * table - 1, table).clip(0, 1)
    axis.imshow(strength, cmap="Blues", vmin=0, vmax=1.4, aspect="auto")
    for (i, j), value in np.ndenumerate(table):
        axis.text(
            j,
            i,
            f"{value:.2f}",
            ha="center",
            va="center",
            fontsize=7,
            color="white" if strength[i, j] > 0.85 else "#222222",
        )
    axis.axhline(len(groups["AUROC"]) - 0.5, color="white", linewidth=3)
    axis.set_xticks(range(len(columns)), columns, rotation=30, ha="left")
    axis.xaxis.tick_top()
    axis.set_yticks(range(len(names)), names)
    axis.tick_params(length=0)
    axis.grid(False)
    axis.spines[:].set_visible(False)
    text = (
        "Linear probes of each site on held-out layouts: AUROC of binary concepts above the white line, R² "
        "of numbers below it. The last columns are baselines."
    )
    add_caption(figure, text, *sample_of(about))
    return save_figure(figure, path)[0]


if __name__ == "__main__":
    run_main(main, ARGS)
