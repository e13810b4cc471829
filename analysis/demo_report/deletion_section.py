"""Section of the demo's report: hazards deleted in the game and in the simulator."""

from collections.abc import Mapping
from pathlib import Path

import numpy as np

from analysis.demo_report.demo_results import DemoResults, latest_finished
from analysis.demo_report.figures import draw_deletion_lines, draw_deletion_strip
from analysis.game_check.death_risk import WORLDS, deletion_effects, runs_of
from analysis.game_check.real_check_figures import draw_hazards
from analysis.io.artefacts import counts_and_levels
from analysis.io.steps import read_part
from analysis.plotting.page import Page
from common.stats import Estimate, estimate, level_weights, mean
from interpret.errors_in_variables import Line, fit_line
from interpret.forks.world_comparison import event_probabilities

Arrays = Mapping[str, np.ndarray]
"""Part `hazards` of analysis/real_check.py: [T, M, D] by step, fork point and noise draw, or [M]."""
FEWEST_FOR_SLOPE = 30
"""Fork points. With fewer, the bootstrap interval of a slope is too narrow."""


def add_deletions(page: Page, results: DemoResults, out: Path) -> None:
    """Risk of death with and without a hazard in both worlds, and one fork point in detail."""
    if results.env_name != "coinrun":
        return page.text(
            "Left out: objects can be deleted in CoinRun only, whose states can be read and edited."
        )
    arrays = read_part(latest_finished(results.artefacts / "real_check_precomp"), "hazards")
    effects = deletion_effects(arrays)
    weights = level_weights(arrays["layout"])
    slope = fit_line(weights, effects["real"], effects["simulated"])
    _add_risks(page, arrays, effects, weights, slope)
    _add_fork_point(page, arrays, clearest(arrays, effects["real"]), out)
    n = "n = {}, levels {}".format(*counts_and_levels(arrays))
    figure = draw_hazards(arrays, effects, slope, out / "hazards")
    page.picture(figure, f"All fork points: effect of deletion in both worlds. {n}.")


def clearest(arrays: Arrays, effect: np.ndarray) -> int:
    """The fork point where deletion lowers the risk most in the game (effect [M, D]).

    Among equals, the one where deletion raises the value of the first frame most.
    """
    return int(np.lexsort((-value_change(arrays, "real"), effect.mean(1)))[0])


def value_change(arrays: Arrays, world: str) -> np.ndarray:
    """[M]: value of the first frame without the hazard minus value with it."""
    intact, deleted = (
        arrays[f"{world}/{arm}/value"][0].mean(1, dtype=np.float64) for arm in ("intact", "deleted")
    )
    return deleted - intact


def _add_risks(page: Page, arrays: Arrays, effects: Arrays, weights: np.ndarray, slope: Line) -> None:
    steps = len(arrays["real/intact/done"])
    draws = effects["real"].shape[1]
    page.text(
        "At fork points with a hazard 2-6 tiles ahead, the hazard is deleted from the game's state and from "
        f"all frames given to the simulator. The agent then plays {steps} steps in both worlds, with {draws} "
        "noise draws each, shared by worlds and arms. Shown the game's frames, the simulator only predicts "
        "the outcome of each action."
    )
    header = [
        f"risk of death within {steps} steps",
        "hazard",
        "deleted",
        "change",
        "immediate change of value",
    ]
    page.table(header, [_risk_row(arrays, effects, weights, world) for world in WORLDS])
    n, levels = counts_and_levels(arrays)
    page.text(f"{slope_sentence(slope, len(arrays['level']))} n = {n}, levels {levels}.", note=True)


def _risk_row(arrays: Arrays, effects: Arrays, weights: np.ndarray, world: str) -> list[str]:
    intact, deleted, change = (
        estimate(mean(weights, effects[key].mean(1)))
        for key in (f"{world}/intact", f"{world}/deleted", world)
    )
    value = "as in the game"
    if world != "watched":
        value = str(estimate(mean(weights, value_change(arrays, world))))
    return [WORLDS[world], percent(intact), percent(deleted), percent(change, "+"), value]


def slope_sentence(slope: Line, points: int) -> str:
    """Slope of the simulated on the real change, or that there are too few fork points for one."""
    if points < FEWEST_FOR_SLOPE:
        return (
            f"{points} fork points are too few for the slope of the simulated on the real change (it takes "
            f"{FEWEST_FOR_SLOPE}); python -m analysis.real_check uses more."
        )
    return (
        f"Slope of the simulated on the real change: {estimate(slope.slope)}; correlation "
        f"{estimate(slope.correlation)}."
    )


def percent(value: Estimate, sign: str = "") -> str:
    """A fraction with its interval in whole percent, "50% [25, 75]"."""
    return "{0:{3}.0f}% [{1:{3}.0f}, {2:{3}.0f}]".format(*(100 * x for x in value), sign)


def _add_fork_point(page: Page, arrays: Arrays, point: int, out: Path) -> None:
    level = arrays["level"][point]
    page.picture(
        draw_deletion_strip(arrays, point, out / "deletion"),
        f"One fork point with its hazard and without, first noise draw. Level {level}, step "
        f"{arrays['step'][point]}, 1 of n = {len(arrays['level'])} fork points, chosen by rule: deletion "
        "lowers the risk most in the game, and among equals raises the value most.",
    )
    risk, value = fork_point_curves(arrays, point)
    draws = arrays["real/intact/done"].shape[2]
    n = f"n = {draws} noise draws; level {level}"
    page.row(
        [
            (
                draw_deletion_lines(risk, "cumulative risk of death", out / "deletion_risk"),
                f"The same fork point: risk of death. {n}.",
            ),
            (
                draw_deletion_lines(value, "value (agent's units)", out / "deletion_value"),
                f"The same fork point: the agent's value, mean over unfinished draws. {n}.",
            ),
        ]
    )


def fork_point_curves(arrays: Arrays, point: int) -> tuple[dict[str, np.ndarray], dict[str, np.ndarray]]:
    """Cumulative risk of death and mean value by step at one fork point: {"real/intact": [T], ...} each."""
    risk = {}
    value = {}
    for world in ("real", "simulated"):
        for arm in ("intact", "deleted"):
            runs = runs_of(arrays, f"{world}/{arm}")
            risk[f"{world}/{arm}"] = event_probabilities(runs)["death"][:, point].mean(1).cumsum()
            value[f"{world}/{arm}"] = running_mean(runs.value[:, point], runs.running[:, point])
    return risk, value


def running_mean(values: np.ndarray, running: np.ndarray) -> np.ndarray:
    """Mean [T] over draws of values [T, D] where running [T, D]; NaN where none runs."""
    count = running.sum(1)
    return np.divide((values * running).sum(1), count, out=np.full(len(values), np.nan), where=count > 0)
