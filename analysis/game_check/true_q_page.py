"""The page of the true Q: calibration of the value head and the critical steps, from the artefact of
analysis/true_q.py alone.
"""

from pathlib import Path

import numpy as np

from analysis.io.artefacts import counts_and_levels
from analysis.plotting.page import Page
from analysis.plotting.style import GROUPS, NULL, REAL, add_caption, new_figure, save_figure
from common.stats import Estimate, estimate, level_weights, mean, percentile_interval
from interpret.forks.true_q import (
    Calibration,
    Criticality,
    advantages,
    criticality,
    policy_values,
    reliability_curve,
    value_calibration,
)

LISTED = 12
PICTURED = 6
Z_95 = 1.96
"""Standard errors: a gap that is so far above zero counts as critical."""


def build_page(found: dict[str, np.ndarray], about: dict, path: Path) -> dict:
    """Draws the figures beside `path`, writes the page there, and returns all its numbers."""
    page = Page("True Q, by forking the real game")
    weights = level_weights(found["layout"])
    lines = []
    real = policy_values(found["returns"], found["shares"])
    critical = criticality(found["returns"])
    page.text(
        "At each fork point every distinct action is taken in forks of the real game, and the agent plays on; what it earns, discounted, is Q. "
        "The noise is shared by the actions. Intervals are 95%, bootstrapped by layout."
    )
    summary = {"inputs": about["inputs"], "asked": about["asked"], "lines": lines}
    summary["cut"] = float(found["cut"].mean())
    if np.isfinite(found["value"]).all():
        summary["calibration"] = _calibration(page, found, about, real, weights, lines, path.parent)
    summary["critical"] = _critical(page, found, about, real, critical, weights, lines, path.parent)
    asked = ", ".join(f"{name} = {value}" for name, value in about["asked"].items())
    made = f"Agent {about['inputs']['agent_file']}, store {about['inputs']['data_dir']}; {asked}."
    page.text(f"{summary['cut']:.1%} of the forks had not ended at the horizon. {made}", note=True)
    page.write(path)
    return summary


def _calibration(
    page: Page, found: dict, about: dict, real: np.ndarray, weights: np.ndarray, lines: list[str], out: Path
) -> dict:
    head = found["value"] * about["reward_scale"]
    fitted = value_calibration(head, real, weights)
    numbers = {name: estimate(draws) for name, draws in fitted._asdict().items()}
    numbers |= {"head": estimate(mean(weights, head)), "game": estimate(mean(weights, real.mean(1)))}
    text = f"Real value against the value head's: slope {numbers['slope']}, correlation {numbers['correlation']}, "
    text += f"root mean square error {numbers['root']}; on average the head says {numbers['head']} and the game gives {numbers['game']}."
    lines.append(text)
    page.heading("Is the value head calibrated?")
    page.text(text)
    page.picture(
        _draw_calibration(found, head, real, fitted, weights, out / "calibration"),
        "A calibrated head lies on the grey line.",
    )
    page.text(
        f"The head's output is multiplied by {about['reward_scale']:.3f}, the scale of the rewards in training: both axes are in the game's rewards. "
        "Training clips scaled rewards at 10, which caps what the head can say. Slope, correlation and error are free of the noise of the draws.",
        note=True,
    )
    return {name: list(value) for name, value in numbers.items()}


def _draw_calibration(
    found: dict, head: np.ndarray, real: np.ndarray, fitted: Calibration, weights: np.ndarray, path: Path
) -> Path:
    figure, axes = new_figure(columns=2, panel=(4.0, 3.4))
    points, bins = axes[0]
    own = real.std(1, ddof=1) / np.sqrt(real.shape[1])
    points.errorbar(
        head,
        real.mean(1),
        yerr=own,
        fmt="o",
        markersize=3.5,
        color=REAL["color"],
        ecolor="#8fa9c7",
        elinewidth=0.8,
        alpha=0.8,
    )
    ends = np.array([min(head.min(), real.mean(1).min()), max(head.max(), real.mean(1).max())])
    room = 0.05 * max(np.ptp(ends), 1e-6)
    for axis in (points, bins):
        axis.plot(ends, ends, label="calibrated", **NULL | {"linewidth": 1.0})
    points.plot(*fitted_within(fitted, head, ends), label=f"slope {fitted.slope[0]:.2f}", color=GROUPS[1])
    said, given = reliability_curve(head, real, weights)
    low, high = percentile_interval(given)
    bins.vlines(said, low, high, color=REAL["color"], linewidth=1.2)
    bins.plot(
        said,
        given[0],
        "o-",
        color=REAL["color"],
        markersize=4,
        linewidth=1.0,
        label="sixths by the head's value",
    )
    for axis, title in ((points, "fork points"), (bins, "reliability")):
        axis.set(
            xlabel="value head (rewards)",
            ylabel="real value (rewards)",
            xlim=ends + [-room, room],
            ylim=ends + [-room, room],
        )
        axis.set_title(title)
        axis.legend(loc="upper left")
    text = f"Real value: mean discounted return of {real.shape[1]} draws of every action, weighted by the policy. "
    text += "Bars: standard errors (left), 95% by layout (right)."
    add_caption(figure, text, *counts_and_levels(found))
    return save_figure(figure, path)[0]


def fitted_within(fitted: Calibration, head: np.ndarray, ends: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The fitted line over the head's values, as far as it stays among the rewards `ends` (lowest, highest)
    that occurred.
    """
    x = np.linspace(head.min(), head.max(), 400)
    y = fitted.intercept[0] + fitted.slope[0] * x
    inside = (y >= ends[0]) & (y <= ends[1])
    return x[inside], y[inside]


def _critical(
    page: Page,
    found: dict,
    about: dict,
    real: np.ndarray,
    critical: Criticality,
    weights: np.ndarray,
    lines: list[str],
    out: Path,
) -> list[dict]:
    page.heading("Where does it matter what the agent does?")
    sure = critical.gap - Z_95 * critical.error
    share = estimate(mean(weights, (sure > 0).astype(float)))
    gap = estimate(mean(weights, critical.gap))
    text = f"The best action is worth {gap} rewards more than the worst, on average; "
    text += f"the gap is surely above zero at {_percent(share)} of the fork points."
    lines.append(text)
    page.text(text)
    order = np.argsort(-sure, kind="stable")
    listed = [_entry(found, about, critical, real, i) for i in order[critical.gap[order] > 0][:LISTED]]
    if listed:
        shown = order[critical.gap[order] > 0][:PICTURED]
        page.picture(
            _draw_critical(found, about, shown, out / "critical"),
            "The most critical fork points, by the lower end of the gap's interval.",
        )
        page.table(list(listed[0]), [[_cell(value) for value in row.values()] for row in listed])
    page.picture(
        _draw_gaps(found, critical, out / "gaps"),
        "Best and worst action are picked on one half of the draws and compared on the other.",
    )
    return listed


def _entry(found: dict, about: dict, critical: Criticality, real: np.ndarray, i: int) -> dict:
    names = about["action_names"]
    best = critical.best[i]
    worst = critical.worst[i]
    gain = advantages(found["returns"], found["shares"])[i]
    return {
        "episode": int(found["episode"][i]),
        "step": int(found["step"][i]),
        "level": int(found["level"][i]),
        "gap": float(critical.gap[i]),
        "standard error": float(critical.error[i]),
        "best": names[best],
        "its probability": float(found["shares"][i, best]),
        "its advantage": float(gain[best]),
        "worst": names[worst],
        "its probability ": float(found["shares"][i, worst]),
        "real value": float(real[i].mean()),
        "value head": float(found["value"][i] * about["reward_scale"]),
    }


def _cell(value) -> str:
    return f"{value:.2f}" if isinstance(value, float) else str(value)


def _percent(value: Estimate) -> str:
    return f"{value.value:.0%} [{value.low:.0%}, {value.high:.0%}]"


def _draw_critical(found: dict, about: dict, chosen: np.ndarray, path: Path) -> Path:
    """Frame and true Q by class, a column per fork point."""
    figure, axes = new_figure(2, len(chosen), panel=(1.75, 2.1), height_ratios=[1, 1.25])
    names = about["action_names"]
    place = np.arange(len(about["action_names"]))
    largest = max(found["returns"][chosen].mean(2).max(), 1e-9)
    for (picture, bars), i in zip(axes.T, chosen):
        picture.imshow(found["frame"][i], interpolation="nearest")
        picture.set_axis_off()
        picture.set_title(
            f"level {found['level'][i]}, step {found['step'][i]}",
            fontsize=7,
            fontweight="normal",
            loc="center",
        )
        q = found["returns"][i].mean(1)
        draws = found["returns"].shape[2]
        own = found["returns"][i].std(1, ddof=1) / np.sqrt(draws)
        bars.barh(
            place,
            q,
            xerr=own,
            color=REAL["color"],
            height=0.7,
            error_kw={"elinewidth": 0.8, "ecolor": "#333333"},
        )
        bars.plot(
            q, place, "o", markersize=3, color="#1a1a1a", zorder=3
        )  # so that a Q of 0 is seen to be one
        bars.axvline(0, color="#444444", linewidth=0.8)
        for y, share in enumerate(found["shares"][i]):
            bars.text(1.04 * largest, y, f"{share:.0%}", fontsize=6.5, va="center", color="#444444")
        bars.set_yticks(place, names if bars is axes[1, 0] else [""] * len(names), fontsize=7)
        bars.set(xlim=(min(0, q.min()) - 0.04 * largest, 1.25 * largest), xlabel="Q (rewards)")
        bars.invert_yaxis()
        bars.grid(axis="y", visible=False)
    text = f"True Q of each action (dots), {found['returns'].shape[2]} draws, with standard errors; beside it the agent's probability of the action."
    add_caption(figure, text, *counts_and_levels(found))
    return save_figure(figure, path)[0]


def _draw_gaps(found: dict, critical: Criticality, path: Path) -> Path:
    """How the gaps are distributed, each with its error."""
    figure, axes = new_figure(panel=(6.5, 2.8))
    order = np.argsort(-critical.gap, kind="stable")
    place = np.arange(len(order))
    axes[0, 0].errorbar(
        place,
        critical.gap[order],
        yerr=Z_95 * critical.error[order],
        fmt="o",
        markersize=3,
        color=REAL["color"],
        ecolor="#8fa9c7",
    )
    axes[0, 0].axhline(0, **NULL | {"linewidth": 1.0})
    axes[0, 0].set(xlabel="fork points, most critical first", ylabel="Q of best less worst (rewards)")
    axes[0, 0].grid(axis="x", visible=False)
    add_caption(
        figure,
        "Gap between the best and the worst action; bars are 95% intervals over noise draws.",
        *counts_and_levels(found),
    )
    return save_figure(figure, path)[0]
