"""The page of the true Q: calibration of the value head, and critical fork points, from one artefact."""

from pathlib import Path
from typing import NamedTuple

import numpy as np

from analysis.game_check.true_q_figures import Z_95, draw_calibration, draw_critical, draw_gaps
from analysis.plotting.page import Page
from common.stats import Estimate, estimate, level_weights, mean
from interpret.forks.true_q import Criticality, advantages, criticality, policy_values, value_calibration

NUM_LISTED = 12
NUM_PICTURED = 6
Arrays = dict[str, np.ndarray]


class Report(NamedTuple):
    """What the sections of the page are written from and to."""

    page: Page
    lines: list[str]
    """Main results, one sentence each."""
    arrays: Arrays
    about: dict
    """Inputs, settings, reward scale and action names."""
    real_value: np.ndarray
    """[M, D]: true value at each fork point, by noise draw."""
    weights: np.ndarray
    """Bootstrap weights [1 + R, M], by layout."""
    out: Path
    """Directory of the figures."""


def build_page(arrays: Arrays, about: dict, path: Path) -> dict:
    """Draws the figures in the directory of `path`, writes the page there, and returns all its numbers.

    Args:
        arrays: the artefact.
        about: inputs, settings (`asked`), reward scale and action names.
        path: of the page.
    """
    page = Page("True Q, by forking the real game")
    real_value = policy_values(arrays["returns"], arrays["shares"])
    weights = level_weights(arrays["layout"])
    report = Report(page, [], arrays, about, real_value, weights, path.parent)
    page.text(
        "Every distinct action is taken in forks of the real game from each fork point, and the agent plays "
        "on; the discounted return is Q. Actions share the noise. Intervals are 95%, bootstrapped by layout."
    )
    summary = {"inputs": about["inputs"], "asked": about["asked"], "lines": report.lines}
    summary["cut"] = float(arrays["cut"].mean())
    if np.isfinite(arrays["value"]).all():
        summary["calibration"] = _calibration(report)
    summary["critical"] = _critical(report)
    settings = ", ".join(f"{name} = {value}" for name, value in about["asked"].items())
    page.text(
        f"{summary['cut']:.1%} of the forks had not ended at the horizon. Agent "
        f"{about['inputs']['agent_file']}, store {about['inputs']['data_dir']}; {settings}.",
        note=True,
    )
    page.write(path)
    return summary


def _calibration(report: Report) -> dict:
    """Section on the value head; returns its numbers."""
    page, real, weights = report.page, report.real_value, report.weights
    reward_scale = report.about["reward_scale"]
    head = report.arrays["value"] * reward_scale
    fitted = value_calibration(head, real, weights)
    numbers = {name: estimate(statistic) for name, statistic in fitted._asdict().items()}
    numbers |= {"head": estimate(mean(weights, head)), "game": estimate(mean(weights, real.mean(1)))}
    text = (
        f"Real value against the value head's: slope {numbers['slope']}, correlation "
        f"{numbers['correlation']}, root mean square error {numbers['root']}; on average the head says "
        f"{numbers['head']} and the game gives {numbers['game']}."
    )
    report.lines.append(text)
    page.heading("Is the value head calibrated?")
    page.text(text)
    page.picture(
        draw_calibration(report.arrays, head, real, fitted, weights, report.out / "calibration"),
        "A calibrated head lies on the grey line.",
    )
    page.text(
        f"The head's output is multiplied by {reward_scale:.3f}, the scale of the rewards in training, so "
        "that both axes are in the game's rewards. Training clips scaled rewards at 10, which caps the "
        "head's output. Slope, correlation and error are corrected for the noise of the draws.",
        note=True,
    )
    return {name: list(value) for name, value in numbers.items()}


def _critical(report: Report) -> list[dict]:
    """Section on fork points where the action matters; returns the most critical ones."""
    page, arrays = report.page, report.arrays
    page.heading("Where does the action matter?")
    critical = criticality(arrays["returns"])
    lower_bound = critical.gap - Z_95 * critical.error
    share = estimate(mean(report.weights, (lower_bound > 0).astype(float)))
    gap = estimate(mean(report.weights, critical.gap))
    text = (
        f"The best action is worth {gap} rewards more than the worst, on average; the gap is significantly "
        f"above zero at {_percent(share)} of the fork points."
    )
    report.lines.append(text)
    page.text(text)
    order = np.argsort(-lower_bound, kind="stable")
    most_critical = order[critical.gap[order] > 0]
    entries = [_entry(report, critical, i) for i in most_critical[:NUM_LISTED]]
    if entries:
        names = report.about["action_names"]
        page.picture(
            draw_critical(arrays, names, most_critical[:NUM_PICTURED], report.out / "critical"),
            "The most critical fork points, by the lower bound of the gap.",
        )
        page.table(list(entries[0]), [[_cell(value) for value in row.values()] for row in entries])
    page.picture(
        draw_gaps(arrays, critical, report.out / "gaps"),
        "Best and worst action are chosen on one half of the draws and compared on the other.",
    )
    return entries


def _entry(report: Report, critical: Criticality, i: int) -> dict:
    """One row of the table of critical fork points."""
    arrays, names = report.arrays, report.about["action_names"]
    best, worst = critical.best[i], critical.worst[i]
    advantage = advantages(arrays["returns"], arrays["shares"])[i]
    return {
        "episode": int(arrays["episode"][i]),
        "step": int(arrays["step"][i]),
        "level": int(arrays["level"][i]),
        "gap": float(critical.gap[i]),
        "standard error": float(critical.error[i]),
        "best": names[best],
        "its probability": float(arrays["shares"][i, best]),
        "its advantage": float(advantage[best]),
        "worst": names[worst],
        "its probability ": float(arrays["shares"][i, worst]),
        "real value": float(report.real_value[i].mean()),
        "value head": float(arrays["value"][i] * report.about["reward_scale"]),
    }


def _cell(value) -> str:
    return f"{value:.2f}" if isinstance(value, float) else str(value)


def _percent(value: Estimate) -> str:
    return f"{value.value:.0%} [{value.low:.0%}, {value.high:.0%}]"
