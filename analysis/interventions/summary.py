"""Numbers of an experiment: effects with intervals, nulls, manifold checks, causes of death, and how well the
simulator predicts the game.
"""

from collections.abc import Mapping

import numpy as np

from common.stats import estimates, level_weights, mean
from interpret.forks.paired_outcomes import OUTCOMES
from interpret.interventions.arms import FAMILIES, JUDGED_BY
from interpret.interventions.effects import EVENTS, effect_summary, null_test, paired_difference, verdict
from interpret.interventions.manifold import RealStates, manifold_checks

STEP = "interventions"
VERSION = 2
COMMAND = "python -m analysis.interventions_precompute"
TESTED_OUTCOMES = ("death", "coin")

Arrays = dict[str, np.ndarray]


def summarize_world(parts: Mapping[str, Arrays], layouts: np.ndarray, real: RealStates) -> dict:
    """Numbers of one world.

    Args:
        parts: `control`, `tested` and the families of nulls, as analysis.interventions.experiment plays them.
        layouts: [M], of the fork points.
        real: where real states lie.
    """
    weights = level_weights(layouts)
    control, tested = parts["control"], parts["tested"]
    effects = [effect_summary(one, control["outcomes"], weights) for one in tested["outcomes"]]
    full = effects[full_strength(tested)]
    nulls = {family: null_effects(parts[family], control) for family in FAMILIES if family in parts}
    tests = {
        family: {
            name: null_test(full[name].value, column) for name, column in zip(EVENTS, found.T) if len(found)
        }
        for family, found in nulls.items()
    }
    return {
        "control": dict(zip(EVENTS, estimates(np.stack([mean(weights, x) for x in control["outcomes"]], 1)))),
        "strengths": [
            {
                "strength": float(strength),
                "effects": {name: list(one) for name, one in found.items()},
                "manifold": _manifold(real, control, tested, i),
            }
            for i, (strength, found) in enumerate(zip(tested["strength"], effects))
        ],
        "nulls": {
            family: {
                "effects": {name: found[:, k].tolist() for k, name in enumerate(EVENTS)},
                "matched": float(parts[family]["matched"].mean()),
                "tests": {name: one._asdict() for name, one in tests[family].items()},
            }
            for family, found in nulls.items()
        },
        "verdicts": {
            name: verdict(
                full[name],
                {family: found[name] for family, found in tests.items() if found},
                len(np.unique(layouts)),
            )
            for name in TESTED_OUTCOMES
        },
    }


def full_strength(tested: Arrays) -> int:
    """Index of the tested arm at its own strength, which nulls are matched to."""
    return int(np.flatnonzero(tested["strength"] == 1)[0])


def null_effects(part: Arrays, control: Arrays) -> np.ndarray:
    """Effects [K, 5] of the null arms that were matched."""
    change = part["outcomes"][part["matched"]] - control["outcomes"]
    return change.mean(-1)


def _manifold(real: RealStates, control: Arrays, tested: Arrays, i: int) -> dict:
    arm, base = (hidden[1:].reshape(len(hidden) - 1, -1, hidden.shape[-1]) for hidden in (
        tested["hidden"][i], control["hidden"],
    ))  # fmt: skip
    running = (tested["running"][i] & control["running"]).reshape(len(arm), -1)
    return manifold_checks(real, arm, base, running)


def summarize_causes(causes: Mapping[str, list[str]], points: int, layouts: np.ndarray) -> dict:
    """Change of the probability of each cause of death, arm minus control, with its interval by layout.

    causes: of the runs of each arm, `control` and `tested`, [M * D] in order of fork points; "" for no death.
    """
    weights = level_weights(layouts)
    by_arm = {name: np.array(found).reshape(points, -1) for name, found in causes.items()}
    kinds = sorted({cause for found in by_arm.values() for cause in np.unique(found)} - {""})
    if not kinds:
        return {}
    share = {name: np.stack([(found == kind).mean(1) for kind in kinds]) for name, found in by_arm.items()}
    change = paired_difference(share["tested"], share["control"], weights)
    return {
        kind: {"control": float(share["control"][k].mean()), "effect": estimates(change[k])}
        for k, kind in enumerate(kinds)
    }


def prediction(real: Mapping[str, Arrays], simulated: Mapping[str, Arrays], layouts: np.ndarray) -> dict:
    """Correlation and slope of the simulator's effects on those of the game, over the arms that both play, by
    outcome.

    Noise in both is not corrected for; intervals are by layout.
    """
    weights = level_weights(layouts)
    found = {}
    for k, name in enumerate(OUTCOMES):
        if name in TESTED_OUTCOMES:
            x, y = (
                np.stack([mean(weights, one) for one in _changes(world)[:, k]]) for world in (real, simulated)
            )
            x, y = x - x.mean(0), y - y.mean(0)
            with np.errstate(divide="ignore", invalid="ignore"):
                r = (x * y).sum(0) / np.sqrt((x**2).sum(0) * (y**2).sum(0))
                slope = (x * y).sum(0) / (x**2).sum(0)
            found[name] = {"r": estimates(r), "slope": estimates(slope), "arms": len(x)}
    return found


def _changes(world: Mapping[str, Arrays]) -> np.ndarray:
    """Changes [K, 5, M] in a world, of the arms that are played in both."""
    played = [world["tested"]["outcomes"]]
    played += [world[family]["outcomes"][world[family]["matched"]] for family in JUDGED_BY]
    return np.concatenate(played) - world["control"]["outcomes"]
