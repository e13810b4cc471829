"""How often a network would act as the agent does on the same recorded steps, by situation."""

from collections.abc import Mapping

import numpy as np

from analysis.model_eval.agent_view import HAZARD_RADIUS, decision_steps, total_variation
from common.stats import json_estimate, level_counts, ratio

HAZARDS = ("saw", "enemy", "lava")
TIMES = (10, 30, 100)
"""First steps of the parts of an episode, after its beginning."""
RARE = 0.05


def situations(
    concepts: Mapping[str, np.ndarray], taken: np.ndarray, time: np.ndarray
) -> dict[str, np.ndarray]:
    """Which steps [n] belong to each situation. A rare action's class is taken at less than RARE of all
    steps; a decision step has an action outside the two commonest, or a hazard nearby.

    Args:
        concepts: columns [n] of envs/concepts.py.
        taken: [n], effect class of the recorded action.
        time: [n], step of the episode.
    """
    close = {kind: _close(concepts, kind) for kind in (*HAZARDS, "coin")}
    near = np.any([close[kind] for kind in HAZARDS], 0)
    every = np.ones(len(taken), bool)
    deciding = decision_steps(taken[None], every[None], near[None])[0]
    found = {
        "all steps": every,
        "on the ground": concepts["support"].astype(bool),
        "in the air": ~concepts["support"].astype(bool),
        "no hazard within 4 tiles": ~near,
        **{f"{kind} within 4 tiles": rows for kind, rows in close.items()},
        "rare action": np.bincount(taken)[taken] < RARE * len(taken),
        "decision steps": deciding,
        "other steps": ~deciding,
    }
    edges = (0, *TIMES)
    for first, end in zip(edges, (*TIMES, None)):
        name = f"steps {first}-{end - 1}" if end else f"steps {first} on"
        found[name] = (time >= first) & (time < (end or np.inf))
    return found


def _close(concepts: Mapping[str, np.ndarray], kind: str) -> np.ndarray:
    """Where the first thing of a kind ahead is nearby."""
    tiles, rise = concepts[f"tiles_to_{kind}"], concepts[f"{kind}_rise"]
    return (tiles <= HAZARD_RADIUS) & (np.abs(rise) <= HAZARD_RADIUS)  # NaN: none ahead


def agreement(
    own: np.ndarray,
    other: np.ndarray,
    layouts: np.ndarray,
    where: Mapping[str, np.ndarray],
    seed: int = 0,
) -> dict[str, dict]:
    """Scores of another network's action distribution against the agent's own, for each situation.

    Args:
        own: [n, J], the agent's probabilities of effect classes.
        other: [n, J], the other network's.
        layouts: [n], numbered from 0; intervals resample them.
        where: {situation: [n] bool}.
        seed: of the resamples.

    Returns:
        {situation: {"same", "chance", "commonest", "kappa", "total_variation": value with interval, "steps",
        "layouts"}}. same: share of steps with the same likeliest class; chance: the share if the other's
        classes were dealt out at random among the situation's steps; commonest: that of always naming the
        agent's commonest class; kappa: (same - commonest) / (1 - commonest).
    """
    weights = level_counts(layouts.max() + 1, seed=seed)
    likeliest = own.argmax(1)
    guess = other.argmax(1)
    same = likeliest == guess
    distance = total_variation(own, other)
    scored = {}
    for name, rows in where.items():
        n = int(rows.sum())
        per_layout = lambda x: np.bincount(layouts[rows], x[rows], weights.shape[1])  # noqa: E731
        count = np.bincount(layouts[rows], minlength=weights.shape[1])
        agree = ratio(weights, per_layout(same), count)
        shares, guessed = (
            ratio(weights, np.stack([per_layout(x == j) for j in range(own.shape[1])], 1), count[:, None])
            for x in (likeliest, guess)
        )
        commonest = shares.max(1)
        with np.errstate(divide="ignore", invalid="ignore"):
            kappa = (agree - commonest) / (1 - commonest)
        measures = {
            "same": agree,
            "chance": (shares * guessed).sum(1),
            "commonest": commonest,
            "kappa": kappa,
            "total_variation": ratio(weights, per_layout(distance), count),
        }
        scored[name] = {measure: json_estimate(values, n) for measure, values in measures.items()}
        scored[name] |= {"steps": n, "layouts": int((count > 0).sum())}
    return scored
