"""What gradients through the environment add to saliency maps: the maps by path, compared."""

import numpy as np

from common.stats import FEWEST_CLUSTERS, json_mean
from common.words import counted, with_interval
from interpret.attribution.saliency_store import SaliencyStore
from interpret.attribution.trace_gradients import PATHS


def whole_functions(store: SaliencyStore) -> list[str]:
    """Functions without the parts of their gradients."""
    return [name for name in store.functions if "@" not in name]


def held_map(store: SaliencyStore, sample: int, function: str) -> np.ndarray:
    """The map [S, H, W] without gradients from actions to the environment: agent and environment path."""
    return store.map(sample, f"{function}@agent") + store.map(sample, f"{function}@environment")


def map_cosine(one: np.ndarray, other: np.ndarray) -> float:
    """Cosine between two maps of the same shape; NaN where one is zero."""
    size = np.linalg.norm(one) * np.linalg.norm(other)
    return float((one * other).sum() / size) if size else np.nan


def compare_paths(store: SaliencyStore) -> dict[str, dict]:
    """By function: the cosine between the maps with and without gradients from actions to the environment,
    and the share of each path in the sum of their norms; means over samples with intervals by level.
    """
    level = np.array(store.facts["source"]["level"])
    return {name: _compare(store, name, level) for name in whole_functions(store)}


def _compare(store: SaliencyStore, function: str, level: np.ndarray) -> dict:
    rows = []
    for sample in store.samples:
        whole, held = store.map(sample, function), held_map(store, sample, function)
        norms = np.array([np.linalg.norm(store.map(sample, f"{function}@{path}")) for path in PATHS])
        rows.append([map_cosine(whole, held), *norms / (norms.sum() or np.nan)])
    names = ("cosine", *(f"share of the {path} path" for path in PATHS))
    return {name: json_mean(column, level) for name, column in zip(names, np.array(rows).T)}


def describe_comparison(numbers: dict) -> str:
    """One function's comparison in words; frames have no environment path."""
    cosine = numbers["cosine"]
    if cosine is None:
        return "no cosine, as in every sample the map with or that without gradients through actions is zero"
    shares = {path: numbers[f"share of the {path} path"]["mean"] for path in ("agent", "mixed")}
    parts = ", ".join(f"{path} {share:.0%}" for path, share in shares.items())
    n = f"{counted(cosine['n'], 'sample')} of {counted(cosine['clusters'], 'level')}"
    about = f"95%, {n}" if cosine["clusters"] >= FEWEST_CLUSTERS else n
    mean = with_interval(cosine["mean"], cosine["low"], cosine["high"])
    return (
        f"cosine {mean} ({about}) between the maps with and without gradients from actions to the "
        f"environment; norm by path: {parts}"
    )
