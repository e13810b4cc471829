"""Section of the demo's report: a direction of the hidden state pushed in the game and in the simulator."""

from pathlib import Path

from analysis.demo_report.commands import HYPOTHESIS
from analysis.demo_report.demo_results import DemoResults, latest_finished
from analysis.io.steps import read_numbers
from analysis.plotting.page import Page
from common.words import counted
from interpret.interventions.hypothesis import read_hypothesis

EVENTS = {"death": "death", "jump": "share of jumps", "left": "share of steps to the left"}


def add_push(page: Page, results: DemoResults, out: Path) -> None:
    """What a registered hypothesis says, the changes under its edit at a few states, a strip and a video."""
    if results.env_name != "coinrun":
        return page.text("Left out: the hypotheses and their directions are those of the shipped agent.")
    directory = latest_finished(results.artefacts / "interventions_clips_precomp")
    numbers = read_numbers(directory)
    page.text(
        f"A registered hypothesis: \u201c{read_hypothesis(HYPOTHESIS).sentence}\u201d. From the same states "
        f"with the same noise the agent plays {numbers['asked']['steps']} steps with its hidden state pushed "
        "along the direction, and without."
    )
    worlds = list(numbers["effects"])
    page.table(["change under the push", *worlds], [row(numbers, event) for event in EVENTS])
    first, last = numbers["levels"]
    n = f"n = {counted(numbers['forks'], 'state')} on {counted(numbers['layouts'], 'layout')}"
    page.text(f"{n}, levels {first:,}-{last:,}. {caution(numbers)}", note=True)
    choice, clip = next(iter(numbers["clips"].items()))
    caption = (
        f"Level {clip['level']}, step {clip['step']}: of {counted(numbers['forks'], 'state')} the one where "
        "the two runs depart most in the game."
    )
    page.picture(directory / f"intervention_{choice}.png", caption)
    page.clips([(directory / f"{choice}.mp4", f"The same. {n}.")])


def row(numbers: dict, event: str) -> list[str]:
    """Change of one event in every world, in points, with its interval where there is one."""
    return [EVENTS[event], *(points(found[event]["change"]) for found in numbers["effects"].values())]


def points(change: list) -> str:
    """Percentage points with their interval, "+3 [-1, +7]"."""
    value, low, high = (None if x is None or x != x else 100 * x for x in change)
    return f"{value:+.0f}" if low is None else f"{value:+.0f} [{low:+.0f}, {high:+.0f}]"


def caution(numbers: dict) -> str:
    """What so few states cannot say."""
    words = sorted({found["verdict"] for world in numbers["effects"].values() for found in world.values()})
    few = "Too few states to say whether there is an effect"
    why = few if words == ["too few to say"] else "No null edits were played"
    return f"{why}: confirm.py tests the hypothesis, with nulls, at n = {read_hypothesis(HYPOTHESIS).n:,}."
