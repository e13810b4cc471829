"""Figures of the true Q. Each returns the figure's path."""

from pathlib import Path

import numpy as np

from analysis.io.artefacts import counts_and_levels
from analysis.plotting.style import GROUPS, NULL, REAL, add_caption, new_figure, save_figure
from common.stats import percentile_interval
from interpret.forks.true_q import Calibration, Criticality, reliability_curve

Z_95 = 1.96
"""Standard errors in half a 95% interval."""
_ERROR_COLOR = "#8fa9c7"
Arrays = dict[str, np.ndarray]


def draw_calibration(
    arrays: Arrays,
    head: np.ndarray,
    real: np.ndarray,
    fitted: Calibration,
    weights: np.ndarray,
    path: Path,
) -> Path:
    """Real value against the value head, by fork point and by sixths of the head's values.

    Args:
        arrays: the artefact, for the caption.
        head: values of the head [M], in rewards.
        real: true values [M, D].
        fitted: line of the real on the head's value.
        weights: bootstrap weights [1 + R, M].
        path: where the figure goes.
    """
    figure, axes = new_figure(columns=2, panel=(4.0, 3.4))
    points, bins = axes[0]
    means = real.mean(1)
    ends = np.array([min(head.min(), means.min()), max(head.max(), means.max())])
    error = real.std(1, ddof=1) / np.sqrt(real.shape[1])
    style = {"fmt": "o", "markersize": 3.5, "color": REAL["color"], "alpha": 0.8}
    points.errorbar(head, means, yerr=error, ecolor=_ERROR_COLOR, elinewidth=0.8, **style)
    for axis, title in ((points, "fork points"), (bins, "reliability")):
        axis.plot(ends, ends, label="calibrated", **NULL | {"linewidth": 1.0})
        margin = 0.05 * max(np.ptp(ends), 1e-6)
        axis.set(xlim=ends + [-margin, margin], ylim=ends + [-margin, margin])
        axis.set(xlabel="value head (rewards)", ylabel="real value (rewards)")
        axis.set_title(title)
    points.plot(*fitted_within(fitted, head, ends), label=f"slope {fitted.slope[0]:.2f}", color=GROUPS[1])
    predicted, observed = reliability_curve(head, real, weights)
    bins.vlines(predicted, *percentile_interval(observed), color=REAL["color"], linewidth=1.2)
    style = {"color": REAL["color"], "markersize": 4, "linewidth": 1.0}
    bins.plot(predicted, observed[0], "o-", label="sixths by the head's value", **style)
    for axis in (points, bins):
        axis.legend(loc="upper left")
    text = (
        f"Real value: mean discounted return over {real.shape[1]} draws of every action, weighted by the "
        "policy. Bars: standard errors (left), 95% by layout (right)."
    )
    add_caption(figure, text, *counts_and_levels(arrays))
    return save_figure(figure, path)[0]


def fitted_within(fitted: Calibration, head: np.ndarray, ends: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """x and y of the fitted line over the head's values, where it stays between `ends` (lowest, highest)."""
    x = np.linspace(head.min(), head.max(), 400)
    y = fitted.intercept[0] + fitted.slope[0] * x
    inside = (y >= ends[0]) & (y <= ends[1])
    return x[inside], y[inside]


def draw_critical(arrays: Arrays, names: list[str], chosen: np.ndarray, path: Path) -> Path:
    """Frame and true Q by action, a column for each chosen fork point.

    Args:
        arrays: the artefact.
        names: of the actions.
        chosen: indices of fork points.
        path: where the figure goes.
    """
    figure, axes = new_figure(2, len(chosen), panel=(1.75, 2.1), height_ratios=[1, 1.25])
    largest = max(arrays["returns"][chosen].mean(2).max(), 1e-9)
    for column, ((frame, bars), i) in enumerate(zip(axes.T, chosen)):
        frame.imshow(arrays["frame"][i], interpolation="nearest")
        frame.set_axis_off()
        title = f"level {arrays['level'][i]}, step {arrays['step'][i]}"
        frame.set_title(title, fontsize=7, fontweight="normal", loc="center")
        _q_bars(bars, arrays["returns"][i], arrays["shares"][i], largest)
        bars.set_yticks(range(len(names)), names if column == 0 else [""] * len(names), fontsize=7)
        bars.invert_yaxis()
    text = (
        f"True Q of each action (dots), {arrays['returns'].shape[2]} draws, with standard errors; "
        "percentages: the agent's probability of the action."
    )
    add_caption(figure, text, *counts_and_levels(arrays))
    return save_figure(figure, path)[0]


def _q_bars(axis, returns: np.ndarray, shares: np.ndarray, largest: float) -> None:
    """Q of each action with its standard error and probability.

    Args:
        axis: to draw on.
        returns: [A, D].
        shares: [A], the agent's probabilities.
        largest: Q at the right end of the axis.
    """
    y = np.arange(len(returns))
    q = returns.mean(1)
    error = returns.std(1, ddof=1) / np.sqrt(returns.shape[1])
    error_style = {"elinewidth": 0.8, "ecolor": "#333333"}
    axis.barh(y, q, xerr=error, color=REAL["color"], height=0.7, error_kw=error_style)
    axis.plot(q, y, "o", markersize=3, color="#1a1a1a", zorder=3)  # makes a Q of 0 visible
    axis.axvline(0, color="#444444", linewidth=0.8)
    for place, share in enumerate(shares):
        axis.text(1.04 * largest, place, f"{share:.0%}", fontsize=6.5, va="center", color="#444444")
    axis.set(xlim=(min(0, q.min()) - 0.04 * largest, 1.25 * largest), xlabel="Q (rewards)")
    axis.grid(axis="y", visible=False)


def draw_gaps(arrays: Arrays, critical: Criticality, path: Path) -> Path:
    """Gap between best and worst action at every fork point, with its interval."""
    figure, axes = new_figure(panel=(6.5, 2.8))
    axis = axes[0, 0]
    order = np.argsort(-critical.gap, kind="stable")
    error = Z_95 * critical.error[order]
    style = {"fmt": "o", "markersize": 3, "color": REAL["color"], "ecolor": _ERROR_COLOR}
    axis.errorbar(np.arange(len(order)), critical.gap[order], yerr=error, **style)
    axis.axhline(0, **NULL | {"linewidth": 1.0})
    axis.set(xlabel="fork points, most critical first", ylabel="Q of best minus worst (rewards)")
    axis.grid(axis="x", visible=False)
    text = "Gap between the best and the worst action; bars are 95% intervals over noise draws."
    add_caption(figure, text, *counts_and_levels(arrays))
    return save_figure(figure, path)[0]
