"""Does the simulator predict what edits do in the game? Effects over directions, and a one-step predictor."""

from pathlib import Path

import numpy as np

from analysis.plotting.style import NULL, REAL, SIMULATED, add_caption, new_figure, save_figure
from common.words import counted


def draw(numbers: dict, path: Path) -> Path:
    """A column for each event: simulated against real effects, and one-step predictor against real ones."""
    prediction = numbers["prediction"]
    events = {name: found for name, found in prediction["events"].items() if found["r"][0] is not None}
    figure, axes = new_figure(2, len(events), panel=(2.6, 2.3))
    for (above, below), (event, found) in zip(axes.T, events.items()):
        _against(above, found, found["simulated"], SIMULATED["color"], 100)
        low, high = above.get_xlim()
        above.axline((0, 0), slope=1, **NULL | {"linewidth": 1, "linestyle": ":"})
        above.set_xlim(low, high)
        above.set_title(event)
        noisy = found["reliability_real"][1] <= 0
        _said(above, found, noisy or found["reliability_simulated"][1] <= 0)
        step = found["one_step"]
        exact = {"effect": step["shift"], "error": [0.0] * len(step["shift"])}
        _against(below, found, exact, REAL["color"], 1)
        _said(below, step, noisy)
        below.set_xlabel("in the game (points)")
        below.set_ylabel(f"log odds of {step['choice']}, one step")
    axes[0, 0].set_ylabel("in the simulator (points)")
    shared = numbers["shared"]
    text = (
        f"Effects of {counted(prediction['directions'], 'direction')} at a KL of {shared['kl']} nats, with "
        "standard errors. Above: in the simulator against the game (dotted: equal). Below: the predictor "
        "without a simulator, the mean change of the log odds of a choice in one step on real states; the "
        "best of up, left and right is shown. r: raw, and corrected for noise in both axes, with 95% "
        "intervals over layouts and directions."
    )
    n = counted(prediction["fork_points"], "fork point") + " each"
    add_caption(figure, text, n, "{}-{}".format(*numbers["levels"]))
    return save_figure(figure, path)[0]


def _against(axis, found: dict, other: dict, color: str, scale: float) -> None:
    x, dx = (100 * np.array(found["real"][name]) for name in ("effect", "error"))
    y, dy = (scale * np.array(other[name]) for name in ("effect", "error"))
    axis.axhline(0, **NULL | {"linewidth": 0.6})
    axis.axvline(0, **NULL | {"linewidth": 0.6})
    axis.errorbar(
        x, y, dy if dy.any() else None, dx, fmt="o", color=color, markersize=2.5, elinewidth=0.4, alpha=0.6
    )


def _said(axis, found: dict, noisy: bool) -> None:
    """Writes the correlations above the points. noisy: too much to correct for."""
    low, high = axis.get_ylim()
    axis.set_ylim(low, high + 0.3 * (high - low))
    (r, *_), corrected = found["r"], "not identified"
    if not noisy:
        corrected = "{:.2f} [{:.2f}, {:.2f}]".format(*found["r_corrected"])
    text = f"r = {r:.2f}\ncorrected {corrected}"
    axis.text(0.03, 0.97, text, transform=axis.transAxes, va="top", fontsize=7)
