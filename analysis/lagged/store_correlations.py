"""Lagged correlations of direction scores over a store: of all episodes, and of each cluster of them, as
arrays and numbers of an artefact.
"""

from pathlib import Path

import numpy as np

from analysis.io.steps import read_numbers, read_part
from analysis.maps.step_fields import scores
from common.runs import UsageError
from interpret.directions.directions import Directions
from interpret.lagged import FEWEST_EPISODES, NULLS, Lagged, discoveries
from rollouts.store import Rollouts

NAME = "xcorr"
VERSION = 1
COMMAND = "python analysis/xcorr_and_xcaus_precompute.py --directions FILE --data_dir STORE"
ALL = "all"
_SHORT = {"hidden_after": "agent", "env_state": "env"}


def joint_scores(
    rollouts: Rollouts, kept: np.ndarray, fields: dict[str, Directions]
) -> tuple[np.ndarray, list[str]]:
    """Scores [n, K] at the kept steps of every field's directions, side by side, and their names. fields: by
    the field that each reads.
    """
    names = [
        name if len(fields) == 1 else f"{_SHORT[field]} {name}"
        for field, found in fields.items()
        for name in found.names
    ]
    return np.concatenate([scores(rollouts, field, found, kept) for field, found in fields.items()], 1), names


def members(rollouts: Rollouts, kept: np.ndarray, clusters_dir: Path | None) -> dict[str, np.ndarray]:
    """{set: [n] bool}: of the kept steps, all, and those of the episodes of each cluster.

    clusters_dir: a finished step of analysis/maps/simulated_state_maps.py, whose part `behaviours` says the commonest
    cluster of each episode. Raises UsageError for clusters of another store.
    """
    episode = rollouts.step_table()[kept, 0]
    sets = {ALL: np.ones(len(episode), bool)}
    if clusters_dir is None:
        return sets
    found = read_part(clusters_dir, "behaviours")
    about = read_numbers(clusters_dir)
    if about["store"] != rollouts.id:
        raise UsageError(
            f"{clusters_dir} holds clusters of another store than {rollouts.path}: give those of this one"
        )
    label = np.full(len(rollouts), -1)
    label[found["episode"]] = found["cluster"]
    return sets | {f"cluster {c}": label[episode] == c for c in range(about["clusters"])}


def large_enough(sets: dict[str, np.ndarray], episode: np.ndarray) -> tuple[dict[str, np.ndarray], list[str]]:
    """The sets that have FEWEST_EPISODES episodes, and the names of the others. episode [n]: of each step."""
    enough = {
        name: name == ALL or len(np.unique(episode[member])) >= FEWEST_EPISODES
        for name, member in sets.items()
    }
    return {name: sets[name] for name in sets if enough[name]}, [name for name in sets if not enough[name]]


def as_arrays(found: Lagged) -> dict[str, np.ndarray]:
    by_null = {
        f"{kind}/{null}": array for kind in ("mean", "std") for null, array in getattr(found, kind).items()
    }
    return {
        "correlation": found.correlation,
        "pairs": found.pairs,
        "p": found.p,
        "episodes": np.array(found.episodes),
    } | by_null


def from_arrays(arrays: dict[str, np.ndarray]) -> Lagged:
    mean, std = (
        {null: arrays[f"{kind}/{null}"] for null in NULLS if f"{kind}/{null}" in arrays}
        for kind in ("mean", "std")
    )
    return Lagged(arrays["correlation"], arrays["pairs"], int(arrays["episodes"]), mean, std, arrays["p"])


def with_significance(sets: dict[str, Lagged], rate: float) -> dict[str, np.ndarray]:
    """{set: [L + 1, K, K] bool}: what stands, at a false discovery rate over all sets, lags and pairs
    together.
    """
    stands = discoveries(np.stack([found.p for found in sets.values()]), rate)
    return dict(zip(sets, stands))


def summary(sets: dict[str, Lagged], stands: dict[str, np.ndarray], names: list[str]) -> dict:
    """Of each set: how much of it stands, and the largest correlation that does."""
    rows = {}
    for name, found in sets.items():
        tests = np.isfinite(found.p)
        rows[name] = {
            "episodes": found.episodes,
            "pairs": found.pairs.tolist(),
            "tests": int(tests.sum()),
            "stand": int(stands[name].sum()),
        }
        if stands[name].any():
            lag, i, j = np.unravel_index(
                np.where(stands[name], np.abs(found.correlation), -1).argmax(), stands[name].shape
            )
            rows[name]["largest"] = {
                "earlier": names[i],
                "later": names[j],
                "lag": int(lag),
                "correlation": float(found.correlation[lag, i, j]),
            }
    return rows
