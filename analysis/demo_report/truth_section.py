"""Section of the demo's report: saliency maps against the deletion of objects in the real game."""

from pathlib import Path

from analysis.demo_report.demo_results import DemoResults, score_in_words
from analysis.game_check.saliency_figures import NAMES, draw_leaderboard
from analysis.io.steps import find_step, read_numbers, read_part
from analysis.plotting.page import Page
from analysis.saliency_truth_precompute import COMMAND, STEP, VERSION
from interpret.attribution.leaderboard import Benchmark

KEYS = {"value/value": "value", "action/action": "action"}
CONTROLS = ("edges", "centre_prior")


def add_saliency_truth(page: Page, results: DemoResults, out: Path) -> None:
    """The leaderboard of methods and of maps that do not look at the agent."""
    if results.env_name != "coinrun":
        return page.text(
            "Left out: objects can be deleted in CoinRun only, whose states can be read and edited."
        )
    directory = find_step(results.artefacts, STEP, VERSION, COMMAND)
    numbers = read_numbers(directory)
    page.text(
        "At recorded states each object is deleted from the game's state, and the agent sees the frame "
        "without it. A map is right to the extent that it puts more on the objects whose deletion changes "
        "the agent more: rank correlation over the objects of a state, mean over states."
    )
    picture = draw_leaderboard(
        numbers,
        Benchmark.open(directory / "benchmark"),
        read_part(directory, "maps_real"),
        out / "saliency_truth",
    )
    page.picture(picture, f"All methods and controls, and three states. {_n(numbers)}.")
    page.table(["map", *(f"of the {words}" for words in KEYS.values())], leaderboard_rows(numbers))
    page.text(f"{_n(numbers)}; intervals resample layouts. {verdict(numbers)}", note=True)


def _n(numbers: dict) -> str:
    first, last = numbers["levels"]
    return (
        f"n = {numbers['states']} states on {numbers['layouts']} layouts, {numbers['objects']} objects, "
        f"levels {first:,}-{last:,}"
    )


def leaderboard_rows(numbers: dict) -> list[list[str]]:
    """Correlations of all methods, the best for the value first, then of the controls."""
    real, controls = numbers["scores"]["real"], numbers["controls"]
    value, action = (real[key] for key in KEYS)
    order = sorted(action, key=lambda name: -(value if name in value else action)[name]["spearman"]["value"])
    rows = [[NAMES[name], *(_score(scores.get(name)) for scores in (value, action))] for name in order]
    for name in CONTROLS:
        rows.append([f"control: {NAMES[name]}", *(_score(controls[what][name]) for what in KEYS.values())])
    return rows


def _score(row: dict | None) -> str:
    return score_in_words(row["spearman"]) if row else ""


def verdict(numbers: dict) -> str:
    """Which methods are surely above an edge detector, and what so few states cannot show."""
    above = {
        f"{NAMES[name]} (of the {words})"
        for key, words in KEYS.items()
        for name, row in numbers["scores"]["real"][key].items()
        if (row["above_edges"]["low"] or 0) > 0
    }
    found = "No method is above edges with an interval above 0."
    if above:
        found = (
            f"Above edges with an interval above 0: {', '.join(sorted(above))}; among this many methods one "
            "such interval can be luck."
        )
    return (
        f"{found} So few states, with coarse maps, do not rank methods: the documentation's saliency "
        "benchmark has 256, with finer ones."
    )
