"""Heat maps of interchange patching: what each site restores at each step before the decision."""

from pathlib import Path

import numpy as np

from analysis.counterfactuals.interchange_summary import QUANTITIES
from analysis.plotting.style import add_caption, new_figure, save_figure
from common.words import counted

TITLES = {"jump": "log-odds of a jump", "value": "value"}
DONORS = {"own": "same scene", "other": "another scene (control)"}


def draw(numbers: dict, path: Path) -> Path:
    """A heat map for each quantity and donor; rows are sites, columns steps before the decision."""
    channels = [name for name in numbers["sites"] if name.startswith("channel")]
    rows = [name for name in numbers["sites"] if name not in channels] + strongest(numbers, channels)
    figure, axes = new_figure(1, 4, panel=(2.7, 0.9 + 0.19 * len(rows)), sharey=True)
    panels = [(quantity, donor) for quantity in QUANTITIES for donor in DONORS]
    for axis, (quantity, donor) in zip(axes[0], panels):
        shown = _heat_map(axis, numbers["restored"][quantity][donor], rows)
        axis.set_title(f"{TITLES[quantity]}\n{DONORS[donor]}", fontsize=9)
        axis.set_xticks(range(len(numbers["steps_back"])), [-back or "0" for back in numbers["steps_back"]])
        axis.set_xlabel("step of the patch")
    axes[0, 0].set_yticks(range(len(rows)), rows)
    bar = figure.colorbar(shown, ax=axes[0].tolist(), fraction=0.02, pad=0.01)
    bar.set_label("share restored")
    text = (
        f"The agent watches scenes with a {numbers['hazard']} ahead and, from the same memory, the same"
        " scenes without it; one site of the run without it is replaced at one step by that of the run with"
        " it. Colour: share of the difference in the decision (at step 0) that this restores. Control: the"
        " patch comes from another scene. Of the encoder's channels the eight with the largest share at step"
        " 0 are shown."
    )
    n = f"{counted(numbers['scenes'], 'scene')} on {counted(numbers['layouts'], 'layout')}"
    add_caption(figure, text, n, "{}-{}".format(*numbers["level_range"]))
    return save_figure(figure, path)[0]


def strongest(numbers: dict, channels: list[str], count: int = 8) -> list[str]:
    """The channels that restore most at the last step, over both quantities, in order."""
    share = {
        name: max(numbers["restored"][quantity]["own"][name][-1][0] for quantity in QUANTITIES)
        for name in channels
    }
    return sorted(channels, key=lambda name: -share[name])[:count]


def _heat_map(axis, restored: dict, rows: list[str]):
    values = np.array([[share[0] for share in restored[name]] for name in rows], float)
    image = axis.imshow(values, cmap="RdBu", vmin=-1, vmax=1, aspect="auto")
    for (i, k), value in np.ndenumerate(values):
        if abs(value) >= 0.05:
            color = "white" if abs(value) > 0.6 else "#222222"
            axis.text(
                k, i, f"{value:.2f}".replace("0.", "."), ha="center", va="center", fontsize=5, color=color
            )
    axis.grid(False)
    axis.tick_params(labelsize=7)
    return image
