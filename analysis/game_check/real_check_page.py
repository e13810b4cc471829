"""The page of the real check: numbers, figures and film strips, from the artefacts of analysis.real_check."""

from pathlib import Path
from typing import NamedTuple

import numpy as np

from analysis.game_check.closed_loop_figures import draw_closed_loop, draw_strips, strip_cases
from analysis.game_check.death_risk import WORLDS, deletion_effects, runs_of
from analysis.game_check.paired_outcomes import paired_outcomes
from analysis.game_check.real_check_figures import draw_deletions, draw_effects, draw_hazards
from analysis.plotting.page import Page
from common.stats import Estimate, estimate, level_weights, mean, ratio
from envs.words import end_words
from interpret.errors_in_variables import Line, fit_line
from interpret.forks.action_effects import FrameMatch, effect_regression, matching_accuracy, psnr_margin
from interpret.forks.world_comparison import (
    EVENTS,
    PAIRED_STEPS,
    Runs,
    action_agreement,
    action_distribution,
    event_rates,
    hidden_distance,
    restricted_mean_survival,
)

ACCEPTED = (0.7, 1.3)
"""Accepted slopes of the simulated on the real change of the death risk."""
Arrays = dict[str, np.ndarray]


class Report(NamedTuple):
    """What the sections of the page are written to."""

    page: Page
    lines: list[str]
    """Main results, one sentence each."""
    about: dict
    """Inputs, settings, game, action names and effect classes."""
    out: Path
    """Directory of the figures."""


def build_page(arrays: dict[str, Arrays], about: dict, out: Path) -> dict:
    """Draws the figures, writes `out/real_check.html`, and returns all its numbers.

    Args:
        arrays: the artefacts by part.
        about: inputs, settings (`asked`), game, action names and effect classes.
        out: directory of page and figures.
    """
    report = Report(Page("Against the real game"), [], about, out)
    page = report.page
    page.text(
        "The real game is forked and the simulator started from the same fork points; the agent's noise is "
        "that of the recording in both. Intervals are 95%, bootstrapped by layout."
    )
    prefix = "effects_"
    by_hold = {
        int(name.removeprefix(prefix)): part for name, part in arrays.items() if name.startswith(prefix)
    }
    summary = {"inputs": about["inputs"], "asked": about["asked"], "lines": report.lines}
    if "hazards" in arrays:
        summary["hazards"] = _hazards(report, arrays["hazards"])
    summary["effects"] = _effects(report, by_hold)
    summary["closed_loop"] = _closed_loop(report, arrays["closed_loop"])
    _strips(report, arrays["closed_loop"])
    inputs = about["inputs"]
    files = f"World model {inputs['world_model_file']}, agent {inputs['agent_file']}"
    page.text(f"{files}, store {inputs['data_dir']}.", note=True)
    settings = ", ".join(f"{name} = {value}" for name, value in about["asked"].items())
    page.text(f"Settings: {settings}", note=True)
    page.write(out / "real_check.html")
    return summary


def _hazards(report: Report, arrays: Arrays) -> dict:
    """Section on deleted hazards; returns its numbers."""
    page = report.page
    changes = deletion_effects(arrays)
    weights = level_weights(arrays["layout"])
    fitted = fit_line(weights, changes["real"], changes["simulated"])
    numbers = _hazard_numbers(changes, weights, fitted)
    sentences = _hazard_sentences(numbers)
    report.lines.extend(sentences)
    page.heading("Does deleting a hazard save the agent?")
    page.text(" ".join(sentences))
    page.picture(
        draw_hazards(arrays, changes, fitted, report.out / "hazards"),
        "Each point is one fork point with a hazard 2-6 tiles ahead.",
    )
    rows = [
        [name, *(f"{numbers[f'{world}/{arm}']}" for arm in ("intact", "deleted")), str(numbers[world])]
        for world, name in WORLDS.items()
    ]
    page.table(["risk of death", "hazard there", "hazard deleted", "change"], rows)
    page.text(
        f"The risk at a fork point is a mean over {changes['real'].shape[1]} noise draws. "
        f"{numbers['reliability']} of the variance of the real changes is between fork points; the rest is "
        "sampling error, for which slope and correlation are corrected. Ratio of the mean changes, simulator "
        f"to game: {numbers['ratio of means']}.",
        note=True,
    )
    page.picture(
        draw_deletions(arrays, changes, report.out / "deletions"),
        "Start of both worlds: the hazard is deleted from all frames given to the simulator.",
    )
    return {name: list(value) for name, value in numbers.items()}


def _hazard_numbers(changes: Arrays, weights: np.ndarray, fitted: Line) -> dict[str, Estimate]:
    teacher_forced = fit_line(weights, changes["real"], changes["watched"])
    ratio_of_means = ratio(weights, -changes["simulated"].mean(1), -changes["real"].mean(1))
    return {
        **{name: estimate(mean(weights, value.mean(1))) for name, value in changes.items()},
        **{name: estimate(getattr(fitted, name)) for name in fitted._fields},
        **{f"watched {name}": estimate(getattr(teacher_forced, name)) for name in ("slope", "correlation")},
        "ratio of means": estimate(ratio_of_means),
    }


def _hazard_sentences(numbers: dict[str, Estimate]) -> list[str]:
    return [
        f"Deleting a hazard changes the risk of death by {_points(numbers['real'])} in the game and "
        f"{_points(numbers['simulated'])} in the simulator; {_slope_verdict(numbers)}.",
        "Teacher-forced by the game's frames, the simulator predicts a change of "
        f"{_points(numbers['watched'])}; slope {numbers['watched slope']}, correlation "
        f"{numbers['watched correlation']}: what it knows of hazards, even if its own frames lose them.",
    ]


def _slope_verdict(numbers: dict[str, Estimate]) -> str:
    slope = numbers["slope"]
    if not np.isfinite(slope.value):
        return "too few hazard deaths to estimate the slope"
    verdict = "within" if ACCEPTED[0] <= slope.value <= ACCEPTED[1] else "outside"
    return (
        f"slope {slope}, {verdict} {ACCEPTED[0]}-{ACCEPTED[1]}; correlation {numbers['correlation']}, both "
        "free of sampling error"
    )


def _points(change: Estimate) -> str:
    value, low, high = (_signed_percent(one) for one in change)
    return f"{value} points [{low}, {high}]"


def _signed_percent(fraction: float) -> str:
    text = f"{100 * fraction:+.0f}"
    return "0" if text in ("+0", "-0") else text


def _effects(report: Report, by_hold: dict[int, Arrays]) -> dict[int, dict]:
    """Section on the effects of single actions; returns its numbers by steps held."""
    page = report.page
    page.heading("Does each action have the same effect?")
    summary = {}
    rows = []
    for hold, arrays in by_hold.items():
        numbers = _effect_numbers(arrays)
        summary[hold] = {name: list(value) for name, value in numbers.items()}
        columns = ("accuracy", "chance", "dPSNR", "slope", "correlation")
        rows.append([hold, *(numbers[name] for name in columns), len(arrays["ended"])])
        report.lines.append(
            f"Action held {hold} steps: the nearest real frame is that of the same action in "
            f"{numbers['accuracy']} (by chance {numbers['chance']})."
        )
    header = [
        "steps held",
        "nearest real frame is the same action's",
        "by chance",
        "dPSNR (dB)",
        "slope of the effect on the frame",
        "correlation",
    ]
    page.table([*header, "fork points"], rows)
    acts = next(iter(by_hold.values()))["acts"]
    about = report.about
    names = [about["action_names"][about["effect_classes"][act]] for act in acts]
    page.picture(
        draw_effects(by_hold, names, report.out / "effects"),
        "Every effect class is tried from every fork point in both worlds; each simulated frame is matched "
        "with the real frames of all classes.",
    )
    return summary


def _effect_numbers(arrays: Arrays) -> dict[str, Estimate]:
    weights = level_weights(arrays["layout"])
    matched = FrameMatch(arrays["error"], arrays["same"], arrays["nearest"])
    right, chance = matching_accuracy(matched, arrays["ended"], weights)
    slope, correlation = effect_regression(arrays["products"], weights)
    statistics = {
        "accuracy": right,
        "chance": chance,
        "slope": slope,
        "correlation": correlation,
        "dPSNR": psnr_margin(matched, arrays["ended"], weights),
    }
    return {name: estimate(statistic) for name, statistic in statistics.items()}


def _closed_loop(report: Report, arrays: Arrays) -> dict:
    """Section on the agent in the loop; returns its numbers."""
    page, about = report.page, report.about
    page.heading("Does the agent behave the same?")
    weights = level_weights(arrays["layout"])
    worlds = {name: runs_of(arrays, name) for name in ("real", "simulated")}
    null = worlds["real"]._replace(action=arrays["null/action"], running=arrays["null/running"])
    event_names = dict(zip(EVENTS, ("end", *end_words(about["game"]))))
    per_step = _event_rates(worlds, event_names, weights)
    retraced = float(arrays["retraced"].mean())
    far = _action_distance(worlds, about["effect_classes"], weights)
    _rates_table(page, per_step, event_names, len(arrays["real/done"]))
    paired = paired_outcomes(page, worlds, event_names, weights)
    death = event_names["death"]
    rates_by_world = {name: _percent(row[death]) for name, row in per_step.items()}
    text = f"Probability per step of {death}: {rates_by_world['real']} in the game, "
    text += f"{rates_by_world['simulated']} in the simulator."
    page.text(text)
    again = f"with the recording's noise take {retraced:.1%} of the recorded actions again."
    report.lines.extend([text, f"Forks {again}"])
    classes = about["effect_classes"]
    names = [about["action_names"][i] for i in np.unique(classes)]
    page.picture(
        draw_closed_loop(arrays, worlds, null, classes, names, event_names, report.out / "closed_loop"),
        f"Single runs are compared for {PAIRED_STEPS} steps; beyond, only distributions.",
    )
    page.text(
        f"Control: forks {again} Beyond {PAIRED_STEPS} steps the frequencies of effect classes differ by a "
        f"total variation of {far:.2f}.",
        note=True,
    )
    return {
        "rates": {
            name: {event: list(value) for event, value in row.items()} for name, row in per_step.items()
        },
        "paired": paired,
        "retraced": retraced,
        "total variation beyond": far,
        **_agreement_by_step(worlds, null, classes, weights),
    }


def _event_rates(
    worlds: dict[str, Runs], event_names: dict[str, str], weights: np.ndarray
) -> dict[str, dict[str, Estimate]]:
    """Probability per step of each event, and mean number of steps, by world."""
    return {
        name: {event_names[event]: estimate(rate) for event, rate in event_rates(runs, weights).items()}
        | {"steps running": estimate(restricted_mean_survival(runs, weights))}
        for name, runs in worlds.items()
    }


def _rates_table(
    page: Page, per_step: dict[str, dict[str, Estimate]], event_names: dict[str, str], steps: int
) -> None:
    rows = [
        [name, *(_percent(row[event]) for event in event_names.values()), str(row["steps running"])]
        for name, row in per_step.items()
    ]
    page.table(["per step", *event_names.values(), f"steps running, of {steps}"], rows)


def _action_distance(worlds: dict[str, Runs], effect_classes, weights: np.ndarray) -> float:
    """Total variation between the worlds' frequencies of effect classes beyond PAIRED_STEPS steps."""
    real, simulated = (action_distribution(runs, effect_classes, weights)[0] for runs in worlds.values())
    return float(0.5 * np.abs(real - simulated).sum())


def _agreement_by_step(
    worlds: dict[str, Runs], null: Runs, effect_classes, weights: np.ndarray
) -> dict[str, list[list[float]]]:
    """Agreement of actions and distance of hidden states by step, each with its mismatched baseline."""
    distance, other_distance = hidden_distance(*worlds.values(), weights)
    by_step = {
        "agreement": action_agreement(*worlds.values(), effect_classes, weights),
        "agreement, other fork points": action_agreement(worlds["real"], null, effect_classes, weights),
        "hidden distance": distance,
        "hidden distance, other fork points": other_distance,
    }
    return {name: [list(estimate(column)) for column in statistic.T] for name, statistic in by_step.items()}


def _percent(value: Estimate) -> str:
    return f"{value.value:.1%} [{value.low:.1%}, {value.high:.1%}]"


def _strips(report: Report, arrays: Arrays) -> None:
    report.page.heading("One fork point, two worlds")
    report.page.picture(
        draw_strips(arrays, strip_cases(arrays), report.out / "strips"),
        "Chosen by rule: the 10th, 50th and 90th percentile of the squared error over the steps shown, among "
        "fork points whose run reaches the last of them.",
    )
