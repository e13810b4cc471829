"""The risk of death with and without a hazard, in the game and in the simulator."""

import numpy as np

from interpret.forks.world_comparison import Runs, event_probabilities

WORLDS = {"real": "game", "simulated": "simulator", "watched": "simulator, teacher-forced by the game"}
"""Worlds in which a hazard is deleted."""
Arrays = dict[str, np.ndarray]


def runs_of(arrays: Arrays, prefix: str) -> Runs:
    """A world's runs in an artefact; a field that was not stored is empty."""
    return Runs(*(arrays.get(f"{prefix}/{name}", np.zeros(0)) for name in Runs._fields))


def death_risk(runs: Runs) -> np.ndarray:
    """Probability [M, D] of death within the horizon."""
    return event_probabilities(runs)["death"].sum(0)


def teacher_forced_risk(runs: Runs) -> np.ndarray:
    """Expected number of deaths [M, D] over the steps that a run of the game took; may exceed 1.

    Whether a step is reached is known from the game, not predicted.
    """
    return (runs.done * (1 - runs.coin) * runs.running).astype(np.float64).sum(0)


RISKS = {"real": death_risk, "simulated": death_risk, "watched": teacher_forced_risk}


def deletion_effects(arrays: Arrays) -> Arrays:
    """Death risks [M, D] by world and arm, as "real/intact", and the change by deletion, as "real"."""
    risks = {
        f"{world}/{arm}": RISKS[world](runs_of(arrays, f"{world}/{arm}"))
        for world in WORLDS
        for arm in ("intact", "deleted")
    }
    return risks | {world: risks[f"{world}/deleted"] - risks[f"{world}/intact"] for world in WORLDS}
