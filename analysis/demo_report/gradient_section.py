"""Section of the demo's report: gradient maps of the value, checked by finite differences."""

from collections.abc import Mapping
from pathlib import Path

import numpy as np

from analysis.demo_report.demo_results import DemoResults, mean_in_words
from analysis.demo_report.figures import draw_check, draw_gradient_maps
from analysis.frame_gradients import STEP, VERSION, correlation
from analysis.gradient_check import GREY_BELOW
from analysis.io.steps import find_step, read_numbers, read_part
from analysis.plotting.page import Page
from analysis.plotting.style import REAL, SIMULATED

PERCENTILES = {"90th percentile": 0.9, "median": 0.5, "10th percentile": 0.1}


def add_gradients(page: Page, results: DemoResults, out: Path) -> None:
    """Gradient maps of three frames, and their agreement with finite differences."""
    directory = find_step(results.artefacts, STEP, VERSION, "python -m analysis.frame_gradients --help")
    arrays = read_part(directory, "gradients")
    numbers = read_numbers(directory)
    levels = arrays["level"]
    n = f"n = {len(levels)} frames, one per level, levels {levels.min():,}-{levels.max():,}"
    page.text(
        "Gradient of the agent's value with respect to each pixel: of the frame it sees, and of the last "
        f"frame given to the simulator, for the value {numbers['steps']} steps later along the recorded "
        "actions. Controls: the same network with untrained weights, and finite differences (patches made "
        "brighter and darker)."
    )
    grey = {route for route in ("agent", "simulator") if not check_supports(numbers[f"check/{route}"])}
    maps = draw_gradient_maps(arrays, frames_by_rule(arrays), grey, out / "gradients")
    page.picture(
        maps,
        "Norm of the value's gradient at each pixel, averaged over 3 x 3 pixels, each map on its own scale. "
        "Rows: percentiles of the agreement with finite differences on the agent's route. Grey: agreement "
        f"below {GREY_BELOW}, so that the map supports no claim. {n}.",
    )
    page.row(_check_figures(arrays, numbers, n, out))
    _add_agreement(page, numbers, len(levels))


def frames_by_rule(arrays: Mapping[str, np.ndarray]) -> dict[str, int]:
    """{percentile: frame} by the agreement of the agent's gradient with finite differences."""
    agreement = np.nan_to_num(correlation(arrays["predicted/agent"], arrays["measured/agent"]), nan=-2)
    order = np.argsort(agreement, kind="stable")
    return {name: int(order[round(q * (len(order) - 1))]) for name, q in PERCENTILES.items()}


def check_supports(check: dict | None) -> bool:
    """Whether a route's gradients agree with finite differences well enough for a figure in colour."""
    return check is not None and check["mean"] >= GREY_BELOW and (check["low"] or 0) > 0


def _check_figures(
    arrays: Mapping[str, np.ndarray], numbers: dict, n: str, out: Path
) -> list[tuple[Path, str]]:
    simulator = f"through the simulator, {numbers['steps']} steps, {numbers['draws']} rollouts"
    routes = {"agent": ("the agent on the real frame", REAL), "simulator": (simulator, SIMULATED)}
    figures = []
    for route, (words, look) in routes.items():
        path = draw_check(
            arrays[f"predicted/{route}"], arrays[f"measured/{route}"], look, out / f"check_{route}"
        )
        caption = (
            f"Change of the value, {words}: one point per patch ({numbers['patches']} per frame); "
            f"correlation within a frame {mean_in_words(numbers[f'check/{route}'])}. {n}."
        )
        figures.append((path, caption))
    return figures


def _add_agreement(page: Page, numbers: dict, count: int) -> None:
    rows = {
        "gradient and finite difference: agent": "check/agent",
        "gradient and finite difference: simulator": "check/simulator",
        "map: agent and untrained weights (rank, 8 x 8 pixels)": "like untrained",
        "map: agent and simulator (rank, 8 x 8 pixels)": "like the simulator's",
    }
    table = [[words, mean_in_words(numbers[key]), count] for words, key in rows.items()]
    page.table(["mean over frames", "correlation", "n"], table)
    page.text(
        "What a map shares with that of untrained weights, mostly edges and the centre of the frame, is not "
        "an effect of training.",
        note=True,
    )
