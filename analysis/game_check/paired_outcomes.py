"""Section of the real check's page on paired runs: events by step, times to events, equal outcomes."""

import numpy as np

from analysis.plotting.page import Page
from common.stats import Estimate, estimates
from interpret.forks.paired_outcomes import (
    OUTCOMES,
    equal_outcomes,
    mismatched_outcomes,
    outcome_table,
    rate_ratios,
    rates_by_step,
    time_to_event,
)
from interpret.forks.world_comparison import Runs, cumulative_incidence

SHOWN_STEPS = (1, 2, 4, 8, 12, 16, 24)
Worlds = dict[str, Runs]


def paired_outcomes(page: Page, worlds: Worlds, event_names: dict[str, str], weights: np.ndarray) -> dict:
    """Writes the tables; returns their numbers, each as value, low and high.

    Args:
        page: to write to.
        worlds: runs in the game and in the simulator.
        event_names: what each event is called in this game.
        weights: bootstrap weights of the fork points [R, M].
    """
    names = event_names | {"none": "none"}
    numbers = outcome_numbers(worlds, names, weights)
    runs = f"{numbers['runs']:,} paired runs"
    _by_step_table(page, numbers["by step"], f"{runs}: share that has ended in this way by step")
    _times_table(page, numbers)
    table = np.array(numbers["outcomes"])[..., 0]
    header = [f"{runs}: in the game, in the simulator", *(names[outcome] for outcome in OUTCOMES)]
    page.table(header, [[names[o], *(f"{share:.1%}" for share in row)] for o, row in zip(OUTCOMES, table)])
    page.text(
        f"The outcome is the same in {_percent(numbers['equal outcomes'])} of the paired runs; with another "
        f"fork point's run in {_percent(numbers['equal outcomes, other fork points'])}.",
    )
    return numbers


def outcome_numbers(worlds: Worlds, names: dict[str, str], weights: np.ndarray) -> dict:
    """The numbers of the section, with `names` of events and outcomes."""
    pair = tuple(worlds.values())
    times = {world: time_to_event(runs, weights) for world, runs in worlds.items()}
    later = {event: times["simulated"][event] - times["real"][event] for event in times["real"]}
    return {
        "runs": int(pair[0].done[0].size),
        "ratios": {names[event]: estimates(x) for event, x in rate_ratios(*pair, weights).items()},
        "rates by step": {
            world: {names[o]: estimates(x) for o, x in rates_by_step(runs, weights).items()}
            for world, runs in worlds.items()
        },
        "by step": {world: _shares_by_step(runs, names, weights) for world, runs in worlds.items()},
        "time to event": {
            world: {names[event]: estimates(x) for event, x in found.items()}
            for world, found in (times | {"difference": later}).items()
        },
        "outcomes": estimates(outcome_table(*pair, weights)),
        "equal outcomes": estimates(equal_outcomes(*pair, weights)),
        "equal outcomes, other fork points": estimates(mismatched_outcomes(*pair, weights)),
    }


def _shares_by_step(runs: Runs, names: dict[str, str], weights: np.ndarray) -> dict[str, list]:
    """Share of runs that has ended in each way by each step, and that has not."""
    shares = cumulative_incidence(runs, weights)
    ended = {names[event]: estimates(shares[event]) for event in ("death", "coin")}
    return ended | {names["none"]: estimates(1 - shares["end"])}


def _by_step_table(page: Page, by_step: dict, title: str) -> None:
    total = len(next(iter(by_step["real"].values())))
    steps = [s for s in SHOWN_STEPS if s <= total]
    rows = [
        [f"{outcome}, {world}", *(_percent(shares[s - 1]) for s in steps)]
        for outcome in by_step["real"]
        for world, shares in ((world, by_step[world][outcome]) for world in by_step)
    ]
    page.table([title, *(str(s) for s in steps)], rows)


def _times_table(page: Page, numbers: dict) -> None:
    times = numbers["time to event"]
    rows = [
        [event, *(str(Estimate(*times[world][event])) for world in times), str(Estimate(*ratio))]
        for event, ratio in numbers["ratios"].items()
        if event in times["real"]
    ]
    page.table(
        ["mean steps to the event, where it happens", *times, "rate per step, simulated over real"], rows
    )


def _percent(value: list[float]) -> str:
    return f"{value[0]:.1%} [{value[1]:.1%}, {value[2]:.1%}]"
