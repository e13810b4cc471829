"""Figure of edited levels: changes of directions, actions and outcomes, by the edit and by its control."""

from pathlib import Path

import numpy as np

from analysis.plotting.style import NULL, REAL, add_caption, new_figure, save_figure

ACTIONS = {"leftwards": "left", "rightwards": "right", "upwards": "jump", "downwards": "down"}
SHOWN_OUTCOMES = ("death", "coin")


def draw(numbers: dict, path: Path) -> Path:
    """A row of panels for each edit: directions, actions at the next frame, and what happens in the fork."""
    edits = numbers["edits"]
    directions = shown_directions(numbers)
    height = 0.7 + 0.21 * max(len(directions), 6)
    widths = (1.6, 1, 1)
    figure, axes = new_figure(len(edits), 3, panel=(3.3, height), width_ratios=widths)
    for row, (name, one) in zip(axes, edits.items()):
        _dots(row[0], one["frame"], directions, 1, {})
        row[0].set_title(f"{in_words(name)} ({one['states']} states)")
        row[0].set_xlabel("change of the score (standard deviations)")
        _dots(row[1], one["frame"], numbers["groups"], 100, ACTIONS)
        row[1].set_title("next action")
        row[1].set_xlabel("change of its probability (points)")
        _dots(row[2], one["fork"], [*SHOWN_OUTCOMES, *numbers["groups"]], 100, ACTIONS)
        row[2].set_title(f"within {numbers['asked']['steps']} steps")
        row[2].set_xlabel("change (points)")
    text = (
        "Blue: mean change by the edit, with its 95% interval by layout, filled where its size is beyond the"
        " control's; grey: by the control, an object of the same size as far behind the player. Actions in"
        " the fork: share of steps. Of the directions the ten with the largest change by any edit are shown."
    )
    low, high = (f([one["level_range"][i] for one in edits.values()]) for i, f in ((0, min), (1, max)))
    n = (
        ", ".join(f"{one['states']} ({in_words(name)})" for name, one in edits.items())
        + ", each on its own layout"
    )
    add_caption(figure, text, n, f"{low}-{high}")
    return save_figure(figure, path)[0]


def in_words(edit: str) -> str:
    return edit.replace("_", " ")


def shown_directions(numbers: dict, count: int = 10) -> list[str]:
    """The directions with the largest mean change by any edit, in the set's order."""
    size = {
        name: max(abs(one["frame"][name]["edit"][0]) for one in numbers["edits"].values())
        for name in numbers["directions"]
    }
    kept = sorted(size, key=lambda name: -size[name])[:count]
    return [name for name in numbers["directions"] if name in kept]


def _dots(axis, summary: dict, names: list[str], scale: float, words: dict[str, str]) -> None:
    axis.axvline(0, color="#999999", linewidth=0.8)
    for y, name in enumerate(names):
        for which, color, offset in (("control", NULL["color"], 0.17), ("edit", REAL["color"], -0.17)):
            value, low, high = scale * np.array(summary[name][which])
            filled = which == "edit" and summary[name]["responds"]
            axis.plot([low, high], [y + offset] * 2, color=color, linewidth=1.2)
            axis.plot(
                [value], [y + offset], "o", color=color, markersize=4, fillstyle="full" if filled else "none"
            )
    axis.set_yticks(range(len(names)), [words.get(name, name) for name in names])
    axis.set_ylim(len(names) - 0.5, -0.5)
