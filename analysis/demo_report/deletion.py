"""One object deleted in the game and in the simulator, for the demo's report: from the artefacts of
analysis/real_check.py."""

from collections.abc import Mapping
from pathlib import Path

import numpy as np

from analysis.demo_report.demo_results import Artefacts
from analysis.demo_report.figures import draw_deletion_lines, draw_deletion_strip
from analysis.game_check.real_check_figures import draw_hazards
from analysis.game_check.real_check_page import WORLDS, deletion_effects, runs_of
from analysis.io.artefacts import counts_and_levels
from analysis.io.steps import read_part
from analysis.plotting.page import Page
from common.runs import UsageError
from common.stats import Estimate, estimate, level_weights, mean
from interpret.errors_in_variables import Line, fit_line
from interpret.forks.two_worlds import events

Arrays = Mapping[str, np.ndarray]
FEWEST_FOR_SLOPE = 30
"""Fork points. With fewer, the bootstrap's interval of a slope is too narrow."""


def deletions(page: Page, made: Artefacts, out: Path) -> None:
    """The section of the report."""
    if made.env_name != "coinrun":
        return page.text(
            "Left out: objects can be deleted in CoinRun alone, whose states can be read and written."
        )
    found = read_part(newest_check(made.results), "hazards")
    changes = deletion_effects(found)
    weights = level_weights(found["layout"])
    fitted = fit_line(weights, changes["real"], changes["simulated"])
    _table(page, found, changes, weights, fitted)
    _one_fork_point(page, found, clearest(found, changes["real"]), out)
    where = "n = {}, levels {}".format(*counts_and_levels(found))
    page.picture(
        draw_hazards(found, changes, fitted, out / "hazards"),
        f"All fork points: what deletion changes in both worlds. {where}.",
    )


def newest_check(results: Path) -> Path:
    """The directory of the check against the game that was finished last. Raises UsageError where there is
    none."""
    finished = list((results / "real_check_precomp").glob("*/done.json"))
    if not finished:
        raise UsageError(
            f"no finished check in {results / 'real_check_precomp'}; run the demo again, which makes one"
        )
    return max(finished, key=lambda path: path.stat().st_mtime).parent


def clearest(found: Arrays, change: np.ndarray) -> int:
    """The fork point where deletion lowers the risk most in the game (change [M, D]); among equals, where it
    raises the value most at once."""
    gain = value_change(found, "real")
    return int(np.lexsort((-gain, change.mean(1)))[0])


def value_change(found: Arrays, world: str) -> np.ndarray:
    """[M]: the value of the first frame without the hazard less that with it, before anything has
    happened."""
    there, deleted = (
        found[f"{world}/{arm}/value"][0].mean(1, dtype=np.float64) for arm in ("intact", "deleted")
    )
    return deleted - there


def _table(page: Page, found: Arrays, changes: Arrays, weights: np.ndarray, fitted: Line) -> None:
    steps, draws, (n, levels) = (
        len(found["real/intact/done"]),
        changes["real"].shape[1],
        counts_and_levels(found),
    )
    page.text(
        "At fork points with a hazard 2-6 tiles ahead, the hazard is deleted from the game's state, and from "
        "all frames that the "
        f"simulator is given. The agent plays on for {steps} steps in both worlds, {draws} noise draws "
        f"each, the same in worlds "
        "and arms. Shown the game's frames, the simulator predicts the outcome of each action and draws "
        "nothing."
    )
    rows = []
    for world, name in WORLDS.items():
        risks = [
            estimate(mean(weights, changes[key].mean(1)))
            for key in (f"{world}/intact", f"{world}/deleted", world)
        ]
        value = (
            "as in the game"
            if world == "watched"
            else str(estimate(mean(weights, value_change(found, world))))
        )
        rows.append([name, percent(risks[0]), percent(risks[1]), percent(risks[2], "+"), value])
    page.table(
        [
            f"risk of death within {steps} steps",
            "hazard there",
            "deleted",
            "change",
            "change of the value at once",
        ],
        rows,
    )
    page.text(f"{slope_sentence(fitted, len(found['level']))} n = {n}, levels {levels}.", note=True)


def slope_sentence(fitted: Line, points: int) -> str:
    """The slope of the simulated on the real change with its interval, or that there are too few fork points for
    one.
    """
    if points < FEWEST_FOR_SLOPE:
        return (
            f"{points} fork points are too few for the slope of the simulated on the real change (from "
            f"{FEWEST_FOR_SLOPE} on): python -m analysis.real_check takes more."
        )
    return f"Slope of the simulated on the real change: {estimate(fitted.slope)}; correlation {estimate(fitted.correlation)}."


def percent(value: Estimate, sign: str = "") -> str:
    """An estimate of a share as whole percents with its interval."""
    return "{0:{3}.0f}% [{1:{3}.0f}, {2:{3}.0f}]".format(*(100 * x for x in value), sign)


def _one_fork_point(page: Page, found: Arrays, point: int, out: Path) -> None:
    level = found["level"][point]
    step = found["step"][point]
    draws = found["real/intact/done"].shape[2]
    which = f"Level {level}, step {step}"
    rule = "chosen by rule: where deletion lowers the risk most in the game, and among equals raises the value most"
    strip = draw_deletion_strip(found, point, out / "deletion")
    page.picture(
        strip,
        f"One fork point with its hazard and without, the first noise draw. {which}, 1 of n = "
        f"{len(found['level'])} fork points; {rule}.",
    )
    runs = {
        f"{world}/{arm}": runs_of(found, f"{world}/{arm}")
        for world in ("real", "simulated")
        for arm in ("intact", "deleted")
    }
    risk = {name: events(some)["death"][:, point].mean(1).cumsum() for name, some in runs.items()}
    value = {name: running_mean(some.value[:, point], some.running[:, point]) for name, some in runs.items()}
    drawn = [
        (draw_deletion_lines(risk, "risk of death so far", out / "deletion_risk"), "risk of death"),
        (
            draw_deletion_lines(value, "value (the agent's units)", out / "deletion_value"),
            "the agent's value, mean of the draws that still run",
        ),
    ]
    page.row(
        [
            (path, f"The same fork point: {what}. n = {draws} noise draws; level {level}.")
            for path, what in drawn
        ]
    )


def running_mean(values: np.ndarray, running: np.ndarray) -> np.ndarray:
    """Mean [T] over draws of values [T, D] where running [T, D]; NaN where none runs."""
    count = running.sum(1)
    return np.divide((values * running).sum(1), count, out=np.full(len(values), np.nan), where=count > 0)
