"""Section of the demo's report: saliency maps through the simulator."""

from pathlib import Path

import numpy as np

from analysis.demo_report.demo_results import SALIENCY, DemoResults, mean_in_words
from analysis.io.steps import LATEST
from analysis.plotting.page import Page
from common.descriptions import read_json
from common.stats import FEWEST_CLUSTERS, NO_INTERVALS
from interpret.attribution.env_gradients import held_map
from interpret.attribution.saliency_store import SaliencyStore

FUNCTION = "value"
NUMBERS = "env_gradients.json"
COLUMNS = ("cosine", "share of the agent path", "share of the mixed path")


def add_saliency(page: Page, results: DemoResults, out: Path) -> None:
    """Maps of two samples with and without gradients through actions, and a link to the panel of all."""
    directory = results.artefacts / SALIENCY / LATEST
    store = SaliencyStore.open(directory)
    levels = np.array(store.facts["source"]["level"])
    n = (
        f"n = {len(levels)} simulated samples on {len(np.unique(levels))} levels, {levels.min():,}-"
        f"{levels.max():,}, one draw each"
    )
    page.text(
        f"Gradient of the agent's value at step {store.facts['step']} of a simulated episode with respect to "
        "every earlier frame. An earlier frame matters through the agent's memory and, if gradients pass "
        "through the choice of actions, through what the agent does and then sees; the difference of the two "
        "maps is the part through actions."
    )
    for rule, sample in samples_by_rule(store).items():
        strip = directory / "demo_with_without_env_grads" / f"sample_{sample:05d}_{FUNCTION}.png"
        page.picture(
            strip,
            f"Sample {sample}, with the {rule} cosine between both maps. Blue: a brighter pixel raises the "
            f"value; red: it lowers it. {n}.",
        )
    _add_agreement(page, directory, n)
    page.link(results.panel.name, "Look through all samples: maps, hidden states and filters.")


def samples_by_rule(store: SaliencyStore) -> dict[str, int]:
    """{rule: sample} by the cosine between the maps with and without gradients through actions.

    A sample without a map of either kind counts as 1: nothing goes through actions.
    """
    cosines = [_cosine(store.map(one, FUNCTION), held_map(store, one, FUNCTION)) for one in store.samples]
    order = np.argsort(cosines, kind="stable")
    return {"median": store.samples[order[len(order) // 2]], "lowest": store.samples[order[0]]}


def _cosine(a: np.ndarray, b: np.ndarray) -> float:
    size = np.linalg.norm(a) * np.linalg.norm(b)
    return float((a * b).sum() / size) if size else 1.0


def _add_agreement(page: Page, directory: Path, n: str) -> None:
    found = read_json(directory / NUMBERS, "run the demo again")
    rows = [
        [function, *(mean_in_words(numbers[column], 3) for column in COLUMNS)]
        for function, numbers in found.items()
    ]
    known = [one for numbers in found.values() for one in numbers.values() if one]
    few = any(one["clusters"] < FEWEST_CLUSTERS for one in known)
    about = NO_INTERVALS if few else "intervals resample levels"
    page.table(["function", "cosine of both maps", "norm through memory", "norm through actions"], rows)
    page.text(
        f"{n}; {about}. The part through actions is an estimate that passes the choice of an "
        "action straight through, and the maps say what infinitesimal changes of pixels would do in the "
        "simulator: they do not say which object the agent uses, and so few samples show no rare case.",
        note=True,
    )
