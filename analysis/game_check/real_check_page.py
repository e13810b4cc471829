"""The page of the real check: numbers, figures and film strips, from the artefacts of analysis/real_check.py
alone.
"""

from pathlib import Path

import numpy as np

from analysis.game_check.real_check_figures import (
    draw_closed_loop,
    draw_deletions,
    draw_effects,
    draw_hazards,
    draw_strips,
    strip_cases,
)
from analysis.plotting.page import Page
from common.stats import Estimate, estimate, level_weights, mean, ratio
from envs.words import end_words
from interpret.errors_in_variables import fit_line
from interpret.forks.action_effects import FrameMatch, effect_regression, matching_accuracy, psnr_margin
from interpret.forks.world_comparison import (
    EVENTS,
    PAIRED_STEPS,
    Runs,
    action_agreement,
    action_distribution,
    event_probabilities,
    event_rates,
    hidden_distance,
    restricted_mean_survival,
)

ACCEPTED = (0.5, 1.5)
"""Where the slope of the simulated on the real change of the risk of death must lie."""
WORLDS = {"real": "game", "simulated": "simulator", "watched": "simulator, shown the game's frames"}
"""Where a hazard is deleted."""


def build_page(arrays: dict[str, dict[str, np.ndarray]], about: dict, out: Path) -> dict:
    """Draws the figures into `out`, writes `out/real_check.html`, and returns all its numbers.

    arrays: the artefacts by part. about: inputs, resolved parameters, game, action names and effect classes.
    """
    page = Page("Against the real game")
    summary = {"inputs": about["inputs"], "asked": about["asked"], "lines": []}
    page.text(
        "From the same saved fork points the real game is forked and the simulator started; the agent's noise is that of the recording in both. "
        "Intervals are 95%, bootstrapped by layout."
    )
    holds = {
        int(name.removeprefix("effects_")): found
        for name, found in arrays.items()
        if name.startswith("effects_")
    }
    if "hazards" in arrays:
        summary["hazards"] = _hazards(page, arrays["hazards"], summary["lines"], out)
    summary["effects"] = _effects(page, holds, about, summary["lines"], out)
    summary["closed_loop"] = _closed_loop(page, arrays["closed_loop"], about, summary["lines"], out)
    _strips(page, arrays["closed_loop"], out)
    page.text(
        f"Model {about['inputs']['world_model_file']}, agent {about['inputs']['agent_file']}, store {about['inputs']['data_dir']}.",
        note=True,
    )
    page.text("Asked: " + ", ".join(f"{name} = {value}" for name, value in about["asked"].items()), note=True)
    page.write(out / "real_check.html")
    return summary


def runs_of(found: dict[str, np.ndarray], prefix: str) -> Runs:
    """A world's runs among an artefact's arrays; a field that was not kept is empty."""
    return Runs(*(found.get(f"{prefix}/{name}", np.zeros(0)) for name in Runs._fields))


def death_risk(runs: Runs) -> np.ndarray:
    """Probability [M, D] of death within the horizon."""
    return event_probabilities(runs)["death"].sum(0)


def teacher_forced_risk(runs: Runs) -> np.ndarray:
    """Deaths [M, D] to be expected of the steps that a run of the game took: whether it reached them, the
    game has said. May pass 1.
    """
    return (runs.done * (1 - runs.coin) * runs.running).astype(np.float64).sum(0)


RISKS = {"real": death_risk, "simulated": death_risk, "watched": teacher_forced_risk}


def deletion_effects(found: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Risk [M, D] of death in each of WORLDS and arm, as "real/intact"; and what deletion changes it by, as
    "real".
    """
    risks = {
        f"{world}/{arm}": RISKS[world](runs_of(found, f"{world}/{arm}"))
        for world in WORLDS
        for arm in ("intact", "deleted")
    }
    return risks | {world: risks[f"{world}/deleted"] - risks[f"{world}/intact"] for world in WORLDS}


def _hazards(page: Page, found: dict, lines: list[str], out: Path) -> dict:
    changes = deletion_effects(found)
    weights = level_weights(found["layout"])
    fitted = fit_line(weights, changes["real"], changes["simulated"])
    numbers = {name: estimate(mean(weights, value.mean(1))) for name, value in changes.items()}
    numbers |= {name: estimate(getattr(fitted, name)) for name in fitted._fields}
    shown = fit_line(weights, changes["real"], changes["watched"])
    numbers |= {f"watched {name}": estimate(getattr(shown, name)) for name in ("slope", "correlation")}
    numbers["ratio of means"] = estimate(
        ratio(weights, -changes["simulated"].mean(1), -changes["real"].mean(1))
    )
    slope = numbers["slope"]
    verdict = "within" if ACCEPTED[0] <= slope.value <= ACCEPTED[1] else "outside"
    text = f"Deleting a hazard changes the risk of death by {_points(numbers['real'])} in the game and "
    text += f"{_points(numbers['simulated'])} in the simulator; "
    text += f"slope {slope}, {verdict} {ACCEPTED[0]}-{ACCEPTED[1]}; correlation {numbers['correlation']}, both free of sampling error."
    lines.append(text)
    text += f" Shown every frame of the game, the simulator foretells a change of {_points(numbers['watched'])}; slope {numbers['watched slope']}, "
    text += f"correlation {numbers['watched correlation']}: what it knows of hazards, whatever its own pictures keep of them."
    lines.append(text.removeprefix(lines[-1]).strip())
    page.heading("Does deleting a hazard save the agent?")
    page.text(text)
    page.picture(
        draw_hazards(found, changes, fitted, out / "hazards"),
        "Each point is one fork point with a hazard 2-6 tiles ahead.",
    )
    rows = [
        [name, *(f"{numbers[f'{world}/{arm}']}" for arm in ("intact", "deleted")), str(numbers[world])]
        for world, name in WORLDS.items()
    ]
    page.table(["risk of death", "hazard there", "hazard deleted", "change"], rows)
    share = numbers["reliability"]
    page.text(
        f"Risks of single fork points are means over {changes['real'].shape[1]} noise draws; {share} of the variance of the real changes is theirs and "
        f"not the draws' (taken out of slope and correlation). Mean change in the simulator over that in the game: {numbers['ratio of means']}.",
        note=True,
    )
    note = "What both worlds begin with: the hazard is gone from all frames the simulator is given."
    page.picture(draw_deletions(found, changes, out / "deletions"), note)
    return {name: list(value) for name, value in numbers.items()}


def _points(change: Estimate) -> str:
    return f"{100 * change.value:+.0f} points [{100 * change.low:+.0f}, {100 * change.high:+.0f}]"


def _effects(page: Page, holds: dict[int, dict], about: dict, lines: list[str], out: Path) -> dict:
    page.heading("Does each action do the same?")
    summary = {}
    rows = []
    for hold, found in holds.items():
        weights = level_weights(found["layout"])
        found_match = FrameMatch(found["error"], found["same"], found["nearest"])
        right, chance = (estimate(draws) for draws in matching_accuracy(found_match, found["ended"], weights))
        better = estimate(psnr_margin(found_match, found["ended"], weights))
        slope, correlation = (estimate(draws) for draws in effect_regression(found["products"], weights))
        summary[hold] = {
            "accuracy": list(right),
            "chance": list(chance),
            "slope": list(slope),
            "correlation": list(correlation),
        }
        summary[hold]["dPSNR"] = list(better)
        rows.append([hold, right, chance, better, slope, correlation, len(found["ended"])])
        lines.append(
            f"Action held {hold} steps: the nearest real frame is that of the same action in {right} (by chance {chance})."
        )
    header = [
        "steps held",
        "nearest real frame is the same action's",
        "by chance",
        "dPSNR (dB)",
        "slope of the effect on the picture",
        "correlation",
    ]
    page.table([*header, "fork points"], rows)
    page.picture(
        draw_effects(holds, _class_names(about, holds), out / "effects"),
        "From every fork point every effect class is tried in both worlds; each simulated frame is matched with the real frames of all classes.",
    )
    return summary


def _closed_loop(page: Page, found: dict, about: dict, lines: list[str], out: Path) -> dict:
    page.heading("Does the agent live the same life?")
    weights = level_weights(found["layout"])
    worlds = {name: runs_of(found, name) for name in ("real", "simulated")}
    words = dict(zip(EVENTS, ("end", *end_words(about["game"]))))
    table = {
        name: {words[event]: estimate(draws) for event, draws in event_rates(runs, weights).items()}
        for name, runs in worlds.items()
    }
    for name, runs in worlds.items():
        table[name]["steps running"] = estimate(restricted_mean_survival(runs, weights))
    rows = [
        [name, *(_percent(table[name][event]) for event in words.values()), str(table[name]["steps running"])]
        for name in worlds
    ]
    page.table(["per step", *words.values(), f"steps running, of {len(found['real/done'])}"], rows)
    null = worlds["real"]._replace(action=found["null/action"], running=found["null/running"])
    same, by_noise = (
        action_agreement(*pair, about["effect_classes"], weights)
        for pair in (worlds.values(), (worlds["real"], null))
    )
    distance, other = hidden_distance(*worlds.values(), weights)
    retraced = float(found["retraced"].mean())
    later = {
        name: action_distribution(runs, about["effect_classes"], weights)[0] for name, runs in worlds.items()
    }
    far = float(0.5 * np.abs(later["real"] - later["simulated"]).sum())
    loss = {name: _percent(row[words["death"]]) for name, row in table.items()}
    text = f"Probability per step of {words['death']}: {loss['real']} in the game, {loss['simulated']} in the simulator."
    lines += [text, f"Forks with the recording's noise take {retraced:.1%} of the recorded actions again."]
    page.text(text)
    names = [about["action_names"][i] for i in np.unique(about["effect_classes"])]
    page.picture(
        draw_closed_loop(found, worlds, null, about["effect_classes"], names, words, out / "closed_loop"),
        f"Single runs are compared for {PAIRED_STEPS} steps; beyond, only distributions.",
    )
    page.text(
        f"The forks themselves are checked: with the recording's noise they take {retraced:.1%} of the recorded actions again. "
        f"Beyond {PAIRED_STEPS} steps the frequencies of effect classes differ by a total variation of {far:.2f}.",
        note=True,
    )
    by_step = {
        "agreement": same,
        "agreement, other fork points": by_noise,
        "hidden distance": distance,
        "hidden distance, other fork points": other,
    }
    return {
        "rates": {name: {event: list(value) for event, value in row.items()} for name, row in table.items()},
        "retraced": retraced,
        "total variation beyond": far,
        **{name: [list(estimate(column)) for column in draws.T] for name, draws in by_step.items()},
    }


def _percent(value: Estimate) -> str:
    return f"{value.value:.1%} [{value.low:.1%}, {value.high:.1%}]"


def _strips(page: Page, found: dict, out: Path) -> None:
    page.heading("One fork point, two worlds")
    cases = strip_cases(found)
    page.picture(
        draw_strips(found, cases, out / "strips"),
        "Chosen by rule: the 10th, 50th and 90th percentile of the squared error over the steps shown, among fork points that still run at the last.",
    )


def _class_names(about: dict, holds: dict[int, dict]) -> list[str]:
    acts = next(iter(holds.values()))["acts"]
    return [about["action_names"][about["effect_classes"][act]] for act in acts]
