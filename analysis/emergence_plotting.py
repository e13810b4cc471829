"""Draws when concepts appear in an agent's hidden state, a panel for each concept, from the numbers of
analysis.emergence_precompute.
"""

from pathlib import Path

from analysis.io.shared_args import PlotArgs
from common.cli import parse, run_main

if __name__ == "__main__":
    ARGS = parse(PlotArgs, __doc__)

import numpy as np

from analysis.emergence_precompute import COMMAND, NAME, VERSION
from analysis.io.publish import publish
from analysis.io.steps import find_step, read_numbers
from analysis.plotting.style import GROUPS, NULL, REAL, add_caption, new_figure, save_figure
from analysis.probes_plotting import CHANCE, LOWEST, WORDS

COLUMNS = 6
RESPONDS = GROUPS[-1]


def main(args: PlotArgs) -> None:
    directory = find_step(args.out_dir, NAME, VERSION, COMMAND, args.precomp_dir)
    about = read_numbers(directory)
    publish(args, about, [draw(about, args.out_dir / f"{NAME}_plots" / directory.name / "emergence")])


def ordered(about: dict) -> list[str]:
    """Concepts that are ever decodable, in the order in which they are learned, then by final score."""
    last = about["checkpoints"][-1]["concepts"]
    late = about["checkpoints"][-1]["steps"] + 1
    kept = [name for name in last if any(one["concepts"][name]["decodable"] for one in about["checkpoints"])]

    def key(name):
        learned = about["appears"][name]["learned"]
        return late if learned is None else learned, -_height(about, name, last[name])

    return sorted(kept, key=key)


def _height(about: dict, name: str, entry: dict) -> float:
    value = entry["value"]["value"]
    return 2 * value - 1 if about["measures"][name] == "AUROC" else value


def draw(about: dict, path: Path) -> Path:
    """Scores of the hidden state and of the encoder by training steps, a panel for each concept."""
    names = ordered(about)
    rows = -(-len(names) // COLUMNS)
    figure, axes = new_figure(rows, COLUMNS, panel=(1.55, max(1.25, 3.0 / rows)), sharex=True)
    figure.get_layout_engine().set(w_pad=0.02, h_pad=0.03, wspace=0.02, hspace=0.02)
    for axis in axes.flat[len(names) :]:
        axis.set_visible(False)
    for name, axis in zip(names, axes.flat):
        _panel(axis, about, name)
    for axis in axes[:, 0]:
        axis.set_ylabel("AUROC or R²", fontsize=7)
    lowest = [
        column[: (len(names) - i + COLUMNS - 1) // COLUMNS][-1]
        for i, column in enumerate(axes.T)
        if i < len(names)
    ]
    for axis in lowest:
        axis.set_xlabel("steps (millions)", fontsize=7)
        axis.tick_params(labelbottom=True)
    found = any(one["concepts"][name]["responds"] for one in about["checkpoints"] for name in names)
    keys = [
        (handle, label)
        for handle, label in zip(*axes.flat[0].get_legend_handles_labels())
        if found or label != "responds"
    ]
    figure.legend(*zip(*keys), loc="outside upper left", ncols=4, fontsize=7.5)
    text = "Probes on held-out layouts, at checkpoints that are all shown the same recorded episodes. "
    ring = (
        "red ring: the probe's score responds to its object in constructed scenes"
        if found
        else "no probe's score responds to its object in constructed scenes"
    )
    text += f"Filled: decodable; {ring}. Bands: 95%, by layout. Concepts are in the order in which they are "
    text += f"learned (dotted line: from there on significantly better than {_at_first(about)})."
    n = f"{len(about['checkpoints'])} checkpoints of one training seed, each on {about['steps']:,} steps of "
    n += f"{about['episodes']:,} episodes on {about['layouts']:,} layouts; {about['pairs']:,} pairs of scenes"
    add_caption(figure, text, n, about["levels"])
    return save_figure(figure, path)[0]


def _at_first(about: dict) -> str:
    """The checkpoint that the others are compared with, in words."""
    steps = about["checkpoints"][0]["steps"]
    return f"after {steps:,} steps" if steps else "before training"


def _panel(axis, about: dict, name: str) -> None:
    entries = [one["concepts"][name] for one in about["checkpoints"]]
    steps = np.array([one["steps"] for one in about["checkpoints"]]) / 1e6
    measure = about["measures"][name]
    for part, look, label in (("encoder", NULL, "encoder's output"), ("value", REAL, "hidden state")):
        value, low, high = (
            np.array([entry[part][end] for entry in entries], float) for end in ("value", "low", "high")
        )
        axis.fill_between(steps, low, high, color=look["color"], alpha=0.18, linewidth=0)
        axis.plot(steps, value, color=look["color"], linewidth=1.3, label=label)
    value = np.array([entry["value"]["value"] for entry in entries], float)
    decodable, responds = (
        np.array([bool(entry[mark]) for entry in entries]) for mark in ("decodable", "responds")
    )
    axis.plot(steps[decodable], value[decodable], "o", markersize=3, color=REAL["color"], label="decodable")
    axis.plot(
        steps[responds],
        value[responds],
        "o",
        markersize=6,
        markerfacecolor="none",
        markeredgecolor=RESPONDS,
        label="responds",
    )
    learned = about["appears"][name]["learned"]
    if learned is not None:
        axis.axvline(learned / 1e6, color="#444444", linewidth=0.7, linestyle=":")
    chance = CHANCE[measure]
    lowest = min(
        (
            entry[part]["low"]
            for entry in entries
            for part in ("encoder", "value")
            if entry[part]["low"] is not None
        ),
        default=chance,
    )
    bottom = max(min(lowest, chance), LOWEST)
    axis.set_ylim(bottom - 0.08 * (1 - bottom), 1.03)
    axis.axhline(chance, **NULL | {"linewidth": 0.8})
    axis.set_title(f"{name} ({WORDS[measure][1]})", fontsize=7, fontweight="normal", loc="left", pad=2)
    axis.tick_params(labelsize=6)


if __name__ == "__main__":
    run_main(main, ARGS)
